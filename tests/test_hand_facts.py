"""Numbers that others printed or that fit on paper, as whole graphs through explain.

Sources: the analytic tests of RelevancePropagation.jl, zennit-crp's two-branch net, captum's table of expectations
where it follows the formulas, and the two-input neuron ("witness A") on which most frameworks differ.
"""

from fractions import Fraction as F

import numpy as np
import pytest
from checks import check_books

import lrp_ref as lrp
from lrp_ref.layers import (
    Add,
    Concat,
    Conv,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool,
    ReLU,
    Scale,
    Tanh,
)
from lrp_ref.theory import gradient_x_input


def lists(a):
    """An exact array as nested lists of fractions."""
    return lrp.fractions(a).tolist()


def booked(e, part):
    """One column of the books, summed over the nodes: a number a sample."""
    return lists(sum(getattr(entry, part) for entry in e.ledger))


def ones(*shape, value=1.0):
    return np.full(shape, value)


# --- RelevancePropagation.jl: analytic fractions

JULIA = Dense(weight=[[3, 5], [4, 6]], bias=[7, 8])
A, THIRDS = [[1, 2]], [[F(1, 3), F(2, 3)]]


def test_julia_dense(exact):
    e = lrp.explain(lrp.chain(JULIA), exact(A), lrp.Zero(), exact(THIRDS))
    check_books(e)
    assert lists(e.output) == [[18, 25]]
    assert lists(e.relevance) == [[F(17, 90), F(316, 675)]]
    assert booked(e, "bias") == [F(7, 18) / 3 + F(8, 25) * 2 / 3]


@pytest.mark.parametrize("rule", [lrp.Zero(), lrp.Epsilon(epsilon=0), lrp.Norm(), lrp.Gamma(gamma=0)], ids=repr)
def test_julia_scale(exact, rule):
    net = lrp.chain(Scale(weight=[-2, 2], bias=[1, -3]))
    e = lrp.explain(net, exact(A), rule, exact(THIRDS))
    check_books(e)
    assert lists(e.relevance) == [[F(2, 3), F(8, 3)]]
    assert booked(e, "bias") == [1 - F(10, 3)]


@pytest.mark.parametrize("ties", ["first", "shared"])
def test_julia_max_pool(exact, ties):
    net = lrp.chain(MaxPool(kernel=2, stride=1, ties=ties))
    x = exact([[[[1, 2, 3], [10, 5, 6], [7, 8, 9]]]])
    e = lrp.explain(net, x, lrp.Zero(), exact([[[[F(1, 30), F(2, 30)], [F(3, 30), F(4, 30)]]]]))
    check_books(e)
    assert lists(e.relevance) == [[[[0, 0, 0], [F(4, 30), 0, F(2, 30)], [0, 0, F(4, 30)]]]]


@pytest.mark.parametrize(
    ("target", "expected"),
    [([1, 0], [F(4, 19), F(8, 19)]), ([0, 1], [F(5, 27), F(14, 27)])],
    ids=["first", "second"],
)
def test_julia_residual(exact, target, expected):
    net = lrp.Graph([lrp.Node("f", JULIA, "input"), lrp.Node("sum", Add(), "f", "input")], outputs="sum")
    e = lrp.explain(net, exact(A), lrp.Zero(), exact([target]))
    check_books(e)
    assert lists(e.output) == [[19, 27]]
    assert lists(e.relevance) == [expected]
    assert booked(e, "bias") == [1 - sum(expected)]


@pytest.mark.parametrize("gamma", [0.25, 2, 42], ids=str)
def test_julia_generalized_gamma(exact, gamma):
    """z = (-7, 1): all contributions to output 1 are negative and grow alike; output 2 has -2 against a bias of 3."""
    net = lrp.chain(Dense(weight=[[1, 2], [-4, 0]], bias=[-2, 3]), LeakyReLU(slope=0.25))
    e = lrp.explain(net, exact([[-1, 1]]), lrp.GeneralizedGamma(gamma=gamma), exact([[F(-7, 100), 1]]))
    check_books(e)
    assert lists(e.output) == [[F(-7, 4), 1]]
    g = F(gamma)
    second = -2 / (1 + 3 * g)
    assert lists(e.relevance) == [[F(-7, 100) * F(1, 7) + second, F(-7, 100) * F(4, 7)]]
    assert booked(e, "bias") == [F(-7, 100) * F(2, 7) + (3 + 3 * g) / (1 + 3 * g)]


# --- zennit-crp: two bias-free branches, joined, in integers

