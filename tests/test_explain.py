"""explain(): the walk, its books, targets, masks, and what it refuses."""

import itertools

import numpy as np
import pytest
from checks import check_books

import lrp_ref as lrp
from lrp_ref.audit import rounding
from lrp_ref.layers import (
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Pad,
    ReLU,
    Scale,
    Sigmoid,
    Slice,
    Sub,
    Tanh,
)

RNG = np.random.default_rng(3)


def eighths(*shape, low=-8, high=9):
    return RNG.integers(low, high, shape) / 8


K, k, W, b = eighths(3, 2, 3, 3), eighths(3), eighths(3 * 2 * 2, 5), eighths(5)
CHAIN = lrp.chain(
    Conv(weight=K, bias=k, stride=2, padding=1), ReLU(), MaxPool(kernel=2), Flatten(), Dense(weight=W, bias=b)
)
RESIDUAL = lrp.Graph(
    [
        lrp.Node("c1", Conv(weight=eighths(2, 2, 3, 3), bias=eighths(2), padding=1), "input"),
        lrp.Node("bn", BatchNorm(scale=eighths(2), shift=eighths(2)), "c1"),
        lrp.Node("r1", ReLU(), "bn"),
        lrp.Node("sum", Add(), "r1", "input"),
        lrp.Node("twice", Add(), "sum", "sum"),
        lrp.Node("minus", Sub(constant=0.25), "twice"),
        lrp.Node("both", Concat(), "minus", "r1"),
        lrp.Node("cut", Slice(axis=1, start=1), "both"),
        lrp.Node("pad", Pad(padding=((0, 0), (1, 0), (0, 1))), "cut"),
        lrp.Node("avg", AvgPool(kernel=3), "pad"),
        lrp.Node("scale", Scale(weight=0.5, bias=0.125), "avg"),
        lrp.Node("flat", Flatten(), "scale"),
        lrp.Node("out", Dense(weight=eighths(27, 4), bias=eighths(4)), "flat"),
    ],
    outputs="out",
)
X = eighths(2, 2, 8, 8)
START = RNG.bit_generator.state
RULES = [
    lrp.Zero(),
    lrp.Epsilon(epsilon=0.125),
    lrp.Gamma(gamma=0.25),
    lrp.GeneralizedGamma(gamma=0.25),
    lrp.ZPlus(),
    lrp.AlphaBeta(alpha=2, beta=1),
    lrp.Flat(),
    lrp.WSquare(bias="squared"),
    lrp.Zero(bias="spread"),
    lrp.Epsilon(epsilon=0.25, stabilizer=lrp.Relative(over="sample")),
    lrp.presets.epsilon_plus(),
    lrp.presets.epsilon_plus_flat(),
    lrp.presets.epsilon_alpha2_beta1(),
    lrp.presets.epsilon_alpha2_beta1_flat(),
    lrp.presets.epsilon_gamma_box(low=-1, high=1),
    lrp.presets.excitation_backprop(),
]


@pytest.fixture(autouse=True)
def the_same_numbers_whichever_tests_run():
    RNG.bit_generator.state = START


@pytest.mark.parametrize("rules", RULES, ids=repr)
@pytest.mark.parametrize("net", [CHAIN, RESIDUAL], ids=["chain", "residual"])
def test_the_books_close_with_equality(net, rules, exact):
    e = lrp.explain(net, exact(X), rules, target=[3, 0])
    check_books(e)
    carrier = {type(value) for R in [*e.relevances.values(), *e.activations.values()] for value in R.flat}
    assert carrier == {type(exact(0.5).item())}


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
@pytest.mark.parametrize("rules", RULES, ids=repr)
def test_the_books_close_within_rounding(rules, dtype):
    e = lrp.explain(RESIDUAL, X.astype(dtype), rules, target=[3, 0])
    assert e.relevance.dtype == dtype
    assert {R.dtype for R in e.relevances.values()} == {np.dtype(dtype)}
    ledger = e.ledger
    largest = max(float(abs(R).sum()) for R in e.relevances.values())
    for entry in ledger:
        node = RESIDUAL.like(X.astype(dtype))[entry.node]
        inputs = [e.activations[source] for source in node.inputs]
        bound = rounding(node.layer.frozen(*inputs), e.rules[entry.node], node.layer.join(*inputs), e.at(entry.node))
        slack = 64 * np.finfo(np.float64).eps * entry.magnitude_out
        assert (abs(entry.balance()) <= bound + slack).all(), entry.node
    u = np.finfo(dtype).eps
    assert all((abs(part) <= 256 * u * largest).all() for part in ledger.fan_in().values())


