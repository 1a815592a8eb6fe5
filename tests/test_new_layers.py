"""Layers of trained networks: resizing, adaptive pools, blocks of channels, hard activations, softmax, products."""

import itertools
import math
import re
from fractions import Fraction as F
from typing import Any

import by_definition as by
import numpy as np
import pytest
from checks import check_adjoint, check_books, inner
from grid import POOL, RESIZE, WIRES, relevance, sample
from hypothesis import given
from hypothesis import strategies as st

import lrp_ref as lrp
from lrp_ref import ShapeError, fractions
from lrp_ref import layers as L
from lrp_ref.arrays import total
from lrp_ref.layers.elementwise import SoftmaxSlope
from lrp_ref.store import parse
from lrp_ref.theory import gradient, gradient_x_input
from lrp_ref.values import value

RNG = np.random.default_rng


def entries(a):
    return fractions(a).reshape(-1).tolist()


def dyadic(rng, *shape):
    return rng.integers(-12, 13, shape) / 8


def pulled_back(layer, x, s):
    """The gradient of <layer(x), s>."""
    tangent = layer.tangent(x)
    return tangent.adjoint(s, tangent.parameters(x)[0], x.shape)


def check_torch(layer, function, x, slope_atol=1e-12):
    """Values and gradient, at a random cotangent."""
    import torch

    t = torch.from_numpy(x).requires_grad_()
    theirs = function(t)
    s = RNG(0).standard_normal(theirs.shape)
    theirs.backward(torch.from_numpy(s))
    layer.check(x.shape)
    ours = layer.forward(x)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(pulled_back(layer, x, s), t.grad.numpy(), rtol=0, atol=slope_atol)


# --- activations

ACTIVATIONS = [
    (L.SELU(), "SELU()"),
    (L.CELU(), "CELU()"),
    (L.CELU(alpha=0.3), "CELU(0.3)"),
    (L.CELU(alpha=2.5), "CELU(2.5)"),
    (L.HardSigmoid(), "Hardsigmoid()"),
    (L.HardSwish(), "Hardswish()"),
]
each_activation = pytest.mark.parametrize(("layer", "module"), ACTIVATIONS, ids=repr)


@pytest.mark.torch
@each_activation
def test_torch_activations_and_their_derivatives(layer, module):
    import torch

    x = np.concatenate([np.linspace(-8, 8, 65) + 0.01, [0.0, -900.0, 900.0]])[None]
    single = isinstance(layer, (L.CELU, L.HardSigmoid))  # torch's derivative has 1 / alpha and 1 / 6 in float32
    check_torch(layer, eval(f"torch.nn.{module}", {"torch": torch}), x, slope_atol=1e-7 if single else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("layer", [*(a[0] for a in ACTIVATIONS), L.HardSigmoid(slope=0.2, offset=0.25)], ids=repr)
def test_derivatives_against_central_differences(layer, dtype):
    eps = float(np.finfo(dtype).eps)
    h = dtype(2.0 ** round(math.log2(eps) / 3))
    a = (np.linspace(-6, 6, 42) + 1 / 9).astype(dtype)[None]  # no kink within h
    expected = (layer.forward(a + h) - layer.forward(a - h)) / (2 * h)
    assert layer.derivative(a).dtype == layer.forward(a).dtype == dtype
    assert abs(layer.derivative(a) - expected).max() < 30 * eps ** (2 / 3)


def test_hard_activations_are_rational(exact):
    a = exact([[F(-4), F(-3), F(-1, 7), 0, F(5, 3), 3, F(7, 2)]])
    clipped = [min(max(v / 6 + F(1, 2), 0), 1) for v in entries(a)]
    assert entries(L.HardSwish().forward(a)) == [v * gate for v, gate in zip(entries(a), clipped, strict=True)]
    assert entries(L.HardSwish().derivative(a)) == [0, 0, F(-1, 21) + F(1, 2), F(1, 2), F(5, 9) + F(1, 2), 1, 1]
    line = [F(0.1) * v + F(0.25) for v in entries(a)]
    layer = L.HardSigmoid(slope=0.1, offset=0.25)
    assert entries(layer.forward(a)) == [min(max(v, 0), 1) for v in line]
    assert entries(layer.derivative(a)) == [F(0.1) if 0 < v < 1 else 0 for v in line]
    assert {type(v) for f in (layer, L.HardSwish()) for v in f.forward(a).flat} == {type(a[0, 0])}


def test_hard_swish_is_a_product_with_a_hard_sigmoid():
    a = np.linspace(-5, 5, 41)[None]
    np.testing.assert_allclose(L.HardSwish().forward(a), L.Mul().forward(a, L.HardSigmoid().forward(a)), atol=1e-15)


# --- softmax


@pytest.mark.torch
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_torch_softmax(axis):
    import torch

    x = 3 * RNG(1).standard_normal((2, 4, 5))
    check_torch(L.Softmax(axis=axis), lambda t: torch.softmax(t, axis), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble], ids=lambda dtype: dtype.__name__)
def test_softmax(dtype):
    x = RNG(2).standard_normal((2, 3, 4)).astype(dtype)
    layer = L.Softmax(axis=1)
    p = layer.forward(x)
    assert p.dtype == dtype
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=8 * np.finfo(dtype).eps)
    check_adjoint(layer.tangent(x), x, RNG(3).standard_normal(x.shape).astype(dtype))
    assert layer.forward(np.array([[2e4, 0.0, -2e4]], dtype)[..., None]).ravel().tolist() == [1, 0, 0]
    assert layer.frozen(x).forward(x) is x
    assert L.Softmax(axis=2).forward(np.zeros((0, 3, 4), dtype)).shape == (0, 3, 4)


