"""Arrays in memory that is used again: what a call needs is allocated once. And the orders in which they lie there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pickle import PickleBuffer
from typing import Any
from weakref import ReferenceType, ref

import numpy as np

from ..arrays import Array, namespace

_SMALL = 2**16
"""Bytes below which the allocator is as quick: it keeps them, and asks the system for nothing."""


class Memory:
    """Hands out uninitialised arrays, from blocks that come back when no array refers to them any more.

    What is handed out may be kept for as long as one likes, as a result is. On a device CuPy's pool does the same.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Array]] = {}
        self._lent: _Lent = {}
        self._returned = _returned(self._lent)

    def array(self, shape: Sequence[int], like: Array) -> Array:
        """An array of `shape` with the dtype and on the device of `like`; its values are whatever was there."""
        xp, dtype = namespace(like), like.dtype
        size = math.prod(shape) * dtype.itemsize
        if xp is not np or size < _SMALL:
            return xp.empty(shape, dtype)
        step = 1 << max(0, size.bit_length() - 4)  # an eighth of a power of 2: nearly equal sizes share their blocks
        whole = -(-size // step) * step
        free = self._free.setdefault(whole, [])
        try:
            block = free.pop()
        except IndexError:
            block = np.empty(whole, np.uint8)
        lease: Any = PickleBuffer(block)  # every view refers to it, and a weak reference may; nothing is pickled
        self._lent[ref(lease, self._returned)] = (free, block)
        return np.ndarray(shape, dtype, lease)

    def empty_channels_last(self, shape: Sequence[int], like: Array) -> Array:
        """The same, as (batch, channels, *size) whose channels lie next to each other in memory."""
        batch, channels, *size = shape
        return channels_first(self.array((batch, *size, channels), like))


class Scratch:
    """An array that one block after the other writes its own numbers to."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._array: Array | None = None

    def like(self, block: Array) -> Array:
        """As large as `block`, on the host: what it was given before is overwritten."""
        if self._array is None or self._array.size < block.size:
            self._array = self._memory.array((block.size,), block)
        return self._array[: block.size].reshape(block.shape)


_Lent = dict[ReferenceType[PickleBuffer], tuple[list[Array], Array]]
"""Each lease's block, and where it goes when no view refers to the lease any more."""


def _returned(lent: _Lent) -> Callable[[ReferenceType[PickleBuffer]], None]:
    """What is called then. It does not know its Memory, which is to go when nobody uses it."""

    def back(lease: ReferenceType[PickleBuffer]) -> None:
        free, block = lent.pop(lease)
        free.append(block)

    return back


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
