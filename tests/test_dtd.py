"""Deep Taylor decomposition: roots and terms against the literal loops, the theorems, and what the report must see."""

import dataclasses
import itertools
import json
import tracemalloc
from fractions import Fraction

import by_definition as by
import numpy as np
import pytest
from grid import GRID, relevance, sample
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import linalg
from test_rules import in_the_referees_words, rule_for

import lrp_ref as lrp
from lrp_ref.arrays import number
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.layers import Add, AvgPool, BatchNorm, Conv, Dense, Flatten, MaxPool, Mul, Pad, ReLU
from lrp_ref.theory import dtd, full_recursion, gradient_x_input
from lrp_ref.theory.roots import relus_above

F = Fraction
CASES = {case.id: case for case in GRID}
DIGITS = digits()
DIGIT = DIGITS.images[DIGITS.test[:1]].astype(float)
CNN, MLP = lrp.canonize(digits_cnn()), digits_mlp()
ROOTED = ("zero", "epsilon", "norm", "gamma", "gamma-3", "generalized-gamma", "z-plus", "flat", "w-square", "box-full")
"""Rules with roots, by their names in test_rules."""
LAYERS = (
    "dense", "dense-no-bias", "conv1d-padding", "conv2d-groups", "conv2d-all-options", "avg-pool2d-padding",
    "max-pool2d", "max-pool2d-padding", "add", "add-three", "add-constant", "batch-norm", "batch-norm-2d", "scale",
)  # fmt: skip


def thinned(*axes):
    """The product of the axes; in the default tier a third of it, in which each value of an axis meets a third of each
    other's."""
    places = itertools.product(*(range(len(axis)) for axis in axes))
    return [
        pytest.param(*values, marks=() if sum(place) % 3 == 0 else pytest.mark.full)
        for values, place in zip(itertools.product(*axes), places, strict=True)
    ]


CARRIED = [*(("flint", id) for id in LAYERS), *(("fractions", id) for id in LAYERS[::6])]
"""All layers on flint's rationals; on the standard library's, which are slower, a few."""


def one_layer(case, to=lrp.exact, rule=None, kind="signed", seed=0):
    """A network of the one layer, an explanation of it, and its operator and input by definition."""
    rng = np.random.default_rng(seed)
    names = [f"x{i}" for i in range(len(case.shapes))]
    inputs = sample(case, rng, 1, kind)
    operator = case.operator(tuple(a[0] for a in inputs))
    R = relevance((1, *operator.outputs), rng)
    graph = lrp.Graph([lrp.Node("layer", case.layer, *names)], outputs="layer", inputs=names)
    x = {name: to(a) for name, a in zip(names, inputs, strict=True)}
    e = lrp.explain(graph, x, lrp.Composite([(lrp.named("layer"), rule)]), to(R))
    return e, operator, [value for a in inputs for value in a.reshape(-1).tolist()]


def flat_rows(case, array):
    """An array of the layer's joined input as the operator counts its inputs."""
    parts = case.layer.split(array[None], [(1, *shape) for shape in case.shapes])
    return [value for part in parts for value in lrp.fractions(part).reshape(-1).tolist()]


# --- against the definitions


@pytest.mark.parametrize(
    ("exact", "id", "name", "reading"),
    [
        pytest.param(*carrier, name, reading, marks=marked.marks)
        for marked in thinned(CARRIED, ROOTED, ["extended", "physical"])
        for carrier, name, reading in [marked.values]
    ],
    indirect=["exact"],
)
def test_roots_and_terms_are_the_definitions(id, name, reading, exact):
    case, rule = CASES[id], rule_for(name, CASES[id])
    e, op, a = one_layer(case, exact, rule)
    function, parameters = in_the_referees_words(case, rule)
    z, d = by.forward(op, a), _denominator(op, a, rule, function, parameters)
    v = by.directions(function.__name__, op, a, *parameters)
    R = lrp.fractions(e.at("layer")).reshape(-1).tolist()
    dealt = function(op, a, R, *parameters, epsilon=rule.epsilon)
    node = dtd.verify(e, reading)["layer"]
    steps = {}
    for k in range(len(z)):
        along = sum(v[j, unit] * w for (j, unit), w in op.w.items() if unit == k)
        if R[k] and z[k] and (d[k] if reading == "extended" else along * z[k] > 0):
            steps[k] = z[k] / (d[k] if reading == "extended" else along)
    places = [] if node.neurons is None else [by.number(unit, op.outputs) for unit in node.neurons.unit.tolist()]
    assert places == list(steps)
    assert len(node.rootless) == sum(bool(R[k] and z[k]) for k in range(len(z))) - len(steps)
    for row, (k, t) in enumerate(steps.items()):
        found, loops = node.neurons, by.expanded(op, a, R[k], k, v, t)
        assert F(*_ratio(found.t[row])) == t
        assert _equal(found.residual[row], loops.residual)
        assert _equal(found.zero_order[row], loops.zero_order)
        assert _equal(found.absorbed[row], dealt.bias[k] + dealt.stabilizer[k] + dealt.unclaimed[k])
        assert _equal(found.difference[row], max(abs(loops.first[j] - dealt.messages[j, k]) for j in loops.first))
        if not row and not id.startswith("add"):
            root = dtd.verify(e, reading).root("layer", node.neurons.unit[row].tolist())
            points = flat_rows(case, root.point)
            assert all(points[j] == value for j, value in loops.point.items())
            terms = flat_rows(case, root.first_order)
            assert all(terms[j] == value for j, value in loops.first.items())


