"""Every layer against its definition, its transpose, the float types, torch, and what it must refuse."""

import dataclasses
import math
import re
from fractions import Fraction as F

import by_definition as by
import numpy as np
import pytest
from checks import check_adjoint, inner
from grid import CONV, CONV_TRANSPOSE, DENSE, GRID, POOL, relevance, sample
from hypothesis import assume, given
from hypothesis import strategies as st

from lrp_ref import NotExact, ShapeError, fractions
from lrp_ref import layers as L
from lrp_ref.arrays import like
from lrp_ref.layers.base import sum_to

every = pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
FLOATS = [np.float32, np.float64, np.longdouble]
ALL = [getattr(L, name) for name in L.__all__]


def entries(a):
    return fractions(a).reshape(-1).tolist()


def at(inputs, i):
    return tuple(a[i] for a in inputs)


def listed(inputs):
    """The inputs of one sample as the referee's one vector."""
    return [entry for a in inputs for entry in entries(a)]


# --- the grid


def test_the_grid_covers_every_layer():
    """Every public layer that freezes to a linear map in rationals; Given stands for another layer."""
    abstract = {L.Activation, L.Diagonal, L.Layer, L.Linear, L.Wires, L.Near}
    irrational = {kind for kind in ALL if issubclass(kind, L.Activation) and not kind.rational}
    elsewhere = {L.Given, L.PReLU, L.Clip, L.HardSigmoid, L.HardSwish, L.Mul, L.Softmax, L.SoftMinPool}
    missing = set(ALL) - abstract - irrational - elsewhere - {type(case.layer) for case in GRID}
    assert not missing, f"no case of the grid has a layer of {missing}"


def test_the_grid_has_corners():
    """Cases with outputs that nothing feeds, inputs that feed nothing, and outputs of one sign or of 0."""
    unfed, unread, signs = 0, 0, set()
    for case in GRID:
        operator = case.operator(at(sample(case, np.random.default_rng(0), 1), 0))
        assert max(math.prod(operator.inputs), len(operator.b)) <= 64, case.id
        assert math.prod(operator.inputs) == sum(map(math.prod, case.shapes))
        unfed += any(not inputs for inputs in by.connected(operator))
        unread += len({j for j, _ in operator.w}) < math.prod(operator.inputs)
        if case in DENSE + CONV + CONV_TRANSPOSE:
            columns = [[operator.w[j, k] for j in inputs] for k, inputs in enumerate(by.connected(operator)) if inputs]
            signs |= {tuple({(w > 0) - (w < 0) for w in column}) for column in columns}
    assert unfed >= 8
    assert unread >= 10
    assert {(1,), (-1,), (0,)} <= signs


@every
@pytest.mark.parametrize("batch", [1, 3])
def test_values_and_frozen_map_are_the_definitions(case, batch, exact):
    rng = np.random.default_rng(batch)
    for kind in ("signed", "zeros", "ties", "positive"):
        inputs = tuple(exact(a) for a in sample(case, rng, batch, kind))
        layer = case.layer.like(inputs[0])
        layer.check(*(a.shape for a in inputs))
        values, frozen = layer.forward(*inputs), layer.frozen(*inputs).forward(layer.join(*inputs))
        for i in range(batch):
            one = at(inputs, i)
            operator = case.operator(one)
            assert frozen.shape[1:] == operator.outputs
            assert entries(frozen[i : i + 1]) == by.forward(operator, listed(one))
            if case.values is not None:
                operator = case.values(one)
            assert values.shape[1:] == operator.outputs
            assert entries(values[i : i + 1]) == by.forward(operator, listed(one))


@every
def test_frozen_weights_are_the_definitions(case, exact):
    """Each connection's weight, read off by unit vectors: also where an input of 0 hides it."""
    inputs = tuple(exact(a) for a in sample(case, np.random.default_rng(3), 1, "zeros"))
    layer = case.layer.like(inputs[0])
    frozen, a = layer.frozen(*inputs), layer.join(*inputs)
    operator = case.operator(at(inputs, 0))
    weight, bias = frozen.parameters(a)
    z = frozen.linear(a - a, weight) + bias
    assert entries(z) == operator.b
    for k in range(len(operator.b)):
        unit = exact(np.eye(1, z.size, k).reshape(z.shape))
        parts = layer.split(frozen.adjoint(unit, weight, a.shape), [x.shape for x in inputs])
        assert listed(parts) == [operator.w.get((j, k), 0) for j in range(math.prod(operator.inputs))]


@every
def test_adjoint_is_the_transpose(case, exact):
    rng = np.random.default_rng(4)
    for kind in ("signed", "ties"):
        inputs = tuple(exact(a) for a in sample(case, rng, 2, kind))
        layer = case.layer.like(inputs[0])
        frozen, a = layer.frozen(*inputs), layer.join(*inputs)
        weight = frozen.parameters(a)[0]
        s = exact(relevance(frozen.linear(a, weight).shape, rng))
        check_adjoint(frozen, a, s)
        check_adjoint(frozen, a, s, exact(relevance(weight.shape, rng)))
        assert frozen.adjoint(s, weight, a.shape).shape == a.shape


@every
def test_split_is_the_transpose_of_join(case, exact):
    rng = np.random.default_rng(5)
    inputs = tuple(exact(a) for a in sample(case, rng, 2))
    joined = case.layer.join(*inputs)
    R = exact(relevance(joined.shape, rng))
    parts = case.layer.split(R, [a.shape for a in inputs])
    assert [part.shape for part in parts] == [a.shape for a in inputs]
    sent = sum(inner(a, part) for a, part in zip(inputs, parts, strict=True))
    assert fractions(inner(joined, R)) == fractions(sent)


@every
def test_the_batch_is_one_sample_after_the_other(case):
    inputs = sample(case, np.random.default_rng(6), 3)
    whole = case.layer.forward(*inputs)
    for i in range(3):
        assert np.array_equal(case.layer.forward(*(a[i : i + 1] for a in inputs))[0], whole[i])


@every
def test_empty_batch(case, exact):
    """Shapes, dtypes and, in floats, no warning."""
    full = sample(case, np.random.default_rng(7), 2)
    for inputs in (tuple(a[:0].astype(np.float32) for a in full), tuple(exact(a[:0]) for a in full)):
        dtype = inputs[0].dtype
        layer = case.layer.like(inputs[0])
        layer.check(*(a.shape for a in inputs))
        frozen, a = layer.frozen(*inputs), layer.join(*inputs)
        weight = frozen.parameters(a)[0]
        values, z = layer.forward(*inputs), frozen.forward(a)
        parts = layer.split(frozen.adjoint(frozen.linear(a, weight), weight, a.shape), [x.shape for x in inputs])
        assert values.shape == z.shape == (0, *case.layer.forward(*full).shape[1:])
        assert [part.shape for part in parts] == [x.shape for x in inputs]
        assert {array.dtype for array in (values, z, a, *parts)} == {dtype}


@every
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.__name__)
def test_floats_keep_their_dtype_and_the_values(case, dtype):
    """Dyadic inputs: all sums are exact, so only a pool's 1/n rounds."""
    rng = np.random.default_rng(8)
    inputs = sample(case, rng, 2)
    given, rational = (tuple(map(kind, inputs)) for kind in (lambda a: a.astype(dtype), lambda a: fractions(a)))
    results = []
    for x in (given, rational):
        layer = case.layer.like(x[0])
        frozen, a = layer.frozen(*x), layer.join(*x)
        weight, bias = frozen.parameters(a)
        z = frozen.linear(a, weight)
        parts = layer.split(frozen.adjoint(z, weight, a.shape), [b.shape for b in x])
        assert {v.dtype for v in (weight, bias, a, z, z + bias, *parts)} == {x[0].dtype}
        portions = frozen.portions(a)
        assert portions is None or portions.dtype == a.dtype
        results.append([layer.forward(*x), z, *parts])
    for got, expected in zip(*results, strict=True):
        assert got.dtype == dtype
        assert np.allclose(got, like(expected, got), rtol=0, atol=64 * np.finfo(dtype).eps)


