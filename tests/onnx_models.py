"""Small ONNX models for tests: how to build one, and one or more for each operator that can be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.defs import onnx_opset_version

NEWEST = onnx_opset_version()
ALL = (11, 13, 17, 18, NEWEST)
FLOATS = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
MAPS = (2, 3, 6, 7)  # (batch, channels, height, width)
ROWS = (2, 5)


def n(kind: str, inputs: str, outputs: str = "y", name: str = "", **attributes: Any) -> Any:
    """A node; tensors separated by spaces, "-" for one left out."""
    names = ([part if part != "-" else "" for part in side.split()] for side in (inputs, outputs))
    return helper.make_node(kind, *names, name=name, **attributes)


def numbers(*shape: int, seed: int = 0, positive: bool = False) -> Any:
    made = np.random.default_rng(seed).normal(size=shape).astype("float32")
    return abs(made) + np.float32(0.5) if positive else made


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def build(
    nodes: list[Any],
    constants: dict[str, Any] | None = None,
    *,
    inputs: dict[str, Any] | None = None,
    outputs: str = "y",
    opset: int = 18,
    dtype: str = "float32",
    domains: tuple[str, ...] = (),
    functions: tuple[Any, ...] = (),
) -> Any:
    """A model; float32 constants are cast to `dtype`."""
    floats = FLOATS.get(dtype, TensorProto.FLOAT)
    given = {"x": ("N", *MAPS[1:])} if inputs is None else inputs
    tensors = []
    for name, value in (constants or {}).items():
        value = np.asarray(value)
        cast = value.astype(dtype) if value.dtype == np.float32 else value
        tensors.append(numpy_helper.from_array(cast, name))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, floats, shape) for name, shape in given.items()],
        [helper.make_tensor_value_info(name, floats, None) for name in outputs.split()],
        tensors,
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)


@dataclass(frozen=True)
class Case:
    """A model, and the kinds of the layers that it is read as."""

    name: str
    kinds: str
    nodes: list[Any]
    constants: dict[str, Any] = field(default_factory=dict)
    opsets: tuple[int, ...] = ALL
    shape: tuple[int, ...] = MAPS
    outputs: str = "y"
    dtypes: tuple[str, ...] = ("float32", "float64")
    fixed: bool = False
    """Whether the file fixes the batch's size."""

    @property
    def operators(self) -> set[str]:
        return {node.op_type for node in self.nodes}

    def model(self, opset: int, dtype: str = "float32") -> Any:
        shape = self.shape if self.fixed else ("N", *self.shape[1:])
        kinds = {"inputs": {"x": shape}, "outputs": self.outputs, "opset": opset, "dtype": dtype}
        return build(self.nodes, self.constants, **kinds)

    def __str__(self) -> str:
        return self.name


def C(name: str, kinds: str, *nodes: Any, constants: dict[str, Any] | None = None, **options: Any) -> Case:
    return Case(name, kinds, list(nodes), constants or {}, **options)


W = {"w": numbers(4, 3, 3, 2), "b": numbers(4, seed=1)}
WT = {"w": numbers(3, 4, 3, 2), "b": numbers(4, seed=1)}
STATISTICS = dict(
    zip("sbmv", (numbers(3), numbers(3, seed=1), numbers(3, seed=2), numbers(3, positive=True)), strict=True)
)
ERF = {"root": np.float32(2**0.5), "inverse": np.float32(0.5**0.5), "one": np.float32(1), "half": np.float32(0.5)}
NEW = (20, NEWEST)
OLD = (11,)
FROM13 = (13, 17, 18, NEWEST)
FROM18 = (18, NEWEST)
LINE = (2, 3, 9)
BLOCK = (2, 3, 5, 6, 4)


