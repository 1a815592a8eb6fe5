r"""Deep Taylor decomposition, verified: is each message a first-order term of a Taylor expansion, and where?

For each neuron k the chapter models the relevance as a function of the layer's input, with a context c_k that is held
fixed, and expands it at a root a~ that lies on a line through the data point:

.. math:: \hat R_k(a) = \max(0, z_k(a))\, c_k, \qquad c_k = R_k / z_k, \qquad \tilde a = a - t\, v,
          \qquad \hat R_k(a) = \hat R_k(\tilde a) + \sum_j (a_j - \tilde a_j)\, w_{jk}\, c_k .

A rule that deals R_k out by contributions n_jk has the direction v_j = n_jk / w_jk (0 where w_jk = 0). With
d_k = sum_j n_jk + n_0k + e_k its denominator, and p the portion of R_k that it deals out (1 for every rule of the
chapter), two steps t can be asked for:

- "extended", t = p z_k / d_k: the first-order terms are the messages. The bias is a coordinate that moves too, so the
  network's own z at the point is not 0: the residual z_k(a~) = z_k - t sum_j n_jk, times c_k, is what bias and
  stabilizer absorb.
- "physical", t = z_k / sum_j n_jk: only inputs move, a~ is a root of the network's neuron, and the first-order terms
  sum to R_k. They are the messages only where nothing is absorbed.

What this shows is that messages equal the first-order terms of the relevance model at the point a~, no more. A root
alone shows nothing, since every way to split R_k has one; what says something is whether the root is in the domain,
whether the context is the same there, and whether the network is still on the same linear piece: all are measured.

Montavon, Lapuschkin, Binder, Samek, Müller, Pattern Recognition 65 (2017), 211-222 (arXiv 1512.02479); Sixt and
Landgraf, "A Rigorous Study of the Deep Taylor Decomposition", TMLR 2022 (arXiv 2211.08425).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Self

import numpy as np

from ..arrays import (
    Array,
    divide,
    floats,
    is_exact,
    namespace,
    number,
    sign,
    to_host,
    total,
    unit_roundoff,
    where,
    zeros,
)
from ..errors import GraphError
from ..explain import Explanation
from ..graph import Graph, Node
from ..layers import ReLU
from ..propagate import Rule, four_steps
from ..targets import repeated
from ..text import Progress, table
from ..values import value
from .domains import Box, Domain, Positive, Real, domains
from .recursion import FullRecursion, beside_gradient_x_input, full_recursion
from .roots import Denominators, Reading, direction, relus_above, rows, why_no_root

__all__ = ["Box", "Domain", "Neurons", "NodeReport", "Positive", "Real", "Report", "Root", "verify", "why_no_root"]

CELLS = 2**21
"""About how many numbers a block of neurons may take, in one array."""


@value
class Neurons:
    """What was found of the neurons of one node, an array with one number for each; exact in exact arithmetic.

    "Bound" is how far rounding may move the number before it: unit roundoff times the condition number of the
    denominator and of z, and the number of terms; 0 in exact arithmetic.
    """

    unit: Array
    """Where the neuron is in the node's output, (neurons, axes)."""
    R: Array
    z: Array
    t: Array
    """The step: a~ = a - t v."""
    residual: Array
    """z_k(a~) = w . a~ + b."""
    residual_bound: Array
    zero_order: Array
    """The residual times c_k: the zero-order term, on the linear piece of the data point."""
    absorbed: Array
    """What the books say that bias and stabilizer took of R_k, and what nobody claimed."""
    zero_order_bound: Array
    difference: Array
    """max_j |first-order term - message|."""
    difference_bound: Array
    sum_error: Array
    """Sum of the first-order terms + zero-order term - R_k."""
    sum_bound: Array
    least_message: Array
    """The least message, times the sign of R_k: not negative where all messages are."""
    outside: Array
    """The share of the neuron's inputs that a~ has outside of the domain."""
    violation: Array
    """The furthest that one of them lies outside."""
    root_exists: Array
    """Whether the neuron has any root in the domain at all, on this rule's line or elsewhere."""
    active: Array
    """Whether the segment from a to a~ stays on the side of z_k = 0 on which a is."""
    distance: Array
    """|a - a~| / |a| over the neuron's inputs."""
    context: Array
    """c_k at a."""
    context_at_root: Array | None = None
    """R_k / z_k of the network really run above from a~, or where the neuron turns off before, just in front of
    there."""
    unresolved: Array | None = None
    """R_k of the network run above from a~: 0 at a root in the sense of the theory (Sixt and Landgraf's "unresolved
    relevance")."""
    flips: Array | None = None
    """The share of ReLUs, of this layer without the neuron and of all above, whose sign at a~ is another than at a."""

    def __len__(self) -> int:
        return len(self.t)

    @property
    def in_domain(self) -> Array:
        """Whether a~ is in the domain."""
        return self.outside == 0

    @property
    def drift(self) -> Array | None:
        """|c_k(a~) - c_k(a)| / |c_k(a)|."""
        if self.context_at_root is None:
            return None
        return abs(divide(self.context_at_root - self.context, self.context))