CRP = lrp.Graph(
    [
        lrp.Node("layer1", Dense(weight=[[1, 0], [2, 1]]), "input"),
        lrp.Node("layer2", Dense(weight=[[2, 0], [3, 0]]), "input"),
        lrp.Node("join", Concat(axis=1), "layer1", "layer2"),
        lrp.Node("layer3", Dense(weight=[[1], [4], [5], [0]]), "join"),
    ],
    outputs="layer3",
)


def test_crp_two_branches(exact):
    e = lrp.explain(CRP, exact([[-1, 1]]), lrp.Zero(), 0)
    check_books(e)
    assert lists(e.output) == [[10]]
    assert lists(e.relevance) == [[-11, 21]]
    assert lists(e.at("layer1")) == [[1, 4]]
    assert lists(e.at("layer2")) == [[5, 0]]
    assert booked(e, "bias") == booked(e, "unclaimed") == [0]


@pytest.mark.parametrize(
    ("layer1", "layer2", "expected"),
    [
        ([1, 0], [0, 0], [-1, 2]),
        ([1, 0], [1, 0], [-11, 17]),
        ([0, 1], [0, 0], [0, 4]),
        ([1, 1], [1, 1], [-11, 21]),
    ],
    ids=["one unit", "one unit of each branch", "the other unit", "all"],
)
def test_crp_conditions(exact, layer1, layer2, expected):
    e = lrp.explain(CRP, exact([[-1, 1]]), lrp.Zero(), 0, edit={"layer1": exact(layer1), "layer2": exact(layer2)})
    check_books(e)
    assert lists(e.relevance) == [expected]
    assert booked(e, "edited") == [10 - sum(expected)]


def test_crp_in_floats_with_the_preset_of_that_name():
    e = lrp.explain(CRP, np.array([[-1.0, 1.0]]), lrp.presets.epsilon_plus(), 0, edit={"layer1": np.array([1.0, 0.0])})
    np.testing.assert_allclose(e.relevance, [[-11, 17]], rtol=5e-6)


# --- captum: the table of expectations


def conv_net():
    return lrp.chain(
        Conv(weight=ones(2, 1, 3, 3), bias=[-50, -75]),
        ReLU(),
        Flatten(),
        Dense(weight=np.repeat([[1.0], [-1.0]], [5, 3], axis=0) * ones(8, 4), bias=[0, 0, 0, 0]),
        ReLU(),
    )


@pytest.mark.parametrize("target", [None, 0, 3], ids=["argmax", "first", "last"])
def test_captum_basic_attributions(exact, target):
    e = lrp.explain(conv_net(), exact(np.arange(16.0).reshape(1, 1, 4, 4)), lrp.Zero(), target)
    check_books(e)
    assert lists(e.output) == [[54] * 4]
    assert lists(e.relevance) == [[[[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]]]]
    assert lists(e.at("0.conv")) == [[[[0, 4], [31, 40]], [[0, 0], [-6, -15]]]]
    assert lists(e.ledger["0.conv"].bias) == [0]  # captum's delta of 0 ...


def test_captum_basic_attributions_hide_two_biases(exact):
    """... is -150 in one channel and +150 in the other."""
    conv = conv_net()["0.conv"].layer
    x, R = exact(np.arange(16.0).reshape(1, 1, 4, 4)), exact([[[[0, 4], [31, 40]], [[0, 0], [-6, -15]]]])
    _, absorbed = lrp.Zero().back(conv.like(x), [x], R)
    assert [lrp.fractions(absorbed.bias)[0, c].sum() for c in (0, 1)] == [-150, 150]


def simple(corner=2.0):
    weight = ones(3, 3, value=2.0)
    weight[0, 0] = corner
    return lrp.chain(Dense(weight=weight), ReLU(), Dense(weight=ones(3, 1, value=3.0)), Dropout(p=0.01))


X = [[1, 2, 3]]


def test_captum_simple_attributions_and_repetition(exact):
    net, x = simple(), exact(X)
    for _ in range(2):  # nothing is left behind on a layer
        e = lrp.explain(net, x, lrp.Zero(), 0)
        check_books(e)
        assert lists(e.output) == [[108]]
        assert lists(e.relevance) == [[18, 36, 54]]
        assert lists(e.at("0.dense")) == [[36, 36, 36]]
    assert lists(gradient_x_input(net, x, 0)) == [[18, 36, 54]]


def test_captum_simple_attributions_batch(exact):
    e = lrp.explain(simple(), exact([[1, 2, 3], [3, 6, 9], [2, 4, 6]]), lrp.Zero(), [0, 0, 0])
    check_books(e)
    assert lists(e.relevance) == [[18, 36, 54], [54, 108, 162], [36, 72, 108]]
    assert lists(e.ledger.balance()) == [0, 0, 0]


