"""The door to numpy and to exact numbers: nothing changes the arithmetic of what passes it."""

import math
import sys
from decimal import Decimal
from fractions import Fraction as F

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrp_ref import ArithmeticMismatch, NotExact, ShapeError, arrays, fractions
from lrp_ref.arrays import (
    as_array,
    as_decimal,
    check_arithmetic,
    divide,
    floats,
    like,
    matmul,
    matmul_alike,
    negative,
    number,
    ones,
    per_channel,
    positive,
    root_mean_square,
    same_arithmetic,
    sample_sums,
    sign,
    total,
    unit_roundoff,
    where,
    zeros,
)

FLOATS = [np.float32, np.float64, np.longdouble]
FINE = np.longdouble(1) + np.longdouble(np.finfo(np.longdouble).eps)  # no float64, where longdouble has more bits
RATIONALS = st.fractions(min_value=-9, max_value=9, max_denominator=12)


@pytest.fixture(params=["float32", "float64", "longdouble", "flint", "fractions"])
def made(request, monkeypatch):
    """Makes an array in one of the arithmetics."""
    if request.param in ("flint", "fractions"):
        return exact_by(request.param, monkeypatch)
    return lambda x: np.array(x, dtype=request.param)


def exact_by(carrier, monkeypatch):
    if carrier == "flint":
        pytest.importorskip("flint")
    else:
        monkeypatch.setitem(sys.modules, "flint", None)
    return arrays.exact


def check_same(a, b):
    """`a` is in the arithmetic of `b`: the dtype, and in exact arithmetic the type of every element."""
    assert a.dtype == b.dtype
    if b.dtype == object:
        (carrier,) = {type(value) for value in b.flat}
        assert {type(value) for value in a.flat} <= {carrier}


def entries(a):
    return fractions(a).reshape(-1).tolist()


# --- exact


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(3, [F(3)], id="int"),
        pytest.param(2**70 + 1, [F(2**70 + 1)], id="large-int"),
        pytest.param(0.1, [F(3602879701896397, 36028797018963968)], id="float"),
        pytest.param(-0.0, [F(0)], id="minus-zero"),
        pytest.param(5e-324, [F(1, 2**1074)], id="subnormal"),
        pytest.param(np.float32(0.1), [F(13421773, 134217728)], id="float32"),
        pytest.param(np.int8(-3), [F(-3)], id="int8"),
        pytest.param(np.array([3, 2**63], dtype=np.uint64), [F(3), F(2**63)], id="uint64-array"),
        pytest.param(np.array([0.1], dtype=np.float32), [F(13421773, 134217728)], id="float32-array"),
        pytest.param(np.array([0.1, 0.5], dtype=np.float16), [F(819, 8192), F(1, 2)], id="float16-array"),
        pytest.param(np.longdouble(1) / 4, [F(1, 4)], id="longdouble"),
        pytest.param(F(2, 6), [F(1, 3)], id="fraction"),
        pytest.param(Decimal("0.1"), [F(1, 10)], id="decimal"),
        pytest.param([[1, 0.5], [F(1, 3), np.float32(0.25)]], [F(1), F(1, 2), F(1, 3), F(1, 4)], id="mixed-lists"),
        pytest.param([], [], id="empty"),
    ],
)
def test_exact_takes_each_number_at_its_value(exact, value, expected):
    a = exact(value)
    assert a.dtype == object
    assert a.shape == np.shape(value)
    assert entries(a) == expected
    assert {type(v) for v in a.flat} <= {type(exact(0)[()])}


@pytest.mark.parametrize("nested", [False, True], ids=["array", "list"])
def test_exact_of_longdouble_keeps_every_bit(exact, nested):
    bits = np.finfo(np.longdouble).nmant
    a = exact([FINE, -FINE] if nested else np.array([FINE, -FINE]))
    assert entries(a) == [1 + F(1, 2**bits), -1 - F(1, 2**bits)]
    assert entries(np.array([FINE])) == [1 + F(1, 2**bits)]


def test_each_carrier_becomes_the_other():
    flint = pytest.importorskip("flint")
    third = np.array([F(1, 3)], dtype=object)
    assert type(arrays.exact(third)[0]) is flint.fmpq
    assert type(fractions(arrays.exact(third))[0]) is F
    assert entries(arrays.exact(third)) == entries(like(arrays.exact(third), third)) == [F(1, 3)]
    assert type(like(arrays.exact([0.5]), third)[0]) is type(number(flint.fmpq(1, 2), third)) is F


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, np.array([0.0, np.nan]), np.longdouble("inf"), "1", ["a"], None, 1j, True, np.True_,
     np.array([True]), [[1, 2], [3]], [F(1), False]],
    ids=repr,
)  # fmt: skip
def test_exact_refuses(exact, value):
    with pytest.raises(ArithmeticMismatch, match=r"^exact: "):
        exact(value)


