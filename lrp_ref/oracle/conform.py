"""conform(): another framework held to the conformance vectors, case by case.

>>> def relevance(case):  # doctest: +SKIP
...     return framework.lrp(case.onnx, case.x, rules=case.said, start=case.R)
>>> print(conform(relevance, groups=["dense", "conv"]))  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..arrays import Array, to_host, unit_roundoff
from ..errors import LrpError
from ..explain import explain
from ..propagate import Rule
from ..rules import AlphaBeta, Pass, ZPlus
from ..targets import StartRelevance
from ..text import Progress, table
from ..values import value
from .diagnosis import diagnose
from .search import LEAST, MARGIN
from .settings import Setting, Variant
from .variants import CATALOGUE
from .vectors import read
from .vectors.files import VERSION
from .vectors.read import Case

Answer = Array | Mapping[str, Array]
Adapter = Callable[[Case], Answer]
"""What a case is explained with: the relevance of the input, or arrays by the names of inputs and nodes."""

VERDICTS = ("agrees", "variant", "differs", "cannot")
KEY = "3: cases that agree; 2a: cases that differ as a below says; -: cannot be asked"

INSTEAD_OF_ZERO = 2.0**-200
"""What the adapters of :mod:`lrp_ref.oracle.peers` hand over for epsilon = 0: too small to change a denominator other
than 0, and enough for 0 / 0 to become 0, as here, in frameworks that always divide.
"""


class Cannot(Exception):
    """Raised by an adapter, with the reason: the framework has no such rule, layer or start."""


# --- one case -----------------------------------------------------------------------------------------------------


@value
class Verdict:
    """What came of one case."""

    id: str
    rule: str
    """The rule's name; of a network those of all rules that divide."""
    layer: str
    """The layer's class, or "network"."""
    verdict: Literal["agrees", "variant", "differs", "cannot"]
    names: tuple[str, ...] = ()
    """The variants whose numbers these are; of `differs` the hypotheses of :func:`lrp_ref.oracle.diagnose`."""
    why: str = ""
    """Of `cannot`, the framework's reason; of `differs`, what is wrong."""
    node: str | None = None
    """Of `differs`, the node where it begins, if that was found."""
    off: float | None = None
    """The greatest deviation, relative to max|R| of its tensor."""
    tolerance: float | None = None
    """What would have been agreement there."""
    flags: tuple[str, ...] = ()
    """The variants that the case tells from the rule."""
    size: int = 0
    """How many numbers its inputs and weights are."""


def cell(case: Case) -> tuple[str, str]:
    """The rule and the layer that a case is about."""
    nodes = case.graph.nodes
    handing_on = {node.name for node in nodes if node.layer.wire and isinstance(case.rules.get(node.name), Pass)}
    some = [node for node in nodes if node.name not in handing_on]
    some = some or [node for node in nodes if node.kind not in ("Flatten", "Transpose")] or list(nodes)
    if len(some) == 1 and some[0].name in case.rules:
        return type(case.rules[some[0].name]).__name__, some[0].kind
    names = {type(rule).__name__ for rule in case.rules.values() if rule.shares()}
    return ", ".join(sorted(names)) or "Pass", "network"


def size(case: Case) -> int:
    """How many numbers its inputs and weights are."""
    weights = (a for node in case.graph.nodes for _, a in node.layer._arrays())
    return sum(math.prod(np.shape(a)) for a in (*case.inputs.values(), *weights))


def tolerances(case: Case, dtype: str) -> dict[str, float]:
    """For each tensor what may be between the exact relevance and one computed in `dtype`, relative to max|R|.

    It is 64 times what our own run in that dtype is off there, and at least 32 unit roundoffs.
    """
    x = {name: a.astype(dtype) for name, a in case.inputs.items()}
    target = {name: StartRelevance(R) for name, R in case.start.items()}
    ours = explain(case.graph, x, Setting(case.graph, x, case.rules).composite, target, edit=case.mask, engine="plain")
    least = LEAST * unit_roundoff(next(iter(x.values())))
    return {name: max(MARGIN * _off(ours.at(name), R), least) for name, R in case.relevance.items()}