def test_the_example_of_the_readme_runs():
    net2 = lrp.Graph(
        [
            lrp.Node("c1", Conv(weight=eighths(2, 2, 3, 3), bias=None, padding=1), "input"),
            lrp.Node("r1", ReLU(), "c1"),
            lrp.Node("sum", Add(), "r1", "input"),
        ],
        outputs="sum",
    )
    rules = lrp.Composite(
        [
            (lrp.first(Conv), lrp.ZBox(low=-1, high=1)),
            (lrp.kind(Conv) & ~lrp.named("0*"), lrp.Gamma(gamma=0.25)),
            (lrp.kind(Dense), lrp.Epsilon(epsilon=1e-6)),
        ]
    )
    e = lrp.explain(CHAIN, X, rules, target=3)
    assert e.relevance.shape == X.shape
    assert e.output.shape == (2, 5)
    assert e.at("0.conv").shape == (2, 3, 4, 4)
    for line in e.ledger:
        assert {line.node, line.came[0], line.went[0], line.bias[0], line.unclaimed[0], line.absorbed[0]}
        assert (abs(line.balance()) < 1e-12).all()
    exact = lrp.explain(CHAIN, lrp.exact(X), rules, target=3)
    assert all((lrp.fractions(line.balance()) == 0).all() for line in exact.ledger)
    start = eighths(2, 2, 8, 8)
    assert lrp.explain(net2, X, lrp.Zero(), target=start).relevance.shape == X.shape


def test_at_names_what_was_kept():
    e = lrp.explain(CHAIN, X, lrp.Zero(), target=3)
    assert list(e.activations) == ["input", *(node.name for node in CHAIN.nodes)]
    np.testing.assert_array_equal(e.at("4.dense"), e.output * np.eye(5)[[3, 3]])
    with pytest.raises(lrp.GraphError, match=r"""no relevance was kept at "conv"; the nearest names are .*'0.conv'"""):
        e.at("conv")
    small = lrp.explain(CHAIN, X, lrp.Zero(), target=3, keep="input")
    assert list(small.relevances) == list(small.activations) == ["input"]
    np.testing.assert_array_equal(small.relevance, e.relevance)
    with pytest.raises(lrp.GraphError, match='keep="all"'):
        small.at("0.conv")


# --- targets -------------------------------------------------------------------------------------------------------

Z = np.array([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0]])
P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
E = np.eye(3)


def pi(k):
    others = np.exp(Z) * (1 - E[k])
    return others / others.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("target", "start"),
    [
        (1, Z * E[1]),
        (-1, Z * E[2]),
        (np.int64(1), Z * E[1]),
        ([2, 0], Z * E[[2, 0]]),
        (np.array([2, 0]), Z * E[[2, 0]]),
        (None, Z * E[[2, 0]]),
        (lrp.argmax(), Z * E[[2, 0]]),
        (lrp.logit(1), Z * E[1]),
        (lrp.logit([1, 2]), Z * E[[1, 2]]),
        (lrp.one(1), [E[1], E[1]]),
        (lrp.probability(2), P * E[2]),
        (lrp.contrast(2, 0), Z * (E[2] - E[0])),
        (lrp.contrast([2, 1], [0, 0]), Z * (E[[2, 1]] - E[0])),
        (lrp.log_probability(1), Z * (E[1] - P)),
        (lrp.log_odds(2), Z * (E[2] - pi(2))),
        (Z * 7, Z * 7),
    ],
    ids=lambda value: repr(value) if not isinstance(value, np.ndarray) or value.ndim < 2 else "array",
)
def test_targets_start_relevance_at_the_logits(target, start):
    net = lrp.chain(Dense(weight=E))
    e = lrp.explain(net, Z, lrp.Zero(), target)
    np.testing.assert_allclose(e.at("0.dense"), start, rtol=1e-15, atol=1e-15)


