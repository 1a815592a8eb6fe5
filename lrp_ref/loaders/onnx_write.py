"""Graphs as ONNX files, which other tools run and from which `from_onnx` rebuilds the very same graph.

Each node is written by one small function of the table `EMITTERS`, as one or more of ONNX's standard operators. The
last of them has the node's name, as operator and as tensor, and carries JSON (key `LAYER`): the layer's class, its
options, the initializers that hold its arrays, and what it reads. Those before it carry the node's name (key
`PART`). The model carries JSON too (key `GRAPH`): inputs, outputs, aliases, notes. `onnx_own` reads all this back.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..arrays import Array, is_array, is_exact, to_host
from ..errors import LrpError, UnsupportedOp
from ..files import written_whole
from ..graph import Graph, Node
from ..layers import (
    CELU,
    ELU,
    GELU,
    SELU,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    Add,
    AvgPool,
    BatchNorm,
    Clip,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    DepthToSpace,
    Dropout,
    Flatten,
    Given,
    GlobalAvgPool,
    GlobalMaxPool,
    HardSigmoid,
    HardSwish,
    Identity,
    Layer,
    LeakyReLU,
    MaxPool,
    Mean,
    Mul,
    Near,
    Pad,
    PReLU,
    ReLU,
    Reshape,
    Resize,
    Scale,
    Sigmoid,
    SiLU,
    Slice,
    Softmax,
    SoftMinPool,
    Softplus,
    SpaceToDepth,
    Squeeze,
    Sub,
    Sum,
    SumPool,
    Tanh,
    Transpose,
    Unsqueeze,
    Upsample,
)
from ..layers.base import axes_tuple
from ..layers.elementwise import _SELU_ALPHA, _SELU_SCALE
from ..layers.pool import _bins
from ..layers.window import Window
from ..text import printable
from .onnx_file import LONGEST_NAME

FORMAT = 1
PRODUCER = "lrp_ref"
GRAPH, LAYER, PART = "lrp_ref.graph", "lrp_ref.layer", "lrp_ref.part"
"""Keys of the metadata of the model, of the last operator of a node, and of those before it."""
OPSET, IR_VERSION = 20, 10
"""The first with Gelu, and the first whose operators carry metadata."""
MOST_BYTES = 2**31 - 2**20
"""The most bytes of arrays that a file may hold: protobuf's limit is 2 GB, and the operators need some."""
WHOLE = 2**63 - 1
"""A stop beyond every axis."""


# --- the entrance ---------------------------------------------------------------------------------


def save(graph: Graph, path: str | Path, *, input: Array | Mapping[str, Array] | None = None) -> None:
    """Write a graph as an ONNX file.

    Written to a file beside it first, then moved into place. The element type of the file is the widest of the
    parameters', float32 or float64: each parameter is stored in its own and cast where it is narrower. Other tools may
    lack operators in float64 (onnxruntime has no convolution): save ``graph.like(x)`` for an x of float32 for them.

    Parameters
    ----------
    graph : Graph
    path : str or Path
    input : array (batch, ...), or a dict of them for several inputs; optional
        an example, whose sizes (the batch's apart) the file is then written for. Needed where the layers do not
        say how many axes an input has (a dense layer's is taken to be (batch, features)), and for the few layers that
        ONNX can only express for a given size.

    Raises
    ------
    UnsupportedOp
        for a layer or a number that ONNX cannot express, naming the node
    LrpError
        if `input` is needed, a name cannot stand in the file, or it would be larger than 2 GB; ImportError without
        onnx.
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ImportError('writing ONNX files needs onnx: pip install "lrp_ref[onnx]"') from None
    content = model(graph, input).SerializeToString()
    with written_whole(path) as file:
        file.write(content)


def model(graph: Graph, input: Array | Mapping[str, Array] | None = None) -> Any:
    """The graph as an ``onnx.ModelProto``: see :func:`save`."""
    from onnx import helper

    _check_names(graph)
    _check_layers(graph)
    values = {} if input is None else graph.forward(input)
    shapes = {name: value.shape for name, value in values.items()}
    ranks = {name: len(shape) for name, shape in shapes.items()} or inferred_ranks(graph)
    if unknown := [name for name in graph.inputs if name not in ranks]:
        raise LrpError(
            f"how many axes {_quoted(unknown)} has is not said by the layers that read it: "
            f"save with input=, an example of what the network takes"
        )
    types = [value.dtype for value in values.values() if value.dtype in (np.float32, np.float64)]
    writer = Writer(graph, shapes, ranks, *types[:1])
    for node in graph.nodes:
        writer.write(node)
    kind = helper.np_dtype_to_tensor_dtype(writer.dtype)

    def declared(name: str) -> Any:
        sizes = shapes[name][1:] if shapes else [f"{name}.{axis}" for axis in range(1, ranks[name])]
        return helper.make_tensor_value_info(name, kind, ["batch", *sizes])

    made = helper.make_model(
        helper.make_graph(
            [operator.proto() for operator in writer.operators],
            "graph",
            [declared(name) for name in graph.inputs],
            [declared(name) for name in graph.outputs],
            writer.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
    about = {
        "format": FORMAT,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "aliases": dict(graph.aliases),
        "notes": list(graph.notes),
    }
    helper.set_model_props(made, {GRAPH: json.dumps(about)})
    return made


def _check_names(graph: Graph) -> None:
    """Refuse names that a file cannot hold, or that could do harm where they are printed."""
    for name in [*graph.inputs, *(node.name for node in graph.nodes), *graph.aliases]:
        if not name or not name.isprintable() or len(name) > LONGEST_NAME // 2:  # operators have more in their names
            raise LrpError(
                f"the name {printable(name[:100])!r} is empty, longer than {LONGEST_NAME // 2} characters, or has some "
                f"that cannot be printed: rename the node"
            )
    if len(set(graph.outputs)) < len(graph.outputs):
        raise LrpError(f"an output is named twice in {list(graph.outputs)}: an ONNX file lists each once")


def _check_layers(graph: Graph) -> None:
    """Refuse layers, options and arrays that a file cannot hold, before anything is asked for."""
    for node in graph.nodes:
        if type(node.layer) not in EMITTERS:
            refuse(node, _why_not(node.layer))
        stored_options(node)
        for name, value in _parameters(node):
            _parameter_type(node, name, value)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'input "{name}"' for name in names)


# --- how many axes each tensor has ----------------------------------------------------------------


def inferred_ranks(graph: Graph) -> dict[str, int]:
    """The number of axes of each tensor, the batch's included, as far as the layers say."""
    ranks: dict[str, int] = {}
    _spread(graph, ranks)
    for node in graph.nodes:
        if isinstance(node.layer, Dense) and node.inputs[0] not in ranks:
            ranks[node.inputs[0]] = 2
            _spread(graph, ranks)
    return ranks


