"""The one door to numpy, cupy and exact numbers.

Everything else in the core works with operators and with the few functions below, so that one page of code
runs on float32, float64, longdouble, CuPy arrays, and object arrays of exact rationals (python-flint's
``fmpq`` where it is installed, else ``fractions.Fraction``).

Three things spoil arithmetic silently, and are kept out here: a float constant promotes float32, ``int /
int`` in an object array is a float, and ``0.25 * Fraction`` is a float. So a constant enters through
:func:`number`, an array through :func:`like`, and zeros and ones are made in the arithmetic of the array they
meet.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from .errors import ArithmeticMismatch, NotExact, ShapeError

Array: TypeAlias = Any
"""A numpy or cupy array; of floats, or of exact rationals (dtype object)."""


def namespace(a: Array) -> Any:
    """The module that `a` belongs to: numpy or cupy."""
    if type(a) is np.ndarray:
        return np
    if type(a).__module__.partition(".")[0] == "cupy":
        return sys.modules["cupy"]
    return np


def is_array(value: object) -> bool:
    """Whether `value` is an array of numpy or cupy."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


# --- exact numbers --------------------------------------------------------------------------------


def is_exact(a: Array) -> bool:
    """Whether `a` holds exact rationals."""
    return bool(a.dtype == object)


def is_enclosed(a: Array) -> bool:
    """Whether `a` holds balls (:mod:`lrp_ref.oracle.balls`): enclosures of numbers, which know their own functions."""
    return is_exact(a) and bool(a.size) and hasattr(a.flat[0], "radius")


def exact(x: Any) -> Array:
    """`x` as an object array of exact rationals: each float is the rational that it is.

    Parameters
    ----------
    x : array or nested sequence of int, float, Fraction or fmpq

    Returns
    -------
    ndarray of object
        of ``flint.fmpq`` where python-flint is installed (extra ``exact``), else of ``fractions.Fraction``.

    Raises
    ------
    ArithmeticMismatch
        if a value is not finite or not a number.
    """
    return _rationals(to_host(x), _default_carrier())


def fractions(a: Array) -> Array:
    """`a` as an object array of ``fractions.Fraction``, whatever carries its numbers.

    Floats give the fraction that they are, so results of any arithmetic compare exactly through this
    function.
    """
    from fractions import Fraction

    return _rationals(to_host(a), Fraction)


def _default_carrier() -> Any:
    try:
        from flint import fmpq
    except ImportError:
        from fractions import Fraction

        return Fraction
    return fmpq


def _carrier(a: Array) -> Any:
    """The type of the rationals in `a`."""
    return type(a.flat[0]) if a.size else _default_carrier()


def _rational(value: Any, carrier: Any) -> Any:
    if type(value) is carrier:
        return value
    if isinstance(value, (bool, np.bool_)):
        raise ArithmeticMismatch(f"exact: {value!r} is a truth value, not a number")
    if isinstance(value, np.integer):
        value = int(value)
    try:
        ratio = (value.p, value.q) if hasattr(value, "p") else value.as_integer_ratio()
        numerator, denominator = (int(part) for part in ratio)
    except (AttributeError, OverflowError, ValueError, TypeError):
        raise ArithmeticMismatch(f"exact: {value!r} is not a finite number") from None
    return carrier(numerator, denominator)


def _rationals(x: Any, carrier: Any) -> Array:
    values = x if isinstance(x, np.ndarray) else np.array(x, dtype=object)
    items = values.reshape(-1).tolist()  # longdouble and object elements stay what they are
    made = np.fromiter((_rational(item, carrier) for item in items), dtype=object, count=values.size)
    return made.reshape(values.shape)


# --- into the arithmetic of an array --------------------------------------------------------------


def like(value: Any, a: Array) -> Array:
    """`value` as an array in the arithmetic of `a`: its dtype and device, or its exact rationals."""
    if is_exact(a):
        carrier = _carrier(a)
        if is_array(value) and is_exact(value) and value.size and _carrier(value) is carrier:
            return value
        return _rationals(to_host(value), carrier)
    value = value if is_array(value) else np.asarray(value)
    if namespace(value) is namespace(a) and value.dtype == a.dtype:
        return value
    if is_exact(value):
        value = _floats(value, a.dtype)
    if namespace(value) is not np:
        value = value if namespace(a) is not np else to_host(value)
    return namespace(a).asarray(value, dtype=a.dtype)