def test_the_totals_of_log_odds():
    """z (e_k - pi) totals eta + H(pi); the soft-min pool with share="eta" totals eta."""
    e = lrp.explain(lrp.chain(Dense(weight=E)), Z, lrp.Zero(), lrp.log_odds(2))
    eta = np.log(P[:, 2] / (1 - P[:, 2]))
    entropy = -(pi(2)[:, :2] * np.log(pi(2)[:, :2])).sum(axis=1)
    np.testing.assert_allclose(e.at("0.dense").sum(axis=1), eta + entropy, rtol=1e-14)
    net = lrp.chain(Dense(weight=eighths(4, 6)), ReLU(), Dense(weight=eighths(6, 3), bias=[0.0, 0, 0]))
    x = eighths(2, 4)
    z = net.forward(x)["2.dense"]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    eta = np.log(p[:, 2] / (1 - p[:, 2]))
    conserving = lrp.explain(lrp.with_log_odds(net, 2), x, lrp.Zero())
    np.testing.assert_allclose(conserving.output[:, 0], eta, rtol=1e-13)
    np.testing.assert_allclose(conserving.relevance.sum(axis=1), eta, rtol=1e-12)
    chapter = lrp.explain(lrp.with_log_odds(net, 2, share="z"), x, lrp.Zero())
    q = np.delete(p, 2, axis=1) / (1 - p[:, [2]])
    np.testing.assert_allclose(chapter.relevance.sum(axis=1), eta - (q * np.log(q)).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(chapter.ledger["2.dense.log_odds"].unclaimed, (q * np.log(q)).sum(axis=1), rtol=1e-12)


def test_log_odds_survive_a_certain_class():
    net = lrp.chain(Dense(weight=E))
    z = np.array([[800.0, -3.0, -3.0]])
    np.testing.assert_allclose(lrp.explain(net, z, lrp.Zero(), lrp.log_odds(0)).at("0.dense"), [[800, 1.5, 1.5]])


@pytest.mark.parametrize("k", [0, 2])
@pytest.mark.parametrize("form", ["contrast", "log_odds"])
def test_the_two_forms_of_a_difference_agree_under_lrp_0_and_differ_under_gamma(form, k):
    net = lrp.chain(Dense(weight=eighths(4, 6), bias=eighths(6)), ReLU(), Dense(weight=eighths(6, 3), bias=eighths(3)))
    x = eighths(3, 4)
    if form == "contrast":
        target, graph = lrp.contrast(k, 1), lrp.with_contrast(net, k, 1)
    else:
        target, graph = lrp.log_odds(k), lrp.with_log_odds(net, k, share="z")
    for rule, agree in ((lrp.Zero(), True), (lrp.Gamma(gamma=0.25), False)):
        at_the_logits = lrp.explain(net, x, rule, target).relevance
        in_the_graph = lrp.explain(graph, x, rule).relevance
        difference = abs(at_the_logits - in_the_graph).max() / abs(at_the_logits).max()
        assert difference < 1e-12 if agree else difference > 0.01


def test_graph_forms_keep_what_they_do_not_change():
    with pytest.raises(lrp.GraphError, match=r'the output "1.relu"'):
        lrp.with_contrast(lrp.chain(Dense(weight=E), ReLU()), 0, 1)
    with pytest.raises(ValueError, match=r"share='half'"):
        lrp.with_log_odds(lrp.chain(Dense(weight=E)), 0, share="half")


@pytest.mark.parametrize("target", [None, 0, lrp.argmax(), lrp.log_odds(0)], ids=repr)
def test_probabilities_are_refused_as_a_start(target):
    net = lrp.chain(Dense(weight=E), Sigmoid())
    with pytest.raises(lrp.GraphError, match=r'node "1.sigmoid" \(Sigmoid\) gives probabilities.*strip it'):
        lrp.explain(net, Z, lrp.Zero(), target)
    assert lrp.explain(net, Z, lrp.Zero(), np.ones((2, 3))).relevance.shape == (2, 3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "3 classes"),
        (-4, "3 classes"),
        ([0, 1, 2], "one int for each of 2 samples"),
        (np.ones((2, 4)), r"start relevance has shape \(2, 4\), the output \(2, 3\)"),
        (1.5, "need an int"),
        (True, "need an int"),
        ("3", "need an int"),
        ({"logits": 0}, "the outputs are"),
        ({}, "the outputs are"),
    ],
)
def test_bad_targets_are_refused(target, message):
    with pytest.raises(lrp.LrpError, match=message):
        lrp.explain(lrp.chain(Dense(weight=E)), Z, lrp.Zero(), target)