@pytest.mark.parametrize("case", [case for case in GRID if "near" not in case.id], ids=lambda case: case.id)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.__name__)
def test_tangent_keeps_the_dtype_and_is_the_jacobian_of_the_values(case, dtype):
    """At an input without ties or kinks the layer is affine around it, so a small step is followed exactly.

    Not so where the first of nearly equal cells wins: that is no derivative.
    """
    rng = np.random.default_rng(9)
    inputs = tuple(
        (rng.permutation(a.size).reshape(a.shape) - a.size // 2 + 0.25).astype(dtype) for a in sample(case, rng, 2)
    )
    layer = case.layer.like(inputs[0])
    steps = tuple(dtype(1 / 16) * rng.integers(-1, 2, a.shape).astype(dtype) for a in inputs)
    tangent, step = layer.tangent(*inputs), layer.join(*steps)
    moved = layer.forward(*(a + s for a, s in zip(inputs, steps, strict=True)))
    linear = tangent.linear(step, tangent.parameters(step)[0])
    assert linear.dtype == dtype
    assert np.allclose(moved - layer.forward(*inputs), linear, rtol=0, atol=256 * np.finfo(dtype).eps)


@every
def test_like_returns_the_layer_itself_where_nothing_changes(case, exact):
    (a, *_) = sample(case, np.random.default_rng(0), 1)
    assert case.layer.like(a) is case.layer
    rational = case.layer.like(exact(a))
    assert rational.like(exact(a)) is rational
    if list(case.layer._arrays()):
        single = case.layer.like(a.astype(np.float32))
        assert single is not case.layer
        assert {value.dtype for _, value in single._arrays()} == {np.dtype(np.float32)}
        assert all(value.dtype == object for _, value in rational._arrays())


@every
def test_moved_puts_the_arrays_elsewhere_and_keeps_the_rest(case):
    assert case.layer.moved(lambda array: array) is case.layer
    copy = case.layer.moved(np.copy)
    for (name, there), (_, here) in zip(copy._arrays(), case.layer._arrays(), strict=True):
        assert there is not here, name
        np.testing.assert_array_equal(there, here, err_msg=name)
    assert repr(copy) == repr(case.layer)


def test_summing_back_needs_an_axis_for_each_axis():
    R = np.ones((2, 3))
    assert sum_to(R, (2, 1)).tolist() == [[3], [3]]
    with pytest.raises(ValueError, match="shorter"):
        sum_to(R, (2,))


def test_axes_may_be_counted_from_the_end():
    x = np.arange(6).reshape(1, 2, 3)
    assert L.Unsqueeze(-1).forward(x).shape == (1, 2, 3, 1)
    assert L.Unsqueeze(-2).forward(x).shape == (1, 2, 1, 3)
    assert L.Squeeze(-2).forward(x[:, :1]).tolist() == [[0, 1, 2]]
    assert L.Slice(-2, 1).forward(x).tolist() == [[[3, 4, 5]]]
    with pytest.raises(ShapeError, match=r"^Unsqueeze: axes \(4,\) do not fit an input of 4 axes"):
        L.Unsqueeze(4).forward(x)


def test_a_constant_may_be_larger_than_what_it_is_taken_from(exact):
    layer, a = L.Sub(constant=exact([1, 2, 4])), exact([[8], [16]])
    assert entries(layer.forward(a)) == [7, 6, 4, 15, 14, 12]
    (R,) = layer.split(exact([[[1, 2, 4]], [[8, 16, 32]]]), [a.shape])
    assert entries(R) == [7, 56]


@pytest.mark.parametrize("kind", [L.Add, L.Sub])
def test_inputs_are_joined_in_the_shape_of_the_sum(kind):
    """So that what the transpose gives has the shape that the map acts on."""
    layer, a = kind(constant=np.ones((1, 3))), np.ones((2, 1))
    layer.check(a.shape)
    joined, frozen = layer.join(a), layer.frozen(a)
    assert joined.shape == (2, 1, 3)
    assert frozen.adjoint(layer.forward(a), frozen.weight, joined.shape).shape == joined.shape


def test_a_window_with_gaps_that_hangs_over_is_not_the_whole_input():
    """As many taps as cells, but every second cell is read, and the last tap reads none."""
    layer, a = L.MaxPool(3, dilation=2, ceil=True), np.array([[[1.0, 5.0, 2.0]]])
    layer.check(a.shape)
    assert layer.forward(a).tolist() == [[[2]]]


TAPS = {"groups": 2, "bias": [[1], [2]], "tap_bias": [[10, 20], [30, 40]]}


def test_a_tap_adds_its_bias_where_it_reads_a_cell_of_the_input(exact):
    """At the border the tap on the padding adds none; two groups, and a bias beside it."""
    options = {name: value if name == "groups" else exact(value) for name, value in TAPS.items()}
    layer, a = L.Conv(exact([[[1, 1]], [[1, -1]]]), padding=1, **options), exact([[[1, 2], [4, 8]]])
    layer.check(a.shape)
    assert entries(layer.forward(a)) == [1 + 1 + 20, 3 + 1 + 30, 2 + 1 + 10, -4 + 2 + 40, -4 + 2 + 70, 8 + 2 + 30]
    frozen = layer.frozen(a)
    assert frozen.tap_bias is None
    assert entries(frozen.bias) == [21, 31, 11, 42, 72, 32]
    plain = L.Conv(exact([[[1, 1]]]), tap_bias=exact([[10, 20]]))
    assert entries(plain.frozen(a[:, :1]).bias) == [30]


def test_a_transposed_tap_adds_its_bias_wherever_it_spreads_a_cell(exact):
    options = {name: value if name == "groups" else exact(value) for name, value in TAPS.items()}
    layer, a = L.ConvTranspose(exact([[[1, 1]], [[1, -1]]]), **options), exact([[[1, 2], [4, 8]]])
    layer.check(a.shape)
    assert entries(layer.forward(a)) == [1 + 1 + 10, 3 + 1 + 30, 2 + 1 + 20, 4 + 2 + 30, 4 + 2 + 70, -8 + 2 + 40]
    assert layer.frozen(a).tap_bias is None
    assert entries(layer.frozen(a).bias) == [11, 31, 21, 32, 72, 42]


def test_tap_biases_may_be_given_as_lists():
    layer = L.Conv(ONE, tap_bias=[[2.0]])
    assert layer.tap_bias.tolist() == [[2]]
    assert layer.forward(np.ones((1, 1, 2))).tolist() == [[[3, 3]]]


def test_a_bias_may_be_a_map_over_the_positions():
    layer, a = L.Conv(ONE, [[1.0, 2.0, 3.0]]), np.ones((1, 1, 3))
    layer.check(a.shape)
    assert layer.forward(a).tolist() == [[[2, 3, 4]]]
    with pytest.raises(ShapeError, match=r"^a bias map of shape \(1, 3\) does not fit an output of size \(2,\)"):
        layer.check((1, 1, 2))


def test_output_padding_is_kept_as_one_number_an_axis():
    layer = L.ConvTranspose(ONE, output_padding=1)
    assert layer.output_padding == (1,)
    with pytest.raises(ShapeError, match=r"^ConvTranspose: output_padding=\(1,\): need an int, or one"):
        layer.forward(np.ones((1, 1, 2, 2)))


def test_a_constant_has_an_axis():
    assert L.Add(constant=2.0).constant.shape == L.Sub(constant=2.0).constant.shape == (1,)


def test_one_input_may_be_concatenated():
    a = np.ones((2, 3))
    assert L.Concat().forward(a).tolist() == a.tolist()


def test_padding_is_kept_as_pairs():
    assert repr(L.Pad([[0, 1], [2, 0]])) == "Pad(padding=((0, 1), (2, 0)))"


@every
def test_layers_are_frozen_and_compare_by_identity(case):
    twin = dataclasses.replace(case.layer)
    assert twin != case.layer
    assert len({twin, case.layer, case.layer}) == 2
    for field in dataclasses.fields(case.layer):
        with pytest.raises(AttributeError):
            setattr(case.layer, field.name, None)


@every
def test_what_pass_may_be_applied_to(case):
    """A wire has one input an output, or says in which portions its inputs share; so has what is one to one."""
    inputs = sample(case, np.random.default_rng(2), 1, "ties")
    frozen = case.layer.frozen(*inputs)
    most = max(map(len, by.connected(case.operator(at(inputs, 0)))))
    if case.layer.wire:
        assert most == 1 or frozen.portions(case.layer.join(*inputs)) is not None
    assert frozen.one_to_one or not isinstance(frozen, (L.Wires, L.Diagonal))
    assert most == 1 or not frozen.one_to_one
    always_wire = isinstance(case.layer, (L.Wires, L.Concat, L.Activation))
    assert case.layer.wire == always_wire or "max-pool" in case.id or "nearest" in case.id


def test_which_outputs_are_probabilities():
    assert L.Sigmoid().probabilities
    assert not any(case.layer.probabilities for case in GRID)


@pytest.mark.parametrize(
    "layer", [L.Conv([[[F(1, 3)]]], [F(1, 7)]), L.Add(constant=[F(1, 3)]), L.Scale(F(1, 3))], ids=repr
)
def test_rational_parameters_stay_exact(layer, exact):
    for _, value in layer._arrays():
        assert value.dtype == object
    x = exact(np.ones((1, 1, 1)))
    assert entries(layer.like(x).forward(x)) == {
        "Conv": [F(1, 3) + F(1, 7)], "Add": [F(4, 3)], "Scale": [F(1, 3)]
    }[type(layer).__name__]  # fmt: skip


# --- windows of any kind


@st.composite
def windowed(draw, most_axes=3):
    """Options of a convolution, its sizes so that it fits, and small integers for all: float64 is exact on them."""
    n = draw(st.integers(1, most_axes))
    axis = lambda low, high: [draw(st.integers(low, high)) for _ in range(n)]  # noqa: E731
    kernel, stride, dilation = axis(1, 3), axis(1, 4), axis(1, 3)
    padding = tuple(zip(axis(0, 4), axis(0, 4), strict=True))
    size = axis(1, {1: 9, 2: 5, 3: 3}[n])
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_group = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    seed = draw(st.integers(0, 2**32 - 1))
    return n, kernel, stride, padding, dilation, size, groups, per_group, np.random.default_rng(seed)


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(float)


def check_linear(layer, x, operator, rng):
    """The loops' outputs, and <linear(x, w), s> == <x, adjoint(s, w)> for the layer's weight and another."""
    frozen = layer.frozen(x)
    z = frozen.forward(x)
    assert z.shape[1:] == operator.outputs
    for i in range(len(x)):
        assert z[i].reshape(-1).tolist() == by.forward(operator, x[i])
    s = integers(rng, *z.shape)
    own = frozen.parameters(x)[0]
    for w in (own, integers(rng, *own.shape)):
        assert inner(frozen.linear(x, w), s) == inner(x, frozen.adjoint(s, w, x.shape))


@given(windowed())
def test_any_convolution(drawn):
    _, kernel, stride, padding, dilation, size, groups, (inputs, outputs), rng = drawn
    assume(all(k <= s + sum(p) for k, s, p in zip(spans(kernel, dilation), size, padding, strict=True)))
    K, b = integers(rng, outputs * groups, inputs, *kernel), integers(rng, outputs * groups)
    layer = L.Conv(K, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    x = integers(rng, 2, inputs * groups, *size)
    operator = by.conv(K.tolist(), b.tolist(), x.shape[1:], stride, padding, dilation, groups)
    check_linear(layer, x, operator, rng)


@given(windowed(), st.integers(0, 3))
def test_any_transposed_convolution(drawn, extra):
    n, kernel, stride, padding, dilation, size, groups, (inputs, outputs), rng = drawn
    size = [max(1, s - 2) for s in size]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "output_padding": extra}
    K, b = integers(rng, inputs * groups, outputs, *kernel), integers(rng, outputs * groups)
    layer, x = L.ConvTranspose(K, b, **options), integers(rng, 2, inputs * groups, *size)
    sizes = [
        (s - 1) * step - sum(p) + span + extra
        for s, step, p, span in zip(size, stride, padding, spans(kernel, dilation), strict=True)
    ]
    if min(sizes) < 1:
        with pytest.raises(ShapeError, match="leaves nothing of the output"):
            layer.check(x.shape)
        return
    layer.check(x.shape)
    spread = (x.shape[1:], stride, padding, dilation, groups, [extra] * n)
    check_linear(layer, x, by.conv_transpose(K.tolist(), b.tolist(), *spread), rng)


def spans(kernel, dilation):
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]


