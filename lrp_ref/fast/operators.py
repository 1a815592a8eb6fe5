"""Convolution and dense layer as the fused step wants them: several weights for one input, results in rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..arrays import Array
from ..layers import Conv, Dense
from ..layers.base import Linear, Shape
from ..values import value
from .conv import Finish, Kernel, added_back, added_back_by_planes, products
from .memory import Memory, channels_last
from .sweep import Totals, spans, totals_of

FEW = 4
"""Channels up to which relevance is added back plane by plane."""


class Operator(Protocol):
    """A linear layer without its weights."""

    @property
    def stacks(self) -> bool:
        """Whether the adjoint takes the s of several weights, side by side, at once."""
        ...

    def output(self, shape: Shape) -> Shape:
        """The shape of z for an input of `shape`."""
        ...

    def matrix(self, w: Array) -> Array:
        """The weights as `products` takes them."""
        ...

    def transposed(self, ws: Sequence[Array]) -> Array:
        """One or several weights as `adjoint` takes them."""
        ...

    def products(
        self, x: Array, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory, finish: Finish | None
    ) -> None:
        """Each out (rows) becomes x times its matrix; `finish` gets the rows while they are in the cache."""
        ...

    def rows(self, a: Array, memory: Memory) -> Array:
        """Inputs or outputs as rows of channels: a view where they lie so in memory, else a copy."""
        ...

    def empty(self, shape: Shape, like: Array, memory: Memory) -> Array:
        """An array whose rows are a view."""
        ...

    def adjoint(
        self, s: Array, matrix: Array, x: Array | None, shape: Shape, memory: Memory, more: Array | None
    ) -> tuple[Array, Totals]:
        """more + x times what the transposed matrix makes of s (rows), in `shape`; x and more None: 1 and 0."""
        ...


def operator(layer: Linear, *, device: bool = False) -> Operator | None:
    """The layer's operator, for numpy's arrays or those on a device; None for a layer that has none."""
    if device:
        from .device import DeviceConv, DeviceDense

        if type(layer) is Conv:
            return DeviceConv(Kernel.of(layer))
        return DeviceDense(*layer.weight.shape) if type(layer) is Dense else None
    if type(layer) is Conv:
        return ConvOperator(Kernel.of(layer))
    return DenseOperator(*layer.weight.shape) if type(layer) is Dense else None


@value
class ConvOperator:
    """Arrays with their channels last; an adjoint into few channels goes by planes."""

    kernel: Kernel

    @property
    def stacks(self) -> bool:
        """Where there is one group."""
        return self.kernel.groups == 1

    def output(self, shape: Shape) -> Shape:
        """(batch, outputs, *positions)."""
        return (shape[0], self.kernel.outputs, *self.kernel.window.positions(shape[2:]))

    def matrix(self, w: Array) -> Array:
        """See Kernel.matrix."""
        return self.kernel.matrix(w)

    @property
    def _by_planes(self) -> bool:
        return self.kernel.groups == 1 and self.kernel.channels <= FEW

    def transposed(self, ws: Sequence[Array]) -> Array:
        """Flipped where the adjoint is a convolution, else as `products` takes them, side by side."""
        if self.kernel.flipped and not self._by_planes:
            return _stacked([self.kernel.flipped_matrix(w) for w in ws], self.kernel.window.taps)
        return np.concatenate([self.kernel.matrix(w) for w in ws], axis=2) if len(ws) > 1 else self.matrix(ws[0])

    def products(
        self, x: Array, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory, finish: Finish | None
    ) -> None:
        """In tiles."""
        products(_last(x, memory), self.kernel, matrices, outs, memory, finish)

    def rows(self, a: Array, memory: Memory) -> Array:
        """(batch * positions, channels)."""
        last = _last(a, memory)
        return last.reshape(-1, last.shape[-1])

    def empty(self, shape: Shape, like: Array, memory: Memory) -> Array:
        """Channels last in memory."""
        return memory.empty_channels_last(shape, like)

    def adjoint(
        self, s: Array, matrix: Array, x: Array | None, shape: Shape, memory: Memory, more: Array | None
    ) -> tuple[Array, Totals]:
        """As a convolution, or added back."""
        kernel = dataclasses.replace(self.kernel, outputs=s.shape[1])
        if self._by_planes:
            R_in = memory.array(shape, s)
            added_back_by_planes(s, kernel, matrix, R_in, memory)
            if x is not None:
                np.multiply(R_in, x, out=R_in)
            if more is not None:
                np.add(R_in, more, out=R_in)
            return R_in, totals_of(R_in.reshape(shape[0], -1), shape[0], memory)
        R_in = self.empty(shape, s, memory)
        out, found = channels_last(R_in), Totals(shape[0], shape[0] * math.prod(shape[2:]))
        finished = _finish(self, R_in, x, more, found, memory)
        if flipped := kernel.flips(shape[2:], kernel.window.positions(shape[2:])):
            cells = s.reshape(shape[0], *kernel.window.positions(shape[2:]), -1)
            products(cells, flipped, [matrix], [out.reshape(-1, shape[1])], memory, finished)
        else:
            added_back(s, kernel, matrix, out, memory)
            each = math.prod(shape[2:])
            for span in spans(shape[0], shape[0] * each, shape[1]):
                finished(span.first, span.last)
        return R_in, found


@value
class DenseOperator:
    """One product: (batch, ..., inputs) @ (inputs, outputs)."""

    inputs: int
    outputs: int
    stacks = False

    def output(self, shape: Shape) -> Shape:
        """(batch, ..., outputs)."""
        return (*shape[:-1], self.outputs)

    def matrix(self, w: Array) -> Array:
        """Itself."""
        return w

    def transposed(self, ws: Sequence[Array]) -> Array:
        """Itself: `adjoint` reads it the other way."""
        (w,) = ws
        return w

    def products(
        self, x: Array, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory, finish: Finish | None
    ) -> None:
        """One product a matrix."""
        rows = self.rows(x, memory)
        for matrix, out in zip(matrices, outs, strict=True):
            np.matmul(rows, matrix, out=out)
        if finish:
            for span in spans(len(x), len(rows), self.outputs):
                finish(span.first, span.last)

    def rows(self, a: Array, memory: Memory) -> Array:
        """(batch * ..., inputs or outputs)."""
        return a.reshape(-1, a.shape[-1])

    def empty(self, shape: Shape, like: Array, memory: Memory) -> Array:
        """In the usual order."""
        return memory.array(shape, like)

    def adjoint(
        self, s: Array, matrix: Array, x: Array | None, shape: Shape, memory: Memory, more: Array | None
    ) -> tuple[Array, Totals]:
        """One product; outputs that deal nothing out are left out where they are most of all."""
        R_in = memory.array(shape, s)
        out = R_in.reshape(-1, self.inputs)
        alive = s.any(axis=0).nonzero()[0]
        if 16 * len(alive) <= self.outputs:
            s, matrix = s[:, alive], matrix[:, alive]
        np.matmul(s, matrix.T, out=out)
        found = Totals(shape[0], len(out))
        finished = _finish(self, R_in, x, more, found, memory)
        for span in spans(shape[0], *out.shape):
            finished(span.first, span.last)
        return R_in, found


def _finish(operator: Operator, c: Array, x: Array | None, more: Array | None, found: Totals, memory: Memory) -> Finish:
    """What is done to each block of c: times x, plus more, and summed."""
    out, x_rows, more_rows = (None if a is None else operator.rows(a, memory) for a in (c, x, more))
    assert out is not None

    def finish(first: int, last: int) -> None:
        for start, stop in found.within(first, last, out.shape[1]):
            block = out[start:stop]
            if x_rows is not None:
                np.multiply(block, x_rows[start:stop], out=block)
            if more_rows is not None:
                np.add(block, more_rows[start:stop], out=block)
            found.add(block, start, stop, memory)

    return finish


def _last(a: Array, memory: Memory) -> Array:
    """(batch, channels, *size) as (batch, *size, channels), contiguous."""
    last = channels_last(a)
    if last.flags.c_contiguous:
        return last
    copy = memory.array(last.shape, a)
    copy[...] = last
    return copy


def _stacked(matrices: Sequence[Array], taps: int) -> Array:
    """Matrices (1, taps * outputs, inputs) as one (1, taps * all outputs, inputs)."""
    if len(matrices) == 1:
        return matrices[0]
    parts = [matrix.reshape(taps, -1, matrix.shape[-1]) for matrix in matrices]
    return np.concatenate(parts, axis=1).reshape(1, -1, matrices[0].shape[-1])
