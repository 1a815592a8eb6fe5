"""What is certain about a relevance: enclosures of the exactly computed one.

The network, the input and the rules are taken as the exact numbers that their floats are, and the relevance is computed
from them in rationals or in balls, with as much precision as it takes to decide every kink (ReLU, maximum, sign of a
denominator) and to make the enclosures small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..arrays import Array, exact, floats, number, zeros
from ..composites import Assignment, Composite, as_composite
from ..errors import GraphError, LrpError, NotExact, ShapeError, Undecided
from ..explain import explain, one_or_all, targets_of
from ..graph import Graph, Node, naming
from ..layers import Layer
from ..layers.base import Wires
from ..layers.pool import WindowSum
from ..propagate import Rule
from ..rules import Pass
from ..stabilize import Relative
from ..targets import Target
from ..text import Progress, near
from ..values import value
from . import tiles
from .balls import Ball, balls, lower, upper, working
from .growth import bits_lost

Arrays = Array | Mapping[str, Array]

SPARE = 8
"""Bits of precision beyond those that are expected to be lost."""
TINY = 20_000
"""Multiplications of a network that is still certified in rationals."""


@value
class Certificate:
    """Enclosures of the exactly computed relevance: arrays of :class:`Ball`, by the name of the node or input."""

    relevances: Mapping[str, Array]
    inputs: tuple[str, ...]
    output: Arrays
    engine: Literal["rationals", "balls"]
    precision: int
    """Bits of the balls' midpoints."""
    rules: Assignment
    targets: Mapping[str, Target]
    exact: Mapping[str, Array] | None = None
    """The relevance itself, where the engine is rationals."""

    @property
    def relevance(self) -> Arrays:
        """Of the input; a dict by name if the graph has several."""
        return one_or_all({name: self.relevances[name] for name in self.inputs})

    def at(self, name: str | None = None) -> Array:
        """The enclosures at a node's output or at an input; None is the only input."""
        if name is None and len(self.inputs) > 1:
            raise GraphError(f"the graph has the inputs {list(self.inputs)}: say which")
        name = self.inputs[0] if name is None else name
        if name not in self.relevances:
            raise GraphError(
                f'no relevance is certified at "{name}"{near(name, list(self.relevances))}; '
                f'certify(..., keep="all") certifies it at every node'
            )
        return self.relevances[name]

    def bound(self, theirs: Array, at: str | None = None) -> Array:
        """For each entry of any result, a float64 that its distance from the exact relevance does not exceed."""
        mine = self.at(at)
        if tuple(np.shape(theirs)) != mine.shape:
            raise ShapeError(f"the relevance certified has shape {mine.shape}, the one given {np.shape(theirs)}")
        with working(self.precision):
            return _each(lambda ball: upper(ball.arb), abs(balls(np.asarray(theirs)) - mine))

    def error(self, theirs: Array, at: str | None = None) -> float:
        """How far a result is off at most, relative to max |R|: the greatest bound over a float64 just below it."""
        worst, scale = float(self.bound(theirs, at).max(initial=0.0)), self.scale(at)
        return math.nextafter(worst / scale, math.inf) if worst and scale else worst and math.inf

    def scale(self, at: str | None = None) -> float:
        """A float64 just below max |R|."""
        return float(_each(lambda ball: lower(abs(ball.arb)), self.at(at)).max(initial=0.0))

    def midpoint(self, at: str | None = None) -> Array:
        """The float64 nearest to each midpoint."""
        return _each(lambda ball: ball.midpoint, self.at(at))

    def radius(self, at: str | None = None) -> Array:
        """For each entry a float64 that the radius does not exceed."""
        return _each(lambda ball: ball.radius, self.at(at))

    def sign(self, at: str | None = None) -> Array:
        """1, -1, or 0 where that is certain; nan where it is not."""
        return _each(_sign, self.at(at))

    def total(self, at: str | None = None) -> Ball:
        """The sum of all relevance."""
        with working(self.precision):
            return sum(self.at(at).flat, start=Ball(0, 1))

    def top(self, k: int, at: str | None = None) -> tuple[list[tuple[int, ...]], int]:
        """The indices of the `k` greatest, and of how many of them, from the first on, the place is certain."""
        R, order = self.at(at).reshape(-1), np.argsort(-self.midpoint(at).reshape(-1), kind="stable")
        least, most = _each(lambda ball: lower(ball.arb), R), _each(lambda ball: upper(ball.arb), R)
        certain = 0
        for place, i in enumerate(order[:k]):
            rest = order[place + 1 :]
            rivals = rest[most[rest] >= least[i]]
            if not all(R[i].arb > R[j].arb for j in rivals):
                break
            certain += 1
        return [tuple(map(int, np.unravel_index(i, self.at(at).shape))) for i in order[:k]], certain


