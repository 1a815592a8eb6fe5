"""Passes over arrays too large for the cache, block by block, so that each number is fetched once for all that is done.

Arrays here are rows: (batch * positions, channels), each sample's rows one after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ..arrays import Array, number
from .memory import Memory, Scratch, on_device

BLOCK = 2**17
"""Numbers of a block: a few arrays of them fit the cache of a core."""
RUN, MANY = 128, 2**13
"""Numbers that are summed in their own precision, and of how many that is quicker: see `sums`."""


class Span(NamedTuple):
    """Rows `first` to `last`, those of the samples `sample` to `until` or, if that is one, of a part of it."""

    sample: int
    until: int
    first: int
    last: int


def spans(batch: int, rows: int, numbers: int) -> Iterator[Span]:
    """Blocks of `rows` rows of `numbers` numbers, that hold whole samples or lie within one."""
    each = rows // max(1, batch)
    most = max(1, BLOCK // max(1, numbers))
    if most >= each:
        together = max(1, most // max(1, each))
        for sample in range(0, batch, together):
            until = min(batch, sample + together)
            yield Span(sample, until, sample * each, until * each)
        return
    parts = -(-each // most)
    for sample in range(batch):
        for part in range(parts):
            first, last = (sample * each + k * each // parts for k in (part, part + 1))
            yield Span(sample, sample + 1, first, last)


def sums(block: Array, samples: int) -> Array:
    """The sum over each sample's rows, in float64: for the books."""
    return dots(block, None, samples)


def dots(block: Array, weight: Array | None, samples: int) -> Array:
    """The sum over each sample's rows of block times weight (None: 1), in float64: for the books.

    Of many numbers runs are summed by BLAS in their own precision first: a quarter of the time, for a rounding like
    that which each of them has had.
    """
    run = RUN if block.flags.c_contiguous and (weight is None or weight.flags.c_contiguous) else block.shape[-1]
    if block.size >= MANY and block.size // samples % run == 0 and run <= 8 * RUN:
        weight = _ones(run, block.dtype) if weight is None else weight.reshape(-1, run)
        block = np.vecdot(block.reshape(-1, run), weight)
    elif weight is not None:
        block = block * weight
    return np.add.reduce(block.reshape(samples, -1), axis=1, dtype=np.float64)


@functools.lru_cache(64)
def _ones(count: int, dtype: np.dtype[Any]) -> Array:
    return np.ones(count, dtype)


