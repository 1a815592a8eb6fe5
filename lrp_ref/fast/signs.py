"""Where a network can have no relevance, known before any number is."""

from __future__ import annotations

from collections.abc import Mapping

from ..arrays import negative, positive
from ..graph import Graph
from ..layers import Clip, Concat, ReLU, Wires
from ..propagate import Rule, keep
from ..rules import Pass
from . import pool, product


def dead(graph: Graph, rules: Mapping[str, Rule]) -> set[str]:
    """The nodes that have no relevance wherever their output is <= 0, whatever the numbers are.

    A rule whose contributions multiply a_j gives nothing to a_j = 0, and what a ReLU passes on is 0 where it is off.
    """
    none_at_0: dict[str, bool] = dict.fromkeys(graph.outputs, False)
    none_below: dict[str, bool] = dict.fromkeys(graph.outputs, False)
    for node in reversed(graph.nodes):
        at_0, below, rule = none_at_0.get(node.name, True), none_below.get(node.name, True), rules[node.name]
        layer = node.layer
        if type(rule) is Pass:
            rectified = type(layer) is ReLU or (type(layer) is Clip and layer.low == 0)
            if rectified or isinstance(layer, (Wires, Concat)):
                below = at_0 if rectified else below
            elif not pool.fits(layer):
                at_0 = below = False
        else:
            shares = rule.shares() if product.fits(rule) else ()
            at_0 = bool(shares) and all(term.x in _MULTIPLY for share in shares for term in share.terms)
            below = False
        for source in node.inputs:
            none_at_0[source] = none_at_0.get(source, True) and at_0
            none_below[source] = none_below.get(source, True) and below
    return {name for name, dead in none_below.items() if dead}


_MULTIPLY = (keep, positive, negative)
"""Terms that are 0 where the input is."""