def test_targets_that_need_exp_say_so_in_exact_arithmetic():
    net = lrp.chain(Dense(weight=E))
    for target in (lrp.probability(0), lrp.log_probability(0), lrp.log_odds(0)):
        with pytest.raises(lrp.NotExact, match="exp has no rational values"):
            lrp.explain(net, lrp.exact(Z), lrp.Zero(), target)


def test_an_output_of_more_axes_wants_an_array():
    net = lrp.chain(Conv(weight=K, padding=1))
    with pytest.raises(lrp.ShapeError, match=r"not \(batch, classes\): give the start relevance as an array"):
        lrp.explain(net, X, lrp.Zero(), 0)
    R = eighths(2, 3, 8, 8)
    e = lrp.explain(net, lrp.exact(X), lrp.Zero(), target=R)
    assert (lrp.fractions(e.at("0.conv")) == lrp.fractions(R)).all()
    check_books(e)


# --- several inputs and outputs --------------------------------------------------------------------------------

TWO = lrp.Graph(
    [
        lrp.Node("left", Dense(weight=eighths(3, 4)), "a"),
        lrp.Node("sum", Add(), "left", "b"),
        lrp.Node("out", Dense(weight=eighths(4, 2)), "sum"),
        lrp.Node("unused", Dense(weight=eighths(4, 2)), "left"),
    ],
    outputs=["out", "sum"],
    inputs=["a", "b"],
)


def test_several_inputs_and_outputs():
    x = {"a": lrp.exact(eighths(2, 3)), "b": lrp.exact(eighths(2, 4))}
    e = lrp.explain(TWO, x, lrp.Zero(), target={"out": 1, "sum": [0, 2]})
    assert set(e.relevance) == {"a", "b"}
    assert set(e.output) == {"out", "sum"}
    assert [line.node for line in e.ledger] == ["out", "sum", "left"]
    check_books(e)
    one = lrp.explain(TWO, x, lrp.Zero(), target={"out": 1})
    other = lrp.explain(TWO, x, lrp.Zero(), target={"sum": [0, 2]})
    for name in x:
        together = lrp.fractions(one.relevance[name]) + lrp.fractions(other.relevance[name])
        assert (lrp.fractions(e.relevance[name]) == together).all()
    with pytest.raises(lrp.GraphError, match="the outputs are"):
        lrp.explain(TWO, x, lrp.Zero(), target=1)


def test_an_input_that_nothing_depends_on_has_no_relevance():
    net = lrp.Graph([lrp.Node("d", Dense(weight=E), "a")], outputs="d", inputs=["a", "b"])
    e = lrp.explain(net, {"a": Z, "b": Z}, lrp.Zero())
    assert not e.relevance["b"].any()


# --- masks -----------------------------------------------------------------------------------------------------------


def test_masks_that_partition_the_channels_add_up(exact):
    x = exact(X)
    plain = lrp.explain(CHAIN, x, lrp.ZPlus(), target=3)
    parts = []
    for channel in range(3):
        mask = np.zeros((1, 3, 1, 1))
        mask[:, channel] = 1
        parts.append(lrp.explain(CHAIN, x, lrp.ZPlus(), target=3, edit={"0.conv": mask}))
        check_books(parts[-1])
    assert (sum(lrp.fractions(part.relevance) for part in parts) == lrp.fractions(plain.relevance)).all()
    assert (sum(lrp.fractions(part.ledger["0.conv"].edited) for part in parts)
            == 2 * lrp.fractions(plain.ledger["0.conv"].came)).all()  # fmt: skip


def test_a_mask_at_an_input_or_the_output_is_booked():
    x = lrp.exact(X)
    e = lrp.explain(CHAIN, x, lrp.Zero(), target=3, edit={"input": np.zeros((1, 1)), "4.dense": 0.5})
    check_books(e)
    assert not lrp.fractions(e.relevance).any()
    assert (lrp.fractions(e.ledger["4.dense"].edited) * 2 == lrp.fractions(e.ledger["4.dense"].came)).all()
    assert (lrp.fractions(e.ledger.edited_inputs["input"]) != 0).any()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"conv": 0.0}, "edit: no node or input \"conv\"; the nearest names are '0.conv'"),
        ({"0.conv": np.ones((4, 4, 5))}, r"shape \(4, 4, 5\) does not broadcast to \"0.conv\" \(2, 3, 4, 4\)"),
        ({"0.conv": np.ones((1, 2, 3, 4, 4))}, "does not broadcast"),
    ],
)
def test_masks_that_do_not_fit_are_refused(edit, message):
    with pytest.raises(lrp.LrpError, match=message):
        lrp.explain(CHAIN, X, lrp.Zero(), target=0, edit=edit)


