"""Layers of several inputs, and sums over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from itertools import accumulate
from typing import ClassVar

from ..arrays import Array, as_array, broadcast_shapes, divide, namespace, number, ones, total
from ..errors import ShapeError
from ..values import value
from .base import Diagonal, Layer, Linear, Shape, check_finite, sample_axes, sum_to
from .elementwise import Identity


@value
class BranchSum(Linear):
    """z = sum_i w_i x_i + b over branches stacked on axis 1 (what Add and Sub freeze to)."""

    weight: Array
    bias: Array | None = None

    def linear(self, x: Array, w: Array) -> Array:
        """The weighted sum of the branches."""
        return total(x * w, (1,))

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """w_i s to branch i."""
        return s[:, None] * w


def _join(inputs: Sequence[Array], constant: Array | None) -> Array:
    """The inputs, broadcast to each other, on a new axis 1."""
    xp = namespace(inputs[0])
    shape = _broadcast([a.shape for a in inputs], constant)
    return xp.stack([xp.broadcast_to(a, shape) for a in inputs], axis=1)


def _broadcast(shapes: Sequence[Shape], constant: Array | None) -> Shape:
    """The common shape of inputs and constant; the batch is axis 0 of every input and of no constant."""
    if len({shape[0] for shape in shapes}) > 1 or len({len(shape) for shape in shapes}) > 1:
        raise ShapeError(f"inputs have shapes {list(shapes)}: need equal batch sizes and equally many axes")
    extra = [] if constant is None else [constant.shape]
    try:
        shape = broadcast_shapes(*shapes, *extra)
    except ValueError:
        raise ShapeError(f"inputs of shapes {[*shapes, *extra]} do not broadcast to each other") from None
    if len(shape) != len(shapes[0]) or any(len(one) == len(shape) and one[0] != 1 for one in extra):
        raise ShapeError(f"a constant of shape {extra[0]} has a batch axis, or more axes than inputs of {list(shapes)}")
    return shape


def _split(R: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
    """Each branch's part, summed over the axes along which the branch was broadcast."""
    return tuple(sum_to(R[:, i], shape) for i, shape in enumerate(shapes))


def _constant(layer: Add | Sub) -> None:
    """The constant as an array of at least one axis."""
    if layer.constant is not None:
        constant = as_array(layer.constant)
        object.__setattr__(layer, "constant", constant if constant.ndim else constant.reshape(1))
        check_finite(layer)


