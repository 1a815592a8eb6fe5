"""The fast path gives the plain path's numbers: layer by layer, on the same activations and relevances."""

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest
from grid import GRID, relevance, sample
from test_rules import BIASES, RULES, STABILIZED, rule_for
from zennit_composites import ZENNIT

import lrp_ref as lrp
from lrp_ref.arrays import floats
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.fast import conv
from lrp_ref.fast.conv import WIDE
from lrp_ref.layers import (
    Clip,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    LeakyReLU,
    MaxPool,
    Mul,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Tanh,
)  # fmt: skip

CASES = {case.id: case for case in GRID}
BOUND = {np.float32: 2e-6, np.float64: 1e-14}
DIGITS = digits()
PRESETS = {
    **ZENNIT,
    "epsilon": lrp.Epsilon(epsilon=0.1),
}


def both(case, rule, dtype, kind, seed=0, batch=2):
    """What the plain and the fast path make of one layer, on the same inputs and relevance."""
    rng = np.random.default_rng(seed)
    inputs = tuple(a.astype(dtype) for a in sample(case, rng, batch, kind))
    names = [f"x{i}" for i in range(len(inputs))]
    layer = case.layer.like(inputs[0])
    graph = lrp.Graph([lrp.Node("layer", layer, *names)], outputs="layer", inputs=names)
    R = relevance(layer.forward(*inputs).shape, rng).astype(dtype)
    plain, books = rule.back(layer, inputs, R)
    composite = lrp.Composite([(lrp.composites.kind(type(layer)), rule)])
    quick = lrp.explain(graph, dict(zip(names, inputs, strict=True)), composite, R, engine="fast", keep="input")
    return R, (plain, books), quick


def check(R, plain, quick, bound):
    """The relevance, and the books of each sample, relative to the greatest that came or went."""
    size = max(abs(floats(R)).max(), max(abs(floats(part)).max(initial=0) for part in plain[0]))
    for name, theirs in zip(quick.relevances, plain[0], strict=True):
        ours = quick.at(name)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert abs(floats(ours) - floats(theirs)).max(initial=0) <= bound * size
    units = tuple(range(1, R.ndim))
    (entry,) = quick.ledger
    for name in ("bias", "stabilizer", "unclaimed"):
        one, other = getattr(entry, name), floats(getattr(plain[1], name)).sum(axis=units)
        largest = abs(floats(plain[1].bias)).sum() + abs(floats(plain[1].stabilizer)).sum() + abs(floats(R)).sum()
        assert abs(one - other).max() <= 8 * bound * largest, name
    for name in ("poles", "empty"):
        assert (getattr(entry, name) == getattr(plain[1], name).sum(axis=units)).all(), name
    went = sum(floats(part).reshape(len(R), -1).sum(axis=1) for part in plain[0])
    most = sum(abs(floats(part)).sum() for part in plain[0]) + abs(floats(R)).sum()
    assert abs(entry.went - went).max() <= 8 * bound * most
    assert abs(entry.balance()).max() <= 8 * bound * most + 8 * bound * largest


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["signed", "positive", "zeros", "ties"])
@pytest.mark.parametrize("id", CASES)
def test_every_rule_on_every_layer(id, kind, dtype):
    case = CASES[id]
    turn = list(CASES).index(id) + len(kind)
    for name in [*RULES][turn % 3 :: 3]:  # each rule meets each kind of layer, and each layer a third of the rules
        rule = rule_for(name, case)
        R, plain, quick = both(case, rule, dtype, kind)
        if amplification(R, plain) < 1e3:
            check(R, plain, quick, BOUND[dtype])


