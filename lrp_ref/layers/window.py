"""Sliding windows in any number of spatial axes: what convolutions and pools have in common.

``gather`` and ``scatter`` are each other's transpose, and read alike: a loop over the taps of the window.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any, Self

from ..arrays import Array, namespace, ones, zeros
from ..errors import ShapeError
from ..values import value
from .base import Shape, axes_tuple

Padding = int | Sequence[int] | Sequence[Sequence[int]]
"""An int, one int a spatial axis, or a pair (before, after) for each."""


@value
class Window:
    """A window over `len(kernel)` spatial axes. Position p and tap t read cell p*stride - before +
    t*dilation.

    Cells outside the input are padding: they have no value, read as 0, and nothing is ever added to them.
    """

    kernel: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape

    @classmethod
    def make(
        cls, name: str, kernel: Shape, stride: int | Sequence[int], padding: Padding, dilation: int | Sequence[int]
    ) -> Self:
        """The window of the layer named, with each argument spread over the kernel's axes."""
        n = len(kernel)
        return cls(
            axes_tuple(kernel, n, f"{name}: kernel", 1),
            axes_tuple(stride, n, f"{name}: stride", 1),
            pairs(padding, n, f"{name}: padding"),
            axes_tuple(dilation, n, f"{name}: dilation", 1),
        )

    @functools.cached_property
    def span(self) -> Shape:
        """Cells from the first tap to the last, per axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def positions(self, size: Sequence[int], *, ceil: bool = False) -> Shape:
        """How many window positions fit an input of spatial `size`; with `ceil`, the last may hang over the
        end.

        A position that would start beyond the input and the padding before it does not count.
        """
        counts = []
        for n, span, stride, (before, after) in zip(size, self.span, self.stride, self.padding, strict=True):
            room = before + n + after - span
            count = (-(-room // stride) if ceil else room // stride) + 1
            if ceil and (count - 1) * stride >= before + n:
                count -= 1
            if count < 1:
                raise ShapeError(
                    f"a window of span {self.span} does not fit into {tuple(size)} + padding {self.padding}"
                )
            counts.append(count)
        return tuple(counts)

    def gather(self, x: Array, positions: Shape) -> Array:
        """(N, C, *size) -> (N, C, taps, *positions): the cells under each window."""
        if self._whole(x.shape[2:]):
            return x.reshape(*x.shape[:2], self.taps, *positions)
        buffer = zeros(x.shape[:2] + self.extent(x.shape[2:], positions), x)
        buffer[self.inside(x.shape[2:])] = x
        return namespace(x).stack([buffer[tap] for tap in self.tap_slices(positions)], axis=2)

    def scatter(self, cells: Array, shape: Shape) -> Array:
        """(N, C, taps, *positions) -> `shape` = (N, C, *size): each tap added to the cell that it reads."""
        if self._whole(shape[2:]):
            return cells.reshape(shape)
        buffer = zeros(cells.shape[:2] + self.extent(shape[2:], cells.shape[3:]), cells)
        for t, tap in enumerate(self.tap_slices(cells.shape[3:])):
            buffer[tap] += cells[:, :, t]
        return buffer[self.inside(shape[2:])]

    def real(self, a: Array, positions: Shape) -> Array:
        """(taps, *positions) booleans: whether the tap reads a cell of the input `a`."""
        return self.gather(ones((1, 1, *a.shape[2:]), a), positions)[0, 0] != 0

    def padded(self, a: Array, positions: Shape) -> Array:
        """(taps, *positions) booleans: whether the tap reads a cell of input and padding, not ceil's overhang."""
        size = (before + n + after for n, (before, after) in zip(a.shape[2:], self.padding, strict=True))
        unpadded = Window(self.kernel, self.stride, ((0, 0),) * len(self.kernel), self.dilation)
        return unpadded.real(zeros((1, 1, *size), a), positions)

    def always_real(self, size: Sequence[int], positions: Shape) -> bool:
        """Whether every window reads some cell of an input of `size`: on each axis some tap lies inside."""
        axes = zip(size, positions, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return all(
            any(0 <= p * stride - before + t * dilation < n for t in range(kernel))
            for n, count, kernel, stride, (before, _), dilation in axes
            for p in range(count)
        )

    @property
    def taps(self) -> int:
        """Cells under the window."""
        return math.prod(self.kernel)

    def _whole(self, size: Sequence[int]) -> bool:
        """Whether there is one window, and it is the input: a global pool's has too many taps to take one by one."""
        return self.kernel == tuple(size) and set(self.dilation) == {1} and not any(map(sum, self.padding))

    def extent(self, size: Sequence[int], positions: Sequence[int]) -> Shape:
        """The size of a buffer that holds the input, its padding, and the last position."""
        return tuple(
            max(before + n + after, (p - 1) * stride + span)
            for n, p, stride, span, (before, after) in zip(
                size, positions, self.stride, self.span, self.padding, strict=True
            )
        )

    def inside(self, size: Sequence[int]) -> tuple[slice, ...]:
        """The cells of the buffer that are the input."""
        spatial = (slice(before, before + n) for n, (before, _) in zip(size, self.padding, strict=True))
        return (slice(None), slice(None), *spatial)

    def tap_slices(self, positions: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """For each tap the cells of the buffer that it reads, over all positions."""
        for tap in itertools.product(*map(range, self.kernel)):
            starts = (t * d for t, d in zip(tap, self.dilation, strict=True))
            spatial = (
                slice(start, start + (p - 1) * stride + 1, stride)
                for start, p, stride in zip(starts, positions, self.stride, strict=True)
            )
            yield (slice(None), slice(None), *spatial)


@value
class Bins:
    """Windows with bounds of their own: on each spatial axis, bin i covers the cells start_i to stop_i - 1.

    Read as a :class:`Window` is, with as many taps as the longest bin has: a tap beyond its bin's end reads 0,
    and nothing is ever added there.
    """

    bounds: Sequence[Sequence[tuple[int, int]]]

    @property
    def positions(self) -> Shape:
        """How many bins there are, per axis."""
        return tuple(map(len, self.bounds))

    @property
    def sides(self) -> Shape:
        """Cells of the longest bin, per axis."""
        return tuple(max(stop - start for start, stop in bins) for bins in self.bounds)

    @property
    def taps(self) -> int:
        """Cells under the longest bin."""
        return math.prod(self.sides)

    def gather(self, x: Array, positions: Shape) -> Array:
        """(N, C, *size) -> (N, C, taps, *positions): the cells of each bin."""
        for axis, side, bins in zip(itertools.count(2, 2), self.sides, self.bounds, strict=False):
            cells = zeros((*x.shape[:axis], side, len(bins), *x.shape[axis + 1 :]), x)
            before = (slice(None),) * axis
            for i, (start, stop) in enumerate(bins):
                cells[(*before, slice(stop - start), i)] = x[(*before, slice(start, stop))]
            x = cells  # (N, C, taps, positions, ..., taps, positions) so far
        apart = (0, 1, *range(2, x.ndim, 2), *range(3, x.ndim, 2))
        return x.transpose(apart).reshape(*x.shape[:2], self.taps, *positions)

    def scatter(self, cells: Array, shape: Shape) -> Array:
        """(N, C, taps, *positions) -> `shape` = (N, C, *size): each tap added to the cell that it reads."""
        n = len(self.bounds)
        x = cells.reshape(*cells.shape[:2], *self.sides, *cells.shape[3:])
        x = x.transpose(0, 1, *(axis for i in range(2, 2 + n) for axis in (i, i + n)))
        for axis, size, bins in zip(range(2 * n, 0, -2), shape[:1:-1], self.bounds[::-1], strict=True):
            whole = zeros((*x.shape[:axis], size, *x.shape[axis + 2 :]), x)
            before = (slice(None),) * axis
            for i, (start, stop) in enumerate(bins):
                whole[(*before, slice(start, stop))] += x[(*before, slice(stop - start), i)]
            x = whole
        return x

    def real(self, a: Array, positions: Shape) -> Array:
        """(taps, *positions) booleans: whether the tap reads a cell of its bin."""
        return self.gather(ones((1, 1, *a.shape[2:]), a), positions)[0, 0] != 0


def pairs(padding: Padding, count: int, what: str) -> tuple[tuple[int, int], ...]:
    """Padding as one (before, after) pair for each of `count` axes."""
    entries: list[Any] = list(padding) if isinstance(padding, Sequence) else [padding] * count
    each = [tuple(p) if isinstance(p, Sequence) else (p, p) for p in entries]
    if len(each) != count or any(
        len(pair) != 2 or any(not isinstance(p, Integral) or p < 0 for p in pair) for pair in each
    ):
        raise ShapeError(
            f"{what}={padding!r}: need an int, one int for each of {count} axes, "
            f"or a pair (before, after) for each, all >= 0"
        )
    return tuple((int(before), int(after)) for before, after in each)
