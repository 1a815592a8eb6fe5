"""What a layer is: a function of activations that, frozen at a data point, is a linear map.

A layer knows nothing of relevance. Its three faces are ``forward`` (the function), ``frozen`` (the linear map
that LRP deals relevance along, with all that is not linear fixed at the data point) and ``tangent`` (the map
with the layer's true derivative, which differs from ``frozen`` only for activations and substituted pools).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

from ..arrays import Array, all_finite, is_array, like, ones, total, zeros
from ..errors import ShapeError
from ..values import value

Shape = tuple[int, ...]


@value
class Layer:
    """A function of activations; batch first (axis 0), channels next (axis 1)."""

    __eq__, __hash__ = object.__eq__, object.__hash__  # arrays have no one truth value
    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    """The least and the greatest number of inputs (None: any)."""
    probabilities: ClassVar[bool] = False
    """Whether the outputs are probabilities rather than logits."""
    rational: ClassVar[bool] = True
    """Whether it maps rationals to rationals."""
    product: ClassVar[bool] = False
    """Whether the inputs are factors: frozen, each has a linear map of its own, and there is none of them together."""

    @property
    def wire(self) -> bool:
        """Whether relevance is handed on along wires (rule Pass) when no case of a composite says otherwise."""
        return False

    def check(self, *shapes: Shape) -> None:
        """Raise ShapeError if arrays of these shapes cannot be the inputs."""

    def forward(self, *inputs: Array) -> Array:
        """The layer's output for the whole batch."""
        raise NotImplementedError

    def frozen(self, *inputs: Array, wrt: int = 0) -> Linear:
        """The linear map of input `wrt` (of the joined inputs for Add and kin), with all else fixed at `inputs`."""
        raise NotImplementedError

    def tangent(self, *inputs: Array, wrt: int = 0) -> Linear:
        """The linear map whose matrix is the layer's Jacobian at `inputs`."""
        return self.frozen(*inputs, wrt=wrt)

    def join(self, *inputs: Array) -> Array:
        """Several inputs as the one array that the frozen map acts on."""
        (a,) = inputs
        return a

    def split(self, R: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        """The transpose of `join`: what belongs to each of the inputs, whose shapes are given."""
        return (R,)

    def like(self, a: Array) -> Self:
        """The same layer with its parameters in the arithmetic of `a`."""
        changed = {name: new for name, old in self._arrays() if (new := like(old, a)) is not old}
        return dataclasses.replace(self, **changed) if changed else self

    def moved(self, move: Callable[[Array], Array]) -> Self:
        """The same layer with its parameters where `move` puts them."""
        changed = {name: new for name, old in self._arrays() if (new := move(old)) is not old}
        return dataclasses.replace(self, **changed) if changed else self

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        for field in dataclasses.fields(self):
            if is_array(value := getattr(self, field.name)):
                yield field.name, value

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if is_array(value):
                shown.append(f"{field.name}={'x'.join(map(str, value.shape)) or value}")
            elif not _is(value, field.default):
                shown.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class Linear(Layer):
    """A layer z = linear(a, weight) + bias, whose weight w_jk is an argument, so that a rule may bring its
    own.

    ``<linear(x, w), s> == <x, adjoint(s, w, x.shape)>`` holds exactly, for every w of the weight's shape.
    """

    weight: Array | None
    """The weights, in any shape that the two methods share out to pairs (j, k); None: every connection has weight 1."""
    bias: Array | None
    """Broadcasts to z; None: 0."""
    one_to_one: ClassVar[bool] = False
    """Whether the layer declares that output k is fed by input k alone, so that Pass may be applied."""

    def linear(self, x: Array, w: Array) -> Array:
        """sum_j x_j w_jk."""
        raise NotImplementedError

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """sum_k w_jk s_k, an array of `shape`, the shape of x."""
        raise NotImplementedError

    def portions(self, a: Array) -> Array | None:
        """What Pass hands on along each connection, in the weight's shape; None: all of it, where there is but one."""
        return None

    def parameters(self, a: Array) -> tuple[Array, Array]:
        """(weight, bias) in the arithmetic of `a`, with ones and zeros where they are None."""
        weight = ones((1,), a) if self.weight is None else self.weight
        bias = zeros((1,), a) if self.bias is None else self.bias
        return weight, bias

    def forward(self, *inputs: Array) -> Array:
        """z = linear(a, weight) + bias."""
        (a,) = inputs
        weight, _ = self.parameters(a)
        z = self.linear(a, weight)
        return z if self.bias is None else z + self.bias

    def frozen(self, *inputs: Array, wrt: int = 0) -> Linear:
        """The layer itself: there is nothing to freeze."""
        return self


@value
class Wires(Linear):
    """A map that only routes: each output is one input, or nothing. Weight 1 everywhere, no bias."""

    weight: None = dataclasses.field(default=None, init=False)
    bias: None = dataclasses.field(default=None, init=False)
    one_to_one: ClassVar[bool] = True

    @property
    def wire(self) -> bool:
        """True: Pass is the usual rule."""
        return True

    def route(self, x: Array) -> Array:
        """Where each value goes."""
        raise NotImplementedError

    def route_back(self, s: Array, shape: Shape) -> Array:
        """The transpose of `route`: to where each value came from, summed where it was copied."""
        raise NotImplementedError

    def linear(self, x: Array, w: Array) -> Array:
        """w * route(x)."""
        return self.route(x) * w

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """route_back(w * s)."""
        return self.route_back(s * w, shape)

    def forward(self, *inputs: Array) -> Array:
        """route(a)."""
        (a,) = inputs
        return self.route(a)


@value
class Diagonal(Linear):
    """z_k = a_k w_k + b_k, element by element, a and w broadcast (what scales, batch norms and products freeze to)."""

    weight: Array
    bias: Array | None = None
    one_to_one: ClassVar[bool] = True

    def linear(self, x: Array, w: Array) -> Array:
        """x * w."""
        return x * w

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """s * w, summed over the axes along which a was broadcast."""
        return sum_to(s * w, shape)


def _is(value: Any, default: Any) -> bool:
    """Whether a parameter is its default, perhaps spread over axes."""
    if isinstance(value, tuple) and not isinstance(default, tuple):
        return bool(value) and all(_is(part, default) for part in value)
    return bool(value == default)


def check_finite(layer: Layer) -> None:
    """Refuse parameters that are NaN or infinite, by name."""
    for name, array in layer._arrays():
        if not all_finite(array):
            raise ShapeError(f"{type(layer).__name__}: {name} holds NaN or infinite values")


def axes_tuple(value: int | Sequence[int], count: int, what: str, least: int) -> Shape:
    """An int, or one int a spatial axis, as a tuple of `count` ints that are at least `least`."""
    values: tuple[Any, ...] = tuple(value) if isinstance(value, Sequence) else (value,) * count
    if len(values) != count or any(not isinstance(v, Integral) or v < least for v in values):
        raise ShapeError(f"{what}={value!r}: need an int, or one int for each of {count} spatial axes, >= {least}")
    return tuple(int(v) for v in values)


def sample_axes(axes: Sequence[int], ndim: int, name: str) -> Shape:
    """Axes counted from the front; the batch axis is refused."""
    counted = tuple(axis + ndim if axis < 0 else axis for axis in axes)
    if any(not 0 <= axis < ndim for axis in counted) or len(set(counted)) < len(counted):
        raise ShapeError(f"{name}: axes {tuple(axes)} do not fit an input of {ndim} axes")
    if 0 in counted:
        raise ShapeError(f"{name}: axis 0 is the batch, which no layer may mix, cut or move")
    return counted


def sum_to(R: Array, shape: Shape) -> Array:
    """The transpose of broadcasting an array of `shape` to that of `R`, axis by axis."""
    axes = tuple(i for i, (got, want) in enumerate(zip(R.shape, shape, strict=True)) if got != want)
    return total(R, axes, keepdims=True) if axes else R