def test_the_slope_of_softmax_is_diag_p_minus_p_times_p(exact):
    p = exact([[F(1, 2), F(1, 3), F(1, 6)]])
    for x in exact(np.eye(3, dtype=int)):
        expected = [
            q * (v - sum(map(math.prod, zip(entries(p), entries(x), strict=True))))
            for q, v in zip(entries(p), entries(x), strict=True)
        ]
        assert entries(SoftmaxSlope(p, axis=1).linear(x[None], p)) == expected
    layer, z = L.Softmax(axis=1), RNG(2).standard_normal((2, 3))
    np.testing.assert_array_equal(layer.tangent(z).weight, layer.forward(z))


def test_softmax_in_the_middle_is_a_wire_and_at_the_end_no_place_to_start(exact):
    net = lrp.chain(L.Dense(weight=[[1.0, -0.5], [0.25, 2.0]]), L.Softmax(axis=1), L.Dense(weight=[[1.0], [3.0]]))
    x = np.array([[0.5, -1.0]])
    e = lrp.explain(lrp.given(net, x), exact(x), lrp.Zero())
    check_books(e)
    assert entries(e.at("1.softmax")) == entries(e.at("0.dense"))
    with pytest.raises(lrp.NotExact, match=r'^node "1\.softmax" \(Softmax\): exp has no rational values'):
        net.forward(exact(x))
    ends = lrp.chain(*(node.layer for node in net.nodes[:2]))
    with pytest.raises(lrp.GraphError, match=r'"1\.softmax" \(Softmax\) gives probabilities'):
        lrp.explain(ends, x, lrp.Zero(), target=0)
    assert lrp.canonize(ends).outputs == ("0.dense",)


# --- adaptive pools


@st.composite
def pooled(draw):
    n = draw(st.integers(1, 3))
    most = {1: 9, 2: 6, 3: 4}[n]
    size = [draw(st.integers(1, most)) for _ in range(n)]
    outputs = [draw(st.none() | st.integers(1, most)) for _ in range(n)]
    return size, outputs, RNG(draw(st.integers(0, 2**32 - 1)))


@given(pooled(), st.sampled_from(["avg", "first", "shared"]))
def test_any_adaptive_pool(drawn, kind):
    size, outputs, rng = drawn
    x = rng.integers(-2, 3, (2, 2, *size)).astype(float)  # many ties
    sizes = [n if m is None else m for n, m in zip(size, outputs, strict=True)]
    if kind == "avg":
        layer, operators = L.AdaptiveAvgPool(outputs), [by.adaptive_avg_pool(x.shape[1:], sizes)] * 2
    else:
        layer = L.AdaptiveMaxPool(outputs, ties=kind)
        operators = [by.adaptive_max_pool(a, x.shape[1:], sizes, kind) for a in x]
    layer.check(x.shape)
    a = fractions(x)
    z, frozen = layer.forward(a), layer.frozen(a)
    for i in range(2):
        assert z.shape[1:] == operators[i].outputs
        assert entries(z[i]) == entries(frozen.forward(a)[i]) == by.forward(operators[i], x[i])
    check_adjoint(frozen, a, fractions(rng.integers(-4, 5, z.shape)))


@pytest.mark.torch
@given(pooled(), st.sampled_from(["avg", "max"]))
def test_torch_adaptive_pools(drawn, kind):
    import torch

    size, outputs, rng = drawn
    x = rng.standard_normal((2, 3, *size))
    layer = (L.AdaptiveAvgPool if kind == "avg" else L.AdaptiveMaxPool)(outputs)
    theirs = outputs if len(outputs) > 1 else [outputs[0] or size[0]]  # in one dimension torch wants a number
    function = getattr(torch.nn.functional, f"adaptive_{kind}_pool{len(size)}d")
    check_torch(layer, lambda t: function(t, theirs), x)


def test_adaptive_pools_that_divide_are_plain_pools():
    x = RNG(4).standard_normal((2, 3, 6, 4))
    assert np.array_equal(L.AdaptiveAvgPool((3, 2)).forward(x), L.AvgPool(2).forward(x))
    assert np.array_equal(L.AdaptiveMaxPool((3, 2)).forward(x), L.MaxPool(2).forward(x))
    assert np.array_equal(L.AdaptiveAvgPool(1).forward(x), L.GlobalAvgPool().forward(x))
    assert np.array_equal(L.AdaptiveAvgPool(None).forward(x), x)


def test_an_adaptive_max_pool_as_average_has_the_maximum_for_its_tangent(exact):
    x = exact([[[1, 3, 2]]])
    pool = L.AdaptiveMaxPool(2, frozen_as="average")
    assert entries(pool.forward(x)) == entries(pool.tangent(x).forward(x)) == [3, 3]
    assert entries(pool.frozen(x).forward(x)) == [2, F(5, 2)]
    (node,) = lrp.canonize(lrp.chain(L.AdaptiveMaxPool(2)), average_pools=True).nodes
    assert node.layer.frozen_as == "average"


# --- resizing

INTERPOLATE = {1: "linear", 2: "bilinear", 3: "trilinear"}


