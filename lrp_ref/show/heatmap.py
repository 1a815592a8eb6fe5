r"""Relevance as pictures: white is 0, red speaks for the output, blue against it.

Nothing here changes a relevance, and every picture says at which |R| its color is darkest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ..arrays import Array, floats, is_array, total
from ..errors import ArithmeticMismatch, ShapeError
from .page import FAINT, Page, box, pieces, save, text_width, wrapped

Limit: TypeAlias = Literal["each", "row"] | float

# |R| / limit, and the color of positive relevance there; negative relevance has red and blue exchanged.
_STRENGTH = (0.0, 0.25, 0.6, 1.0)
_RED = ((255, 255, 255), (252, 186, 168), (224, 40, 44), (92, 0, 16))


def channel_sum(R: Any, *, shape: tuple[int, ...] | None = None) -> Array:
    """Relevance of each place: the sum over the channels. A step of display, not a rule.

    Parameters
    ----------
    R : array (N, C, H, W), (N, H, W) or (N, J)
        relevance; floats of numpy or cupy, or exact rationals.
    shape : (H, W) or (C, H, W), optional
        how the J inputs of a dense network lie; without it they lie as a square.

    Returns
    -------
    array (N, H, W)
        in the arithmetic of `R`.

    Raises
    ------
    ShapeError
        if `R` is no batch of maps.
    """
    R = R if is_array(R) else np.asarray(R)
    if R.ndim == 2:
        side = math.isqrt(R.shape[1])
        lies = shape or (side, side)
        if len(lies) not in (2, 3) or math.prod(lies) != R.shape[1]:
            raise ShapeError(f"relevance of shape {R.shape} does not lie as {lies}: give shape=(H, W) or (C, H, W)")
        R = R.reshape(-1, *lies)
    if R.ndim not in (3, 4):
        raise ShapeError(f"relevance of shape {R.shape} is no batch of maps: give (N, C, H, W), (N, H, W) or (N, J)")
    return R if R.ndim == 3 else total(R, (1,))


def finite(values: Any, name: str, hint: str = "Explanation.at(node) shows at which node it begins") -> Array:
    """`values` as floats on the host; ArithmeticMismatch, naming the first place, if one is not finite."""
    values = floats(values if is_array(values) else np.asarray(values))
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        where = tuple(bad[0].tolist())
        count = f"{len(bad)} of {values.size} places"
        raise ArithmeticMismatch(f"{name} is {values[where]} at {where}, not finite in {count}: {hint}")
    return values


def colors(R: Any, limit: float | None = None) -> Array:
    r"""The color of each relevance, on a diverging map that is symmetric about 0.

    0 is exactly white; R > 0 runs through red to dark red at `limit`, R < 0 through blue to dark blue, and
    ``colors(-R)`` is ``colors(R)`` with red and blue exchanged, exactly. Beyond the limit the color stays.

    Parameters
    ----------
    R : array
        relevance, of any shape; floats, or exact rationals.
    limit : float, optional
        the \|R\| of full color; max \|R\| by default. A map of zeros is white.

    Returns
    -------
    ndarray (\*R.shape, 3) of uint8
        red, green, blue.

    Raises
    ------
    ArithmeticMismatch
        if a relevance is not a finite number, or the limit is not a positive one.
    """
    values = finite(R, "relevance")
    sizes = np.abs(values)
    top = sizes.max(initial=0) if limit is None else limit
    if not (limit is None or 0 < top < math.inf):
        raise ArithmeticMismatch(f"colors: the limit is {limit}: give a positive number, or None for max |R|")
    strength = np.minimum(sizes, top) / (top or 1)
    rgb = np.stack([np.interp(strength, _STRENGTH, channel) for channel in zip(*_RED, strict=True)], axis=-1)
    rgb = np.rint(rgb).astype(np.uint8)
    return np.where((values < 0)[..., None], rgb[..., ::-1], rgb)


def save_heatmap(
    path: str | os.PathLike[str],
    R: Any,
    *,
    image: Any = None,
    overlay: bool = False,
    title: str | None = None,
    limit: float | None = None,
) -> Path:
    r"""Write one map as a PNG with its color bar; beside its input, or over it.

    Parameters
    ----------
    path : path
        ends in .png; written whole or not at all, its folder made if absent.
    R : array (H, W), (1, H, W) or (1, C, H, W)
        the relevance of one sample.
    image : array (H, W), (C, H, W) or (1, C, H, W), optional
        its input, drawn left of the map.
    overlay : bool
        draw the map over the input, in gray, in place of beside it.
    title : str, optional
    limit : float, optional
        the \|R\| of full color; max \|R\| by default.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        if `R` is not one map, or the image does not fit it.
    ArithmeticMismatch
        if a relevance is not a finite number.
    ImportError
        if matplotlib is missing (extra ``plot``).
    """
    R = finite(R, "relevance")
    maps = channel_sum(R[None] if R.ndim == 2 else R)
    if len(maps) != 1:
        raise ShapeError(f"relevance of shape {R.shape} is {len(maps)} maps; this shows one: pass R[i : i + 1]")
    if overlay and image is None:
        raise ShapeError("overlay=True draws the map over its input: give image=")
    rgb = colors(maps[0], limit)
    top = np.abs(maps).max(initial=0) if limit is None else limit
    pictures = [rgb] if image is None else [_over(rgb, image)] if overlay else [_picture(image), rgb]

    ticks = {0.0: top, 0.5: 0.0, 1.0: -top} if top else {0.5: 0.0}
    numbers = {at: f"{number:.3g}".replace("-", "−") for at, number in ticks.items()}

    edge, gap, head = 36, 28, 76 if title else 36
    boxes = [box(picture, 560) for picture in pictures]
    height = max(h for _, h in boxes)
    width = sum(w + gap for w, _ in boxes) + 36 + max(text_width(number, 8) for number in numbers.values())
    page = Page(2 * edge + max(width, text_width(title or "", 10)), head + height + edge)
    left = edge
    for picture, (w, h) in zip(pictures, boxes, strict=True):
        page.draw(picture, left, head, w, h)
        left += w + gap
    page.draw(_bar(height)[::-1, None], left, head, 24, height)
    for at, number in numbers.items():
        page.write(left + 36, head + at * height, number, 8, ha="left")
    page.write(edge, head / 2, title or "", 10, ha="left")
    return save(page.figure(), path)


def grid(
    path: str | os.PathLike[str],
    maps: Sequence[Sequence[Any]],
    *,
    columns: Sequence[str],
    rows: Sequence[str] | None = None,
    images: Sequence[Any] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    limit: Limit = "each",
) -> Path:
    r"""Write maps as one PNG: a row for each sample, its input first, and a column for each set of rules.

    Parameters
    ----------
    path : path
        ends in .png; written whole or not at all, its folder made if absent.
    maps : rows of arrays (H, W)
        relevance; floats, or exact rationals.
    columns : sequence of str
        a heading for each column.
    rows : sequence of str, optional
        a label left of each row.
    images : sequence of arrays (H, W) or (C, H, W), optional
        the input of each row, drawn before its maps.
    captions : rows of str, optional
        a line under each map.
    limit : "each", "row" or float
        the \|R\| of full color: max \|R\| of each map, of each row, or this number for all; said at the foot.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        if the parts do not fit each other.
    ArithmeticMismatch
        if a relevance is not a finite number.
    ImportError
        if matplotlib is missing (extra ``plot``).
    """
    made = figure(maps, columns=columns, row_labels=rows, captions=captions, images=images, limit=limit)
    return save(made, path)


def figure(
    rows: Sequence[Sequence[Any]],
    *,
    columns: Sequence[str],
    row_labels: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    images: Sequence[Any] | None = None,
    overlay: Sequence[Any] | None = None,
    limit: Limit = "each",
) -> Any:
    """The same picture as :func:`grid`, as a matplotlib Figure, for a notebook.

    Parameters
    ----------
    rows, columns, row_labels, captions, images, limit
        `maps`, `columns`, `rows`, `captions`, `images` and `limit` of :func:`grid`.
    overlay : sequence of arrays (H, W) or (C, H, W), optional
        the input of each row, drawn in gray under its maps.

    Returns
    -------
    matplotlib.figure.Figure
        free of pyplot: nothing needs to be closed.

    Raises
    ------
    ShapeError, ArithmeticMismatch, ImportError
        as :func:`grid`.
    """
    labels, captions = row_labels or [""] * len(rows), captions or [[""] * len(columns)] * len(rows)
    parts = {"labels": labels, "images": images, "inputs to overlay": overlay, "rows of captions": captions}
    for name, part in parts.items():
        _same(name, part, "rows of maps", rows)
    for i, row in enumerate(rows):
        _same(f"maps in row {i}", row, "columns", columns)
        _same(f"captions in row {i}", captions[i], "columns", columns)
    if not len(rows) or not len(columns):
        raise ShapeError("no maps: give one row and one column at least")
    if isinstance(limit, str) and limit not in ("each", "row"):
        raise ArithmeticMismatch(f'limit={limit!r}: give "each", "row" or a positive number')
    pictures, headings = _colored(rows, limit), list(columns)
    if overlay is not None:
        pictures = [[_over(rgb, image) for rgb in row] for row, image in zip(pictures, overlay, strict=True)]
    if images is not None:
        pictures = [[_picture(image), *row] for row, image in zip(pictures, images, strict=True)]
        captions, headings = [["", *row] for row in captions], ["input", *headings]

    edge, gap = 36, 28
    boxes = [[box(picture, 196) for picture in row] for row in pictures]
    width = max(w for row in boxes for w, _ in row)
    height = max(h for row in boxes for _, h in row)
    words = [text_width(piece.rstrip(), 9) for heading in headings for piece in pieces(heading)]
    width = max([width, *words, *(text_width(caption, 7) for row in captions for caption in row)])
    fall = height + gap + 30 * any(any(row) for row in captions)
    headings = [wrapped(heading, width, 9) for heading in headings]
    left = edge + max(text_width(label, 9) + gap * bool(label) for label in labels)
    top = edge + 34 * max(1 + heading.count("\n") for heading in headings)
    foot = top + fall * len(rows)
    full = {"each": "max |R| of each map", "row": "max |R| of each row"}.get(str(limit), f"|R| = {limit}")
    legend = f"blue: against · white: 0 · red: for · darkest: {full}"

    right = max(left + (width + gap) * len(headings) - gap, left + 280 + text_width(legend, 7))
    page = Page(right + edge, foot + 54)
    for k, heading in enumerate(headings):
        page.write(left + k * (width + gap) + width / 2, top - 12, heading, 9, va="bottom")
    for i, row in enumerate(pictures):
        y = top + i * fall
        page.write(left - gap, y + height / 2, labels[i], 9, ha="right")
        for k, picture in enumerate(row):
            (w, h), middle = boxes[i][k], left + k * (width + gap) + width // 2
            page.draw(picture, middle - w // 2, y + (height - h) // 2, w, h)
            page.write(middle, y + height + 8, captions[i][k], 7, va="top", color=FAINT)
    page.draw(_bar(256)[None], left, foot, 256, 18)
    page.write(left + 280, foot + 9, legend, 7, ha="left", color=FAINT)
    return page.figure()


def _same(name: str, part: Sequence[Any] | None, others: str, other: Sequence[Any]) -> None:
    if part is not None and len(part) != len(other):
        raise ShapeError(f"{len(part)} {name} for {len(other)} {others}: give as many")


def _colored(rows: Sequence[Sequence[Any]], limit: Limit) -> list[list[Array]]:
    colored = []
    for i, row in enumerate(rows):
        maps = [finite(R, f"relevance of map ({i}, {k})") for k, R in enumerate(row)]
        for k, R in enumerate(maps):
            if R.ndim != 2:
                raise ShapeError(f"map ({i}, {k}) has shape {R.shape}, not (H, W): see channel_sum")
        top = max(float(np.abs(R).max(initial=0)) for R in maps) or None if limit == "row" else limit
        colored.append([colors(R, None if top == "each" else top) for R in maps])
    return colored


def _bar(length: int) -> Array:
    """The colors from minus the limit to the limit, in steps of a percent, so that the middle is white."""
    return colors(np.linspace(-1, 1, length).round(2), 1.0)


def _picture(image: Any) -> Array:
    """An input, its smallest value black and its largest white; gray unless it has three channels."""
    image = finite(image, "image", "give the input that was explained")
    image = image[0] if image.ndim == 4 and len(image) == 1 else image
    if image.ndim not in (2, 3):
        raise ShapeError(f"image of shape {image.shape} is no picture: give (H, W) or (C, H, W)")
    if image.ndim == 3:
        image = np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(axis=0)
    low, high = image.min(), image.max()
    levels = np.rint(255 * ((image - low) / ((high - low) or 1))).astype(np.uint8)
    return levels if levels.ndim == 3 else np.stack([levels] * 3, axis=-1)


def _over(rgb: Array, image: Any) -> Array:
    """A map over its input in pale gray: the input alone where R = 0, the color alone at the limit."""
    pale = 185 + 70 / 255 * _picture(image).mean(axis=-1, keepdims=True)
    if pale.shape[:2] != rgb.shape[:2]:
        raise ShapeError(f"a map of shape {rgb.shape[:2]} cannot lie over an image of shape {pale.shape[:2]}")
    alpha = np.sqrt(1 - rgb[..., 1:2] / 255)  # green falls all the way from R = 0 to the limit
    return np.rint(alpha * rgb + (1 - alpha) * pale).astype(np.uint8)
