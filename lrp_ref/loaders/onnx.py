"""ONNX files as graphs.

Each operator is read by one small function of the table `OPERATORS`; what depends on nothing but constants (shapes,
indices, reshaped weights) is computed while reading. Nothing is guessed: an operator without a layer here is an
UnsupportedOp, a file that is broken or made to do harm is a LoadError, and small models are run against onnx's own
reference evaluator before they are handed out.
"""

from __future__ import annotations

import dataclasses
import math
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..arrays import Array, as_decimal
from ..canonize import canonize as canonized
from ..errors import LoadError, LrpError, UnsupportedOp
from ..graph import Graph, Node
from ..layers import (
    CELU,
    ELU,
    GELU,
    SELU,
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
    Softplus,
    SpaceToDepth,
    Squeeze,
    Sub,
    Sum,
    Tanh,
    Transpose,
    Unsqueeze,
)
from ..text import printable
from .common import agree
from .onnx_file import LARGEST, LONGEST_NAME, array, read_model
from .onnx_own import check_sizes, own_graph

OLDEST_OPSET = 11
LARGEST_FOLDED = 2**24
"""The most elements that computing with constants may make, beyond those that it reads."""
LARGEST_SAMPLE = 2**31
"""The most elements that a tensor may have for one sample, its padding included."""
LONGEST_SIDE = 2**14
"""The most cells along an axis that an image may be resized to."""
MOST_TAPS = 2**28
"""The most cells that the windows of a pool may have, all together, for one channel."""
DEEPEST_NAME = 32
"""The most modules within one another that names are searched for."""
SMALL = 64 * 2**20, 2**16, 2**22
"""Bytes of weights, values of the inputs and of all tensors, up to which a model is checked unless told otherwise."""
BATCH = 7919
"""Stands for a batch of any size while shapes are inferred: a prime that no layer has as its size."""
OTHER_BATCH = 7907
"""Another one, by which is seen what depends on the batch's size."""


# --- the entrance ---------------------------------------------------------------------------------


def from_onnx(
    path: str | Path, *, canonize: bool = True, check: bool | None = None, input: Array | None = None
) -> Graph:
    """The network in an ONNX file.

    Parameters
    ----------
    path : str or Path
    canonize : fold batch norms and scalers, drop identities, strip a final softmax; see :func:`lrp_ref.canonize`
    check : run it against onnx's reference evaluator, and refuse it if the outputs differ by more than 1e-5
        (float32) or 1e-7 (float64) of the greatest; None: if its weights take less than 64 MB and its inputs have
        less than 2^16 values, for the evaluator takes seconds for large images
    input : array (batch, ...), optional
        an input for the check; and its sizes, where the file leaves them open.

    Returns
    -------
    Graph
        nodes named after the modules that exporters leave in names; each answers to its output tensor's name too.

    Raises
    ------
    LoadError, UnsupportedOp
    """
    try:
        with np.errstate(all="ignore"):  # numbers that are not finite are refused where they arise
            model, tensors = read_model(Path(path))
            reader = Reader(model, tensors, None if input is None else np.asarray(input).shape)
            own = own_graph(model, tensors)
            graph = reader.graph() if own is None else reader.as_saved(own)
            if check or (check is None and reader.is_small()):
                try:
                    verify(graph, reader, Path(path), input)
                except CannotRun as error:
                    if check:
                        raise
                    graph = dataclasses.replace(graph, notes=(*graph.notes, f"not checked: {error}"))
            return canonized(graph) if canonize else graph
    except RecursionError as error:
        raise LoadError(f"{printable(str(path))}: nested too deeply") from error
    except LrpError as error:
        kind = UnsupportedOp if isinstance(error, UnsupportedOp) else LoadError
        raise kind(printable(" ".join(f"{path}: {error}".split()))) from error


class CannotRun(LoadError):
    """onnx's reference evaluator cannot run what was read."""


def verify(graph: Graph, reader: Reader, path: Path, input: Array | None) -> None:
    """Refuse a graph whose outputs differ from those of onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(0)
    x = {}
    for name, tensor in reader.inputs.items():
        shape = [2 if i == 0 and n == BATCH else n for i, n in enumerate(reader.shapes[tensor] or ())]
        known = [n for n in shape if n is not None]
        if input is None and (not shape or len(known) < len(shape)):
            raise LoadError(f'input "{name}" has open sizes {shape}: give input=, or check=False')
        given = rng.normal(size=known) if input is None else np.asarray(input)
        if shape and (len(shape) != given.ndim or given.shape[1:] != tuple(shape[1:])):
            raise LoadError(f'input "{name}" has the shape {given.shape}, in the file {tuple(shape)}')
        x[name] = given.astype(reader.dtype(tensor))
    try:
        evaluator: Any = ReferenceEvaluator(reader.evaluated(path))
        expected = evaluator.run(None, {reader.inputs[name]: value for name, value in x.items()})
    except Exception as error:  # whatever onnx's evaluator raises: it could not run the file
        why = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        raise CannotRun(f"onnx's reference evaluator cannot run it ({why})") from error
    double = all(value.dtype == np.float64 for value in x.values())
    bound = {"float32": 1e-5, "float64": 1e-7 if double else 1e-5}
    if strange := [
        str(getattr(y, "dtype", type(y).__name__)) for y in expected if str(getattr(y, "dtype", "")) not in bound
    ]:
        raise LoadError(f"onnx's reference evaluator gives outputs of {', '.join(strange)}")
    agree(graph, x, expected, bound=bound, framework="onnx's reference evaluator")


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operator:
    """One node of the file: its operator, attributes, and tensors ("" for one left out)."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    scope: str
    """The module that the exporter says it comes from, or ""."""

    def __str__(self) -> str:
        place = f', from module "{printable(self.scope)}"' if self.scope else ""
        return f'node "{printable(self.name)}" ({printable(self.kind)}{place})'


