"""How much wider enclosures become on their way through a network: an estimate in floats, before balls are computed.

With p bits a ball is at first as wide as one rounding, 2^-p of its number. From there the widths follow the numbers: a
contraction adds up what its inputs have, by the magnitudes of its weights, a division what both have, each with a
rounding more. So one float64 pass with the widths in units of 2^-p tells how many bits will be lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, divide
from ..audit import forwards
from ..explain import targets_of
from ..graph import Graph, Node
from ..layers import ReLU
from ..propagate import Rule

Wide = tuple[Array, Array]
"""Numbers, and how wide their balls are."""


def bits_lost(graph: Graph, rules: Mapping[str, Rule], activations: Mapping[str, Array], target: Any) -> float:
    """log2 of the greatest width of the inputs' relevance over its greatest magnitude, in units of one rounding.

    activations : float64 arrays by the names of inputs and nodes
    """
    graph = graph.like(activations[graph.inputs[0]])
    wide: dict[str, Wide] = {name: (activations[name], np.zeros(activations[name].shape)) for name in graph.inputs}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            z = activations[node.name]
            wide[node.name] = z, _width(node, [wide[source] for source in node.inputs], z)
        goals = targets_of(graph, activations, target)
        relevance: dict[str, Wide] = {}
        for name, goal in goals.items():
            R = goal.start(wide[name][0])
            relevance[name] = R, np.where(R != 0, wide[name][1], 0)
        for node in reversed(graph.nodes):
            if node.name in relevance:
                parts = _back(
                    node, rules[node.name], [wide[source] for source in node.inputs], relevance.pop(node.name)
                )
                for source, (R, w) in zip(node.inputs, parts, strict=True):
                    old = relevance.get(source)
                    relevance[source] = (R, w) if old is None else (old[0] + R, old[1] + w)
        found = [relevance[name] for name in graph.inputs if name in relevance]
        widest = max((float(w.max(initial=0.0)) for _, w in found), default=0.0)
        greatest = max((float(abs(R).max(initial=0.0)) for R, _ in found), default=0.0)
        lost = float(np.log2(widest / greatest)) if greatest else 0.0
    return max(0.0, lost) if np.isfinite(lost) else 0.0


def _width(node: Node, inputs: Sequence[Wide], z: Array) -> Array:
    """Of the output z."""
    layer, numbers = node.layer, [a for a, _ in inputs]
    if layer.product:
        (u, of_u), (v, of_v) = inputs
        return abs(u) * of_v + abs(v) * of_u + abs(z)
    frozen = layer.frozen(*numbers)
    weight, _ = frozen.parameters(layer.join(*numbers))
    w = frozen.linear(layer.join(*(width for _, width in inputs)), abs(weight))
    return np.where(z == 0, 0, w) if isinstance(layer, ReLU) else w + abs(z)


def _back(node: Node, rule: Rule, inputs: Sequence[Wide], out: Wide) -> list[Wide]:
    layer, numbers, (R, of_R) = node.layer, [a for a, _ in inputs], out
    if not rule.only_shares:
        parts, widths = rule.back(layer, numbers, R)[0], rule.back(layer, numbers, of_R)[0]
        return [(part, abs(width) + abs(part)) for part, width in zip(parts, widths, strict=True)]
    frozen, a = rule.linear_map(layer, numbers)
    of_a = layer.join(*(width for _, width in inputs))
    R_in, of_R_in = np.zeros(a.shape), np.zeros(a.shape)
    for _, portion, x, w, _, z in forwards(frozen, rule, a):
        of_x = [np.where(x_t != 0, of_a, 0) for x_t in x]
        of_z = sum(frozen.linear(wide, abs(w_t)) for wide, w_t in zip(of_x, w, strict=True)) + abs(z)
        d = z + rule.stabilizer(z, rule.epsilon)
        s = divide(portion * R, d)
        of_s = divide(abs(portion) * of_R + abs(s) * of_z, abs(d)) + abs(s)
        for x_t, wide, w_t in zip(x, of_x, w, strict=True):
            c = frozen.adjoint(s, w_t, a.shape)
            of_c = frozen.adjoint(of_s, abs(w_t), a.shape) + abs(c)
            R_in = R_in + x_t * c
            of_R_in = of_R_in + abs(x_t) * of_c + abs(c) * wide
    shapes = [number.shape for number in numbers]
    return list(zip(layer.split(R_in, shapes), layer.split(of_R_in, shapes), strict=True))
