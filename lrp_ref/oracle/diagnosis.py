"""diagnose(): where another framework's relevance leaves ours, and which variant of the catalogue gives its numbers."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..arrays import Array, floats, is_exact, like, to_host, unit_roundoff
from ..composites import Composite
from ..errors import GraphError, LrpError, ShapeError
from ..explain import Arrays, targets_of
from ..graph import Graph, Node
from ..propagate import Rule
from ..text import Progress, near
from ..values import value
from .variants import CATALOGUE, Setting, Variant

MARGIN = 64
"""A deviation of more than so many times our own error is a difference."""
LEAST = 32
"""So many unit roundoffs of the greatest relevance are never a difference."""
REDUCED = 16
"""A hypothesis must lessen the deviation by this factor, however uncertain its own numbers are."""
LARGEST = 2**22
"""Pairs are searched where the maps from each tensor to the input have no more entries than this."""

MANY = 2**28
"""Where more numbers than this are to be computed for single nodes, the same at all nodes is tried before."""

Move = tuple[Variant, tuple[str, ...]]
"""A variant and the nodes where it is; no nodes for one of the start or of the whole setting."""


# --- what is answered ---------------------------------------------------------------------------------------------


@value
class Cause:
    """A variant of the catalogue, and where."""

    name: str
    says: str
    who: tuple[str, ...]
    nodes: tuple[str, ...]
    """Where it is; empty for one of the start or of the whole setting."""
    everywhere: bool
    """Whether these are all nodes where it applies."""

    def __str__(self) -> str:
        place = f" at {', '.join(self.nodes)}" if self.nodes else ""
        return f"{self.name}{place}{', wherever it applies' if self.everywhere and self.nodes else ''}"


@value
class Hypothesis:
    """Causes that together give the other framework's numbers."""

    causes: tuple[Cause, ...]
    fit: float
    """The greatest deviation that remains, relative to the greatest relevance of its tensor."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the causes, sorted."""
        return tuple(sorted(cause.name for cause in self.causes))

    def __str__(self) -> str:
        return " and ".join(map(str, self.causes))


@value
class Apart:
    """An input on which two hypotheses differ."""

    first: Hypothesis
    other: Hypothesis
    x: Arrays
    difference: float
    """How far apart they are there, relative to the greatest relevance of the input."""


