"""The JSON Schemas (2020-12) of the files: no object may have a property that they do not name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ... import rules as rule_classes
from ...loaders.onnx_write import EMITTERS, option_types
from ...propagate import BIASES, Rule
from .cases import CONDITIONS
from .numbers import LONGEST
from .spelled import ALWAYS, FORMULAS, SOURCES, UNDIVIDED

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
RATIONAL = r"^-?(0|[1-9][0-9]*)(/[1-9][0-9]*)?$"


def of(properties: Mapping[str, Schema], **more: Any) -> Schema:
    """An object with just these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def by_name(values: Schema, **more: Any) -> Schema:
    """An object with any names, and such values."""
    return {"type": "object", "patternProperties": {"^.+$": values}, "additionalProperties": False, **more}


def listed(items: Schema, **more: Any) -> Schema:
    """An array of these."""
    return {"type": "array", "items": items, **more}


def one_of(*values: Any) -> Schema:
    """One of these values."""
    return {"enum": list(values)}


def ref(name: str) -> Schema:
    """A definition of the same file."""
    return {"$ref": f"#/$defs/{name}"}


TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TRUTH: Schema = {"type": "boolean"}
DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
VERSION: Schema = {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+$"}


def _number() -> Schema:
    """A parameter: the float64 that the number reads as, or a rational as text."""
    return {"anyOf": [{"type": "number"}, {"type": "string", "pattern": RATIONAL}]}


def _stabilizer() -> Schema:
    number = ref("number")
    relative: Mapping[str, Schema] = {
        "form": {"const": "Relative"},
        "over": {"anyOf": [one_of("sample", "batch"), listed({"type": "integer"})]},
        "signed": TRUTH,
        "plus": number,
    }
    plain = [of({"form": {"const": form}}) for form in ("Signed", "Unsigned", "AtZero", "Clipped")]
    return {"oneOf": [*plain, of({"form": {"const": "SignedOrZero"}, "at_zero": number}), of(relative)]}


def _rule(name: str) -> Schema:
    number, bound = ref("number"), ref("bound")
    own: Mapping[str, Schema] = {
        "gamma": number,
        "alpha": number,
        "beta": number,
        "split": one_of("product", "weight"),
        "low": bound,
        "high": bound,
        "portions": listed(number, minItems=2, maxItems=2),
    }
    kind: type[Rule] = getattr(rule_classes, name)
    fields = [field for field in kind.__dataclass_fields__ if field not in ("epsilon", "stabilizer", "bias")]
    said: dict[str, Schema] = {"rule": {"const": name}, **{field: own[field] for field in fields}}
    if name not in UNDIVIDED:
        said |= {"epsilon": number, "stabilizer": ref("stabilizer"), "bias": one_of(*BIASES)}
        said |= {key: {"const": value} for key, value in ALWAYS.items()}
    return of(said)


def _layers() -> list[Schema]:
    """A node of each class, with its options and the arrays that it can have."""
    made = []
    for kind in EMITTERS:
        options, arrays = option_types(kind)
        made.append(
            of(
                {
                    "name": TEXT,
                    "layer": {"const": kind.__name__},
                    "options": of({name: ref("option") for name in options}),
                    "arrays": listed(one_of(*sorted(arrays)), uniqueItems=True) if arrays else listed(TEXT, maxItems=0),
                    "inputs": listed(TEXT, minItems=1),
                }
            )
        )
    return made


def _option() -> Schema:
    """A word, a number, null, a list of options, {"Near": rtol} or {"Fraction": [n, d]}."""
    near = of({"Near": {"type": "number"}})
    fraction = of({"Fraction": listed({"type": "integer"}, minItems=2, maxItems=2)})
    plain = {"type": ["string", "number", "boolean", "null"]}
    return {"anyOf": [plain, listed(ref("option")), near, fraction]}


def _test() -> Schema:
    number, tensors = ref("exact"), by_name(ref("tensor"))
    numbers = listed(number)
    book = of(
        {
            "node": TEXT,
            "came": numbers,
            "went": by_name(numbers),
            **dict.fromkeys(("bias", "stabilizer", "unclaimed", "masked"), numbers),
            **dict.fromkeys(("zero_denominators", "empty_parts"), listed(COUNT)),
        }
    )
    margin = of(
        {
            "distance": {"type": "string", "pattern": RATIONAL},
            "node": TEXT,
            "kink": one_of("activation", "maximum", "denominator", "sign"),
        }
    )
    target = of({"class": {"type": ["integer", "null"]}, "from": one_of("logit", "one", "given")})
    return of(
        {
            "tcId": {"type": "integer", "minimum": 1},
            "id": TEXT,
            "comment": TEXT,
            "network": TEXT,
            "batch": {"type": "integer", "minimum": 1},
            "target": target,
            "start": tensors,
            "mask": tensors,
            "rules": by_name(ref("rule")),
            "relevance": tensors,
            "ledger": listed(book),
            "margin": {"anyOf": [{"type": "null"}, margin]},
            "conditions": listed(one_of(*CONDITIONS), uniqueItems=True),
            "flags": listed(TEXT, uniqueItems=True),
            "accept": listed(of({"variants": listed(TEXT, minItems=1), "relevance": tensors})),
            "sources": listed(one_of(*SOURCES), uniqueItems=True),
        }
    )


def group() -> Schema:
    """Of a group's file."""
    sizes = listed({"type": "integer", "minimum": 0})
    rational = {"type": "string", "pattern": RATIONAL, "maxLength": LONGEST}
    dyadic = {"type": "string", "pattern": RATIONAL}
    ball = of({"float64": {"type": "number"}, "mid": dyadic, "radius": dyadic})
    graph = of({"inputs": by_name(sizes), "outputs": listed(TEXT), "nodes": listed(ref("node"), minItems=1)})
    test_group = of({"network": TEXT, "onnx": TEXT, "graph": graph, "tests": listed(ref("test"), minItems=1)})
    body = of(
        {
            "schema": {"const": "group.schema.json"},
            "format": {"const": 1},
            "version": VERSION,
            "group": TEXT,
            "tensors": TEXT,
            "numberOfTests": COUNT,
            "testGroups": listed(test_group),
        }
    )
    bound = {"anyOf": [ref("number"), listed(ref("bound"), minItems=1)]}
    return {
        "$schema": DIALECT,
        "$id": "group.schema.json",
        "title": "Conformance vectors of layer-wise relevance propagation: one group of tests",
        **body,
        "$defs": {
            "number": _number(),
            "bound": bound,
            "exact": {"anyOf": [rational, ball]},
            "tensor": of({"shape": sizes, "values": listed(ref("exact"))}),
            "stabilizer": _stabilizer(),
            "rule": {"oneOf": [_rule(name) for name in FORMULAS]},
            "option": _option(),
            "node": {"oneOf": _layers()},
            "test": _test(),
        },
    }


def manifest(groups: Sequence[str]) -> Schema:
    """Of the manifest."""
    words = listed(TEXT)
    note = of({"says": TEXT, "who": words, "kind": one_of("choice", "mistake"), "numberOfTests": COUNT})
    body = of(
        {
            "schema": {"const": "manifest.schema.json"},
            "format": {"const": 1},
            "version": VERSION,
            "numberOfTests": COUNT,
            "groups": of({name: of({"tests": COUNT}) for name in groups}),
            "files": by_name(DIGEST),
            "rules": of({name: of({"formula": TEXT, "sources": words}) for name in FORMULAS}),
            "always": of({key: {"const": value} for key, value in ALWAYS.items()}),
            "conditions": of(dict.fromkeys(CONDITIONS, TEXT)),
            "sources": of(dict.fromkeys(SOURCES, TEXT)),
            "notes": by_name(note),
            "notTold": by_name(TEXT),
            "later": by_name(TEXT),
        }
    )
    return {
        "$schema": DIALECT,
        "$id": "manifest.schema.json",
        "title": "Conformance vectors of layer-wise relevance propagation: what there is",
        **body,
    }
