"""Every rule in every variant against the literal loops, and what rules promise as values.

The default tier is a covering design: the rules by themselves meet every case of the grid, with every bias and every
stabilizer (in rotating pairs) they meet every kind of layer, and all their variants meet a dense layer and a
convolution; the standard library's rationals do a seventh of that. The full tier is the whole product, on both.
"""

import dataclasses
import itertools
import math
import re
import zlib
from fractions import Fraction
from functools import lru_cache
from types import SimpleNamespace

import by_definition as by
import numpy as np
import pytest
from checks import check_conserves, check_same_dealing
from grid import GRID, relevance, sample

import lrp_ref as lrp
from lrp_ref.arrays import like
from lrp_ref.audit import poles
from lrp_ref.layers import Concat, Conv, Dense, MaxPool, ReLU
from lrp_ref.store import parse

F = Fraction
FIFTH, EIGHTH = F(1, 5), F(1, 8)

# --- the rules, their variants, and the same in the referee's words

RULES = {
    "zero": lrp.Zero(),
    "epsilon": lrp.Epsilon(epsilon=0.2),
    "norm": lrp.Norm(),
    "gamma": lrp.Gamma(),
    "gamma-0": lrp.Gamma(gamma=0),
    "gamma-3": lrp.Gamma(gamma=3),
    "generalized-gamma": lrp.GeneralizedGamma(),
    "generalized-gamma-0": lrp.GeneralizedGamma(gamma=0),
    "generalized-gamma-3": lrp.GeneralizedGamma(gamma=3),
    "z-plus": lrp.ZPlus(),
    "z-plus-weight": lrp.ZPlus(split="weight"),
    "z-minus": lrp.ZMinus(),
    "z-minus-weight": lrp.ZMinus(split="weight"),
    "alpha-1": lrp.AlphaBeta(alpha=1),
    "alpha-2": lrp.AlphaBeta(),
    "alpha-3.5": lrp.AlphaBeta(alpha=3.5),
    "alpha-1-weight": lrp.AlphaBeta(alpha=1, split="weight"),
    "alpha-2-weight": lrp.AlphaBeta(split="weight"),
    "alpha-3.5-weight": lrp.AlphaBeta(alpha=3.5, split="weight"),
    "flat": lrp.Flat(),
    "w-square": lrp.WSquare(),
    "box": "scalar",
    "box-per-channel": "channel",
    "box-full": "full",
}
ONE_OF_EACH = (
    "zero", "epsilon", "norm", "gamma-3", "generalized-gamma", "z-plus", "z-plus-weight", "alpha-2", "alpha-3.5-weight",
    "flat", "w-square", "box-per-channel",
)  # fmt: skip
BIASES = ("rule", "none", "raw", "squared", "spread")
STABILIZERS = (
    lrp.Signed(),
    lrp.Unsigned(),
    lrp.AtZero(),
    lrp.Clipped(),
    lrp.SignedOrZero(at_zero=EIGHTH),
    lrp.Relative(),
    lrp.Relative(signed=False, plus=EIGHTH),
    lrp.Relative(over="batch"),
    lrp.Relative(over="batch", signed=False, plus=EIGHTH),
)
STABILIZED = (
    *((FIFTH, stabilizer) for stabilizer in STABILIZERS),
    (0, lrp.Signed()),
    (0, lrp.SignedOrZero(at_zero=EIGHTH)),
    (0, lrp.Relative(plus=EIGHTH)),
)
"""Size and form; with an epsilon of 0 the other forms add nothing."""


def rule_for(name, case):
    """The rule of that name; a box by channels or in full is made to the measure of the layer's joined input."""
    rule = RULES[name]
    if not isinstance(rule, str):
        return rule
    shape = joined(case)
    alike = isinstance(case.layer, Concat) or math.prod(shape) == sum(map(math.prod, case.shapes))
    if rule == "scalar" or not alike:  # operands that are broadcast share one bound
        return lrp.ZBox(low=-1.5, high=2)
    shape = shape[:1] if rule == "channel" else shape
    steps = np.arange(math.prod(shape)).reshape(shape) % 5 / 8
    return lrp.ZBox(low=-1.5 - steps, high=2 + steps[::-1])


def joined(case):
    return case.layer.join(*(np.zeros((1, *shape)) for shape in case.shapes)).shape[1:]


def bounds(case, bound):
    """A box's bound as one number for each input of the operator."""
    values, shape = np.array(bound), joined(case)
    if values.ndim == 0:
        return float(values)
    column = values.reshape(values.shape + (1,) * (len(shape) - values.ndim)) if values.shape != shape else values
    parts = case.layer.split(np.broadcast_to(column, shape)[None], [(1, *shape) for shape in case.shapes])
    return [value for part in parts for value in part.reshape(-1).tolist()]


def in_the_referees_words(case, rule):
    """The function and its positional parameters."""
    match rule:
        case lrp.Zero():
            return by.zero, ()
        case lrp.Epsilon():
            return by.epsilon, ()
        case lrp.Norm():
            return by.norm, ()
        case lrp.Gamma(gamma=gamma):
            return by.gamma, (gamma,)
        case lrp.GeneralizedGamma(gamma=gamma):
            return by.generalized_gamma, (gamma,)
        case lrp.ZPlus():
            return by.z_plus, ()
        case lrp.ZMinus():
            return by.z_minus, ()
        case lrp.AlphaBeta(alpha=alpha, beta=beta):
            return by.alpha_beta, (alpha, beta)
        case lrp.Flat():
            return by.flat, ()
        case lrp.WSquare():
            return by.w_square, ()
        case lrp.ZBox(low=low, high=high):
            return by.z_box, (bounds(case, low), bounds(case, high))
    raise TypeError(rule)


def stabilizer_in_the_referees_words(stabilizer):
    match stabilizer:
        case lrp.Signed():
            return by.signed
        case lrp.Unsigned():
            return by.unsigned
        case lrp.AtZero():
            return by.at_zero
        case lrp.Clipped():
            return by.clip
        case lrp.SignedOrZero(at_zero=at_zero):
            return by.signed_or(at_zero)
        case lrp.Relative(over="sample", signed=signed, plus=plus):
            return by.relative(signed, plus)
    raise TypeError(stabilizer)


def by_loops(case, rule, operators, samples, relevances):
    """What the literal loops deal out, sample by sample."""
    function, parameters = in_the_referees_words(case, rule)
    variant = {"epsilon": rule.epsilon, "bias": rule.bias}
    if hasattr(rule, "split"):
        variant["split"] = rule.split
    match rule.stabilizer:
        case lrp.Relative(over="batch", signed=signed, plus=plus):
            options = {"sign": signed, "plus": plus, **variant}
            return by.with_batch_rms(function, operators, samples, relevances, *parameters, **options)
        case other:
            variant["stabilizer"] = stabilizer_in_the_referees_words(other)
            each = zip(operators, samples, relevances, strict=True)
            return [function(op, a, R, *parameters, **variant) for op, a, R in each]


