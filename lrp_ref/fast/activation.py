"""Activations block by block, while what they read is in the cache."""

from __future__ import annotations

from types import NoneType

from ..arrays import Array, namespace, number
from ..layers import Activation, Clip, Layer, ReLU
from .memory import on_device
from .sweep import spans


def bounds(layer: Layer) -> tuple[float | None, float | None]:
    """Between which the layer keeps its input, if that is all that it does."""
    if isinstance(layer, Clip):
        return layer.low, layer.high
    return (0, None) if type(layer) is ReLU else (None, None)


def same_everywhere(layer: Layer) -> bool:
    """Whether the layer computes one function of one number, whatever its place."""
    return isinstance(layer, Activation) and all(
        isinstance(each, (int, float, str, NoneType)) for each in vars(layer).values()
    )


def activate(layer: Layer, a: Array, out: Array) -> None:
    """out, which may be a, becomes what the layer makes of a: of rows, if it has no bounds and this is the host."""
    low, high = bounds(layer)
    xp = namespace(a)
    if low is not None:
        a = xp.maximum(a, number(low, a), out=out)
    if high is not None:
        xp.minimum(a, number(high, a), out=out)
    if low is None and high is None:
        rows = [(0, len(a))] if on_device(a) else [(span.first, span.last) for span in spans(1, *a.shape)]
        for first, last in rows:
            out[first:last] = layer.forward(a[first:last])