@pytest.mark.torch
@given(pooled(), st.booleans())
def test_torch_interpolate_to_a_size(drawn, align_corners):
    import torch

    size, outputs, rng = drawn
    x, sizes = rng.standard_normal((2, 2, *size)), [m or n for n, m in zip(size, outputs, strict=True)]
    layer = L.Resize(size=sizes, coordinates="align_corners" if align_corners else "half_pixel")
    options = {"mode": INTERPOLATE[len(size)], "align_corners": align_corners}
    check_torch(layer, lambda t: torch.nn.functional.interpolate(t, sizes, **options), x)


@pytest.mark.torch
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("scale", [(2.0, 2.0), (1.7, 0.6), (0.3, 3.0), (0.7, 1.25)], ids=str)
def test_torch_interpolate_by_a_factor(scale, align_corners):
    import torch

    x = RNG(5).standard_normal((2, 2, 10, 7))
    layer = L.Resize(scale=scale, coordinates="align_corners" if align_corners else "half_pixel")
    options = {"scale_factor": scale, "mode": "bilinear", "align_corners": align_corners}
    check_torch(layer, lambda t: torch.nn.functional.interpolate(t, **options), x)


@pytest.mark.torch
@pytest.mark.parametrize("size", [(4, 4), (8, 16), (2, 6), (3, 7), (1, 1)], ids=str)
def test_torch_nearest(size):
    import torch

    x = RNG(6).standard_normal((2, 3, 4, 4))
    function = torch.nn.functional.interpolate
    layer = L.Resize(size=size, mode="nearest", coordinates="asymmetric")
    check_torch(layer, lambda t: function(t, size, mode="nearest"), x)
    layer = L.Resize(size=size, mode="nearest", rounding="round_prefer_ceil")
    check_torch(layer, lambda t: function(t, size, mode="nearest-exact"), x)


GRID4 = np.arange(1.0, 17).reshape(1, 1, 4, 4)
ONNX = [  # examples of the operator's specification
    (L.Resize(scale=0.6), np.arange(1.0, 9).reshape(1, 1, 2, 4), [[F(8, 3), F(13, 3)]]),
    (
        L.Resize(scale=2),
        np.array([[[[1.0, 2], [3, 4]]]]),
        [[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]],
    ),
    (
        L.Resize(scale=2, coordinates="align_corners"),
        np.array([[[[1.0, 2], [3, 4]]]]),
        [[F(n, 3) for n in row] for row in ((3, 4, 5, 6), (5, 6, 7, 8), (7, 8, 9, 10), (9, 10, 11, 12))],
    ),
    (L.Resize(size=(3, 1), coordinates="pytorch_half_pixel"), GRID4, [[F(5, 3)], [7], [F(37, 3)]]),
]
NEAREST = [
    ("ceil", "half_pixel", [1, 2, 2, 3, 3, 4, 4, 4]),
    ("floor", "align_corners", [1, 1, 1, 2, 2, 3, 3, 4]),
    ("round_prefer_ceil", "asymmetric", [1, 2, 2, 3, 3, 4, 4, 4]),
    ("round_prefer_floor", "half_pixel", [1, 1, 2, 2, 3, 3, 4, 4]),
]


@pytest.mark.parametrize(("layer", "x", "expected"), ONNX, ids=[repr(layer) for layer, *_ in ONNX])
def test_onnx_examples_of_linear_resizing(layer, x, expected, exact):
    if isinstance(layer.scale, float):
        layer = L.Resize(scale=F(3, 5))
    assert fractions(layer.forward(exact(x)))[0, 0].tolist() == expected
    np.testing.assert_allclose(layer.forward(x)[0, 0], np.array(expected, float), rtol=1e-15)


@pytest.mark.parametrize(("rounding", "coordinates", "row"), NEAREST)
def test_onnx_examples_of_nearest_resizing(rounding, coordinates, row):
    layer = L.Resize(size=8, mode="nearest", coordinates=coordinates, rounding=rounding)
    assert layer.forward(GRID4)[0, 0].tolist() == [[4.0 * (r - 1) + c for c in row] for r in row]


@given(pooled(), st.sampled_from(["linear", "nearest"]), st.sampled_from(L.shape.COORDINATES))
def test_the_weights_of_a_resize_sum_to_1(drawn, mode, coordinates):
    """So a constant stays what it is, and Norm hands on what came, once nothing is 0."""
    size, outputs, rng = drawn
    layer = L.Resize(size=[m or 1 for m in outputs], mode=mode, coordinates=coordinates, rounding="round_prefer_floor")
    ones = fractions(np.ones((1, 1, *size)))
    assert set(entries(layer.forward(ones))) == {1}
    np.testing.assert_allclose(layer.forward(np.ones((1, 1, *size))), 1, rtol=1e-15)
    x = fractions(rng.integers(1, 9, (1, 2, *size)))
    R = fractions(relevance(layer.forward(x).shape, rng))
    (R_in,), _ = lrp.Norm().back(layer, (x,), R)
    assert sum(entries(R_in)) == sum(entries(R))


def test_nearest_by_a_whole_factor_is_upsampling():
    x = RNG(7).standard_normal((2, 3, 3, 4))
    resize = L.Resize(scale=(2, 3), mode="nearest", coordinates="asymmetric")
    assert np.array_equal(resize.forward(x), L.Upsample((2, 3)).forward(x))


# --- blocks of channels