def number(value: Any, a: Array) -> Any:
    """The number `value` in the arithmetic of `a`; a rule's parameter is the exact number that its float is."""
    if is_exact(a):
        return _rational(value, _carrier(a))
    if hasattr(value, "p") or hasattr(value, "limit_denominator"):  # a rational
        return _floats(np.array([value], dtype=object), a.dtype)[0]
    return a.dtype.type(value)


def root(value: float, a: Array) -> Any:
    """sqrt(value) in the arithmetic of `a`: enclosed for balls, else the number that its float64 is."""
    return number(value, a).sqrt() if is_enclosed(a) else number(math.sqrt(value), a)


def zeros(shape: Sequence[int], a: Array) -> Array:
    """Zeros of `shape` in the arithmetic of `a`."""
    return namespace(a).full(tuple(shape), number(0, a), dtype=a.dtype)


def ones(shape: Sequence[int], a: Array) -> Array:
    """Ones of `shape` in the arithmetic of `a`."""
    return namespace(a).full(tuple(shape), number(1, a), dtype=a.dtype)


def as_array(value: Any) -> Array:
    """A number or nested list as an array of float64, or exact if it holds rationals; arrays stay what they are."""
    if is_array(value):
        return value
    made = np.asarray(value)
    return exact(made) if is_exact(made) else made.astype(float)


def as_decimal(value: float) -> float:
    """A number that a file may hold as float32, as the decimal that it was meant to be: 1e-5, not 9.99999975e-06."""
    nearest = np.float32(value)
    return float(str(nearest)) if float(nearest) == float(value) else float(value)


def to_host(a: Any) -> Any:
    """`a` as numpy's, copied from the device if it lies there."""
    return a.get() if is_array(a) and namespace(a) is not np else a


def on_host(value: Any) -> Array:
    """A number, nested list or array as an array of numpy's."""
    return np.asarray(to_host(value))


def mover(device: str) -> Callable[[Array], Array]:
    """What copies arrays to a device ("cpu", "cuda", "cuda:1": the second); what is there stays itself.

    Raises
    ------
    ArithmeticMismatch
        if the name is another, if there is no CuPy or no usable device, and by the function for exact rationals.
    """
    kind, colon, number = device.partition(":")
    if device == "cpu":
        return to_host
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise ArithmeticMismatch(f'device {device!r}: need "cpu", "cuda", or "cuda:" and a number')
    try:
        import cupy
    except ImportError:
        raise ImportError(
            f'device {device!r} needs CuPy: pip install "lrp_ref[gpu-cuda12]", or "lrp_ref[gpu-cuda13]" for CUDA 13'
        ) from None
    try:
        place = cupy.cuda.Device(int(number)) if colon else cupy.cuda.Device()
        with place:
            cupy.zeros(1)  # an import is no proof of a device, an allocation is
    except Exception as error:  # of the runtime or the driver, of which there are many kinds
        raise ArithmeticMismatch(
            f"device {device!r} cannot be used: {type(error).__name__}: {error}; "
            f'nvidia-smi lists what there is, and "cpu" needs none'
        ) from error

    def move(a: Array) -> Array:
        if is_exact(a):
            raise ArithmeticMismatch(f"exact rationals cannot go to {device!r}: a device computes float32 and float64")
        if namespace(a) is cupy and a.device == place:
            return a
        with place:
            return cupy.asarray(to_host(a))

    return move


def floats(a: Array) -> Array:
    """`a` on the host as float64 (longdouble stays): rationals correctly rounded, of each ball the midpoint."""
    a = to_host(a)
    if is_enclosed(a):
        return _midpoints(a)
    if is_exact(a):
        return _floats(a, np.dtype(np.float64))
    return a.astype(np.result_type(a.dtype, np.float64))


