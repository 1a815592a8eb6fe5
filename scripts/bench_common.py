"""What the parts of the benchmark share: interleaved timing, statistics, tables, and words about the machine."""

from __future__ import annotations

import gc
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import lrp_ref as lrp
from lrp_ref.files import written_whole

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
PAUSE = 0.25
"""Seconds before each timed call: the thread pools of BLAS and torch spin for a while after their last."""
SGEMM = 2048
"""Rows and columns of the square product whose rate is the measured sgemm rate."""
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "asimd", "sve")
"""The processor's features that a line about it names."""

Call = Callable[[], Any]
Seconds = dict[str, list[float]]


# --- timing ---------------------------------------------------------------------------------------------------------


def interleaved(calls: Mapping[str, Call], rounds: int, pause: float = PAUSE, *, awake: bool = False) -> Seconds:
    """The seconds of each call, by name: in every round each runs once, after a pause. The caller has warmed them up.

    The pause lets the threads of the peer before it come to rest. With `awake` each runs once more before the run that
    is timed, which wakes its own: a virtual machine takes tens of milliseconds for that. The collector is off while a
    call runs.
    """
    seconds: Seconds = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            gc.collect()
            time.sleep(pause)
            gc.disable()
            result = call() if awake else None
            start = time.perf_counter()
            result = call()
            seconds[name].append(time.perf_counter() - start)
            gc.enable()
            del result
    return seconds


def sgemm_call(size: int = SGEMM) -> tuple[Call, float]:
    """A square product of numpy in float32, and its number of operations."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out), 2.0 * size**3


def prepared(graph: lrp.Graph, composite: Any, x: np.ndarray) -> Callable[[np.ndarray, Any], lrp.Explanation]:
    """(input, target) -> the fast engine's explanation, with what can be prepared beforehand prepared."""
    prepare = getattr(lrp, "prepare", None)
    if prepare is None:
        return lambda x, target: one_shot(graph, composite, x, target)
    ready = prepare(graph, composite, x=x)
    return lambda x, target: ready.explain(x, target=target, keep="input")


def one_shot(graph: lrp.Graph, composite: Any, x: np.ndarray, target: Any) -> lrp.Explanation:
    """The fast engine's explanation, nothing prepared."""
    return lrp.explain(graph, x, composite, target, engine="fast", keep="input")


def several_targets(graph: lrp.Graph, composite: Any, x: np.ndarray, classes: Sequence[int]) -> Call:
    """A call for the relevance (1, ...) of one input for each of several classes, from one forward pass."""
    if not hasattr(lrp, "prepare"):
        repeated = np.repeat(x, len(classes), axis=0)
        return lambda: one_shot(graph, composite, repeated, list(classes)).relevance[:, None]
    ready = lrp.prepare(graph, composite, x=x)
    return lambda: [found.relevance for found in ready.explain_each(x, classes, keep="input")]


def operations(graph: lrp.Graph, x: np.ndarray) -> dict[str, float]:
    """The floating point operations of each convolution and dense layer in one forward pass of x."""
    activations = graph.forward(x)
    counts = {}
    for node in graph.nodes:
        weight = getattr(node.layer, "weight", None)
        if isinstance(node.layer, lrp.layers.Conv):
            shape = activations[node.name].shape
            counts[node.name] = 2.0 * weight.size * math.prod(shape[2:]) * shape[0]
        elif isinstance(node.layer, lrp.layers.Dense):
            counts[node.name] = 2.0 * weight.size * math.prod(activations[node.name].shape[:-1])
    return counts


# --- numbers --------------------------------------------------------------------------------------------------------


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The quarter, the median and the three quarters point."""
    low, middle, high = np.quantile(np.asarray(values), [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def deviation(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """The greatest difference over the greatest of theirs, and the norm of the difference over that of theirs."""
    apart = ours - theirs
    return {
        "max": float(abs(apart).max() / abs(theirs).max()),
        "norm": float(np.linalg.norm(apart) / np.linalg.norm(theirs)),
    }


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """p of seconds = c * size ** p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def ratios(top: Sequence[float], bottom: Sequence[float], factor: float = 1.0) -> tuple[float, float, float]:
    """Quarter point, ratio of the medians, three quarters point; the outer two of the rounds' own ratios."""
    low, _, high = quartiles([factor * a / b for a, b in zip(top, bottom, strict=True)])
    return low, factor * statistics.median(top) / statistics.median(bottom), high


# --- words ----------------------------------------------------------------------------------------------------------


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, columns padded so that it reads well as text too."""
    lines = [list(titles), *(list(row) for row in rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(titles))]
    written = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([written[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *written[1:]])


def machine() -> str:
    """Processor, the features that matter, cores and memory; no name of a host."""
    model, flags, memory = platform.machine(), set(), 0.0
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags |= set(value.split())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        pass
    features = " ".join(flag for flag in FLAGS if flag in flags) or "features unknown"
    return f"{model} ({platform.machine()}; {features}), {os.cpu_count()} cores, {memory:.0f} GiB"


def load() -> float:
    """How many processes wanted a core in the last minute; nan where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return math.nan


LOAD = load()
"""As the script began."""
BUSY = 0.5
"""From this load on, times are not worth much."""


def versions(*packages: str) -> str:
    """Python's version, the packages', and which BLAS numpy was built with."""
    found = [f"python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    blas: Any = np.show_config(mode="dicts")
    built = blas.get("Build Dependencies", {}).get("blas", {}) if isinstance(blas, dict) else {}
    return ", ".join([*found, f"numpy's BLAS {built.get('name', 'unknown')} {built.get('version', '')}".strip()])


def commit() -> str:
    """The commit that was measured, and whether the package differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "lrp_ref", "scripts")
        return git("rev-parse", "--short", "HEAD") + (" with changes not committed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def head(title: str, command: str, *packages: str) -> list[str]:
    """The first lines of a report."""
    return [
        f"# {title}",
        "",
        f"- date: {date.today()}",
        f"- commit: {commit()}",
        f"- machine: {machine()}; {THREADS} threads; load average before: {LOAD:.2f}",
        f"- {versions(*packages)}",
        f"- command: `{command}`",
        "",
    ]


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(text.encode())


def write_figure(path: Path, figure: Any) -> None:
    """A figure of matplotlib as PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