CHANNELS = np.array([[[[0.0, 1, 2], [3, 4, 5]]]]) + 9 * np.arange(8.0)[None, :, None, None]


def test_onnx_examples_of_depth_to_space():
    dcr, crd = L.DepthToSpace(2).forward(CHANNELS), L.DepthToSpace(2, mode="CRD").forward(CHANNELS)
    assert dcr[0, 0, :2].tolist() == [[0, 18, 1, 19, 2, 20], [36, 54, 37, 55, 38, 56]]
    assert dcr[0, 1, 0].tolist() == [9, 27, 10, 28, 11, 29]
    assert crd[0, 0, :2].tolist() == [[0, 9, 1, 10, 2, 11], [18, 27, 19, 28, 20, 29]]
    assert crd[0, 1, 0].tolist() == [36, 45, 37, 46, 38, 47]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("shape", [(2, 12, 3), (2, 12, 2, 3), (1, 8, 1, 2, 1)], ids=str)
def test_space_to_depth_is_the_inverse(shape, mode):
    x = RNG(8).standard_normal(shape)
    spread = L.DepthToSpace(2, mode=mode).forward(x)
    assert np.array_equal(L.SpaceToDepth(2, mode=mode).forward(spread), x)


def test_blocks_along_one_axis_and_blocks_of_one():
    x = RNG(27).standard_normal((2, 3, 4))
    L.SpaceToDepth(2).check(x.shape)
    np.testing.assert_array_equal(L.SpaceToDepth(2).forward(x), np.concatenate([x[:, :, ::2], x[:, :, 1::2]], axis=1))
    for kind in (L.SpaceToDepth, L.DepthToSpace):
        kind(1).check(x.shape)
        np.testing.assert_array_equal(kind(1).forward(x), x)


@pytest.mark.torch
def test_torch_pixel_shuffle():
    import torch

    x = RNG(9).standard_normal((2, 18, 2, 3))
    check_torch(L.DepthToSpace(3, mode="CRD"), lambda t: torch.nn.functional.pixel_shuffle(t, 3), x)
    x = RNG(9).standard_normal((2, 2, 4, 6))
    check_torch(L.SpaceToDepth(2, mode="CRD"), lambda t: torch.nn.functional.pixel_unshuffle(t, 2), x)


# --- products

SHAPES = [((2, 3), (2, 3)), ((3, 2, 2), (3, 1, 1)), ((2, 1), (1, 3)), ((1,), (4,)), ((2, 1, 3), (2, 2, 1))]
each_shape = pytest.mark.parametrize("shapes", SHAPES, ids=str)
PORTIONS = [(1, 0), (0, 1), (0.5, 0.5), (0.25, 0.75), (0.1, 0.9), (F(1, 3), F(2, 3))]


def factors(shapes, rng, batch=2):
    return tuple(dyadic(rng, batch, *shape) for shape in shapes)


@each_shape
def test_a_product_is_its_definition_and_linear_in_each_factor(shapes, exact):
    rng = RNG(10)
    inputs = tuple(map(exact, factors(shapes, rng)))
    layer = L.Mul()
    layer.check(*(a.shape for a in inputs))
    z = layer.forward(*inputs)
    for i in range(2):
        assert entries(z[i]) == by.multiply(shapes, [entries(a[i]) for a in inputs])
    s = exact(relevance(z.shape, rng))
    for wrt, a in enumerate(inputs):
        frozen = layer.frozen(*inputs, wrt=wrt)
        assert entries(frozen.forward(a)) == entries(z)
        check_adjoint(frozen, a, s)
        check_adjoint(frozen, a, s, exact(relevance(frozen.weight.shape, rng)))


@each_shape
@pytest.mark.parametrize("portions", PORTIONS, ids=str)
def test_product_is_its_definition_and_absorbs_nothing(shapes, portions, exact):
    rng = RNG(11)
    inputs = tuple(map(exact, factors(shapes, rng)))
    R = exact(relevance(L.Mul().forward(*inputs).shape, rng))
    R_in, absorbed = lrp.Product(portions=portions).back(L.Mul(), inputs, R)
    for i in range(2):
        assert [entries(r[i]) for r in R_in] == by.product_rule(shapes, entries(R[i]), portions[0])
    assert [r.shape for r in R_in] == [a.shape for a in inputs]
    assert sum(v for r in R_in for v in entries(r)) == sum(entries(R))
    for part in (absorbed.bias, absorbed.stabilizer, absorbed.unclaimed):
        assert part.shape == R.shape
        assert set(entries(part)) == {0}
    assert not (absorbed.poles | absorbed.empty).any()
    assert {type(v) for r in R_in for v in r.flat} == {type(R.flat[0])}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble], ids=lambda dtype: dtype.__name__)
def test_product_keeps_the_dtype(dtype):
    u, v = (a.astype(dtype) for a in factors(SHAPES[1], RNG(12)))
    R = RNG(13).standard_normal((2, 3, 2, 2)).astype(dtype)
    R_in, absorbed = lrp.Product(portions=(0.3, 0.7)).back(L.Mul(), (u, v), R)
    assert {r.dtype for r in (*R_in, absorbed.unclaimed)} == {np.dtype(dtype)}
    np.testing.assert_allclose(R_in[0], dtype(0.3) * R)
    np.testing.assert_allclose(R_in[1], (dtype(0.7) * R).sum(axis=(2, 3), keepdims=True), atol=1e-6)
    empty, _ = lrp.Product().back(L.Mul(), (u[:0], v[:0]), R[:0])
    assert [r.shape for r in empty] == [(0, 3, 2, 2), (0, 3, 1, 1)]


