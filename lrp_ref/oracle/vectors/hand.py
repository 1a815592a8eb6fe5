"""Cases whose numbers others have printed, or that fit on paper: what they must be stands beside each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction as F
from typing import Any

import numpy as np

from ...arrays import Array, exact
from ...composites import Composite, named
from ...graph import Graph, Node, chain
from ...layers import Add, Concat, Conv, Dense, Dropout, Flatten, LeakyReLU, MaxPool, ReLU, Scale
from ...propagate import Rule
from ...rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    GeneralizedGamma,
    Gradient,
    Norm,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
)
from ...stabilize import AtZero, Clipped, Relative, SignedOrZero, Unsigned
from ...targets import logit
from .cases import Case, Network

NANO: Any = F(1, 10**9)
TENTH: Any = F(1, 10**7)
MILLIONTH: Any = F(1, 10**6)
"""Rules take any rational; their annotations say float, as users write."""


def _case(
    name: str, comment: str, graph: Graph, x: Any, start: Any, rules: Composite | Rule, published: Mapping[str, Any],
    *, network: str, sources: tuple[str, ...], mask: Mapping[str, Any] | None = None,
    others: Mapping[str, Composite | Rule] | None = None,
) -> Case:  # fmt: skip
    inputs = {key: np.asarray(a, dtype=float) for key, a in (x if isinstance(x, dict) else {"input": x}).items()}
    return Case(
        group="hand",
        name=name,
        comment=comment,
        network=Network(network, graph, {key: a.shape[1:] for key, a in inputs.items()}),
        inputs=inputs,
        start=logit(start) if isinstance(start, int) else exact(start),
        rules=rules,
        mask={node: exact(a) for node, a in (mask or {}).items()},
        sources=sources,
        published=published,
        others=others or {},
    )


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _julia()
    yield from _crp()
    yield from _captum()
    yield from _witness()
    yield from _on_paper()


# --- RelevancePropagation.jl ------------------------------------------------------------------------------------------

JULIA = Dense(weight=[[3.0, 5.0], [4.0, 6.0]], bias=[7.0, 8.0])
THIRDS = [[F(1, 3), F(2, 3)]]


def _julia() -> Iterator[Case]:
    source: dict[str, Any] = {"sources": ("julia",)}
    yield _case(
        "julia-dense", "z = (18, 25), s = (1/54, 2/75)", chain(JULIA), [[1, 2]], THIRDS, Zero(),
        {"input": [[F(17, 90), F(316, 675)]]}, network="julia-dense", **source,
    )  # fmt: skip
    scale = chain(Scale(weight=[-2.0, 2.0], bias=[1.0, -3.0]))
    for rule in (Zero(), Epsilon(epsilon=0.0), Norm(), Gamma(gamma=0.0)):
        yield _case(
            f"julia-scale/{type(rule).__name__}", "a scale by LRP-0 under four names", scale, [[1, 2]], THIRDS, rule,
            {"input": [[F(2, 3), F(8, 3)]]}, network="julia-scale", **source,
        )  # fmt: skip
    for ties in ("first", "shared"):
        pool = chain(MaxPool(kernel=2, stride=1, ties=ties))
        yield _case(
            f"julia-max-pool/{ties}", "no window has a tie, so it does not matter how ties are treated", pool,
            [[[[1, 2, 3], [10, 5, 6], [7, 8, 9]]]], [[[[F(1, 30), F(2, 30)], [F(3, 30), F(4, 30)]]]],
            Composite([]), {"input": [[[[0, 0, 0], [F(4, 30), 0, F(2, 30)], [0, 0, F(4, 30)]]]]},
            network=f"julia-max-pool-{ties}", **source,
        )  # fmt: skip
    residual = Graph([Node("f", JULIA, "input"), Node("sum", Add(), "f", "input")], outputs="sum")
    for start, expected in (([1, 0], [F(4, 19), F(8, 19)]), ([0, 1], [F(5, 27), F(14, 27)])):
        yield _case(
            f"julia-residual/{start.index(1)}", "x + f(x) = (19, 27), shared in proportion at the sum", residual,
            [[1, 2]], [start], Zero(), {"input": [expected]}, network="julia-residual",
            others={"zennit without a canonizer": Composite([(named("f"), Zero()), (named("sum"), Gradient())])},
            **source,
        )  # fmt: skip
    leaky = chain(Dense(weight=[[1.0, 2.0], [-4.0, 0.0]], bias=[-2.0, 3.0]), LeakyReLU(slope=0.25))
    for gamma in (0.25, 2.0, 42.0):
        second, part = -2 / (1 + 3 * F(gamma)), F(-7, 100)
        yield _case(
            f"julia-generalized-gamma/{gamma:g}",
            "z = (-7, 1): output 1 has only negative contributions, which grow alike; output 2 has -2 and a bias of 3",
            leaky, [[-1, 1]], [[part, 1]], GeneralizedGamma(gamma=gamma),
            {"input": [[part * F(1, 7) + second, part * F(4, 7)]]}, network="julia-leaky",
            others={"gamma as printed in the chapter": Gamma(gamma=gamma)}, **source,
        )  # fmt: skip


# --- zennit-crp -------------------------------------------------------------------------------------------------------

CRP = Graph(
    [
        Node("layer1", Dense(weight=[[1.0, 0.0], [2.0, 1.0]]), "input"),
        Node("layer2", Dense(weight=[[2.0, 0.0], [3.0, 0.0]]), "input"),
        Node("join", Concat(axis=1), "layer1", "layer2"),
        Node("layer3", Dense(weight=[[1.0], [4.0], [5.0], [0.0]]), "join"),
    ],
    outputs="layer3",
)


def _crp() -> Iterator[Case]:
    conditions: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("all", {}, {"input": [[-11, 21]], "layer1": [[1, 4]], "layer2": [[5, 0]]}),
        ("layer1 unit 0", {"layer1": [1, 0], "layer2": [0, 0]}, {"input": [[-1, 2]]}),
        ("layer1 unit 0, layer2 unit 0", {"layer1": [1, 0], "layer2": [1, 0]}, {"input": [[-11, 17]]}),
        ("layer1 unit 1", {"layer1": [0, 1], "layer2": [0, 0]}, {"input": [[0, 4]]}),
    ]
    for name, mask, published in conditions:
        yield _case(
            f"crp/{name}", f"two bias-free branches, joined: {name} of the concepts", CRP, [[-1, 1]], 0, Zero(),
            published, network="crp", sources=("zennit-crp",), mask=mask,
        )  # fmt: skip


# --- captum -----------------------------------------------------------------------------------------------------------


def _full(*shape: int, value: float = 1.0) -> Array:
    return np.full(shape, value)


def _simple(corner: float = 2.0) -> Graph:
    weight = _full(3, 3, value=2.0)
    weight[0, 0] = corner
    return chain(Dense(weight=weight), ReLU(), Dense(weight=_full(3, 1, value=3.0)), Dropout(p=0.01))


def _by_name(first: Rule, second: Rule) -> Composite:
    return Composite([(named("0.dense"), first), (named("2.dense"), second)])


def two_inputs() -> Graph:
    """captum's network of two inputs."""
    return Graph(
        [
            Node("linear0", Dense(weight=np.eye(3)), "input"),
            Node("sum", Add(), "linear0", "more"),
            Node("linear1", Dense(weight=_full(3, 4), bias=[-10.0, 1.0, 1.0, 1.0]), "sum"),
            Node("relu", ReLU(), "linear1"),
            Node("linear2", Dense(weight=_full(4, 2), bias=[-1.0, 1.0]), "relu"),
        ],
        outputs="linear2",
        inputs=("input", "more"),
    )


