"""Where the inputs of a layer may lie: R, R+ or a box; all three are convex, so a segment lies in them if its ends do.

A root outside the domain is one that the network can never meet (Montavon et al. 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..arrays import Array, as_array, like, negative, per_channel, positive, total, zeros
from ..errors import GraphError
from ..graph import Graph, Node
from ..layers import Wires
from ..propagate import Rule
from ..rules import ZBox
from ..signs import positive_nodes
from ..text import near
from ..values import value


class Domain(Protocol):
    """A convex set of inputs of a layer."""

    @property
    def never_negative(self) -> bool:
        """Whether it lies in R+."""
        ...

    def through(self, wires: Wires, a: Array) -> Domain:
        """Where the outputs of a layer that only routes lie, when its input, of the shape of `a`, lies here."""
        ...

    def excess(self, a: Array) -> Array:
        """How far each coordinate lies outside, in the shape of `a`; 0 inside."""
        ...

    def least(self, a: Array, w: Array, b: Array) -> Array | None:
        """The least z = sum_j a_j w_jk + b_k in the domain, one a row of w; None: no least."""
        ...


@value
class Real:
    """R: every input."""

    never_negative = False

    def through(self, wires: Wires, a: Array) -> Domain:
        """The same."""
        return self

    def excess(self, a: Array) -> Array:
        """0."""
        return zeros(a.shape, a)

    def least(self, a: Array, w: Array, b: Array) -> Array | None:
        """None: z falls without end along -w."""
        return None

    def __str__(self) -> str:
        return "R"


@value
class Positive:
    """R+: no input is negative, as behind a ReLU."""

    never_negative = True

    def through(self, wires: Wires, a: Array) -> Domain:
        """The same."""
        return self

    def excess(self, a: Array) -> Array:
        """-a where a < 0."""
        return -negative(a)

    def least(self, a: Array, w: Array, b: Array) -> Array | None:
        """b, at 0, if no weight is negative; else None."""
        return None if bool((w < 0).any()) else b

    def __str__(self) -> str:
        return "R+"


@value
class Box:
    """low <= a_j <= high; each a scalar, one number a channel, or an array of the sample's shape."""

    low: Any
    high: Any

    @property
    def never_negative(self) -> bool:
        """Whether no lower bound is negative."""
        return bool((as_array(self.low) >= 0).all())

    def _bounds(self, a: Array) -> tuple[Array, Array]:
        low, high = (per_channel(like(bound, a), a, "Box") for bound in (self.low, self.high))
        return low, high

    def through(self, wires: Wires, a: Array) -> Domain:
        """The box of the routed bounds; what no input feeds is 0."""
        low, high = (wires.forward(zeros(a.shape, a) + bound)[0] for bound in self._bounds(a))
        return Box(low, high)

    def excess(self, a: Array) -> Array:
        """The distance to the bound that is passed."""
        low, high = self._bounds(a)
        return positive(low - a) + positive(a - high)

    def least(self, a: Array, w: Array, b: Array) -> Array | None:
        """sum_j (low_j w_jk+ + high_j w_jk-) + b_k, at a corner."""
        low, high = self._bounds(a)
        return total(low * positive(w) + high * negative(w), range(1, w.ndim)) + b

    def __str__(self) -> str:
        return "box"


def domains(
    graph: Graph,
    rules: Mapping[str, Rule],
    activations: Mapping[str, Array],
    given: Domain | Mapping[str, Domain] | None = None,
) -> dict[str, Domain]:
    """For each node the domain of its inputs.

    The given one, by node, or of the network's inputs and of what only routes them; else the box of a z-box; else R+
    where no input can be negative; else R.
    """
    by_node: Mapping[str, Domain] = given if isinstance(given, Mapping) else {}
    at_inputs = None if given is None or isinstance(given, Mapping) else given
    if unknown := [name for name in by_node if name not in rules]:
        raise GraphError(f'domain: no relevance passed a node "{unknown[0]}"{near(unknown[0], list(rules))}')
    never_negative = positive_nodes(graph, inputs=at_inputs is not None and at_inputs.never_negative)
    routed: dict[str, Domain] = {} if at_inputs is None else dict.fromkeys(graph.inputs, at_inputs)
    for node in graph.nodes:
        if isinstance(node.layer, Wires) and node.inputs[0] in routed:
            routed[node.name] = routed[node.inputs[0]].through(node.layer, activations[node.inputs[0]])

    def of(node: Node) -> Domain:
        rule = rules[node.name]
        if node.name in by_node:
            return by_node[node.name]
        if node.inputs[0] in routed and len(node.inputs) == 1:
            return routed[node.inputs[0]]
        if isinstance(rule, ZBox):
            return Box(rule.low, rule.high)
        return Positive() if never_negative.issuperset(node.inputs) else Real()

    return {node.name: of(node) for node in graph.nodes if node.name in rules}
