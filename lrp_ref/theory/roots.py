"""What a rule's terms say of its roots: contributions n_jk, the direction v_j = n_jk / w_jk, the step t."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from ..arrays import Array, divide, number, where, zeros
from ..graph import Graph
from ..layers import Dropout, Flatten, Identity, Linear, ReLU, Reshape, Squeeze, Transpose, Unsqueeze
from ..propagate import Rule
from ..values import value

Reading = Literal["extended", "physical"]


def why_no_root(rule: Rule) -> str | None:
    """Why the rule has no root of the form a - t v with one direction for all its messages; None if it has one."""
    shares = rule.shares()
    if not shares:
        return "it divides nothing, so no contributions n_jk give a direction"
    if type(rule).back is not Rule.back:
        return "it has a way back of its own, of which its terms do not tell"
    if rule.bias == "spread":
        return 'bias="spread" adds to the messages what its terms do not tell'
    fixed = [str(share.portion) for share in shares if not callable(share.portion) and share.portion != 0]
    if len(fixed) > 1:
        return f"its parts, of portions {' and '.join(fixed)}, pull in unlike directions"
    return None


@value
class Denominators:
    """A frozen layer and what a rule makes of it; each array has the shape of the layer's output."""

    z: Array
    d: Array
    """The rule's denominator."""
    n: Array
    """What its contributions sum to where w_jk != 0: how fast z_k falls on the way along v."""
    size: Array
    """sum |n_jk| + |n_0k| + |e_k|: over |d| the condition number of the denominator."""
    portion: Array
    used: Sequence[Array]
    """For each share whether it is the one that deals R_k out."""

    @classmethod
    def of(cls, linear: Linear, rule: Rule, a: Array) -> Self:
        """At the inputs `a`."""
        weight, bias = linear.parameters(a)
        z = linear.forward(a)
        d = n = size = portion = zeros(z.shape, a)
        used = []
        for share, dealt in zip(rule.shares(), rule.portions_at(linear, a), strict=True):
            dealt = zeros(z.shape, a) + dealt
            x, w, b = rule.modified(share, a, weight, bias)
            summed = sum(map(linear.linear, x, w))
            e = rule.stabilizer(summed + b, rule.epsilon)
            reach = sum(linear.linear(abs(x_t), abs(w_t)) for x_t, w_t in zip(x, w, strict=True)) + abs(b) + abs(e)
            on = dealt != 0
            moving = [where(weight == 0, number(0, a), w_t) for w_t in w]
            n = where(on, sum(map(linear.linear, x, moving)), n)
            d, size = where(on, summed + b + e, d), where(on, reach, size)
            portion = where(on, dealt, portion)
            used.append(on)
        return cls(z, d, n, size, portion, used)

    def step(self, reading: Reading) -> Array:
        """t = p z / d ("extended") or z / sum_j v_j w_jk ("physical"); 0 where that divides by 0."""
        return divide(self.portion * self.z, self.d) if reading == "extended" else divide(self.z, self.n)


def rows(linear: Linear, rule: Rule, a: Array, alone: Array, used: Sequence[Array]) -> tuple[Array, Array]:
    """(w_jk, n_jk) of one neuron for each row of `alone`, which is 1 at that neuron and 0 elsewhere."""
    weight, bias = linear.parameters(a)
    n = zeros(a.shape, a)
    for share, on in zip(rule.shares(), used, strict=True):
        x, weights, _ = rule.modified(share, a, weight, bias)
        here = where(on, alone, number(0, a))
        n = n + sum(x_t * linear.adjoint(here, w_t, a.shape) for x_t, w_t in zip(x, weights, strict=True))
    return linear.adjoint(alone, weight, a.shape), n


def direction(w: Array, n: Array) -> Array:
    """v = n / w, and 0 where w is 0: what the neuron does not read does not move."""
    return divide(n, w)


_RESHAPING = (Identity, Dropout, Flatten, Reshape, Transpose, Squeeze, Unsqueeze)


def relus_above(graph: Graph) -> dict[str, tuple[str, ...]]:
    """For each node the ReLUs that read it, through reshaping at most; none if anything else reads it too."""
    found: dict[str, tuple[str, ...]] = {}
    for node in reversed(graph.nodes):
        names: list[str] = []
        only = bool(graph.readers[node.name]) and node.name not in graph.outputs
        for reader, _ in graph.readers[node.name]:
            if isinstance(reader.layer, ReLU):
                names.append(reader.name)
            elif isinstance(reader.layer, _RESHAPING) and found[reader.name]:
                names += found[reader.name]
            else:
                only = False
        found[node.name] = tuple(names) if only else ()
    return found