def _off(theirs: Array, expected: Array) -> float:
    """The greatest deviation, relative to max|R|; infinite where numbers are none."""
    with np.errstate(all="ignore"):
        off = float(abs(theirs.astype(float) - expected).max(initial=0.0)) / float(abs(expected).max(initial=0.0) or 1)
    return off if math.isfinite(off) else math.inf


def judge(case: Case, answer: Answer, *, variants: Sequence[Variant] = ()) -> Verdict:
    """What an answer to a case is: the expected relevance, that of a variant, or another.

    Parameters
    ----------
    case : Case
    answer : the relevance of the only input, or arrays by name, of all inputs and of any nodes; float32 or float64
    variants : sought in a diagnosis besides those of the catalogue

    Returns
    -------
    Verdict
        agreement is a deviation of at most 64 times that of our own run in the same dtype, and of at most 32 unit
        roundoffs anyway, relative to max|R|, at every tensor that the answer holds.

    Raises
    ------
    LrpError
        for an answer that lacks an input, has names that the network does not, or is in another arithmetic.
    """
    theirs = _arrays(case, answer)
    dtype = "float32" if any(R.dtype == np.float32 for R in theirs.values()) else "float64"
    rule, layer = cell(case)
    made = Verdict(case.id, rule, layer, "agrees", flags=case.flags, size=size(case))
    for name, R in theirs.items():
        if R.shape != case.relevance[name].shape:
            why = f'relevance at "{name}" of shape {R.shape}, need {case.relevance[name].shape}'
            return dataclasses.replace(made, verdict="differs", why=why)
    within = tolerances(case, dtype)
    off = {name: _off(R, case.relevance[name]) for name, R in theirs.items()}
    worst = max(off, key=lambda name: off[name] / within[name])
    made = dataclasses.replace(made, off=off[worst], tolerance=within[worst])
    if off[worst] <= within[worst]:
        return made
    for other in case.accepted:
        if all(_off(theirs[name], R) <= within[name] for name, R in other.relevance.items()):
            return dataclasses.replace(made, verdict="variant", names=other.variants)
    return _diagnosed(case, theirs, dtype, made, variants)


def _arrays(case: Case, answer: Answer) -> dict[str, Any]:
    given = answer if isinstance(answer, Mapping) else {next(iter(case.inputs)): answer}
    theirs = {name: np.asarray(to_host(R)) for name, R in given.items()}
    if missing := [name for name in case.inputs if name not in theirs]:
        raise LrpError(f"{case.id}: the answer lacks the relevance of the input {missing[0]!r}")
    for name, R in theirs.items():
        if name not in case.relevance:
            raise LrpError(f"{case.id}: the answer has {name!r}; there are {', '.join(case.relevance)}")
        if R.dtype not in (np.float32, np.float64):
            raise LrpError(f"{case.id}: the relevance at {name!r} is {R.dtype}, need float32 or float64")
    return theirs


