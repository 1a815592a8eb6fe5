"""A graph as a module of torch: what the adapters of torch's frameworks share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...graph import Graph, Node
from ...layers import (
    CELU,
    ELU,
    GELU,
    SELU,
    Activation,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
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
    Pad,
    PReLU,
    ReLU,
    Reshape,
    Sigmoid,
    SiLU,
    Slice,
    Softmax,
    Softplus,
    SpaceToDepth,
    Squeeze,
    Sum,
    Tanh,
    Transpose,
    Unsqueeze,
    Upsample,
)
from ..conform import Cannot
from ..vectors.read import Case

WEIGHTED = (Dense, Conv, ConvTranspose, BatchNorm)
SHAPES = (Flatten, Reshape, Transpose, Squeeze, Unsqueeze, Slice, Pad, Concat, Upsample, DepthToSpace, SpaceToDepth)
"""Layers that move numbers: functions of torch, which no framework gives a rule."""

Made = Callable[[Node, Sequence[int]], Any]
"""A node and its first input's shape -> a module of torch, or None for the usual one."""


def named(node: str) -> str:
    """A node's name as a module's, which holds no dot."""
    return node.replace(".", "_")


def network(graph: Graph, shapes: Mapping[str, Sequence[int]], own: Made = lambda node, shape: None) -> Any:
    """A module that computes the graph in float64: a module for each node, by its name, but for :data:`SHAPES`.

    Parameters
    ----------
    graph : Graph, with one output
    shapes : of inputs and nodes' outputs, with the batch
    own : a framework's own modules, such as for adds

    Returns
    -------
    torch.nn.Module
        of the inputs in their order; its `made` are the modules by the nodes' names.

    Raises
    ------
    Cannot
        for a layer that torch has no module for.
    """
    made, functions = {}, {}
    for node in graph.nodes:
        if isinstance(node.layer, SHAPES):
            functions[node.name] = function(node)
        else:
            shape = shapes[node.inputs[0]]
            made[node.name] = own(node, shape) or module(node.layer, shape)

    def forward(*inputs: Any) -> Any:
        values = dict(zip(graph.inputs, inputs, strict=True))
        for node in graph.nodes:
            step = made.get(node.name) or functions[node.name]
            values[node.name] = step(*(values[source] for source in node.inputs))
        return values[graph.outputs[0]]

    whole = composed(forward, **{named(name): part for name, part in made.items()}).double().eval()
    whole.made = made
    return whole


def function(node: Node) -> Callable[..., Any]:
    """What a layer that moves numbers is in torch."""
    import torch

    nn, layer = torch.nn.functional, node.layer
    match layer:
        case Flatten():
            return lambda x: torch.flatten(x, 1)
        case Reshape():
            return lambda x: x.reshape(len(x), *layer.shape)
        case Transpose():
            return lambda x: x.permute(*layer.axes)
        case Squeeze():
            axes = [layer.axis] if isinstance(layer.axis, int) else layer.axis
            return lambda x: torch.squeeze(x, tuple(axes))
        case Unsqueeze():
            return lambda x: torch.unsqueeze(x, layer.axis)
        case Concat():
            return lambda *parts: torch.cat(parts, layer.axis)
        case Slice() if layer.step > 0:
            cut = slice(layer.start, layer.stop, layer.step)
            return lambda x: x[(slice(None),) * (layer.axis % x.ndim) + (cut,)]
        case Pad():
            return lambda x: nn.pad(x, [side for pair in reversed(layer.padding) for side in pair])
        case Upsample():
            factor = layer.factor if isinstance(layer.factor, int) else tuple(layer.factor)
            return lambda x: nn.interpolate(x, scale_factor=factor, mode="nearest")
        case DepthToSpace() if layer.mode == "CRD":
            return lambda x: nn.pixel_shuffle(x, layer.block)
        case SpaceToDepth() if layer.mode == "CRD":
            return lambda x: nn.pixel_unshuffle(x, layer.block)
    raise Cannot(f"torch has no such {node.kind}")


def module(layer: Layer, shape: Sequence[int]) -> Any:
    """torch's module of a layer whose first input has this shape."""
    import torch

    nn, d = torch.nn, max(0, len(shape) - 2)

    def of(kind: str, *arguments: Any, **options: Any) -> Any:
        if d not in (1, 2, 3):
            raise Cannot(f"torch has no {kind} of inputs of {len(shape)} axes")
        return getattr(nn, f"{kind}{d}d")(*arguments, **options)

    match layer:
        case Dense():
            inputs, outputs = layer.weight.shape
            return _with(nn.Linear(inputs, outputs, bias=layer.bias is not None), layer.weight.T, layer.bias)
        case Conv() if layer.tap_bias is None:
            outputs, inputs, *kernel = layer.weight.shape
            options = {"stride": layer.stride, "padding": _even(layer.padding), "dilation": layer.dilation}
            options |= {"groups": layer.groups, "bias": layer.bias is not None}
            made = of("Conv", inputs * layer.groups, outputs, kernel, **options)
            return _with(made, layer.weight, _vector(layer.bias))
        case ConvTranspose() if layer.tap_bias is None:
            inputs, outputs, *kernel = layer.weight.shape
            options = {"stride": layer.stride, "padding": _even(layer.padding), "dilation": layer.dilation}
            options |= {"groups": layer.groups, "bias": layer.bias is not None}
            options["output_padding"] = layer.output_padding
            made = of("ConvTranspose", inputs, outputs * layer.groups, kernel, **options)
            return _with(made, layer.weight, _vector(layer.bias))
        case BatchNorm():
            made = getattr(nn, f"BatchNorm{max(1, d)}d")(layer.scale.size, eps=0.0)
            return _with(made, layer.scale.reshape(-1), layer.shift.reshape(-1))
        case MaxPool() if _first_wins(layer):
            options = {"stride": layer.stride, "padding": _even(layer.padding, d), "dilation": layer.dilation}
            return of("MaxPool", layer.kernel, **options, ceil_mode=layer.ceil)
        case GlobalMaxPool() if _first_wins(layer):
            return of("AdaptiveMaxPool", 1)
        case AdaptiveMaxPool() if _first_wins(layer):
            return of("AdaptiveMaxPool", layer.size)
        case AvgPool():
            options = {"stride": layer.stride, "padding": _even(layer.padding, d), "ceil_mode": layer.ceil}
            return of("AvgPool", layer.kernel, **options, count_include_pad=layer.count_include_pad)
        case GlobalAvgPool():
            return of("AdaptiveAvgPool", 1)
        case AdaptiveAvgPool():
            return of("AdaptiveAvgPool", layer.size)
        case Mean() | Sum():
            axes = (layer.axes,) if isinstance(layer.axes, int) else tuple(layer.axes)
            total = torch.mean if isinstance(layer, Mean) else torch.sum
            return composed(lambda x: total(x, dim=axes, keepdim=layer.keepdims))
        case Activation() | Identity() | Dropout() | Softmax():
            return activation(layer)
    raise Cannot(f"torch has no such {type(layer).__name__}")


