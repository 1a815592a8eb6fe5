"""Measure the verification of every neuron of the shipped networks for one digit: its deep Taylor roots and context.

    python scripts/dtd_seconds.py > benchmarks/dtd.md

The median of five runs each; every identity of every run is checked to hold within its bound.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
import tracemalloc
from datetime import date

import numpy as np

import lrp_ref as lrp
from lrp_ref import presets
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.theory import dtd

RULES = {"epsilon_gamma_box": presets.epsilon_gamma_box(low=0, high=1), "Zero()": lrp.Zero()}
RUNS = 5


def measured(graph: lrp.Graph, rules: lrp.Composite | lrp.Rule, reading: dtd.Reading) -> str:
    """Neurons, the median of the seconds and their spread, and the greatest memory allocated by numpy in one run."""
    data = digits()
    e = lrp.explain(graph, data.images[data.test[:1]].astype(np.float64), rules)
    taken, report = [], dtd.verify(e, reading)
    for _ in range(RUNS):
        start = time.perf_counter()
        report = dtd.verify(e, reading)
        taken.append(time.perf_counter() - start)
        assert report.holds, report.broken()
    tracemalloc.start()
    dtd.verify(e, reading)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    neurons = sum(len(node.neurons) for node in report.nodes if node.neurons is not None)
    return f"{neurons} | {statistics.median(taken):.3f} | {min(taken):.3f} to {max(taken):.3f} | {peak:.0f}"


def main() -> None:
    """Print the page."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    print("# Seconds to verify every neuron of a network for one digit\n")
    print(f"{date.today()}, commit {commit.strip()}, {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"python {platform.python_version()}, numpy {np.__version__}; float64, the network above run from each root.")
    print(f"Median of {RUNS} runs, by scripts/dtd_seconds.py.\n")
    print("| network | rules | reading | neurons | seconds | from, to | peak MB |\n|---|---|---|---|---|---|---|")
    networks = {"digits-mlp": digits_mlp(), "digits-cnn": digits_cnn(), "canonized": lrp.canonize(digits_cnn())}
    readings: tuple[dtd.Reading, ...] = ("extended", "physical")
    for network, graph in networks.items():
        for name, rules in RULES.items():
            for reading in readings:
                print(f"| {network} | {name} | {reading} | {measured(graph, rules, reading)} |")


if __name__ == "__main__":
    main()
