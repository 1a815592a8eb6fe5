"""Convolutions as matrix products over tiles, whose columns stay in the cache.

Arrays here have their channels last: (batch, *size, channels). A tile is a block of output rows, or several images. Its
columns, the cells under each tap, are copied once and multiplied by every matrix that wants them, straight into the
outputs. On large planes of many channels there are no columns: each tap is multiplied by itself, and its product added
to the outputs. With stride 1 the adjoint is a convolution too, of s with the kernel flipped; with other strides, the
columns that the transposed matrix gives are added back to where they were read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..arrays import Array, namespace
from ..layers import Conv
from ..layers.base import Shape
from ..layers.window import Window
from ..values import value
from .blas import AddingProduct, adding_product
from .memory import Memory, contiguous

TILE = 2**23
"""Bytes of a tile's columns at most, and at least one row: about what the outer cache of a core holds."""

SHIFTED = 512
"""Positions from which on products that are added are quicker than columns."""
WIDE = 96
"""Channels from which on a depthwise kernel is quicker position by position."""


class Tile(NamedTuple):
    """Output rows `top` to `bottom` of the images `image` to `until`: rows `first` to `last` of the products."""

    image: int
    until: int
    top: int
    bottom: int
    first: int
    last: int

    @property
    def places(self) -> int:
        """How many positions it has."""
        return self.last - self.first

    def shape(self, positions: Shape) -> Shape:
        """(images, rows, *other positions)."""
        return (self.until - self.image, self.bottom - self.top, *positions[1:])


Finish = Callable[[int, int], None]
"""What is done to rows [first, last) of the outputs while they are in the cache."""


@value
class Kernel:
    """A convolution without its weights: how cells lead to positions."""

    window: Window
    groups: int
    channels: int
    outputs: int

    @classmethod
    def of(cls, layer: Conv) -> Kernel:
        """The kernel of a layer."""
        return cls(layer.window, layer.groups, layer.weight.shape[1] * layer.groups, len(layer.weight))

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved with a kernel of its own, into one output."""
        return self.groups == self.channels == self.outputs > 1

    @property
    def inputs_a_group(self) -> int:
        """How many channels an output reads."""
        return self.channels // self.groups

    @property
    def outputs_a_group(self) -> int:
        """How many outputs read the same channels."""
        return self.outputs // self.groups

    @property
    def pointwise(self) -> bool:
        """Whether every output reads the one cell at its own place."""
        window = self.window
        return window.taps == 1 and set(window.stride) == {1} and not any(map(sum, window.padding)) and self.groups == 1

    @property
    def flipped(self) -> bool:
        """Whether the adjoint is a convolution too."""
        sides = zip(self.window.span, self.window.padding, strict=True)
        return set(self.window.stride) == {1} and all(span > max(padding) for span, padding in sides)

    def flips(self, size: Shape, positions: Shape) -> Kernel | None:
        """The convolution that is this one's adjoint for inputs of `size`; None where there is none."""
        if not self.flipped:
            return None
        window = self.window
        sides = zip(size, window.span, window.padding, positions, strict=True)
        beyond = tuple((span - 1 - before, n - count + before) for n, span, (before, _), count in sides)
        flipped = Window(window.kernel, window.stride, beyond, window.dilation)
        return Kernel(flipped, self.groups, self.outputs, self.channels)

    def matrix(self, w: Array) -> Array:
        """(groups, taps * inputs, outputs): what columns are multiplied by. Depthwise: (taps, channels)."""
        if self.depthwise:
            return namespace(w).ascontiguousarray(w.reshape(self.channels, self.window.taps).T)
        parts = w.reshape(self.groups, self.outputs_a_group, -1, self.window.taps)
        return (
            namespace(w).ascontiguousarray(parts.transpose(0, 3, 2, 1)).reshape(self.groups, -1, self.outputs_a_group)
        )

    def flipped_matrix(self, w: Array) -> Array:
        """(groups, taps * outputs, inputs): the matrix of the adjoint as a convolution. Depthwise: (taps, channels)."""
        if self.depthwise:
            return self.matrix(w)[::-1]
        parts = w.reshape(self.groups, self.outputs_a_group, -1, self.window.taps)[..., ::-1]
        return namespace(w).ascontiguousarray(parts.transpose(0, 3, 1, 2)).reshape(self.groups, -1, self.inputs_a_group)


