"""Balls: numbers of which it is known how far they are from the truth at most, beside floats and rationals.

An object array of :class:`Ball` runs through the core's own code, as one of rationals does. Each operation encloses the
exact result for every choice of exact operands within their balls; the working precision is python-flint's context.
Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", 2017 (doi 10.1109/TC.2017.2690633).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np

from ..arrays import Array, is_exact, to_host
from ..errors import ArithmeticMismatch, Undecided


@functools.cache
def flint() -> Any:
    """The module, or an error that names the extra."""
    try:
        import flint as module
    except ImportError:
        raise ImportError('balls need python-flint: pip install "lrp_ref[exact]"') from None
    return module


@contextmanager
def working(bits: int, threads: int | None = None) -> Iterator[None]:
    """Arithmetic of balls with `bits` of precision, and contractions with so many threads; afterwards as before."""
    context = flint().ctx
    before = context.prec, context.threads
    context.prec = bits
    if threads is not None:
        context.threads = threads
    try:
        yield
    finally:
        context.prec, context.threads = before


class Ball:
    """A real number that lies within a radius of a midpoint: one of Arb's.

    Comparisons answer what holds for every number of the balls, and raise :class:`Undecided` where it holds for some
    and not for others, so that no branch is ever taken on a guess; so does a division by what may be 0.
    """

    __slots__ = ("arb",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, numerator: Any, denominator: Any = None) -> None:
        if denominator is not None:
            module = flint()
            numerator = module.arb(module.fmpq(numerator, denominator))
        self.arb = numerator

    # --- arithmetic ---

    def __add__(self, other: Any) -> Any:
        return Ball(self.arb + other.arb) if type(other) is Ball else _mixed(operator.add, self, other)

    def __sub__(self, other: Any) -> Any:
        return Ball(self.arb - other.arb) if type(other) is Ball else _mixed(operator.sub, self, other)

    def __mul__(self, other: Any) -> Any:
        return Ball(self.arb * other.arb) if type(other) is Ball else _mixed(operator.mul, self, other)

    def __truediv__(self, other: Any) -> Any:
        if type(other) is not Ball:
            return _mixed(operator.truediv, self, other)
        if other.arb.contains(0):
            raise Undecided("a denominator may be 0", other)
        return Ball(self.arb / other.arb)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Any) -> Any:
        return _mixed(operator.sub, self, other, swapped=True)

    def __neg__(self) -> Ball:
        return Ball(-self.arb)

    def __abs__(self) -> Ball:
        return Ball(abs(self.arb))

    # --- functions, by the names that numpy asks an element for ---

    def exp(self) -> Ball:
        """exp(x)."""
        return Ball(self.arb.exp())

    def expm1(self) -> Ball:
        """exp(x) - 1."""
        return Ball(self.arb.expm1())

    def log(self) -> Ball:
        """log(x)."""
        return Ball(self.arb.log())

    def log1p(self) -> Ball:
        """log(1 + x)."""
        return Ball(self.arb.log1p())

    def tanh(self) -> Ball:
        """tanh(x)."""
        return Ball(self.arb.tanh())

    def erf(self) -> Ball:
        """erf(x)."""
        return Ball(self.arb.erf())

    def sqrt(self) -> Ball:
        """sqrt(x)."""
        return Ball(self.arb.sqrt())

    # --- comparisons ---

    def __lt__(self, other: Any) -> Any:
        b = _comparable(other)
        return b if b is NotImplemented else self._certain(other, self.arb < b, self is other or self.arb >= b)

    def __gt__(self, other: Any) -> Any:
        b = _comparable(other)
        return b if b is NotImplemented else self._certain(other, self.arb > b, self is other or self.arb <= b)

    def __le__(self, other: Any) -> Any:
        above = self.__gt__(other)
        return above if above is NotImplemented else not above

    def __ge__(self, other: Any) -> Any:
        below = self.__lt__(other)
        return below if below is NotImplemented else not below

    def __eq__(self, other: object) -> Any:
        b = _comparable(other)
        return b if b is NotImplemented else self._certain(other, self is other or self.arb == b, self.arb != b)

    def __ne__(self, other: object) -> Any:
        same = self.__eq__(other)
        return same if same is NotImplemented else not same

    def __bool__(self) -> bool:
        return bool(self != 0)

    def _certain(self, other: Any, yes: bool, no: bool) -> bool:
        """The answer, where one of the two holds for all numbers of the balls."""
        if not yes and not no:
            raise Undecided(f"{self!r} and {other!r} cannot be told apart", self, other)
        return yes

    # --- what is known ---

    @property
    def midpoint(self) -> float:
        """The float64 nearest to the midpoint."""
        return float(self.arb.mid())

    @property
    def radius(self) -> float:
        """A float64 that the radius does not exceed."""
        return upper(self.arb.rad())

    def dyadic(self) -> tuple[Fraction, Fraction]:
        """Midpoint and radius, exactly."""
        return _dyadic(self.arb.mid()), _dyadic(self.arb.rad())

    def __repr__(self) -> str:
        return f"Ball({self.arb.str(10)})"

    # --- as a carrier ---

    @staticmethod
    def matmul(a: Array, b: Array) -> Array:
        """a @ b of two matrices of balls."""
        matrix = flint().arb_mat
        (rows, inner), columns = a.shape, b.shape[1]
        product = matrix(rows, inner, [x.arb for x in a.flat]) * matrix(inner, columns, [x.arb for x in b.flat])
        return np.fromiter(map(Ball, product.entries()), dtype=object, count=rows * columns).reshape(rows, columns)


def _mixed(operation: Any, ball: Ball, other: Any, *, swapped: bool = False) -> Any:
    """A ball with an integer. Floats are refused: one that gets here is a constant that did not enter by `number`."""
    if not isinstance(other, int):
        return NotImplemented
    exactly = Ball(other, 1)
    return operation(exactly, ball) if swapped else operation(ball, exactly)


def _dyadic(x: Any) -> Fraction:
    mantissa, exponent = x.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def _comparable(other: Any) -> Any:
    return other.arb if type(other) is Ball else other if isinstance(other, int) else NotImplemented


def wrapped(arbs: Array) -> Array:
    """Balls of Arb's own numbers, in an object array of the same shape."""
    return np.fromiter(map(Ball, arbs.flat), dtype=object, count=arbs.size).reshape(arbs.shape)


