"""Keras 3 models as graphs.

Each layer is read by one small function of the table `LAYERS`. The graph is channels first: of a channels-last model
every tensor with spatial axes is held with its last axis moved to axis 1, and Flatten and Reshape put it back first,
so that weights behind them find their inputs where Keras has them.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
    Add,
    AvgPool,
    BatchNorm,
    Clip,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
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
    Sub,
    Tanh,
    Transpose,
    Upsample,
)
from .common import agree, free, signal_first

Shape = tuple[int, ...]
Chain = dict[str, Layer]
"""Layers one after the other, by suffix of the name: "" is the Keras layer's own name."""


# --- the entrance ---------------------------------------------------------------------------------


def from_keras(model: Any, *, canonize: bool = True, check: bool = True) -> Graph:
    """A Keras 3 model, Sequential or functional, as a graph that takes channels-first input.

    Parameters
    ----------
    model : Keras model, or path of a .keras file
        a file is read with Keras' safe mode, without its optimizer, and refused before that if it holds Lambda layers
        or names code that is not Keras' own
    canonize : fold batch norms and scales, drop identities, strip a final softmax; see :func:`lrp_ref.canonize`
    check : run both on a random batch, and refuse a graph whose outputs differ by more than 1e-5 of the greatest (some
        backends compute in float32 whatever the model's dtype)

    Returns
    -------
    Graph
        nodes named after the layers ("conv", its activation "conv.relu"; of a model within the model "backbone.conv");
        one input is "input", several have the names of the input layers

    Raises
    ------
    LoadError, UnsupportedOp
        naming the layer.
    """
    try:
        import keras
    except ImportError as error:
        raise ImportError(f'from_keras needs keras and a backend: pip install "lrp_ref[keras]" ({error})') from error
    if isinstance(model, (str, Path)):
        inspect(Path(model))
        model = keras.saving.load_model(model, compile=False, safe_mode=True)
    program = _functional(model)
    reader = Reader(_channels_last(program))
    graph = reader.graph(program)
    if check:
        rng = np.random.default_rng(0)
        given = [rng.normal(size=(2, *tensor.shape[1:])).astype(np.float32) for tensor in program.inputs]
        theirs = program(keras.tree.pack_sequence_as(program._inputs_struct, given), training=False)
        expected = [reader.held(numbers(y)) for y in keras.tree.flatten(theirs)]
        dtype = np.result_type(*expected)
        x = {name: reader.held(value).astype(dtype) for name, value in zip(graph.inputs, given, strict=True)}
        agree(graph, x, expected, bound={"float32": 1e-5, "float64": 1e-5}, framework="Keras")
    return canonized(graph) if canonize else graph


def inspect(path: Path) -> None:
    """Refuse a file that is no .keras archive, or would have Keras run code that is not its own."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > LARGEST_CONFIG:
                raise LoadError(f"{path}: its config.json is larger than {LARGEST_CONFIG} bytes")
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, OSError) as error:
        if isinstance(error, LoadError):
            raise
        raise LoadError(
            f"{path} is no .keras archive ({error}): save the model with model.save('name.keras'), in Keras 3"
        ) from error
    if isinstance(config, dict):
        config.pop("compile_config", None)  # not read: see compile=False
    for part in _parts(config):
        kind, module = part.get("class_name"), part.get("module")
        if kind in CODE:
            raise LoadError(f"{path} holds a {kind}, which is code to be run: build the model without it")
        if module is not None and not KERAS.fullmatch(str(module)):
            raise LoadError(
                f"{path} names {module}.{kind}, which is no layer of Keras: load it yourself, pass the model"
            )


CODE = ("Lambda", "__lambda__", "function", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""What a file may not hold: classes that run what stands in the file, or beside it."""
KERAS = re.compile(
    r"keras(\.src)?(\.(activations|constraints|dtype_policies|initializers|layers|models|regularizers)(\.\w+)*)?"
)
"""The modules that a file may name."""
LARGEST_CONFIG = 2**26


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every dict in a nest of dicts and lists."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []


def _functional(model: Any) -> Any:
    """The functional model that a model is or holds."""
    kind = type(model)
    if not kind.__module__.startswith("keras.") or kind.__name__ not in ("Functional", "Model", "Sequential"):
        raise LoadError(
            f"{kind.__module__}.{kind.__qualname__} is no Sequential or functional model of Keras: what a subclass "
            f"computes stands in its program; rebuild it as keras.Model(inputs, outputs)"
        )
    program = model._functional if kind.__name__ == "Sequential" else model
    if program is None:
        raise LoadError(f'model "{model.name}" is not built: begin it with keras.Input(shape)')
    return program


def _channels_last(program: Any) -> bool:
    """Whether its layers with spatial axes have their channels last; not both."""
    layers = [layer for layer in program._flatten_layers() if type(layer).__name__ != "Flatten"]
    formats = {layer.data_format for layer in layers if hasattr(layer, "data_format")}
    if len(formats) > 1:
        raise UnsupportedOp(f'model "{program.name}" mixes data formats {sorted(formats)}: build it with one')
    return formats == {"channels_last"}


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model: the node that makes it, and the shape that Keras gives a sample of it."""

    name: str
    shape: Shape


@dataclass
class Reader:
    """A model on its way to a graph."""

    last: bool
    nodes: dict[str, Node] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def graph(self, program: Any) -> Graph:
        """The whole model."""
        names = [tensor._keras_history.operation.name for tensor in program.inputs]
        self.inputs = names if len(names) > 1 else ["input"]
        given = [Tensor(name, _shape(tensor)) for name, tensor in zip(self.inputs, program.inputs, strict=True)]
        outputs = []
        for made in self.model(program, given, ""):
            name = made.name
            if name in self.inputs:
                name = free("identity", {*self.nodes, *self.inputs})
                self.nodes[name] = Node(name, Identity(), made.name)
            outputs.append(name)
        if self.last:
            self.notes.insert(0, "the model is channels-last, the graph channels-first: give it (batch, channels, ...)")
        return Graph(list(self.nodes.values()), outputs=outputs, inputs=self.inputs, notes=self.notes)

    def model(self, program: Any, given: Sequence[Tensor], prefix: str) -> list[Tensor]:
        """The outputs of a model, or of one within it, for the tensors given."""
        values = {id(tensor): value for tensor, value in zip(program.inputs, given, strict=True)}
        for depth in sorted(program._nodes_by_depth, reverse=True):
            for node in program._nodes_by_depth[depth]:
                if not node.is_input:
                    inputs = [values[id(tensor)] for tensor in node.input_tensors]
                    made = self.layer(node, inputs, prefix)
                    values |= {id(tensor): value for tensor, value in zip(node.output_tensors, made, strict=True)}
        return [values[id(tensor)] for tensor in program.outputs]

    def layer(self, node: Any, inputs: list[Tensor], prefix: str) -> list[Tensor]:
        """The outputs of one call of a layer."""
        layer = node.operation
        kind, module = type(layer).__name__, type(layer).__module__
        call = Call(self, layer, prefix + layer.name, inputs, _shape(node.output_tensors[0]))
        if kind in ("Functional", "Model", "Sequential") and module.startswith("keras."):
            return self.model(_functional(layer), inputs, f"{prefix}{layer.name}.")
        if kind not in LAYERS or not module.startswith("keras.src.layers."):
            call.refuse("no layer does this")
        try:
            made = LAYERS[kind](call, layer, *inputs)
            name = made if isinstance(made, str) else call.chain(made if isinstance(made, dict) else {"": made})
        except ShapeError as error:
            call.refuse(str(error))
        return [Tensor(name, call.out)]

    def held(self, value: Array) -> Array:
        """An array (batch, ...) of Keras as the graph holds it."""
        return np.moveaxis(value, -1, 1) if self.last and value.ndim > 2 else value

    def order(self, rank: int) -> Shape:
        """For each axis of a tensor as held (batch and all, `rank` axes) the axis of Keras."""
        return (0, rank - 1, *range(1, rank - 1)) if self.last and rank > 2 else tuple(range(rank))


def _shape(tensor: Any) -> Shape:
    if any(n is None for n in tensor.shape[1:]):
        raise LoadError(
            f"a tensor of shape {tensor.shape} has open sizes: rebuild the model with keras.Input(shape) in full"
        )
    return tuple(tensor.shape[1:])


@dataclass
class Call:
    """One call of a layer, as the functions of `LAYERS` see it."""

    reader: Reader
    layer: Any
    name: str
    inputs: list[Tensor]
    out: Shape

    def add(self, layer: Layer, *sources: str, suffix: str = "") -> str:
        """A node; its name."""
        name = free(f"{self.name}.{suffix}" if suffix else self.name, {*self.reader.nodes, *self.reader.inputs})
        self.reader.nodes[name] = Node(name, layer, *sources)
        return name

    def chain(self, layers: Chain) -> str:
        """Nodes one after the other, behind the first input."""
        source = self.inputs[0].name
        for suffix, layer in layers.items():
            source = self.add(layer, source, suffix=suffix)
        return source

    def axis(self, axis: int, rank: int) -> int:
        """The axis of a tensor as held for an axis of Keras, the batch counted."""
        return self.reader.order(rank).index(axis % rank)

    def spatial(self, shape: Shape) -> Shape:
        """The spatial sizes of a sample."""
        return shape[:-1] if self.reader.last else shape[1:]

    def constant(self, value: Any, shape: Shape) -> Array:
        """A constant that broadcasts to (batch, *shape), as Scale takes it: scalar, one a channel, or a sample."""
        value = numbers(value)
        padded = self.reader.held(value.reshape((1,) * (1 + len(shape) - value.ndim) + value.shape))[0]
        if padded.size == 1:
            return padded.reshape(())
        if padded.size == len(padded):
            return padded.reshape(-1)
        return np.broadcast_to(padded, self.reader.held(np.empty((1, *shape)))[0].shape).copy()

    def to_keras(self, rank: int) -> Chain:
        """From held to Keras' own order of axes."""
        order = self.reader.order(rank)
        axes = tuple(order.index(axis) for axis in range(rank))
        return {} if axes == tuple(range(rank)) else {"transpose": Transpose(axes=axes)}

    def to_held(self, rank: int) -> Chain:
        """From Keras' own order of axes to held."""
        order = self.reader.order(rank)
        return {} if order == tuple(range(rank)) else {"channels_first": Transpose(axes=order)}

    def refuse(self, why: str) -> NoReturn:
        """Refuse the layer."""
        kind = type(self.layer)
        name = (
            kind.__name__ if kind.__module__.startswith("keras.src.layers.") else f"{kind.__module__}.{kind.__name__}"
        )
        raise UnsupportedOp(
            f'layer "{self.name}" ({name}): {why}. Rebuild this part of the model with layers that '
            f"lrp_ref.loaders.keras.LAYERS lists, or explain the part before or behind it"
        )