def certify(
    graph: Graph,
    x: Arrays,
    composite: Composite | Rule,
    target: Any = None,
    *,
    radius: float = 2.0**-60,
    given: Mapping[str, Array] | None = None,
    keep: Literal["all", "input"] = "input",
    engine: Literal["rationals", "balls"] | None = None,
    most: int = 1 << 14,
    threads: int | None = None,
) -> Certificate:
    """An enclosure of the exactly computed relevance.

    Parameters
    ----------
    graph, x, composite, target : as for :func:`lrp_ref.explain`; each float is taken as the exact number that it is.
        The graph is not brought into the dtype of `x`: to bound the error of a float32 run of a float64 network, pass
        ``graph.like(x)``, the network that was run.
    radius : float
        the wanted radius, relative to max |R|, at the inputs (and, with ``keep="all"``, at every node)
    given : {node: relevance of its output}
        goes on from there in place of the exact one, so that each layer below is certified by itself; at the node
        itself the certificate is of the relevance that reaches it. Always in balls.
    keep : "input", or "all" to certify the relevance at every node
    engine : None chooses "rationals" for tiny networks that have rational values, else "balls"
    most : int, bits of precision beyond which the search ends
    threads : int or None, of the contractions

    Raises
    ------
    Undecided
        naming node and unit, if `most` bits do not settle a kink, such as a tie of values without a finite expansion.
    """
    if not 0 < radius < 1:
        raise LrpError(f"radius={radius}: need a number between 0 and 1, relative to max |R|")
    if engine not in ("rationals", "balls", None):
        raise LrpError(f'engine={engine!r}: need "rationals", "balls" or None')
    composite = as_composite(composite)
    work, in_floats = Work.of(graph, x, composite, given)
    if engine == "rationals" and work.given:
        raise LrpError('given: what goes on from there is certified in balls; leave engine="rationals" out')
    if engine == "rationals" or (engine is None and work.tiny()):
        try:
            return _in_rationals(work.graph, work.values, composite, target, keep)
        except NotExact:
            if engine == "rationals":
                raise  # else it is no network for them
    bits = min(most, SPARE + math.ceil(bits_lost(work.graph, work.rules, in_floats, target) - math.log2(radius)))
    del in_floats
    while True:
        try:
            found = _in_balls(work, target, bits, keep, threads)
        except Undecided as error:
            if bits >= most:
                raise Undecided(f"{error} (with {bits} bits; most={most})", *error.between, unit=error.unit) from error
            bits = min(most, bits + bits // 2)
            continue
        short = max(_shortage(found, name, radius) for name in found.relevances)
        if short <= 0:
            return found
        if bits >= most:
            raise Undecided(f"the wanted radius {radius:.3g} is not reached with {bits} bits; most={most}")
        bits = min(most, bits + math.ceil(short) + 8)


@value
class Work:
    """A network to certify, and what it costs."""

    graph: Graph
    rules: Assignment
    values: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    """Of all activations."""
    given: Mapping[str, Array]
    """Relevance, by node."""

    @classmethod
    def of(
        cls, graph: Graph, x: Arrays, composite: Composite, given: Mapping[str, Array] | None = None
    ) -> tuple[Work, dict[str, Array]]:
        """What :func:`certify` is asked for, and the activations in float64."""
        values = graph.check_inputs(x)
        graph = composite.prepare(graph)
        rules = composite.assign(graph)
        activations = graph.forward({name: floats(a).astype(np.float64) for name, a in values.items()})
        found = {}
        for name, R in (given or {}).items():
            node = graph.resolve(name)
            if node not in activations:
                raise GraphError(f'given: no node or input "{name}"{near(name, list(activations))}')
            if tuple(np.shape(R)) != activations[node].shape:
                raise ShapeError(
                    f'given: the relevance at "{name}" has shape {np.shape(R)}, need {activations[node].shape}'
                )
            found[node] = np.asarray(R)
        return cls(graph, rules, values, {name: a.shape for name, a in activations.items()}, found), dict(activations)

    def multiplications(self, node: Node) -> int:
        """Of one contraction at a node, 0 where it has none."""
        return tiles.multiplications(node.layer, self.shapes[node.inputs[0]]) if tiles.fits(node.layer) else 0

    def total(self) -> int:
        """Of all contractions: forward, of denominators, and back."""
        return sum(
            self.multiplications(node) * (1 + sum(2 * len(s.terms) for s in self.rules[node.name].shares()))
            for node in self.graph.nodes
        )

    def tiny(self) -> bool:
        """Whether rationals will do, if they can: there are few numbers, and no root that they would round."""
        rounded = any(isinstance(rule.stabilizer, Relative) for rule in self.rules.values())
        numbers = sum(map(math.prod, self.shapes.values()))
        return self.total() + numbers <= TINY and not rounded and not self.given


def _in_rationals(
    graph: Graph, values: Mapping[str, Array], composite: Composite, target: Any, keep: Literal["all", "input"]
) -> Certificate:
    x = {name: exact(a) for name, a in values.items()}
    e = explain(graph, x, Composite(composite.cases), target, keep=keep)
    bits = 256
    with working(bits):
        enclosed = {name: balls(R) for name, R in e.relevances.items()}
        output = e.output if isinstance(e.output, Mapping) else {graph.outputs[0]: e.output}
        output = {name: balls(a) for name, a in output.items()}
    return Certificate(
        enclosed, tuple(graph.inputs), one_or_all(output), "rationals", bits, e.rules, e.targets, exact=e.relevances
    )


def _in_balls(work: Work, target: Any, bits: int, keep: str, threads: int | None) -> Certificate:
    graph, rules = work.graph, work.rules
    with working(bits, threads), Progress(f"certifying with {bits} bits", work.total()) as bar:
        activations = {name: balls(a) for name, a in work.values.items()}
        some = activations[graph.inputs[0]].reshape(-1)[:1]
        for node in graph.nodes:
            inputs = [activations[source] for source in node.inputs]
            with naming(node), tiles.located(inputs):
                if tiles.fits(node.layer):
                    activations[node.name] = tiles.forward(node.layer, inputs[0], bar.advance)
                else:
                    activations[node.name] = node.layer.like(some).forward(*inputs)
        targets = targets_of(graph, activations, target)
        relevance = {name: goal.start(activations[name]) for name, goal in targets.items()}
        output = {name: activations[name] for name in graph.outputs}
        for node in reversed(graph.nodes):
            if node.name not in relevance:
                continue
            inputs, z, R = [activations[source] for source in node.inputs], activations[node.name], relevance[node.name]
            if node.name in work.given:
                R = balls(work.given[node.name])
            with naming(node), tiles.located([*inputs, z]):
                parts = _back(node.layer, rules[node.name], inputs, z, R, bar)
            for source, part in zip(node.inputs, parts, strict=True):
                relevance[source] = relevance[source] + part if source in relevance else part
            if keep == "input":
                del relevance[node.name], activations[node.name]
        for name in graph.inputs:
            if name not in relevance:
                relevance[name] = activations[name] * number(0, some)
    return Certificate(relevance, tuple(graph.inputs), one_or_all(output), "balls", bits, rules, targets)


def _back(layer: Layer, rule: Rule, inputs: list[Array], z: Array, R: Array, bar: Progress) -> tuple[Array, ...]:
    """The relevance of each input."""
    if not (tiles.fits(layer) and rule.only_shares):
        layer = layer.like(R.reshape(-1)[:1])
    if rule.only_shares:
        return tiles.back(layer, rule, inputs, z, R, bar.advance)
    if type(rule) is Pass:
        wires, a = rule.linear_map(layer, inputs)
        if isinstance(wires, Wires):
            return layer.split(wires.route_back(R, a.shape), [x.shape for x in inputs])
        if isinstance(wires, WindowSum) and wires.live is not None and wires.shares is None:
            return (_to_winners(wires, R, a.shape),)
    parts, _ = rule.back(layer, inputs, R)
    return parts


def _to_winners(pool: WindowSum, R: Array, shape: Sequence[int]) -> Array:
    """Each R_k to the one cell that won its window."""
    cells = np.arange(math.prod(shape[2:])).reshape(1, 1, *shape[2:])
    place = np.broadcast_to(pool.window.gather(cells, pool.positions), pool.live.shape)  # type: ignore[union-attr]
    winner = (place * pool.live).sum(axis=2).reshape(shape[0] * shape[1], -1)
    R_in = zeros((len(winner), cells.size), R)
    np.add.at(R_in, (np.arange(len(winner))[:, None], winner), R.reshape(winner.shape))
    return R_in.reshape(tuple(shape))


def _shortage(found: Certificate, name: str, radius: float) -> float:
    """How many bits more it takes until every radius is small beside max |R|."""
    worst, scale = float(found.radius(name).max(initial=0.0)), found.scale(name)
    if worst == 0:
        return 0.0
    return math.log2(worst / scale / radius) if scale > 0 and math.isfinite(worst) else 64.0


def _sign(ball: Ball) -> float:
    x = ball.arb
    return 1.0 if x > 0 else -1.0 if x < 0 else 0.0 if x.is_zero() else math.nan


def _each(f: Any, array: Array) -> Array:
    return np.fromiter((f(ball) for ball in array.flat), dtype=float, count=array.size).reshape(array.shape)
