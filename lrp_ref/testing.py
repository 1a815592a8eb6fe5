"""For the test suites of other frameworks: LRP held to the conformance vectors.

>>> from lrp_ref.testing import Cannot, assert_conforms
>>> def test_lrp():
...     assert_conforms(relevance, known={"WSquare/*": "bias squared"})  # relevance: your adapter
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from .oracle.conform import Adapter, Cannot, Report, Verdict, conform
from .oracle.variants import CATALOGUE
from .oracle.vectors.read import Case

__all__ = ["Cannot", "Case", "Report", "Verdict", "assert_conforms"]

SHOWN = 20
"""How many cases a failure lists."""


def assert_conforms(
    relevance: Adapter,
    *,
    groups: Sequence[str] | None = None,
    known: Mapping[str, str] | None = None,
    cases: Sequence[Case] | None = None,
) -> Report:
    """Fail with a list of the cases that are not what the rule of that name gives.

    Parameters
    ----------
    relevance : Case -> array or dict
        the adapter; it raises :class:`Cannot` where the framework has no such rule or layer
    groups : of the vectors, such as ["dense", "conv"]; None for all
    known : {pattern: variant or reason}
        differences that are meant: a case's id, or a rule and a layer such as "WSquare/*" or "ZPlus/Conv" (as in a
        shell, "network" for networks), and a variant of the catalogue, which these cases must then be, or any reason.
    cases : other cases, in place of the vectors

    Returns
    -------
    Report

    Raises
    ------
    AssertionError
        for a case that differs and is not known, one that is known and another variant, and for what is known and
        differs nowhere any more.
    """
    known = {} if known is None else known
    report = conform(relevance, groups=groups, cases=cases)
    names = {variant.name for variant in CATALOGUE}
    wrong, used = [], set()
    for verdict in report.verdicts:
        if verdict.verdict in ("agrees", "cannot"):
            continue
        meant = [pattern for pattern in known if matches(pattern, verdict)]
        used.update(meant)
        if not meant:
            wrong.append(f"{verdict.id} ({verdict.rule} on {verdict.layer}): {said(verdict)}")
        elif not any(known[p] not in names or known[p] in verdict.names for p in meant):
            wrong.append(f"{verdict.id} is known as {known[meant[0]]!r}, and {said(verdict)}")
    stale = [f"{pattern!r} is known as {known[pattern]!r}, and differs nowhere" for pattern in known.keys() - used]
    if wrong or stale:
        more = [f"... and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise AssertionError("\n".join([report.title, *sorted(stale), *wrong[:SHOWN], *more]))
    return report


def matches(pattern: str, verdict: Verdict) -> bool:
    """Whether a pattern is of a case, by its id or its rule and layer."""
    return pattern == verdict.id or fnmatchcase(f"{verdict.rule}/{verdict.layer}", pattern)


def said(verdict: Verdict) -> str:
    """A verdict in a few words."""
    what = " or ".join(verdict.names) or verdict.why
    if verdict.verdict == "variant":
        return f"the numbers are those of: {what}"
    node = f' at node "{verdict.node}"' if verdict.node else ""
    off = f", off by {verdict.off:.2g} of max|R|" if verdict.off is not None else ""
    return f"differs{node}: {what}{off}"
