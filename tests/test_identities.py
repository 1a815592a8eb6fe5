"""What must hold whatever computes it: identities of the rules, each by another way than the rule itself.

Exact arithmetic and == wherever they can be had; limits with the bound that the formula gives.
"""

import dataclasses
import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import by_definition as by
import numpy as np
import pytest
from checks import check_books
from grid import GRID, relevance, sample
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_rules import RULES, STABILIZERS, by_loops, rule_for

import lrp_ref as lrp
from lrp_ref.layers import (
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    LeakyReLU,
    MaxPool,
    Mean,
    Pad,
    PReLU,
    ReLU,
    Scale,
    Slice,
    SoftMinPool,
    Sub,
    Sum,
    SumPool,
    Transpose,
    Upsample,
)
from lrp_ref.theory import gradient, gradient_x_input, integrated_gradients, messages

F = Fraction
FIFTH = F(1, 5)
CASES = {case.id: case for case in GRID}


def equal(a, b):
    """Whether two exact arrays are the same numbers in the same shape."""
    return a.shape == b.shape and bool((lrp.fractions(a) == lrp.fractions(b)).all())


def alike(first, second):
    """Whether R_in and the books of two backs are the same."""
    return all(map(equal, parts(first), parts(second)))


def parts(back):
    R_in, absorbed = back
    return (R_in, absorbed.bias, absorbed.stabilizer, absorbed.unclaimed)


# --- small dense layers with values of both signs and zeros

SMALL = st.builds(F, st.integers(-6, 6), st.sampled_from([1, 2, 3, 8]))
POSITIVE = st.builds(F, st.integers(1, 6), st.sampled_from([1, 2, 3]))


def arrays(*shape, of=SMALL):
    size = int(np.prod(shape))
    values = st.lists(of, min_size=size, max_size=size)
    return values.map(lambda v: lrp.exact(np.array(v, dtype=object).reshape(shape)))


@dataclass(frozen=True)
class Layer:
    """A dense layer, a batch of inputs, and relevance."""

    W: Any
    b: Any
    a: Any
    R: Any

    def back(self, rule):
        """(R_in, books)."""
        (R_in,), absorbed = rule.back(Dense(weight=self.W, bias=self.b), (self.a,), self.R)
        return R_in, absorbed

    def __call__(self, rule):
        return self.back(rule)[0]

    def but(self, **changes):
        return dataclasses.replace(self, **changes)

    @property
    def m(self):
        """The contributions a_j w_jk: (sample, input, output)."""
        return self.a[:, :, None] * self.W

    @property
    def z(self):
        return self.a @ self.W + self.b

    def z_part(self, sign):
        """Z+ or Z- of each output, the bias's part included."""
        return sign(self.m).sum(axis=1) + sign(self.b)


positive = np.frompyfunc(lambda x: x if x > 0 else x * 0, 1, 1)
negative = np.frompyfunc(lambda x: x if x < 0 else x * 0, 1, 1)
by_sign = np.frompyfunc(lambda x: 1 if x >= 0 else -1, 1, 1)


@st.composite
def layers(draw, inputs=SMALL, relevances=SMALL, bias=SMALL):
    """Up to three samples, four inputs, four outputs."""
    N, J, K = (draw(st.integers(1, most)) for most in (3, 4, 4))
    drawn = arrays(J, K), arrays(K, of=bias), arrays(N, J, of=inputs), arrays(N, K, of=relevances)
    return Layer(*map(draw, drawn))


@st.composite
def scaled(draw, inputs=SMALL):
    """A layer and a positive number for each of its inputs and outputs."""
    layer = draw(layers(inputs=inputs))
    J, K = layer.W.shape
    return layer, draw(arrays(J, of=POSITIVE)), draw(arrays(K, of=POSITIVE))


def example(**changes):
    """One layer on which unequal things differ."""
    W, b = lrp.exact([[1, -2, 0.5], [0.25, 1, -1], [-1, 0.5, 2]]), lrp.exact([0.5, -0.25, 1])
    a, R = lrp.exact([[1, -0.5, 2], [0.25, 3, -1]]), lrp.exact([[1, 2, -1], [0.5, -1, 3]])
    return dataclasses.replace(Layer(W, b, a, R), **changes)


