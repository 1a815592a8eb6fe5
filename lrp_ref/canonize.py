"""Canonization: a network in the form that rules are made for, its forward pass unchanged.

Each step is a function graph -> graph, that gives back the graph itself where there is nothing to do, and notes
what it did, one line each, in ``graph.notes``; :func:`canonize` runs them. A layer vanishes only where no value
that somebody else reads would change. The name and aliases of a node that vanished go to the node that now
computes the same tensor; aliases of tensors that are no longer computed are dropped.

All arithmetic is that of the graph's own parameters, so that ``canonize(graph.like(exact(x)))`` has the same
forward pass with ``==``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from .arrays import Array, as_array, divide, is_exact, matmul, number, ones, per_channel, positive, sign, total, where
from .graph import Graph, Node
from .layers import (
    Activation,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Identity,
    Layer,
    MaxPool,
    Mean,
    Pad,
    ReLU,
    Reshape,
    Resize,
    Scale,
    SoftMinPool,
    Squeeze,
    Sum,
    SumPool,
    Transpose,
    Unsqueeze,
    Upsample,
)
from .layers.base import Shape, check_finite
from .layers.window import Padding, pairs
from .values import value

Weighted = Conv | ConvTranspose | Dense
"""Layers that a scale can be folded into."""
MaxPools = MaxPool | GlobalMaxPool | AdaptiveMaxPool
Means = GlobalAvgPool | AdaptiveAvgPool | Upsample | Resize
"""Layers whose outputs are means of real cells, in each channel."""


def canonize(
    graph: Graph,
    *,
    fold_batch_norm: bool = True,
    fold_scale: bool = True,
    drop_identity: bool = True,
    strip_output: bool = True,
    move_batch_norm: bool = False,
    join_linear: bool = False,
    average_pools: bool = False,
) -> Graph:
    """The network in the form that rules are made for; print it to see what was done.

    The outputs stay what they are, but for `strip_output`. LRP-0 stays what it is under folding and joining (where no
    folded layer's output is exactly 0); other rules do not, which is why to canonize.

    Parameters
    ----------
    graph : Graph
    fold_batch_norm : batch norms into the convolution or dense layer that they follow, else into those that follow
        them; see :func:`batch_norm_folded`
    fold_scale : scales with one number a channel likewise, such as a standard scaler on the input; :func:`scale_folded`
    drop_identity : dropouts and identities; :func:`identity_dropped`
    strip_output : a final softmax or sigmoid: the outputs are logits then; :func:`output_stripped`
    move_batch_norm : a batch norm before ReLU -> convolution, as in DenseNet, behind the ReLU, and into the
        convolution; :func:`batch_norm_moved`. Off by default, because it changes LRP-0 itself: what the batch norm's
        shift took becomes a threshold, which a wire hands on
    join_linear : linear layers with nothing between them into one; :func:`linear_joined`. Off by default, because the
        relevance of what lies between them is lost
    average_pools : max pools deal relevance out as average pools; :func:`average_pooled`. Off by default: it is a
        choice of rule

    Returns
    -------
    Graph
        canonized once and for all: canonizing it again gives it back.
    """
    steps: list[tuple[bool, Callable[[Graph], Graph]]] = [
        (drop_identity, identity_dropped),
        (strip_output, output_stripped),
        (fold_batch_norm, batch_norm_folded),
        (fold_scale, scale_folded),
        (move_batch_norm, batch_norm_moved),
        (join_linear, linear_joined),
        (average_pools, average_pooled),
    ]
    return _until_still(graph, [step for wanted, step in steps if wanted])


def _until_still(graph: Graph, steps: Sequence[Callable[[Graph], Graph]]) -> Graph:
    """The steps in order, from the first again whenever one found something to do."""
    for step in steps:
        if (changed := step(graph)) is not graph:
            return _until_still(changed, steps)
    return graph


# --- the steps ----------------------------------------------------------------------------------------------------


def identity_dropped(graph: Graph) -> Graph:
    """Without the layers that do nothing: Identity and Dropout."""
    outputs, source = list(graph.outputs), dict[str, str]()
    for node in graph.nodes:
        if isinstance(node.layer, Identity):
            before = source.get(node.inputs[0], node.inputs[0])
            if node.name not in outputs or before not in {*graph.inputs, *outputs}:
                source[node.name] = before
                outputs = [before if output == node.name else output for output in outputs]
    if not source:
        return graph
    kept = [node for node in graph.nodes if node.name not in source]
    aliases = {**graph.aliases, **{name: name for name in source}}
    return dataclasses.replace(
        graph,
        nodes=[Node(node.name, node.layer, *(source.get(name, name) for name in node.inputs)) for node in kept],
        outputs=tuple(dict.fromkeys(outputs)),
        aliases={alias: source.get(of, of) for alias, of in aliases.items()},
        notes=(*graph.notes, *(f"{name} dropped" for name in source)),
    )


def output_stripped(graph: Graph) -> Graph:
    """Without the softmax or sigmoid at an output: relevance starts from logits."""
    for name in graph.outputs:
        node = _node(graph, name)
        if node.layer.probabilities and node.inputs[0] not in graph.inputs and not graph.readers[name]:
            note = f"{name} stripped: the output {node.inputs[0]} gives logits"
            graph = _without(graph, name, note, lost={name})
    return graph


def batch_norm_folded(graph: Graph) -> Graph:
    """Batch norms folded into a convolution, transposed convolution or dense layer.

    Into the layer that a batch norm follows, if nobody else reads that; else into the layers that read it, directly or
    through what only averages or routes (pools, Flatten, ...), if all of them can take it. Before padding the shift
    becomes the convolution's `tap_bias`. A batch norm between a sum or concatenation and a ReLU stays (see
    :func:`batch_norm_moved`).

    A dense layer is taken to read (batch, features), unless the graph tells otherwise.
    """
    return _folded(graph, BatchNorm)


def scale_folded(graph: Graph) -> Graph:
    """Scales with one number, or one a channel, folded as :func:`batch_norm_folded` folds batch norms."""
    return _folded(graph, Scale)


def batch_norm_moved(graph: Graph) -> Graph:
    """Batch norms before a ReLU moved behind it, and into the convolutions or dense layers that read it.

    ReLU(g x + b) = abs(g) max(0, s (x - t)) with s = sign(g) and t = -b/g: the ReLU becomes a :class:`ThresholdReLU`.
    A channel with g = 0 is constant, and becomes a bias.
    """
    graph = _one_arithmetic(graph)
    for name in _named(graph, BatchNorm):
        readers = _readers(graph, name)
        if len(readers) != 1 or name in graph.outputs or not isinstance(readers[0].layer, ReLU):
            continue
        layer, relu = _node(graph, name).layer, readers[0].name
        assert isinstance(layer, BatchNorm)
        g, b, nothing = layer.scale, layer.shift, number(0, layer.scale)
        constant = where(g == 0, positive(b), nothing)
        if (sinks := _sinks(graph, relu, abs(g), constant if (constant != 0).any() else None)) is None:
            continue
        layers, changed = sinks
        layers[relu] = ThresholdReLU(threshold=divide(-b, g), sign=where(g == 0, nothing, sign(g)))
        targets = ", ".join(reader for reader in layers if reader != relu)
        note = f"{name} moved behind {relu} and folded into {targets}"
        graph = _without(graph, name, note, layers, lost={name, *changed})
    return graph


def linear_joined(graph: Graph) -> Graph:
    """Linear layers with nothing between them joined into the second.

    Dense with dense, and convolutions without groups of which one is pointwise (one tap, stride 1, no padding);
    others have no exact equal of the same size.
    """
    graph = _one_arithmetic(graph)
    for name in [node.name for node in graph.nodes]:
        node = _node(graph, name)
        readers = _readers(graph, name)
        if name not in graph.outputs and len(readers) == 1 and (joined := _joined(node.layer, readers[0].layer)):
            second = readers[0].name
            graph = _without(graph, name, f"{name} joined into {second}", {second: joined}, lost={name})
    return graph


def average_pooled(graph: Graph) -> Graph:
    """The graph with its max pools frozen as average pools: relevance is averaged, activations stay the maxima."""
    pools: dict[str, Layer] = {
        node.name: dataclasses.replace(node.layer, frozen_as="average")
        for node in graph.nodes
        if isinstance(node.layer, MaxPools) and node.layer.frozen_as != "average"
    }
    notes = [f"{name} deals relevance out as an average pool" for name in pools]
    return dataclasses.replace(graph.with_layers(pools), notes=(*graph.notes, *notes)) if pools else graph


@value
class ThresholdReLU(Activation):
    """max(0, sign * (a - threshold)), each one number a channel; 0 where the sign is 0."""

    threshold: Array
    sign: Array

    def __post_init__(self) -> None:
        for name in ("threshold", "sign"):
            object.__setattr__(self, name, as_array(getattr(self, name)))
        check_finite(self)

    def _sign(self, a: Array) -> Array:
        return per_channel(self.sign, a, "ThresholdReLU: sign")

    def forward(self, *inputs: Array) -> Array:
        """What exceeds the threshold, in the direction of the sign."""
        (a,) = inputs
        return positive(self._sign(a) * (a - per_channel(self.threshold, a, "ThresholdReLU: threshold")))

    def derivative(self, a: Array) -> Array:
        """The sign beyond the threshold, else 0."""
        return where(self.forward(a) > 0, self._sign(a), number(0, a))


# --- the graph ----------------------------------------------------------------------------------------------------


def _named(graph: Graph, kind: type[Layer]) -> list[str]:
    return [node.name for node in graph.nodes if isinstance(node.layer, kind)]


def _node(graph: Graph, name: str) -> Node:
    """The node of that name, whatever aliases say."""
    return graph._by_name[name]


def _readers(graph: Graph, name: str) -> list[Node]:
    """The nodes that read a tensor."""
    return [node for node, _ in graph.readers[name]]


def _without(
    graph: Graph, name: str, note: str, layers: Mapping[str, Layer] | None = None, lost: Collection[str] = ()
) -> Graph:
    """The graph without the node named: who read it reads what it read. `lost` are tensors no longer computed."""
    (source,), layers = _node(graph, name).inputs, layers or {}

    def now(tensor: str) -> str:
        return source if tensor == name else tensor

    return dataclasses.replace(
        graph,
        nodes=[
            Node(node.name, layers.get(node.name, node.layer), *map(now, node.inputs))
            for node in graph.nodes
            if node.name != name
        ],
        outputs=tuple(dict.fromkeys(map(now, graph.outputs))),
        aliases={alias: now(of) for alias, of in {**graph.aliases, name: name}.items() if of not in lost},
        notes=(*graph.notes, note),
    )


def _one_arithmetic(graph: Graph) -> Graph:
    """The graph in exact arithmetic if any of its parameters is exact; floats of several types meet in the widest."""
    arrays = (value for node in graph.nodes for _, value in node.layer._arrays())
    first = next(filter(is_exact, arrays), None)
    return graph if first is None else graph.like(first)


def _axes(graph: Graph) -> Mapping[str, int | None]:
    """How many axes each tensor has, the batch's among them; None where the graph does not tell."""
    axes: dict[str, int | None] = dict.fromkeys(graph.inputs)
    for node in graph.nodes:
        layer = node.layer
        n = next((count for source in node.inputs if (count := axes[source])), None)
        if isinstance(layer, Conv | ConvTranspose):
            n = layer.weight.ndim
        elif isinstance(layer, MaxPools | Means | AvgPool | SumPool):
            n = n or 3  # or more
        elif isinstance(layer, Flatten | SoftMinPool):
            n = 2
        elif isinstance(layer, Reshape):
            n = len(layer.shape) + 1
        elif isinstance(layer, Transpose):
            n = len(layer.axes)
        elif isinstance(layer, Pad):
            n = len(layer.padding) + 1
        elif isinstance(layer, Unsqueeze):
            n = n and n + 1
        elif isinstance(layer, Squeeze) or (isinstance(layer, Sum | Mean) and not layer.keepdims):
            n = n and n - len(_given_axes(layer))
        axes[node.name] = n
    return axes


