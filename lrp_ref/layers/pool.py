"""Pools: a sum over windows with frozen weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar, Literal

from ..arrays import Array, divide, exp, like, log, namespace, near_greatest, number, ones, total, where
from ..errors import ShapeError
from ..values import value
from .base import Layer, Linear, Shape, axes_tuple
from .window import Bins, Padding, Window

Ints = int | Sequence[int]


@value
class WindowSum(Linear):
    """z_k = w_k * the sum of the cells under window k, or of those that `live` marks (what every pool freezes to)."""

    window: Window | Bins
    positions: Shape
    weight: Array
    live: Array | None = None
    """Which cell of each window is connected, (N, C, taps, *positions); None: every one."""
    shares: Array | None = None
    """What Pass hands to each live cell, in the weight's shape; None: all, to the only one."""
    bias: None = field(default=None, init=False)

    def linear(self, x: Array, w: Array) -> Array:
        """The weighted sum of each window."""
        cells = self.window.gather(x, self.positions)
        if self.live is not None:
            cells = where(self.live, cells, number(0, cells))
        return total(cells, (2,)) * w

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """Each s_k w_k goes to every live cell of its window."""
        rows = (s * w)[:, :, None]
        if self.live is None:
            target = (*rows.shape[:2], self.window.taps, *rows.shape[3:])
            cells = namespace(s).broadcast_to(rows, target)
        else:
            cells = where(self.live, rows, number(0, rows))
        return self.window.scatter(cells, shape)

    def portions(self, a: Array) -> Array | None:
        """The layer's own shares."""
        return self.shares


def _spatial(shape: Shape, name: str) -> Shape:
    if len(shape) < 3:
        raise ShapeError(f"{name}: input has shape {shape}, need (batch, channels, size, ...)")
    return shape[2:]


def _window(kernel: Ints, stride: Ints | None, padding: Padding, dilation: Ints, shape: Shape, name: str) -> Window:
    """The window over the spatial axes of an input of `shape`."""
    sides = axes_tuple(kernel, len(_spatial(shape, name)), f"{name}: kernel", 1)
    window = Window.make(name, sides, sides if stride is None else stride, padding, dilation)
    for side, (before, after) in zip(window.span, window.padding, strict=True):
        if before >= side or after >= side:
            raise ShapeError(f"{name}: padding {window.padding} must be smaller than the window {window.span}")
    return window


@value
class SumPool(Layer):
    """The sum of each window. `stride` defaults to the kernel; with `ceil` the last window may hang over the end."""

    kernel: Ints
    stride: Ints | None = None
    padding: Padding = 0
    ceil: bool = False

    def check(self, *shapes: Shape) -> None:
        """The window fits."""
        window = _window(self.kernel, self.stride, self.padding, 1, shapes[0], "SumPool")
        window.positions(shapes[0][2:], ceil=self.ceil)

    def forward(self, *inputs: Array) -> Array:
        """The sums."""
        return self.frozen(*inputs).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """Weight 1 over each window."""
        (a,) = inputs
        window = _window(self.kernel, self.stride, self.padding, 1, a.shape, "SumPool")
        return WindowSum(window, window.positions(a.shape[2:], ceil=self.ceil), ones((1,), a))


@value
class AvgPool(Layer):
    """The mean of each window, over n_k cells.

    n_k counts the window's cells inside input and padding, or (``count_include_pad=False``) inside the input;
    what hangs over the end with `ceil` never counts, and a window wholly outside is dropped.
    """

    kernel: Ints
    stride: Ints | None = None
    padding: Padding = 0
    ceil: bool = False
    count_include_pad: bool = True

    def check(self, *shapes: Shape) -> None:
        """The window fits."""
        window = _window(self.kernel, self.stride, self.padding, 1, shapes[0], "AvgPool")
        window.positions(shapes[0][2:], ceil=self.ceil)

    def forward(self, *inputs: Array) -> Array:
        """The means."""
        return self.frozen(*inputs).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """Weight 1/n_k over each window."""
        (a,) = inputs
        window = _window(self.kernel, self.stride, self.padding, 1, a.shape, "AvgPool")
        positions = window.positions(a.shape[2:], ceil=self.ceil)
        counted = window.padded(a, positions) if self.count_include_pad else window.real(a, positions)
        return _average(a, window, positions, counted)