def renamed(node: Any, old: str, new: str) -> Any:
    """The node, reading another tensor."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [new if name == old else name for name in node.input]
    return copy


def elementwise() -> list[Case]:
    cases = [
        C(kind, layer, n(kind, "x"))
        for kind, layer in [
            *(("Relu", "ReLU"), ("Sigmoid", "Sigmoid"), ("Tanh", "Tanh"), ("Softplus", "Softplus"), ("Selu", "SELU")),
            *(("LeakyRelu", "LeakyReLU"), ("Elu", "ELU"), ("HardSigmoid", "HardSigmoid"), ("Identity", "Identity")),
            *(("Neg", "Scale"), ("GlobalAveragePool", "GlobalAvgPool"), ("GlobalMaxPool", "GlobalMaxPool")),
        ]
    ]
    opsets = (12, 17, 18, NEWEST)
    cases += [
        C("Celu", "CELU", n("Celu", "x"), opsets=opsets, dtypes=("float32",)),
        C("Celu alpha", "CELU", n("Celu", "x", alpha=0.3), opsets=opsets, dtypes=("float32",)),
        C("Elu alpha", "ELU", n("Elu", "x", alpha=0.3)),
        C("LeakyRelu alpha", "LeakyReLU", n("LeakyRelu", "x", alpha=0.1)),
        C("HardSigmoid alpha", "HardSigmoid", n("HardSigmoid", "x", alpha=1 / 6, beta=0.4)),
        C("HardSwish", "HardSwish", n("HardSwish", "x"), opsets=(14, 18, NEWEST)),
        C("Gelu", "GELU", n("Gelu", "x"), opsets=NEW),
        C("Gelu tanh", "GELU", n("Gelu", "x", approximate="tanh"), opsets=NEW),
        C("PRelu channels", "PReLU", n("PRelu", "x s"), constants={"s": numbers(3, 1, 1)}),
        C("PRelu one", "PReLU", n("PRelu", "x s"), constants={"s": numbers(1)}),
        C("PRelu rows", "PReLU", n("PRelu", "x s"), constants={"s": numbers(5)}, shape=ROWS),
        C("Clip", "Clip", n("Clip", "x l h"), constants={"l": np.float32(-0.5), "h": np.float32(0.25)}),
        C("Clip low", "Clip", n("Clip", "x l"), constants={"l": np.float32(-0.5)}),
        C("Clip high", "Clip", n("Clip", "x - h"), constants={"h": np.float32(0.5)}),
        C("Clip none", "Clip", n("Clip", "x")),
        C("Clip to relu", "ReLU", n("Clip", "x l"), constants={"l": np.float32(0)}),
        C("Clip huge", "ReLU", n("Clip", "x l h"), constants={"l": np.float32(0), "h": np.float32(3e38)}),
        C("Clip from far above", "Clip", n("Clip", "x l"), constants={"l": np.float32(1e31)}),
        C("Max", "ReLU", n("Max", "x zero"), constants={"zero": np.float32(0)}),
        C("Max first", "Clip", n("Max", "c x"), constants={"c": np.full((1, 1), 0.5, "float32")}),
        C("Min", "Clip", n("Min", "x c"), constants={"c": np.full(1, 0.5, "float32")}),
        C("Softmax last", "Softmax", n("Softmax", "x", axis=-1)),
        C("Softmax rows", "Softmax", n("Softmax", "x"), shape=ROWS),
        C("Softmax channels", "Softmax", n("Softmax", "x", axis=1), opsets=FROM13),
        C("Dropout", "Dropout", n("Dropout", "x")),
        C("Dropout ratio", "Dropout", n("Dropout", "x", ratio=0.3), opsets=OLD),
        C(
            "Dropout inputs",
            "Dropout",
            n("Dropout", "x r t"),
            constants={"r": np.float32(0.3), "t": np.array(False)},
            opsets=FROM13,
        ),
        C("Cast", "Identity", n("Cast", "x", to=TensorProto.FLOAT), dtypes=("float32",)),
        C("Cast to half", "Identity", n("Cast", "x", to=TensorProto.FLOAT16), dtypes=("float32",)),
        C("BatchNormalization", "BatchNorm", n("BatchNormalization", "x s b m v", epsilon=1e-3), constants=STATISTICS),
        C(
            "BatchNormalization rows",
            "BatchNorm",
            n("BatchNormalization", "x s b m v"),
            constants=STATISTICS,
            shape=(2, 3),
        ),
    ]
    for pattern, kind in (("Sigmoid", "SiLU"), ("HardSigmoid", "HardSwish")):
        attributes = {"alpha": 1 / 6} if kind == "HardSwish" else {}
        for order in ("x g", "g x"):
            nodes = n(pattern, "x", "g", **attributes), n("Mul", order)
            cases.append(C(f"{kind} {order}", f"{pattern} {kind}", *nodes))
    gelus = {
        "x (1 + erf) / 2": [n("Div", "x root", "a"), n("Mul", "x p", "q"), n("Mul", "q half")],
        "erf + 1, x last": [n("Mul", "x inverse", "a"), n("Mul", "half p", "q"), n("Mul", "q x")],
        "x / 2 first": [n("Div", "x root", "a"), n("Mul", "half x", "q"), n("Mul", "p q")],
        "factor in front": [n("Mul", "inverse x", "a"), n("Mul", "p x", "q"), n("Mul", "half q")],
    }
    for name, (first, *rest) in gelus.items():
        add = n("Add", "one e" if "x last" in name else "e one", "p")
        cases.append(C(f"GELU {name}", "GELU", first, n("Erf", "a", "e"), add, *rest, constants=ERF))
        inner = [renamed(node, "x", "t") for node in (first, n("Erf", "a", "e"), add, *rest)]
        behind = [n("Mul", "x two", "t"), *inner]  # what it reads is itself a product
        cases.append(C(f"GELU of a product, {name}", "Scale GELU", *behind, constants=ERF | {"two": np.float32(2)}))
    return cases


def linear() -> list[Case]:
    conv = {
        "Conv": {},
        "Conv strides": {"strides": [2, 1], "pads": [1, 0, 2, 1]},
        "Conv dilations": {"dilations": [2, 3], "kernel_shape": [3, 2]},
        "Conv SAME_UPPER": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        "Conv SAME_LOWER": {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        "Conv SAME_UPPER dilated": {"auto_pad": "SAME_UPPER", "dilations": [2, 1]},
        "Conv VALID": {"auto_pad": "VALID", "strides": [2, 2]},
        "Conv NOTSET": {"auto_pad": "NOTSET", "pads": [1, 1, 1, 1]},
    }
    cases = [C(name, "Conv", n("Conv", "x w b", **options), constants=W) for name, options in conv.items()]
    transposed = {
        "ConvTranspose": {},
        "ConvTranspose strides": {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]},
        "ConvTranspose dilations": {"dilations": [2, 1]},
    }
    cases += [C(k, "ConvTranspose", n("ConvTranspose", "x w b", **v), constants=WT) for k, v in transposed.items()]
    group = {"w": numbers(6, 1, 3, 3)}
    c = np.float32(1)
    cases += [
        C("Conv without bias", "Conv", n("Conv", "x w"), constants={"w": W["w"]}),
        C("Conv groups", "Conv", n("Conv", "x w", group=3), constants=group),
        C("Conv 1-D", "Conv", n("Conv", "x w", strides=[2]), constants={"w": numbers(4, 3, 3)}, shape=LINE),
        C("Conv 3-D", "Conv", n("Conv", "x w", pads=[1] * 6), constants={"w": numbers(4, 3, 3, 2, 3)}, shape=BLOCK),
        C("Gemm", "Dense", n("Gemm", "x w b"), constants={"w": numbers(5, 4), "b": numbers(4)}, shape=ROWS),
        C(
            "Gemm transB",
            "Dense",
            n("Gemm", "x w b", transB=1),
            constants={"w": numbers(4, 5), "b": numbers(4)},
            shape=ROWS,
        ),
        C(
            "Gemm alpha beta",
            "Dense",
            n("Gemm", "x w b", alpha=0.5, beta=2.5),
            constants={"w": numbers(5, 4), "b": numbers(1, 4)},
            shape=ROWS,
        ),
        C("Gemm scalar C", "Dense", n("Gemm", "x w b"), constants={"w": numbers(5, 4), "b": numbers(1)}, shape=ROWS),
        C("Gemm C of no axes", "Dense", n("Gemm", "x w b"), constants={"w": numbers(5, 4), "b": c}, shape=ROWS),
        C("Gemm (1, 1) C", "Dense", n("Gemm", "x w b"), constants={"w": numbers(5, 4), "b": numbers(1, 1)}, shape=ROWS),
        C("Gemm without C", "Dense", n("Gemm", "x w"), constants={"w": numbers(5, 4)}, shape=ROWS),
        C("MatMul", "Dense", n("MatMul", "x w"), constants={"w": numbers(5, 4)}, shape=ROWS),
        C("MatMul 3-D", "Dense", n("MatMul", "x w"), constants={"w": numbers(9, 4)}, shape=LINE),
        C(
            "MatMul Add",
            "Dense Add",
            n("MatMul", "x w", "z"),
            n("Add", "z b"),
            constants={"w": numbers(9, 4), "b": numbers(4)},
            shape=LINE,
        ),
        C(
            "weight transposed first",
            "Dense",
            n("Transpose", "w", "t", perm=[1, 0]),
            n("MatMul", "x t"),
            constants={"w": numbers(4, 5)},
            shape=ROWS,
        ),
    ]
    return cases


def arithmetic() -> list[Case]:
    constants = {
        "scalar": np.float32(1.5),
        "one number": numbers(1),
        "channels": numbers(3, 1, 1),
        "channels with a batch axis": numbers(1, 3, 1, 1),
        "columns": numbers(7),
        "rows": numbers(6, 1),
        "sample": numbers(3, 6, 7),
    }
    cases = []
    for name, value in constants.items():
        value = value + np.float32(3)
        for kind, layer in (("Mul", "Scale"), ("Add", "Add"), ("Sub", "Sub"), ("Div", "Scale")):
            cases.append(C(f"{kind} {name}", layer, n(kind, "x c"), constants={"c": value}))
        for kind, layer in (("Mul", "Scale"), ("Add", "Add"), ("Sub", "Scale")):
            cases.append(C(f"{kind} {name} first", layer, n(kind, "c x"), constants={"c": value}))
    gate = n("GlobalAveragePool", "x", "p"), n("Sigmoid", "p", "g")
    cases += [
        C("Mul gate second", "GlobalAvgPool Sigmoid Mul", *gate, n("Mul", "x g")),
        C("Mul gate first", "GlobalAvgPool Sigmoid Mul", *gate, n("Mul", "g x")),
        C("Mul square", "Mul", n("Mul", "x x")),
        C("Add tensors", "ReLU Add", n("Relu", "x", "r"), n("Add", "r x")),
        C("Add broadcast", "GlobalAvgPool Add", n("GlobalAveragePool", "x", "p"), n("Add", "p x")),
        C("Sub tensors", "ReLU Sub", n("Relu", "x", "r"), n("Sub", "r x")),
        C("Sum", "ReLU Scale Add", n("Relu", "x", "r"), n("Neg", "x", "m"), n("Sum", "x r m")),
        C("Sum one", "Add", n("Sum", "x")),
        C("Sum with constants", "Add", n("Sum", "c x c d"), constants={"c": numbers(3, 1, 1), "d": np.float32(2)}),
    ]
    return cases


def pools() -> list[Case]:
    common = {
        "": {"kernel_shape": [2, 3]},
        " strides": {"kernel_shape": [3, 2], "strides": [2, 2]},
        " pads": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1]},
        " ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        " SAME_UPPER": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        " SAME_LOWER": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
        " VALID": {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "VALID"},
    }
    cases = [C(f"MaxPool{k}", "MaxPool", n("MaxPool", "x", **v)) for k, v in common.items() if k != " SAME_LOWER"]
    cases += [C(f"AveragePool{k}", "AvgPool", n("AveragePool", "x", **v)) for k, v in common.items()]
    padded = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}
    cases += [
        C("MaxPool dilations", "MaxPool", n("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 3])),
        C("MaxPool 1-D", "MaxPool", n("MaxPool", "x", kernel_shape=[3]), shape=LINE),
        C("AveragePool 1-D", "AvgPool", n("AveragePool", "x", kernel_shape=[3]), shape=LINE),
        C("AveragePool 3-D", "AvgPool", n("AveragePool", "x", kernel_shape=[3, 2, 2]), shape=BLOCK),
        C("AveragePool count_include_pad", "AvgPool", n("AveragePool", "x", **padded)),
        C("AveragePool padded", "AvgPool", n("AveragePool", "x", **{**padded, "count_include_pad": 0})),
        C("ReduceMax", "GlobalMaxPool", n("ReduceMax", "x", axes=[2, 3]), opsets=(11, 13, 17)),
        C(
            "ReduceMax dropped",
            "GlobalMaxPool Squeeze",
            n("ReduceMax", "x", axes=[-1, 2], keepdims=0),
            opsets=(11, 13, 17),
        ),
        C("ReduceMax input", "GlobalMaxPool", n("ReduceMax", "x a"), constants={"a": ints(2, 3)}, opsets=FROM18),
    ]
    for kind, layer, change in (("ReduceMean", "Mean", 18), ("ReduceSum", "Sum", 13)):
        old, new = tuple(o for o in ALL if o < change), tuple(o for o in ALL if o >= change)
        for name, axes, keep in (("", [2, 3], 1), (" dropped", [-1, 2], 0), (" channels", [1], 1)):
            cases.append(C(f"{kind}{name}", layer, n(kind, "x", axes=axes, keepdims=keep), opsets=old))
            cases.append(
                C(f"{kind}{name} input", layer, n(kind, "x a", keepdims=keep), constants={"a": ints(*axes)}, opsets=new)
            )
        noop = {"noop_with_empty_axes": 1}
        cases.append(C(f"{kind} no axes", "Identity", n(kind, "x", **noop), opsets=new))
        cases.append(C(f"{kind} empty axes", "Identity", n(kind, "x a", **noop), constants={"a": ints()}, opsets=new))
    return cases


def shapes() -> list[Case]:
    cut = {"s": ints(1, -4), "e": ints(2**31 - 1, 6), "a": ints(1, -1), "t": ints(1, 2)}
    cases = [
        C("Concat", "ReLU Concat", n("Relu", "x", "r"), n("Concat", "x r x", axis=1)),
        C("Concat last", "ReLU Concat", n("Relu", "x", "r"), n("Concat", "r x", axis=-1)),
        C("Flatten", "Flatten", n("Flatten", "x")),
        C("Flatten negative", "Flatten", n("Flatten", "x", axis=-3)),
        C("Transpose", "Transpose", n("Transpose", "x", perm=[0, 2, 3, 1])),
        C("Gather scalar", "Slice Squeeze", n("Gather", "x i", axis=2), constants={"i": np.int64(-2)}),
        C("Gather run", "Slice", n("Gather", "x i", axis=-1), constants={"i": ints(2, 3, 4)}),
        C("Gather one", "Slice", n("Gather", "x i", axis=1), constants={"i": ints(1)}),
        C("Slice", "Slice Slice", n("Slice", "x s e a t"), constants=cut),
        C("Slice without axes", "Slice", n("Slice", "x s e"), constants={"s": ints(0, 1), "e": ints(2**63 - 1, 3)}),
        C(
            "Slice nothing off",
            "Identity",
            n("Slice", "x s e a"),
            constants={"s": ints(0), "e": ints(2**63 - 1), "a": ints(2)},
        ),
        C("Slice beyond", "Slice", n("Slice", "x s e a"), constants={"s": ints(-100), "e": ints(100), "a": ints(2)}),
        C("Pad", "Pad", n("Pad", "x p"), constants={"p": ints(0, 0, 1, 2, 0, 0, 0, 3)}),
        C("Pad value", "Pad", n("Pad", "x p v"), constants={"p": ints(0, 1, 1, 2, 0, 0, 0, 3), "v": np.float32(0)}),
        C("Pad axes", "Pad", n("Pad", "x p - a"), constants={"p": ints(1, 0, 2, 1), "a": ints(-1, 2)}, opsets=FROM18),
        C(
            "Squeeze",
            "GlobalAvgPool Squeeze",
            n("GlobalAveragePool", "x", "p"),
            n("Squeeze", "p", axes=[2, -1]),
            opsets=OLD,
        ),
        C(
            "Squeeze input",
            "GlobalAvgPool Squeeze",
            n("GlobalAveragePool", "x", "p"),
            n("Squeeze", "p a"),
            constants={"a": ints(2, -1)},
            opsets=FROM13,
        ),
        C("Squeeze all", "GlobalAvgPool Squeeze", n("GlobalAveragePool", "x", "p"), n("Squeeze", "p")),
        C("Squeeze nothing", "Identity", n("Squeeze", "x")),
        C("Unsqueeze", "Unsqueeze Unsqueeze", n("Unsqueeze", "x", axes=[1, -1]), opsets=OLD),
        C("Unsqueeze input", "Unsqueeze Unsqueeze", n("Unsqueeze", "x a"), constants={"a": ints(-1, 1)}, opsets=FROM13),
        C("DepthToSpace", "DepthToSpace", n("DepthToSpace", "x", blocksize=2), shape=(2, 8, 3, 2)),
        C("DepthToSpace CRD", "DepthToSpace", n("DepthToSpace", "x", blocksize=2, mode="CRD"), shape=(2, 8, 3, 2)),
        C("SpaceToDepth", "SpaceToDepth", n("SpaceToDepth", "x", blocksize=2), shape=(2, 3, 4, 6)),
    ]
    parts = {"outputs": "p q"}
    cases += [
        C("Split attribute", "Slice Slice", n("Split", "x", "p q", axis=3, split=[3, 4]), opsets=OLD, **parts),
        C(
            "Split input",
            "Slice Slice",
            n("Split", "x s", "p q", axis=-1),
            constants={"s": ints(3, 4)},
            opsets=FROM13,
            **parts,
        ),
        C("Split equal", "Slice Slice", n("Split", "x", "p q", axis=2), opsets=(11, 13, 17), **parts),
        C("Split num_outputs", "Slice Slice", n("Split", "x", "p q", axis=2, num_outputs=2), opsets=FROM18, **parts),
        C("Split uneven", "Slice Slice", n("Split", "x", "p q", axis=3, num_outputs=2), opsets=FROM18, **parts),
        C("Split one used", "Slice", n("Split", "x s", "- y", axis=3), constants={"s": ints(3, 4)}, opsets=FROM13),
    ]
    for repeats, found in (((1, 1, 2, 1), "Concat"), ((1, 3, 1, 2), "Concat Concat"), ((1, 1, 1, 1), "Identity")):
        cases.append(C(f"Tile {repeats}", found, n("Tile", "x r"), constants={"r": ints(*repeats)}))
    targets = {"-1": (-1, 126), "0": (0, -1), "0 inside": (0, 0, -1), "parts": (-1, 3, 42), "several": (0, 3, 2, 3, 7)}
    for name, target in targets.items():
        layer = "Flatten" if len(target) == 2 else "Reshape"
        cases.append(C(f"Reshape {name}", layer, n("Reshape", "x s"), constants={"s": ints(*target)}))
    cases.append(C("Reshape fixed", "Flatten", n("Reshape", "x s"), constants={"s": ints(2, 126)}, fixed=True))
    zero = {"zero": ints(0), "rest": ints(-1), "i": np.int64(0)}
    batch = [n("Shape", "x", "s"), n("Gather", "s i", "b")]
    for opset, unsqueeze in ((11, n("Unsqueeze", "b", "u", axes=[0])), (13, n("Unsqueeze", "b zero", "u"))):
        nodes = [*batch, unsqueeze, n("Concat", "u rest", "t", axis=0), n("Reshape", "x t")]
        opsets = OLD if opset == 11 else FROM13
        cases.append(C(f"Reshape to Shape {opset}", "Flatten", *nodes, constants=zero, opsets=opsets))
        cases.append(C(f"Reshape to fixed Shape {opset}", "Flatten", *nodes, constants=zero, opsets=opsets, fixed=True))
    size = [n("Shape", "x", "s"), n("Slice", "s zero two", "c"), n("Concat", "c hw", "t", axis=0)]
    constants = {"zero": ints(0), "two": ints(2), "hw": ints(9, 14)}
    cases.append(
        C("Resize to Shape", "Resize", *size, n("Resize", "x - - t", mode="linear"), constants=constants, opsets=FROM13)
    )
    half = [n("Shape", "x", "s"), n("Gather", "s three", "w"), n("Div", "w two", "e"), n("Unsqueeze", "e axis", "u")]
    constants = {"three": np.int64(3), "two": np.int64(2), "axis": ints(0), "zero": ints(0), "last": ints(3)}
    cases.append(C("Slice to Shape", "Slice", *half, n("Slice", "x zero u last"), constants=constants, opsets=FROM13))
    coordinates = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
    for how, constant in (("scales", np.array([1, 1, 2, 1.5], "float32")), ("sizes", ints(2, 3, 4, 9))):
        for mode in ("linear", "nearest"):
            for coordinate in coordinates:
                options = {"mode": mode, "coordinate_transformation_mode": coordinate}
                inputs = "x - c" if how == "scales" else "x - - c"
                if how == "scales" and coordinate == "align_corners":
                    constant = np.array([1, 1, 2, 3], "float32")  # else the evaluator does not round the size
                node = n("Resize", inputs, **options)
                name = f"Resize {how} {mode} {coordinate}"
                fixed = {"fixed": how == "sizes", "dtypes": ("float32",) if how == "scales" else ("float32", "float64")}
                cases.append(C(name, "Resize", node, constants={"c": constant}, opsets=FROM13, **fixed))
    for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
        node = n("Resize", "x - - c", mode="nearest", nearest_mode=rounding)
        cases.append(
            C(f"Resize {rounding}", "Resize", node, constants={"c": ints(2, 3, 4, 5)}, opsets=FROM13, fixed=True)
        )
    roi = {"roi": numbers(0), "c": np.array([1, 1, 2, 2], "float32")}
    cases.append(C("Resize 11", "Resize", n("Resize", "x roi c", mode="nearest"), constants=roi, dtypes=("float32",)))
    return cases


CASES = [*elementwise(), *linear(), *arithmetic(), *pools(), *shapes()]
