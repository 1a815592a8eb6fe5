r"""The full recursion of deep Taylor decomposition: relevance functions expanded at their roots, nothing held fixed.

.. math:: R^{l-1}_j(a) = \sum_k \frac{\partial R^l_k}{\partial a_j}(\tilde a_k)\, (a_j - \tilde a_{kj})

with R^l_k the relevance of neuron k as a function of the input of its layer, which again is such a sum over the layer
above. LRP holds the context fixed in place of that; the difference is measured, not assumed away (Sixt and Landgraf,
TMLR 2022, arXiv 2211.08425). The terms R^l_k(a~_k) that are dropped are the study's unresolved relevance.

Derivatives are differences along each input, taken in exact arithmetic with a step of 2^-200 a little inside of the
root, where the neuron is still on: a relative error of 2^-100 or so, and no rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ..arrays import Array, exact, floats, like, number, sign, zeros
from ..errors import GraphError, NotExact
from ..explain import Explanation
from ..graph import Graph, Node
from ..propagate import Rule
from ..rules import Pass
from ..targets import Target, repeated
from ..values import value
from .gradients import gradient_x_input
from .roots import Denominators, Reading, direction, relus_above, rows, why_no_root

MOST_POINTS = 20_000
"""The most points at which the network is evaluated unless it is asked for."""
STEP = Fraction(1, 2**200)
INSIDE = 1 - Fraction(1, 2**100)


@value
class FullRecursion:
    """What the full recursion gives beside the explanation; relative differences are of the sums of absolute values."""

    relevance: Array
    explained: Array
    gradient_x_input: Array
    unresolved: Any
    """sum_k R_k(a~_k) of the lowest layer: what the expansion leaves at the roots."""
    points: int

    @property
    def from_explanation(self) -> float:
        """sum |recursion - explanation| / sum |explanation|."""
        return apart(self.relevance, self.explained)

    @property
    def from_gradient_x_input(self) -> float:
        """sum |recursion - gradient x input| / sum |gradient x input|."""
        return apart(self.relevance, self.gradient_x_input)

    @property
    def at_pole(self) -> bool:
        """Whether a relevance function has a pole at a root, so that its slope there has no bound but the step's."""
        return self.from_explanation > 2.0**32

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "relevance": floats(self.relevance).tolist(),
            "explained": floats(self.explained).tolist(),
            "gradient_x_input": floats(self.gradient_x_input).tolist(),
            "unresolved": float(self.unresolved),
            "from_explanation": self.from_explanation,
            "from_gradient_x_input": self.from_gradient_x_input,
            "at_pole": self.at_pole,
            "points": self.points,
        }

    def __str__(self) -> str:
        if self.at_pole:
            return (
                f"full recursion ({self.points} points): a relevance function has a pole at a root, where a "
                f"denominator above vanishes with the neuron: its terms have no bound"
            )
        return (
            f"full recursion ({self.points} points): differs by {self.from_explanation:.1%} from the explanation, "
            f"whose context is held fixed, and by {self.from_gradient_x_input:.1%} from gradient x input"
        )


def full_recursion(
    explanation: Explanation,
    reading: Reading = "physical",
    full: bool | None = None,
    *,
    roots: Mapping[str, Array] | None = None,
) -> FullRecursion | str:
    """The full recursion on the explanation's network and rules, in exact arithmetic; or why it was not run.

    Parameters
    ----------
    explanation : of one sample and one output, of a chain whose rules have roots, or pass
    reading : of the bias, which decides the roots
    full : False: do not run it; True: run it however many points it takes; None: up to 20,000
    roots : {node: point}, the same constant root for all neurons of a node, in place of the rule's own

    Returns
    -------
    FullRecursion, in exact arithmetic if the explanation is
    """
    if full is False:
        return "full recursion: not asked for"
    graph = explanation.graph
    assert graph is not None
    found = _stages(graph, explanation.rules)
    if isinstance(found, str):
        return f"full recursion: not run: {found}"
    lead, stages = found
    points = 1
    for node, *_ in stages:
        neurons = int((explanation.at(node.name) != 0).sum())
        points *= neurons * (explanation.activations[node.inputs[0]][0].size + 1)
    if full is None and points > MOST_POINTS:
        return f"full recursion: not run: about {points:.2g} points, more than {MOST_POINTS} (full=True runs it)"
    x = explanation.activations[graph.inputs[0]]
    ((_, target),) = explanation.targets.items()
    values = [exact(x)]
    exact_graph = graph.like(values[0])
    exact_stages = [[exact_graph[node.name] for node in stage] for stage in stages]
    below_relu = frozenset(name for name, relus in relus_above(graph).items() if relus)
    try:
        for node in lead:
            values.append(exact_graph[node.name].layer.forward(values[-1]))
        run = _Run(explanation.rules, exact_stages, target, reading, roots or {}, below_relu)
        R, left = run.at_inputs(0, values[-1])
    except NotExact as error:
        return f"full recursion: not run: {error}"
    for node, came in zip(reversed(lead), reversed(values[:-1]), strict=True):
        ((R,), _) = explanation.rules[node.name].back(exact_graph[node.name].layer, [came], R)
    gradient = gradient_x_input(graph, x, target)
    return FullRecursion(like(R, x), explanation.at(graph.inputs[0]), gradient, like(left, x)[0], points)