def _spread(graph: Graph, ranks: dict[str, int]) -> None:
    """From every layer to its neighbors, until nothing new is learned."""
    known = -1
    while known < len(ranks):
        known = len(ranks)
        for node in [*graph.nodes, *reversed(graph.nodes)]:
            fixed, more = _output_rank(node.layer), _more_axes(node.layer)
            seen = [ranks[name] for name in node.inputs if name in ranks]
            rank = _input_rank(node.layer) or next(iter(seen), None)
            if rank is None and fixed is None and node.name in ranks:
                rank = ranks[node.name] - more
            if rank is not None:
                for name in node.inputs:
                    ranks.setdefault(name, rank)
            if (after := fixed or (None if rank is None else rank + more)) is not None:
                ranks.setdefault(node.name, after)


def _input_rank(layer: Layer) -> int | None:
    """The number of axes that the layer's inputs must have."""
    match layer:
        case Conv() | ConvTranspose():
            return int(layer.weight.ndim)
        case Transpose(axes=axes):
            return len(axes)
        case Pad(padding=padding):
            return len(padding) + 1
        case SoftMinPool():
            return 2
        case Scale() | PReLU():
            return max((value.ndim for _, value in layer._arrays() if value.ndim > 1), default=-1) + 1 or None
    for name in ("kernel", "stride", "factor", "size", "scale"):
        if isinstance(each := getattr(layer, name, None), Sequence):
            return len(each) + 2
    return None


def _output_rank(layer: Layer) -> int | None:
    """The number of axes of the layer's output, if it does not depend on that of its input."""
    if isinstance(layer, Flatten):
        return 2
    return len(layer.shape) + 1 if isinstance(layer, Reshape) else None


def _more_axes(layer: Layer) -> int:
    """How many axes the output has more than the input."""
    match layer:
        case Unsqueeze():
            return 1
        case Squeeze(axis=axes):
            return -_count(axes)
        case Sum(axes=axes, keepdims=False) | Mean(axes=axes, keepdims=False):
            return -_count(axes)
    return 0


def _count(axes: int | Sequence[int]) -> int:
    return len(axes) if isinstance(axes, Sequence) else 1


# --- writing --------------------------------------------------------------------------------------


@dataclass
class Operator:
    """One operator of the file."""

    kind: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]
    name: str
    metadata: dict[str, str]

    def proto(self) -> Any:
        """As onnx has it."""
        from onnx import helper

        made = helper.make_node(self.kind, self.inputs, [self.output], name=self.name, **self.attributes)
        for key, value in self.metadata.items():
            made.metadata_props.add(key=key, value=value)
        return made


