"""Mutated ONNX files: each must be read right, or be refused by a LoadError or UnsupportedOp, quickly and in little
memory. Everything depends on one number, the seed, by which a failure is reproduced: scripts/fuzz.py --one SEED.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from onnx_models import CASES, NEWEST, build, ints, n, numbers  # noqa: E402

from lrp_ref import Graph, LoadError, UnsupportedOp, canonize  # noqa: E402
from lrp_ref.errors import LrpError  # noqa: E402
from lrp_ref.io import save  # noqa: E402
from lrp_ref.loaders.onnx import FOLDED, OPERATORS, from_onnx  # noqa: E402
from lrp_ref.loaders.onnx_write import PRODUCER  # noqa: E402

SECONDS, MEGABYTES = 5, 512
"""What loading a file may take."""
HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
TOLERANCE = 1e-5
"""How far, relative to the greatest, outputs in float64 may lie from the evaluator's, which rounds some constants."""


# --- what is mutated --------------------------------------------------------------------------------------------


def network() -> Any:
    """Convolution, batch norm, gate, pool, shape arithmetic and dense layer in one."""
    nodes = [
        n("Conv", "x w b", "c", name="/features/0/Conv", pads=[1, 1, 1, 1]),
        n("BatchNormalization", "c s t m v", "d", name="/features/1/BatchNormalization", epsilon=1e-3),
        n("Relu", "d", "e", name="/features/2/Relu"),
        n("GlobalAveragePool", "e", "p"),
        n("Sigmoid", "p", "g"),
        n("Mul", "e g", "f"),
        n("MaxPool", "f", "h", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Shape", "h", "shape"),
        n("Gather", "shape zero", "batch"),
        n("Unsqueeze", "batch axis", "first"),
        n("Concat", "first rest", "target", axis=0),
        n("Reshape", "h target", "flat"),
        n("Gemm", "flat k l", "y", name="/classifier/Gemm", transB=1),
    ]
    constants = {
        "w": numbers(4, 3, 3, 3), "b": numbers(4), "s": numbers(4), "t": numbers(4), "m": numbers(4),
        "v": numbers(4, positive=True), "zero": np.int64(0), "axis": ints(0), "rest": ints(-1),
        "k": numbers(5, 48), "l": numbers(5),
    }  # fmt: skip
    return build(nodes, constants, opset=17)


def function() -> Any:
    """A function that calls another."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "inner", ["a"], ["b"], [n("Relu", "a", "t"), n("Add", "a t", "b")], opsets)
    twice = helper.make_node("inner", ["a"], ["t"], domain="own"), helper.make_node("inner", ["t"], ["b"], domain="own")
    outer = helper.make_function("own", "outer", ["a"], ["b"], list(twice), opsets)
    return build([helper.make_node("outer", ["x"], ["y"], domain="own")], domains=("own",), functions=(inner, outer))


def constants() -> Any:
    """What is computed while reading."""
    nodes = [
        n("Range", "zero three one", "r"),
        n("ConstantOfShape", "r3", "ones", value=helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.5])),
        n("Tile", "c r3", "tiled"),
        n("Expand", "c e", "wide"),
        n("Gather", "wide r", "gathered"),
        n("Mul", "gathered wide", "product"),
        n("Add", "x product", "z"),
        n("Split", "z", "p q s", axis=1, num_outputs=3),
        n("Sum", "p q s", "y"),
    ]
    values = {"zero": np.int64(0), "three": np.int64(3), "one": np.int64(1), "r3": ints(1, 2, 1), "e": ints(3, 6, 7)}
    return build(nodes, values | {"c": numbers(3, 1, 1)}, opset=18)


def saved() -> Any:
    """A file that lrp_ref wrote, with its own description in it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "network.onnx").write_bytes(network().SerializeToString())
        save(from_onnx(Path(folder) / "network.onnx"), Path(folder) / "saved.onnx", input=numbers(2, 3, 6, 7))
        return onnx.load(Path(folder) / "saved.onnx")


