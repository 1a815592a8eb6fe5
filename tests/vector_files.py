"""The shipped conformance vectors as tests use them: tests, networks, rules read from their JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import struct
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lrp_ref as lrp
from lrp_ref.composites import Composite, Predicate
from lrp_ref.oracle.balls import balls
from lrp_ref.oracle.vectors import contents
from lrp_ref.values import value

FORMS = {"Signed", "Unsigned", "AtZero", "Clipped", "SignedOrZero", "Relative"}


class Vector(NamedTuple):
    """A test with its group's name and its network's description."""

    group: str
    graph: dict[str, Any]
    test: dict[str, Any]

    @property
    def single(self) -> bool:
        return self.group not in ("networks", "smooth", "hand")


@functools.cache
def files() -> dict[str, bytes]:
    return contents()


@functools.cache
def manifest() -> dict[str, Any]:
    return json.loads(files()["manifest.json"])


@functools.cache
def group(name: str) -> dict[str, Any]:
    return json.loads(files()[f"{name}.json"])


@functools.cache
def vectors() -> list[Vector]:
    return [
        Vector(name, part["graph"], test)
        for name in manifest()["groups"]
        for part in group(name)["testGroups"]
        for test in part["tests"]
    ]


@functools.cache
def tensors(name: str) -> dict[str, np.ndarray]:
    """A group's arrays, read as the format says and not as they were written."""
    content = files()[f"{name}.safetensors"]
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    assert sum(math.prod(a["shape"]) * {"F32": 4, "F64": 8}[a["dtype"]] for a in header.values()) == len(data)
    return {
        key: np.frombuffer(data[slice(*a["data_offsets"])], {"F32": "<f4", "F64": "<f8"}[a["dtype"]]).reshape(
            a["shape"]
        )
        for key, a in header.items()
    }


@functools.cache
def network(name: str) -> lrp.Graph:
    """From its file of ONNX, as any tool would read it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(files()[f"networks/{name}.onnx"])
        return lrp.from_onnx(path, canonize=False, check=False)


def number(entry: Any) -> Fraction:
    """An expected value as it is meant: exactly, or the middle of its ball."""
    return Fraction(entry if isinstance(entry, str) else entry["mid"])


def exactly(tensor: dict[str, Any]) -> np.ndarray:
    """A tensor of the JSON, whose entries are rational."""
    made = np.empty(len(tensor["values"]), dtype=object)
    made[:] = [Fraction(entry) for entry in tensor["values"]]
    return made.reshape(tensor["shape"])


def inputs(vector: Vector) -> dict[str, np.ndarray]:
    return {name: tensors(vector.group)[f"{vector.test['tcId']}/x/{name}"] for name in vector.graph["inputs"]}


@value
class Only(Predicate):
    """The node of that name."""

    name: str

    def select(self, graph: lrp.Graph) -> frozenset[str]:
        return frozenset({graph[self.name].name})


def parameter(given: Any) -> Any:
    """A word or a number; text of a rational as that."""
    if isinstance(given, list):
        return tuple(map(parameter, given))
    if isinstance(given, str) and given[-1].isdigit():
        return Fraction(given)
    return given


def rule(said: dict[str, Any]) -> lrp.Rule:
    """The rule that the JSON spells."""
    kind = getattr(lrp, said["rule"])
    fields = {field.name for field in dataclasses.fields(kind)}
    options = {key: parameter(given) for key, given in said.items() if key in fields and key != "stabilizer"}
    if "stabilizer" in said:
        form = dict(said["stabilizer"])
        name = form.pop("form")
        assert name in FORMS
        options["stabilizer"] = getattr(lrp, name)(**{key: parameter(given) for key, given in form.items()})
    return kind(**options)


def composite(vector: Vector) -> Composite:
    return Composite([(Only(name), rule(said)) for name, said in vector.test["rules"].items()])


def explained(vector: Vector) -> lrp.Explanation:
    """By lrp_ref, from the files alone: the network's ONNX, the JSON's rules, start and mask."""
    x = {name: lrp.exact(a) for name, a in inputs(vector).items()}
    graph = lrp.given(network(vector.test["network"]), {name: lrp.fractions(a) for name, a in x.items()})
    ((_, start),) = vector.test["start"].items()
    mask = {name: lrp.exact(exactly(tensor)) for name, tensor in vector.test["mask"].items()}
    return lrp.explain(graph, x, composite(vector), lrp.exact(exactly(start)), edit=mask)


def enclosed(vector: Vector) -> lrp.Explanation:
    """The same in balls, for networks that have no rational values."""
    x = {name: balls(a) for name, a in inputs(vector).items()}
    ((_, start),) = vector.test["start"].items()
    return lrp.explain(network(vector.test["network"]), x, composite(vector), lrp.exact(exactly(start)))


def entries(value: Any) -> Iterator[Any]:
    """Every number that a test expects."""
    if isinstance(value, dict) and "mid" in value:
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            if key not in ("shape", "rules", "margin", "target", "zero_denominators", "empty_parts"):
                yield from entries(part)
    elif isinstance(value, list):
        for part in value:
            yield from entries(part)
    elif isinstance(value, str):
        yield value