def _captum() -> Iterator[Case]:
    source: dict[str, Any] = {"sources": ("captum",)}
    basic = chain(
        Conv(weight=_full(2, 1, 3, 3), bias=[-50.0, -75.0]), ReLU(), Flatten(),
        Dense(weight=np.repeat([[1.0], [-1.0]], [5, 3], axis=0) * _full(8, 4), bias=_full(4, value=0.0)), ReLU(),
    )  # fmt: skip
    for target in (0, 3):
        yield _case(
            f"captum-basic/{target}",
            "the convolution's bias takes -150 in one channel and 150 in the other, so that captum's delta is 0",
            basic, np.arange(16.0).reshape(1, 1, 4, 4), target, Zero(),
            {"input": [[[[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]]]],
             "0.conv": [[[[0, 4], [31, 40]], [[0, 0], [-6, -15]]]]},
            network="captum-basic", **source,
        )  # fmt: skip
    yield _case(
        "captum-simple", "two dense layers without bias", _simple(), [[1, 2, 3]], 0, Zero(),
        {"input": [[18, 36, 54]], "0.dense": [[36, 36, 36]]}, network="captum-simple", **source,
    )  # fmt: skip
    yield _case(
        "captum-simple-batch", "three samples", _simple(), [[1, 2, 3], [3, 6, 9], [2, 4, 6]], 0, Zero(),
        {"input": [[18, 36, 54], [54, 108, 162], [36, 72, 108]]}, network="captum-simple", **source,
    )  # fmt: skip
    rules: tuple[tuple[str, Composite, list[Any]], ...] = (
        ("gamma", _by_name(Gamma(gamma=1.0), Gamma(gamma=0.25)), [F(28, 3), F(104, 3), 52]),
        ("alpha-beta", _by_name(AlphaBeta(alpha=1.0), AlphaBeta(alpha=1.0)), [12, F(168, 5), F(252, 5)]),
        ("weights clamped", _by_name(ZPlus(bias="none", split="weight"), ZPlus()), [12, F(168, 5), F(252, 5)]),
    )
    for name, composite, expected in rules:
        yield _case(
            f"captum-rules/{name}", "one negative weight", _simple(-2.0), [[1, 2, 3]], 0, composite,
            {"input": [expected], "0.dense": [[24, 36, 36]]}, network="captum-corner", **source,
        )  # fmt: skip
    yield _case(
        "captum-identity", "what captum's IdentityRule hands on is the relevance of the first layer", _simple(-2.0),
        [[1, 2, 3]], 0, Zero(), {"0.dense": [[24, 36, 36]]}, network="captum-corner", **source,
    )  # fmt: skip
    skip = Graph(
        [Node("linear", Dense(weight=_full(2, 2, value=5.0)), "input"), Node("add", Add(), "linear", "input")],
        outputs="add",
    )
    yield _case(
        "captum-skip", "a skip connection, shared in proportion", skip, [[2, 3]], 1, Zero(),
        {"input": [[10, 18]], "linear": [[0, 25]]}, network="captum-skip", **source,
    )  # fmt: skip
    for ties, expected in (("first", [22, 0]), ("shared", [11, 11])):
        net = chain(Dense(weight=_full(2, 2, value=2.0)), MaxPool(kernel=2, ties=ties))  # type: ignore[arg-type]
        yield _case(
            f"captum-max-pool-1d/{ties}", "the pool sees an exact tie of 22 and 22", net, [[[1, 2], [5, 6]]],
            [[[0], [22]]], Zero(), {"input": [[[0, 0], [10, 12]]], "0.dense": [[[0, 0], expected]]},
            network=f"captum-max-pool-1d-{ties}", **source,
        )  # fmt: skip
    pool = chain(MaxPool(kernel=2), Flatten())
    pools: tuple[tuple[str, Any, Any], ...] = (
        ("2d", [[[[1, 2], [5, 6]]]], [[[[0, 0], [0, 6]]]]),
        ("3d", [[[[[1, 2], [5, 6]], [[3, 4], [7, 8]]]]], [[[[[0, 0], [0, 0]], [[0, 0], [0, 8]]]]]),
    )
    for name, x, winner in pools:
        for rule in (None, Zero(), Flat(), WSquare()):
            composite = Composite([] if rule is None else [(named("0.maxpool"), rule)])
            yield _case(
                f"captum-max-pool-{name}/{'Pass' if rule is None else type(rule).__name__}",
                "only the winner gets relevance, by whatever rule", pool, x, 0, composite, {"input": winner},
                network=f"captum-max-pool-{name}", **source,
            )  # fmt: skip
    x = {"input": [[1, 2, 3]], "more": [[3, 6, 9]]}
    proportional = {"input": [[4, 8, 12]], "more": [[12, 24, 36]], "sum": [[16, 32, 48]]}
    by_node = [(named("linear*"), Zero()), (named("sum"), Gradient())]
    yield _case(
        "captum-multi-inputs",
        "captum copies the sum's (16, 32, 48) to both inputs; by their shares they get a fourth and three fourths",
        two_inputs(), x, 0, Zero(), proportional, network="captum-multi-inputs",
        others={"captum": Composite(by_node)}, **source,
    )  # fmt: skip
    plain = chain(*(two_inputs()[name].layer for name in ("linear0", "linear1", "relu", "linear2")))
    yield _case(
        "captum-multi", "the biases take 2 of 20", plain, [[1, 2, 3]], 0, Zero(), {"input": [[3, 6, 9]]},
        network="captum-multi", **source,
    )  # fmt: skip


