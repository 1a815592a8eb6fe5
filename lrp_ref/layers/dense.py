"""The dense layer."""

from __future__ import annotations

from ..arrays import Array, as_array, matmul
from ..errors import ShapeError
from ..values import value
from .base import Linear, Shape, check_finite


@value
class Dense(Linear):
    """z_k = sum_j a_j w_jk + b_k, over the last axis.

    Parameters
    ----------
    weight : (inputs, outputs), as in the chapter
    bias : (outputs,) or None
    """

    weight: Array
    bias: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_array(self.weight))
        if self.weight.ndim != 2:
            raise ShapeError(f"Dense: weight has shape {self.weight.shape}, need (inputs, outputs)")
        if self.bias is not None:
            object.__setattr__(self, "bias", as_array(self.bias))
            if self.bias.shape != self.weight.shape[1:]:
                raise ShapeError(f"Dense: bias has shape {self.bias.shape}, need {self.weight.shape[1:]} (outputs)")
        check_finite(self)

    def check(self, *shapes: Shape) -> None:
        """The last axis has as many entries as the weight has inputs."""
        (shape,) = shapes
        if len(shape) < 2 or shape[-1] != self.weight.shape[0]:
            raise ShapeError(f"input has shape {shape}, need (batch, ..., {self.weight.shape[0]})")

    def linear(self, x: Array, w: Array) -> Array:
        """x @ w."""
        return matmul(x, w)

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """s @ w^T."""
        return matmul(s, w.T)
