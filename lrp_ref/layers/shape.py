"""Layers that only route: each output is one input, a copy of one, or nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..arrays import Array, namespace, total, zeros
from ..errors import ShapeError
from .base import Shape, Wires, axes_tuple
from .merge import sample_axes
from .window import pairs


class Flatten(Wires):
    """All axes of a sample in one."""

    def route(self, x: Array) -> Array:
        """Flattened samples."""
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The samples' own shape."""
        return s.reshape(shape)


@dataclass(frozen=True, eq=False, repr=False)
class Reshape(Wires):
    """Samples in another shape, given without the batch; one entry may be -1."""

    shape: Sequence[int]

    def check(self, *shapes: Shape) -> None:
        """As many elements."""
        known, size = math.prod(n for n in self.shape if n != -1), math.prod(shapes[0][1:])
        free = list(self.shape).count(-1)
        if free > 1 or (free == 0 and known != size) or (free == 1 and (known == 0 or size % known)):
            raise ShapeError(f"Reshape: a sample of shape {shapes[0][1:]} cannot take the shape {tuple(self.shape)}")

    def route(self, x: Array) -> Array:
        """Reshaped samples."""
        known, size = math.prod(n for n in self.shape if n != -1), math.prod(x.shape[1:])
        return x.reshape(len(x), *(size // known if n == -1 else n for n in self.shape))

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The samples' own shape."""
        return s.reshape(shape)


@dataclass(frozen=True, eq=False, repr=False)
class Transpose(Wires):
    """Axes in another order; axis 0, the batch, stays first."""

    axes: Sequence[int]

    def __post_init__(self) -> None:
        if sorted(self.axes) != list(range(len(self.axes))):
            raise ShapeError(f"Transpose: axes {tuple(self.axes)} are no permutation")
        if tuple(self.axes[:1]) != (0,):
            raise ShapeError("Transpose: axis 0 is the batch, which no layer may mix, cut or move")

    def check(self, *shapes: Shape) -> None:
        """As many axes."""
        if len(shapes[0]) != len(self.axes):
            raise ShapeError(f"Transpose: axes {tuple(self.axes)} do not fit an input of shape {shapes[0]}")

    def route(self, x: Array) -> Array:
        """The axes moved."""
        return x.transpose(tuple(self.axes))

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The axes moved back."""
        return s.transpose(tuple(sorted(range(s.ndim), key=list(self.axes).__getitem__)))


@dataclass(frozen=True, eq=False, repr=False)
class Squeeze(Wires):
    """Without the given axes, which have length 1."""

    axis: int | Sequence[int]

    def _axes(self, ndim: int) -> Shape:
        return sample_axes([self.axis] if isinstance(self.axis, int) else self.axis, ndim, "Squeeze")

    def __post_init__(self) -> None:
        self._axes(64)

    def check(self, *shapes: Shape) -> None:
        """The axes have length 1."""
        if any(shapes[0][axis] != 1 for axis in self._axes(len(shapes[0]))):
            raise ShapeError(f"Squeeze: axis {self.axis} of an input of shape {shapes[0]} has not length 1")

    def route(self, x: Array) -> Array:
        """The axes dropped."""
        gone = self._axes(x.ndim)
        return x.reshape(tuple(n for axis, n in enumerate(x.shape) if axis not in gone))

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The axes restored."""
        return s.reshape(shape)


@dataclass(frozen=True, eq=False, repr=False)
class Unsqueeze(Wires):
    """With a new axis of length 1 at `axis` (not 0)."""

    axis: int

    def __post_init__(self) -> None:
        sample_axes([self.axis], 64, "Unsqueeze")

    def check(self, *shapes: Shape) -> None:
        """The axis fits."""
        sample_axes([self.axis], len(shapes[0]) + 1, "Unsqueeze")

    def route(self, x: Array) -> Array:
        """The axis added."""
        (axis,) = sample_axes([self.axis], x.ndim + 1, "Unsqueeze")
        return x.reshape(*x.shape[:axis], 1, *x.shape[axis:])

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The axis dropped."""
        return s.reshape(shape)


@dataclass(frozen=True, eq=False, repr=False)
class Slice(Wires):
    """The part start:stop:step of one axis (not the batch's), step >= 1."""

    axis: int
    start: int | None = None
    stop: int | None = None
    step: int = 1

    def __post_init__(self) -> None:
        sample_axes([self.axis], 64, "Slice")
        if self.step < 1:
            raise ShapeError(f"Slice: step={self.step}, need >= 1")

    def check(self, *shapes: Shape) -> None:
        """The axis exists."""
        sample_axes([self.axis], len(shapes[0]), "Slice")

    def _index(self, ndim: int) -> tuple[slice, ...]:
        (axis,) = sample_axes([self.axis], ndim, "Slice")
        return (*(slice(None),) * axis, slice(self.start, self.stop, self.step))

    def route(self, x: Array) -> Array:
        """The part."""
        return x[self._index(x.ndim)]

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The part in its place, zero elsewhere."""
        whole = zeros(shape, s)
        whole[self._index(len(shape))] = s
        return whole


@dataclass(frozen=True, eq=False, repr=False)
class Pad(Wires):
    """Zeros around a sample: a pair (before, after) for each of its axes. No input feeds the border."""

    padding: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", pairs(self.padding, len(self.padding), "Pad: padding"))

    def check(self, *shapes: Shape) -> None:
        """A pair for each axis."""
        if len(shapes[0]) != len(self.padding) + 1:
            raise ShapeError(f"Pad: {len(self.padding)} pairs for a sample of shape {shapes[0][1:]}")

    def _inside(self, shape: Shape) -> tuple[slice, ...]:
        return (slice(None), *(slice(b, b + n) for (b, _), n in zip(self.padding, shape[1:], strict=True)))

    def route(self, x: Array) -> Array:
        """The padded samples."""
        sides = (n + before + after for n, (before, after) in zip(x.shape[1:], self.padding, strict=True))
        padded = zeros((len(x), *sides), x)
        padded[self._inside(x.shape)] = x
        return padded

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The border cut off."""
        return s[self._inside(shape)]


@dataclass(frozen=True, eq=False, repr=False)
class Upsample(Wires):
    """Each cell repeated `factor` times along every spatial axis (nearest neighbor)."""

    factor: int | Sequence[int]

    def check(self, *shapes: Shape) -> None:
        """There are spatial axes, and a factor for each."""
        self._factors(shapes[0])

    def _factors(self, shape: Shape) -> Shape:
        if len(shape) < 3:
            raise ShapeError(f"Upsample: input has shape {shape}, need (batch, channels, size, ...)")
        return axes_tuple(self.factor, len(shape) - 2, "Upsample: factor", 1)

    def route(self, x: Array) -> Array:
        """The copies."""
        for axis, factor in enumerate(self._factors(x.shape), start=2):
            x = namespace(x).repeat(x, factor, axis=axis)
        return x

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The sum over the copies."""
        factors = self._factors(shape)
        blocks = [part for n, factor in zip(shape[2:], factors, strict=True) for part in (n, factor)]
        return total(s.reshape(*shape[:2], *blocks), range(3, 3 + 2 * len(factors), 2))