def test_exact_copies(exact):
    a = exact([1, 2])
    b = exact(a)
    b[0] = b[1]
    assert entries(a) == [1, 2]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_from_exact(x):
    assert F(x) == fractions(arrays.exact(x))[()]
    assert floats(arrays.exact([x]))[0] == x


def test_floats_round_correctly(exact):
    third = exact([F(1, 3), F(10**40, 3), F(1, 10**320)])
    assert floats(third).tolist() == [1 / 3, 10**40 / 3, 1e-320]
    assert floats(np.array([0.1], dtype=np.float32)).dtype == np.float64
    assert floats(np.array([0.5], dtype=np.longdouble)).dtype == np.longdouble


# --- into the arithmetic of an array


@pytest.mark.parametrize(
    "value", [0.5, 3, F(1, 4), [0.5, 2], np.array([1, 2]), np.array([0.5], dtype=np.float32)], ids=repr
)
def test_like_and_number_keep_the_arithmetic(made, value):
    a = made([0.75, -2])
    check_same(like(value, a), a)
    assert entries(like(value, a)) == entries(arrays.exact(value))
    if np.ndim(value) == 0:
        assert type(number(value, a)) is type(a[0])
        check_same(a * number(value, a), a)
        assert entries(a * number(value, a)) == [F(3, 4) * F(value), -2 * F(value)]


def test_like_returns_what_fits_already(made):
    a, b = made([1, 2]), made([3, 4])
    assert like(a, b) is a


@pytest.mark.parametrize("dtype", FLOATS)
def test_rationals_become_the_nearest_floats(dtype, exact):
    a = np.zeros(1, dtype)
    third = dtype(1) / dtype(3)
    carried = exact(F(1, 3))[()]
    for value in (F(1, 3), carried):
        assert type(number(value, a)) is dtype
        assert number(value, a) == third
        assert like([value], a)[0] == third
        assert like(np.array([value], dtype=object), a)[0] == third


def test_longdouble_keeps_its_bits():
    a = np.zeros(1, np.longdouble)
    assert number(FINE, a) == FINE
    assert like([FINE], a)[0] == FINE
    assert like(arrays.exact([FINE]), a)[0] == FINE


def test_zeros_and_ones(made):
    a = made([0.5])
    for make, value in ((zeros, 0), (ones, 1)):
        made_here = make((2, 3), a)
        check_same(made_here, a)
        assert made_here.shape == (2, 3)
        assert entries(made_here) == [value] * 6
        assert make((0, 2), a).shape == (0, 2)


def test_as_array():
    a = np.array([1, 2])
    assert as_array(a) is a
    assert as_array([1, 2]).dtype == np.float64
    assert as_array(3).shape == ()
    assert entries(as_array([[F(1, 3), 1]])) == [F(1, 3), 1]


@pytest.mark.parametrize(
    ("value", "decimal"),
    [(1e-5, 1e-5), (np.float32(1e-5), 1e-5), (float(np.float32(1e-5)), 1e-5), (0.001, 0.001), (0.5, 0.5), (0, 0.0),
     (0.1234567890123, 0.1234567890123), (np.float64(0.1234567890123), 0.1234567890123),
     (float(np.float32(1.001e-5)), 1.001e-5)],
    ids=repr,
)  # fmt: skip
def test_as_decimal(value, decimal):
    assert as_decimal(value) == decimal
    assert type(as_decimal(value)) is float


@pytest.mark.parametrize(
    ("x", "message"),
    [
        pytest.param([1.0], "is a list, not an array", id="list"),
        pytest.param(1.0, "is a float, not an array", id="float"),
        pytest.param(np.array([1]), "has dtype int64: convert it to float", id="ints"),
        pytest.param(np.array([True]), "has dtype bool", id="bool"),
        pytest.param(np.array([1j]), "has dtype complex128", id="complex"),
        pytest.param(np.array(["a"]), "has dtype <U1", id="strings"),
        pytest.param(np.array([1.0, np.nan, np.inf]), "holds 2 NaN or infinite values", id="nan-inf"),
        pytest.param(np.array([1, 2], dtype=object), "object array of int: make it with", id="object-ints"),
        pytest.param(np.array([0.5], dtype=object), "object array of float", id="object-floats"),
        pytest.param(np.array([F(1), 2], dtype=object), "object array of Fraction, int", id="object-mixed"),
        pytest.param(np.array([None], dtype=object), "object array of NoneType", id="object-none"),
    ],
)
def test_check_arithmetic_refuses(x, message):
    with pytest.raises(ArithmeticMismatch, match=rf"^the input (is an )?{message}"):
        check_arithmetic(x, "the input")