@value
class NodeReport:
    """What was found at one node."""

    name: str
    kind: str
    rule: Rule
    domain: Domain | None
    """Where its inputs may lie; None if there is no root to ask about."""
    reason: str | None
    """Why the rule has no root of this form; None if it has."""
    relu_above: bool
    """Whether the model is max(0, z_k) c_k; else it is z_k c_k on the side of z_k."""
    relevant: int
    """Neurons with R_k != 0."""
    outside_model: int
    """Those with z_k <= 0 below a ReLU, or z_k = 0: the model gives them no relevance."""
    outside_share: float
    """Their part of sum |R_k|."""
    rootless: tuple[tuple[int, ...], ...] = ()
    """Neurons whose line meets no root: the denominator is 0 (extended), or no step t > 0 reaches z = 0 (physical)."""
    left_out: int = 0
    """Neurons that were not asked about, as `units` says."""
    neurons: Neurons | None = None
    note: str = ""
    """Why the context was not measured, if it was not."""

    @property
    def root_in_domain(self) -> float:
        """The share of the neurons asked about, those without a root among them, that have one in the domain."""
        asked = len(self.rootless) + (0 if self.neurons is None else len(self.neurons))
        return int(self.neurons.in_domain.sum()) / asked if self.neurons is not None else 0.0


@value
class Root:
    """One neuron's root: the arrays have the shape of the layer's input, without the batch."""

    v: Array
    t: Any
    point: Array
    """a~ = a - t v."""
    first_order: Array
    """(a_j - a~_j) w_jk c_k."""
    messages: Array


