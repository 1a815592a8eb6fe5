"""PyTorch modules as graphs.

``torch.export`` writes down which operators a module applies to an example; each is read by one small function of the
table `OPERATORS`. What depends on no input (reshaped or normalized weights, constants) is computed by torch while
reading. Nothing is guessed: an operator without a layer is an UnsupportedOp, and the graph is run against the module.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import PurePath
from typing import Any, NoReturn

import numpy as np

from ..arrays import Array
from ..canonize import canonize as canonized
from ..errors import LoadError, ShapeError, UnsupportedOp
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
    Upsample,
)
from .common import agree, free, signal_first

Shape = tuple[int, ...]


# --- the entrance ---------------------------------------------------------------------------------


def from_torch(module: Any, example: Any, *, canonize: bool = True, check: bool = True) -> Graph:
    """A torch module as a graph.

    Parameters
    ----------
    module : torch.nn.Module
        is not changed: one in training mode, in half precision or on a device is copied first, and a note says so
    example : tensor or array (batch, ...), or a tuple of them, or a dict by the names of forward's parameters
        what the module is traced with: all sizes but the batch's are the graph's from then on. A batch of 2 or more
        tells the batch axis from axes of length 1.
    canonize : fold batch norms and scales, drop identities, strip a final softmax; see :func:`lrp_ref.canonize`
    check : run the module on `example` too, and refuse a graph whose outputs differ by more than 1e-5 (float32) or
        1e-12 (float64) of the greatest

    Returns
    -------
    Graph
        nodes have the path of their module ("layer1.0.conv2"; what a module does itself, "layer1.0.add"); one input
        is "input", several have the names of forward's parameters; parameters are copies.

    Raises
    ------
    LoadError
        if the module cannot be traced, or the graph's outputs are not the module's.
    UnsupportedOp
        naming the operator, its module, and the line of the program.
    """
    try:
        import torch
        from torch.utils import _pytree as pytree
    except ImportError as error:
        raise ImportError('from_torch needs torch: pip install "lrp_ref[torch]"') from error
    if not isinstance(module, torch.nn.Module):
        raise LoadError(f"need a torch.nn.Module, got a {type(module).__name__}")
    model, notes = _plain(torch, module)
    args = (example,) if not isinstance(example, (tuple, dict)) else () if isinstance(example, dict) else example
    kwargs = example if isinstance(example, dict) else {}
    floats = [p.dtype for p in [*model.parameters(), *model.buffers()] if p.is_floating_point()]
    args, kwargs = pytree.tree_map(lambda leaf: _input(torch, leaf, floats[0] if floats else None), (args, kwargs))
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # torch.export warns of its own deprecations
        try:
            program = torch.export.export(model, args, kwargs, strict=False).run_decompositions({})
        except Exception as error:  # whatever the module's own code or torch's tracer raises
            raise LoadError(
                f"torch.export cannot trace {type(module).__name__} ({_first_line(error)}): the example must suit it, "
                f"and its forward must not branch on values"
            ) from error
        graph = Reader(torch, program, model, notes).graph()
        if check:
            leaves = pytree.tree_leaves((args, kwargs))
            tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
            x = dict(zip(graph.inputs, map(_array, tensors), strict=True))
            theirs = model(*pytree.tree_map(_clone, args), **pytree.tree_map(_clone, kwargs))
            expected = [_array(leaf) for leaf in pytree.tree_leaves(theirs) if isinstance(leaf, torch.Tensor)]
            agree(graph, x, expected, bound={"float32": 1e-5, "float64": 1e-12}, framework="torch")
    return canonized(graph) if canonize else graph


def _plain(torch: Any, module: Any) -> tuple[Any, list[str]]:
    """The module in evaluation mode, on the host, in single or double precision; copied if it is not; and notes."""
    notes = []
    tensors = [*module.parameters(), *module.buffers()]
    if any(part.training for part in module.modules()):
        notes.append("the module was in training mode: the graph is of a copy in evaluation mode")
    if half := {str(t.dtype) for t in tensors if t.dtype in (torch.float16, torch.bfloat16)}:
        notes.append(f"parameters in {', '.join(sorted(half))} were converted to float32, their values unchanged")
    if notes or any(t.device.type != "cpu" for t in tensors):
        module = copy.deepcopy(module).eval().cpu()
        module = module.float() if half else module
    return module, notes


def _input(torch: Any, leaf: Any, dtype: Any) -> Any:
    """An array as a tensor on the host, in the dtype of the parameters; without any, halves as float32."""
    leaf = torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if not leaf.is_floating_point():
        raise LoadError(f"an example of {leaf.dtype} cannot be explained: relevance is dealt to floating-point inputs")
    return leaf.detach().cpu().to(dtype or (leaf.dtype if leaf.element_size() > 2 else torch.float32))


def _clone(leaf: Any) -> Any:
    """A tensor that a module may change in place."""
    return leaf.clone() if hasattr(leaf, "clone") else leaf


def _array(tensor: Any) -> Array:
    """A tensor's numbers as an array of floats of its own."""
    value = tensor.detach().cpu().numpy()
    return value.copy() if value.dtype.kind == "f" else value.astype(np.float64)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """A tensor that depends on an input: the node that makes it, and its shape (None inside one operator)."""

    name: str
    shape: Any = None


