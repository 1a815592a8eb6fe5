"""Scales and batch norm: a diagonal map, one number a channel."""

from __future__ import annotations

from typing import Any, Self

from ..arrays import Array, as_array, as_decimal, floats, per_channel
from ..errors import ShapeError
from ..values import value
from .base import Diagonal, Layer, Shape, check_finite
from .elementwise import _check_per_channel


@value
class Scale(Layer):
    """A constant times a tensor, plus a constant: weight * a + bias.

    Each is a scalar, one number a channel (axis 1), or an array of exactly the sample's shape.
    """

    weight: Array
    bias: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_array(self.weight))
        if self.bias is not None:
            object.__setattr__(self, "bias", as_array(self.bias))
        check_finite(self)

    def check(self, *shapes: Shape) -> None:
        """Weight and bias fit the sample."""
        _check_per_channel(self.weight, shapes[0], "Scale: weight")
        if self.bias is not None:
            _check_per_channel(self.bias, shapes[0], "Scale: bias")

    def forward(self, *inputs: Array) -> Array:
        """weight * a + bias."""
        return self.frozen(*inputs).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> Diagonal:
        """The diagonal map."""
        (a,) = inputs
        bias = None if self.bias is None else per_channel(self.bias, a, "Scale: bias")
        return Diagonal(per_channel(self.weight, a, "Scale: weight"), bias)


@value
class BatchNorm(Layer):
    """Batch norm as it is after training: scale * a + shift, one number a channel (axis 1).

    These two are the network's exact numbers, for exact arithmetic too: :meth:`from_statistics` computes them
    once, in float64, from what training frameworks keep.
    """

    scale: Array
    shift: Array

    def __post_init__(self) -> None:
        for name in ("scale", "shift"):
            value = as_array(getattr(self, name))
            if value.ndim != 1:
                raise ShapeError(f"BatchNorm: {name} has shape {value.shape}, need (channels,)")
            object.__setattr__(self, name, value)
        if self.scale.shape != self.shift.shape:
            raise ShapeError(f"BatchNorm: scale has shape {self.scale.shape}, shift {self.shift.shape}: need the same")
        check_finite(self)

    @classmethod
    def from_statistics(cls, *, mean: Any, variance: Any, weight: Any = 1.0, bias: Any = 0.0, epsilon: float) -> Self:
        """scale = weight / sqrt(variance + epsilon), shift = bias - scale * mean, in float64.

        `epsilon` is taken as the decimal that it was meant to be: the float32 nearest to 1e-5 is read as
        1e-5.
        """
        mean, variance, weight, bias = (floats(as_array(value)) for value in (mean, variance, weight, bias))
        spread = variance + as_decimal(epsilon)
        if (spread <= 0).any():
            raise ShapeError("BatchNorm: variance + epsilon must be positive")
        scale = weight / spread**0.5
        return cls(scale=scale, shift=bias - scale * mean)

    def check(self, *shapes: Shape) -> None:
        """The channels fit."""
        if len(shapes[0]) < 2 or shapes[0][1] != len(self.scale):
            raise ShapeError(f"input has shape {shapes[0]}, need (batch, {len(self.scale)}, ...)")

    def forward(self, *inputs: Array) -> Array:
        """scale * a + shift."""
        return self.frozen(*inputs).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> Diagonal:
        """The diagonal map."""
        (a,) = inputs
        column = (1, -1) + (1,) * (a.ndim - 2)
        return Diagonal(self.scale.reshape(column), self.shift.reshape(column))