class Writer:
    """A graph on its way to a file."""

    def __init__(
        self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], ranks: Mapping[str, int], example: Any = None
    ) -> None:
        self.shapes, self.ranks = shapes, ranks
        self.operators: list[Operator] = []
        self.initializers: list[Any] = []
        self.bytes = 0
        self.taken = {*graph.inputs, *(node.name for node in graph.nodes)}
        types = [_parameter_type(node, *found) for node in graph.nodes for found in _parameters(node)]
        self.dtype = np.result_type(np.float32, *(types or [np.float32 if example is None else example]))

    def write(self, node: Node) -> None:
        """Append a node's operators."""
        kind = type(node.layer)
        place, first = Place(self, node), len(self.operators)
        options = stored_options(node)
        EMITTERS[kind](place)
        for name, _ in _parameters(node):
            if name not in place.arrays:
                raise AssertionError(f"{kind.__name__}.{name} is not written")
        for operator in self.operators[first:]:
            operator.metadata = {PART: node.name}
        last = self.operators[-1]
        about = {"layer": kind.__name__, "options": options, "arrays": place.arrays, "inputs": list(node.inputs)}
        last.name = last.output = node.name
        last.metadata = {LAYER: json.dumps(about, default=_as_json)}

    def free(self, name: str) -> str:
        """The name, or the first of name_1, name_2, ... that nothing has yet."""
        made, i = name, 1
        while made in self.taken:
            made, i = f"{name}_{i}", i + 1
        self.taken.add(made)
        return made

    def initializer(self, name: str, value: Array) -> str:
        """Add an array to the file."""
        from onnx import numpy_helper

        self.bytes += value.nbytes
        if self.bytes > MOST_BYTES:
            raise LrpError(
                f"the arrays take more than {MOST_BYTES / 2**30:.2g} GiB, and a file of ONNX holds no more: "
                f"save parts of the network, or store its arrays with numpy.savez"
            )
        name = self.free(name)
        self.initializers.append(numpy_helper.from_array(value.astype(value.dtype.newbyteorder("=")), name))
        return name


def _parameters(node: Node) -> list[tuple[str, Array]]:
    """The layer's arrays; a number of numpy's among the options is none."""
    names = option_types(type(node.layer))[1]
    return [(name, value) for name, value in node.layer._arrays() if name in names]


def _parameter_type(node: Node, name: str, value: Array) -> Any:
    """The dtype of a layer's array, if ONNX has it."""
    if is_exact(value):
        refuse(node, f"{name} holds exact rationals, which ONNX has not: save graph.like(x) for an x of floats")
    if value.dtype.kind not in "fiu" or value.dtype.itemsize > 8:
        refuse(node, f"{name} is {value.dtype}, which ONNX has not: save graph.like(x) for an x of float64 or float32")
    return value.dtype


def refuse(node: Node, why: str) -> NoReturn:
    """Refuse a node."""
    raise UnsupportedOp(f'node "{node.name}" ({node.kind}) cannot be written to an ONNX file: {why}')


def _why_not(layer: Layer) -> str:
    if isinstance(layer, Given):
        return "it stands for numbers computed at one input: save the graph that lrp_ref.given was called with"
    return (
        "no operators are known for this class; the layers that can be written are listed by "
        "lrp_ref.loaders.onnx_write.EMITTERS: replace it, or save the arrays of your own layers yourself"
    )


@dataclass
class Place:
    """A node while it is written: what it reads, and how its operators, arrays and constants get into the file."""

    writer: Writer
    node: Node
    arrays: dict[str, tuple[str, list[int], str]] = field(default_factory=dict)
    """Field of the layer -> its initializer, and the shape and order (C or F) that it has in the layer's memory, for
    products round according to it.
    """

    @property
    def layer(self) -> Any:
        """The node's layer."""
        return self.node.layer

    @property
    def x(self) -> str:
        """The first tensor that it reads."""
        return self.node.inputs[0]

    @property
    def rank(self) -> int:
        """How many axes that tensor has."""
        if self.x not in self.writer.ranks:
            self._ask("how many axes its input has is not said by the network")
        return self.writer.ranks[self.x]

    @property
    def axes(self) -> int:
        """How many spatial axes that tensor has."""
        return self.rank - 2

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of that tensor."""
        if self.x not in self.writer.shapes:
            self._ask("ONNX has it for inputs of a given size only")
        return self.writer.shapes[self.x]

    @property
    def sized(self) -> bool:
        """Whether that shape is known."""
        return self.x in self.writer.shapes

    def _ask(self, why: str) -> NoReturn:
        raise LrpError(
            f'node "{self.node.name}" ({self.node.kind}): {why}: save with input=, an example of what the network takes'
        )

    def do(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator; the tensor that it makes."""
        output = self.writer.free(f"{self.node.name}.{kind.lower()}")
        self.writer.operators.append(Operator(kind, list(inputs), output, attributes, output, {}))
        return output

    def parameter(self, name: str, shape: Sequence[int] | None = None) -> str:
        """The layer's array of that name, in the file in `shape`, and cast to the type of the file where it is not."""
        value = np.asarray(to_host(getattr(self.layer, name)))
        stored = value if shape is None else value.reshape(tuple(shape))
        tensor = self.writer.initializer(f"{self.node.name}.{name}", stored)
        order = "C" if value.flags.c_contiguous or not value.flags.f_contiguous else "F"
        self.arrays[name] = (tensor, list(value.shape), order)
        return tensor if value.dtype == self.writer.dtype else self.do("Cast", tensor, to=self.type)

    @property
    def type(self) -> int:
        """The file's element type, by ONNX's number."""
        from onnx import helper

        return int(helper.np_dtype_to_tensor_dtype(self.writer.dtype))

    def floats(self, name: str, value: Any) -> str:
        """A constant of the file's element type."""
        return self.writer.initializer(f"{self.node.name}.{name}", np.asarray(value, dtype=self.writer.dtype))

    def integers(self, name: str, *values: int) -> str:
        """A list of integers as a constant."""
        return self.writer.initializer(f"{self.node.name}.{name}", np.array(values, dtype=np.int64))

    def holds(self, *values: float) -> bool:
        """Whether an attribute, which is a float32, is as good as these numbers in the file's element type."""
        return bool(self.writer.dtype == np.float32) or all(float(np.float32(value)) == value for value in values)


