"""The fast engine beside torch, zennit and captum: the same networks, weights, machine and threads, calls interleaved.

    python scripts/bench.py                          # every row of the table; --quick: some rows, in 3 minutes
    python scripts/bench.py --rows vgg16-egb 'mlp-*' --rounds 5
    python scripts/bench.py --markdown benchmarks/cpu.md --json FILE --png FILE
    python scripts/bench.py growth                   # benchmarks/growth.md and its plot
    python scripts/bench.py profile                  # benchmarks/profile.md

Each network has a fresh process. There every call is run once, and what both sides computed is compared; then come the
rounds: in each every call once, after a pause. A ratio is that of the medians, its spread the quartiles of the rounds'
own ratios. The first part of a row's name is the network, the second the composite: egb EpsilonGammaBox (low 0, high
1), epf EpsilonPlusFlat, ab EpsilonAlpha2Beta1, epsilon and lrp0 epsilon 0.1 everywhere, zplus z+ everywhere.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import bench_common as common
import bench_growth as growth
import bench_profile as profile
import numpy as np
from bench_common import Call

import lrp_ref as lrp
from lrp_ref import presets

TARGET = 5
BATCH, TARGETS = 16, tuple(range(10))
COMPOSITES: Mapping[str, Callable[[], Any]] = {
    "egb": lambda: presets.epsilon_gamma_box(low=0, high=1),
    "epf": presets.epsilon_plus_flat,
    "ab": presets.epsilon_alpha2_beta1,
    "epsilon": lambda: lrp.Epsilon(epsilon=0.1),
    "zplus": lambda: lrp.ZPlus(epsilon=1e-6),
}
BOUNDS = {"max": 1e-2, "norm": 1e-3}
"""How far two sides' relevances may be apart in float32, as max|difference| / max|R|, and as the same of Euclidean
norms. Where rounding decides the winner of a max pool, all relevance of a patch moves; the norm hardly does."""
PLAIN_BOUND = 1e-10
"""The same where the plain engine is the other side, in float64: DenseNet's average pools of signed numbers leave
little of float32."""
PLAIN = ("densenet121", "efficientnet")
"""Networks that zennit has no rules for: ours is compared with the plain engine in float64."""
PACKAGES = ("lrp_ref", "numpy", "torch", "zennit", "captum")


@dataclass(frozen=True)
class Row:
    """One line of the table: the ratio of two calls' seconds, or megabytes."""

    name: str
    title: str
    top: str
    bottom: str
    must: float
    aim: float
    greater_is_better: bool = False
    group: str = ""
    """Rows of one group are measured in one process: the network's, unless named."""

    @property
    def network(self) -> str:
        """The first part of the name."""
        return self.name.split("-")[0]

    @property
    def process(self) -> str:
        """The group, or the network."""
        return self.group or self.network

    def met(self, value: float) -> str:
        """Which bound the value keeps."""
        sign = 1 if self.greater_is_better else -1
        if sign * value >= sign * self.aim:
            return "aim"
        return "must" if sign * value >= sign * self.must else "no"


def _times_zennit(name: str, title: str, must: float, aim: float) -> Row:
    key = name.split("-")[1]
    return Row(name, f"{title}, times as fast as zennit", f"zennit {key}", f"ours {key}", must, aim, True)


def _over_gradient(name: str, title: str, must: float, aim: float) -> Row:
    key = name.split("-")[1].replace("lrp0", "epsilon")
    return Row(name, f"{title}, time over torch's gradient", f"ours {key}", "torch gradient", must, aim)


