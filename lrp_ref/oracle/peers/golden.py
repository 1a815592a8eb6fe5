"""The golden files of iNNvestigate and RelevancePropagation.jl, from wherever they are.

Both were computed in float32. Nothing of either framework is needed: files of HDF5 are read by h5py, and what the
second leaves out is drawn again from its generator.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...arrays import Array
from ...errors import LrpError
from ...explain import explain
from ...graph import Graph, chain
from ...layers import (
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    Near,
    ReLU,
    Scale,
    Transpose,
)
from ...propagate import Rule
from ...rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    GeneralizedGamma,
    Norm,
    Pass,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
)
from ...targets import as_target, fixed, logit, one
from ...values import value
from ..conform import Cannot
from ..settings import Setting
from ..vectors.read import Case
from ..vectors.spelled import spelled_rule

Asked = Mapping[str, Any]
"""A rule as the framework was asked for it: its name there ("none" for none), and the kind of layer."""
Ties = Literal["first", "shared"] | Near

SEED = 123
FLUX_TIES = Near(rtol=float(np.sqrt(np.finfo(np.float32).eps)))
"""Flux calls float32 numbers equal up to this relative difference, in its max pool too."""
TO_NCHW, TO_NHWC = Transpose(axes=(0, 3, 1, 2)), Transpose(axes=(0, 2, 3, 1))


@value
class Golden:
    """One explanation that is kept in a file."""

    peer: str
    graph: Graph
    asked: Mapping[str, Asked]
    """By node, for every node."""
    x: Any
    target: Any
    R_in: Any
    """What the framework computed."""
    y: Any = None
    """Its own forward pass."""
    place: str = "R_in"
    """What it calls the array."""

    @property
    def rules(self) -> dict[str, Rule]:
        """By node, of the same names and parameters; raises Cannot."""
        nominal = innvestigate_rule if self.peer == "iNNvestigate" else julia_rule
        return {name: nominal(asked) for name, asked in self.asked.items()}


Reference = tuple[str, Callable[[], Golden]]
"""A name, and what reads it, which may raise Cannot."""


# --- their rules ------------------------------------------------------------------------------------------------------

INNVESTIGATE: dict[str, Rule] = {
    "LRPZ": Zero(),
    "LRPZIgnoreBias": Zero(bias="none"),
    "LRPEpsilon": Epsilon(epsilon=1e-7),
    "LRPEpsilonIgnoreBias": Epsilon(epsilon=1e-7, bias="none"),
    "LRPWSquare": WSquare(),
    "LRPFlat": Flat(),
    "LRPAlpha1Beta0": AlphaBeta(alpha=1),
    "LRPAlpha1Beta0IgnoreBias": AlphaBeta(alpha=1, bias="none"),
    "LRPAlpha2Beta1": AlphaBeta(alpha=2),
    "LRPAlpha2Beta1IgnoreBias": AlphaBeta(alpha=2, bias="none"),
    "LRPZPlus": ZPlus(bias="none"),
    "LRPZPlusFast": ZPlus(split="weight", bias="none"),
    "LRPZ_Flat_input_layer_rule": Flat(),
    "LRPZ_boxed_input_layer_rule": ZBox(low=-10, high=10),
    "DeepTaylor": ZPlus(bias="none"),
    "BoundedDeepTaylor": ZBox(low=-128, high=128),
    "LRPSequentialPresetAFlat": Flat(),
    "LRPSequentialPresetBFlat": Flat(),
}
INNVESTIGATE_BY_LAYER: dict[tuple[str, str], Rule] = {
    ("LRPSequentialPresetA", "Dense"): Epsilon(epsilon=0.1),
    ("LRPSequentialPresetA", "Conv2D"): AlphaBeta(alpha=1),
    ("LRPSequentialPresetB", "Dense"): Epsilon(epsilon=0.1),
    ("LRPSequentialPresetB", "Conv2D"): AlphaBeta(alpha=2),
}


def innvestigate_rule(asked: Asked) -> Rule:
    """iNNvestigate's analyzers on a first layer; pools take its z rule whatever is asked for, max pools the winner."""
    name, kind = asked["rule"], asked["module"]
    if name == "none":
        return Pass()
    if name not in INNVESTIGATE and all(name != analyzer for analyzer, _ in INNVESTIGATE_BY_LAYER):
        raise Cannot(f"{name} is no analyzer by LRP, or not known")
    match kind:
        case "MaxPooling2D":
            return Pass()
        case "AveragePooling2D":
            return Norm()
    return INNVESTIGATE_BY_LAYER.get((name, kind)) or INNVESTIGATE[name]


