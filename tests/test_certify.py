"""Certificates: balls enclose, comparisons never guess, and the enclosure of a relevance contains the exact one."""

import itertools
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from grid import GRID, relevance, sample
from hypothesis import given, settings
from hypothesis import strategies as st

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref.arrays import floats, greatest_class
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.graph import Graph, Node, chain
from lrp_ref.stabilize import Relative, Unsigned

flint = pytest.importorskip("flint")

from lrp_ref.oracle import Ball, certify, tiles  # noqa: E402
from lrp_ref.oracle.balls import balls, lower, unwrapped, upper, working, wrapped  # noqa: E402

ATTEMPTS = 100
DYADIC = st.builds(lambda n, k: Fraction(n, 2**k), st.integers(-(2**20), 2**20), st.integers(0, 12))


def holds(ball, number):
    """Whether the rational lies in the ball, asked with so many bits that the question itself is exact or nearly."""
    with flint.ctx.workprec(4096):
        low, high = ball.arb.mid() - ball.arb.rad(), ball.arb.mid() + ball.arb.rad()
        exactly = flint.arb(number.numerator) / number.denominator
        return not exactly < low and not exactly > high


def wide(midpoint, radius):
    """A ball from two rationals, which hold a few bits."""
    with flint.ctx.workprec(256):
        return Ball(flint.arb(flint.arb(flint.fmpq(midpoint.numerator, midpoint.denominator)),
                              flint.arb(flint.fmpq(radius.numerator, radius.denominator))))  # fmt: skip


def checks(certificate, exact, wanted=2.0**-60):
    """Every exact value lies in its enclosure, and the enclosures are small beside the greatest."""
    truth, R = lrp.fractions(exact), certificate.at()
    assert R.shape == truth.shape
    for ball, number in zip(R.flat, truth.flat, strict=True):
        assert holds(ball, number), f"{number} does not lie in {ball!r}"
    greatest = float(abs(truth).max())
    assert certificate.radius().max() <= wanted * greatest


# --- balls ---------------------------------------------------------------------------------------------------------

OPERATIONS = [operator.add, operator.sub, operator.mul, operator.truediv]
RADII = st.builds(lambda n, k: Fraction(n, 2**k), st.integers(0, 64), st.integers(0, 8))


def check_operation(compute, a, r, b, s):
    """compute(A, B) holds the results of the ends and midpoints of both balls."""
    A, B = wide(a, r), wide(b, s)
    with working(64):
        try:
            found = compute(A, B)
        except lrp.Undecided:
            assert compute is operator.truediv
            assert abs(b) <= s
            return
    for x in (a - r, a, a + r):
        for y in (b - s, b, b + s):
            assert holds(found, compute(x, y))


@pytest.mark.parametrize("compute", OPERATIONS, ids=lambda f: f.__name__)
@settings(max_examples=ATTEMPTS)
@given(DYADIC, RADII, DYADIC, RADII)
def test_an_operation_holds_what_the_numbers_of_its_balls_give(compute, a, r, b, s):
    check_operation(compute, a, r, b, s)


def halved(x):
    return Ball(flint.arb(x.arb.mid(), x.arb.rad() / 2))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda A, B: Ball((A + B).arb.mid()),  # no radius
        lambda A, B: halved(A + B),  # half the radius
        lambda A, B: Ball(flint.arb((A + B).arb.upper())),  # one end
    ],
)
def test_wrong_arithmetic_of_balls_is_caught(wrong):
    def compute(A, B):
        return wrong(A, B) if isinstance(A, Ball) else A + B

    with pytest.raises(AssertionError):
        check_operation(compute, Fraction(1), Fraction(1, 2), Fraction(3), Fraction(1, 4))


COMPARISONS = [operator.lt, operator.gt, operator.le, operator.ge, operator.eq, operator.ne]