VGG, GAMMA, PLUS, ALPHA = "VGG-16", "epsilon_gamma_box", "epsilon_plus_flat", "epsilon_alpha2_beta1"
ROWS = (
    _times_zennit("vgg16-egb", f"{VGG} {GAMMA}", 3.8, 4.5),
    _times_zennit("vgg16-epf", f"{VGG} {PLUS}", 1.9, 2.4),
    _times_zennit("vgg16-ab", f"{VGG} {ALPHA}", 2.3, 3.0),
    _times_zennit("resnet50-egb", f"ResNet-50 {GAMMA}", 4.1, 6.0),
    _times_zennit("resnet50-epf", f"ResNet-50 {PLUS}", 2.4, 4.0),
    _times_zennit("resnet50-ab", f"ResNet-50 {ALPHA}", 3.0, 5.0),
    _times_zennit("mobilenet-epf", f"MobileNet-v2 {PLUS}", 2.0, 4.0),
    _times_zennit("mobilenet-egb", f"MobileNet-v2 {GAMMA}", 3.0, 6.0),
    _times_zennit("squeezenet-epf", f"SqueezeNet 1.0 {PLUS}", 2.0, 4.0),
    _times_zennit("squeezenet-egb", f"SqueezeNet 1.0 {GAMMA}", 3.0, 6.0),
    _over_gradient("vgg16-lrp0", f"{VGG} LRP-0 everywhere", 1.25, 1.0),
    _over_gradient("resnet50-lrp0", "ResNet-50 LRP-0 everywhere", 1.3, 1.0),
    _over_gradient("densenet121-epf", f"DenseNet-121 {PLUS}", 4.0, 3.0),
    _over_gradient("efficientnet-epf", f"EfficientNet-B0 {PLUS}", 4.0, 3.0),
    _times_zennit("mlp-epsilon", "MLP 784-3x1024-10, batch 256, epsilon", 3.0, 5.0),
    _times_zennit("mlp-zplus", "MLP 784-3x1024-10, batch 256, z+", 3.0, 5.0),
    Row("vgg16-flops-egb", f"{VGG} {GAMMA}, useful FLOPs over the sgemm rate", "sgemm", "ours egb", 0.7, 0.9, True),
    Row("vgg16-flops-epf", f"{VGG} {PLUS}, useful FLOPs over the sgemm rate", "sgemm", "ours epf", 0.7, 0.9, True),
    Row("vgg16-memory", f"{VGG} {GAMMA}, peak memory over zennit's", "memory ours", "memory zennit", 0.65, 0.5),
    Row(
        "vgg16-batch", f"{VGG} {GAMMA}, an image of {BATCH} over one alone", "ours egb batch", "ours egb", 1.0, 0.9,
        group="vgg16 batch",
    ),
    Row(
        "vgg16-targets", f"{VGG} {GAMMA}, a target of {len(TARGETS)} over one alone", "ours egb targets", "ours egb",
        0.6, 0.4, group="vgg16 batch",
    ),
    Row(
        "vgg16-float64", f"{VGG} {GAMMA}, float64 over float32", "ours egb float64", "ours egb", 2.3, 2.1,
        group="vgg16 float64",
    ),
)  # fmt: skip
QUICK = ("vgg16-egb", "vgg16-lrp0", "vgg16-flops-egb", "resnet50-egb", "resnet50-epf", "mobilenet-epf")
QUICK += ("squeezenet-epf", "mlp-epsilon", "mlp-zplus")
NEEDED_PASSES = 3
"""Forward, the forward of w+, the adjoint: the useful operations over those of a forward pass, of both composites."""


# --- in the network's process ---------------------------------------------------------------------------------------


def input_of(network: str, size: int, batch: int = 1, dtype: Any = np.float32) -> np.ndarray:
    """Uniform noise from a seed; the MLP's is always its batch of 256."""
    shape = (256, 784) if network == "mlp" else (batch, 3, size, size)
    return np.random.default_rng(1).uniform(0, 1, shape).astype(dtype)


def graph_of(model: Any, x: np.ndarray) -> lrp.Graph:
    """The torch module as a graph, canonized."""
    import torch

    return lrp.canonize(lrp.from_torch(model, torch.from_numpy(x), check=False))


