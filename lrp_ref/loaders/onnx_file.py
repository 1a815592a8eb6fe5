"""The bytes of an ONNX file: weights are mapped, not copied, and every size is held against the file before use."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import LoadError, UnsupportedOp
from ..text import printable

LARGEST = 2**31
"""The most elements that a tensor of a file may claim."""
MOST_NODES = 100_000
MOST_FIELDS = 400_000
"""The most parts that the file's outer message, its graph and its initializers may have."""
LONGEST_NAME = 2_000
LARGEST_MESSAGE = 2**28
"""The most bytes that a file's nodes may take once its functions are written out."""
DEEPEST = 16
"""How deep the functions of a file may call each other."""
INLINE = 1024
"""Bytes up to which a tensor's data stay in the message, where shape inference can see them."""


def read_model(path: Path) -> tuple[Any, dict[str, Array]]:
    """The model without its weights, and its initializers by name.

    Raises
    ------
    LoadError
        for what is no ONNX file, is cut off, or claims sizes that it does not have; ImportError without onnx.
    """
    try:
        import onnx
    except ImportError:
        raise ImportError('reading ONNX files needs onnx: pip install "lrp_ref[onnx]"') from None
    if not path.is_file() or path.stat().st_size == 0:
        raise LoadError("no file, or an empty one")
    data = np.memmap(path, dtype=np.uint8, mode="r")
    try:
        message, places = _without_weights(data.data)
        model = onnx.ModelProto()
        model.ParseFromString(message)
    except ValueError as error:
        raise LoadError(f"no ONNX file, or a broken one ({error})") from error
    except Exception as error:  # protobuf's DecodeError, whose place differs between versions
        raise LoadError(f"no ONNX file, or a broken one ({type(error).__name__})") from error
    _refuse_bytes(model)
    if len(places) != len(model.graph.initializer):
        raise LoadError("no ONNX file, or a broken one (its weights cannot be told apart)")
    return _inlined(model), _tensors(model, data, places, path.parent)


def _refuse_bytes(message: Any) -> None:
    """Refuse names that are no text: protobuf gives them as bytes."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                _refuse_bytes(part)
        elif field.type == field.TYPE_STRING and (isinstance(value, bytes) or any(isinstance(v, bytes) for v in value)):
            raise LoadError(f"no ONNX file, or a broken one ({field.name} is no text)")


# --- the message ----------------------------------------------------------------------------------

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""Field numbers of ModelProto.graph, GraphProto.initializer and TensorProto.raw_data."""


def _without_weights(message: memoryview) -> tuple[bytes, list[tuple[int, int] | None]]:
    """The message without large raw data, and for each initializer the place (begin, end) of what was left out."""
    places: list[tuple[int, int] | None] = []

    def tensor(begin: int, end: int) -> bytes:
        kept, place = [], None
        for number, start, content, stop in _fields(message, begin, end):
            if number == RAW_DATA:
                place = (content, stop) if stop - content > INLINE else None  # of several the last holds
            if number != RAW_DATA or place is None:
                kept.append(message[start:stop])
        places.append(place)
        return b"".join(kept)

    def graph(begin: int, end: int) -> bytes:
        kept: list[bytes | memoryview] = []
        for number, start, content, stop in _fields(message, begin, end):
            kept.append(_nested(INITIALIZER, tensor(content, stop)) if number == INITIALIZER else message[start:stop])
        return b"".join(kept)

    kept: list[bytes | memoryview] = []
    for number, start, content, stop in _fields(message, 0, len(message)):
        kept.append(_nested(GRAPH, graph(content, stop)) if number == GRAPH else message[start:stop])
    return b"".join(kept), places


def _fields(message: memoryview, begin: int, end: int) -> Any:
    """(number, start, start of content, end) of each field between `begin` and `end` of a protobuf message; the number
    is 0 if it holds no bytes.
    """
    position, count = begin, 0
    while position < end:
        start, count = position, count + 1
        if count > MOST_FIELDS:
            raise ValueError(f"more than {MOST_FIELDS} parts")
        key, position = _varint(message, position, end)
        kind, content = key & 7, position
        if kind == 0:
            _, position = _varint(message, position, end)
        elif kind == 1:
            position += 8
        elif kind == 2:
            length, content = _varint(message, position, end)
            position = content + length
        elif kind == 5:
            position += 4
        else:
            raise ValueError(f"field of kind {kind}")
        if position > end:
            raise ValueError("cut off")
        yield key >> 3 if kind == 2 else 0, start, content, position