# --- one layer, one rule, a batch of two

CASES = {case.id: case for case in GRID}
MIXES = (("signed", "zeros"), ("ties", "positive"), ("zeros", "ties"))


@lru_cache(maxsize=4)
def drawn(id, mix):
    """Two samples (each input, and R) in dyadic floats, and for each the operator and its input as one vector."""
    case, rng = CASES[id], np.random.default_rng(zlib.crc32(id.encode()) + mix)
    halves = [sample(case, rng, 1, kind) for kind in MIXES[mix]]
    operators = [case.operator(tuple(a[0] for a in half)) for half in halves]
    vectors = [[value for a in half for value in a.reshape(-1).tolist()] for half in halves]
    inputs = tuple(np.concatenate(both) for both in zip(*halves, strict=True))
    return inputs, relevance((2, *operators[0].outputs), rng), operators, vectors


@lru_cache(maxsize=2048)
def expected(id, mix, rule):
    """What the loops say; computed once for both kinds of rationals."""
    _, R, operators, vectors = drawn(id, mix)
    every = by_loops(CASES[id], rule, operators, vectors, [r.reshape(-1).tolist() for r in R])
    return [SimpleNamespace(R_in=d.R_in, bias=d.bias, stabilizer=d.stabilizer, unclaimed=d.unclaimed) for d in every]


def check_by_loops(id, mix, rule, exact):
    """R_in, bias, stabilizer and unclaimed of each unit and sample, with ==, in rationals of one type."""
    inputs, R, _, _ = drawn(id, mix)
    inputs, R = tuple(map(exact, inputs)), exact(R)
    R_in, absorbed = rule.back(CASES[id].layer.like(R), inputs, R)
    parts = (absorbed.bias, absorbed.stabilizer, absorbed.unclaimed)
    carriers = {type(value) for a in (*R_in, *parts) for value in a.flat}
    assert carriers == {type(R.flat[0])}, f"numbers of {carriers}"
    for i, dealt in enumerate(expected(id, mix, rule)):
        flat = np.concatenate([r[i].reshape(-1) for r in R_in])
        books = SimpleNamespace(**{name: getattr(absorbed, name)[i] for name in ("bias", "stabilizer", "unclaimed")})
        check_same_dealing((flat, books), dealt)


def check_all(jobs, exact):
    """Many (case, mix, rule), reporting each that fails and not only the first."""
    failures, count = [], 0
    for id, mix, rule in jobs:
        count += 1
        try:
            check_by_loops(id, mix, rule, exact)
        except AssertionError as error:
            failures.append(f"{id}, {MIXES[mix]}, {rule!r}: {error}")
    assert count, "nothing was compared"
    assert not failures, f"{len(failures)} of {count} differ, the first: {failures[0]}"


RATIONALS = pytest.mark.parametrize("exact", ["flint", "fractions"], indirect=True)
"""Outermost, so that it varies fastest, and both find what the loops said still in the cache."""

KINDS: dict[str, list[str]] = {}
for case in GRID:
    KINDS.setdefault(type(case.layer).__name__, []).append(case.id)


def thinner(jobs, exact):
    """All on flint's rationals; on the standard library's, which are slower, each seventh (prime to all periods)."""
    return itertools.islice(jobs, 0, None, 7) if type(exact([1])[0]) is F else jobs


