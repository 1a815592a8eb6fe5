"""Measure exact explanations of one digit, every preset on both shipped networks, with python-flint and without.

    python scripts/exact_seconds.py > benchmarks/exact.md

The median of five runs each; the books are checked to close with == in every run.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version

import numpy as np

import lrp_ref as lrp
from lrp_ref import presets
from lrp_ref.data import digits, digits_cnn, digits_mlp

BOX = {"low": 0, "high": 1}
PRESETS = {
    "epsilon_plus": presets.epsilon_plus(),
    "epsilon_plus_flat": presets.epsilon_plus_flat(),
    "epsilon_alpha2_beta1": presets.epsilon_alpha2_beta1(),
    "epsilon_alpha2_beta1_flat": presets.epsilon_alpha2_beta1_flat(),
    "epsilon_gamma_box": presets.epsilon_gamma_box(**BOX),
    "excitation_backprop": presets.excitation_backprop(),
    "chapter_vgg16": presets.chapter_vgg16(**BOX),
    "tutorial_vgg16": presets.tutorial_vgg16(**BOX),
    "tutorial_mlp": presets.tutorial_mlp(**BOX),
}


def seconds(graph: lrp.Graph, composite: lrp.Composite, runs: int = 5) -> str:
    """The median of a few explanations with their books closed, or "-" if the preset has no rule for a layer."""
    data = digits()
    row = data.test[0]
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        try:
            e = lrp.explain(graph, lrp.exact(data.images[row : row + 1]), composite, int(data.labels[row]))
        except lrp.NoRule:
            return "-"
        balances = [*(entry.balance() for entry in e.ledger), *e.ledger.fan_in().values(), e.ledger.balance()]
        assert all((lrp.fractions(balance) == 0).all() for balance in balances)
        taken.append(time.perf_counter() - start)
    return f"{statistics.median(taken):.2f}"


def column() -> list[str]:
    """The seconds of every preset on every network, with what is importable here."""
    return [seconds(graph, preset) for graph in (digits_mlp(), digits_cnn()) for preset in PRESETS.values()]


def main() -> None:
    if sys.argv[1:] == ["without-flint"]:
        sys.modules["flint"] = None  # type: ignore[assignment]
        print("\n".join(column()))
        return
    command = [sys.executable, __file__, "without-flint"]
    without = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    names = [f"{network} | {preset}" for network in ("digits-mlp", "digits-cnn") for preset in PRESETS]
    print("# Seconds to explain one digit in exact rational arithmetic\n")
    print(f"{date.today()}, commit {commit.strip()}, {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"python {platform.python_version()}, numpy {np.__version__}, python-flint {version('python-flint')}.")
    print("Median of five, checking the books included, by scripts/exact_seconds.py.\n")
    print("| network | preset | with python-flint | without |\n|---|---|---|---|")
    for name, quick, slow in zip(names, column(), without, strict=True):
        print(f"| {name} | {quick} | {slow} |")
    print("\n- : the preset has no rule for a layer of that network, and says which.")


if __name__ == "__main__":
    main()