# --- poles -----------------------------------------------------------------------------------------------------------


def test_strict_names_the_first_pole():
    net = lrp.chain(Dense(weight=[[1.0, 1.0], [1.0, -1.0]]), Dense(weight=[[1.0], [1.0]], bias=[1.0]))
    x = np.array([[1.0, 2.0], [1.0, 1.0]])
    start = np.ones((2, 1))
    relaxed = lrp.explain(net, x, lrp.Flat(), target=start)
    assert not relaxed.ledger["0.dense"].poles.any()
    composite = lrp.Composite([(lrp.named("0*"), lrp.Zero()), (lrp.named("1*"), lrp.Flat())])
    e = lrp.explain(net, x, composite, target=start)
    np.testing.assert_array_equal(e.ledger["0.dense"].poles, [0, 1])
    np.testing.assert_array_equal(e.ledger["0.dense"].unclaimed, [0, 0.5])
    assert "zero denominators: 1" in e.ledger.table(1)
    assert "zero denominators" not in e.ledger.table(0)
    with pytest.raises(lrp.Pole, match=r'node "0.dense" \(Dense\): sample 1, unit \(1,\).*Zero\(\)'):
        lrp.explain(net, x, composite, target=start, strict=True)


def test_strict_lets_dead_windows_be():
    net = lrp.chain(Dense(weight=[[1.0, 1.0], [1.0, 1.0]]), Dense(weight=[[1.0], [1.0]]))
    composite = lrp.Composite([(lrp.named("0*"), lrp.Zero()), (lrp.named("1*"), lrp.Flat())])
    e = lrp.explain(net, np.zeros((1, 2)), composite, target=np.ones((1, 1)), strict=True)
    assert e.ledger["0.dense"].unclaimed == 1


def test_empty_parts_are_marked():
    net = lrp.chain(Dense(weight=[[1.0], [2.0]]))
    for epsilon in (0, 0.25):
        e = lrp.explain(net, np.ones((1, 2)), lrp.AlphaBeta(alpha=2, beta=1, epsilon=epsilon))
        assert e.ledger["0.dense"].empty == 1
        assert "empty parts: 1" in str(e.ledger)
    exact = lrp.explain(net, lrp.exact(np.ones((1, 2))), lrp.AlphaBeta(alpha=2, beta=1))
    assert lrp.fractions(exact.ledger["0.dense"].unclaimed) == -3
    assert lrp.fractions(exact.relevance).sum() == 6


# --- the ledger ------------------------------------------------------------------------------------------------------


def test_the_ledger_itemizes_by_hand():
    net = lrp.chain(Dense(weight=[[2.0], [1.0]], bias=[1.0]), ReLU(), Dense(weight=[[3.0]]))
    e = lrp.explain(net, lrp.exact([[1.0, 1.0], [3.0, 0.0]]), lrp.Epsilon(epsilon=1), target=0)
    last, relu, firstly = e.ledger
    assert lrp.fractions(last.came).tolist() == [12, 21]
    assert [str(v) for v in lrp.fractions(last.stabilizer)] == ["12/13", "21/22"]
    assert [str(v) for v in lrp.fractions(relu.went)] == ["144/13", "441/22"]
    assert [str(v) for v in lrp.fractions(firstly.bias)] == ["144/65", "441/176"]
    assert [str(v) for v in lrp.fractions(firstly.amplification)] == ["3/5", "3/4"]
    assert e.ledger["0.dense"] is firstly
    with pytest.raises(KeyError, match="no relevance passed"):
        e.ledger["dense"]