@dataclass(frozen=True)
class Parts:
    """The outputs of one operator, each a function that makes its node when it is read; None: not to be read."""

    makers: tuple[Callable[[], Data] | None, ...]


@dataclass
class Reader:
    """An exported program on its way to a graph."""

    torch: Any
    program: Any
    module: Any
    notes: list[str]
    nodes: dict[str, Node] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    values: dict[Any, Any] = field(default_factory=dict)
    """For each node of the program what it makes: Data, Parts, or a constant."""
    own: dict[str, str] = field(default_factory=dict)
    """For each module without submodules the operator that bears its name."""
    batch: int = 0

    def graph(self) -> Graph:
        """The whole program."""
        self.leaves = {
            path
            for path, part in self.module.named_modules()
            if path and all(name == "parametrizations" for name, _ in part.named_children())
        }
        placeholders = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        specs = dict(zip(placeholders, self.program.graph_signature.input_specs, strict=True))
        given = [node for node, spec in specs.items() if spec.kind.name == "USER_INPUT" and self._is_tensor(node)]
        self.inputs = [node.name for node in given] if len(given) > 1 else ["input"] * len(given)
        self.values = {node: self._constant(spec) for node, spec in specs.items() if node not in given}
        self.values |= {node: Data(name, _shape(node)) for node, name in zip(given, self.inputs, strict=True)}
        self.batch = _shape(given[0])[0] if given else 0
        results = self.program.graph.output_node().args[0]
        specs = self.program.graph_signature.output_specs
        wanted = [
            node
            for node, spec in zip(results, specs, strict=True)
            if spec.kind.name == "USER_OUTPUT" and node is not None
        ]
        for node in self._needed(wanted):
            self.values[node] = self._read(node)
        outputs = [self._output(self.values[node]) for node in wanted]
        return Graph(self._reached(outputs), outputs=outputs, inputs=self.inputs, notes=self.notes)

    def _is_tensor(self, node: Any) -> bool:
        return isinstance(node.meta.get("val"), self.torch.Tensor)

    def _constant(self, spec: Any) -> Any:
        """A parameter or buffer, or an argument that is no tensor."""
        known = {**self.program.constants, **self.program.state_dict}
        return getattr(spec.arg, "value", None) if spec.kind.name == "USER_INPUT" else known[spec.target]

    def _needed(self, wanted: Sequence[Any]) -> list[Any]:
        """The operators that the outputs depend on, in the program's order."""
        needed, waiting = set(), list(wanted)
        while waiting:
            if (node := waiting.pop()) not in needed:
                needed.add(node)
                waiting += node.all_input_nodes
        return [node for node in self.program.graph.nodes if node in needed and node not in self.values]

    def _read(self, node: Any) -> Any:
        args, kwargs = self.torch.fx.map_arg((node.args, node.kwargs), self.values.__getitem__)
        data = [
            self.values[source] for source in node.all_input_nodes if isinstance(self.values[source], (Data, Parts))
        ]
        if not data:
            return self.program.constants[node.target] if node.op == "get_attr" else node.target(*args, **kwargs)
        if isinstance(args[0], Parts):
            call = Call(self, node.args[0], [])
            maker = args[0].makers[args[1]] or partial(call.refuse, "the places of maxima are not to be explained")
            return call.made(maker, args[1])
        call = Call(self, node, data)
        if call.operator not in OPERATORS:
            call.refuse(HINTS.get(call.operator, "no layer does this"))
        args, kwargs = self.torch.utils._pytree.tree_map(
            lambda leaf: _array(leaf) if isinstance(leaf, self.torch.Tensor) else leaf, (args, kwargs)
        )
        return call.made(lambda: OPERATORS[call.operator](call, *args, **kwargs))

    def _output(self, value: Any) -> str:
        if not isinstance(value, Data):
            raise LoadError("an output does not depend on the input: let forward return only what does")
        if value.name in self.inputs:
            name = free("identity", {*self.nodes, *self.inputs})
            self.nodes[name] = Node(name, Identity(), value.name)
            return name
        return value.name

    def _reached(self, outputs: Sequence[str]) -> list[Node]:
        """The nodes that the outputs depend on."""
        reached = set(outputs)
        for node in reversed(self.nodes.values()):
            if node.name in reached:
                reached.update(node.inputs)
        return [node for node in self.nodes.values() if node.name in reached]