def _denominator(op, a, rule, function, parameters):
    """d_k of the share that is in use."""
    seen = by.denominators(function, op, a, *parameters, epsilon=rule.epsilon)
    if len(seen) == 2:  # generalized gamma
        seen = [[plus if z > 0 else minus for plus, minus, z in zip(*seen, by.forward(op, a), strict=True)]]
    return [z + e for z, e in zip(seen[0], by.signed(seen[0], F(rule.epsilon)), strict=True)]


def _ratio(value):
    fraction = lrp.fractions(np.array([value], dtype=object))[0]
    return fraction.numerator, fraction.denominator


def _equal(value, fraction):
    return F(*_ratio(value)) == fraction


@pytest.mark.parametrize(("id", "name"), thinned(LAYERS, [name for name in ROOTED if name != "epsilon"]))
def test_the_closed_step_is_what_bisection_finds(id, name):
    """Bisection on the same line asks only the layer itself for its sign."""
    case, rule = CASES[id], rule_for(name, CASES[id])
    e, _, _ = one_layer(case, np.asarray, rule, seed=3)
    report = dtd.verify(e, "physical", context=False)
    node = report["layer"]
    if node.neurons is None:
        pytest.skip("no neuron has a root on its line")
    layer = e.graph["layer"].layer
    inputs = [e.activations[name] for name in e.graph.inputs]
    frozen, a = layer.frozen(*inputs), layer.join(*inputs)
    for row in range(min(4, len(node.neurons))):
        unit = tuple(node.neurons.unit[row].tolist())
        v = report.root("layer", unit).v[None]
        start = frozen.forward(a)[(0, *unit)]

        def on(t, v=v, unit=unit, start=start):
            return frozen.forward(a - t * v)[(0, *unit)] * start > 0

        low, high = 0.0, 1.0
        while on(high):
            high *= 2
            assert high < 2**60
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if on(middle) else (low, middle)
        assert abs(node.neurons.t[row] - low) <= 1e-9 * max(1, low)


@pytest.mark.parametrize(
    ("exact", "id", "name"),
    [
        pytest.param(*carrier, name, marks=marked.marks)
        for marked in thinned(CARRIED, ROOTED)
        for carrier, name in [marked.values]
    ],
    indirect=["exact"],
)
def test_the_zero_order_term_is_what_the_books_absorbed(id, name, exact):
    rule = rule_for(name, CASES[id])
    rule = dataclasses.replace(rule, epsilon=F(1, 5)) if name != "norm" else rule
    node = dtd.verify(one_layer(CASES[id], exact, rule, seed=5)[0], context=False)["layer"]
    if node.neurons is not None and name not in ("flat",):  # flat gives to inputs of weight 0, which no term can
        assert (node.neurons.zero_order == node.neurons.absorbed).all()
        assert (node.neurons.difference == 0).all()
        assert (node.neurons.sum_error == 0).all()


# --- the shipped networks