@given(windowed(), st.booleans(), st.booleans(), st.sampled_from(["sum", "average", "max", "shared"]))
def test_any_pool(drawn, ceil, count_include_pad, kind):
    n, kernel, stride, padding, dilation, size, channels, _, rng = drawn
    dilation = dilation if kind in ("max", "shared") else [1] * n
    padding = tuple((min(b, k - 1), min(a, k - 1)) for (b, a), k in zip(padding, spans(kernel, dilation), strict=True))
    options = {"stride": stride, "padding": padding, "ceil": ceil}
    x = rng.integers(-2, 3, (2, channels, *size)).astype(float)  # many ties
    spread = x.shape[1:], kernel, stride, padding
    if kind == "sum":
        layer, operators = L.SumPool(kernel, **options), [by.sum_pool(*spread, ceil)] * 2
    elif kind == "average":
        layer = L.AvgPool(kernel, count_include_pad=count_include_pad, **options)
        operators = [by.avg_pool(*spread, ceil, count_include_pad)] * 2
    else:
        ties = "first" if kind == "max" else kind
        layer = L.MaxPool(kernel, dilation=dilation, ties=ties, **options)
        operators = [by.max_pool(a, *spread, dilation, ceil, ties) for a in x]
    if min(operators[0].outputs) < 1 or not all(by.connected(operators[0])):
        with pytest.raises(ShapeError, match=r"does not fit into|lies wholly in the padding"):
            layer.check(x.shape)
        return
    layer.check(x.shape)
    a = fractions(x)
    frozen, z = layer.frozen(a), layer.forward(a)
    for i in range(2):
        assert entries(z[i]) == entries(frozen.forward(a)[i]) == by.forward(operators[i], x[i])
    s = fractions(integers(rng, *z.shape))
    weight = frozen.parameters(a)[0]
    for w in (weight, fractions(integers(rng, *weight.shape))):
        check_adjoint(frozen, a, s, w)


# --- against torch


