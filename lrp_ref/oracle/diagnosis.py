"""diagnose(): where another framework's relevance leaves ours, and which variant of the catalogue gives its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, floats, is_exact, to_host
from ..composites import Composite
from ..errors import GraphError, ShapeError
from ..explain import Arrays
from ..graph import Graph
from ..propagate import Rule
from ..text import near
from .answers import Diagnosis
from .search import Search
from .settings import Setting, Variant, each
from .variants import CATALOGUE
from .walks import char_of


def diagnose(
    graph: Graph,
    x: Arrays,
    composite: Composite | Rule,
    target: Any = None,
    theirs: Arrays | None = None,
    layers: Mapping[str, Array] | None = None,
    *,
    variants: Sequence[Variant] = CATALOGUE,
    certified: bool | None = None,
) -> Diagnosis:
    """Where another framework's relevance leaves ours, and which variants give its numbers.

    Where their relevance is known at several nodes, each node is judged by itself: our rule is started from their
    relevance at its output and compared with theirs at its inputs. With that of the input alone, combinations are
    searched: single variants, the same at all nodes, then pairs.

    Parameters
    ----------
    graph, x, composite, target : as for :func:`lrp_ref.explain`; x in float32 or float64
    theirs : their relevance of the input, an array of its shape; or a mapping of nodes and inputs to their
        relevance at the node's output
    layers : the same mapping, given beside the input's
    variants : the catalogue searched; :func:`of_statistics` has more for batch norms
    certified : whether our own error comes from :func:`certify`, started at each node from their relevance, or (False)
        from longer arithmetic; None: from a certificate where it takes 1e8 multiplications at most and decides every
        kink. The diagnosis says which.

    Returns
    -------
    Diagnosis
        A difference is more than 64 times our own error, and more than 32 unit roundoffs of max|R|, at that node and
        precision: float32 if x or their arrays are float32.

    Raises
    ------
    GraphError, ShapeError
        for names that the graph does not have, arrays of another shape, and nothing to compare
    Undecided
        with certified=True, where a kink stays undecided.
    """
    setting = Setting.of(graph, each(x, lambda a: floats(a) if is_exact(a) else a), composite, target)
    known = _checked(setting, theirs, layers or {})
    if all(R.dtype == np.float32 for R in known.values()) and setting.dtype is None and char_of(setting.x) == "d":
        setting = dataclasses.replace(setting, dtype="float32")
    known = {name: R.astype(np.float64) for name, R in known.items()}
    return Search(setting, known, tuple(variants), certified).diagnosis()


def _checked(setting: Setting, theirs: Arrays | None, layers: Mapping[str, Array]) -> dict[str, Any]:
    """Their relevances by the names of the canonized graph, or of the graph itself where those are not."""
    graph, raw = setting.prepared, setting.graph
    given: dict[str, Any] = dict(theirs) if isinstance(theirs, Mapping) else {}
    if theirs is not None and not isinstance(theirs, Mapping):
        if len(graph.inputs) > 1:
            raise GraphError(f"theirs: the graph has the inputs {list(graph.inputs)}: give a dict by name")
        given[graph.inputs[0]] = theirs
    given.update(layers)
    if not given:
        raise GraphError("theirs: give their relevance of the input, or of some nodes")
    names = {*graph.inputs, *(node.name for node in graph.nodes)}
    others = {node.name for node in raw.nodes}
    known = {}
    for name, R in given.items():
        resolved = graph.resolve(name)
        if resolved not in names and raw.resolve(name) not in others:
            raise GraphError(f'theirs: no node or input "{name}"{near(name, sorted(names))}')
        host = np.asarray(to_host(R))
        if resolved in names and host.shape != tuple(setting.activations[resolved].shape):
            raise ShapeError(
                f'theirs: the relevance at "{name}" has shape {host.shape}, need {setting.activations[resolved].shape}'
            )
        if host.dtype.kind not in "fiu":
            host = floats(R)
        known[resolved if resolved in names else name] = host
    return known