PRESETS = {
    "gamma-box": lrp.presets.epsilon_gamma_box(low=0, high=1),
    "plus": lrp.presets.epsilon_plus(),
    "zero": lrp.Zero(),
    "box-square": lrp.Composite([(lrp.first(Conv, Dense), lrp.WSquare()), (lrp.kind(Conv, Dense), lrp.Gamma()),
                                 (lrp.kind(Add, AvgPool, MaxPool), lrp.Norm())]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("network", "preset", "reading"),
    [
        pytest.param(network, preset, reading, marks=pytest.mark.full if slow else ())
        for network, preset, reading in itertools.product(["cnn", "mlp"], PRESETS, ["extended", "physical"])
        for slow in [network == "cnn" and reading == "physical" and preset != "gamma-box"]
    ],
)
def test_on_the_shipped_networks_in_rationals_every_identity_holds_exactly(network, preset, reading):
    graph = {"cnn": CNN, "mlp": MLP}[network]
    e = lrp.explain(graph, lrp.exact(DIGIT), PRESETS[preset])
    report = dtd.verify(e, reading, context=False)
    assert report.holds
    rooted = [node for node in report.nodes if node.neurons is not None]
    assert len(rooted) >= 3
    for node in rooted:
        n = node.neurons
        assert (n.sum_error == 0).all()
        if reading == "extended":
            assert (n.zero_order == n.absorbed).all()
            assert (n.difference == 0).all()
        else:
            assert (n.residual == 0).all()
    assert all(not column.any() for node in rooted for column in (node.neurons.sum_bound, node.neurons.residual_bound))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("preset", PRESETS)
def test_in_floats_every_identity_holds_within_its_derived_bound(preset, dtype):
    for graph in (CNN, MLP):
        for row in DIGITS.test[:6]:
            e = lrp.explain(graph, DIGITS.images[row][None].astype(dtype), PRESETS[preset])
            for reading in ("extended", "physical"):
                report = dtd.verify(e, reading, context=False)
                assert report.holds, report.broken()


def test_the_bounds_are_of_use():
    """A fault of 1e-10 would be seen in float64 at nine of ten neurons, and one of 1e-2 in float32 at half of them."""
    for dtype, part, fault in ((np.float64, 0.9, 1e-10), (np.float32, 0.5, 1e-2)):
        e = lrp.explain(CNN, DIGIT.astype(dtype), PRESETS["gamma-box"])
        for node in dtd.verify(e, context=False).nodes:
            if node.neurons is not None:
                assert np.quantile(node.neurons.sum_bound / abs(node.neurons.R), part) < fault


def test_exact_context_on_a_few_neurons():
    e = lrp.explain(CNN, lrp.exact(DIGIT), PRESETS["gamma-box"])
    exactly = dtd.verify(e, nodes=["conv2"], units=6)["conv2"].neurons
    floating = dtd.verify(lrp.explain(CNN, DIGIT, PRESETS["gamma-box"]), nodes=["conv2"], units=6)["conv2"].neurons
    assert (exactly.unit == floating.unit).all()
    for name in ("context", "context_at_root", "unresolved", "flips", "distance", "t"):
        np.testing.assert_allclose(
            lrp.fractions(getattr(exactly, name)).astype(float), getattr(floating, name), rtol=1e-6, atol=1e-9
        )


# --- theorems

SMALL = st.integers(-8, 8).map(lambda n: F(n, 4))
ABOVE = st.integers(1, 8).map(lambda n: F(n, 4))


def neuron(w, b, a, rule, reading, domain=None, R=1):
    """The report's numbers of one neuron with a ReLU above, and its root."""
    graph = lrp.chain(Dense(weight=lrp.exact([[value] for value in w]), bias=lrp.exact([b])), ReLU())
    x = lrp.exact([a])
    e = lrp.explain(graph, x, lrp.Composite([(lrp.kind(Dense), rule)]), lrp.exact([[R]]))
    report = dtd.verify(e, reading, domain)
    node = report["0.dense"]
    if node.neurons is None:
        return node, None
    return node, report.root("0.dense", [0])


neurons = given(st.data())


def draw(data, inputs=SMALL, weights=SMALL, bias=SMALL):
    n = data.draw(st.integers(1, 4))
    w, a = (data.draw(st.lists(of, min_size=n, max_size=n)) for of in (weights, inputs))
    b = data.draw(bias)
    assume(sum(x * y for x, y in zip(a, w, strict=True)) + b > 0)
    return w, b, a


@neurons
def test_the_extended_root_of_gamma_is_in_the_positive_domain(data):
    w, b, a = draw(data, inputs=ABOVE)
    node, _ = neuron(w, b, a, lrp.Gamma(gamma=data.draw(ABOVE)), "extended", dtd.Positive())
    assert node.neurons.in_domain.all()
    assert bool((node.neurons.t <= 1).all())


@neurons
def test_the_physical_root_of_gamma_is_in_the_positive_domain_iff_the_bias_allows(data):
    w, b, a = draw(data, inputs=ABOVE)
    gamma = data.draw(ABOVE)
    node, _ = neuron(w, b, a, lrp.Gamma(gamma=gamma), "physical", dtd.Positive())
    against = -sum(x * y for x, y in zip(a, w, strict=True) if y < 0)
    allowed = b <= gamma / (1 + gamma) * against
    assert (node.neurons is not None and bool(node.neurons.in_domain.all())) == allowed


@neurons
def test_the_root_of_a_box_is_in_it_iff_the_least_value_is_not_positive(data):
    n = data.draw(st.integers(1, 4))
    w = data.draw(st.lists(SMALL, min_size=n, max_size=n))
    low, high = -data.draw(ABOVE), data.draw(ABOVE)
    a = [low + (high - low) * data.draw(st.integers(0, 4)) / 4 for _ in range(n)]
    b = data.draw(SMALL)
    assume(sum(x * y for x, y in zip(a, w, strict=True)) + b > 0)
    least = sum((low if y > 0 else high) * y for y in w) + b
    node, _ = neuron(w, b, a, lrp.ZBox(low=low, high=high), "physical")
    assert str(node.domain) == "box"
    has = node.neurons is not None and bool(node.neurons.in_domain.all())
    assert has == (least <= 0)
    if node.neurons is not None:
        assert bool(node.neurons.root_exists.all()) == (least <= 0)
        assert bool((node.neurons.t <= 1).all()) == (least <= 0)


@neurons
def test_the_root_of_w_square_is_the_nearest_point_of_the_hyperplane(data):
    w, b, a = draw(data)
    assume(any(w))
    _, root = neuron(w, b, a, lrp.WSquare(), "physical")
    z = sum(x * y for x, y in zip(a, w, strict=True)) + b
    shift, *_ = linalg.lstsq(np.array([w], dtype=float), [-float(z)])  # of least norm with w . shift = -z
    np.testing.assert_allclose(lrp.fractions(root.point).astype(float), np.array(a, dtype=float) + shift, atol=1e-12)


@neurons
def test_z_plus_without_positive_bias_conserves_and_is_positive(data):
    w, b, a = draw(
        data, inputs=st.integers(0, 8).map(lambda n: F(n, 4)), bias=st.integers(-8, 0).map(lambda n: F(n, 4))
    )
    for reading in ("extended", "physical"):
        node, root = neuron(w, b, a, lrp.ZPlus(), reading, dtd.Positive())
        assert node.neurons.in_domain.all()
        assert bool((node.neurons.t <= 1).all())
        assert bool((root.messages >= 0).all())
        assert sum(lrp.fractions(root.messages)) == 1
        assert (node.neurons.zero_order == 0).all()


@neurons
def test_any_split_has_an_exact_root(data):
    """T2: so that a root exists says nothing of a rule."""
    w, b, a = draw(data)
    assume(all(w))
    q = data.draw(st.lists(SMALL, min_size=len(w), max_size=len(w)))
    assume(sum(q))
    q = [value / sum(q) for value in q]

    class Split(lrp.Rule):
        """Deals R_k out as q says, whatever the layer is."""

        def shares(self):
            dealt = lrp.exact([q])
            return (lrp.Share((lrp.Term(x=lambda a: dealt, w=_ones, b=_nothing),)),)

    node, root = neuron(w, b, a, Split(), "physical")
    z = sum(x * y for x, y in zip(a, w, strict=True)) + b
    assert lrp.fractions(root.point).tolist() == [
        x - z * part / y for x, part, y in zip(a, q, w, strict=True)
    ]  # a~_j = a_j - z q_j / w_j
    assert (node.neurons.residual == 0).all()
    assert lrp.fractions(root.messages).tolist() == q == lrp.fractions(root.first_order).tolist()


def _ones(w):
    return w * number(0, w) + number(1, w)


def _nothing(b):
    return b * number(0, b)


@pytest.mark.parametrize("sizes", [(3, 4, 2), (3, 3, 3, 2)], ids=["two layers", "three layers"])
def test_the_full_recursion_with_constant_roots_is_gradient_times_the_way(sizes):
    """T1, on a net whose biases decide which neurons are on, so that all points here are on one linear piece."""
    rng = np.random.default_rng(4)
    layers = []
    for shape in itertools.pairwise(sizes):
        bias = np.resize([1.0, -1.0, 0.75], shape[1])
        layers += [Dense(weight=rng.integers(1, 5, shape) * rng.choice([-1, 1], shape) / 32, bias=bias), ReLU()]
    net = lrp.chain(*layers[:-1])
    x = lrp.exact(rng.integers(1, 9, (1, 3)) / 16)
    e = lrp.explain(net, x, lrp.Zero(), 0)
    gradient = gradient_x_input(net, x, 0) / x
    assert lrp.fractions(gradient).any()
    for size in (0, 1, -2):
        roots = {
            node.name: rng.integers(-4, 5, e.activations[node.inputs[0]].shape[1:]) / 32 * size
            for node in net.nodes
            if node.kind == "Dense"
        }
        found = full_recursion(e, full=True, roots=roots)
        expected = (x - lrp.exact(roots["0.dense"])) * gradient
        assert (found.relevance == expected).all()


def test_z_plus_roots_change_the_pattern_of_the_layer():
    """T3, and the column of flips, counted by hand."""
    rng = np.random.default_rng(12)
    W, b, top = rng.normal(size=(5, 7)), -abs(rng.normal(size=7)) / 8, rng.normal(size=(7, 2))
    a = abs(rng.normal(size=(1, 5)))
    graph = lrp.chain(Dense(weight=W, bias=b), ReLU(), Dense(weight=top))
    e = lrp.explain(graph, a, lrp.Composite([(lrp.first(Dense), lrp.ZPlus()), (lrp.kind(Dense), lrp.Zero())]), 0)
    report = dtd.verify(e, "physical")
    found = report["0.dense"].neurons
    assert len(found) >= 3
    for row, (k,) in enumerate(found.unit.tolist()):
        point = report.root("0.dense", [k]).point
        now, then = point @ W + b > 0, (a @ W + b > 0)[0]
        others = np.arange(7) != k
        assert found.flips[row] == (now != then)[others].sum() / 6
    assert (found.flips > 0).any()


# --- the context, really run


def test_the_context_at_the_root_is_that_of_the_network_above():
    rng = np.random.default_rng(3)
    W, b = rng.normal(size=(4, 5)), -abs(rng.normal(size=5)) / 4
    V, c, top = rng.normal(size=(5, 4)), rng.normal(size=4) / 4, rng.normal(size=(4, 3))
    graph = lrp.chain(Dense(weight=W, bias=b), ReLU(), Dense(weight=V, bias=c), ReLU(), Dense(weight=top))
    x = abs(rng.normal(size=(1, 4)))
    rules = lrp.Gamma(gamma=0.5)
    report = dtd.verify(lrp.explain(graph, x, rules, 1), "physical")
    above = lrp.chain(ReLU(), Dense(weight=V, bias=c), ReLU(), Dense(weight=top))
    found = report["0.dense"].neurons
    assert len(found) >= 2
    for row, (k,) in enumerate(found.unit.tolist()):
        root = report.root("0.dense", [k])
        at_root = lrp.explain(above, root.point[None] @ W + b, rules, 1)
        assert abs(found.unresolved[row] - at_root.relevance[0, k]) <= 1e-12
        near = (x - root.t * (1 - 2.0**-26) * root.v) @ W + b
        context = lrp.explain(above, near, rules, 1).relevance[0, k] / near[0, k]
        assert abs(found.context_at_root[row] - context) <= 1e-7 * abs(context)
        assert abs(found.context[row] - found.R[row] / found.z[row]) == 0


def test_with_zero_rules_on_one_piece_the_context_does_not_change():
    """LRP-0 above makes c_k the gradient, which is constant on a linear piece."""
    net = lrp.chain(
        Dense(weight=[[1.0, 0.5], [0.5, 1.0]], bias=[-0.125, -0.25]), ReLU(), Dense(weight=[[1.0], [0.5]]),
    )  # fmt: skip
    report = dtd.verify(lrp.explain(net, lrp.exact([[1.0, 0.5]]), lrp.Zero(), 0), "physical")
    for node in report.nodes:
        if node.neurons is not None:
            assert (node.neurons.drift == 0).all()
    assert report.recursion.from_explanation < 1  # it was run


def test_a_change_of_input_reaches_the_skip_of_a_residual_block():
    """The source of the layer feeds the add too: both ways are run."""
    W = np.array([[0.5, -0.25], [0.25, 0.75]])
    graph = lrp.Graph(
        [
            lrp.Node("first", ReLU(), "input"),
            lrp.Node("dense", Dense(weight=W), "first"),
            lrp.Node("sum", Add(), "dense", "first"),
            lrp.Node("relu", ReLU(), "sum"),
            lrp.Node("top", Dense(weight=[[1.0], [2.0]]), "relu"),
        ],
        outputs="top",
    )
    x = np.array([[1.0, 0.5]])
    e = lrp.explain(graph, x, lrp.Epsilon(epsilon=0.125), 0)
    report = dtd.verify(e, "extended")
    found = report["dense"].neurons
    for row, (k,) in enumerate(found.unit.tolist()):
        a = report.root("dense", [k]).point
        dense = a @ W
        top = np.maximum(dense + a, 0) * [1.0, 2.0]
        R_top = top / (top.sum() + 0.125) * top.sum()
        total = dense + a
        R_dense = dense / (total + 0.125 * np.sign(total)) * R_top
        assert abs(found.unresolved[row] - R_dense[k]) <= 1e-12


# --- rules of users, and rules with no root


class Stretched(lrp.Rule):
    """A user's rule: contributions a (w + w+ / 3)."""

    def shares(self):
        """One share."""
        return (lrp.Share((lrp.Term(w=lambda w: w + np.where(w > 0, w, 0) / 3),)),)


class Own(lrp.Rule):
    """A rule with a way back of its own."""

    def shares(self):
        """LRP-0's."""
        return (lrp.Share((lrp.Term(),)),)

    def back(self, layer, inputs, R):
        """LRP-0's."""
        return lrp.Zero().back(layer, inputs, R)


def test_a_users_rule_is_verified_from_its_terms():
    e = lrp.explain(MLP, DIGIT, Stretched())
    report = dtd.verify(e)
    assert report.holds
    dense = report["dense2"]
    assert len(dense.neurons) == dense.relevant


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lrp.AlphaBeta(), "portions 2 and -1"),
        (lrp.Pass(), "divides nothing"),
        (lrp.Gradient(), "divides nothing"),
        (lrp.Product(), "divides nothing"),
        (Own(), "way back of its own"),
        (lrp.Epsilon(epsilon=0.1, bias="spread"), "spread"),
        *[
            (rule, None)
            for rule in (lrp.AlphaBeta(alpha=1), lrp.ZPlus(), lrp.GeneralizedGamma(), Stretched(), lrp.Flat())
        ],
    ],
    ids=str,
)
def test_a_rule_without_a_root_is_said_to_have_none_and_why(rule, words):
    reason = dtd.why_no_root(rule)
    assert reason is None if words is None else words in reason