@pytest.mark.torch
@given(windowed(), st.booleans())
def test_torch_convolution(drawn, bias):
    import torch

    n, kernel, stride, padding, dilation, size, groups, (inputs, outputs), rng = drawn
    padding = [before for before, _ in padding]
    assume(all(k <= s + 2 * p for k, s, p in zip(spans(kernel, dilation), size, padding, strict=True)))
    K, b = rng.standard_normal((outputs * groups, inputs, *kernel)), rng.standard_normal(outputs * groups)
    x = rng.standard_normal((2, inputs * groups, *size))
    function = getattr(torch.nn.functional, f"conv{n}d")
    b = b if bias else None
    theirs = function(*tensors(torch, x, K, b), stride=stride, padding=padding, dilation=dilation, groups=groups)
    layer = L.Conv(K, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    check_torch(layer.forward(x), theirs)


@pytest.mark.torch
@given(windowed(), st.booleans(), st.integers(0, 2))
def test_torch_transposed_convolution(drawn, bias, extra):
    import torch

    n, kernel, stride, padding, dilation, size, groups, (inputs, outputs), rng = drawn
    padding = [before for before, _ in padding]
    extra = [min(extra, max(step, d) - 1) for step, d in zip(stride, dilation, strict=True)]
    K, b = rng.standard_normal((inputs * groups, outputs, *kernel)), rng.standard_normal(outputs * groups)
    layer = L.ConvTranspose(
        K, b if bias else None, stride=stride, padding=padding, dilation=dilation, groups=groups, output_padding=extra
    )
    x = rng.standard_normal((2, inputs * groups, *size))
    assume(min(layer.size(size)) > 0)
    function = getattr(torch.nn.functional, f"conv_transpose{n}d")
    theirs = function(
        *tensors(torch, x, K, b if bias else None), stride=stride, padding=padding, dilation=dilation, groups=groups,
        output_padding=extra,
    )  # fmt: skip
    check_torch(layer.forward(x), theirs)


@pytest.mark.torch
@given(windowed(), st.booleans(), st.booleans(), st.sampled_from(["avg", "max"]))
def test_torch_pool(drawn, ceil, count_include_pad, kind):
    import torch

    n, kernel, stride, padding, dilation, size, channels, _, rng = drawn
    dilation = dilation if kind == "max" else [1] * n
    padding = [min(before, k // 2) for (before, _), k in zip(padding, kernel, strict=True)]
    x = rng.standard_normal((2, channels, *size))
    around = [(before, before) for before in padding]
    outputs, windows = by.windows(x.shape[1:], kernel, stride, around, dilation, ceil)
    assume(min(outputs) > 0 and all(cells for cells, _ in windows))
    options = {"stride": stride, "padding": padding}
    if kind == "max":
        layer, more = L.MaxPool(kernel, ceil=ceil, dilation=dilation, **options), {"dilation": dilation}
    else:
        assume(n < 3 or all(k <= s for k, s in zip(kernel, size, strict=True)))  # torch asks it of avg_pool3d
        layer = L.AvgPool(kernel, ceil=ceil, count_include_pad=count_include_pad, **options)
        more = {"count_include_pad": count_include_pad}
    function = getattr(torch.nn.functional, f"{kind}_pool{n}d")
    theirs = function(*tensors(torch, x), kernel, ceil_mode=ceil, **options, **more)
    layer.check(x.shape)
    check_torch(layer.forward(x), theirs)


@pytest.mark.torch
def test_torch_norm_upsample_and_global_pools():
    import torch

    rng = np.random.default_rng(10)
    x = rng.standard_normal((2, 3, 4, 5))
    (t,) = tensors(torch, x)
    norm = torch.nn.BatchNorm2d(3, eps=1e-3, dtype=torch.float64).eval()
    with torch.no_grad():
        for parameter in (norm.weight, norm.bias, norm.running_mean):
            parameter.copy_(torch.from_numpy(rng.standard_normal(3)))
        norm.running_var.copy_(torch.from_numpy(rng.random(3)))
        ours = L.BatchNorm.from_statistics(
            mean=norm.running_mean.numpy(), variance=norm.running_var.numpy(), weight=norm.weight.numpy(),
            bias=norm.bias.numpy(), epsilon=norm.eps,
        )  # fmt: skip
        check_torch(ours.forward(x), norm(t))
    check_torch(L.Upsample((2, 3)).forward(x), torch.nn.Upsample(scale_factor=(2, 3))(t))
    check_torch(L.GlobalAvgPool().forward(x), torch.nn.AdaptiveAvgPool2d(1)(t))
    check_torch(L.GlobalMaxPool().forward(x), torch.nn.AdaptiveMaxPool2d(1)(t))
    check_torch(L.Dense(rng.standard_normal((0, 2))).forward(np.zeros((3, 0))), torch.zeros(3, 2))


def tensors(torch, *arrays):
    return [None if a is None else torch.from_numpy(a) for a in arrays]


def check_torch(ours, theirs):
    theirs = theirs.numpy()
    assert ours.shape == theirs.shape
    assert np.allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, abs(theirs).max(initial=0)))


# --- activations

SLOPES = [0.25, -0.5, 0.0]
ACTIVATIONS = [
    pytest.param(L.ReLU(), "ReLU()", id="relu"),
    pytest.param(L.LeakyReLU(), "LeakyReLU()", id="leaky-relu"),
    pytest.param(L.LeakyReLU(slope=0.3), "LeakyReLU(0.3)", id="leaky-relu-slope"),
    pytest.param(L.ELU(), "ELU()", id="elu"),
    pytest.param(L.ELU(alpha=0.7), "ELU(0.7)", id="elu-alpha"),
    pytest.param(L.Softplus(), "Softplus()", id="softplus"),
    pytest.param(L.Softplus(beta=3.0), "Softplus(3.0, threshold=100)", id="softplus-beta"),
    pytest.param(L.Sigmoid(), "Sigmoid()", id="sigmoid"),
    pytest.param(L.SiLU(), "SiLU()", id="silu"),
    pytest.param(L.GELU(), "GELU()", id="gelu"),
    pytest.param(L.GELU(approximate="tanh"), "GELU(approximate='tanh')", id="gelu-tanh"),
    pytest.param(L.Tanh(), "Tanh()", id="tanh"),
    pytest.param(L.Clip(low=0, high=6), "ReLU6()", id="relu6"),
    pytest.param(L.Clip(low=-0.5, high=0.25), "Hardtanh(-0.5, 0.25)", id="clip"),
    pytest.param(L.Identity(), "Identity()", id="identity"),
    pytest.param(L.Dropout(), "Dropout().eval()", id="dropout"),
]


def slope(layer, a):
    """The derivative, as the tangent holds it."""
    tangent = layer.tangent(a)
    return tangent.linear(np.ones_like(a), tangent.parameters(a)[0])


@pytest.mark.torch
@pytest.mark.parametrize(("layer", "module"), ACTIVATIONS)
def test_torch_activations_and_their_derivatives(layer, module):
    import torch

    a = np.concatenate([np.linspace(-7, 7, 57) + 0.01, [0.0]])[None]
    t = torch.from_numpy(a).requires_grad_()
    theirs = eval(f"torch.nn.{module}", {"torch": torch})(t)
    check_torch(layer.forward(a), theirs.detach())
    theirs.sum().backward()
    check_torch(slope(layer, a), t.grad)


@pytest.mark.torch
def test_torch_prelu():
    import torch

    x = np.random.default_rng(11).standard_normal((2, 3, 4))
    for slopes in (np.array(0.25), np.array(SLOPES)):
        t = torch.from_numpy(x).requires_grad_()
        theirs = torch.nn.functional.prelu(t, torch.from_numpy(slopes.reshape(-1)))
        check_torch(L.PReLU(slopes).forward(x), theirs.detach())
        theirs.sum().backward()
        check_torch(L.PReLU(slopes).derivative(x), t.grad)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(("layer", "module"), [*ACTIVATIONS, pytest.param(L.PReLU(0.25), "", id="prelu")])
def test_derivatives_against_central_differences(layer, module, dtype):
    if isinstance(layer, L.GELU) and layer.approximate == "none" and dtype == np.longdouble:
        dtype = np.float64
    eps = float(np.finfo(dtype).eps)
    h = dtype(2.0 ** round(math.log2(eps) / 3))
    a = (np.linspace(-6, 6, 42) + 1 / 9).astype(dtype)[None]  # no kink within h
    layer = layer.like(a)
    expected = (layer.forward(a + h) - layer.forward(a - h)) / (2 * h)
    assert slope(layer, a).dtype == layer.forward(a).dtype == dtype
    assert abs(slope(layer, a) - expected).max() < 30 * eps ** (2 / 3)


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (L.GELU(), lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2),
        (L.GELU("tanh"), lambda v: v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) / 2),
        (L.Sigmoid(), lambda v: 1 / (1 + math.exp(-v))),
        (L.SiLU(), lambda v: v / (1 + math.exp(-v))),
        (L.Softplus(beta=2.0), lambda v: math.log(1 + math.exp(2 * v)) / 2),
        (L.ELU(alpha=0.5), lambda v: v if v > 0 else (math.exp(v) - 1) / 2),
        (L.SELU(), lambda v: 1.0507009873554805 * (v if v > 0 else 1.6732632423543772 * (math.exp(v) - 1))),
        (L.CELU(alpha=0.5), lambda v: v if v > 0 else (math.exp(2 * v) - 1) / 2),
        (L.Tanh(), math.tanh),
    ],
    ids=lambda value: repr(value) if isinstance(value, L.Layer) else "",
)
def test_values_by_the_standard_library(layer, function):
    a = np.linspace(-4, 4, 17)
    np.testing.assert_allclose(layer.forward(a[None])[0], [function(v) for v in a.tolist()], rtol=1e-11, atol=1e-15)