def _varint(message: memoryview, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError("cut off")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than ten bytes")


def _nested(number: int, content: bytes) -> bytes:
    """A field of the given number that holds a message."""
    length, head = len(content), bytes([number << 3 | 2])
    while length > 127:
        head, length = head + bytes([length & 127 | 128]), length >> 7
    return head + bytes([length]) + content


# --- tensors --------------------------------------------------------------------------------------


def _tensors(model: Any, data: Array, places: list[tuple[int, int] | None], folder: Path) -> dict[str, Array]:
    from onnx import TensorProto

    if model.graph.sparse_initializer:
        raise LoadError("sparse initializers cannot be read")
    tensors: dict[str, Array] = {}
    for tensor, place in zip(model.graph.initializer, places, strict=True):
        name = f'initializer "{printable(tensor.name[:LONGEST_NAME])}"'
        if tensor.name in tensors or not 0 < len(tensor.name) <= LONGEST_NAME:
            raise LoadError(f"{name} is there twice, or has no name, or too long a one")
        if tensor.data_location == TensorProto.EXTERNAL:
            tensors[tensor.name] = _external(tensor, folder, name)
        elif place is not None:
            dtype, count, (begin, end) = _dtype(tensor, name), _count(tensor, name), place
            _same_size(name, end - begin, count * dtype.itemsize)
            tensors[tensor.name] = np.frombuffer(data, dtype, count=count, offset=begin).reshape(tuple(tensor.dims))
        else:
            tensors[tensor.name] = array(tensor, name)
    return tensors


def array(tensor: Any, name: str) -> Array:
    """The numbers in a message itself; data elsewhere are refused."""
    from onnx import TensorProto, numpy_helper

    dtype, count = _dtype(tensor, name), _count(tensor, name)
    if tensor.data_location == TensorProto.EXTERNAL:
        raise LoadError(f"{name} has its data elsewhere")
    if tensor.HasField("raw_data"):
        _same_size(name, len(tensor.raw_data), count * dtype.itemsize)
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # numpy_helper raises ValueError, TypeError and others on data that do not fit
        raise LoadError(f"{name}: {error}") from error


def _dtype(tensor: Any, name: str) -> Any:
    from onnx import TensorProto, helper

    readable = ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL"]
    readable += [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    if tensor.data_type not in [TensorProto.DataType.Value(kind) for kind in readable]:
        raise LoadError(f"{name} has a data type that cannot be read ({tensor.data_type})")
    return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).newbyteorder("<")


def _count(tensor: Any, name: str) -> int:
    dims = list(tensor.dims)
    count: int = math.prod(dims)
    if any(n < 0 for n in dims) or len(dims) > 16 or count > LARGEST:
        raise LoadError(f"{name} claims the shape {dims[:17]}")
    return count


def _same_size(name: str, found: int, claimed: int) -> None:
    if found != claimed:
        raise LoadError(f"{name} holds {found} bytes, and claims {claimed}")


def _external(tensor: Any, folder: Path, name: str) -> Array:
    """A tensor in a file beside the model: inside its folder, no link, and within the file."""
    dtype, count = _dtype(tensor, name), _count(tensor, name)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", count * dtype.itemsize))
    except ValueError:
        raise LoadError(f"{name}: the place of its data is not a number") from None
    location = entries.get("location", "")
    place = Path(os.path.normpath(folder / location)) if "\0" not in location else folder
    inside = folder.resolve() in place.resolve().parents
    if not location or Path(location).is_absolute() or ".." in Path(location).parts or not inside:
        raise LoadError(f"{name}: data outside the model's folder ({printable(location)!r})")
    steps = [place, *(parent for parent in place.parents if folder in parent.parents)]
    if any(step.is_symlink() for step in steps) or not place.is_file():
        raise LoadError(f"{name}: {printable(location)!r} is no file, or a link")
    if offset < 0 or length < 0 or offset + length > place.stat().st_size:
        raise LoadError(f"{name}: data beyond the end of {printable(location)!r}")
    _same_size(name, length, count * dtype.itemsize)
    if not count:
        return np.zeros(tuple(tensor.dims), dtype)
    return np.memmap(place, dtype=dtype, mode="r", offset=offset, shape=(count,)).reshape(tuple(tensor.dims))


# --- functions ------------------------------------------------------------------------------------


def _inlined(model: Any) -> Any:
    """The model with its own functions written out, if that does not make it too large."""
    if len(model.graph.node) > MOST_NODES:
        raise LoadError(f"{len(model.graph.node)} nodes, more than {MOST_NODES}")
    if not model.functions:
        return model
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}

    def size(nodes: Any, depth: int) -> tuple[int, int]:
        """How many nodes and bytes it is once written out."""
        if depth > DEEPEST:
            raise LoadError(f"functions call each other more than {DEEPEST} deep")
        count = length = 0
        for node in nodes:
            if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
                raise UnsupportedOp(
                    f'node "{printable(node.name)}" ({printable(node.op_type)}): loops, branches and other subgraphs '
                    f"cannot be read: write them out"
                )
            key = (node.domain, node.op_type, node.overload)
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node, depth + 1)
            more = sizes.get(key, (1, node.ByteSize()))
            count, length = count + more[0], length + more[1]
            if count > MOST_NODES or length > LARGEST_MESSAGE:
                raise LoadError(
                    f"more than {MOST_NODES} nodes, or {LARGEST_MESSAGE} bytes, once its functions are written out"
                )
        return count, length

    size(model.graph.node, 0)
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(model)
    except Exception as error:  # the inliner raises RuntimeError and its own types
        raise LoadError(f"its functions cannot be written out ({type(error).__name__}: {error})") from error
