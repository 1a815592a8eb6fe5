"""Compare lrp_ref with the golden files of other frameworks, wherever you have them.

    python scripts/golden.py innvestigate DIR   # tests/references/layer of github.com/albermax/innvestigate
    python scripts/golden.py julia DIR          # test/references of github.com/Julia-XAI/RelevancePropagation.jl

Prints how far lrp_ref, in float64, is from each relevance, relative to the greatest, and for comparison how far its own
float32 is from its float64: theirs was computed in float32. Exits with 1 if one is further off than 1e-5 and than 16
times that. Needs h5py (dependency group "golden"), and the folder tests beside this one.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref.text import table

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from case_rules import Known, Network, NoSuchValue, innvestigate_network, julia_network  # noqa: E402

SEED = 123
FLUX_TIES = float(np.sqrt(np.finfo(np.float32).eps))
"""The relative difference up to which Flux calls float32 numbers equal, in its max pool too."""

Reference = tuple[str, Callable[[], Network]]
"""A name, and what makes the network, which may raise NoSuchValue."""


# --- iNNvestigate ---------------------------------------------------------------------------------------------------


def innvestigate(folder: Path) -> Iterator[Reference]:
    """One file for each analyzer, one group in it for each layer: weights, output, attribution; all of them NHWC."""
    import h5py

    for path in sorted(folder.glob("*.hdf5")):
        with h5py.File(path) as file:
            analyzer, x = str(file.attrs.get("analyzer_name", path.stem)), file["input"][()]
            for group in sorted(name for name in file if isinstance(file[name], h5py.Group)):
                weights = file[group].get("weights", {})
                parameters = [weights[name][()] for name in sorted(weights)]
                y, R = file[group]["output"][()], file[group]["attribution"][()]
                yield (
                    f"{path.stem}/{group}",
                    lambda a=analyzer, g=group, x=x, p=parameters, y=y, R=R: innvestigate_network(a, g, x, p, y, R),
                )


# --- RelevancePropagation.jl ----------------------------------------------------------------------------------------


def julia(folder: Path) -> Iterator[Reference]:
    """Relevances alone. All else is drawn from a generator that starts anew with 123 for every array.

    Its normal numbers are what LRP-0 hands through a layer that does nothing, so they stand in a file; the uniform ones
    of the network are made here. Axes are in the order of numpy: HDF5 reverses Julia's.
    """
    rules = folder / "rules"
    given = [path for name in ("Dropout", "flatten") if (path := rules / "ZeroRule" / f"{name}.jld2").exists()]
    if not given:
        sys.exit(f"{rules / 'ZeroRule' / 'Dropout.jld2'} is missing: inputs and weights of all others are read from it")
    normal = dataset(given[0], "R").ravel()
    for path in sorted(rules.glob("*/*.jld2")):
        yield (
            f"{path.parent.name}/{path.stem}",
            lambda path=path: julia_network(path.parent.name, path.stem, drawn(path.stem, normal, dataset(path, "R"))),
        )
    for path in sorted((folder / "cnn").glob("*.jld2")):
        yield f"cnn/{path.stem}", lambda path=path: cnn(path.stem, dataset(path, "expl"))


def dataset(path: Path, name: str) -> Any:
    """The array of that name in a file of JLD2, which is HDF5."""
    import h5py

    with h5py.File(path) as file:
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


def cnn(name: str, expected: Any) -> Network:
    """The network of test_cnn.jl, in which relevance 1 starts at the greatest or at the first output."""
    method, _, selection = name.rpartition("_")

    def conv(inputs: int, outputs: int) -> L.Layer:
        return L.Conv(weight=glorot(outputs, inputs, 3, 3)[:, :, ::-1, ::-1].astype(float), padding=1)

    def dense(inputs: int, outputs: int) -> L.Layer:
        return L.Dense(weight=glorot(inputs, outputs).astype(float))

    pool = L.MaxPool(kernel=2, ties=L.Near(rtol=FLUX_TIES))
    graph = lrp.chain(
        *(conv(3, 8), L.ReLU(), conv(8, 8), L.ReLU(), pool, conv(8, 16), L.ReLU(), conv(16, 16), L.ReLU(), pool),
        *(L.Flatten(), dense(1024, 512), L.ReLU(), L.Dropout(), dense(512, 100)),
    )
    match method:
        case "LRPZero" | "LRPZero_COC":
            rules = {"Conv": "ZeroRule", "Dense": "ZeroRule", "MaxPool": "ZeroRule"}
        case "LRPEpsilonAlpha2Beta1Flat":
            rules = {"Conv": "AlphaBetaRule", "Dense": "EpsilonRule", "MaxPool": "ZeroRule"}
        case _:
            raise NoSuchValue(f"the concepts of {method} are not chosen here")
    asked = {node.name: {"rule": rules.get(node.kind, "none"), "module": node.kind} for node in graph.nodes}
    if method.endswith("Flat"):
        asked[graph.nodes[0].name]["rule"] = "FlatRule"
    x = uniform(1, 3, 32, 32).astype(float)
    logits = graph.forward(x)[graph.outputs[0]]
    target = lrp.one(0 if selection == "ns1" else int(logits.argmax()))
    return Network("RelevancePropagation.jl", graph, asked, x, target, {"expl": (graph.inputs[0], expected)})


# --- the comparison -------------------------------------------------------------------------------------------------

KINDS = {"innvestigate": innvestigate, "julia": julia}


def off(ours: Any, theirs: Any) -> float:
    """The greatest difference, relative to their greatest value."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(abs(ours - theirs).max() / (abs(theirs).max() or 1.0))


def compare(network: Network, variants: Sequence[Any]) -> tuple[str, float, float]:
    """Our rule, how far we are off, and how far our float32 is off our float64."""
    ((place, theirs),) = network.expected.values()
    if network.gradient is not None:
        ours, ours32 = (
            network.gradient(network.graph, network.x.astype(dtype), network.target) for dtype in ("float64", "float32")
        )
        return network.gradient.__name__, off(ours, theirs), off(ours32, ours)
    e = network.explain(variants)
    single = network.explain(variants, x=network.x.astype("float32"))
    rule = next((repr(rule) for rule in e.rules.values() if not isinstance(rule, lrp.Pass)), "Pass()")
    return rule, off(e.at(place), theirs), off(single.at(place), e.at(place))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        import h5py  # noqa: F401
    except ImportError:
        sys.exit('needs h5py: pip install --group golden, or pip install "h5py>=3.12"')
    variants = Known.read(TESTS / "known_differences.toml").variants
    rows, left, wrong = [], [], 0
    for name, make in KINDS[options.kind](options.folder):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "ZBox: .* input values lie beyond")
                rule, deviation, rounding = compare(make(), variants)
        except NoSuchValue as error:
            left.append(f"left out: {name}: {error}")
            continue
        agrees = deviation <= max(1e-5, 16 * rounding)
        wrong += not agrees
        rows.append((name, rule, f"{deviation:.1e}", f"{rounding:.1e}", "agrees" if agrees else "DIFFERS"))
    if not rows:
        sys.exit(f"{options.folder}: no golden files of {options.kind} in it")
    print(table(("reference", "here", "off by", "float32", ""), rows))
    print(*left, f"{len(rows)} compared, {wrong} differ, {len(left)} left out", sep="\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