def _average(a: Array, window: Window | Bins, positions: Shape, counted: Array) -> WindowSum:
    """Weight 1/n_k, with n_k the number of cells counted."""
    n = like(counted.sum(axis=0), a)
    return WindowSum(window, positions, divide(ones(n.shape, n), n))


def _maximum(a: Array, window: Window | Bins, positions: Shape) -> Array:
    """The maximum of each window's real cells."""
    cells, _, best = _first_maximum(a, window, positions)
    return namespace(a).take_along_axis(cells, best, axis=2)[:, :, 0]


def _first_maximum(a: Array, window: Window | Bins, positions: Shape) -> tuple[Array, Array, Array]:
    """The cells (N, C, taps, *positions), which of them are real, and the first tap with the greatest real one."""
    xp = namespace(a)
    cells = window.gather(a, positions)
    real = window.real(a, positions)
    value, seen = cells[:, :, 0], xp.broadcast_to(real[0], cells[:, :, 0].shape)
    best = xp.zeros(value.shape, dtype=int)
    for t in range(1, window.taps):
        wins = real[t] & (~seen | (cells[:, :, t] > value))
        value, best, seen = where(wins, cells[:, :, t], value), where(wins, t, best), seen | real[t]
    return cells, real, best[:, :, None]


def _winners(a: Array, window: Window | Bins, positions: Shape, ties: Literal["first", "shared"] | Near) -> WindowSum:
    """A wire from each window's winner, or weights 1/n from n tied ones."""
    xp = namespace(a)
    cells, real, best = _first_maximum(a, window, positions)
    taps = xp.arange(window.taps).reshape((-1,) + (1,) * (a.ndim - 2))
    if ties == "first":
        return WindowSum(window, positions, ones((1,), a), live=taps == best)
    top = xp.take_along_axis(cells, best, axis=2)
    if isinstance(ties, Near):
        slack = number(ties.rtol, a) * xp.maximum(abs(cells), abs(top))
        near = real & (top - cells <= slack)
        return WindowSum(window, positions, ones((1,), a), live=taps == near.argmax(axis=2)[:, :, None])
    tied = real & (cells == top)
    n = like(tied.sum(axis=2), a)
    share = divide(ones(n.shape, n), n)
    return WindowSum(window, positions, share, live=tied, shares=share)


def _check_options(pool: MaxPool | GlobalMaxPool | AdaptiveMaxPool) -> None:
    name = type(pool).__name__
    if pool.ties not in ("first", "shared") and not isinstance(pool.ties, Near):
        raise ShapeError(f'{name}: ties={pool.ties!r}, need "first", "shared" or Near(rtol)')
    if pool.frozen_as not in ("winner", "average"):
        raise ShapeError(f'{name}: frozen_as={pool.frozen_as!r}, need "winner" or "average"')


@value
class Near:
    """Ties of a max pool: the first cell within `rtol` of the maximum, relative to the larger magnitude (Flux)."""

    rtol: float