def unwrapped(balls: Array) -> Array:
    """Arb's own numbers, in an object array of the same shape: quicker, and without the guard of comparisons."""
    return np.fromiter((x.arb for x in balls.flat), dtype=object, count=balls.size).reshape(balls.shape)


def balls(x: Any) -> Array:
    """An array as balls: floats as the exact numbers that they are, rationals as enclosed."""
    x = to_host(x)
    if is_exact(x):
        if x.size and type(x.flat[0]) is Ball:
            return x
        return np.fromiter((Ball(v.numerator, v.denominator) for v in x.flat), object, x.size).reshape(x.shape)
    return np.fromiter(map(Ball, arbs(x)), dtype=object, count=x.size).reshape(x.shape)


def arbs(x: Array) -> list[Any]:
    """The floats of an array as Arb's numbers, in order: exactly."""
    arb = flint().arb
    if x.dtype.itemsize > 8:  # longdouble, as a float64 and what is left of it
        high = x.astype(np.float64)
        return [arb(a) + arb(b) for a, b in zip(high.flat, (x - high).astype(np.float64).flat, strict=True)]
    if x.dtype.kind != "f":
        raise ArithmeticMismatch(f"balls: an array of {x.dtype} is not one of floats")
    return [arb(value) for value in x.reshape(-1).tolist()]


def upper(x: Any) -> float:
    """A float64 that the number of Arb's given does not exceed, close to it."""
    if not x.is_finite():
        return math.inf
    above = float(x.upper())
    while not x <= flint().arb(above):
        above = float(np.nextafter(above, np.inf))
    return above


def lower(x: Any) -> float:
    """A float64 that does not exceed the number of Arb's given, close to it."""
    return -upper(-x)