def test_captum_simple_tanh():
    net = lrp.chain(Dense(weight=ones(3, 3, value=0.1)), Tanh(), Dense(weight=ones(3, 1, value=0.1)))
    x = np.array(X, dtype=float)
    e = lrp.explain(net, x, lrp.Zero(), 0)
    np.testing.assert_allclose(e.relevance, 0.3 * np.tanh(0.6) * x / 6, rtol=1e-12)
    np.testing.assert_allclose(e.at("0.dense"), ones(1, 3, value=0.1 * np.tanh(0.6)), rtol=1e-12)
    np.testing.assert_allclose(e.relevance, [[0.0269, 0.0537, 0.0806]], atol=5e-5)
    exactly = lrp.explain(lrp.given(net, x), lrp.exact(x), lrp.Zero(), 0)
    check_books(exactly)
    np.testing.assert_allclose(lrp.fractions(exactly.relevance).astype(float), e.relevance, rtol=1e-12)


def by_name(first, second):
    return lrp.Composite([(lrp.named("0.dense"), first), (lrp.named("2.dense"), second)])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (lrp.Gamma(gamma=1), lrp.Gamma(gamma=0.25), [F(28, 3), F(104, 3), 52]),
        (lrp.AlphaBeta(alpha=1), lrp.AlphaBeta(alpha=1), [12, F(168, 5), F(252, 5)]),
        (lrp.ZPlus(bias="none", split="weight"), lrp.ZPlus(), [12, F(168, 5), F(252, 5)]),
    ],
    ids=["GammaRule", "AlphaBeta", "AlphaBeta as weight clamp"],
)
def test_captum_rules(exact, first, second, expected):
    e = lrp.explain(simple(-2.0), exact(X), by_name(first, second), 0)
    check_books(e)
    assert lists(e.output) == [[96]]
    assert lists(e.at("0.dense")) == [[24, 36, 36]]
    assert lists(e.relevance) == [expected]


def test_captum_identity(exact):
    """captum hands a layer's relevance past a square dense layer; here that relevance is read off, and Pass refuses."""
    e = lrp.explain(simple(-2.0), exact(X), lrp.Zero(), 0)
    assert lists(e.at("0.dense")) == [[24, 36, 36]]
    with pytest.raises(lrp.UnsuitableRule, match=r'node "0\.dense" \(Dense\): Pass on .* 3 live inputs'):
        lrp.explain(simple(-2.0), exact(X), by_name(lrp.Pass(), lrp.Zero()), 0)


def test_captum_skip_connection(exact):
    nodes = [
        lrp.Node("linear", Dense(weight=ones(2, 2, value=5.0)), "input"),
        lrp.Node("add", Add(), "linear", "input"),
    ]
    e = lrp.explain(lrp.Graph(nodes, outputs="add"), exact([[2, 3]]), lrp.Zero(), 1)
    check_books(e)
    assert lists(e.output) == [[27, 28]]
    assert lists(e.relevance) == [[10, 18]]
    assert lists(e.at("linear")) == [[0, 25]]


@pytest.mark.parametrize("ties", ["first", "shared"])
def test_captum_maxpool1d(exact, ties):
    """The pool sees an exact tie, 22 and 22, whose two cells read the same weights."""
    net = lrp.chain(Dense(weight=ones(2, 2, value=2.0)), MaxPool(kernel=2, ties=ties))
    e = lrp.explain(net, exact([[[1, 2], [5, 6]]]), lrp.Zero(), exact([[[0], [22]]]))
    check_books(e)
    assert lists(e.output) == [[[6], [22]]]
    assert lists(e.relevance) == [[[0, 0], [10, 12]]]
    assert lists(e.at("0.dense")) == [[[0, 0], [22, 0] if ties == "first" else [11, 11]]]


@pytest.mark.parametrize("rule", [None, lrp.Zero(), lrp.Flat(), lrp.WSquare()], ids=repr)
@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([[1, 2], [5, 6]], [[0, 0], [0, 6]]),
        ([[[1, 2], [5, 6]], [[3, 4], [7, 8]]], [[[0, 0], [0, 0]], [[0, 0], [0, 8]]]),
    ],
    ids=["2D", "3D"],
)
def test_captum_maxpool(exact, x, expected, rule):
    composite = lrp.Composite([] if rule is None else [(lrp.kind(MaxPool), rule)])
    net = lrp.chain(MaxPool(kernel=2), Flatten())
    e = lrp.explain(net, exact([[x]]), composite, 0)
    check_books(e)
    assert lists(e.relevance) == [[expected]]