def variants(name, id):
    """All 60 of a rule on a case: what the bias adds, the size and the form of the stabilizer; the samples change."""
    for i, (bias, (epsilon, stabilizer)) in enumerate(itertools.product(BIASES, STABILIZED)):
        variant = {"bias": bias, "epsilon": epsilon, "stabilizer": stabilizer}
        yield id, (i + i // len(STABILIZED)) % 3, dataclasses.replace(rule_for(name, CASES[id]), **variant)


@RATIONALS
@pytest.mark.parametrize("id", CASES)
def test_every_rule_on_every_layer(id, exact):
    check_all(((id, i % 3, rule_for(name, CASES[id])) for i, name in enumerate(RULES)), exact)


@RATIONALS
@pytest.mark.parametrize("kind", KINDS)
def test_every_bias_and_stabilizer_on_every_kind_of_layer(kind, exact):
    """The bias that meets a stabilizer moves on from kind to kind, and so does the case that stands for the kind."""

    def jobs():
        turn = list(KINDS).index(kind)
        for i, name in enumerate(ONE_OF_EACH):
            for k, (epsilon, stabilizer) in enumerate(STABILIZED):
                id = KINDS[kind][(i * len(STABILIZED) + k) % len(KINDS[kind])]
                variant = {"bias": BIASES[(k + turn + i) % 5], "epsilon": epsilon, "stabilizer": stabilizer}
                yield id, (i + k + turn) % 3, dataclasses.replace(rule_for(name, CASES[id]), **variant)

    check_all(thinner(jobs(), exact), exact)


@RATIONALS
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("id", ["dense", "conv2d-padding-per-axis"])
def test_every_variant_on_dense_and_conv(id, name, exact):
    check_all(thinner(variants(name, id), exact), exact)


@RATIONALS
@pytest.mark.full
@pytest.mark.parametrize("id", CASES)
def test_every_variant_on_every_layer(id, exact):
    check_all((job for name in RULES for job in variants(name, id)), exact)


@pytest.mark.parametrize(
    "rules",
    [
        [lrp.Epsilon(epsilon=FIFTH, stabilizer=form) for form in STABILIZERS],
        [lrp.Gamma(gamma=g) for g in (0, 0.25, 3)],
        [lrp.GeneralizedGamma(gamma=g) for g in (0, 0.25, 3)],
        [lrp.AlphaBeta(alpha=a, split=s) for a in (1, 2, 3.5) for s in ("product", "weight")],
        [lrp.AlphaBeta(bias=bias) for bias in BIASES],
        [lrp.GeneralizedGamma(bias=bias) for bias in BIASES],
        [rule_for(name, CASES["conv2d-padding-per-axis"]) for name in RULES if "box" in name],
        [rule for name, rule in RULES.items() if name in ("zero", "gamma", "z-plus", "flat", "w-square")],
    ],
    ids=["stabilizers", "gamma", "generalized gamma", "alpha and split", "bias", "bias with a mask", "boxes", "rules"],
)
def test_the_samples_tell_the_variants_apart(rules):
    """Else the comparisons above would compare nothing: no two of these give the same on the convolution."""
    id = "conv2d-padding-per-axis"
    found = {tuple(v for mix in range(3) for dealt in expected(id, mix, rule) for v in dealt.R_in) for rule in rules}
    assert len(found) == len(rules)


def test_the_design_covers():
    names = {type(rule_for(name, CASES["dense"])).__name__ for name in RULES}
    assert names == set(lrp.rules.__all__) - {"Gradient", "Pass", "Product"}
    assert {"Dense", "Conv", "ConvTranspose", "AvgPool", "MaxPool", "BatchNorm", "Add", "ReLU", "Pad"} <= set(KINDS)
    samples = [drawn(id, mix) for id in CASES for mix in range(3)]
    assert np.mean([(R == 0).any() for _, R, _, _ in samples]) > 0.9
    assert np.mean([any((a < 0).any() for a in inputs) for inputs, *_ in samples]) > 0.9
    assert np.mean([any((a == 0).any() for a in inputs) for inputs, *_ in samples]) > 0.6


# --- Pass


@pytest.mark.parametrize("mix", range(3))
@pytest.mark.parametrize("id", CASES)
def test_pass(id, mix, exact):
    """By wires, or in the layer's own portions; refused where an output has several inputs that nobody ranks."""
    case, (inputs, R, operators, _) = CASES[id], drawn(id, mix)
    inputs, R, layer = tuple(map(exact, inputs)), exact(R), case.layer.like(exact(R))
    shared = getattr(layer, "ties", None) == "shared"
    if not shared and any(len(to) > 1 for op in operators for to in by.connected(op)):
        with pytest.raises(lrp.UnsuitableRule, match=rf"Pass on {type(layer).__name__}.* live inputs, .*Norm\(\)"):
            lrp.Pass().back(layer, inputs, R)
        return
    for rule in (lrp.Pass(), lrp.Pass(epsilon=0.2, stabilizer=lrp.Unsigned(), bias="none")):
        R_in, absorbed = rule.back(layer, inputs, R)
        for i, op in enumerate(operators):
            dealt = by.pass_(op, lrp.fractions(R[i]).reshape(-1).tolist(), op.w if shared else None)
            books = SimpleNamespace(**{n: getattr(absorbed, n)[i] for n in ("bias", "stabilizer", "unclaimed")})
            check_same_dealing((np.concatenate([r[i].reshape(-1) for r in R_in]), books), dealt)
        assert not absorbed.poles.any()
        assert not absorbed.empty.any()


OWN_MATRIX = [
    id
    for id, case in CASES.items()
    if not case.layer.product
    and not isinstance(case.layer, lrp.layers.Activation)
    and getattr(case.layer, "frozen_as", "winner") == "winner"
]
"""Layers whose derivative is the matrix that they freeze to."""


@pytest.mark.parametrize("mix", range(2))
@pytest.mark.parametrize("id", OWN_MATRIX)
def test_the_gradient_as_a_rule(id, mix):
    """R_j = sum_k w_jk R_k; what it creates is booked as such."""
    case, (inputs, R, operators, _) = CASES[id], drawn(id, mix)
    inputs, R = tuple(map(lrp.exact, inputs)), lrp.exact(R)
    R_in, absorbed = lrp.Gradient().back(case.layer.like(R), inputs, R)
    for i, op in enumerate(operators):
        dealt = by.pass_(op, lrp.fractions(R[i]).reshape(-1).tolist(), op.w)
        books = SimpleNamespace(**{n: getattr(absorbed, n)[i] for n in ("bias", "stabilizer", "unclaimed")})
        check_same_dealing((np.concatenate([r[i].reshape(-1) for r in R_in]), books), dealt)


def test_the_gradient_doubles_at_an_add_and_the_books_say_so():
    net = lrp.Graph([lrp.Node("sum", lrp.layers.Add(), "input", "input")], outputs="sum")
    e = lrp.explain(net, np.array([[1.0, 2.0]]), lrp.Gradient(), target=np.array([[3.0, 4.0]]))
    assert e.relevance.tolist() == [[6, 8]]
    assert e.ledger["sum"].unclaimed == -7
    assert e.ledger.balance() == 0


def test_pass_is_refused_by_the_name_of_the_node():
    net = lrp.chain(Dense(weight=[[1.0, 2.0], [3.0, 4.0]]), ReLU())
    with pytest.raises(lrp.UnsuitableRule, match=r'^node "0\.dense" \(Dense\): Pass on Dense\(weight=2x2\): .* 2 live'):
        lrp.explain(net, np.ones((1, 2)), lrp.Composite([(lrp.kind(Dense), lrp.Pass())]), 0)


def test_pass_takes_one_live_input_a_unit_wherever_it_stands():
    """Not by the layer's class: a dense layer of one input is a wire to each output, also where its weight is 0."""
    R = np.array([[2.0, 3.0]])
    (R_in,), absorbed = lrp.Pass().back(Dense(weight=[[5.0, 0.0]], bias=[1.0, 1.0]), [np.array([[7.0]])], R)
    assert R_in.tolist() == [[5.0]]
    assert (absorbed.unclaimed == 0).all()


# --- conservation, in four arithmetics


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
@pytest.mark.parametrize("id", CASES)
def test_floats_conserve_within_the_bound_and_keep_their_type(id, dtype):
    case = CASES[id]
    turn = list(CASES).index(id) + len(dtype)
    every_second = 1 if dtype == "float32" else 2
    for i, name in list(enumerate(RULES))[turn % every_second :: every_second]:
        inputs, R, _, _ = drawn(id, (i + turn) % 3)
        inputs, R = tuple(a.astype(dtype) for a in inputs), R.astype(dtype)
        layer, plain, (epsilon, stabilizer) = case.layer.like(R), rule_for(name, case), STABILIZED[(i + turn) % 12]
        check_conserves(layer, plain, inputs, R)
        variant = {"bias": BIASES[(i + turn) % 5], "epsilon": epsilon, "stabilizer": stabilizer}
        check_conserves(layer, dataclasses.replace(plain, **variant), inputs, R)
        _, absorbed = plain.back(layer, inputs, R)
        assert {a.dtype for a in (absorbed.bias, absorbed.stabilizer, absorbed.unclaimed)} == {R.dtype}


@pytest.mark.parametrize("id", CASES)
def test_exact_arithmetic_conserves_exactly(id):
    for i, name in enumerate(RULES):
        inputs, R, _, _ = drawn(id, i % 3)
        inputs, R = tuple(map(lrp.exact, inputs)), lrp.exact(R)
        check_conserves(CASES[id].layer.like(R), rule_for(name, CASES[id]), inputs, R)


@pytest.mark.parametrize("rule", [lrp.AlphaBeta(alpha=1.4), lrp.AlphaBeta(alpha=1.1, split="weight")], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_portions_that_are_no_dyadic_numbers_conserve(rule, dtype):
    inputs, R, _, _ = drawn("conv2d", 0)
    check_conserves(CASES["conv2d"].layer.like(R.astype(dtype)), rule, inputs[0].astype(dtype), R.astype(dtype))


# --- denominators of 0


def neuron(weight, bias=None):
    return Dense(weight=[[w] for w in weight], bias=None if bias is None else [bias])


def dealt(exact, rule, weight, a, R=6, bias=None):
    """(R_in, bias, stabilizer, unclaimed, poles, empty) of one neuron."""
    x, R = exact([a]), exact([[R]])
    layer = neuron(weight, bias).like(x)
    (R_in,), absorbed = rule.back(layer, (x,), R)
    parts = [lrp.fractions(part)[0, 0] for part in (absorbed.bias, absorbed.stabilizer, absorbed.unclaimed)]
    return lrp.fractions(R_in)[0].tolist(), *parts, bool(absorbed.poles[0, 0]), bool(absorbed.empty[0, 0])


CANCEL = {
    "LRP-0": (lrp.Zero(), (1, -1), (1, 1), None),
    "LRP-0, the bias": (lrp.Zero(), (1, -2), (2, 3), 4),
    "gamma": (lrp.Gamma(gamma=1), (1, -2), (1, 1), None),
    "bias dropped": (lrp.Zero(bias="none"), (1, -1), (1, 1), 5),
    "unsigned epsilon": (lrp.Epsilon(epsilon=0.5, stabilizer=lrp.Unsigned()), (1, -1), (1, 1.5), None),
    "z+ by weights": (lrp.ZPlus(split="weight"), (1, 1), (1, -1), None),
    "z+ with the raw bias": (lrp.ZPlus(bias="raw"), (1, -3), (1, 1), -1),
    "z-box outside its box": (lrp.ZBox(low=2, high=4), (1, 1), (1, 3), None),
}


@pytest.mark.filterwarnings("ignore:ZBox")
@pytest.mark.parametrize("case", CANCEL)
def test_where_contributions_cancel_to_0_the_relevance_is_unclaimed_and_marked(exact, case):
    rule, weight, a, bias = CANCEL[case]
    assert dealt(exact, rule, weight, a, bias=bias) == ([0, 0], 0, 0, 6, True, False)
    assert dealt(exact, rule, weight, a, bias=bias, R=0) == ([0, 0], 0, 0, 0, False, False)


@pytest.mark.parametrize("rule", [lrp.Zero(), lrp.Gamma(), lrp.WSquare(), lrp.ZBox(low=0, high=0)], ids=repr)
def test_where_nothing_contributes_the_relevance_is_unclaimed_and_marked(exact, rule):
    assert dealt(exact, rule, (0, 0), (0, 0)) == ([0, 0], 0, 0, 6, True, False)


def test_flat_has_a_share_for_everyone_however_dead(exact):
    assert dealt(exact, lrp.Flat(), (0, 0), (0, 0)) == ([3, 3], 0, 0, 0, False, False)


def test_where_z_is_0_generalized_gamma_has_no_side_to_take(exact):
    """Not a denominator of 0: neither share has a portion, with any epsilon."""
    for epsilon in (0, FIFTH):
        rule = lrp.GeneralizedGamma(gamma=1, epsilon=epsilon)
        assert dealt(exact, rule, (1, -1), (1, 1)) == ([0, 0], 0, 0, 6, False, False)


@pytest.mark.parametrize("split", ["product", "weight"])
def test_an_empty_negative_part_creates_relevance(exact, split):
    R_in, bias, stabilizer, unclaimed, _, _ = dealt(exact, lrp.AlphaBeta(split=split), (1, 2), (1, 1))
    assert (R_in, bias, stabilizer, unclaimed) == ([4, 8], 0, 0, -6)


def test_empty_parts_are_marked(exact):
    assert dealt(exact, lrp.AlphaBeta(), (1, 2), (1, 1))[3:] == (-6, False, True)
    assert dealt(exact, lrp.AlphaBeta(), (-1, -2), (1, 1))[3:] == (12, False, True)
    assert dealt(exact, lrp.AlphaBeta(), (1, -2), (1, 1))[3:] == (0, False, False)
    assert dealt(exact, lrp.ZPlus(), (1, -2), (-1, 1))[3:] == (6, False, True)
    assert dealt(exact, lrp.ZPlus(), (1, -2), (-1, 1), bias=1)[1:] == (6, 0, 0, False, False)
    assert dealt(exact, lrp.AlphaBeta(alpha=1), (1, 2), (1, 1))[3:] == (0, False, False)  # beta = 0 misses nothing


@pytest.mark.parametrize("form", [lrp.Signed(), lrp.Unsigned(), lrp.AtZero(), lrp.Clipped()], ids=repr)
def test_empty_parts_are_marked_though_the_stabilizer_takes_their_portion(exact, form):
    rule = lrp.AlphaBeta(epsilon=FIFTH, stabilizer=form)
    _, bias, stabilizer, unclaimed, pole, empty = dealt(exact, rule, (1, 2), (1, 1))
    assert (bias, unclaimed, pole, empty) == (0, 0, False, True)
    positive = {lrp.Signed(): F(1, 16), lrp.Unsigned(): F(1, 16)}.get(form, 0)
    assert stabilizer == 12 * positive - 6


def test_z_minus_deals_among_the_negative_contributions(exact):
    """By the sign of the product, or ("weight") of the weight; where none is negative the part is empty."""
    weight = lrp.ZMinus(split="weight")
    assert dealt(exact, lrp.ZMinus(), (1, -2), (3, 1), bias=-1) == ([0, 4], 2, 0, 0, False, False)
    assert dealt(exact, lrp.ZMinus(epsilon=1), (1, -2), (3, 1), bias=5) == ([0, 4], 0, 2, 0, False, False)
    assert dealt(exact, lrp.ZMinus(), (1, -2), (3, -1)) == ([0, 0], 0, 0, 6, False, True)
    assert dealt(exact, weight, (1, -2), (3, -1)) == ([0, 6], 0, 0, 0, False, False)
    assert dealt(exact, weight, (-1, -1), (1, -1)) == ([0, 0], 0, 0, 6, True, False)
    assert dealt(exact, lrp.ZMinus(bias="raw"), (-3, 1), (1, 1), bias=3) == ([0, 0], 0, 0, 6, True, False)


def test_a_negative_part_that_the_unsigned_epsilon_cancels_is_a_pole_and_not_empty(exact):
    rule = lrp.AlphaBeta(epsilon=2, stabilizer=lrp.Unsigned())
    assert dealt(exact, rule, (4, -2), (1, 1)) == ([8, 0], 0, 4, -6, True, False)


def test_marks_against_loops_on_many_small_neurons(exact):
    """Where a share's d_k = 0 and its dealt relevance is not: empty if none of its numerators is not 0, else a pole."""
    rng = np.random.default_rng(5)
    rules = [
        *(lrp.AlphaBeta(alpha=alpha, bias=bias) for alpha in (1, 2) for bias in BIASES),
        *(lrp.AlphaBeta(split="weight", bias=bias) for bias in ("rule", "raw")),
        *(lrp.ZPlus(epsilon=1, stabilizer=form) for form in STABILIZERS[:5]),
        *(lrp.AlphaBeta(epsilon=1, stabilizer=form) for form in STABILIZERS[:5]),
        *(lrp.Zero(epsilon=e, stabilizer=form) for e in (0, 1) for form in STABILIZERS[:5]),
    ]
    seen = {"pole": 0, "empty": 0, "strict": 0}
    for rule, _ in itertools.product(rules, range(8)):
        W, b = rng.integers(-1, 2, (2, 6)), rng.integers(-1, 2, 6)
        a, R = rng.integers(-1, 2, (1, 2)), rng.integers(-1, 2, (1, 6))
        op = by.dense(W.tolist(), b.tolist())
        function, parameters = in_the_referees_words(None, rule)
        variant = {"bias": rule.bias} | ({"split": rule.split} if hasattr(rule, "split") else {})
        zs = by.denominators(function, op, a.reshape(-1), *parameters, **variant)
        portions = [rule.alpha, -rule.beta] if isinstance(rule, lrp.AlphaBeta) else [1]
        stabilizer = stabilizer_in_the_referees_words(rule.stabilizer)
        pole, empty, strict = [False] * 6, [False] * 6, [False] * 6
        for sign, z, portion in zip((by.pos, by.neg), zs, portions, strict=False):
            e = stabilizer(z, F(rule.epsilon))
            for k in range(6):
                n = [F(int(a[0, j] * W[j, k])) for j in range(2)]
                if hasattr(rule, "split"):
                    whole = [F(int(a[0, j])) * sign(F(int(W[j, k]))) for j in range(2)]
                    n = [sign(n_j) for n_j in n] if rule.split == "product" else whole
                own = sign if hasattr(rule, "split") else lambda x: x
                n.append(by.bias_numerators(op, rule.bias, own)[k])
                if portion * R[0, k] == 0:
                    continue
                one_signed = hasattr(rule, "split") and rule.split == "product" and rule.bias not in ("raw", "squared")
                if one_signed and not any(n):
                    empty[k] = True
                elif z[k] + e[k] == 0:
                    pole[k] = True
                strict[k] |= z[k] + e[k] == 0 and any(n)
        x, R = exact(a), exact(R)
        layer = Dense(weight=W, bias=b).like(x)
        _, absorbed = rule.back(layer, (x,), R)
        assert absorbed.poles[0].tolist() == pole, f"{rule!r}, {W}, {b}, {a}, {R}"
        assert absorbed.empty[0].tolist() == empty, f"{rule!r}, {W}, {b}, {a}, {R}"
        assert poles(layer, rule, x, R)[0].tolist() == strict, f"{rule!r}, {W}, {b}, {a}, {R}"
        for name, marks in (("pole", pole), ("empty", empty), ("strict", strict)):
            seen[name] += sum(marks)
    assert min(seen.values()) > 20, seen


# --- the parts that a formula leaves to its implementation


@pytest.mark.parametrize("weight", [(1, -2), (-1, 2)], ids=["z > 0", "z < 0"])
def test_the_mask_of_generalized_gamma_keeps_the_bias_that_the_denominator_drops(exact, weight):
    """m = (1, -2), b = 3: z = 2 is positive, so that +1 grows to 1 + 1/2, over a denominator of -1/2 (ruling 6)."""
    bias = 3 * weight[0]
    rule = lrp.GeneralizedGamma(gamma=0.5, bias="none")
    assert dealt(exact, rule, weight, (1, 1), R=1, bias=bias) == ([-3, 4], 0, 0, 0, False, False)
    keeps = dealt(exact, lrp.GeneralizedGamma(gamma=0.5), weight, (1, 1), R=1, bias=bias)
    assert keeps == ([F(3, 8), F(-1, 2)], F(9, 8), 0, 0, False, False)


@pytest.mark.parametrize("alpha", [1, 1.1, 1.4, 2, 3.5, 7.3, F(4, 3)], ids=str)
def test_beta_is_alpha_minus_1_exactly(alpha):
    rule = lrp.AlphaBeta(alpha=alpha)
    assert F(rule.alpha) - F(rule.beta) == 1
    assert lrp.AlphaBeta(alpha=alpha, beta=float(alpha) - 1) == rule


def test_beta_as_people_write_it():
    assert lrp.AlphaBeta(alpha=1.4, beta=0.4).beta == 1.4 - 1 != 0.4


@pytest.mark.parametrize("alpha", [1.4, 2.0, 3.5])
@pytest.mark.parametrize("sign", [1, -1])
def test_beta_may_be_off_by_4_ulp_of_alpha_and_no_more(alpha, sign):
    ulp = np.spacing(alpha)
    near = lrp.AlphaBeta(alpha=alpha, beta=float(alpha - 1 + sign * 4 * ulp))
    assert near == lrp.AlphaBeta(alpha=alpha)
    with pytest.raises(ValueError, match="so that alpha - beta = 1"):
        lrp.AlphaBeta(alpha=alpha, beta=float(alpha - 1 + sign * 5 * ulp))


@pytest.mark.parametrize("over", [(1,), (0,), (0, 2)], ids=str)
def test_relative_over_chosen_axes(over):
    z = np.random.default_rng(0).normal(size=(2, 3, 4))
    rms = np.sqrt((z**2).mean(axis=over, keepdims=True))
    np.testing.assert_allclose(lrp.Relative(over=over)(z, 0.5), 0.5 * rms * np.where(z < 0, -1, 1), rtol=1e-15)
    unsigned = lrp.Relative(over=over, signed=False, plus=2.0)(z, 0.5)
    np.testing.assert_allclose(unsigned, np.broadcast_to(0.5 * rms + 2, z.shape), rtol=1e-15)


@pytest.mark.parametrize(("over", "rms"), [("sample", ([5, 5], [35, 35])), ("batch", ([25, 25], [25, 25]))])
def test_relative_to_a_sample_or_to_the_batch(exact, over, rms):
    """The root of the mean square of all axes but the first, or of all: numbers whose roots are whole."""
    z = exact([[1, -7], [7, -49]])
    half = lrp.Relative(over=over, signed=False, plus=0.25)(z, 0.5)
    assert lrp.fractions(half).tolist() == [[F(r, 2) + F(1, 4) for r in row] for row in rms]
    signed = lrp.Relative(over=over)(z[:, :, None], 1)
    assert lrp.fractions(signed)[:, :, 0].tolist() == [[r, -s] for r, s in rms]


@pytest.mark.parametrize("form", STABILIZERS, ids=repr)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_stabilizers_keep_the_type_and_shape(form, dtype):
    z = np.array([[1, -1, 0.0, 0.125]], dtype=dtype)
    e = form(z, FIFTH)
    assert (e.dtype, e.shape) == (z.dtype, z.shape)


# --- boxes

HIT = np.array([[[0.0, 0.5, 1.0], [1.0, 1.5, 2.0]]])  # two channels of three


def box_dealt(rule, x=HIT):
    layer = Conv(weight=np.array([[[1.0], [-2.0]]])).like(x)
    (R_in,), _ = rule.back(layer, [x], like(np.ones((1, 1, 3)), x))
    return R_in


def test_per_channel_bounds_go_by_the_channel_also_where_the_last_axis_is_as_long():
    x = np.array([[[0.0, 0.5], [1.0, 1.5]]])
    full = lrp.ZBox(low=[[-1, -1], [-2, -2]], high=[[2, 2], [3, 3]])
    wrong = lrp.ZBox(low=[[-1, -2], [-1, -2]], high=[[2, 3], [2, 3]])
    layer, R = Conv(weight=np.array([[[1.0], [-2.0]]])), np.ones((1, 1, 2))
    (channel,), _ = lrp.ZBox(low=[-1, -2], high=[2, 3]).back(layer, [x], R)
    assert channel.any()
    assert (channel == full.back(layer, [x], R)[0][0]).all()
    assert (channel != wrong.back(layer, [x], R)[0][0]).any()


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        ([0, 0, 0], 2, "ZBox: low has shape (3,)"),  # fits the last axis
        (0, [2, 2, 2], "ZBox: high has shape (3,)"),
        ([0], 2, "ZBox: low has shape (1,)"),
        ([[0], [0]], 2, "ZBox: low has shape (2, 1)"),
        ([[0, 0, 0]], 2, "ZBox: low has shape (1, 3)"),
        ([[[0, 0, 0], [0, 0, 0]]], 2, "ZBox: low has shape (1, 2, 3)"),
    ],
    ids=str,
)
def test_bounds_that_do_not_fit_are_refused(low, high, word):
    with pytest.raises(
        lrp.ShapeError, match=re.escape(word) + r".* a scalar, one number a channel \(2,\), or \(2, 3\)"
    ):
        box_dealt(lrp.ZBox(low=low, high=high))