def bases() -> list[bytes]:
    """The files that are mutated: networks, and one model of each case, in an opset that it can have."""
    models = [network(), saved(), function(), constants()]
    models += [case.model(max(o for o in case.opsets if o <= 20 or o == NEWEST)) for case in CASES]
    return [model.SerializeToString() for model in models]


# --- mutations --------------------------------------------------------------------------------------------------


def of_bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Bits flipped, bytes deleted, inserted, repeated or taken from another file."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        i, k = rng.randrange(len(made) + 1), rng.choice((1, 1, 2, 8, 64))
        match rng.randrange(7):
            case 0 if i < len(made):
                made[i] ^= 1 << rng.randrange(8)
            case 1:
                del made[i : i + k]
            case 2:
                made[i:i] = rng.randbytes(k)
            case 3:
                made[i : i + k] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * k
            case 4:
                j = rng.randrange(len(other))
                made[i : i + k] = other[j : j + rng.choice((k, 200))]
            case 5:
                made[i:i] = made[rng.randrange(len(made) + 1) :][:k]
            case _ if rng.random() < 0.2:
                del made[i:]
    return bytes(made)


ODD = (0, 1, -1, 2, 3, -2, 7, 64, 1000, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, -(2**31), -(2**63), 2**63 - 1)
ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e-45, 1e30, 3e38, float("inf"), float("-inf"), float("nan"))
NAMES = ("", "x", "y", "w", "b", "\0", "a\nb", "/a/b.0/c/D", "a.b.weight", "z" * 5000, "é", "\x1b[31m", "{}")