@value
class Along(L.Linear):
    """The outer product z_jk = u_j v_k as a map of one of its factors, by the other: the weight."""

    axis: int
    weight: Any
    bias: Any = None

    def linear(self, x, w):
        return np.expand_dims(x, self.axis) * np.expand_dims(w, 3 - self.axis)

    def adjoint(self, s, w, shape):
        return total(s * np.expand_dims(w, 3 - self.axis), (self.axis,))


class Outer(L.Mul):
    """A product of one's own, (batch, j) and (batch, k) to (batch, j, k): no factor broadcasts to the other."""

    def forward(self, u, v):
        return u[:, :, None] * v[:, None, :]

    def frozen(self, *inputs, wrt=0):
        return Along(2 - wrt, inputs[1 - wrt])


def test_each_factor_gets_its_portion_along_its_own_map(exact):
    u, v, R = exact([[1, 2]]), exact([[3, 4, 5]]), exact([[[1, 2, 4], [8, 16, 32]]])
    for a, wrt in ((u, 0), (v, 1)):
        check_adjoint(Outer().frozen(u, v, wrt=wrt), a, R)
    (R_u, R_v), _ = lrp.Product(portions=(F(1, 4), F(3, 4))).back(Outer(), (u, v), R)
    assert entries(R_u) == [F(7, 4), F(56, 4)]
    assert entries(R_v) == [F(27, 4), F(54, 4), F(108, 4)]


def test_the_first_factor_is_meant_where_none_is_named(exact):
    u, v = exact([[1, 2]]), exact([[3, 4]])
    for made in (L.Mul().frozen, L.Mul().tangent):
        assert entries(made(u, v).weight) == [3, 4]
        assert entries(made(u, v, wrt=1).weight) == [1, 2]


def test_a_product_of_three_is_not_dealt_to_two():
    a = np.ones((1, 2))
    with pytest.raises(ValueError, match="shorter"):
        lrp.Product().back(L.Mul(), (a, a, a), a)


def test_product_prints_compares_and_hashes():
    assert repr(lrp.Product()) == "Product(portions=(1, 0))"
    assert repr(lrp.Product(portions=np.array([0.5, 0.5]), bias="none")) == "Product(portions=(0.5, 0.5), bias='none')"
    rules = [lrp.Product(portions=list(portions)) for portions in PORTIONS[:5]]
    assert len({lrp.Product(), lrp.Pass(), *rules}) == 6
    assert [parse(repr(rule)) for rule in rules] == rules


@pytest.mark.parametrize(
    "portions",
    [(1, 1), (0.5, 0.4), (-1, 2), (1,), (1, 0, 0), 1, "10", (math.nan, 1), (True, False), None, ((1, 0),)],
    ids=repr,
)
def test_portions_are_two_numbers_that_sum_to_1(portions):
    with pytest.raises(ValueError, match=r"^Product: portions=.*, need two numbers >= 0 whose sum is 1"):
        lrp.Product(portions=portions)


def test_portions_are_given_by_keyword():
    with pytest.raises(TypeError, match="positional"):
        lrp.Product((1, 0))


RULES = [lrp.Zero(), lrp.Epsilon(epsilon=1e-6), lrp.Gamma(), lrp.AlphaBeta(), lrp.Flat(), lrp.Norm(), lrp.Pass()]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("strict", [False, True])
def test_other_rules_than_product_are_refused_on_a_product(rule, strict):
    net = lrp.Graph([lrp.Node("gated", L.Mul(), "u", "v")], outputs="gated", inputs=("u", "v"))
    x = dict(zip("uv", factors(SHAPES[0], RNG(14)), strict=True))
    composite = lrp.Composite([(lrp.kind(L.Mul), rule)])
    reason = rf'^node "gated" \(Mul\): {re.escape(repr(rule))} on Mul\(\): .* take Product\(portions=\(1, 0\)\)'
    if strict and isinstance(rule, lrp.Pass):
        reason = r"Pass\(\) on Mul\(\)"
    with pytest.raises(lrp.UnsuitableRule, match=reason):
        lrp.explain(net, x, composite, target=np.ones((2, 2, 3)), strict=strict)
    e = lrp.explain(net, x, lrp.Product(), target=np.ones((2, 2, 3)), strict=strict)
    assert (e.relevance["u"] == 1).all()
    assert not e.relevance["v"].any()


def test_a_product_without_a_rule_is_named_with_a_case_to_add():
    net = lrp.Graph([lrp.Node("gated", L.Mul(), "input", "input")], outputs="gated")
    with pytest.raises(
        lrp.NoRule, match=r'"gated" \(Mul\): add a case such as \(kind\(Mul\), Product\(portions=\(1, 0'
    ):
        lrp.Composite([]).assign(net)


@pytest.mark.parametrize("layer", [L.Dense([[1.0]]), L.Add(), L.ReLU(), L.AvgPool(2)], ids=repr)
def test_product_is_refused_on_what_is_no_product(layer):
    inputs = (np.ones((1, 1)),) * layer.arity[0]
    with pytest.raises(lrp.UnsuitableRule, match=rf"^Product.* on {re.escape(repr(layer))}: it is no product"):
        lrp.Product().back(layer, inputs, inputs[0])


