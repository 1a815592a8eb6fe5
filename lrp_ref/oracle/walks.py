"""Relevance on its way down, where what another framework has at some tensors is known: ours beside theirs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import Array, like, to_host
from ..composites import Composite
from ..errors import ArithmeticMismatch, LrpError
from ..explain import Arrays, targets_of
from ..propagate import Rule
from ..values import value
from .certify import Work, certify
from .settings import Setting, Variant, each

Move = tuple[Variant, tuple[str, ...]]
"""A variant and the nodes where it is; no nodes for one of the start or of the whole setting."""


AFFORDED = 10**8
"""Multiplications of a certificate that is made unasked: it takes about a second."""


def our_error(ours: Array, longer: Array) -> float:
    """How far our own numbers may be from the exact ones: here, from those of longer arithmetic."""
    return float(abs(floats_of(ours) - floats_of(longer)).max(initial=0.0))


def certified_errors(walk: Walk, known: Mapping[str, Any], most: float) -> dict[str, float]:
    """How far our own numbers are from the exact ones at most, where theirs are known and ours are numbers.

    Raises LrpError where it takes more than `most` multiplications, or where a kink stays undecided.
    """
    own, rules = walk.setting, Composite(walk.setting.composite.cases)
    takes = Work.of(own.prepared, own.x, rules)[0].total()
    if takes > most:
        raise LrpError(f"a certificate would take {takes:.1e} multiplications: certified=True makes it")
    given = {name: known[name] for name in known if name in walk.found}
    certificate = certify(own.prepared, own.x, rules, own.target, given=given, keep="all", engine="balls")
    errors = {name: float(certificate.bound(walk.found[name], name).max(initial=0.0)) for name in given}
    return {name: error for name, error in errors.items() if math.isfinite(error)}


def floats_of(a: Array) -> Any:
    """An array on the host, in longdouble."""
    return np.asarray(to_host(a), dtype=np.longdouble)


def char_of(x: Arrays) -> str:
    """The letter of its dtype."""
    first: Any = next(iter(x.values())) if isinstance(x, Mapping) else x
    return str(first.dtype.char)


@value
class Walk:
    """What our steps say of each tensor, given the relevances known above it."""

    setting: Setting
    found: Mapping[str, Array]
    sent: Mapping[str, tuple[Array, ...]]


def walked(setting: Setting, known: Mapping[str, Any], before: Walk | None = None) -> Walk:
    """Relevance from the top; where theirs is known, it is ours that is compared, and theirs that goes on.

    Of `before`, a walk that differs only in some steps, everything is taken over that these do not change.
    """
    graph, activations = setting.prepared, setting.activations
    if before is not None and (before.setting.prepared is not graph or before.setting.target is not setting.target):
        before = None
    start = {}
    if before is None:
        start = {
            name: goal.start(activations[name]) for name, goal in targets_of(graph, activations, setting.target).items()
        }
    readers = graph.readers
    found: dict[str, Array] = {}
    sent: dict[str, tuple[Array, ...]] = {}
    changed: set[str] = set()
    for name in (*(node.name for node in reversed(graph.nodes)), *graph.inputs):
        if before is not None and not any(node.name in changed for node, _ in readers[name]):
            if name not in before.found:
                continue
            R = found[name] = before.found[name]
            moved = False
        else:
            parts = [sent[node.name][i] for node, i in reversed(readers[name]) if node.name in sent]
            if before is not None and name in before.setting.prepared.outputs:
                goals = targets_of(graph, activations, setting.target)
                parts += [goals[name].start(activations[name])] if name in goals else []
            elif name in start:
                parts.append(start[name])
            if not parts:
                continue
            R = found[name] = sum(parts[1:], start=parts[0])
            moved = True
        if name in graph.inputs:
            continue
        node, rule = graph[name], setting.rules[name]
        same = before is not None and before.setting.rules[name] is rule and (not moved or name in known)
        if same:
            assert before is not None
            sent[name] = before.sent[name]
            continue
        if name in known:
            R = like(known[name], activations[name])
        with np.errstate(all="ignore"):
            sent[name] = rule.back(node.layer, [activations[source] for source in node.inputs], R)[0]
        changed.add(name)
    return Walk(setting, found, sent)


def forked(
    base: Walk, known: Mapping[str, Any], tensor: str, nodes: Sequence[str], steps: Sequence[tuple[str, Rule]]
) -> dict[int, Array]:
    """The relevance at a tensor under each of some steps alone, all in one walk over the nodes between.

    Rules are linear in the relevance, sample by sample: the walks are stacked along the batch. Those that have not
    parted yet are the first row.
    """
    setting, graph, activations = base.setting, base.setting.prepared, base.setting.activations
    readers, batch, parted = graph.readers, len(activations[tensor]), list[int]()
    stacks: dict[str, tuple[Array, ...]] = {}

    def came(name: str) -> Array:
        parts = [stacks[node.name][i] for node, i in reversed(readers[name]) if node.name in stacks]
        if not parts or name in graph.outputs:
            parted_from = (base.sent[n.name][i] for n, i in reversed(readers[name]) if n.name in stacks)
            parts.append(base.found[name] - sum(parted_from, 0))
        rows = max(len(part) for part in parts)
        return sum(_filled(part, rows, batch) for part in parts)

    with np.errstate(all="ignore"):
        for name in nodes:
            node, inputs = graph[name], [activations[source] for source in graph[name].inputs]
            R = like(known[name], activations[name]) if name in known else came(name)
            tiled = [np.concatenate([a] * (len(R) // batch)) for a in inputs]
            sent = setting.rules[name].back(node.layer, tiled, R)[0]
            rows = [(1 + len(parted)) * batch]
            stack = [[_filled(part, rows[0], batch)] for part in sent]
            for i, (where, step) in enumerate(steps):
                if where != name:
                    continue
                try:
                    messages = step.back(node.layer, inputs, R[:batch])[0]
                except LrpError:
                    continue
                parted.append(i)
                for parts, message in zip(stack, messages, strict=True):
                    parts.append(message)
            stacks[name] = tuple(np.concatenate(parts) for parts in stack)
        R = came(tensor)
    return {i: R[(row + 1) * batch : (row + 2) * batch] for row, i in enumerate(parted)}


def _filled(stack: Array, rows: int, batch: int) -> Array:
    """A stack with the first row again for those that parted later."""
    missing = (rows - len(stack)) // batch
    return np.concatenate([stack, *[stack[:batch]] * missing]) if missing else stack


@value
class State:
    """A setting walked in its own arithmetic and in longer one, and compared with theirs."""

    own: Walk
    longer: Walk
    deviation: Mapping[str, float]
    """By tensor; infinite where numbers are none."""
    bound: Mapping[str, float]
    scale: Mapping[str, float]
    misfit: float
    """That of :func:`misfit`."""

    @cached_property
    def off(self) -> tuple[str, ...]:
        """Where theirs leaves ours, from the top."""
        return tuple(name for name in self.deviation if not self.deviation[name] <= self.bound[name])

    def relative(self, name: str) -> float:
        """The deviation there, of the greatest relevance."""
        return self.deviation[name] / (self.scale[name] or 1.0)


def distance(ours: Any, theirs: Any) -> float:
    """The greatest difference of two entries; infinite where numbers are none."""
    difference = abs(floats_of(ours) - floats_of(theirs))
    greatest = float(difference.max(initial=0.0))
    return greatest if math.isfinite(greatest) else math.inf


def misfit(own: Walk, longer: Walk, known: Mapping[str, Any], scale: Mapping[str, float]) -> float:
    """The root mean square, over all entries, of theirs less the longer arithmetic's, each over its tensor's scale.

    Where the longer one is the own one at another input, the own one is nearer.
    """
    squares, entries = 0.0, 0
    for name in scale:
        ours, far = own.found[name], longer.found[name]
        nearer = ours if far.dtype == ours.dtype else far
        squares += float(np.square((floats_of(nearer) - floats_of(known[name])) / (scale[name] or 1.0)).sum())
        entries += ours.size
    return math.sqrt(squares / max(1, entries))


def in_arithmetic(setting: Setting, char: str) -> Setting:
    """The setting with its input in another arithmetic."""
    return dataclasses.replace(setting, x=each(setting.x, lambda a: a.astype(char)), dtype=None)


def arithmetics(setting: Setting) -> tuple[Setting, Setting]:
    """The setting in its own arithmetic, and in longer one.

    Where a layer lacks the longer one, as GELU does, it is the own one at an input greater by a roundoff.
    """
    own = "f" if setting.dtype == "float32" else char_of(setting.x)
    own_setting = setting if setting.dtype is None else in_arithmetic(setting, own)
    longer = in_arithmetic(setting, "d" if own == "f" else "g")
    try:
        _ = longer.activations
    except ArithmeticMismatch:
        more = np.ones((), own) + np.finfo(own).eps
        longer = dataclasses.replace(own_setting, x=each(own_setting.x, lambda a: a * more))
    return own_setting, longer


def applied(setting: Setting, moves: Sequence[Move]) -> Setting | None:
    """The setting with these variants; None where one of them does not apply."""
    for variant, nodes in moves:
        if variant.scope != "node":
            changed = variant.everywhere(setting)
            if changed is None:
                return None
            setting = changed
            continue
        steps = {name: variant.change(setting.at(name)) for name in nodes if name in setting.rules}
        if not steps or any(step is None for step in steps.values()):
            return None
        setting = setting.with_steps(steps)
    return setting
