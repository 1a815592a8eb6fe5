"""What holds on a device: each kernel against its definition in numpy, and the fast engine against the plain one.

The module that imports these tests gives the fixture `cupy`: the real one in test_gpu, a stand-in with the same kernels
compiled for the host in test_device_kernels.
"""

import dataclasses
import itertools
import types

import numpy as np
import pytest
from grid import relevance, sample
from test_fast import BOUND, CASES, DIGITS, PRESETS, amplification, check
from test_rules import BIASES, RULES, STABILIZED, rule_for

import lrp_ref as lrp
from lrp_ref.arrays import floats, to_host
from lrp_ref.data import digits_cnn, digits_mlp
from lrp_ref.fast import device, operators
from lrp_ref.fast.memory import Memory
from lrp_ref.fast.sweep import Books, Deal
from lrp_ref.layers import Conv, MaxPool


def in_full(*values):
    """Parameters of the long tier alone."""
    return [pytest.param(each, marks=pytest.mark.full) for each in values]


DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SMALL_TILE = 2**12
"""Bytes of a tile that cuts even the smallest layers into several."""

# size, channels, outputs, kernel, then what differs from the defaults
CONVOLUTIONS = {
    "3x3": ((7, 6), 4, 8, (3, 3), {"padding": 1}),
    "3x3 of 5 channels": ((7, 6), 5, 3, (3, 3), {"padding": 1}),
    "3x3 of more outputs": ((5, 9), 3, 16, (3, 3), {"padding": 1}),
    "3x3 of fewer outputs": ((6, 6), 16, 4, (3, 3), {"padding": 1}),
    "3x3 of 17 channels": ((5, 6), 17, 4, (3, 3), {"padding": 1}),
    "without padding": ((6, 7), 8, 4, (3, 2), {}),
    "1x1": ((5, 4), 8, 12, (1, 1), {}),
    "1x1, stride 2": ((7, 6), 8, 4, (1, 1), {"stride": 2}),
    "1x1, padded": ((4, 4), 4, 4, (1, 1), {"padding": 1}),
    "7x7, stride 2": ((15, 14), 3, 8, (7, 7), {"stride": 2, "padding": 3}),
    "stride beyond the kernel": ((11, 10), 4, 4, (2, 3), {"stride": (3, 4)}),
    "padding beyond the kernel": ((5, 4), 4, 8, (2, 2), {"padding": ((3, 2), (2, 4))}),
    "padding of one side": ((6, 5), 4, 4, (3, 3), {"padding": ((0, 2), (1, 0))}),
    "dilation": ((9, 10), 4, 4, (3, 2), {"dilation": (2, 3), "padding": (2, 1)}),
    "dilation and stride": ((11, 10), 5, 6, (3, 3), {"dilation": 2, "stride": 2, "padding": 2}),
    "2 groups": ((6, 5), 8, 12, (3, 3), {"groups": 2, "padding": 1}),
    "3 odd groups, stride 2": ((7, 7), 9, 6, (3, 3), {"groups": 3, "stride": 2, "padding": 1}),
    "groups of 1x1": ((4, 5), 8, 8, (1, 1), {"groups": 4}),
    "depthwise": ((7, 6), 8, 8, (3, 3), {"groups": 8, "padding": 1}),
    "depthwise, 5 channels, stride 2": ((8, 7), 5, 5, (3, 3), {"groups": 5, "padding": 1, "stride": 2}),
    "depthwise, dilated, padded far": ((6, 6), 4, 4, (2, 3), {"groups": 4, "padding": 4, "dilation": 2}),
    "two outputs a channel": ((6, 5), 4, 8, (3, 3), {"groups": 4, "padding": 1}),
    "1-D": ((13,), 4, 8, (5,), {"padding": 2}),
    "1-D, stride 3": ((14,), 3, 4, (4,), {"stride": 3, "padding": (1,)}),
    "1-D, depthwise": ((12,), 4, 4, (3,), {"groups": 4, "dilation": 2}),
    "3-D": ((4, 5, 6), 4, 4, (3, 2, 3), {"padding": (1, 0, 1)}),
    "3-D, stride and dilation": (
        (5, 6, 5),
        3,
        5,
        (2, 2, 2),
        {"stride": (2, 1, 2), "dilation": (1, 2, 1), "padding": 1},
    ),
    "one position": ((3, 3), 4, 8, (3, 3), {}),
    "one cell": ((1, 1), 4, 8, (3, 3), {"padding": 1}),
}