def test_a_factor_given_makes_a_product_a_layer_for_every_rule(exact):
    """What the signal takes is the same whether the gate is a factor, a scale, or the frozen map under LRP-0."""
    u, v = (exact(a) for a in factors(SHAPES[0], RNG(15), batch=1))
    u, v = u + 5, v - 7
    R = exact(relevance((1, 2, 3), RNG(16)))
    (all_of_it, _), _ = lrp.Product().back(L.Mul(), (u, v), R)
    frozen = L.Mul().frozen(u, v)
    for layer in (frozen, L.Scale(weight=v[0])):
        for rule in (lrp.Zero(), lrp.Pass(), lrp.Flat(), lrp.Gamma(gamma=3), lrp.WSquare()):
            (R_in,), _ = rule.back(layer, (u,), R)
            assert entries(R_in) == entries(all_of_it)


# --- gradients of products


def gated(*shapes):
    """(W x) * sigmoid(V x), reshaped so that the second broadcasts, and the square of one node."""
    rng = RNG(17)
    nodes = []
    for name, shape in zip("uv", shapes, strict=True):
        weight = rng.standard_normal((4, math.prod(shape)))
        nodes += [lrp.Node(f"{name}.dense", L.Dense(weight), "input")]
        nodes += [lrp.Node(name, L.Reshape(shape), f"{name}.dense")]
    nodes += [lrp.Node("gate", L.Sigmoid(), "v"), lrp.Node("product", L.Mul(), "u", "gate")]
    nodes += [lrp.Node("square", L.Mul(), "product", "product"), lrp.Node("flat", L.Flatten(), "square")]
    return lrp.Graph(nodes, outputs="flat")


@each_shape
def test_gradients_through_products_by_central_differences(shapes):
    net, x, h = gated(*shapes), RNG(18).standard_normal((1, 4)), 1e-6
    s = RNG(19).standard_normal(net.forward(x)["flat"].shape)
    differences = [
        ((net.forward(x + h * e)["flat"] - net.forward(x - h * e)["flat"]) * s).sum() / (2 * h)
        for e in np.eye(4)[:, None]
    ]
    np.testing.assert_allclose(gradient(net, x, s)[0], differences, rtol=1e-6, atol=1e-8)


@each_shape
def test_gradient_x_input_of_a_product_counts_it_twice(shapes, exact):
    """Euler: u v is of degree 2, where the portions of Product sum to 1."""
    layers = [L.Dense(dyadic(RNG(20 + i), 4, math.prod(shape))) for i, shape in enumerate(shapes)]
    nodes = []
    for name, layer, shape in zip("uv", layers, shapes, strict=True):
        nodes += [lrp.Node(f"{name}.dense", layer, "input"), lrp.Node(name, L.Reshape(shape), f"{name}.dense")]
    net = lrp.Graph([*nodes, lrp.Node("product", L.Mul(), "u", "v")], outputs="product")
    x = exact(dyadic(RNG(22), 2, 4))
    z = net.forward(x)["product"]
    s = exact(relevance(z.shape, RNG(23)))
    assert sum(entries(gradient_x_input(net, x, s))) == 2 * fractions(inner(z, s))
    rule = lrp.Composite([(lrp.kind(L.Mul), lrp.Product(portions=(0.5, 0.5))), (lrp.kind(L.Dense), lrp.Zero())])
    assert entries(2 * lrp.explain(net, x, rule, target=z * s).relevance) == entries(gradient_x_input(net, x, s))


# --- a squeeze-and-excitation block

CHANNEL = dyadic(RNG(24), 3, 1, 3, 3), dyadic(RNG(25), 3)


def squeeze_and_excite(gate=None):
    """A convolution whose channels are gated by what a small network makes of their means, and a classifier."""
    rng = RNG(26)
    gating = [
        lrp.Node("squeeze", L.GlobalAvgPool(), "relu"),
        lrp.Node("reduce", L.Conv(dyadic(rng, 2, 3, 1, 1), dyadic(rng, 2)), "squeeze"),
        lrp.Node("act", L.HardSwish(), "reduce"),
        lrp.Node("expand", L.Conv(dyadic(rng, 3, 2, 1, 1), dyadic(rng, 3)), "act"),
        lrp.Node("gate", L.HardSigmoid(slope=0.25), "expand"),
        lrp.Node("gated", L.Mul(), "relu", "gate"),
    ]
    classifier = dyadic(rng, 27, 2)
    return lrp.Graph(
        [
            lrp.Node("conv", L.Conv(*CHANNEL, padding=1), "input"),
            lrp.Node("relu", L.ReLU(), "conv"),
            *(gating if gate is None else [lrp.Node("gated", L.Scale(gate), "relu")]),
            lrp.Node("up", L.Resize(size=6), "gated"),
            lrp.Node("near", L.Resize(scale=F(1, 2), mode="nearest"), "up"),
            lrp.Node("pool", L.AdaptiveAvgPool((3, None)), "near"),
            lrp.Node("flat", L.Flatten(), "pool"),
            lrp.Node("dense", L.Dense(classifier), "flat"),
        ],
        outputs="dense",
    )


PRESETS = [
    lrp.presets.epsilon_plus(),
    lrp.presets.epsilon_plus_flat(),
    lrp.presets.epsilon_alpha2_beta1(),
    lrp.presets.epsilon_alpha2_beta1_flat(),
    lrp.presets.epsilon_gamma_box(low=-2, high=2),
    lrp.presets.excitation_backprop(),
]


