"""Which rule for which node, and how a composite says so."""

import itertools

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref.layers import Add, AvgPool, BatchNorm, Conv, Dense, Flatten, MaxPool, ReLU

K1, K2 = np.ones((2, 1, 3, 3)), np.ones((2, 2, 3, 3))
NET = lrp.Graph(
    [
        lrp.Node("c1", Conv(weight=K1, padding=1), "input"),
        lrp.Node("r1", ReLU(), "c1"),
        lrp.Node("side.c2", Conv(weight=K1, padding=1), "input"),
        lrp.Node("c3", Conv(weight=K2, padding=1), "r1"),
        lrp.Node("sum", Add(), "c3", "side.c2"),
        lrp.Node("pool", MaxPool(kernel=2), "sum"),
        lrp.Node("flat", Flatten(), "pool"),
        lrp.Node("d1", Dense(weight=np.ones((8, 3))), "flat"),
        lrp.Node("d2", Dense(weight=np.ones((3, 2))), "d1"),
    ],
    outputs="d2",
)
X = np.arange(16.0).reshape(1, 1, 4, 4)


@pytest.mark.parametrize(
    ("predicate", "nodes"),
    [
        (lrp.kind(Conv), "c1 side.c2 c3"),
        (lrp.kind(Conv, Dense), "c1 side.c2 c3 d1 d2"),
        (lrp.named("c*"), "c1 c3"),
        (lrp.named("c?", "side.*"), "c1 c3 side.c2"),
        (lrp.named("*.c[0-9]"), "side.c2"),
        (lrp.first(Conv), "c1 side.c2"),
        (lrp.first(Conv, Dense), "c1 side.c2"),
        (lrp.first(Dense), "d1"),
        (lrp.last(Conv), "c3 side.c2"),
        (lrp.last(Conv, Dense), "d2"),
        (lrp.before("c3"), "c1 r1"),
        (lrp.before("c1"), ""),
        (lrp.after("pool"), "flat d1 d2"),
        (lrp.after("d2"), ""),
        (lrp.depth(Conv, at_most=0), ""),
        (lrp.depth(Conv, at_most=1), "c1 r1 side.c2"),
        (lrp.depth(Dense, at_most=1) & lrp.kind(Dense), "d1"),
        (lrp.kind(Conv) & ~lrp.named("side*"), "c1 c3"),
        (lrp.kind(Add) | lrp.first(Dense), "sum d1"),
        (~(lrp.kind(Conv) | lrp.kind(Dense)), "r1 sum pool flat"),
    ],
    ids=repr,
)
def test_predicates_are_facts_of_the_graph(predicate, nodes):
    assert predicate.select(NET) == frozenset(nodes.split())
    reversed_nodes = lrp.Graph(NET.nodes[::-1], outputs="d2")
    assert predicate.select(reversed_nodes) == frozenset(nodes.split())


def test_predicates_are_values():
    assert lrp.kind(Conv) & ~lrp.named("a*") == lrp.kind(Conv) & ~lrp.named("a*")
    assert len({lrp.first(Conv), lrp.first(Conv), lrp.last(Conv), lrp.kind(Conv)}) == 3
    assert repr(lrp.kind(Conv) & ~lrp.named("c9*")) == "(kind(Conv) & ~named('c9*'))"
    assert repr(lrp.depth(Conv, Dense, at_most=2)) == "depth(Conv, Dense, at_most=2)"