def products(
    x: Array, kernel: Kernel, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory,
    finish: Finish | None = None,
) -> None:  # fmt: skip
    """Each out (rows, outputs) becomes the columns of x (batch, *size, channels) times its matrix."""
    positions = kernel.window.positions(x.shape[1:-1])
    if kernel.pointwise:
        return _pointwise(x, positions, matrices, outs, finish)
    if kernel.depthwise:
        by_position = [out.reshape(len(x), *positions, kernel.outputs) for out in outs]
        return _depthwise(x, kernel, positions, matrices, by_position, memory, finish)
    if _shifts(x, kernel, positions, outs) and (add := adding_product(x.dtype)):
        return _by_shifts(x, kernel, matrices, outs, memory, add, finish)
    if _slides(kernel, positions, x.itemsize):
        return _by_bands(x, kernel, positions, matrices, outs, memory, finish)
    return _by_columns(x, kernel, positions, matrices, outs, memory, finish)


def _by_columns(
    x: Array, kernel: Kernel, positions: Shape, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory,
    finish: Finish | None,
) -> None:  # fmt: skip
    """The cells under each position as a row, copied once for all matrices."""
    inputs, outputs = kernel.inputs_a_group, kernel.outputs_a_group
    depth = kernel.window.taps * inputs
    for tile in tiles(len(x), positions, depth * x.itemsize):
        cells = _cells(x, kernel.window, tile, positions, memory)
        columns = memory.array((tile.places, depth), x)
        for group in range(kernel.groups):
            cells_of_group = cells[..., group * inputs : (group + 1) * inputs]
            columns.reshape(cells_of_group.shape)[...] = cells_of_group
            into = slice(group * outputs, (group + 1) * outputs)
            for matrix, out in zip(matrices, outs, strict=True):
                np.matmul(columns, matrix[group], out=out[tile.first : tile.last, into])
        if finish:
            finish(tile.first, tile.last)


def _pointwise(
    x: Array, positions: Shape, matrices: Sequence[Array], outs: Sequence[Array], finish: Finish | None
) -> None:
    """The cells themselves are the columns; tiles, for what finishes them in the cache."""
    rows = x.reshape(-1, x.shape[-1])
    width = rows.shape[1] + sum(out.shape[1] for out in outs)
    for tile in tiles(len(x), positions, width * x.itemsize):
        for matrix, out in zip(matrices, outs, strict=True):
            np.matmul(rows[tile.first : tile.last], matrix[0], out=out[tile.first : tile.last])
        if finish:
            finish(tile.first, tile.last)


def _shifts(x: Array, kernel: Kernel, positions: Shape, outs: Sequence[Array]) -> bool:
    """Whether products that are added to the outputs are quicker than columns: see `_by_shifts`."""
    outputs = sum(out.shape[1] for out in outs)
    return _keeps_size(x, kernel, positions) and outputs <= 4 * kernel.channels and math.prod(positions) >= SHIFTED


def _keeps_size(x: Array, kernel: Kernel, positions: Shape) -> bool:
    """Whether there is a position for each cell of a plane, and one of its taps reads that cell."""
    window = kernel.window
    plain = len(positions) == 2 and kernel.groups == 1 and set(window.stride) == {1} and positions == x.shape[1:-1]
    return plain and all(
        before % step == 0 and max(before, after) < n
        for (before, after), step, n in zip(window.padding, window.dilation, positions, strict=True)
    )


