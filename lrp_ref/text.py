"""Three helpers for what is printed: the nearest names, aligned columns, and text from files."""

from __future__ import annotations

from collections.abc import Sequence


def near(name: str, names: Sequence[str]) -> str:
    """The three names nearest to a mistaken one, as the end of a message."""
    from difflib import get_close_matches

    close = get_close_matches(name, names, n=3, cutoff=0.0)
    return f"; the nearest names are {', '.join(map(repr, close))}" if close else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned on the left, for printing."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def printable(text: str) -> str:
    """Text from a file as it may be printed: control characters and the like escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