def test_the_first_case_that_fits_is_taken_and_wires_pass():
    composite = lrp.Composite(
        [
            (lrp.first(Conv), lrp.ZBox(low=0, high=15)),
            (lrp.kind(Conv), lrp.Gamma(gamma=0.25)),
            (lrp.kind(Add), lrp.Norm()),
            (lrp.kind(Dense), lrp.Epsilon(epsilon=1e-6)),
            (lrp.kind(BatchNorm), lrp.Pass()),
        ]
    )
    rules = composite.assign(NET)
    assert dict(rules) == {
        "c1": lrp.ZBox(low=0, high=15),
        "side.c2": lrp.ZBox(low=0, high=15),
        "r1": lrp.Pass(),
        "c3": lrp.Gamma(gamma=0.25),
        "sum": lrp.Norm(),
        "pool": lrp.Pass(),
        "flat": lrp.Pass(),
        "d1": lrp.Epsilon(epsilon=1e-6),
        "d2": lrp.Epsilon(epsilon=1e-6),
    }
    printed = str(rules).splitlines()
    assert printed[0].split() == ["node", "layer", "rule", "by", "case"]
    assert printed[4].split(maxsplit=1)[0] == "c3"
    assert "Gamma(gamma=0.25)" in printed[4]
    assert printed[4].endswith("2: kind(Conv)")
    assert printed[2].endswith("wire")
    assert printed[-1] == "never used: 5: kind(BatchNorm) -> Pass()"
    assert lrp.explain(NET, X, composite, target=0).rules == rules


def test_a_case_may_give_a_wire_a_rule():
    rules = lrp.Composite([(lrp.kind(MaxPool), lrp.Flat()), (~lrp.kind(MaxPool), lrp.Zero())]).assign(NET)
    assert rules["pool"] == lrp.Flat()
    assert rules["r1"] == lrp.Zero()


def test_a_rule_in_place_of_a_composite_is_uniform():
    rules = lrp.explain(NET, X, lrp.Zero(), target=0).rules
    assert {name for name, rule in rules.items() if rule == lrp.Zero()} == {"c1", "c3", "side.c2", "sum", "d1", "d2"}
    assert {name for name, rule in rules.items() if rule == lrp.Pass()} == {"r1", "pool", "flat"}
    assert "1: ~wire" in str(rules)


def test_a_node_without_a_rule_is_named_with_a_case_to_add():
    with pytest.raises(lrp.NoRule, match=r'node "sum" \(Add\): add a case such as \(kind\(Add\), Epsilon'):
        lrp.explain(NET, X, lrp.Composite([(lrp.kind(Conv, Dense), lrp.Zero())]))


def test_a_pattern_that_fits_nothing_is_an_error_with_the_three_nearest():
    composite = lrp.Composite([(lrp.named("conv3"), lrp.Zero())])
    with pytest.raises(lrp.NoRule, match=r"named\('conv3'\) fits no node; the nearest names are '.+', '.+', '.+'$"):
        composite.assign(NET)
    with pytest.raises(lrp.NoRule, match="'c3'"):
        composite.assign(NET)
    with pytest.raises(lrp.GraphError, match='no node "c9"'):
        lrp.before("c9").select(NET)


@pytest.mark.parametrize("case", [(lrp.Zero(), lrp.kind(Conv)), (Conv, lrp.Zero()), (lrp.kind(Conv),), ("c1", "zero")])
def test_what_is_no_case_is_refused(case):
    with pytest.raises(lrp.NoRule, match="a case is a pair such as"):
        lrp.Composite([case])


def test_what_is_no_composite_is_refused():
    with pytest.raises(lrp.NoRule, match="need a Composite or a Rule"):
        lrp.explain(NET, X, "epsilon_plus")
    with pytest.raises(lrp.GraphError, match="kind"):
        lrp.kind("Conv")
    with pytest.raises(lrp.GraphError, match="first"):
        lrp.first()


def test_a_composite_prints_as_a_table():
    printed = str(lrp.presets.epsilon_gamma_box(low=-1, high=1)).splitlines()
    assert printed[0].split() == ["case", "nodes", "rule"]
    assert "first(Conv, ConvTranspose)" in printed[1]
    assert "ZBox(low=-1, high=1, epsilon=1e-06)" in printed[1]
    assert printed[-1].split() == ["other", "wires", "Pass()"]


# --- presets -------------------------------------------------------------------------------------------------------