def measure(network: str, labels: Sequence[str], rounds: int, size: int) -> dict[str, Any]:
    """The seconds of the calls named, and how far apart the relevances are, in this process."""
    import bench_networks as nets
    import torch

    torch.set_num_threads(common.THREADS)
    model, x = nets.network(network, size), input_of(network, size)
    graph = graph_of(model, x)
    found: dict[str, Any] = {"checks": {}, "factors": {}, "notes": []}
    calls: dict[str, Call] = {}
    for label in labels:
        kind, _, key = label.partition(" ")
        if kind == "torch":
            calls[label] = nets.forward_call(model, x) if key == "forward" else nets.gradient_call(model, x, TARGET)
        elif kind == "zennit":
            calls[label] = nets.zennit_call(model, x, key, TARGET)
        elif kind == "captum":
            calls[label] = nets.captum_call(model, x, TARGET)
        elif kind == "sgemm":
            calls[label], done = common.sgemm_call()
            found["factors"]["sgemm"] = NEEDED_PASSES * sum(common.operations(graph, x).values()) / done
            found["factors"]["sgemm operations"] = done
        else:
            calls[label], factor = our_call(graph, network, label, size)
            if factor != 1:
                found["factors"][label] = factor
    first = {}
    for label in list(calls):  # the warm-up
        try:
            first[label] = calls[label]()
        except Exception as error:
            if not label.startswith("captum"):
                raise
            found["notes"].append(f"{network}: {label} does not run: {type(error).__name__}: {error}")
            del calls[label]
    for label, result in first.items():
        if label.startswith(("ours", "one-shot")):
            R = result[TARGET] if label.endswith("targets") else result.relevance
            if check := checked(label, R, first, graph, network, x):
                found["checks"][label] = check
        elif label.startswith("captum") and (ours := first.get(f"ours {label.split()[1]}")) is not None:
            found["notes"].append(
                f"{network}: {label} is {common.deviation(result, ours.relevance)['max']:.0e} off ours"
            )
    first.clear()
    found["seconds"] = common.interleaved(calls, rounds, awake=True)
    return found


def our_call(graph: lrp.Graph, network: str, label: str, size: int) -> tuple[Call, float]:
    """The call of "ours KEY [batch | targets | float64]" or "one-shot KEY", and the factor that makes it one item."""
    kind, key, variant = (*label.split(), "")[:3]
    dtype = np.float64 if variant == "float64" else np.float32
    x = input_of(network, size, BATCH if variant == "batch" else 1, dtype)
    graph, composite = graph.like(x), COMPOSITES[key]()
    if kind == "one-shot":
        return lambda: common.one_shot(graph, composite, x, TARGET), 1.0
    if variant == "targets":
        return common.several_targets(graph, composite, x, TARGETS), 1 / len(TARGETS)
    ready = common.prepared(graph, composite, x)
    return lambda: ready(x, TARGET), 1 / BATCH if variant == "batch" else 1.0


def checked(
    label: str, R: np.ndarray, first: Mapping[str, Any], graph: lrp.Graph, network: str, x: np.ndarray
) -> dict[str, Any] | None:
    """Beside what a relevance was held, how far it is off, and how far it may be.

    None for a call that the network's own process checks.
    """
    _, key, variant = (*label.split(), "")[:3]
    bounds = dict(BOUNDS)
    if variant:
        beside, theirs = f"ours {key}", first[f"ours {key}"].relevance
        if variant == "batch":
            theirs = the_first_alone(graph, key, network, R.shape[2])
        R = R[:1]
    elif f"zennit {key}" in first:
        beside, theirs = f"zennit {key}", first[f"zennit {key}"]
    elif label.startswith("one-shot"):
        beside, theirs = f"ours {key}", first[f"ours {key}"].relevance
    elif network in PLAIN:
        beside, values = "the plain engine, both in float64", x.astype(np.float64)
        R = common.one_shot(graph, COMPOSITES[key](), values, TARGET).relevance
        theirs = lrp.explain(graph, values, COMPOSITES[key](), TARGET, engine="plain", keep="input").relevance
        bounds = dict.fromkeys(BOUNDS, PLAIN_BOUND)
    else:
        return None
    return {"beside": beside, "off": common.deviation(R, theirs), "bounds": bounds}