@dataclass
class Reader:
    """A file on its way to a graph."""

    model: Any
    constants: dict[str, Array]
    """Tensors known while reading: initializers, and what is computed from them."""
    example: tuple[int, ...] | None = None
    nodes: list[Node] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    """For each tensor that depends on the data, the node or input that makes it."""
    shapes: dict[str, tuple[int | None, ...] | None] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    makers: dict[str, Operator] = field(default_factory=dict)
    others: dict[str, Array] = field(default_factory=dict)
    """What constants are with OTHER_BATCH samples, where that is something else."""

    def graph(self) -> Graph:
        """The whole file as a graph."""
        model = self.model
        self._read_opset()
        operators = _operators(model.graph, self.opset)
        self._used = {output for operator in self._needed(operators) for output in operator.outputs}
        inferred = self._with_sizes(model)
        for name, shape, kind in _tensor_types(inferred.graph):
            self.shapes[name], self.types[name] = shape, kind
        needed = self._needed(_with_gelus(operators, self.constants))
        self.makers = {output: operator for operator in needed for output in operator.outputs}
        for tensor in model.graph.input:
            if tensor.name not in self.constants:
                self._input(tensor.name)
        for operator in needed:
            parts = self._module(operator).split(".")[:DEEPEST_NAME]
            self._containers |= {".".join(parts[:i]) for i in range(1, len(parts))}
        for operator in needed:
            self._read(operator)
        outputs: list[str] = []
        for tensor in model.graph.output:
            source = self.sources.get(tensor.name)
            if source is None:
                raise LoadError(f'output "{printable(tensor.name)}" does not depend on an input')
            if source in self.inputs:
                self.nodes.append(Node(self._free("identity"), Identity(), source))
                source = self.nodes[-1].name
            outputs.append(source)
        aliases = {printable(t): s for t, s in self.sources.items() if s not in self.inputs and printable(t) != s}
        names = {node.name for node in self.nodes} | set(self.inputs)
        return Graph(
            self.nodes,
            outputs=outputs,
            inputs=list(self.inputs),
            aliases={alias: name for alias, name in aliases.items() if alias not in names},
        )

    def _read_opset(self) -> None:
        from onnx.defs import onnx_opset_version

        self.opset = next((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 0)
        if not OLDEST_OPSET <= self.opset <= onnx_opset_version():
            raise LoadError(
                f"opset {self.opset}; this reads {OLDEST_OPSET} to {onnx_opset_version()}: "
                f"convert it with onnx.version_converter"
            )

    def as_saved(self, graph: Graph) -> Graph:
        """The graph that lrp_ref saved in the file, with what a check against the file's operators needs."""
        self._read_opset()
        needed = self._needed(_operators(self.model.graph, self.opset))
        self._used = {output for operator in needed for output in operator.outputs}
        for name, shape, kind in _tensor_types(self._with_sizes(self.model).graph):
            self.shapes[name], self.types[name] = shape, kind
        check_sizes(graph, self.shapes, [self.dtype(name) for name in graph.inputs])
        self.inputs = {name: name for name in graph.inputs}
        self.sources = self.inputs | {node.name: node.name for node in graph.nodes}
        return graph

    def _input(self, tensor: str) -> None:
        from onnx import TensorProto

        floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
        if self.types.get(tensor) not in floats:
            raise UnsupportedOp(
                f'input "{printable(tensor)}" holds no floats (data type {self.types.get(tensor)}): cut the file where '
                f"floats are made of it"
            )
        name = self._free(printable(tensor))
        refuse_size(f'input "{name}"', (self.shapes.get(tensor) or ())[1:])
        self.inputs[name], self.sources[tensor] = tensor, name
        self._sizes[name] = self.shapes.get(tensor)

    def evaluated(self, path: Path) -> Any:
        """The file as onnx's own evaluator shall run it: what the outputs need, in float32 instead of float16."""
        import onnx

        model = onnx.load(path)
        del model.functions[:], model.graph.node[:]
        model.graph.node.extend(node for node in self.model.graph.node if self._used & set(node.output))
        halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
        values = [attribute.t for node in model.graph.node for attribute in node.attribute]
        for tensor in [*model.graph.initializer, *values]:
            if tensor.data_type in halves:
                full = onnx.numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(full, tensor.name))
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i in halves:
                    attribute.i = onnx.TensorProto.FLOAT
            if node.op_type == "BatchNormalization" and self.opset < 14:  # or it takes in the statistics of the batch
                kept = [attribute for attribute in node.attribute if attribute.name != "momentum"]
                del node.attribute[:]
                node.attribute.extend([*kept, onnx.helper.make_attribute("momentum", 1.0)])
            rank = len(self.shapes.get(node.input[0]) or ()) if node.input else 0
            if node.op_type == "GlobalMaxPool" and rank != 4:  # the evaluator takes other axes
                node.op_type, axes = "ReduceMax", list(range(2, rank))
                if self.opset < 18:
                    node.attribute.append(onnx.helper.make_attribute("axes", axes))
                else:
                    tensor = onnx.numpy_helper.from_array(np.array(axes), f"axes of {node.output[0]}")
                    model.graph.initializer.append(tensor)
                    node.input.append(tensor.name)
        return model

    def _with_sizes(self, model: Any) -> Any:
        """The model with inferred shapes; an open batch is BATCH, other open sizes are the example's."""
        import onnx

        sized = onnx.ModelProto()
        sized.CopyFrom(model)
        for tensor in sized.graph.input:
            if tensor.name in self.constants:
                continue
            dims = tensor.type.tensor_type.shape.dim
            for i, dim in enumerate(dims):
                fixed = dim.HasField("dim_value") and dim.dim_value > 0
                if not i and not fixed:
                    dim.dim_value = BATCH
                elif not fixed and self.example is not None and len(self.example) == len(dims):
                    dim.dim_value = self.example[i]
        for tensor in [*sized.graph.value_info]:
            sized.graph.value_info.remove(tensor)
        for tensor in sized.graph.output:
            tensor.type.tensor_type.ClearField("shape")
        try:
            return onnx.shape_inference.infer_shapes(sized, strict_mode=False, data_prop=True)
        except Exception as error:  # onnx raises its own types, and ValueError for what it cannot parse
            raise LoadError(f"onnx's shape inference refuses it: {error}") from error

    def _needed(self, operators: Sequence[Operator]) -> list[Operator]:
        """The operators that an output depends on, in the file's order, which must be one of reading."""
        made: dict[str, int] = {}
        inputs, outputs = (
            [tensor.name for tensor in side] for side in (self.model.graph.input, self.model.graph.output)
        )
        given = set(inputs)
        if not outputs:
            raise LoadError("it has no outputs")
        for what, names in (("an input", inputs), ("an output", outputs)):
            if twice := [name for name, count in Counter(names).items() if count > 1]:
                raise LoadError(f'tensor "{printable(twice[0])}" is {what} twice')
        for i, operator in enumerate(operators):
            for output in filter(None, operator.outputs):
                if output in made or output in self.constants or output in given:
                    raise LoadError(f'tensor "{printable(output)}" is made twice')
                made[output] = i
        wanted, waiting = set(), outputs
        while waiting:
            tensor = waiting.pop()
            if tensor in given or tensor in self.constants:
                continue
            if tensor not in made:
                raise LoadError(f'tensor "{printable(tensor)}" is read, and nothing makes it')
            if made[tensor] not in wanted:
                wanted.add(made[tensor])
                waiting.extend(filter(None, operators[made[tensor]].inputs))
        for i in sorted(wanted):
            for tensor in filter(None, operators[i].inputs):
                if made.get(tensor, -1) >= i:
                    raise LoadError(f"{operators[i]} reads what a later node makes, or itself: a cycle")
        return [operators[i] for i in sorted(wanted)]

    def _read(self, operator: Operator) -> None:
        if operator.kind == "Shape" and operator.inputs[0] in self.sources:
            self._read_shape(operator)
        elif all(tensor in self.constants for tensor in operator.inputs if tensor):
            self._fold(operator)
        elif operator.kind not in OPERATORS:
            self.unsupported(operator, "no layer does this")
        else:
            try:
                OPERATORS[operator.kind](self, operator)
            except (LoadError, UnsupportedOp):
                raise
            except LrpError as error:
                raise LoadError(f"{operator}: {error}") from error

    def _read_shape(self, operator: Operator) -> None:
        shape = self.shape(operator, operator.inputs[0])
        cut = slice(operator.attributes.get("start", 0), operator.attributes.get("end"))
        self.constants[operator.outputs[0]] = np.array(shape[cut], dtype=np.int64)
        if BATCH in shape[cut]:
            other = [OTHER_BATCH if n == BATCH else n for n in shape[cut]]
            self.others[operator.outputs[0]] = np.array(other, dtype=np.int64)

    def _fold(self, operator: Operator) -> None:
        """Compute an operator whose inputs are all constant, with onnx's own implementation."""
        if operator.kind not in FOLDED:
            self.unsupported(operator, "all its inputs are constants, and it is none that is computed while reading")
        results = self._computed(operator, self.constants)
        self.constants.update(results)
        if any(tensor in self.others for tensor in operator.inputs):
            others = self._computed(operator, ChainMap(self.others, self.constants))
            same = {tensor for tensor, value in others.items() if np.array_equal(value, results[tensor])}
            self.others.update({tensor: value for tensor, value in others.items() if tensor not in same})

    def _computed(self, operator: Operator, constants: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of an operator that reads but constants."""
        values = [constants[tensor] if tensor else None for tensor in operator.inputs]
        read = sum(value.size for value in values if value is not None)
        made = _growth(operator, values)
        self._folded += made
        if made > max(LARGEST_FOLDED, read) or self._folded > LARGEST_FOLDED + 8 * self._given:
            raise LoadError(f"{operator} would make a constant of {made} elements, more than honest networks need")
        try:
            results = [_constant(operator)] if operator.kind == "Constant" else _evaluate(operator, values, self.opset)
        except LrpError:
            raise
        except Exception as error:  # whatever onnx's evaluator raises on constants that do not fit
            raise LoadError(f"{operator} cannot be computed: {type(error).__name__}: {error}") from error
        return {tensor: np.asarray(value) for tensor, value in zip(operator.outputs, results, strict=False) if tensor}

    def is_small(self) -> bool:
        """Whether the file is checked unless told otherwise."""

        def size(tensor: str) -> int:
            shape = self.shapes.get(tensor) or (None,)
            counts = [2 if i == 0 and n == BATCH else n for i, n in enumerate(shape)]
            return math.prod(LARGEST if n is None else n or 1 for n in counts)

        values, made = (sum(map(size, tensors)) for tensors in (self.inputs.values(), self.sources))
        weights = sum(array.nbytes for array in self.constants.values())
        return weights < SMALL[0] and values < SMALL[1] and made < SMALL[2]

    # --- what the operators' functions use ---

    def unsupported(self, operator: Operator, why: str) -> NoReturn:
        """Refuse an operator."""
        raise UnsupportedOp(
            f"{operator}: {why}; the operators that can be read are listed by lrp_ref.loaders.onnx.OPERATORS: "
            f"rewrite this part of the network, or cut the file before it"
        )

    def data(self, operator: Operator, i: int = 0) -> str:
        """The node or input that makes input `i`, which must depend on the data."""
        tensor = operator.inputs[i] if i < len(operator.inputs) else ""
        if tensor not in self.sources:
            self.unsupported(operator, f"its input {i} is a constant, or left out")
        return self.sources[tensor]

    def is_constant(self, operator: Operator, i: int) -> bool:
        """Whether input `i` is a constant."""
        return i < len(operator.inputs) and operator.inputs[i] in self.constants

    def constant(
        self, operator: Operator, i: int, attribute: str = "", default: Any = None, *, batch_first: bool = False
    ) -> Any:
        """Input `i`, which must be a constant; or, where opsets before had an attribute, that; or the default.

        The batch's size is no constant; with `batch_first` it may be the first of several numbers.
        """
        if i < len(operator.inputs) and operator.inputs[i]:
            tensor = operator.inputs[i]
            if tensor not in self.constants:
                self.unsupported(operator, f"its input {i} depends on the data")
            value, other = self.constants[tensor], self.others.get(tensor)
            if other is not None and not (batch_first and np.array_equal(value.reshape(-1)[1:], other.reshape(-1)[1:])):
                self.unsupported(operator, f"its input {i} depends on the size of the batch")
            return value
        return operator.attributes.get(attribute, default)

    def numbers(
        self, operator: Operator, i: int, attribute: str = "", default: Any = None, *, batch_first: bool = False
    ) -> list[int] | None:
        """A constant of integers, in one list; None if it is left out."""
        value = self.constant(operator, i, attribute, default, batch_first=batch_first)
        if value is None:
            return None
        value = np.asarray(value)
        if value.size and value.dtype.kind not in "iu":
            raise LoadError(f"{operator}: its input {i} holds {value.dtype}, not integers")
        return [int(n) for n in value.reshape(-1).tolist()]

    def weight(self, operator: Operator, i: int) -> Any:
        """A constant of parameters, float16 and bfloat16 as float32; None if it is left out."""
        value = self.constant(operator, i)
        if value is None:
            return None
        if value.dtype.kind not in "fV" and value.dtype.name != "bfloat16":
            self.unsupported(operator, f"its parameters are {value.dtype}")
        return value if value.dtype in (np.float32, np.float64) else value.astype(np.float32)

    def shape(self, operator: Operator, tensor: str) -> tuple[int, ...]:
        """The inferred shape of a tensor, the batch first."""
        shape = self.shapes.get(tensor)
        if shape is None or any(n is None for n in shape):
            raise LoadError(f'{operator}: the shape of "{printable(tensor)}" is not known, only {shape}: give input=')
        return tuple(int(n) for n in shape if n is not None)

    def rank(self, operator: Operator, i: int = 0) -> int:
        """The number of axes of input `i`."""
        shape = self.shapes.get(operator.inputs[i])
        if shape is None:
            raise LoadError(f'{operator}: the shape of "{printable(operator.inputs[i])}" is not known: give input=')
        return len(shape)

    def dtype(self, tensor: str) -> Any:
        """The float type of a tensor; float16 and bfloat16 are read as float32."""
        from onnx import TensorProto

        return np.float64 if self.types.get(tensor) == TensorProto.DOUBLE else np.float32

    def add(self, operator: Operator, layer: Layer, *sources: str, output: int = 0, last: bool = True) -> str:
        """Append a node for an operator, and make it the source of the operator's output."""
        name = self._free(self._name(operator) if last else f"{self._name(operator)}.{type(layer).__name__.lower()}")
        self.nodes.append(Node(name, layer, *sources))
        if last:
            tensor = operator.outputs[output]
            self.sources[tensor], self._sizes[name] = name, self.shapes.get(tensor)
            refuse_size(operator, (self.shapes.get(tensor) or ())[1:])
        shapes = [self._sizes.get(source) for source in sources]
        known = [
            tuple(n for n in shape if n is not None) for shape in shapes if shape is not None and None not in shape
        ]
        if len(known) == len(sources):
            layer.check(*known)
        return name

    def _name(self, operator: Operator) -> str:
        """The module that it comes from; with the operator's name behind it where that module holds others."""
        path, own = self._module(operator), operator.name.rpartition("/")[2] or operator.kind
        return printable(path if path and path not in self._containers else ".".join(filter(None, (path, own.lower()))))

    def _module(self, operator: Operator) -> str:
        """The path of the module that the exporter names: in its metadata, its parameters or its node names."""
        if operator.scope:
            return operator.scope
        for tensor in operator.inputs[1:]:
            if tensor in self.constants and tensor.endswith((".weight", ".kernel")):
                return tensor.rpartition(".")[0]
        path = ""
        for part in operator.name.split("/")[:-1]:  # "/layer1/layer1.0/conv2/Conv": a part repeats what is before it
            path = part if part.startswith(f"{path}.") or not path else f"{path}.{part}"
        return path

    def _free(self, name: str) -> str:
        free = name
        while free in self._taken:
            self._taken[name] += 1
            free = f"{name}_{self._taken[name]}"
        self._taken[free] = 0
        return free

    def __post_init__(self) -> None:
        self._taken: dict[str, int] = {}
        """Names, and how often each was made another one by a number."""
        self._containers: set[str] = set()
        self._sizes: dict[str, tuple[int | None, ...] | None] = {}
        """The inferred shape of what a node or input makes, where the file has a tensor for it."""
        self._given = sum(array.size for array in self.constants.values())
        self._folded = 0
        self._used = set()
        """The tensors that the outputs depend on."""


def refuse_size(what: object, sample: Sequence[int | None]) -> None:
    """Refuse a tensor that no memory would hold; `sample` is its shape without the batch."""
    size = math.prod(n for n in sample if n)
    if size > LARGEST_SAMPLE:
        raise LoadError(f"{what} would have {size} elements a sample, more than {LARGEST_SAMPLE}")


def _operators(graph: Any, opset: int) -> list[Operator]:
    """The nodes of a file, held against onnx's definitions."""
    from onnx import checker

    context = checker.C.CheckerContext()
    context.ir_version, context.opset_imports = 10, {"": opset}
    return [_operator(node, context) for node in graph.node]


def _operator(node: Any, context: Any) -> Operator:
    from onnx import AttributeProto, checker, helper

    kind = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    inputs, outputs = tuple(node.input), tuple(node.output)
    operator = Operator(kind, node.name, inputs, outputs, {}, "")
    if (longest := max(map(len, (kind, node.name, *inputs, *outputs)))) > LONGEST_NAME:
        raise LoadError(f"a node has a name of {longest} characters, more than {LONGEST_NAME}")
    if "." in kind:
        raise UnsupportedOp(f"{operator}: only operators of onnx's own domain can be read: rewrite it by those")
    if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute):
        raise UnsupportedOp(f"{operator}: loops, branches and other subgraphs cannot be read: write them out")
    try:
        checker.check_node(node, context)
    except checker.ValidationError as error:
        raise LoadError(f"{operator} is none by onnx's definition: {error}") from error
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            operator.attributes[attribute.name] = array(attribute.t, f"attribute {attribute.name} of {operator}")
            continue
        try:
            value = helper.get_attribute_value(attribute)
        except ValueError as error:
            raise LoadError(f'{operator}: attribute "{printable(attribute.name)}": {error}') from error
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, float) and not math.isfinite(value):
            raise LoadError(f'{operator}: attribute "{printable(attribute.name)}" is {value}')
        operator.attributes[attribute.name] = value
    return replace(operator, scope=_scope(node))


