"""Activations: element by element. Frozen, each is a wire of weight 1; its derivative serves the gradient only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..arrays import Array, as_array, erf, exp, expm1, like, log1p, number, per_channel, positive, tanh, where
from ..errors import ShapeError
from .base import Diagonal, Layer, Shape, Wires, check_finite


class Identity(Wires):
    """y = a."""

    def route(self, x: Array) -> Array:
        """x."""
        return x

    def route_back(self, s: Array, shape: Shape) -> Array:
        """s."""
        return s


@dataclass(frozen=True, eq=False, repr=False)
class Dropout(Identity):
    """Dropout as it is after training: y = a."""

    p: float = 0.5


_ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)


class Activation(Layer):
    """A function of one number, applied to each element."""

    rational: ClassVar[bool] = True
    """Whether it maps rationals to rationals."""

    @property
    def wire(self) -> bool:
        """True: Pass is the usual rule."""
        return True

    def derivative(self, a: Array) -> Array:
        """The derivative at each element; at a kink the one from the left."""
        raise NotImplementedError

    def frozen(self, *inputs: Array, wrt: int = 0) -> Identity:
        """A wire."""
        return Identity()

    def tangent(self, *inputs: Array, wrt: int = 0) -> Diagonal:
        """The derivative on the diagonal."""
        return Diagonal(weight=self.derivative(inputs[0]))


class ReLU(Activation):
    """max(0, a)."""

    def forward(self, *inputs: Array) -> Array:
        """a+."""
        return positive(inputs[0])

    def derivative(self, a: Array) -> Array:
        """1 where a > 0, else 0."""
        return where(a > 0, number(1, a), number(0, a))


@dataclass(frozen=True, eq=False, repr=False)
class LeakyReLU(Activation):
    """a where a > 0, else slope * a."""

    slope: float = 0.01

    def forward(self, *inputs: Array) -> Array:
        """a or slope * a."""
        (a,) = inputs
        return where(a > 0, a, number(self.slope, a) * a)

    def derivative(self, a: Array) -> Array:
        """1 or the slope."""
        return where(a > 0, number(1, a), number(self.slope, a))


@dataclass(frozen=True, eq=False, repr=False)
class PReLU(Activation):
    """a where a > 0, else slope * a, with a scalar slope, one a channel, or one an element."""

    slope: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "slope", as_array(self.slope))
        check_finite(self)

    def check(self, *shapes: Shape) -> None:
        """The slope fits the channels."""
        _check_per_channel(self.slope, shapes[0], "PReLU: slope")

    def forward(self, *inputs: Array) -> Array:
        """a or slope * a."""
        (a,) = inputs
        return where(a > 0, a, per_channel(self.slope, a, "PReLU: slope") * a)

    def derivative(self, a: Array) -> Array:
        """1 or the slope."""
        return where(a > 0, number(1, a), per_channel(self.slope, a, "PReLU: slope"))


@dataclass(frozen=True, eq=False, repr=False)
class ELU(Activation):
    """a where a > 0, else alpha (exp(a) - 1)."""

    rational: ClassVar[bool] = False

    alpha: float = 1.0

    def forward(self, *inputs: Array) -> Array:
        """a or alpha (exp(a) - 1)."""
        (a,) = inputs
        return where(a > 0, a, number(self.alpha, a) * expm1(a - positive(a)))

    def derivative(self, a: Array) -> Array:
        """1 or alpha exp(a)."""
        return where(a > 0, number(1, a), number(self.alpha, a) * exp(a - positive(a)))


@dataclass(frozen=True, eq=False, repr=False)
class Softplus(Activation):
    """log(1 + exp(beta a)) / beta."""

    rational: ClassVar[bool] = False

    beta: float = 1.0

    def forward(self, *inputs: Array) -> Array:
        """a+ + log(1 + exp(-beta |a|)) / beta."""
        (a,) = inputs
        beta = number(self.beta, a)
        return positive(a) + log1p(exp(-beta * abs(a))) / beta

    def derivative(self, a: Array) -> Array:
        """sigmoid(beta a)."""
        return _sigmoid(number(self.beta, a) * a)


class Sigmoid(Activation):
    """1 / (1 + exp(-a))."""

    rational: ClassVar[bool] = False
    probabilities: ClassVar[bool] = True

    def forward(self, *inputs: Array) -> Array:
        """sigmoid(a)."""
        return _sigmoid(inputs[0])

    def derivative(self, a: Array) -> Array:
        """y (1 - y)."""
        return _sigmoid(a) * _sigmoid(-a)


class SiLU(Activation):
    """a sigmoid(a)."""

    rational: ClassVar[bool] = False

    def forward(self, *inputs: Array) -> Array:
        """a sigmoid(a)."""
        (a,) = inputs
        return a * _sigmoid(a)

    def derivative(self, a: Array) -> Array:
        """sigmoid(a) (1 + a sigmoid(-a))."""
        return _sigmoid(a) * (number(1, a) + a * _sigmoid(-a))


@dataclass(frozen=True, eq=False, repr=False)
class GELU(Activation):
    """a Phi(a), with Phi the normal distribution function, or its tanh approximation."""

    rational: ClassVar[bool] = False

    approximate: Literal["none", "tanh"] = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise ShapeError(f'GELU: approximate={self.approximate!r}, need "none" or "tanh"')

    def forward(self, *inputs: Array) -> Array:
        """a Phi(a)."""
        (a,) = inputs
        return a * self._phi(a)

    def _phi(self, a: Array) -> Array:
        half, one = number(0.5, a), number(1, a)
        return half * (
            one + (tanh(self._inner(a)) if self.approximate == "tanh" else erf(number(math.sqrt(0.5), a) * a))
        )

    def _inner(self, a: Array) -> Array:
        return number(_ROOT_TWO_OVER_PI, a) * (a + number(0.044715, a) * a * a * a)

    def derivative(self, a: Array) -> Array:
        """Phi(a) + a Phi'(a)."""
        half, one = number(0.5, a), number(1, a)
        if self.approximate == "tanh":
            t = tanh(self._inner(a))
            slope = number(_ROOT_TWO_OVER_PI, a) * (one + number(3 * 0.044715, a) * a * a)
            return self._phi(a) + a * half * (one - t * t) * slope
        return self._phi(a) + a * exp(-half * a * a) * number(_ROOT_TWO_OVER_PI, a) * half