def the_first_alone(graph: lrp.Graph, key: str, network: str, size: int) -> np.ndarray:
    """The relevance of a batch's first image by itself."""
    x = input_of(network, size, BATCH)[:1]
    relevance = common.one_shot(graph, COMPOSITES[key](), x, TARGET).relevance
    assert isinstance(relevance, np.ndarray)
    return relevance


# --- memory, each side in a process of its own ------------------------------------------------------------------------


def peak(restart: bool = False) -> float:
    """The most memory that this process had, in MB; with `restart` what it has now counts as the most from here on."""
    try:
        with open("/proc/self/status", encoding="utf-8") as status:
            most = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
        if restart:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return most
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_files(network: str, size: int, folder: Path) -> None:
    """The network for either side: torch's weights, and our graph as an ONNX file."""
    import bench_networks as nets
    import torch

    model, x = nets.network(network, size), input_of(network, size)
    torch.save(model, folder / "model.pt")
    lrp.save(graph_of(model, x), folder / "graph.onnx", input=x)


def memory(side: str, network: str, key: str, size: int, folder: Path) -> dict[str, float]:
    """Megabytes of this process at most, while it loads and while it explains; ours has no torch in it."""
    x = input_of(network, size)
    if side == "zennit":
        import bench_networks as nets
        import torch

        torch.set_num_threads(common.THREADS)
        model = torch.load(folder / "model.pt", weights_only=False)
        loading = peak(restart=True)
        nets.zennit_call(model, x, key, TARGET)()
    else:
        graph = lrp.load(folder / "graph.onnx")
        loading = peak(restart=True)
        if side == "one-shot":
            common.one_shot(graph, COMPOSITES[key](), x, TARGET)
        else:
            common.prepared(graph, COMPOSITES[key](), x)(x, TARGET)
        assert "torch" not in sys.modules
    return {"loading": loading, "explaining": peak()}


# --- in the first process ---------------------------------------------------------------------------------------------


def in_fresh_process(*arguments: str) -> Any:
    """What this script, run again with these arguments, writes as JSON."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(common.THREADS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-W", "ignore", os.fspath(Path(__file__).resolve()), *arguments, os.fspath(path)]
        done = subprocess.run(command, env=os.environ | threads, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}: ended with status {done.returncode}; its words are above")
        return json.loads(path.read_text(encoding="utf-8"))


def labels_of(rows: Sequence[Row], one_shot: bool) -> list[str]:
    """The calls that the rows of one process need, torch's own and captum's for comparison among them."""
    wanted = dict.fromkeys(label for row in rows for label in (row.top, row.bottom))
    ours = [label for label in wanted if label.startswith("ours") and len(label.split()) == 2]
    alone = any(row.group for row in rows)
    if one_shot and not alone:
        wanted |= dict.fromkeys(f"one-shot {label.split()[1]}" for label in ours)
        wanted |= dict.fromkeys(("torch forward", "torch gradient"))
        if rows[0].network not in PLAIN:
            wanted |= dict.fromkeys(f"zennit {label.split()[1]}" for label in ours)
        if rows[0].network in ("vgg16", "mlp"):
            wanted |= {"captum epsilon": None} if "ours epsilon" in ours else {}
    order = ("torch", "sgemm", "zennit", "captum", "ours", "one-shot")
    return sorted(wanted, key=lambda label: order.index(label.split()[0]))


def measured(rows: Sequence[Row], rounds: int, size: int, one_shot: bool) -> dict[str, Any]:
    """By process what its calls took; memory in MB beside seconds."""
    found: dict[str, Any] = {}
    timed = [row for row in rows if not row.top.startswith("memory")]
    for process in dict.fromkeys(row.process for row in timed):
        group = [row for row in timed if row.process == process]
        count = max(3, (rounds + 1) // 2) if group[0].group else rounds
        labels = labels_of(group, one_shot)
        print(f"{process}: {', '.join(labels)}", file=sys.stderr, flush=True)
        found[process] = in_fresh_process("_measure", group[0].network, json.dumps(labels), str(count), str(size))
    for row in rows:
        if row not in timed:
            print(f"{row.name}: one process for each side", file=sys.stderr, flush=True)
            found[row.name] = {"megabytes": memories(row.network, "egb", size)}
    return found


def memories(network: str, key: str, size: int) -> dict[str, dict[str, float]]:
    """Peaks of each side."""
    with tempfile.TemporaryDirectory() as folder:
        in_fresh_process("_files", network, str(size), folder)
        sides = ("ours", "one-shot", "zennit")
        return {side: in_fresh_process("_memory", side, network, key, str(size), folder) for side in sides}


def evaluated(rows: Sequence[Row], found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each row with its value, spread, and bounds."""
    results = []
    for row in rows:
        if row.top.startswith("memory"):
            sides = found[row.name]["megabytes"]
            value = sides["ours"]["explaining"] / sides["zennit"]["explaining"]
            low, high = value, value
        else:
            measures = found[row.process]
            seconds, factors = measures["seconds"], measures["factors"]
            factor = factors.get(row.top, 1.0)
            low, value, high = common.ratios(seconds[row.top], seconds[row.bottom], factor)
        results.append(
            {
                "name": row.name, "work": row.title, "value": value, "low": low, "high": high,
                "must": row.must, "aim": row.aim, "greater_is_better": row.greater_is_better, "met": row.met(value),
            }
        )  # fmt: skip
    return results