def _given_axes(layer: Squeeze | Sum | Mean) -> Shape:
    axes = layer.axis if isinstance(layer, Squeeze) else layer.axes
    return (axes,) if isinstance(axes, int) else tuple(axes)


# --- folding ------------------------------------------------------------------------------------------------------


def _folded(graph: Graph, kind: type[Layer]) -> Graph:
    graph = _one_arithmetic(graph)
    for name in _named(graph, kind):
        graph = _into_source(graph, _node(graph, name))
    for name in reversed(_named(graph, kind)):
        graph = _into_readers(graph, _node(graph, name))
    return graph


def _scale_and_shift(layer: Layer) -> tuple[Array, Array | None] | None:
    """What the layer multiplies by and adds, each one number or one a channel; None if it has one an element."""
    if isinstance(layer, BatchNorm):
        return layer.scale, layer.shift
    if isinstance(layer, Scale) and layer.weight.ndim < 2 and (layer.bias is None or layer.bias.ndim < 2):
        return layer.weight, layer.bias
    return None


def _into_source(graph: Graph, node: Node) -> Graph:
    """The node folded into the layer that it follows, if nobody else reads that."""
    (source,), values = node.inputs, _scale_and_shift(node.layer)
    if values is None or source in {*graph.inputs, *graph.outputs} or len(graph.readers[source]) > 1:
        return graph
    layer = _node(graph, source).layer
    if not isinstance(layer, Weighted) or not _channels_last(graph, source, layer, values):
        return graph
    folded = _scaled_outputs(layer, *values)
    if folded is None:
        return graph
    return _without(graph, node.name, f"{node.name} folded into {source}", {source: folded}, lost={source})


