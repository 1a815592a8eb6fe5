"""Arrays in memory that is used again: what a call needs is allocated once. And the orders in which they lie there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array, namespace
from ..layers.base import Shape

_SMALL = 2**16
"""Bytes below which the allocator is as quick: it keeps them, and asks the system for nothing."""


class Memory:
    """Hands out uninitialised arrays, from blocks that come back when no array refers to them any more.

    What is handed out may be kept for as long as one likes, as a result is. On a device CuPy's pool does the same.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[tuple[Array, Any]]] = {}

    def array(self, shape: Sequence[int], like: Array) -> Array:
        """An array of `shape` with the dtype and on the device of `like`; its values are whatever was there."""
        xp, size = namespace(like), math.prod(shape) * like.dtype.itemsize
        if xp is not np or size < _SMALL:
            return xp.empty(shape, like.dtype)
        whole = _size_class(size)
        free = self._free.setdefault(whole, [])
        try:
            block = free.pop()
        except IndexError:
            numbers = np.empty(whole, np.uint8)
            block = (numbers, numbers.__array_interface__["data"])
        return np.asarray(_Lease(block, free, tuple(shape), like.dtype.str))

    def empty_channels_last(self, shape: Sequence[int], like: Array) -> Array:
        """The same, as (batch, channels, *size) whose channels lie next to each other in memory."""
        batch, channels, *size = shape
        return channels_first(self.array((batch, *size, channels), like))


class _Lease:
    """What every view of an array from a block refers to: when they are gone so is this, and the block is free."""

    def __init__(self, block: tuple[Array, Any], free: list[tuple[Array, Any]], shape: Shape, dtype: str) -> None:
        self.__array_interface__ = {"version": 3, "data": block[1], "shape": shape, "typestr": dtype}
        self._block, self._free = block, free

    def __del__(self) -> None:
        self._free.append(self._block)


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


def lies_channels_last(a: Array) -> bool:
    """Whether (batch, channels, *size) has its channels next to each other in memory."""
    last = channels_last(a)
    return a.ndim > 2 and (bool(last.flags.c_contiguous) or (not on_device(a) and _rows_lie_evenly(last)))


def contiguous(a: Array, memory: Memory) -> Array:
    """`a`, or a copy in C order."""
    if a.flags.c_contiguous:
        return a
    copy = memory.array(a.shape, a)
    copy[...] = a
    return copy


def _rows_lie_evenly(a: Array) -> bool:
    """Whether (..., channels) has its rows contiguous and one as far as the other from the next: as a cut has them."""
    steps = zip(a.strides[:-2], a.strides[1:-1], a.shape[1:-1], strict=True)
    return a.ndim > 1 and a.strides[-1] == a.itemsize and all(outer == inner * n for outer, inner, n in steps)


def rows_of(a: Array, memory: Memory) -> Array:
    """(..., channels) as rows: a view where it can be one, else a copy; on a device contiguous."""
    if on_device(a) or not _rows_lie_evenly(a):
        a = contiguous(a, memory)
    return a.reshape(-1, a.shape[-1])


def empty(shape: Sequence[int], like: Array, memory: Memory) -> Array:
    """An empty array of `shape`, with channels last in memory where `like` has them so."""
    return memory.empty_channels_last(shape, like) if lies_channels_last(like) else memory.array(shape, like)


def same_order(arrays: Sequence[Array]) -> list[Array]:
    """Arrays of one shape seen in the order in which the first lies in memory."""
    return [channels_last(a) for a in arrays] if lies_channels_last(arrays[0]) else list(arrays)


def same_rows(arrays: Sequence[Array], memory: Memory) -> list[Array]:
    """The same as rows of numbers: views, or copies of those that lie otherwise."""
    return [rows_of(a if a.ndim > 1 else a.reshape(-1, 1), memory) for a in same_order(arrays)]


def on_device(a: Array) -> bool:
    """Whether `a` is CuPy's."""
    return namespace(a) is not np