@pytest.mark.parametrize("compare", COMPARISONS, ids=lambda f: f.__name__)
@settings(max_examples=ATTEMPTS)
@given(DYADIC, RADII, DYADIC, RADII)
def test_a_comparison_answers_what_holds_for_all_or_raises(compare, a, r, b, s):
    answers = {compare(x, y) for x in (a - r, a, a + r) for y in (b - s, b, b + s)}
    A, B = wide(a, r), wide(b, s)
    try:
        found = {compare(A, B)}
    except lrp.Undecided:
        assert r or s
        assert max(a - r, b - s) <= min(a + r, b + s)  # they meet
    else:
        assert answers == found


def test_a_number_is_itself_whatever_its_radius():
    x = wide(Fraction(0), Fraction(1))
    assert x == x
    assert not operator.ne(x, x)
    assert not x < x
    assert x <= x
    with pytest.raises(lrp.Undecided, match="cannot be told apart"):
        assert x == wide(Fraction(0), Fraction(1))
    with pytest.raises(lrp.Undecided):
        bool(x)


def test_a_float_does_not_meet_a_ball():
    for meet in (operator.add, operator.mul, operator.lt, operator.truediv):
        with pytest.raises(TypeError):
            meet(Ball(1, 3), 0.5)
    assert holds(2 - Ball(1, 3), Fraction(5, 3))
    assert Ball(3, 1) == 3


@settings(max_examples=ATTEMPTS)
@given(st.fractions())
def test_the_ends_as_floats_are_outside(number):
    with working(200):
        x = Ball(number.numerator, number.denominator).arb
    above, below = upper(x), lower(x)
    assert below == -math.inf or Fraction(below) <= number
    assert above == math.inf or number <= Fraction(above)
    if abs(number) < 1e300:
        assert above - below <= 4 * math.ulp(max(abs(above), abs(below)))


def test_an_infinite_ball_has_infinite_ends():
    assert upper(flint.arb("inf")) == math.inf
    assert upper(flint.arb(0) / flint.arb(0)) == math.inf


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_floats_enter_exactly(dtype):
    x = (np.arange(1, 9).astype(dtype) / 7).reshape(2, 4)
    with working(80):
        made = balls(x)
    assert made.shape == x.shape
    for ball, number in zip(made.flat, lrp.fractions(x).flat, strict=True):
        assert ball.arb.is_exact()
        assert holds(ball, number)
    with pytest.raises(lrp.ArithmeticMismatch, match="int"):
        balls(np.arange(3))
    assert (unwrapped(wrapped(unwrapped(made))) == unwrapped(made)).all()


def test_working_leaves_the_context_as_it_was():
    before = flint.ctx.prec, flint.ctx.threads
    with working(333, 2):
        assert (flint.ctx.prec, flint.ctx.threads) == (333, 2)
    with pytest.raises(ZeroDivisionError), working(333, 2):
        _ = 1 // 0
    assert (flint.ctx.prec, flint.ctx.threads) == before


# --- one layer, every rule, against rationals ----------------------------------------------------------------------


class OfMagnitudes(lrp.Rule):
    """|a_j| |w_jk|, by transforms that are nobody's but its own."""

    def shares(self):
        return (lrp.Share((lrp.Term(abs, abs, abs),), portion=0.75),)


RULES = [
    lrp.Zero(), lrp.Epsilon(epsilon=0.25), lrp.Gamma(), lrp.GeneralizedGamma(), lrp.ZPlus(), lrp.AlphaBeta(),
    lrp.Flat(), lrp.WSquare(), lrp.ZBox(low=-4, high=4), lrp.ZPlus(split="weight", bias="raw"),
    lrp.WSquare(bias="squared"), lrp.Epsilon(epsilon=0.25, bias="none"), lrp.Epsilon(epsilon=0.5, bias="spread"),
    lrp.Norm(epsilon=2.0**-20), lrp.Epsilon(epsilon=0.25, stabilizer=Unsigned()), lrp.Pass(), lrp.Gradient(),
    lrp.Product(), OfMagnitudes(),
]  # fmt: skip


