"""Guards of the fast engine's speed: its time over that of plain matrix products of as many operations, in one run.

No absolute seconds: products and explanation take turns in one process, and the quickest round of each counts, which
others' work on the machine slows least.
"""

import time

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref import layers as L

pytest.importorskip("pytest_benchmark", reason="needs pytest-benchmark (group bench)")

ROUNDS = 30


def weights(rng, *shape):
    fan_in = np.prod(shape[1:])
    return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)


def products(graph, activations, passes):
    """A call of the matrix products of the graph's convolutions, `passes` times each."""
    rng, operands = np.random.default_rng(2), []
    for node in graph.nodes:
        if isinstance(node.layer, L.Conv):
            rows, depth = len(node.layer.weight), node.layer.weight[0].size
            columns = activations[node.name][0, 0].size
            a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((rows, depth), (depth, columns)))
            operands.append((a, b, np.empty((rows, columns), np.float32)))

    def call():
        for _ in range(passes):
            for a, b, out in operands:
                np.matmul(a, b, out=out)

    return call


def explainer(graph, composite, x):
    """The fast engine's call with all that can be prepared prepared."""
    if not hasattr(lrp, "prepare"):
        return lambda target: lrp.explain(graph, x, composite, target, engine="fast", keep="input")
    prepared = lrp.prepare(graph, composite, x=x)
    return lambda target: prepared.explain(x, target=target, keep="input")


def check(benchmark, call, floor, limit):
    """The call takes at most `limit` times the floor's seconds, which runs before each round: the least of each.

    On a busy machine neither may have had a quiet moment yet: then there are more rounds.
    """
    if benchmark.disabled:
        pytest.skip("pytest-benchmark measures in one process only: without -n")
    products, calls = [], []

    def seconds(call):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    benchmark.pedantic(call, setup=lambda: products.append(seconds(floor)), rounds=ROUNDS, warmup_rounds=2)
    calls.append(benchmark.stats.stats.min)
    while min(calls) > limit * min(products) and len(products) < 5 * ROUNDS:
        products.append(seconds(floor))
        calls.append(seconds(call))
    found = min(calls) / min(products)
    benchmark.extra_info["over plain products"] = round(found, 2)
    print(f"{found:.2f} times the products' {1000 * min(products):.1f} ms")
    assert found <= limit


def test_one_convolution_forward_and_back(benchmark):
    rng = np.random.default_rng(0)
    graph = lrp.chain(L.Conv(weight=weights(rng, 64, 64, 3, 3), bias=np.zeros(64, np.float32), padding=1))
    x = rng.uniform(0, 1, (1, 64, 56, 56)).astype(np.float32)
    activations = graph.forward(x)
    R = activations["0.conv"]
    explain = explainer(graph, lrp.Epsilon(epsilon=0.1), x)
    check(benchmark, lambda: explain(R), products(graph, activations, passes=2), limit=2.5)


def test_a_small_network_under_z_plus(benchmark):
    rng, parts, channels = np.random.default_rng(0), [], 3
    for width in (64, 128, 256):
        for _ in range(2):
            bias = rng.standard_normal(width).astype(np.float32) * np.float32(0.05)
            parts += [L.Conv(weight=weights(rng, width, channels, 3, 3), bias=bias, padding=1), L.ReLU()]
            channels = width
        parts.append(L.MaxPool(kernel=2))
    dense = L.Dense(weight=weights(rng, 10, channels * 64).T.copy(), bias=np.zeros(10, np.float32))
    graph = lrp.chain(*parts, L.Flatten(), dense)
    x = rng.uniform(0, 1, (1, 3, 64, 64)).astype(np.float32)
    explain = explainer(graph, lrp.presets.epsilon_plus_flat(), x)
    check(benchmark, lambda: explain(3), products(graph, graph.forward(x), passes=3), limit=3)
