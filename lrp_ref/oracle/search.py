"""The search for variants that leave no difference."""

from __future__ import annotations

import itertools
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, floats, like, unit_roundoff
from ..errors import LrpError
from ..graph import Node
from ..text import Progress
from .answers import Apart, Cause, Diagnosis, Hypothesis
from .apart import told_apart
from .settings import Setting, Variant
from .walks import (
    AFFORDED,
    Move,
    State,
    Walk,
    applied,
    arithmetics,
    certified_errors,
    distance,
    floats_of,
    forked,
    misfit,
    our_error,
    walked,
)

MARGIN = 64
"""A deviation of more than so many times our own error is a difference."""
LEAST = 32
"""So many unit roundoffs of the greatest relevance are never a difference."""
REDUCED = 16
"""A hypothesis must lessen the deviation by this factor, however uncertain its own numbers are."""
CLEARLY = 2
"""A hypothesis so many times as far off as another, though both only by rounding, comes after it."""
LARGEST = 2**22
"""Pairs are searched where the maps from each tensor to the input have no more entries than this."""

MANY = 2**28
"""Where more numbers than this are to be computed for single nodes, the same at all nodes is tried before."""


class Search:
    """The search for moves that leave no difference."""

    def __init__(
        self, setting: Setting, known: Mapping[str, Any], variants: tuple[Variant, ...], certified: bool | None = None
    ) -> None:
        self.setting, self.known, self.variants = setting, known, variants
        self.order = {variant.name: i for i, variant in enumerate(variants)}
        self.left: list[str] = []
        self.groups: dict[Move, list[Move]] = {}
        self.wide: list[Move] = []
        self.bases: dict[tuple[Move, ...], tuple[Setting, Setting] | None] = {}
        self.alone = len(self.known) == 1
        self.capped = False
        self.errors, self.errors_by = self.own_errors(certified)
        start = self.state(())
        assert start is not None
        self.start, self.capped = start, True

    def own_errors(self, certified: bool | None) -> tuple[Mapping[str, float], str]:
        """How far our own numbers are from the exact ones at most, by tensor, and by what that is known."""
        own, _ = arithmetics(self.setting)
        with np.errstate(all="ignore"):
            walk = walked(own, self.known)
        if certified is False:
            return {}, "longer arithmetic"
        try:
            return certified_errors(walk, self.known, math.inf if certified else AFFORDED), "a certificate"
        except (LrpError, ImportError) as error:
            if certified:
                raise
            return {}, f"longer arithmetic ({error})"

    # states

    def settings(self, moves: tuple[Move, ...]) -> tuple[Setting, Setting] | None:
        """Both arithmetics under these moves. Those of the whole setting come first, for they change the network."""
        wide = tuple(move for move in moves if move[0].scope == "network")
        rest = [move for move in moves if move[0].scope != "network"]
        if wide not in self.bases:
            changed = applied(self.setting, wide)
            self.bases[wide] = None if changed is None else arithmetics(changed)
        base = self.bases[wide]
        if base is None:
            return None
        own, longer = applied(base[0], rest), applied(base[1], rest)
        return None if own is None or longer is None else (own, longer)

    def state(self, moves: tuple[Move, ...], before: State | None = None) -> State | None:
        """Walked and compared; None where a move does not apply or a rule cannot be computed."""
        try:
            with np.errstate(all="ignore"):
                both = self.settings(moves)
                if both is None:
                    return None
                own = walked(both[0], self.known, None if before is None else before.own)
                longer = walked(both[1], self.known, None if before is None else before.longer)
        except LrpError:
            return None
        deviation, bound, scale = {}, {}, {}
        for name in own.found:
            if name not in self.known:
                continue
            ours, far = own.found[name], longer.found[name]
            deviation[name] = distance(ours, self.known[name])
            scale[name] = float(abs(floats_of(far)).max(initial=0.0))
            u = unit_roundoff(ours)
            error = our_error(ours, far) if moves or name not in self.errors else self.errors[name]
            bound[name] = max(MARGIN * error, LEAST * u * scale[name])
            if self.capped and ours.dtype == self.start.own.found[name].dtype:
                bound[name] = min(bound[name], max(self.start.deviation[name] / REDUCED, self.start.bound[name]))
        return State(own, longer, deviation, bound, scale, misfit(own, longer, self.known, scale))

    def suspects(self, tensor: str, setting: Setting) -> tuple[str, ...]:
        """The nodes between a tensor and the relevances known above it, in the order of the walk."""
        readers, found, todo = setting.prepared.readers, set[str](), [tensor]
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

    def screen(self, state: State, tensor: str) -> float:
        """What may remain at the tensor for a hypothesis to be looked at closely."""
        return min(state.deviation[tensor] / REDUCED, 4 * self.alike(state, tensor))

    def alike(self, state: State, tensor: str) -> float:
        """How close numbers at the tensor must be to be taken for the same at first."""
        scale = max(state.scale[tensor], float(abs(self.known[tensor]).max(initial=0.0)))
        return max(2.0**10 * state.bound[tensor], 2.0**-30 * scale)

    def fits(self, moves: tuple[Move, ...], state: State, tensor: str) -> State | None:
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

    def at_tensor(self, base: tuple[Move, ...], state: State, tensor: str) -> list[tuple[Move, ...]]:
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
        self, base: Walk, tensor: str, nodes: Sequence[str], moves: Sequence[Move]
    ) -> Iterator[tuple[Move, Array]]:
        """Each move at one node with the relevance at the tensor under it."""
        own = base.setting
        most = max(math.prod(own.activations[name].shape) for name in (tensor, *nodes))
        chunk = max(1, LARGEST // max(1, most))
        for begin in range(0, len(moves), chunk):
            some = moves[begin : begin + chunk]
            steps = [(where, variant.change(own.at(where))) for variant, (where,) in some]
            for i, R in forked(base, self.known, tensor, nodes, steps).items():
                yield some[i], R

    def effect(self, moves: tuple[Move, ...], state: State, tensor: str) -> Array | None:
        """The relevance at the tensor under moves, from one walk; None if they do not apply."""
        wide = tuple(move for move in moves if move[0].scope == "network")
        base = self.bases.get(wide)
        try:
            changed = base and applied(base[0], [move for move in moves if move[0].scope != "network"])
            return walked(changed, self.known, state.own).found.get(tensor) if changed else None
        except LrpError:
            return None

    def near(self, R: Array | None, state: State, tensor: str) -> bool:
        """Whether relevance at the tensor passes for theirs at first."""
        return R is not None and distance(R, self.known[tensor]) <= self.screen(state, tensor)

    def grouped(self, effects: Sequence[tuple[Move, Array]], state: State, tensor: str) -> dict[Move, list[Move]]:
        """Moves that do the same, by the first of them; those that do nothing left out."""
        ours, same = state.own.found[tensor], self.alike(state, tensor)
        groups: dict[Move, list[Move]] = {}
        firsts: list[tuple[Move, Array]] = []
        for move, R in effects:
            if not distance(R, ours) > state.bound[tensor]:
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
        state: State,
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
        found: dict[Any, tuple[Any, float, Hypothesis]] = {}
        for moves in whole:
            state = self.state(moves)
            if state is None or state.off:
                continue
            fit = max((state.relative(name) for name in state.deviation), default=0.0)
            hypothesis = Hypothesis(self.causes(moves), fit)
            key = frozenset((cause.name, cause.nodes) for cause in hypothesis.causes)
            found.setdefault(key, (self.rank(moves), state.misfit, hypothesis))
        least = min((rank[0] for rank, _, _ in found.values()), default=0)
        simplest = [entry for entry in found.values() if entry[0][0] == least]
        nearest = min((off for _, off, _ in simplest), default=0.0)
        simplest.sort(key=lambda entry: (entry[1] > CLEARLY * nearest, entry[0]))
        return [hypothesis for _, _, hypothesis in simplest]

    def promising(self, state: State) -> bool:
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
        self, base: tuple[Move, ...], state: State, tensor: str, groups: Mapping[Move, Sequence[Move]]
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
                changed = applied(own, [move])
                if changed is not None:
                    walk = walked(changed, self.known, state.own)
                    here = [m for m in single if m[0].change(changed.at(m[1][0])) is not None]
                    effects = self.single_effects(walk, tensor, nodes, here)
                    tried = (((move, other), R) for other, R in effects)
                    found += self.checked(base, state, tensor, tried, groups)
                bar.advance(1)
        return found

    def crossed(
        self, state: State, tensor: str, nodes: Sequence[str], groups: Mapping[Move, Sequence[Move]]
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
            if len(move[1]) < 2 and (changed := applied(own, [move])) is not None:
                walks.append((move, walked(changed, self.known, base)))
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
            return Diagnosis(
                "agree", None, None, (), state.relative(worst), _relative(state, worst), self.errors_by, ()
            )
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
            self.errors_by,
            tuple(found),
            told,
            tuple(self.left),
        )

    def apart(self, found: Sequence[Hypothesis]) -> tuple[Apart, ...]:
        """For each of the first other names an input on which it differs from the first, if one is found."""
        others: dict[tuple[str, ...], Hypothesis] = {}
        for other in found[1:]:
            if other.names != found[0].names and len(others) < 4:
                others.setdefault(other.names, other)
        if not others:
            return ()
        told = told_apart(self.setting, self.moves(found[0]), list(map(self.moves, others.values())))
        return tuple(Apart(found[0], other, *one) for other, one in zip(others.values(), told, strict=True) if one)

    def moves(self, hypothesis: Hypothesis) -> list[Move]:
        """The moves of its causes, those of the whole setting first."""
        by_name = {variant.name: variant for variant in self.variants}
        moves = [(by_name[cause.name], cause.nodes) for cause in hypothesis.causes]
        return sorted(moves, key=lambda move: move[0].scope != "network")


def _names(moves: Sequence[Move]) -> tuple[str, ...]:
    return tuple(sorted({variant.name for variant, _ in moves}))


def _relative(state: State, name: str) -> float:
    return state.bound[name] / (state.scale[name] or 1.0)


def _at(walk: Walk, known: Mapping[str, Any], name: str) -> Array:
    """The relevance that a node was given."""
    return like(known[name], walk.found[name]) if name in known else walk.found[name]