def test_functions_do_not_overflow():
    a = np.array([[-1e4, -800.0, 800.0, 1e4]])
    smooth = (L.Sigmoid(), L.SiLU(), L.Softplus(), L.Softplus(beta=100.0), L.Tanh(), L.GELU("tanh"))
    for layer in (*smooth, L.ELU(), L.SELU(), L.CELU(), L.CELU(alpha=0.25)):
        assert np.isfinite(layer.forward(a)).all()
        assert np.isfinite(layer.derivative(a)).all()
    assert L.Sigmoid().forward(a).tolist() == [[0, 0, 1, 1]]
    assert L.Softplus().forward(a).tolist() == [[0, 0, 800, 1e4]]


def test_derivatives_at_kinks_are_those_from_the_left():
    a = np.array([[0.0, -0.5, 0.25]])
    assert L.ReLU().derivative(a).tolist() == [[0, 0, 1]]
    assert L.LeakyReLU(slope=0.5).derivative(a).tolist() == [[0.5, 0.5, 1]]
    assert L.PReLU(0.5).derivative(a).tolist() == [[0.5, 0.5, 1]]
    assert L.ELU(alpha=2.0).derivative(a[:, ::2]).tolist() == [[2, 1]]
    assert L.Clip(low=-0.5, high=0.25).derivative(a).tolist() == [[1, 0, 0]]
    assert L.Clip().derivative(a).tolist() == [[1, 1, 1]]
    assert L.Clip(low=0.25, high=0.25).forward(a).tolist() == [[0.25, 0.25, 0.25]]


def test_numbers_that_do_not_fit_the_channels_are_named_without_a_check_too():
    two, a = [1.0, 2.0], np.ones((1, 3, 2))
    for function, name in (
        (L.PReLU(two).forward, "PReLU: slope"),
        (L.PReLU(two).derivative, "PReLU: slope"),
        (L.Scale(two).forward, "Scale: weight"),
        (L.Scale(1.0, two).forward, "Scale: bias"),
    ):
        with pytest.raises(ShapeError, match=rf"^{name} has shape \(2,\)"):
            function(a)


def test_rational_activations_are_exact(exact):
    a = exact([[F(-1, 3), 0, F(1, 7)], [F(5, 2), F(-9, 4), -1]])
    tenth, flat = F(0.1), entries(a)
    sloped = lambda slopes: [v if v > 0 else m * v for v, m in zip(flat, slopes * 2, strict=True)]  # noqa: E731
    for layer, expected in (
        (L.ReLU(), [max(v, 0) for v in flat]),
        (L.LeakyReLU(slope=0.1), sloped([tenth] * 3)),
        (L.PReLU(0.1), sloped([tenth] * 3)),
        (L.PReLU(SLOPES), sloped([F(v) for v in SLOPES])),
        (L.Clip(low=-0.1, high=2), [min(max(v, -tenth), 2) for v in flat]),
        (L.Clip(low=F(1, 9)), [max(v, F(1, 9)) for v in flat]),
        (L.Clip(high=0), [min(v, 0) for v in flat]),
    ):
        made = layer.like(a)
        assert layer.rational
        assert entries(made.forward(a)) == expected
        assert {type(v) for v in made.forward(a).flat} == {type(v) for v in made.derivative(a).flat} == {type(a[0, 0])}


@pytest.mark.parametrize(
    "kind", [k for k in ALL if issubclass(k, L.Activation) and not k.rational], ids=lambda k: k.__name__
)
def test_activations_without_rational_values_say_so(kind, exact):
    for function in (kind().forward, kind().derivative):
        with pytest.raises(NotExact, match=r"^(exp|expm1|tanh|erf) has no rational values"):
            function(exact([[-1, 1]]))
    assert entries(kind().frozen(exact([[-1]])).forward(exact([[-1]]))) == [-1]


def test_soft_min_pool_is_not_rational(exact):
    with pytest.raises(NotExact, match=r"^exp has no rational values"):
        L.SoftMinPool().forward(exact([[1, 2]]))


def test_given_stands_for_its_outputs(exact):
    layer = L.Given(L.Tanh(), np.array([[0.5, -0.25]]))
    a = exact([[3, -7]])
    layer.check((1, 2))
    assert entries(layer.forward(a)) == [F(1, 2), F(-1, 4)]
    assert entries(layer.frozen(a).forward(a)) == [3, -7]
    assert layer.wire
    with pytest.raises(ShapeError, match=r"Given: input has shape \(2, 2\), but the given output has shape \(1, 2\)"):
        layer.check((2, 2))
    with pytest.raises(ShapeError, match=r"derivative of Tanh\(\) is not given"):
        layer.tangent(a)


# --- pools


@pytest.mark.parametrize("case", [c for c in POOL if "max" in c.id and "average" not in c.id], ids=lambda c: c.id)
def test_padding_never_wins(case):
    """All inputs below 0, the value of a padded cell if it had one."""
    (x,) = sample(case, np.random.default_rng(12), 2, "positive")
    assert (case.layer.forward(-x) < 0).all()
    assert (case.layer.frozen(-x).forward(-x) < 0).all()


SIZES = [
    pytest.param(100, (13, 11), id="13x11"),
    pytest.param(48, (9, 17), id="9x17"),
    pytest.param(7, (31, 3), id="31x3"),
]


@pytest.mark.parametrize(("channels", "size"), SIZES)
@pytest.mark.parametrize("dtype", FLOATS[:2], ids=lambda dtype: dtype.__name__)
def test_equal_patches_of_a_constant_image_give_bit_equal_outputs(channels, size, dtype):
    """Or rounding would decide who wins a max pool."""
    rng = np.random.default_rng(13)
    x = np.zeros((2, channels, *size), dtype) + rng.standard_normal((channels, 1, 1)).astype(dtype)
    K = rng.standard_normal((5, channels, 3, 2)).astype(dtype)
    depthwise = rng.standard_normal((channels, 1, 2, 2)).astype(dtype)
    for layer in (
        L.Conv(K, stride=(1, 2)),
        L.Conv(depthwise, groups=channels),
        L.AvgPool(3, stride=1),
        L.AvgPool((2, 3)),
        L.SumPool((3, 2), stride=1),
        L.MaxPool(2),
    ):
        z = layer.forward(x)
        assert z.size > 2 * z.shape[1]
        assert (z == z[:1, :, :1, :1]).all(), layer
    wide = rng.standard_normal((channels, 3, 2, 2)).astype(dtype)
    spread = L.ConvTranspose(wide, stride=2).forward(x)  # windows side by side
    assert (spread == np.tile(spread[:1, :, :2, :2], (2, 1, *size))).all()
    overlap = L.ConvTranspose(wide).forward(x)[:, :, 1:-1, 1:-1]
    assert (overlap == overlap[:1, :, :1, :1]).all()
    winners = L.MaxPool(2, stride=1).frozen(L.Conv(K).forward(x))
    assert winners.live[:, :, 0].all()
    assert not winners.live[:, :, 1:].any()


def test_equal_patches_here_and_there_give_bit_equal_outputs():
    """A patch repeated at a few places among others, one of them with -0 for 0."""
    rng = np.random.default_rng(14)
    x = rng.standard_normal((1, 64, 5, 87)).astype(np.float32)
    x[0, 7] = 0
    for place in (21, 40, 81, 84):
        x[:, :, :, place : place + 3] = x[:, :, :, 3:6]
    x[0, 7, :, 81:84] = -0.0
    K = rng.standard_normal((3, 64, 5, 3)).astype(np.float32)
    z = L.Conv(K).forward(x)[0, :, 0]
    assert (z[:, [21, 40, 81, 84]] == z[:, [3]]).all()
    assert len(set(z[0].tolist())) == 81
    expected = [np.tensordot(K.astype(float), x[0, :, :, p : p + 3], 3) for p in range(85)]
    assert np.allclose(z.T, expected, rtol=0, atol=1e-4)


def test_near_ties_take_the_first_within_the_tolerance():
    x = np.array([[[[0.75, 1.0, 0.9375, 0.5]]]])
    for rtol, winner in ((0.0, 1), (0.0625, 1), (0.25, 0), (1.0, 0)):
        pool = L.GlobalMaxPool(ties=L.Near(rtol))
        assert pool.forward(x).item() == 1
        assert pool.frozen(x).forward(x).item() == x.reshape(-1)[winner]
        assert (
            pool.tangent(x).adjoint(np.ones((1, 1, 1, 1)), np.ones(1), x.shape).reshape(-1).tolist().index(1) == winner
        )


