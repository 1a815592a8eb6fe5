"""A case computed: its relevance in exact arithmetic, and what the variants of the catalogue make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

from ...arrays import Array, exact, fractions, is_enclosed
from ...canonize import batch_norm_folded
from ...composites import Composite, as_composite
from ...errors import LrpError
from ...explain import Explanation, explain
from ...graph import Graph, given
from ...ledger import Ledger
from ...targets import StartRelevance, Target, logit, one
from ...values import value
from ..balls import balls, working
from ..settings import Setting, Variant
from ..variants import CATALOGUE, FIRST, SIZES, STARTS, of_statistics
from .cases import Case, conditions
from .margins import margin
from .networks import BATCH_NORMED, STATISTICS
from .numbers import float32, rounded, tensor, vector
from .spelled import FORMULAS, spelled_rule

MISTAKES = (
    "bounds padded", "kernel flipped", "weights transposed", "factor 2", "factor 1/2", "factor 1/4", "factor -1",
    "batch norm leaves its epsilon, 1e-05", "batch norm leaves its epsilon, 0.001", "identity rule after a ReLU",
    "start at 1 everywhere",
)  # fmt: skip
"""Variants that nobody means: a case says that it catches them, and gives no numbers for them."""

OTHERWISE = tuple(variant.name for variant in (*FIRST, *STARTS))
"""Variants of what a case says outright, the start and the rule of the first layer: it catches them, and gives no
numbers."""

NOT_TOLD = {"float32 arithmetic": "rounding is no fault of a formula: consumers compare within a tolerance"}
"""Variants that no case is to tell from the rule, and why."""

VISIBLE = Fraction(1, 2**20)
"""How far a variant must be off, relative to the greatest relevance, for a case to say that it catches it: so far that
it shows in float32.
"""

SIZED = (
    *(f"stabilizer of size {epsilon:g}" for epsilon in SIZES), "stabilizer of 0.25 rms", "stabilizer of 0.1 rms",
    "stabilizer left out", "stabilizer halved",
)  # fmt: skip
"""Variants of a stabilizer's size, which is a parameter of the rule: tried in some cases only."""

SIZE_IS_TRIED = (
    "dense/Epsilon", "dense-plain/Epsilon", "conv1d-all-options/Epsilon", "conv2d-plain/Epsilon",
    "avg-pool1d-padding/Epsilon",
)  # fmt: skip


BITS = 400
"""Of the balls."""


@value
class Computed:
    """A case as the files have it."""

    data: Mapping[str, Any]
    """The JSON, without its number."""
    tensors: Mapping[str, Array]
    """What goes beside it: "x/<input>" in float32, "start/<output>" and "R/<node or input>" in float64."""


def explained(case: Case) -> Explanation:
    """The relevance in exact arithmetic.

    Raises
    ------
    LrpError
        where it is not what was published of it.
    """
    explanation = explain(_graph(case), _inputs_of(case), case.rules, _target(case), edit=case.mask)
    for name, numbers in case.published.items():
        found = fractions(explanation.at(name)).tolist()
        if found != numbers:
            raise LrpError(f"{case.group}/{case.name}: relevance {found} at {name}, published is {numbers}")
    return explanation


def computed(case: Case) -> Computed:
    """The case with its relevance, books, margin, and the variants that differ."""
    with working(BITS) if smooth(case) else nullcontext():
        return _computed(case)


def _computed(case: Case) -> Computed:
    e = explained(case)
    graph = case.network.graph
    rules = e.rules
    names = [name for name in (*graph.inputs, *(node.name for node in graph.nodes)) if name in e.relevances]
    outputs = {name: e.relevances[name] for name in graph.outputs}
    start = e.targets[graph.outputs[0]].start(e.activations[graph.outputs[0]])
    own = sorted({source for rule in rules.values() for source in FORMULAS[type(rule).__name__][1]})
    told = sorted(variants(case, e), key=lambda one: one[0])  # whatever order the catalogue has
    data = {
        "comment": case.comment,
        "network": case.network.name,
        "batch": len(next(iter(case.inputs.values()))),
        "target": _spelled_target(case.start),
        "start": {name: tensor(start) for name in outputs},
        "mask": {name: tensor(a) for name, a in case.mask.items()},
        "rules": {node.name: spelled_rule(rules[node.name]) for node in graph.nodes if node.name in e.relevances},
        "relevance": {name: tensor(e.relevances[name]) for name in names},
        "ledger": books(e.ledger),
        "margin": margin(e),
        "conditions": _conditions(case, outputs),
        "flags": [name for name, _ in told],
        "accept": accepted(case, told),
        "sources": [*dict.fromkeys([*case.sources, *own])],
    }
    tensors: dict[str, Array] = {f"x/{name}": float32(a) for name, a in case.inputs.items()}
    tensors |= {f"start/{name}": rounded(start) for name in outputs}
    tensors |= {f"R/{name}": rounded(e.relevances[name]) for name in names}
    return Computed(data, tensors)


def smooth(case: Case) -> bool:
    """Whether relevance depends on numbers that are not rational, so that it is enclosed in balls."""
    return case.kind is None and not all(node.layer.rational for node in case.network.graph.nodes)