# --- witness A: the neuron on which most frameworks differ ------------------------------------------------------------

WITNESS: Mapping[str, tuple[Rule, list[Any]]] = {
    "LRP-0": (Zero(), [1, -1]),
    "alpha 1, beta 0": (AlphaBeta(alpha=1.0), [-1, 0]),
    "z+": (ZPlus(), [-1, 0]),
    "alpha 2, beta 1": (AlphaBeta(alpha=2.0), [-2, F(1, 2)]),
    "w2": (WSquare(), [F(-1, 2), F(-1, 2)]),
    "flat": (Flat(), [F(-1, 2), F(-1, 2)]),
    "z-box": (ZBox(low=-1.0, high=1.0), [-1, 0]),
    "gamma by its formula": (Gamma(gamma=0.25), [F(5, 3), F(-4, 3)]),
    "zennit's Gamma": (GeneralizedGamma(gamma=0.25), [F(2, 3), F(-5, 6)]),
    "zennit's WSquare": (WSquare(bias="squared"), [F(-1, 3), F(-1, 3)]),
    "zennit's Epsilon(1)": (Epsilon(epsilon=1.0), [F(1, 2), F(-1, 2)]),
    "zennit's Epsilon(1/4) without bias": (Epsilon(epsilon=0.25, bias="none"), [-4, 4]),
    "captum's Alpha1_Beta0 without bias": (ZPlus(bias="none", split="weight"), [-1, 0]),
    "captum's Gamma": (Gamma(gamma=0.25, bias="raw"), [F(5, 3), F(-4, 3)]),
    "iNNvestigate's ZPlus": (ZPlus(bias="none"), [-1, 0]),
    "the chapter's unsigned 1/2": (Epsilon(epsilon=0.5, stabilizer=Unsigned()), [2, -2]),
    "its pole at z = -epsilon": (Epsilon(epsilon=1.0, stabilizer=Unsigned()), [0, 0]),
    "its rms, which is |z| here": (Epsilon(epsilon=0.25, stabilizer=Relative(over="batch")), [F(4, 5), F(-4, 5)]),
    "zennit's clip": (Epsilon(epsilon=4.0, stabilizer=Clipped()), [F(1, 4), F(-1, 4)]),
    "LRP_for_LSTM, bias_factor 1": (Zero(bias="spread"), [F(1, 2), F(-3, 2)]),
    "LRP_for_LSTM, bias_factor 1, epsilon 1": (Epsilon(epsilon=1.0, bias="spread"), [0, -1]),
    "no bias, no stabilizer: a pole": (Zero(bias="none"), [0, 0]),
    "the pole behind captum's -1e9": (ZPlus(bias="raw", split="weight"), [0, 0]),
    "Binder's filter at zero": (
        Epsilon(epsilon=3.0, bias="none", stabilizer=SignedOrZero(at_zero=0.125)),
        [-8, 8],
    ),
    "captum's Alpha1_Beta0": (ZPlus(epsilon=NANO, bias="raw", split="weight"), [-(10**9), 0]),
    "iNNvestigate's alpha 1, beta 0": (
        AlphaBeta(alpha=1.0, epsilon=TENTH, stabilizer=AtZero(), bias="raw"),
        [-(10**7), 0],
    ),
    "iNNvestigate's alpha 2, beta 1": (
        AlphaBeta(alpha=2.0, epsilon=TENTH, stabilizer=AtZero(), bias="raw"),
        [-2 * 10**7, F(1, 2)],
    ),
}
SAME_NAME: Mapping[str, tuple[str, ...]] = {
    "alpha 1, beta 0": ("captum's Alpha1_Beta0", "iNNvestigate's alpha 1, beta 0"),
    "z+": ("captum's Alpha1_Beta0",),
    "alpha 2, beta 1": ("iNNvestigate's alpha 2, beta 1",),
    "w2": ("zennit's WSquare",),
    "gamma by its formula": ("zennit's Gamma",),
    "zennit's Gamma": ("captum's Gamma",),
}
"""Whose rules of the same name give something else."""


