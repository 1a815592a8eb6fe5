"""What is known of signs before any number is: which nodes cannot be negative."""

from __future__ import annotations

from .graph import Graph
from .layers import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    Add,
    AvgPool,
    Clip,
    Concat,
    GlobalAvgPool,
    GlobalMaxPool,
    HardSigmoid,
    MaxPool,
    Mean,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Sum,
    SumPool,
    Wires,
)

_NEVER_NEGATIVE = (ReLU, Sigmoid, HardSigmoid, Softplus, Softmax)
_KEEP_THE_SIGN = (
    Wires, Add, Concat, Sum, Mean, SumPool, AvgPool, MaxPool, GlobalAvgPool, GlobalMaxPool, AdaptiveAvgPool,
    AdaptiveMaxPool,
)  # fmt: skip


def positive_nodes(graph: Graph, *, inputs: bool = False) -> frozenset[str]:
    """The nodes whose outputs cannot be negative, as far as layers tell: ReLU and kin, and what sums or routes these.

    `inputs` says whether the network's own inputs cannot be negative.
    """
    found = set(graph.inputs) if inputs else set()
    for node in graph.nodes:
        kept = isinstance(node.layer, _KEEP_THE_SIGN) and found.issuperset(node.inputs)
        if isinstance(node.layer, Add) and node.layer.constant is not None:
            kept = kept and not bool((node.layer.constant < 0).any())
        if isinstance(node.layer, Clip):
            kept = node.layer.low is not None and bool(node.layer.low >= 0)
        if kept or isinstance(node.layer, _NEVER_NEGATIVE):
            found.add(node.name)
    return frozenset(found)
