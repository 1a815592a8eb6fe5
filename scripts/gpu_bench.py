"""The fast engine on a CUDA device beside zennit with cuDNN, TF32 off on both: a part of scripts/gpu.

Both sides run in one process, interleaved, timed by device events; a round's pair stands side by side. Before, their
relevances are compared: in float64, where they must agree, and in float32, where a ReLU that rounding tips over may
differ. --rehearse runs all of it small on a stand-in for CuPy and torch on the CPU, to see that the script works.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import lrp_ref as lrp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
COMPOSITES = {
    "egb": ("epsilon_gamma_box", lambda: lrp.presets.epsilon_gamma_box(low=0, high=1), 2.0),
    "epf": ("epsilon_plus_flat", lambda: lrp.presets.epsilon_plus_flat(), 1.3),
}
"""Its name, the composite, and how many times as fast as zennit it must be."""
TITLES = {"vgg16": "VGG-16", "resnet50": "ResNet-50"}
NEEDED_PASSES = 3
"""Forward, the forward of w+, the adjoint: the useful operations over those of a forward pass."""
TILES = (2**27, 2**28, 2**29, 2**30, 2**31)
TARGET = 5
Call = Callable[[], Any]


# --- timing -----------------------------------------------------------------------------------------------------------


def seconds_of(cupy: Any, call: Call, rehearse: bool) -> tuple[float, float]:
    """Seconds on the device, between events on both sides of the call, and until the host was free again.

    torch and CuPy both work on the default stream, so one pair of events serves both.
    """
    if rehearse:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start, 0.0
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    begin.record()
    result = call()
    end.record()
    host = time.perf_counter() - start
    end.synchronize()
    del result
    return cupy.cuda.get_elapsed_time(begin, end) / 1000, host


def median_seconds(cupy: Any, call: Call, rounds: int, rehearse: bool) -> float:
    for _ in range(2):
        seconds_of(cupy, call, rehearse)
    return statistics.median(seconds_of(cupy, call, rehearse)[0] for _ in range(rounds))


# --- parts ------------------------------------------------------------------------------------------------------------


def about(cupy: Any, rehearse: bool) -> dict[str, Any]:
    """The card and the versions."""
    import torch

    found = {"date": date.today().isoformat(), "python": sys.version.split()[0], "numpy": np.__version__}
    found["torch"] = torch.__version__
    if not rehearse:
        properties = cupy.cuda.runtime.getDeviceProperties(0)
        found["card"] = properties["name"].decode()
        found["memory GiB"] = round(properties["totalGlobalMem"] / 2**30, 1)
        found["cupy"] = cupy.__version__
        found["driver"] = cupy.cuda.runtime.driverGetVersion()
        found["cuda runtime"] = cupy.cuda.runtime.runtimeGetVersion()
        found["cudnn"] = torch.backends.cudnn.version()
    return found


def rates(cupy: Any, rehearse: bool) -> dict[str, Any]:
    """The rate of a large float32 product, as the engine calls it, and of a copy, in read and written bytes."""
    n, numbers = (64, 2**12) if rehearse else (8192, 2**30)
    rng = np.random.default_rng(0)
    a = cupy.asarray(rng.standard_normal((n, n), dtype=np.float32))
    b, out = a + a, cupy.empty((n, n), np.float32)
    sgemm = median_seconds(cupy, lambda: cupy.matmul(a, b, out=out), 10, rehearse)
    source = cupy.zeros(numbers, dtype=np.float32)
    target = cupy.empty(numbers, np.float32)

    def copied() -> None:
        target[...] = source

    copying = median_seconds(cupy, copied, 10, rehearse)
    return {
        "about": about(cupy, rehearse),
        "sgemm TFLOP/s": 2e-12 * n**3 / sgemm,
        "copy TB/s": 8e-12 * numbers / copying,
    }


def operations(graph: lrp.Graph, shape: tuple[int, ...]) -> float:
    """Floating point operations of the convolutions and dense layers in one forward pass of one sample."""
    activations = graph.forward(np.zeros((1, *shape[1:]), np.float32))
    total = 0.0
    for node in graph.nodes:
        if isinstance(node.layer, lrp.layers.Conv):
            total += 2.0 * node.layer.weight.size * np.prod(activations[node.name].shape[2:])
        elif isinstance(node.layer, lrp.layers.Dense):
            total += 2.0 * node.layer.weight.size
    return total


def zennit_call(nets: Any, model: Any, x: Any, name: str) -> Call:
    """One explanation by zennit on the tensor x, which may lie on a device."""
    import torch

    known, composite = nets.summed_by_zennit(model), nets.zennit_composite(name, x)

    def call() -> Any:
        leaf = x.clone().requires_grad_(True)
        with composite.context(known) as hooked:
            output = hooked(leaf)
            start = torch.zeros_like(output)
            start[:, TARGET] = output[:, TARGET].detach()
            return torch.autograd.grad(output, leaf, start)[0]

    return call


def apart(ours: Any, theirs: Any) -> dict[str, float]:
    """The greatest difference over the greatest of theirs, and the norm of it over theirs."""
    one, other = ours.get().astype(float), theirs.detach().cpu().numpy().astype(float)
    return {
        "max": float(abs(one - other).max() / abs(other).max()),
        "norm": float(np.linalg.norm(one - other) / np.linalg.norm(other)),
    }


def network(
    cupy: Any, name: str, batch: int, rounds: int, rehearse: bool, save: Callable[[dict[str, Any]], None]
) -> None:
    """One network under both composites; what is known is saved after each step."""
    import bench_networks as nets
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    place = "cpu" if rehearse else "cuda"
    size, batch, rounds = (32, 2, 2) if rehearse else (224, batch, rounds)
    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - started:6.1f} s  {text}", flush=True)

    model = nets.network(name, size)
    x = np.random.default_rng(1).uniform(0, 1, (batch, 3, size, size)).astype(np.float32)
    graph = lrp.canonize(lrp.from_torch(model, torch.from_numpy(x[:1]), check=False))
    flops = operations(graph, x.shape) * batch
    say(f"{name}: {flops / batch / 1e9:.1f} GFLOP a forward pass of one image")
    found: dict[str, Any] = {"network": name, "batch": batch, "size": size, "forward FLOP": flops, "composites": {}}
    on_device = graph.like(x).to("cuda")
    model = model.to(place)
    image, tensor = cupy.asarray(x), torch.from_numpy(x).to(place)
    say("on the device")
    for key, (title, composite, must) in COMPOSITES.items():
        row: dict[str, Any] = {"title": title, "must": must}
        found["composites"][key] = row
        try:
            row["apart, float64"] = in_float64(cupy, nets, model, graph, composite(), x[:2], key, place)
            say(f"{key}: apart in float64 {row['apart, float64']}")
            save(found)
            ready = lrp.prepare(on_device, composite(), x=image)

            def ours(ready: Any = ready) -> Any:
                return ready.explain(image, TARGET, keep="input")

            theirs = zennit_call(nets, model, tensor, key)
            e = ours()
            row["engine"] = sorted(set(e.engine.values()))
            row["apart, float32"] = apart(e.relevance, theirs())
            del e
            say(f"{key}: apart in float32 {row['apart, float32']}; {row['engine']}")
            for _ in range(2):
                seconds_of(cupy, ours, rehearse)
                seconds_of(cupy, theirs, rehearse)
            row["ours"], row["zennit"], row["host"] = [], [], []
            for _ in range(rounds):
                device, host = seconds_of(cupy, ours, rehearse)
                row["ours"].append(device)
                row["host"].append(host)
                row["zennit"].append(seconds_of(cupy, theirs, rehearse)[0])
            row["useful TFLOP/s"] = NEEDED_PASSES * flops / statistics.median(row["ours"]) / 1e12
            middle = {side: statistics.median(row[side]) for side in ("ours", "zennit", "host")}
            times = middle["zennit"] / middle["ours"]
            say(f"{key}: {middle}, {times:.2f} x, {row['useful TFLOP/s']:.1f} useful TFLOP/s")
            save(found)
            row["tiles"] = by_tile(cupy, ours, rehearse)
            say(f"{key}: by tile {row['tiles']}")
            save(found)
            row["kernels"] = profile(ours, rehearse)
            for line in row["kernels"][:14]:
                say(f"    {line['seconds'] * 1000:8.2f} ms {line['count']:5d} x {line['kernel'][:90]}")
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"
            say(f"{key}: {row['error']}")
            import traceback

            traceback.print_exc()
        save(found)


def in_float64(
    cupy: Any, nets: Any, model: Any, graph: lrp.Graph, composite: Any, x: np.ndarray, key: str, place: str
) -> dict[str, float]:
    """How far apart the sides are on two images in float64."""
    import torch

    doubles = x.astype(np.float64)
    e = lrp.explain(graph.like(doubles).to("cuda"), cupy.asarray(doubles), composite, TARGET, keep="input")
    tensor = torch.from_numpy(doubles).to(place)
    theirs = zennit_call(nets, copy.deepcopy(model).double(), tensor, key)()
    return apart(e.relevance, theirs)


def by_tile(cupy: Any, call: Call, rehearse: bool) -> dict[str, float]:
    """The median of three calls for tiles of several sizes."""
    from lrp_ref.fast import device

    before, found = device.TILE, {}
    try:
        for tile in TILES:
            device.TILE = tile
            seconds_of(cupy, call, rehearse)
            found[f"{tile >> 20} MiB"] = statistics.median(seconds_of(cupy, call, rehearse)[0] for _ in range(3))
    finally:
        device.TILE = before
    return found


def profile(call: Call, rehearse: bool) -> list[dict[str, Any]]:
    """The kernels of one call by the time that they took together; torch's profiler sees CuPy's too."""
    if rehearse:
        return []
    import torch
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    rows = []
    for event in seen.key_averages():
        spent = getattr(event, "self_device_time_total", 0) or getattr(event, "self_cuda_time_total", 0)
        if spent:
            rows.append({"kernel": event.key, "count": event.count, "seconds": spent / 1e6})
    return sorted(rows, key=lambda row: -row["seconds"])[:40]


# --- words ------------------------------------------------------------------------------------------------------------


def table(folder: Path) -> str:
    """What was found, as Markdown."""

    def read(name: str) -> dict[str, Any]:
        path = folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    measured = read("rates")
    sgemm = measured.get("sgemm TFLOP/s", float("nan"))
    lines = ["# The fast engine on a device", "", "Written by `sh scripts/gpu FOLDER`.", ""]
    lines += [f"- {name}: {value}" for name, value in measured.get("about", {}).items()]
    lines.append(f"- a float32 product of 8192 x 8192 x 8192 without TF32: {sgemm:.1f} TFLOP/s")
    lines.append(f"- a copy: {measured.get('copy TB/s', float('nan')):.2f} TB/s, read and written")
    lines += [
        "",
        "Medians of interleaved rounds by device events; zennit with cuDNN, benchmark mode, TF32 off on both.",
        "",
    ]
    titles = (
        "network",
        "composite",
        "ours ms",
        "zennit ms",
        "times as fast",
        "must",
        "useful TFLOP/s",
        "of sgemm (must 0.5)",
    )
    titles = (*titles, "apart in float64", "in float32")
    lines += ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for name in TITLES:
        found = read(name)
        for row in found.get("composites", {}).values():
            if "useful TFLOP/s" not in row:
                cells = [TITLES[name], row["title"], row.get("error", "not measured"), *[""] * (len(titles) - 3)]
            else:
                ours, theirs = (statistics.median(row[side]) for side in ("ours", "zennit"))
                useful = row["useful TFLOP/s"]
                cells = [
                    f"{TITLES[name]}, batch {found['batch']}",
                    row["title"],
                    f"{1000 * ours:.1f}",
                    f"{1000 * theirs:.1f}",
                ]
                cells += [f"{theirs / ours:.2f}", str(row["must"]), f"{useful:.1f}", f"{useful / sgemm:.2f}"]
                cells += [f"{row['apart, float64']['max']:.0e}", f"{row['apart, float32']['max']:.0e}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["rates", "network", "table"])
    parser.add_argument("name", nargs="?", choices=list(TITLES))
    parser.add_argument("--folder", type=Path, required=True, help="where JSON and table.md go")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rehearse", action="store_true", help="small, without a device")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.part == "table":
        text = table(given.folder)
        (given.folder / "table.md").write_text(text, encoding="utf-8")
        print(text)
        return
    os.environ.pop("CUPY_TF32", None)
    with stand_in() if given.rehearse else nullcontext():
        measured(given)


def stand_in() -> AbstractContextManager[Any]:
    """CuPy's, whose kernels run on the host."""
    sys.path.insert(0, str(ROOT / "tests"))
    import kernel_emulation
    import standin_cupy

    return standin_cupy.installed({"cupy.RawModule": kernel_emulation.RawModule})


def measured(given: argparse.Namespace) -> None:
    """One part, and its JSON."""
    import cupy

    def save(found: dict[str, Any]) -> None:
        path = given.folder / f"{given.name or given.part}.json"
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")

    if given.part == "rates":
        found = rates(cupy, given.rehearse)
        print(json.dumps(found, indent=1), flush=True)
        save(found)
    else:
        network(cupy, given.name, given.batch, given.rounds, given.rehearse, save)


if __name__ == "__main__":
    main()
