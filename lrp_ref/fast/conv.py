"""Convolutions in tiles, whose column buffer stays in the cache.

A tile is a block of output rows. Its columns, the cells under each tap, are copied once and multiplied by the kernel as
one matrix product, straight into the output. With stride 1 the adjoint is a convolution too, of s with the kernel
flipped; with other strides the product's columns are added back to where they were read, tile by tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..arrays import Array, namespace
from ..layers import Conv
from ..layers.base import Shape
from ..layers.window import Window
from ..values import value

TILE = 2**20
"""The most numbers of a tile's column buffer: 4 MB in float32, about what the outer cache of a core holds."""


@value
class TiledConv(Conv):
    """A two-dimensional :class:`Conv` of one group, computed in tiles."""

    def linear(self, x: Array, w: Array) -> Array:
        """One matrix product a tile: (outputs, inputs * taps) @ (inputs * taps, positions)."""
        positions = self.window.positions(x.shape[2:])
        return _convolved(x, w.reshape(len(w), -1), self.window, positions)

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """A convolution with the flipped kernel, or the transposed product added back."""
        window = self.window
        beyond = [span - 1 - before for span, (before, _) in zip(window.span, window.padding, strict=True)]
        if set(window.stride) == {1} and min(beyond) >= 0:
            flipped = w[:, :, ::-1, ::-1].swapaxes(0, 1)
            sides = zip(shape[2:], window.span, beyond, s.shape[2:], strict=True)
            after = [n + span - 1 - before - count for n, span, before, count in sides]
            if min(after) >= 0:
                back = Window(window.kernel, window.stride, tuple(zip(beyond, after, strict=True)), window.dilation)
                return _convolved(s, flipped.reshape(shape[1], -1), back, shape[2:])
        return _added_back(s, w.reshape(len(w), -1), window, shape)


def _convolved(x: Array, matrix: Array, window: Window, positions: Sequence[int]) -> Array:
    """The product of `matrix` (outputs, channels * taps) with the columns of x."""
    xp = namespace(x)
    n, outputs = len(x), len(matrix)
    out = xp.empty((n, outputs, *positions), x.dtype)
    if _pointwise(window):
        return xp.matmul(matrix, x.reshape(n, x.shape[1], -1), out=out.reshape(n, outputs, -1)).reshape(out.shape)
    for image, result in zip(x, out.reshape(n, outputs, -1), strict=True):
        padded = _padded(image, window)
        for top, bottom in _tiles(matrix.shape[1], positions):
            columns = xp.empty((x.shape[1], window.taps, bottom - top, positions[1]), x.dtype)
            for tap, cells in _taps(padded, window, top, bottom, positions):
                columns[:, tap] = cells
            flat = slice(top * positions[1], bottom * positions[1])
            xp.matmul(matrix, columns.reshape(matrix.shape[1], -1), out=result[:, flat])
    return out


def _added_back(s: Array, matrix: Array, window: Window, shape: Shape) -> Array:
    """The transpose of `_convolved`."""
    xp = namespace(s)
    n, channels, positions = len(s), shape[1], s.shape[2:]
    transposed = matrix.T
    if _pointwise(window):
        return xp.matmul(transposed, s.reshape(n, s.shape[1], -1)).reshape(shape)
    out = xp.empty(shape, s.dtype)
    for rows, result in zip(s.reshape(n, s.shape[1], -1), out, strict=True):
        padded = _padded(xp.zeros(shape[1:], s.dtype), window)
        for top, bottom in _tiles(matrix.shape[1], positions):
            flat = slice(top * positions[1], bottom * positions[1])
            columns = xp.matmul(transposed, rows[:, flat])
            columns = columns.reshape(channels, window.taps, bottom - top, positions[1])
            for tap, cells in _taps(padded, window, top, bottom, positions):
                cells += columns[:, tap]
        (above, _), (left, _) = window.padding
        result[...] = padded[:, above : above + shape[2], left : left + shape[3]]
    return out


def _pointwise(window: Window) -> bool:
    """Whether every output reads the one cell at its own place."""
    return window.taps == 1 and set(window.stride) == {1} and not any(map(sum, window.padding))


def _padded(image: Array, window: Window) -> Array:
    (above, below), (left, right) = window.padding
    if not (above or below or left or right):
        return image
    channels, height, width = image.shape
    padded = namespace(image).zeros((channels, above + height + below, left + width + right), image.dtype)
    padded[:, above : above + height, left : left + width] = image
    return padded


def _tiles(depth: int, positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Blocks of output rows, of equal height but for the last."""
    height, width = positions
    rows = max(1, min(height, TILE // max(1, depth * width)))
    rows = math.ceil(height / math.ceil(height / rows))  # no thin rest
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _taps(
    padded: Array, window: Window, top: int, bottom: int, positions: Sequence[int]
) -> Iterator[tuple[int, Array]]:
    """For each tap the cells that rows `top` to `bottom` of the outputs read."""
    (down, across), (step_y, step_x) = window.stride, window.dilation
    rows, columns = bottom - top, positions[1]
    for tap, (y, x) in enumerate(np.ndindex(*window.kernel)):
        first = top * down + y * step_y
        yield (
            tap,
            padded[
                :,
                first : first + (rows - 1) * down + 1 : down,
                x * step_x : x * step_x + (columns - 1) * across + 1 : across,
            ],
        )