@value
class Report:
    """What :func:`verify` found. Prints as a table, one line for each node, with the worst offenders named."""

    reading: Reading
    nodes: Sequence[NodeReport]
    recursion: FullRecursion | str
    """The full recursion compared with the explanation; or why it was not run."""
    beside_gradient_x_input: float | str
    """sum |R - gradient x input| / sum |gradient x input| at the network's input; or why there is none."""
    explanation: Explanation = field(repr=False)

    def __getitem__(self, name: str) -> NodeReport:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f'no relevance passed a node "{name}"; the report has {[node.name for node in self.nodes]}')

    def root(self, name: str, unit: Sequence[int]) -> Root:
        """Direction, step and point of one neuron of the named node, and its terms beside its messages."""
        found = self[name]
        if found.reason is not None or found.neurons is None:
            raise GraphError(f'root: node "{name}" has none: {found.reason or "no neuron has one"}')
        rows = [i for i, one in enumerate(found.neurons.unit.tolist()) if one == list(unit)]
        if not rows:
            raise GraphError(f'root: neuron {tuple(unit)} of node "{name}" has none, or was not asked about')
        layer = _Frozen.at(self.explanation, name)
        units = found.neurons.unit[rows]
        lines = layer.lines(namespace(units).ravel_multi_index(tuple(units.T), layer.R.shape[1:]))
        t = found.neurons.t[rows[0]]
        return Root(lines.v[0], t, *(rows_of[0] for rows_of in lines.expansion(found.neurons.t[rows])))

    @property
    def holds(self) -> bool:
        """Whether every identity of the reading held at every neuron, within its bound."""
        return not self.broken()

    def broken(self) -> list[str]:
        """The identities that did not hold, by node."""
        found = []
        for node in self.nodes:
            if node.neurons is None:
                continue
            for name, count in _failures(node.neurons, self.reading).items():
                if count:
                    found.append(f'"{node.name}": {name} fails at {count} of {len(node.neurons)} neurons')
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON: per node the counts, and each column's least, median and greatest."""
        return {
            "reading": self.reading,
            "holds": self.holds,
            "broken": self.broken(),
            "nodes": [_node_dict(node) for node in self.nodes],
            "recursion": self.recursion if isinstance(self.recursion, str) else self.recursion.to_dict(),
            "beside_gradient_x_input": self.beside_gradient_x_input,
            "worst": worst(self.nodes),
        }

    def __str__(self) -> str:
        gap = self.beside_gradient_x_input
        rows = [_row(node) for node in self.nodes if node.reason is None]
        without: dict[str, list[str]] = {}
        for node in self.nodes:
            if node.reason is not None:
                without.setdefault(node.reason, []).append(f'"{node.name}" ({node.kind}, {node.rule!r})')
        lines = [
            f"Deep Taylor decomposition, {self.reading} reading: messages against the first-order terms of the "
            f"relevance model at a~",
            table(_HEAD, rows) if rows else "no node has relevance",
            *(f"no root: {reason}: {', '.join(names)}" for reason, names in without.items()),
            *(f'"{node.name}": {node.note}' for node in self.nodes if node.note),
            *(f"worst: {line}" for line in worst(self.nodes)),
            str(self.recursion),
            f"relevance differs from gradient x input by {gap:.1%}"
            if not isinstance(gap, str)
            else f"relevance beside gradient x input: not compared: {gap}",
            *(self.broken() or ["every identity holds within its bound"]),
        ]
        return "\n".join(lines)


def verify(
    explanation: Explanation,
    reading: Reading = "extended",
    domain: Domain | Mapping[str, Domain] | None = None,
    *,
    nodes: Sequence[str] | None = None,
    units: int | None = None,
    context: bool = True,
    full: bool | None = None,
) -> Report:
    """Hold every message of an explanation against the Taylor expansion that is said to be behind it.

    Parameters
    ----------
    explanation : of one sample, made by ``explain`` with ``keep="all"`` and without ``edit``
    reading : "extended", where the bias is a coordinate that moves (the chapter), or "physical" (the deep Taylor paper)
    domain : where inputs may lie: a domain of the network's inputs (and of what only routes them), or {node: domain}.
        None: as the graph and the rules tell: the box of a z-box, R+ where no input can be negative, else R
    nodes : which nodes; None for all
    units : how many neurons of each node, those of the greatest |R_k|; None for all
    context : whether the network above is run from each root, which most of the time goes into
    full : whether the full recursion is run; None: if the network is a small chain

    Returns
    -------
    Report
        exact in exact arithmetic; on the host, whither an explanation made on a device is copied first

    Raises
    ------
    GraphError
        for several samples, a masked explanation, one read from a file, and names that the graph does not have.
    """
    graph = _checked(explanation, reading)
    if namespace(explanation.activations[graph.inputs[0]]) is not np:  # bounds are float64, neurons many and small
        graph = graph.to("cpu")
        relevances, activations = (
            {name: to_host(a) for name, a in arrays.items()}
            for arrays in (explanation.relevances, explanation.activations)
        )
        explanation = dataclasses.replace(explanation, graph=graph, relevances=relevances, activations=activations)
    reached = [node for node in graph.nodes if node.name in explanation.relevances]
    rules = {node.name: explanation.rules[node.name] for node in reached}
    where_inputs_lie = domains(graph, rules, explanation.activations, domain)
    wanted = None if nodes is None else {graph[name].name for name in nodes}
    if unreached := (wanted or set()) - set(explanation.relevances):
        raise GraphError(f'verify: no relevance passed a node "{min(unreached)}"')
    asked = [node for node in reached if wanted is None or node.name in wanted]
    relus = relus_above(graph)
    with Progress("neurons verified", sum(int((explanation.at(node.name) != 0).sum()) for node in asked)) as bar:
        reports = [
            _at_node(explanation, node, reading, where_inputs_lie[node.name], relus[node.name], units, context, bar)
            for node in asked
        ]
    recursion = full_recursion(explanation, reading, full)
    return Report(reading, tuple(reports), recursion, beside_gradient_x_input(explanation), explanation)


