"""Convolution and transposed convolution in 1, 2 or 3 spatial dimensions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Self

from ..arrays import Array, as_array, matmul, matmul_alike, ones
from ..errors import ShapeError
from ..values import value
from .base import Linear, Shape, axes_tuple, check_finite
from .window import Padding, Window


def _prepare(layer: Conv | ConvTranspose, count: Callable[[Array], int]) -> None:
    """Check the parameters; a bias (outputs,) is kept as (outputs, 1, ...), which broadcasts to z; count(weight) is
    outputs.
    """
    name, weight = type(layer).__name__, as_array(layer.weight)
    if weight.ndim not in (3, 4, 5) or 0 in weight.shape:
        raise ShapeError(f"{name}: weight has shape {weight.shape}, need two channel axes and 1 to 3 kernel axes")
    if layer.groups < 1 or weight.shape[0] % layer.groups:
        raise ShapeError(f"{name}: groups={layer.groups} does not divide the {weight.shape[0]} channels of the weight")
    object.__setattr__(layer, "weight", weight)
    window = Window.make(name, weight.shape[2:], layer.stride, layer.padding, layer.dilation)
    for field in ("stride", "padding", "dilation"):
        object.__setattr__(layer, field, getattr(window, field))
    outputs, kernel = count(weight), weight.shape[2:]
    if layer.bias is not None:
        bias = as_array(layer.bias)
        if bias.shape[:1] != (outputs,) or bias.ndim not in (1, 1 + len(kernel)):
            raise ShapeError(f"{name}: bias has shape {bias.shape}, need ({outputs},), one number an output channel")
        object.__setattr__(layer, "bias", bias if bias.ndim > 1 else bias.reshape((outputs,) + (1,) * len(kernel)))
    if layer.tap_bias is not None:
        object.__setattr__(layer, "tap_bias", as_array(layer.tap_bias))
        if layer.tap_bias.shape != (outputs, *kernel):
            raise ShapeError(f"{name}: tap_bias has shape {layer.tap_bias.shape}, need {(outputs, *kernel)}")
    check_finite(layer)


def _check(layer: Conv | ConvTranspose, shape: Shape, channels: int) -> None:
    if len(shape) != layer.weight.ndim or shape[1] != channels:
        spatial = ", ".join(["size"] * (layer.weight.ndim - 2))
        raise ShapeError(f"input has shape {shape}, need (batch, {channels}, {spatial})")


def _check_bias(layer: Conv | ConvTranspose, size: Shape) -> None:
    if layer.bias is not None and layer.bias.shape[1:] not in ((1,) * len(size), size):
        raise ShapeError(f"a bias map of shape {layer.bias.shape} does not fit an output of size {size}")


class _Convolution(Linear):
    """What the two convolutions share: a bias that depends on the position, made for the size that is met."""

    tap_bias: Array | None

    def _taps_alone(self) -> Self:
        """The convolution of one channel, of ones, that adds up the tap biases."""
        raise NotImplementedError

    def frozen(self, *inputs: Array, wrt: int = 0) -> Self:
        """The layer itself, or with the tap biases as a bias map (outputs, *positions)."""
        if self.tap_bias is None:
            return self
        (a,) = inputs
        taps = self._taps_alone()
        bias = taps.linear(ones((1, 1, *a.shape[2:]), a), taps.parameters(a)[0])[0]
        changed = {"bias": bias if self.bias is None else bias + self.bias, "tap_bias": None}
        return dataclasses.replace(self, **changed)

    def forward(self, *inputs: Array) -> Array:
        """z = linear(a, weight) + bias."""
        return super().forward(*inputs) if self.tap_bias is None else self.frozen(*inputs).forward(*inputs)


@value
class Conv(_Convolution):
    """Convolution as networks mean it (cross-correlation: the kernel is not flipped), in 1, 2 or 3
    dimensions.

    Parameters
    ----------
    weight : (outputs, inputs/groups, *kernel)
    bias : (outputs,), a map (outputs, *positions) for inputs of one size, or None
    stride, dilation : int, or one a spatial axis
    padding : int, one a spatial axis, or (before, after) for each; padded cells are not part of the domain
    groups : int
    tap_bias : (outputs, *kernel) or None; what each tap adds to the bias where it reads a cell of the input and
        not of the padding. So a shift of the input channels, such as a batch norm's, becomes a bias whatever size
        the input has.
    """

    weight: Array
    bias: Array | None = None
    stride: int | Sequence[int] = 1
    padding: Padding = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1
    tap_bias: Array | None = None

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
        _check_bias(self, self.window.positions(shape[2:]))

    def _taps_alone(self) -> Self:
        weight: Array = self.tap_bias
        return dataclasses.replace(self, weight=weight[:, None], bias=None, groups=1, tap_bias=None)

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


@value
class ConvTranspose(_Convolution):
    """Transposed convolution: convolution with its two methods swapped, cut to the input's size.

    Parameters
    ----------
    weight : (inputs, outputs/groups, *kernel)
    bias, tap_bias : as for Conv; a tap reads and adds wherever a cell of the input is spread by it
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
    tap_bias: Array | None = None

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
        if min(self.size(shape[2:])) < 1:
            raise ShapeError(f"padding {self.padding} leaves nothing of the output for an input of shape {shape}")
        _check_bias(self, self.size(shape[2:]))

    def _taps_alone(self) -> Self:
        weight: Array = self.tap_bias
        return dataclasses.replace(self, weight=weight[None], bias=None, groups=1, tap_bias=None)

    def size(self, size: Sequence[int]) -> Shape:
        """The output's spatial size for an input's."""
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
        return self.window.scatter(cells, (n, outputs, *self.size(positions)))

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """The convolution of s, at as many positions as there are inputs."""
        n, groups, inputs = len(s), self.groups, len(w)
        columns = w[0].size
        cells = self.window.gather(s, shape[2:]).reshape(n, groups, columns, math.prod(shape[2:]))
        return matmul(w.reshape(groups, inputs // groups, columns), cells).reshape(shape)
