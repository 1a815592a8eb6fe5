"""Where each millisecond of an explanation goes: every node's step of the fast engine, beside a floor.

The engine's steps are run as they are, in their order, with a clock around each. A floor is what a perfect kernel would
take: the operations of its matrix products at the rate of a large sgemm, or the bytes that it must read and write at
the rate of a large copy, whichever is longer; both rates are measured in the same rounds. Arrays that are still in the
cache can come out below their floor.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import bench_common as common
import numpy as np

import lrp_ref as lrp
from lrp_ref import layers

COPIED = 2**24
"""Numbers in the array whose copy tells the rate of memory: 64 MB, more than the outer cache of a core."""
PRODUCTS: Mapping[str, tuple[int, int]] = {
    "Zero": (1, 1), "Epsilon": (1, 1), "Gamma": (2, 1), "GeneralizedGamma": (2, 1), "ZPlus": (2, 1),
    "AlphaBeta": (3, 2), "Flat": (1, 0), "ZBox": (1, 1),
}  # fmt: skip
"""Rule: the products of its forward pass, denominators included, and of its way back. What a constant input adds (box
bounds, flat's ones) need not be computed anew, and is left out."""
DIRECTIONS = ("forward", "back")


class Timed:
    """A step of the engine with a clock."""

    def __init__(self, step: Any) -> None:
        self.step, self.spent = step, dict.fromkeys(DIRECTIONS, 0.0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)

    def _run(self, direction: str, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = getattr(self.step, direction)(*arguments)
        self.spent[direction] += time.perf_counter() - start
        return result

    def forward(self, *arguments: Any) -> Any:
        """The step's."""
        return self._run("forward", *arguments)

    def back(self, *arguments: Any) -> Any:
        """The step's."""
        return self._run("back", *arguments)


def clocked(prepared: Any) -> dict[str, Timed]:
    """The steps of a prepared object that has been called, each with a clock put in its place; by node."""
    (ready,) = prepared._ready.values()
    ready.steps.update({name: Timed(step) for name, step in ready.steps.items()})
    return dict(ready.steps)


def measure(graph: lrp.Graph, composite: Any, x: np.ndarray, target: int, rounds: int) -> dict[str, Any]:
    """Seconds of the whole, of each node's two steps, and the floors."""
    prepared = lrp.prepare(graph, composite, x=x)
    explanation = prepared.explain(x, target=target, keep="input")
    steps = clocked(prepared)
    sgemm, done = common.sgemm_call()
    source = np.ones(COPIED, np.float32)
    copy = np.empty_like(source)
    calls = {
        "sgemm": sgemm,
        "copy": lambda: np.copyto(copy, source),
        "whole": lambda: prepared.explain(x, target=target, keep="input"),
    }
    seconds: common.Seconds = {name: [] for name in calls}
    spent: dict[str, dict[str, list[float]]] = {name: {d: [] for d in DIRECTIONS} for name in steps}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for step in steps.values():
            step.spent.update(dict.fromkeys(DIRECTIONS, 0.0))
        for name, taken in common.interleaved(calls, 1).items():
            seconds[name] += taken
        for name, step in steps.items():
            for direction, taken_once in step.spent.items():
                spent[name][direction].append(taken_once)
    middle = {name: common.quartiles(values)[1] for name, values in seconds.items()}
    rates = {"operations": done / middle["sgemm"], "bytes": 2 * source.nbytes / middle["copy"]}
    floors = floors_of(graph, explanation, x, rates)
    nodes = [
        {
            "node": node.name, "kind": node.kind, "rule": type(explanation.rules[node.name]).__name__,
            "engine": explanation.engine.get(node.name, ""), "floor": floors[node.name],
            "seconds": {d: common.quartiles(spent[node.name][d])[1] for d in DIRECTIONS},
        }
        for node in graph.nodes
    ]  # fmt: skip
    return {"nodes": nodes, "whole": middle["whole"], "rates": rates}


def floors_of(
    graph: lrp.Graph, explanation: lrp.Explanation, x: np.ndarray, rates: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """The least seconds of each node, forward and back."""
    activations, operations = graph.forward(x), common.operations(graph, x)
    floors = {}
    for node in graph.nodes:
        inputs, out = sum(activations[source].nbytes for source in node.inputs), activations[node.name].nbytes
        rule = type(explanation.rules[node.name]).__name__
        if node.name in operations:
            weight: Any = getattr(node.layer, "weight", None)
            bytes_moved = (inputs + out + weight.nbytes, 2 * inputs + 2 * out + weight.nbytes)
            products = PRODUCTS.get(rule, (1, 1))
        else:
            products = (0, 0)
            bytes_moved = (inputs + out, 2 * inputs + 2 * out)  # back: a, z and R are read, R of the input is written
            if isinstance(node.layer, layers.Flatten):
                bytes_moved = (0, 0)
            elif rule == "Pass" and not isinstance(node.layer, layers.MaxPool):
                bytes_moved = (inputs + out, 0)
        floors[node.name] = {
            direction: max(count * operations.get(node.name, 0) / rates["operations"], moved / rates["bytes"])
            for direction, count, moved in zip(DIRECTIONS, products, bytes_moved, strict=True)
        }
    return floors


def gaps(found: Mapping[str, Any]) -> list[tuple[float, str, str, str]]:
    """Seconds above the floor, node, kind and direction; the greatest first, what is outside of the steps too."""
    above = [
        (node["seconds"][d] - node["floor"][d], node["node"], node["kind"], d)
        for node in found["nodes"]
        for d in DIRECTIONS
    ]
    return sorted([*above, (outside(found), "outside of the steps", "books, targets", "both")], reverse=True)


def outside(found: Mapping[str, Any]) -> float:
    """Seconds of the whole that no step took."""
    return float(found["whole"] - sum(node["seconds"][d] for node in found["nodes"] for d in DIRECTIONS))


def tables(found: Mapping[str, Any], most: int = 10) -> str:
    """The sums, the greatest gaps, and every node."""

    def ms(seconds: float) -> str:
        return f"{1000 * seconds:.2f}"

    kinds = list(dict.fromkeys(node["kind"] for node in found["nodes"]))
    sums = []
    for kind in kinds:
        nodes = [node for node in found["nodes"] if node["kind"] == kind]
        taken, floor = ({d: sum(node[what][d] for node in nodes) for d in DIRECTIONS} for what in ("seconds", "floor"))
        sums.append((f"{kind} ({len(nodes)})", *(ms(part[d]) for d in DIRECTIONS for part in (taken, floor))))
    sums.append(("outside of the steps", ms(outside(found)), "", "", ""))
    floor = sum(node["floor"][d] for node in found["nodes"] for d in DIRECTIONS)
    sums.append(("whole", ms(found["whole"]), ms(floor), "", ""))
    titles = ("forward ms", "floor", "back ms", "floor")
    each = [
        (
            node["node"], node["rule"], node["engine"],
            *(ms(node[what][d]) for d in DIRECTIONS for what in ("seconds", "floor")),
        )
        for node in found["nodes"]
    ]  # fmt: skip
    largest = [
        (node, kind, direction, ms(gap), f"{100 * gap / found['whole']:.1f} %")
        for gap, node, kind, direction in gaps(found)[:most]
    ]
    return "\n\n".join(
        [
            common.markdown(("kind", *titles), sums),
            "The largest gaps:",
            common.markdown(("node", "kind", "direction", "ms above the floor", "of the whole"), largest),
            "Every node:",
            common.markdown(("node", "rule", "computed by", *titles), each),
        ]
    )


def report(found: Mapping[str, Mapping[str, Any]], command: str, rounds: int, size: int) -> str:
    """The committed page."""
    parts = [*common.head("Where the milliseconds of an explanation go", command, "lrp_ref", "numpy")]
    parts += [f"float32, batch 1, {size} x {size}, medians of {rounds} rounds, in a fresh process for each.", ""]
    parts += [line.strip() for line in str(__doc__).split("\n\n", 1)[1].splitlines()]
    for name, measures in found.items():
        gap, node, kind, direction = gaps(measures)[0]
        rates = measures["rates"]
        parts += [
            "",
            f"## {name}",
            "",
            f"sgemm {rates['operations'] / 1e9:.0f} GFLOP/s, copy {rates['bytes'] / 1e9:.1f} GB/s (read and written).",
            f"The next largest gap: {node} ({kind}, {direction}), {1000 * gap:.1f} ms above its floor.",
            "",
            tables(measures),
        ]
    return "\n".join(parts) + "\n"