def convolution(name, dtype):
    """The layer, and an input of three images."""
    size, channels, outputs, kernel, options = CONVOLUTIONS[name]
    rng = np.random.default_rng(len(name))
    weight = rng.normal(size=(outputs, channels // options.get("groups", 1), *kernel)).astype(dtype)
    return Conv(weight=weight, **options), rng.normal(size=(3, channels, *size)).astype(dtype), rng


def close(ours, theirs, dtype, factor=1):
    """Within the bound, relative to the greatest."""
    ours, theirs = floats(ours), floats(theirs)
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max(initial=0) <= factor * BOUND[dtype] * max(abs(theirs).max(initial=0), 1e-30)


@pytest.fixture(params=[device.TILE, SMALL_TILE], ids=["one tile", "small tiles"])
def tile(request, monkeypatch):
    monkeypatch.setattr(device, "TILE", request.param)


@DTYPES
@pytest.mark.parametrize("channels_last", [False, *in_full(True)], ids=["as it comes", "channels last"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_several_weights(cupy, tile, name, channels_last, dtype):
    layer, a, _ = convolution(name, dtype)
    found, memory = operators.operator(layer), Memory()
    x = cupy.asarray(a)
    if channels_last:
        x = cupy.ascontiguousarray(device.channels_last(x))
        x = device.channels_first(x)
    outs = [found.empty(found.output(a.shape), x, memory) for _ in range(2)]
    weights = [layer.weight, abs(layer.weight)]
    seen = []
    matrices = [found.matrix(cupy.asarray(w)) for w in weights]
    out_rows = [found.rows(out, memory) for out in outs]
    found.products(x, matrices, out_rows, memory, lambda *rows: seen.append(rows))
    assert seen == [(0, len(out_rows[0]))]
    for w, out in zip(weights, outs, strict=True):
        close(out, layer.linear(a, w), dtype)


@pytest.mark.parametrize("dtype", [np.float32, *in_full(np.float64)])
@pytest.mark.parametrize("stacked", [1, 2])
@pytest.mark.parametrize("form", ["both", *in_full("alone", "times x", "plus more")])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_adjoints_of_convolutions(cupy, tile, name, form, stacked, dtype):
    layer, a, rng = convolution(name, dtype)
    found, memory = operators.operator(layer), Memory()
    if stacked > 1 and not found.stacks:
        pytest.skip("the shares of grouped convolutions come one by one")
    weights = [layer.weight, abs(layer.weight)][:stacked]
    positions = found.output(a.shape)
    s = [rng.normal(size=positions).astype(dtype) for _ in weights]
    more = rng.normal(size=a.shape).astype(dtype) if form in ("plus more", "both") else None
    x = a if form in ("times x", "both") else None
    rows = [np.ascontiguousarray(np.moveaxis(each, 1, -1)).reshape(-1, positions[1]) for each in s]
    matrix = found.transposed([cupy.asarray(w) for w in weights])
    given = [None if each is None else cupy.asarray(each) for each in (np.concatenate(rows, axis=1), x, more)]
    R_in, totals = found.adjoint(given[0], [(matrix, given[1])], a.shape, memory, given[2])
    expected = sum(layer.adjoint(each, w, a.shape) for each, w in zip(s, weights, strict=True))
    expected = expected * (1 if x is None else x) + (0 if more is None else more)
    close(R_in, expected, dtype)
    sums_agree(totals, to_host(R_in))


def sums_agree(totals, R):
    each = R.astype(float).reshape(len(R), -1)
    for found, theirs in ((totals.sum, each.sum(axis=1)), (totals.magnitude, abs(each).sum(axis=1))):
        np.testing.assert_allclose(to_host(found), theirs, rtol=0, atol=1e-13 * abs(each).sum(initial=1e-30))


@DTYPES
@pytest.mark.parametrize("stacked", [False, True], ids=["rows together", "rows apart"])
@pytest.mark.parametrize("channels", [1, 3, 8, 130])
@pytest.mark.parametrize("cells", [1, 7, 90])
def test_division(cupy, cells, channels, stacked, dtype):
    """Every portion, stabilizer and bias, with zeros of z and of z + e, in place and not."""
    rng, batch = np.random.default_rng(cells * channels), 3
    shape = (batch * cells, channels)
    for k in range(24):
        R, z, sign_of = (rng.integers(-3, 4, shape).astype(dtype) for _ in range(3))
        z[rng.random(shape) < 0.05] = -0.0
        epsilon = (0, 0.5, 1)[k % 3]
        e = (None, None, rng.integers(-2, 3, shape).astype(dtype))[k % 3] if k % 2 else None
        portion = (1, 2.0, "positive", "negative")[k % 4]
        bias = (None, rng.normal(size=channels), rng.normal(size=(cells, channels)))[k % 5 % 3]
        bias = None if bias is None else bias.astype(dtype)
        one_sign = k % 4 == 1 or k % 5 == 2
        on = [None if a is None else cupy.asarray(a) for a in (R, z, e, sign_of, bias)]
        books = Books(batch, cupy)
        books.shares = 1 + k % 2
        by_sign, neither = isinstance(portion, str), portion == "negative" and k % 3 != 1
        given = (on[3] if by_sign else None, on[4], one_sign)
        deal = Deal(on[1], float(epsilon), on[2], portion, *given, neither=neither)
        if stacked:
            every = cupy.full((len(R), 2 * channels), np.nan, dtype=dtype)
            s = every[:, channels:]
        else:
            s = on[0] if k % 5 == 0 else cupy.empty(shape, dtype)
        deal.divide(on[0], s, batch, books, Memory())
        if books.shares > 1:  # what a second share finds again does not count again
            twice = [to_host(books.poles).copy(), to_host(books.empty).copy()]
            if s is not on[0]:
                deal.divide(on[0], cupy.empty(shape, dtype), batch, books, Memory())
                for one, other in zip(twice, (books.poles, books.empty), strict=True):
                    np.testing.assert_array_equal(to_host(other), one)
                books.bias, books.stabilizer, books.unclaimed = (
                    each / 2 for each in (books.bias, books.stabilizer, books.unclaimed)
                )
        dealt = (
            R * dtype(portion)
            if not isinstance(portion, str)
            else R * (sign_of > 0 if portion == "positive" else sign_of < 0)
        )
        by = np.where(z < 0, -dtype(epsilon), dtype(epsilon)) if e is None else e
        d = z + by
        quotient = np.where(d == 0, dtype(0), dealt / np.where(d == 0, dtype(1), d))
        close(s, quotient, dtype)
        full_bias = 0 if bias is None else np.broadcast_to(bias, (batch, cells, channels)).reshape(shape)
        poles = (d == 0) & (dealt != 0)
        expected = {
            "stabilizer": quotient.astype(float) * by,
            "bias": quotient.astype(float) * full_bias,
            "unclaimed": (np.where(d == 0, dealt, 0) + np.where(neither & (sign_of == 0), R, 0)).astype(float),
            "poles": poles & (z != 0) if one_sign else poles,
            "empty": (z == 0) & (dealt != 0) & one_sign,
        }
        for name, each in expected.items():
            ours = to_host(getattr(books, name))
            theirs = each.reshape(batch, -1).sum(axis=1)
            scale = abs(each.astype(float)).sum() if name in ("stabilizer", "bias", "unclaimed") else 0
            assert abs(ours - theirs).max() <= BOUND[dtype] * scale, (name, k)


@DTYPES
@pytest.mark.parametrize("numbers", [1, 4, 7, 3000, 20000])
def test_finishing(cupy, numbers, dtype):
    rng = np.random.default_rng(numbers)
    c, x, more = (rng.normal(size=(3, numbers)).astype(dtype) for _ in range(3))
    for form in range(8):
        ours = [cupy.asarray(a) if form & bit else None for a, bit in ((x, 1), (more, 2))]
        out = cupy.empty(c.shape, dtype) if form & 4 else None
        given = cupy.asarray(c.copy())
        totals = device.finished(given, *ours, 3, out)
        expected = c * (x if form & 1 else dtype(1)) + (more if form & 2 else dtype(0))
        close(given if out is None else out, expected, dtype)
        sums_agree(totals, to_host(given if out is None else out))


POOLS = {
    "2x2": ((6, 8), 4, {"kernel": 2}),
    "3x3, stride 2, padded": ((9, 8), 5, {"kernel": 3, "stride": 2, "padding": 1}),
    "overlapping": ((6, 7), 8, {"kernel": (3, 2), "stride": 1}),
    "ceil": ((7, 8), 4, {"kernel": 3, "stride": 2, "ceil": True}),
    "dilated": ((9, 9), 3, {"kernel": 2, "stride": 2, "dilation": 3, "padding": 1}),
    "1-D": ((11,), 4, {"kernel": 3, "stride": 2, "padding": 1}),
    "3-D": ((4, 5, 6), 4, {"kernel": 2, "stride": (2, 1, 2), "padding": 1}),
}


@DTYPES
@pytest.mark.parametrize("ties", [False, True], ids=["no ties", "ties"])
@pytest.mark.parametrize("name", POOLS)
def test_max_pools(cupy, name, ties, dtype):
    size, channels, options = POOLS[name]
    rng, layer = np.random.default_rng(len(name)), MaxPool(**options)
    a = rng.normal(size=(3, channels, *size)).astype(dtype)
    a = np.sign(a) - dtype(2) if ties else a  # all below the padding's 0
    z, memory = layer.forward(a), Memory()
    R = rng.integers(-8, 9, z.shape).astype(dtype)
    x = cupy.asarray(a)
    ours = device.maxima(layer, x, memory)
    np.testing.assert_array_equal(to_host(ours), z)
    frozen = layer.frozen(a)
    expected = frozen.adjoint(R, frozen.parameters(a)[0], a.shape)
    np.testing.assert_array_equal(to_host(device.routed(layer, x, ours, cupy.asarray(R), memory)), expected)


# --- the engine -----------------------------------------------------------------------------------------------------


def on_host(e):
    """As much of an explanation as `check` reads, with its arrays on the host."""
    entries = []
    for entry in e.ledger:
        values = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
        values["sent"] = {name: to_host(amount) for name, amount in entry.sent.items()}
        entries.append(dataclasses.replace(entry, **{name: to_host(each) for name, each in values.items()}))
    relevances = {name: to_host(R) for name, R in e.relevances.items()}
    return types.SimpleNamespace(relevances=relevances, at=relevances.__getitem__, ledger=entries, engine=e.engine)


def both(cupy, case, rule, dtype, kind, batch=3):
    """What the plain path makes of one layer on the host, and the fast one on the device."""
    rng = np.random.default_rng(0)
    inputs = tuple(a.astype(dtype) for a in sample(case, rng, batch, kind))
    names = [f"x{i}" for i in range(len(inputs))]
    layer = case.layer.like(inputs[0])
    graph = lrp.Graph([lrp.Node("layer", layer, *names)], outputs="layer", inputs=names).to("cuda")
    R = relevance(layer.forward(*inputs).shape, rng).astype(dtype)
    plain = rule.back(layer, inputs, R)
    composite = lrp.Composite([(lrp.composites.kind(type(layer)), rule)])
    given = {name: cupy.asarray(a) for name, a in zip(names, inputs, strict=True)}
    quick = lrp.explain(graph, given, composite, cupy.asarray(R), keep="input")
    assert all(isinstance(each, cupy.ndarray) for each in quick.relevances.values())
    return R, plain, on_host(quick)


@pytest.mark.full
@DTYPES
@pytest.mark.parametrize("kind", ["signed", "positive", "zeros", "ties"])
@pytest.mark.parametrize("id", CASES)
def test_every_rule_on_every_layer(cupy, id, kind, dtype):
    case = CASES[id]
    turn = list(CASES).index(id) + len(kind)
    for name in [*RULES][turn % 3 :: 3]:
        rule = rule_for(name, case)
        R, plain, quick = both(cupy, case, rule, dtype, kind)
        if amplification(R, plain) < 1e3 and decided(case, rule, dtype, kind):
            check(R, plain, quick, BOUND[dtype])


def decided(case, rule, dtype, kind, batch=3):
    """Whether the sign of no output hangs on rounding, which a device's sums do in another order."""
    inputs = tuple(a.astype(dtype) for a in sample(case, np.random.default_rng(0), batch, kind))
    layer = case.layer.like(inputs[0])
    if layer.product:
        return True
    frozen, a = rule.linear_map(layer, inputs)
    weight, bias = frozen.parameters(a)
    z, most = frozen.linear(a, weight) + bias, frozen.linear(abs(a), abs(weight)) + abs(bias)
    return not ((abs(z) <= 64 * np.finfo(dtype).eps * most) & (most > 0)).any()


@pytest.mark.parametrize("rule", [lrp.Pass(), lrp.Gradient()], ids=repr)
@pytest.mark.parametrize("kind", ["ties", *in_full("signed")])
@pytest.mark.parametrize("id", CASES)
def test_what_passes_or_is_derived(cupy, id, kind, rule):
    case = CASES[id]
    try:
        R, plain, quick = both(cupy, case, rule, np.float64, kind)
    except lrp.UnsuitableRule:
        return
    check(R, plain, quick, 1e-14)


@pytest.mark.parametrize("share", [3, *in_full(1)], ids=["a third", "all"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("id", ["dense", "conv2d-padding-per-axis"])
def test_every_variant_on_dense_and_conv(cupy, id, name, share):
    case, turn = CASES[id], list(RULES).index(name)
    for i, bias in enumerate(BIASES):
        for k, (epsilon, stabilizer) in enumerate(STABILIZED):
            if (i + k + turn) % share:
                continue
            rule = dataclasses.replace(rule_for(name, case), bias=bias, epsilon=epsilon, stabilizer=stabilizer)
            R, plain, quick = both(cupy, case, rule, np.float64, ("signed", "positive", "ties")[(i + k) % 3])
            assert quick.engine["layer"] == ("plain" if bias == "spread" else "fused")
            if amplification(R, plain) < 1e3:
                check(R, plain, quick, 1e-13)


@DTYPES
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_end_to_end(cupy, tile, preset, dtype):
    for graph in (digits_cnn(), lrp.canonize(digits_cnn()), digits_mlp()):
        x = DIGITS.images[DIGITS.test[:4]].astype(dtype)
        plain = lrp.explain(graph, x, PRESETS[preset], engine="plain")
        quick = on_host(lrp.explain(graph.to("cuda"), cupy.asarray(x), PRESETS[preset]))
        assert "fused" in quick.engine.values()
        close(quick.at("input"), plain.relevance, dtype, 10)
        assert [entry.node for entry in quick.ledger] == [entry.node for entry in plain.ledger]
        for one, other in zip(quick.ledger, plain.ledger, strict=True):
            for part in ("came", "went", "bias", "stabilizer", "unclaimed"):
                scale = abs(other.magnitude_out).max() + abs(other.magnitude_in).max() + abs(other.bias).max()
                assert abs(getattr(one, part) - getattr(other, part)).max() <= 20 * BOUND[dtype] * scale


def test_a_graph_goes_there_and_back(cupy):
    net = digits_cnn()
    there = net.to("cuda")
    assert there.to("cuda") is there
    assert all(isinstance(a, cupy.ndarray) for node in there.nodes for _, a in node.layer._arrays())
    for one, other in zip(there.to("cpu").nodes, net.nodes, strict=True):
        for (_, a), (_, b) in zip(one.layer._arrays(), other.layer._arrays(), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    with pytest.raises(lrp.ArithmeticMismatch, match=r"device 'cuda:99' cannot be used.*nvidia-smi"):
        net.to("cuda:99")
    with pytest.raises(lrp.ArithmeticMismatch, match='need "cpu", "cuda"'):
        net.to("gpu")
    with pytest.raises(lrp.ArithmeticMismatch, match="exact rationals cannot go to"):
        net.like(lrp.exact(DIGITS.images[:1])).to("cuda")


def test_the_same_bits_twice(cupy):
    x = cupy.asarray(DIGITS.images[DIGITS.test[:4]].astype("float32"))
    ready = lrp.prepare(digits_cnn().to("cuda"), PRESETS["epsilon_plus"], x=x)
    one, other = (ready.explain(x, 3) for _ in range(2))
    np.testing.assert_array_equal(to_host(one.relevance), to_host(other.relevance))
    for a, b in zip(on_host(one).ledger, on_host(other).ledger, strict=True):
        np.testing.assert_array_equal(a.stabilizer, b.stabilizer)


def test_tf32_is_said(cupy, monkeypatch):
    x = cupy.zeros((1, 1), dtype=np.float32)
    monkeypatch.delenv("CUPY_TF32", raising=False)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert device.computed(x) == "fused"
    monkeypatch.setenv("CUPY_TF32", "1")
    assert device.computed(x) == "fused (tf32)"
    assert device.computed(x.astype(np.float64)) == "fused"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert device.computed(x) == "fused"


@DTYPES
@pytest.mark.parametrize("preset", PRESETS)
def test_relus_at_the_end_of_what_they_read(cupy, preset, dtype):
    """Of products, with and without a bias a position, and of sums of two branches and of three."""
    rng = np.random.default_rng(3)

    def conv(inputs, outputs, size, **options):
        weight = rng.normal(size=(outputs, inputs, size, size)).astype(dtype) / dtype(size * inputs**0.5)
        return Conv(weight=weight, bias=rng.normal(size=outputs).astype(dtype), **options)

    relu, add = lrp.layers.ReLU(), lrp.layers.Add()
    nodes = [
        ("one", conv(3, 8, 3, padding=1, tap_bias=rng.normal(size=(8, 3, 3)).astype(dtype)), "x"),
        ("relu1", relu, "one"), ("two", conv(8, 8, 1), "relu1"), ("add1", add, "two", "relu1"), ("relu2", relu, "add1"),
        ("three", conv(8, 8, 3, padding=1), "relu2"), ("relu3", relu, "three"), ("four", conv(8, 8, 1), "relu3"),
        ("add2", add, "four", "relu3", "relu2"), ("relu4", relu, "add2"), ("flat", lrp.layers.Flatten(), "relu4"),
        ("out", lrp.layers.Dense(weight=rng.normal(size=(8 * 25, 4)).astype(dtype)), "flat"),
    ]  # fmt: skip
    graph = lrp.Graph([lrp.Node(*node) for node in nodes], outputs="out", inputs=["x"])
    x = rng.uniform(size=(3, 3, 5, 5)).astype(dtype)
    plain = lrp.explain(graph, x, PRESETS[preset], 2, engine="plain")
    ready = lrp.prepare(graph.to("cuda"), PRESETS[preset])
    quick = ready.explain(cupy.asarray(x), 2, keep="input")
    (steps,) = (each.steps.values() for each in ready._ready.values())
    assert any(getattr(step, "done", False) for step in steps)
    close(quick.relevance, plain.relevance, dtype, 10)
    close(quick.output, plain.output, dtype)


@DTYPES
@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("ridden", [0, 1, 2])
def test_the_end_of_a_product(cupy, channels, ridden, dtype):
    rng = np.random.default_rng(channels)
    z, *parts = rng.normal(size=(1 + ridden, 7, channels)).astype(dtype)
    some = [None if i == 1 else rng.normal(size=channels).astype(dtype) for i in range(1 + ridden)]
    forms = [None, (0.25, None), (None, 0.5), (None, None)] if ridden == 2 else [None]
    for gammas, biases, rectified in itertools.product(forms, (some, [None] * len(some)), (False, True)):
        arrays = [cupy.asarray(a.copy()) for a in (z, *parts)]
        given = [b if b is None else cupy.asarray(b) for b in biases]
        device.lifted(arrays[0], arrays[1:], given, gammas, rectified=rectified)
        whole = parts[0] + parts[1] if gammas else z
        expected = [whole]
        for part, gamma in zip(parts, gammas or (None, None), strict=False):
            expected.append(part if gamma is None else dtype(gamma) * part + whole)
        for i, (got, want, b) in enumerate(zip(arrays, expected, biases, strict=True)):
            want = want if b is None else want + b
            want = np.maximum(want, 0) if rectified and not i else want
            assert abs(got.get() - want).max() <= 8 * np.finfo(dtype).eps * max(1, abs(want).max())


@DTYPES
@pytest.mark.parametrize("numbers", [1, 4, 7, 3000])
@pytest.mark.parametrize("form", ["0", "epsilon", "given"])
def test_a_sum_of_two(cupy, form, numbers, dtype):
    """With poles where e is 0 or given."""
    rng = np.random.default_rng(numbers)
    R, z, a, b, e = rng.integers(-3, 4, (5, 3, numbers)).astype(dtype)
    on = [cupy.asarray(each) for each in (R, z, a, b, e)]
    outs = [cupy.empty(R.shape, dtype) for _ in range(2)]
    epsilon, books = 0.5 if form == "epsilon" else 0.0, Books(3, cupy)
    deal = Deal(on[1], epsilon, on[4] if form == "given" else None)
    totals = device.shared(deal, on[0], on[2:4], outs, 3, books)
    by = e if form == "given" else np.where(z < 0, -dtype(epsilon), dtype(epsilon))
    pole = z + by == 0
    s = np.where(pole, dtype(0), R / np.where(pole, dtype(1), z + by))
    for part, out, found in zip((a, b), outs, totals, strict=True):
        close(out, part * s, dtype)
        sums_agree(found, to_host(out))
    close(books.stabilizer, (s.astype(float) * by).sum(axis=1), dtype, 10)
    np.testing.assert_array_equal(to_host(books.unclaimed), np.where(pole, R, 0).sum(axis=1))
    np.testing.assert_array_equal(to_host(books.poles), (pole & (R != 0)).sum(axis=1))