def _into_readers(graph: Graph, node: Node) -> Graph:
    """The node folded into all the layers that read it, if they can take it."""
    values = _scale_and_shift(node.layer)
    if values is None or (sinks := _sinks(graph, node.name, *values)) is None:
        return graph
    layers, changed = sinks
    return _without(graph, node.name, f"{node.name} folded into {', '.join(layers)}", layers, lost=changed)


def _sinks(
    graph: Graph, name: str, scale: Array, shift: Array | None, flat: bool = False
) -> tuple[dict[str, Layer], set[str]] | None:
    """The layers that read `name`, through what a scale and shift can pass, with these folded into them; and the
    tensors that change by it. None if not every reader can take them.
    """
    layers: dict[str, Layer] = {}
    changed, readers = {name}, _readers(graph, name)
    if name in graph.outputs or not readers:
        return None
    for reader in readers:
        layer = reader.layer
        if isinstance(layer, Weighted):
            if not flat and not _channels_last(graph, name, layer, (scale, shift)):
                return None
            if (folded := _scaled_inputs(layer, scale, shift, flat)) is None:
                return None
            layers[reader.name] = folded
        elif _passes(layer, scale, shift):
            further = _sinks(graph, reader.name, scale, shift, flat or isinstance(layer, Flatten))
            if further is None:
                return None
            layers |= further[0]
            changed |= further[1]
        else:
            return None
    return layers, changed


