"""The fast engine on a device: CuPy's matrix products on columns in tiles, and the kernels of :mod:`.kernels`.

Nothing here waits for the device: no number is read back, so the host runs ahead of it; sums stay on it until someone
prints them. Float32 is float32: CuPy leaves the tensor cores' shorter TF32 alone unless the environment sets CUPY_TF32
to another number than 0, and then an explanation's `engine` says "fused (tf32)".
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array, namespace
from ..layers import MaxPool
from ..layers.window import Window
from . import kernels
from .conv import Kernel
from .memory import Memory, channels_first, channels_last, contiguous
from .sweep import Books, Totals

if TYPE_CHECKING:
    from .sweep import Deal

TILE = 2**29
"""Bytes of a tile's columns at most, and at least one position: enough to fill a device, and little of its memory."""
BLOCKS = 4096
"""Blocks of a kernel that sums, over all samples: a few for every multiprocessor."""
_FEW = 64
"""Bytes of a cell's channels below which threads write columns tap by tap."""
_GRID = 65535
"""The most blocks along a grid's second axis."""
_TYPES = {"int": np.int32, "unsigned": np.uint32, "long long": np.int64, "double": np.float64}


def computed(a: Array) -> str:
    """What the engine calls a step whose products were computed here."""
    shorter = a.dtype.char == "f" and os.environ.get("CUPY_TF32", "0") not in ("", "0")
    return "fused (tf32)" if shorter and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0" else "fused"


# --- launching ------------------------------------------------------------------------------------------------------


@functools.cache
def _kernel(name: str, packed: bool, char: str, device: int) -> Any:
    """The compiled kernel; `device` is the one that it is loaded on."""
    import cupy

    number = {"f": "float", "d": "double"}[char]
    module = cupy.RawModule(code=_source(), options=(f"-DNUMBER={number}",))
    return module.get_function(kernels.kernel_name(name, packed=packed))


_source = functools.cache(kernels.source)


@functools.cache
def _kinds(name: str) -> tuple[Any, ...]:
    """How each argument of a kernel is passed; None for a pointer."""
    kinds = (parameter.rpartition(" ")[0] for parameter in kernels.PARAMETERS[name].split(", "))
    return tuple(None if "*" in kind else _TYPES[kind] for kind in kinds)


def _launch(name: str, grid: tuple[int, ...], like: Array, packed: bool, arguments: Sequence[Any]) -> None:
    """Start a kernel. Arrays must be contiguous; None is a null pointer."""
    cupy = namespace(like)
    converted = [
        (np.uint64(0) if argument is None else argument) if kind is None else kind(argument)
        for kind, argument in zip(_kinds(name), arguments, strict=True)
    ]
    kernel = _kernel(name, packed, like.dtype.char, cupy.cuda.runtime.getDevice())
    kernel(grid, (kernels.THREADS,), tuple(converted))


def _together(channels: int, *arrays: Array | None) -> int:
    """How many numbers a thread takes at once: a pack, where channels and addresses allow it."""
    first = next(a for a in arrays if a is not None)
    numbers: int = kernels.WIDTH // first.dtype.itemsize
    aligned = all(a is None or a.data.ptr % kernels.WIDTH == 0 for a in arrays)
    return numbers if channels % numbers == 0 and aligned else 1