# --- options --------------------------------------------------------------------------------------


def option_types(kind: type[Layer]) -> tuple[dict[str, Any], frozenset[str]]:
    """The options of a layer's class with their types, and the names of its arrays."""
    hints = get_type_hints(kind, localns={"Fraction": Fraction})
    names = [f.name for f in dataclasses.fields(kind) if f.init]
    arrays = frozenset(name for name in names if Any in (hints[name], *get_args(hints[name])))
    return {name: hints[name] for name in names if name not in arrays}, arrays


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, of those that options have: numbers, words, None, and tuples of them."""
    if hint is float:
        return type(value) in (int, float) and value == value
    if hint is int:
        return type(value) is int and abs(value) < 2**31
    if hint in (bool, NoneType, Near, Fraction):
        return type(value) is hint
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    return origin is not None and type(value) is tuple and all(fits(entry, parts[0]) for entry in value)


LIMITS = {
    "kernel": 2**20, "padding": 2**26, "output_padding": 2**26, "size": 2**28, "scale": 2**20, "factor": 2**20,
    "block": 2**10,
}  # fmt: skip
"""The largest product over the axes that these options may have in a file; what exceeds it would exhaust memory."""


def is_modest(name: str, value: Any) -> bool:
    """Whether an option of the right type is within `LIMITS`."""
    if name not in LIMITS:
        return True
    entries = [sum(entry) if isinstance(entry, tuple) else entry for entry in _each(value, 1)]
    return math.prod(max(1, entry or 1) for entry in entries) <= LIMITS[name]


def stored_options(node: Node) -> dict[str, Any]:
    """The layer's options, each of the type that it is read back as."""
    options = {}
    for name, hint in option_types(type(node.layer))[0].items():
        options[name] = value = _tuples(getattr(node.layer, name))
        if not fits(value, hint):
            refuse(node, f"{name}={value!r} has no form in the file: give it as a number that a float holds")
        if not is_modest(name, value):
            refuse(node, f"{name}={value!r} is more than is read back ({LIMITS[name]} over all axes)")
    return options


def _tuples(value: Any) -> Any:
    """Numbers of numpy as Python's, and sequences as tuples."""
    if is_array(value) and value.ndim == 0:
        return value.item()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(_tuples, value))
    return value


def _as_json(value: Any) -> Any:
    if isinstance(value, Near):
        return {"Near": value.rtol}
    return {"Fraction": [value.numerator, value.denominator]}


# --- the layers -----------------------------------------------------------------------------------


def _each(value: Any, count: int) -> list[Any]:
    """One entry an axis."""
    return list(value) if isinstance(value, Sequence) else [value] * count


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    """Pairs as ONNX has them: all that is before, all that is after."""
    return [before for before, _ in padding] + [after for _, after in padding]


def _operator(kind: str) -> Callable[[Place], str]:
    """A layer that is an operator, without attributes."""
    return lambda place: place.do(kind, *place.node.inputs)


def _dense(place: Place) -> str:
    z = place.do("MatMul", place.x, place.parameter("weight"))
    return z if place.layer.bias is None else place.do("Add", z, place.parameter("bias"))


def _with_biases(place: Place, convolve: Callable[..., str], tap_weight_axis: int) -> str:
    """A convolution with what is added to it: one number a channel, a map, and what each tap adds."""
    layer, bias, channels = place.layer, place.layer.bias, []
    if bias is not None and math.prod(bias.shape[1:]) == 1:
        channels = [place.parameter("bias", [len(bias)])]
    z = convolve(place.x, place.parameter("weight"), *channels, group=layer.groups)
    if bias is not None and not channels:
        z = place.do("Add", z, place.parameter("bias"))
    if layer.tap_bias is not None:
        size = place.do("Shape", place.x, start=2)
        size = place.do("Concat", place.integers("one", 1, 1), size, axis=0)
        from onnx import numpy_helper

        one = numpy_helper.from_array(np.ones(1, place.writer.dtype))
        ones = place.do("ConstantOfShape", size, value=one)
        shape = list(layer.tap_bias.shape)
        shape.insert(tap_weight_axis, 1)
        z = place.do("Add", z, convolve(ones, place.parameter("tap_bias", shape), group=1))
    return z