def test_a_node_without_a_root_is_never_left_out():
    e = lrp.explain(CNN, DIGIT, lrp.Composite([(lrp.kind(Conv), lrp.AlphaBeta()), *lrp.presets.epsilon_plus().cases]))
    report = dtd.verify(e)
    assert [node.name for node in report.nodes] == [node.name for node in CNN.nodes if node.name in e.relevances]
    assert report["conv1"].reason
    assert report["relu1"].reason
    assert report["logits"].reason is None
    text = str(report)
    assert '"conv1" (Conv, AlphaBeta(alpha=2, beta=1))' in text
    assert "pull in unlike directions" in text
    with pytest.raises(lrp.GraphError, match="unlike directions"):
        report.root("conv1", [0, 0, 0])


def test_a_product_has_no_root():
    graph = lrp.Graph([lrp.Node("mul", Mul(), "a", "b")], outputs="mul", inputs=["a", "b"])
    x = {name: np.array([[1.0, 2.0]]) for name in "ab"}
    report = dtd.verify(lrp.explain(graph, x, lrp.Product(), np.array([[1.0, 1.0]])))
    assert "divides nothing" in report["mul"].reason


def test_neurons_outside_of_the_model_are_counted_with_their_share():
    net = lrp.chain(Dense(weight=[[1.0, -1.0]], bias=[0.0, 0.25]), ReLU(), Dense(weight=[[2.0], [6.0]]))
    e = lrp.explain(
        net, np.array([[1.0]]), lrp.Composite([(lrp.last(Dense), lrp.Flat()), (lrp.kind(Dense), lrp.Zero())]), 0
    )
    node = dtd.verify(e)["0.dense"]  # flat gives relevance to the neuron that is off: z = -0.75
    assert (node.relevant, node.outside_model, node.outside_share) == (2, 1, 0.5)
    assert len(node.neurons) == 1


