"""Small networks under presets and under one rule: residual, dense, inception-like, batch norm before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from ... import presets
from ...arrays import Array, exact
from ...canonize import batch_norm_folded
from ...composites import Composite, as_composite, first, kind
from ...errors import LrpError
from ...graph import Graph, Node, chain
from ...layers import (
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    ReLU,
)
from ...propagate import Rule
from ...rules import AlphaBeta, Epsilon, Flat, Gamma, GeneralizedGamma, Gradient, Norm, Pass, WSquare, ZBox, Zero, ZPlus
from ...targets import logit, one
from ..variants import Statistics
from .cases import Case, Network
from .instances import QUARTERS, bias
from .numbers import Draw

Shape = tuple[int, ...]

TRIES = 200
PIXELS = tuple(i / 4 for i in range(5))
"""What a network's inputs are drawn from: in the box from 0 to 1."""


def _conv(label: str, outputs: int, inputs: int, *kernel: int, **options: object) -> Conv:
    weight = Draw(f"network/{label}").of(QUARTERS, (outputs, inputs, *kernel))
    return Conv(weight, bias(outputs), **options)  # type: ignore[arg-type]


def _dense(label: str, inputs: int, outputs: int) -> Dense:
    return Dense(Draw(f"network/{label}").of(QUARTERS, (inputs, outputs)), bias(outputs))


STATISTICS: Mapping[str, Statistics] = {
    "norm": Statistics(
        mean=np.array([0.25, -0.5]),
        variance=np.array([0.1875, 3.9375]),
        weight=np.array([0.5, -1.0]),
        bias=np.array([0.25, 0.0]),
        epsilon=0.0625,
    )
}
"""Of the batch norms here: variance + epsilon is 1/4 and 4, whose roots are dyadic."""


def _norm() -> BatchNorm:
    s = STATISTICS["norm"]
    scale = s.weight / np.sqrt(s.variance + s.epsilon)
    return BatchNorm(scale, s.bias - scale * s.mean)


def _mlp() -> Graph:
    return chain(_dense("mlp/0", 4, 4), ReLU(), _dense("mlp/1", 4, 3), ReLU(), _dense("mlp/2", 3, 3), ReLU(),
                 _dense("mlp/3", 3, 2))  # fmt: skip


def _mlp_two() -> Graph:
    return chain(_dense("mlp-two/0", 3, 5), ReLU(), _dense("mlp-two/1", 5, 3))


def _vgg() -> Graph:
    return chain(
        _conv("vgg/0", 2, 1, 2, 2), ReLU(), MaxPool(2, stride=1), _conv("vgg/1", 3, 2, 2, 2), ReLU(),
        MaxPool(2, stride=1), Flatten(), _dense("vgg/2", 3, 2),
    )  # fmt: skip


def _lenet() -> Graph:
    return chain(
        _conv("lenet/0", 2, 1, 2, 2), ReLU(), AvgPool(2), _conv("lenet/1", 2, 2, 1, 2), ReLU(), Flatten(),
        _dense("lenet/2-b", 2, 3),
    )  # fmt: skip


def _residual() -> Graph:
    return Graph(
        [
            Node("conv0", _conv("residual/0", 2, 1, 3, 3, padding=1), "input"),
            Node("relu0", ReLU(), "conv0"),
            Node("conv1", _conv("residual/1", 2, 2, 1, 1), "relu0"),
            Node("add", Add(), "conv1", "relu0"),
            Node("relu1", ReLU(), "add"),
            Node("mean", GlobalAvgPool(), "relu1"),
            Node("flat", Flatten(), "mean"),
            Node("logits", _dense("residual/2-c", 2, 2), "flat"),
        ],
        outputs="logits",
    )


def _residual_1d() -> Graph:
    return Graph(
        [
            Node("conv0", _conv("residual-1d/0", 2, 2, 3, stride=2, padding=1), "input"),
            Node("norm", _norm(), "conv0"),
            Node("relu0", ReLU(), "norm"),
            Node("short", _conv("residual-1d/1", 2, 2, 1, stride=2), "input"),
            Node("add", Add(), "relu0", "short"),
            Node("flat", Flatten(), "add"),
            Node("logits", _dense("residual-1d/2", 6, 2), "flat"),
        ],
        outputs="logits",
    )