def two_inputs():
    return lrp.Graph(
        [
            lrp.Node("linear0", Dense(weight=np.eye(3)), "input"),
            lrp.Node("sum", Add(), "linear0", "more"),
            lrp.Node("linear1", Dense(weight=ones(3, 4), bias=[-10, 1, 1, 1]), "sum"),
            lrp.Node("relu", ReLU(), "linear1"),
            lrp.Node("linear2", Dense(weight=ones(4, 2), bias=[-1, 1]), "relu"),
        ],
        outputs="linear2",
        inputs=("input", "more"),
    )


def test_captum_multi_inputs_without_its_double_count(exact):
    """captum copies the sum's (16, 32, 48) to both inputs; by the sum's own shares they get a fourth and 3/4."""
    x = exact(X)
    e = lrp.explain(two_inputs(), {"input": x, "more": x * 3}, lrp.Zero(), 0)
    check_books(e)
    assert lists(e.output) == [[88, 90]]
    assert lists(e.at("sum")) == [[16, 32, 48]]
    assert lists(e.relevance["input"]) == [[4, 8, 12]]
    assert lists(e.relevance["more"]) == [[12, 24, 36]]
    assert booked(e, "bias") == [-8]


def test_captum_multi(exact):
    net = lrp.chain(*(two_inputs()[name].layer for name in ("linear0", "linear1", "relu", "linear2")))
    e = lrp.explain(net, exact(X), lrp.Zero(), 0)
    check_books(e)
    assert lists(e.output) == [[20, 22]]
    assert lists(e.relevance) == [[3, 6, 9]]
    assert booked(e, "bias") == [2]


# --- witness A: one neuron with w = (1, -1), b = -1 at a = (1, 1), so that z = -1; R = -1

NANO, TENTH = F(1, 10**9), F(1, 10**7)
WITNESS = {
    # id: rule, R_in, bias, stabilizer, unclaimed
    "text: LRP-0": (lrp.Zero(), [1, -1], -1, 0, 0),
    "text: alpha 1, beta 0": (lrp.AlphaBeta(alpha=1), [-1, 0], 0, 0, 0),
    "text: z+": (lrp.ZPlus(), [-1, 0], 0, 0, 0),
    "text: alpha 2, beta 1": (lrp.AlphaBeta(alpha=2), [-2, F(1, 2)], F(1, 2), 0, 0),
    "text: w2": (lrp.WSquare(), [F(-1, 2), F(-1, 2)], 0, 0, 0),
    "text: flat": (lrp.Flat(), [F(-1, 2), F(-1, 2)], 0, 0, 0),
    "text: z-box": (lrp.ZBox(low=-1, high=1), [-1, 0], 0, 0, 0),
    "text: gamma by its formula": (lrp.Gamma(gamma=0.25), [F(5, 3), F(-4, 3)], F(-4, 3), 0, 0),
    "zennit: Gamma": (lrp.GeneralizedGamma(gamma=0.25), [F(2, 3), F(-5, 6)], F(-5, 6), 0, 0),
    "zennit: WSquare": (lrp.WSquare(bias="squared"), [F(-1, 3), F(-1, 3)], F(-1, 3), 0, 0),
    "zennit: Epsilon(1)": (lrp.Epsilon(epsilon=1), [F(1, 2), F(-1, 2)], F(-1, 2), F(-1, 2), 0),
    "zennit: Epsilon(1/4), zero_params='bias'": (lrp.Epsilon(epsilon=0.25, bias="none"), [-4, 4], 0, -1, 0),
    "captum: Alpha1_Beta0": (
        lrp.ZPlus(epsilon=NANO, bias="raw", split="weight"),
        [-(10**9), 0],
        10**9,
        -1,
        0,
    ),
    "captum: Alpha1_Beta0, set_bias_to_zero": (lrp.ZPlus(bias="none", split="weight"), [-1, 0], 0, 0, 0),
    "captum: Gamma": (lrp.Gamma(gamma=0.25, bias="raw"), [F(5, 3), F(-4, 3)], F(-4, 3), 0, 0),
    "iNNvestigate: alpha 1, beta 0": (
        lrp.AlphaBeta(alpha=1, epsilon=TENTH, stabilizer=lrp.AtZero(), bias="raw"),
        [-(10**7), 0],
        10**7,
        -1,
        0,
    ),
    "iNNvestigate: alpha 2, beta 1": (
        lrp.AlphaBeta(alpha=2, epsilon=TENTH, stabilizer=lrp.AtZero(), bias="raw"),
        [-2 * 10**7, F(1, 2)],
        2 * 10**7 + F(1, 2),
        -2,
        0,
    ),
    "iNNvestigate: ZPlus": (lrp.ZPlus(bias="none"), [-1, 0], 0, 0, 0),
    "the chapter's unsigned 1/2": (
        lrp.Epsilon(epsilon=0.5, stabilizer=lrp.Unsigned()),
        [2, -2],
        -2,
        1,
        0,
    ),
    "its pole at z = -epsilon": (lrp.Epsilon(epsilon=1, stabilizer=lrp.Unsigned()), [0, 0], 0, 0, -1),
    "its rms, which is |z| here": (
        lrp.Epsilon(epsilon=0.25, stabilizer=lrp.Relative(over="batch")),
        [F(4, 5), F(-4, 5)],
        F(-4, 5),
        F(-1, 5),
        0,
    ),
    "zennit: clip": (lrp.Epsilon(epsilon=4, stabilizer=lrp.Clipped()), [F(1, 4), F(-1, 4)], F(-1, 4), F(-3, 4), 0),
    "LRP_for_LSTM: bias_factor 1": (lrp.Zero(bias="spread"), [F(1, 2), F(-3, 2)], 0, 0, 0),
    "LRP_for_LSTM: bias_factor 1, eps 1": (lrp.Epsilon(epsilon=1, bias="spread"), [0, -1], 0, 0, 0),
    "no bias, no stabilizer: a pole": (lrp.Zero(bias="none"), [0, 0], 0, 0, -1),
    "the pole behind captum's 1e9": (lrp.ZPlus(bias="raw", split="weight"), [0, 0], 0, 0, -1),
    "the other filter, at zero": (
        lrp.Epsilon(epsilon=3, bias="none", stabilizer=lrp.SignedOrZero(at_zero=0.125)),
        [-8, 8],
        0,
        -1,
        0,
    ),
}


