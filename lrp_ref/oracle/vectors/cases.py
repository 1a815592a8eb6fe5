"""What a case is before it is computed, and what a single layer's inputs are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from ...arrays import Array, exact, fractions, ones, total
from ...composites import Composite
from ...graph import Graph, Node
from ...layers import (
    Add,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    Layer,
    Scale,
    Sub,
)
from ...layers.pool import MAX_POOLS, WindowSum
from ...propagate import Rule
from ...targets import logit, one
from ...values import value


@value
class Network:
    """A graph by a name that no other network has, and example inputs that say which shapes it takes."""

    name: str
    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]
    """Of one sample of each input."""


@value
class Case:
    """A network, inputs, start relevance and rules; the relevance is computed from them.

    Attributes
    ----------
    group : the file that it stands in
    name : unique in the group
    inputs : {input: float64 array (batch, ...)}, exactly representable in float32
    start : an exact array of the output's shape, or a target that says of which class, and at which relevance
    rules : a composite, or a rule for every node that is not a wire
    mask : {node: exact array} that relevance is multiplied by on its way
    sources : keys of :data:`SOURCES`, besides those of the rules
    published : {node or input: numbers} that the relevance must equal, where somebody has printed it
    others : {who: rules} whose relevance is what somebody else computes here
    unfolded : the network before its batch norms were folded, if they were
    kind, label : of a single layer: its class and the rule's name, for the table of coverage
    """

    group: str
    name: str
    comment: str
    network: Network
    inputs: Mapping[str, Array]
    start: Array | logit | one
    rules: Composite | Rule
    mask: Mapping[str, Array] = field(default_factory=dict)
    sources: Sequence[str] = ()
    published: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Composite | Rule] = field(default_factory=dict)
    unfolded: Graph | None = None
    kind: str | None = None
    label: str | None = None


def single(name: str, layer: Layer, *shapes: tuple[int, ...]) -> Network:
    """A network of one layer, whose node is called "layer"; the inputs "input", or "input0", "input1", ..."""
    names = ["input"] if len(shapes) == 1 else [f"input{i}" for i in range(len(shapes))]
    graph = Graph([Node("layer", layer, *names)], outputs="layer", inputs=names)
    return Network(name, graph, dict(zip(names, shapes, strict=True)))


# --- what a single layer's inputs are like ----------------------------------------------------------------------------

CONDITIONS: Mapping[str, str] = {
    "signed": "inputs of both signs",
    "zeros": "an input that is 0",
    "ties": "a window of a max pool with several equal maxima",
    "dead window": "an output all of whose inputs are 0",
    "negative z": "an output below 0, before any activation",
    "cancellation": "an output that is exactly 0 although contributions to it are not",
    "bias 0": "an output whose bias is 0, or that has none in a layer which may have one",
    "bias +": "an output with a bias above 0",
    "bias -": "an output with a bias below 0",
    "padding": "windows over the edge of the input",
    "stride": "windows not at every place",
    "dilation": "windows with gaps",
    "groups": "outputs that read a part of the channels",
    "batch of 3": "three samples",
    "R != output": "start relevance that is not the output",
}
"""What a case can have, in the words of the table of coverage."""

WITH_BIAS = (Dense, Conv, ConvTranspose, BatchNorm, Scale, Add, Sub)


def conditions(layer: Layer, inputs: Sequence[Array], R: Array) -> list[str]:
    """Which of :data:`CONDITIONS` hold, measured in exact arithmetic."""
    x = [exact(a) for a in inputs]
    flat = [value for a in x for value in fractions(a).reshape(-1)]
    found = {
        "signed": min(flat) < 0 < max(flat),
        "zeros": 0 in flat,
        "batch of 3": len(x[0]) == 3,
        "padding": _more_than(getattr(layer, "padding", 0), 0),
        "dilation": _more_than(getattr(layer, "dilation", 1), 1),
        "groups": getattr(layer, "groups", 1) > 1,
        "stride": hasattr(layer, "stride") and _more_than(layer.stride or getattr(layer, "kernel", 1), 1),
    }
    layer = layer.like(x[0])
    if layer.product:
        z, size = x[0] * x[1], abs(x[0]) + abs(x[1])
        found |= {"negative z": _any(z < 0), "dead window": _any(size == 0), "R != output": _any(z != exact(R))}
        return [name for name in CONDITIONS if found.get(name)]
    frozen, a = layer.frozen(*x), layer.join(*x)
    weight, bias = frozen.parameters(a)
    mixed = frozen.linear(a, weight)
    z, fed = mixed + bias, frozen.linear(ones(a.shape, a), ones(weight.shape, a))
    live = frozen.linear(abs(a), ones(weight.shape, a)) != 0
    contributes = frozen.linear(abs(a), abs(weight)) != 0
    found |= {
        "negative z": _any(z < 0),
        "dead window": _any((fed != 0) & ~live),
        "cancellation": _any((z == 0) & contributes),
        "R != output": _any(z != exact(R)),
    }
    if isinstance(layer, MAX_POOLS) and isinstance(winner := layer.tangent(*x), WindowSum):
        cells = winner.window.gather(a, winner.positions)
        real = winner.window.real(a, winner.positions)
        equal = (cells == layer.forward(a)[:, :, None]) & real
        found["ties"] = _any(equal.sum(axis=2) > 1)
    if isinstance(layer, WITH_BIAS):
        found |= {"bias 0": _any(bias == 0), "bias +": _any(bias > 0), "bias -": _any(bias < 0)}
    return [name for name in CONDITIONS if found.get(name)]


def _any(truth: Array) -> bool:
    return bool(truth.any())


def _more_than(given: Any, least: int) -> bool:
    """Whether some number of nested sequences is greater."""
    return any(_more_than(part, least) for part in given) if isinstance(given, Sequence) else bool(given > least)


def summed(a: Array) -> Array:
    """The sum of all entries of each sample."""
    return total(a, range(1, a.ndim))