def julia_rule(asked: Asked) -> Rule:
    """RelevancePropagation.jl's rules; its layers that only reshape, and dropout, hand relevance on."""
    if asked["module"] in ("Dropout", "flatten"):
        return Pass()
    match asked["rule"]:
        case "none":
            return Pass()
        case "ZeroRule":
            return Zero(epsilon=1e-9)
        case "EpsilonRule":
            return Epsilon(epsilon=1e-6)
        case "GammaRule":
            return Gamma(gamma=0.25, epsilon=1e-9)
        case "GeneralizedGammaRule":
            return GeneralizedGamma(gamma=0.25, epsilon=1e-9)
        case "AlphaBetaRule":
            return AlphaBeta(alpha=2, epsilon=1e-9)
        case "ZBoxRule":
            return ZBox(low=0, high=1, epsilon=1e-9)
        case "ZPlusRule":
            return ZPlus(epsilon=1e-9)
        case "WSquareRule":
            return WSquare(epsilon=1e-9)
        case "FlatRule":
            return Flat(epsilon=1e-9)
    raise Cannot(f"RelevancePropagation.jl: {asked}")


# --- iNNvestigate -----------------------------------------------------------------------------------------------------


def innvestigate(folder: Path) -> Iterator[Reference]:
    """tests/references/layer of github.com/albermax/innvestigate.

    One file for each analyzer, one group in it for each layer: weights, output, attribution; all of them NHWC. The same
    arrays may stand in ANALYZER/data.npz.
    """
    for path in sorted(folder.glob("*.hdf5")):
        with hdf5().File(path) as file:
            analyzer, x = str(file.attrs.get("analyzer_name", path.stem)), file["input"][()]
            for group in sorted(name for name in file if isinstance(file[name], hdf5().Group)):
                weights = file[group].get("weights", {})
                parameters = [weights[name][()] for name in sorted(weights)]
                y, R = file[group]["output"][()], file[group]["attribution"][()]
                yield (
                    f"{path.stem}/{group}",
                    functools.partial(innvestigate_network, analyzer, group, x, parameters, y, R),
                )
    for path in sorted(folder.glob("*/data.npz")):
        data = _arrays(path)
        for group in sorted({name.partition("/")[0] for name in data if name.endswith("/attribution")}):
            parameters = [data[name] for name in sorted(data) if name.startswith(f"{group}/weight")]
            y, R = data[f"{group}/output"], data[f"{group}/attribution"]
            yield (
                f"{path.parent.name}/{group}",
                functools.partial(innvestigate_network, path.parent.name, group, data["input"], parameters, y, R),
            )


def innvestigate_network(analyzer: str, group: str, x: Any, parameters: Sequence[Any], y: Any, R_in: Any) -> Golden:
    """A reference of iNNvestigate: its one layer, NHWC, and Flatten."""
    kind = group.removesuffix("_relu")
    layers: list[Layer]
    match kind:
        case "Dense":
            layers = [Dense(weight=parameters[0], bias=parameters[1])]
        case "Conv2D":
            conv = Conv(weight=parameters[0].transpose(3, 2, 0, 1), bias=parameters[1])
            layers = [TO_NCHW, conv, TO_NHWC]
        case "AveragePooling2D":
            layers = [TO_NCHW, AvgPool(kernel=2), TO_NHWC]
        case "MaxPooling2D":
            layers = [TO_NCHW, MaxPool(kernel=2), TO_NHWC]
        case _:
            raise Cannot(f"iNNvestigate's {group}")
    graph = chain(*layers, *([ReLU()] if group != kind else []), Flatten())
    ours = {type(layer).__name__ for layer in layers} - {"Transpose"}
    asked = {
        node.name: {
            "rule": analyzer if node.kind in ours else "none",
            "module": kind if node.kind in ours else node.kind,
        }
        for node in graph.nodes
    }
    return Golden("iNNvestigate", graph, asked, x, logit(y.argmax(axis=1)), R_in, y, f"{group}/attribution")


# --- RelevancePropagation.jl ------------------------------------------------------------------------------------------


