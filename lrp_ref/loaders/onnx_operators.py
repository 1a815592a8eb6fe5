"""What reads each ONNX operator that depends on the data: one small function each, and the tables of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array, as_decimal
from ..errors import LoadError
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
    SpaceToDepth,
    Squeeze,
    Sub,
    Sum,
    Tanh,
    Transpose,
    Unsqueeze,
)

if TYPE_CHECKING:
    from .onnx import Operator, Reader

LARGEST_SAMPLE = 2**31
"""The most elements that a tensor may have for one sample, its padding included."""
LONGEST_SIDE = 2**14
"""The most cells along an axis that an image may be resized to."""
MOST_TAPS = 2**28
"""The most cells that the windows of a pool may have, all together, for one channel."""
BATCH = 7919
"""Stands for a batch of any size while shapes are inferred: a prime that no layer has as its size."""


def refuse_size(what: object, sample: Sequence[int | None]) -> None:
    """Refuse a tensor that no memory would hold; `sample` is its shape without the batch."""
    size = math.prod(n for n in sample if n)
    if size > LARGEST_SAMPLE:
        raise LoadError(f"{what} would have {size} elements a sample, more than {LARGEST_SAMPLE}")


def _activation(make: Callable[[dict[str, Any]], Layer]) -> Callable[[Reader, Operator], None]:
    def read(reader: Reader, operator: Operator) -> None:
        reader.add(operator, make(operator.attributes), reader.data(operator))

    return read


def _spatial(reader: Reader, operator: Operator) -> int:
    """How many spatial axes the input has."""
    axes = reader.rank(operator) - 2
    if axes < 1:
        reader.unsupported(operator, "its input has no spatial axes")
    return axes


def _padding(
    reader: Reader, operator: Operator, kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding as pairs, computed from the input's size where the file says SAME."""
    n = len(kernel)
    automatic = operator.attributes.get("auto_pad", "NOTSET")
    dilations = operator.attributes.get("dilations", [1] * n)
    if not len(strides) == len(dilations) == n == reader.rank(operator) - 2:
        raise LoadError(f"{operator}: {n} kernel axes, {len(strides)} strides and {len(dilations)} dilations")
    if list(operator.attributes.get("kernel_shape", kernel)) != list(kernel):
        raise LoadError(f"{operator}: its kernel_shape is not that of its weight, {list(kernel)}")
    if automatic not in ("NOTSET", "") and any(operator.attributes.get("pads", ())):
        raise LoadError(f"{operator}: auto_pad {automatic} and pads")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        size = reader.shape(operator, operator.inputs[0])[2:]
        for length, k, s, d in zip(size, kernel, strides, dilations, strict=True):
            if s < 1:
                raise LoadError(f"{operator}: stride {s}")
            more = max(0, (-(-length // s) - 1) * s + (k - 1) * d + 1 - length)
            less, rest = more // 2, more - more // 2
            pads.append((less, rest) if automatic == "SAME_UPPER" else (rest, less))
        return _bounded(reader, operator, pads)
    if automatic not in ("NOTSET", "VALID", ""):
        raise LoadError(f"{operator}: auto_pad {automatic!r}")
    flat = operator.attributes.get("pads", [0] * (2 * n)) if automatic != "VALID" else [0] * (2 * n)
    if len(flat) != 2 * n:
        raise LoadError(f"{operator}: {len(flat)} pads for {n} axes")
    if min(flat, default=0) < 0:
        raise LoadError(f"{operator}: negative pads {list(flat)}")
    return _bounded(reader, operator, list(zip(flat[:n], flat[n:], strict=True)))


def _bounded(reader: Reader, operator: Operator, pads: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pads, if memory holds what they make of the input."""
    before = reader.shapes.get(operator.inputs[0]) or ()
    refuse_size(operator, [*before[1:2], *((n or 1) + sum(pad) for n, pad in zip(before[2:], pads, strict=True))])
    return pads


def _conv(reader: Reader, operator: Operator) -> None:
    weight, bias = reader.weight(operator, 1), reader.weight(operator, 2)
    axes = max(0, weight.ndim - 2)
    stride = operator.attributes.get("strides", [1] * axes)
    layer = Conv(
        weight=weight,
        bias=bias,
        stride=stride,
        padding=_padding(reader, operator, weight.shape[2:], stride),
        dilation=operator.attributes.get("dilations", [1] * axes),
        groups=operator.attributes.get("group", 1),
    )
    reader.add(operator, layer, reader.data(operator))


def _conv_transpose(reader: Reader, operator: Operator) -> None:
    if "output_shape" in operator.attributes or operator.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", ""):
        reader.unsupported(operator, "output_shape and auto_pad are not read: write the pads out")
    weight, bias = reader.weight(operator, 1), reader.weight(operator, 2)
    axes = max(0, weight.ndim - 2)
    stride = operator.attributes.get("strides", [1] * axes)
    layer = ConvTranspose(
        weight=weight,
        bias=bias,
        stride=stride,
        padding=_padding(reader, operator, weight.shape[2:], stride),
        output_padding=operator.attributes.get("output_padding", [0] * axes),
        dilation=operator.attributes.get("dilations", [1] * axes),
        groups=operator.attributes.get("group", 1),
    )
    reader.add(operator, layer, reader.data(operator))


def _gemm(reader: Reader, operator: Operator) -> None:
    if operator.attributes.get("transA", 0):
        reader.unsupported(operator, "transA would mix the batch")
    weight, bias = reader.weight(operator, 1), reader.weight(operator, 2)
    if weight is None or weight.ndim != 2:
        raise LoadError(f"{operator}: its weight is no matrix")
    alpha, beta = operator.attributes.get("alpha", 1.0), operator.attributes.get("beta", 1.0)
    weight = weight.T if operator.attributes.get("transB", 0) else weight
    weight = weight if alpha == 1 else weight * weight.dtype.type(alpha)
    if bias is not None:
        if bias.ndim > 2 or bias.shape[-1:] not in ((), (1,), weight.shape[1:]) or bias.shape[-2:-1] not in ((), (1,)):
            reader.unsupported(operator, f"its C of shape {bias.shape} is no bias of {weight.shape[1]} outputs")
        bias = np.broadcast_to(bias.reshape(bias.shape[-1:]), weight.shape[1:])
        bias = bias if beta == 1 else bias * bias.dtype.type(beta)
    reader.add(operator, Dense(weight=weight, bias=bias), reader.data(operator))


def _matmul(reader: Reader, operator: Operator) -> None:
    if not reader.is_constant(operator, 1):
        reader.unsupported(operator, "a product of two tensors that both depend on the data")
    weight = reader.weight(operator, 1)
    if weight.ndim != 2:
        reader.unsupported(operator, f"its weight has shape {weight.shape}, not (inputs, outputs)")
    reader.add(operator, Dense(weight=weight), reader.data(operator))


def _batch_norm(reader: Reader, operator: Operator) -> None:
    if operator.attributes.get("training_mode", 0) or len([o for o in operator.outputs if o]) > 1:
        raise LoadError(f"{operator} is in training mode: export the network in evaluation mode")
    weight, bias, mean, variance = (reader.weight(operator, i) for i in (1, 2, 3, 4))
    epsilon = as_decimal(operator.attributes.get("epsilon", 1e-5))
    layer = BatchNorm.from_statistics(mean=mean, variance=variance, weight=weight, bias=bias, epsilon=epsilon)
    reader.add(operator, layer, reader.data(operator))


def _pool(reader: Reader, operator: Operator) -> dict[str, Any]:
    """What max and average pools have in common."""
    axes = _spatial(reader, operator)
    kernel = operator.attributes.get("kernel_shape", ())
    stride = operator.attributes.get("strides", [1] * axes)
    if len(kernel) != axes:
        raise LoadError(f"{operator}: a kernel of shape {list(kernel)} for {axes} spatial axes")
    taps = math.prod(n or 1 for n in (*kernel, *(reader.shapes.get(operator.outputs[0]) or ())[2:]))
    if taps > MOST_TAPS:
        raise LoadError(f"{operator}: windows of {taps} cells, more than {MOST_TAPS}")
    return {
        "kernel": tuple(kernel),
        "stride": tuple(stride),
        "padding": tuple(_padding(reader, operator, kernel, stride)),
        "ceil": bool(operator.attributes.get("ceil_mode", 0)),
    }


def _max_pool(reader: Reader, operator: Operator) -> None:
    if len([o for o in operator.outputs if o]) > 1:
        reader.unsupported(operator, "its second output, the indices, is used")
    common = _pool(reader, operator)
    dilation = tuple(operator.attributes.get("dilations", [1] * len(common["kernel"])))
    reader.add(operator, MaxPool(**common, dilation=dilation), reader.data(operator))


def _average_pool(reader: Reader, operator: Operator) -> None:
    if any(d != 1 for d in operator.attributes.get("dilations", [1])):
        reader.unsupported(operator, "a dilated average pool")
    count = bool(operator.attributes.get("count_include_pad", 0))
    reader.add(operator, AvgPool(**_pool(reader, operator), count_include_pad=count), reader.data(operator))


def _global_pool(layer: Layer) -> Callable[[Reader, Operator], None]:
    def read(reader: Reader, operator: Operator) -> None:
        _spatial(reader, operator)
        reader.add(operator, layer, reader.data(operator))

    return read


def _axes(reader: Reader, operator: Operator, i: int = 1) -> tuple[int, ...]:
    """The axes that an operator works on, counted from the front."""
    axes, rank = reader.numbers(operator, i, "axes"), reader.rank(operator)
    return tuple(axis + rank if axis < 0 else axis for axis in axes or range(rank))


def _reduce(kind: type[Sum] | type[Mean]) -> Callable[[Reader, Operator], None]:
    def read(reader: Reader, operator: Operator) -> None:
        if operator.attributes.get("noop_with_empty_axes", 0) and not reader.numbers(operator, 1, "axes"):
            reader.add(operator, Identity(), reader.data(operator))
            return
        keep = bool(operator.attributes.get("keepdims", 1))
        reader.add(operator, kind(axes=_axes(reader, operator), keepdims=keep), reader.data(operator))

    return read


def _reduce_max(reader: Reader, operator: Operator) -> None:
    rank, axes = reader.rank(operator), _axes(reader, operator)
    if sorted(axes) != list(range(2, rank)) or not axes:
        reader.unsupported(operator, "a maximum over other than all spatial axes")
    if operator.attributes.get("keepdims", 1):
        reader.add(operator, GlobalMaxPool(), reader.data(operator))
    else:
        pool = reader.add(operator, GlobalMaxPool(), reader.data(operator), last=False)
        reader.add(operator, Squeeze(axis=axes), pool)


def _sample_constant(reader: Reader, operator: Operator, value: Array) -> Array:
    """A constant operand as a scalar, one number a channel, or an array of the sample's shape."""
    rank = reader.rank(operator, 0 if reader.is_constant(operator, 1) else 1)
    if value.ndim > rank or (value.ndim == rank and value.shape[:1] != (1,)):
        reader.unsupported(
            operator, f"its constant of shape {value.shape} has a batch axis, or more axes than the data"
        )
    if value.size == 1:
        return value.reshape(())
    shape = (1,) * (rank - value.ndim) + value.shape
    if all(n == 1 for axis, n in enumerate(shape) if axis != 1):
        return value.reshape(-1)
    whole = reader.shape(operator, operator.outputs[0])[1:]
    if len(whole) != rank - 1 or any(n not in (1, w) for n, w in zip(shape[1:], whole, strict=True)):
        raise LoadError(f"{operator}: its constant of shape {value.shape} does not fit")
    return np.broadcast_to(value.reshape(shape[1:]), whole)


def _add(reader: Reader, operator: Operator) -> None:
    constants = [i for i in range(len(operator.inputs)) if reader.is_constant(operator, i)]
    sources = [reader.data(operator, i) for i in range(len(operator.inputs)) if i not in constants]
    if not constants:
        reader.add(operator, Add(), *sources)
        return
    constant, *others = (reader.weight(operator, i) for i in constants)
    for other in others:
        if len({constant.shape, other.shape, ()}) > 2:
            reader.unsupported(operator, f"its constants have shapes {constant.shape} and {other.shape}")
        constant = constant + other
    reader.add(operator, Add(constant=constant), *sources)


def _sub(reader: Reader, operator: Operator) -> None:
    if reader.is_constant(operator, 1):
        reader.add(operator, Sub(constant=reader.weight(operator, 1)), reader.data(operator))
    elif reader.is_constant(operator, 0):
        bias = _sample_constant(reader, operator, reader.weight(operator, 0))
        reader.add(operator, Scale(weight=np.asarray(-1, bias.dtype), bias=bias), reader.data(operator, 1))
    else:
        reader.add(operator, Sub(), reader.data(operator), reader.data(operator, 1))


SQUASHED = ("Sigmoid", "HardSigmoid", "Softmax", "Tanh")
"""Operators whose output is a gate, when a product has one."""


def _mul(reader: Reader, operator: Operator) -> None:
    for i in (0, 1):
        if reader.is_constant(operator, i):
            weight = _sample_constant(reader, operator, reader.weight(operator, i))
            reader.add(operator, Scale(weight=weight), reader.data(operator, 1 - i))
            return
    signal, gate = 0, 1
    kinds = [reader.makers[t].kind if t in reader.makers else "" for t in operator.inputs]
    if kinds[0] in SQUASHED and kinds[1] not in SQUASHED:
        signal, gate = 1, 0
    squash = reader.makers.get(operator.inputs[gate])
    if squash is not None and squash.inputs[:1] == (operator.inputs[signal],):  # x * sigmoid(x), x * hardsigmoid(x)
        if squash.kind == "Sigmoid":
            reader.add(operator, SiLU(), reader.data(operator, signal))
            return
        if squash.kind == "HardSigmoid" and _is_hard_swish(squash.attributes):
            reader.add(operator, HardSwish(), reader.data(operator, signal))
            return
    reader.add(operator, Mul(), reader.data(operator, signal), reader.data(operator, gate))


def _is_hard_swish(attributes: dict[str, Any]) -> bool:
    return math.isclose(attributes.get("alpha", 0.2), 1 / 6, rel_tol=1e-6) and attributes.get("beta", 0.5) == 0.5


def _div(reader: Reader, operator: Operator) -> None:
    if not reader.is_constant(operator, 1):
        reader.unsupported(operator, "a division by what depends on the data")
    divisor = _sample_constant(reader, operator, reader.weight(operator, 1))
    if not np.all(divisor):
        raise LoadError(f"{operator} divides by 0")
    reader.add(operator, Scale(weight=1 / divisor), reader.data(operator))


def _clip(reader: Reader, operator: Operator) -> None:
    data = 1 if reader.is_constant(operator, 0) else 0
    if operator.kind in ("Max", "Min"):
        if len(operator.inputs) != 2:
            reader.unsupported(operator, "only of a tensor and a constant")
        value = reader.weight(operator, 1 - data)
        bounds = [value, None] if operator.kind == "Max" else [None, value]
    else:
        bounds = [reader.weight(operator, i) for i in (1, 2)]
    if any(bound is not None and (bound.size != 1 or bound.ndim > reader.rank(operator, data)) for bound in bounds):
        reader.unsupported(operator, "bounds that are no single numbers")
    low, high = (None if bound is None else float(bound.reshape(())) for bound in bounds)
    if math.isnan(low or 0) or math.isnan(high or 0) or low == math.inf or high == -math.inf:
        raise LoadError(f"{operator} clips to {low} ... {high}")
    low, high = None if low is None or low < -1e30 else low, None if high is None or high > 1e30 else high
    reader.add(operator, ReLU() if (low, high) == (0, None) else Clip(low=low, high=high), reader.data(operator, data))


def _prelu(reader: Reader, operator: Operator) -> None:
    slope = _sample_constant(reader, operator, reader.weight(operator, 1))
    reader.add(operator, PReLU(slope=slope), reader.data(operator))


def _softmax(reader: Reader, operator: Operator) -> None:
    default = -1 if reader.opset >= 13 else 1
    axis = operator.attributes.get("axis", default)
    if reader.opset < 13 and axis not in (reader.rank(operator) - 1, -1):
        reader.unsupported(operator, "a softmax over several axes at once (opset below 13)")
    reader.add(operator, Softmax(axis=axis), reader.data(operator))


def _identity(reader: Reader, operator: Operator) -> None:
    reader.add(operator, Identity(), reader.data(operator))


def _dropout(reader: Reader, operator: Operator) -> None:
    training = reader.constant(operator, 2)
    if training is not None and bool(np.any(training)):
        raise LoadError(f"{operator} is in training mode: export the network in evaluation mode")
    if len(operator.outputs) > 1 and operator.outputs[1]:
        reader.unsupported(operator, "its mask is used")
    reader.add(operator, Dropout(), reader.data(operator))


def _cast(reader: Reader, operator: Operator) -> None:
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    if operator.attributes.get("to") not in floats or reader.types.get(operator.inputs[0]) not in floats:
        reader.unsupported(operator, "it casts from or to what is no float")
    _identity(reader, operator)


def _concat(reader: Reader, operator: Operator) -> None:
    sources = [reader.data(operator, i) for i in range(len(operator.inputs))]
    axis = operator.attributes.get("axis", 1)
    reader.add(operator, Concat(axis=axis), *sources)


def _flatten(reader: Reader, operator: Operator) -> None:
    axis, rank = operator.attributes.get("axis", 1), reader.rank(operator)
    if (axis + rank if axis < 0 else axis) != 1:
        reader.unsupported(operator, f"axis {axis} would mix the batch with other axes")
    reader.add(operator, Flatten(), reader.data(operator))


def _reshape(reader: Reader, operator: Operator) -> None:
    before, wanted = reader.shape(operator, operator.inputs[0]), reader.numbers(operator, 1, batch_first=True) or []
    if min(wanted, default=0) < -1 or wanted.count(-1) > 1:
        raise LoadError(f"{operator} asks for the shape {wanted}")
    if wanted[:1] == [BATCH] and operator.inputs[1] not in reader.others:
        reader.unsupported(operator, f"the shape {wanted} fixes the batch")
    if not operator.attributes.get("allowzero", 0):
        wanted = [before[i] if n == 0 and i < len(before) else n for i, n in enumerate(wanted)]
    size, known = math.prod(before[1:]), math.prod(n for n in wanted[1:] if n != -1)
    batch_kept = bool(wanted) and wanted[0] in (-1, before[0]) and (-1 in wanted[1:] or known == size)
    if not batch_kept:
        reader.unsupported(operator, f"from {before} to {wanted} it would mix the batch with other axes")
    sample = tuple(wanted[1:])
    flat = len(sample) == 1
    reader.add(operator, Flatten() if flat else Reshape(shape=sample), reader.data(operator))


def _transpose(reader: Reader, operator: Operator) -> None:
    rank = reader.rank(operator)
    axes = tuple(operator.attributes.get("perm", range(rank)[::-1]))
    reader.add(operator, Transpose(axes=axes), reader.data(operator))


def _squeeze(reader: Reader, operator: Operator) -> None:
    axes = reader.numbers(operator, 1, "axes")
    if axes is None:
        shape = reader.shape(operator, operator.inputs[0])
        axes = [axis for axis, n in enumerate(shape) if n == 1]
    reader.add(operator, Squeeze(axis=tuple(axes)) if axes else Identity(), reader.data(operator))


def _unsqueeze(reader: Reader, operator: Operator) -> None:
    axes = reader.numbers(operator, 1, "axes") or []
    rank = reader.rank(operator) + len(axes)
    counted = sorted(axis + rank if axis < 0 else axis for axis in axes)
    source = reader.data(operator)
    for axis in counted[:-1]:
        source = reader.add(operator, Unsqueeze(axis=axis), source, last=False)
    reader.add(operator, Unsqueeze(axis=counted[-1]) if counted else Identity(), source)


def _slice(reader: Reader, operator: Operator) -> None:
    starts, ends = (reader.numbers(operator, i) or [] for i in (1, 2))
    axes, rank = reader.numbers(operator, 3, "", list(range(len(starts)))) or [], reader.rank(operator)
    if not all(-rank <= axis < rank for axis in axes):
        raise LoadError(f"{operator}: axes {axes} of a tensor of {rank} axes")
    axes = [axis % rank for axis in axes]
    steps = reader.numbers(operator, 4, "", [1] * len(starts)) or []
    if not len(starts) == len(ends) == len(axes) == len(steps) == len(set(axes)):
        raise LoadError(f"{operator}: {len(starts)} starts, {len(ends)} ends, axes {axes} and steps {steps}")
    if min(steps, default=1) < 1:
        reader.unsupported(operator, "a step that is not positive")
    stops = [None if end >= 2**31 - 1 else end for end in ends]
    cuts = list(zip(axes, starts, stops, steps, strict=True))
    cuts = [cut for cut in cuts if cut[1:] != (0, None, 1)]
    source = reader.data(operator)
    for axis, start, end, step in cuts[:-1]:
        source = reader.add(operator, Slice(axis=axis, start=start, stop=end, step=step), source, last=False)
    layer: Layer = Identity()
    if cuts:
        axis, start, end, step = cuts[-1]
        layer = Slice(axis=axis, start=start, stop=end, step=step)
    reader.add(operator, layer, source)


def _split(reader: Reader, operator: Operator) -> None:
    axis, length = _axis(reader, operator)
    parts, count = reader.numbers(operator, 1, "split"), len(operator.outputs)
    if parts is None:
        each = -(-length // count)
        parts = [min(each, length - i * each) for i in range(count)]
    if len(parts) != count or min(parts) < 0 or sum(parts) != length:
        raise LoadError(f"{operator} splits {length} into {parts} for {count} outputs")
    start, source = 0, reader.data(operator)
    for i, part in enumerate(parts):
        if operator.outputs[i]:
            reader.add(operator, Slice(axis=axis, start=start, stop=start + part), source, output=i)
        start += part


def _tile(reader: Reader, operator: Operator) -> None:
    repeats, rank = reader.numbers(operator, 1) or [], reader.rank(operator)
    if len(repeats) != rank or min(repeats, default=1) < 1:
        raise LoadError(f"{operator} repeats an input of {rank} axes {repeats} times, need a number >= 1 for each axis")
    if repeats[:1] != [1] and repeats:
        reader.unsupported(operator, "it repeats the batch")
    source, tiled = reader.data(operator), [axis for axis, n in enumerate(repeats) if n > 1]
    if math.prod(repeats) > LONGEST_SIDE:
        raise LoadError(f"{operator} repeats each value {math.prod(repeats)} times, more than {LONGEST_SIDE}")
    for axis in tiled[:-1]:
        source = reader.add(operator, Concat(axis=axis), *[source] * repeats[axis], last=False)
    if tiled:
        reader.add(operator, Concat(axis=tiled[-1]), *[source] * repeats[tiled[-1]])
    else:
        reader.add(operator, Identity(), source)


def _axis(reader: Reader, operator: Operator) -> tuple[int, int]:
    """The axis that an operator works on, and its length."""
    axis, shape = operator.attributes.get("axis", 0), reader.shape(operator, operator.inputs[0])
    if not -len(shape) <= axis < len(shape):
        raise LoadError(f"{operator}: axis {axis} of a tensor of shape {shape}")
    return axis % len(shape), shape[axis]


def _gather(reader: Reader, operator: Operator) -> None:
    (axis, length), index = _axis(reader, operator), np.asarray(reader.constant(operator, 1))
    chosen = [i + length if i < 0 else i for i in reader.numbers(operator, 1) or []]
    if min(chosen, default=0) < 0 or max(chosen, default=0) >= length:
        raise LoadError(f"{operator} reads entries {min(chosen)} to {max(chosen)} of {length}")
    if not chosen or chosen != list(range(chosen[0], chosen[0] + len(chosen))) or index.ndim > 1:
        reader.unsupported(operator, "indices that are no run, one after the other")
    cut = Slice(axis=axis, start=chosen[0], stop=chosen[0] + len(chosen))
    if index.ndim:
        reader.add(operator, cut, reader.data(operator))
    else:
        reader.add(operator, Squeeze(axis=axis), reader.add(operator, cut, reader.data(operator), last=False))


def _pad(reader: Reader, operator: Operator) -> None:
    if operator.attributes.get("mode", "constant") != "constant":
        reader.unsupported(operator, "only padding by a constant is read")
    flat, axes = reader.numbers(operator, 1) or [], reader.numbers(operator, 3)
    value = reader.constant(operator, 2)
    if value is not None and np.any(value):
        reader.unsupported(operator, "padding by other than 0")
    rank = reader.rank(operator)
    where = [axis + rank if axis < 0 else axis for axis in (range(rank) if axes is None else axes)]
    if len(flat) != 2 * len(where) or len(set(where)) != len(where) or not set(where) <= set(range(rank)):
        raise LoadError(f"{operator}: {len(flat)} pads for axes {where}")
    padding = [(0, 0)] * rank
    for axis, before, after in zip(where, flat[: len(where)], flat[len(where) :], strict=True):
        padding[axis] = (int(before), int(after))
    if padding[0] != (0, 0):
        reader.unsupported(operator, "it pads the batch")
    if min(min(pair) for pair in padding) < 0:
        raise LoadError(f"{operator}: negative pads {padding}")
    sample = (reader.shapes.get(operator.inputs[0]) or ())[1:]
    refuse_size(operator, [(n or 1) + sum(pair) for n, pair in zip(sample, padding[1:], strict=True)])
    reader.add(operator, Pad(padding=padding[1:]), reader.data(operator))


def _resize(reader: Reader, operator: Operator) -> None:
    attributes = operator.attributes
    mode = attributes.get("mode", "nearest")
    scales, size = reader.weight(operator, 2), reader.numbers(operator, 3, batch_first=True)
    if "axes" in attributes or attributes.get("antialias", 0) or mode not in ("nearest", "linear"):
        reader.unsupported(operator, f"mode {mode!r}, axes or antialias")
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        reader.unsupported(operator, "a keep_aspect_ratio_policy")
    scale = None if size or scales is None else scales.reshape(-1).tolist()
    before = reader.shape(operator, operator.inputs[0])
    after = [side * factor for side, factor in zip(before, scale, strict=False)] if scale else size or []
    if len(size or scale or ()) != len(before) or not all(0 < side <= LONGEST_SIDE for side in after[2:]):
        raise LoadError(f"{operator} resizes {before} to {after}: need from 1 to {LONGEST_SIDE} cells along each axis")
    if (size and tuple(size[:2]) != before[:2]) or (scale and scale[:2] != [1, 1]):
        reader.unsupported(operator, "it resizes the batch or the channels")
    layer = Resize(
        size=size[2:] if size else None,
        scale=scale[2:] if scale else None,
        mode=mode,
        coordinates=attributes.get("coordinate_transformation_mode", "half_pixel"),
        **({"rounding": attributes.get("nearest_mode", "round_prefer_floor")} if mode == "nearest" else {}),
    )
    reader.add(operator, layer, reader.data(operator))


def _depth_to_space(reader: Reader, operator: Operator) -> None:
    block, mode = operator.attributes.get("blocksize", 0), operator.attributes.get("mode", "DCR")
    reader.add(operator, DepthToSpace(block=block, mode=mode), reader.data(operator))


def _space_to_depth(reader: Reader, operator: Operator) -> None:
    reader.add(operator, SpaceToDepth(block=operator.attributes.get("blocksize", 0)), reader.data(operator))


def _selu(reader: Reader, operator: Operator) -> None:
    for name, usual in (("alpha", 1.6732632), ("gamma", 1.0507010)):
        if not math.isclose(operator.attributes.get(name, usual), usual, rel_tol=1e-6):
            reader.unsupported(operator, f"{name} is not {usual}")
    reader.add(operator, SELU(), reader.data(operator))


def _gelu(attributes: dict[str, Any]) -> Layer:
    approximate = attributes.get("approximate", "none")
    return GELU(approximate="tanh" if approximate == "tanh" else "none")


def supported() -> dict[str, tuple[str, ...]]:
    """The operators that can be read, and the layers that each becomes."""
    return {kind: READ_AS[kind] for kind in sorted(OPERATORS)}


OPERATORS: dict[str, Callable[[Reader, Operator], None]] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Celu": _activation(lambda a: CELU(alpha=as_decimal(a.get("alpha", 1.0)))),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Dropout": _dropout,
    "Elu": _activation(lambda a: ELU(alpha=as_decimal(a.get("alpha", 1.0)))),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _activation(_gelu),
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool(GlobalAvgPool()),
    "GlobalMaxPool": _global_pool(GlobalMaxPool()),
    "HardSigmoid": _activation(lambda a: HardSigmoid(slope=a.get("alpha", 0.2), offset=a.get("beta", 0.5))),
    "HardSwish": _activation(lambda a: HardSwish()),
    "Identity": _identity,
    "LeakyRelu": _activation(lambda a: LeakyReLU(slope=as_decimal(a.get("alpha", 0.01)))),
    "MatMul": _matmul,
    "Max": _clip,
    "MaxPool": _max_pool,
    "Min": _clip,
    "Mul": _mul,
    "Neg": _activation(lambda a: Scale(weight=-1.0)),
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMax": _reduce_max,
    "ReduceMean": _reduce(Mean),
    "ReduceSum": _reduce(Sum),
    "Relu": _activation(lambda a: ReLU()),
    "Reshape": _reshape,
    "Resize": _resize,
    "Selu": _selu,
    "Sigmoid": _activation(lambda a: Sigmoid()),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _activation(lambda a: Softplus()),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _sub,
    "Sum": _add,
    "Tanh": _activation(lambda a: Tanh()),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""What reads each operator that depends on the data."""

READ_AS: dict[str, tuple[str, ...]] = {
    "Add": ("Add",),
    "AveragePool": ("AvgPool",),
    "BatchNormalization": ("BatchNorm",),
    "Cast": ("Identity",),
    "Celu": ("CELU",),
    "Clip": ("ReLU", "Clip"),
    "Concat": ("Concat",),
    "Conv": ("Conv",),
    "ConvTranspose": ("ConvTranspose",),
    "DepthToSpace": ("DepthToSpace",),
    "Div": ("Scale",),
    "Dropout": ("Dropout",),
    "Elu": ("ELU",),
    "Flatten": ("Flatten",),
    "Gather": ("Slice", "Squeeze"),
    "Gelu": ("GELU",),
    "Gemm": ("Dense",),
    "GlobalAveragePool": ("GlobalAvgPool",),
    "GlobalMaxPool": ("GlobalMaxPool",),
    "HardSigmoid": ("HardSigmoid",),
    "HardSwish": ("HardSwish",),
    "Identity": ("Identity",),
    "LeakyRelu": ("LeakyReLU",),
    "MatMul": ("Dense",),
    "Max": ("ReLU", "Clip"),
    "MaxPool": ("MaxPool",),
    "Min": ("Clip",),
    "Mul": ("Scale", "Mul", "SiLU", "HardSwish", "GELU"),
    "Neg": ("Scale",),
    "PRelu": ("PReLU",),
    "Pad": ("Pad",),
    "ReduceMax": ("GlobalMaxPool", "Squeeze"),
    "ReduceMean": ("Mean", "Identity"),
    "ReduceSum": ("Sum", "Identity"),
    "Relu": ("ReLU",),
    "Reshape": ("Reshape", "Flatten"),
    "Resize": ("Resize",),
    "Selu": ("SELU",),
    "Sigmoid": ("Sigmoid",),
    "Slice": ("Slice", "Identity"),
    "Softmax": ("Softmax",),
    "Softplus": ("Softplus",),
    "SpaceToDepth": ("SpaceToDepth",),
    "Split": ("Slice",),
    "Squeeze": ("Squeeze", "Identity"),
    "Sub": ("Sub", "Scale"),
    "Sum": ("Add",),
    "Tanh": ("Tanh",),
    "Tile": ("Concat", "Identity"),
    "Transpose": ("Transpose",),
    "Unsqueeze": ("Unsqueeze",),
}
"""The layers that each operator can become."""