def exactly(graph, x, rule, start):
    return lrp.explain(graph, {name: lrp.exact(v) for name, v in x.items()}, rule, lrp.exact(start))


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("case", GRID, ids=lambda c: c.id)
def test_a_layer_under_a_rule_is_enclosed(case, rule):
    rng = np.random.default_rng(7)
    inputs = sample(case, rng, 2)
    names = [f"in{i}" for i in range(len(inputs))]
    graph, x = Graph([Node("layer", case.layer, *names)], "layer", names), dict(zip(names, inputs, strict=True))
    composite = lrp.Composite([(lrp.named("layer"), rule)])
    start = relevance(graph.forward(x)["layer"].shape, rng)
    try:
        truth = exactly(graph, x, composite, start)
    except lrp.LrpError as refused:
        with pytest.raises(type(refused)):
            certify(graph, x, composite, start, engine="balls")
        return
    try:
        found = certify(graph, x, composite, start, engine="balls", most=1024)
    except lrp.Undecided:  # a pole, met with numbers such as 1/3: only rationals can tell
        assert truth.ledger["layer"].poles.sum() > 0
        found = certify(graph, x, composite, start)
        assert found.engine == "rationals"
    for name in names:
        for ball, number in zip(found.at(name).flat, lrp.fractions(truth.at(name)).flat, strict=True):
            assert holds(ball, number)
        scale = max(float(abs(lrp.fractions(truth.at(name))).max(initial=0)), 1e-300)
        assert found.radius(name).max(initial=0.0) <= 2.0**-60 * scale


# --- what stays undecided ------------------------------------------------------------------------------------------


def tied_by_tanh(weight):
    """Two equal values of tanh, and a dense layer on them."""
    return chain(
        L.Dense(weight=[[1.0, 1.0]]), L.Tanh(), L.Dense(weight=weight), L.ReLU(), L.Dense(weight=[[1.0], [1.0]])
    )


def test_a_tie_without_finite_expansion_is_named_and_not_guessed():
    graph = tied_by_tanh([[2.0, 1.0], [0.0, -1.0]])
    with pytest.raises(lrp.Undecided, match=r'node "3.relu" \(ReLU\): sample 1, unit \(1,\): .* most=512') as caught:
        certify(graph, np.array([[0.0], [0.5]]), lrp.Epsilon(epsilon=0.5), [0, 0], most=512)
    assert caught.value.unit == (1, 1)


def test_a_denominator_without_finite_expansion_is_named():
    graph = chain(L.Dense(weight=[[1.0, 1.0]]), L.Tanh(), L.Dense(weight=[[2.0, 1.0], [0.0, -1.0]]))
    with pytest.raises(lrp.Undecided, match=r'node "2.dense" \(Dense\): sample 0, unit \(1,\)'):
        certify(graph, np.array([[0.5]]), lrp.Zero(), np.ones((1, 2)), most=256)
    found = certify(graph, np.array([[0.5]]), lrp.Zero(), np.array([[1.0, 0.0]]), most=256)  # and where it gets no R
    assert found.precision < 256


def test_an_exact_zero_is_recognized_and_decided():
    graph = chain(L.Dense(weight=[[0.1, 0.3], [-0.1, 0.3]]), L.ReLU(), L.Dense(weight=[[1.0], [1.0]]))
    x = np.array([[0.7, 0.7]])
    found = certify(graph, x, lrp.Zero(), 0, engine="balls")
    checks(found, lrp.explain(graph, lrp.exact(x), lrp.Zero(), 0).relevance)
    assert (found.sign() == [[1, 1]]).all()


def test_a_wanted_radius_out_of_reach_is_said():
    graph = chain(L.Dense(weight=[[1.0]]), L.Tanh(), L.Dense(weight=[[1.0]]))
    with pytest.raises(lrp.Undecided, match="the wanted radius 1e-300 is not reached with 128 bits; most=128"):
        certify(graph, np.array([[0.5]]), lrp.Zero(), 0, radius=1e-300, most=128)