def _densenet() -> Graph:
    return Graph(
        [
            Node("conv0", _conv("densenet/0", 1, 1, 2, 2), "input"),
            Node("relu0", ReLU(), "conv0"),
            Node("join0", Concat(), "input_cut", "relu0"),
            Node("input_cut", MaxPool(2, stride=1), "input"),
            Node("conv1", _conv("densenet/1", 2, 2, 1, 1), "join0"),
            Node("relu1", ReLU(), "conv1"),
            Node("join1", Concat(), "join0", "relu1"),
            Node("flat", Flatten(), "join1"),
            Node("logits", _dense("densenet/2", 16, 2), "flat"),
        ],
        outputs="logits",
    )


def _inception() -> Graph:
    return Graph(
        [
            Node("stem", _conv("inception/0", 2, 1, 2, 2), "input"),
            Node("relu", ReLU(), "stem"),
            Node("one", _conv("inception/1", 1, 2, 1, 1), "relu"),
            Node("three", _conv("inception/2", 1, 2, 3, 3, padding=1), "relu"),
            Node("pool", MaxPool(3, stride=1, padding=1), "relu"),
            Node("average", AvgPool(3, stride=1, padding=1), "relu"),
            Node("join", Concat(), "one", "three", "pool", "average"),
            Node("mean", GlobalAvgPool(), "join"),
            Node("flat", Flatten(), "mean"),
            Node("logits", _dense("inception/3", 6, 2), "flat"),
        ],
        outputs="logits",
    )


def _norm_after() -> Graph:
    return Graph(
        [
            Node("conv", _conv("norm-after/0", 2, 1, 2, 2), "input"),
            Node("norm", _norm(), "conv"),
            Node("relu", ReLU(), "norm"),
            Node("pool", MaxPool(2, stride=1), "relu"),
            Node("conv2", _conv("norm-after/1", 2, 2, 1, 1), "pool"),
            Node("relu2", ReLU(), "conv2"),
            Node("flat", Flatten(), "relu2"),
            Node("logits", _dense("norm-after/2-b", 8, 2), "flat"),
        ],
        outputs="logits",
    )


def _norm_before() -> Graph:
    return Graph(
        [
            Node("conv0", _conv("norm-before/0", 2, 1, 2, 2), "input"),
            Node("relu0", ReLU(), "conv0"),
            Node("norm", _norm(), "relu0"),
            Node("conv", _conv("norm-before/1", 2, 2, 2, 2, padding=1), "norm"),
            Node("relu", ReLU(), "conv"),
            Node("mean", GlobalAvgPool(), "relu"),
            Node("flat", Flatten(), "mean"),
            Node("logits", _dense("norm-before/2-b", 2, 2), "flat"),
        ],
        outputs="logits",
    )


NETWORKS: Mapping[str, tuple[Graph, Shape]] = {
    "mlp": (_mlp(), (4,)),
    "mlp-two": (_mlp_two(), (3,)),
    "vgg": (_vgg(), (1, 5, 5)),
    "lenet": (_lenet(), (1, 3, 5)),
    "residual": (_residual(), (1, 3, 3)),
    "residual-1d": (_residual_1d(), (2, 5)),
    "densenet": (_densenet(), (1, 3, 3)),
    "inception": (_inception(), (1, 4, 4)),
    "norm-after": (_norm_after(), (1, 4, 4)),
    "norm-before": (_norm_before(), (1, 3, 4)),
}
BATCH_NORMED = ("residual-1d", "norm-after", "norm-before")


def _of_all(rule: Rule) -> Composite:
    """A rule for the layers with weights; Pass for batch norms, Norm for the sums."""
    return Composite(
        [(kind(BatchNorm), Pass()), (kind(Conv, Dense), rule), (kind(Add, AvgPool, GlobalAvgPool), Norm())]
    )


def _with_first(rule: Rule, rest: Rule) -> Composite:
    return Composite([(first(Conv, Dense), rule), *_of_all(rest).cases])


RULES: Mapping[str, Composite | Rule] = {
    "zero": Zero(),
    "epsilon": Epsilon(epsilon=0.25),
    "gamma": _of_all(Gamma(gamma=0.5)),
    "generalized-gamma": _of_all(GeneralizedGamma(gamma=0.5)),
    "z-plus": _of_all(ZPlus()),
    "alpha-beta": _of_all(AlphaBeta(alpha=2.0)),
    "flat first": _with_first(Flat(), Zero()),
    "w-square first": _with_first(WSquare(), ZPlus()),
    "box first": _with_first(ZBox(low=0.0, high=1.0), Gamma(gamma=0.25)),
}
"""With dyadic parameters, so that the numbers stay short."""