def test_check_arithmetic_refuses_two_carriers():
    flint = pytest.importorskip("flint")
    with pytest.raises(ArithmeticMismatch, match="object array of Fraction, fmpq"):
        check_arithmetic(np.array([F(1), flint.fmpq(1)], dtype=object), "x")


def test_check_arithmetic_accepts(made):
    check_arithmetic(made([0.5, -1]), "x")
    check_arithmetic(made([]), "x")


def test_same_arithmetic(made):
    a = made([0.5, 1])
    assert same_arithmetic(a, made([2, 3]))
    assert same_arithmetic(a, made([]))
    assert not same_arithmetic(a, np.array([0.5], dtype=np.float16))
    if a.dtype == object:
        other = [F(1)] if not isinstance(a[0], F) else [Decimal(1)]
        assert not same_arithmetic(a, np.array(other, dtype=object))


def test_unit_roundoff(made):
    a = made([1])
    u = unit_roundoff(a)
    assert u == 0 if a.dtype == object else (a + number(2 * u, a) - a == 2 * u and a + number(u, a) == a)


# --- element by element


def test_parts_and_sign(made):
    x = made([-1.5, -0.25, -0.0, 0, 0.5, 2])
    for function, expected in (
        (positive, [0, 0, 0, 0, F(1, 2), 2]),
        (negative, [F(-3, 2), F(-1, 4), 0, 0, 0, 0]),
        (sign, [-1, -1, 1, 1, 1, 1]),
    ):
        assert entries(function(x)) == expected
        check_same(function(x), x)
        check_same(function(x[:0]), x[:0] if x.dtype != object else x)
    scalar = x[0:1].reshape(())
    assert entries(sign(scalar)) == [-1]
    check_same(positive(scalar), x)


def test_divide(made):
    n, d = made([1, -3, 0, 5]), made([2, 0, 0, -0.0])
    quotient = divide(n, d)
    assert entries(quotient) == [F(1, 2), 0, 0, 0]
    check_same(quotient, n)
    assert divide(n[:0], d[:0]).shape == (0,)
    assert entries(divide(made([[6], [3]]), made([2, 0, 3]))) == [3, 0, 2, F(3, 2), 0, 1]


def test_divide_by_the_smallest_number_is_no_division_by_zero():
    tiny = np.array([5e-324])
    assert divide(tiny, tiny)[0] == 1
    assert entries(divide(arrays.exact([5e-324]), arrays.exact([5e-324]))) == [1]


def test_where_keeps_the_arithmetic(made):
    a = made([1, -2])
    chosen = where(a > 0, a, number(0, a))
    check_same(chosen, a)
    assert entries(chosen) == [1, 0]


@pytest.mark.parametrize(
    ("shape", "sample", "expected"),
    [((), (2, 3), (1, 1, 1)), ((3,), (3,), (1, 3)), ((2,), (2, 3), (1, 2, 1)), ((2, 3), (2, 3), (1, 2, 3)),
     ((2,), (2, 3, 4), (1, 2, 1, 1)), ((), (), (1,))],
    ids=str,
)  # fmt: skip
def test_per_channel(shape, sample, expected):
    assert per_channel(np.ones(shape), np.ones((5, *sample)), "it").shape == expected


@pytest.mark.parametrize(
    ("shape", "sample"), [((3,), (2, 3)), ((1, 3), (2, 3)), ((2, 1), (2, 3)), ((1,), (2,)), ((5,), ())]
)
def test_per_channel_never_broadcasts_from_the_right(shape, sample):
    with pytest.raises(ShapeError, match=r"^the scale has shape"):
        per_channel(np.ones(shape), np.ones((5, *sample)), "the scale")