def _convolution(place: Place) -> dict[str, Any]:
    window = place.layer.window
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "pads": _pads(window.padding),
        "dilations": list(window.dilation),
    }


def _conv(place: Place) -> str:
    options = _convolution(place)

    def convolve(*inputs: str, group: int) -> str:
        return place.do("Conv", *inputs, group=group, **options)

    return _with_biases(place, convolve, 1)


def _conv_transpose(place: Place) -> str:
    options, cells = _transposed(place)

    def convolve(*inputs: str, group: int) -> str:
        if group == 1 and not any(cells):
            return place.do("ConvTranspose", *inputs, group=1, **options)
        x, weight, *bias = inputs
        size = len(place.layer.weight) // group
        parts = [_group(place, x, weight, i * size, (i + 1) * size, options) for i in range(group)]
        z = parts[0] if group == 1 else place.do("Concat", *parts, axis=1)
        if any(cells):
            z = place.do("Pad", z, place.integers("pads", *_pads([(0, 0), (0, 0), *((0, more) for more in cells)])))
        return place.do("Add", z, _column(place, *bias)) if bias else z

    return _with_biases(place, convolve, 0)


def _transposed(place: Place) -> tuple[dict[str, Any], list[int]]:
    """The operator's attributes, and how many cells the output has more on each axis, which nothing reaches.

    ONNX has an output padding only below the stride; beyond it, it is so much less padding, and then zeros.
    """
    layer, window, options = place.layer, place.layer.window, _convolution(place)
    if all(extra < step for extra, step in zip(layer.output_padding, window.stride, strict=True)):
        return options | {"output_padding": list(layer.output_padding)}, [0] * len(window.stride)
    shifted = [
        (before, after - extra) for (before, after), extra in zip(window.padding, layer.output_padding, strict=True)
    ]
    options["pads"] = _pads([(before, max(0, after)) for before, after in shifted])
    return options, [max(0, -after) for _, after in shifted]


def _group(place: Place, x: str, weight: str, start: int, stop: int, options: dict[str, Any]) -> str:
    """One group of a transposed convolution alone: onnx's reference evaluator has groups of one output channel only."""
    if (start, stop) != (0, len(place.layer.weight)):
        ends = place.integers("start", start), place.integers("stop", stop)
        x = place.do("Slice", x, *ends, place.integers("axis", 1))
        weight = place.do("Slice", weight, *ends, place.integers("axis", 0))
    return place.do("ConvTranspose", x, weight, group=1, **options)


def _column(place: Place, tensor: str) -> str:
    """One number a channel, so that it broadcasts to the input."""
    return place.do("Unsqueeze", tensor, place.integers("axes", *range(1, place.axes + 1)))


def _operands(place: Place) -> list[str]:
    constant = [] if place.layer.constant is None else [place.parameter("constant")]
    return [*place.node.inputs, *constant]


def _add(place: Place) -> str:
    operands = _operands(place)
    return place.do("Add" if len(operands) == 2 else "Sum", *operands)


def _reduction(kind: str) -> Callable[[Place], str]:
    def emit(place: Place) -> str:
        axes = place.integers("axes", *_each(place.layer.axes, 1))
        return place.do(kind, place.x, axes, keepdims=int(place.layer.keepdims))

    return emit


def _batch_norm(place: Place) -> str:
    scale, shift, count = place.parameter("scale"), place.parameter("shift"), len(place.layer.scale)
    mean, variance = place.floats("mean", np.zeros(count)), place.floats("variance", np.ones(count))
    return place.do("BatchNormalization", place.x, scale, shift, mean, variance, epsilon=0.0)


def _per_channel(place: Place, name: str) -> str:
    """A scalar, one number a channel, or an array of the sample's shape, so that it broadcasts to the input."""
    value = getattr(place.layer, name)
    return place.parameter(name, (len(value), *(1,) * (place.rank - 2)) if value.ndim == 1 else None)


def _scale(place: Place) -> str:
    z = place.do("Mul", place.x, _per_channel(place, "weight"))
    return z if place.layer.bias is None else place.do("Add", z, _per_channel(place, "bias"))


def _prelu(place: Place) -> str:
    value = place.layer.slope
    return place.do("PRelu", place.x, _per_channel(place, "slope") if value.ndim else place.parameter("slope", (1,)))


# activations: an attribute is a float32, so where that is not exact in the file's type the function is written out


def _leaky_relu(place: Place) -> str:
    slope = place.layer.slope
    if place.holds(slope):
        return place.do("LeakyRelu", place.x, alpha=float(slope))
    return place.do("PRelu", place.x, place.floats("slope", [slope]))


def _exponential(place: Place, alpha: float, width: float = 1.0) -> str:
    """The input where it is > 0, else alpha (exp(input / width) - 1)."""
    positive = place.do("Greater", place.x, place.floats("zero", 0))
    inner = place.x if width == 1 else place.do("Div", place.x, place.floats("width", width))
    curve = place.do("Mul", place.do("Elu", inner), place.floats("alpha", alpha))
    return place.do("Where", positive, place.x, curve)