def test_the_model_is_two_sided_where_no_relu_is_above():
    relus = relus_above(CNN)
    assert relus["conv1"] == ("relu1",)
    assert relus["add"] == ("relu2",)
    assert {relus[name] for name in ("pool2", "logits", "conv2")} == {()}
    through = lrp.chain(Dense(weight=np.eye(2)), Flatten(), ReLU())
    assert relus_above(through)["0.dense"] == ("2.relu",)
    net = lrp.chain(Dense(weight=[[1.0], [-3.0]], bias=[0.5]))
    e = lrp.explain(net, lrp.exact([[1.0, 1.0]]), lrp.Epsilon(epsilon=0.25), lrp.exact([[1.0]]))
    node = dtd.verify(e)["0.dense"]
    assert not node.relu_above
    assert _equal(node.neurons.z[0], F(-3, 2))
    assert (node.neurons.zero_order == node.neurons.absorbed).all()


def test_an_extended_root_behind_the_hinge_is_seen():
    """LRP-0's extended point is 0, where a neuron of negative bias is off."""
    for b, active in ((-0.25, False), (0.25, True), (0.0, True)):
        node, root = neuron([1.0, 2.0], b, [1.0, 0.5], lrp.Zero(), "extended")
        assert not root.point.any()
        assert bool(node.neurons.active.all()) == active


