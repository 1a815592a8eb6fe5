"""Convolution and dense layer as the fused step wants them: several weights for one input, results in rows.

On the host what follows a product is done block by block, while the block is in the cache; on a device to all of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from ..arrays import Array, namespace
from ..layers import Conv, Dense
from ..layers.base import Linear, Shape
from ..values import value
from .conv import Finish, Kernel, added_back, added_back_by_planes, products
from .memory import Memory, channels_first, channels_last, contiguous, on_device, rows_of
from .sweep import Totals, finished, finishing

FEW = 4
"""Channels up to which relevance is added back plane by plane."""


Terms = Sequence[tuple[Array, Array | None]]
"""Matrices as `transposed` gives them, each with the x that multiplies what comes of it."""


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
        self, s: Array, terms: Terms, shape: Shape, memory: Memory, more: Array | None, *, counted: bool = True
    ) -> tuple[Array, Totals]:
        """more + the sum over terms of x times what the transposed matrix makes of s (rows), in `shape`.

        x and more None: 1 and 0. The totals may be NaN if they are not counted.
        """
        ...


def operator(layer: Linear) -> Operator | None:
    """The layer's operator; None for a layer that has none."""
    if type(layer) is Conv:
        return ConvOperator(Kernel.of(layer))
    return DenseOperator(*layer.weight.shape) if type(layer) is Dense else None


