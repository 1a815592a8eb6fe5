"""A page of pictures and words, measured in pixels, that matplotlib draws."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import LrpError
from ..files import written_whole

INK, FAINT, FRAME = "#1a1a1a", "#5c5c5c", (176, 176, 176)
_DPI = 200


class Page:
    """A white page, measured from its upper left corner; free of pyplot and of its settings."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.full((height, width, 3), 255, dtype=np.uint8)
        self.words: list[dict[str, Any]] = []

    def draw(self, cells: Array, left: int, top: int, width: int, height: int) -> None:
        """Cells (rows, columns, 3) into a box, the nearest to each pixel; the frame lies outside of it."""
        self.pixels[top - 2 : top + height + 2, left - 2 : left + width + 2] = FRAME
        rows, columns = np.arange(height) * len(cells) // height, np.arange(width) * cells.shape[1] // width
        self.pixels[top : top + height, left : left + width] = cells[np.ix_(rows, columns)]

    def write(self, x: float, y: float, text: str, size: int, **style: str) -> None:
        """Text of `size` points, its center at (x, y) unless `style` aligns it (ha, va)."""
        self.words.append(
            {"ha": "center", "va": "center", "color": INK, **style, "x": x, "y": y, "s": text, "size": size}
        )

    def figure(self) -> Any:
        """The page as a matplotlib Figure: one image, a pixel a pixel, and the words over it."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError('pictures need matplotlib: pip install "lrp_ref[plot]"') from error
        height, width, _ = self.pixels.shape
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        figure.set_layout_engine("none")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        extent = (0, width, height, 0)
        axes.imshow(self.pixels, interpolation="nearest", origin="upper", extent=extent, aspect="auto")
        for words in self.words:
            axes.text(**words, family="DejaVu Sans", parse_math=False, usetex=False)
        return figure


def box(cells: Array, side: int) -> tuple[int, int]:
    """Width and height of a picture of at most `side` pixels, each of its cells a whole number of pixels."""
    height, width = cells.shape[:2]
    cell = max(1, side // max(height, width))
    return cell * width, cell * height


def text_width(text: str, size: int) -> int:
    """About the pixels that text of `size` points takes: its longest line, 0.6 em a letter."""
    return math.ceil(0.6 * max(map(len, text.split("\n"))) * size * _DPI / 72)


def pieces(text: str) -> list[str]:
    """The pieces of `text` that may stand in lines of their own: split after a blank and an underscore."""
    return re.split(r"(?<=[ _])", text)


def wrapped(text: str, width: int, size: int) -> str:
    """`text` in lines of at most `width` pixels, as far as its pieces allow."""
    lines = [""]
    for piece in pieces(text):
        if lines[-1] and text_width((lines[-1] + piece).rstrip(), size) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def save(figure: Any, path: str | os.PathLike[str]) -> Path:
    """Write a figure whole or not at all: into a file beside `path`, which then takes its place."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise LrpError(f"{path}: pictures are written as PNG: end the name in .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written_whole(path) as file:
            figure.canvas.print_png(file)
    finally:
        figure.clear()
    return path