@pytest.mark.parametrize("preset", PRESETS, ids=[str(i) for i in range(6)])
def test_presets_let_the_signal_of_a_gated_network_take_all(preset, exact):
    net, x = squeeze_and_excite(), exact(dyadic(RNG(27), 1, 1, 3, 3))
    e = lrp.explain(net, x, preset, target=1)
    chosen = {name: e.rules[name] for name in ("gated", "up", "near", "pool", "gate", "act")}
    norm = lrp.Norm(epsilon=1e-6)
    assert chosen == {
        "gated": lrp.Product(portions=(1, 0)), "up": norm, "near": lrp.Pass(), "pool": norm,
        "gate": lrp.Pass(), "act": lrp.Pass(),
    }  # fmt: skip
    check_books(e)
    gate = e.activations["gate"]
    assert len(set(entries(gate))) > 1
    assert not any(entries(e.at("gate")))
    assert not any(entries(e.ledger["gated"].absorbed))
    as_scale = lrp.Composite([(lrp.kind(L.Scale), lrp.Pass()), *preset.cases])
    constant = lrp.explain(squeeze_and_excite(gate[0, :, 0, 0]), x, as_scale, target=1)
    assert entries(constant.relevance) == entries(e.relevance)


def test_a_gate_may_take_its_part(exact):
    net, x = squeeze_and_excite(), exact(dyadic(RNG(27), 1, 1, 3, 3))
    half = lrp.Composite([(lrp.kind(L.Mul), lrp.Product(portions=(0.5, 0.5))), (~lrp.kind(L.Mul), lrp.Zero())])
    e = lrp.explain(net, x, half, target=0)
    check_books(e)
    dealt = e.ledger["gated"]
    assert entries(dealt.sent["gate"]) == entries(dealt.sent["relu"]) == [sum(entries(e.at("gated"))) / 2]
    assert any(entries(e.at("squeeze")))


def test_wires_of_the_presets_are_those_of_the_layers():
    """A resize is a case of Norm only where it blends."""
    net = lrp.chain(L.Resize(size=2), L.Resize(size=4, mode="nearest"), L.AdaptiveMaxPool(2), L.DepthToSpace(2))
    for preset in PRESETS:
        assert list(preset.assign(net).values()) == [lrp.Norm(epsilon=1e-6), *[lrp.Pass()] * 3]


@pytest.mark.gpu
@pytest.mark.parametrize("case", [*POOL, *RESIZE, *WIRES], ids=lambda case: case.id)
def test_the_device_gives_what_the_host_gives(case):
    import cupy

    (x,) = sample(case, RNG(29), 2)
    z, on_device = case.layer.forward(x), cupy.asarray(x)
    np.testing.assert_allclose(case.layer.forward(on_device).get(), z, rtol=0, atol=1e-14)
    back = pulled_back(case.layer, on_device, cupy.asarray(z))
    np.testing.assert_allclose(back.get(), pulled_back(case.layer, x, z), rtol=0, atol=1e-13)


# --- what is refused

