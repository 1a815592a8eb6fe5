"""The vectors' tests as values: networks as graphs, rules as rules, numbers as float64."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ... import layers as layer_classes
from ... import rules as rule_classes
from ... import stabilize
from ...arrays import Array
from ...errors import LrpError
from ...graph import Graph, Node
from ...layers import Layer, Near
from ...propagate import Rule
from ...text import near
from ...values import value
from .files import DATA
from .numbers import TYPES


@value
class Accepted:
    """What variants of the catalogue give at the inputs in place of the rule; they all give the same."""

    variants: tuple[str, ...]
    relevance: Mapping[str, Array]


@value
class Case:
    """What a framework is asked, and what it is to answer.

    Attributes
    ----------
    id : str
        a name that stays, such as "dense/dense/ZPlus"
    graph : Graph
        the network, in float64
    inputs : {input: float64 array (batch, ...)}, exact in float32
    rules : {node: Rule}, for every node that relevance reaches
    said : {node: the rule as JSON spells it out}, every parameter
    start : {output: float64 array}, the relevance that is put in
    mask : {node: array} that the relevance of a node is multiplied by before it is dealt out; mostly empty
    relevance : {input or node: float64 array}, expected
    accepted : what named variants give
    flags : the names of the variants that the case tells from the rule
    zero_denominators : the nodes where a denominator is exactly 0
    margin : the distance to the nearest kink, 0 on one; None where there is none
    comment : what is shown
    network : the name of its file
    """

    id: str
    graph: Graph
    inputs: Mapping[str, Array]
    rules: Mapping[str, Rule]
    said: Mapping[str, Mapping[str, Any]]
    start: Mapping[str, Array]
    relevance: Mapping[str, Array]
    mask: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    accepted: tuple[Accepted, ...] = ()
    flags: tuple[str, ...] = ()
    zero_denominators: tuple[str, ...] = ()
    margin: float | None = None
    comment: str = ""
    network: str | None = None

    @property
    def x(self) -> Array:
        """The input, where there is only one."""
        return only(self.inputs, "inputs", self.id)

    @property
    def R(self) -> Array:
        """The start relevance."""
        return only(self.start, "outputs", self.id)

    @property
    def onnx(self) -> Path:
        """The network as a file of ONNX with weights in float32, written into a temporary folder."""
        if self.network is None:
            raise LrpError(f"{self.id}: its network has no file of ONNX")
        return onnx_file(self.network)


def only(arrays: Mapping[str, Array], what: str, where: str) -> Array:
    """The one array that there is."""
    if len(arrays) != 1:
        raise LrpError(f"{where} has the {what} {', '.join(arrays)}: take them by name")
    return next(iter(arrays.values()))


def cases(groups: Sequence[str] | None = None) -> Iterator[Case]:
    """The tests of these groups, or all, in the order of their numbers.

    Raises
    ------
    LrpError
        for a group that there is not.
    """
    known = group_names()
    for name in known if groups is None else groups:
        if name not in known:
            raise LrpError(f"the vectors have no group {name!r}{near(name, known)}")
    for group in known:
        if groups is None or group in groups:
            yield from _group(group)


def group_names() -> list[str]:
    """The vectors' groups."""
    return list(json.loads((DATA / "manifest.json").read_bytes())["groups"])


def count(groups: Sequence[str] | None = None) -> int:
    """How many tests these groups have."""
    every = json.loads((DATA / "manifest.json").read_bytes())["groups"]
    return sum(about["tests"] for name, about in every.items() if groups is None or name in groups)


def _group(group: str) -> Iterator[Case]:
    arrays = _tensors((DATA / f"{group}.safetensors").read_bytes())
    for part in json.loads((DATA / f"{group}.json").read_bytes())["testGroups"]:
        graph = _network(part["network"], part["graph"], arrays)
        for test in part["tests"]:
            yield _case(test, graph, arrays)


