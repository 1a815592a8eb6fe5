"""Layers that only route: each output is one input, a copy of one, or nothing; and resizing, which also blends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from ..arrays import Array, like, namespace, ones, total, zeros
from ..errors import ShapeError
from ..values import value
from .base import Layer, Linear, Shape, Wires, axes_tuple, sample_axes
from .window import Bins, pairs

if TYPE_CHECKING:
    from fractions import Fraction


class Flatten(Wires):
    """All axes of a sample in one."""

    def route(self, x: Array) -> Array:
        """Flattened samples."""
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The samples' own shape."""
        return s.reshape(shape)


@value
class Reshape(Wires):
    """Samples in another shape, given without the batch; one entry may be -1."""

    shape: Sequence[int]

    def check(self, *shapes: Shape) -> None:
        """As many elements."""
        known, size = math.prod(n for n in self.shape if n != -1), math.prod(shapes[0][1:])
        free = list(self.shape).count(-1)
        impossible = free > 1 or any(n < -1 for n in self.shape)
        if impossible or (free == 0 and known != size) or (free == 1 and (known == 0 or size % known)):
            raise ShapeError(f"Reshape: a sample of shape {shapes[0][1:]} cannot take the shape {tuple(self.shape)}")

    def route(self, x: Array) -> Array:
        """Reshaped samples."""
        known, size = math.prod(n for n in self.shape if n != -1), math.prod(x.shape[1:])
        return x.reshape(len(x), *(size // known if n == -1 else n for n in self.shape))

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The samples' own shape."""
        return s.reshape(shape)


@value
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


@value
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


@value
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


@value
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


@value
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


@value
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


def _to_space(x: Array, block: int, mode: str) -> Array:
    """Channels (block, ..., C) in mode "DCR", (C, block, ...) in "CRD", each block spread over its cell."""
    n, size, blocks = x.ndim - 2, x.shape[2:], (block,) * (x.ndim - 2)
    channels = x.shape[1] // block**n
    parts, c, b = ((*blocks, channels), n + 1, 1) if mode == "DCR" else ((channels, *blocks), 1, 2)
    x = x.reshape(len(x), *parts, *size)
    x = x.transpose(0, c, *(axis for i in range(n) for axis in (n + 2 + i, b + i)))
    return x.reshape(len(x), channels, *(side * block for side in size))


def _to_depth(x: Array, block: int, mode: str) -> Array:
    """The transpose of `_to_space`, which is also its inverse."""
    n, channels = x.ndim - 2, x.shape[1]
    size = tuple(side // block for side in x.shape[2:])
    x = x.reshape(len(x), channels, *(part for side in size for part in (side, block)))
    cells, blocks = range(2, 2 * n + 2, 2), range(3, 2 * n + 2, 2)
    x = x.transpose((0, *blocks, 1, *cells) if mode == "DCR" else (0, 1, *blocks, *cells))
    return x.reshape(len(x), channels * block**n, *size)


def _check_block(layer: DepthToSpace | SpaceToDepth) -> None:
    name = type(layer).__name__
    if isinstance(layer.block, Sequence):
        raise ShapeError(f"{name}: block={layer.block!r}: need an int, the same along each spatial axis")
    axes_tuple(layer.block, 1, f"{name}: block", 1)
    if layer.mode not in ("DCR", "CRD"):
        raise ShapeError(f'{name}: mode={layer.mode!r}, need "DCR" or "CRD"')


@value
class DepthToSpace(Wires):
    """Channels moved into blocks of cells, `block` along each spatial axis, as ONNX has it.

    The channels are ordered (block, ..., C) in mode "DCR", (C, block, ...) in mode "CRD" (torch's pixel shuffle).
    """

    block: int
    mode: Literal["DCR", "CRD"] = "DCR"

    def __post_init__(self) -> None:
        _check_block(self)

    def check(self, *shapes: Shape) -> None:
        """The channels divide into blocks."""
        (shape,) = shapes
        if len(shape) < 3 or shape[1] % self.block ** (len(shape) - 2):
            raise ShapeError(f"DepthToSpace: the channels of an input of shape {shape} are no blocks of {self.block}")

    def route(self, x: Array) -> Array:
        """Channels to cells."""
        return _to_space(x, self.block, self.mode)

    def route_back(self, s: Array, shape: Shape) -> Array:
        """Cells to channels."""
        return _to_depth(s, self.block, self.mode)


@value
class SpaceToDepth(Wires):
    """Blocks of cells moved into channels: the inverse of DepthToSpace."""

    block: int
    mode: Literal["DCR", "CRD"] = "DCR"

    def __post_init__(self) -> None:
        _check_block(self)

    def check(self, *shapes: Shape) -> None:
        """The spatial axes divide into blocks."""
        (shape,) = shapes
        if len(shape) < 3 or any(n % self.block for n in shape[2:]):
            raise ShapeError(f"SpaceToDepth: an input of shape {shape} does not divide into blocks of {self.block}")

    def route(self, x: Array) -> Array:
        """Cells to channels."""
        return _to_depth(x, self.block, self.mode)

    def route_back(self, s: Array, shape: Shape) -> Array:
        """Channels to cells."""
        return _to_space(s, self.block, self.mode)


@value
class Stencil(Linear):
    """z_k = sum_t w_tk a_tk over the cells of bin k, each with a weight of its own (what Resize freezes to)."""

    bins: Bins
    weight: Array
    bias: None = field(default=None, init=False)

    def linear(self, x: Array, w: Array) -> Array:
        """The weighted sum of each bin."""
        return total(self.bins.gather(x, self.bins.positions) * w, (2,))

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """w_tk s_k to each cell."""
        return self.bins.scatter(s[:, :, None] * w, shape)


COORDINATES = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
ROUNDINGS: Mapping[str, Callable[[Fraction], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda x: math.ceil((2 * x - 1) / 2),
    "round_prefer_ceil": lambda x: math.floor((2 * x + 1) / 2),
}


@value
class Resize(Layer):
    """The spatial axes resampled, one after the other, as ONNX and torch define it.

    Output i of an axis reads the input at the coordinate x that `coordinates` says, with n cells resized to m, and
    scale = m / n unless it is given:

    * "half_pixel": x = (i + 1/2) / scale - 1/2; "pytorch_half_pixel" is the same, but 0 if m = 1
    * "align_corners": x = i (n - 1) / (m - 1), 0 if m = 1
    * "asymmetric": x = i / scale

    Beyond the first and last cell it reads that cell. Weights are computed in rationals.

    Parameters
    ----------
    size : int, or one a spatial axis; this or
    scale : number, or one a spatial axis, with m = floor(n scale)
    mode : "linear": the two cells around x, in proportion to their nearness (one where x falls on it);
        "nearest": one cell, a wire
    coordinates : as above
    rounding : for "nearest", how x becomes a cell: "floor", "ceil", or the nearest, "round_prefer_floor" or
        "round_prefer_ceil" where two are equally near
    """

    size: int | Sequence[int] | None = None
    scale: float | Fraction | Sequence[float | Fraction] | None = None
    mode: Literal["linear", "nearest"] = "linear"
    coordinates: Literal["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"] = "half_pixel"
    rounding: Literal["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"] = "floor"

    def __post_init__(self) -> None:
        if (self.size is None) == (self.scale is None):
            raise ShapeError(f"Resize: size={self.size!r} and scale={self.scale!r}: need one of the two")
        for name, words in (("mode", ("linear", "nearest")), ("coordinates", COORDINATES), ("rounding", ROUNDINGS)):
            if getattr(self, name) not in words:
                raise ShapeError(f"Resize: {name}={getattr(self, name)!r}, need one of {', '.join(words)}")

    @property
    def wire(self) -> bool:
        """Whether each output is one cell."""
        return self.mode == "nearest"

    def check(self, *shapes: Shape) -> None:
        """There are spatial axes, a size or scale for each, and something left."""
        self._sizes(shapes[0])

    def _sizes(self, shape: Shape) -> list[tuple[int, int, Fraction]]:
        """For each spatial axis the cells before and after, and how far apart the latter lie in the former."""
        from fractions import Fraction

        count = len(shape) - 2
        if count < 1 or 0 in shape[2:]:
            raise ShapeError(f"Resize: input has shape {shape}, need (batch, channels, size, ...) with no empty axis")
        if self.size is not None:
            sizes = axes_tuple(self.size, count, "Resize: size", 1)
            return [(n, m, Fraction(n, m)) for n, m in zip(shape[2:], sizes, strict=True)]
        scales: tuple[Any, ...] = tuple(self.scale) if isinstance(self.scale, Sequence) else (self.scale,) * count
        if len(scales) != count or any(not isinstance(s, Real) or not 0 < float(s) < math.inf for s in scales):
            raise ShapeError(f"Resize: scale={self.scale!r}: need a number, or one for each of {count} axes, > 0")
        made = [
            (n, math.floor(n * scale), 1 / Fraction(*scale.as_integer_ratio()))
            for n, scale in zip(shape[2:], scales, strict=True)
        ]
        if any(m < 1 for _, m, _ in made):
            raise ShapeError(f"Resize: scale={self.scale!r} leaves nothing of an input of shape {shape}")
        return made

    def _cells(self, n: int, m: int, step: Fraction) -> Iterator[tuple[int, list[Fraction]]]:
        """For each output of an axis the first cell that it reads, and the weights from there on."""
        from fractions import Fraction

        for i in range(m):
            if m == 1 and self.coordinates in ("align_corners", "pytorch_half_pixel"):
                x = Fraction(0)
            elif self.coordinates == "align_corners":
                x = Fraction(i * (n - 1), m - 1)
            else:
                x = i * step if self.coordinates == "asymmetric" else ((2 * i + 1) * step - 1) / 2
            x = min(max(x, Fraction(0)), Fraction(n - 1))
            first = math.floor(x) if self.mode == "linear" else ROUNDINGS[self.rounding](x)
            beyond = x - first if self.mode == "linear" else Fraction(0)
            yield first, [1 - beyond, beyond] if beyond else [1 - beyond]

    def forward(self, *inputs: Array) -> Array:
        """The resampled cells."""
        return self.frozen(*inputs).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> Stencil:
        """The weights, whose product over the axes sums to 1 for each output."""
        (a,) = inputs
        axes = [list(self._cells(*sizes)) for sizes in self._sizes(a.shape)]
        bins = Bins([[(first, first + len(w)) for first, w in cells] for cells in axes])
        weight = ones((1,) * (2 * len(axes)), a)
        for axis, (side, cells) in enumerate(zip(bins.sides, axes, strict=True)):
            shape = [1] * weight.ndim
            shape[axis], shape[axis + len(axes)] = side, len(cells)
            rows = [[w[t] if t < len(w) else 0 for _, w in cells] for t in range(side)]
            weight = weight * like(rows, a).reshape(shape)
        return Stencil(bins, weight.reshape(bins.taps, *bins.positions))
