"""What the single layers' cases cover: for every kind of layer, rule and condition at least two cases of differing
shape, or a reason why there can be none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .cases import CONDITIONS
from .instances import GROUP
from .singles import LATER, RULES, reason

Cell = tuple[str, str, str]
"""A kind of layer, a rule, and a condition; or "cases" for all of them."""


def cells() -> list[Cell]:
    """All that there are."""
    return [(kind, rule, what) for kind in GROUP for rule in RULES for what in ("cases", *CONDITIONS)]


def why_empty(cell: Cell) -> str | None:
    """The reason for an empty cell; None for one that is to be filled."""
    kind, rule, what = cell
    return reason(kind, rule, None if what == "cases" else what)


def filled(tests: Iterable[Mapping[str, Any]]) -> dict[Cell, list[str]]:
    """For each cell the shapes of its cases' inputs, one a case, from what :func:`row` says of each."""
    found: dict[Cell, list[str]] = {cell: [] for cell in cells()}
    for test in tests:
        for what in ("cases", *test["conditions"]):
            found[test["kind"], test["label"], what].append(test["shapes"])
    return found


def row(kind: str, label: str, shapes: Mapping[str, Iterable[int]], conditions: Iterable[str]) -> dict[str, Any]:
    """What coverage asks of a case."""
    return {"kind": kind, "label": label, "shapes": str([list(s) for s in shapes.values()]), "conditions": conditions}


def markdown(found: Mapping[Cell, list[str]], counts: Mapping[str, int], variants: Mapping[str, int]) -> str:
    """The tables, for people."""
    reasons: dict[str, int] = {}
    lines = [
        "# What the vectors cover",
        "",
        "Written by `python -m lrp_ref.oracle.vectors.generate`. A number counts cases, of at least two shapes; a "
        "letter stands for the reason, below, why there is none.",
        "",
        f"{sum(counts.values())} cases: " + ", ".join(f"{name} {count}" for name, count in counts.items()) + ".",
        "",
        "The conditions: " + "; ".join(f"{name}: {says}" for name, says in CONDITIONS.items()) + ".",
    ]
    for kind in GROUP:
        lines += ["", f"## {kind}", "", "| | " + " | ".join(RULES) + " |", "|---" * (len(RULES) + 1) + "|"]
        for what in ("cases", *CONDITIONS):
            row = [_shown(found[kind, rule, what], why_empty((kind, rule, what)), reasons) for rule in RULES]
            lines.append(f"| {what} | " + " | ".join(row) + " |")
    lines += ["", "## Why there is none", ""]
    lines += [f"- {_letter(i)}: {why}" for why, i in reasons.items()]
    lines += ["", "## What has no cases yet", ""]
    lines += [f"- {what}: {why}" for what, why in LATER.items()]
    lines += ["", "## How many cases tell each variant from the rule", "", "| variant | cases |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in variants.items()]
    return "\n".join(lines) + "\n"


def _shown(shapes: list[str], why: str | None, reasons: dict[str, int]) -> str:
    if shapes or why is None:
        return str(len(shapes))
    return _letter(reasons.setdefault(why, len(reasons)))


def _letter(i: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[i]