def _case(test: Mapping[str, Any], graph: Graph, arrays: Mapping[str, Any]) -> Case:
    def stored(kind: str, names: Sequence[str]) -> dict[str, Array]:
        return {name: arrays[f"{test['tcId']}/{kind}/{name}"].astype(float) for name in names}

    margin = test["margin"]
    return Case(
        id=test["id"],
        graph=graph,
        inputs=stored("x", graph.inputs),
        rules={node: rule(said) for node, said in test["rules"].items()},
        said=test["rules"],
        start=stored("start", list(test["start"])),
        relevance=stored("R", list(test["relevance"])),
        mask={node: _rounded(a) for node, a in test["mask"].items()},
        accepted=tuple(
            Accepted(tuple(a["variants"]), {name: _rounded(R) for name, R in a["relevance"].items()})
            for a in test["accept"]
        ),
        flags=tuple(test["flags"]),
        zero_denominators=tuple(book["node"] for book in test["ledger"] if any(book["zero_denominators"])),
        margin=None if margin is None else float(Fraction(margin["distance"])),
        comment=test["comment"],
        network=test["network"],
    )


def _network(name: str, said: Mapping[str, Any], arrays: Mapping[str, Any]) -> Graph:
    nodes = []
    for node in said["nodes"]:
        kind: type[Layer] = getattr(layer_classes, node["layer"])
        options = {key: _option(given) for key, given in node["options"].items()}
        stored = {key: arrays[f"network/{name}/{node['name']}/{key}"].astype(float) for key in node["arrays"]}
        nodes.append(Node(node["name"], kind(**options, **stored), *node["inputs"]))
    return Graph(nodes, outputs=said["outputs"], inputs=list(said["inputs"]))


def _option(said: Any) -> Any:
    if isinstance(said, list):
        return tuple(map(_option, said))
    if isinstance(said, dict):
        return Near(said["Near"]) if "Near" in said else Fraction(*said["Fraction"])
    return said


def rule(said: Mapping[str, Any]) -> Rule:
    """The rule that JSON spells out."""
    kind = getattr(rule_classes, said["rule"])
    names = {field.name for field in dataclasses.fields(kind)}
    given = {key: _parameter(entry) for key, entry in said.items() if key in names and key != "stabilizer"}
    if "stabilizer" in said:
        form = {key: _parameter(entry) for key, entry in said["stabilizer"].items() if key != "form"}
        given["stabilizer"] = getattr(stabilize, said["stabilizer"]["form"])(**form)
    made: Rule = kind(**given)
    return made


def _parameter(said: Any) -> Any:
    """A word or number; a rational, which stands as text, as the float64 nearest to it."""
    if isinstance(said, list):
        return tuple(map(_parameter, said))
    return float(Fraction(said)) if isinstance(said, str) and said[-1].isdigit() else said


def _rounded(tensor: Mapping[str, Any]) -> Array:
    flat = [float(Fraction(entry)) if isinstance(entry, str) else entry["float64"] for entry in tensor["values"]]
    return np.array(flat, dtype=float).reshape(tensor["shape"])


def _tensors(content: bytes) -> dict[str, Any]:
    """The arrays of a file of safetensors."""
    codes = {code: kind for kind, code in TYPES.items()}
    data = 8 + int.from_bytes(content[:8], "little")
    return {
        name: np.frombuffer(content[data:][slice(*about["data_offsets"])], codes[about["dtype"]]).reshape(
            about["shape"]
        )
        for name, about in json.loads(content[8:data]).items()
    }


def onnx_file(network: str) -> Path:
    """A network's file of ONNX, in a folder that is gone when Python ends."""
    path = Path(_folder().name) / f"{network}.onnx"
    if not path.exists():
        with zipfile.ZipFile(DATA / "networks.zip") as archive:
            path.write_bytes(archive.read(f"networks/{network}.onnx"))
    return path


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lrp-ref-")
