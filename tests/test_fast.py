"""The fast path gives the plain path's numbers: layer by layer, on the same activations and relevances."""

import dataclasses

import numpy as np
import pytest
from grid import GRID, relevance, sample
from test_rules import BIASES, RULES, STABILIZED, rule_for

import lrp_ref as lrp
from lrp_ref.arrays import floats
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.layers import Conv, Flatten, MaxPool, ReLU

CASES = {case.id: case for case in GRID}
BOUND = {np.float32: 2e-6, np.float64: 1e-14}
DIGITS = digits()
BOX = {"low": 0, "high": 1}
PRESETS = {
    "epsilon_plus": lrp.presets.epsilon_plus(),
    "epsilon_plus_flat": lrp.presets.epsilon_plus_flat(),
    "epsilon_alpha2_beta1": lrp.presets.epsilon_alpha2_beta1(),
    "epsilon_gamma_box": lrp.presets.epsilon_gamma_box(**BOX),
    "excitation_backprop": lrp.presets.excitation_backprop(),
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
        plain = lrp.explain(graph, x, PRESETS[preset])
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
@pytest.mark.parametrize(("channels", "outputs", "size"), [(3, 64, 37), (16, 24, 30), (64, 64, 56)])
def test_equal_patches_have_equal_outputs(channels, outputs, size, dtype):
    """Or rounding would decide the ties of a max pool."""
    rng = np.random.default_rng(size)
    layer = Conv(weight=rng.normal(size=(outputs, channels, 3, 3)).astype(dtype), padding=1)
    x = np.broadcast_to(rng.normal(size=(1, channels, 1, 1)), (1, channels, size, size)).astype(dtype)
    z = lrp.explain(lrp.chain(layer), x, lrp.Zero(), np.ones((1, outputs, size, size)), engine="fast").output
    z = z[:, :, 1:-1, 1:-1]
    assert (z == z[:, :, :1, :1]).all()


def test_what_the_relevance_of_a_pass_needs_is_all_that_is_kept():
    net = lrp.chain(Conv(weight=np.ones((2, 1, 3, 3)), padding=1), ReLU(), MaxPool(kernel=2), Flatten())
    e = lrp.explain(net, np.ones((1, 1, 4, 4)), lrp.Zero(), np.ones((1, 8)), keep="input", engine="fast")
    assert set(e.activations) == set(e.relevances) == {"input"}


def test_only_floats_are_fast():
    net = digits_mlp()
    for x in (lrp.exact(DIGITS.images[:1]), DIGITS.images[:1].astype(np.longdouble)):
        with pytest.raises(lrp.ArithmeticMismatch, match='engine="plain"'):
            lrp.explain(net, x, lrp.Zero(), engine="fast")
    with pytest.raises(lrp.GraphError, match="engine='quick'"):
        lrp.explain(net, DIGITS.images[:1], lrp.Zero(), engine="quick")
