"""How far a case is from the nearest kink: a place where the relevance jumps, or the network bends."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from ...arrays import Array, exact, fractions, is_enclosed, ones
from ...audit import forwards
from ...explain import Explanation
from ...layers import (
    CELU,
    ELU,
    SELU,
    Clip,
    HardSigmoid,
    HardSwish,
    Layer,
    LeakyReLU,
    Linear,
    Near,
    PReLU,
    ReLU,
)
from ...layers.pool import MAX_POOLS, WindowSum
from ...propagate import Rule
from ..balls import lower

Kink = tuple[str, Fraction]
"""What kind it is, and how far away."""


def margin(explanation: Explanation) -> dict[str, Any] | None:
    """The least distance over all nodes that relevance passed; None where there is no kink at all.

    Distances are of the quantity that decides: an activation's input to its bend, a maximum to the next cell below it
    (and of both to where they count as near), a denominator to 0, with and without its stabilizer, z_k to 0 where its
    sign chooses a share. Denominators of outputs without relevance, or that no input feeds, do not count. Where numbers
    are only enclosed, a distance is a float64 that the exact one is not below.
    """
    graph = explanation.graph
    assert graph is not None
    nearest: tuple[Fraction, str, str] | None = None
    for node in graph.nodes:
        if node.name not in explanation.relevances:
            continue
        inputs = [explanation.activations[source] for source in node.inputs]
        rule, R = explanation.rules[node.name], explanation.relevances[node.name]
        kinks = [*_of_layer(node.layer, inputs)]
        if rule.shares():
            frozen, a = rule.linear_map(node.layer, inputs)
            kinks += _of_rule(frozen, rule, a, R)
        for kind, distance in kinks:
            if nearest is None or distance < nearest[0]:
                nearest = (distance, node.name, kind)
    if nearest is None:
        return None
    return {"distance": str(nearest[0]), "node": nearest[1], "kink": nearest[2]}


def _of_layer(layer: Layer, inputs: list[Array]) -> Iterator[Kink]:
    a = inputs[0]
    match layer:
        case ReLU() | LeakyReLU() | PReLU() | ELU() | SELU() | CELU():
            yield "activation", _least(abs(a))
        case Clip(low=low, high=high):
            for bound in (low, high):
                if bound is not None:
                    yield "activation", _least(abs(a - exact([bound])))
        case HardSigmoid(slope=slope, offset=offset):
            for bound in (0, 1):
                yield "activation", _least(abs(a - (bound - exact([offset])) / exact([slope])))
        case HardSwish():
            for bound in (-3, 3):
                yield "activation", _least(abs(a - bound))
        case _ if isinstance(layer, MAX_POOLS) and layer.frozen_as == "winner":
            yield from _of_maximum(layer, a)


def _of_maximum(pool: Any, a: Array) -> Iterator[Kink]:
    """From the winner of each window to the next cell, if it has one."""
    winner = pool.tangent(a)
    assert isinstance(winner, WindowSum)
    cells = fractions(winner.window.gather(a, winner.positions))
    real = winner.window.real(a, winner.positions)
    taps = cells.shape[2]
    for n in range(cells.shape[0]):
        for c in range(cells.shape[1]):
            window = cells[n, c].reshape(taps, -1)
            inside = real.reshape(taps, -1)
            for place in range(window.shape[1]):
                values = sorted(window[inside[:, place], place], reverse=True)
                if len(values) > 1:
                    yield "maximum", values[0] - values[1]
                if isinstance(pool.ties, Near):
                    slack = Fraction(pool.ties.rtol)
                    for value in values[1:]:
                        yield "maximum", abs(values[0] - value - slack * max(abs(value), abs(values[0])))


def _of_rule(frozen: Linear, rule: Rule, a: Array, R: Array) -> Iterator[Kink]:
    fed = frozen.linear(ones(a.shape, a), ones(frozen.parameters(a)[0].shape, a)) != 0
    for share, portion, *_, z in forwards(frozen, rule, a):
        e = rule.stabilizer(z, rule.epsilon)
        counts = fed & (portion * R != 0)
        if bool(counts.any()):
            yield "denominator", min(_least(abs(z + e)[counts]), _least(abs(z)[counts]))
        if callable(share.portion) and bool((fed & (R != 0)).any()):
            yield "sign", _least(abs(frozen.forward(a))[fed & (R != 0)])


def _least(distances: Array) -> Fraction:
    if is_enclosed(distances):
        return min(Fraction(max(0.0, lower(ball.arb))) for ball in distances.flat)
    values: list[Fraction] = fractions(distances).reshape(-1).tolist()
    return min(values)