def _diagnosed(
    case: Case, theirs: Mapping[str, Any], dtype: str, made: Verdict, variants: Sequence[Variant]
) -> Verdict:
    """Why it differs, if the catalogue knows."""
    for node in reversed([*case.inputs, *(node.name for node in case.graph.nodes)]):
        if node in theirs and not np.isfinite(theirs[node]).all():
            return dataclasses.replace(made, verdict="differs", why="not a number", node=node)
    if case.mask:
        return dataclasses.replace(made, verdict="differs", why="unknown: masked relevance is not diagnosed")
    x: Any = {name: a.astype(dtype) for name, a in case.inputs.items()}
    target = {name: StartRelevance(R) for name, R in case.start.items()}
    for zero in (0.0, INSTEAD_OF_ZERO):
        rules = {node: _plainer(rule, zero) for node, rule in case.rules.items()}
        setting = Setting(case.graph, x, rules)
        try:
            found = diagnose(case.graph, x, setting.composite, target, theirs, variants=(*CATALOGUE, *variants))
        except LrpError as error:
            return dataclasses.replace(made, verdict="differs", why=f"unknown: {error}")
        names = tuple(dict.fromkeys(" and ".join(hypothesis.names) for hypothesis in found.hypotheses))
        if zero:  # of huge numbers a factor is one of e_k, and says nothing
            names = tuple(name for name in names if not name.startswith("factor"))
            place = case.zero_denominators[0] if case.zero_denominators else None
            place = place if found.verdict == "agree" else found.node
            names = (
                (ZERO_DIVIDED,) if found.verdict == "agree" else tuple(f"{name} and {ZERO_DIVIDED}" for name in names)
            )
        else:
            place = found.node
        if names:
            return dataclasses.replace(made, verdict="differs", names=names, node=place)
        if found.verdict == "agree" or all(rule.epsilon for rule in rules.values() if rule.shares()):
            break
    return dataclasses.replace(made, verdict="differs", why="unknown", node=found.node)


def _plainer(rule: Rule, zero: float) -> Rule:
    """The rule with another epsilon in place of 0; alpha-beta with beta = 0 as z+, which the catalogue knows better."""
    if rule.shares() and not rule.epsilon and zero:
        rule = dataclasses.replace(rule, epsilon=zero)
    if isinstance(rule, AlphaBeta) and rule.alpha == 1:
        return ZPlus(split=rule.split, epsilon=rule.epsilon, stabilizer=rule.stabilizer, bias=rule.bias)
    return rule


ZERO_DIVIDED = "zero denominators divided by"
"""No other formula, and so not in the catalogue: epsilon = 0 cannot be asked for."""


# --- many cases ---------------------------------------------------------------------------------------------------


def verdicts(relevance: Adapter, cases: Iterable[Case], total: int) -> Iterator[Verdict]:
    """Those of the cases, one after the other, with a progress bar on a terminal."""
    with Progress("cases", total) as bar:
        for case in cases:
            try:
                yield judge(case, _asked(relevance, case))
            except Cannot as reason:
                rule, layer = cell(case)
                yield Verdict(case.id, rule, layer, "cannot", why=str(reason), flags=case.flags, size=size(case))
            bar.advance(1)


def _asked(relevance: Adapter, case: Case) -> Answer:
    try:
        return relevance(case)
    except Cannot:
        raise
    except Exception as error:
        raise LrpError(f'the adapter fails at case "{case.id}": {type(error).__name__}: {error}') from error


def conform(
    relevance: Adapter,
    *,
    groups: Sequence[str] | None = None,
    cases: Sequence[Case] | None = None,
    name: str = "the adapter",
    version: str = "",
    against: str = f"vectors {VERSION}",
) -> Report:
    """A framework held to the vectors.

    Parameters
    ----------
    relevance : Case -> array or dict
        the adapter: the relevance that the framework gives to a case, of the input alone, or by the names of inputs
        and nodes; float32 or float64. It raises :class:`Cannot` where the framework has no such rule or layer.
    groups : of the vectors; None for all
    cases : other cases, in place of the vectors
    name, version : of the framework, for the report
    against : what it is held to, for the report

    Returns
    -------
    Report
        a verdict for each case: see :func:`judge` for what agreement is.

    Raises
    ------
    LrpError
        for a group that there is not, for an adapter that fails, and what :func:`judge` refuses.
    """
    every: Iterable[Case] = read.cases(groups) if cases is None else cases
    total = read.count(groups) if cases is None else len(cases)
    return Report(name, version, tuple(verdicts(relevance, every, total)), against)