REFUSED = [
    (lambda: L.CELU(alpha=0), "CELU: alpha=0, need > 0"),
    (lambda: L.CELU(alpha=math.nan), "CELU: alpha=nan, need > 0"),
    (lambda: L.Softmax(axis=0), "Softmax: axis 0 is the batch"),
    (lambda: L.Softmax(axis=-3).check((1, 2, 3)), "Softmax: axis 0 is the batch"),
    (lambda: L.Softmax(axis=2).check((1, 2)), "Softmax: axes (2,) do not fit an input of 2 axes"),
    (lambda: L.Softmax().check((1, 0)), "Softmax: an input of shape (1, 0) is empty along axis -1"),
    (lambda: L.Mul().check((2, 3), (1, 3)), "inputs have shapes [(2, 3), (1, 3)]: need equal batch sizes"),
    (lambda: L.Mul().check((2, 3), (2, 4)), "inputs of shapes [(2, 3), (2, 4)] do not broadcast"),
    (lambda: L.AdaptiveAvgPool(0).check((1, 1, 2)), "AdaptiveAvgPool: size=[0]"),
    (lambda: L.AdaptiveAvgPool((2, 2)).check((1, 1, 2)), "AdaptiveAvgPool: size=[2, 2]"),
    (lambda: L.AdaptiveAvgPool((2,)).check((1, 1, 2, 2)), "AdaptiveAvgPool: size=[2]"),
    (lambda: L.AdaptiveAvgPool(1.5).check((1, 1, 2)), "AdaptiveAvgPool: size=[1.5]"),
    (lambda: L.AdaptiveAvgPool(1).check((1, 2)), "AdaptiveAvgPool: input has shape (1, 2)"),
    (lambda: L.AdaptiveMaxPool(1).check((1, 2, 0)), "AdaptiveMaxPool: an input of shape (1, 2, 0) has an empty"),
    (lambda: L.AdaptiveMaxPool(1, ties="last"), "AdaptiveMaxPool: ties='last'"),
    (lambda: L.AdaptiveMaxPool(1, frozen_as="max"), "AdaptiveMaxPool: frozen_as='max'"),
    (lambda: L.DepthToSpace(0), "DepthToSpace: block=0"),
    (lambda: L.DepthToSpace((2,)), "DepthToSpace: block=(2,): need an int"),
    (lambda: L.Reshape((-2, -2)).check((1, 4)), "Reshape: a sample of shape (4,) cannot take the shape (-2, -2)"),
    (lambda: L.DepthToSpace(2, mode="RDC"), "DepthToSpace: mode='RDC', need \"DCR\" or \"CRD\""),
    (lambda: L.DepthToSpace(2).check((1, 6, 2, 2)), "DepthToSpace: the channels of an input of shape (1, 6, 2, 2)"),
    (lambda: L.DepthToSpace(2).check((1, 4)), "DepthToSpace: the channels of an input of shape (1, 4)"),
    (lambda: L.DepthToSpace((2, 2)), "DepthToSpace: block=(2, 2): need an int"),
    (lambda: L.SpaceToDepth(2).check((1, 4)), "SpaceToDepth: an input of shape (1, 4) does not divide"),
    (lambda: L.SpaceToDepth(2).check((1, 1, 3, 4)), "SpaceToDepth: an input of shape (1, 1, 3, 4) does not divide"),
    (lambda: L.SpaceToDepth(1.5), "SpaceToDepth: block=1.5"),
    (lambda: L.SpaceToDepth(2, mode=None), "SpaceToDepth: mode=None"),
    (lambda: L.SpaceToDepth(2).check((1, 1, 4, 3)), "SpaceToDepth: an input of shape (1, 1, 4, 3) does not divide"),
    (lambda: L.Resize(), "Resize: size=None and scale=None: need one of the two"),
    (lambda: L.Resize(size=2, scale=2), "Resize: size=2 and scale=2: need one of the two"),
    (lambda: L.Resize(size=2, mode="cubic"), "Resize: mode='cubic', need one of linear, nearest"),
    (lambda: L.Resize(size=2, coordinates="tf_crop_and_resize"), "Resize: coordinates='tf_crop_and_resize', need one"),
    (lambda: L.Resize(size=2, rounding="down"), "Resize: rounding='down', need one of floor, ceil, round_prefer_fl"),
    (lambda: L.Resize(size=0).check((1, 1, 2)), "Resize: size=0"),
    (lambda: L.Resize(size=(1, 2)).check((1, 1, 2)), "Resize: size=(1, 2)"),
    (lambda: L.Resize(size=2).check((1, 2)), "Resize: input has shape (1, 2)"),
    (lambda: L.Resize(size=2).check((1, 2, 0)), "Resize: input has shape (1, 2, 0)"),
    (lambda: L.Resize(scale=0.0).check((1, 1, 2)), "Resize: scale=0.0"),
    (lambda: L.Resize(scale=math.inf).check((1, 1, 2)), "Resize: scale=inf"),
    (lambda: L.Resize(scale="2").check((1, 1, 2)), "Resize: scale='2'"),
    (lambda: L.Resize(scale=(1, 2)).check((1, 1, 2)), "Resize: scale=(1, 2)"),
    (lambda: L.Resize(scale=0.4).check((1, 1, 2)), "Resize: scale=0.4 leaves nothing of an input of shape (1, 1, 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_layers_refuse_by_name_and_parameter(make, message):
    with pytest.raises(ShapeError, match="^" + re.escape(message)):
        make()


def test_a_product_has_two_inputs():
    with pytest.raises(lrp.GraphError, match='node "p" \\(Mul\\) has 1 inputs, needs 2'):
        lrp.Graph([lrp.Node("p", L.Mul(), "input")], outputs="p")


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (L.HardSigmoid(), "HardSigmoid()"),
        (L.HardSigmoid(slope=0.2), "HardSigmoid(slope=0.2)"),
        (L.Softmax(axis=1), "Softmax(axis=1)"),
        (L.Mul(), "Mul()"),
        (L.AdaptiveAvgPool((7, None)), "AdaptiveAvgPool(size=(7, None))"),
        (L.AdaptiveMaxPool(2, ties="shared"), "AdaptiveMaxPool(size=2, ties='shared')"),
        (L.DepthToSpace(2), "DepthToSpace(block=2)"),
        (L.Resize(scale=(2, 2)), "Resize(scale=(2, 2))"),
        (L.Resize(size=4, mode="nearest", rounding="ceil"), "Resize(size=4, mode='nearest', rounding='ceil')"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_repr_shows_the_options_that_are_not_default(layer, text):
    assert repr(layer) == text


def test_equal_windows_of_a_constant_image_give_bit_equal_outputs():
    """Or rounding would decide who wins a max pool behind them."""
    x = np.zeros((2, 5, 7, 11), np.float32) + RNG(28).standard_normal((5, 1, 1)).astype(np.float32)
    for size, scale in itertools.product((3, 4, (7, 5)), (2, 1.5)):
        z = L.AdaptiveAvgPool(size).forward(x)
        bins = [
            {(a, b): i for i, (a, b) in enumerate(spans)}
            for spans in L.pool._bins(size, x.shape, "AdaptiveAvgPool").bounds
        ]
        sides = [[b - a for a, b in spans] for spans in bins]
        equal = {}
        for (i, tall), (j, wide) in itertools.product(enumerate(sides[0]), enumerate(sides[1])):
            equal.setdefault((tall, wide), []).append(z[:, :, i, j])
        assert all((cell == cells[0]).all() for cells in equal.values() for cell in cells)
        assert (L.Resize(scale=scale, mode="nearest").forward(x) == x[:, :, :1, :1]).all()