# --- domains


def test_domains_come_from_the_graph_the_rule_or_the_caller():
    e = lrp.explain(CNN, DIGIT, PRESETS["gamma-box"])

    def names(report):
        return {node.name: str(node.domain) for node in report.nodes if node.domain is not None}

    inferred = names(dtd.verify(e, context=False))
    assert inferred == {"conv1": "box", "conv2": "R+", "add": "R", "pool2": "R+", "logits": "R+"}
    e = lrp.explain(CNN, DIGIT, lrp.Zero())
    assert names(dtd.verify(e, context=False))["conv1"] == "R"
    assert names(dtd.verify(e, domain=dtd.Positive(), context=False))["conv1"] == "R+"
    assert names(dtd.verify(e, domain={"add": dtd.Box(-1, 1)}, context=False))["add"] == "box"
    with pytest.raises(lrp.GraphError, match="nearest names are 'conv"):
        dtd.verify(e, domain={"conv3": dtd.Real()})


def test_a_positive_input_makes_positive_what_sums_it():
    net = lrp.chain(AvgPool(kernel=2), Flatten(), Dense(weight=np.ones((4, 2))))
    e = lrp.explain(net, np.ones((1, 1, 4, 4)), lrp.Zero(), 0)
    for domain, expected in ((dtd.Box(0, 1), "R+"), (dtd.Box(-1, 1), "R"), (None, "R")):
        assert str(dtd.verify(e, domain=domain)["2.dense"].domain) == expected


def test_the_domain_of_the_inputs_reaches_through_what_only_routes_them():
    net = lrp.chain(Pad(padding=((0, 0), (1, 0))), Flatten(), Dense(weight=np.ones((6, 2))))
    e = lrp.explain(net, np.array([[[0.75, 0.5], [0.25, 0.5]]]), lrp.Zero(), 0)
    domain = dtd.verify(e, domain=dtd.Box([0, -1], [1, 2]))["2.dense"].domain
    assert domain.low.tolist() == [0, 0, 0, 0, -1, -1]
    assert domain.high.tolist() == [0, 1, 1, 0, 2, 2]
    for domain in (dtd.Real(), dtd.Positive()):
        assert dtd.verify(e, domain=domain)["2.dense"].domain == domain


def test_a_point_outside_is_counted_and_measured():
    node, root = neuron([1.0, -1.0], 0.0, [2.0, 1.0], lrp.WSquare(), "physical", dtd.Box(0, [1.75, 1.25]))
    assert lrp.fractions(root.point).tolist() == [F(3, 2), F(3, 2)]
    assert node.neurons.outside[0] == 0.5
    assert _equal(node.neurons.violation[0], F(1, 4))
    assert node.root_in_domain == 0


# --- the report


def test_it_prints_one_line_for_each_node_and_writes_json():
    e = lrp.explain(CNN, DIGIT, PRESETS["gamma-box"])
    report = dtd.verify(e)
    lines = str(report).splitlines()
    for name in ("conv1", "conv2", "add", "pool2", "logits"):
        assert sum(line.startswith(f"{name} ") for line in lines) == 1
    assert sum(line.startswith("worst: ") for line in lines) >= 3
    assert "messages against the first-order terms of the relevance model at a~" in lines[0]
    assert lines[-1] == "every identity holds within its bound"
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [node["node"] for node in document["nodes"]] == [node.name for node in report.nodes]
    conv = next(node for node in document["nodes"] if node["node"] == "conv2")
    assert conv["t"]["median"] == np.median(report["conv2"].neurons.t)
    assert document["holds"] is True
    with pytest.raises(KeyError, match="conv3"):
        report["conv3"]
    with pytest.raises(lrp.GraphError, match=r"\(0, 0, 0\)"):
        report.root("conv2", (0, 0, 0))


