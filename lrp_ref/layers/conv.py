"""Convolution and transposed convolution in 1, 2 or 3 spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..arrays import Array, as_array, matmul, matmul_alike
from ..errors import ShapeError
from .base import Linear, Shape, axes_tuple, check_finite
from .window import Padding, Window


def _prepare(layer: Conv | ConvTranspose, count: Callable[[Array], int]) -> None:
    """Check the parameters; the bias is kept as (outputs, 1, ...), which broadcasts to z; count(weight) is outputs."""
    name, weight = type(layer).__name__, as_array(layer.weight)
    if weight.ndim not in (3, 4, 5) or 0 in weight.shape:
        raise ShapeError(f"{name}: weight has shape {weight.shape}, need two channel axes and 1 to 3 kernel axes")
    if layer.groups < 1 or weight.shape[0] % layer.groups:
        raise ShapeError(f"{name}: groups={layer.groups} does not divide the {weight.shape[0]} channels of the weight")
    object.__setattr__(layer, "weight", weight)
    window = Window.make(name, weight.shape[2:], layer.stride, layer.padding, layer.dilation)
    for field in ("stride", "padding", "dilation"):
        object.__setattr__(layer, field, getattr(window, field))
    if layer.bias is not None:
        bias, outputs = as_array(layer.bias), count(weight)
        column = (outputs,) + (1,) * (weight.ndim - 2)
        if bias.shape not in ((outputs,), column):
            raise ShapeError(f"{name}: bias has shape {bias.shape}, need ({outputs},), one number an output channel")
        object.__setattr__(layer, "bias", bias.reshape(column))
    check_finite(layer)


def _check(layer: Conv | ConvTranspose, shape: Shape, channels: int) -> None:
    if len(shape) != layer.weight.ndim or shape[1] != channels:
        spatial = ", ".join(["size"] * (layer.weight.ndim - 2))
        raise ShapeError(f"input has shape {shape}, need (batch, {channels}, {spatial})")


@dataclass(frozen=True, eq=False, repr=False)
class Conv(Linear):
    """Convolution as networks mean it (cross-correlation: the kernel is not flipped), in 1, 2 or 3
    dimensions.

    Parameters
    ----------
    weight : (outputs, inputs/groups, *kernel)
    bias : (outputs,) or None
    stride, dilation : int, or one a spatial axis
    padding : int, one a spatial axis, or (before, after) for each; padded cells are not part of the domain
    groups : int
    """

    weight: Array
    bias: Array | None = None
    stride: int | Sequence[int] = 1
    padding: Padding = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1

    def __post_init__(self) -> None:
        _prepare(self, lambda weight: weight.shape[0])

    @property
    def window(self) -> Window:
        """The sliding window of the kernel."""
        return Window.make(type(self).__name__, self.weight.shape[2:], self.stride, self.padding, self.dilation)

    def check(self, *shapes: Shape) -> None:
        """Channels and number of axes fit the weight, and the window fits the input."""
        (shape,) = shapes
        _check(self, shape, self.weight.shape[1] * self.groups)
        self.window.positions(shape[2:])

    def linear(self, x: Array, w: Array) -> Array:
        """One matrix product a group: (outputs, inputs * taps) @ (inputs * taps, positions)."""
        n, groups, outputs = len(x), self.groups, len(w)
        positions = self.window.positions(x.shape[2:])
        columns = w[0].size
        cells = self.window.gather(x, positions).reshape(n, groups, columns, math.prod(positions))
        return matmul_alike(w.reshape(groups, outputs // groups, columns), cells).reshape(n, outputs, *positions)

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """The same matrix, transposed, and each cell added back to where it was read."""
        n, groups, outputs = len(s), self.groups, len(w)
        positions, columns = s.shape[2:], w[0].size
        rows = s.reshape(n, groups, outputs // groups, math.prod(positions))
        cells = matmul(w.reshape(groups, outputs // groups, columns).swapaxes(1, 2), rows)
        return self.window.scatter(cells.reshape(n, shape[1], self.window.taps, *positions), shape)


@dataclass(frozen=True, eq=False, repr=False)
class ConvTranspose(Linear):
    """Transposed convolution: convolution with its two methods swapped, cut to the input's size.

    Parameters
    ----------
    weight : (inputs, outputs/groups, *kernel)
    bias : (outputs,) or None
    stride, dilation, padding, groups : as for Conv; the padding is cut from the output
    output_padding : int, or one a spatial axis; cells added at the end of the output (it may exceed the
        stride)
    """

    weight: Array
    bias: Array | None = None
    stride: int | Sequence[int] = 1
    padding: Padding = 0
    output_padding: int | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1

    def __post_init__(self) -> None:
        _prepare(self, lambda weight: weight.shape[1] * self.groups)
        extra = axes_tuple(self.output_padding, self.weight.ndim - 2, "ConvTranspose: output_padding", 0)
        object.__setattr__(self, "output_padding", extra)

    @property
    def window(self) -> Window:
        """The sliding window that scatters."""
        return Window.make(type(self).__name__, self.weight.shape[2:], self.stride, self.padding, self.dilation)

    def check(self, *shapes: Shape) -> None:
        """Channels and number of axes fit the weight, and something is left of the output."""
        (shape,) = shapes
        _check(self, shape, self.weight.shape[0])
        if min(self._size(shape[2:])) < 1:
            raise ShapeError(f"padding {self.padding} leaves nothing of the output for an input of shape {shape}")

    def _size(self, size: Sequence[int]) -> Shape:
        window, extra = self.window, axes_tuple(self.output_padding, len(size), "ConvTranspose: output_padding", 0)
        return tuple(
            (n - 1) * stride - before - after + span + more
            for n, stride, (before, after), span, more in zip(
                size, window.stride, window.padding, window.span, extra, strict=True
            )
        )

    def linear(self, x: Array, w: Array) -> Array:
        """Each input spreads its kernel over the output."""
        n, groups, inputs = len(x), self.groups, len(w)
        positions, columns = x.shape[2:], w[0].size
        rows = x.reshape(n, groups, inputs // groups, math.prod(positions))
        cells = matmul_alike(w.reshape(groups, inputs // groups, columns).swapaxes(1, 2), rows)
        outputs = w.shape[1] * groups
        cells = cells.reshape(n, outputs, self.window.taps, *positions)
        return self.window.scatter(cells, (n, outputs, *self._size(positions)))

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """The convolution of s, at as many positions as there are inputs."""
        n, groups, inputs = len(s), self.groups, len(w)
        columns = w[0].size
        cells = self.window.gather(s, shape[2:]).reshape(n, groups, columns, math.prod(shape[2:]))
        return matmul(w.reshape(groups, inputs // groups, columns), cells).reshape(shape)
