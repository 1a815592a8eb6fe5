"""Measure how long ONNX files take to load, and in how much memory: SqueezeNet's and VGG-16's architecture.

    python scripts/load_seconds.py > benchmarks/load.md

The weights are random and the files are written first; each load is a fresh process, the median of five.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np

PROBE = """
import sys, time
import lrp_ref, onnx

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

before, start = peak(), time.perf_counter()
graph = lrp_ref.load(sys.argv[1])
print(time.perf_counter() - start, peak() - before, len(graph.nodes))
"""


def write(path: Path, layers: list[tuple[str, tuple[int, ...]]], size: int) -> None:
    """An ONNX file of layers one after the other: ("conv", shape), ("gemm", shape), ("pool", (kernel, stride)), ..."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng, nodes, weights, last = np.random.default_rng(0), [], [], "input"

    def add(kind: str, name: str, *inputs: str, **options: object) -> str:
        nodes.append(helper.make_node(kind, [last, *inputs], [f"{name}.out"], name=name, **options))
        return f"{name}.out"

    for i, (kind, shape) in enumerate(layers):
        name = f"{kind}{i}"
        if kind in ("conv", "gemm"):
            values = (rng.standard_normal(shape, dtype=np.float32) * 0.05, np.zeros(shape[0], dtype=np.float32))
            for part, value in zip(("weight", "bias"), values, strict=True):
                weights.append(numpy_helper.from_array(value, f"{name}.{part}"))
            parameters = (f"{name}.weight", f"{name}.bias")
            if kind == "conv":
                last = add("Conv", name, *parameters, pads=[shape[-1] // 2 if shape[-1] == 3 else 0] * 4)
            else:
                last = add("Gemm", name, *parameters, transB=1)
            last = add("Relu", f"relu{i}")
        elif kind == "pool":
            last = add("MaxPool", name, kernel_shape=[shape[0]] * 2, strides=[shape[1]] * 2)
        else:
            last = add(kind, name)
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])]
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def vgg16() -> list[tuple[str, tuple[int, ...]]]:
    """Its 13 convolutions and 3 dense layers."""
    layers: list[tuple[str, tuple[int, ...]]] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers.append(("conv", (width, channels, 3, 3)))
            channels = width
        layers.append(("pool", (2, 2)))
    return [*layers, ("Flatten", ()), ("gemm", (4096, 25088)), ("gemm", (4096, 4096)), ("gemm", (1000, 4096))]


def squeezenet() -> list[tuple[str, tuple[int, ...]]]:
    """A chain with SqueezeNet's number of convolutions and weights; its branches cost nothing at load."""
    layers: list[tuple[str, tuple[int, ...]]] = [("conv", (96, 3, 7, 7)), ("pool", (3, 2))]
    channels = 96
    for width in (16, 16, 32, 32, 48, 48, 64, 64):
        layers += [("conv", (width, channels, 1, 1)), ("conv", (8 * width, width, 3, 3))]
        channels = 8 * width
    return [*layers, ("conv", (1000, channels, 1, 1)), ("GlobalAveragePool", ()), ("Flatten", ())]


def main() -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    print("# Loading ONNX files\n")
    print(f"{date.today()}, commit {commit.strip()}, {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"python {platform.python_version()}, numpy {np.__version__}, onnx {version('onnx')}.")
    print("Median (least, greatest) of five fresh processes, by scripts/load_seconds.py; random weights.\n")
    print(
        "| network | file MB | seconds | memory MB above what the imports took | memory / file |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, layers, size in (("SqueezeNet-like", squeezenet(), 227), ("VGG-16", vgg16(), 224)):
            path = Path(folder) / "network.onnx"
            write(path, layers, size)
            megabytes = path.stat().st_size / 2**20
            runs = []
            for _ in range(5):
                done = subprocess.run([sys.executable, "-c", PROBE, path], capture_output=True, text=True, check=True)
                runs.append([float(number) for number in done.stdout.split()])
            seconds, memory = sorted(run[0] for run in runs), statistics.median(run[1] for run in runs)
            spread = f"{statistics.median(seconds):.2f} ({seconds[0]:.2f}, {seconds[-1]:.2f})"
            print(f"| {name} | {megabytes:.0f} | {spread} | {memory:.0f} | {memory / megabytes:.2f} |")


if __name__ == "__main__":
    main()