def test_shared_ties_are_portions(exact):
    x = exact([[[2, 2, 1, 5, 5, 5]]])
    frozen = L.MaxPool(3, ties="shared").frozen(x)
    assert entries(frozen.portions(x)) == entries(frozen.weight) == [F(1, 2), F(1, 3)]
    back = frozen.adjoint(exact([[[1, 1]]]), frozen.portions(x), x.shape)
    assert entries(back) == [F(1, 2), F(1, 2), 0, F(1, 3), F(1, 3), F(1, 3)]
    assert L.MaxPool(3).frozen(x).portions(x) is None


def test_max_pool_as_average_has_the_maximum_for_its_tangent(exact):
    x = exact([[[1, 3, 2, 0]]])
    pool = L.MaxPool(2, frozen_as="average")
    assert entries(pool.frozen(x).forward(x)) == [2, 1]
    assert entries(pool.tangent(x).forward(x)) == [3, 2]
    assert not pool.wire
    assert L.MaxPool(2).wire
    assert not L.GlobalMaxPool(frozen_as="average").wire
    assert L.GlobalMaxPool().wire


# --- soft-min pool


def soft_min(z):
    """eta and pi by their definitions."""
    z = z.astype(np.longdouble)
    weights = np.exp(-z)
    return -np.log(weights.sum(axis=1, keepdims=True)), weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.__name__)
def test_soft_min_pool(dtype):
    z = np.random.default_rng(15).normal(0, 3, (4, 6)).astype(dtype)
    eta, pi = soft_min(z)
    eps = np.finfo(dtype).eps
    for share in ("eta", "z"):
        pool = L.SoftMinPool(share=share)
        pool.check(z.shape)
        assert pool.forward(z).dtype == dtype
        assert pool.forward(z).shape == (4, 1)
        assert np.allclose(pool.forward(z), eta, rtol=0, atol=64 * eps)
        frozen = pool.frozen(z)
        assert np.allclose(frozen.weight, pi, rtol=0, atol=64 * eps)
        assert np.allclose(frozen.forward(z), eta, rtol=0, atol=256 * eps)
        check_adjoint(frozen, z, np.ones((4, 1), dtype))
        shares = frozen.portions(z)
        assert {a.dtype for a in (frozen.weight, frozen.bias, shares)} == {np.dtype(dtype)}
        expected = pi if share == "eta" else pi * z / eta
        assert np.allclose(shares, expected, rtol=256 * eps, atol=256 * eps)
        total = 1 if share == "eta" else ((pi * z).sum(axis=1) / eta[:, 0])
        assert np.allclose(shares.sum(axis=1), total, rtol=256 * eps, atol=0)


def test_soft_min_pool_of_one_and_of_far_values():
    pool = L.SoftMinPool()
    pool.check((1, 1))
    assert pool.forward(np.array([[2.5]])).tolist() == [[2.5]]
    assert pool.forward(np.array([[1e4, -1e4], [800.0, 900.0]])).tolist() == [[-1e4], [800.0]]
    assert pool.forward(np.zeros((0, 3))).shape == (0, 1)
    zero = L.SoftMinPool(share="z").frozen(np.array([[math.log(2), math.log(2)]]))
    assert np.isfinite(zero.shares).all()


# --- batch norm

STATISTICS = {
    "mean": np.array([0.5, -1.0, 0.0]),
    "variance": np.array([1.0, 0.25, 1e-3]),
    "weight": np.array([2.0, -0.5, 0.0]),
    "bias": np.array([0.1, 0.2, 0.3]),
}


@pytest.mark.parametrize("epsilon", [1e-5, np.float32(1e-5), float(np.float32(1e-5)), np.float64(1e-5)], ids=repr)
def test_batch_norm_reads_epsilon_as_the_decimal_it_was(epsilon):
    norm = L.BatchNorm.from_statistics(**STATISTICS, epsilon=epsilon)
    mean, variance, weight, bias = STATISTICS.values()
    expected = weight / np.sqrt(variance + 1e-5)
    assert norm.scale.tolist() == expected.tolist()
    assert norm.shift.tolist() == (bias - expected * mean).tolist()


def test_batch_norm_keeps_an_epsilon_that_is_no_float32():
    norm = L.BatchNorm.from_statistics(mean=[0.0], variance=[0.0], epsilon=1.23456789012e-5)
    assert norm.scale.item() == 1 / math.sqrt(1.23456789012e-5)
    assert norm.shift.item() == 0


def test_batch_norm_computes_in_float64():
    single = {name: value.astype(np.float32) for name, value in STATISTICS.items()}
    norm = L.BatchNorm.from_statistics(**single, epsilon=1e-3)
    assert norm.scale.dtype == norm.shift.dtype == np.float64
    variance = np.float64(np.float32(1e-3)) + 1e-3
    double = L.BatchNorm.from_statistics(mean=[1.0], variance=[np.float64(np.float32(1e-3))], epsilon=1e-3)
    assert double.scale.item() == 1 / np.sqrt(variance)


def test_batch_norm_is_exactly_its_two_numbers(exact):
    norm = L.BatchNorm.from_statistics(**STATISTICS, epsilon=1e-5)
    x = exact(np.full((1, 3, 2), 0.5))
    expected = [
        F(s) / 2 + F(t) for s, t in zip(norm.scale.tolist(), norm.shift.tolist(), strict=True) for _ in range(2)
    ]
    assert entries(norm.like(x).forward(x)) == expected


# --- what is refused

BATCH = {
    "transpose": lambda: L.Transpose((1, 0)),
    "slice": lambda: L.Slice(0, 1),
    "sum": lambda: L.Sum(0),
    "sum-among-others": lambda: L.Sum((1, 0)),
    "mean": lambda: L.Mean((0,)),
    "concat": lambda: L.Concat(axis=0),
    "squeeze": lambda: L.Squeeze(0),
    "unsqueeze": lambda: L.Unsqueeze(0),
    "slice-negative": lambda: L.Slice(-3).check((1, 2, 1)),
    "sum-negative": lambda: L.Sum(-3).check((1, 2, 1)),
    "mean-negative": lambda: L.Mean((-1, -3)).check((1, 2, 1)),
    "concat-negative": lambda: L.Concat(axis=-3).check((1, 2, 1), (1, 2, 1)),
    "squeeze-negative": lambda: L.Squeeze(-3).check((1, 2, 1)),
    "unsqueeze-negative": lambda: L.Unsqueeze(-4).check((1, 2, 1)),
}


@pytest.mark.parametrize("name", BATCH)
def test_no_layer_touches_the_batch_axis(name):
    with pytest.raises(ShapeError, match=rf"^{name.partition('-')[0].capitalize()}: axis 0 is the batch"):
        BATCH[name]()


@pytest.mark.parametrize("kind", [L.Squeeze, L.Unsqueeze, L.Slice, L.Sum, L.Mean, L.Concat, L.Softmax])
def test_an_axis_is_among_the_64_that_arrays_can_have(kind):
    assert kind(63) is not None
    with pytest.raises(ShapeError, match=rf"^{kind.__name__}: axes \(64,\) do not fit an input of 64 axes"):
        kind(64)