def _scope(node: Any) -> str:
    """The module that torch's exporter says a node comes from: the last but one of its scopes that has a name."""
    import ast

    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes" and len(entry.value) < LONGEST_NAME:
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                scopes = ast.literal_eval(entry.value)
                if isinstance(scopes, list):
                    return next((scope for scope in reversed(scopes[:-1]) if isinstance(scope, str) and scope), "")
    return ""


def _with_gelus(operators: list[Operator], constants: Mapping[str, Array]) -> list[Operator]:
    """The operators, with x Phi(x) written out as x * (1 + erf(x / sqrt 2)) / 2, in any order, read as one Gelu."""
    maker = {output: operator for operator in operators for output in operator.outputs}
    values = dict(constants)
    for operator in operators:
        if operator.kind == "Constant":
            values[operator.outputs[0]] = _constant(operator)

    def number(tensor: str) -> float | None:
        value = values.get(tensor)
        return float(value.reshape(())) if value is not None and value.size == 1 and value.dtype.kind == "f" else None

    def factors(tensor: str, deep: int = 4, whole: str = "") -> tuple[float, list[str]]:
        """The constant factor and the other factors of a product of a few; `whole` is not taken apart."""
        operator = maker.get(tensor)
        if operator is None or operator.kind not in ("Mul", "Div") or not deep or tensor == whole:
            return 1.0, [tensor]
        left, right = operator.inputs
        if (constant := number(right)) is not None:
            scale, rest = factors(left, deep - 1, whole)
            return (scale * constant if operator.kind == "Mul" else scale / constant if constant else math.nan), rest
        if operator.kind == "Mul" and (constant := number(left)) is not None:
            scale, rest = factors(right, deep - 1, whole)
            return scale * constant, rest
        if operator.kind == "Div":
            return 1.0, [tensor]
        one, other = factors(left, deep - 1, whole), factors(right, deep - 1, whole)
        return one[0] * other[0], one[1] + other[1]

    def halved(tensor: str) -> str | None:
        """x, if the tensor is x / sqrt 2."""
        scale = 1.0
        for _ in range(3):
            if math.isclose(scale, math.sqrt(0.5), rel_tol=1e-6):
                return tensor
            deeper, rest = factors(tensor, 1)
            if len(rest) != 1:
                return None
            scale, tensor = scale * deeper, rest[0]
        return None

    def one_plus_erf(tensor: str) -> str | None:
        """x, if the tensor is 1 + erf(x / sqrt 2)."""
        operator = maker.get(tensor)
        if operator is None or operator.kind != "Add" or len(operator.inputs) != 2:
            return None
        for one, other in (operator.inputs, operator.inputs[::-1]):
            inner = maker.get(one)
            if number(other) == 1.0 and inner is not None and inner.kind == "Erf" and inner.inputs:
                return halved(inner.inputs[0])
        return None

    read = []
    for operator in operators:
        if operator.kind == "Mul" and len(operator.inputs) == 2:
            gates = [x for x in map(one_plus_erf, factors(operator.outputs[0])[1]) if x is not None]
            for x in gates[:1]:
                scale, parts = factors(operator.outputs[0], whole=x)
                if math.isclose(scale, 0.5) and sorted(one_plus_erf(part) or part for part in parts) == [x, x]:
                    operator = replace(operator, kind="Gelu", inputs=(x,), attributes={})
        read.append(operator)
    return read


