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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..arrays import Array
from ..canonize import canonize as canonized
from ..errors import LoadError, LrpError, UnsupportedOp
from ..graph import Graph, Node
from ..layers import BatchNorm, Conv, ConvTranspose, Dense, Identity, Layer, Scale
from ..text import printable
from .common import agree
from .onnx_file import LARGEST, LONGEST_NAME, array, read_model
from .onnx_operators import BATCH, OPERATORS, refuse_size
from .onnx_own import check_sizes, own_graph

OLDEST_OPSET = 11
LARGEST_FOLDED = 2**24
"""The most elements that computing with constants may make, beyond those that it reads."""
DEEPEST_NAME = 32
"""The most modules within one another that names are searched for."""
SMALL = 64 * 2**20, 2**16, 2**22
"""Bytes of weights, values of the inputs and of all tensors, up to which a model is checked unless told otherwise."""
MOST_FOLDED = 1000
"""The most batch norms and scales that are folded while loading: each costs time in proportion to all nodes."""
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
            scales, sinks = (
                sum(isinstance(node.layer, kinds) for node in graph.nodes)
                for kinds in ((BatchNorm, Scale), (Conv, ConvTranspose, Dense))
            )
            if canonize and min(scales, sinks) > MOST_FOLDED:
                raise LoadError(
                    f"{scales} batch norms and scales, more than the {MOST_FOLDED} that are folded while loading: "
                    f"load it with canonize=False"
                )
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
        path, own = self._module(operator), operator.name.rpartition("/")[2].removeprefix("node_") or operator.kind
        return printable(path if path and path not in self._containers else ".".join(filter(None, (path, own.lower()))))

    def _module(self, operator: Operator) -> str:
        """The path of the module that the exporter names: in its parameters, its metadata or its node names.

        Parameters first: where an exporter has folded a batch norm, the metadata name the batch norm.
        """
        for tensor in operator.inputs[1:]:
            if tensor in self.constants and tensor.endswith((".weight", ".kernel")):
                return tensor.rpartition(".")[0]
        if operator.scope:
            return operator.scope
        path, last = "", ""
        for part in operator.name.split("/")[:-1]:  # "/layer2/layer2.0/down/down.1/Conv": the parts after one repeat it
            if last and part.startswith(f"{last}."):
                path = f"{path.removesuffix(last)}{part}"
            else:
                path = f"{path}.{part}" if path else part
            last = part
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