def _witness() -> Iterator[Case]:
    net = chain(Dense(weight=[[1.0], [-1.0]], bias=[-1.0]))
    for name, (rule, expected) in WITNESS.items():
        yield _case(
            f"witness-a/{name}", "w = (1, -1), b = -1, a = (1, 1): z = -1, and R = -1", net, [[1, 1]], [[-1]], rule,
            {"input": [expected]}, network="witness-a", sources=("witness", "by hand"),
            others={other: WITNESS[other][0] for other in SAME_NAME.get(name, ())},
        )  # fmt: skip


# --- more that fits on paper ------------------------------------------------------------------------------------------


def _on_paper() -> Iterator[Case]:
    source: dict[str, Any] = {"sources": ("by hand",)}
    yield _case(
        "cancellation", "w = (1, -1) at a = (1, 1): z = 0, and a message of a million each way",
        chain(Dense(weight=[[1.0], [-1.0]])), [[1, 1]], [[1]], Epsilon(epsilon=MILLIONTH),
        {"input": [[10**6, -(10**6)]]}, network="cancellation", **source,
    )  # fmt: skip
    yield _case(
        "cancellation without a stabilizer", "z = 0: the messages are 0, and the relevance is unclaimed",
        chain(Dense(weight=[[1.0], [-1.0]])), [[1, 1]], [[1]], Zero(), {"input": [[0, 0]]}, network="cancellation",
        **source,
    )  # fmt: skip
    yield _case(
        "empty part", "w = (1, 3), a = (1, 1), alpha = 2: nothing is negative, so both inputs together get 2 R",
        chain(Dense(weight=[[1.0], [3.0]])), [[1, 1]], 0, AlphaBeta(alpha=2.0), {"input": [[2, 6]]},
        network="empty-part", **source,
    )  # fmt: skip
    yield _case(
        "flat at the border", "three taps, two cells, a cell of padding each side: both outputs read both cells",
        chain(Conv(weight=[[[0.0, 1.0, 0.0]]], bias=[5.0], padding=1)), [[[0, 0]]], [[[2, 4]]], Flat(),
        {"input": [[[3, 3]]]}, network="border", **source,
    )  # fmt: skip
    wide = chain(Dense(weight=[[2.0], [-3.0], [1.0]], bias=[4.0]))
    signed: Mapping[str, tuple[Rule, int, list[int]]] = {
        "LRP-0": (Zero(), 7, [-2, 3, 2]),
        "gamma": (Gamma(gamma=1.0), 11, [-4, 3, 4]),
        "gamma, bias raw": (Gamma(gamma=1.0, bias="raw"), 7, [-4, 3, 4]),
        "generalized gamma": (GeneralizedGamma(gamma=1.0), 16, [-2, 6, 4]),
        "z+": (ZPlus(), 9, [0, 3, 2]),
        "z+ without bias": (ZPlus(bias="none"), 5, [0, 3, 2]),
        "z+, inputs not split": (ZPlus(split="weight"), 4, [-2, 0, 2]),
        "alpha 2, beta 1": (AlphaBeta(alpha=2.0), 9, [-9, 6, 4]),
        "w2": (WSquare(), 14, [4, 9, 1]),
        "w2 with the bias": (WSquare(bias="squared"), 30, [4, 9, 1]),
        "flat": (Flat(), 3, [1, 1, 1]),
        "z-box": (ZBox(low=-2.0, high=3.0), 18, [2, 12, 4]),
    }
    for name, (rule, R, expected) in signed.items():
        yield _case(
            f"signed-inputs/{name}", "contributions (-2, 3, 2) and a bias of 4; R is the rule's denominator", wide,
            [[-1, -1, 2]], [[R]], rule, {"input": [expected]}, network="signed-inputs", **source,
        )  # fmt: skip