class ConvOperator:
    """Arrays with their channels last; on the host an adjoint into few channels goes by planes."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._stacked: dict[tuple[Shape, int], tuple[Kernel, Kernel | None]] = {}

    @property
    def stacks(self) -> bool:
        """Where there is one group."""
        return self.kernel.groups == 1

    def output(self, shape: Shape) -> Shape:
        """(batch, outputs, *positions)."""
        return (shape[0], self.kernel.outputs, *self.kernel.window.positions(shape[2:]))

    def rows(self, a: Array, memory: Memory) -> Array:
        """(batch * positions, channels)."""
        return rows_of(channels_last(a), memory)

    def empty(self, shape: Shape, like: Array, memory: Memory) -> Array:
        """Channels last in memory."""
        return memory.empty_channels_last(shape, like)

    def matrix(self, w: Array) -> Array:
        """See Kernel.matrix."""
        return self.kernel.matrix(w)

    def transposed(self, ws: Sequence[Array]) -> Array:
        """Flipped where the adjoint is a convolution, else as `products` takes them, side by side."""
        xp, flipped = namespace(ws[0]), self._flipped(ws[0], len(ws) * self.kernel.outputs)
        parts = [self.kernel.flipped_matrix(w) if flipped else self.kernel.matrix(w) for w in ws]
        if len(parts) == 1:
            return parts[0]
        if not flipped:
            return xp.concatenate(parts, axis=2)
        by_tap = [part.reshape(self.kernel.window.taps, -1, part.shape[-1]) for part in parts]
        return xp.concatenate(by_tap, axis=1).reshape(1, -1, parts[0].shape[-1])

    def _by_planes(self) -> bool:
        return self.kernel.groups == 1 and self.kernel.channels <= FEW

    def _flipped(self, a: Array, outputs: int) -> bool:
        """Whether the adjoint of so many outputs is a convolution.

        On a device where the columns of s take no more memory than those that would be added back.
        """
        kernel = self.kernel
        if on_device(a):
            return kernel.flipped and not kernel.pointwise and not kernel.depthwise and outputs <= kernel.channels
        return kernel.flipped and not self._by_planes()

    def _kernels(self, size: Shape, outputs: int) -> tuple[Kernel, Kernel | None]:
        """The kernel with the outputs of several weights side by side, and the convolution that is its adjoint."""
        if (size, outputs) not in self._stacked:
            kernel = dataclasses.replace(self.kernel, outputs=outputs)
            self._stacked[size, outputs] = kernel, kernel.flips(size, kernel.window.positions(size))
        return self._stacked[size, outputs]

    def products(
        self, x: Array, matrices: Sequence[Array], outs: Sequence[Array], memory: Memory, finish: Finish | None
    ) -> None:
        """In tiles."""
        last = contiguous(channels_last(x), memory)
        if on_device(x):
            from . import device

            device.products(last, self.kernel, matrices, outs, memory)
            if finish and len(outs[0]):
                finish(0, len(outs[0]))
        else:
            products(last, self.kernel, matrices, outs, memory, finish)

    def adjoint(
        self, s: Array, terms: Terms, shape: Shape, memory: Memory, more: Array | None, *, counted: bool = True
    ) -> tuple[Array, Totals]:
        """As a convolution, or added back; on the host all terms are multiplied and added up in one pass."""
        batch, channels, *size = shape
        kernel, flips = self._kernels(tuple(size), s.shape[1])
        flipped = flips if self._flipped(s, s.shape[1]) else None
        if on_device(s) and len(terms) > 1:
            return _one_by_one(self, s, terms, shape, memory, more, counted=counted)
        by_planes = not on_device(s) and self._by_planes()
        outs = [memory.array(shape if by_planes else (batch, *size, channels), s) for _ in terms]
        R_in, positions = outs[0] if by_planes else channels_first(outs[0]), kernel.window.positions(size)
        cells, cs = s.reshape(batch, *positions, -1), [out.reshape(-1, channels) for out in outs]
        if on_device(s):
            from . import device

            ((matrix, x),) = terms
            if flipped:
                device.products(cells, flipped, [matrix], cs, memory)
            else:
                device.added_back(s, kernel, matrix, outs[0], memory)
            return R_in, _finished(self, R_in, x, more, memory, counted=counted)

        def rows(a: Array | None) -> Array | None:
            if a is None:
                return None
            return contiguous(a, memory).reshape(-1, channels) if by_planes else self.rows(a, memory)

        xs, more_rows = [rows(x) for _, x in terms], rows(more)
        found, finish = finishing(cs, xs, more_rows, cs[0], batch, memory, counted=counted)
        if flipped:
            products(cells, flipped, [matrix for matrix, _ in terms], cs, memory, finish)
        else:
            back = added_back_by_planes if by_planes else added_back
            for (matrix, _), out in zip(terms, outs, strict=True):
                back(s, kernel, matrix, out, memory)
            finish(0, len(cs[0]))
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

    def rows(self, a: Array, memory: Memory) -> Array:
        """(batch * ..., inputs or outputs)."""
        return contiguous(a, memory).reshape(-1, a.shape[-1])

    def empty(self, shape: Shape, like: Array, memory: Memory) -> Array:
        """In the usual order."""
        return memory.array(shape, like)

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
            namespace(x).dot(rows, matrix, out=out)
        if finish and len(rows):
            finish(0, len(rows))

    def adjoint(
        self, s: Array, terms: Terms, shape: Shape, memory: Memory, more: Array | None, *, counted: bool = True
    ) -> tuple[Array, Totals]:
        """One product a term; on the host, outputs that deal nothing out are left out where they are most of all."""
        if len(terms) > 1:
            return _one_by_one(self, s, terms, shape, memory, more, counted=counted)
        ((matrix, x),) = terms
        R_in = memory.array(shape, s)
        if not on_device(s):
            alive = s.any(axis=0).nonzero()[0]
            if 16 * len(alive) <= self.outputs:
                s, matrix = s[:, alive], matrix[:, alive]
        namespace(s).dot(s, matrix.T, out=R_in.reshape(-1, self.inputs))
        return R_in, _finished(self, R_in, x, more, memory, counted=counted)


def _one_by_one(
    operator: Operator, s: Array, terms: Terms, shape: Shape, memory: Memory, more: Array | None, *, counted: bool
) -> tuple[Array, Totals]:
    """The adjoint term by term, each added to those before."""
    *others, last = terms
    for term in others:
        more, _ = operator.adjoint(s, [term], shape, memory, more, counted=False)
    return operator.adjoint(s, [last], shape, memory, more, counted=counted)


def _finished(
    operator: Operator, c: Array, x: Array | None, more: Array | None, memory: Memory, *, counted: bool
) -> Totals:
    """c becomes times x, plus more; and its totals."""
    c_rows, x_rows, more_rows = (None if a is None else operator.rows(a, memory) for a in (c, x, more))
    return finished(c_rows, x_rows, more_rows, len(c), memory, counted=counted)