@pytest.mark.parametrize("name", ["exp", "log", "log1p", "expm1", "tanh", "erf"])
def test_functions_without_rational_values(exact, name):
    function = getattr(arrays, name)
    with pytest.raises(NotExact, match=rf"^{name} has no rational values"):
        function(exact([1]))
    for dtype in FLOATS[: 2 if name == "erf" else 3]:
        y = function(np.array([0.5], dtype))
        assert y.dtype == dtype
        assert abs(y[0] - getattr(math, name)(0.5)) < 1e-7


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="longdouble is float64 here")
def test_erf_is_refused_in_longdouble():
    with pytest.raises(ArithmeticMismatch, match="erf is not available in longdouble"):
        arrays.erf(np.array([0.5], np.longdouble))


# --- sums and contractions


@pytest.mark.parametrize("keepdims", [False, True], ids=["dropped", "kept"])
@pytest.mark.parametrize("axes", [(), (0,), (1,), (-1,), (0, 2), (2, 0), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 0, 3), (0, 2, 1), (1, 1, 1)], ids=str)
def test_total(made, shape, axes, keepdims):
    values = np.arange(math.prod(shape)).reshape(shape) - 7
    x = made(values / 4)
    got = total(x, axes, keepdims=keepdims)
    expected = values.sum(axis=axes, keepdims=keepdims)
    assert got.shape == expected.shape
    assert entries(got) == [F(int(v), 4) for v in expected.reshape(-1)]
    if got.size and x.size:
        check_same(np.asarray(got), x)


def test_sums_of_a_sample_accumulate_in_float64_at_least(made):
    x = made([[[1, 2], [3, 4]], [[0, -1], [1, 0]]])
    sums = sample_sums(x)
    assert sums.shape == (2,)
    assert entries(sums) == [10, 0]
    assert sums.dtype == np.result_type(x.dtype, np.float64) if x.dtype != object else object
    assert sample_sums(np.array([[2.0**25, 1, -(2.0**25)]], np.float32)) == 1


SHAPES = [
    pytest.param((2, 3), (3, 4), id="plain"),
    pytest.param((1, 1), (1, 1), id="one"),
    pytest.param((5, 2, 3), (3, 4), id="batch-left"),
    pytest.param((2, 3), (5, 3, 1), id="batch-right"),
    pytest.param((2, 1, 2, 3), (4, 3, 2), id="batch-broadcast"),
    pytest.param((2, 0), (0, 3), id="empty-inner"),
    pytest.param((5, 2, 0), (0, 3), id="empty-inner-batch"),
    pytest.param((0, 3), (3, 2), id="no-rows"),
    pytest.param((2, 3), (3, 0), id="no-columns"),
    pytest.param((0, 2, 3), (3, 2), id="empty-batch"),
]


def rationals(shape, rng):
    top, bottom = rng.integers(-30, 31, shape), rng.integers(1, 13, shape)
    return np.frompyfunc(F, 2, 1)(top.astype(object), bottom.astype(object)).reshape(shape)


def plain_loop(a, b):
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, batch + a.shape[-2:]), np.broadcast_to(b, batch + b.shape[-2:])
    out = np.empty((*batch, a.shape[-2], b.shape[-1]), dtype=object)
    for *at, i, k in np.ndindex(out.shape):
        left, right = a[tuple(at)], b[tuple(at)]
        out[(*at, i, k)] = sum((left[i, j] * right[j, k] for j in range(a.shape[-1])), F(0))
    return out


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_matmul_of_rationals_is_the_plain_loop(exact, left, right):
    rng = np.random.default_rng(1)
    a, b = rationals(left, rng), rationals(right, rng)
    got = matmul(exact(a), exact(b))
    expected = plain_loop(a, b)
    assert got.shape == expected.shape
    assert entries(got) == expected.reshape(-1).tolist()
    assert {type(v) for v in got.flat} <= {type(exact(0)[()])}


@pytest.mark.parametrize("dtype", FLOATS)
def test_matmul_of_floats_keeps_the_dtype(dtype):
    a, b = np.ones((2, 3), dtype), np.ones((4, 3, 2), dtype)
    assert matmul(a, b).dtype == dtype
    assert (matmul(a, b) == 3).all()


def test_products_of_equal_columns_are_bit_equal():
    """Whatever the place of the columns among the others, and with -0 for 0."""
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 5, 300)), rng.standard_normal((3, 2, 300, 71))
    b[..., 7, 3] = 0
    equal = [3, 11, 40, 64, 68, 70]
    b[..., equal] = b[..., 3:4]
    b[..., 7, 70] = -0.0
    for dtype in FLOATS:
        product, plain = (product(a.astype(dtype), b.astype(dtype)) for product in (matmul_alike, matmul))
        assert product.dtype == dtype
        assert np.allclose(product, plain, rtol=0, atol=1e4 * np.finfo(dtype).eps)
        assert (product[..., equal] == product[..., 3:4]).all()
        assert len(set(product[0, 0, 0].tolist())) == 66