def _inputs_of(case: Case) -> dict[str, Array]:
    """In rationals or balls."""
    carried = balls if smooth(case) else exact
    return {name: carried(a) for name, a in case.inputs.items()}


def _graph(case: Case) -> Graph:
    """The network; of a single layer, outputs that are not rational are taken as the floats that they are, for no
    relevance depends on them.
    """
    if smooth(case):
        return case.network.graph
    return given(case.network.graph, dict(case.inputs))


def _target(case: Case) -> Target:
    return case.start if isinstance(case.start, (logit, one)) else StartRelevance(case.start)


def _spelled_target(start: Any) -> dict[str, Any]:
    """Which class is explained from which relevance: its logit or 1; null where an array was given."""
    if isinstance(start, (logit, one)):
        return {"class": start.k, "from": type(start).__name__}
    return {"class": None, "from": "given"}


def _conditions(case: Case, outputs: Mapping[str, Array]) -> list[str]:
    """Of a single layer's case."""
    if case.kind is None:
        return []
    graph = case.network.graph
    (layer,), (R,) = [node.layer for node in graph.nodes], outputs.values()
    return conditions(layer, [case.inputs[name] for name in graph.inputs], R)


def books(ledger: Ledger) -> list[dict[str, Any]]:
    """The ledger, node by node from the output down."""
    return [
        {
            "node": entry.node,
            "came": vector(entry.came),
            "went": {source: vector(amount) for source, amount in entry.sent.items()},
            "bias": vector(entry.bias),
            "stabilizer": vector(entry.stabilizer),
            "unclaimed": vector(entry.unclaimed),
            "masked": vector(entry.edited),
            "zero_denominators": [int(n) for n in entry.poles],
            "empty_parts": [int(n) for n in entry.empty],
        }
        for entry in ledger
    ]


# --- variants ---------------------------------------------------------------------------------------------------------


def catalogue(case: Case) -> list[Variant]:
    """The variants that are tried on a case."""
    sized = case.group == "hand" or case.name in SIZE_IS_TRIED
    made = of_statistics(STATISTICS) if any(case.network.name.startswith(name) for name in BATCH_NORMED) else ()
    left_out = {*NOT_TOLD, *(() if sized else SIZED), *(OTHERWISE if case.kind else ())}
    return [variant for variant in (*CATALOGUE, *made) if variant.name not in left_out]


def variants(case: Case, e: Explanation) -> Iterator[tuple[str, Mapping[str, Array]]]:
    """The name and the inputs' relevance of each variant that gives another one."""
    if case.mask:
        return
    x = _inputs_of(case)
    composite = as_composite(case.rules)
    if case.unfolded is None:
        setting = Setting.of(_graph(case).like(x), x, composite, _target(case))
    else:
        folding = Composite(composite.cases, canonize=[batch_norm_folded])
        setting = Setting.of(case.unfolded, x, folding, _target(case))
    for variant in catalogue(case):
        if variant.scope == "start" and not isinstance(case.start, (logit, one)):
            continue  # the start is given, so that nobody can start elsewhere
        try:
            changed = variant.everywhere(setting)
            other = None if changed is None else changed.explain()
        except LrpError:
            continue  # it is refused, or has no rational values
        if other is not None and _differs(other, e):
            yield variant.name, _inputs(other)
    for name, rules in case.others.items():
        other = explain(_graph(case), x, rules, _target(case))
        if _differs(other, e):
            yield name, _inputs(other)


def _inputs(e: Explanation) -> dict[str, Array]:
    relevance = e.relevance
    return {name: e.relevances[name] for name in relevance} if isinstance(relevance, dict) else {"": relevance}


def _has_a_size(name: str) -> bool:
    """Whether a variant is one of a stabilizer's size: of networks such numbers are long, and single layers have
    them.
    """
    return "1e-" in name


def _differs(one: Explanation, other: Explanation) -> bool:
    """Whether the inputs' relevance differs visibly."""
    ours, theirs = _inputs(one), _inputs(other)
    off = max(_greatest(ours[name] - theirs[name]) for name in ours)
    return off > VISIBLE * max(map(_greatest, theirs.values()))


def _greatest(a: Array) -> Fraction:
    """The greatest magnitude, of balls that of their midpoints."""
    numbers = [ball.dyadic()[0] for ball in a.flat] if is_enclosed(a) else fractions(a).reshape(-1).tolist()
    greatest: Fraction = max(map(abs, numbers))
    return greatest


def accepted(case: Case, told: list[tuple[str, Mapping[str, Array]]]) -> list[dict[str, Any]]:
    """What the variants that somebody means compute; those that compute the same stand together."""
    together: dict[tuple[str, ...], tuple[list[str], Mapping[str, Array]]] = {}
    for name, relevance in told:
        if name not in (*MISTAKES, *OTHERWISE) and (case.kind or case.group == "hand" or not _has_a_size(name)):
            key = tuple(repr(number) for a in relevance.values() for number in vector(a))
            together.setdefault(key, ([], relevance))[0].append(name)
    (only, *_) = case.network.graph.inputs
    return [
        {"variants": names, "relevance": {name or only: tensor(a) for name, a in relevance.items()}}
        for names, relevance in together.values()
    ]