@pytest.mark.parametrize("case", WITNESS)
def test_witness_a(exact, case):
    rule, R_in, *books = WITNESS[case]
    net = lrp.chain(Dense(weight=[[1], [-1]], bias=[-1]))
    e = lrp.explain(net, exact([[1, 1]]), rule, exact([[-1]]))
    check_books(e)
    assert lists(e.output) == [[-1]]
    assert lists(e.relevance) == [R_in]
    assert [booked(e, part) for part in ("bias", "stabilizer", "unclaimed")] == [[amount] for amount in books]
    assert sum(R_in) + sum(books) == -1
    assert e.ledger["0.dense"].poles.tolist() == [int(books[-1] != 0)]
    assert e.ledger["0.dense"].empty.tolist() == [0]  # both signs are there


# --- more that fits on paper


def test_cancellation_is_as_large_as_the_formula_says(exact):
    """w = (1, -1) at a = (1, 1): z = 0, and with an epsilon of 1e-6 a message of a million each way."""
    net = lrp.chain(Dense(weight=[[1], [-1]]))
    e = lrp.explain(net, exact([[1, 1]]), lrp.Epsilon(epsilon=F(1, 10**6)), exact([[1]]))
    assert lists(e.relevance) == [[10**6, -(10**6)]]
    assert booked(e, "stabilizer") == [1]
    assert lists(e.ledger["0.dense"].amplification) == [2 * 10**6]


def test_alpha_beta_creates_relevance_where_nothing_is_negative(exact):
    """w = (1, 3), a = (1, 1), alpha = 2: both inputs together get 2 R, and -R is booked as an empty part."""
    net = lrp.chain(Dense(weight=[[1], [3]]))
    e = lrp.explain(net, exact([[1, 1]]), lrp.AlphaBeta(alpha=2), 0)
    check_books(e)
    assert lists(e.relevance) == [[2, 6]]
    assert booked(e, "unclaimed") == [-4]
    assert (e.ledger["0.dense"].empty, e.ledger["0.dense"].poles) == ([1], [0])


def test_flat_at_the_border_counts_real_cells_only(exact):
    """Three taps, two cells, one cell of padding each side: both outputs read both cells, whatever the weights."""
    net = lrp.chain(Conv(weight=[[[0, 1, 0]]], bias=[5], padding=1))
    e = lrp.explain(net, exact([[[0, 0]]]), lrp.Flat(), exact([[[2, 4]]]))
    check_books(e)
    assert lists(e.relevance) == [[[3, 3]]]
    assert booked(e, "unclaimed") == [0]