@value
class MaxPool(Layer):
    """The maximum of each window. Padding never wins and has no value.

    Parameters
    ----------
    kernel, stride, padding, dilation : int or one a spatial axis; `stride` defaults to the kernel
    ceil : the last window may hang over the end
    ties : "first" (the first of equal maxima wins), "shared" (they share equally), or Near(rtol)
    frozen_as : "winner", or "average": relevance is dealt out as by an average pool over the same windows,
        while the activations stay those of the max pool (the chapter's and the tutorial's treatment)
    """

    kernel: Ints
    stride: Ints | None = None
    padding: Padding = 0
    dilation: Ints = 1
    ceil: bool = False
    ties: Literal["first", "shared"] | Near = "first"
    frozen_as: Literal["winner", "average"] = "winner"

    def __post_init__(self) -> None:
        _check_options(self)

    @property
    def wire(self) -> bool:
        """Relevance follows the winner, unless the pool is frozen as an average."""
        return self.frozen_as == "winner"

    def _window(self, shape: Shape) -> Window:
        return _window(self.kernel, self.stride, self.padding, self.dilation, shape, "MaxPool")

    def _windows(self, shape: Shape) -> tuple[Window, Shape]:
        window = self._window(shape)
        return window, window.positions(shape[2:], ceil=self.ceil)

    def check(self, *shapes: Shape) -> None:
        """The window fits, and no window lies wholly in the padding."""
        window, positions = self._windows(shapes[0])
        if not window.always_real(shapes[0][2:], positions):
            raise ShapeError(f"MaxPool: a window lies wholly in the padding of an input of shape {shapes[0]}")

    def forward(self, *inputs: Array) -> Array:
        """The maxima."""
        (a,) = inputs
        return _maximum(a, *self._windows(a.shape))

    def frozen(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """A wire from the winner, weights 1/n to n tied winners, or the average over the same windows."""
        (a,) = inputs
        if self.frozen_as == "average":
            window, positions = self._windows(a.shape)
            return _average(a, window, positions, window.real(a, positions))
        return self.tangent(a)

    def tangent(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """The winner's wire: what the maximum's derivative is where it has one."""
        (a,) = inputs
        return _winners(a, *self._windows(a.shape), self.ties)


class GlobalAvgPool(Layer):
    """The mean over all spatial axes, which stay with length 1."""

    def _pool(self, shape: Shape) -> AvgPool:
        return AvgPool(kernel=_spatial(shape, "GlobalAvgPool"))

    def check(self, *shapes: Shape) -> None:
        """There is a spatial axis."""
        self._pool(shapes[0]).check(*shapes)

    def forward(self, *inputs: Array) -> Array:
        """The means."""
        return self._pool(inputs[0].shape).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """Weight 1/n over everything."""
        return self._pool(inputs[0].shape).frozen(*inputs)


@value
class GlobalMaxPool(Layer):
    """The maximum over all spatial axes, which stay with length 1. `ties` and `frozen_as` as for MaxPool."""

    ties: Literal["first", "shared"] | Near = "first"
    frozen_as: Literal["winner", "average"] = "winner"

    def __post_init__(self) -> None:
        _check_options(self)

    def _pool(self, shape: Shape) -> MaxPool:
        return MaxPool(kernel=_spatial(shape, "GlobalMaxPool"), ties=self.ties, frozen_as=self.frozen_as)

    @property
    def wire(self) -> bool:
        """As for MaxPool."""
        return self.frozen_as == "winner"

    def check(self, *shapes: Shape) -> None:
        """There is a spatial axis."""
        self._pool(shapes[0]).check(*shapes)

    def forward(self, *inputs: Array) -> Array:
        """The maxima."""
        return self._pool(inputs[0].shape).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """As for MaxPool."""
        return self._pool(inputs[0].shape).frozen(*inputs)

    def tangent(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """As for MaxPool."""
        return self._pool(inputs[0].shape).tangent(*inputs)


def _bins(size: int | Sequence[int | None] | None, shape: Shape, name: str) -> Bins:
    """Bin i of `size` over n cells covers floor(i n / size) to ceil((i + 1) n / size); None is a bin for each cell."""
    spatial = _spatial(shape, name)
    if 0 in spatial:
        raise ShapeError(f"{name}: an input of shape {shape} has an empty spatial axis")
    each: Sequence[Any] = size if isinstance(size, Sequence) else (size,) * len(spatial)
    kept = [n if s is None else s for s, n in zip(each, spatial, strict=False)]
    sizes = axes_tuple([*kept, *each[len(spatial) :]], len(spatial), f"{name}: size", 1)
    return Bins([[(i * n // s, -(-(i + 1) * n // s)) for i in range(s)] for s, n in zip(sizes, spatial, strict=True)])


@value
class AdaptiveAvgPool(Layer):
    """The mean of each of `size` windows that together cover the input, and overlap where they do not divide it.

    `size` is an int, or one a spatial axis, of which None keeps the axis. Window i of s over n cells covers
    those from floor(i n / s) up to ceil((i + 1) n / s), as torch has it.
    """

    size: int | Sequence[int | None] | None

    def check(self, *shapes: Shape) -> None:
        """There is a size for each spatial axis."""
        _bins(self.size, shapes[0], "AdaptiveAvgPool")

    def forward(self, *inputs: Array) -> Array:
        """The means."""
        return self.frozen(*inputs).forward(*inputs)

    def frozen(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """Weight 1/n_k over each window."""
        (a,) = inputs
        bins = _bins(self.size, a.shape, "AdaptiveAvgPool")
        return _average(a, bins, bins.positions, bins.real(a, bins.positions))


@value
class AdaptiveMaxPool(Layer):
    """The maximum of each of `size` windows, as for AdaptiveAvgPool. `ties` and `frozen_as` as for MaxPool."""

    size: int | Sequence[int | None] | None
    ties: Literal["first", "shared"] | Near = "first"
    frozen_as: Literal["winner", "average"] = "winner"

    def __post_init__(self) -> None:
        _check_options(self)

    @property
    def wire(self) -> bool:
        """As for MaxPool."""
        return self.frozen_as == "winner"

    def check(self, *shapes: Shape) -> None:
        """There is a size for each spatial axis."""
        _bins(self.size, shapes[0], "AdaptiveMaxPool")

    def forward(self, *inputs: Array) -> Array:
        """The maxima."""
        (a,) = inputs
        bins = _bins(self.size, a.shape, "AdaptiveMaxPool")
        return _maximum(a, bins, bins.positions)

    def frozen(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """As for MaxPool."""
        if self.frozen_as == "average":
            return AdaptiveAvgPool(self.size).frozen(*inputs)
        return self.tangent(*inputs)

    def tangent(self, *inputs: Array, wrt: int = 0) -> WindowSum:
        """As for MaxPool."""
        (a,) = inputs
        bins = _bins(self.size, a.shape, "AdaptiveMaxPool")
        return _winners(a, bins, bins.positions, self.ties)


@value
class SoftMinPool(Layer):
    """eta = -log sum_d exp(-z_d) over the last axis, (batch, D) -> (batch, 1): the log-odds of pairwise
    differences.

    With pi_d = exp(-z_d) / sum exp(-z_d), relevance R goes to z_d in the portions

    * ``share="eta"``: pi_d R, which conserves;
    * ``share="z"``: pi_d z_d / eta R, the chapter's weighting, whose total for R = eta is eta + H(pi), H the
      entropy; the surplus -H(pi) is booked as unclaimed.
    """

    rational: ClassVar[bool] = False

    share: Literal["eta", "z"] = "eta"

    def __post_init__(self) -> None:
        if self.share not in ("eta", "z"):
            raise ShapeError(f'SoftMinPool: share={self.share!r}, need "eta" or "z"')

    @property
    def wire(self) -> bool:
        """True: Pass hands relevance on in the layer's own portions."""
        return True

    def check(self, *shapes: Shape) -> None:
        """(batch, D) with D >= 1."""
        if len(shapes[0]) != 2 or shapes[0][1] < 1:
            raise ShapeError(f"SoftMinPool: input has shape {shapes[0]}, need (batch, D)")

    def forward(self, *inputs: Array) -> Array:
        """eta."""
        (z,) = inputs
        low = near_greatest(z, 1, least=True)
        return low - log(total(exp(low - z), (1,), keepdims=True))

    def frozen(self, *inputs: Array, wrt: int = 0) -> SoftMin:
        """The tangent eta = sum_d pi_d z_d - H(pi)."""
        (z,) = inputs
        eta = self.forward(z)
        pi = exp(eta - z)
        entropy = total(pi * z, (1,), keepdims=True) - eta
        return SoftMin(weight=pi, bias=-entropy, shares=pi if self.share == "eta" else divide(pi * z, eta))


@value
class SoftMin(Linear):
    """The frozen soft-min pool: z = sum_d w_d z_d + b, over axis 1."""

    weight: Array
    bias: Array
    shares: Array

    def linear(self, x: Array, w: Array) -> Array:
        """The weighted sum."""
        return total(x * w, (1,), keepdims=True)

    def adjoint(self, s: Array, w: Array, shape: Shape) -> Array:
        """s * w."""
        return s * w

    def portions(self, a: Array) -> Array | None:
        """The shares that the pool deals out."""
        return self.shares


MAX_POOLS = (MaxPool, GlobalMaxPool, AdaptiveMaxPool)
AVERAGE_POOLS = (AvgPool, GlobalAvgPool, AdaptiveAvgPool)