# --- what the layers' functions share -------------------------------------------------------------


def numbers(variable: Any) -> Array:
    """A variable's or constant's numbers as an array of floats of its own; half precision as float32."""
    value = getattr(variable, "value", variable)
    if hasattr(value, "detach"):  # torch's
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() and value.element_size() < 4 else value
    value = np.array(value)
    return value.astype(np.float32 if value.dtype.name in ("float16", "bfloat16", "float32") else np.float64)


def optional(variable: Any) -> Array | None:
    """The same, of what may be missing."""
    return None if variable is None else numbers(variable)


def span(kernel: int, dilation: int) -> int:
    """Cells from a kernel's first tap to its last."""
    return (kernel - 1) * dilation + 1


def padding(c: Call, x: Tensor, how: str, kernel: Shape, stride: Shape, dilation: Shape) -> list[tuple[int, int]]:
    """Cells before and after each spatial axis; of "same", the odd one behind."""
    pairs = []
    for n, k, s, d in zip(c.spatial(x.shape), kernel, stride, dilation, strict=True):
        total = {"valid": 0, "causal": span(k, d) - 1, "same": max((-(-n // s) - 1) * s + span(k, d) - n, 0)}[how]
        pairs.append((total, 0) if how == "causal" else (total // 2, total - total // 2))
    return pairs


def kernel_first(kernel: Any) -> Array:
    """(*kernel, inputs, outputs) as (outputs, inputs, *kernel)."""
    value = numbers(kernel)
    return value.transpose(value.ndim - 1, value.ndim - 2, *range(value.ndim - 2))


def activated(c: Call, function: Any) -> Chain:
    """What `activation=` puts behind a layer."""
    name = getattr(function, "__name__", str(function))
    if name not in ACTIVATIONS or not getattr(function, "__module__", "").startswith("keras."):
        c.refuse(f"no layer for the activation {name}")
    made = ACTIVATIONS[name](c)
    return {} if made is None else {name: made}


ACTIVATIONS: dict[str, Callable[[Call], Layer | None]] = {
    "linear": lambda c: None,
    "relu": lambda c: ReLU(),
    "relu6": lambda c: Clip(low=0.0, high=6.0),
    "leaky_relu": lambda c: LeakyReLU(slope=0.2),
    "elu": lambda c: ELU(),
    "selu": lambda c: SELU(),
    "celu": lambda c: CELU(),
    "gelu": lambda c: GELU(),
    "silu": lambda c: SiLU(),
    "sigmoid": lambda c: Sigmoid(),
    "hard_sigmoid": lambda c: HardSigmoid(),
    "hard_silu": lambda c: HardSwish(),
    "tanh": lambda c: Tanh(),
    "softplus": lambda c: Softplus(),
    "softmax": lambda c: Softmax(axis=c.axis(-1, len(c.out) + 1)),
}
"""Name of a Keras activation: its layer; None: none."""


# --- the layers -----------------------------------------------------------------------------------


def dense(c: Call, layer: Any, x: Tensor) -> Chain:
    """Dense; over the channels of an image a convolution with kernel 1."""
    weight, bias = numbers(layer.kernel), optional(layer.bias)
    if c.reader.last and len(x.shape) > 1:
        made: Layer = Conv(weight.T.reshape(*weight.T.shape, *(1,) * (len(x.shape) - 1)), bias)
    else:
        made = Dense(weight, bias)
    return {"": made} | activated(c, layer.activation)


def conv(c: Call, layer: Any, x: Tensor) -> Chain:
    """Conv."""
    made = Conv(
        kernel_first(layer.kernel),
        optional(layer.bias),
        stride=layer.strides,
        padding=padding(c, x, layer.padding, layer.kernel_size, layer.strides, layer.dilation_rate),
        dilation=layer.dilation_rate,
        groups=layer.groups,
    )
    return {"": made} | activated(c, layer.activation)


def by_channel(kernel: Any) -> Array:
    """(*kernel, inputs, multiplier) as (inputs * multiplier, 1, *kernel)."""
    value = numbers(kernel)
    spatial = value.shape[:-2]
    return value.reshape(*spatial, -1).transpose(len(spatial), *range(len(spatial)))[:, None]


def depthwise(c: Call, layer: Any, x: Tensor) -> Chain:
    """Conv with a group for each channel."""
    made = Conv(
        by_channel(layer.kernel),
        optional(layer.bias),
        stride=layer.strides,
        padding=padding(c, x, layer.padding, layer.kernel_size, layer.strides, layer.dilation_rate),
        dilation=layer.dilation_rate,
        groups=layer.kernel.shape[-2],
    )
    return {"": made} | activated(c, layer.activation)


def separable(c: Call, layer: Any, x: Tensor) -> Chain:
    """Two convolutions: one for each channel, one across channels."""
    depthwise = Conv(
        by_channel(layer.depthwise_kernel),
        stride=layer.strides,
        padding=padding(c, x, layer.padding, layer.kernel_size, layer.strides, layer.dilation_rate),
        dilation=layer.dilation_rate,
        groups=layer.depthwise_kernel.shape[-2],
    )
    pointwise = Conv(kernel_first(layer.pointwise_kernel), optional(layer.bias))
    return {"depthwise": depthwise, "": pointwise} | activated(c, layer.activation)


def conv_transpose(c: Call, layer: Any, x: Tensor) -> Chain:
    """ConvTranspose, its output cut as Keras cuts it: "same" to input times stride, the odd cell before."""
    n = len(layer.kernel_size)
    wanted = [None] * n if layer.output_padding is None else np.broadcast_to(layer.output_padding, n).tolist()
    pairs, extra = [], []
    for k, s, d, more in zip(layer.kernel_size, layer.strides, layer.dilation_rate, wanted, strict=True):
        k = span(k, d)
        if layer.padding == "valid":
            before, cut = 0, -(max(s - k, 0) if more is None else more)
        else:
            total = 2 * k - 2 - (s + k - 2 if more is None else k + k % 2 - 2 + more)
            before = max((total) // 2, 0)
            cut = total - before
        pairs.append((before, max(cut, 0)))
        extra.append(max(-cut, 0))
    kernel = numbers(layer.kernel)
    made = ConvTranspose(
        kernel.transpose(n + 1, n, *range(n)),
        optional(layer.bias),
        stride=layer.strides,
        padding=pairs,
        output_padding=extra,
        dilation=layer.dilation_rate,
    )
    return {"": made} | activated(c, layer.activation)


def batch_norm(c: Call, layer: Any, x: Tensor) -> Layer:
    """BatchNorm with moving statistics."""
    axes = [layer.axis] if isinstance(layer.axis, int) else layer.axis
    if [c.axis(axis, len(x.shape) + 1) for axis in axes] != [1]:
        c.refuse(f"axis={layer.axis} is not the channels'")
    return BatchNorm.from_statistics(
        mean=numbers(layer.moving_mean),
        variance=numbers(layer.moving_variance),
        weight=1.0 if layer.gamma is None else numbers(layer.gamma),
        bias=0.0 if layer.beta is None else numbers(layer.beta),
        epsilon=layer.epsilon,
    )


def relu(c: Call, layer: Any, x: Tensor) -> Layer | Chain:
    """ReLU, leaky and clipped as asked."""
    if layer.threshold:
        c.refuse(f"threshold={layer.threshold}: only 0 has a layer")
    high = None if layer.max_value is None else float(layer.max_value)
    if layer.negative_slope:
        leaky = LeakyReLU(slope=float(layer.negative_slope))
        return leaky if high is None else {"": leaky, "clip": Clip(high=high)}
    return ReLU() if high is None else Clip(low=0.0, high=high)


def softmax(c: Call, layer: Any, x: Tensor) -> Layer:
    """Softmax over one axis."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if len(axes) != 1:
        c.refuse(f"over several axes {layer.axis}")
    return Softmax(axis=c.axis(axes[0], len(x.shape) + 1))


def max_pool(c: Call, layer: Any, x: Tensor) -> Layer:
    """MaxPool."""
    ones = (1,) * len(layer.pool_size)
    pairs = padding(c, x, layer.padding, layer.pool_size, layer.strides, ones)
    return MaxPool(kernel=layer.pool_size, stride=layer.strides, padding=pairs)


def avg_pool(c: Call, layer: Any, x: Tensor) -> Layer:
    """AvgPool, which does not count padding."""
    import keras

    ones = (1,) * len(layer.pool_size)
    pairs = padding(c, x, layer.padding, layer.pool_size, layer.strides, ones)
    if keras.backend.backend() == "torch" and any(before != after for before, after in pairs):
        c.refuse(
            "where 'same' padding is uneven, Keras on torch repeats the border, and on its other backends leaves the "
            "padding out: run Keras on another backend, or pad evenly"
        )
    return AvgPool(kernel=layer.pool_size, stride=layer.strides, padding=pairs, count_include_pad=False)


def over_all(make: Callable[[], Layer]) -> Callable[..., Chain]:
    """A global pool, whose spatial axes go unless kept."""
    return lambda c, layer, x: {"": make()} | ({} if layer.keepdims else {"flatten": Flatten()})


def pad(c: Call, layer: Any, x: Tensor) -> Layer:
    """Pad with zeros."""
    given = layer.padding if isinstance(layer.padding[0], (tuple, list)) else [layer.padding]
    return Pad(padding=[(0, 0), *given])


def crop(c: Call, layer: Any, x: Tensor) -> Chain:
    """A Slice of each axis that is cropped."""
    given = layer.cropping if isinstance(layer.cropping[0], (tuple, list)) else [layer.cropping]
    sizes = c.spatial(x.shape)
    cuts = [
        (axis, before, n - after) for axis, (n, (before, after)) in enumerate(zip(sizes, given, strict=True), start=2)
    ]
    made = [Slice(axis=axis, start=start, stop=stop) for axis, start, stop in cuts]
    return {str(i) if i else "": layer for i, layer in enumerate(made)}


def upsample(c: Call, layer: Any, x: Tensor) -> Layer:
    """Upsample, or linear Resize."""
    how = getattr(layer, "interpolation", "nearest")
    factor = tuple(n // m for n, m in zip(c.spatial(c.out), c.spatial(x.shape), strict=True))
    if how == "nearest":
        return Upsample(factor=factor)
    return Resize(size=c.spatial(c.out), mode="linear") if how == "bilinear" else c.refuse(f"interpolation={how!r}")


def alike(c: Call, inputs: Sequence[Tensor]) -> list[str]:
    """The names of inputs that have equally many axes."""
    if len({len(x.shape) for x in inputs}) > 1:
        c.refuse(f"its inputs have shapes {[x.shape for x in inputs]}: need equally many axes")
    return [x.name for x in inputs]


def add(c: Call, layer: Any, *inputs: Tensor) -> str:
    """Add."""
    return c.add(Add(), *alike(c, inputs))


def subtract(c: Call, layer: Any, *inputs: Tensor) -> str:
    """Sub."""
    return c.add(Sub(), *alike(c, inputs))


def average(c: Call, layer: Any, *inputs: Tensor) -> str:
    """Add, divided by how many."""
    return c.add(Scale(weight=1 / len(inputs)), c.add(Add(), *alike(c, inputs), suffix="sum"))


def multiply(c: Call, layer: Any, *inputs: Tensor) -> str:
    """Mul of two at a time, the gate second."""
    made, *rest = alike(c, inputs)
    for other in rest:
        signal, gating, sure = signal_first(c.reader.nodes, made, other)
        made = c.add(Mul(), signal, gating)
        if not sure:
            c.reader.notes.append(f"{made}: of the product of {signal} and {gating} the first is taken as the signal")
    return made


def concatenate(c: Call, layer: Any, *inputs: Tensor) -> str:
    """Concat."""
    return c.add(Concat(axis=c.axis(layer.axis, len(c.out) + 1)), *alike(c, inputs))


def flatten(c: Call, layer: Any, x: Tensor) -> Chain:
    """Flatten, channels last whatever the data format, as Keras has it."""
    rank = len(x.shape) + 1
    order = c.to_keras(rank)
    if layer.data_format == "channels_first" and rank > 2:
        if c.reader.last:
            c.refuse("data_format='channels_first' in a model whose other layers are channels-last")
        order = {"transpose": Transpose(axes=(0, *range(2, rank), 1))}
    if order:
        c.reader.notes.append(f"{c.name} flattens in Keras' order, channels last: a transpose stands before it")
    return order | {"": Flatten()}


def reshape(c: Call, layer: Any, x: Tensor) -> Chain:
    """Reshape, in Keras' order."""
    return c.to_keras(len(x.shape) + 1) | {"": Reshape(shape=c.out)} | c.to_held(len(c.out) + 1)


def permute(c: Call, layer: Any, x: Tensor) -> Layer:
    """Transpose of the axes as held."""
    rank = len(x.shape) + 1
    moved = (0, *layer.dims)
    return Transpose(axes=tuple(c.axis(moved[axis], rank) for axis in c.reader.order(rank)))


def rescaling(c: Call, layer: Any, x: Tensor) -> Layer:
    """Scale."""
    offset = c.constant(layer.offset, x.shape)
    return Scale(weight=c.constant(layer.scale, x.shape), bias=offset if offset.any() else None)


def normalization(c: Call, layer: Any, x: Tensor) -> Layer:
    """Scale by the statistics that it was adapted to."""
    import keras

    mean, variance = (numbers(statistic).astype(np.float64) for statistic in (layer.mean, layer.variance))
    deviation = np.maximum(variance**0.5, keras.config.epsilon())
    weight, bias = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    return Scale(weight=c.constant(weight, x.shape), bias=c.constant(bias, x.shape))


def spatial(*names: str) -> tuple[str, ...]:
    """Names of layers in 1, 2 and 3 dimensions, for patterns such as "Conv{}"."""
    return tuple(name.format(f"{n}D") for name in names for n in (1, 2, 3))


LAYERS: dict[str, Callable[..., Layer | Chain | str]] = {
    "Dense": dense,
    **dict.fromkeys(spatial("Conv{}"), conv),
    **dict.fromkeys(spatial("Conv{}Transpose"), conv_transpose),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), separable),
    "BatchNormalization": batch_norm,
    "Activation": lambda c, layer, x: {"": [*activated(c, layer.activation).values(), Identity()][0]},
    "ReLU": relu,
    "LeakyReLU": lambda c, layer, x: LeakyReLU(slope=float(layer.negative_slope)),
    "PReLU": lambda c, layer, x: PReLU(slope=c.constant(layer.alpha, x.shape)),
    "ELU": lambda c, layer, x: ELU(alpha=float(layer.alpha)),
    "Softmax": softmax,
    **dict.fromkeys(spatial("MaxPooling{}"), max_pool),
    **dict.fromkeys(spatial("AveragePooling{}"), avg_pool),
    **dict.fromkeys(spatial("GlobalAveragePooling{}"), over_all(GlobalAvgPool)),
    **dict.fromkeys(spatial("GlobalMaxPooling{}"), over_all(GlobalMaxPool)),
    **dict.fromkeys(spatial("ZeroPadding{}"), pad),
    **dict.fromkeys(spatial("Cropping{}"), crop),
    **dict.fromkeys(spatial("UpSampling{}"), upsample),
    "Add": add,
    "Subtract": subtract,
    "Average": average,
    "Multiply": multiply,
    "Concatenate": concatenate,
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "Rescaling": rescaling,
    "Normalization": normalization,
    "Dropout": lambda c, layer, x: Dropout(p=layer.rate),
    **dict.fromkeys(spatial("SpatialDropout{}"), lambda c, layer, x: Dropout(p=layer.rate)),
    **dict.fromkeys(
        ("AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization", "Identity"),
        lambda c, layer, x: Identity(),
    ),
}
"""Class of a Keras layer: what it becomes."""