def within(first: int, last: int, each: int, numbers: int) -> Iterator[tuple[int, int]]:
    """Blocks of the rows [first, last), which have `numbers` numbers, and samples `each` of them: they too hold whole
    samples, or lie within one.
    """
    most = max(1, BLOCK // max(1, numbers))
    if last - first > each:
        most = max(1, most // each) * each
    for start in range(first, last, most):
        yield start, min(start + most, last)


class Totals(NamedTuple):
    """The sum and the sum of magnitudes of each sample's relevance, in float64."""

    sum: Array
    magnitude: Array


class Adding:
    """Totals of what passes block by block, on the host; they stay NaN if it is not to be counted."""

    def __init__(self, batch: int, rows: int, memory: Memory, *, counted: bool = True) -> None:
        self.totals = Totals(np.zeros(batch), np.zeros(batch)) if counted else Totals(*np.full((2, batch), np.nan))
        self._counted = counted
        self._rows = rows // max(1, batch)
        self._signed = False
        self._magnitudes = Scratch(memory)

    def add(self, block: Array, first: int, last: int) -> None:
        """Rows [first, last), whole samples or a part of one."""
        if first == last or not self._counted:
            return
        sample, until = first // self._rows, -(-last // self._rows)
        total = sums(block, until - sample)
        self.totals.sum[sample:until] += total
        self._signed = self._signed or bool(block.min() < 0)
        if self._signed:
            total = sums(np.abs(block, out=self._magnitudes.like(block)), until - sample)
        self.totals.magnitude[sample:until] += total


def finishing(
    cs: Sequence[Array], xs: Sequence[Array | None], more: Array | None, out: Array, batch: int, memory: Memory,
    *, counted: bool = True,
) -> tuple[Totals, Callable[[int, int], None]]:  # fmt: skip
    """What makes rows [first, last) of out those of sum c x + more, and their totals, which stay NaN if not counted.

    x and more None: 1 and 0; out is the first c where there is nothing to be done to it. The other c are overwritten.
    All are rows, on the host.
    """
    passed = Adding(batch, len(out), memory, counted=counted)

    def finish(first: int, last: int) -> None:
        for start, stop in within(first, last, len(out) // max(1, batch), out.shape[1]):
            into = out[start:stop]
            total: Any = None
            for c, x in zip(cs, xs, strict=True):
                part = c[start:stop]
                if x is not None:
                    part = np.multiply(part, x[start:stop], out=part if total is not None else into)
                total = part if total is None else np.add(total, part, out=into)
            if more is not None:
                total = np.add(total, more[start:stop], out=into)
            passed.add(total, start, stop)

    return passed.totals, finish


def finished(
    c: Array, x: Array | None, more: Array | None, batch: int, memory: Memory, out: Array | None = None,
    *, counted: bool = True,
) -> Totals:  # fmt: skip
    """c x + more, in place or into `out`, and its totals; x and more None: 1 and 0. All are rows."""
    if on_device(c):
        from . import device

        return device.finished(c, x, more, batch, out)
    found, finish = finishing([c], [x], more, c if out is None else out, batch, memory, counted=counted)
    finish(0, len(c))
    return found


def stabilized(z: Array, epsilon: float, out: Array) -> Array:
    """e = epsilon s(z), with s(0) = s(-0) = +1. By the bits of z: numpy's copysign takes one number at a time."""
    bits: Any = _BITS[z.dtype.char]
    whole: Array = out.view(bits)
    np.add(z, number(0, z), out=out)  # -0 becomes 0
    np.bitwise_and(whole, bits(1 << (8 * z.itemsize - 1)), out=whole)
    np.bitwise_or(whole, number(epsilon, z).view(bits), out=whole)
    return out


_BITS = {"f": np.uint32, "d": np.uint64}


class Books:
    """What stays of one node's relevance, as a sum a sample, while its shares are dealt out."""

    def __init__(self, batch: int, xp: Any = np) -> None:
        self.none: tuple[Array, ...] = ()
        """On a device the zeros that an account holds before anything is booked there."""
        if xp is np:
            self.bias, self.stabilizer, self.unclaimed = np.zeros(batch), np.zeros(batch), np.zeros(batch)
            self.poles, self.empty = np.zeros(batch, dtype=int), np.zeros(batch, dtype=int)
        else:  # nothing is added to in place there, and each array is a launch
            self.bias = self.stabilizer = self.unclaimed = xp.zeros(batch)
            self.poles = self.empty = self.bias.view(int)
            self.none = (self.bias, self.poles)
        self.shares = 1
        """How many shares may find the same output."""
        self.marks: Array | None = None
        """On a device, what was counted of each output."""
        self._marked: dict[str, Array] = {}

    def book(self, **amounts: Array) -> None:
        """Add to accounts, on a device."""
        for name, amount in amounts.items():
            before = getattr(self, name)
            setattr(self, name, amount if any(before is none for none in self.none) else before + amount)

    def mark(self, account: Literal["poles", "empty"], flags: Array, R: Array, first: int) -> None:
        """Outputs that two shares find are counted once, in rows that are made where there are any."""
        if flags.any():
            marked = self._marked.setdefault(account, np.zeros(R.shape, dtype=bool))
            marked[first : first + len(flags)] |= flags

    def count(self) -> None:
        """Count what was marked, when all shares are dealt out."""
        for account, marked in self._marked.items():
            setattr(self, account, marked.reshape(len(self.bias), -1).sum(axis=1))


class Deal(NamedTuple):
    """One share of a node's relevance on its way through the division, s = portion R / (z + e).

    `own` is the share's z. A portion is a number, or "positive" or "negative": R where the layer's own output `sign_of`
    has that sign. `e` is epsilon s(z) where it is not given. `bias` is a number a channel, or a row a position; None
    where it takes nothing.
    """

    own: Array
    epsilon: float
    e: Array | None = None
    portion: float | str = 1
    sign_of: Array | None = None
    bias: Array | None = None
    one_sign: bool = False
    positive: bool = False
    """Whether z is positive wherever R is not 0, so that |z| is as good as z."""
    neither: bool = False
    """Whether R where `sign_of` is 0, which no sign deals out, is booked here as unclaimed."""

    def divide(
        self, R: Array, s: Array | None, batch: int, books: Books, memory: Memory,
        then: Callable[[Array, int, int], None] | None = None,
    ) -> bool:  # fmt: skip
        """Fill `s`, book what stays, and say whether anything was dealt out.

        R and s may be one array; without s each block of it goes to `then`, with its first and last row.
        """
        if on_device(R):
            from .device import divided

            return divided(self, R, s, batch, books, memory)
        anything = False
        if not R.size:
            return anything
        for_d, for_e, for_R = (Scratch(memory) for _ in range(3))
        for span in spans(batch, *R.shape):
            rows, into, samples = slice(span.first, span.last), slice(span.sample, span.until), span.until - span.sample
            z, dealt = self.own[rows], self._dealt(R[rows], rows, for_R)
            if self.neither and not (signs := self._signs(rows)).all():
                books.unclaimed[into] += sums(np.where(signs == 0, R[rows], number(0, R)), samples)
            anything = anything or not isinstance(self.portion, str) or bool(dealt.any())
            d = for_d.like(z)
            least = 1 if self.positive else z.min()
            if self.one_sign and least <= 0 and not z.all():
                books.mark("empty", (z == 0) & (dealt != 0), R, span.first)
            e: Any = number(self.epsilon, z)
            if self.e is not None:
                e = self.e[rows]
            elif self.positive:
                z = np.abs(z, out=d)
            elif self.epsilon and least < 0:
                e = stabilized(z, self.epsilon, for_e.like(z))
            np.add(z, e, out=d)
            if (self.epsilon and self.e is None) or d.all():
                d = np.divide(dealt, d, out=d if s is None else s[rows])
            else:
                zero = d == 0
                lost = np.where(zero, dealt, number(0, z))
                books.unclaimed[into] += sums(lost, samples)
                books.mark("poles", (lost != 0) & (z != 0) if self.one_sign else lost != 0, R, span.first)
                d = np.divide(dealt, np.where(zero, number(1, z), d), out=d if s is None else s[rows])
                d[zero] = 0
            if self.bias is not None:
                books.bias[into] += self._of_bias(d, span, len(R) // batch)
            if isinstance(e, np.ndarray):
                books.stabilizer[into] += dots(d, e, samples)
            elif e:
                books.stabilizer[into] += float(e) * sums(d, samples)
            if then:
                then(d, span.first, span.last)
        return anything

    def _dealt(self, R: Array, rows: slice, scratch: Scratch) -> Array:
        if self.portion == 1:
            return R
        dealt = scratch.like(R)
        if not isinstance(self.portion, str):
            return np.multiply(R, number(self.portion, R), out=dealt)
        z = self._signs(rows)
        return np.multiply(R, z > 0 if self.portion == "positive" else z < 0, out=dealt)

    def _signs(self, rows: slice) -> Array:
        assert self.sign_of is not None
        return self.sign_of[rows]

    def _of_bias(self, s: Array, span: Span, rows: int) -> Array:
        """sum_k s_k b_k of each sample."""
        samples, b = span.until - span.sample, self.bias
        assert b is not None
        if b.ndim > 1:
            first = span.first % rows
            row_biases = np.broadcast_to(b[first : first + len(s) // samples], (samples, len(s) // samples, s.shape[1]))
            return dots(s, row_biases.reshape(s.shape), samples)
        return sums(np.vecdot(s, b), samples)
