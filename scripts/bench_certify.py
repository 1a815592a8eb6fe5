"""What certificates cost, and the true error of floats that they tell: ours and zennit's, rule by rule.

    sh scripts/bench certify [--networks NAME...] [--rules NAME...] [--markdown FILE] [--png FILE]

Each pair of network and rules runs in a process of its own, so that its memory can be told. The networks are those of
the benchmark with random weights (SqueezeNet for 227 x 227, VGG-16 for 224 x 224, an MLP), and the shipped digit CNN,
in float32: the numbers that are certified are those that are run, by ours in float32 and float64 and by zennit in both.
The error is the greatest distance from the exact relevance, over max |R|, bounded from above by the enclosure.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_common import THREADS, head, markdown, write_figure, write_text

import lrp_ref as lrp
from lrp_ref import presets

RULES = {
    "epsilon": ("Epsilon(epsilon=0.1)", lambda: lrp.Epsilon(epsilon=0.1)),
    "epf": ("epsilon_plus_flat", presets.epsilon_plus_flat),
    "ab": ("epsilon_alpha2_beta1", presets.epsilon_alpha2_beta1),
    "egb": ("epsilon_gamma_box", lambda: presets.epsilon_gamma_box(low=0, high=1)),
}
SIZES = {"digits-cnn": 8, "mlp": 28, "squeezenet": 227, "vgg16": 224}
TITLES = {"digits-cnn": "digit CNN", "mlp": "MLP 784-3x1024-10", "squeezenet": "SqueezeNet 1.0", "vgg16": "VGG-16"}
TARGETS = {"digits-cnn": 3.0, "squeezenet": 90.0, "vgg16": 720.0}
"""Seconds at most."""
CLASS = 5
KINDS = ("ours32", "ours64", "zennit32", "zennit64")


def one(network: str, rules: str) -> dict[str, Any]:
    """Certify one network under one set of rules, and bound the errors of all that run it."""
    from lrp_ref.oracle import certify

    graph, x, model = _network(network)
    composite = RULES[rules][1]()
    started = time.perf_counter()
    found = certify(graph, x, composite, CLASS, engine="balls", threads=THREADS)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    runs = {"ours32": lambda: lrp.explain(graph, x, composite, CLASS, keep="input").relevance}
    runs["ours64"] = lambda: lrp.explain(graph, x.astype(float), composite, CLASS, keep="input").relevance
    if model is not None:
        import bench_networks

        runs["zennit32"] = bench_networks.zennit_call(model, x, rules, CLASS)
        runs["zennit64"] = lambda: bench_networks.zennit_call(model.double(), x.astype(float), rules, CLASS)()
    widest = float(found.radius().max()) / found.scale()
    return {
        "seconds": seconds, "peak": peak, "bits": found.precision, "radius": widest,
        "undetermined": int(np.isnan(found.sign()).sum()), "errors": {k: found.error(run()) for k, run in runs.items()},
    }  # fmt: skip


def _network(name: str) -> tuple[lrp.Graph, np.ndarray, Any]:
    """The graph in float32, its input, and the torch model that zennit runs, if there is one."""
    if name == "digits-cnn":
        from lrp_ref.data import digits, digits_cnn

        x = digits().images[:1].astype(np.float32)
        return lrp.canonize(digits_cnn()).like(x), x, None
    import bench_networks
    import torch

    model = bench_networks.network(name, SIZES[name])
    shape = (1, 784) if name == "mlp" else (1, 3, SIZES[name], SIZES[name])
    x = np.random.default_rng(1).uniform(size=shape).astype(np.float32)
    return lrp.canonize(lrp.from_torch(model, torch.from_numpy(x), check=False)), x, model


def apart(network: str, rules: str) -> dict[str, Any]:
    """`one`, in a fresh process."""
    command = [sys.executable, __file__, "--one", network, rules]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{network} under {rules} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def report(results: dict[tuple[str, str], dict[str, Any]], command: str) -> str:
    """The page."""
    lines = head(
        "Certified relevance: what it costs, and the true error of floats", command, "torch", "zennit", "python-flint"
    )
    lines += ["", str(__doc__).split("\n\n", 2)[2].strip(), "", "## Cost", ""]
    rows = []
    for (network, rules), r in results.items():
        wanted = TARGETS.get(network)
        met = "" if wanted is None else "yes" if r["seconds"] <= wanted else "no"
        rows.append((
            TITLES[network], RULES[rules][0], f"{r['seconds']:.3g}", "" if wanted is None else f"{wanted:g}", met,
            f"{r['peak']:.2f}", str(r["bits"]), f"2^{math.log2(r['radius']):.0f}" if r["radius"] else "0",
            str(r["undetermined"]),
        ))  # fmt: skip
    titles = (
        "network",
        "rules",
        "seconds",
        "at most",
        "met",
        "peak GB",
        "bits",
        "radius / max abs R",
        "signs undetermined",
    )
    lines += [markdown(titles, rows), "", "## The true error, over max |R|", ""]
    rows = [
        (TITLES[network], RULES[rules][0], *(f"{r['errors'][k]:.1e}" if k in r["errors"] else "" for k in KINDS))
        for (network, rules), r in results.items()
    ]
    titles = ("network", "rules", "ours, float32", "ours, float64", "zennit, float32", "zennit, float64")
    return "\n".join([*lines, markdown(titles, rows), "", "![true errors](certify.png)", ""])


def draw(results: dict[tuple[str, str], dict[str, Any]], path: Path) -> None:
    """Each error as a point, a row for each network and set of rules."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.5 + 0.35 * len(results)), layout="constrained")
    axes = figure.subplots()
    names = [f"{TITLES[network]}, {RULES[rules][0]}" for network, rules in results]
    for kind, marker, color in zip(KINDS, "osos", ("#4477aa", "#4477aa", "#cc6677", "#cc6677"), strict=True):
        points = [(r["errors"][kind], i) for i, r in enumerate(results.values()) if r["errors"].get(kind)]
        label = kind.replace("32", ", float32").replace("64", ", float64")
        axes.plot(
            *zip(*points, strict=True), marker, color=color, label=label, fillstyle="none" if "64" in kind else "full"
        )
    axes.set(
        xscale="log", yticks=range(len(names)), yticklabels=names, xlabel="distance from the exact relevance / max |R|"
    )
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    write_figure(path, figure)


def main(arguments: Sequence[str]) -> None:
    """Run, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="bench certify", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the report that is committed")
    parser.add_argument("--png", type=Path, metavar="FILE", help="the errors as a plot")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(one(*options.one)))
        return
    results = {}
    for network in options.networks:
        for rules in options.rules:
            results[network, rules] = apart(network, rules)
            print(network, rules, json.dumps(results[network, rules]), flush=True)
    text = report(results, " ".join(["sh scripts/bench certify", *arguments]))
    print(text)
    if options.markdown:
        write_text(options.markdown, text)
    if options.png:
        draw(results, options.png)


if __name__ == "__main__":
    main(sys.argv[1:])
