"""ONNX files that lrp_ref wrote, as the graphs that they were.

What the file says of itself is taken as a description to check, not as something to run: classes come from one table,
options are numbers, words and tuples of the types that the class declares, arrays are initializers of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import LoadError, LrpError
from ..graph import Graph, Node
from ..layers import Layer, Near
from ..text import near, printable
from .onnx_file import LONGEST_NAME
from .onnx_write import EMITTERS, FORMAT, GRAPH, LAYER, PART, PRODUCER, fits, is_modest, option_types

KINDS: Mapping[str, type[Layer]] = {kind.__name__: kind for kind in EMITTERS}
"""The classes that a file may name."""
MOST_TEXT = 2**24
"""Characters of JSON in one place."""


def own_graph(model: Any, tensors: Mapping[str, Array]) -> Graph | None:
    """The graph that was saved; None if the file is not one of lrp_ref's.

    Raises
    ------
    LoadError
        naming the node.
    """
    about = {entry.key: entry.value for entry in model.metadata_props}
    if model.producer_name != PRODUCER or GRAPH not in about:
        return None
    said = _json(about[GRAPH], GRAPH)
    if _get(said, "format", int, GRAPH) != FORMAT:
        raise LoadError(f"{GRAPH}: format {said['format']}, and this version reads {FORMAT}")
    inputs, outputs, notes = (_names(said, key, GRAPH) for key in ("inputs", "outputs", "notes"))
    aliases = _get(said, "aliases", dict, GRAPH)
    declared = [tensor.name for tensor in model.graph.input], [tensor.name for tensor in model.graph.output]
    if (inputs, outputs) != declared or not all(isinstance(name, str) for name in aliases.values()):
        raise LoadError(f"{GRAPH}: inputs, outputs or aliases are not those of the file{CHANGED}")
    nodes = []
    for proto in model.graph.node:
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        if LAYER in metadata:
            nodes.append(_node(proto, metadata[LAYER], tensors))
        elif PART not in metadata:
            raise LoadError(f'operator "{printable(proto.name)}" is of no node{CHANGED}')
    for name in [*inputs, *(node.name for node in nodes), *aliases]:
        if not name or not name.isprintable() or len(name) > LONGEST_NAME:
            raise LoadError(f"the name {_shown(name)!r} is empty, too long, or cannot be printed")
    try:
        return Graph(nodes, outputs=outputs, inputs=inputs, aliases=aliases, notes=[*map(printable, notes)])
    except (LrpError, TypeError) as error:
        raise LoadError(f"{GRAPH}: {error}") from error


CHANGED = ": the file was changed after lrp_ref wrote it; to read its operators alone, clear its producer_name"


def _node(proto: Any, text: str, tensors: Mapping[str, Array]) -> Node:
    where = f'node "{printable(proto.name)}"'
    said = _json(text, where)
    word = _get(said, "layer", str, where)
    if word not in KINDS:
        raise LoadError(f"{where}: no layer {_shown(word)!r}{near(_shown(word), list(KINDS))}")
    kind = KINDS[word]
    options = _options(_get(said, "options", dict, where), kind, where)
    arrays = _arrays(_get(said, "arrays", dict, where), kind, tensors, where)
    if list(proto.output) != [proto.name]:
        raise LoadError(f"{where}: its tensor has another name{CHANGED}")
    try:
        return Node(proto.name, kind(**options, **arrays), *_names(said, "inputs", where))
    except (LrpError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise LoadError(f"{where} ({word}): {error}") from error


def _options(said: dict[str, Any], kind: type[Layer], where: str) -> dict[str, Any]:
    types, _ = option_types(kind)
    options = {name: _option(value) for name, value in said.items()}
    for name, value in options.items():
        if name not in types:
            raise LoadError(f"{where}: {kind.__name__} has no option {_shown(name)!r}{near(_shown(name), list(types))}")
        if not fits(value, types[name]) or not is_modest(name, value):
            raise LoadError(f"{where}: {kind.__name__} cannot have {name}={_shown(repr(said[name]))}")
    return options


def _option(value: Any) -> Any:
    """A value of JSON as an option: lists are tuples, and {"Near": r} and {"Fraction": [n, d]} what they say."""
    if isinstance(value, list):
        return tuple(map(_option, value))
    if isinstance(value, dict) and list(value) == ["Near"] and fits(value["Near"], float):
        return Near(value["Near"])
    if isinstance(value, dict) and list(value) == ["Fraction"]:
        parts = value["Fraction"]
        if isinstance(parts, list) and len(parts) == 2 and all(type(n) is int and n for n in parts):
            return Fraction(*parts)
    return value


def _arrays(said: dict[str, Any], kind: type[Layer], tensors: Mapping[str, Array], where: str) -> dict[str, Array]:
    arrays = {}
    for name, entry in said.items():
        if name not in option_types(kind)[1]:
            raise LoadError(f"{where}: {kind.__name__} has no array {_shown(name)!r}")
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and entry[2] in ("C", "F")):
            raise LoadError(f'{where}: {name} is not [initializer, shape, "C" or "F"]')
        tensor, shape, order = entry
        if tensor not in tensors or tensors[tensor].dtype.kind not in "fiu":
            raise LoadError(f"{where}: no initializer {_shown(tensor)!r} of numbers for {name}")
        if not isinstance(shape, list) or not fits(tuple(shape), tuple[int, ...]):
            raise LoadError(f"{where}: the shape of {name} is no list of integers")
        try:
            arrays[name] = np.array(
                tensors[tensor].reshape(tuple(shape)), order=order
            )  # aligned, as no file's bytes are
        except ValueError as error:
            raise LoadError(f"{where}: {name}: {error}") from error
    return arrays


def check_sizes(graph: Graph, shapes: Mapping[str, Sequence[int | None] | None], dtypes: Sequence[Any]) -> None:
    """Refuse a graph whose activations are not of the sizes that its file's operators make, as far as they are known.

    The graph is run for a batch of no samples, so that a layer which claims huge outputs costs nothing.

    Parameters
    ----------
    graph : Graph
    shapes : {tensor: its shape as onnx infers it, None where it is open}
    dtypes : of the graph's inputs
    """
    values: dict[str, Array] = {}
    for name, dtype in zip(graph.inputs, dtypes, strict=True):
        declared = shapes.get(name) or (None, None)
        if None in declared[1:]:
            return
        try:
            values[name] = np.zeros((0, *declared[1:]), dtype)
        except (ValueError, MemoryError) as error:
            raise LoadError(f'input "{name}" of shape {tuple(declared)}: {error}') from error
    for node in graph.nodes:
        where, inputs = f'node "{node.name}" ({node.kind})', [values[name] for name in node.inputs]
        layer = node.layer.like(inputs[0])
        try:
            layer.check(*(value.shape for value in inputs))
            values[node.name] = layer.forward(*inputs)
        except (ValueError, TypeError, IndexError, ArithmeticError, MemoryError) as error:
            raise LoadError(f"{where}: {error}") from error
        made = values[node.name].shape
        sizes = shapes.get(node.name) or (None,) * len(made)
        if len(sizes) != len(made) or any(n not in (None, m) for n, m in zip(sizes[1:], made[1:], strict=True)):
            raise LoadError(f"{where} makes {made[1:]} of a sample, and its operators {tuple(sizes[1:])}{CHANGED}")


# --- JSON -----------------------------------------------------------------------------------------


def _json(text: str, where: str) -> dict[str, Any]:
    if len(text) > MOST_TEXT:
        raise LoadError(f"{where}: {len(text)} characters of JSON, more than {MOST_TEXT}")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{where}: no JSON, or nested too deeply ({type(error).__name__})") from error
    if not isinstance(said, dict):
        raise LoadError(f"{where}: its JSON is no object")
    return said


def _shown(text: str) -> str:
    """Text from a file as a message may hold it."""
    return printable(text[:100])


def _get(said: dict[str, Any], key: str, kind: type, where: str) -> Any:
    if type(value := said.get(key)) is not kind:
        raise LoadError(f'{where}: its JSON has no "{key}", or not as {kind.__name__}')
    return value


def _names(said: dict[str, Any], key: str, where: str) -> list[str]:
    names: list[Any] = _get(said, key, list, where)
    if not all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in names):
        raise LoadError(f'{where}: "{key}" is no list of names')
    return names