def _midpoints(a: Array) -> Array:
    return np.array([ball.midpoint for ball in a.flat]).reshape(a.shape)


def _floats(a: Array, dtype: Any) -> Array:
    """Rationals as floats of `dtype`: correctly rounded in float64; to longdouble as rounded value and remainder."""
    from fractions import Fraction

    def convert(value: Any) -> Any:
        fraction = _rational(value, Fraction)
        high = float(fraction)
        return dtype.type(high) + dtype.type(float(fraction - Fraction(high)))

    items = (convert(value) for value in a.reshape(-1))
    return np.fromiter(items, dtype=dtype, count=a.size).reshape(a.shape)


def check_arithmetic(x: Array, name: str) -> None:
    """Refuse an array in which relevance cannot be computed: integers, truth values, NaN, infinities, no
    array.

    Raises
    ------
    ArithmeticMismatch
    """
    if not is_array(x):
        raise ArithmeticMismatch(f"{name} is a {type(x).__name__}, not an array: pass numpy.asarray(..., float)")
    if is_exact(x):
        carriers = {type(value) for value in x.flat}
        known = ("p", "limit_denominator", "radius")  # of fmpq, Fraction and balls
        if len(carriers) > 1 or any(not any(hasattr(c, name) for name in known) for c in carriers):
            names = ", ".join(sorted(c.__name__ for c in carriers))
            raise ArithmeticMismatch(f"{name} is an object array of {names}: make it with lrp_ref.exact(x)")
    elif x.dtype.kind != "f":
        raise ArithmeticMismatch(f"{name} has dtype {x.dtype}: convert it to float, e.g. {name}.astype('float64')")
    elif not all_finite(x):
        bad = int((~namespace(x).isfinite(x)).sum())
        raise ArithmeticMismatch(f"{name} holds {bad} NaN or infinite values: relevance is defined for finite ones")


def all_finite(a: Array) -> bool:
    """Whether no value is NaN or infinite."""
    return is_exact(a) or bool(namespace(a).isfinite(a).all())


def same_arithmetic(a: Array, b: Array) -> bool:
    """Whether two arrays have the same module, device, dtype and carrier of rationals."""
    if namespace(a) is not namespace(b) or a.dtype != b.dtype or getattr(a, "device", 0) != getattr(b, "device", 0):
        return False
    return not is_exact(a) or not a.size or not b.size or _carrier(a) is _carrier(b)


def unit_roundoff(a: Array) -> float:
    """u of the arithmetic of `a`: the largest relative error of one rounding; 0 in exact arithmetic."""
    return 0.0 if is_exact(a) else float(np.finfo(a.dtype).eps) / 2


# --- element by element ---------------------------------------------------------------------------


def where(condition: Array, x: Any, y: Any) -> Array:
    """`x` where the condition holds, else `y`."""
    return namespace(condition).where(condition, x, y)


def positive(x: Array) -> Array:
    """x+ = max(0, x)."""
    return where(x > 0, x, number(0, x)) if is_exact(x) else namespace(x).maximum(x, number(0, x))


def negative(x: Array) -> Array:
    """x- = min(0, x), which is never positive: x = x+ + x-."""
    return where(x < 0, x, number(0, x)) if is_exact(x) else namespace(x).minimum(x, number(0, x))


def sign(z: Array) -> Array:
    """s(z): +1 where z >= 0, else -1."""
    return where(z < 0, number(-1, z), number(1, z))


def divide(n: Array, d: Array) -> Array:
    """n / d, and 0 where d is exactly 0."""
    zero = d == 0
    return where(zero, number(0, d), n / where(zero, number(1, d), d))


broadcast_shapes = np.broadcast_shapes


def near_greatest(z: Array, axis: int, *, least: bool = False) -> Array:
    """A number near the greatest (or least) along an axis, which stays with length 1: to shift by, before exp.

    Of balls it is that of their midpoints, which need not be told apart: any shift gives the same quotients.
    """
    if is_enclosed(z):
        return like(near_greatest(floats(z), axis, least=least), z)
    return z.min(axis=axis, keepdims=True) if least else z.max(axis=axis, keepdims=True)