BOX = lrp.ZBox(low=-6, high=6)
PLAIN = (
    lrp.Zero(), lrp.Norm(), lrp.Gamma(), lrp.Gamma(gamma=3), lrp.GeneralizedGamma(), lrp.ZPlus(), lrp.AlphaBeta(),
    lrp.ZPlus(split="weight"), lrp.AlphaBeta(alpha=3.5, split="weight"), lrp.Flat(), lrp.WSquare(), BOX,
)  # fmt: skip
WITHOUT_BATCH = [form for form in STABILIZERS if getattr(form, "over", "") != "batch"]
EVERY = (
    *PLAIN,
    *(lrp.Epsilon(epsilon=FIFTH, stabilizer=form) for form in WITHOUT_BATCH),
    *(lrp.AlphaBeta(bias=bias, epsilon=FIFTH) for bias in ("none", "raw", "squared", "spread")),
    *(lrp.GeneralizedGamma(bias=bias) for bias in ("none", "raw", "squared", "spread")),
    lrp.WSquare(bias="squared"), lrp.ZPlus(bias="none", epsilon=FIFTH), lrp.Flat(bias="spread", epsilon=FIFTH),
)  # fmt: skip
every_rule = pytest.mark.parametrize("rule", EVERY, ids=repr)
few = settings(max_examples=settings().max_examples // 5)
"""For what is drawn anew for each of many rules."""


# --- U1: linear in R


@every_rule
@pytest.mark.parametrize(
    "id",
    ["dense", "conv2d-padding-per-axis", "transposed2d", "avg-pool2d-padding", "max-pool2d-shared", "add-constant"],
)
def test_u1_linear_in_R_books_included(exact, id, rule):
    case, rng = CASES[id], np.random.default_rng(1)
    inputs = tuple(map(exact, sample(case, rng, 2)))
    layer = case.layer.like(inputs[0])
    shape = layer.forward(*inputs).shape
    R, S = exact(relevance(shape, rng)), exact(relevance(shape, rng))
    u, v = exact([F(2, 3), F(-5, 4)])

    def back(R):
        R_in, absorbed = rule.back(layer, inputs, R)
        return (*R_in, absorbed.bias, absorbed.stabilizer, absorbed.unclaimed)

    for both, one, other in zip(back(u * R + v * S), back(R), back(S), strict=True):
        assert equal(both, u * one + v * other)


# --- U4: permuting inputs and outputs permutes R


@every_rule
@few
@given(data=st.data())
def test_u4_permuting_inputs_and_outputs_permutes_R(rule, data):
    one = data.draw(layers())
    p, q = (data.draw(st.permutations(range(n))) for n in one.W.shape)
    moved = Layer(one.W[p][:, q], one.b[q], one.a[:, p], one.R[:, q])
    R_in, absorbed = one.back(rule)
    R_moved, absorbed_moved = moved.back(rule)
    assert equal(R_moved, R_in[:, p])
    assert equal(absorbed_moved.bias, absorbed.bias[:, q])
    assert equal(absorbed_moved.unclaimed, absorbed.unclaimed[:, q])


def test_u4_a_box_moves_with_its_inputs():
    one, p = example(), [2, 0, 1]
    low, high = [-1, -2, -3], [2, 3, 4]
    box = lrp.ZBox(low=low, high=high)
    moved = lrp.ZBox(low=[low[i] for i in p], high=[high[i] for i in p])
    permuted = one.but(W=one.W[p], a=one.a[:, p])
    assert equal(permuted(moved), one(box)[:, p])
    assert not equal(permuted(box), one(box)[:, p])


@every_rule
def test_u4_channels_of_a_convolution(exact, rule):
    case, rng = CASES["conv2d-padding-per-axis"], np.random.default_rng(4)
    (a,) = map(exact, sample(case, rng, 2))
    layer, q = case.layer.like(a), [2, 0, 1]
    R = exact(relevance(layer.forward(a).shape, rng))
    moved = dataclasses.replace(layer, weight=layer.weight[q][:, ::-1], bias=layer.bias[q])
    (R_in,), _ = rule.back(layer, (a,), R)
    (R_moved,), _ = rule.back(moved, (a[:, ::-1],), R[:, q])
    assert equal(R_moved, R_in[:, ::-1])


# --- U5, U6: rescaling outputs or inputs


@pytest.mark.parametrize(
    "rule",
    [*PLAIN, lrp.Zero(bias="none"), lrp.AlphaBeta(bias="raw"), lrp.Zero(bias="spread"), lrp.WSquare(bias="squared")],
    ids=repr,
)
@few
@given(drawn=scaled())
def test_u5_rescaling_the_outputs_changes_nothing(rule, drawn):
    one, _, D = drawn
    assert alike(one.but(W=one.W * D, b=one.b * D).back(rule), one.back(rule))


@pytest.mark.parametrize("rule", [lrp.Zero(), lrp.WSquare(), lrp.WSquare(bias="squared"), lrp.Flat()], ids=repr)
@given(drawn=scaled(), signs=st.integers(0, 15))
def test_u5_nor_does_a_factor_of_any_sign_for_lrp_0_and_w2(rule, drawn, signs):
    one, _, D = drawn
    D = D * lrp.exact([1 - 2 * (signs >> k & 1) for k in range(len(D))])
    assert alike(one.but(W=one.W * D, b=one.b * D).back(rule), one.back(rule))


@pytest.mark.parametrize(
    ("rule", "D"),
    [
        *((lrp.Epsilon(epsilon=FIFTH, stabilizer=form), 2) for form in (lrp.Signed(), lrp.Unsigned())),
        (lrp.Zero(bias="squared"), 2),
        *((rule, -1) for rule in (lrp.Gamma(), lrp.ZPlus(), lrp.AlphaBeta(alpha=3.5), BOX)),
    ],
    ids=repr,
)
def test_u5_fails_with_an_epsilon_or_a_sign(rule, D):
    one = example()
    assert not equal(one.but(W=one.W * D, b=one.b * D)(rule), one(rule))


SEES_CONTRIBUTIONS = [
    rule for rule in EVERY if not isinstance(rule, (lrp.WSquare, lrp.ZBox)) and getattr(rule, "split", "") != "weight"
]


@pytest.mark.parametrize("rule", [*SEES_CONTRIBUTIONS, lrp.ZPlus(split="weight")], ids=repr)
@few
@given(drawn=scaled())
def test_u6_rescaling_the_inputs_changes_nothing(rule, drawn):
    """Also not for flat, which sees neither inputs nor weights."""
    one, D, _ = drawn
    assert alike(one.but(W=one.W * D[:, None], a=one.a / D).back(rule), one.back(rule))


@given(drawn=scaled())
def test_u6_a_box_is_rescaled_with_its_inputs(drawn):
    one, D, _ = drawn
    box = lrp.ZBox(low=(-6 / D).tolist(), high=(6 / D).tolist())
    assert alike(one.but(W=one.W * D[:, None], a=one.a / D).back(box), one.back(BOX))


@pytest.mark.parametrize("rule", [lrp.WSquare(), BOX], ids=repr)
def test_u6_fails_for_w2_and_for_a_box_that_stays(rule):
    one, D = example(), lrp.exact([2, 1, 1])
    assert not equal(one.but(W=one.W * D[:, None], a=one.a / D)(rule), one(rule))


# --- nets of everything that is linear on each side of its kinks


def eighths(rng, *shape):
    return rng.integers(-8, 9, shape) / 8


def sixteenths(rng, *shape):
    """Odd sixteenths: no sum of eighths with one of them is 0."""
    return (2 * rng.integers(-8, 8, shape) + 1) / 16


def mlp(bias=True):
    rng = np.random.default_rng(2)
    b = lambda n: sixteenths(rng, n) if bias else None  # noqa: E731
    net = lrp.chain(
        Dense(weight=eighths(rng, 5, 6), bias=b(6)),
        LeakyReLU(slope=0.25) if bias else ReLU(),
        Dense(weight=eighths(rng, 6, 5), bias=b(5)),
        ReLU(),
        Dropout(),
        Dense(weight=eighths(rng, 5, 4), bias=b(4)),
    )
    return net, (5,)


def cnn():
    rng = np.random.default_rng(3)
    net = lrp.chain(
        Conv(weight=eighths(rng, 4, 2, 3, 2), bias=sixteenths(rng, 4), stride=(2, 1), padding=((1, 0), (1, 2))),
        LeakyReLU(slope=0.125),
        MaxPool(kernel=2, stride=1),
        Conv(weight=eighths(rng, 4, 2, 2, 2), bias=sixteenths(rng, 4), groups=2, padding=1, dilation=2),
        PReLU(slope=[0.5, 0.25, 0.0, -0.5]),
        AvgPool(kernel=2, stride=2, padding=1, ceil=True),
        Flatten(),
        Dense(weight=eighths(rng, 32, 3), bias=sixteenths(rng, 3)),
    )
    return net, (2, 7, 5)


def resnet():
    rng = np.random.default_rng(4)
    nodes = [
        lrp.Node("stem", Conv(weight=eighths(rng, 3, 2, 3, 3), bias=sixteenths(rng, 3), padding=1, stride=2), "input"),
        lrp.Node("relu1", LeakyReLU(slope=0.25), "stem"),
        lrp.Node("conv", Conv(weight=eighths(rng, 3, 3, 3, 3), bias=sixteenths(rng, 3), padding=1), "relu1"),
        lrp.Node("norm", BatchNorm(scale=[0.75, -1.5, 0.5], shift=[0.3125, -0.4375, 0.0625]), "conv"),
        lrp.Node("relu2", ReLU(), "norm"),
        lrp.Node("short", Conv(weight=eighths(rng, 3, 3, 1, 1)), "relu1"),
        lrp.Node("add", Add(constant=[[[0.1875]], [[-0.0625]], [[0.5625]]]), "relu2", "short", "relu1"),
        lrp.Node("relu3", ReLU(), "add"),
        lrp.Node("up", ConvTranspose(weight=eighths(rng, 3, 2, 2, 2), bias=sixteenths(rng, 2), stride=2), "relu3"),
        lrp.Node("max", GlobalMaxPool(), "up"),
        lrp.Node("mean", GlobalAvgPool(), "relu3"),
        lrp.Node("cut", Slice(axis=1, stop=2), "mean"),
        lrp.Node("sub", Sub(), "max", "cut"),
        lrp.Node("scale", Scale(weight=[-0.5, 2, 1], bias=[0.4375, -0.3125, 0.1875]), "mean"),
        lrp.Node("join", Concat(axis=1), "sub", "scale"),
        lrp.Node("pad", Pad(padding=((1, 0), (0, 0), (0, 0))), "join"),
        lrp.Node("twice", Upsample(factor=(2, 1)), "pad"),
        lrp.Node("turn", Transpose(axes=(0, 2, 1, 3)), "twice"),
        lrp.Node("sum", Sum(axes=1), "turn"),
        lrp.Node("flat", Flatten(), "sum"),
        lrp.Node("less", Sub(constant=[0.0625, 0.1875, -0.4375, 0.3125, 0.0625, 0.5625]), "flat"),
        lrp.Node("dense", Dense(weight=eighths(rng, 6, 3), bias=sixteenths(rng, 3)), "less"),
    ]
    return lrp.Graph(nodes, outputs="dense"), (2, 6, 5)


def tokens():
    rng = np.random.default_rng(5)
    net = lrp.chain(
        Dense(weight=eighths(rng, 4, 5), bias=sixteenths(rng, 5)),
        ReLU(),
        MaxPool(kernel=3, stride=2, padding=1, ties="shared"),
        Mean(axes=(1,)),
        Dense(weight=eighths(rng, 3, 3), bias=sixteenths(rng, 3)),
    )
    return net, (3, 4)


NETS = {"mlp": mlp(), "cnn": cnn(), "resnet": resnet(), "tokens": tokens()}
every_net = pytest.mark.parametrize("name", NETS)


def net_and_input(name, exact, batch=2):
    net, shape = NETS[name]
    x = exact(np.random.default_rng(6).integers(-4096, 4097, (batch, *shape)) / 4096)  # fine: no two values tie
    return net.like(x), x


# --- 1, 2: LRP-0 is gradient x input, and what is missing is what the biases contribute

STEP = F(1, 2**60)
"""So small that no ReLU and no maximum changes sides: then a difference quotient is the derivative, exactly."""


@every_net
@pytest.mark.parametrize("target", [0, -1, lrp.contrast(0, 1)], ids=repr)
def test_1_lrp_0_is_gradient_x_input(exact, name, target):
    net, x = net_and_input(name, exact)
    e = lrp.explain(net, x, lrp.Zero(), target)
    check_books(e)
    assert equal(e.relevance, gradient_x_input(net, x, target))
    assert (lrp.fractions(e.relevance) != 0).any()


@every_net
def test_1_lrp_0_is_the_input_times_difference_quotients(exact, name):
    """The same without any backward pass: each input moved alone, in one batch."""
    net, x = net_and_input(name, exact, batch=1)
    J = x[0].size
    moved = np.concatenate([x] * J).reshape(J, J)
    moved[np.arange(J), np.arange(J)] += exact([STEP])[0]
    f = net.forward(np.concatenate([x, moved.reshape(J, *x.shape[1:])]))[net.outputs[0]][:, 0]
    slope = (f[1:] - f[0]) / exact([STEP])
    e = lrp.explain(net, x, lrp.Zero(), 0)
    assert equal(e.relevance, x * slope.reshape(x.shape))
    assert equal(gradient(net, x, 0), slope.reshape(x.shape))


@every_net
def test_2_the_books_of_the_biases_are_b_times_df_by_db(exact, name):
    """Node by node, from forward passes with that node's bias made a little larger; and the rest is sum R."""
    net, x = net_and_input(name, exact)
    e = lrp.explain(net, x, lrp.Zero(), 1)
    f = e.output[:, 1]
    biased = []
    for node in net.nodes:
        field = next((f for f in ("bias", "shift", "constant") if getattr(node.layer, f, None) is not None), None)
        if field is None:
            assert equal(e.ledger[node.name].bias, f * 0)
            continue
        grown = dataclasses.replace(node.layer, **{field: getattr(node.layer, field) * (1 + exact([STEP])[0])})
        quotient = (net.with_layers({node.name: grown}).forward(x)[net.outputs[0]][:, 1] - f) / exact([STEP])
        assert equal(e.ledger[node.name].bias, quotient), node.name
        biased.append(node.name)
    assert len(biased) >= 2
    everything = e.relevance.reshape(len(x), -1).sum(axis=1) + sum(e.ledger[name].bias for name in biased)
    assert equal(everything, f)
    assert (lrp.fractions(f) != 0).all()


@pytest.mark.parametrize("steps", [1, 3])
def test_integrated_gradients_are_gradient_x_input_without_biases(exact, steps):
    net, shape = mlp(bias=False)
    x = exact(np.random.default_rng(7).integers(-16, 17, (3, *shape)) / 16)
    for target in (None, 2, lrp.contrast(0, 3)):
        assert equal(integrated_gradients(net, x, target, steps=steps), gradient_x_input(net, x, target))
    e = lrp.explain(net, x, lrp.Zero())
    assert equal(e.relevance, integrated_gradients(net, x, steps=steps))
    assert equal(e.relevance.sum(axis=1), e.output.max(axis=1))


def test_integrated_gradients_differ_where_there_are_biases(exact):
    net, x = net_and_input("mlp", exact)
    assert not equal(integrated_gradients(net, x, 0, steps=4), gradient_x_input(net, x, 0))


# --- 3: epsilon only damps


OF_ONE_SHARE = {
    # the rule; the referee's function and its parameters
    "zero": (lrp.Zero(), by.zero, ()),
    "gamma": (lrp.Gamma(gamma=3), by.gamma, (3,)),
    "z-plus": (lrp.ZPlus(), by.z_plus, ()),
    "flat": (lrp.Flat(), by.flat, ()),
    "w-square": (lrp.WSquare(), by.w_square, ()),
    "box": (BOX, by.z_box, (-6, 6)),
}


@pytest.mark.parametrize("name", OF_ONE_SHARE)
@given(one=layers(), epsilon=POSITIVE)
def test_3_epsilon_is_lrp_0_of_damped_relevance(name, one, epsilon):
    """R_k times z'/(z' + epsilon s(z')), with z' the rule's own denominator; nothing changes between inputs."""
    rule, loops, parameters = OF_ONE_SHARE[name]
    W, b = lrp.fractions(one.W).tolist(), lrp.fractions(one.b).tolist()
    z = [by.denominators(loops, by.dense(W, b), a, *parameters)[0] for a in lrp.fractions(one.a)]
    z = np.array(z, dtype=object)
    assume((z != 0).all())  # at z' = 0 the message is n/epsilon R, and LRP-0 has none
    damped = lrp.fractions(one.R) * z / (z + epsilon * by_sign(z))
    assert equal(one(dataclasses.replace(rule, epsilon=epsilon)), one.but(R=lrp.exact(damped))(rule))


@given(one=layers())
def test_every_message_shrinks_as_epsilon_grows(one):
    layer, a, R = Dense(weight=one.W, bias=one.b), one.a[:1], one.R[:1]
    each = [messages(layer, lrp.Epsilon(epsilon=e), a, R) for e in (F(1, 8), F(1, 2), 2, 40)]
    sizes = [abs(lrp.fractions(m)) for m in each]
    for larger, smaller in itertools.pairwise(sizes):
        assert (smaller <= larger).all()
        assert (smaller < larger)[larger != 0].all()


@given(one=layers())
def test_a_small_epsilon_is_nearly_none(one):
    """|R_j(epsilon) - R_j(0)| <= sum_k |a_j w_jk R_k| epsilon / z_k^2."""
    assume((one.z != 0).all())
    epsilon = F(1, 10**9)
    bound = (abs(one.m) * abs(one.R / one.z**2)[:, None]).sum(axis=2) * epsilon.numerator / epsilon.denominator
    assert (abs(one(lrp.Epsilon(epsilon=epsilon)) - one(lrp.Zero())) <= bound).all()
    assert equal(one(lrp.Epsilon(epsilon=0)), one(lrp.Zero()))


@given(one=layers())
def test_a_large_epsilon_leaves_the_signs(one):
    """|epsilon R_j - sum_k a_j w_jk s(z_k) R_k| <= sum_k |a_j w_jk R_k z_k| / epsilon."""
    epsilon = 10**12
    limit = (one.m * (by_sign(one.z) * one.R)[:, None]).sum(axis=2)
    bound = (abs(one.m) * abs(one.R * one.z)[:, None]).sum(axis=2) / epsilon
    assert (abs(one(lrp.Epsilon(epsilon=epsilon)) * epsilon - limit) <= bound).all()


@given(one=layers(), epsilon=POSITIVE)
def test_what_epsilon_loses(one, epsilon):
    """sum_k R_k - sum_j R_j = sum_k (b_k + epsilon s_k) / (z_k + epsilon s_k) R_k."""
    e = by_sign(one.z) * lrp.exact([epsilon])[0]
    lost = ((one.b + e) / (one.z + e) * one.R).sum(axis=1)
    assert equal(one.R.sum(axis=1) - one(lrp.Epsilon(epsilon=epsilon)).sum(axis=1), lost)


# --- 4, 5: gamma between LRP-0 and z+


def where_active(one):
    """The layer with relevance only where z > 0, as gamma asks."""
    return one.but(R=np.where(one.z > 0, one.R, one.R * 0))


@given(one=layers())
def test_4_gamma_0_is_lrp_0(one):
    assert alike(one.back(lrp.Gamma(gamma=0)), one.back(lrp.Zero()))
    active = one.but(R=np.where(one.z != 0, one.R, one.R * 0))
    assert alike(active.back(lrp.GeneralizedGamma(gamma=0)), active.back(lrp.Zero()))


def distance_to_the_limit(one, part, gamma):
    """sum_k |R_k| |m z' - m' z| / (|z'| |z + gamma z'|): how far (m + gamma m')/(z + gamma z') is from m'/z'."""
    m, z = part(one.m), one.z_part(part)
    size = abs(z * (one.z + gamma * z))
    size = np.where(size == 0, size + 1, size)
    return (abs(one.m * z[:, None] - m * one.z[:, None]) * abs(one.R / size)[:, None]).sum(axis=2)


@given(one=layers(inputs=st.one_of(POSITIVE, st.just(F(0)))))
def test_4_gamma_1e9_is_nearly_z_plus(one):
    active = where_active(one)
    bound = distance_to_the_limit(active, positive, 10**9)
    assert (abs(active(lrp.Gamma(gamma=10**9)) - active(lrp.ZPlus())) <= bound).all()


def test_4_gamma_1e9_in_floats():
    rng = np.random.default_rng(8)
    W, b, a = rng.normal(size=(20, 10)), rng.normal(size=10), abs(rng.normal(size=(5, 20)))
    z = a @ W + b
    one = Layer(W, b, a, np.where(z > 0, z, 0))
    np.testing.assert_allclose(one(lrp.Gamma(gamma=1e9)), one(lrp.ZPlus()), rtol=0, atol=1e-7 * abs(one.R).max())
    assert abs(one(lrp.Gamma(gamma=1e3)) - one(lrp.ZPlus())).max() > 1e-4 * abs(one.R).max()


@given(one=layers())
def test_4_generalized_gamma_1e9_is_nearly_the_part_of_z_s_sign(one):
    up, down = where_active(one), where_active(one.but(W=-one.W, b=-one.b))
    limit = up(lrp.ZPlus()) + down(lrp.ZPlus())
    bound = distance_to_the_limit(up, positive, 10**9) + distance_to_the_limit(down, positive, 10**9)
    assert (abs(one(lrp.GeneralizedGamma(gamma=10**9)) - limit) <= bound).all()


@given(one=layers(inputs=st.one_of(POSITIVE, st.just(F(0)))), gamma=POSITIVE)
def test_5_gamma_is_alpha_beta_with_an_alpha_for_each_neuron(one, gamma):
    """alpha_k = (1 + gamma) Z+_k / d_k and beta_k = alpha_k - 1 = -Z-_k / d_k."""
    active, g = where_active(one), lrp.exact([gamma])[0]
    d = one.z + g * one.z_part(positive)
    d = np.where(one.z > 0, d, d * 0 + 1)
    alpha, beta = (1 + g) * one.z_part(positive) / d, -one.z_part(negative) / d
    assert (alpha - beta == 1)[one.z > 0].all()
    assert (d >= one.z)[one.z > 0].all()
    up, down = active.but(R=active.R * alpha), active.but(R=active.R * beta, W=-one.W, b=-one.b)
    assert equal(active(lrp.Gamma(gamma=gamma)), up(lrp.ZPlus()) - down(lrp.ZPlus()))


# --- 6: alpha-beta is made of z+


@pytest.mark.parametrize("bias", ["rule", "none", "spread"])
@pytest.mark.parametrize("epsilon", [0, FIFTH], ids=str)
@given(one=layers(), alpha=st.sampled_from([1, 2, 3.5, F(4, 3)]))
def test_6_alpha_beta_is_alpha_times_z_plus_minus_beta_times_it_of_the_negated_layer(one, alpha, epsilon, bias):
    options = {"epsilon": epsilon, "bias": bias}
    rule = lrp.AlphaBeta(alpha=alpha, **options)
    up, down = one.back(lrp.ZPlus(**options)), one.but(W=-one.W, b=-one.b).back(lrp.ZPlus(**options))
    alpha, beta = lrp.exact([alpha, rule.beta])
    for got, one_part, other in zip(*map(parts, (one.back(rule), up, down)), strict=True):
        assert equal(got, alpha * one_part - beta * other)


@given(one=layers())
def test_alpha_1_is_z_plus(one):
    for split in ("product", "weight"):
        assert alike(one.back(lrp.AlphaBeta(alpha=1, split=split)), one.back(lrp.ZPlus(split=split)))


@given(one=layers())
def test_an_alpha_for_each_neuron_gives_lrp_0(one):
    """alpha_k = Z+_k / z_k."""
    assume((one.z != 0).all())
    alpha = one.z_part(positive) / one.z
    up, down = one.but(R=one.R * alpha), one.but(R=one.R * (alpha - 1), W=-one.W, b=-one.b)
    assert equal(up(lrp.ZPlus()) - down(lrp.ZPlus()), one(lrp.Zero()))


@pytest.mark.parametrize("rule", [lrp.ZPlus(), lrp.AlphaBeta(alpha=3.5)], ids=repr)
@given(one=layers(inputs=st.one_of(POSITIVE, st.just(F(0)))))
def test_on_inputs_that_are_not_negative_splitting_weights_is_splitting_products(rule, one):
    assert alike(one.back(dataclasses.replace(rule, split="weight")), one.back(rule))


@pytest.mark.parametrize("rule", [lrp.ZPlus(), lrp.AlphaBeta(alpha=3.5)], ids=repr)
def test_on_signed_inputs_the_two_splits_differ(rule):
    assert not equal(example()(dataclasses.replace(rule, split="weight")), example()(rule))


@given(one=layers(relevances=st.one_of(POSITIVE, st.just(F(0)))))
def test_z_plus_of_positive_relevance_is_positive_and_each_message_at_most_R(one):
    each = messages(Dense(weight=one.W, bias=one.b), lrp.ZPlus(), one.a[:1], one.R[:1])
    assert (each >= 0).all()
    assert (each <= one.R[:1]).all()
    without_bias = one.but(b=-abs(one.b))
    R_in, absorbed = without_bias.back(lrp.ZPlus())
    assert equal(R_in.sum(axis=1) + absorbed.unclaimed.sum(axis=1), one.R.sum(axis=1))
    assert (absorbed.unclaimed == np.where(without_bias.z_part(positive) == 0, one.R, one.R * 0)).all()


@given(one=layers(), alpha=st.sampled_from([1, 2, 3.5]))
def test_what_alpha_beta_loses(one, alpha):
    """To biases alpha b+/Z+ - beta b-/Z-; and the whole portion of an empty part."""
    up, down = one.z_part(positive), one.z_part(negative)
    R_in = one(lrp.AlphaBeta(alpha=alpha))
    alpha, beta = lrp.exact([alpha, alpha - 1])

    def share(b, z):
        return np.where(z == 0, z * 0 + 1, b / np.where(z == 0, z + 1, z))

    lost = (alpha * share(positive(one.b), up) - beta * share(negative(one.b), down)) * one.R
    assert equal(R_in.sum(axis=1), (one.R - lost).sum(axis=1))


# --- 7: generalized gamma


@given(one=layers(inputs=st.one_of(POSITIVE, st.just(F(0)))), gamma=POSITIVE)
def test_7_generalized_gamma_is_gamma_in_gamma_s_domain(one, gamma):
    active = where_active(one)
    assert alike(active.back(lrp.GeneralizedGamma(gamma=gamma)), active.back(lrp.Gamma(gamma=gamma)))


def test_7_generalized_gamma_is_not_gamma_outside_of_it():
    one = where_active(example())
    assert not equal(one(lrp.GeneralizedGamma()), one(lrp.Gamma()))
    one = example(a=lrp.exact([[1, 0.5, 2], [0.25, 3, 1]]))
    assert not equal(one(lrp.GeneralizedGamma()), one(lrp.Gamma()))


@pytest.mark.parametrize("bias", ["rule", "none", "raw", "spread"])
@given(one=layers(), gamma=POSITIVE)
def test_7_generalized_gamma_has_two_symmetries(bias, one, gamma):
    rule = lrp.GeneralizedGamma(gamma=gamma, bias=bias)
    assert alike(one.but(W=-one.W, b=-one.b).back(rule), one.back(rule))
    assert alike(one.but(W=-one.W, a=-one.a).back(rule), one.back(rule))


@pytest.mark.parametrize("rule", [lrp.Gamma(), lrp.ZPlus(split="weight")], ids=repr)
def test_7_which_the_one_sided_rules_have_not(rule):
    one = example()
    assert not equal(one.but(W=-one.W, b=-one.b)(rule), one(rule))
    assert not equal(one.but(W=-one.W, a=-one.a)(rule), one(rule))


@given(one=layers(), gamma=POSITIVE)
def test_7_generalized_gamma_s_denominator_is_never_smaller_than_z(one, gamma):
    op = by.dense(lrp.fractions(one.W).tolist(), lrp.fractions(one.b).tolist())
    for a in lrp.fractions(one.a):
        z = by.forward(op, a)
        above, below = by.denominators(by.generalized_gamma, op, a, gamma)
        for z_k, up, down in zip(z, above, below, strict=True):
            d = up if z_k > 0 else down
            assert z_k == 0 or (d * z_k > 0 and abs(d) >= abs(z_k))


# --- 8: flat and w2 do not look at the inputs


@pytest.mark.parametrize("rule", [lrp.Flat(), lrp.WSquare(), lrp.WSquare(epsilon=FIFTH), lrp.Flat(epsilon=1)], ids=repr)
@given(one=layers(), data=st.data())
def test_8_flat_and_w2_see_neither_inputs_nor_bias(rule, one, data):
    other = one.but(a=data.draw(arrays(*one.a.shape)), b=data.draw(arrays(*one.b.shape)))
    assert alike(one.back(rule), other.back(rule))


@given(one=layers(), data=st.data())
def test_flat_gives_all_inputs_of_a_dense_layer_the_same(one, data):
    same = one.R.sum(axis=1, keepdims=True) / one.W.shape[0]
    assert equal(one(lrp.Flat()), np.broadcast_to(same, one.a.shape))
    assert equal(one.but(W=data.draw(arrays(*one.W.shape)))(lrp.Flat()), one(lrp.Flat()))


@given(one=layers(), data=st.data())
def test_w2_is_flat_where_all_weights_are_of_one_size(one, data):
    signs = data.draw(arrays(*one.W.shape, of=st.sampled_from([F(3, 2), F(-3, 2)])))
    assert equal(one.but(W=signs)(lrp.WSquare()), one(lrp.Flat()))


@given(one=layers())
def test_w2_is_lrp_0_at_the_inputs_w_k_neuron_by_neuron(one):
    expected = one.a * 0
    for k in range(one.W.shape[1]):
        at = np.broadcast_to(one.W[:, k], one.a.shape)
        neuron = Layer(one.W[:, [k]], one.b[[k]], at, one.R[:, [k]])
        expected = expected + neuron(lrp.Zero(bias="none"))
    assert equal(one(lrp.WSquare()), expected)


@pytest.mark.parametrize("padding", [0, 1, ((1, 0), (2, 1))], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_flat_on_a_convolution_is_unpooling_of_averages(exact, padding, stride):
    """Channel by channel, over the real cells of each window; all of R arrives, with padding too."""
    rng = np.random.default_rng(9)
    kernel = exact(eighths(rng, 2, 1, 3, 3))
    conv = Conv(weight=kernel, padding=padding, stride=stride, groups=2)
    pool = AvgPool(kernel=3, stride=stride, padding=padding, count_include_pad=False)
    x = exact(eighths(rng, 2, 2, 5, 6))
    R = exact(relevance(conv.forward(x).shape, rng))
    (flat,), _ = lrp.Flat().back(conv, (x,), R)
    (unpooled,), _ = lrp.Zero().back(pool, (x * 0 + 1,), R)
    assert equal(flat, unpooled)
    assert equal(flat.reshape(2, -1).sum(axis=1), R.reshape(2, -1).sum(axis=1))


# --- 9: the box

outside = pytest.mark.filterwarnings("ignore:ZBox")


@given(one=layers(), shift=SMALL)
def test_9_the_box_moves_with_its_content(one, shift):
    """No other rule has it."""
    moved = one.but(a=one.a + lrp.exact([shift])[0])
    assert alike(moved.back(lrp.ZBox(low=-6 + shift, high=6 + shift)), one.back(BOX))


@pytest.mark.parametrize(
    "rule",
    [lrp.Zero(bias="none"), lrp.Gamma(bias="none"), lrp.ZPlus(bias="none"), lrp.AlphaBeta(bias="none")],
    ids=repr,
)
def test_9_which_no_rule_has_that_weighs_the_inputs(rule):
    one = example()
    assert not equal(one.but(a=one.a + 1)(rule), one(rule))


@outside
@given(one=layers())
def test_9_a_box_of_no_size_at_0_is_lrp_0_without_bias(one):
    assert alike(one.back(lrp.ZBox(low=0, high=0)), one.back(lrp.Zero(bias="none")))


@given(one=layers(), data=st.data())
def test_9_the_box_is_lrp_0_and_z_plus_on_stacked_features(one, data):
    """u = (a - l, h - a), both not negative, with weights (W+, -W-)."""
    J = one.W.shape[0]
    low = data.draw(arrays(J, of=st.builds(F, st.integers(-12, -6))))
    high = data.draw(arrays(J, of=st.builds(F, st.integers(6, 12))))
    box = lrp.ZBox(low=low.tolist(), high=high.tolist())
    W = np.concatenate([positive(one.W), -negative(one.W)])
    stacked = one.but(W=W, a=np.concatenate([one.a - low, high - one.a], axis=1))
    for rule in (lrp.Zero(bias="none"), lrp.ZPlus(bias="none")):
        R_in = stacked(rule)
        assert equal(one(box), R_in[:, :J] + R_in[:, J:])


@given(one=layers(), data=st.data())
def test_9_the_box_does_not_see_the_bias(one, data):
    assert alike(one.but(b=data.draw(arrays(*one.b.shape))).back(BOX), one.back(BOX))


@given(one=layers(relevances=st.one_of(POSITIVE, st.just(F(0)))))
def test_messages_of_the_box_lie_between_0_and_R(one):
    each = messages(Dense(weight=one.W, bias=one.b), BOX, one.a[:1], one.R[:1])
    assert (each >= 0).all()
    assert (each <= one.R[:1]).all()


@outside
@given(one=layers(), low=SMALL, size=POSITIVE)
def test_every_box_conserves_whether_or_not_it_holds_the_data(one, low, size):
    R_in, absorbed = one.back(lrp.ZBox(low=low, high=low + size))
    assert equal(R_in.sum(axis=1) + absorbed.unclaimed.sum(axis=1), one.R.sum(axis=1))
    assert (absorbed.bias == 0).all()


# --- 10: the books of whole nets close, for every rule


@every_net
@every_rule
@outside
def test_10_the_books_of_a_net_close(name, rule):
    net, x = net_and_input(name, lrp.exact)
    check_books(lrp.explain(net, x, rule, 1))


# --- 14: batch norm


def norm_after(one, g, shift, rule):
    net = lrp.chain(Dense(weight=one.W, bias=one.b), BatchNorm(scale=g, shift=shift))
    return lrp.explain(net, one.a, rule, one.R).relevance


def norm_before(one, g, shift, rule):
    net = lrp.chain(BatchNorm(scale=g, shift=shift), Dense(weight=one.W, bias=one.b))
    return lrp.explain(net, one.a, rule, one.R).relevance


def fused_after(one, g, shift):
    return one.but(W=one.W * g, b=one.b * g + shift)


def fused_before(one, g, shift):
    return one.but(W=one.W * g[:, None], b=one.b + shift @ one.W)


NONZERO = SMALL.filter(bool)


@given(one=layers(), data=st.data())
def test_14_batch_norm_may_be_folded_under_lrp_0(one, data):
    J, K = one.W.shape
    g, shift = data.draw(arrays(K, of=NONZERO)), data.draw(arrays(K))
    assume((one.z != 0).all())  # a dense output of 0 has no relevance to deal out, its sum with a shift has
    assert equal(norm_after(one, g, shift, lrp.Zero()), fused_after(one, g, shift)(lrp.Zero()))
    g, shift = data.draw(arrays(J, of=NONZERO)), data.draw(arrays(J))
    assume((one.a * g + shift != 0).all())
    assert equal(norm_before(one, g, shift, lrp.Zero()), fused_before(one, g, shift)(lrp.Zero()))


G, SHIFT = lrp.exact([2, -1, 0.5]), lrp.exact([0.25, -3, 1])


@pytest.mark.parametrize(
    "rule", [lrp.Epsilon(epsilon=FIFTH), lrp.Gamma(), lrp.GeneralizedGamma(), lrp.ZPlus(), lrp.AlphaBeta()], ids=repr
)
def test_14_and_under_no_other_rule(rule):
    one = example()
    assert not equal(norm_after(one, G, SHIFT, rule), fused_after(one, G, SHIFT)(rule))
    assert not equal(norm_before(one, G, SHIFT, rule), fused_before(one, G, SHIFT)(rule))


def test_14_but_where_a_rule_does_not_see_the_scale():
    """Flat sees neither, and w2 not a norm that comes after."""
    one = example()
    assert equal(norm_after(one, G, SHIFT, lrp.Flat()), fused_after(one, G, SHIFT)(lrp.Flat()))
    assert equal(norm_before(one, G, SHIFT, lrp.Flat()), fused_before(one, G, SHIFT)(lrp.Flat()))
    assert equal(norm_after(one, G, SHIFT, lrp.WSquare()), fused_after(one, G, SHIFT)(lrp.WSquare()))
    assert not equal(norm_before(one, G, SHIFT, lrp.WSquare()), fused_before(one, G, SHIFT)(lrp.WSquare()))


def test_14_pass_on_batch_norm_conserves_and_is_no_folding():
    one = example()
    composite = lrp.Composite([(lrp.kind(BatchNorm), lrp.Pass()), (lrp.kind(Dense), lrp.Zero())])
    net = lrp.chain(Dense(weight=one.W, bias=one.b), BatchNorm(scale=G, shift=SHIFT))
    e = lrp.explain(net, one.a, composite, one.R)
    assert equal(e.ledger["1.batchnorm"].went, e.ledger["1.batchnorm"].came)
    assert equal(e.relevance, one(lrp.Zero()))
    assert not equal(e.relevance, fused_after(one, G, SHIFT)(lrp.Zero()))


def test_the_z_rule_on_batch_norm_is_w_x_by_y(exact):
    x, R = exact([[1, -0.5, 2]]), exact([[3, -1, 0.5]])
    g, shift = exact([2, -1, 0.5]), exact([0.25, -3, 1])
    (R_in,), absorbed = lrp.Zero().back(BatchNorm(scale=g, shift=shift), (x,), R)
    assert equal(R_in, g * x / (g * x + shift) * R)
    assert equal(absorbed.bias, shift / (g * x + shift) * R)


# --- pools and sums


@pytest.mark.parametrize("padding", [0, 1])
def test_averages_are_sums_under_lrp_0_and_padding_does_not_count(exact, padding):
    rng = np.random.default_rng(10)
    x = exact(rng.integers(1, 9, (2, 2, 5, 5)) / 8)
    window = {"kernel": 3, "stride": 2, "padding": padding}
    pools = [AvgPool(**window), AvgPool(**window, count_include_pad=False), SumPool(**window)]
    R = exact(relevance(pools[0].forward(x).shape, rng))
    with_0, with_epsilon = (
        [rule.back(pool, (x,), R)[0][0] for pool in pools] for rule in (lrp.Norm(), lrp.Norm(epsilon=FIFTH))
    )
    assert equal(with_0[0], with_0[1])
    assert equal(with_0[0], with_0[2])
    assert equal(with_epsilon[0], with_epsilon[1]) == (padding == 0)
    assert not equal(with_epsilon[0], with_epsilon[2])


def test_means_and_sums_are_a_by_the_sum(exact):
    rng = np.random.default_rng(11)
    x, R = exact(rng.integers(1, 9, (2, 3, 4)) / 8), exact(relevance((2, 3, 1), rng))
    expected = x / x.sum(axis=2, keepdims=True) * R
    for layer in (Mean(axes=2, keepdims=True), Sum(axes=-1, keepdims=True), GlobalAvgPool()):
        assert equal(lrp.Zero().back(layer, (x,), R)[0][0], expected)


def test_a_residual_sum_deals_out_by_its_branches(exact):
    x, f, R = exact([[1, -2, 3]]), exact([[3, 1, 1]]), exact([[8, 1, 4]])
    to_x, to_f = lrp.Zero().back(Add(), (x, f), R)[0]
    assert lrp.fractions(to_x).tolist() == [[2, 2, 3]]
    assert lrp.fractions(to_f).tolist() == [[6, -1, 1]]


def test_class_activation_maps_are_lrp_0_down_to_the_last_map(exact):
    rng = np.random.default_rng(12)
    x, W = exact(rng.integers(0, 9, (2, 3, 4, 4)) / 8), exact(eighths(rng, 3, 2))
    net = lrp.chain(GlobalAvgPool(), Flatten(), Dense(weight=W))
    for k in (0, 1):
        assert equal(lrp.explain(net, x, lrp.Zero(), k).relevance, x * W[:, k].reshape(1, 3, 1, 1) / 16)


# --- 15: conditions that partition a layer add up


@every_net
@pytest.mark.parametrize("rule", [lrp.Zero(), lrp.AlphaBeta(), lrp.Epsilon(epsilon=FIFTH)], ids=repr)
def test_15_masks_that_partition_a_layer_sum_to_the_whole(exact, name, rule):
    net, x = net_and_input(name, exact)
    plain = lrp.explain(net, x, rule, 0)
    node = {"mlp": "0.dense", "cnn": "3.conv", "resnet": "relu3", "tokens": "0.dense"}[name]
    shape = plain.at(node).shape[1:]
    total = x * 0
    for part in range(3):
        mask = exact((np.arange(np.prod(shape)).reshape(shape) % 3 == part).astype(float))
        e = lrp.explain(net, x, rule, 0, edit={node: mask})
        check_books(e)
        total = total + e.relevance
    assert equal(total, plain.relevance)
    assert not equal(e.relevance, plain.relevance)


def test_contrast_is_the_difference_of_two_explanations(exact):
    net, x = net_and_input("mlp", exact)
    for rule in (lrp.Zero(), lrp.AlphaBeta(), lrp.GeneralizedGamma()):
        R, R_0, R_3 = (lrp.explain(net, x, rule, t).relevance for t in (lrp.contrast(0, 3), 0, 3))
        assert equal(R, R_0 - R_3)


# --- 16 (U8): a convolution is the dense layer that it unrolls to

CONVS = [
    "conv1d-padding-before-after", "conv2d-padding-per-axis", "conv2d-all-options", "conv3d-all-options",
    "transposed1d-output-padding", "transposed2d-all-options", "transposed3d-all-options",
]  # fmt: skip


def unrolled(layer, shape):
    """The dense layer that does the same to flattened samples: from the images of the unit vectors."""
    J = int(np.prod(shape))
    units = lrp.exact(np.eye(J).reshape(J, *shape))
    layer = layer.like(units)
    bias = layer.forward(units[:1] * 0)
    return Dense(weight=(layer.forward(units) - bias).reshape(J, -1), bias=bias.reshape(-1))


@pytest.mark.parametrize("id", CONVS)
@pytest.mark.parametrize(
    "rule",
    [r for r in EVERY if not isinstance(r, (lrp.Flat, lrp.ZBox)) and r.bias != "spread"] + ["box", "box of channels"],
    ids=repr,
)
def test_16_convolution_is_dense(id, rule):
    case, rng = CASES[id], np.random.default_rng(13)
    (x,) = map(lrp.exact, sample(case, rng, 2))
    layer, dense = case.layer.like(x), unrolled(case.layer, case.shapes[0])
    flat_rule = rule
    if isinstance(rule, str):
        low, high = (sign * (2 + np.arange(x.shape[1])) for sign in (-1, 1))
        rule = lrp.ZBox(low=low, high=high) if "channels" in rule else lrp.ZBox(low=-2, high=3)
        column = (-1,) + (1,) * (x.ndim - 2)
        full = [np.broadcast_to(np.array(b).reshape(column), x.shape[1:]).reshape(-1) for b in (rule.low, rule.high)]
        flat_rule = lrp.ZBox(low=full[0], high=full[1])
    R = lrp.exact(relevance(layer.forward(x).shape, rng))
    (R_in,), absorbed = rule.back(layer, (x,), R)
    (R_flat,), absorbed_flat = flat_rule.back(dense, (x.reshape(2, -1),), R.reshape(2, -1))
    assert equal(R_in.reshape(2, -1), R_flat)
    for name in ("bias", "stabilizer", "unclaimed"):
        assert equal(getattr(absorbed, name).reshape(2, -1), getattr(absorbed_flat, name))


@pytest.mark.parametrize("id", CONVS)
def test_16_flat_counts_connections_which_the_unrolled_layer_has_forgotten(id):
    """So it is LRP-0 on ones with the connections as weights, and no dense layer's flat."""
    case, rng = CASES[id], np.random.default_rng(14)
    (x,) = map(lrp.exact, sample(case, rng, 2))
    layer = case.layer.like(x)
    R = lrp.exact(relevance(layer.forward(x).shape, rng))
    dense = unrolled(dataclasses.replace(case.layer, weight=np.ones(case.layer.weight.shape)), case.shapes[0])
    (flat,), _ = lrp.Flat().back(layer, (x,), R)
    ones, R_flat = x.reshape(2, -1) * 0 + 1, R.reshape(2, -1)
    (connected,), _ = lrp.Zero(bias="none").back(dense, (ones,), R_flat)
    (all_of_them,), _ = lrp.Flat().back(dense, (ones,), R_flat)
    assert equal(flat.reshape(2, -1), connected)
    assert not equal(connected, all_of_them)


# --- 17 (U7): samples do not see each other


@every_net
@every_rule
@outside
def test_17_a_sample_alone_gets_what_it_gets_in_a_batch(name, rule):
    net, x = net_and_input(name, lrp.exact, batch=3)
    together = lrp.explain(net, x, rule, [0, 1, 0])
    for i, target in enumerate((0, 1, 0)):
        alone = lrp.explain(net, x[i : i + 1], rule, target)
        assert equal(alone.relevance, together.relevance[i : i + 1])
        assert equal(alone.ledger.absorbed, together.ledger.absorbed[i : i + 1])


@pytest.mark.parametrize("form", [form for form in STABILIZERS if getattr(form, "over", "") == "batch"], ids=repr)
def test_17_but_with_the_rms_of_the_batch(exact, form):
    net, x = net_and_input("mlp", exact)
    rule = lrp.Epsilon(epsilon=FIFTH, stabilizer=form)
    together, alone = (lrp.explain(net, some, rule, 0).relevance for some in (x, x[:1]))
    assert not equal(together[:1], alone)
    twins = lrp.explain(net, np.concatenate([x[:1], x[:1]]), rule, 0).relevance
    assert equal(twins[:1], alone)  # the rms of two equal samples is that of one


# --- 18: log-odds

Z_NET, Z_X = mlp()[0], np.random.default_rng(15).normal(size=(3, 5))


def log_odds_of(k):
    """eta, pi and the entropy of pi, from the logits, each sample by itself."""
    z = Z_NET.forward(Z_X)[Z_NET.outputs[0]]
    powers = np.exp(z)
    p = powers / powers.sum(axis=1, keepdims=True)
    others = [d for d in range(4) if d != k]
    pi = p[:, others] / (1 - p[:, [k]])
    return np.log(p[:, k] / (1 - p[:, k])), pi, -(pi * np.log(pi)).sum(axis=1), z[:, [k]] - z[:, others]


CLOSE = {"rtol": 1e-12, "atol": 1e-13}


@pytest.mark.parametrize("k", range(4))
def test_18_the_start_of_log_odds_totals_eta_plus_entropy(k):
    eta, pi, entropy, differences = log_odds_of(k)
    np.testing.assert_allclose(pi.sum(axis=1), 1, **CLOSE)
    e = lrp.explain(Z_NET, Z_X, lrp.Zero(), lrp.log_odds(k))
    np.testing.assert_allclose(e.ledger.start[Z_NET.outputs[0]], eta + entropy, **CLOSE)
    np.testing.assert_allclose((pi * differences).sum(axis=1), eta + entropy, **CLOSE)
    np.testing.assert_allclose(e.relevance, gradient_x_input(Z_NET, Z_X, lrp.log_odds(k)), **CLOSE)


@pytest.mark.parametrize("k", range(4))
def test_18_log_odds_in_the_graph_total_eta_or_eta_plus_entropy(k):
    eta, pi, entropy, differences = log_odds_of(k)
    for share, total, lost in (("eta", eta, 0), ("z", eta + entropy, -entropy)):
        net = lrp.with_log_odds(Z_NET, k, share=share)
        e = lrp.explain(net, Z_X, lrp.Zero(), 0)
        pool = e.ledger[net.outputs[0]]
        np.testing.assert_allclose(e.output[:, 0], eta, **CLOSE)
        np.testing.assert_allclose(pool.came, eta, **CLOSE)
        np.testing.assert_allclose(pool.went, total, **CLOSE)
        np.testing.assert_allclose(pool.unclaimed, lost, **CLOSE)
        expected = pi * (eta[:, None] if share == "eta" else differences)
        np.testing.assert_allclose(e.at(net[net.outputs[0]].inputs[0]), expected, **CLOSE)


@pytest.mark.parametrize("k", [0, 2])
def test_18_the_two_ways_agree_under_lrp_0_and_differ_under_gamma(k):
    eta, *_ = log_odds_of(k)
    net = lrp.with_log_odds(Z_NET, k, share="z")
    target, graph = (lrp.explain(n, Z_X, lrp.Zero(), t).relevance for n, t in ((Z_NET, lrp.log_odds(k)), (net, 0)))
    np.testing.assert_allclose(target, graph, **CLOSE)
    target, graph = (lrp.explain(n, Z_X, lrp.Gamma(), t).relevance for n, t in ((Z_NET, lrp.log_odds(k)), (net, 0)))
    assert abs(target - graph).max() > 0.01 * abs(target).max()
    divided = lrp.Composite(
        [(lrp.kind(Dense, SoftMinPool), lrp.Zero())]
    )  # the pool's tangent books the entropy as bias
    e = lrp.explain(net, Z_X, divided, 0)
    np.testing.assert_allclose(e.relevance, lrp.explain(net, Z_X, lrp.Zero(), 0).relevance, **CLOSE)
    np.testing.assert_allclose(e.ledger[net.outputs[0]].bias, eta - e.ledger[net.outputs[0]].went, **CLOSE)


def test_18_contrast_in_the_graph_agrees_under_lrp_0_and_differs_under_gamma(exact):
    net, x = net_and_input("mlp", exact)
    graph = lrp.with_contrast(net, 0, 3)
    for rule, same in ((lrp.Zero(), True), (lrp.Gamma(), False), (lrp.AlphaBeta(), False)):
        target, built = lrp.explain(net, x, rule, lrp.contrast(0, 3)), lrp.explain(graph, x, rule, 0)
        assert equal(built.output[:, 0], target.output[:, 0] - target.output[:, 3])
        assert equal(target.relevance, built.relevance) == same


# --- messages

MESSAGES = [
    "dense", "dense-tokens", "conv2d-padding-before-after", "transposed1d-output-padding", "avg-pool2d-padding",
    "max-pool2d-shared", "batch-norm-2d", "mean", "add", "add-constant", "sub", "upsample", "pad",
]  # fmt: skip


@pytest.mark.parametrize("id", MESSAGES)
@pytest.mark.parametrize(
    "name", ["zero", "epsilon", "generalized-gamma", "alpha-2", "flat", "w-square", "box", "spread"]
)
def test_messages_sum_to_both_sides_and_are_the_loops(exact, id, name):
    case, rng = CASES[id], np.random.default_rng(16)
    rule = lrp.AlphaBeta(epsilon=FIFTH, bias="spread") if name == "spread" else rule_for(name, case)
    floats = sample(case, rng, 1, "zeros")
    operator, inputs = case.operator(tuple(a[0] for a in floats)), tuple(map(exact, floats))
    layer = case.layer.like(inputs[0])
    R = exact(relevance((1, *operator.outputs), rng))
    several = len(inputs) > 1
    each = messages(layer, rule, inputs if several else inputs[0], R, block=5)
    assert each.shape == (len(inputs),) * several + case.shapes[0] + operator.outputs
    R_in, absorbed = rule.back(layer, inputs, R)
    table = each.reshape(-1, R.size)
    assert equal(table.sum(axis=1), np.concatenate([r.reshape(-1) for r in R_in]))
    went = (R - absorbed.bias - absorbed.stabilizer - absorbed.unclaimed).reshape(-1)
    assert equal(table.sum(axis=0), went)
    vector = [value for a in floats for value in a.reshape(-1).tolist()]
    (dealt,) = by_loops(case, rule, [operator], [vector], [lrp.fractions(R).reshape(-1).tolist()])
    expected = np.full(table.shape, F(0))
    for (j, k), message in dealt.messages.items():
        expected[j, k] = message
    assert equal(table, expected)
    assert name in RULES or name == "spread"


@given(one=layers(), block=st.integers(1, 5))
def test_messages_of_lrp_0_are_contributions_by_z(one, block):
    m = one.m[0]
    z = one.z[0]
    expected = m * np.where(z == 0, z, one.R[0] / np.where(z == 0, z + 1, z))
    assert equal(messages(Dense(weight=one.W, bias=one.b), lrp.Zero(), one.a[:1], one.R[:1], block=block), expected)