@value
class Diagnosis:
    """What :func:`diagnose` found; prints as a few lines."""

    verdict: Literal["agree", "explained", "unknown"]
    tensor: str | None
    """The node or input, from the top, at whose output the relevance first differs; None on agreement."""
    node: str | None
    """The node whose step is at fault, the first of them; None on agreement, if it is the start, and if unknown."""
    suspects: tuple[str, ...]
    """The nodes between that tensor and the relevances that are known above it."""
    deviation: float
    """How far theirs is from ours there, relative to the greatest relevance; the greatest anywhere on agreement."""
    bound: float
    """What would still be agreement there."""
    hypotheses: tuple[Hypothesis, ...]
    """Those that give their numbers, the best first."""
    apart: tuple[Apart, ...] = ()
    """For the other hypotheses an input that tells them from the first, where one was found."""
    left: tuple[str, ...] = ()
    """What was not searched, and why."""

    @property
    def ambiguous(self) -> bool:
        """Whether several hypotheses with different causes give the same numbers."""
        return len({hypothesis.names for hypothesis in self.hypotheses}) > 1

    @property
    def answer(self) -> Hypothesis | None:
        """The first hypothesis."""
        return self.hypotheses[0] if self.hypotheses else None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the inputs that tell hypotheses apart, as JSON can hold it."""
        return {
            "verdict": self.verdict,
            "tensor": self.tensor,
            "node": self.node,
            "suspects": list(self.suspects),
            "deviation": self.deviation,
            "bound": self.bound,
            "ambiguous": self.ambiguous,
            "hypotheses": [
                {
                    "fit": hypothesis.fit,
                    "causes": [
                        {**_plain(cause), "who": list(cause.who), "nodes": list(cause.nodes)}
                        for cause in hypothesis.causes
                    ],
                }
                for hypothesis in self.hypotheses
            ],
            "apart": [{"other": list(apart.other.names), "difference": apart.difference} for apart in self.apart],
            "left": list(self.left),
        }

    def __str__(self) -> str:
        if self.verdict == "agree":
            return f"agree: {self.deviation:.1e} of max|R| at most, {self.bound:.1e} is rounding"
        lines = [f'differ: first at the relevance of "{self.tensor}", by {self.deviation:.1e} of max|R|']
        lines[0] += f" ({self.bound:.1e} would be rounding)"
        if self.answer is None:
            lines.append(f"unknown: nothing in the catalogue gives these numbers at {', '.join(self.suspects)}")
        else:
            lines.append(f"because: {self.answer}; what remains is {self.answer.fit:.1e} of max|R|")
            for cause in self.answer.causes:
                lines.append(f"  {cause.name}: {cause.says}; so does {', '.join(cause.who)}")
            if self.ambiguous:
                lines.append("ambiguous: these numbers do not tell it from")
            elif len(self.hypotheses) > 1:
                lines.append("the same elsewhere would give these numbers too:")
            for other in self.hypotheses[1:]:
                told = next((a for a in self.apart if a.other == other), None)
                how = f" (an input was found on which they differ by {told.difference:.1e})" if told else ""
                lines.append(f"  {other}{how}")
        return "\n".join([*lines, *(f"not searched: {what}" for what in self.left)])


def _plain(cause: Cause) -> dict[str, Any]:
    return {field.name: getattr(cause, field.name) for field in dataclasses.fields(cause)}


# --- diagnose -----------------------------------------------------------------------------------------------------


def diagnose(
    graph: Graph,
    x: Arrays,
    composite: Composite | Rule,
    target: Any = None,
    theirs: Arrays | None = None,
    layers: Mapping[str, Array] | None = None,
    *,
    variants: Sequence[Variant] = CATALOGUE,
) -> Diagnosis:
    """Where another framework's relevance leaves ours, and which variants give its numbers.

    Where their relevance is known at several nodes, each node is judged by itself: our rule is started from their
    relevance at its output and compared with theirs at its inputs. With that of the input alone, combinations are
    searched: single variants, the same at all nodes, then pairs.

    Parameters
    ----------
    graph, x, composite, target : as for :func:`lrp_ref.explain`; x in float32 or float64
    theirs : their relevance of the input, an array of its shape; or a mapping of nodes and inputs to their
        relevance at the node's output
    layers : the same mapping, given beside the input's
    variants : the catalogue searched; :func:`of_statistics` has more for batch norms

    Returns
    -------
    Diagnosis
        A difference is more than 64 times our own error, and more than 32 unit roundoffs of max|R|, at that node and
        precision: float32 if x or their arrays are float32.

    Raises
    ------
    GraphError, ShapeError
        for names that the graph does not have, arrays of another shape, and nothing to compare.
    """
    setting = Setting.of(graph, _in_floats(x), composite, target)
    known = _checked(setting, theirs, layers or {})
    if all(R.dtype == np.float32 for R in known.values()) and setting.dtype is None and _char(setting.x) == "d":
        setting = dataclasses.replace(setting, dtype="float32")
    known = {name: R.astype(np.float64) for name, R in known.items()}
    return _Search(setting, known, tuple(variants)).diagnosis()


def our_error(ours: Array, longer: Array) -> float:
    """How far our own numbers may be from the exact ones: here, from those of longer arithmetic."""
    return float(abs(floats_of(ours) - floats_of(longer)).max(initial=0.0))


def floats_of(a: Array) -> Any:
    """An array on the host, in longdouble."""
    return np.asarray(to_host(a), dtype=np.longdouble)


def _in_floats(x: Arrays) -> Arrays:
    if isinstance(x, Mapping):
        return {name: floats(a) if is_exact(a) else a for name, a in x.items()}
    return floats(x) if is_exact(x) else x


def _char(x: Arrays) -> str:
    first: Any = next(iter(x.values())) if isinstance(x, Mapping) else x
    return str(first.dtype.char)


def _checked(setting: Setting, theirs: Arrays | None, layers: Mapping[str, Array]) -> dict[str, Any]:
    """Their relevances by the names of the canonized graph, or of the graph itself where those are not."""
    graph, raw = setting.prepared, setting.graph
    given: dict[str, Any] = dict(theirs) if isinstance(theirs, Mapping) else {}
    if theirs is not None and not isinstance(theirs, Mapping):
        if len(graph.inputs) > 1:
            raise GraphError(f"theirs: the graph has the inputs {list(graph.inputs)}: give a dict by name")
        given[graph.inputs[0]] = theirs
    given.update(layers)
    if not given:
        raise GraphError("theirs: give their relevance of the input, or of some nodes")
    names = {*graph.inputs, *(node.name for node in graph.nodes)}
    others = {node.name for node in raw.nodes}
    known = {}
    for name, R in given.items():
        resolved = graph.resolve(name)
        if resolved not in names and raw.resolve(name) not in others:
            raise GraphError(f'theirs: no node or input "{name}"{near(name, sorted(names))}')
        host = np.asarray(to_host(R))
        if resolved in names and host.shape != tuple(setting.activations[resolved].shape):
            raise ShapeError(
                f'theirs: the relevance at "{name}" has shape {host.shape}, need {setting.activations[resolved].shape}'
            )
        if host.dtype.kind not in "fiu":
            host = floats(R)
        known[resolved if resolved in names else name] = host
    return known


# --- walks --------------------------------------------------------------------------------------------------------


@value
class _Walk:
    """What our steps say of each tensor, given the relevances known above it."""

    setting: Setting
    found: Mapping[str, Array]
    sent: Mapping[str, tuple[Array, ...]]


def _walk(setting: Setting, known: Mapping[str, Any], before: _Walk | None = None) -> _Walk:
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
    readers = _readers(graph)
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
            parts = [sent[node.name][i] for node, i in readers[name] if node.name in sent]
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
    return _Walk(setting, found, sent)


def _forked(
    base: _Walk, known: Mapping[str, Any], tensor: str, nodes: Sequence[str], steps: Sequence[tuple[str, Rule]]
) -> dict[int, Array]:
    """The relevance at a tensor under each of some steps alone, all in one walk over the nodes between.

    Rules are linear in the relevance, sample by sample: the walks are stacked along the batch. Those that have not
    parted yet are the first row.
    """
    setting, graph, activations = base.setting, base.setting.prepared, base.setting.activations
    readers, batch, parted = _readers(graph), len(activations[tensor]), list[int]()
    stacks: dict[str, tuple[Array, ...]] = {}

    def came(name: str) -> Array:
        parts = [stacks[node.name][i] for node, i in readers[name] if node.name in stacks]
        if not parts or name in graph.outputs:
            parts.append(
                base.found[name] - sum((base.sent[n.name][i] for n, i in readers[name] if n.name in stacks), 0)
            )
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


def _readers(graph: Graph) -> Mapping[str, list[tuple[Node, int]]]:
    """For each tensor the nodes that read it, and as which of their inputs; kept with the graph."""
    kept: Mapping[str, list[tuple[Node, int]]] | None = graph.__dict__.get("_read_by")
    if kept is not None:
        return kept
    readers: dict[str, list[tuple[Node, int]]] = {n: [] for n in (*graph.inputs, *(node.name for node in graph.nodes))}
    for node in reversed(graph.nodes):
        for i, source in enumerate(node.inputs):
            readers[source].append((node, i))
    graph.__dict__["_read_by"] = readers
    return readers


@value
class _State:
    """A setting walked in its own arithmetic and in longer one, and compared with theirs."""

    own: _Walk
    longer: _Walk
    deviation: Mapping[str, float]
    """By tensor; infinite where numbers are none."""
    bound: Mapping[str, float]
    scale: Mapping[str, float]

    @cached_property
    def off(self) -> tuple[str, ...]:
        """Where theirs leaves ours, from the top."""
        return tuple(name for name in self.deviation if not self.deviation[name] <= self.bound[name])

    def relative(self, name: str) -> float:
        """The deviation there, of the greatest relevance."""
        return self.deviation[name] / (self.scale[name] or 1.0)


def _deviation(ours: Any, theirs: Any) -> float:
    difference = abs(floats_of(ours) - floats_of(theirs))
    greatest = float(difference.max(initial=0.0))
    return greatest if math.isfinite(greatest) else math.inf


def _in(setting: Setting, char: str) -> Setting:
    """The setting with its input in another arithmetic."""
    x: Any = setting.x
    cast: Any = {n: a.astype(char) for n, a in x.items()} if isinstance(x, Mapping) else x.astype(char)
    return dataclasses.replace(setting, x=cast, dtype=None)


def _arithmetics(setting: Setting) -> tuple[Setting, Setting]:
    """The setting in its own arithmetic, and in longer one.

    Where a layer lacks the longer one, as GELU does, it is the own one at an input greater by a roundoff.
    """
    own = "f" if setting.dtype == "float32" else _char(setting.x)
    own_setting = setting if setting.dtype is None else _in(setting, own)
    longer = _in(setting, "d" if own == "f" else "g")
    try:
        _ = longer.activations
    except LrpError:
        x, more = own_setting.x, np.ones((), own) + np.finfo(own).eps
        moved: Any = {name: a * more for name, a in x.items()} if isinstance(x, Mapping) else x * more
        longer = dataclasses.replace(own_setting, x=moved)
    return own_setting, longer


def _applied(setting: Setting, moves: Sequence[Move]) -> Setting | None:
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


# --- the search ---------------------------------------------------------------------------------------------------


class _Search:
    """The search for moves that leave no difference."""

    def __init__(self, setting: Setting, known: Mapping[str, Any], variants: tuple[Variant, ...]) -> None:
        self.setting, self.known, self.variants = setting, known, variants
        self.order = {variant.name: i for i, variant in enumerate(variants)}
        self.left: list[str] = []
        self.groups: dict[Move, list[Move]] = {}
        self.wide: list[Move] = []
        self.bases: dict[tuple[Move, ...], tuple[Setting, Setting] | None] = {}
        self.alone = len(self.known) == 1
        self.capped = False
        start = self.state(())
        assert start is not None
        self.start, self.capped = start, True

    # states

    def settings(self, moves: tuple[Move, ...]) -> tuple[Setting, Setting] | None:
        """Both arithmetics under these moves. Those of the whole setting come first, for they change the network."""
        wide = tuple(move for move in moves if move[0].scope == "network")
        rest = [move for move in moves if move[0].scope != "network"]
        if wide not in self.bases:
            changed = _applied(self.setting, wide)
            self.bases[wide] = None if changed is None else _arithmetics(changed)
        base = self.bases[wide]
        if base is None:
            return None
        own, longer = _applied(base[0], rest), _applied(base[1], rest)
        return None if own is None or longer is None else (own, longer)

    def state(self, moves: tuple[Move, ...], before: _State | None = None) -> _State | None:
        """Walked and compared; None where a move does not apply or a rule cannot be computed."""
        try:
            with np.errstate(all="ignore"):
                both = self.settings(moves)
                if both is None:
                    return None
                own = _walk(both[0], self.known, None if before is None else before.own)
                longer = _walk(both[1], self.known, None if before is None else before.longer)
        except LrpError:
            return None
        deviation, bound, scale = {}, {}, {}
        for name in own.found:
            if name not in self.known:
                continue
            ours, far = own.found[name], longer.found[name]
            deviation[name] = _deviation(ours, self.known[name])
            scale[name] = float(abs(floats_of(far)).max(initial=0.0))
            u = unit_roundoff(ours)
            bound[name] = max(MARGIN * our_error(ours, far), LEAST * u * scale[name])
            if self.capped and ours.dtype == self.start.own.found[name].dtype:
                bound[name] = min(bound[name], max(self.start.deviation[name] / REDUCED, self.start.bound[name]))
        return _State(own, longer, deviation, bound, scale)

    def suspects(self, tensor: str, setting: Setting) -> tuple[str, ...]:
        """The nodes between a tensor and the relevances known above it, in the order of the walk."""
        readers, found, todo = _readers(setting.prepared), set[str](), [tensor]
        while todo:
            for node, _ in readers[todo.pop()]:
                if node.name not in found:
                    found.add(node.name)
                    if node.name not in self.known:
                        todo.append(node.name)
        return tuple(node.name for node in reversed(setting.prepared.nodes) if node.name in found)

    # moves

    def singles(self, setting: Setting, nodes: Sequence[str]) -> Iterator[Move]:
        """Every variant at one of the nodes."""
        for name in nodes:
            step = setting.at(name)
            for variant in self.variants:
                if variant.scope == "node" and variant.change(step) is not None:
                    yield variant, (name,)

    def repeated(self, setting: Setting, nodes: Sequence[str]) -> Iterator[Move]:
        """Every variant at all of the nodes where it applies, if these are several."""
        for variant in self.variants:
            if variant.scope == "node":
                where = tuple(name for name in nodes if variant.change(setting.at(name)) is not None)
                if len(where) > 1:
                    yield variant, where

    def of_start(self, tensor: str, setting: Setting, nodes: Sequence[str]) -> Iterator[Move]:
        """The starts, where no relevance is known between start and tensor."""
        outputs = set(setting.prepared.outputs)
        if tensor in outputs or any(name in outputs and name not in self.known for name in nodes):
            yield from ((variant, ()) for variant in self.variants if variant.scope == "start")

    def of_network(self) -> list[Move]:
        """The variants of the whole setting that apply."""
        moves: list[Move] = [(variant, ()) for variant in self.variants if variant.scope == "network"]
        return [move for move in moves if self.plausible(move) and self.settings((move,)) is not None]

    def plausible(self, move: Move) -> bool:
        """Numbers of float32 are numbers that float32 has."""
        changed = move[0].everywhere(self.setting)
        if changed is None or changed.dtype != "float32" or self.setting.dtype == "float32":
            return changed is not None
        return all(bool((R.astype(np.float32) == R).all()) for R in self.known.values())

    # fits

    def screen(self, state: _State, tensor: str) -> float:
        """What may remain at the tensor for a hypothesis to be looked at closely."""
        return min(state.deviation[tensor] / REDUCED, 4 * self.alike(state, tensor))

    def alike(self, state: _State, tensor: str) -> float:
        """How close numbers at the tensor must be to be taken for the same at first."""
        scale = max(state.scale[tensor], float(abs(self.known[tensor]).max(initial=0.0)))
        return max(2.0**10 * state.bound[tensor], 2.0**-30 * scale)

    def fits(self, moves: tuple[Move, ...], state: _State, tensor: str) -> _State | None:
        """The state under more moves, if they settle the tensor and disturb no other."""
        new = self.state(moves, state)
        if new is None or tensor not in new.deviation:
            return None
        settled = new.deviation[tensor] <= min(new.bound[tensor], state.deviation[tensor] / REDUCED)
        return new if settled and set(new.off) < set(state.off) else None

    def rank(self, moves: Sequence[Move]) -> tuple[int, int, list[int]]:
        """Fewer causes first, then fewer nodes, then as the catalogue has them."""
        names = {variant.name for variant, _ in moves}
        return len(names), len(moves), sorted(self.order[name] for name in names)

    def at_tensor(self, base: tuple[Move, ...], state: _State, tensor: str) -> list[tuple[Move, ...]]:
        """The moves that settle the first tensor that is off, the best first."""
        own = state.own.setting
        nodes = self.suspects(tensor, own)
        singles, starts = list(self.singles(own, nodes)), list(self.of_start(tensor, own, nodes))
        effects = []
        repeated = dict.fromkeys([*self.repeated(own, nodes), *(self.wide if base else ())])
        for move in (*starts, *repeated):
            if (R := self.effect((*base, move), state, tensor)) is not None:
                effects.append((move, R))
        if len(singles) * sum(own.activations[name].size for name in nodes) > MANY:
            found = self.checked(base, state, tensor, [((move,), R) for move, R in effects])
            if found:
                self.left.append(
                    f"single nodes, of the {len(nodes)} above {tensor!r}: one cause at all of them was found"
                )
                return found
        effects = [*self.single_effects(state.own, tensor, nodes, singles), *effects]
        groups = self.grouped(effects, state, tensor)
        found = self.checked(base, state, tensor, [((move,), R) for move, R in effects])
        if not base:
            self.groups, self.wide = groups, [move for group in groups.values() for move in group if len(move[1]) > 1]
        if not found and starts:
            both: list[tuple[Move, ...]] = list(itertools.permutations(starts, 2))
            tried = ((pair, self.effect(base + pair, state, tensor)) for pair in both)
            found = self.checked(base, state, tensor, tried)
        if not found and len(nodes) == 1:
            pairs = self.twice(own, nodes[0], {move: [move] for group in groups.values() for move in group})
            tried = ((pair, self.effect(base + pair, state, tensor)) for pair in pairs)
            found = self.checked(base, state, tensor, tried, groups)
        elif not found and not self.alone:
            found = self.pairs(base, state, tensor, groups)
        return found

    def single_effects(
        self, base: _Walk, tensor: str, nodes: Sequence[str], moves: Sequence[Move]
    ) -> Iterator[tuple[Move, Array]]:
        """Each move at one node with the relevance at the tensor under it."""
        own = base.setting
        most = max(math.prod(own.activations[name].shape) for name in (tensor, *nodes))
        chunk = max(1, LARGEST // max(1, most))
        for begin in range(0, len(moves), chunk):
            some = moves[begin : begin + chunk]
            steps = [(where, variant.change(own.at(where))) for variant, (where,) in some]
            for i, R in _forked(base, self.known, tensor, nodes, steps).items():
                yield some[i], R

    def effect(self, moves: tuple[Move, ...], state: _State, tensor: str) -> Array | None:
        """The relevance at the tensor under moves, from one walk; None if they do not apply."""
        wide = tuple(move for move in moves if move[0].scope == "network")
        base = self.bases.get(wide)
        try:
            changed = base and _applied(base[0], [move for move in moves if move[0].scope != "network"])
            return _walk(changed, self.known, state.own).found.get(tensor) if changed else None
        except LrpError:
            return None

    def near(self, R: Array | None, state: _State, tensor: str) -> bool:
        """Whether relevance at the tensor passes for theirs at first."""
        return R is not None and _deviation(R, self.known[tensor]) <= self.screen(state, tensor)

    def grouped(self, effects: Sequence[tuple[Move, Array]], state: _State, tensor: str) -> dict[Move, list[Move]]:
        """Moves that do the same, by the first of them; those that do nothing left out."""
        ours, same = state.own.found[tensor], self.alike(state, tensor)
        groups: dict[Move, list[Move]] = {}
        firsts: list[tuple[Move, Array]] = []
        for move, R in effects:
            if not _deviation(R, ours) > state.bound[tensor]:
                continue
            for first, other in firsts:
                if move[0].scope == first[0].scope and float(abs(R - other).max(initial=0.0)) <= same:
                    groups[first].append(move)
                    break
            else:
                firsts.append((move, R))
                groups[move] = [move]
        return groups

    def checked(
        self,
        base: tuple[Move, ...],
        state: _State,
        tensor: str,
        candidates: Iterable[tuple[tuple[Move, ...], Array | None]],
        groups: Mapping[Move, Sequence[Move]] | None = None,
    ) -> list[tuple[Move, ...]]:
        """Those that fit, and those like them, of moves with the relevance at the tensor under them."""
        groups = {} if groups is None else groups
        found: dict[tuple[Move, ...], tuple[Any, ...]] = {}
        for moves, R in candidates:
            if not self.near(R, state, tensor):
                continue
            alike = itertools.product(*(groups.get(move, (move,)) for move in moves))
            for others in itertools.chain([moves], itertools.islice(alike, 256)):
                if others not in found and (new := self.fits(base + others, state, tensor)) is not None:
                    found[others] = len(new.off), self.rank(others)
        return sorted(found, key=lambda moves: found[moves])

    def twice(self, setting: Setting, name: str, groups: Mapping[Move, Sequence[Move]]) -> list[tuple[Move, ...]]:
        """Two variants at the same node, in the order in which both apply."""
        here = [
            (variant, step) for variant, _ in self.at_node(name, groups) if (step := variant.change(setting.at(name)))
        ]
        pairs: list[tuple[Move, ...]] = []
        for (first, one), (second, other) in itertools.combinations(here, 2):
            for before, step, after, alone in ((first, one, second, other), (second, other, first, one)):
                both = after.change(step)
                if both is not None and not (both.rule == alone.rule and both.layer is alone.layer):
                    pairs.append(((before, (name,)), (after, (name,))))
                    break
        return pairs

    def at_node(self, name: str, groups: Mapping[Move, Sequence[Move]]) -> list[Move]:
        """The first of each group that is at the node."""
        return [
            next(m for m in group if m[1] == (name,))
            for group in groups.values()
            if any(m[1] == (name,) for m in group)
        ]

    # solutions

    def solve(self, base: tuple[Move, ...]) -> list[list[tuple[Move, ...]]] | None:
        """For each place that is off, from the top, the moves that settle it; None if one cannot be settled."""
        state = self.state(base)
        moves, sites = base, []
        while state is not None and state.off:
            found = self.at_tensor(moves, state, state.off[0])
            if not found:
                return None
            sites.append(found)
            moves = moves + found[0]
            state = self.state(moves, state)
        return None if state is None else sites

    def named_alike(self, base: tuple[Move, ...], sites: list[list[tuple[Move, ...]]]) -> list[tuple[Move, ...]]:
        """Whole hypotheses of the sites' moves: the names that explain most sites, and each site by another."""
        votes = Counter(name for site in sites for name in {_names(moves) for moves in site})
        sorted_sites = [sorted(site, key=lambda m: (-votes[_names(m)], self.rank(m))) for site in sites]
        first = [site[0] for site in sorted_sites]
        chosen = [first]
        every = [name for name, count in votes.items() if count == len(sites)]
        for name in every:  # one name for all sites
            chosen.append([next(m for m in site if _names(m) == name) for site in sorted_sites])
        for i, site in enumerate(sorted_sites):
            chosen += [[*first[:i], other, *first[i + 1 :]] for other in site[1:12]]
        for old, new in itertools.product({name for m in first for name in _names(m)}, {n for v in votes for n in v}):
            swapped = []  # one name for another, wherever it was chosen
            for site, moves in zip(sorted_sites, first, strict=True):
                names = tuple(sorted(new if name == old else name for name in _names(moves)))
                swapped.append(next((m for m in site if _names(m) == names), None))
            if None not in swapped:
                chosen.append([m for m in swapped if m is not None])
        return [base + tuple(itertools.chain(*parts)) for parts in chosen]

    def hypotheses(self) -> list[Hypothesis]:
        """All that give their numbers, the best first."""
        network = self.of_network()
        whole: dict[tuple[Move, ...], None] = {}

        def take(base: tuple[Move, ...]) -> None:
            sites = self.solve(base)
            if sites is not None:
                whole.update(dict.fromkeys(self.named_alike(base, sites) if sites else [base]))

        with Progress("hypotheses", 1 + len(network)) as bar:
            take(())
            bar.advance(1)
            simple = bool(whole) and min(self.rank(moves)[0] for moves in whole) == 1
            later = []
            for move in network:
                state = self.state((move,))
                if state is not None and (not state.off or (not simple and self.promising(state))):
                    take((move,))
                elif state is not None and not simple:
                    later.append(move)
                bar.advance(1)
            for move in later if not whole else ():
                take((move,))
            if not whole:
                for pair in itertools.combinations(network, 2):
                    state = self.state(pair)
                    if state is not None and not state.off:
                        whole[pair] = None
        if not whole and self.alone:
            whole.update(dict.fromkeys(self.pairs((), self.start, self.start.off[0], self.groups)))
        found: dict[Any, tuple[Any, Hypothesis]] = {}
        for moves in whole:
            state = self.state(moves)
            if state is None or state.off:
                continue
            fit = max((state.relative(name) for name in state.deviation), default=0.0)
            hypothesis = Hypothesis(self.causes(moves), fit)
            key = frozenset((cause.name, cause.nodes) for cause in hypothesis.causes)
            found.setdefault(key, (self.rank(moves), hypothesis))
        least = min((rank[0] for rank, _ in found.values()), default=0)
        ranked = sorted((entry for entry in found.values() if entry[0][0] == least), key=lambda entry: entry[0])
        return [hypothesis for _, hypothesis in ranked]

    def promising(self, state: _State) -> bool:
        """Whether a variant of the whole setting settles something, or whether that cannot be seen."""
        return self.alone or not set(self.start.off) <= set(state.off)

    def causes(self, moves: tuple[Move, ...]) -> tuple[Cause, ...]:
        """Moves of one name as one cause."""
        where: dict[str, list[str]] = {}
        variants = {}
        for variant, nodes in moves:
            where.setdefault(variant.name, []).extend(nodes)
            variants[variant.name] = variant
        causes, own = [], self.start.own.setting
        for name, places in where.items():
            variant = variants[name]
            order = [node.name for node in reversed(own.prepared.nodes) if node.name in places]
            everywhere = not order or set(order) == set(variant.nodes(own))
            causes.append(Cause(name, variant.says, variant.who, tuple(order), everywhere))
        return tuple(causes)

    # pairs, where only one tensor is known below

    def pairs(
        self, base: tuple[Move, ...], state: _State, tensor: str, groups: Mapping[Move, Sequence[Move]]
    ) -> list[tuple[Move, ...]]:
        """Two causes that together settle a tensor."""
        own = state.own.setting
        nodes = self.suspects(tensor, own)
        starts = [move for move in groups if not move[1]]
        repeated = [move for move in groups if len(move[1]) > 1]
        wide = [pair for pair in itertools.combinations([*starts, *repeated], 2) if any(move[1] for move in pair)]
        found: list[tuple[Move, ...]] = []
        with Progress("pairs", 2 + len(repeated)) as bar:
            for pairs in (wide, self.crossed(state, tensor, nodes, groups)):
                tried = ((pair, self.effect(base + pair, state, tensor)) for pair in pairs)
                found += self.checked(base, state, tensor, tried, groups)
                bar.advance(1)
            single = [move for move in groups if len(move[1]) == 1]
            for move in repeated:
                changed = _applied(own, [move])
                if changed is not None:
                    walk = _walk(changed, self.known, state.own)
                    here = [m for m in single if m[0].change(changed.at(m[1][0])) is not None]
                    effects = self.single_effects(walk, tensor, nodes, here)
                    tried = (((move, other), R) for other, R in effects)
                    found += self.checked(base, state, tensor, tried, groups)
                bar.advance(1)
        return found

    def crossed(
        self, state: _State, tensor: str, nodes: Sequence[str], groups: Mapping[Move, Sequence[Move]]
    ) -> list[tuple[Move, ...]]:
        """Pairs at two nodes, or at one, or of start and node, that may fit: by the linear maps to the tensor."""
        own = state.own.setting
        maps = self.maps(tensor, own, nodes)
        if maps is None:
            self.left.append("pairs of variants at single nodes, for the network is too large")
            return []
        base, goal, screen = state.own, floats(self.known[tensor]), self.screen(state, tensor)
        size = len(goal)
        walks = []
        for move in groups:
            if len(move[1]) < 2 and (changed := _applied(own, [move])) is not None:
                walks.append((move, _walk(changed, self.known, base)))
        order = {name: i for i, name in enumerate(nodes)}
        pairs: list[tuple[Move, ...]] = []
        for name in nodes:
            node, inputs = own.prepared[name], [own.activations[s] for s in own.prepared[name].inputs]

            def below(sent: Sequence[Array], was: Sequence[Array], node: Node = node) -> Array:
                parts = zip(node.inputs, sent, was, strict=True)
                return sum(self.through(maps[s], new - old, size) for s, new, old in parts if s in maps)

            above = [(m, w) for m, w in walks if not m[1] or order[m[1][0]] < order[name]]
            if above:
                R = np.concatenate([_at(w, self.known, name) for _, w in above])
                tiled = [np.concatenate([a] * len(above)) for a in inputs]
                remains = np.stack([goal - w.found[tensor] for _, w in above])
                was = [np.concatenate([w.sent[name][i] for _, w in above]) for i in range(len(inputs))]
                for move, _ in walks:
                    if move[1] != (name,):
                        continue
                    with np.errstate(all="ignore"):
                        delta = below(move[0].change(own.at(name)).back(node.layer, tiled, R)[0], was)
                    worst = abs(remains - delta).reshape(len(above), -1).max(axis=1)
                    pairs += [(above[i][0], move) for i in np.flatnonzero(worst <= screen)]
            came = _at(base, self.known, name)
            for first, second in self.twice(own, name, groups):
                step = second[0].change(first[0].change(own.at(name)))
                try:
                    with np.errstate(all="ignore"):
                        delta = below(step.back(node.layer, inputs, came)[0], base.sent[name])
                except LrpError:
                    continue
                if float(abs(goal - base.found[tensor] - delta).max()) <= screen:
                    pairs.append((first, second))
        return pairs

    def through(self, to: Array, change: Array, size: int) -> Array:
        """What a change of relevance at a tensor, (n * batch, ...), becomes below: (n, batch, ...)."""
        rows = change.reshape(-1, size, math.prod(change.shape[1:]))
        moved = np.matmul(rows.swapaxes(0, 1), to.swapaxes(0, 1)).swapaxes(0, 1)
        return moved.reshape(-1, *self.known_shape)

    def maps(self, tensor: str, own: Setting, nodes: Sequence[str]) -> Mapping[str, Array] | None:
        """For each tensor the linear map of its relevance to that of the tensor below: (units, batch, cells)."""
        goal = own.activations[tensor]
        batch, cells = len(goal), math.prod(goal.shape[1:])
        self.known_shape = goal.shape
        units = {name: math.prod(own.activations[name].shape[1:]) for name in (tensor, *nodes)}
        if max(units.values()) * batch * max(cells, *units.values()) > LARGEST:
            return None
        maps = {tensor: np.repeat(np.eye(cells, dtype=goal.dtype)[:, None], batch, axis=1)}
        for name in reversed(nodes):
            if name in self.known:
                continue
            node, shape = own.prepared[name], own.activations[name].shape[1:]
            each = np.repeat(np.eye(units[name], dtype=goal.dtype)[:, None], batch, axis=1).reshape(-1, *shape)
            tiled = [np.concatenate([own.activations[source]] * units[name]) for source in node.inputs]
            sent = own.rules[name].back(node.layer, tiled, each)[0]
            parts = [self.through(maps[s], R, batch) for s, R in zip(node.inputs, sent, strict=True) if s in maps]
            if parts:
                maps[name] = sum(parts[1:], start=parts[0]).reshape(units[name], batch, cells)
        return maps

    # the answer

    def diagnosis(self) -> Diagnosis:
        """Agreement, or the best hypotheses, or unknown."""
        state = self.start
        if not state.off:
            worst = max(state.deviation, key=state.relative)
            return Diagnosis("agree", None, None, (), state.relative(worst), _relative(state, worst), ())
        tensor = state.off[0]
        suspects = self.suspects(tensor, state.own.setting)
        with warnings.catch_warnings(action="ignore"):  # what our own walk warned of is not said of each hypothesis
            found = self.hypotheses() if math.isfinite(state.deviation[tensor]) else []
            told = self.apart(found)
        nodes = [name for hypothesis in found[:1] for cause in hypothesis.causes for name in cause.nodes]
        order = [node.name for node in reversed(state.own.setting.prepared.nodes)]
        node = min(nodes, key=order.index, default=suspects[0] if len(suspects) == 1 and not found else None)
        return Diagnosis(
            "explained" if found else "unknown",
            tensor,
            node,
            suspects,
            state.relative(tensor),
            _relative(state, tensor),
            tuple(found),
            told,
            tuple(self.left),
        )

    def apart(self, found: Sequence[Hypothesis]) -> tuple[Apart, ...]:
        """For each of the first other names an input on which it differs from the first, if one is found."""
        told, seen = [], {found[0].names} if found else set()
        for other in found[1:]:
            if other.names in seen or len(seen) > 4:
                continue
            seen.add(other.names)
            if (pair := self.told_apart(found[0], other)) is not None:
                told.append(pair)
        return tuple(told)

    def told_apart(self, first: Hypothesis, other: Hypothesis) -> Apart | None:
        """By trying inputs: larger and smaller, of other signs, with ties and zeros, and new ones."""
        for x in _inputs(self.setting.x):
            base = dataclasses.replace(self.setting, x=x)
            with np.errstate(all="ignore"):
                try:
                    settings = [self.elsewhere(base, hypothesis) for hypothesis in (first, other)]
                    if any(setting is None for setting in settings):
                        continue
                    walks = [_walk(_arithmetics(s)[0], {}) for s in settings if s is not None]
                except LrpError:
                    continue
            for name in base.prepared.inputs:
                one, two = (floats_of(walk.found[name]) for walk in walks)
                scale = float(abs(one).max(initial=0.0))
                difference = _deviation(one, two)
                if 0 < scale < math.inf and 2.0**-16 * scale < difference < math.inf:
                    return Apart(first, other, x, difference / scale)
        return None

    def elsewhere(self, setting: Setting, hypothesis: Hypothesis) -> Setting | None:
        """The setting of another input under a hypothesis; a start that is no other there is the target's own."""
        for move in self.moves(hypothesis):
            changed = _applied(setting, [move])
            if changed is None and move[0].scope != "start":
                return None
            setting = changed or setting
        return setting

    def moves(self, hypothesis: Hypothesis) -> list[Move]:
        """The moves of its causes, those of the whole setting first."""
        by_name = {variant.name: variant for variant in self.variants}
        moves = [(by_name[cause.name], cause.nodes) for cause in hypothesis.causes]
        return sorted(moves, key=lambda move: move[0].scope != "network")