@value
class Difference:
    """Cases that differ alike."""

    label: str
    """The variant, or what else is said of the numbers."""
    says: str
    """Its formula, if it is a variant."""
    verdicts: tuple[Verdict, ...]

    @property
    def witness(self) -> Verdict:
        """The smallest of them, of those that show in float32 if some do."""
        return min(self.verdicts, key=lambda v: (v.off is not None and v.off < 2.0**-20, v.size, v.id))

    @property
    def cells(self) -> dict[str, list[str]]:
        """The layers, by the rules."""
        found: dict[str, list[str]] = {}
        for verdict in self.verdicts:
            layers = found.setdefault(verdict.rule, [])
            if verdict.layer not in layers:
                layers.append(verdict.layer)
        return {rule: sorted(found[rule]) for rule in sorted(found)}


@value
class Report:
    """The verdicts on a framework; prints as a table with what differs below."""

    name: str
    version: str
    verdicts: tuple[Verdict, ...]
    against: str = f"vectors {VERSION}"

    @property
    def counts(self) -> dict[str, int]:
        """How many cases of each verdict."""
        found = Counter[str](verdict.verdict for verdict in self.verdicts)
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def title(self) -> str:
        """Who was held to what, and the counts."""
        c = self.counts
        who = f"{self.name} {self.version}".strip()
        return (
            f"{who} against {self.against}: of {len(self.verdicts)} cases {c['agrees']} agree, {c['variant']} agree "
            f"with a variant, {c['differs']} differ, {c['cannot']} cannot be asked"
        )

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Cases that differ alike together, the most frequent first.

        Numbers of a case can be those of several variants. Of these, rule by rule, the one is named that explains
        most cases, less those that it would have changed and that agree.
        """
        groups: dict[str, list[Verdict]] = {}
        rules = dict.fromkeys(v.rule if v.layer != "network" else "network" for v in self.verdicts)
        for rule in rules:
            some = [v for v in self.verdicts if rule == (v.rule if v.layer != "network" else "network")]
            flagged = Counter(name for v in some if v.verdict == "agrees" for name in v.flags)
            left = [v for v in some if v.verdict in ("variant", "differs")]
            while left:
                explains = Counter(name for v in left for name in (v.names or (v.why,)))
                best = max(explains, key=lambda name: (explains[name] - flagged[name], explains[name], -_place(name)))
                groups.setdefault(best, []).extend(v for v in left if best in (v.names or (v.why,)))
                left = [v for v in left if best not in (v.names or (v.why,))]
        made = [Difference(label, _says(label), tuple(some)) for label, some in groups.items()]
        return tuple(sorted(made, key=lambda difference: (-len(difference.verdicts), difference.label)))

    @property
    def reasons(self) -> dict[str, int]:
        """Why cases could not be asked, the most frequent first."""
        found = Counter(verdict.why for verdict in self.verdicts if verdict.verdict == "cannot")
        return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))

    def grids(self) -> list[tuple[list[str], list[list[str]]]]:
        """Heads and rows: a row for each layer and a column for each rule; and the networks by their rules.

        In each cell the cases: 3 agree, 2a differ as letter a says. Rows and columns of which nothing can be asked are
        left out.
        """
        letter = {id(v): _letter(i) for i, d in enumerate(self.differences) for v in d.verdicts}

        def cell_of(some: Sequence[Verdict]) -> str:
            return _summed([letter.get(id(v), "") for v in some if v.verdict != "cannot"], bool(some))

        single = [v for v in self.verdicts if v.layer != "network"]
        whole = [v for v in self.verdicts if v.layer == "network" and v.verdict != "cannot"]
        asked = [v for v in single if v.verdict != "cannot"]
        rules = sorted({v.rule for v in asked})
        rows = [
            [layer, *(cell_of([v for v in single if (v.rule, v.layer) == (rule, layer)]) for rule in rules)]
            for layer in sorted({v.layer for v in asked})
        ]
        networks = [[rule, cell_of([v for v in whole if v.rule == rule])] for rule in sorted({v.rule for v in whole})]
        made = [(["layer", *rules], rows), (["networks, by their rules", "cases"], networks)]
        return [(head, rows) for head, rows in made if rows]

    def __str__(self) -> str:
        parts = [self.title]
        for head, rows in self.grids():
            parts += ["", table(head, rows)]
        parts += ["", KEY] if len(parts) > 1 else []
        for i, difference in enumerate(self.differences):
            parts += ["", f"{_letter(i)}  {difference.label}: {len(difference.verdicts)} cases"]
            if difference.says:
                parts.append(f"   {difference.says}")
            parts += [f"   {rule}: {', '.join(layers)}" for rule, layers in difference.cells.items()]
            w = difference.witness
            parts.append(f"   smallest: {w.id}" + (f", off by {w.off:.2g} of max|R|" if w.off is not None else ""))
        if self.reasons:
            parts += ["", "cannot be asked:", *(f"  {count:5}  {why}" for why, count in self.reasons.items())]
        return "\n".join(parts)

    def markdown(self) -> str:
        """The same for a page."""
        parts = [f"{self.title}.", ""]
        for head, rows in self.grids():
            parts += [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]
        if len(parts) > 2:
            parts += [KEY + ".", ""]
        for i, difference in enumerate(self.differences):
            says = f": {difference.says}" if difference.says else ""
            parts.append(f"- **{_letter(i)}** {difference.label}, {len(difference.verdicts)} cases{says}.")
            where = "; ".join(f"{rule} on {', '.join(layers)}" for rule, layers in difference.cells.items())
            w = difference.witness
            off = f", off by {w.off:.2g} of max\\|R\\|" if w.off is not None else ""
            parts.append(f"  {where}. Smallest: `{w.id}`{off}.")
        if self.reasons:
            parts += ["", "Cannot be asked:", ""]
            parts += [f"- {count}: {why}" for why, count in self.reasons.items()]
        return "\n".join(parts).rstrip() + "\n"

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; the keys are fixed."""
        cells: dict[tuple[str, str], Counter[str]] = {}
        for verdict in self.verdicts:
            cells.setdefault((verdict.rule, verdict.layer), Counter())[verdict.verdict] += 1
        return {
            "peer": self.name,
            "version": self.version,
            "against": self.against,
            "counts": self.counts,
            "cells": [
                {"rule": rule, "layer": layer, **{verdict: found[verdict] for verdict in VERDICTS}}
                for (rule, layer), found in sorted(cells.items())
            ],
            "differences": [
                {
                    "label": d.label,
                    "says": d.says,
                    "cells": d.cells,
                    "smallest": d.witness.id,
                    "cases": [verdict.id for verdict in d.verdicts],
                }
                for d in self.differences
            ],
            "reasons": self.reasons,
            "cases": [
                {
                    "id": v.id,
                    "rule": v.rule,
                    "layer": v.layer,
                    "verdict": v.verdict,
                    "names": list(v.names),
                    "why": v.why,
                    "node": v.node,
                    "off": v.off if v.off is None or math.isfinite(v.off) else None,
                    "tolerance": v.tolerance,
                }
                for v in self.verdicts
            ],
        }


def _place(label: str) -> int:
    """Of a label in the catalogue, whose likelier variants stand first."""
    names = [variant.name for variant in CATALOGUE]
    return names.index(label) if label in names else len(names)


def _says(label: str) -> str:
    said = {variant.name: variant.says for variant in CATALOGUE}
    said[ZERO_DIVIDED] = "where z_k is exactly 0, and contributions to it are not, relevance of the size of R_k / e_k"
    return "; ".join(said[name] for name in label.split(" and ") if name in said)


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else _letter(i // 26 - 1) + _letter(i % 26)


def _summed(marks: Sequence[str], any_case: bool) -> str:
    """What stands in a cell: how often each mark."""
    if not marks:
        return "-" if any_case else ""
    return " ".join(f"{count}{mark}" for mark, count in sorted(Counter(marks).items()))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