def differing(found: Mapping[str, Any]) -> list[str]:
    """The calls whose relevance was further off than its bounds."""
    return [
        f"{process}: {label} is {check['off'][measure]:.1e} off {check['beside']} ({measure}, bound {bound:.0e})"
        for process, measures in found.items()
        for label, check in measures.get("checks", {}).items()
        for measure, bound in check["bounds"].items()
        if not check["off"][measure] <= bound
    ]


# --- what is written --------------------------------------------------------------------------------------------------


def tables(results: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    """The rows with their bounds, the seconds of every call, megabytes, and notes."""
    lines = [
        (
            r["name"], r["work"], f"{r['value']:.2f}", f"{r['low']:.2f} to {r['high']:.2f}",
            f"{'≥' if r['greater_is_better'] else '≤'} {r['must']:g}", f"{r['aim']:g}", r["met"],
        )
        for r in results
    ]  # fmt: skip
    parts = [common.markdown(("row", "work", "median", "quartiles", "must", "aim", "met"), lines)]
    calls = []
    for process, measures in found.items():
        for label, values in measures.get("seconds", {}).items():
            low, middle, high = (f"{1000 * value:.4g}" for value in common.quartiles(values))
            check = measures["checks"].get(label)
            off = [f"{check['off'][m]:.0e} (≤ {check['bounds'][m]:.0e})" for m in BOUNDS] if check else ["", ""]
            calls.append((process, label, middle, f"{low} to {high}", *off, check["beside"] if check else ""))
    if calls:
        titles = ("process", "call", "median ms", "quartiles", "off at most (bound)", "off in norm (bound)", "beside")
        parts.append(common.markdown(titles, calls))
    for name, measures in found.items():
        if "megabytes" in measures:
            megabytes = [
                (side, f"{most['loading']:.0f}", f"{most['explaining']:.0f}")
                for side, most in measures["megabytes"].items()
            ]
            table = common.markdown(("side", "MB at most while loading", "while explaining"), megabytes)
            text = "the whole process's memory, its libraries and weights included; the row is of the explanation"
            parts.append(f"{name}: {text}:\n\n{table}")
    rates = [
        factors["sgemm operations"] / common.quartiles(measures["seconds"]["sgemm"])[1] / 1e9
        for measures in found.values()
        if "sgemm operations" in (factors := measures.get("factors", {}))
    ]
    notes = [f"- numpy's sgemm of {common.SGEMM} x {common.SGEMM}: {rate:.0f} GFLOP/s" for rate in rates]
    notes += [f"- {note}" for measures in found.values() for note in measures.get("notes", [])]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def report(body: str, command: str, rounds: int, size: int, picture: str | None = None) -> str:
    """The committed page, with its picture if there is one."""
    return "\n".join(
        [
            *common.head("The fast engine beside its peers, on the CPU", command, *PACKAGES),
            f"float32, batch 1 and {size} x {size} where not said otherwise, random weights, batch norm folded for all",
            f"sides with its epsilon. {rounds} interleaved rounds (half for float64, batch and targets) in one fresh",
            f"process a network, {common.PAUSE} s pause before each call. The median is the ratio of the medians, the",
            "quartiles are those of the rounds' own ratios. ours: prepared beforehand; one-shot: not. LRP-0 has",
            "epsilon 0.1 (in float32 a smaller one is ill-conditioned on both sides). Relevances are compared before",
            "the rounds: max|difference| / max|R|, where a max pool whose winner rounding decides moves all of a",
            "patch's, and the same of Euclidean norms.",
            "",
            body,
            "",
            *([f"![milliseconds of every call]({picture})", ""] if picture else []),
        ]
    )


def bars(found: Mapping[str, Any], path: Path) -> None:
    """The median of every call, one panel a process."""
    from matplotlib.figure import Figure

    timed = [(process, measures["seconds"]) for process, measures in found.items() if "seconds" in measures]
    if not timed:
        return
    colors = {"torch": "0.6", "zennit": "tab:orange", "captum": "tab:red", "ours": "tab:blue", "one-shot": "tab:cyan"}
    heights = [len(seconds) for _, seconds in timed]
    figure = Figure(figsize=(8, 0.8 * len(timed) + 0.24 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(timed), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for (process, seconds), ax in zip(timed, axes[:, 0], strict=True):
        spreads = [common.quartiles(values) for values in seconds.values()]
        middles = [1000 * middle for _, middle, _ in spreads]
        errors = [[1000 * (m - low) for low, m, _ in spreads], [1000 * (high - m) for _, m, high in spreads]]
        ax.barh(list(seconds), middles, xerr=errors, color=[colors.get(label.split()[0], "0.8") for label in seconds])
        ax.invert_yaxis()
        ax.set_title(process, loc="left")
        ax.set_xlim(left=0)
    axes[-1, 0].set_xlabel("milliseconds: medians, with quartiles")
    common.write_figure(path, figure)


# --- command line -----------------------------------------------------------------------------------------------------


def chosen(patterns: Sequence[str] | None, quick: bool) -> list[Row]:
    """The rows whose names fit; all of them, or the quick ones, without a pattern."""
    if not patterns:
        return [row for row in ROWS if not quick or row.name in QUICK]
    for pattern in patterns:
        if not fnmatch.filter([row.name for row in ROWS], pattern):
            raise SystemExit(f"no row fits {pattern!r}; rows: {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if any(fnmatch.fnmatch(row.name, pattern) for pattern in patterns)]


def hidden(arguments: Sequence[str]) -> None:
    """A part of the measurement, in this process; the last argument is where its result goes."""
    task, *rest, out = arguments
    result: Any = None
    if task == "_measure":
        result = measure(rest[0], json.loads(rest[1]), int(rest[2]), int(rest[3]))
    elif task == "_profile":
        result = profiled(rest[0], rest[1], int(rest[2]), int(rest[3]))
    elif task == "_growth":
        result = growth.measure(int(rest[0]), rest[1] == "quick")
    elif task == "_files":
        write_files(rest[0], int(rest[1]), Path(rest[2]))
    else:
        result = memory(rest[0], rest[1], rest[2], int(rest[3]), Path(rest[4]))
    Path(out).write_text(json.dumps(result), encoding="utf-8")


def grown(options: argparse.Namespace, rounds: int, command: str) -> None:
    """Measure the growth; the page and its plot go beside each other."""
    found = in_fresh_process("_growth", str(rounds), "quick" if options.quick else "whole")
    results = growth.fits(found)
    print(growth.table(results), flush=True)
    page = options.markdown or (None if options.quick else common.ROOT / "benchmarks" / "growth.md")
    picture = options.png or (page and page.with_suffix(".png"))
    if page:
        common.write_text(page, growth.report(results, command, rounds, os.path.relpath(picture, page.parent)))
    if picture:
        growth.plot(results, picture)
    if options.json:
        common.write_text(options.json, json.dumps({"rounds": rounds, "growth": found}, indent=1) + "\n")


def profiled(network: str, key: str, rounds: int, size: int) -> dict[str, Any]:
    """The profile of one network under one composite, in this process."""
    import bench_networks as nets

    x = input_of(network, size)
    graph = graph_of(nets.network(network, size), x)
    return profile.measure(graph, COMPOSITES[key](), x, TARGET, rounds)


def all_profiled(options: argparse.Namespace, rounds: int, command: str) -> None:
    """Profiles of the rows asked for; the page is that of VGG-16 under epsilon_gamma_box, unless others are."""
    names = options.rows or ["vgg16-egb"]
    known = [row.name for row in ROWS if row.name.split("-")[1] in COMPOSITES]
    if unknown := set(names) - set(known):
        raise SystemExit(f"no profile of {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    found = {name: in_fresh_process("_profile", *name.split("-"), str(rounds), str(options.size)) for name in names}
    print("\n\n".join(f"{name}\n\n{profile.tables(measures)}" for name, measures in found.items()), flush=True)
    page = options.markdown or (None if options.rows else common.ROOT / "benchmarks" / "profile.md")
    if page:
        common.write_text(page, profile.report(found, command, rounds, options.size))
    if options.json:
        common.write_text(options.json, json.dumps({"rounds": rounds, "profile": found}, indent=1) + "\n")


def main() -> int:
    """Run what the command line asks for; 1 if two sides computed different relevances."""
    if sys.argv[1:2] and sys.argv[1].startswith("_"):
        hidden(sys.argv[1:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("rows", "growth", "profile"), default="rows")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, and no one-shot calls")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help=f"of {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--rounds", type=int, help="timed rounds (7; quick: 3)")
    parser.add_argument("--size", type=int, default=224, help="pixels of an image's side, a multiple of 32 (224)")
    parser.add_argument("--no-one-shot", action="store_true", help="only what the rows' ratios need")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--png", type=Path, metavar="FILE", help="bars of every call's seconds")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the report that is committed")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 7)
    command = " ".join(["sh scripts/bench", *sys.argv[1:]])
    if common.LOAD > common.BUSY:
        print(f"the machine is busy (load average {common.LOAD:.2f}): times will not be worth much", file=sys.stderr)
    if options.what == "growth":
        grown(options, rounds, command)
        return 0
    if options.what == "profile":
        all_profiled(options, rounds, command)
        return 0
    rows = chosen(options.rows, options.quick)
    found = measured(rows, rounds, options.size, not (options.quick or options.no_one_shot))
    results = evaluated(rows, found)
    body = tables(results, found)
    print(body, flush=True)
    if options.markdown:
        picture = options.png and os.path.relpath(options.png, options.markdown.parent)
        common.write_text(options.markdown, report(body, command, rounds, options.size, picture))
    if options.json:
        facts = {"date": str(date.today()), "commit": common.commit(), "machine": common.machine()}
        facts["versions"] = common.versions(*PACKAGES)
        whole = {
            **facts,
            "command": command,
            "rounds": rounds,
            "size": options.size,
            "rows": results,
            "measures": found,
        }
        common.write_text(options.json, json.dumps(whole, indent=1) + "\n")
    if options.png:
        bars(found, options.png)
    if wrong := differing(found):
        print("\n".join(["", "different relevances:", *wrong]), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