def julia(folder: Path, ties: Ties = "first") -> Iterator[Reference]:
    """test/references of github.com/Julia-XAI/RelevancePropagation.jl; or RULE_LAYER/data.npz with case.json beside it.

    Relevances alone. All else is drawn from a generator that starts anew with 123 for every array: its normal numbers
    are what LRP-0 hands through a layer that does nothing, so they stand in a file; the uniform ones of the network are
    made here. Axes are in the order of numpy: HDF5 reverses Julia's. `ties` are those of the network's max pools.
    """
    for path in sorted(folder.glob("*/data.npz")):
        about = json.loads((path.parent / "case.json").read_text(encoding="utf-8"))
        yield f"{about['rule']}/{about['layer']}", functools.partial(_julia_npz, path, about)
    rules = folder / "rules"
    files = sorted(rules.glob("*/*.jld2"))
    networks = sorted((folder / "cnn").glob("*.jld2"))
    if not files and not networks:
        return
    given = [path for name in ("Dropout", "flatten") if (path := rules / "ZeroRule" / f"{name}.jld2").exists()]
    if not given:
        path = rules / "ZeroRule" / "Dropout.jld2"
        raise LrpError(f"{path} is missing: inputs and weights of all others are read from it")
    normal = dataset(given[0], "R").ravel()
    for path in files:
        yield f"{path.parent.name}/{path.stem}", functools.partial(_julia_jld2, path, normal)
    for path in networks:
        yield f"cnn/{path.stem}", functools.partial(_julia_cnn, path, ties)


def _julia_npz(path: Path, about: Mapping[str, Any]) -> Golden:
    return julia_network(about["rule"], about["layer"], _arrays(path))


def _julia_jld2(path: Path, normal: Any) -> Golden:
    return julia_network(path.parent.name, path.stem, drawn(path.stem, normal, dataset(path, "R")))


def _julia_cnn(path: Path, ties: Ties) -> Golden:
    return cnn(path.stem, dataset(path, "expl"), ties)


def julia_network(rule: str, layer: str, data: Mapping[str, Any]) -> Golden:
    """One layer, and a ReLU if it has one: its output is the relevance, denominators are those before the ReLU."""
    kind, _, activation = layer.partition("_")
    made: Layer
    match kind:
        case "Dense":
            made = Dense(weight=data["weight"].T, bias=data.get("bias"))
        case "Conv":
            made = Conv(weight=data["weight"], bias=data["bias"])
        case "Scale":
            made = Scale(weight=data["scale"], bias=data["bias"])
        case "MaxPool":
            made = MaxPool(kernel=3)
        case "MeanPool":
            made = AvgPool(kernel=3)
        case "GlobalMaxPool":
            made = GlobalMaxPool()
        case "GlobalMeanPool":
            made = GlobalAvgPool()
        case "Dropout":
            made = Dropout()
        case "flatten":
            made = Flatten()
        case _:
            raise Cannot(f"RelevancePropagation.jl's {layer}")
    graph = chain(made, *([ReLU()] if activation == "relu" else []))
    asked = {node.name: {"rule": "none", "module": node.kind} for node in graph.nodes}
    asked[graph.nodes[0].name] = {"rule": rule, "module": kind}
    y = data["R_out"] if "R_out" in data else graph.forward(data["x"])[graph.outputs[0]]
    return Golden("RelevancePropagation.jl", graph, asked, data["x"], y, data["R_in"], y)


def dataset(path: Path, name: str) -> Any:
    """The array of that name in a file of JLD2, which is HDF5."""
    with hdf5().File(path) as file:
        return file[name][()]


def drawn(layer: str, normal: Any, R_in: Any) -> dict[str, Any]:
    """Input and parameters of a layer, all of them the first of the same normal numbers."""
    kind, normal = layer.partition("_")[0], normal.astype(float)
    flat = {"x": normal[:8].reshape(2, 4), "R_in": R_in}
    match layer:
        case "Dense_relu":
            return flat | {"weight": normal[:12].reshape(4, 3).T, "bias": normal[:3]}
        case "Dense_identity":
            return flat | {"weight": np.eye(3, 4)}
        case "Scale_relu":
            return flat | {"scale": normal[:4], "bias": normal[:4]}
        case "Scale_identity":
            return flat | {"scale": np.ones(4), "bias": np.zeros(4)}
    images = {"x": normal[:216].reshape(2, 3, 6, 6), "R_in": R_in}
    if kind == "Conv":
        flipped = normal[:108].reshape(4, 3, 3, 3)[:, :, ::-1, ::-1]
        return images | {"weight": flipped, "bias": normal[:4]}
    return images


