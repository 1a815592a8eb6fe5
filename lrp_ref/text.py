"""Helpers for what is printed: the nearest names, aligned columns, text from files, and how far long work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Self


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


class Progress:
    """A bar on the terminal for work that takes longer than two seconds: ``with Progress("roots", total) as bar``."""

    PATIENCE = 2.0
    """Seconds before it shows."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self.start = time.monotonic()
        self.shown = False

    def __enter__(self) -> Self:
        return self

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.done += count
        seconds = time.monotonic() - self.start
        if self.total and seconds >= self.PATIENCE and sys.stderr.isatty():
            filled = 30 * self.done // self.total
            left = seconds * (self.total - self.done) / max(1, self.done)
            bar = f"[{'#' * filled}{'.' * (30 - filled)}]"
            sys.stderr.write(f"\r{self.what} {bar} {self.done} of {self.total}, {left:.0f} s left \x1b[K")
            sys.stderr.flush()
            self.shown = True

    def __exit__(self, *reason: object) -> None:
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
