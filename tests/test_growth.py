"""How many bits enclosures lose: the estimate against what balls lose."""

import math

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref.composites import as_composite
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.graph import Graph, Node, chain
from lrp_ref.oracle import certify
from lrp_ref.oracle.growth import bits_lost

pytest.importorskip("flint")

DATA = digits()
RULES = {
    "zero": lrp.Zero(),
    "epsilon_gamma_box": lrp.presets.epsilon_gamma_box(low=0, high=1),
    "epsilon_alpha2_beta1": lrp.presets.epsilon_alpha2_beta1(),
    "product": lrp.Composite([(lrp.kind(L.Mul), lrp.Product(portions=(0.5, 0.5))), *as_composite(lrp.ZPlus()).cases]),
}


def deep(rng):
    """Twelve dense layers with ReLUs between, in which every layer loses bits."""
    sizes = [40] * 12
    layers = []
    for _ in sizes:
        layers += [L.Dense(rng.normal(size=(40, 40)) / 5, bias=rng.normal(size=40)), L.ReLU()]
    return chain(*layers[:-1])


def gated(rng):
    nodes = [
        Node("a", L.Dense(rng.normal(size=(40, 30))), "input"),
        Node("b", L.Dense(rng.normal(size=(40, 30))), "input"),
        Node("gate", L.Sigmoid(), "b"),
        Node("product", L.Mul(), "a", "gate"),
        Node("out", L.Dense(rng.normal(size=(30, 3))), "product"),
    ]
    return Graph(nodes, "out")


NETWORKS = {
    "mlp": (digits_mlp(), DATA.images[:1].astype(float)),
    "cnn": (digits_cnn(), DATA.images[:1].astype(float)),
    "deep": (deep(np.random.default_rng(1)), np.random.default_rng(2).uniform(size=(2, 40))),
    "gated": (gated(np.random.default_rng(3)), np.random.default_rng(4).normal(size=(2, 40))),
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_as_many_bits_are_lost_as_foreseen_or_a_few_less(name, rules):
    (graph, x), composite = NETWORKS[name], as_composite(RULES[rules])
    if name == "gated" and rules != "product":
        composite = lrp.Composite([(lrp.kind(L.Mul), lrp.Product()), *composite.cases])
    foreseen = bits_lost(graph, composite.assign(graph), graph.forward(x), None)
    found = certify(graph, x, composite, engine="balls")
    if widest := found.radius().max():  # the numbers of a short way may all be exact
        lost = found.precision + math.log2(widest / found.scale())
        assert lost - 2 <= foreseen <= lost + 16
    assert found.precision == 8 + math.ceil(60 + foreseen)  # the first one did


def test_nothing_is_lost_where_there_is_no_relevance():
    graph = chain(L.Dense([[1.0], [1.0]]))
    rules = as_composite(lrp.Zero()).assign(graph)
    assert bits_lost(graph, rules, graph.forward(np.zeros((1, 2))), 0) == 0
