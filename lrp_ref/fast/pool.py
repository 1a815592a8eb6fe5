"""Max pools without a copy of their windows: one pass over the input for each tap, in tiles of output rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..arrays import Array
from ..layers import MaxPool
from ..layers.base import Shape
from ..layers.window import Window
from .conv import Tile, _inside, _read_by, tiles
from .memory import Memory, channels_first, channels_last, contiguous, on_device


def fits(layer: object) -> bool:
    """Whether the layer is a max pool whose first maximum takes all."""
    return type(layer) is MaxPool and layer.ties == "first" and layer.frozen_as == "winner"


def windows_apart(layer: MaxPool, shape: Shape) -> bool:
    """Whether no two windows share a cell."""
    window, _ = layer._windows(shape)
    return all(span <= step for span, step in zip(window.span, window.stride, strict=True))


def maxima(layer: MaxPool, a: Array, memory: Memory) -> Array:
    """The greatest cell of each window."""
    if on_device(a):
        from . import device

        return device.maxima(layer, a, memory)
    window, positions = layer._windows(a.shape)
    z = memory.empty_channels_last((*a.shape[:2], *positions), a)
    whole, out = _whole(channels_last(a), window, positions, memory), channels_last(z)
    for tile, cells in _tiled(whole, window, positions):
        into = out[tile.image : tile.until, tile.top : tile.bottom]
        np.copyto(into, cells[0])
        for cell in cells[1:]:
            np.maximum(into, cell, out=into)
    return z


def routed(layer: MaxPool, a: Array, z: Array, R: Array, memory: Memory) -> Array:
    """Each output's relevance at the first cell of its window that has its value."""
    if on_device(a):
        from . import device

        return device.routed(layer, a, z, R, memory)
    window, positions = layer._windows(a.shape)
    whole, z, R = _whole(channels_last(a), window, positions, memory), channels_last(z), channels_last(R)
    R_in = memory.array(whole.shape, R)
    size = whole.shape[1:-1]
    covered = tuple(n * step for n, step in zip(positions, window.stride, strict=True))
    covers = window.kernel == window.stride and window.dilation == (1,) * len(size) and covered == size
    if not covers:
        R_in[...] = 0
    places = _tiled(R_in, window, positions)
    for (tile, cells), (_, into) in zip(_tiled(whole, window, positions), places, strict=True):
        of_tile = (slice(tile.image, tile.until), slice(tile.top, tile.bottom))
        greatest, came = z[of_tile], R[of_tile]
        waiting = np.ones(greatest.shape, dtype=bool)
        passed = memory.array(came.shape, came)
        for cell, part in zip(cells, into, strict=True):
            wins = cell == greatest
            wins &= waiting
            waiting ^= wins
            np.copyto(passed, wins)  # numbers times numbers are quicker than times bools
            np.multiply(came, passed, out=part if covers else passed)
            if not covers:
                part += passed
    inside = R_in[(slice(None), *_inside(a.shape[2:], window))]
    return channels_first(contiguous(inside, memory))


def _whole(a: Array, window: Window, positions: Shape, memory: Memory) -> Array:
    """(batch, *size, channels) with its padding and what hangs over the end, -inf there."""
    extent = window.extent(a.shape[1:-1], positions)
    if extent == a.shape[1:-1]:
        return a
    whole = memory.array((len(a), *extent, a.shape[-1]), a)
    whole[...] = -np.inf
    whole[(slice(None), *_inside(a.shape[1:-1], window))] = a
    return whole


def _tiled(whole: Array, window: Window, positions: Shape) -> Iterator[tuple[Tile, list[Array]]]:
    """Each tile with the cells of each tap."""
    for tile in tiles(len(whole), positions, 32 * whole.shape[-1] * whole.itemsize):
        yield tile, [cells for _, cells in _read_by(whole, window, tile, positions, 1)]