def _elu(place: Place) -> str:
    alpha = place.layer.alpha
    return place.do("Elu", place.x, alpha=float(alpha)) if place.holds(alpha) else _exponential(place, alpha)


def _selu(place: Place) -> str:
    if place.holds(_SELU_ALPHA, _SELU_SCALE):
        return place.do("Selu", place.x)
    return place.do("Mul", _exponential(place, _SELU_ALPHA), place.floats("scale", _SELU_SCALE))


def _celu(place: Place) -> str:
    alpha = place.layer.alpha
    if place.writer.dtype == np.float32:  # the only type that Celu has
        return place.do("Celu", place.x, alpha=float(alpha))
    return _exponential(place, alpha, alpha)


def _softplus(place: Place) -> str:
    if place.layer.beta == 1:
        return place.do("Softplus", place.x)
    beta = place.floats("beta", place.layer.beta)
    return place.do("Div", place.do("Softplus", place.do("Mul", place.x, beta)), beta)


def _silu(place: Place) -> str:
    return place.do("Mul", place.x, place.do("Sigmoid", place.x))


def _clip(place: Place) -> str:
    low, high = place.layer.low, place.layer.high
    bounds = ["" if low is None else place.floats("low", low), "" if high is None else place.floats("high", high)]
    while bounds and not bounds[-1]:
        bounds.pop()
    return place.do("Clip", place.x, *bounds)


def _hard_sigmoid(place: Place) -> str:
    slope, offset = place.layer.slope, place.layer.offset
    if place.holds(slope, offset):
        return place.do("HardSigmoid", place.x, alpha=float(slope), beta=float(offset))
    line = place.do("Mul", place.x, place.floats("slope", slope))
    line = place.do("Add", line, place.floats("offset", offset))
    return place.do("Clip", line, place.floats("low", 0), place.floats("high", 1))


def _hard_swish(place: Place) -> str:
    if place.holds(1 / 6):
        return place.do("HardSwish", place.x)
    line = place.do("Add", place.x, place.floats("offset", 3))
    gate = place.do("Clip", line, place.floats("low", 0), place.floats("high", 6))
    return place.do("Div", place.do("Mul", place.x, gate), place.floats("width", 6))


def _dropout(place: Place) -> str:
    return place.do("Dropout", place.x, place.floats("ratio", place.layer.p))


# pools


def _window(place: Place) -> Window:
    """The window of a pool, as `Window` has it."""
    layer, axes = place.layer, place.axes
    kernel = axes_tuple(layer.kernel, axes, "kernel", 1)
    stride = kernel if layer.stride is None else layer.stride
    return Window.make(place.node.kind, kernel, stride, layer.padding, getattr(layer, "dilation", 1))


def _reach(place: Place, window: Window) -> list[int]:
    """With `ceil`, how many cells the last window reaches beyond the input of each axis, if it does."""
    sizes = place.shape[2:]
    positions = window.positions(sizes, ceil=True)
    return [
        max(0, (count - 1) * step + span - before - n)
        for count, step, span, (before, _), n in zip(
            positions, window.stride, window.span, window.padding, sizes, strict=True
        )
    ]


def _pool(place: Place, window: Window, padding: Sequence[tuple[int, int]]) -> dict[str, Any]:
    return {"kernel_shape": list(window.kernel), "strides": list(window.stride), "pads": _pads(padding)}


def _padded(place: Place, padding: Sequence[tuple[int, int]]) -> str:
    """The input with zeros around its spatial axes."""
    if not any(map(any, padding)):
        return place.x
    return place.do("Pad", place.x, place.integers("pads", *_pads([(0, 0), (0, 0), *padding])))


def _max_pool(place: Place) -> str:
    window, ceil = _window(place), place.layer.ceil
    padding = window.padding
    if ceil and place.sized:  # what hangs over the end is padding, which never wins
        ends = _reach(place, window)
        padding, ceil = tuple((before, end) for (before, _), end in zip(padding, ends, strict=True)), False
    options = _pool(place, window, padding) | {"dilations": list(window.dilation), "ceil_mode": int(ceil)}
    return place.do("MaxPool", place.x, **options)


def _avg_pool(place: Place) -> str:
    """With `ceil`, of an input whose size is known, padding that counts is written out, and the rest does not count."""
    window, count = _window(place), place.layer.count_include_pad
    if not (place.layer.ceil and place.sized):
        options = _pool(place, window, window.padding) | {"ceil_mode": int(place.layer.ceil)}
        return place.do("AveragePool", place.x, **options, count_include_pad=int(count))
    counted, rest = [], []
    for (before, after), end in zip(window.padding, _reach(place, window), strict=True):
        counted.append((before, min(after, end)) if count else (0, 0))
        rest.append((0, end - min(after, end)) if count else (before, end))
    return place.do("AveragePool", _padded(place, counted), **_pool(place, window, rest), count_include_pad=0)


