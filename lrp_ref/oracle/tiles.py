"""Dense and convolutional layers in balls: contractions by Arb's matrices, in tiles, with the weights left as floats.

A layer's weights are the exact numbers that their floats are; a tile of them, under a rule's transform, is made into a
matrix only while it is multiplied. So a network needs the memory of its activations, not of its weights.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..arrays import Array, divide, is_exact, negative, number, positive
from ..errors import Undecided
from ..layers import Conv, ConvTranspose, Dense, Layer
from ..layers.base import Linear
from ..layers.window import Window
from ..propagate import Rule, Share, Term, Transform, keep
from ..rules import Raised, nothing, one, square, where_negative, where_positive
from ..stabilize import BY_ELEMENT, Signed
from ..values import value
from .balls import arbs, balls, flint, unwrapped, wrapped

TILE = 1 << 20
"""Entries of a matrix at most: a hundred megabytes."""

Advance = Callable[[int], None]
"""Told how many multiplications were done."""


def fits(layer: Layer) -> bool:
    """Whether the layer is one of those that are computed in tiles."""
    return isinstance(layer, (Dense, Conv, ConvTranspose)) and not is_exact(layer.weight)


def multiplications(layer: Any, shape: Sequence[int]) -> int:
    """How many numbers one contraction with an input of `shape` multiplies."""
    if isinstance(layer, Dense):
        return math.prod(shape[:-1]) * int(layer.weight.size)
    places = layer.window.positions(shape[2:]) if isinstance(layer, Conv) else shape[2:]
    return shape[0] * math.prod(places) * int(layer.weight.size)


def forward(layer: Any, a: Array, advance: Advance) -> Array:
    """z of a layer that :func:`fits`, for an input of balls."""
    frozen = _frozen(layer, a)
    _, bias = frozen.parameters(a)
    return wrapped(_operator(frozen, a.shape, advance).linear(unwrapped(a), keep) + unwrapped(bias))


def back(layer: Any, rule: Rule, inputs: Sequence[Array], z: Array, R: Array, advance: Advance) -> tuple[Array, ...]:
    """The relevance of each input under a rule that has only shares: the four steps, less what is certain to be 0.

    Outputs whose relevance is exactly 0 give nothing, whatever their denominators, so that these need not be decided.
    Nothing is booked: what balances is known where the relevance is.
    """
    operator: _Small | _Dense | _Conv
    if fits(layer):
        a, frozen = inputs[0], _frozen(layer, inputs[0])
        operator = _operator(frozen, a.shape, advance)
    else:
        frozen, a = rule.linear_map(layer, inputs)
        operator = _Small(frozen, a.shape)
        z = z if frozen is layer else frozen.forward(a)  # what is frozen may have another output (a pool as an average)
    weight, bias = frozen.parameters(a)
    R_in: Any = flint().arb(0)
    for share in rule.shares():
        live, dealt = _dealt(share, z, R)
        terms = [(term, unwrapped(x)) for term in share.terms if _not_zero(x := term.x(a)).any()]
        if not live.size or not terms:
            continue
        if share.terms == (Term(),) and rule.bias in ("rule", "raw"):
            own = unwrapped(z)
        else:
            of_bias = Share(tuple(Term(b=term.b) for term in share.terms))
            _, _, b = rule.modified(of_bias, a[:0], weight.reshape(-1)[:0], bias)
            own = sum((operator.linear(x, term.w) for term, x in terms), start=unwrapped(b))
        s = np.full(R.size, flint().arb(0), dtype=object)
        met: list[Array] = []
        with located(met, live, R.shape):
            s[live] = unwrapped(divide(dealt, _stabilized(rule, own, live, met)))
        for term, x in terms:
            R_in = R_in + x * operator.adjoint(s.reshape(R.shape), term.w)
    parts: tuple[Array, ...] = layer.split(wrapped(np.broadcast_to(R_in, a.shape)), [x.shape for x in inputs])
    return parts


def _dealt(share: Share, z: Array, R: Array) -> tuple[Array, Array]:
    """The outputs, counted flat, that the share deals something out for, and what it deals out for each."""
    live = np.flatnonzero(_not_zero(R))
    r = R.reshape(-1)[live]
    if share.portion in (where_positive, where_negative):
        dealt = share.portion(z.reshape(-1)[live]) * r
    elif callable(share.portion):
        dealt = share.portion(z).reshape(-1)[live] * r
    else:
        dealt = number(share.portion, R) * r
    some = _not_zero(dealt)
    return live[some], dealt[some]


def _stabilized(rule: Rule, own: Array, live: Array, met: list[Array]) -> Array:
    """z + e of the live outputs; `met` comes to hold what was compared."""
    z = wrapped(own.reshape(-1)[live])
    met.append(z)
    if type(rule.stabilizer) is Signed and rule.epsilon == 0:  # whatever the sign of z
        return z
    if type(rule.stabilizer) in BY_ELEMENT:
        d = z + rule.stabilizer(z, rule.epsilon)
    else:  # it may look at others
        whole = wrapped(own)
        d = z + rule.stabilizer(whole, rule.epsilon).reshape(-1)[live]
    met.append(d)
    return d


@contextmanager
def located(met: Sequence[Array], live: Array | None = None, shape: Sequence[int] = ()) -> Iterator[None]:
    """Says of what could not be decided where it stands in the arrays met, or in that of `shape` whose `live` units
    they are.
    """
    try:
        yield
    except Undecided as error:
        for array in met:
            for i, ball in enumerate(array.flat):
                if error.unit is None and any(ball is one for one in error.between):
                    index = np.unravel_index(i, array.shape) if live is None else np.unravel_index(live[i], shape)
                    error.unit = tuple(map(int, index))
                    sample, *unit = error.unit
                    error.args = (f"sample {sample}, unit {tuple(unit)}: {error}",)
        raise


# --- weights ---------------------------------------------------------------------------------------


_EXACT_IN_FLOATS: tuple[Transform, ...] = (keep, positive, negative, one, nothing)
"""Transforms of weights that round no float."""


def _by_element(transform: Transform) -> bool:
    return transform in (*_EXACT_IN_FLOATS, square) or isinstance(transform, Raised)


def _numbers(transform: Transform, weight: Array) -> list[Any]:
    """The transformed weights in order, as numbers that a matrix takes exactly."""
    if not is_exact(weight) and transform in _EXACT_IN_FLOATS:
        w = transform(weight)
        return list(w.reshape(-1).tolist()) if w.dtype.itemsize <= 8 else arbs(w)
    if not is_exact(weight) and isinstance(transform, Raised) and transform.part in _EXACT_IN_FLOATS:
        gamma = number(transform.gamma, balls(np.ones(1))).arb  # the same, without a guard for each weight
        return [w + gamma * part for w, part in zip(arbs(weight), arbs(transform.part(weight)), strict=True)]
    return list(unwrapped(transform(balls(weight))).flat)


def _whole(transform: Transform, weight: Array) -> tuple[Transform, Array]:
    """A transform that may be applied to a part of the weights, and the weights that it is to be applied to."""
    return (transform, weight) if _by_element(transform) else (keep, transform(balls(weight)))


# --- operators: contractions of Arb's own numbers --------------------------------------------------


@value
class _Small:
    """Any other layer, frozen: its own methods, in balls."""

    layer: Linear
    shape: tuple[int, ...]

    def linear(self, x: Array, transform: Transform) -> Array:
        """z of x."""
        x = wrapped(x)
        return unwrapped(self.layer.linear(x, transform(self.layer.parameters(x)[0])))

    def adjoint(self, s: Array, transform: Transform) -> Array:
        """c of s."""
        s = wrapped(s)
        return unwrapped(self.layer.adjoint(s, transform(self.layer.parameters(s)[0]), self.shape))


@value
class _Dense:
    weight: Array
    advance: Advance

    def _blocks(self, weight: Array) -> Iterator[slice]:
        step = max(1, TILE // max(1, len(weight)))
        yield from (slice(k, min(k + step, weight.shape[1])) for k in range(0, weight.shape[1], step))

    def linear(self, x: Array, transform: Transform) -> Array:
        """x @ w."""
        transform, weight = _whole(transform, self.weight)
        rows = _matrix(x.reshape(-1, x.shape[-1]))
        z = np.empty((rows.nrows(), weight.shape[1]), dtype=object)
        for block in self._blocks(weight):
            w = flint().arb_mat(len(weight), block.stop - block.start, _numbers(transform, weight[:, block]))
            z[:, block] = _array(rows * w)
            self.advance(z.shape[0] * len(weight) * (block.stop - block.start))
        return z.reshape(*x.shape[:-1], -1)

    def adjoint(self, s: Array, transform: Transform) -> Array:
        """s @ w^T."""
        transform, weight = _whole(transform, self.weight)
        rows = s.reshape(-1, s.shape[-1])
        c = flint().arb_mat(len(rows), len(weight))
        for block in self._blocks(weight):
            if not _all_exact_zero(rows[:, block]):
                w = flint().arb_mat(block.stop - block.start, len(weight), _numbers(transform, weight[:, block].T))
                c = c + _matrix(rows[:, block]) * w
            self.advance(len(rows) * len(weight) * (block.stop - block.start))
        return _array(c).reshape(*s.shape[:-1], -1)


@value
class _Conv:
    """A convolution, or (`transposed`) a transposed one: the same two contractions, in each other's place."""

    weight: Array
    window: Window
    groups: int
    size: tuple[int, ...]
    """Of the side that is read through windows."""
    positions: tuple[int, ...]
    transposed: bool
    samples: int
    advance: Advance
    made: dict[int, list[Any]] = dataclasses.field(default_factory=dict)
    """The matrices of the transforms so far, by identity: the denominators' are those of the way back."""

    def linear(self, x: Array, transform: Transform) -> Array:
        """z of x."""
        return self._scattered(x, transform) if self.transposed else self._gathered(x, transform)

    def adjoint(self, s: Array, transform: Transform) -> Array:
        """c of s."""
        return self._gathered(s, transform) if self.transposed else self._scattered(s, transform)

    def _gathered(self, x: Array, transform: Transform) -> Array:
        """What each position reads, times the weights."""
        weight, matrices = self.weight, self._matrices(transform)
        buffer = self._buffer(len(x), x.shape[1])
        buffer[self._inside()] = x
        out = np.empty((len(x), len(weight), *self.positions), dtype=object)
        for n, band, rows in self._bands():
            places = out[n : n + 1, :, band].shape[2:]
            cells = np.stack([buffer[n : n + 1, :, rows][tap][0] for tap in self.window.tap_slices(places)], axis=1)
            for g, w in enumerate(matrices):
                mine = cells[self._part(g, x.shape[1])].reshape(w.ncols(), -1)
                out[n, self._part(g, len(weight)), band] = _array(w * _matrix(mine)).reshape(-1, *places)
            self.advance(weight.size * math.prod(places))
        return out

    def _scattered(self, y: Array, transform: Transform) -> Array:
        """What each position gives back to the cells that it reads."""
        weight, matrices = self.weight, [w.transpose() for w in self._matrices(transform)]
        channels = weight.shape[1] * self.groups
        buffer = self._buffer(len(y), channels)
        for n, band, rows in self._bands():
            places = y[n : n + 1, :, band].shape[2:]
            for g, w in enumerate(matrices):
                mine = y[n, self._part(g, len(weight)), band].reshape(w.ncols(), -1)
                if _all_exact_zero(mine):
                    continue
                cells = _array(w * _matrix(mine)).reshape(-1, self.window.taps, *places)
                into = buffer[n : n + 1, self._part(g, channels), rows]
                for t, tap in enumerate(self.window.tap_slices(places)):
                    into[tap] += cells[None, :, t]
            self.advance(weight.size * math.prod(places))
        return buffer[self._inside()]

    def _matrices(self, transform: Transform) -> list[Any]:
        """For each group, (its channels of the weight's first axis) x (the others' channels and taps)."""
        if id(transform) not in self.made:
            by_element, weight = _whole(transform, self.weight)
            parts = weight.reshape(self.groups, len(weight) // self.groups, -1)
            self.made[id(transform)] = [flint().arb_mat(*part.shape, _numbers(by_element, part)) for part in parts]
        return self.made[id(transform)]

    def _part(self, group: int, channels: int) -> slice:
        count = channels // self.groups
        return slice(group * count, (group + 1) * count)

    def _bands(self) -> Iterator[tuple[int, slice, slice]]:
        """(sample, positions on the first axis, rows of the buffer that they read)."""
        step = max(1, TILE // max(1, self.weight[0].size * self.groups * math.prod(self.positions[1:])))
        firsts = range(0, self.positions[0], step)
        for n, first in itertools.product(range(self.samples), firsts):
            last = min(first + step, self.positions[0])
            stride = self.window.stride[0]
            yield n, slice(first, last), slice(first * stride, (last - 1) * stride + self.window.span[0])

    def _buffer(self, samples: int, channels: int) -> Array:
        extent = self.window.extent(self.size, self.positions)
        return np.full((samples, channels, *extent), flint().arb(0), dtype=object)

    def _inside(self) -> tuple[slice, ...]:
        return self.window.inside(self.size)


def _operator(layer: Any, shape: Sequence[int], advance: Advance) -> _Dense | _Conv:
    if isinstance(layer, Dense):
        return _Dense(layer.weight, advance)
    size = tuple(shape[2:])
    if isinstance(layer, Conv):
        positions, transposed = layer.window.positions(size), False
    else:
        size, positions, transposed = layer.size(size), size, True
    return _Conv(layer.weight, layer.window, layer.groups, size, positions, transposed, shape[0], advance)


def _frozen(layer: Any, a: Array) -> Any:
    """The layer with its biases in balls, position by position where they are, and its weights as they were."""
    changed = {name: balls(array) for name in ("bias", "tap_bias") if (array := getattr(layer, name, None)) is not None}
    return (dataclasses.replace(layer, **changed) if changed else layer).frozen(a)


def _matrix(x: Array) -> Any:
    return flint().arb_mat(*x.shape, x.reshape(-1).tolist())


def _array(matrix: Any) -> Array:
    found = np.fromiter(matrix.entries(), dtype=object, count=matrix.nrows() * matrix.ncols())
    return found.reshape(matrix.nrows(), matrix.ncols())


def _not_zero(x: Array) -> Array:
    """Where a ball is not exactly 0."""
    return np.fromiter((not v.arb.is_zero() for v in x.flat), dtype=bool, count=x.size).reshape(x.shape)


def _all_exact_zero(x: Array) -> bool:
    return all(v.is_zero() for v in x.flat)