def _tensor_types(graph: Any) -> Iterator[tuple[str, tuple[int | None, ...] | None, int]]:
    for tensor in [*graph.output, *graph.value_info, *graph.input]:  # an output may be an input, whose shape is known
        kind = tensor.type.tensor_type
        shape = None
        if kind.HasField("shape"):
            shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in kind.shape.dim)
        yield tensor.name, shape, kind.elem_type


# --- constants ------------------------------------------------------------------------------------

ELEMENTWISE = {
    "Abs", "Add", "And", "Cast", "Ceil", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Identity", "Less",
    "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Sqrt", "Sub", "Where",
}  # fmt: skip
FOLDED = ELEMENTWISE | {
    "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherND", "NonZero", "Range",
    "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Shape", "Size", "Slice", "Split", "Squeeze",
    "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators that are computed while reading, if all their inputs are constants."""


def _growth(operator: Operator, values: Sequence[Array | None]) -> int:
    """How many elements an operator that reads constants makes, or more."""
    present = [value for value in values if value is not None]
    read: int = sum(value.size for value in present)

    def product(value: Array) -> int:
        return math.prod(max(1, abs(int(n))) for n in value.reshape(-1).tolist())

    if operator.kind in ("ConstantOfShape", "Expand", "Tile"):
        if present[-1].dtype.kind not in "iu" or present[-1].size > 64:
            raise LoadError(f"{operator}: its shape is no list of a few integers")
        return product(present[-1]) * (1 if operator.kind == "ConstantOfShape" else int(present[0].size))
    if operator.kind == "Range":
        if len(present) != 3 or any(value.size != 1 or value.dtype.kind not in "iuf" for value in present):
            raise LoadError(f"{operator}: its bounds are no numbers")
        start, limit, delta = (float(value.reshape(())) for value in present)
        steps = abs(limit - start) / abs(delta) if delta else math.inf
        return int(steps) + 1 if steps < LARGEST else LARGEST
    if operator.kind in ("Gather", "GatherND"):
        shape, axis = present[0].shape, operator.attributes.get("axis", 0)
        along = shape[axis] if operator.kind == "Gather" and -len(shape) <= axis < len(shape) else 1
        return int(present[0].size) // max(1, along) * max(1, int(present[-1].size))
    if operator.kind in ELEMENTWISE:
        with suppress(ValueError):  # the evaluator says that they do not fit
            return math.prod(np.broadcast_shapes(*(value.shape for value in present)))
    return 64 * read if operator.kind == "NonZero" else read


def _constant(operator: Operator) -> Array:
    """The value of a Constant."""
    kinds: dict[str, Any] = {"value": None, "value_float": np.float32, "value_floats": np.float32}
    kinds |= {"value_int": np.int64, "value_ints": np.int64}
    for name, value in operator.attributes.items():
        if name in kinds:
            return np.asarray(value, kinds[name])
    raise UnsupportedOp(f"{operator}: a constant that holds no numbers cannot be read")


def _evaluate(operator: Operator, values: Sequence[Array | None], opset: int) -> list[Any]:
    from onnx import TypeProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    names = [f"x{i}" if value is not None else "" for i, value in enumerate(values)]
    outputs = [f"y{i}" if output else "" for i, output in enumerate(operator.outputs)]
    attributes = {
        name: numpy_helper.from_array(value, "value") if isinstance(value, np.ndarray) else value
        for name, value in operator.attributes.items()
    }
    node = helper.make_node(operator.kind, names, outputs, **attributes)
    inputs = [helper.make_value_info(name, TypeProto()) for name in names if name]
    results = [helper.make_value_info(name, TypeProto()) for name in outputs if name]
    graph = helper.make_graph([node], "constants", inputs, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    feeds = {name: value for name, value in zip(names, values, strict=True) if name}
    return list(ReferenceEvaluator(model).run(None, feeds))


# --- the operators --------------------------------------------------------------------------------


def _activation(make: Callable[[dict[str, Any]], Layer]) -> Callable[[Reader, Operator], None]:
    def read(reader: Reader, operator: Operator) -> None:
        reader.add(operator, make(operator.attributes), reader.data(operator))

    return read


def _spatial(reader: Reader, operator: Operator) -> int:
    """How many spatial axes the input has."""
    axes = reader.rank(operator) - 2
    if axes < 1:
        reader.unsupported(operator, "its input has no spatial axes")
    return axes


def _padding(
    reader: Reader, operator: Operator, kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding as pairs, computed from the input's size where the file says SAME."""
    n = len(kernel)
    automatic = operator.attributes.get("auto_pad", "NOTSET")
    dilations = operator.attributes.get("dilations", [1] * n)
    if not len(strides) == len(dilations) == n == reader.rank(operator) - 2:
        raise LoadError(f"{operator}: {n} kernel axes, {len(strides)} strides and {len(dilations)} dilations")
    if list(operator.attributes.get("kernel_shape", kernel)) != list(kernel):
        raise LoadError(f"{operator}: its kernel_shape is not that of its weight, {list(kernel)}")
    if automatic not in ("NOTSET", "") and any(operator.attributes.get("pads", ())):
        raise LoadError(f"{operator}: auto_pad {automatic} and pads")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        size = reader.shape(operator, operator.inputs[0])[2:]
        for length, k, s, d in zip(size, kernel, strides, dilations, strict=True):
            if s < 1:
                raise LoadError(f"{operator}: stride {s}")
            more = max(0, (-(-length // s) - 1) * s + (k - 1) * d + 1 - length)
            less, rest = more // 2, more - more // 2
            pads.append((less, rest) if automatic == "SAME_UPPER" else (rest, less))
        return _bounded(reader, operator, pads)
    if automatic not in ("NOTSET", "VALID", ""):
        raise LoadError(f"{operator}: auto_pad {automatic!r}")
    flat = operator.attributes.get("pads", [0] * (2 * n)) if automatic != "VALID" else [0] * (2 * n)
    if len(flat) != 2 * n:
        raise LoadError(f"{operator}: {len(flat)} pads for {n} axes")
    if min(flat, default=0) < 0:
        raise LoadError(f"{operator}: negative pads {list(flat)}")
    return _bounded(reader, operator, list(zip(flat[:n], flat[n:], strict=True)))


def _bounded(reader: Reader, operator: Operator, pads: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pads, if memory holds what they make of the input."""
    before = reader.shapes.get(operator.inputs[0]) or ()
    refuse_size(operator, [*before[1:2], *((n or 1) + sum(pad) for n, pad in zip(before[2:], pads, strict=True))])
    return pads


def _conv(reader: Reader, operator: Operator) -> None:
    weight, bias = reader.weight(operator, 1), reader.weight(operator, 2)
    axes = max(0, weight.ndim - 2)
    stride = operator.attributes.get("strides", [1] * axes)
    layer = Conv(
        weight=weight,
        bias=bias,
        stride=stride,
        padding=_padding(reader, operator, weight.shape[2:], stride),
        dilation=operator.attributes.get("dilations", [1] * axes),
        groups=operator.attributes.get("group", 1),
    )
    reader.add(operator, layer, reader.data(operator))


def _conv_transpose(reader: Reader, operator: Operator) -> None:
    if "output_shape" in operator.attributes or operator.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", ""):
        reader.unsupported(operator, "output_shape and auto_pad are not read: write the pads out")
    weight, bias = reader.weight(operator, 1), reader.weight(operator, 2)
    axes = max(0, weight.ndim - 2)
    stride = operator.attributes.get("strides", [1] * axes)
    layer = ConvTranspose(
        weight=weight,
        bias=bias,
        stride=stride,
        padding=_padding(reader, operator, weight.shape[2:], stride),
        output_padding=operator.attributes.get("output_padding", [0] * axes),
        dilation=operator.attributes.get("dilations", [1] * axes),
        groups=operator.attributes.get("group", 1),
    )
    reader.add(operator, layer, reader.data(operator))


def _gemm(reader: Reader, operator: Operator) -> None:
    if operator.attributes.get("transA", 0):
        reader.unsupported(operator, "transA would mix the batch")
    weight, bias = reader.weight(operator, 1), reader.weight(operator, 2)
    if weight is None or weight.ndim != 2:
        raise LoadError(f"{operator}: its weight is no matrix")
    alpha, beta = operator.attributes.get("alpha", 1.0), operator.attributes.get("beta", 1.0)
    weight = weight.T if operator.attributes.get("transB", 0) else weight
    weight = weight if alpha == 1 else weight * weight.dtype.type(alpha)
    if bias is not None:
        if bias.ndim > 2 or bias.shape[-1:] not in ((), (1,), weight.shape[1:]) or bias.shape[-2:-1] not in ((), (1,)):
            reader.unsupported(operator, f"its C of shape {bias.shape} is no bias of {weight.shape[1]} outputs")
        bias = np.broadcast_to(bias.reshape(bias.shape[-1:]), weight.shape[1:])
        bias = bias if beta == 1 else bias * bias.dtype.type(beta)
    reader.add(operator, Dense(weight=weight, bias=bias), reader.data(operator))


def _matmul(reader: Reader, operator: Operator) -> None:
    if not reader.is_constant(operator, 1):
        reader.unsupported(operator, "a product of two tensors that both depend on the data")
    weight = reader.weight(operator, 1)
    if weight.ndim != 2:
        reader.unsupported(operator, f"its weight has shape {weight.shape}, not (inputs, outputs)")
    reader.add(operator, Dense(weight=weight), reader.data(operator))


def _batch_norm(reader: Reader, operator: Operator) -> None:
    if operator.attributes.get("training_mode", 0) or len([o for o in operator.outputs if o]) > 1:
        raise LoadError(f"{operator} is in training mode: export the network in evaluation mode")
    weight, bias, mean, variance = (reader.weight(operator, i) for i in (1, 2, 3, 4))
    epsilon = as_decimal(operator.attributes.get("epsilon", 1e-5))
    layer = BatchNorm.from_statistics(mean=mean, variance=variance, weight=weight, bias=bias, epsilon=epsilon)
    reader.add(operator, layer, reader.data(operator))


def _pool(reader: Reader, operator: Operator) -> dict[str, Any]:
    """What max and average pools have in common."""
    axes = _spatial(reader, operator)
    kernel = operator.attributes.get("kernel_shape", ())
    stride = operator.attributes.get("strides", [1] * axes)
    if len(kernel) != axes:
        raise LoadError(f"{operator}: a kernel of shape {list(kernel)} for {axes} spatial axes")
    taps = math.prod(n or 1 for n in (*kernel, *(reader.shapes.get(operator.outputs[0]) or ())[2:]))
    if taps > MOST_TAPS:
        raise LoadError(f"{operator}: windows of {taps} cells, more than {MOST_TAPS}")
    return {
        "kernel": tuple(kernel),
        "stride": tuple(stride),
        "padding": tuple(_padding(reader, operator, kernel, stride)),
        "ceil": bool(operator.attributes.get("ceil_mode", 0)),
    }


def _max_pool(reader: Reader, operator: Operator) -> None:
    if len([o for o in operator.outputs if o]) > 1:
        reader.unsupported(operator, "its second output, the indices, is used")
    common = _pool(reader, operator)
    dilation = tuple(operator.attributes.get("dilations", [1] * len(common["kernel"])))
    reader.add(operator, MaxPool(**common, dilation=dilation), reader.data(operator))


def _average_pool(reader: Reader, operator: Operator) -> None:
    if any(d != 1 for d in operator.attributes.get("dilations", [1])):
        reader.unsupported(operator, "a dilated average pool")
    count = bool(operator.attributes.get("count_include_pad", 0))
    reader.add(operator, AvgPool(**_pool(reader, operator), count_include_pad=count), reader.data(operator))


def _global_pool(layer: Layer) -> Callable[[Reader, Operator], None]:
    def read(reader: Reader, operator: Operator) -> None:
        _spatial(reader, operator)
        reader.add(operator, layer, reader.data(operator))

    return read


def _axes(reader: Reader, operator: Operator, i: int = 1) -> tuple[int, ...]:
    """The axes that an operator works on, counted from the front."""
    axes, rank = reader.numbers(operator, i, "axes"), reader.rank(operator)
    return tuple(axis + rank if axis < 0 else axis for axis in axes or range(rank))


def _reduce(kind: type[Sum] | type[Mean]) -> Callable[[Reader, Operator], None]:
    def read(reader: Reader, operator: Operator) -> None:
        if operator.attributes.get("noop_with_empty_axes", 0) and not reader.numbers(operator, 1, "axes"):
            reader.add(operator, Identity(), reader.data(operator))
            return
        keep = bool(operator.attributes.get("keepdims", 1))
        reader.add(operator, kind(axes=_axes(reader, operator), keepdims=keep), reader.data(operator))

    return read


def _reduce_max(reader: Reader, operator: Operator) -> None:
    rank, axes = reader.rank(operator), _axes(reader, operator)
    if sorted(axes) != list(range(2, rank)) or not axes:
        reader.unsupported(operator, "a maximum over other than all spatial axes")
    if operator.attributes.get("keepdims", 1):
        reader.add(operator, GlobalMaxPool(), reader.data(operator))
    else:
        pool = reader.add(operator, GlobalMaxPool(), reader.data(operator), last=False)
        reader.add(operator, Squeeze(axis=axes), pool)


def _sample_constant(reader: Reader, operator: Operator, value: Array) -> Array:
    """A constant operand as a scalar, one number a channel, or an array of the sample's shape."""
    rank = reader.rank(operator, 0 if reader.is_constant(operator, 1) else 1)
    if value.ndim > rank or (value.ndim == rank and value.shape[:1] != (1,)):
        reader.unsupported(
            operator, f"its constant of shape {value.shape} has a batch axis, or more axes than the data"
        )
    if value.size == 1:
        return value.reshape(())
    shape = (1,) * (rank - value.ndim) + value.shape
    if all(n == 1 for axis, n in enumerate(shape) if axis != 1):
        return value.reshape(-1)
    whole = reader.shape(operator, operator.outputs[0])[1:]
    if len(whole) != rank - 1 or any(n not in (1, w) for n, w in zip(shape[1:], whole, strict=True)):
        raise LoadError(f"{operator}: its constant of shape {value.shape} does not fit")
    return np.broadcast_to(value.reshape(shape[1:]), whole)


def _add(reader: Reader, operator: Operator) -> None:
    constants = [i for i in range(len(operator.inputs)) if reader.is_constant(operator, i)]
    sources = [reader.data(operator, i) for i in range(len(operator.inputs)) if i not in constants]
    if not constants:
        reader.add(operator, Add(), *sources)
        return
    constant, *others = (reader.weight(operator, i) for i in constants)
    for other in others:
        if len({constant.shape, other.shape, ()}) > 2:
            reader.unsupported(operator, f"its constants have shapes {constant.shape} and {other.shape}")
        constant = constant + other
    reader.add(operator, Add(constant=constant), *sources)


def _sub(reader: Reader, operator: Operator) -> None:
    if reader.is_constant(operator, 1):
        reader.add(operator, Sub(constant=reader.weight(operator, 1)), reader.data(operator))
    elif reader.is_constant(operator, 0):
        bias = _sample_constant(reader, operator, reader.weight(operator, 0))
        reader.add(operator, Scale(weight=np.asarray(-1, bias.dtype), bias=bias), reader.data(operator, 1))
    else:
        reader.add(operator, Sub(), reader.data(operator), reader.data(operator, 1))


SQUASHED = ("Sigmoid", "HardSigmoid", "Softmax", "Tanh")
"""Operators whose output is a gate, when a product has one."""


def _mul(reader: Reader, operator: Operator) -> None:
    for i in (0, 1):
        if reader.is_constant(operator, i):
            weight = _sample_constant(reader, operator, reader.weight(operator, i))
            reader.add(operator, Scale(weight=weight), reader.data(operator, 1 - i))
            return
    signal, gate = 0, 1
    kinds = [reader.makers[t].kind if t in reader.makers else "" for t in operator.inputs]
    if kinds[0] in SQUASHED and kinds[1] not in SQUASHED:
        signal, gate = 1, 0
    squash = reader.makers.get(operator.inputs[gate])
    if squash is not None and squash.inputs[:1] == (operator.inputs[signal],):  # x * sigmoid(x), x * hardsigmoid(x)
        if squash.kind == "Sigmoid":
            reader.add(operator, SiLU(), reader.data(operator, signal))
            return
        if squash.kind == "HardSigmoid" and _is_hard_swish(squash.attributes):
            reader.add(operator, HardSwish(), reader.data(operator, signal))
            return
    reader.add(operator, Mul(), reader.data(operator, signal), reader.data(operator, gate))


def _is_hard_swish(attributes: dict[str, Any]) -> bool:
    return math.isclose(attributes.get("alpha", 0.2), 1 / 6, rel_tol=1e-6) and attributes.get("beta", 0.5) == 0.5


def _div(reader: Reader, operator: Operator) -> None:
    if not reader.is_constant(operator, 1):
        reader.unsupported(operator, "a division by what depends on the data")
    divisor = _sample_constant(reader, operator, reader.weight(operator, 1))
    if not np.all(divisor):
        raise LoadError(f"{operator} divides by 0")
    reader.add(operator, Scale(weight=1 / divisor), reader.data(operator))


def _clip(reader: Reader, operator: Operator) -> None:
    data = 1 if reader.is_constant(operator, 0) else 0
    if operator.kind in ("Max", "Min"):
        if len(operator.inputs) != 2:
            reader.unsupported(operator, "only of a tensor and a constant")
        value = reader.weight(operator, 1 - data)
        bounds = [value, None] if operator.kind == "Max" else [None, value]
    else:
        bounds = [reader.weight(operator, i) for i in (1, 2)]
    if any(bound is not None and (bound.size != 1 or bound.ndim > reader.rank(operator, data)) for bound in bounds):
        reader.unsupported(operator, "bounds that are no single numbers")
    low, high = (None if bound is None else float(bound.reshape(())) for bound in bounds)
    if math.isnan(low or 0) or math.isnan(high or 0) or low == math.inf or high == -math.inf:
        raise LoadError(f"{operator} clips to {low} ... {high}")
    low, high = None if low is None or low < -1e30 else low, None if high is None or high > 1e30 else high
    reader.add(operator, ReLU() if (low, high) == (0, None) else Clip(low=low, high=high), reader.data(operator, data))


def _prelu(reader: Reader, operator: Operator) -> None:
    slope = _sample_constant(reader, operator, reader.weight(operator, 1))
    reader.add(operator, PReLU(slope=slope), reader.data(operator))


def _softmax(reader: Reader, operator: Operator) -> None:
    default = -1 if reader.opset >= 13 else 1
    axis = operator.attributes.get("axis", default)
    if reader.opset < 13 and axis not in (reader.rank(operator) - 1, -1):
        reader.unsupported(operator, "a softmax over several axes at once (opset below 13)")
    reader.add(operator, Softmax(axis=axis), reader.data(operator))


def _identity(reader: Reader, operator: Operator) -> None:
    reader.add(operator, Identity(), reader.data(operator))


def _dropout(reader: Reader, operator: Operator) -> None:
    training = reader.constant(operator, 2)
    if training is not None and bool(np.any(training)):
        raise LoadError(f"{operator} is in training mode: export the network in evaluation mode")
    if len(operator.outputs) > 1 and operator.outputs[1]:
        reader.unsupported(operator, "its mask is used")
    reader.add(operator, Dropout(), reader.data(operator))


def _cast(reader: Reader, operator: Operator) -> None:
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    if operator.attributes.get("to") not in floats or reader.types.get(operator.inputs[0]) not in floats:
        reader.unsupported(operator, "it casts from or to what is no float")
    _identity(reader, operator)


def _concat(reader: Reader, operator: Operator) -> None:
    sources = [reader.data(operator, i) for i in range(len(operator.inputs))]
    axis = operator.attributes.get("axis", 1)
    reader.add(operator, Concat(axis=axis), *sources)


def _flatten(reader: Reader, operator: Operator) -> None:
    axis, rank = operator.attributes.get("axis", 1), reader.rank(operator)
    if (axis + rank if axis < 0 else axis) != 1:
        reader.unsupported(operator, f"axis {axis} would mix the batch with other axes")
    reader.add(operator, Flatten(), reader.data(operator))


def _reshape(reader: Reader, operator: Operator) -> None:
    before, wanted = reader.shape(operator, operator.inputs[0]), reader.numbers(operator, 1, batch_first=True) or []
    if min(wanted, default=0) < -1 or wanted.count(-1) > 1:
        raise LoadError(f"{operator} asks for the shape {wanted}")
    if wanted[:1] == [BATCH] and operator.inputs[1] not in reader.others:
        reader.unsupported(operator, f"the shape {wanted} fixes the batch")
    if not operator.attributes.get("allowzero", 0):
        wanted = [before[i] if n == 0 and i < len(before) else n for i, n in enumerate(wanted)]
    size, known = math.prod(before[1:]), math.prod(n for n in wanted[1:] if n != -1)
    batch_kept = bool(wanted) and wanted[0] in (-1, before[0]) and (-1 in wanted[1:] or known == size)
    if not batch_kept:
        reader.unsupported(operator, f"from {before} to {wanted} it would mix the batch with other axes")
    sample = tuple(wanted[1:])
    flat = len(sample) == 1
    reader.add(operator, Flatten() if flat else Reshape(shape=sample), reader.data(operator))


def _transpose(reader: Reader, operator: Operator) -> None:
    rank = reader.rank(operator)
    axes = tuple(operator.attributes.get("perm", range(rank)[::-1]))
    reader.add(operator, Transpose(axes=axes), reader.data(operator))


def _squeeze(reader: Reader, operator: Operator) -> None:
    axes = reader.numbers(operator, 1, "axes")
    if axes is None:
        shape = reader.shape(operator, operator.inputs[0])
        axes = [axis for axis, n in enumerate(shape) if n == 1]
    reader.add(operator, Squeeze(axis=tuple(axes)) if axes else Identity(), reader.data(operator))


def _unsqueeze(reader: Reader, operator: Operator) -> None:
    axes = reader.numbers(operator, 1, "axes") or []
    rank = reader.rank(operator) + len(axes)
    counted = sorted(axis + rank if axis < 0 else axis for axis in axes)
    source = reader.data(operator)
    for axis in counted[:-1]:
        source = reader.add(operator, Unsqueeze(axis=axis), source, last=False)
    reader.add(operator, Unsqueeze(axis=counted[-1]) if counted else Identity(), source)


def _slice(reader: Reader, operator: Operator) -> None:
    starts, ends = (reader.numbers(operator, i) or [] for i in (1, 2))
    axes, rank = reader.numbers(operator, 3, "", list(range(len(starts)))) or [], reader.rank(operator)
    if not all(-rank <= axis < rank for axis in axes):
        raise LoadError(f"{operator}: axes {axes} of a tensor of {rank} axes")
    axes = [axis % rank for axis in axes]
    steps = reader.numbers(operator, 4, "", [1] * len(starts)) or []
    if not len(starts) == len(ends) == len(axes) == len(steps) == len(set(axes)):
        raise LoadError(f"{operator}: {len(starts)} starts, {len(ends)} ends, axes {axes} and steps {steps}")
    if min(steps, default=1) < 1:
        reader.unsupported(operator, "a step that is not positive")
    stops = [None if end >= 2**31 - 1 else end for end in ends]
    cuts = list(zip(axes, starts, stops, steps, strict=True))
    cuts = [cut for cut in cuts if cut[1:] != (0, None, 1)]
    source = reader.data(operator)
    for axis, start, end, step in cuts[:-1]:
        source = reader.add(operator, Slice(axis=axis, start=start, stop=end, step=step), source, last=False)
    layer: Layer = Identity()
    if cuts:
        axis, start, end, step = cuts[-1]
        layer = Slice(axis=axis, start=start, stop=end, step=step)
    reader.add(operator, layer, source)


def _split(reader: Reader, operator: Operator) -> None:
    axis, length = _axis(reader, operator)
    parts, count = reader.numbers(operator, 1, "split"), len(operator.outputs)
    if parts is None:
        each = -(-length // count)
        parts = [min(each, length - i * each) for i in range(count)]
    if len(parts) != count or min(parts) < 0 or sum(parts) != length:
        raise LoadError(f"{operator} splits {length} into {parts} for {count} outputs")
    start, source = 0, reader.data(operator)
    for i, part in enumerate(parts):
        if operator.outputs[i]:
            reader.add(operator, Slice(axis=axis, start=start, stop=start + part), source, output=i)
        start += part


def _axis(reader: Reader, operator: Operator) -> tuple[int, int]:
    """The axis that an operator works on, and its length."""
    axis, shape = operator.attributes.get("axis", 0), reader.shape(operator, operator.inputs[0])
    if not -len(shape) <= axis < len(shape):
        raise LoadError(f"{operator}: axis {axis} of a tensor of shape {shape}")
    return axis % len(shape), shape[axis]


def _gather(reader: Reader, operator: Operator) -> None:
    (axis, length), index = _axis(reader, operator), np.asarray(reader.constant(operator, 1))
    chosen = [i + length if i < 0 else i for i in reader.numbers(operator, 1) or []]
    if min(chosen, default=0) < 0 or max(chosen, default=0) >= length:
        raise LoadError(f"{operator} reads entries {min(chosen)} to {max(chosen)} of {length}")
    if not chosen or chosen != list(range(chosen[0], chosen[0] + len(chosen))) or index.ndim > 1:
        reader.unsupported(operator, "indices that are no run, one after the other")
    cut = Slice(axis=axis, start=chosen[0], stop=chosen[0] + len(chosen))
    if index.ndim:
        reader.add(operator, cut, reader.data(operator))
    else:
        reader.add(operator, Squeeze(axis=axis), reader.add(operator, cut, reader.data(operator), last=False))


def _pad(reader: Reader, operator: Operator) -> None:
    if operator.attributes.get("mode", "constant") != "constant":
        reader.unsupported(operator, "only padding by a constant is read")
    flat, axes = reader.numbers(operator, 1) or [], reader.numbers(operator, 3)
    value = reader.constant(operator, 2)
    if value is not None and np.any(value):
        reader.unsupported(operator, "padding by other than 0")
    rank = reader.rank(operator)
    where = [axis + rank if axis < 0 else axis for axis in (range(rank) if axes is None else axes)]
    if len(flat) != 2 * len(where) or len(set(where)) != len(where) or not set(where) <= set(range(rank)):
        raise LoadError(f"{operator}: {len(flat)} pads for axes {where}")
    padding = [(0, 0)] * rank
    for axis, before, after in zip(where, flat[: len(where)], flat[len(where) :], strict=True):
        padding[axis] = (int(before), int(after))
    if padding[0] != (0, 0):
        reader.unsupported(operator, "it pads the batch")
    if min(min(pair) for pair in padding) < 0:
        raise LoadError(f"{operator}: negative pads {padding}")
    sample = (reader.shapes.get(operator.inputs[0]) or ())[1:]
    refuse_size(operator, [(n or 1) + sum(pair) for n, pair in zip(sample, padding[1:], strict=True)])
    reader.add(operator, Pad(padding=padding[1:]), reader.data(operator))


def _resize(reader: Reader, operator: Operator) -> None:
    attributes = operator.attributes
    mode = attributes.get("mode", "nearest")
    scales, size = reader.weight(operator, 2), reader.numbers(operator, 3, batch_first=True)
    if "axes" in attributes or attributes.get("antialias", 0) or mode not in ("nearest", "linear"):
        reader.unsupported(operator, f"mode {mode!r}, axes or antialias")
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        reader.unsupported(operator, "a keep_aspect_ratio_policy")
    scale = None if size or scales is None else scales.reshape(-1).tolist()
    before = reader.shape(operator, operator.inputs[0])
    after = [side * factor for side, factor in zip(before, scale, strict=False)] if scale else size or []
    if len(size or scale or ()) != len(before) or not all(0 < side <= LONGEST_SIDE for side in after[2:]):
        raise LoadError(f"{operator} resizes {before} to {after}: need from 1 to {LONGEST_SIDE} cells along each axis")
    if (size and tuple(size[:2]) != before[:2]) or (scale and scale[:2] != [1, 1]):
        reader.unsupported(operator, "it resizes the batch or the channels")
    layer = Resize(
        size=size[2:] if size else None,
        scale=scale[2:] if scale else None,
        mode=mode,
        coordinates=attributes.get("coordinate_transformation_mode", "half_pixel"),
        **({"rounding": attributes.get("nearest_mode", "round_prefer_floor")} if mode == "nearest" else {}),
    )
    reader.add(operator, layer, reader.data(operator))


def _depth_to_space(reader: Reader, operator: Operator) -> None:
    block, mode = operator.attributes.get("blocksize", 0), operator.attributes.get("mode", "DCR")
    reader.add(operator, DepthToSpace(block=block, mode=mode), reader.data(operator))


def _space_to_depth(reader: Reader, operator: Operator) -> None:
    reader.add(operator, SpaceToDepth(block=operator.attributes.get("blocksize", 0)), reader.data(operator))


def _selu(reader: Reader, operator: Operator) -> None:
    for name, usual in (("alpha", 1.6732632), ("gamma", 1.0507010)):
        if not math.isclose(operator.attributes.get(name, usual), usual, rel_tol=1e-6):
            reader.unsupported(operator, f"{name} is not {usual}")
    reader.add(operator, SELU(), reader.data(operator))


def _gelu(attributes: dict[str, Any]) -> Layer:
    approximate = attributes.get("approximate", "none")
    return GELU(approximate="tanh" if approximate == "tanh" else "none")


def supported() -> dict[str, tuple[str, ...]]:
    """The operators that can be read, and the layers that each becomes."""
    return {kind: READ_AS[kind] for kind in sorted(OPERATORS)}


OPERATORS: dict[str, Callable[[Reader, Operator], None]] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Celu": _activation(lambda a: CELU(alpha=as_decimal(a.get("alpha", 1.0)))),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Dropout": _dropout,
    "Elu": _activation(lambda a: ELU(alpha=as_decimal(a.get("alpha", 1.0)))),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _activation(_gelu),
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool(GlobalAvgPool()),
    "GlobalMaxPool": _global_pool(GlobalMaxPool()),
    "HardSigmoid": _activation(lambda a: HardSigmoid(slope=a.get("alpha", 0.2), offset=a.get("beta", 0.5))),
    "HardSwish": _activation(lambda a: HardSwish()),
    "Identity": _identity,
    "LeakyRelu": _activation(lambda a: LeakyReLU(slope=as_decimal(a.get("alpha", 0.01)))),
    "MatMul": _matmul,
    "Max": _clip,
    "MaxPool": _max_pool,
    "Min": _clip,
    "Mul": _mul,
    "Neg": _activation(lambda a: Scale(weight=-1.0)),
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMax": _reduce_max,
    "ReduceMean": _reduce(Mean),
    "ReduceSum": _reduce(Sum),
    "Relu": _activation(lambda a: ReLU()),
    "Reshape": _reshape,
    "Resize": _resize,
    "Selu": _selu,
    "Sigmoid": _activation(lambda a: Sigmoid()),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _activation(lambda a: Softplus()),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _sub,
    "Sum": _add,
    "Tanh": _activation(lambda a: Tanh()),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""What reads each operator that depends on the data."""

READ_AS: dict[str, tuple[str, ...]] = {
    "Add": ("Add",),
    "AveragePool": ("AvgPool",),
    "BatchNormalization": ("BatchNorm",),
    "Cast": ("Identity",),
    "Celu": ("CELU",),
    "Clip": ("ReLU", "Clip"),
    "Concat": ("Concat",),
    "Conv": ("Conv",),
    "ConvTranspose": ("ConvTranspose",),
    "DepthToSpace": ("DepthToSpace",),
    "Div": ("Scale",),
    "Dropout": ("Dropout",),
    "Elu": ("ELU",),
    "Flatten": ("Flatten",),
    "Gather": ("Slice", "Squeeze"),
    "Gelu": ("GELU",),
    "Gemm": ("Dense",),
    "GlobalAveragePool": ("GlobalAvgPool",),
    "GlobalMaxPool": ("GlobalMaxPool",),
    "HardSigmoid": ("HardSigmoid",),
    "HardSwish": ("HardSwish",),
    "Identity": ("Identity",),
    "LeakyRelu": ("LeakyReLU",),
    "MatMul": ("Dense",),
    "Max": ("ReLU", "Clip"),
    "MaxPool": ("MaxPool",),
    "Min": ("Clip",),
    "Mul": ("Scale", "Mul", "SiLU", "HardSwish", "GELU"),
    "Neg": ("Scale",),
    "PRelu": ("PReLU",),
    "Pad": ("Pad",),
    "ReduceMax": ("GlobalMaxPool", "Squeeze"),
    "ReduceMean": ("Mean", "Identity"),
    "ReduceSum": ("Sum", "Identity"),
    "Relu": ("ReLU",),
    "Reshape": ("Reshape", "Flatten"),
    "Resize": ("Resize",),
    "Selu": ("SELU",),
    "Sigmoid": ("Sigmoid",),
    "Slice": ("Slice", "Identity"),
    "Softmax": ("Softmax",),
    "Softplus": ("Softplus",),
    "SpaceToDepth": ("SpaceToDepth",),
    "Split": ("Slice",),
    "Squeeze": ("Squeeze", "Identity"),
    "Sub": ("Sub", "Scale"),
    "Sum": ("Add",),
    "Tanh": ("Tanh",),
    "Transpose": ("Transpose",),
    "Unsqueeze": ("Unsqueeze",),
}
"""The layers that each operator can become."""
