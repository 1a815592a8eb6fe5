"""Inputs on which two hypotheses differ, found by trying."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..arrays import Array
from ..audit import forwards
from ..errors import LrpError
from ..explain import Arrays
from ..propagate import Rule
from .settings import Setting, Step, each
from .walks import Move, applied, arithmetics, distance, floats_of, walked

VISIBLE = 2.0**-16
"""Relevances tell hypotheses apart where they differ by more than this, relative to the greatest."""
SMALL = 2**20
"""Denominators are brought next to zero in networks of no more activations than this."""


def told_apart(
    setting: Setting, one: Sequence[Move], others: Sequence[Sequence[Move]]
) -> list[tuple[Arrays, float] | None]:
    """For each of the others an input on which its relevance differs from the one's, and by how much of the greatest.

    Larger and smaller inputs are tried, ones of other signs, with ties and zeros, and new ones; and then those that
    bring a denominator next to zero where the moves are, for that is where stabilizers differ.
    """
    found: list[tuple[Arrays, float] | None] = [None] * len(others)
    nodes = dict.fromkeys(name for moves in (one, *others) for _, where in moves for name in where)
    for x in itertools.chain(_inputs(setting.x), _near_zeros(setting, list(nodes))):
        if None not in found:
            break
        there = setting.with_input(x)
        first = _relevance(there, one)
        for i, moves in enumerate(others):
            if first is not None and found[i] is None and (other := _relevance(there, moves)) is not None:
                difference = _difference(first, other)
                if VISIBLE < difference < math.inf:
                    found[i] = x, difference
    return found


def _relevance(setting: Setting, moves: Sequence[Move]) -> list[Any] | None:
    """Of the inputs under moves; None if it cannot be had."""
    with np.errstate(all="ignore"):
        try:
            changed = _moved(setting, moves)
            if changed is None:
                return None
            walk = walked(arithmetics(changed)[0], {})
        except LrpError:
            return None
    return [floats_of(walk.found[name]) for name in setting.prepared.inputs]


def _difference(one: Sequence[Any], other: Sequence[Any]) -> float:
    """How far relevances of the inputs are apart, of the greatest; 0 where they vanish or are no numbers."""
    scales = [float(abs(R).max(initial=0.0)) for R in one]
    apart = [distance(R, S) / scale for R, S, scale in zip(one, other, scales, strict=True) if 0 < scale < math.inf]
    return max(apart, default=0.0)


def _moved(setting: Setting, moves: Sequence[Move]) -> Setting | None:
    """The setting of another input under moves; a start that is no other there is the target's own."""
    for move in moves:
        changed = applied(setting, [move])
        if changed is None and move[0].scope != "start":
            return None
        setting = changed or setting
    return setting


def _inputs(x: Arrays) -> Iterator[Arrays]:
    """Other inputs of the same shapes."""
    rng = np.random.default_rng(1)

    def scaled(factor: float, a: Array) -> Array:
        return a * a.dtype.type(factor)

    def rounded(step: float, a: Array) -> Array:
        return np.round(a / a.dtype.type(step)) * a.dtype.type(step)

    yield from (each(x, partial(scaled, factor)) for factor in (2.0**-20, 2.0**20, -1.0, 2.0**-10))
    yield from (each(x, partial(rounded, step)) for step in (1.0, 0.5))
    yield each(x, lambda a: a * 0)
    yield each(x, lambda a: a * (rng.random(a.shape) < 0.3))
    yield from (each(x, partial(_drawn, rng, scale)) for scale in (1.0, 1.0, 4.0, 0.25, 2.0**-10, 2.0**-20))
    for _ in range(4):
        yield each(x, lambda a: rng.integers(-2, 3, a.shape).astype(a.dtype))


def _drawn(rng: np.random.Generator, scale: float, a: Array) -> Array:
    return (rng.normal(size=a.shape) * scale).astype(a.dtype)


def _near_zeros(setting: Setting, nodes: Sequence[str]) -> Iterator[Arrays]:
    """Inputs on the way to new ones, where a denominator of a node has come next to zero; four for each node."""
    rng = np.random.default_rng(2)
    if sum(a.size for a in setting.activations.values()) > SMALL:
        return
    for name in nodes:
        met: list[int] = []
        positive, dealt_out = _signs(setting, name)
        for scale in (1.0, 4.0, 0.25) * 3:
            end = setting.with_input(each(setting.x, partial(_drawn, rng, scale)))
            positive_there, dealt_out_there = _signs(end, name)
            crossing = np.flatnonzero((positive != positive_there) & (dealt_out | dealt_out_there))
            for unit in [k for k in rng.permutation(crossing) if k not in met][: min(2, 4 - len(met))]:
                met.append(unit)
                yield _crossing(setting, end, name, unit, bool(positive[unit]))


def _signs(setting: Setting, name: str) -> tuple[Any, Any]:
    """Which of a node's denominators are positive, and for which there is relevance to deal out."""
    with np.errstate(all="ignore"):
        R = walked(setting, {}).found.get(name, np.zeros(1)).reshape(-1)
    positive = _denominators(setting, name) > 0
    return positive, np.tile(R != 0, len(positive) // len(R))


def _crossing(start: Setting, end: Setting, name: str, unit: int, positive: bool) -> Arrays:
    """The input, on the line between two, at which a denominator is last of the one sign, by halving."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if bool(_denominators(start.with_input(_between(start.x, end.x, middle)), name)[unit] > 0) is positive:
            low = middle
        else:
            high = middle
    return _between(start.x, end.x, low if positive else high)


def _between(x: Arrays, other: Arrays, t: float) -> Arrays:
    if isinstance(x, Mapping):
        assert isinstance(other, Mapping)
        return {name: _between(a, other[name], t) for name, a in x.items()}
    mixed: Array = (x + t * (other - x)).astype(x.dtype)
    return mixed


def _denominators(setting: Setting, name: str) -> Any:
    """All of a node's, of every share, without the stabilizer; none where its rule has no shares."""
    step: Rule = setting.rules[name]
    layer = setting.prepared[name].layer
    while isinstance(step, Step):
        layer, step = step.layer, step.rule
    inputs = [setting.activations[source] for source in setting.prepared[name].inputs]
    if not step.shares():
        return np.zeros(0)
    frozen, a = step.linear_map(layer.like(inputs[0]), inputs)
    shape = frozen.forward(a).shape
    return np.concatenate([np.broadcast_to(f.z, shape).reshape(-1) for f in forwards(frozen, step, a)])