def _checked(explanation: Explanation, reading: str) -> Graph:
    graph = explanation.graph
    if graph is None:
        raise GraphError("verify: this explanation was read from a file, which holds no network: explain it again")
    if reading not in ("extended", "physical"):
        raise GraphError(f'verify: reading={reading!r}, need "extended" or "physical"')
    if any(bool((entry.edited != 0).any()) for entry in explanation.ledger):
        raise GraphError("verify: masks of edit= changed the relevance on its way: explain it without them")
    if set(explanation.activations) != {*graph.inputs, *(node.name for node in graph.nodes)}:
        raise GraphError('verify: the activations were not kept: explain it with keep="all"')
    if any(len(explanation.activations[name]) != 1 for name in graph.inputs):
        raise GraphError("verify: a root belongs to one sample: explain one at a time, x[i:i + 1]")
    return graph


# --- one layer ----------------------------------------------------------------------------------------------------


@value
class _Lines:
    """For a block of neurons: rows w and n of the layer's inputs, and what they sum to."""

    layer: _Frozen
    flat: Array
    w: Array
    n: Array
    messages: Array

    @property
    def v(self) -> Array:
        """The direction."""
        return direction(self.w, self.n)

    def at(self, column: Array) -> Array:
        """A number for each output of the layer, at these neurons, shaped to meet rows."""
        return _rows(column.reshape(-1)[self.flat], self.w)

    def expansion(self, t: Array) -> tuple[Array, Array, Array]:
        """(a~, first-order terms, messages), a row for each neuron."""
        c = divide(self.at(self.layer.R), self.at(self.layer.parts.z))
        point = self.layer.a - _rows(t, self.w) * self.v
        return point, (self.layer.a - point) * self.w * c, self.messages


@value
class _Frozen:
    """A node's layer at the data point, and what its rule makes of it."""

    node: Node
    rule: Rule
    inputs: Sequence[Array]
    a: Array
    R: Array
    b: Array
    parts: Denominators
    reach: Array
    """sum |a_j w_jk| + |b_k|: over |z| the condition number of z."""
    absorbed: Array

    @classmethod
    def at(cls, explanation: Explanation, name: str) -> Self:
        """The named node's."""
        assert explanation.graph is not None
        node, rule, R = explanation.graph[name], explanation.rules[name], explanation.at(name)
        inputs = [explanation.activations[source] for source in node.inputs]
        linear, a = rule.linear_map(node.layer, inputs)
        weight, bias = linear.parameters(a)
        _, books = four_steps(linear, rule, a, R)
        nothing = zeros(R.shape, a)
        reach = linear.linear(abs(a), abs(weight)) + abs(bias)
        absorbed = nothing + books.bias + books.stabilizer + books.unclaimed
        return cls(node, rule, inputs, a, R, nothing + bias, Denominators.of(linear, rule, a), reach, absorbed)

    def lines(self, flat: Array) -> _Lines:
        """The rows of some neurons, given by their place in the flattened output."""
        xp, count = namespace(self.a), len(flat)
        linear, a = self.rule.linear_map(self.node.layer, [xp.repeat(x, count, axis=0) for x in self.inputs])
        alone = zeros((count, self.R[0].size), a)
        alone[xp.arange(count), flat] = number(1, a)
        alone = alone.reshape(count, *self.R.shape[1:])
        w, n = rows(linear, self.rule, a, alone, self.parts.used)
        messages, _ = four_steps(linear, self.rule, a, alone * self.R)
        return _Lines(self, flat, w, n, messages)