@pytest.mark.parametrize("rule", [lrp.Zero(), lrp.ZPlus()], ids=repr)
def test_the_relevance_is_set_beside_gradient_times_input(rule):
    """Equal under LRP-0 everywhere, and by how much not under other rules; also where the recursion is not run."""
    e = lrp.explain(MLP, DIGIT, rule)
    report = dtd.verify(e, context=False)
    expected = gradient_x_input(MLP, DIGIT)
    gap = abs(e.relevance - expected).sum() / abs(expected).sum()
    assert abs(report.beside_gradient_x_input - gap) <= 1e-12
    assert (gap < 1e-12) == (rule == lrp.Zero())
    assert f"differs from gradient x input by {gap:.1%}" in str(report)
    assert report.to_dict()["beside_gradient_x_input"] == report.beside_gradient_x_input


def test_relevance_without_any_gradient_times_input_is_said_to_be_so():
    """w^2 hands relevance to inputs of 0, where gradient times input is 0."""
    graph = lrp.chain(Dense(weight=[[0.25]], bias=[0.25]), ReLU())
    composite = lrp.Composite([(lrp.kind(Dense), lrp.WSquare())])
    report = dtd.verify(lrp.explain(graph, np.zeros((1, 1)), composite, np.ones((1, 1))), "physical")
    assert report.beside_gradient_x_input == "it is 0 everywhere, and the relevance is not"
    assert "not compared: it is 0 everywhere, and the relevance is not" in str(report)
    nothing = dtd.verify(lrp.explain(graph, np.zeros((1, 1)), composite, np.zeros((1, 1))), "physical")
    assert nothing.beside_gradient_x_input == 0


def test_the_worst_neurons_are_named():
    report = dtd.verify(lrp.explain(CNN, DIGIT, lrp.Zero()), "physical")
    found = report["conv2"].neurons
    i = int(found.violation.argmax())
    assert found.violation[i] > report["conv1"].neurons.violation.max()
    assert f'by {found.violation[i]:.4g} at "conv2" {tuple(found.unit[i].tolist())}' in str(report)


def test_faults_are_seen(monkeypatch):
    e = lrp.explain(CNN, DIGIT, PRESETS["gamma-box"])
    right = dtd.four_steps

    def scaled(factor):
        def steps(layer, rule, a, R):
            R_in, absorbed = right(layer, rule, a, R)
            return R_in * factor, absorbed

        return steps

    monkeypatch.setattr(dtd, "four_steps", scaled(1 + 1e-9))
    broken = dtd.verify(e, context=False).broken()
    assert any("terms = messages" in line for line in broken)
    monkeypatch.setattr(dtd, "four_steps", scaled(1))
    assert dtd.verify(e, context=False).holds

    def misbooked(layer, rule, a, R):
        R_in, absorbed = right(layer, rule, a, R)
        return R_in, dataclasses.replace(absorbed, bias=absorbed.bias * (1 + 1e-9))

    monkeypatch.setattr(dtd, "four_steps", misbooked)
    assert any('"logits": zero order = absorbed' in line for line in dtd.verify(e, context=False).broken())


def test_what_cannot_be_verified_is_refused_in_words(tmp_path):
    e = lrp.explain(CNN, DIGIT, PRESETS["gamma-box"])
    with pytest.raises(lrp.GraphError, match="one at a time"):
        dtd.verify(lrp.explain(CNN, DIGITS.images[:2].astype(float), PRESETS["gamma-box"]))
    with pytest.raises(lrp.GraphError, match="edit="):
        dtd.verify(lrp.explain(CNN, DIGIT, PRESETS["gamma-box"], edit={"relu1": 0.5}))
    with pytest.raises(lrp.GraphError, match='keep="all"'):
        dtd.verify(lrp.explain(CNN, DIGIT, PRESETS["gamma-box"], keep="input"))
    with pytest.raises(lrp.GraphError, match='"extended" or "physical"'):
        dtd.verify(e, "both")
    with pytest.raises(lrp.GraphError, match="no node"):
        dtd.verify(e, nodes=["conv3"])
    side = lrp.Graph([*MLP.nodes, lrp.Node("side", ReLU(), "dense1")], outputs="logits")
    with pytest.raises(lrp.GraphError, match='no relevance passed a node "side"'):
        dtd.verify(lrp.explain(side, DIGIT, lrp.Zero()), nodes=["side"])
    e.save(tmp_path / "e.npz")
    with pytest.raises(lrp.GraphError, match="read from a file"):
        dtd.verify(lrp.read(tmp_path / "e.npz"))


def test_part_of_the_neurons_are_those_of_the_greatest_relevance():
    e = lrp.explain(CNN, DIGIT, PRESETS["gamma-box"])
    whole, part = (
        dtd.verify(e, context=False)["conv1"],
        dtd.verify(e, units=10, context=False, nodes=["conv1"])["conv1"],
    )
    assert part.left_out == len(whole.neurons) - 10
    assert set(abs(part.neurons.R)) == set(np.sort(abs(whole.neurons.R))[-10:])
    assert part.neurons.drift is None


