"""The fast engine on whole networks, node by node: what each step makes of the activations and relevance that it met.

Relevance within 2e-6 (float32) or 1e-14 (float64) of the plain path's, relative to the greatest that came or went;
outputs within the rounding of their sums. Where a ReLU is on for one and off for the other, its margin must be below
that rounding too. End to end both give the same where no ReLU and no maximum differs.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from zennit_composites import ZENNIT

import lrp_ref as lrp
from lrp_ref.composites import uniform
from lrp_ref.layers import (
    Add,
    AvgPool,
    BatchNorm,
    Clip,
    Concat,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Mul,
    ReLU,
    Sigmoid,
    SiLU,
)  # fmt: skip

BOUND = {np.float32: 2e-6, np.float64: 1e-14}
PRESETS = {
    **ZENNIT,
    "epsilon": lrp.Composite([(lrp.kind(Mul), lrp.Product(portions=(1, 0))), *uniform(lrp.Epsilon(epsilon=0.1)).cases]),
}


def small_network(rng):
    """Stem, pool, residual block with a stride, depthwise block without a ReLU at its end, branches, gate, head."""
    shapes = {
        "stem": (8, 3, 5, 5), "down": (12, 8, 3, 3), "inner": (12, 12, 3, 3), "short": (12, 8, 1, 1),
        "expand": (24, 12, 1, 1), "depth": (24, 1, 3, 3), "project": (12, 24, 1, 1), "left": (6, 12, 1, 1),
        "right": (6, 12, 3, 3), "few": (6, 12, 3, 3),
    }  # fmt: skip
    w = {k: rng.normal(size=s) * np.sqrt(2 / np.prod(s[1:])) for k, s in shapes.items()}
    b = {k: 0.1 * rng.normal(size=s[0]) for k, s in shapes.items()}
    w["few"] = np.where(rng.random(w["few"].shape) < 0.0005, -1, 1) * abs(w["few"])  # hardly any negative weight
    w["few"].flat[7] *= -1

    def conv(name, **options):
        return Conv(weight=w[name], bias=b[name], **options)

    norm = BatchNorm(rng.uniform(0.5, 2, size=18), rng.normal(size=18))
    nodes = [
        ("stem", conv("stem", stride=2, padding=2), "input"), ("stem.relu", ReLU(), "stem"),
        ("pool", MaxPool(kernel=3, stride=2, padding=1), "stem.relu"),
        ("down", conv("down", stride=2, padding=1), "pool"), ("down.relu", ReLU(), "down"),
        ("inner", conv("inner", padding=1), "down.relu"), ("short", conv("short", stride=2), "pool"),
        ("add", Add(), "inner", "short"), ("add.relu", ReLU(), "add"),
        ("expand", conv("expand"), "add.relu"), ("expand.relu6", Clip(low=0, high=6), "expand"),
        ("depth", conv("depth", padding=1, groups=24), "expand.relu6"), ("depth.silu", SiLU(), "depth"),
        ("project", conv("project"), "depth.silu"), ("skip", Add(), "project", "add.relu"),
        ("left", conv("left"), "skip"), ("left.relu", ReLU(), "left"),
        ("right", conv("right", padding=1), "skip"), ("right.relu", ReLU(), "right"),
        ("few", conv("few", padding=1), "add.relu"), ("few.relu", ReLU(), "few"),
        ("joined", Concat(), "left.relu", "right.relu", "few.relu"),
        ("norm", norm, "joined"), ("norm.relu", ReLU(), "norm"),
        ("average", AvgPool(kernel=2), "norm.relu"), ("squeeze", GlobalAvgPool(), "average"),
        ("gate", Conv(weight=rng.normal(size=(18, 18, 1, 1))), "squeeze"), ("sigmoid", Sigmoid(), "gate"),
        ("gated", Mul(), "average", "sigmoid"), ("flat", Flatten(), "gated"),
        ("logits", Dense(weight=rng.normal(size=(18 * 2 * 2, 10))), "flat"),
    ]  # fmt: skip
    return lrp.Graph([lrp.Node(*node) for node in nodes], outputs="logits")


def node_by_node(graph, x, composite, bound):
    """Check each node on what it met; the number of ReLUs and maxima that the plain path would decide otherwise."""
    e = lrp.explain(graph, x, composite, 3, engine="fast")
    graph, u = e.graph, np.finfo(x.dtype).eps / 2
    differ = 0
    for node in graph.nodes:
        inputs = [e.activations[source] for source in node.inputs]
        z, ours = node.layer.forward(*inputs), e.activations[node.name]
        assert (z.shape, z.dtype) == (ours.shape, ours.dtype)
        if isinstance(node.layer, (Conv, Dense)):
            layer, (a,) = node.layer, inputs
            terms = layer.linear(abs(a), abs(layer.weight)) + (0 if layer.bias is None else abs(layer.bias))
            n = layer.weight[0].size if isinstance(layer, Conv) else len(layer.weight)
            rounding = 2 * (n + 2) * u * terms
            assert (abs(z - ours) <= rounding).all(), node.name
            flips = (z > 0) != (ours > 0)
            assert (abs(z[flips]) <= rounding[flips]).all(), node.name
            differ += int(flips.sum())
        else:
            assert abs(z - ours).max() <= 8 * len(node.inputs) * u * max(abs(a).max() for a in inputs), node.name
    consumers = {}
    for node in graph.nodes:
        for source in set(node.inputs):
            consumers.setdefault(source, []).append(node)
    given = {}
    for node in reversed(graph.nodes):
        inputs = [e.activations[source] for source in node.inputs]
        R_in, _ = e.rules[node.name].back(node.layer, inputs, e.at(node.name))
        for source, R in zip(node.inputs, R_in, strict=True):
            given[source] = given[source] + R if source in given else R
    worst = {}
    for name, R in given.items():
        came = max(abs(e.at(node.name)).max() for node in consumers[name])
        worst[name] = abs(R - e.at(name)).max() / max(came, abs(R).max(), 1e-30)
    beyond = {name: error for name, error in worst.items() if error > bound}
    assert not beyond, beyond
    return differ, e


def check(graph, x, composite):
    differ, quick = node_by_node(graph, x, composite, BOUND[x.dtype.type])
    plain = lrp.explain(graph, x, composite, 3, engine="plain")
    if same_relus(plain, quick):  # rounding, amplified through all the layers
        apart = abs(plain.relevance - quick.relevance).max()
        if apart > 1e3 * BOUND[x.dtype.type] * abs(plain.relevance).max():  # then by no more than in the plain path
            more = np.float64 if x.dtype == np.float32 else np.longdouble
            truth = lrp.explain(graph, x.astype(more), composite, 3, engine="plain")
            assert same_relus(plain, truth)
            assert abs(quick.relevance - truth.relevance).max() <= 8 * abs(plain.relevance - truth.relevance).max()
    return differ


def same_relus(one, other):
    return all(
        ((one.activations[node.inputs[0]] > 0) == (other.activations[node.inputs[0]] > 0)).all()
        for node in one.graph.nodes if isinstance(node.layer, ReLU)
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_network_of_every_kind_of_block(preset, dtype):
    rng = np.random.default_rng(1)
    check(small_network(rng), rng.uniform(size=(2, 3, 37, 37)).astype(dtype), PRESETS[preset])


@pytest.mark.full
@pytest.mark.torch
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["vgg16", "resnet50", "mobilenet", "squeezenet", "densenet121", "efficientnet"])
def test_the_networks_of_the_benchmark(name, preset, dtype, monkeypatch):
    import torch

    pytest.importorskip("zennit")  # which the module of networks has peers from

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    import bench_networks

    x = np.random.default_rng(2).uniform(size=(1, 3, 64, 64))
    graph = lrp.canonize(lrp.from_torch(bench_networks.network(name, 64), torch.from_numpy(x).float()))
    check(graph, x.astype(dtype), PRESETS[preset])
    sys.modules.pop("bench_networks")