def _at_node(
    explanation: Explanation,
    node: Node,
    reading: Reading,
    domain: Domain,
    relus: tuple[str, ...],
    units: int | None,
    context: bool,
    bar: Progress,
) -> NodeReport:
    rule, R = explanation.rules[node.name], explanation.at(node.name)
    reason = why_no_root(rule)
    xp = namespace(R)
    if reason is not None:
        return NodeReport(node.name, node.kind, rule, None, reason, bool(relus), int((R != 0).sum()), 0, 0.0)
    layer = _Frozen.at(explanation, node.name)
    z, parts = layer.parts.z, layer.parts
    modelled = (z > 0) if relus else (z != 0)
    relevant, out = R != 0, (R != 0) & ~modelled
    magnitude = float(floats(total(abs(R), range(R.ndim))))
    lost = float(floats(total(where(out, abs(R), number(0, R)), range(R.ndim))))
    rooted = (parts.d != 0) if reading == "extended" else (parts.n * sign(z) > 0)
    flat = xp.nonzero((relevant & modelled & rooted).reshape(-1))[0]
    left_out = 0
    if units is not None and len(flat) > units:
        order = xp.argsort(-abs(floats(R).reshape(-1)[flat]), kind="stable")
        left_out, flat = len(flat) - units, xp.sort(flat[order[:units]])
    rootless = xp.argwhere((relevant & modelled & ~rooted)[0])
    neurons, note = None, ""
    if len(flat):
        note = _not_runnable(layer) if context else ""
        neurons = _verified(explanation, layer, flat, reading, domain, relus, context and not note, bar)
    return NodeReport(
        node.name, node.kind, rule, domain, None, bool(relus), int(relevant.sum()), int(out.sum()),
        lost / magnitude if magnitude else 0.0, tuple(map(tuple, rootless.tolist())), left_out, neurons, note,
    )  # fmt: skip