def _sum_pool(place: Place) -> str:
    """The mean of windows over an input with its padding written out, times their size."""
    window = _window(place)
    padding: Sequence[tuple[int, int]] = window.padding
    if place.layer.ceil:
        padding = [(before, end) for (before, _), end in zip(padding, _reach(place, window), strict=True)]
    mean = place.do("AveragePool", _padded(place, padding), **_pool(place, window, [(0, 0)] * place.axes))
    return place.do("Mul", mean, place.floats("taps", window.taps))


def _global_max_pool(place: Place) -> str:
    """A maximum over axes but for images: onnx's reference evaluator has GlobalMaxPool wrong for sequences."""
    if place.rank == 4:
        return place.do("GlobalMaxPool", place.x)
    return place.do("ReduceMax", place.x, place.integers("axes", *range(2, place.rank)), keepdims=1)


def _along(place: Place, x: str, axis: int, matrix: Sequence[Sequence[Any]]) -> str:
    """One spatial axis of `x`, whose cells are mapped by a matrix (cells before, cells after)."""
    order = list(range(place.rank))
    order[axis], order[-1] = order[-1], order[axis]
    last = axis == place.rank - 1
    x = x if last else place.do("Transpose", x, perm=order)
    x = place.do("MatMul", x, place.floats("matrix", [[float(value) for value in row] for row in matrix]))
    return x if last else place.do("Transpose", x, perm=order)


