"""Explanations in files: one npz holding the arrays as npy and the rest as JSON. Nothing is ever pickled."""

from __future__ import annotations

import ast
import io
import json
import math
import operator
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from . import rules, stabilize
from .arrays import Array, exact, fractions, is_array, is_exact, to_host
from .composites import Assignment
from .errors import LrpError
from .explain import Explanation
from .files import written_whole
from .ledger import Entry, Ledger
from .propagate import Rule
from .text import near

FORMAT = 1
ABOUT = "about.json"
STABILIZERS = ("AtZero", "Clipped", "Relative", "Signed", "SignedOrZero", "Unsigned")
CONSTRUCTORS: Mapping[str, Any] = {
    **{name: getattr(rules, name) for name in rules.__all__},
    **{name: getattr(stabilize, name) for name in STABILIZERS},
}
"""What the printed form of a rule may call."""


def save(explanation: Explanation, path: str | Path) -> None:
    """Write an explanation to `path`: relevances, activations, rules, ledger and versions.

    Written to a file beside it first, then moved into place. Rationals are stored as text,
    numerator/denominator in hexadecimal, so that nothing is lost.
    """
    from . import __version__

    arrays: list[Array] = []

    def pack(value: Any) -> Any:
        if is_array(value):
            arrays.append(_text(value) if is_exact(value) else to_host(value))
            return {"exact" if is_exact(value) else "array": len(arrays) - 1}
        if isinstance(value, Mapping):
            return {"dict": {key: pack(part) for key, part in value.items()}}
        if isinstance(value, Entry):
            return {field.name: pack(getattr(value, field.name)) for field in fields(value)}
        return value

    chosen, ledger = explanation.rules, explanation.ledger
    about = {
        "format": FORMAT,
        "versions": {"lrp_ref": __version__, "numpy": np.__version__, "python": platform.python_version()},
        "engine": dict(explanation.engine),
        "aliases": dict(explanation.aliases),
        "rules": {name: [repr(rule), chosen.layers[name], chosen.reasons[name]] for name, rule in chosen.items()},
        "unused": list(chosen.unused),
        **{name: pack(getattr(explanation, name)) for name in ("relevance", "output", "relevances", "activations")},
        "entries": [pack(entry) for entry in ledger],
        **{name: pack(getattr(ledger, name)) for name in ("start", "arrived", "edited_inputs")},
    }
    with written_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(ABOUT, json.dumps(about))
        for i, array in enumerate(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            archive.writestr(f"{i}.npy", buffer.getvalue())


def load(path: str | Path, constructors: Mapping[str, Any]) -> Explanation:
    """See :func:`lrp_ref.read`."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise LrpError("compressed, so not written by lrp_ref")
            about = json.loads(archive.read(ABOUT))
            if about["format"] != FORMAT:
                raise LrpError(f"format {about['format']}, and this version reads {FORMAT}")
            return _unpacked(about, archive, {**CONSTRUCTORS, **constructors})
    except LrpError as error:
        raise LrpError(f"{path}: {error}") from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
        raise LrpError(f"{path}: not an explanation written by lrp_ref ({error})") from error


def _unpacked(about: dict[str, Any], archive: zipfile.ZipFile, constructors: Mapping[str, Any]) -> Explanation:
    def unpack(value: Any) -> Any:
        if isinstance(value, dict) and "dict" in value:
            return {key: unpack(part) for key, part in value["dict"].items()}
        if isinstance(value, dict):
            ((how, i),) = value.items()
            array = _array(archive.read(f"{int(i)}.npy"))
            return _rationals(array) if how == "exact" else array
        return value

    entries = [Entry(**{name: unpack(value) for name, value in entry.items()}) for entry in about["entries"]]
    return Explanation(
        **{name: unpack(about[name]) for name in ("relevance", "output", "relevances", "activations")},
        rules=Assignment(
            {name: parse(text, constructors) for name, (text, _, _) in about["rules"].items()},
            {name: layer for name, (_, layer, _) in about["rules"].items()},
            {name: reason for name, (_, _, reason) in about["rules"].items()},
            tuple(about["unused"]),
        ),
        ledger=Ledger(entries, **{name: unpack(about[name]) for name in ("start", "arrived", "edited_inputs")}),
        aliases=about["aliases"],
        engine=about["engine"],
    )


def _array(content: bytes) -> Array:
    """The array in the bytes of an npy file, whose size is held against the header before anything is allocated."""
    file = io.BytesIO(content)
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("an array does not have the size that its header names")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C").copy()


def parse(text: str, constructors: Mapping[str, Any] = CONSTRUCTORS) -> Rule:
    """The rule whose printed form `text` is, such as ``"Gamma(gamma=0.25)"``; only known constructors are called."""

    def build(node: ast.expr) -> Any:
        if isinstance(node, ast.Tuple):
            return tuple(map(build, node.elts))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "Fraction" and not node.keywords:
                return Fraction(*(operator.index(ast.literal_eval(part)) for part in node.args))
            if node.func.id not in constructors:
                raise LrpError(f"{node.func.id} in {text!r} is not known{near(node.func.id, list(constructors))}")
            if not node.args:
                return constructors[node.func.id](**{str(k.arg): build(k.value) for k in node.keywords})
        return ast.literal_eval(node)

    try:
        rule = build(ast.parse(text.strip(), mode="eval").body)
    except LrpError:
        raise
    except (SyntaxError, MemoryError, RecursionError, ZeroDivisionError):
        rule = None
    except (ValueError, TypeError) as error:
        if "malformed node" not in str(error):  # what the rule itself says of its parameters
            raise LrpError(f"{text!r}: {error}") from error
        rule = None
    if not isinstance(rule, Rule):
        raise LrpError(f"{text!r} is no rule as it prints, with every parameter by name: Gamma(gamma=0.25)")
    return rule


def _text(a: Array) -> Array:
    """Rationals as an array of strings "numerator/denominator" in hexadecimal."""
    flat = [f"{value.numerator:x}/{value.denominator:x}" for value in fractions(a).reshape(-1)]
    return np.array(flat, dtype=str).reshape(a.shape)


def _rationals(text: Array) -> Array:
    parts = (item.split("/") for item in text.reshape(-1).tolist())
    values = [Fraction(int(numerator, 16), int(denominator, 16)) for numerator, denominator in parts]
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return exact(made.reshape(text.shape))