def vgg16():
    """VGG-16 as a graph, with one channel everywhere, named as in torchvision."""
    nodes, source, i = [], "input", 0

    def add(layer, name):
        nonlocal source
        nodes.append(lrp.Node(name, layer, source))
        source = name

    for convs in (2, 2, 3, 3, 3):
        for _ in range(convs):
            add(Conv(weight=np.ones((1, 1, 3, 3)) / 8, bias=np.zeros(1), padding=1), f"features.{i}")
            add(ReLU(), f"features.{i + 1}")
            i += 2
        add(MaxPool(kernel=2), f"features.{i}")
        i += 1
    add(Flatten(), "flatten")
    for j in (0, 3, 6):
        add(Dense(weight=np.ones((1, 1))), f"classifier.{j}")
        if j < 6:
            add(ReLU(), f"classifier.{j + 1}")
    return lrp.Graph(nodes, outputs=source)


def test_the_chapters_and_the_tutorials_composite_on_vgg16():
    """By the index of torchvision's list: 0 box, 1 to 16 gamma, 17 to 30 epsilon, LRP-0 above; pools are averaged."""
    net = vgg16()
    tiny = lrp.Unsigned()
    for preset, box, gamma, middle, top in (
        (
            lrp.presets.chapter_vgg16,
            lrp.ZBox(low=-2, high=2),
            lrp.Gamma(gamma=0.25),
            lrp.Epsilon(epsilon=0.25, stabilizer=lrp.Relative(over="sample")),
            lrp.Zero(),
        ),
        (
            lrp.presets.tutorial_vgg16,
            lrp.ZBox(low=-2, high=2, epsilon=1e-9, stabilizer=tiny),
            lrp.Gamma(gamma=0.25, epsilon=1e-9, stabilizer=tiny),
            lrp.Epsilon(epsilon=0.25, stabilizer=lrp.Relative(over="batch", signed=False, plus=1e-9)),
            lrp.Zero(epsilon=1e-9, stabilizer=tiny),
        ),
    ):
        composite = preset(low=-2, high=2)
        rules = composite.assign(composite.prepare(net))
        for node in net.nodes:
            part, _, index = node.name.partition(".")
            if isinstance(node.layer, (ReLU, Flatten)):
                expected = lrp.Pass()
            elif part == "classifier":
                expected = top
            elif index == "0":
                expected = box
            else:
                expected = gamma if int(index) <= 16 else middle
            assert rules[node.name] == expected, node.name
        e = lrp.explain(net, np.ones((1, 1, 32, 32)), composite, target=0)
        assert e.output == net.forward(np.ones((1, 1, 32, 32)))["classifier.6"]


def test_average_pooling_is_of_the_relevance_pass_only():
    net = lrp.chain(MaxPool(kernel=2), Flatten(), Dense(weight=[[1.0], [1.0]]))
    x = np.array([[[[1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 8.0, 2.0]]]])
    composite = lrp.Composite(
        [(lrp.kind(MaxPool), lrp.Norm()), (lrp.kind(Dense), lrp.Zero())], canonize=[lrp.presets.average_pooled]
    )
    e = lrp.explain(net, x, composite)
    assert e.output == 11
    np.testing.assert_array_equal(e.relevance[0, 0], [[3 / 4, 9 / 4, 0, 0], [0, 0, 32 / 5, 8 / 5]])
    np.testing.assert_array_equal(lrp.explain(net, x, lrp.Zero()).relevance[0, 0], [[0, 3, 0, 0], [0, 0, 8, 0]])