@pytest.mark.parametrize("rule", [lrp.Pass(), lrp.Gradient()], ids=repr)
@pytest.mark.parametrize("kind", ["signed", "ties"])
@pytest.mark.parametrize("id", CASES)
def test_what_passes_or_is_derived_is_bit_by_bit_the_same(id, kind, rule):
    case = CASES[id]
    inputs = tuple(sample(case, np.random.default_rng(0), 2, kind))
    z = case.layer.forward(*inputs)
    try:
        rule.back(case.layer, inputs, np.ones(z.shape))
    except lrp.UnsuitableRule:
        with pytest.raises(lrp.UnsuitableRule):
            both(case, rule, np.float64, kind)
        return
    R, plain, quick = both(case, rule, np.float64, kind)
    assert quick.engine["layer"] in ("passed", "plain")
    for ours, theirs in zip(quick.relevances.values(), plain[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    check(R, plain, quick, 1e-14)


def amplification(R, plain):
    """How much greater than what came the greatest relevance is: above, the denominators decide, not the code."""
    return max(abs(floats(part)).max(initial=0) for part in plain[0]) / max(abs(floats(R)).max(), 1e-300)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("id", ["dense", "conv2d-padding-per-axis"])
def test_every_variant_on_dense_and_conv(id, name):
    case = CASES[id]
    for i, bias in enumerate(BIASES):
        for k, (epsilon, stabilizer) in enumerate(STABILIZED):
            rule = dataclasses.replace(rule_for(name, case), bias=bias, epsilon=epsilon, stabilizer=stabilizer)
            R, plain, quick = both(case, rule, np.float64, ("signed", "positive", "ties")[(i + k) % 3])
            assert quick.engine["layer"] == ("plain" if bias == "spread" else "fused")
            if amplification(R, plain) < 1e3:
                check(R, plain, quick, 1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("preset", PRESETS)
def test_end_to_end_on_the_shipped_networks(preset, dtype):
    for graph in (digits_cnn(), lrp.canonize(digits_cnn()), digits_mlp()):
        x = DIGITS.images[DIGITS.test[:4]].astype(dtype)
        plain = lrp.explain(graph, x, PRESETS[preset], engine="plain")
        quick = lrp.explain(graph, x, PRESETS[preset], engine="fast")
        assert set(quick.engine.values()) <= {"fused", "passed", "plain"}
        assert "fused" in quick.engine.values()
        size = abs(plain.relevance).max()
        assert abs(plain.relevance - quick.relevance).max() <= 10 * BOUND[dtype] * size
        assert [entry.node for entry in quick.ledger] == [entry.node for entry in plain.ledger]
        for one, other in zip(quick.ledger, plain.ledger, strict=True):
            for part in ("came", "went", "bias", "stabilizer", "unclaimed"):
                scale = abs(other.magnitude_out).max() + abs(other.magnitude_in).max() + abs(other.bias).max()
                assert abs(getattr(one, part) - getattr(other, part)).max() <= 20 * BOUND[dtype] * scale


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("channels", "outputs", "size", "groups"),
    [(3, 64, 37, 1), (16, 24, 30, 1), (64, 64, 56, 1), (WIDE, WIDE, 37, WIDE), (5, 5, 37, 5)],
)
@pytest.mark.parametrize("tile", [conv.TILE, 2**18])
def test_equal_patches_have_equal_outputs(channels, outputs, size, groups, tile, dtype, monkeypatch):
    """Or rounding would decide the ties of a max pool."""
    monkeypatch.setattr(conv, "TILE", tile)
    rng = np.random.default_rng(size)
    weight = rng.normal(size=(outputs, channels // groups, 3, 3)).astype(dtype)
    layer = Conv(weight=weight, padding=1, groups=groups)
    x = np.broadcast_to(rng.normal(size=(1, channels, 1, 1)), (1, channels, size, size)).astype(dtype)
    z = lrp.explain(lrp.chain(layer), x, lrp.Zero(), np.ones((1, outputs, size, size)), engine="fast").output
    z = z[:, :, 1:-1, 1:-1]
    assert (z == z[:, :, :1, :1]).all()


DEPTHWISE = {
    "3 x 3": ((7, 6), {"kernel": (3, 3), "padding": 1}),
    "5 x 5, stride 2": ((9, 8), {"kernel": (5, 5), "padding": 2, "stride": 2}),
    "2 x 3, dilated": ((7, 8), {"kernel": (2, 3), "dilation": 2}),
    "dilation 2, stride 2": ((9, 8), {"kernel": (3, 2), "padding": 2, "stride": 2, "dilation": 2}),
    "dilation 3, stride 2": ((12, 9), {"kernel": (3, 3), "padding": ((3, 0), (1, 4)), "stride": 2, "dilation": 3}),
    "dilation 4, stride 6": ((17, 14), {"kernel": (4, 3), "padding": ((5, 2), (0, 1)), "stride": 6, "dilation": 4}),
    "stride beyond kernel": ((11, 10), {"kernel": (2, 1), "padding": ((1, 0), (0, 0)), "stride": 3}),
    "padding beyond kernel": ((4, 3), {"kernel": (2, 2), "padding": 5, "stride": 2}),
    "1-D": ((9,), {"kernel": (3,), "padding": ((2, 0),)}),
    "3-D": ((3, 4, 3), {"kernel": (2, 2, 2), "stride": (1, 2, 1)}),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("channels", [WIDE - 1, WIDE])
@pytest.mark.parametrize("form", DEPTHWISE)
def test_depthwise_of_few_and_of_many_channels(form, channels, dtype):
    size, options = DEPTHWISE[form]
    rng = np.random.default_rng(channels)
    options = dict(options)
    weight = rng.normal(size=(channels, 1, *options.pop("kernel"))).astype(dtype)
    layer = Conv(weight=weight, bias=rng.normal(size=channels).astype(dtype), groups=channels, **options)
    x = rng.normal(size=(2, channels, *size)).astype(dtype)
    R = rng.normal(size=layer.forward(x).shape).astype(dtype)
    for rule in (lrp.Epsilon(epsilon=0.5), lrp.ZPlus(epsilon=0.1), lrp.AlphaBeta(alpha=2, epsilon=0.1)):
        plain, quick = (
            lrp.explain(lrp.chain(layer), x, rule, R, engine=engine).relevance for engine in ("plain", "fast")
        )
        assert abs(quick - plain).max() <= BOUND[dtype] * abs(plain).max()


@pytest.mark.parametrize("shape", [(2, 6, 5, 5), (2, 6, 1, 1), (2, 1, 5, 5)])
def test_a_gate_without_relevance_is_skipped_and_leaves_its_source_the_signals(shape):
    """Squeeze and excite: of the product all goes to the signal, and what computes the gate has nothing to pass on."""
    rng = np.random.default_rng(0)
    signal = np.abs(rng.normal(size=shape))
    net = lrp.Graph(
        [
            lrp.Node("relu", ReLU(), "input"),
            lrp.Node("squeeze", GlobalAvgPool(), "relu"),
            lrp.Node("excite", Conv(weight=rng.normal(size=(6, shape[1], 1, 1)), bias=rng.normal(size=6)), "squeeze"),
            lrp.Node("gate", Sigmoid(), "excite"),
            lrp.Node("scaled", Mul(), "relu", "gate"),
        ],
        outputs="scaled",
    )
    R = rng.normal(size=(2, 6, *shape[2:]))
    plain, quick = (lrp.explain(net, signal, PRESETS["epsilon_plus"], R, engine=engine) for engine in ("plain", "fast"))
    np.testing.assert_allclose(quick.relevance, plain.relevance, rtol=1e-13, atol=1e-15)
    assert {node: quick.engine[node] for node in ("scaled", "gate", "excite", "squeeze", "relu")} == {
        "scaled": "passed", "gate": "skipped", "excite": "skipped", "squeeze": "skipped", "relu": "passed"
    }  # fmt: skip
    for one, other in zip(quick.ledger, plain.ledger, strict=True):
        assert one.node == other.node
        for part in ("came", "went", "bias", "stabilizer", "unclaimed", "poles", "empty"):
            np.testing.assert_allclose(getattr(one, part), getattr(other, part), rtol=1e-12, atol=1e-12)
    for node, R_node in plain.relevances.items():
        np.testing.assert_allclose(quick.relevances[node], R_node, rtol=1e-13, atol=1e-15)


def test_what_the_relevance_of_a_pass_needs_is_all_that_is_kept():
    net = lrp.chain(Conv(weight=np.ones((2, 1, 3, 3)), padding=1), ReLU(), MaxPool(kernel=2), Flatten())
    e = lrp.explain(net, np.ones((1, 1, 4, 4)), lrp.Zero(), np.ones((1, 8)), keep="input", engine="fast")
    assert set(e.activations) == set(e.relevances) == {"input"}


ACTIVATIONS = [
    ReLU(), Clip(low=0, high=1), Clip(high=0.5), SiLU(), Sigmoid(), Tanh(), LeakyReLU(slope=0.1),
    PReLU(slope=np.array([0.1, 0.2, 0.3])),
]  # fmt: skip


@pytest.mark.parametrize("rule", [lrp.ZPlus(epsilon=0.1), lrp.Epsilon(epsilon=0.1), lrp.Gamma(gamma=0.5)], ids=repr)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_an_activation_that_is_made_on_the_way_changes_nothing(activation, rule):
    rng = np.random.default_rng(0)
    net = lrp.chain(
        Conv(weight=rng.normal(size=(3, 2, 3, 3)), bias=rng.normal(size=3)), activation, Flatten(),
        Dense(weight=rng.normal(size=(27, 4)), bias=rng.normal(size=4)), SiLU(), Dense(weight=rng.normal(size=(4, 2))),
    )  # fmt: skip
    x, R = rng.normal(size=(2, 2, 5, 5)), rng.normal(size=(2, 2))
    composite = lrp.Composite([(lrp.kind(Conv, Dense), rule)])
    plain = lrp.explain(net, x, composite, R, engine="plain")
    for quick in (lrp.explain(net, x, composite, R, engine="fast", keep=keep) for keep in ("input", "all")):
        np.testing.assert_allclose(quick.output, plain.output, rtol=1e-13)
        assert abs(quick.relevance - plain.relevance).max() <= 1e-13 * abs(plain.relevance).max()


def test_only_floats_are_fast():
    net = digits_mlp()
    for x in (lrp.exact(DIGITS.images[:1]), DIGITS.images[:1].astype(np.longdouble)):
        with pytest.raises(lrp.ArithmeticMismatch, match='engine="plain"'):
            lrp.explain(net, x, lrp.Zero(), engine="fast")
    with pytest.raises(lrp.GraphError, match="engine='quick'"):
        lrp.explain(net, DIGITS.images[:1], lrp.Zero(), engine="quick")


BEHIND = {
    "dense": (lambda rng: Dense(weight=rng.normal(size=(6, 8)), bias=rng.normal(size=8)), (6,)),
    "conv": (lambda rng: Conv(weight=rng.normal(size=(8, 3, 3, 3)), bias=rng.normal(size=8), padding=1), (3, 5, 4)),
    "strided": (lambda rng: Conv(weight=rng.normal(size=(8, 3, 2, 2)), bias=rng.normal(size=8), stride=2), (3, 6, 5)),
    "grouped": (lambda rng: Conv(weight=rng.normal(size=(8, 2, 3, 3)), bias=rng.normal(size=8), groups=2), (4, 5, 5)),
}
"""Layers whose output a ReLU reads: there the engine knows that nothing is dealt out where z <= 0."""


@pytest.mark.parametrize("kind", ["signed", "positive"])
@pytest.mark.parametrize("layer", BEHIND)
@pytest.mark.parametrize("name", RULES)
def test_every_variant_below_a_relu(name, layer, kind):
    rng = np.random.default_rng(len(name))
    make, shape = BEHIND[layer]
    x = rng.normal(size=(2, *shape))
    x = abs(x) if kind == "positive" else x
    hidden = make(rng)
    outputs = np.prod(hidden.forward(x).shape[1:])
    net = lrp.chain(hidden, ReLU(), Flatten(), Dense(weight=rng.normal(size=(outputs, 4))), ReLU())
    for i, (bias, (epsilon, stabilizer)) in enumerate(itertools.product(BIASES, STABILIZED)):
        if i % 5 == len(name) % 5:
            chosen = lrp.ZBox(low=x.min(), high=x.max()) if name.startswith("box") else RULES[name]
            rule = dataclasses.replace(chosen, bias=bias, epsilon=epsilon, stabilizer=stabilizer)
            upper = [lrp.Epsilon(epsilon=0.1), lrp.Flat(), lrp.ZPlus()][i % 3]  # flat reaches units that are off
            composite = lrp.Composite([(lrp.first(Conv, Dense), rule), (lrp.kind(Dense), upper)])
            plain = lrp.explain(net, x, composite, 2, engine="plain")
            for keep in ("all", "input"):
                quick = lrp.explain(net, x, composite, 2, engine="fast", keep=keep)
                largest = max(abs(R).max() for R in plain.relevances.values())
                if largest < 10 * abs(plain.at(net.outputs[0])).max():  # above, rounding is amplified alike
                    for node, R in quick.relevances.items():
                        assert abs(R - plain.at(node)).max() <= 1e-12 * largest, (node, rule, upper)


def test_many_targets_take_one_forward_pass():
    net, x = digits_cnn(), DIGITS.images[:2].astype(np.float32)
    prepared = lrp.prepare(net, PRESETS["epsilon_plus_flat"], x=x)
    several = prepared.explain_each(x, [3, [1, 2], lrp.one(7)], keep="input")
    for target, e in zip([3, [1, 2], lrp.one(7)], several, strict=True):
        one = prepared.explain(x, target, keep="input")
        np.testing.assert_array_equal(e.relevance, one.relevance)
        assert str(e.ledger) == str(one.ledger)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_prepared_graph_derives_no_weight_and_allocates_nothing(preset):
    """Beyond its result: less than 1 MB, where the activations alone are ten times as much."""
    rng = np.random.default_rng(0)
    net = lrp.chain(
        Conv(weight=rng.normal(size=(32, 3, 3, 3)), padding=1), ReLU(), MaxPool(kernel=2),
        Conv(weight=rng.normal(size=(64, 32, 3, 3)), padding=1), ReLU(), MaxPool(kernel=2),
        Flatten(), Dense(weight=rng.normal(size=(64 * 24 * 24, 10))),
    )  # fmt: skip
    x = rng.uniform(size=(1, 3, 96, 96)).astype(np.float32)
    prepared = lrp.prepare(net, PRESETS[preset], x=x)
    prepared.explain(x, 3, keep="input")
    tracemalloc.start()
    e = prepared.explain(x, 3, keep="input")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - e.relevance.nbytes < 2**20
    assert 10 * 2**20 < 4 * (2 * 32 * 96**2 + 2 * 64 * 48**2 + 32 * 48**2 + 3 * 96**2) * 4


def test_what_a_call_returns_stays_what_it_is():
    net, rule = digits_cnn(), PRESETS["epsilon_plus"]
    prepared = lrp.prepare(net, rule)
    first = prepared.explain(DIGITS.images[:1], 3)
    kept = {name: R.copy() for name, R in first.relevances.items()}
    activations = {name: a.copy() for name, a in first.activations.items()}
    for i in range(1, 4):
        prepared.explain(DIGITS.images[i : i + 1], 3)
        prepared.explain(DIGITS.images[i : i + 1], 3, keep="input")
    for name, R in kept.items():
        np.testing.assert_array_equal(first.at(name), R)
    for name, a in activations.items():
        np.testing.assert_array_equal(first.activations[name], a)


def test_a_start_relevance_of_the_caller_is_left_alone():
    net = lrp.chain(Dense(weight=np.ones((3, 2000))), ReLU())
    R = np.random.default_rng(0).normal(size=(2, 2000))
    before = R.copy()
    lrp.explain(net, np.ones((2, 3)), lrp.Zero(), R, engine="fast", keep="input")
    np.testing.assert_array_equal(R, before)


def test_fast_is_what_floats_get_and_the_result_says_so():
    net, x = digits_mlp(), DIGITS.images[:1]
    assert "fused" in lrp.explain(net, x, lrp.Zero()).engine.values()
    for other in (lrp.exact(x), x.astype(np.longdouble), x.astype(np.float16)):
        assert set(lrp.explain(net, other, lrp.Zero(), lrp.logit(3)).engine.values()) == {"plain"}


def test_threads_are_set_for_the_call():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    seen = []

    def watched(z, epsilon):
        seen.append({pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"})
        return 0 * z

    rule = lrp.Zero(stabilizer=watched)
    one = lrp.prepare(digits_mlp(), rule, threads=1).explain(DIGITS.images[:4], 3)
    assert seen
    assert set.union(*seen) == {1}
    other = lrp.prepare(digits_mlp(), rule).explain(DIGITS.images[:4], 3)
    assert abs(one.relevance - other.relevance).max() <= 1e-13 * abs(one.relevance).max()