class Tanh(Activation):
    """tanh(a)."""

    rational: ClassVar[bool] = False

    def forward(self, *inputs: Array) -> Array:
        """tanh(a)."""
        return tanh(inputs[0])

    def derivative(self, a: Array) -> Array:
        """1 - tanh(a)^2."""
        y = tanh(a)
        return number(1, a) - y * y


@dataclass(frozen=True, eq=False, repr=False)
class Clip(Activation):
    """min(max(a, low), high); a bound of None does not bind (ReLU6 is Clip(low=0, high=6))."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ShapeError(f"Clip: low={self.low} is above high={self.high}")

    def forward(self, *inputs: Array) -> Array:
        """The clipped values."""
        (a,) = inputs
        if self.low is not None:
            low = number(self.low, a)
            a = where(a > low, a, low)
        if self.high is not None:
            high = number(self.high, a)
            a = where(a < high, a, high)
        return a

    def derivative(self, a: Array) -> Array:
        """1 strictly between the bounds, else 0."""
        inside = a == a
        if self.low is not None:
            inside = inside & (a > number(self.low, a))
        if self.high is not None:
            inside = inside & (a < number(self.high, a))
        return where(inside, number(1, a), number(0, a))


@dataclass(frozen=True, eq=False, repr=False)
class Given(Activation):
    """Outputs that were computed elsewhere and are taken as the exact numbers that they are.

    It stands for a layer without rational values (tanh, softplus, ...) in exact arithmetic: see
    :func:`given`.
    """

    layer: Layer
    output: Array

    @property
    def wire(self) -> bool:
        """As for the layer that it stands for."""
        return self.layer.wire

    def check(self, *shapes: Shape) -> None:
        """The input has the shape of the given output."""
        if tuple(shapes[0]) != tuple(self.output.shape):
            raise ShapeError(f"Given: input has shape {shapes[0]}, but the given output has shape {self.output.shape}")

    def forward(self, *inputs: Array) -> Array:
        """The given output."""
        return like(self.output, inputs[0])

    def derivative(self, a: Array) -> Array:
        """Not known: only the output is given."""
        raise ShapeError(f"Given: the derivative of {self.layer!r} is not given: take the gradient in floats")


def _sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), without overflow."""
    small = exp(-abs(a))
    one = number(1, a)
    return where(a < 0, small, one) / (one + small)


def _check_per_channel(value: Array, shape: Shape, what: str) -> None:
    per_channel(value, _Shaped(shape), what)


@dataclass(frozen=True)
class _Shaped:
    """Just a shape, for a check that needs no numbers."""

    shape: Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)