def words(seed: int) -> Iterator[int]:
    """The 64-bit words of Julia's StableRNG, a generator of Lehmer."""
    state = 2 * seed + 1
    while True:
        state = state * 0x45A31EFC5A35D971261FD0407A968ADD % 2**128
        yield state >> 64


@functools.cache
def uniform(*shape: int) -> Any:
    """Its first float32 numbers in [0, 1), the last of Julia's axes first."""
    first = [word & 0x7FFFFF for word in itertools.islice(words(SEED), math.prod(shape))]
    return (np.array(first, dtype=np.float32) / np.float32(2**23)).reshape(shape)


def glorot(*shape: int) -> Any:
    """Flux's weights: (outputs, inputs, height, width) not yet flipped, or (inputs, outputs)."""
    fan = math.prod(shape[2:]) * (shape[0] + shape[1])
    return (uniform(*shape) - np.float32(0.5)) * np.sqrt(np.float32(24 / fan), dtype=np.float32)


def cnn(name: str, expected: Any, ties: Ties = "first") -> Golden:
    """The network of test_cnn.jl, in which relevance 1 starts at the greatest or at the first output."""
    method, _, selection = name.rpartition("_")

    def conv(inputs: int, outputs: int) -> Layer:
        return Conv(weight=glorot(outputs, inputs, 3, 3)[:, :, ::-1, ::-1].astype(float), padding=1)

    def dense(inputs: int, outputs: int) -> Layer:
        return Dense(weight=glorot(inputs, outputs).astype(float))

    pool = MaxPool(kernel=2, ties=ties)
    graph = chain(
        *(conv(3, 8), ReLU(), conv(8, 8), ReLU(), pool, conv(8, 16), ReLU(), conv(16, 16), ReLU(), pool),
        *(Flatten(), dense(1024, 512), ReLU(), Dropout(), dense(512, 100)),
    )
    match method:
        case "LRPZero" | "LRPZero_COC":
            rules = {"Conv": "ZeroRule", "Dense": "ZeroRule", "MaxPool": "ZeroRule"}
        case "LRPEpsilonAlpha2Beta1Flat":
            rules = {"Conv": "AlphaBetaRule", "Dense": "EpsilonRule", "MaxPool": "ZeroRule"}
        case _:
            raise Cannot(f"the concepts of {method} are not chosen here")
    asked = {node.name: {"rule": rules.get(node.kind, "none"), "module": node.kind} for node in graph.nodes}
    if method.endswith("Flat"):
        asked[graph.nodes[0].name]["rule"] = "FlatRule"
    x = uniform(1, 3, 32, 32).astype(float)
    logits = graph.forward(x)[graph.outputs[0]]
    target = one(0 if selection == "ns1" else int(logits.argmax()))
    return Golden("RelevancePropagation.jl", graph, asked, x, target, expected, place="expl")


# --- files, and cases -------------------------------------------------------------------------------------------------


def hdf5() -> Any:
    """h5py, or an error that names the dependency group."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError('needs h5py: pip install --group golden, or pip install "h5py>=3.13"') from error
    return h5py


def _arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def case(name: str, golden: Golden) -> Case:
    """A reference as a case, whose expected relevance is our own in float64; raises Cannot."""
    rules = golden.rules
    (source,), (output,) = golden.graph.inputs, golden.graph.outputs
    x = np.asarray(golden.x, dtype=float)
    e = explain(golden.graph, x, Setting(golden.graph, x, rules).composite, golden.target, engine="plain")
    start = fixed(as_target(golden.target), e.output).start(e.output)
    said = {node: spelled_rule(rule) for node, rule in rules.items()}
    return Case(name, golden.graph, {source: x}, rules, said, {output: start}, dict(e.relevances))


def held(references: Iterator[Reference]) -> tuple[list[Case], Callable[[Case], Array], dict[str, str]]:
    """The cases, what answers them from the files, in float32, and why others are left out."""
    cases, answers, left = [], {}, {}
    for name, read in references:
        try:
            golden = read()
            cases.append(case(name, golden))
        except Cannot as reason:
            left[name] = str(reason)
            continue
        answers[name] = np.asarray(golden.R_in, dtype=np.float32)
    return cases, lambda case: answers[case.id], left