@pytest.mark.parametrize("to", [lrp.exact, np.float64, np.float32, np.longdouble], ids=lambda to: to.__name__)
def test_inputs_outside_the_box_are_counted_and_the_worst_is_named(to):
    x = to(HIT)
    with pytest.warns(UserWarning, match="ZBox") as caught:
        box_dealt(lrp.ZBox(low=0.75, high=[0.875, 1.75]), x)
    assert [str(w.message) for w in caught] == [
        "ZBox: 2 input values lie beyond low, the worst by 0.75: the box must hold the data",
        "ZBox: 2 input values lie beyond high, the worst by 0.25: the box must hold the data",
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inputs_outside_the_box_by_rounding_are_not_reported(dtype):
    eps = np.finfo(dtype).eps
    for x, high, low in ((1 + eps, 1, 0), (-1, 0, -1 + eps / 2), (1 + 7 * eps, 1, 0)):
        box_dealt(lrp.ZBox(low=low, high=high), np.full((1, 2, 3), x, dtype=dtype))
    with pytest.warns(UserWarning, match="6 input values lie beyond high"):
        box_dealt(lrp.ZBox(low=0, high=1), np.full((1, 2, 3), 1 + 9 * eps, dtype=dtype))


def test_bounds_are_rounded_to_the_type_of_the_inputs_and_in_exact_arithmetic_are_what_they_are():
    third = np.float32(1) / np.float32(3)
    x = np.full((1, 2, 3), third)
    box_dealt(lrp.ZBox(low=0, high=1 / 3), x)
    assert float(third) > 1 / 3
    with pytest.warns(UserWarning, match="6 input values lie beyond high, the worst by 9.93e-09"):
        box_dealt(lrp.ZBox(low=0, high=1 / 3), lrp.exact(x))


def test_bounds_in_arrays_are_kept_as_rationals_if_they_are_and_else_as_floats(exact):
    thirds = exact([F(1, 3), F(2, 3)])
    assert lrp.ZBox(low=thirds, high=1).low == tuple(thirds)
    low = lrp.ZBox(low=np.ones(2, int), high=1).low
    assert (low, [type(bound) for bound in low]) == ((1, 1), [float, float])


@pytest.mark.filterwarnings("ignore:ZBox")
def test_outside_the_box_the_formula_still_holds(exact):
    rule = lrp.ZBox(low=-0.25, high=0.5)
    check_by_loops("conv1d-padding", 0, rule, exact)


# --- rules as values

PRINTED = {
    "Zero()": lrp.Zero(),
    "Epsilon(epsilon=1e-06)": lrp.Epsilon(epsilon=1e-6),
    "Epsilon(epsilon=0)": lrp.Epsilon(epsilon=0),
    "Norm(epsilon=0.1)": lrp.Norm(epsilon=0.1),
    "Gamma(gamma=0.25)": lrp.Gamma(),
    "Gamma(gamma=0.25, bias='raw')": lrp.Gamma(bias="raw"),
    "GeneralizedGamma(gamma=0.25)": lrp.GeneralizedGamma(),
    "ZPlus()": lrp.ZPlus(),
    "ZPlus(bias='none', split='weight')": lrp.ZPlus(split="weight", bias="none"),
    "AlphaBeta(alpha=2, beta=1)": lrp.AlphaBeta(),
    "AlphaBeta(alpha=3.5, beta=2.5, epsilon=0.1)": lrp.AlphaBeta(alpha=3.5, epsilon=0.1),
    "Flat()": lrp.Flat(),
    "WSquare(bias='squared')": lrp.WSquare(bias="squared"),
    "ZBox(low=0, high=1)": lrp.ZBox(low=0, high=1),
    "ZBox(low=(-1.0, -2.0), high=(1, 2))": lrp.ZBox(low=np.array([-1, -2]), high=[1, 2]),
    "ZBox(low=0.0, high=((1.5,), (2.5,)))": lrp.ZBox(low=np.float32(0), high=[[1.5], [2.5]]),
    "Epsilon(epsilon=0.25, stabilizer=Relative(over='batch', signed=False, plus=1e-09))": lrp.Epsilon(
        epsilon=0.25, stabilizer=lrp.Relative(over="batch", signed=False, plus=1e-9)
    ),
    "Epsilon(epsilon=0.25, stabilizer=Relative(over=(0, 2), signed=True, plus=0.0))": lrp.Epsilon(
        epsilon=0.25, stabilizer=lrp.Relative(over=(0, 2))
    ),
    "Epsilon(epsilon=1e-06, stabilizer=SignedOrZero(at_zero=1e-12))": lrp.Epsilon(
        epsilon=1e-6, stabilizer=lrp.SignedOrZero()
    ),
    "Epsilon(epsilon=0.5)": lrp.Epsilon(epsilon=np.float64(0.5)),
    "Gamma(gamma=0.5)": lrp.Gamma(gamma=np.float32(0.5)),
    "Pass()": lrp.Pass(),
}


@pytest.mark.parametrize("text", PRINTED)
def test_rules_print_as_the_call_that_makes_them(text):
    rule = PRINTED[text]
    assert repr(rule) == text
    assert parse(text) == rule
    assert hash(parse(text)) == hash(rule)


@pytest.mark.parametrize("name", [*RULES, "pass"])
def test_every_variant_survives_being_printed(name):
    plain = lrp.Pass() if name == "pass" else rule_for(name, CASES["conv2d"])
    forms = [lrp.SignedOrZero(at_zero=0.125), lrp.Relative(signed=False, plus=0.1), lrp.Relative(over=(1, 3))]
    seen = set()
    for bias, epsilon, form in itertools.product(BIASES, (0, 0.2), (*STABILIZERS[:4], *forms, STABILIZERS[7])):
        rule = dataclasses.replace(plain, bias=bias, epsilon=epsilon, stabilizer=form)
        assert parse(repr(rule)) == rule
        assert hash(parse(repr(rule))) == hash(rule)
        seen.add(repr(rule))
    assert len(seen) == 80  # no two print alike


def test_rules_compare_by_class_and_every_parameter():
    rules = [*PRINTED.values(), *(rule_for(name, CASES["conv2d"]) for name in RULES)]
    distinct = {repr(rule) for rule in rules}
    assert len(set(rules)) == len(distinct)
    assert lrp.Zero() != lrp.Norm()
    with pytest.raises(dataclasses.FrozenInstanceError):
        lrp.Gamma().gamma = 3


BAD = {
    # what is refused: the call, and the reason
    "epsilon below 0": (lambda: lrp.Zero(epsilon=-1e-9), r"Zero: epsilon=-1e-09, need a finite number >= 0"),
    "epsilon NaN": (lambda: lrp.Epsilon(epsilon=math.nan), r"Epsilon: epsilon=nan, need a finite number >= 0"),
    "epsilon infinite": (lambda: lrp.Flat(epsilon=math.inf), r"Flat: epsilon=inf, need a finite number >= 0"),
    "epsilon text": (lambda: lrp.Norm(epsilon="1"), r"Norm: epsilon='1', need a finite number >= 0"),
    "epsilon truth": (lambda: lrp.Norm(epsilon=True), r"Norm: epsilon=True, need a finite number >= 0"),
    "epsilon None": (lambda: lrp.WSquare(epsilon=None), r"WSquare: epsilon=None, need a finite number >= 0"),
    "epsilon array": (lambda: lrp.Norm(epsilon=np.array(1.0)), r"Norm: epsilon=array\(1.\), need a finite number >= 0"),
    "epsilon array of one": (
        lambda: lrp.Norm(epsilon=np.ones(1)),
        r"Norm: epsilon=array\(\[1.\]\), need a finite numb",
    ),
    "epsilon complex": (lambda: lrp.Norm(epsilon=1j), r"Norm: epsilon=1j, need a finite number >= 0"),
    "stabilizer": (lambda: lrp.Zero(stabilizer="signed"), r"Zero: stabilizer='signed', need a stabilizer such as Sig"),
    "stabilizer's class": (lambda: lrp.Zero(stabilizer=lrp.Signed), r"Zero: stabilizer=<class .*, need a stabilizer"),
    "bias": (lambda: lrp.Gamma(bias="zero"), r"Gamma: bias='zero', need one of 'rule', 'none', 'raw', 'squared', 'sp"),
    "bias truth": (lambda: lrp.Gamma(bias=False), r"Gamma: bias=False, need one of 'rule'"),
    "gamma below 0": (lambda: lrp.Gamma(gamma=-0.1), r"Gamma: gamma=-0.1, need a finite number >= 0"),
    "gamma infinite": (lambda: lrp.Gamma(gamma=math.inf), r"Gamma: gamma=inf, need a finite number >= 0"),
    "generalized gamma": (lambda: lrp.GeneralizedGamma(gamma=-1), r"GeneralizedGamma: gamma=-1, need a finite number"),
    "generalized gamma NaN": (lambda: lrp.GeneralizedGamma(gamma=math.nan), r"GeneralizedGamma: gamma=nan, need a fi"),
    "split of z+": (lambda: lrp.ZPlus(split="input"), r"ZPlus: split='input', need \"product\" or \"weight\""),
    "split of z-": (lambda: lrp.ZMinus(split="input"), r"ZMinus: split='input', need \"product\" or \"weight\""),
    "split of alpha-beta": (
        lambda: lrp.AlphaBeta(split=None),
        r"AlphaBeta: split=None, need \"product\" or \"weight\"",
    ),
    "alpha below 1": (lambda: lrp.AlphaBeta(alpha=0.5), r"AlphaBeta: alpha=0.5, need a finite number >= 1"),
    "alpha infinite": (lambda: lrp.AlphaBeta(alpha=math.inf), r"AlphaBeta: alpha=inf, need a finite number >= 1"),
    "alpha text": (lambda: lrp.AlphaBeta(alpha="2"), r"AlphaBeta: alpha='2', need a finite number >= 1"),
    "beta off": (lambda: lrp.AlphaBeta(alpha=2, beta=0.9), r"AlphaBeta: beta=0.9, need alpha - 1 = 1, so that alpha -"),
    "beta of the toolbox": (lambda: lrp.AlphaBeta(alpha=2, beta=-1), r"AlphaBeta: beta=-1, need alpha - 1 = 1"),
    "beta below 0": (lambda: lrp.AlphaBeta(alpha=1, beta=-1e-17), r"AlphaBeta: beta=-1e-17, need alpha - 1 = 0"),
    "beta text": (lambda: lrp.AlphaBeta(alpha=2, beta="1"), r"AlphaBeta: beta='1', need alpha - 1 = 1"),
    "beta NaN": (lambda: lrp.AlphaBeta(alpha=2, beta=math.nan), r"AlphaBeta: beta=nan, need alpha - 1 = 1"),
    "box upside down": (lambda: lrp.ZBox(low=1, high=0), r"ZBox: low=1, need at most high=0"),
    "box upside down in a channel": (lambda: lrp.ZBox(low=[0, 2], high=1), r"ZBox: low=\(0, 2\), need at most high=1"),
    "box upside down in a bound": (lambda: lrp.ZBox(low=1, high=[2, 0]), r"ZBox: low=1, need at most high=\(2, 0\)"),
    "box upside down in its shape": (lambda: lrp.ZBox(low=[0, 2], high=[1, 1]), r"ZBox: low=\(0, 2\), need at most hi"),
    "box NaN": (lambda: lrp.ZBox(low=math.nan, high=0), r"ZBox: low=nan, need finite numbers, in rows of equal"),
    "box unbounded": (lambda: lrp.ZBox(low=0, high=[1, math.inf]), r"ZBox: high=\(1, inf\), need finite numbers"),
    "box text": (lambda: lrp.ZBox(low="0", high=1), r"ZBox: low='0', need finite numbers"),
    "box None": (lambda: lrp.ZBox(low=None, high=1), r"ZBox: low=None, need finite numbers"),
    "box of nothing": (lambda: lrp.ZBox(low=[], high=1), r"ZBox: low=\(\), need finite numbers"),
    "box ragged": (
        lambda: lrp.ZBox(low=0, high=[[1, 2], [3]]),
        r"ZBox: high=\(\(1, 2\), \(3,\)\), need finite numbers",
    ),
    "relative over": (lambda: lrp.Relative(over="channel"), r"Relative: over='channel', need \"sample\", \"batch\" or"),
    "relative over one axis": (
        lambda: lrp.Relative(over=1),
        r"Relative: over=1, need \"sample\", \"batch\" or a tuple",
    ),
    "relative plus": (lambda: lrp.Relative(plus=-1.0), r"Relative: plus=-1.0, need a finite number >= 0"),
    "relative plus NaN": (lambda: lrp.Relative(plus=math.nan), r"Relative: plus=nan, need a finite number >= 0"),
    "at_zero": (lambda: lrp.SignedOrZero(at_zero=-1.0), r"SignedOrZero: at_zero=-1.0, need a finite number >= 0"),
    "at_zero NaN": (lambda: lrp.SignedOrZero(at_zero=math.nan), r"SignedOrZero: at_zero=nan, need a finite number"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_are_refused_at_construction_with_the_reason(case):
    make, reason = BAD[case]
    with pytest.raises(ValueError, match=reason):
        make()


def test_the_least_values_are_allowed():
    assert (lrp.Zero(epsilon=0).epsilon, lrp.Gamma(gamma=0).gamma, lrp.GeneralizedGamma(gamma=0).gamma) == (0, 0, 0)
    assert (lrp.AlphaBeta(alpha=1).beta, lrp.AlphaBeta(alpha=1, beta=0).beta) == (0, 0)
    assert (lrp.SignedOrZero(at_zero=0.0).at_zero, lrp.Relative(plus=0.0).plus) == (0, 0)
    assert lrp.ZBox(low=[1, 1], high=1).low == (1, 1)
    assert lrp.ZBox(low=[1, 1], high=np.zeros((2, 3))).low == (1, 1)  # of two shapes, compared where they meet the data


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: lrp.Epsilon(), "epsilon"),
        (lambda: lrp.ZBox(low=0), "high"),
        (lambda: lrp.ZBox(high=0), "low"),
        (lambda: lrp.Gamma(0.25), "positional"),
        (lambda: lrp.Epsilon(1e-6), "positional"),
        (lambda: lrp.ZBox(0, 1), "positional"),
        (lambda: lrp.Zero(1e-6), "positional"),
        (lambda: lrp.Flat(gamma=1), "gamma"),
    ],
    ids=["epsilon missing", "high missing", "low missing", "gamma", "epsilon", "box", "zero", "unknown"],
)
def test_what_has_no_default_or_no_name_is_a_type_error(make, word):
    with pytest.raises(TypeError, match=word):
        make()