def _adaptive(
    kind: str, whole: Callable[[Place], str], split: Callable[[Place, str, int, Sequence[tuple[int, int]]], str]
) -> Callable[[Place], str]:
    """An adaptive pool: over everything, over windows of one size, or axis by axis."""

    def emit(place: Place) -> str:
        size = place.layer.size
        if all(n == 1 for n in _each(size, 1)):
            return whole(place)
        bounds, cells = _bins(size, place.shape, place.node.kind).bounds, place.shape[2:]
        if all(n % len(bins) == 0 for n, bins in zip(cells, bounds, strict=True)):
            sides = [n // len(bins) for n, bins in zip(cells, bounds, strict=True)]
            return place.do(kind, place.x, kernel_shape=sides, strides=sides)
        x = place.x
        for axis, bins in enumerate(bounds, start=2):
            x = x if len(bins) == place.shape[axis] else split(place, x, axis, bins)
        return x

    return emit


def _means(place: Place, x: str, axis: int, bins: Sequence[tuple[int, int]]) -> str:
    cells = range(place.shape[axis])
    matrix = [[(start <= cell < stop) / (stop - start) for start, stop in bins] for cell in cells]
    return _along(place, x, axis, matrix)


def _maxima(place: Place, x: str, axis: int, bins: Sequence[tuple[int, int]]) -> str:
    along, maxima = place.integers("axis", axis), []
    for start, stop in bins:
        cut = place.do("Slice", x, place.integers("start", start), place.integers("stop", stop), along)
        maxima.append(place.do("ReduceMax", cut, along, keepdims=1))
    return place.do("Concat", *maxima, axis=axis)


def _soft_min_pool(place: Place) -> str:
    sums = place.do("ReduceLogSumExp", place.do("Neg", place.x), place.integers("axes", 1), keepdims=1)
    return place.do("Neg", sums)


# wires and resizing


def _reshape(place: Place) -> str:
    shape = tuple(place.layer.shape)
    if 0 in shape:
        refuse(place.node, f"shape={shape} is empty, and 0 means something else in ONNX")
    return place.do("Reshape", place.x, place.integers("shape", 0, *shape))


def _squeeze(place: Place) -> str:
    return place.do("Squeeze", place.x, place.integers("axes", *_each(place.layer.axis, 1)))


def _unsqueeze(place: Place) -> str:
    return place.do("Unsqueeze", place.x, place.integers("axes", place.layer.axis))


def _slice(place: Place) -> str:
    cut = place.layer
    entries = {
        "start": cut.start or 0,
        "stop": WHOLE if cut.stop is None else cut.stop,
        "axis": cut.axis,
        "step": cut.step,
    }
    return place.do("Slice", place.x, *(place.integers(name, value) for name, value in entries.items()))


def _pad(place: Place) -> str:
    return place.do("Pad", place.x, place.integers("pads", *_pads([(0, 0), *place.layer.padding])))


def _upsample(place: Place) -> str:
    return _resized(place, Resize(scale=place.layer.factor, mode="nearest", coordinates="asymmetric"))


def _resize(place: Place) -> str:
    """The operator; or, for a scale that no float32 is, one matrix an axis."""
    layer: Resize = place.layer
    if all(float(np.float32(scale)) == scale for scale in _each(layer.scale, 1) if scale is not None):
        return _resized(place, layer)
    x = place.x
    for axis, sizes in enumerate(layer._sizes(place.shape), start=2):
        cells = list(layer._cells(*sizes))
        matrix = np.zeros((sizes[0], len(cells)), dtype=object)
        for i, (first, weights) in enumerate(cells):
            matrix[first : first + len(weights), i] = weights
        x = _along(place, x, axis, matrix.tolist())
    return x


def _resized(place: Place, layer: Resize) -> str:
    axes = place.axes
    options = {
        "axes": list(range(2, place.rank)),
        "mode": layer.mode,
        "coordinate_transformation_mode": layer.coordinates,
        "nearest_mode": layer.rounding,
    }
    if layer.size is None:
        scales = np.array([float(scale) for scale in _each(layer.scale, axes)], dtype=np.float32)
        target = ["", place.writer.initializer(f"{place.node.name}.scales", scales)]
    else:
        target = ["", "", place.integers("sizes", *_each(layer.size, axes))]
    return place.do("Resize", place.x, *target, **options)


def _depth_to_space(place: Place) -> str:
    layer, axes = place.layer, place.axes
    if axes == 2:
        return place.do("DepthToSpace", place.x, blocksize=layer.block, mode=layer.mode)
    blocks, free = [layer.block] * axes, place.integers("free", -1)
    block = place.integers("blocks", *blocks)
    batch, size = place.do("Shape", place.x, start=0, end=1), place.do("Shape", place.x, start=2)
    parts = (block, free) if layer.mode == "DCR" else (free, block)
    x = place.do("Reshape", place.x, place.do("Concat", batch, *parts, size, axis=0))
    channels, first = (axes + 1, 1) if layer.mode == "DCR" else (1, 2)
    order = [axis for i in range(axes) for axis in (axes + 2 + i, first + i)]
    x = place.do("Transpose", x, perm=[0, channels, *order])
    return place.do("Reshape", x, place.do("Concat", batch, free, place.do("Mul", size, block), axis=0))


def _space_to_depth(place: Place) -> str:
    layer, axes = place.layer, place.axes
    if axes == 2 and layer.mode == "DCR":
        return place.do("SpaceToDepth", place.x, blocksize=layer.block)
    block, free = place.integers("block", layer.block), place.integers("free", -1)
    before = place.do("Shape", place.x, start=0, end=2)
    sides = [place.do("Div", place.do("Shape", place.x, start=i, end=i + 1), block) for i in range(2, axes + 2)]
    parts = [part for side in sides for part in (side, block)]
    x = place.do("Reshape", place.x, place.do("Concat", before, *parts, axis=0))
    cells, blocks = range(2, 2 * axes + 2, 2), range(3, 2 * axes + 2, 2)
    x = place.do("Transpose", x, perm=[0, *blocks, 1, *cells] if layer.mode == "DCR" else [0, 1, *blocks, *cells])
    batch = place.do("Shape", place.x, start=0, end=1)
    return place.do("Reshape", x, place.do("Concat", batch, free, *sides, axis=0))


EMITTERS: dict[type[Layer], Callable[[Place], str]] = {
    AdaptiveAvgPool: _adaptive("AveragePool", _operator("GlobalAveragePool"), _means),
    AdaptiveMaxPool: _adaptive("MaxPool", _global_max_pool, _maxima),
    Add: _add,
    AvgPool: _avg_pool,
    BatchNorm: _batch_norm,
    CELU: _celu,
    Clip: _clip,
    Concat: lambda place: place.do("Concat", *place.node.inputs, axis=place.layer.axis),
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    Dense: _dense,
    DepthToSpace: _depth_to_space,
    Dropout: _dropout,
    ELU: _elu,
    Flatten: _operator("Flatten"),
    GELU: lambda place: place.do("Gelu", place.x, approximate=place.layer.approximate),
    GlobalAvgPool: _operator("GlobalAveragePool"),
    GlobalMaxPool: _global_max_pool,
    HardSigmoid: _hard_sigmoid,
    HardSwish: _hard_swish,
    Identity: _operator("Identity"),
    LeakyReLU: _leaky_relu,
    MaxPool: _max_pool,
    Mean: _reduction("ReduceMean"),
    Mul: _operator("Mul"),
    PReLU: _prelu,
    Pad: _pad,
    ReLU: _operator("Relu"),
    Reshape: _reshape,
    Resize: _resize,
    SELU: _selu,
    Scale: _scale,
    SiLU: _silu,
    Sigmoid: _operator("Sigmoid"),
    Slice: _slice,
    SoftMinPool: _soft_min_pool,
    Softmax: lambda place: place.do("Softmax", place.x, axis=place.layer.axis),
    Softplus: _softplus,
    SpaceToDepth: _space_to_depth,
    Squeeze: _squeeze,
    Sub: lambda place: place.do("Sub", *_operands(place)),
    Sum: _reduction("ReduceSum"),
    SumPool: _sum_pool,
    Tanh: _operator("Tanh"),
    Transpose: lambda place: place.do("Transpose", place.x, perm=list(place.layer.axes)),
    Unsqueeze: _unsqueeze,
    Upsample: _upsample,
}
"""What writes each layer: it appends the operators, the last of which makes the layer's output."""