def _grid(images: int, numbers: int, most: int) -> tuple[int, int]:
    """Blocks for `numbers` numbers (or packs) of each image; at most about `most` in all."""
    blocks = -(-numbers // kernels.THREADS)
    return max(1, min(blocks, -(-most // max(1, images)))), max(1, min(images, _GRID))


def _geometry(window: Window, size: Sequence[int], positions: Sequence[int]) -> tuple[int, ...]:
    """The window as the kernels take it: three axes each of size, positions, kernel, stride, dilation and padding."""
    missing = 3 - len(size)
    before = [padding[0] for padding in window.padding]
    parts = (size, positions, window.kernel, window.stride, window.dilation)
    return (*(n for part in parts for n in (*(1,) * missing, *part)), *(0,) * missing, *before)


def _per_image(
    name: str, images: int, numbers: int, channels: int, like: Array, pointers: Sequence[Array], *rest: Any
) -> None:
    """Start a kernel that has a thread for each of an image's `numbers` outputs."""
    if images and numbers:
        together = _together(channels, *pointers)
        if numbers // together >= 2**31:
            raise MemoryError(f"an image of {numbers} numbers is more than a kernel counts: make the input smaller")
        grid = _grid(images, numbers // together, 2**30)
        _launch(name, grid, like, together > 1, (*pointers, images, channels // together, *rest))


# --- convolutions ----------------------------------------------------------------------------------------------------


def _tiles(count: int, most: int) -> Iterator[tuple[int, int]]:
    """[first, last) that cover `count` rows, all of one length: products of one shape round alike, and so equal patches
    have equal outputs. The last may begin before the one before it ends.
    """
    parts = -(-count // max(1, most))
    length = -(-count // max(1, parts))
    for part in range(parts):
        first = min(part * length, count - length)
        yield first, first + length


def products(x: Array, kernel: Kernel, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory) -> None:
    """Each out (rows, outputs) becomes the columns of x (batch, *size, channels) times its matrix."""
    xp, (batch, *size, channels) = namespace(x), x.shape
    positions = kernel.window.positions(size)
    count = math.prod(positions)
    if kernel.pointwise:
        cells = x.reshape(-1, channels)
        for matrix, out in zip(matrices, outs, strict=True):
            xp.dot(cells, matrix[0], out=out)
        return
    geometry = _geometry(kernel.window, size, positions)
    if kernel.depthwise:
        for matrix, out in zip(matrices, outs, strict=True):
            _per_image(
                "depthwise", batch, count * channels, channels, x, (x, contiguous(matrix, memory), out), *geometry
            )
        return
    groups, inputs, outputs = kernel.groups, kernel.inputs_a_group, kernel.outputs_a_group
    depth = kernel.window.taps * inputs
    for first, last in _tiles(batch * count, TILE // (groups * depth * x.itemsize)):
        columns = _columns(x, kernel, first, last - first, count, geometry, memory)
        for matrix, out in zip(matrices, outs, strict=True):
            if groups == 1:
                xp.dot(columns[0], matrix[0], out=out[first:last])
            else:
                product = xp.matmul(columns, matrix)  # (groups, rows, outputs)
                out[first:last].reshape(-1, groups, outputs)[...] = product.transpose(1, 0, 2)


def _columns(
    x: Array, kernel: Kernel, first: int, rows: int, count: int, geometry: Sequence[int], memory: Memory
) -> Array:
    """(groups, rows, taps * inputs): the cells under each tap of the positions from `first`, of `count` an image."""
    groups, inputs = kernel.groups, kernel.inputs_a_group
    columns = memory.array((groups, rows, kernel.window.taps * inputs), x)
    together = _together(inputs, x, columns)
    by_tap = inputs * x.itemsize < _FEW
    threads = groups * rows * (kernel.window.taps if by_tap else inputs // together)
    grid = (min(-(-threads // kernels.THREADS), 2**30), 1)
    arguments = (x, columns, first // count, first % count, rows, groups, inputs // together, by_tap, *geometry)
    _launch("columns", grid, x, together > 1, arguments)
    return columns


def added_back(s: Array, kernel: Kernel, matrix: Array, out: Array, memory: Memory) -> None:
    """The transpose of `products`: out (batch, *size, channels) becomes what s (rows, outputs) gives back.

    Tiles are whole images, for a cell sums over all that read it; outputs may be those of several weights.
    """
    xp, (batch, *size, channels) = namespace(s), out.shape
    positions = kernel.window.positions(size)
    geometry = _geometry(kernel.window, size, positions)
    if kernel.pointwise:
        xp.dot(s, matrix[0].T, out=out.reshape(-1, channels))
        return
    if kernel.depthwise:
        _per_image("depthwise_back", batch, math.prod(size) * channels, channels, s, (s, matrix, out), *geometry)
        return
    count, groups, inputs = math.prod(positions), kernel.groups, kernel.inputs_a_group
    depth = kernel.window.taps * inputs
    most = TILE // max(1, count * groups * depth * s.itemsize)
    for first, last in _tiles(batch, most):
        of_tile = s[first * count : last * count]
        columns = memory.array((groups, len(of_tile), depth), s)
        if groups == 1:
            xp.dot(of_tile, matrix[0].T, out=columns[0])
        else:
            parts = of_tile.reshape(len(of_tile), groups, -1).transpose(1, 0, 2)
            xp.matmul(parts, matrix.transpose(0, 2, 1), out=columns)
        into = out[first:last]
        numbers, together = math.prod(size) * channels, _together(inputs, columns, into)
        if last > first and numbers:
            grid = _grid(last - first, numbers // together, 2**30)
            arguments = (columns, into, last - first, groups, inputs // together, *geometry)
            _launch("added_back", grid, s, together > 1, arguments)


# --- what is done element by element, with sums ---------------------------------------------------------------------


def nothing(batch: int, xp: Any) -> Totals:
    """The totals of no relevance."""
    none = xp.zeros(batch)
    return Totals(none, none)


def finished(c: Array, x: Array | None, more: Array | None, batch: int, out: Array | None = None) -> Totals:
    """c x + more, in place or into `out`, and its totals; x and more None: 1 and 0. All are contiguous rows."""
    xp, numbers = namespace(c), c.size // max(1, batch)
    if not c.size:
        return nothing(batch, xp)
    together = _together(numbers, c, x, more, out)
    _counted(numbers // together)
    grid = _grid(batch, numbers // together, BLOCKS)
    sums = xp.empty((2, batch, grid[0]))
    into = out if out is not None else c if x is not None or more is not None else None
    _launch("finish", grid, c, together > 1, (c, x, more, into, sums, batch, numbers // together))
    found = sums.sum(axis=2)
    return Totals(found[0], found[1])


def lifted(
    z: Array, ridden: Sequence[Array], biases: Sequence[Array | None], gammas: Sequence[float | None] | None,
    *, rectified: bool = False,
) -> None:  # fmt: skip
    """The end of a product, in rows: z and at most two that rode along get their biases, a number a channel or None.

    With `gammas` the two are the products of the two signs of weights, z becomes their sum, and each with a gamma
    becomes gamma times itself plus z. `rectified`: z is then what a ReLU makes of it.
    """
    if not z.size or not (gammas or rectified or any(bias is not None for bias in biases)):
        return
    one, other = (*ridden, None, None)[:2]
    bias, bias_one, bias_other = (*biases, None, None)[:3]
    together = _together(z.shape[1], z, one, other, bias, bias_one, bias_other)
    _counted(z.size // together)
    raised = [-1.0 if gamma is None else float(gamma) for gamma in gammas or (None, None)]
    pointers, counts = (z, one, other, bias, bias_one, bias_other), (z.size // together, z.shape[1] // together)
    arguments = (*pointers, *counts, bool(gammas), rectified)
    _launch("lift", _grid(1, z.size // together, 2**16), z, together > 1, (*arguments, *raised))


def shared(
    deal: Deal, R: Array, parts: Sequence[Array], outs: Sequence[Array], batch: int, books: Books
) -> list[Totals]:
    """The two parts of a sum times s = R / (z + e), and their totals; s is kept nowhere. All are contiguous rows."""
    xp = namespace(R)
    if not R.size:
        return [nothing(batch, xp) for _ in parts]
    numbers = R.size // batch
    pointers = (R, deal.own, deal.e, *parts, *outs)
    together = _together(numbers, *pointers)
    _counted(numbers // together)
    grid = _grid(batch, numbers // together, BLOCKS)
    sums = xp.empty((7, batch, grid[0]))
    _launch("shared", grid, R, together > 1, (*pointers, sums, batch, numbers // together, deal.epsilon))
    found = sums.sum(axis=2)
    books.book(stabilizer=found[0])
    if deal.e is not None or not deal.epsilon:
        books.book(unclaimed=found[1], poles=found[2].astype(int))
    return [Totals(found[3], found[4]), Totals(found[5], found[6])]


def _counted(numbers: int) -> None:
    if numbers >= 2**31:
        raise MemoryError(f"a sample of {numbers} numbers is more than a kernel counts: make the input smaller")


def divided(deal: Deal, R: Array, s: Array, batch: int, books: Books, memory: Memory) -> bool:
    """See Deal.divide; whether anything was dealt out is not looked at, so the answer is yes.

    s is R, or rows that may lie apart from each other.
    """
    xp, channels = namespace(R), R.shape[1]
    if not R.size:
        return True
    numbers = R.size // batch
    poles = deal.e is not None or not deal.epsilon
    marks = None
    if books.shares > 1 and (poles or deal.one_sign):
        if books.marks is None:
            books.marks = xp.zeros(R.shape, np.uint8)
        marks = books.marks
    apart = s.strides[0] // s.itemsize if len(s) > 1 else channels
    bias = None if deal.bias is None else contiguous(deal.bias, memory)
    given = (R, deal.own, deal.e, deal.sign_of, bias)
    contiguous_ones = [None if a is None else contiguous(a, memory) for a in given]
    together = _together(math.gcd(channels, apart), *contiguous_ones, s)
    _counted(numbers // together)
    grid = _grid(batch, numbers // together, BLOCKS)
    sums = xp.empty((5, batch, grid[0]))
    by_sign = isinstance(deal.portion, str)
    sign = {"positive": 1, "negative": -1}[str(deal.portion)] if by_sign else 0
    arguments = (
        *contiguous_ones, s, marks, sums, batch, numbers // together, channels // together, apart // together,
        int(bias is not None and bias.ndim > 1), sign, int(deal.neither), int(deal.one_sign),
        1.0 if by_sign else deal.portion, deal.epsilon,
    )  # fmt: skip
    _launch("divide", grid, R, together > 1, arguments)
    found = sums.sum(axis=2)
    if poles or deal.epsilon:
        books.book(stabilizer=found[0])
    if bias is not None:
        books.book(bias=found[1])
    if poles or deal.neither:
        books.book(unclaimed=found[2])
    if poles:
        books.book(poles=found[3].astype(int))
    if deal.one_sign:
        books.book(empty=found[4].astype(int))
    return True


# --- max pools ------------------------------------------------------------------------------------------------------


def maxima(layer: MaxPool, a: Array, memory: Memory) -> Array:
    """The greatest cell of each window."""
    window, positions = layer._windows(a.shape)
    batch, channels, *size = a.shape
    z = memory.empty_channels_last((batch, channels, *positions), a)
    pointers = (contiguous(channels_last(a), memory), channels_last(z))
    numbers = math.prod(positions) * channels
    _per_image("maxima", batch, numbers, channels, a, pointers, *_geometry(window, size, positions))
    return z


def routed(layer: MaxPool, a: Array, z: Array, R: Array, memory: Memory) -> Array:
    """Each output's relevance at the first cell of its window that has its value."""
    window, positions = layer._windows(a.shape)
    batch, channels, *size = a.shape
    out = memory.array((batch, *size, channels), R)
    pointers = (*(contiguous(channels_last(each), memory) for each in (a, z, R)), out)
    numbers = math.prod(size) * channels
    _per_image("routed", batch, numbers, channels, a, pointers, *_geometry(window, size, positions))
    return channels_first(out)