def test_a_node_whose_input_is_broadcast_or_read_twice_has_no_context_and_says_so():
    graph = lrp.Graph([lrp.Node("relu", ReLU(), "input"), lrp.Node("sum", Add(), "relu", "relu")], outputs="sum")
    report = dtd.verify(lrp.explain(graph, np.array([[1.0, 2.0]]), lrp.Zero(), np.ones((1, 2))))
    assert "reads one node twice" in str(report)
    assert report["sum"].neurons.drift is None
    wide = lrp.Graph([lrp.Node("sum", Add(), "a", "b")], outputs="sum", inputs=["a", "b"])
    x = {"a": np.ones((1, 2, 2)), "b": np.ones((1, 1, 2))}
    assert "broadcast" in str(dtd.verify(lrp.explain(wide, x, lrp.Zero(), np.ones((1, 2, 2)))))


def test_blocks_keep_memory_small_and_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    net = lrp.chain(Conv(weight=rng.normal(size=(8, 1, 3, 3)), padding=1), ReLU())
    e = lrp.explain(net, rng.normal(size=(1, 1, 32, 32)), lrp.Gamma(), rng.normal(size=(1, 8, 32, 32)))
    pairs = 8 * 32 * 32 * 32 * 32 * 8  # bytes of one array of outputs x inputs
    monkeypatch.setattr(dtd, "CELLS", 2**19)
    tracemalloc.start()
    small = dtd.verify(e, context=False, units=300)["0.conv"].neurons
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < pairs / 4
    monkeypatch.setattr(dtd, "CELLS", 2**21)
    large = dtd.verify(e, context=False, units=300)["0.conv"].neurons
    np.testing.assert_allclose(small.t, large.t, rtol=1e-12)
    np.testing.assert_array_equal(small.unit, large.unit)


def test_long_work_shows_a_bar_on_a_terminal(monkeypatch, capsys):
    from lrp_ref import text

    e = lrp.explain(MLP, DIGIT, PRESETS["zero"])
    dtd.verify(e)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(text.Progress, "PATIENCE", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    dtd.verify(e)
    shown = capsys.readouterr().err
    assert "neurons verified [" in shown
    assert shown.endswith("\r\x1b[K")


# --- the full recursion


def test_the_recursion_is_said_not_to_run_where_it_cannot():
    assert "no chain" in dtd.verify(lrp.explain(CNN, DIGIT, PRESETS["gamma-box"]), context=False).recursion
    assert "points, more than 20000" in dtd.verify(lrp.explain(MLP, DIGIT, lrp.Zero()), context=False).recursion
    small = lrp.chain(Dense(weight=[[1.0], [2.0]]), ReLU(), Dense(weight=[[1.0]]))
    e = lrp.explain(small, np.array([[1.0, 1.0]]), lrp.AlphaBeta(), 0)
    assert "has no root" in full_recursion(e)
    e = lrp.explain(small, np.array([[1.0, 1.0]]), lrp.Zero(), 0)
    assert full_recursion(e, full=False) == "full recursion: not asked for"
    assert full_recursion(e).points > 1


def test_the_recursion_by_hand():
    """One hidden ReLU, z+ below and LRP-0 above: R_1 = w2 (a - a~), and its slope at x~ by hand.

    f = 2 relu(x_1 + x_2 / 2 - x_3 / 2): the hidden root is 0, so R_1 = 2 a, and R_0 = 2 w (x - x~) with x~ along x+.
    """
    net = lrp.chain(Dense(weight=[[1.0], [0.5], [-0.5]]), ReLU(), Dense(weight=[[2.0]]))
    x = lrp.exact([[1.0, 1.0, 0.5]])
    rules = lrp.Composite([(lrp.first(Dense), lrp.ZPlus()), (lrp.kind(Dense), lrp.Zero())])
    found = full_recursion(lrp.explain(net, x, rules, 0))
    t = F(5, 4) / F(3, 2)
    assert lrp.fractions(found.relevance).tolist() == [[2 * t, t, 0]]
    assert abs(F(*_ratio(found.unresolved))) < F(1, 2**80)


def test_a_pole_at_a_root_is_said():
    """Gamma's denominator at the second layer vanishes with the only neuron that is on there."""
    rng = np.random.default_rng(1)
    layers = []
    for shape in ((3, 4), (4, 3), (3, 1)):
        layers += [Dense(weight=rng.integers(-8, 9, shape) / 8, bias=-rng.integers(0, 5, shape[1]) / 16), ReLU()]
    e = lrp.explain(lrp.chain(*layers[:-1]), lrp.exact([[0.5, 0.75, 0.25]]), lrp.Gamma(gamma=0.25), 0)
    found = full_recursion(e)
    assert found.at_pole
    assert "has a pole at a root" in str(found)


def test_the_recursion_through_batch_norm_pools_and_wires():
    rng = np.random.default_rng(1)
    net = lrp.chain(
        Flatten(),
        Dense(weight=rng.integers(-4, 5, (4, 4)) / 4, bias=rng.integers(-4, 1, 4) / 8),
        ReLU(),
        BatchNorm(scale=[1.0, 0.5, 2.0, 1.0], shift=[0.125, 0, 0, -0.25]),
        Dense(weight=rng.integers(-4, 5, (4, 2)) / 4),
    )
    x = rng.integers(1, 9, (1, 1, 2, 2)) / 8
    e = lrp.explain(net, x, lrp.Composite([(lrp.kind(Dense, BatchNorm), lrp.Zero())]), 0)
    found = full_recursion(e, "physical", True)
    assert found.relevance.shape == x.shape
    assert np.isfinite(found.relevance).all()