def activation(layer: Layer) -> Any:
    """torch's module of an activation."""
    import torch

    nn = torch.nn
    match layer:
        case LeakyReLU():
            return nn.LeakyReLU(float(layer.slope))
        case PReLU():
            made = nn.PReLU(layer.slope.size)
            made.weight.data = torch.from_numpy(np.array(layer.slope, dtype=float).reshape(-1))
            return made
        case ELU() | CELU():
            return getattr(nn, type(layer).__name__)(float(layer.alpha))
        case Softplus():
            return nn.Softplus(float(layer.beta))
        case GELU():
            return nn.GELU(layer.approximate)
        case HardSigmoid():
            return nn.Hardsigmoid()
        case Clip() if layer.low is not None and layer.high is not None:
            return nn.Hardtanh(float(layer.low), float(layer.high))
        case HardSwish():
            return nn.Hardswish()
        case Softmax():
            return nn.Softmax(layer.axis)
        case Dropout():
            return nn.Dropout(layer.p)
        case ReLU() | SELU() | SiLU() | Tanh() | Sigmoid() | Identity():
            return getattr(nn, type(layer).__name__)()
    raise Cannot(f"torch has no such {type(layer).__name__}")


def composed(f: Callable[..., Any], /, **parts: Any) -> Any:
    """A module that computes f, and holds other modules."""
    import torch

    class Composed(torch.nn.Module):  # type: ignore[misc]
        def forward(self, *inputs: Any) -> Any:
            return f(*inputs)

    made = Composed()
    for name, part in parts.items():
        made.add_module(name, part)
    return made


def _first_wins(layer: Any) -> bool:
    if layer.frozen_as != "winner":
        raise Cannot("torch has no max pool that is explained as an average")
    if layer.ties != "first":
        raise Cannot("torch's max pools give a tie to the first of equal cells")
    return True


def _even(padding: Any, d: int = 0) -> Any:
    """The padding of modules, which pad both sides alike."""
    if isinstance(padding, int):
        return padding
    pairs = [(side, side) if isinstance(side, int) else tuple(side) for side in padding]
    if any(before != after for before, after in pairs):
        raise Cannot("torch's modules pad both sides alike")
    return tuple(before for before, _ in pairs)


def _vector(bias: Any) -> Any:
    """A bias of one number an output channel."""
    if bias is not None and any(n != 1 for n in bias.shape[1:]):
        raise Cannot("torch has no bias for each place")
    return None if bias is None else bias.reshape(-1)


def _with(made: Any, weight: Any, bias: Any) -> Any:
    import torch

    made.weight.data = torch.from_numpy(np.array(weight, dtype=float))
    if bias is not None:
        made.bias.data = torch.from_numpy(np.array(bias, dtype=float))
    return made


# --- a case in torch ----------------------------------------------------------------------------------------------


def asked(case: Case, own: Made = lambda node, shape: None) -> SimpleNamespace:
    """The network of a case as a module, its inputs and its start relevance as tensors.

    Raises
    ------
    Cannot
        where torch lacks a layer, or computes something else.
    """
    import torch

    if len(case.start) != 1 or case.mask:
        raise Cannot("relevance is masked on its way" if case.mask else "relevance starts at several outputs")
    activations = case.graph.forward(dict(case.inputs))
    shapes = {name: a.shape for name, a in activations.items()}
    torch.set_num_threads(1)
    with refused("torch"):
        net = network(case.graph, shapes, own)
        x = [torch.from_numpy(a.copy()) for a in case.inputs.values()]
        y = net(*x).detach().numpy()
    expected = activations[case.graph.outputs[0]]
    if y.shape != expected.shape or abs(y - expected).max(initial=0) > 1e-6 * abs(expected).max(initial=0):
        raise Cannot("torch's module of that name computes something else")
    return SimpleNamespace(net=net, x=x, R=torch.from_numpy(case.R.copy()))


@contextmanager
def refused(who: str) -> Iterator[None]:
    """An error of a framework as its refusal, in one line; its warnings are not ours."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise Cannot(f"{who} raises {type(error).__name__}: {' '.join(str(error).split())[:120]}") from error