class Half(lrp.Rule):
    """A rule of one's own: half of LRP-0."""

    def shares(self):
        return (lrp.Share((lrp.Term(),), portion=0.5),)


def test_a_rule_of_ones_own_needs_nothing_but_its_shares(exact):
    for rule, portion in ((Half(), F(1, 2)), (lrp.Zero(), 1)):
        R_in, bias, stabilizer, unclaimed, pole, empty = dealt(exact, rule, (1, 2), (1, 1), bias=1)
        assert R_in == [portion * 6 / 4, portion * 12 / 4]
        assert (bias, stabilizer, unclaimed, pole, empty) == (portion * 6 / 4, 0, (1 - portion) * 6, False, False)
    with pytest.raises(NotImplementedError, match=r"Rule must define shares\(\)"):
        dealt(exact, lrp.Rule(), (1, 2), (1, 1))


class OnePortion(Half):
    """A rule with fewer portions than shares."""

    def shares(self):
        return super().shares() * 2

    def portions_at(self, layer, a):
        return super().portions_at(layer, a)[:1]


class NoWeights(lrp.Rule):
    """A rule with fewer weights than inputs."""

    def shares(self):
        return (lrp.Share((lrp.Term(), lrp.Term())),)

    def modified(self, share, a, weight, bias):
        x, w, b = super().modified(share, a, weight, bias)
        return x, w[:1], b


