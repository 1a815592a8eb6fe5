"""Arrays in memory that is used again: what a call needs is allocated once, and kept for the next one."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array, namespace

_SMALL = 2**12
"""Bytes below which the allocator is as quick."""


class Memory:
    """Hands out uninitialised arrays, from blocks that come back when no array refers to them any more.

    What is handed out may be kept for as long as one likes, as a result is. On a device CuPy's pool does the same.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Array]] = {}

    def array(self, shape: Sequence[int], like: Array) -> Array:
        """An array of `shape` with the dtype and on the device of `like`; its values are whatever was there."""
        xp, size = namespace(like), math.prod(shape) * like.dtype.itemsize
        if xp is not np or size < _SMALL:
            return xp.empty(shape, like.dtype)
        free = self._free.setdefault(_size_class(size), [])
        try:
            block = free.pop()
        except IndexError:
            block = np.empty(_size_class(size), np.uint8)
        lease = _Lease(block, tuple(shape), like.dtype.str)
        weakref.finalize(lease, free.append, block).atexit = False
        return np.asarray(lease)

    def empty_channels_last(self, shape: Sequence[int], like: Array) -> Array:
        """The same, as (batch, channels, *size) whose channels lie next to each other in memory."""
        batch, channels, *size = shape
        return channels_first(self.array((batch, *size, channels), like))


class _Lease:
    """What every view of an array from a block refers to; when it is gone, so are they."""

    def __init__(self, block: Array, shape: tuple[int, ...], dtype: str) -> None:
        self.__array_interface__: dict[str, Any] = {**block.__array_interface__, "shape": shape, "typestr": dtype}


def _size_class(size: int) -> int:
    """`size` rounded up to an eighth of a power of 2, so that nearly equal sizes share their blocks."""
    step = 1 << max(0, size.bit_length() - 4)
    return -(-size // step) * step


def channels_first(a: Array) -> Array:
    """(batch, *size, channels) seen as (batch, channels, *size)."""
    return a.transpose(0, a.ndim - 1, *range(1, a.ndim - 1)) if a.ndim > 2 else a


def channels_last(a: Array) -> Array:
    """(batch, channels, *size) seen as (batch, *size, channels)."""
    return a.transpose(0, *range(2, a.ndim), 1) if a.ndim > 2 else a