def test_products_of_rationals_need_no_care(exact):
    a, b = exact([[1, F(1, 3)]]), exact([[1, 2, 1], [3, 4, 3]])
    assert entries(matmul_alike(a, b)) == [2, F(10, 3), 2]


@given(st.lists(RATIONALS, min_size=1, max_size=6))
def test_root_mean_square_is_the_correctly_rounded_root(values):
    check_root(values, root_mean_square(np.array(values, dtype=object), (0,)))


@given(st.floats(min_value=1e-150, max_value=1e150))
def test_root_mean_square_of_squares_and_their_neighbors(x):
    square = F(x) ** 2
    for value in (F(x), F(x) + F(1, 2**40) * F(x), F(x) * (1 + F(1, 2**54))):  # the last: hardly above a float
        check_root([value], root_mean_square(np.array([value], dtype=object), (0,)))
    assert fractions(root_mean_square(np.array([F(x)], dtype=object), (0,)))[0] ** 2 == square


def check_root(values, got):
    """The float r nearest to the root of q, by integers: (r + lower)/2 <= root <= (r + upper)/2, ties to even."""
    mean = sum(v * v for v in values) / len(values)
    assert got.shape == (1,)
    root = fractions(got)[0]
    r = float(root)
    assert F(r) == root
    above, below = F(math.nextafter(r, math.inf)), F(math.nextafter(r, -math.inf))
    assert r == 0 if mean == 0 else r > 0
    assert ((root + below) / 2) ** 2 <= mean <= ((root + above) / 2) ** 2 or mean == 0
    halfway = mean in (((root + below) / 2) ** 2, ((root + above) / 2) ** 2)
    assert not halfway or math.frexp(r)[0] * 2**53 % 2 == 0 or mean == 0


def test_root_mean_square_rounds_a_tie_to_even(exact):
    for odd, expected in ((2**53 + 1, 2**53), (2**53 + 3, 2**53 + 4)):
        assert entries(root_mean_square(exact([odd]), (0,))) == [expected]
        assert entries(root_mean_square(exact([odd + F(1, 2**90)]), (0,))) == [odd + 1]
        assert entries(root_mean_square(exact([odd - F(1, 2**90)]), (0,))) == [odd - 1]


def test_root_mean_square_over_axes(made):
    x = made([[3, 4], [-4, 8], [-5, -8]])
    for axes, shape, squares in (((0,), (1, 2), [F(50, 3), 48]), ((1,), (3, 1), [F(25, 2), 40, F(89, 2)])):
        got = root_mean_square(x, axes)
        check_same(got, x)
        assert got.shape == shape
        assert np.allclose(floats(got).astype(float).reshape(-1) ** 2, np.array(squares, float), rtol=1e-6, atol=0)
    assert entries(root_mean_square(made([[3, 4], [-3, 4]]), (0,))) == [3, 4]


def test_root_mean_square_of_nothing_is_zero(made):
    x = zeros((2, 0), made([1]))
    assert entries(root_mean_square(x, (1,))) == [0, 0]


def test_every_arithmetic_gives_the_same_eighths(made):
    """One page of code, five arithmetics: dyadic numbers come out equal."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(-8, 9, (4, 3)) / 8, rng.integers(-8, 9, (3, 2)) / 8
    z = matmul(made(a), made(b))
    s = divide(made(np.ones((4, 2))), sign(z) * number(0.25, z))
    assert entries(total(positive(s) * z, (1,))) == [
        sum((F(4 * z_k) for z_k in row if z_k >= 0), F(0)) for row in (a @ b).tolist()
    ]


def test_the_two_carriers_agree(monkeypatch):
    pytest.importorskip("flint")
    values = [[0.5, F(1, 3)], [-2, F(7, 5)]]
    a = arrays.exact(values)
    monkeypatch.setitem(sys.modules, "flint", None)
    b = arrays.exact(values)
    monkeypatch.undo()
    assert not same_arithmetic(a, b)
    for function in (lambda x: matmul(x, x), lambda x: divide(x, negative(x)), lambda x: root_mean_square(x, (0,))):
        check_same(function(a), a)
        check_same(function(b), b)
        assert entries(function(a)) == entries(function(b))