@value
class Add(Layer):
    """The sum of all inputs, and of a constant if one is given: the constant is a bias and is booked as one.

    Inputs have equal batch sizes; their other axes broadcast, and relevance is summed back over them. The
    constant broadcasts to the sum and has no batch axis (or one of length 1).
    """

    constant: Array | None = None
    arity: ClassVar[tuple[int, int | None]] = (1, None)

    def __post_init__(self) -> None:
        _constant(self)

    def check(self, *shapes: Shape) -> None:
        """The shapes broadcast, the batch apart."""
        _broadcast(shapes, self.constant)

    def join(self, *inputs: Array) -> Array:
        """The branches on a new axis 1."""
        return _join(inputs, self.constant)

    def split(self, R: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        """What belongs to each branch."""
        return _split(R, shapes)

    def forward(self, *inputs: Array) -> Array:
        """The sum."""
        return self.frozen(*inputs).forward(self.join(*inputs))

    def frozen(self, *inputs: Array, wrt: int = 0) -> BranchSum:
        """Weight 1 for each branch."""
        (a, *_) = inputs
        return BranchSum(ones((1, len(inputs)) + (1,) * (a.ndim - 1), a), self.constant)


@value
class Sub(Layer):
    """The first input minus the second; or, with one input and a constant, the input minus the constant (a bias)."""

    constant: Array | None = None
    arity: ClassVar[tuple[int, int | None]] = (1, 2)

    def __post_init__(self) -> None:
        _constant(self)

    def check(self, *shapes: Shape) -> None:
        """Two inputs, or one and the constant, that broadcast."""
        if (len(shapes) == 1) == (self.constant is None):
            raise ShapeError(
                f"Sub has {len(shapes)} inputs and constant={self.constant}: need two inputs, or one and it"
            )
        _broadcast(shapes, self.constant)

    def join(self, *inputs: Array) -> Array:
        """The branches on a new axis 1."""
        return _join(inputs, self.constant)

    def split(self, R: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        """What belongs to each branch."""
        return _split(R, shapes)

    def forward(self, *inputs: Array) -> Array:
        """The difference."""
        return self.frozen(*inputs).forward(self.join(*inputs))

    def frozen(self, *inputs: Array, wrt: int = 0) -> BranchSum:
        """Weights 1 and -1."""
        (a, *_) = inputs
        weight = ones((1, len(inputs)) + (1,) * (a.ndim - 1), a)
        weight[:, 1:] = number(-1, a)
        return BranchSum(weight, None if self.constant is None else -self.constant)


class Mul(Layer):
    """The product of two inputs: by convention the first is the signal, the second the gate.

    Inputs have equal batch sizes; their other axes broadcast. With one factor given it is a linear map of the
    other, so it needs a rule for factors, such as Product.
    """

    arity: ClassVar[tuple[int, int | None]] = (2, 2)
    product: ClassVar[bool] = True

    def check(self, *shapes: Shape) -> None:
        """The shapes broadcast, the batch apart."""
        _broadcast(shapes, None)

    def forward(self, *inputs: Array) -> Array:
        """The product."""
        signal, gate = inputs
        return signal * gate

    def frozen(self, *inputs: Array, wrt: int = 0) -> Diagonal:
        """The diagonal map of input `wrt`, whose weight is the other input."""
        return Diagonal(weight=inputs[1 - wrt])


@value
class Concat(Layer):
    """The inputs one after the other along `axis`."""

    axis: int = 1
    arity: ClassVar[tuple[int, int | None]] = (1, None)

    def __post_init__(self) -> None:
        sample_axes([self.axis], 64, "Concat")

    @property
    def wire(self) -> bool:
        """True: relevance is cut as the inputs were joined."""
        return True

    def check(self, *shapes: Shape) -> None:
        """Equal shapes but for the axis."""
        axis = sample_axes([self.axis], len(shapes[0]), "Concat")[0]
        rest = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
        if len(rest) > 1 or len({len(shape) for shape in shapes}) > 1:
            raise ShapeError(f"inputs of shapes {list(shapes)} differ in more than axis {axis}")

    def join(self, *inputs: Array) -> Array:
        """The concatenation."""
        return namespace(inputs[0]).concatenate(inputs, axis=self.axis)

    def split(self, R: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        """The cuts."""
        axis = self.axis % R.ndim
        ends = accumulate(shape[axis] for shape in shapes)
        before = (slice(None),) * axis
        return tuple(R[(*before, slice(end - shape[axis], end))] for shape, end in zip(shapes, ends, strict=True))

    def forward(self, *inputs: Array) -> Array:
        """The concatenation."""
        return self.join(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> Identity:
        """A wire."""
        return Identity()


@value
class AxisSum(Linear):
    """z = w * the sum over axes (what Sum and Mean freeze to)."""

    axes: Shape
    keepdims: bool
    weight: Array
    bias: None = field(default=None, init=False)

    def linear(self, x: Array, w: Array) -> Array:
        """w * sum."""
        return total(x, self.axes, keepdims=self.keepdims) * w

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """w * s to every element summed."""
        kept = tuple(1 if axis in self.axes else n for axis, n in enumerate(shape))
        return namespace(s).broadcast_to((s * w).reshape(kept), shape)


def _axes(layer: Sum | Mean, ndim: int) -> Shape:
    return sample_axes([layer.axes] if isinstance(layer.axes, int) else layer.axes, ndim, type(layer).__name__)


@value
class Sum(Layer):
    """The sum over `axes` (not the batch's)."""

    axes: int | Sequence[int]
    keepdims: bool = False

    def __post_init__(self) -> None:
        _axes(self, 64)

    def check(self, *shapes: Shape) -> None:
        """The axes exist."""
        _axes(self, len(shapes[0]))

    def forward(self, *inputs: Array) -> Array:
        """The sum."""
        return self.frozen(*inputs).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> AxisSum:
        """Weight 1."""
        (a,) = inputs
        return AxisSum(_axes(self, a.ndim), self.keepdims, ones((1,), a))


@value
class Mean(Layer):
    """The mean over `axes` (not the batch's)."""

    axes: int | Sequence[int]
    keepdims: bool = False

    def __post_init__(self) -> None:
        _axes(self, 64)

    def check(self, *shapes: Shape) -> None:
        """The axes exist, and are not empty."""
        (shape,) = shapes
        if any(shape[axis] == 0 for axis in _axes(self, len(shape))):
            raise ShapeError(f"Mean: an input of shape {shape} is empty along axes {self.axes}")

    def forward(self, *inputs: Array) -> Array:
        """The mean."""
        return self.frozen(*inputs).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> AxisSum:
        """Weight 1/n."""
        (a,) = inputs
        axes = _axes(self, a.ndim)
        n = number(math.prod(a.shape[axis] for axis in axes), a) * ones((1,), a)
        return AxisSum(axes, self.keepdims, divide(ones((1,), a), n))
