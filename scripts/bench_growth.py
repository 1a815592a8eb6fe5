"""How the fast engine's time grows: chains of 3x3 convolutions and ReLUs, one size varied at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bench_common as common
import numpy as np

import lrp_ref as lrp
from lrp_ref import layers, presets

BASE = {"pixels": 56**2, "channels": 32, "batch": 1, "depth": 4}
"""What a size is while another is varied."""
SIZES: Mapping[str, tuple[int, ...]] = {
    "pixels": tuple(side**2 for side in (28, 56, 112, 224)),
    "channels": (16, 32, 64, 128, 256),
    "batch": (1, 2, 4, 8, 16),
    "depth": (2, 4, 8, 16, 32),
}
QUICK: Mapping[str, tuple[int, ...]] = {name: sizes[:3] for name, sizes in SIZES.items()}
EXPECTED = {"pixels": 1, "channels": 2, "batch": 1, "depth": 1}
"""The exponent of the convolutions' operations."""


def chain(channels: int, depth: int, seed: int = 0) -> lrp.Graph:
    """`depth` convolutions that keep the number of channels, each with a ReLU; at the end the mean of each channel."""
    rng = np.random.default_rng(seed)
    parts: list[layers.Layer] = []
    for _ in range(depth):
        weight = rng.standard_normal((channels, channels, 3, 3), dtype=np.float32) * (2 / (9 * channels)) ** 0.5
        bias = rng.standard_normal(channels, dtype=np.float32) * np.float32(0.05)
        parts += [layers.Conv(weight=weight.astype(np.float32), bias=bias, padding=1), layers.ReLU()]
    return lrp.chain(*parts, layers.GlobalAvgPool(), layers.Flatten())


def call_of(sizes: Mapping[str, int]) -> common.Call:
    """One explanation under epsilon_plus_flat, prepared beforehand, of a chain with these sizes."""
    graph, side = chain(sizes["channels"], sizes["depth"]), round(sizes["pixels"] ** 0.5)
    x = np.random.default_rng(1).uniform(0, 1, (sizes["batch"], sizes["channels"], side, side)).astype(np.float32)
    explain = common.prepared(graph, presets.epsilon_plus_flat(), x)
    return lambda: explain(x, 0)


def measure(rounds: int, quick: bool) -> dict[str, dict[str, list[float]]]:
    """Seconds by what is varied and by its size, every call in every round."""
    calls = {
        f"{name} {size}": call_of(BASE | {name: size})
        for name, sizes in (QUICK if quick else SIZES).items()
        for size in sizes
    }
    for call in calls.values():
        call()
    found: dict[str, dict[str, list[float]]] = {}
    for label, seconds in common.interleaved(calls, rounds, awake=True).items():
        name, size = label.split()
        found.setdefault(name, {})[size] = seconds
    return found


def fits(found: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, Any]]:
    """For each size that was varied: the sizes, median seconds, and exponents over all and over the greater half."""
    results = {}
    for name, by_size in found.items():
        sizes = [int(size) for size in by_size]
        middles = [common.quartiles(seconds)[1] for seconds in by_size.values()]
        half = min(len(sizes) // 2, len(sizes) - 2)
        results[name] = {
            "sizes": sizes,
            "seconds": middles,
            "exponent": common.exponent(sizes, middles),
            "upper": common.exponent(sizes[half:], middles[half:]),
        }
    return results


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The exponents, then the milliseconds."""
    exponents = [
        (name, f"{r['exponent']:.2f}", f"{r['upper']:.2f}", str(EXPECTED[name])) for name, r in results.items()
    ]
    seconds = [
        (name, str(size), f"{1000 * taken:.3g}")
        for name, r in results.items()
        for size, taken in zip(r["sizes"], r["seconds"], strict=True)
    ]
    first = common.markdown(("time against", "exponent", "of the greater half", "of the operations"), exponents)
    return first + "\n\n" + common.markdown(("varied", "size", "median ms"), seconds)


def plot(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """All four curves, each size as a multiple of its least; the exponents in the legend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    ax = figure.subplots()
    for name, r in results.items():
        multiples = [size / r["sizes"][0] for size in r["sizes"]]
        label = f"{name}: exponent {r['exponent']:.2f}, greater half {r['upper']:.2f}"
        ax.loglog(multiples, [1000 * taken for taken in r["seconds"]], "o-", label=label)
    ax.set_xlabel("size, as a multiple of its least")
    ax.set_ylabel("milliseconds")
    ax.grid(True, which="both", alpha=0.3)
    ax.legend()
    common.write_figure(path, figure)


def report(results: Mapping[str, Mapping[str, Any]], command: str, rounds: int, picture: str) -> str:
    """The committed page."""
    base = ", ".join(f"{name} {size}" for name, size in BASE.items())
    return "\n".join(
        [
            *common.head("How the fast engine's time grows", command, "lrp_ref", "numpy"),
            "Chains of 3x3 convolutions and ReLUs, float32, epsilon_plus_flat, prepared beforehand; one size is varied",
            f"at a time, the others are: {base}. Medians of {rounds} interleaved rounds. The exponent p of",
            "seconds = c size^p is fitted by least squares of the logarithms. Convolutions of few channels move more",
            "numbers than they multiply, so time against channels stays below the operations' square.",
            "",
            table(results),
            "",
            f"![time against pixels, channels, batch and depth]({picture})",
            "",
        ]
    )