def test_the_tutorials_mlp():
    rng = np.random.default_rng(0)
    sizes = (4, 5, 5, 5, 3)
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [Dense(weight=rng.normal(size=(inputs, outputs)), bias=rng.normal(size=outputs)), ReLU()]
    net = lrp.chain(*layers[:-1])
    x = rng.uniform(-1, 1, size=(3, 4))
    e = lrp.explain(net, x, lrp.presets.tutorial_mlp(), target=[0, 1, 2])
    a = [net.forward(x)[name] for name in ("input", "1.relu", "3.relu", "5.relu", "6.dense")]
    R = a[4] * np.eye(3)
    for layer, gamma, epsilon in ((3, 0, 0), (2, 0, 0.1), (1, 0.1, 0)):  # as the tutorial's loop computes it
        W, b = layers[2 * layer].weight, layers[2 * layer].bias
        rho = [value + gamma * np.maximum(0, value) for value in (W, b)]
        z = a[layer] @ rho[0] + rho[1]
        z = z + epsilon * np.sqrt(np.mean(z**2)) + 1e-9
        R = a[layer] * (R / z @ rho[0].T)
    W = layers[0].weight
    z = x @ W - -1 * np.ones_like(x) @ np.maximum(0, W) - np.ones_like(x) @ np.minimum(0, W) + 1e-9
    s = R / z
    R = x * (s @ W.T) + s @ np.maximum(0, W).T - s @ np.minimum(0, W).T
    np.testing.assert_allclose(e.relevance, R, rtol=0, atol=1e-12 * abs(R).max())


RESNET = lrp.Graph(
    [
        lrp.Node("conv", Conv(weight=K1, padding=1), "input"),
        lrp.Node("bn", BatchNorm(scale=np.ones(2), shift=np.ones(2)), "conv"),
        lrp.Node("relu", ReLU(), "bn"),
        lrp.Node("conv2", Conv(weight=K2, padding=1), "relu"),
        lrp.Node("add", Add(), "conv2", "relu"),
        lrp.Node("pool", AvgPool(kernel=4), "add"),
        lrp.Node("flat", Flatten(), "pool"),
        lrp.Node("dense", Dense(weight=np.ones((2, 2))), "flat"),
    ],
    outputs="dense",
)
E6 = {"epsilon": 1e-6}


@pytest.mark.parametrize(
    ("preset", "first", "conv", "dense"),
    [
        (lrp.presets.epsilon_plus(), lrp.ZPlus(**E6), lrp.ZPlus(**E6), lrp.Epsilon(**E6)),
        (lrp.presets.epsilon_plus_flat(), lrp.Flat(**E6), lrp.ZPlus(**E6), lrp.Epsilon(**E6)),
        (lrp.presets.epsilon_alpha2_beta1(), *2 * [lrp.AlphaBeta(alpha=2, beta=1, **E6)], lrp.Epsilon(**E6)),
        (
            lrp.presets.epsilon_alpha2_beta1_flat(),
            lrp.Flat(**E6),
            lrp.AlphaBeta(alpha=2, beta=1, **E6),
            lrp.Epsilon(**E6),
        ),
        (
            lrp.presets.epsilon_gamma_box(low=0, high=15),
            lrp.ZBox(low=0, high=15, **E6),
            lrp.GeneralizedGamma(gamma=0.25, **E6),
            lrp.Epsilon(**E6),
        ),
        (lrp.presets.excitation_backprop(), lrp.ZPlus(**E6), lrp.ZPlus(**E6), lrp.ZPlus(**E6)),
    ],
    ids=["plus", "plus_flat", "alpha2_beta1", "alpha2_beta1_flat", "gamma_box", "excitation"],
)
def test_presets_have_zennits_rules_and_numbers(preset, first, conv, dense):
    norm = lrp.Norm(**E6)
    expected = {"conv": first, "bn": lrp.Pass(), "relu": lrp.Pass(), "conv2": conv, "add": norm, "pool": norm}
    assert dict(preset.assign(RESNET)) == expected | {"flat": lrp.Pass(), "dense": dense}


def test_first_for_flat_is_a_conv_or_a_dense_layer_and_for_the_box_a_conv():
    mlp = lrp.chain(Dense(weight=np.ones((2, 2))), ReLU(), Dense(weight=np.ones((2, 2))))
    assert lrp.presets.epsilon_plus_flat().assign(mlp)["0.dense"] == lrp.Flat(**E6)
    assert lrp.presets.epsilon_gamma_box(low=0, high=1).assign(mlp)["0.dense"] == lrp.Epsilon(**E6)