def tensors(model: Any) -> list[Any]:
    inner = [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    return [*model.graph.initializer, *inner]


def change_attribute(rng: random.Random, model: Any) -> None:
    node = rng.choice(model.graph.node)
    if not node.attribute or rng.random() < 0.1:
        name = rng.choice(
            ("axis", "pads", "strides", "dilations", "group", "alpha", "auto_pad", "mode", "kernel_shape")
        )
        value = rng.choice((rng.choice(ODD), [rng.choice(ODD)] * 2, rng.choice(ODD_FLOATS), "SAME_UPPER", [1, 1, 1, 1]))
        node.attribute.append(helper.make_attribute(name, value))
        return
    attribute = rng.choice(node.attribute)
    match rng.randrange(6):
        case 0:
            node.attribute.remove(attribute)
        case 1:
            attribute.type = rng.randrange(15)
        case 2:
            node.attribute.append(attribute)
        case 3:
            attribute.s = rng.choice((b"SAME_LOWER", b"VALID", b"\xff", b"linear", b"cubic", b"CRD", b"reflect"))
        case _:
            attribute.f, attribute.i = rng.choice(ODD_FLOATS), rng.choice(ODD)
            if attribute.ints and rng.random() < 0.8:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(ODD)
            elif attribute.ints:
                attribute.ints.append(rng.choice(ODD))


def change_dims(rng: random.Random, model: Any) -> None:
    if rng.random() < 0.5 and tensors(model):
        dims = rng.choice(tensors(model)).dims
    else:
        shape = rng.choice([*model.graph.input, *model.graph.output]).type.tensor_type.shape
        if not shape.dim or rng.random() < 0.1:
            shape.dim.add().dim_value = rng.choice(ODD)
        elif rng.random() < 0.2:
            del shape.dim[-1]
        else:
            dim = rng.choice(shape.dim)
            dim.Clear() if rng.random() < 0.3 else setattr(dim, "dim_value", rng.choice((1, 2, 5, rng.choice(ODD))))
        return
    if dims and rng.random() < 0.8:
        dims[rng.randrange(len(dims))] = rng.choice(ODD)
    elif dims and rng.random() < 0.5:
        dims.reverse()
    else:
        dims.append(rng.choice((1, 1, rng.choice(ODD))))


def change_data(rng: random.Random, model: Any) -> None:
    """Values of a tensor: integers to others, floats to others."""
    if not tensors(model):
        return
    tensor = rng.choice(tensors(model))
    data = bytearray(tensor.raw_data)
    if tensor.data_type == onnx.TensorProto.INT64 and len(data) >= 8:
        i = rng.randrange(len(data) // 8)
        data[8 * i : 8 * i + 8] = rng.choice(ODD).to_bytes(8, "little", signed=True)
    elif len(data) >= 4:
        i = rng.randrange(len(data) // 4)
        data[4 * i : 4 * i + 4] = np.float32(rng.choice(ODD_FLOATS)).tobytes()
    tensor.raw_data = bytes(data)
    if rng.random() < 0.1:
        tensor.data_type = rng.randrange(25)
    if rng.random() < 0.05:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", rng.choice(("/etc/passwd", "../x", ".", "", "model.onnx"))


def change_name(rng: random.Random, model: Any) -> None:
    graph = model.graph
    known = [name for node in graph.node for name in (*node.input, *node.output)] + list(NAMES)
    node = rng.choice(graph.node)
    match rng.randrange(6):
        case 0:
            node.name = rng.choice(NAMES)
        case 1 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(known)
        case 2 if node.output:
            node.output[rng.randrange(len(node.output))] = rng.choice(known)
        case 3:
            node.input.append(rng.choice(known))
        case 4:
            rng.choice([*graph.input, *graph.output, *graph.initializer]).name = rng.choice(known)
        case _:
            del node.input[-1:]


def change_operator(rng: random.Random, model: Any) -> None:
    node = rng.choice(model.graph.node)
    others = ("LayerNormalization", "If", "Loop", "LSTM", "ArgMax", "Nothing", "Exp", "Erf", "Constant")
    node.op_type = rng.choice((*sorted(OPERATORS), *sorted(FOLDED), *others))
    if rng.random() < 0.05:
        node.domain = rng.choice(("own", "ai.onnx", "ai.onnx.ml", "com.microsoft"))


def change_nodes(rng: random.Random, model: Any) -> None:
    nodes = model.graph.node
    i = rng.randrange(len(nodes))
    match rng.randrange(4):
        case 0 if len(nodes) > 1:
            del nodes[i]
        case 1:
            nodes.append(nodes[i])
        case 2:
            kept = list(nodes)
            rng.shuffle(kept)
            made = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
            del nodes[:]
            nodes.extend(made)
        case _:  # one more behind an output
            output = rng.choice(model.graph.output)
            kind = rng.choice(("Relu", "Identity", "Flatten", "Softmax", "Neg", "Transpose", "Squeeze", "Shape"))
            nodes.append(helper.make_node(kind, [output.name], [f"{output.name}'"]))
            output.name += "'"


def change_versions(rng: random.Random, model: Any) -> None:
    opset = rng.choice(model.opset_import)
    opset.version = rng.choice((0, 1, 9, 11, 12, 13, 14, 17, 18, 19, 21, 22, NEWEST, NEWEST + 1, 2**40, -1))
    if rng.random() < 0.1:
        opset.domain = rng.choice(("ai.onnx", "own", "\n"))


STRUCTURED: list[Callable[[random.Random, Any], None]] = [
    *[change_attribute] * 4,
    *[change_dims] * 2,
    *[change_data] * 3,
    *[change_name] * 2,
    *[change_operator] * 2,
    change_nodes,
    change_versions,
]


def mutated(seed: int, files: Sequence[bytes]) -> bytes:
    """The file of that seed."""
    rng = random.Random(seed)
    data = rng.choice(files[:4]) if rng.random() < 0.2 else rng.choice(files)
    if rng.random() < 0.35:
        return of_bytes(rng, data, rng.choice(files))
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if model.graph.node:
            rng.choice(STRUCTURED)(rng, model)
    data = model.SerializeToString()
    return of_bytes(rng, data, rng.choice(files)) if rng.random() < 0.1 else data


# --- what may come of it ----------------------------------------------------------------------------------------


class Failure(Exception):
    """What may not come of a file."""


class Late(Failure):
    """It takes too long."""


def late(*_: Any) -> None:
    raise Late(f"more than {SECONDS} s")


def judge(seed: int, path: Path) -> str:
    """What comes of the file: "right", "refused: ...", or a Failure."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        own = onnx.load(path, load_external_data=False).producer_name == PRODUCER if seed % 4 else True
    except Exception:
        own = False
    try:  # a file of lrp_ref's own is read by its description, and only the check looks at its operators
        graph = from_onnx(path, canonize=False, check=None if own else False)
        from_onnx(path, check=False)
    except LoadError as error:
        return said(error, "LoadError")
    except UnsupportedOp as error:
        return said(error, "UnsupportedOp")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return compared(graph, path, seed)


def said(error: LrpError, kind: str) -> str:
    if not str(error).isprintable():
        raise Failure(f"{kind} of several lines, or with control characters: {error!s}")
    return kind


def compared(graph: Graph, path: Path, seed: int) -> str:
    """Whether the graph computes what the file says."""
    model = onnx.load(path)
    x = {}
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    for tensor in model.graph.input:
        if tensor.name not in constants:
            dims = tensor.type.tensor_type.shape.dim
            shape = [dim.dim_value if dim.dim_value > 0 else 2 if i == 0 else 5 for i, dim in enumerate(dims)]
            if not shape or np.prod([float(side) for side in shape]) > 1e5:
                return "loaded, too large to try"
            x[tensor.name] = rng.normal(size=shape)
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except Exception:
        inferred = model.graph
    for tensor in [*inferred.value_info, *inferred.output]:
        sides = [float(dim.dim_value) for dim in tensor.type.tensor_type.shape.dim if dim.dim_value > 0]
        if np.prod(sides) > 1e6:
            return "loaded, too large to try"
    erring = any(errs(node, model) for node in model.graph.node)
    theirs = reference(model, x)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with np.errstate(all="ignore"):
            values = graph.forward(dict(zip(graph.inputs, x.values(), strict=True)))
            kept = canonize(graph, strip_output=False)
            again = kept.forward(dict(zip(graph.inputs, x.values(), strict=True)))
    except LrpError as error:
        if theirs is None:
            return "loaded, refused by both when run"
        raise Failure(f"{type(error).__name__} when run, which the evaluator does: {error}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if theirs is None:
        return "loaded, and the evaluator refuses"
    for i, (name, expected) in enumerate(zip(graph.outputs, theirs, strict=True)):
        expected = np.asarray(expected)
        expected = expected.astype(float) if expected.dtype.kind == "f" else expected
        if expected.dtype.kind != "f" or not np.isfinite(expected).all() or abs(expected).max(initial=0) > 1e25:
            return "loaded, the evaluator's numbers not finite"
        for ours, what in ((values[name], "read"), (again[kept.outputs[min(i, len(kept.outputs) - 1)]], "canonized")):
            if what == "canonized" and len(kept.outputs) != len(graph.outputs):
                continue
            with np.errstate(all="ignore"):
                same = ours.shape == expected.shape
                difference = abs(ours - expected).max(initial=0) / (abs(expected).max(initial=0) or 1) if same else 0
            if same and difference <= (TOLERANCE if what == "read" else 1e3 * TOLERANCE):
                continue
            if erring:
                return "loaded, where the evaluator is known to err"
            if not same:
                raise Failure(f"{what}: {name} has the shape {ours.shape}, by the evaluator {expected.shape}")
            raise Failure(f"{what}: {name} differs from the evaluator's by {difference:.2g}")
    return "right"


def errs(node: Any, model: Any) -> bool:
    """Whether the evaluator is known to be wrong about a node: pools, where axes have pads of their own, or windows
    that lie apart hang over the end; some of 1 or 3 dimensions; and the nearest cell, which it computes in floats.
    """
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Resize":
        return given.get("mode", b"nearest") == b"nearest"
    if node.op_type == "GlobalMaxPool":
        return any(len(tensor.type.tensor_type.shape.dim) != 4 for tensor in model.graph.input)
    if node.op_type not in ("MaxPool", "AveragePool"):
        return False
    apart = any(s > k for s, k in zip(given.get("strides", ()), given.get("kernel_shape", ()), strict=False))
    lower = given.get("auto_pad") == b"SAME_LOWER"
    return lower or len(set(given.get("pads", ()))) > 1 or bool(given.get("ceil_mode") and apart)


def reference(model: Any, x: dict[str, Any]) -> list[Any] | None:
    """The evaluator's outputs; None where it refuses, or takes too long."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and opset < 14:  # or it takes in the statistics of the batch
            kept = [attribute for attribute in node.attribute if attribute.name != "momentum"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("momentum", 1.0)])
        for attribute in node.attribute:  # halves are read as float32
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in HALVES:
                attribute.i = onnx.TensorProto.FLOAT
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            return list(ReferenceEvaluator(model).run(None, x))
    except Exception:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# --- many of them -----------------------------------------------------------------------------------------------


def work(first: int, stop: int, step: int) -> None:
    """Judge the files of some seeds, with a line before and after each."""
    warnings.simplefilter("error")
    signal.signal(signal.SIGALRM, late)
    files = bases()
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEGABYTES * 2**20, resource.RLIM_INFINITY))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for seed in range(first, stop, step):
            print(seed, flush=True)
            path.write_bytes(mutated(seed, files))
            try:
                outcome = judge(seed, path)
            except BaseException as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                outcome = ascii(f"FAILURE {type(error).__name__} at {where}: {error}"[:500])[1:-1]
            print(seed, outcome, flush=True)