def test_the_ledger_prints_as_a_table():
    e = lrp.explain(CHAIN, X, lrp.Epsilon(epsilon=0.125), target=3)
    lines = str(e.ledger).splitlines()
    head = "node layer came went bias stabilizer unclaimed edited amplified"
    assert lines[0].split() == head.split()
    assert [line.split()[0] for line in lines[1:]] == [*(n.name for n in reversed(CHAIN.nodes)), "input"]
    assert float(lines[1].split()[2]) == pytest.approx(e.output[0, 3], rel=1e-4)


def test_a_mask_that_is_told_apart_from_absorption():
    e = lrp.explain(CHAIN, lrp.exact(X), lrp.Zero(), target=3, edit={"1.relu": 0.5})
    entry = e.ledger["1.relu"]
    assert (lrp.fractions(entry.edited) == lrp.fractions(entry.absorbed)).all()
    assert (lrp.fractions(entry.came) == 2 * lrp.fractions(entry.went)).all()


# --- what explain refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.astype(int), r'input "input" has dtype int64: convert it to float'),
        (X > 0, "has dtype bool"),
        (np.where(X > 0.5, np.nan, X), "NaN or infinite"),
        (np.where(X > 0.5, np.inf, X), "NaN or infinite"),
        (X.tolist(), "is a list, not an array"),
        (X.astype(object), r"object array of float: make it with lrp_ref.exact"),
        (X.astype("complex128"), "has dtype complex128"),
        (X[0], r'node "0.conv" \(Conv\): input has shape \(2, 8, 8\), need \(batch, 2, size, size\)'),
        (X[:, :1], r"need \(batch, 2, size, size\)"),
        (np.ones((2, 2, 4, 4)), r'node "2.maxpool"|node "4.dense"'),
        ({"x": X}, r"inputs \['x'\] were given, the graph has \['input'\]"),
        (np.float64(3), "no axes"),
    ],
    ids=["int", "bool", "nan", "inf", "list", "object", "complex", "no batch", "channels", "size", "name", "scalar"],
)
def test_bad_input_is_one_clear_error(x, message):
    with pytest.raises(lrp.LrpError, match=message):
        lrp.explain(CHAIN, x, lrp.Zero(), target=0)


def test_keep_is_one_of_two():
    with pytest.raises(lrp.GraphError, match="keep='none'"):
        lrp.explain(CHAIN, X, lrp.Zero(), keep="none")


def test_an_unsuitable_rule_names_the_node():
    with pytest.raises(lrp.UnsuitableRule, match=r'node "4.dense" \(Dense\): Pass on Dense.*live inputs'):
        lrp.explain(CHAIN, X, lrp.Pass(), target=0)


def test_exact_arithmetic_names_the_layer_that_has_none():
    net = lrp.chain(Dense(weight=E), Tanh(), Dense(weight=E))
    with pytest.raises(lrp.NotExact, match=r'node "1.tanh" \(Tanh\): tanh has no rational values.*given'):
        lrp.explain(net, lrp.exact(Z), lrp.Zero())
    e = lrp.explain(lrp.given(net, Z), lrp.exact(Z), lrp.Epsilon(epsilon=0.25), target=1)
    check_books(e)
    np.testing.assert_allclose(
        lrp.fractions(e.relevance).astype(float),
        lrp.explain(net, Z, lrp.Epsilon(epsilon=0.25), target=1).relevance,
        rtol=1e-13,
    )


def test_a_sample_does_not_depend_on_its_batch():
    for rules in RULES:
        whole = lrp.explain(CHAIN, X, rules, target=[3, 1]).relevance
        for i, k in itertools.product(range(2), (3, 1)):
            if k == (3, 1)[i]:
                alone = lrp.explain(CHAIN, X[i : i + 1], rules, target=k).relevance[0]
                np.testing.assert_allclose(alone, whole[i], rtol=0, atol=1e-13 * abs(whole[i]).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_empty_batch_has_empty_relevance(dtype):
    e = lrp.explain(RESIDUAL, X[:0].astype(dtype), lrp.presets.epsilon_plus(), target=0)
    assert e.relevance.shape == (0, 2, 8, 8)
    assert e.relevance.dtype == dtype
    assert e.ledger.balance().shape == (0,)


def test_nothing_that_went_in_is_changed():
    x, weight = X.copy(), K.copy()
    lrp.explain(CHAIN, x, lrp.AlphaBeta(), target=3, edit={"0.conv": 0.5})
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(weight, K)