PRESETS: Mapping[str, Composite] = {
    "epsilon_plus": presets.epsilon_plus(),
    "epsilon_plus_flat": presets.epsilon_plus_flat(),
    "epsilon_alpha2_beta1": presets.epsilon_alpha2_beta1(),
    "epsilon_alpha2_beta1_flat": presets.epsilon_alpha2_beta1_flat(),
    "epsilon_gamma_box": presets.epsilon_gamma_box(low=0.0, high=1.0),
    "excitation_backprop": presets.excitation_backprop(),
}
OF_THE_AUTHORS: Mapping[str, tuple[str, Composite]] = {
    "chapter_vgg16": ("vgg", presets.chapter_vgg16(low=0.0, high=1.0)),
    "chapter_vgg16 on lenet": ("lenet", presets.chapter_vgg16(low=0.0, high=1.0)),
    "tutorial_vgg16": ("vgg", presets.tutorial_vgg16(low=0.0, high=1.0)),
    "tutorial_vgg16 on lenet": ("lenet", presets.tutorial_vgg16(low=0.0, high=1.0)),
    "tutorial_mlp": ("mlp", presets.tutorial_mlp(low=0.0, high=1.0)),
    "tutorial_mlp on two layers": ("mlp-two", presets.tutorial_mlp(low=0.0, high=1.0)),
}


def cases() -> Iterator[Case]:
    """All of them."""
    for network, (graph, _) in NETWORKS.items():
        for name, rules in RULES.items():
            yield case(network, network, name, rules)
        assigned: list[dict[str, Rule]] = []
        for name, composite in PRESETS.items():
            rules_here = dict(composite.assign(graph))
            if rules_here not in assigned:  # presets that differ in convolutions only are one on a dense network
                assigned.append(rules_here)
                yield case(network, network, name, composite, sources=("zennit",))
    for network in ("mlp", "mlp-two", "lenet", "inception"):
        yield case(network, network, "zero from 1", Zero(), start=one)
    for name, (network, composite) in OF_THE_AUTHORS.items():
        source = "montavon2019" if name.startswith("chapter") else "tutorial"
        pooled = f"{network}-average-pooled" if "vgg16" in name and network == "vgg" else network
        yield case(network, pooled, name.partition(" on ")[0], composite, sources=(source,))
    for network in ("residual-1d", "norm-after", "norm-before"):
        graph, _ = NETWORKS[network]
        folded = batch_norm_folded(graph)
        if folded is not graph:
            for name in ("zero", "gamma", "alpha-beta"):
                yield case(network, f"{network}-folded", f"{name}, batch norm folded", RULES[name], folded)
    for name, kinds in (("add by its gradient", (Add,)), ("batch norm by its gradient", (BatchNorm,))):
        for network in NETWORKS:
            graph = NETWORKS[network][0]
            if any(isinstance(node.layer, kinds) for node in graph.nodes):
                rules = Composite([(kind(*kinds), Gradient()), *_of_all(Zero()).cases])
                yield case(network, network, name, rules)


def case(
    name: str,
    saved: str,
    label: str,
    rules: Composite | Rule,
    graph: Graph | None = None,
    sources: tuple[str, ...] = (),
    start: type[logit] | type[one] = logit,
) -> Case:
    """The rules on a network, for the greatest logit of the first sample."""
    original, shape = NETWORKS[name]
    composite = as_composite(rules)
    unfolded = None if graph is None else original
    graph = composite.prepare(original if graph is None else graph)
    network = Network(saved, dataclasses.replace(graph, notes=()), {"input": shape})
    samples = 2 if label.startswith(("tutorial", "zero")) else 1
    x = inputs(name, samples)
    return Case(
        group="networks",
        name=f"{saved}/{label}",
        comment=f"{label} on the network {saved}",
        network=network,
        inputs={"input": x},
        start=start(_class(graph, x)),
        rules=Composite(composite.cases),
        sources=sources,
        unfolded=unfolded,
    )


def inputs(name: str, samples: int) -> Array:
    """Drawn pixels, the first draw whose first sample has a logit above 0: or rules of positive parts have nothing."""
    graph, shape = NETWORKS[name]
    for attempt in range(TRIES):
        x = Draw(f"network/{name}/input/{attempt}").of(PIXELS, (samples, *shape))
        if max(graph.forward(exact(x))[graph.outputs[0]][0]) > 0:
            return x
    raise LrpError(f"{name}: no draw of {TRIES} has a logit above 0")


def _class(graph: Graph, x: Array) -> int:
    """The class of the greatest logit of the first sample."""
    z = graph.forward(exact(x))[graph.outputs[0]][0]
    return int(max(range(len(z)), key=lambda k: z[k]))
