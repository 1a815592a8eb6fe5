"""Gradients on the same graph: the walk of LRP with every layer's tangent and no division."""

from __future__ import annotations

from typing import Any

from ..arrays import Array, like, number
from ..errors import GraphError
from ..graph import Graph
from ..rules import Gradient
from ..targets import as_target


def gradient(graph: Graph, x: Array, target: Any = None) -> Array:
    """The derivative of what `target` explains, by each input value.

    Parameters
    ----------
    graph : Graph with one input and one output
    x : array (batch, ...)
    target : as for ``explain``; an array is the cotangent, the derivative by the outputs

    Returns
    -------
    array in the shape and arithmetic of x; at a kink of a ReLU or clip the derivative from the left, at a tie
    of a max pool that of the first maximum
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise GraphError(f"gradient: need one input and one output, got {graph!r}")
    graph = graph.like(x)
    a = graph.forward(x)
    output = graph.outputs[0]
    slope: dict[str, Array] = {output: as_target(target).direction(a[output])}
    for node in reversed(graph.nodes):
        if node.name not in slope:
            continue
        inputs = [a[source] for source in node.inputs]
        parts, _ = Gradient().back(node.layer, inputs, slope[node.name])
        for source, part in zip(node.inputs, parts, strict=True):
            slope[source] = slope[source] + part if source in slope else part
    name = graph.inputs[0]
    return slope[name] if name in slope else x * number(0, x)


def gradient_x_input(graph: Graph, x: Array, target: Any = None) -> Array:
    """x times the gradient. LRP-0 gives the same on networks of linear layers, ReLU-like activations and max pools."""
    return x * gradient(graph, x, target)


def integrated_gradients(graph: Graph, x: Array, target: Any = None, *, baseline: Any = None, steps: int = 64) -> Array:
    """(x - baseline) times the mean gradient on the straight way from the baseline, by the midpoint rule.

    Parameters
    ----------
    graph, x, target : as for :func:`gradient`; the default target is the greatest logit at x, all along the
    way
    baseline : array that broadcasts to x, or None for zeros
    steps : how many points on the way

    Sundararajan, Taly, Yan 2017 (arXiv 1703.01365).
    """
    if steps < 1:
        raise GraphError(f"integrated_gradients: steps={steps}, need at least 1")
    if target is None:
        target = graph.forward(x)[graph.outputs[0]].argmax(axis=1)
    way = x if baseline is None else x - like(baseline, x)
    summed = x * number(0, x)
    for i in range(steps):
        left = number((2 * steps - 2 * i - 1), x) / number(2 * steps, x)  # of the way, still to go
        summed = summed + gradient(graph, x - left * way, target)
    return way * summed / number(steps, x)
