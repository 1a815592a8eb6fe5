"""Activations: element by element. Frozen, each is a wire of weight 1; its derivative serves the gradient only."""

from __future__ import annotations

import math
from dataclasses import field
from typing import ClassVar, Literal

from ..arrays import (
    Array,
    as_array,
    erf,
    exp,
    expm1,
    like,
    log1p,
    near_greatest,
    negative,
    number,
    per_channel,
    positive,
    root,
    tanh,
    total,
    where,
)
from ..errors import ShapeError
from ..values import value
from .base import Diagonal, Layer, Linear, Shape, Wires, check_finite, sample_axes


class Identity(Wires):
    """y = a."""

    def route(self, x: Array) -> Array:
        """x."""
        return x

    def route_back(self, s: Array, shape: Shape) -> Array:
        """s."""
        return s


@value
class Dropout(Identity):
    """Dropout as it is after training: y = a."""

    p: float = 0.5


_ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)


class Activation(Layer):
    """A function of one number, applied to each element."""

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


@value
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


@value
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


@value
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


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


class SELU(Activation):
    """scale a where a > 0, else scale alpha (exp(a) - 1), with the two numbers that keep mean 0 and variance 1."""

    rational: ClassVar[bool] = False

    def forward(self, *inputs: Array) -> Array:
        """scale times ELU(alpha)."""
        (a,) = inputs
        return number(_SELU_SCALE, a) * ELU(_SELU_ALPHA).forward(a)

    def derivative(self, a: Array) -> Array:
        """scale or scale alpha exp(a)."""
        return number(_SELU_SCALE, a) * ELU(_SELU_ALPHA).derivative(a)


@value
class CELU(Activation):
    """a where a > 0, else alpha (exp(a / alpha) - 1), alpha > 0."""

    rational: ClassVar[bool] = False

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ShapeError(f"CELU: alpha={self.alpha}, need > 0")

    def forward(self, *inputs: Array) -> Array:
        """a or alpha (exp(a / alpha) - 1)."""
        (a,) = inputs
        alpha = number(self.alpha, a)
        return where(a > 0, a, alpha * expm1((a - positive(a)) / alpha))

    def derivative(self, a: Array) -> Array:
        """1 or exp(a / alpha)."""
        return where(a > 0, number(1, a), exp((a - positive(a)) / number(self.alpha, a)))


@value
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


@value
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
        return half * (one + (tanh(self._inner(a)) if self.approximate == "tanh" else erf(root(0.5, a) * a)))

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


@value
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


@value
class HardSigmoid(Activation):
    """min(max(slope a + offset, 0), 1)."""

    slope: float = 1 / 6
    offset: float = 0.5

    def _line(self, a: Array) -> Array:
        return number(self.slope, a) * a + number(self.offset, a)

    def forward(self, *inputs: Array) -> Array:
        """The clipped line."""
        return Clip(low=0, high=1).forward(self._line(inputs[0]))

    def derivative(self, a: Array) -> Array:
        """The slope strictly between the bounds, else 0."""
        return number(self.slope, a) * Clip(low=0, high=1).derivative(self._line(a))


class HardSwish(Activation):
    """a min(max(a / 6 + 1/2, 0), 1)."""

    def forward(self, *inputs: Array) -> Array:
        """a min(max(a + 3, 0), 6) / 6."""
        (a,) = inputs
        return a * Clip(low=0, high=6).forward(a + number(3, a)) / number(6, a)

    def derivative(self, a: Array) -> Array:
        """a / 3 + 1/2 strictly between -3 and 3, else 0 below and 1 above."""
        gate, line = Clip(low=0, high=6), a + number(3, a)
        return (gate.forward(line) + a * gate.derivative(line)) / number(6, a)


@value
class Softmax(Layer):
    """exp(a_k) / sum exp(a) over one axis.

    Relevance passes it on a wire, unless a case says otherwise. As the last layer of a network it is stripped
    by canonization, because relevance starts from logits.
    """

    probabilities: ClassVar[bool] = True
    rational: ClassVar[bool] = False

    axis: int = -1

    def __post_init__(self) -> None:
        sample_axes([self.axis], 64, "Softmax")

    @property
    def wire(self) -> bool:
        """True: Pass is the usual rule."""
        return True

    def check(self, *shapes: Shape) -> None:
        """The axis exists, and is not empty."""
        (axis,) = sample_axes([self.axis], len(shapes[0]), "Softmax")
        if not shapes[0][axis]:
            raise ShapeError(f"Softmax: an input of shape {shapes[0]} is empty along axis {self.axis}")

    def forward(self, *inputs: Array) -> Array:
        """The probabilities."""
        (a,) = inputs
        powers = exp(a - near_greatest(a, self.axis))
        return powers / total(powers, (self.axis,), keepdims=True)

    def frozen(self, *inputs: Array, wrt: int = 0) -> Identity:
        """A wire."""
        return Identity()

    def tangent(self, *inputs: Array, wrt: int = 0) -> SoftmaxSlope:
        """The Jacobian, from the probabilities."""
        return SoftmaxSlope(weight=self.forward(*inputs), axis=self.axis)


@value
class SoftmaxSlope(Linear):
    """z = w (x - sum w x) over one axis: diag(w) - w w^T, which is its own transpose. For gradients only."""

    weight: Array
    axis: int
    bias: None = field(default=None, init=False)

    def linear(self, x: Array, w: Array) -> Array:
        """w (x - sum w x)."""
        return w * (x - total(w * x, (self.axis,), keepdims=True))

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """The same."""
        return self.linear(s, w)


@value
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
    return exp(negative(a)) / (number(1, a) + exp(-abs(a)))


def _check_per_channel(value: Array, shape: Shape, what: str) -> None:
    per_channel(value, _Shaped(shape), what)


@value
class _Shaped:
    """Just a shape, for a check that needs no numbers."""

    shape: Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)