def _verified(
    explanation: Explanation,
    layer: _Frozen,
    flat: Array,
    reading: Reading,
    domain: Domain,
    relus: tuple[str, ...],
    context: bool,
    bar: Progress,
) -> Neurons:
    """The columns of the neurons, computed in blocks so that no array has outputs x inputs entries."""
    assert explanation.graph is not None
    above = [explanation.activations[n.name][0].size for n in explanation.graph.nodes
             if layer.node.name in explanation.graph.upstream[n.name]] if context else []  # fmt: skip
    block = max(1, CELLS // (4 * (layer.a[0].size + layer.R[0].size + sum(above))))
    parts = []
    for begin in range(0, len(flat), block):
        some = flat[begin : begin + block]
        lines = layer.lines(some)
        columns, point = _columns(lines, reading, domain)
        if context:
            columns |= _context(explanation, layer, some, point, lines.v, columns, relus)
        parts.append(columns)
        bar.advance(len(some))
    xp = namespace(flat)
    joined = {name: xp.concatenate([part[name] for part in parts]) for name in parts[0]}
    unit = xp.stack(xp.unravel_index(flat, layer.R.shape[1:]), axis=1)
    return Neurons(unit=unit, **joined)


def _columns(lines: _Lines, reading: Reading, domain: Domain) -> tuple[dict[str, Array], Array]:
    """All that needs no network above, and the points a~."""
    layer, w, n, a = lines.layer, lines.w, where(lines.w == 0, number(0, lines.w), lines.n), lines.layer.a
    parts = layer.parts
    whole = [layer.R, parts.z, layer.b, parts.d, parts.n, parts.size, layer.reach, layer.absorbed, parts.step(reading)]
    R, z, b, d, n_all, size, reach, absorbed, t = (column.reshape(-1)[lines.flat] for column in whole)
    axes = tuple(range(1, w.ndim))
    c = R / z
    point, first, messages = lines.expansion(t)
    residual = total(point * w, axes) + b
    zero_order = residual * c
    sum_error = total(first, axes) + zero_order - R

    # How far rounding may move each, with u the unit roundoff: relative errors of z, d, n and so of t and c.
    u, inputs = unit_roundoff(a), floats((w != 0).sum(axis=axes))
    k = (inputs + 8) * u
    z_, n_, c_, t_, R_ = (abs(floats(column)) for column in (z, n_all, c, t, R))
    of_z = k * divide(floats(reach), z_)
    of_d = k * divide(floats(size), abs(floats(d)) if reading == "extended" else n_)
    of_t, of_c = of_z + of_d + 4 * u, of_z + 2 * u
    moved = abs(floats(n)) * _rows(t_, n)  # |t v w|
    point_error = u * (abs(floats(point * w)) + 2 * moved) + moved * _rows(of_t, n)
    residual_bound = point_error.sum(axis=axes) + k * (abs(floats(point * w)).sum(axis=axes) + floats(abs(b)))
    term_error = _rows(c_, n) * (point_error + u * abs(floats(a * w))) + abs(floats(first)) * _rows(of_c + 4 * u, n)
    term_error = term_error + abs(floats(messages)) * _rows(of_d + 4 * u, n)
    zero_order_bound = residual_bound * c_ + abs(floats(zero_order)) * of_c
    zero_order_bound = zero_order_bound + (R_ + abs(floats(absorbed))) * (of_d + 4 * u)
    sum_bound = term_error.sum(axis=axes) + k * abs(floats(first)).sum(axis=axes) + zero_order_bound

    connected = w != 0
    excess = where(connected, domain.excess(point), number(0, a))
    allowed = _rows(of_t * t_ + 4 * u, n) * abs(floats(lines.v)) + 4 * u * abs(floats(a))
    outside = floats(excess) > allowed
    excess = where(outside, excess, number(0, a))
    least = domain.least(a, w, b)
    side = sign(z)
    cut = where(connected, a - point, number(0, a)), where(connected, a, number(0, a) * w)
    lengths = [(floats(total(x * x, axes))) ** 0.5 for x in cut]
    columns = {
        "R": R, "z": z, "t": t, "residual": residual, "residual_bound": residual_bound, "zero_order": zero_order,
        "absorbed": absorbed, "zero_order_bound": zero_order_bound,
        "difference": abs(first - messages).max(axis=axes), "difference_bound": term_error.max(axis=axes),
        "sum_error": sum_error, "sum_bound": sum_bound,
        "least_message": (messages * _rows(sign(R), messages)).min(axis=axes),
        "outside": divide(outside.sum(axis=axes) * 1.0, inputs * 1.0), "violation": excess.max(axis=axes),
        "root_exists": connected.any(axis=axes) if least is None else (least <= 0) | (z < 0),
        "active": floats(residual * side) >= -residual_bound, "distance": divide(lengths[0], lengths[1]), "context": c,
    }  # fmt: skip
    return columns, point


def _rows(column: Array, like_rows: Array) -> Array:
    return column.reshape((-1,) + (1,) * (like_rows.ndim - 1))


# --- the network above --------------------------------------------------------------------------------------------


def _not_runnable(layer: _Frozen) -> str:
    """Why the network cannot be run from a changed input of the layer; empty if it can."""
    if len(set(layer.node.inputs)) < len(layer.node.inputs):
        return "it reads one node twice, so that no activation stands for a point: the context was not measured"
    parts = layer.node.layer.split(layer.a, [x.shape for x in layer.inputs])
    again = layer.node.layer.join(*parts)
    if again.shape != layer.a.shape or not bool((again == layer.a).all()):
        return "its inputs are broadcast, so that no activation stands for a point: the context was not measured"
    return ""


def _context(
    explanation: Explanation,
    layer: _Frozen,
    flat: Array,
    point: Array,
    v: Array,
    columns: Mapping[str, Array],
    relus: tuple[str, ...],
) -> dict[str, Array]:
    """The network above, run from a~; and, where the neuron turns off on the way, from just in front of there."""
    z, t = columns["z"], columns["t"]
    rows = namespace(z).arange(len(flat))
    at_root, R_root = _above(explanation, layer, point)
    unresolved = R_root.reshape(len(flat), -1)[rows, flat]

    # The neuron turns off where t sum n = z. A little in front of there its context is a ratio of numbers not yet 0.
    slope = (z - columns["residual"]) / where(t == 0, number(1, t), t)
    off = divide(z, slope)
    near = off * number(1 - max(unit_roundoff(z) ** 0.5, 2.0**-26), z)
    earlier = (slope * sign(z) > 0) & (abs(t) > near)
    last = where(earlier, near, t)
    before, R_before = _above(explanation, layer, layer.a - _rows(last, v) * v)
    z_before = before[layer.node.name].reshape(len(flat), -1)[rows, flat]
    context = divide(R_before.reshape(len(flat), -1)[rows, flat], z_before)
    return {"context_at_root": context, "unresolved": unresolved,
            "flips": _flips(explanation, layer, at_root, flat, relus)}  # fmt: skip


def _above(explanation: Explanation, layer: _Frozen, point: Array) -> tuple[dict[str, Array], Array]:
    """The activations that change when the layer's inputs become `point`, and the node's relevance then."""
    graph = explanation.graph
    assert graph is not None
    xp, count = namespace(point), len(point)
    shapes = [(count, *x.shape[1:]) for x in layer.inputs]
    changed = dict(zip(layer.node.inputs, layer.node.layer.split(point, shapes), strict=True))

    def value_of(name: str) -> Array:
        if name in changed:
            return changed[name]
        old = explanation.activations[name]
        return xp.broadcast_to(old, (count, *old.shape[1:]))

    for node in graph.nodes:
        if node.name not in changed and any(source in changed for source in node.inputs):
            changed[node.name] = node.layer.forward(*map(value_of, node.inputs))
    name, upstream = layer.node.name, graph.upstream
    relevance = {
        output: repeated(target, count).start(value_of(output))
        for output, target in explanation.targets.items()
        if output == name or name in upstream[output]
    }
    for node in reversed(graph.nodes):
        if node.name == name:
            break
        if node.name in relevance and name in upstream[node.name]:
            parts, _ = explanation.rules[node.name].back(
                node.layer, [value_of(source) for source in node.inputs], relevance[node.name]
            )
            for source, part in zip(node.inputs, parts, strict=True):
                relevance[source] = relevance[source] + part if source in relevance else part
    return changed, relevance[name]


def _flips(
    explanation: Explanation, layer: _Frozen, changed: Mapping[str, Array], flat: Array, relus: tuple[str, ...]
) -> Array:
    """The share of ReLUs above whose sign is another, the neuron's own left out."""
    graph, name = explanation.graph, layer.node.name
    assert graph is not None
    xp, count = namespace(flat), len(flat)
    differ, of = xp.zeros(count), 0
    for node in graph.nodes:
        if isinstance(node.layer, ReLU) and node.inputs[0] in changed and name in graph.upstream[node.name]:
            now, then = changed[node.inputs[0]] > 0, explanation.activations[node.inputs[0]] > 0
            differ = differ + (now != then).reshape(count, -1).sum(axis=1)
            of += now[0].size
    own = changed[name].reshape(count, -1)[xp.arange(count), flat] > 0
    was = (explanation.activations[name].reshape(-1)[flat]) > 0
    differ, of = differ - len(relus) * (own != was), of - len(relus)
    return differ / of if of else differ * 0.0


# --- how it prints ----------------------------------------------------------------------------------------------------


def _failures(neurons: Neurons, reading: Reading) -> dict[str, int]:
    """For each identity of the reading how many neurons it fails at."""

    def beyond(number: Array, bound: Array) -> int:
        return int((abs(floats(number)) > bound).sum()) if not is_exact(number) else int((number != 0).sum())

    found = {"terms + zero order = R_k": beyond(neurons.sum_error, neurons.sum_bound)}
    if reading == "physical":
        found["w . a~ + b = 0"] = beyond(neurons.residual, neurons.residual_bound)
    else:
        found["zero order = absorbed"] = beyond(neurons.zero_order - neurons.absorbed, neurons.zero_order_bound)
        found["terms = messages"] = beyond(neurons.difference, neurons.difference_bound)
    return found


def _summary(column: Array) -> dict[str, float]:
    """Least, median and greatest."""
    numbers = floats(column)
    return {"least": float(numbers.min()), "median": float(np.median(numbers)), "greatest": float(numbers.max())}


def _measures(neurons: Neurons) -> dict[str, Any]:
    """The numbers of a node that are printed and written."""
    n = neurons
    found: dict[str, Any] = {
        "root_exists": float(n.root_exists.mean()),
        "violation": float(floats(n.violation).max()), "t_at_most_1": float((n.t <= 1).mean()),
        "negative": int((floats(n.least_message) < -n.difference_bound).sum()),
        "off_side": int((~n.active).sum()),
    }  # fmt: skip
    columns = {
        "t": n.t, "residual": abs(n.residual), "zero_order_less_absorbed": abs(n.zero_order - n.absorbed),
        "terms_less_messages": n.difference, "sum_error": abs(n.sum_error), "distance": n.distance,
        "zero_order_bound": n.zero_order_bound, "terms_bound": n.difference_bound,
    }  # fmt: skip
    if n.drift is not None and n.flips is not None and n.unresolved is not None:
        columns |= {"drift": n.drift, "flips": n.flips, "unresolved": abs(n.unresolved)}
    return found | {name: _summary(column) for name, column in columns.items()}


def _node_dict(node: NodeReport) -> dict[str, Any]:
    about: dict[str, Any] = {
        "node": node.name, "layer": node.kind, "rule": repr(node.rule), "no_root": node.reason,
        "domain": None if node.domain is None else str(node.domain), "relu_above": node.relu_above,
        "relevant": node.relevant, "outside_model": node.outside_model, "outside_model_share": node.outside_share,
        "rootless": len(node.rootless), "root_in_domain": node.root_in_domain, "left_out": node.left_out,
        "note": node.note,
    }  # fmt: skip
    return about if node.neurons is None else about | {"neurons": len(node.neurons), **_measures(node.neurons)}


_HEAD = (
    "node", "layer", "rule", "neurons", "off model", "no root", "domain", "in domain", "t <= 1", "t, median",
    "zero order - absorbed", "terms - messages", "negative", "off side", "distance", "drift", "flips",
)  # fmt: skip


def _row(node: NodeReport) -> tuple[str, ...]:
    row = [node.name, node.kind, repr(node.rule), str(node.relevant)]
    row.append(f"{node.outside_model} ({node.outside_share:.1%})" if node.outside_model else ".")
    row += [str(len(node.rootless)) if node.rootless else ".", str(node.domain or "")]
    if node.neurons is None:
        return (*row, *[""] * (len(_HEAD) - len(row)))
    m = _measures(node.neurons)
    row += [f"{node.root_in_domain:.1%}", f"{m['t_at_most_1']:.1%}", f"{m['t']['median']:.4g}"]
    row += [f"{m[name]['greatest']:.1e}" if m[name]["greatest"] else "0"
            for name in ("zero_order_less_absorbed", "terms_less_messages")]  # fmt: skip
    row += [str(m["negative"] or "."), str(m["off_side"] or "."), f"{m['distance']['median']:.3g}"]
    row += [f"{m[name]['median']:.2g}" if name in m else "" for name in ("drift", "flips")]
    return tuple(row)


def worst(nodes: Sequence[NodeReport]) -> list[str]:
    """For each thing that can be bad the neuron at which it is worst, where it is bad at all."""
    things: dict[str, Callable[[Neurons], Array | None]] = {
        "outside of the domain, by": lambda n: n.violation,
        "|z_k| at a~ behind the hinge, times c_k:": lambda n: where(n.active, number(0, n.z), abs(n.zero_order)),
        "relative change of the context": lambda n: n.drift,
        "share of ReLUs flipped": lambda n: n.flips,
        "relevance still at the root": lambda n: None if n.unresolved is None else abs(n.unresolved),
        "distance |a - a~| / |a|": lambda n: n.distance,
    }
    found = []
    for what, column in things.items():
        best: tuple[float, str] = (0.0, "")
        for node in nodes:
            numbers = None if node.neurons is None else column(node.neurons)
            if numbers is not None and node.neurons is not None and len(numbers):
                numbers = floats(numbers)
                i = int(numbers.argmax())
                best = max(best, (float(numbers[i]), f'"{node.name}" {tuple(node.neurons.unit[i].tolist())}'))
        if best[0] > 0:
            found.append(f"{what} {best[0]:.4g} at {best[1]}")
    return found