def _shape(node: Any) -> Shape:
    shape = tuple(node.meta["val"].shape)
    if not shape:
        raise LoadError(f'input "{node.name}" has no axes: it needs a batch axis and more')
    return shape


@dataclass
class Call:
    """One operator of the program, as the functions of `OPERATORS` see it."""

    reader: Reader
    node: Any
    data: list[Any]

    @property
    def operator(self) -> str:
        """Its name, overloads alike: "conv2d", "add"."""
        schema = getattr(self.node.target, "_schema", None)
        return schema.name.removeprefix("aten::") if schema is not None else str(self.node.target)

    def shape(self, index: int = 0) -> Shape:
        """The shape of an output."""
        made = self.node.meta["val"]
        return tuple((made[index] if isinstance(made, (tuple, list)) else made).shape)

    @property
    def out(self) -> Shape:
        """The shape of the first output."""
        return self.shape()

    @property
    def place(self) -> tuple[str, str]:
        """Path and class of the innermost module."""
        stack = list((self.node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", "")
        return path, kind if isinstance(kind, str) else kind.__name__

    def add(self, layer: Layer, *sources: Data) -> Data:
        """A node for the layer, reading the operator's one data input unless told otherwise."""
        if not sources:
            if len(self.data) > 1:
                self.refuse("its weights, or what it scales with, depend on the data")
            sources = (self.data[0],)
        if all(source.shape is not None for source in sources):
            layer.check(*(source.shape for source in sources))
        path, _ = self.place
        label = "flatten" if isinstance(layer, Flatten) else LABELS.get(self.operator, self.operator)
        own = path in self.reader.leaves and self.reader.own.setdefault(path, label) == label
        known = {*self.reader.nodes, *self.reader.inputs}
        name = free(path if own else ".".join(filter(None, (path, label))), known)
        self.reader.nodes[name] = Node(name, layer, *(source.name for source in sources))
        return Data(name)

    def made(self, make: Callable[[], Any], index: int = 0) -> Any:
        """What a function makes: of a layer the node; of data, the shape must begin with the batch."""
        try:
            made = make()
            made = self.add(made) if isinstance(made, Layer) else made
        except ShapeError as error:
            self.refuse(str(error))
        if isinstance(made, Parts):
            return made
        return Data(made.name, self.with_batch(self.shape(index)))

    def with_batch(self, shape: Shape) -> Shape:
        """The shape, refused if it does not begin with the batch."""
        if shape[:1] != (self.reader.batch,):
            self.refuse(
                f"it makes the shape {shape}: axis 0 is the batch ({self.reader.batch}), which no layer may mix"
            )
        return shape

    def refuse(self, why: str) -> NoReturn:
        """Refuse the operator."""
        path, kind = self.place
        where = f'module "{path}" ({kind.rpartition(".")[2]})' if path else "the module's own forward"
        raise UnsupportedOp(
            f"aten.{self.operator} in {where}{self._line()}: {why}. Rewrite it with operators that "
            f"lrp_ref.loaders.torch.OPERATORS lists, or explain the part of the module before or behind it"
        )

    def _line(self) -> str:
        """The line of the program, the user's own if there is one."""
        lines = (self.node.meta.get("stack_trace") or "").strip().splitlines()
        frames = [(a.strip(), b.strip()) for a, b in pairwise(lines) if a.strip().startswith("File")]
        own = [frame for frame in frames if "/torch/nn/" not in frame[0].replace("\\", "/")] or frames
        if not own:
            return ""
        place, code = own[-1]
        _, file, rest = place.split('"', 2)
        return f" ({PurePath(file).name}:{rest.split(',')[1].removeprefix(' line ')}: {code})"


# --- what the operators' functions share ----------------------------------------------------------


def ints(value: Any) -> Any:
    """A list of one int as the int, an empty list (torch's "not given") as None."""
    if isinstance(value, (list, tuple)):
        return None if not value else value[0] if len(value) == 1 else tuple(value)
    return value


def axis(x: Data, index: int) -> int:
    """An axis counted from the front."""
    return index % len(x.shape)


def constant(c: Call, value: Any, x: Data) -> Array:
    """A constant that torch broadcasts to x, as Scale takes it: a scalar, one a channel, or of the sample's shape."""
    value = np.asarray(value, dtype=getattr(value, "dtype", np.float64))
    padded = (1,) * (len(x.shape) - value.ndim) + value.shape
    if c.out != x.shape or padded[0] != 1:
        c.refuse(f"a constant of shape {value.shape} has a batch axis, or stretches an input of shape {x.shape}")
    if value.size == 1:
        return value.reshape(())
    if math.prod(padded) == padded[1]:
        return value.reshape(-1)
    return np.broadcast_to(value.reshape(padded)[0], x.shape[1:]).copy()


def two(c: Call, a: Any, b: Any) -> bool:
    """Whether both operands are data; they must have equally many axes then, or their batches do not meet."""
    if not (isinstance(a, Data) and isinstance(b, Data)):
        return False
    if len(a.shape) != len(b.shape):
        c.refuse(f"inputs of shapes {a.shape} and {b.shape} do not have the batch on the same axis")
    return True


# --- the operators --------------------------------------------------------------------------------


def conv(
    c: Call,
    x: Data,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Layer:
    """Conv; padding "same" puts the odd cell behind."""
    if padding == "same":
        steps = np.broadcast_to(dilation, weight.ndim - 2) * (np.array(weight.shape[2:]) - 1)
        padding = [(int(n) // 2, int(n) - int(n) // 2) for n in steps]
    padding = 0 if padding == "valid" else ints(padding) if padding and isinstance(padding[0], int) else padding
    return Conv(weight, bias, stride=ints(stride), padding=padding, dilation=ints(dilation), groups=groups)


def conv_transpose(
    c: Call,
    x: Data,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Layer:
    """ConvTranspose."""
    return ConvTranspose(
        weight,
        bias,
        stride=ints(stride),
        padding=ints(padding),
        output_padding=ints(output_padding),
        dilation=ints(dilation),
        groups=groups,
    )


def linear(c: Call, x: Data, weight: Any, bias: Any = None) -> Layer:
    """Dense; torch keeps weights as (outputs, inputs)."""
    return Dense(weight.T, bias) if isinstance(weight, np.ndarray) else c.refuse("its weights depend on the data")


def matmul(c: Call, x: Any, weight: Any) -> Layer:
    """Dense without bias."""
    if not isinstance(x, Data) or not isinstance(weight, np.ndarray) or weight.ndim != 2:
        c.refuse("only data @ a constant matrix is a dense layer")
    return Dense(weight)


def addmm(c: Call, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Layer:
    """Dense with bias."""
    if (
        not isinstance(x, Data)
        or not isinstance(weight, np.ndarray)
        or bias.shape != weight.shape[1:]
        or alpha != 1
        or beta != 1
    ):
        c.refuse("only data @ a constant matrix + a constant row is a dense layer")
    return Dense(weight, bias)


def batch_norm(
    c: Call, x: Data, weight: Any, bias: Any, mean: Array, variance: Array, momentum: float, eps: float
) -> Parts:
    """BatchNorm with running statistics: the first of three outputs."""
    weight, bias = (1.0 if weight is None else weight), (0.0 if bias is None else bias)
    made = BatchNorm.from_statistics(mean=mean, variance=variance, weight=weight, bias=bias, epsilon=eps)
    return Parts((lambda: c.add(made, x), None, None))


def elu(c: Call, x: Data, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Layer:
    """ELU."""
    return ELU(alpha=alpha) if scale == input_scale == 1 else c.refuse("elu with scales other than 1")


def prelu(c: Call, x: Data, slope: Array) -> Layer:
    """PReLU."""
    return PReLU(slope=slope.reshape(()) if slope.size == 1 else slope)


def rrelu(c: Call, x: Data, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *_: Any) -> Layer:
    """After training, a leaky ReLU with the mean slope."""
    return (
        LeakyReLU(slope=(lower + upper) / 2) if not training else c.refuse("it is random: call it with training=False")
    )


def clamp(c: Call, x: Data, min: Any = None, max: Any = None) -> Layer:
    """Clip."""
    if isinstance(min, (np.ndarray, Data)) or isinstance(max, (np.ndarray, Data)):
        c.refuse("its bounds are tensors: give numbers")
    return Clip(low=None if min is None else float(min), high=None if max is None else float(max))


def threshold(c: Call, x: Data, at: float, value: float) -> Layer:
    """ReLU."""
    return ReLU() if at == value == 0 else c.refuse("only threshold(x, 0, 0), which is a ReLU, has a layer")


def max_pool(
    c: Call, x: Data, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Layer:
    """MaxPool."""
    return MaxPool(
        kernel=ints(kernel), stride=ints(stride), padding=ints(padding), dilation=ints(dilation), ceil=ceil_mode
    )


def avg_pool(
    c: Call,
    x: Data,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Layer:
    """AvgPool."""
    if divisor_override is not None:
        c.refuse(f"divisor_override={divisor_override}: use a pool of divisor kernel size, and scale its output")
    return AvgPool(
        kernel=ints(kernel),
        stride=ints(stride),
        padding=ints(padding),
        ceil=ceil_mode,
        count_include_pad=count_include_pad,
    )


def adaptive_avg_pool(c: Call, x: Data, size: Any) -> Layer:
    """AdaptiveAvgPool, or GlobalAvgPool for size 1."""
    size = c.out[2:]
    return GlobalAvgPool() if set(size) == {1} else AdaptiveAvgPool(size=size)


def adaptive_max_pool(c: Call, x: Data, size: Any) -> Layer:
    """AdaptiveMaxPool, or GlobalMaxPool for size 1."""
    size = c.out[2:]
    return GlobalMaxPool() if set(size) == {1} else AdaptiveMaxPool(size=size)


def with_indices(function: Callable[..., Layer]) -> Callable[..., Any]:
    """A pool that also returns the places of its winners, which have no relevance."""
    return lambda c, x, *args, **kwargs: Parts((lambda: c.add(function(c, x, *args, **kwargs), x), None))


def add(c: Call, a: Any, b: Any, *, alpha: float = 1) -> Any:
    """Add; a constant is a bias."""
    if two(c, a, b):
        return c.add(Add(), a, b if alpha == 1 else c.add(Scale(weight=float(alpha)), b))
    if isinstance(a, Data):
        return Add(constant=np.asarray(b) * alpha + 0.0)
    return c.add(Add(constant=a), b if alpha == 1 else c.add(Scale(weight=float(alpha)), b))


def sub(c: Call, a: Any, b: Any, *, alpha: float = 1) -> Any:
    """Sub; a constant is a bias."""
    if two(c, a, b):
        return c.add(Sub(), a, b if alpha == 1 else c.add(Scale(weight=float(alpha)), b))
    if isinstance(a, Data):
        return Sub(constant=np.asarray(b) * alpha + 0.0)
    return Scale(weight=-float(alpha), bias=constant(c, a, b))


def rsub(c: Call, a: Any, b: Any, alpha: float = 1) -> Any:
    """The second minus the first."""
    return sub(c, b, a, alpha=alpha)


def mul(c: Call, a: Any, b: Any) -> Any:
    """Mul with the gate second; x sigmoid(x) is SiLU; a constant factor is a Scale."""
    if not two(c, a, b):
        x, factor = (a, b) if isinstance(a, Data) else (b, a)
        return Scale(weight=constant(c, factor, x))
    for x, y in ((a, b), (b, a)):
        node = c.reader.nodes.get(y.name)
        if node and isinstance(node.layer, Sigmoid) and node.inputs == (x.name,):
            return c.add(SiLU(), x)
    first, second, sure = signal_first(c.reader.nodes, a.name, b.name)
    made = c.add(Mul(), Data(first), Data(second))
    if not sure:
        c.reader.notes.append(f"{made.name}: of the product of {first} and {second} the first is taken as the signal")
    return made


def div(c: Call, a: Any, b: Any, *, rounding_mode: str | None = None) -> Layer:
    """Scale by the inverse of a constant."""
    if not isinstance(a, Data) or isinstance(b, Data) or rounding_mode is not None:
        c.refuse("only division by a constant has a layer")
    return Scale(weight=1 / constant(c, np.asarray(b, np.float64), a))


def cat(c: Call, tensors: Any, dim: int = 0) -> Data:
    """Concat."""
    if not all(isinstance(x, Data) for x in tensors):
        c.refuse("one of its inputs is a constant")
    return c.add(Concat(axis=axis(tensors[0], dim)), *tensors)


def reshape(c: Call, x: Data, *_: Any, **__: Any) -> Any:
    """Flatten or Reshape, from the shape that results."""
    c.with_batch(c.out)
    return x if c.out == x.shape else Flatten() if len(c.out) == 2 < len(x.shape) else Reshape(shape=c.out[1:])


def permute(c: Call, x: Data, dims: Sequence[int]) -> Layer:
    """Transpose."""
    return Transpose(axes=tuple(axis(x, dim) for dim in dims))


def transpose(c: Call, x: Data, dim0: int, dim1: int) -> Layer:
    """Transpose of two axes."""
    axes = list(range(len(x.shape)))
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return Transpose(axes=tuple(axes))


def squeeze(c: Call, x: Data, dim: Any = None) -> Any:
    """Squeeze of those axes that have length 1."""
    dims = range(len(x.shape)) if dim is None else dim if isinstance(dim, (list, tuple)) else [dim]
    axes = tuple(axis(x, d) for d in dims if x.shape[d] == 1)
    return Squeeze(axis=axes) if axes else x


def unsqueeze(c: Call, x: Data, dim: int) -> Layer:
    """Unsqueeze."""
    return Unsqueeze(axis=dim % (len(x.shape) + 1))


def expand(c: Call, x: Data, *_: Any, **__: Any) -> Any:
    """Copies along spatial axes of length 1."""
    if c.out == x.shape:
        return x
    if len(c.out) != len(x.shape) or c.out[:2] != x.shape[:2]:
        c.refuse(f"expanding {x.shape} to {c.out} copies more than spatial axes: let the sum or product broadcast")
    return Upsample(factor=tuple(n // m for n, m in zip(c.out[2:], x.shape[2:], strict=True)))


def mean(c: Call, x: Data, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Layer:
    """Mean over axes."""
    return Mean(axes=summed(x, dim), keepdims=keepdim)


def sum_(c: Call, x: Data, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Layer:
    """Sum over axes."""
    return Sum(axes=summed(x, dim), keepdims=keepdim)


def summed(x: Data, dim: Any) -> Shape:
    """Axes from the front; none given are all."""
    return tuple(axis(x, d) for d in ([dim] if isinstance(dim, int) else dim or range(len(x.shape))))


def slice_(c: Call, x: Data, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    """Slice."""
    whole = x.shape[dim]
    start, stop, step = slice(start, end, step).indices(whole)
    if not dim and end is not None and end <= whole:  # a batch of one must not make x[:1] the whole
        c.refuse("axis 0 is the batch, which no layer may mix, cut or move")
    return x if (start, stop, step) == (0, whole, 1) else Slice(axis=axis(x, dim), start=start, stop=stop, step=step)


def select(c: Call, x: Data, dim: int, index: int) -> Data:
    """A slice of one, squeezed."""
    index %= x.shape[dim]
    cut = c.add(Slice(axis=axis(x, dim), start=index, stop=index + 1), x)
    return c.add(Squeeze(axis=axis(x, dim)), cut)


def split(c: Call, x: Data, size: Any, dim: int = 0) -> Parts:
    """One slice a part."""
    n = x.shape[dim]
    ends = np.cumsum(size if isinstance(size, (list, tuple)) else [size] * -(-n // size)).tolist()
    cuts = pairwise([0, *(min(end, n) for end in ends)])
    return Parts(tuple(partial(c.add, Slice(axis=axis(x, dim), start=start, stop=end), x) for start, end in cuts))


def unbind(c: Call, x: Data, dim: int = 0) -> Parts:
    """One slice of one, squeezed, a part."""
    return Parts(tuple(partial(select, c, x, dim, index) for index in range(x.shape[dim])))


def pad(c: Call, x: Data, padding: Sequence[int], mode: Any = "constant", value: float | None = None) -> Layer:
    """Pad with zeros; torch counts pairs from the last axis."""
    if mode != "constant" or value:
        c.refuse(f"padding {mode!r} with {value}: only zeros have a layer")
    if min(padding) < 0:
        c.refuse("negative padding: slice instead")
    given = [(padding[i], padding[i + 1]) for i in range(0, len(padding), 2)][::-1]
    pairs = [(0, 0)] * (len(x.shape) - len(given)) + given
    if pairs[0] != (0, 0):
        c.refuse("it pads the batch")
    return Pad(padding=pairs[1:])


def upsample_nearest(c: Call, x: Data, size: Any, scales: Any = None) -> Layer:
    """Upsample for whole factors, else Resize."""
    before, after = x.shape[2:], c.out[2:]
    if all(n % m == 0 for n, m in zip(after, before, strict=True)):
        return Upsample(factor=tuple(n // m for n, m in zip(after, before, strict=True)))
    return resized(c, x, "nearest", "asymmetric", scales)


def upsample_linear(c: Call, x: Data, size: Any, align_corners: bool, scales: Any = None) -> Layer:
    """Resize by linear interpolation along each axis."""
    return resized(c, x, "linear", "align_corners" if align_corners else "half_pixel", scales)


def resized(c: Call, x: Data, mode: Any, coordinates: Any, scales: Any) -> Layer:
    """Resize, by the scales that were given, or else to the size."""
    if scales is None or coordinates == "align_corners":
        return Resize(size=c.out[2:], mode=mode, coordinates=coordinates)
    return Resize(scale=tuple(scales), mode=mode, coordinates=coordinates)


def cast(c: Call, x: Data, *_: Any, **__: Any) -> Data:
    """Nothing, if the dtype stays."""
    before, after = c.node.args[0].meta["val"].dtype, c.node.meta["val"].dtype
    return x if before == after else c.refuse(f"it turns {before} into {after}: the graph has one arithmetic")


def same(c: Call, x: Data, *_: Any, **__: Any) -> Data:
    """Nothing."""
    return x


def layer(make: Callable[..., Layer]) -> Callable[..., Layer]:
    """An operator whose further arguments are those of the layer, in the same order."""
    return lambda c, x, *args, **kwargs: make(*args, **kwargs)


OPERATORS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), conv_transpose),
    "linear": linear,
    "matmul": matmul,
    "mm": matmul,
    "addmm": addmm,
    "_native_batch_norm_legit_no_training": batch_norm,
    "relu": layer(ReLU),
    "relu6": lambda c, x: Clip(low=0.0, high=6.0),
    "leaky_relu": lambda c, x, slope=0.01: LeakyReLU(slope=slope),
    "prelu": prelu,
    "rrelu": rrelu,
    "elu": elu,
    "selu": layer(SELU),
    "celu": lambda c, x, alpha=1.0: CELU(alpha=alpha),
    "gelu": lambda c, x, *, approximate="none": GELU(approximate=approximate),
    "silu": layer(SiLU),
    "sigmoid": layer(Sigmoid),
    "tanh": layer(Tanh),
    "softplus": lambda c, x, beta=1.0, threshold=20.0: Softplus(beta=beta),
    "hardtanh": lambda c, x, low=-1.0, high=1.0: clamp(c, x, low, high),
    "clamp": clamp,
    "clamp_min": lambda c, x, low: clamp(c, x, low),
    "clamp_max": lambda c, x, high: clamp(c, x, None, high),
    "hardsigmoid": layer(HardSigmoid),
    "hardswish": layer(HardSwish),
    "threshold": threshold,
    "softmax": lambda c, x, dim, dtype=None: Softmax(axis=axis(x, dim)),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), max_pool),
    **dict.fromkeys(
        ("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"), with_indices(max_pool)
    ),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), avg_pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), adaptive_avg_pool),
    **dict.fromkeys(
        ("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"), with_indices(adaptive_max_pool)
    ),
    "add": add,
    "sub": sub,
    "rsub": rsub,
    "neg": lambda c, x: Scale(weight=-1.0),
    "mul": mul,
    "div": div,
    "cat": cat,
    "view": reshape,
    "permute": permute,
    "transpose": transpose,
    "t": lambda c, x: transpose(c, x, 0, 1),
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "expand": expand,
    "mean": mean,
    "sum": sum_,
    "slice": slice_,
    "select": select,
    **dict.fromkeys(("split", "split_with_sizes"), split),
    "unbind": unbind,
    "pad": pad,
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), upsample_nearest),
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"), upsample_linear),
    "pixel_shuffle": lambda c, x, block: DepthToSpace(block=block, mode="CRD"),
    "pixel_unshuffle": lambda c, x, block: SpaceToDepth(block=block, mode="CRD"),
    **dict.fromkeys(("_to_copy", "type_as"), cast),
    **dict.fromkeys(("clone", "alias", "detach"), same),
}
"""Operator, overloads alike: what it becomes."""

LABELS = {"_native_batch_norm_legit_no_training": "batch_norm", "view": "reshape"}
"""Operators under the names that users know."""

_STATISTICS = (
    "batch norm with the statistics of the batch mixes samples: it needs running statistics, and training=False"
)
HINTS = {
    "log_softmax": "log-probabilities: let the module return the logits before them",
    "native_dropout": "dropout that is on after training too: pass training=self.training",
    **dict.fromkeys(("_native_batch_norm_legit", "_native_batch_norm_legit_functional"), _STATISTICS),
}
"""What to say of operators that are often met."""