def judged(first: int, stop: int, step: int) -> Iterator[tuple[int, str]]:
    """(seed, outcome) from a process of its own, which is started again behind a file that kills it."""
    while first < stop:
        command = [sys.executable, __file__, "--work", str(first), str(stop), str(step)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            begun = None
            for line in process.stdout:
                seed, _, outcome = line.rstrip("\n").partition(" ")
                begun = int(seed)
                if outcome:
                    yield begun, outcome
                    first, begun = begun + step, None
            code = process.wait()
        if begun is not None:
            yield begun, f"FAILURE the process ended with {code}"
            first = begun + step
        elif code:
            raise RuntimeError(f"the worker from seed {first} on ended with {code}")


def run(count: int, first: int = 0, say: Callable[[str], None] = print) -> tuple[Counter[str], dict[int, str]]:
    """How often each outcome came, and the failures by seed."""
    from concurrent.futures import ThreadPoolExecutor
    from queue import Queue

    jobs = min(os.cpu_count() or 1, 16)
    done: Queue[tuple[int, str]] = Queue()

    def gather(start: int) -> None:
        for entry in judged(start, first + count, jobs):
            done.put(entry)

    outcomes: Counter[str] = Counter()
    failures: dict[int, str] = {}
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(gather, first + i) for i in range(jobs)]
        while not all(future.done() for future in waiting) or not done.empty():
            if done.empty():
                time.sleep(0.02)
                continue
            seed, outcome = done.get()
            failed = outcome.startswith("FAILURE")
            outcomes["failure" if failed else outcome] += 1
            if failed:
                failures[seed] = outcome
                say(f"seed {seed}: {outcome}")
            if outcomes.total() % 1000 == 0:
                say(f"{outcomes.total()} of {count} in {time.monotonic() - began:.0f} s")
        for future in waiting:
            future.result()
    return outcomes, failures


def main() -> int:
    parser = argparse.ArgumentParser(description="Read mutated ONNX files.")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--one", type=int, metavar="SEED", help="judge one file, and show where it fails")
    parser.add_argument("--keep", type=Path, metavar="PATH", help="with --one: write the file there")
    parser.add_argument("--work", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(*arguments.work)
        return 0
    if arguments.one is not None:
        data = mutated(arguments.one, bases())
        signal.signal(signal.SIGALRM, late)
        with tempfile.TemporaryDirectory() as folder:
            path = arguments.keep or Path(folder) / "model.onnx"
            path.write_bytes(data)
            warnings.simplefilter("error")
            print(judge(arguments.one, path))
        return 0
    outcomes, failures = run(arguments.count, arguments.first)
    for outcome, number in outcomes.most_common():
        print(f"{number:8}  {outcome}")
    for seed in sorted(failures):
        print(f"reproduce: python scripts/fuzz.py --one {seed}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