def _channels_last(graph: Graph, name: str, layer: Weighted, values: tuple[Array, Array | None]) -> bool:
    """Whether axis 1, the channels', is the one that the layer has at `name`: a dense layer has the last."""
    one_number = all(value is None or value.ndim == 0 for value in values)
    return one_number or not isinstance(layer, Dense) or _axes(graph)[name] in (2, None)


def _passes(layer: Layer, scale: Array, shift: Array | None) -> bool:
    """Whether layer(scale * a + shift) == scale * layer(a) + shift, channel by channel."""
    if isinstance(layer, MaxPools):
        return bool((scale >= 0).all())
    if isinstance(layer, AvgPool):
        return shift is None or not layer.count_include_pad or not _padded(layer.padding)
    if isinstance(layer, SumPool):
        return shift is None
    if isinstance(layer, Mean | Squeeze):
        return all(axis > 1 for axis in _given_axes(layer))
    return isinstance(layer, Means | Identity | Flatten)


def _padded(padding: Padding) -> bool:
    count = len(padding) if isinstance(padding, Sequence) else 1
    return any(before or after for before, after in pairs(padding, count, "padding"))


# --- the arithmetic -----------------------------------------------------------------------------------------------


def _kernels(layer: Weighted) -> Array:
    """The weight as (groups, outputs, inputs, taps), with the outputs and inputs of each group."""
    w = layer.weight
    if isinstance(layer, Dense):
        return w.T[None, :, :, None]
    grouped = w.reshape(layer.groups, len(w) // layer.groups, w.shape[1], math.prod(w.shape[2:]))
    return grouped if isinstance(layer, Conv) else grouped.swapaxes(1, 2)


def _with_kernels(layer: Weighted, kernels: Array, bias: Array | None, tap_bias: Array | None) -> Weighted:
    """The layer with another weight, given as `_kernels` gives it, and other biases."""
    if isinstance(layer, Dense):
        return Dense(kernels[0, :, :, 0].T, bias)
    rows = kernels if isinstance(layer, Conv) else kernels.swapaxes(1, 2)
    weight = rows.reshape(len(rows) * rows.shape[1], rows.shape[2], *layer.weight.shape[2:])
    return dataclasses.replace(layer, weight=weight, bias=bias, tap_bias=tap_bias)


def _tap_bias(layer: Weighted) -> Array | None:
    return None if isinstance(layer, Dense) else layer.tap_bias


def _column(values: Array, layer: Weighted) -> Array:
    """One number an output, as the layer keeps its bias."""
    return values.reshape((-1,) + (1,) * (layer.weight.ndim - 2))


def _times(a: Array | None, b: Array) -> Array | None:
    return None if a is None else a * b


def _plus(a: Array | None, b: Array | None) -> Array | None:
    return b if a is None else a if b is None else a + b


def _spread(values: Array | None, n: int, flat: bool = False) -> Array | None:
    """One number, or one a channel, as one for each of n; with `flat`, channels of several elements each."""
    if values is None:
        return None
    channels = values.reshape(-1)
    return (ones((len(channels), n // len(channels)), values) * channels[:, None]).reshape(n)


def _fits(values: Array | None, n: int, flat: bool = False) -> bool:
    """Whether `_spread` can spread the values over n."""
    if values is None or values.ndim == 0 or len(values) == n:
        return True
    return flat and len(values) > 0 and n % len(values) == 0


def _scaled_outputs(layer: Weighted, scale: Array, shift: Array | None) -> Weighted | None:
    """scale * layer(a) + shift as one layer; None if there are not as many channels."""
    kernels = _kernels(layer)
    groups, outputs, *_ = kernels.shape
    if not all(_fits(value, groups * outputs) for value in (scale, shift)):
        return None
    scale, shift = (_spread(value, groups * outputs) for value in (scale, shift))
    column = _column(scale, layer)
    bias = _plus(_times(layer.bias, column), None if shift is None else _column(shift, layer))
    return _with_kernels(layer, kernels * scale.reshape(groups, outputs, 1, 1), bias, _times(_tap_bias(layer), column))


def _scaled_inputs(layer: Weighted, scale: Array, shift: Array | None, flat: bool = False) -> Weighted | None:
    """layer(scale * a + shift) as one layer; None if there are not as many channels."""
    kernels = _kernels(layer)
    groups, _, inputs, _ = kernels.shape
    if not all(_fits(value, groups * inputs, flat) for value in (scale, shift)):
        return None
    scale, shift = (_spread(value, groups * inputs, flat) for value in (scale, shift))
    return _with_kernels(layer, kernels * scale.reshape(groups, 1, inputs, 1), *_biases(layer, shift))


def _biases(layer: Weighted, shift: Array | None) -> tuple[Array | None, Array | None]:
    """Bias and tap bias of layer(a + shift), with one number an input: each tap that reads a cell of the input adds
    sum_j w_jk shift_j; where all taps always do, their sum is a bias.
    """
    if shift is None:
        return layer.bias, _tap_bias(layer)
    kernels = _kernels(layer)
    groups, outputs, inputs, taps = kernels.shape
    added = total(kernels * shift.reshape(groups, 1, inputs, 1), (2,)).reshape(groups * outputs, taps)
    if isinstance(layer, Dense) or (isinstance(layer, Conv) and not _padded(layer.padding)):
        return _plus(layer.bias, _column(total(added, (1,)), layer)), _tap_bias(layer)
    return layer.bias, _plus(layer.tap_bias, added.reshape(-1, *layer.weight.shape[2:]))


def _joined(first: Layer, second: Layer) -> Weighted | None:
    """second(first(a)) as one layer; None where none of their kinds is the same map at every size."""
    if not isinstance(first, Weighted) or not isinstance(second, Weighted):
        return None
    if isinstance(first, Dense) != isinstance(second, Dense) or max(len(_kernels(first)), len(_kernels(second))) > 1:
        return None
    inner, outer = (_kernels(layer)[0].transpose(2, 0, 1) for layer in (first, second))  # (taps, outputs, inputs)
    if not (_pointwise(first) or _pointwise(second)) or inner.shape[1] != outer.shape[2]:
        return None
    kernels = matmul(outer, inner).transpose(1, 2, 0)[None]
    if _pointwise(first):
        shift = None if first.bias is None else first.bias.reshape(-1)
        return _with_kernels(second, kernels, *_biases(second, shift))

    def onward(bias: Array | None) -> Array | None:
        return None if bias is None else matmul(outer[0], bias.reshape(len(bias), -1)).reshape(-1, *bias.shape[1:])

    return _with_kernels(first, kernels, _plus(onward(first.bias), second.bias), onward(_tap_bias(first)))


def _pointwise(layer: Weighted) -> bool:
    """Whether each position of the output is fed by the same position of the input alone, everywhere alike."""
    if isinstance(layer, Dense):
        return True
    stride, weight, bias = math.prod(layer.window.stride), layer.weight, layer.bias
    alike = layer.tap_bias is None and (bias is None or bias.size == len(weight))
    return (
        isinstance(layer, Conv) and stride == math.prod(weight.shape[2:]) == 1 and not _padded(layer.padding) and alike
    )