# --- networks ------------------------------------------------------------------------------------------------------

DATA = digits()
NETWORKS = {"mlp": digits_mlp(), "cnn": digits_cnn()}
PRESETS = {
    "epsilon_plus": lrp.presets.epsilon_plus(),
    "epsilon_gamma_box": lrp.presets.epsilon_gamma_box(low=0, high=1),
    "epsilon_alpha2_beta1_flat": lrp.presets.epsilon_alpha2_beta1_flat(),
    "zero": lrp.Zero(),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_shipped_networks_are_enclosed_at_every_node(name, preset):
    graph, x = NETWORKS[name], DATA.images[DATA.test[:2]].astype(float)
    truth = lrp.explain(graph, lrp.exact(x), PRESETS[preset])
    found = certify(graph, x, PRESETS[preset], engine="balls", keep="all")
    assert found.engine == "balls"
    for node in truth.relevances:
        for ball, number in zip(found.at(node).flat, lrp.fractions(truth.at(node)).flat, strict=True):
            assert holds(ball, number)
    checks(found, truth.relevance)
    for dtype in ("float32", "float64"):
        e = lrp.explain(graph, x, PRESETS[preset], engine="plain") if dtype == "float64" else None
        theirs = e.relevance if e else lrp.explain(graph.like(x.astype("f")), x.astype("f"), PRESETS[preset]).relevance
        distance = abs(lrp.fractions(theirs) - lrp.fractions(truth.relevance))
        bound = found.bound(theirs)
        assert (lrp.fractions(bound) >= distance).all()
        assert (bound <= floats(distance) * (1 + 2**-50) + 2.0**-59 * found.scale()).all()
        assert float(distance.max() / abs(lrp.fractions(truth.relevance)).max()) <= found.error(theirs)


def test_relevance_that_is_given_goes_on_from_there():
    """Each layer by itself: its rule in rationals, of relevance that came from elsewhere."""
    graph, x = NETWORKS["mlp"], DATA.images[DATA.test[:2]].astype(float)
    rng = np.random.default_rng(0)
    truth = lrp.explain(graph, lrp.exact(x), lrp.ZPlus(), 3)
    given = {node.name: rng.normal(size=truth.at(node.name).shape) for node in graph.nodes}
    found = certify(graph, x, lrp.ZPlus(), 3, given=given, keep="all")
    assert found.engine == "balls"
    activations, rules = graph.like(lrp.exact(x)).forward(lrp.exact(x)), truth.rules
    for node in graph.nodes:
        (R,), _ = rules[node.name].back(
            graph[node.name].layer.like(lrp.exact(x)),
            [activations[source] for source in node.inputs],
            lrp.exact(given[node.name]),
        )
        for ball, number in zip(found.at(node.inputs[0]).flat, lrp.fractions(R).flat, strict=True):
            assert holds(ball, number)
    top = graph.outputs[0]
    assert (found.midpoint(top) == floats(truth.at(top))).all(), "what reaches a node, and not what is given there"


@pytest.mark.parametrize(
    ("given", "engine", "says"),
    [
        ({"dens": np.ones((1, 10))}, None, 'given: no node or input "dens"'),
        ({"input": np.ones((1, 10))}, None, r"given: the relevance at \"input\" has shape \(1, 10\), need"),
        ({"input": np.ones((1, 1, 8, 8))}, "rationals", "certified in balls"),
    ],
)
def test_what_cannot_be_given_is_refused(given, engine, says):
    x = DATA.images[DATA.test[:1]].astype(float)
    with pytest.raises(lrp.LrpError, match=says):
        certify(NETWORKS["mlp"], x, lrp.ZPlus(), given=given, engine=engine)


def test_rationals_and_balls_agree():
    graph, x = NETWORKS["mlp"], DATA.images[DATA.test[:1]].astype(float)
    one, other = (certify(graph, x, lrp.ZPlus(), 3, engine=engine) for engine in ("rationals", "balls"))
    assert one.exact is not None
    assert other.exact is None
    checks(other, one.exact["input"])
    checks(one, one.exact["input"])
    assert certify(graph, x[:, :, :, :], lrp.ZPlus(), 3, engine=None).engine in ("rationals", "balls")


@pytest.mark.parametrize("target", [lrp.probability(1), lrp.log_odds(1)], ids=repr)
def test_what_has_no_rational_value_is_enclosed_however_tiny(target):
    graph, x = chain(L.Dense([[1.0, 2.0, 0.5]])), np.array([[0.5]])
    found = certify(graph, x, lrp.Zero(), target)
    assert found.engine == "balls"
    ours = lrp.explain(graph, x, lrp.Zero(), target).relevance
    assert 0 < found.error(ours) < 1e-14
    with pytest.raises(lrp.NotExact):
        certify(graph, x, lrp.Zero(), target, engine="rationals")
    odds = lrp.with_log_odds(graph, 1)
    assert certify(odds, x, lrp.Zero(), 0).error(lrp.explain(odds, x, lrp.Zero(), 0).relevance) < 1e-14


def random_network(rng):
    """Convolutions, a pool, a residual sum, a batch norm, and what has no rationals: tanh, sigmoid, GELU, softmax."""

    def weights(*shape):
        return rng.normal(size=shape) / math.sqrt(math.prod(shape[1:]))

    return Graph(
        [
            Node("conv1", L.Conv(weight=weights(4, 2, 3, 3), bias=weights(4), padding=1), "input"),
            Node("tanh", L.Tanh(), "conv1"),
            Node("norm", L.BatchNorm(scale=rng.uniform(0.5, 2, 4), shift=weights(4)), "tanh"),
            Node("conv2", L.Conv(weight=weights(4, 2, 3, 3), padding=1, groups=2), "norm"),
            Node("gelu", L.GELU(), "conv2"),
            Node("sum", L.Add(), "gelu", "norm"),
            Node("pool", L.MaxPool(kernel=2), "sum"),
            Node("up", L.ConvTranspose(weight=weights(4, 3, 2, 2), bias=weights(3), stride=2), "pool"),
            Node("sigmoid", L.Sigmoid(), "up"),
            Node("softmax", L.Softmax(axis=1), "sigmoid"),
            Node("average", L.AvgPool(kernel=2), "softmax"),
            Node("flatten", L.Flatten(), "average"),
            Node("logits", L.Dense(weight=weights(27, 4), bias=weights(4)), "flatten"),
        ],
        "logits",
    )


@pytest.mark.parametrize("rule", [lrp.Epsilon(epsilon=1e-3), lrp.ZPlus(), lrp.GeneralizedGamma(), lrp.Flat()], ids=repr)
def test_a_second_precision_agrees_with_the_first_where_there_are_no_rationals(rule):
    rng = np.random.default_rng(5)
    graph, x = random_network(rng), rng.normal(size=(2, 2, 6, 6))
    coarse = certify(graph, x, rule, radius=2.0**-20)
    fine = certify(graph, x, rule, radius=2.0**-200)
    assert coarse.precision < fine.precision
    assert all(a.arb.contains(b.arb.mid()) for a, b in zip(coarse.at().flat, fine.at().flat, strict=True))
    for wanted, found in ((2.0**-20, coarse), (2.0**-200, fine)):
        assert found.radius().max() <= wanted * found.scale()
    e = lrp.explain(graph, x, rule)
    assert fine.error(e.relevance) < 1e-12
    assert fine.error(e.relevance * (1 + 1e-9)) > 1e-10


def test_the_result_does_not_depend_on_the_tiles(monkeypatch):
    rng = np.random.default_rng(6)
    graph, x = random_network(rng), rng.normal(size=(2, 2, 6, 6))
    whole = certify(graph, x, lrp.ZPlus())
    monkeypatch.setattr(tiles, "TILE", 40)
    apart = certify(graph, x, lrp.ZPlus())
    assert all(a.arb.overlaps(b.arb) for a, b in zip(whole.at().flat, apart.at().flat, strict=True))
    assert apart.radius().max() <= 2.0**-60 * apart.scale()


def without_one_term(transform, weight):
    numbers = unwrapped(transform(balls(weight))).reshape(-1).tolist()
    numbers[len(numbers) // 2] = flint.arb(0)
    return numbers


def rounded_unnoticed(matrix):
    rounded = [flint.arb(float(x.mid())) for x in matrix.entries()]
    return np.array(rounded, dtype=object).reshape(matrix.nrows(), matrix.ncols())


@pytest.mark.parametrize(("name", "wrong"), [("_numbers", without_one_term), ("_array", rounded_unnoticed)])
def test_wrong_contractions_are_caught(monkeypatch, name, wrong):
    rng = np.random.default_rng(8)
    graph = chain(L.Conv(rng.normal(size=(3, 2, 3, 3))), L.ReLU(), L.Flatten(), L.Dense(rng.normal(size=(27, 2))))
    x = rng.normal(size=(1, 2, 5, 5))
    truth = lrp.explain(graph, lrp.exact(x), lrp.Zero(), 1).relevance
    checks(certify(graph, x, lrp.Zero(), 1, engine="balls"), truth)
    monkeypatch.setattr(tiles, name, wrong)
    with pytest.raises(AssertionError, match="does not lie in"):
        checks(certify(graph, x, lrp.Zero(), 1, engine="balls"), truth)


# --- random networks against rationals -----------------------------------------------------------------------------

SMALL_RULES = [
    lrp.Zero(), lrp.Epsilon(epsilon=2.0**-8), lrp.Gamma(gamma=0.3), lrp.GeneralizedGamma(), lrp.ZPlus(),
    lrp.AlphaBeta(), lrp.Flat(), lrp.WSquare(), lrp.ZBox(low=-256, high=256),
]  # fmt: skip
VALUES = st.one_of(st.just(0.0), st.floats(-4, 4, width=32), st.sampled_from([-1.0, 1.0, 0.5]))


@st.composite
def networks(draw):
    """Two or three dense layers with ReLUs between, an input, a rule for each; zeros and ties among the numbers."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=3, max_size=4))
    layers, rules = [], []

    def numbers(*shape):
        flat = draw(st.lists(VALUES, min_size=math.prod(shape), max_size=math.prod(shape)))
        return np.array(flat).reshape(shape)

    for inputs, outputs in itertools.pairwise(sizes):
        layers += [L.Dense(weight=numbers(inputs, outputs), bias=numbers(outputs)), L.ReLU()]
        rules.append(draw(st.sampled_from(SMALL_RULES)))
    graph = chain(*layers[:-1])
    cases = [(lrp.named(f"{2 * i}.dense"), rule) for i, rule in enumerate(rules)]
    return graph, numbers(draw(st.integers(1, 2)), sizes[0]), lrp.Composite(cases)


def check_random_network(drawn):
    graph, x, composite = drawn
    truth = lrp.explain(graph, lrp.exact(x), composite)
    found = certify(graph, x, composite, engine="balls")
    for ball, number in zip(found.at().flat, lrp.fractions(truth.relevance).flat, strict=True):
        assert holds(ball, number)
    assert found.radius().max() <= 2.0**-60 * found.scale()


@settings(max_examples=ATTEMPTS)
@given(networks())
def test_random_networks_are_enclosed(drawn):
    check_random_network(drawn)


@pytest.mark.full
@settings(max_examples=5000)
@given(networks())
def test_five_thousand_random_networks_are_enclosed(drawn):
    check_random_network(drawn)


def test_the_greatest_class_stops_at_the_first_comparison_that_is_not_decided(monkeypatch):
    """NumPy's own argmax makes the next one too, with the first one's exception set."""
    asked, greater = [], Ball.__gt__

    def counted(self, other):
        asked.append(self)
        return greater(self, other)

    monkeypatch.setattr(Ball, "__gt__", counted)
    with working(64):
        third = (Ball(1, 1) / 3).arb
        with pytest.raises(lrp.Undecided):
            greatest_class(np.array([[Ball(third), Ball(third)], [Ball(third), Ball(third)]]))
        assert len(asked) == 1
        assert greatest_class(balls(np.array([[1.0, 3.0, 3.0], [2.0, -1.0, 0.5]]))).tolist() == [1, 0]


# --- what a certificate tells --------------------------------------------------------------------------------------


def test_what_is_certain_about_signs_order_and_total():
    graph = chain(L.Dense(weight=[[1.0], [-2.0], [0.0], [0.1], [0.1]]))
    x = np.array([[3.0, 1.0, 5.0, 3.0, 3.0]])
    found = certify(graph, x, lrp.Zero(), 0, engine="balls")
    assert found.sign().tolist() == [[1, -1, 0, 1, 1]]
    indices, certain = found.top(4)
    assert indices[0] == (0, 0)
    assert {index[1] for index in indices[1:3]} == {3, 4}
    assert certain == 1  # the next two are equal
    assert holds(found.total(), Fraction(1) + 2 * 3 * Fraction(0.1))
    assert abs(found.midpoint() - [[3, -2, 0, 0.3, 0.3]]).max() < 1e-15
    unknown = certify(graph, x, lrp.Zero(), 0, engine="balls", radius=0.5, most=64)
    assert unknown.radius().max() <= 0.5 * 3


def test_several_inputs_have_enclosures_each():
    graph = Graph(
        [Node("sum", L.Add(), "a", "b"), Node("out", L.Dense(weight=[[1.0], [2.0]]), "sum")], "out", ["a", "b"]
    )
    x = {"a": np.array([[1.0, 2.0]]), "b": np.array([[0.5, 0.25]])}
    found = certify(graph, x, lrp.Zero(), 0, engine="balls")
    assert set(found.relevance) == {"a", "b"}
    assert holds(found.at("b")[0, 1], Fraction(1, 2))
    with pytest.raises(lrp.GraphError, match="say which"):
        found.at()
    with pytest.raises(lrp.GraphError, match=r'"sum".*keep="all"'):
        found.at("sum")
    with pytest.raises(lrp.ShapeError, match=r"\(1, 2\), the one given \(2,\)"):
        found.bound(np.zeros(2), "a")


@pytest.mark.parametrize("option", [{"radius": 0.0}, {"radius": 2.0}, {"engine": "exact"}])
def test_options_that_make_no_sense_are_refused(option):
    ((name, value),) = option.items()
    with pytest.raises(lrp.LrpError, match=f"{name}={value!r}: need|{name}={value}: need"):
        certify(NETWORKS["mlp"], DATA.images[:1], lrp.ZPlus(), **option)


def test_without_flint_the_extra_is_named(monkeypatch):
    import sys

    from lrp_ref.oracle import balls as module

    module.flint.cache_clear()
    monkeypatch.setitem(sys.modules, "flint", None)
    try:
        with pytest.raises(ImportError, match=r"lrp_ref\[exact\]"):
            certify(NETWORKS["mlp"], DATA.images[:1].astype(float), lrp.ZPlus(), engine="balls")
    finally:
        module.flint.cache_clear()


def test_relative_stabilizers_are_the_true_roots():
    graph = chain(L.Dense(weight=[[1.0, 2.0], [3.0, 1.0]]))
    x = np.array([[1.0, 1.0]])
    rule = lrp.Epsilon(epsilon=0.5, stabilizer=Relative())
    found = certify(graph, x, rule, np.array([[1.0, 0.0]]))
    assert found.engine == "balls"  # rationals round the root
    with flint.ctx.workprec(300):
        d = 4 + flint.arb(1) / 2 * ((flint.arb(16) + 9) / 2).sqrt()
        assert found.at()[0, 0].arb.overlaps(1 / d)