def _names(moves: Sequence[Move]) -> tuple[str, ...]:
    return tuple(sorted({variant.name for variant, _ in moves}))


def _relative(state: _State, name: str) -> float:
    return state.bound[name] / (state.scale[name] or 1.0)


def _at(walk: _Walk, known: Mapping[str, Any], name: str) -> Array:
    """The relevance that a node was given."""
    return like(known[name], walk.found[name]) if name in known else walk.found[name]


def _inputs(x: Arrays) -> Iterator[Arrays]:
    """Other inputs of the same shapes."""
    rng = np.random.default_rng(1)

    def each(change: Any) -> Arrays:
        return {name: change(a) for name, a in x.items()} if isinstance(x, Mapping) else change(x)

    def drawn(a: Any, scale: float) -> Any:
        return (rng.normal(size=a.shape) * scale).astype(a.dtype)

    for factor in (2.0**-20, 2.0**20, -1.0, 2.0**-10):
        yield each(lambda a, f=factor: a * a.dtype.type(f))
    for step in (1.0, 0.5):
        yield each(lambda a, s=step: np.round(a / a.dtype.type(s)) * a.dtype.type(s))
    yield each(lambda a: a * 0)
    yield each(lambda a: a * (rng.random(a.shape) < 0.3))
    for scale in (1.0, 1.0, 4.0, 0.25, 2.0**-10, 2.0**-20):
        yield each(lambda a, s=scale: drawn(a, s))
    for _ in range(4):
        yield each(lambda a: rng.integers(-2, 3, a.shape).astype(a.dtype))