@pytest.mark.parametrize("rule", [OnePortion(), NoWeights()], ids=repr)
def test_a_portion_for_each_share_and_a_weight_for_each_input_or_an_error(exact, rule):
    with pytest.raises(ValueError, match="shorter"):
        dealt(exact, rule, (1, 2), (1, 1))


class NoForward(Dense):
    """A dense layer that must not be run forward."""

    def forward(self, *inputs):
        raise AssertionError("run forward")


def test_the_layer_runs_forward_only_for_portions_that_are_functions_of_z(exact):
    a = exact([[1, 2]])
    layer = NoForward(weight=exact([[1], [1]]))
    assert lrp.AlphaBeta().portions_at(layer, a) == [2, -1]
    with pytest.raises(AssertionError, match="run forward"):
        lrp.GeneralizedGamma().portions_at(layer, a)


def test_spread_leaves_what_no_input_can_take_where_it_was(exact):
    """Output 0 reads padding alone: its bias and stabilizer stay booked, those of the others are dealt out."""
    layer = Conv(weight=exact([[[1]]]), bias=exact([1]), padding=[(1, 0)])
    R_in, absorbed = lrp.four_steps(
        layer, lrp.Epsilon(epsilon=1, bias="spread"), exact([[[1, 2]]]), exact([[[6, 6, 8]]])
    )
    assert lrp.fractions(R_in).tolist() == [[[6, 8]]]
    assert lrp.fractions(absorbed.bias).tolist() == [[[3, 0, 0]]]
    assert lrp.fractions(absorbed.stabilizer).tolist() == [[[3, 0, 0]]]


def test_a_max_pool_window_of_zeros_has_a_winner_for_pass_and_none_for_the_division(exact):
    """6.5: by division the relevance of a window whose maximum is 0 is lost, and here it is booked."""
    layer, x, R = MaxPool(kernel=2), exact([[[0, 0, -1, 3]]]), exact([[[5, 7]]])
    (R_in,), absorbed = lrp.Pass().back(layer, (x,), R)
    assert lrp.fractions(R_in).tolist() == [[[5, 0, 0, 7]]]
    (R_in,), absorbed = lrp.Zero().back(layer, (x,), R)
    assert lrp.fractions(R_in).tolist() == [[[0, 0, 0, 7]]]
    assert lrp.fractions(absorbed.unclaimed).tolist() == [[[5, 0]]]
    assert absorbed.poles.tolist() == [[[True, False]]]
