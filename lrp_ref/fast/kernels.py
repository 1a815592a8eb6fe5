"""Which layers have a quicker form: graph -> graph."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..graph import Graph
from ..layers import Conv, Layer, MaxPool
from .conv import TiledConv
from .pool import QuickMaxPool


def kernels(graph: Graph) -> Graph:
    """The graph with quicker layers, which compute the same maps, in place of those that have one."""
    changed = {node.name: quick for node in graph.nodes if (quick := _quick(node.layer)) is not None}
    return graph.with_layers(changed) if changed else graph


def _quick(layer: Layer) -> Layer | None:
    if type(layer) is Conv and layer.weight.ndim == 4 and layer.groups == 1:
        return TiledConv(**_fields(layer))
    if type(layer) is MaxPool and layer.ties == "first" and layer.frozen_as == "winner":
        return QuickMaxPool(**_fields(layer))
    return None


def _fields(layer: Layer) -> dict[str, Any]:
    return {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer) if field.init}