def _stages(graph: Graph, rules: Mapping[str, Rule]) -> tuple[list[Node], list[list[Node]]] | str:
    """The wires before the first layer whose rule divides, and the chain cut before each such; or why it is none."""
    lead: list[Node] = []
    stages: list[list[Node]] = []
    source = graph.inputs[0]
    if len(graph.inputs) > 1 or len(graph.outputs) > 1:
        return "the network has several inputs or outputs"
    for node in graph.nodes:
        if node.inputs != (source,) or node.name not in rules:
            return f'the network is no chain: "{node.name}" reads {", ".join(node.inputs)}'
        source, rule = node.name, rules[node.name]
        if isinstance(rule, Pass):
            (stages[-1] if stages else lead).append(node)
        elif reason := why_no_root(rule):
            return f'{rule!r} at "{node.name}" has no root: {reason}'
        else:
            stages.append([node])
    return (lead, stages) if stages else "no rule of it divides"


@value
class _Run:
    """A chain in exact arithmetic. Stages are counted from the input; each is a layer with roots and what passes."""

    rules: Mapping[str, Rule]
    stages: Sequence[Sequence[Node]]
    target: Target
    reading: Reading
    roots: Mapping[str, Array]
    below_relu: frozenset[str]

    def at_outputs(self, i: int, a: Array) -> Array:
        """R^l of the outputs of stage i's layer, as a function of its inputs `a` (points, ...)."""
        first, *passing = self.stages[i]
        values = [first.layer.forward(a)]
        for node in passing:
            values.append(node.layer.forward(values[-1]))
        if i + 1 < len(self.stages):
            R, _ = self.at_inputs(i + 1, values[-1])
        else:
            R = repeated(self.target, len(a)).start(values[-1])
        for node, came in zip(reversed(passing), reversed(values[:-1]), strict=True):
            ((R,), _) = self.rules[node.name].back(node.layer, [came], R)
        return R

    def at_inputs(self, i: int, a: Array) -> tuple[Array, Array]:
        """R^(l-1) of the inputs `a` (points, ...) of stage i's layer; and for each point what is left at the roots."""
        node = self.stages[i][0]
        rule, count, inputs = self.rules[node.name], len(a), a[0].size
        linear, _ = rule.linear_map(node.layer, [a])
        parts = Denominators.of(linear, rule, a)
        on = parts.z > 0 if node.name in self.below_relu else parts.z != 0
        if i + 1 == len(self.stages):
            on = on & (self.at_outputs(i, a) != 0)
        if node.name not in self.roots:
            on = on & (parts.d != 0 if self.reading == "extended" else parts.n * sign(parts.z) > 0)
        # Each pair of a point and one of its neurons has a root of its own; only neurons that are on have one.
        at, k = on.reshape(count, on[0].size).nonzero()
        if not len(at):
            return zeros(a.shape, a), zeros((count,), a)
        a_k = a[at]
        if node.name in self.roots:
            root = inside = a_k * number(0, a) + like(self.roots[node.name], a)
        else:
            alone = zeros((len(at), on[0].size), a)
            alone[np.arange(len(at)), k] = number(1, a)
            one, _ = rule.linear_map(node.layer, [a_k])
            w, n = rows(one, rule, a_k, alone.reshape(len(at), *on.shape[1:]), [used[at] for used in parts.used])
            t = parts.step(self.reading).reshape(count, on[0].size)[at, k].reshape((-1,) + (1,) * (a.ndim - 1))
            way = t * direction(w, n)
            root, inside = a_k - way, a_k - way * number(INSIDE, a)
        around = np.repeat(inside.reshape(len(at), 1, inputs), inputs + 1, axis=1)
        around[:, np.arange(1, inputs + 1), np.arange(inputs)] += number(STEP, a)
        R = self.at_outputs(i, around.reshape(-1, *a.shape[1:])).reshape(len(at), inputs + 1, on[0].size)
        R = R[np.arange(len(at)), :, k]
        slopes = (R[:, 1:] - R[:, :1]) / number(STEP, a)
        terms = slopes.reshape(a_k.shape) * (a_k - root)
        R_in, left = zeros(a.shape, a), zeros((count,), a)
        for row, point in enumerate(at):
            R_in[point] += terms[row]
            left[point] += R[row, 0]
        return R_in, left


def apart(a: Array, b: Array) -> float:
    """sum |a - b| / sum |b|; infinite where b is 0 everywhere and a is not."""
    a, b = floats(a), floats(b)
    difference, whole = float(abs(a - b).sum()), float(abs(b).sum())
    if whole == 0:
        return math.inf if difference else 0.0
    return difference / whole


def beside_gradient_x_input(explanation: Explanation) -> float | str:
    """sum |R - x df/dx| / sum |x df/dx| of an explanation's input; or why there is no one gradient."""
    graph = explanation.graph
    assert graph is not None
    if len(graph.inputs) > 1 or len(explanation.targets) > 1:
        return "the network has several inputs or targets"
    ((_, target),) = explanation.targets.items()
    try:
        gap = apart(explanation.relevance, gradient_x_input(graph, explanation.activations[graph.inputs[0]], target))
    except (GraphError, NotExact) as error:
        return str(error)
    return "it is 0 everywhere, and the relevance is not" if math.isinf(gap) else gap