def greatest_class(z: Array) -> Array:
    """The first class with the greatest number, for z (batch, classes).

    Of balls one comparison after the other: NumPy's argmax goes on comparing after one that raised.
    """
    if not is_enclosed(z):
        return z.argmax(axis=1)
    best, found = z[:, 0], namespace(z).zeros(len(z), dtype=int)
    for k in range(1, z.shape[1]):
        wins = z[:, k] > best
        best, found = where(wins, z[:, k], best), where(wins, k, found)
    return found


def per_channel(value: Array, a: Array, what: str) -> Array:
    """`value` as it broadcasts to `a`: a scalar, one number a channel (axis 1), or exactly ``a.shape[1:]``.

    Never broadcast from the right. Raises ShapeError otherwise.
    """
    if value.ndim == 0:
        return value.reshape((1,) * a.ndim)
    if value.shape == a.shape[1:]:
        return value[None]
    if a.ndim >= 2 and value.shape == (a.shape[1],):
        return value.reshape((1, -1) + (1,) * (a.ndim - 2))
    raise ShapeError(
        f"{what} has shape {value.shape}; for an array of shape {a.shape} it must be a scalar, "
        f"one number a channel {a.shape[1:2]}, or {a.shape[1:]}"
    )


def _of_balls(name: str, x: Array) -> Array:
    enclosed: Array = np.frompyfunc(operator.methodcaller(name), 1, 1)(x)
    return enclosed


def _function(name: str, compute: Callable[[Any, Array], Array]) -> Callable[[Array], Array]:
    def function(x: Array) -> Array:
        if is_enclosed(x):
            return _of_balls(name, x)
        if is_exact(x):
            raise NotExact(
                f"{name} has no rational values: in exact arithmetic give the layer its float outputs, "
                f"lrp_ref.given(graph, x), or replace it"
            )
        return compute(namespace(x), x)

    function.__name__ = name
    function.__doc__ = f"{name}(x), element by element; NotExact in exact arithmetic."
    return function


exp = _function("exp", lambda xp, x: xp.exp(x))
log = _function("log", lambda xp, x: xp.log(x))
log1p = _function("log1p", lambda xp, x: xp.log1p(x))
expm1 = _function("expm1", lambda xp, x: xp.expm1(x))
tanh = _function("tanh", lambda xp, x: xp.tanh(x))


def _erf(xp: Any, x: Array) -> Array:
    if x.dtype == np.longdouble and np.longdouble is not np.float64 and np.finfo(np.longdouble).nmant > 52:
        raise ArithmeticMismatch("erf is not available in longdouble: use float64")
    from scipy.special import erf as scipy_erf  # dispatches to cupyx on CuPy arrays

    return scipy_erf(x)


erf = _function("erf", _erf)


# --- sums and contractions ------------------------------------------------------------------------