def _by_shifts(
    x: Array, kernel: Kernel, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory, add: AddingProduct,
    finish: Finish | None,
) -> None:  # fmt: skip
    """No columns: what a tap reads is x itself, shifted by some rows, and its product is added to the outputs.

    For a shift along the rows x is copied, with 0 where one end of a row would meet the other end of the next.
    """
    window, (batch, height, width, channels) = kernel.window, x.shape
    (above, below), (left, _), (step, along) = *window.padding, window.dilation
    taps = [(i * step - above, j * along - left) for i, j in np.ndindex(*window.kernel)]  # rows and cells further on
    middle_first = sorted(range(len(taps)), key=lambda tap: taps[tap] != (0, 0))  # it alone is read everywhere
    outputs = sum(out.shape[1] for out in outs)
    every = list(blocks(height, max(1, 4 * TILE // (width * (2 * channels + outputs) * x.itemsize))))
    most = max(bottom - top for top, bottom in every) + above + below
    copies = {across: memory.array((most, width, channels), x) for across in {across for _, across in taps} - {0}}
    for image, (top, bottom) in itertools.product(range(batch), every):
        low, high = max(0, top - above), min(height, bottom + below)
        first, count = (image * height + top) * width, (bottom - top) * width
        cells = {0: x[image, low:high]}
        for across, copy in copies.items():
            cells[across] = copy[: high - low]
            cells[across][...] = cells[0]
            cells[across][:, slice(across) if across > 0 else slice(width + across, None)] = 0
        rows = {across: part.reshape(-1, channels) for across, part in cells.items()}
        for matrix, out in zip(matrices, outs, strict=True):
            into = out[first : first + count]
            for tap in middle_first:
                down, across = taps[tap]
                weight = matrix[0, tap * channels : (tap + 1) * channels]
                shift = (top + down - low) * width + across
                start, stop = max(0, -shift), min(count, len(rows[across]) - shift)
                if down == across == 0:
                    np.matmul(rows[0][shift : shift + count], weight, out=into)
                elif start < stop:
                    add(rows[across][start + shift : stop + shift], weight, into[start:stop])
        if finish:
            finish(first, first + count)


def _slides(kernel: Kernel, positions: Shape, itemsize: int) -> bool:
    """Whether the rows of columns are worth being shared by the rows of the kernel: see `_by_bands`."""
    window = kernel.window
    plain = len(positions) == 2 and kernel.groups == 1 and window.stride[0] == 1 and window.kernel[0] > 1
    return plain and math.prod(positions) * window.taps * kernel.channels * itemsize > TILE


def _by_bands(
    x: Array, kernel: Kernel, positions: Shape, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory,
    finish: Finish | None,
) -> None:  # fmt: skip
    """Columns of one row of the kernel alone, a band for each row of x: the other rows read the bands below it.

    A third of the copying of a kernel of three rows, for one sum over the outputs for each row but the first.
    """
    window = kernel.window
    (height, width), (down, _), (above, _) = kernel.window.kernel, window.dilation, window.padding[0]
    depth = width * kernel.channels
    every = list(tiles(len(x), positions, (depth + (len(outs) + 1) * kernel.outputs) * x.itemsize))
    most = max(tile.bottom - tile.top for tile in every)
    buffer = memory.array((most + window.span[0] - 1, positions[1], width, kernel.channels), x)
    parts = memory.array((most * positions[1], kernel.outputs), x)
    across = _across(window, x.shape[2], positions[1])
    for tap, (first, last, _) in enumerate(across):
        buffer[:, :first, tap] = 0
        buffer[:, last:, tap] = 0
    weights = [[matrix[0, row * depth : (row + 1) * depth] for row in range(height)] for matrix in matrices]
    for tile in every:
        count = tile.bottom - tile.top
        _fill_bands(buffer[: count + window.span[0] - 1], x[tile.image], tile.top - above, across)
        columns = [buffer[row * down : row * down + count].reshape(tile.places, depth) for row in range(height)]
        part = parts[: tile.places]
        for of_rows, out in zip(weights, outs, strict=True):
            into = out[tile.first : tile.last]
            np.matmul(columns[0], of_rows[0], out=into)
            for rows, weight in zip(columns[1:], of_rows[1:], strict=True):
                np.matmul(rows, weight, out=part)
                np.add(into, part, out=into)
        if finish:
            finish(tile.first, tile.last)


def _across(window: Window, size: int, positions: int) -> list[tuple[int, int, slice]]:
    """For each tap of a row: the first and last position that read a cell with it, and the cells."""
    found = []
    for tap in range(window.kernel[1]):
        step, shift = window.stride[1], tap * window.dilation[1] - window.padding[1][0]
        first = min(positions, max(0, -(shift // step)))  # position p reads cell p * step + shift
        last = max(first, min(positions, (size - 1 - shift) // step + 1))
        found.append((first, last, slice(first * step + shift, max(0, (last - 1) * step + shift + 1), step)))
    return found


def _fill_bands(bands: Array, image: Array, low: int, across: Sequence[tuple[int, int, slice]]) -> None:
    """Band i becomes the columns of row low + i of the image, 0 where there is none."""
    start = min(max(low, 0), len(image))
    stop = max(min(low + len(bands), len(image)), start)
    if start > low:
        bands[: start - low] = 0
    if stop < low + len(bands):
        bands[stop - low :] = 0
    for tap, (first, last, cells) in enumerate(across):
        if last > first:
            bands[start - low : stop - low, first:last, tap] = image[start:stop, cells]


def _depthwise(
    x: Array, kernel: Kernel, positions: Shape, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory,
    finish: Finish | None,
) -> None:  # fmt: skip
    """One multiplication a tap: there is no matrix product to be had. Tiles are small, for many passes go over them."""
    wide = kernel.channels >= WIDE
    # of few channels the kernel is repeated for a row of positions, or numpy would take one position at a time
    weights = matrices if wide else [np.tile(matrix, (1, positions[-1])) for matrix in matrices]
    for tile in tiles(len(x), positions, 16 * kernel.channels * x.itemsize):
        cells = _cells(x, kernel.window, tile, positions, memory)
        for weight, out in zip(weights, outs, strict=True):
            total = out[tile.image : tile.until, tile.top : tile.bottom]
            if wide:
                _place_by_place(cells, weight, total)
            else:
                _tap_by_tap(cells, weight, total, memory.array(total.shape, x))
        if finish:
            finish(tile.first, tile.last)


def _place_by_place(cells: Array, weight: Array, total: Array) -> None:
    """The sum over the taps (images, *positions, *kernel, channels) times (taps, channels), a position at a time."""
    axes = total.ndim - 2
    channel, place, taps = 0, [*range(1, axes + 2)], [*range(axes + 2, 2 * axes + 2)]
    by_tap = weight.reshape(cells.shape[axes + 1 :])
    np.einsum(cells, [*place, *taps, channel], by_tap, [*taps, channel], [*place, channel], out=total)


def _tap_by_tap(cells: Array, weight: Array, total: Array, term: Array) -> None:
    """The same, a pass over all positions for each tap; the weight is (taps, positions of a row * channels)."""
    *_, across, channels = total.shape
    kernel = cells.shape[total.ndim - 1 : -1]
    for tap, at in enumerate(np.ndindex(*kernel)):
        np.multiply(cells[(..., *at, slice(None))], weight[tap].reshape(across, channels), out=term if tap else total)
        if tap:
            np.add(total, term, out=total)


def added_back(s: Array, kernel: Kernel, matrix: Array, out: Array, memory: Memory) -> None:
    """The transpose of `products`: out (batch, *size, channels) becomes what s (rows, outputs) gives back."""
    window, (batch, *size, channels) = kernel.window, out.shape
    positions, padding = window.positions(size), any(map(sum, window.padding))
    if kernel.depthwise:
        return _added_back_by_phases(s.reshape(batch, *positions, channels), kernel, matrix, out, memory)
    whole = memory.array((batch, *_padded(size, window), channels), s) if padding else out
    whole[...] = 0
    inputs, outputs = kernel.inputs_a_group, kernel.outputs_a_group
    run = window.stride[-1] if window.dilation[-1] == 1 and kernel.groups == 1 else 1
    for tile in tiles(batch, positions, window.taps * channels * s.itemsize):
        rows, shape = s[tile.first : tile.last], tile.shape(positions)
        columns = memory.array((tile.places, window.taps * inputs), s)
        for group in range(kernel.groups):
            of_group = slice(group * inputs, (group + 1) * inputs) if kernel.groups > 1 else slice(None)
            np.matmul(rows[:, group * outputs : (group + 1) * outputs], matrix[group].T, out=columns)
            for tap, cells in _read_by(whole, window, tile, positions, run):
                into = cells[..., of_group]
                into += columns[:, tap * inputs : tap * inputs + into.shape[-1]].reshape(*shape, -1)
    if padding:
        out[...] = whole[(slice(None), *_inside(size, window))]
    return None


class Phase(NamedTuple):
    """Along one axis, the taps that read every stride-th cell from some on, and how, as a convolution of stride 1."""

    taps: slice
    padding: tuple[int, int]
    dilation: int
    positions: slice

    @classmethod
    def of(cls, window: Window, axis: int, cell: int, size: int, positions: int) -> Phase | None:
        """That of cell, cell + stride, ...; None where no tap reads them.

        At position p tap t reads cell p stride + t dilation - before. So which taps read a cell goes by its rest modulo
        the stride, and one of them reads the k-th such cell at position k + first - t dilation // stride.
        """
        step, dilation, before = window.stride[axis], window.dilation[axis], window.padding[axis][0]
        first, rest = divmod(cell + before, step)
        common = math.gcd(step, dilation)
        reading = [t for t in range(window.kernel[axis]) if t * dilation % step == rest]
        if not reading:
            return None
        apart = dilation // common
        ahead = reading[-1] * dilation // step - first
        behind = -(-(size - cell) // step) + (len(reading) - 1) * apart - ahead - positions
        read = slice(max(0, -ahead), positions - max(0, -behind))
        if read.start >= read.stop:
            return None
        return cls(slice(reading[0], None, step // common), (max(0, ahead), max(0, behind)), apart, read)


def _added_back_by_phases(s: Array, kernel: Kernel, matrix: Array, out: Array, memory: Memory) -> None:
    """Depthwise: the cells that strides lead to are a convolution of s with the taps that read them, for each phase."""
    window, (_, *size, channels) = kernel.window, out.shape
    by_tap, axes = matrix.reshape(*window.kernel, channels), range(len(size))
    for start in np.ndindex(*window.stride):
        into = out[(slice(None), *(slice(first, None, step) for first, step in zip(start, window.stride, strict=True)))]
        phases = [Phase.of(window, axis, start[axis], size[axis], s.shape[1 + axis]) for axis in axes if into.size]
        found = [phase for phase in phases if phase]
        if len(found) < len(size):
            into[...] = 0
            continue
        taps = by_tap[tuple(phase.taps for phase in found)][(slice(None, None, -1),) * len(size)]
        padding, dilation = tuple(phase.padding for phase in found), tuple(phase.dilation for phase in found)
        part = Kernel(Window(taps.shape[:-1], (1,) * len(size), padding, dilation), channels, channels, channels)
        read = contiguous(s[(slice(None), *(phase.positions for phase in found))], memory)
        _depthwise(read, part, into.shape[1:-1], [taps.reshape(-1, channels)], [into], memory, None)


def added_back_by_planes(s: Array, kernel: Kernel, matrix: Array, out: Array, memory: Memory) -> None:
    """The same into out (batch, channels, *size) plane by plane: quicker where channels are few, as an image's are."""
    window, (batch, channels, *size) = kernel.window, out.shape
    positions = window.positions(size)
    whole = memory.array((batch, channels, *_padded(size, window)), s)
    whole[...] = 0
    planes = whole.transpose(0, *range(2, whole.ndim), 1)
    by_plane = matrix[0].reshape(window.taps, channels, -1).swapaxes(0, 1).reshape(channels * window.taps, -1)
    for tile in tiles(batch, positions, window.taps * channels * s.itemsize):
        columns = memory.array((channels * window.taps, tile.places), s)
        np.matmul(by_plane, s[tile.first : tile.last].T, out=columns)
        columns = columns.reshape(channels, window.taps, *tile.shape(positions))
        for tap, cells in _read_by(planes, window, tile, positions, 1):
            into = cells.transpose(cells.ndim - 1, *range(cells.ndim - 1))
            into += columns[:, tap]
    out[...] = whole[(slice(None), slice(None), *_inside(size, window))]


def blocks(count: int, most: int) -> Iterator[tuple[int, int]]:
    """[first, last) of blocks of at most `most`, as equal as can be: a thin rest would be slow, and round otherwise."""
    parts = -(-count // max(1, most))
    for part in range(parts):
        yield part * count // parts, (part + 1) * count // parts


def tiles(batch: int, positions: Shape, bytes_a_position: int) -> Iterator[Tile]:
    """Tiles of at most TILE bytes, or of one row: blocks of rows of one image, or several whole images."""
    height, width, count = positions[0], math.prod(positions[1:]), math.prod(positions)
    rows = TILE // max(1, width * bytes_a_position)
    if rows >= 2 * height:
        for image, until in blocks(batch, rows // height):
            yield Tile(image, until, 0, height, image * count, until * count)
        return
    for image in range(batch):
        for top, bottom in blocks(height, rows):
            yield Tile(image, image + 1, top, bottom, image * count + top * width, image * count + bottom * width)


def _cells(x: Array, window: Window, tile: Tile, positions: Shape, memory: Memory) -> Array:
    """(*tile, *kernel, channels): the cells under each tap of each position, a view that reads most of them often."""
    size = x.shape[1:-1]
    (step, *steps), (before, _) = window.stride, window.padding[0]
    low = tile.top * step - before
    high = (tile.bottom - 1) * step + window.span[0] - before
    if any(map(sum, window.padding)):
        padded = [before + n + after for n, (before, after) in zip(size[1:], window.padding[1:], strict=True)]
        block = memory.array((tile.until - tile.image, high - low, *padded, x.shape[-1]), x)
        start = min(max(low, 0), size[0])  # the rows that are not padding
        stop = max(min(high, size[0]), start)
        block[:, : start - low] = 0
        block[:, stop - low :] = 0
        inside: list[slice] = [slice(None), slice(start - low, stop - low)]
        for n, (left, right) in zip(size[1:], window.padding[1:], strict=True):
            block[(*inside, slice(left))] = 0
            block[(*inside, slice(left + n, left + n + right))] = 0
            inside.append(slice(left, left + n))
        block[tuple(inside)] = x[tile.image : tile.until, start:stop]
    else:
        block = x[tile.image : tile.until, low:high]
    image, *spatial, channel = block.strides
    strides = [n * by for n, by in zip(spatial, (step, *steps), strict=True)]
    dilated = [n * by for n, by in zip(spatial, window.dilation, strict=True)]
    shape = (*tile.shape(positions), *window.kernel, x.shape[-1])
    return as_strided(block, shape, (image, *strides, *dilated, channel), writeable=False)


def _read_by(whole: Array, window: Window, tile: Tile, positions: Shape, run: int) -> Iterator[tuple[int, Array]]:
    """For each tap, or run of neighbouring taps on the last axis, the cells of `whole` that the tile reads with it.

    A run's cells have its taps' channels one after the other, and no two of its cells are the same.
    """
    images, channels = slice(tile.image, tile.until), whole.shape[-1]
    *outer, last = window.kernel
    for at in np.ndindex(*outer, -(-last // run)):
        tap = (*at[:-1], at[-1] * run)
        taps = min(run, last - tap[-1])
        starts = [t * d for t, d in zip(tap, window.dilation, strict=True)]
        starts[0] += tile.top * window.stride[0]
        counts = (tile.bottom - tile.top, *positions[1:])
        index = [
            slice(start, start + (count - 1) * step + 1, step)
            for start, count, step in zip(starts, counts, window.stride, strict=True)
        ]
        cells = whole[(images, *index)]
        if taps > 1:
            cells = as_strided(cells, (*cells.shape[:-1], taps * channels), cells.strides)
        yield int(np.ravel_multi_index(tap, window.kernel)), cells


def _padded(size: Sequence[int], window: Window) -> list[int]:
    return [before + n + after for n, (before, after) in zip(size, window.padding, strict=True)]


def _inside(size: Sequence[int], window: Window) -> list[slice]:
    return [slice(before, before + n) for n, (before, _) in zip(size, window.padding, strict=True)]