ONE = [[[1.0]]]
REFUSED = [
    (lambda: L.Dense([1.0]), "Dense: weight has shape (1,)"),
    (lambda: L.Dense([[1.0, 2.0]], [1.0]), "Dense: bias has shape (1,), need (2,)"),
    (lambda: L.Dense([[math.nan]]), "Dense: weight holds NaN or infinite values"),
    (lambda: L.Dense([[1.0]], [math.inf]), "Dense: bias holds NaN or infinite values"),
    (lambda: L.Conv([[1.0]]), "Conv: weight has shape (1, 1)"),
    (lambda: L.Conv(1.0), "Conv: weight has shape ()"),
    (lambda: L.Conv(np.ones((1, 0, 2))), "Conv: weight has shape (1, 0, 2)"),
    (lambda: L.Conv(np.ones((1,) * 6)), "Conv: weight has shape (1, 1, 1, 1, 1, 1)"),
    (lambda: L.Conv(ONE, [1.0, 2.0]), "Conv: bias has shape (2,), need (1,)"),
    (lambda: L.Conv([[[math.nan]]]), "Conv: weight holds NaN"),
    (lambda: L.Conv(ONE, [math.inf]), "Conv: bias holds NaN"),
    (lambda: L.Conv(ONE, groups=2), "Conv: groups=2"),
    (lambda: L.Conv(ONE, groups=0), "Conv: groups=0"),
    (lambda: L.Conv(ONE, stride=0), "Conv: stride=0"),
    (lambda: L.Conv(ONE, stride=(1, 1)), "Conv: stride=(1, 1)"),
    (lambda: L.Conv(ONE, stride=1.0), "Conv: stride=1.0"),
    (lambda: L.Conv(ONE, dilation=0), "Conv: dilation=0"),
    (lambda: L.Conv(ONE, dilation=None), "Conv: dilation=None"),
    (lambda: L.Conv(ONE, padding=-1), "Conv: padding=-1"),
    (lambda: L.Conv(ONE, padding=(1, 1)), "Conv: padding=(1, 1)"),
    (lambda: L.Conv(ONE, padding=((1, 1, 1),)), "Conv: padding=((1, 1, 1),)"),
    (lambda: L.Conv(ONE, padding=((0, -1),)), "Conv: padding=((0, -1),)"),
    (lambda: L.Conv(ONE, padding=0.5), "Conv: padding=0.5"),
    (lambda: L.Conv(ONE, padding=None), "Conv: padding=None"),
    (lambda: L.Conv(ONE, padding="same"), "Conv: padding='same'"),
    (lambda: L.ConvTranspose(1.0), "ConvTranspose: weight has shape ()"),
    (lambda: L.ConvTranspose([1.0]), "ConvTranspose: weight has shape (1,)"),
    (lambda: L.ConvTranspose(np.ones((2, 3, 1)), [1.0], groups=2), "ConvTranspose: bias has shape (1,), need (6,)"),
    (lambda: L.ConvTranspose(ONE, groups=2), "ConvTranspose: groups=2"),
    (lambda: L.ConvTranspose(ONE, stride=0), "ConvTranspose: stride=0"),
    (lambda: L.ConvTranspose(ONE, output_padding=-1), "ConvTranspose: output_padding=-1"),
    (lambda: L.ConvTranspose(ONE, output_padding=(0, 0)), "ConvTranspose: output_padding=(0, 0)"),
    (lambda: L.ConvTranspose([[[math.nan]]]), "ConvTranspose: weight holds NaN"),
    (lambda: L.MaxPool(2, ties="last"), "MaxPool: ties='last'"),
    (lambda: L.MaxPool(2, frozen_as="max"), "MaxPool: frozen_as='max'"),
    (lambda: L.GlobalMaxPool(ties="last"), "GlobalMaxPool: ties='last'"),
    (lambda: L.GlobalMaxPool(frozen_as="max"), "GlobalMaxPool: frozen_as='max'"),
    (lambda: L.SoftMinPool(share="pi"), "SoftMinPool: share='pi'"),
    (lambda: L.GELU("erf"), "GELU: approximate='erf'"),
    (lambda: L.Clip(low=1, high=0), "Clip: low=1 is above high=0"),
    (lambda: L.PReLU([math.nan]), "PReLU: slope holds NaN"),
    (lambda: L.Scale(math.inf), "Scale: weight holds NaN"),
    (lambda: L.Scale(1.0, [math.nan]), "Scale: bias holds NaN"),
    (lambda: L.BatchNorm(1.0, 0.0), "BatchNorm: scale has shape ()"),
    (lambda: L.BatchNorm([1.0], [[0.0]]), "BatchNorm: shift has shape (1, 1)"),
    (lambda: L.BatchNorm([1.0], [0.0, 1.0]), "BatchNorm: scale has shape (1,), shift (2,)"),
    (lambda: L.BatchNorm([math.nan], [0.0]), "BatchNorm: scale holds NaN"),
    (lambda: L.BatchNorm.from_statistics(mean=[0.0], variance=[0.0], epsilon=0), "BatchNorm: variance + epsilon"),
    (lambda: L.Add(constant=[math.nan]), "Add: constant holds NaN"),
    (lambda: L.Sub(constant=math.inf), "Sub: constant holds NaN"),
    (lambda: L.Sum((1, 1)), "Sum: axes (1, 1)"),
    (lambda: L.Mean((2, 2)), "Mean: axes (2, 2)"),
    (lambda: L.Transpose((0, 2, 2)), "Transpose: axes (0, 2, 2) are no permutation"),
    (lambda: L.Transpose(()), "Transpose: axis 0"),
    (lambda: L.Slice(1, step=0), "Slice: step=0"),
    (lambda: L.Slice(1, step=-1), "Slice: step=-1"),
    (lambda: L.Pad(((0, -1),)), "Pad: padding=((0, -1),)"),
    (lambda: L.Pad(((0, 1, 2),)), "Pad: padding=((0, 1, 2),)"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_constructors_refuse_by_layer_and_parameter(make, message):
    with pytest.raises(ShapeError, match="^" + re.escape(message)):
        make()


MISFITS = [
    (L.Dense([[1.0]]), [(2, 3)], "input has shape (2, 3), need (batch, ..., 1)"),
    (L.Dense([[1.0]]), [(1,)], "input has shape (1,)"),
    (L.Conv(ONE), [(1, 2, 3)], "input has shape (1, 2, 3), need (batch, 1, size)"),
    (L.Conv(ONE), [(1, 1)], "input has shape (1, 1)"),
    (L.Conv(np.ones((1, 1, 3))), [(1, 1, 2)], "a window of span (3,) does not fit into (2,)"),
    (L.Conv(np.ones((2, 1, 1)), groups=2), [(1, 1, 3)], "input has shape (1, 1, 3), need (batch, 2, size)"),
    (L.ConvTranspose(ONE), [(1, 2, 3)], "input has shape (1, 2, 3), need (batch, 1, size)"),
    (L.ConvTranspose(ONE, padding=2), [(1, 1, 3)], "padding ((2, 2),) leaves nothing"),
    (L.AvgPool(2), [(1, 2)], "AvgPool: input has shape (1, 2)"),
    (L.AvgPool(0), [(1, 1, 2)], "AvgPool: kernel=0"),
    (L.AvgPool((2, 2)), [(1, 1, 2)], "AvgPool: kernel=(2, 2)"),
    (L.AvgPool(2, stride=0), [(1, 1, 2)], "AvgPool: stride=0"),
    (L.AvgPool(2, padding=2), [(1, 1, 2)], "AvgPool: padding ((2, 2),) must be smaller"),
    (L.AvgPool(2, padding=((2, 0),)), [(1, 1, 2)], "AvgPool: padding ((2, 0),) must be smaller"),
    (L.SumPool(3), [(1, 1, 2)], "a window of span (3,) does not fit"),
    (L.SumPool(2, padding=((0, 2),)), [(1, 1, 2)], "SumPool: padding ((0, 2),) must be smaller"),
    (L.SumPool(2, stride=0), [(1, 1, 2)], "SumPool: stride=0"),
    (L.AdaptiveAvgPool(0), [(1, 1, 2)], "AdaptiveAvgPool: size=[0]"),
    (L.AdaptiveMaxPool(0), [(1, 1, 2)], "AdaptiveMaxPool: size=[0]"),
    (L.MaxPool(2, padding=-1), [(1, 1, 2)], "MaxPool: padding=-1"),
    (L.MaxPool(2, dilation=0), [(1, 1, 2)], "MaxPool: dilation=0"),
    (L.MaxPool(2, dilation=4, padding=3, stride=1), [(1, 1, 1)], "MaxPool: a window lies wholly in the padding"),
    (L.GlobalAvgPool(), [(1, 2)], "GlobalAvgPool: input has shape (1, 2)"),
    (L.GlobalMaxPool(), [(1, 2)], "GlobalMaxPool: input has shape (1, 2)"),
    (L.SoftMinPool(), [(1, 2, 3)], "SoftMinPool: input has shape (1, 2, 3)"),
    (L.SoftMinPool(), [(1, 0)], "SoftMinPool: input has shape (1, 0)"),
    (L.BatchNorm([1.0], [0.0]), [(1, 2)], "input has shape (1, 2), need (batch, 1, ...)"),
    (L.Scale([1.0, 2.0]), [(4, 3, 2)], "Scale: weight has shape (2,)"),
    (L.Scale(1.0, [1.0, 2.0]), [(4, 3, 2)], "Scale: bias has shape (2,)"),
    (L.PReLU([1.0, 2.0]), [(4, 3, 2)], "PReLU: slope has shape (2,)"),
    (L.Add(), [(2, 3), (2, 4)], "inputs of shapes [(2, 3), (2, 4)] do not broadcast"),
    (L.Add(), [(2, 3), (1, 3)], "inputs have shapes [(2, 3), (1, 3)]: need equal batch sizes"),
    (L.Add(), [(2, 3), (2, 1, 3)], "inputs have shapes [(2, 3), (2, 1, 3)]: need equal batch sizes and equally many"),
    (L.Add(constant=np.ones((2, 3))), [(2, 3)], "a constant of shape (2, 3) has a batch axis"),
    (L.Add(constant=np.ones((2, 3))), [(1, 3)], "a constant of shape (2, 3) has a batch axis"),
    (L.Add(constant=np.ones((1, 1, 3))), [(2, 3)], "a constant of shape (1, 1, 3) has a batch axis, or more axes"),
    (L.Sub(), [(2, 3)], "Sub has 1 inputs and constant=None"),
    (L.Sub(constant=1.0), [(2, 3), (2, 3)], "Sub has 2 inputs and constant="),
    (L.Sub(constant=np.ones((2, 3))), [(2, 3)], "a constant of shape (2, 3) has a batch axis"),
    (L.Concat(), [(2, 3), (2,)], "inputs of shapes [(2, 3), (2,)] differ in more than axis 1"),
    (L.Sub(), [(2, 3), (2, 4)], "inputs of shapes [(2, 3), (2, 4)] do not broadcast"),
    (L.Concat(), [(2, 3, 1), (2, 3, 2)], "inputs of shapes [(2, 3, 1), (2, 3, 2)] differ in more than axis 1"),
    (L.Concat(), [(2, 3), (1, 3)], "inputs of shapes [(2, 3), (1, 3)] differ in more than axis 1"),
    (L.Concat(axis=3), [(2, 3), (2, 3)], "Concat: axes (3,) do not fit an input of 2 axes"),
    (L.Sum(3), [(2, 3)], "Sum: axes (3,) do not fit an input of 2 axes"),
    (L.Sum((1, -1)), [(2, 3)], "Sum: axes (1, -1) do not fit"),
    (L.Mean(-3), [(2, 3)], "Mean: axes (-3,) do not fit"),
    (L.Mean(1), [(2, 0)], "Mean: an input of shape (2, 0) is empty"),
    (L.Reshape((2, 2)), [(1, 3)], "Reshape: a sample of shape (3,) cannot take the shape (2, 2)"),
    (L.Reshape((-1, 2)), [(1, 3)], "Reshape: a sample of shape (3,)"),
    (L.Reshape((-1, -1)), [(1, 4)], "Reshape: a sample of shape (4,)"),
    (L.Reshape((-1, 0)), [(1, 0)], "Reshape: a sample of shape (0,)"),
    (L.Transpose((0, 2, 1)), [(1, 2)], "Transpose: axes (0, 2, 1) do not fit an input of shape (1, 2)"),
    (L.Reshape((2, -2)), [(1, 2)], "Reshape: a sample of shape (2,) cannot take the shape (2, -2)"),
    (L.Squeeze(1), [(1, 2)], "Squeeze: axis 1 of an input of shape (1, 2) has not length 1"),
    (L.Unsqueeze(3), [(1, 2)], "Unsqueeze: axes (3,) do not fit"),
    (L.Slice(2), [(1, 2)], "Slice: axes (2,) do not fit"),
    (L.Pad(((0, 1),)), [(1, 2, 3)], "Pad: 1 pairs for a sample of shape (2, 3)"),
    (L.Upsample(2), [(1, 2)], "Upsample: input has shape (1, 2)"),
    (L.Upsample((2, 2)), [(1, 2, 3)], "Upsample: factor=(2, 2)"),
    (L.Upsample(0), [(1, 2, 3)], "Upsample: factor=0"),
]  # fmt: skip


@pytest.mark.parametrize("method", ["forward", "frozen", "tangent"])
@pytest.mark.parametrize(
    "layer",
    [L.SumPool(2), L.AvgPool(2), L.MaxPool(2), L.GlobalAvgPool(), L.GlobalMaxPool(), L.AdaptiveAvgPool(1),
     L.AdaptiveMaxPool(1)],
    ids=repr,
)  # fmt: skip
def test_a_pool_used_by_itself_says_its_name_too(layer, method):
    with pytest.raises(ShapeError, match=rf"^{type(layer).__name__}: input has shape \(1, 2\)"):
        getattr(layer, method)(np.ones((1, 2)))


def test_a_slice_used_by_itself_says_its_name_too():
    with pytest.raises(ShapeError, match=r"^Slice: axes \(2,\) do not fit"):
        L.Slice(2).forward(np.ones((1, 2)))


@pytest.mark.parametrize("layer", [L.SumPool(3, ceil=True), L.AvgPool(3, ceil=True), L.MaxPool(3, ceil=True)], ids=repr)
def test_with_ceil_a_window_may_be_larger_than_the_input(layer):
    layer.check((1, 1, 2))
    assert layer.forward(np.array([[[2.0, 4.0]]])).item() == {L.SumPool: 6, L.AvgPool: 3, L.MaxPool: 4}[type(layer)]


@pytest.mark.parametrize(("layer", "shapes", "message"), MISFITS, ids=[f"{m[0]!r}-{m[2]}" for m in MISFITS])
def test_checks_refuse_shapes_that_do_not_fit(layer, shapes, message):
    with pytest.raises(ShapeError, match="^" + re.escape(message)):
        layer.check(*shapes)


# --- how a layer prints

REPRS = [
    (L.Dense(np.ones((4, 3)), np.ones(3)), "Dense(weight=4x3, bias=3)"),
    (L.Dense(np.ones((4, 3))), "Dense(weight=4x3)"),
    (L.Conv(np.ones((8, 3, 5, 5)), padding=2), "Conv(weight=8x3x5x5, padding=((2, 2), (2, 2)))"),
    (L.Conv(np.ones((8, 3, 5)), stride=(1,), dilation=1, padding=((0, 0),)), "Conv(weight=8x3x5)"),
    (L.ConvTranspose(ONE, stride=2, output_padding=1), "ConvTranspose(weight=1x1x1, stride=(2,), output_padding=(1,))"),
    (L.MaxPool(2), "MaxPool(kernel=2)"),
    (L.MaxPool(3, stride=2, ties=L.Near(0.5)), "MaxPool(kernel=3, stride=2, ties=Near(rtol=0.5))"),
    (L.AvgPool((2, 3), count_include_pad=False), "AvgPool(kernel=(2, 3), count_include_pad=False)"),
    (L.GlobalAvgPool(), "GlobalAvgPool()"),
    (L.ReLU(), "ReLU()"),
    (L.LeakyReLU(), "LeakyReLU()"),
    (L.LeakyReLU(slope=0.2), "LeakyReLU(slope=0.2)"),
    (L.PReLU(0.25), "PReLU(slope=0.25)"),
    (L.Clip(low=0), "Clip(low=0)"),
    (L.Add(), "Add()"),
    (L.Add(constant=[1.0, 2.0]), "Add(constant=2)"),
    (L.Concat(), "Concat()"),
    (L.Sum((1, 2)), "Sum(axes=(1, 2))"),
    (L.Flatten(), "Flatten()"),
    (L.Slice(1, stop=3), "Slice(axis=1, stop=3)"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "text"), REPRS, ids=[text for _, text in REPRS])
def test_repr_shows_shapes_and_the_options_that_are_not_default(layer, text):
    assert repr(layer) == text


@every
def test_repr_is_short(case, exact):
    for layer in (case.layer, case.layer.like(exact(np.zeros(1)))):
        assert len(repr(layer)) < 160
        assert repr(layer).startswith(f"{type(layer).__name__}(")
        assert "array" not in repr(layer)
