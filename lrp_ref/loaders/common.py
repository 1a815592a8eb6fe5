"""What readers of other frameworks share: free names, which factor of a product is the gate, and the check."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..arrays import Array
from ..errors import LoadError
from ..graph import Graph, Node
from ..layers import Clip, HardSigmoid, Layer, Scale, Sigmoid, Softmax, Wires


def free(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it if it is taken."""
    tried, count = name, 1
    while tried in taken:
        count += 1
        tried = f"{name}_{count}"
    return tried


GATES: dict[type[Layer], int] = {Sigmoid: 2, HardSigmoid: 2, Softmax: 2, Clip: 1}
"""Layers whose output is a gate, rather than a signal, and how surely."""


def gate(nodes: Mapping[str, Node], name: str) -> int:
    """How surely a node is a gate: it, or what it only reshapes or scales."""
    while name in nodes and isinstance(nodes[name].layer, (Wires, Scale)):
        name = nodes[name].inputs[0]
    return GATES.get(type(nodes[name].layer), 0) if name in nodes else 0


def signal_first(nodes: Mapping[str, Node], a: str, b: str) -> tuple[str, str, bool]:
    """The factors of a product, the gate second; and whether one is more of a gate than the other."""
    first, second = gate(nodes, a), gate(nodes, b)
    return (b, a, True) if first > second else (a, b, first < second)


def agree(
    graph: Graph, x: Mapping[str, Array], expected: Sequence[Array], *, bound: Mapping[str, float], framework: str
) -> None:
    """Refuse a graph whose outputs at `x` differ from the framework's own.

    Parameters
    ----------
    x : {input: array}
    expected : the framework's outputs, in the order of the graph's
    bound : {dtype: the largest difference, relative to the greatest output}

    Raises
    ------
    LoadError
        naming the output and the largest difference.
    """
    values = graph.forward(x)
    for name, theirs in zip(graph.outputs, expected, strict=True):
        ours = values[name]
        if ours.shape != theirs.shape:
            raise LoadError(f'output "{name}" has shape {ours.shape}, in {framework} {theirs.shape}')
        largest = float(abs(theirs).max(initial=0.0)) or 1.0
        difference = float(abs(ours - theirs).max(initial=0.0)) / largest
        if not difference <= bound[str(theirs.dtype)]:
            raise LoadError(
                f'output "{name}" differs from {framework}\'s by {difference:.2g} of the greatest, more than '
                f"{bound[str(theirs.dtype)]:g}: the graph would explain another network; check=False gives it out"
            )