def total(x: Array, axes: Sequence[int], *, keepdims: bool = False) -> Array:
    """Sum over `axes`, in x's own arithmetic; rationals by halves, which keeps their denominators short."""
    axes = tuple(axis % x.ndim for axis in axes)
    if not is_exact(x):
        return x.sum(axis=axes, keepdims=keepdims)
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    rows = x.transpose(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), math.prod(x.shape[i] for i in axes))
    if rows.shape[-1] == 0:
        rows = zeros((*rows.shape[:-1], 1), x)
    while (n := rows.shape[-1]) > 1:
        folded = rows[..., : n // 2] + rows[..., n // 2 : 2 * (n // 2)]
        rows = np.concatenate([folded, rows[..., 2 * (n // 2) :]], axis=-1)
    summed = rows[..., 0:1].reshape(rows.shape[:-1])
    return np.expand_dims(summed, axes) if keepdims else summed


def sample_sums(x: Array) -> Array:
    """The sum over each sample (axis 0): for the books, so float32 and float16 accumulate in float64."""
    if not is_exact(x):
        return x.sum(axis=tuple(range(1, x.ndim)), dtype=np.result_type(x.dtype, np.float64))
    return total(x, range(1, x.ndim))


def matmul(a: Array, b: Array) -> Array:
    """a @ b over the last two axes, the others broadcast; rationals on a common denominator."""
    if not is_exact(a):
        return namespace(a).matmul(a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, columns = a.shape[-2], b.shape[-1]
    out = zeros((*batch, rows, columns), a)
    if out.size and a.shape[-1]:
        own = getattr(a.flat[0], "matmul", None)  # a ball's
        product = own or (_matmul_flint if hasattr(a.flat[0], "p") else _matmul_fractions)
        a, b = np.broadcast_to(a, batch + a.shape[-2:]), np.broadcast_to(b, batch + b.shape[-2:])
        for index in np.ndindex(*batch):
            out[index] = product(a[index], b[index])
    return out


def matmul_alike(a: Array, b: Array) -> Array:
    """a @ b, in which equal columns of `b` have bit-equal products, or rounding would decide the ties of a max pool.

    BLAS rounds a column by its place among the others, so the first of equal columns speaks for all of them.
    Rationals do not round, and outside BLAS (longdouble) every column is summed alike.
    """
    product = matmul(a, b)
    if namespace(b) is np and b.dtype.char in "fd":
        for index in np.ndindex(*b.shape[:-2]):
            seen: dict[bytes, int] = {}
            columns = b[index].T + number(0, b)  # -0 becomes 0
            first = [seen.setdefault(column.tobytes(), i) for i, column in enumerate(columns)]
            if len(seen) < len(first):
                product[index] = product[index][:, first]
    return product


def _matmul_flint(a: Array, b: Array) -> Array:
    from flint import fmpq_mat

    (rows, inner), columns = a.shape, b.shape[1]
    product = fmpq_mat(rows, inner, a.reshape(-1).tolist()) * fmpq_mat(inner, columns, b.reshape(-1).tolist())
    return np.fromiter(product.entries(), dtype=object).reshape(rows, columns)


def _matmul_fractions(a: Array, b: Array) -> Array:
    """Integer products on one denominator a row of a and one a column of b: one reduction an entry, not one a term."""
    from fractions import Fraction

    a_integers, a_denominators = _integer_rows(a)
    b_integers, b_denominators = _integer_rows(b.T)
    product = a_integers @ b_integers.T
    denominators = np.outer(a_denominators, b_denominators)
    return np.frompyfunc(Fraction, 2, 1)(product, denominators)


def _integer_rows(a: Array) -> tuple[Array, Array]:
    """Integers and denominators with a[i] == integers[i] / denominators[i]."""
    integers, denominators = np.empty(a.shape, dtype=object), np.empty(len(a), dtype=object)
    for i, row in enumerate(a):
        denominators[i] = math.lcm(*(value.denominator for value in row))
        integers[i] = [value.numerator * (denominators[i] // value.denominator) for value in row]
    return integers, denominators


def root_mean_square(z: Array, axes: Sequence[int]) -> Array:
    """sqrt(mean(z^2)) over `axes`, kept as axes of length 1.

    In exact arithmetic the float64 nearest to the root of the exact mean square, taken as the exact number it
    is.
    """
    mean = total(z * z, axes, keepdims=True) / number(max(1, math.prod(z.shape[axis] for axis in axes)), z)
    if not is_exact(z) or is_enclosed(z):
        return namespace(z).sqrt(mean)
    roots = [_rounded_root(value) for value in fractions(mean).reshape(-1)]
    return like(np.array(roots, dtype=np.float64).reshape(mean.shape), z)


def _rounded_root(value: Any) -> float:
    """The float64 nearest to a Fraction's square root: an integer root with a sticky last bit, then one rounding."""
    from fractions import Fraction

    if value == 0:
        return 0.0
    shift = max(0, 128 - value.numerator.bit_length() + value.denominator.bit_length())
    shift += shift % 2
    scaled, rest = divmod(value.numerator << shift, value.denominator)
    root = math.isqrt(scaled)
    sticky = int(rest != 0 or root * root != scaled)
    return float(Fraction(2 * root + sticky, 1 << (shift // 2 + 1)))
