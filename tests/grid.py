"""The test grid: small layers with dyadic parameters, each beside the list of its connections by definition.

Every layer that freezes to a linear map stands here, in its corners: windows that do not fit evenly, cells that no
window reads, outputs that read only padding, weights of one sign and of 0. The referee loops over single connections,
so no case has more than about 60 inputs or outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import by_definition as by
import numpy as np

from lrp_ref import fractions
from lrp_ref.layers import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    DepthToSpace,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Identity,
    Layer,
    LeakyReLU,
    MaxPool,
    Mean,
    Near,
    Pad,
    ReLU,
    Reshape,
    Resize,
    Scale,
    Slice,
    SpaceToDepth,
    Squeeze,
    Sub,
    Sum,
    SumPool,
    Transpose,
    Unsqueeze,
    Upsample,
)

Shape = tuple[int, ...]
Make = Callable[[tuple[Any, ...]], by.Operator]
Kind = Literal["signed", "zeros", "ties", "positive"]


@dataclass(frozen=True)
class Case:
    """A layer, the shapes of its inputs (one sample), and by definition what it freezes to at one sample's inputs."""

    id: str
    layer: Layer
    shapes: tuple[Shape, ...]
    operator: Make
    values: Make | None = None
    """The operator whose outputs are the layer's own, where those of the frozen map may differ."""


def sample(case: Case, rng: np.random.Generator, batch: int, kind: Kind = "signed") -> tuple[np.ndarray, ...]:
    """Dyadic inputs with a batch axis: of both signs; mostly 0; of two values, so that windows tie; or above 0."""
    return tuple(_values((batch, *shape), rng, kind) for shape in case.shapes)


def _values(shape: Shape, rng: np.random.Generator, kind: Kind) -> np.ndarray:
    if kind == "ties":
        return rng.choice([-0.5, 0.75], shape)
    if kind == "positive":
        return rng.integers(1, 17, shape) / 8
    values = rng.integers(-12, 13, shape)
    return values * (rng.random(shape) < 0.4) / 8 if kind == "zeros" else values / 8


def relevance(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Dyadic relevance of both signs, a fifth of it 0."""
    return rng.integers(-8, 9, shape) * (rng.random(shape) < 0.8) / 8


# --- parameters


def eighths(*shape: int, column: int | None = None) -> np.ndarray:
    """Eighths of both signs and 0; along axis `column` the first all above 0, the second all below, the fourth 0."""
    rng = np.random.default_rng(sum(shape) + math.prod(shape))
    values = rng.integers(-8, 9, shape) * (rng.random(shape) < 0.8)
    if column is not None and shape[column] > 2:
        columns = np.moveaxis(values, column, 0)
        columns[0], columns[1], columns[3:4] = abs(columns[0]) + 1, -abs(columns[1]) - 1, 0
    return values / 8


def each(value: Any, n: int) -> list[int]:
    """One number an axis."""
    return [value] * n if isinstance(value, int) else list(value)


def around(padding: Any, n: int) -> list[tuple[int, int]]:
    """(before, after) for each axis."""
    return [(p, p) if isinstance(p, int) else tuple(p) for p in each(padding, n)]


# --- cases


def always(operator: by.Operator) -> Make:
    """The same operator at every sample."""
    return lambda inputs: operator


def at_input(make: Callable[..., by.Operator], *parameters: Any) -> Make:
    """An operator frozen at the one input, whatever carries its numbers."""
    return lambda inputs: make(fractions(inputs[0]), *parameters)


def dense(id: str, *lead: int, inputs: int, outputs: int, bias: bool = True) -> Case:
    W, b = eighths(inputs, outputs, column=1), eighths(outputs) if bias else None
    operator = by.dense(W.tolist(), None if b is None else b.tolist(), lead)
    return Case(id, Dense(W, b), ((*lead, inputs),), always(operator))


def conv(
    id: str,
    shape: Shape,
    outputs: int,
    kernel: Shape,
    bias: bool = True,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Case:
    n = len(kernel)
    K, b = eighths(outputs, shape[0] // groups, *kernel, column=0), eighths(outputs) if bias else None
    layer = Conv(K, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    lists = K.tolist(), None if b is None else b.tolist()
    operator = by.conv(*lists, shape, each(stride, n), around(padding, n), each(dilation, n), groups)
    return Case(id, layer, (shape,), always(operator))


def transposed(
    id: str,
    shape: Shape,
    outputs: int,
    kernel: Shape,
    bias: bool = True,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Case:
    n = len(kernel)
    K, b = eighths(shape[0], outputs // groups, *kernel, column=1), eighths(outputs) if bias else None
    layer = ConvTranspose(
        K, b, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups
    )
    lists = K.tolist(), None if b is None else b.tolist()
    spread = each(stride, n), around(padding, n), each(dilation, n), groups, each(output_padding, n)
    return Case(id, layer, (shape,), always(by.conv_transpose(*lists, shape, *spread)))


def avg_pool(
    id: str, shape: Shape, kernel: Any, stride: Any = None, padding: Any = 0, ceil: bool = False, count: bool = True
) -> Case:
    n = len(shape) - 1
    layer = AvgPool(kernel, stride=stride, padding=padding, ceil=ceil, count_include_pad=count)
    steps = each(kernel if stride is None else stride, n)
    operator = by.avg_pool(shape, each(kernel, n), steps, around(padding, n), ceil, count)
    return Case(id, layer, (shape,), always(operator))


def sum_pool(id: str, shape: Shape, kernel: Any, stride: Any = None, padding: Any = 0, ceil: bool = False) -> Case:
    n = len(shape) - 1
    steps = each(kernel if stride is None else stride, n)
    operator = by.sum_pool(shape, each(kernel, n), steps, around(padding, n), ceil)
    return Case(id, SumPool(kernel, stride=stride, padding=padding, ceil=ceil), (shape,), always(operator))


def max_pool(
    id: str,
    shape: Shape,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
    ties: Any = "first",
    average: bool = False,
) -> Case:
    n = len(shape) - 1
    spread = each(kernel, n), each(kernel if stride is None else stride, n), around(padding, n), each(dilation, n)
    options = {"ties": ties, "frozen_as": "average" if average else "winner"}
    layer = MaxPool(kernel, stride=stride, padding=padding, dilation=dilation, ceil=ceil, **options)
    winner = at_input(by.max_pool, shape, *spread, ceil, loops_ties(ties))
    frozen = always(by.max_pool_as_average(shape, *spread, ceil)) if average else winner
    return Case(id, layer, (shape,), frozen, at_input(by.max_pool, shape, *spread, ceil))


def global_max_pool(id: str, shape: Shape, ties: Any = "first", average: bool = False) -> Case:
    layer = GlobalMaxPool(ties=ties, frozen_as="average" if average else "winner")
    winner = at_input(by.global_max_pool, shape, loops_ties(ties))
    frozen = always(by.global_avg_pool(shape)) if average else winner
    return Case(id, layer, (shape,), frozen, at_input(by.global_max_pool, shape))


def adaptive(id: str, shape: Shape, size: Any) -> Case:
    operator = by.adaptive_avg_pool(shape, kept(size, shape))
    return Case(id, AdaptiveAvgPool(size), (shape,), always(operator))


def adaptive_max(id: str, shape: Shape, size: Any, ties: Any = "first", average: bool = False) -> Case:
    layer, sizes = AdaptiveMaxPool(size, ties=ties, frozen_as="average" if average else "winner"), kept(size, shape)
    winner = at_input(by.adaptive_max_pool, shape, sizes, loops_ties(ties))
    frozen = always(by.adaptive_avg_pool(shape, sizes)) if average else winner
    return Case(id, layer, (shape,), frozen, at_input(by.adaptive_max_pool, shape, sizes))


def kept(size: Any, shape: Shape) -> list[int]:
    """The sizes of an adaptive pool, with None as the input's own."""
    n = len(shape) - 1
    each = size if isinstance(size, tuple) else (size,) * n
    return [own if given is None else given for given, own in zip(each, shape[1:], strict=True)]


def resize(
    id: str,
    shape: Shape,
    size: Any = None,
    scale: Any = None,
    mode: Any = "linear",
    coordinates: Any = "half_pixel",
    rounding: Any = "floor",
) -> Case:
    layer, n = Resize(size, scale, mode, coordinates, rounding), len(shape) - 1
    scales = scale if isinstance(scale, tuple) else (scale,) * n
    if size is None:
        sizes = [math.floor(cells * factor) for cells, factor in zip(shape[1:], scales, strict=True)]
        steps = [1 / Fraction(factor) for factor in scales]
    else:
        sizes = each(size, n)
        steps = [Fraction(cells, count) for cells, count in zip(shape[1:], sizes, strict=True)]
    return Case(id, layer, (shape,), always(by.resize(shape, sizes, steps, mode, coordinates, rounding)))


def loops_ties(ties: Any) -> by.Ties:
    """The referee's word for the same treatment of ties."""
    return ("near", ties.rtol) if isinstance(ties, Near) else ties


def fixed(id: str, layer: Layer, operator: by.Operator, *shapes: Shape) -> Case:
    return Case(id, layer, shapes or (operator.inputs,), always(operator))


def activation(id: str, layer: Layer, shape: Shape, slope: float) -> Case:
    """A wire, whose values are the inputs times 1 where they are positive, else times the slope."""

    def values(inputs: tuple[Any, ...]) -> by.Operator:
        return by.scale(np.where(fractions(inputs[0]) > 0, 1.0, slope).tolist(), None, shape)

    return Case(id, layer, (shape,), always(by.identity(shape)), values)


DENSE = [
    dense("dense", inputs=5, outputs=4),
    dense("dense-no-bias", inputs=4, outputs=5, bias=False),
    dense("dense-one-output", inputs=6, outputs=1),
    dense("dense-tokens", 3, inputs=4, outputs=5),
    dense("dense-two-lead-axes", 2, 2, inputs=3, outputs=3),
]

CONV = [
    conv("conv1d", (2, 6), 3, (3,)),
    conv("conv1d-no-bias", (1, 7), 4, (2,), bias=False),
    conv("conv1d-pointwise", (4, 3), 3, (1,)),
    conv("conv1d-stride-uneven", (2, 8), 3, (3,), stride=2),
    conv("conv1d-stride-above-kernel", (2, 9), 3, (2,), stride=4),
    conv("conv1d-padding", (2, 5), 3, (3,), padding=1),
    conv("conv1d-padding-before-after", (1, 5), 3, (3,), padding=((0, 2),), stride=2),
    conv("conv1d-padding-above-kernel", (1, 3), 3, (2,), padding=3),
    conv("conv1d-dilation", (2, 8), 3, (3,), dilation=3),
    conv("conv1d-kernel-above-input", (2, 2), 3, (4,), padding=2),
    conv("conv1d-size-1", (3, 1), 3, (1,), stride=2),
    conv("conv2d", (2, 4, 5), 3, (2, 3)),
    conv("conv2d-no-bias", (1, 4, 4), 3, (3, 3), bias=False),
    conv("conv2d-stride-uneven", (1, 6, 5), 3, (3, 2), stride=(2, 3)),
    conv("conv2d-padding-per-axis", (2, 4, 3), 3, (3, 3), padding=(1, 0)),
    conv("conv2d-padding-before-after", (1, 3, 4), 3, (2, 3), padding=((0, 1), (2, 0)), stride=(1, 2)),
    conv("conv2d-padding-above-kernel", (2, 2, 2), 3, (2, 1), padding=(2, 1)),
    conv("conv2d-dilation", (1, 6, 5), 3, (2, 3), dilation=(4, 2)),
    conv("conv2d-groups", (4, 3, 4), 6, (2, 2), groups=2),
    conv("conv2d-depthwise", (3, 4, 4), 6, (3, 3), groups=3, padding=1, stride=2),
    conv("conv2d-size-1", (3, 1, 4), 3, (1, 3), padding=(0, 1)),
    conv("conv2d-kernel-above-input", (2, 2, 1), 3, (3, 3), padding=1),
    conv("conv2d-all-options", (4, 3, 5), 4, (2, 3), stride=2, padding=((1, 2), (0, 3)), dilation=(2, 1), groups=2),
    conv("conv3d", (1, 3, 3, 3), 3, (2, 2, 2)),
    conv(
        "conv3d-all-options",
        (2, 2, 4, 3),
        4,
        (2, 2, 1),
        stride=(1, 2, 2),
        padding=(1, 0, 0),
        dilation=(1, 2, 1),
        groups=2,
    ),
    conv("conv3d-padding-before-after", (1, 2, 3, 2), 3, (1, 3, 2), padding=((0, 0), (1, 0), (2, 1)), bias=False),
]

CONV_TRANSPOSE = [
    transposed("transposed1d", (2, 4), 3, (3,)),
    transposed("transposed1d-no-bias", (2, 3), 3, (2,), bias=False, stride=2),
    transposed("transposed1d-stride-above-kernel", (2, 4), 3, (2,), stride=3),
    transposed("transposed1d-padding", (2, 5), 3, (3,), padding=1, stride=2),
    transposed("transposed1d-padding-before-after", (1, 5), 3, (3,), padding=((2, 0),)),
    transposed("transposed1d-padding-drops-inputs", (2, 5), 3, (2,), padding=2),
    transposed("transposed1d-output-padding", (2, 3), 3, (3,), stride=2, padding=1, output_padding=1),
    transposed("transposed1d-output-padding-above-stride", (1, 4), 3, (2,), stride=1, dilation=3, output_padding=2),
    transposed("transposed1d-groups", (4, 3), 6, (2,), groups=2, stride=2),
    transposed("transposed2d", (2, 3, 2), 3, (2, 2)),
    transposed("transposed2d-stride-padding", (1, 2, 3), 3, (3, 2), stride=2, padding=(1, 0)),
    transposed("transposed2d-padding-before-after", (1, 3, 3), 3, (3, 3), padding=((0, 1), (2, 0))),
    transposed("transposed2d-dilation", (2, 2, 3), 3, (2, 2), dilation=(2, 1), padding=1),
    transposed("transposed2d-depthwise", (3, 2, 2), 3, (2, 2), groups=3, stride=(2, 1)),
    transposed("transposed2d-size-1", (3, 1, 3), 3, (1, 2)),
    transposed(
        "transposed2d-all-options",
        (4, 2, 1),
        2,
        (2, 2),
        stride=(2, 1),
        padding=((1, 0), (0, 1)),
        output_padding=(1, 2),
        dilation=(1, 3),
        groups=2,
    ),
    transposed("transposed3d", (1, 2, 2, 2), 1, (2, 2, 2)),
    transposed(
        "transposed3d-all-options",
        (2, 1, 2, 2),
        4,
        (2, 1, 2),
        stride=(1, 2, 1),
        padding=((1, 0), (0, 1), (0, 0)),
        output_padding=(0, 1, 1),
        dilation=(1, 1, 2),
        groups=2,
    ),
]

POOL = [
    avg_pool("avg-pool1d", (2, 6), 2),
    avg_pool("avg-pool1d-uneven", (1, 7), 3),
    avg_pool("avg-pool1d-stride-above-kernel", (2, 7), 2, stride=4),
    avg_pool("avg-pool2d", (2, 4, 4), 2),
    avg_pool("avg-pool2d-overlapping", (1, 4, 5), (3, 2), stride=1),
    avg_pool("avg-pool2d-padding", (2, 4, 4), 3, stride=2, padding=1),
    avg_pool("avg-pool2d-padding-not-counted", (2, 4, 4), 3, stride=2, padding=1, count=False),
    avg_pool("avg-pool2d-padding-before-after", (1, 4, 4), (2, 3), stride=2, padding=((1, 0), (0, 2))),
    avg_pool("avg-pool2d-ceil", (1, 5, 6), (2, 4), ceil=True),
    avg_pool("avg-pool2d-ceil-padding", (1, 5, 6), 3, stride=2, padding=1, ceil=True),
    avg_pool("avg-pool2d-ceil-padding-not-counted", (1, 5, 6), 3, stride=2, padding=1, ceil=True, count=False),
    avg_pool("avg-pool2d-ceil-drops-window", (1, 5, 3), 2, stride=(3, 2), padding=1, ceil=True),
    avg_pool("avg-pool3d", (1, 4, 2, 4), (2, 2, 3), stride=(2, 1, 1), padding=(0, 1, 1)),
    avg_pool("avg-pool2d-ceil-kernel-above-input", (2, 2, 3), (3, 2), stride=2, ceil=True),
    sum_pool("sum-pool1d", (2, 5), 2, stride=1),
    sum_pool("sum-pool2d-ceil-padding", (2, 4, 5), (2, 3), padding=(1, 0), ceil=True),
    max_pool("max-pool1d", (2, 6), 2),
    max_pool("max-pool1d-stride-above-kernel", (2, 8), 2, stride=3),
    max_pool("max-pool2d", (2, 4, 4), 2),
    max_pool("max-pool2d-overlapping", (1, 5, 4), (3, 2), stride=1),
    max_pool("max-pool2d-padding", (2, 4, 4), 3, stride=2, padding=1),
    max_pool("max-pool2d-padding-before-after", (1, 4, 4), 3, stride=1, padding=((2, 0), (0, 1))),
    max_pool("max-pool2d-dilation", (1, 5, 6), 2, stride=1, dilation=(2, 3), padding=(0, 1)),
    max_pool("max-pool2d-ceil", (1, 5, 6), (2, 4), ceil=True),
    max_pool("max-pool2d-shared", (2, 4, 4), 2, ties="shared"),
    max_pool("max-pool2d-shared-padding-ceil", (1, 4, 6), 3, stride=2, padding=1, ceil=True, ties="shared"),
    max_pool("max-pool2d-near", (2, 4, 4), 2, ties=Near(0.25)),
    max_pool("max-pool2d-near-padding", (1, 4, 5), 3, stride=2, padding=1, ties=Near(0.5)),
    max_pool("max-pool2d-average", (2, 4, 4), 2, average=True),
    max_pool("max-pool2d-average-padding-ceil", (1, 4, 6), 3, stride=2, padding=1, ceil=True, average=True),
    max_pool("max-pool2d-average-dilation", (1, 5, 5), 2, stride=1, dilation=2, average=True),
    max_pool("max-pool3d", (1, 4, 2, 4), 2, padding=(1, 0, 0)),
    fixed("global-avg-pool1d", GlobalAvgPool(), by.global_avg_pool((3, 4))),
    fixed("global-avg-pool2d", GlobalAvgPool(), by.global_avg_pool((2, 3, 3))),
    global_max_pool("global-max-pool1d", (3, 4)),
    global_max_pool("global-max-pool2d-shared", (2, 3, 3), ties="shared"),
    global_max_pool("global-max-pool2d-near", (2, 3, 3), ties=Near(0.5)),
    global_max_pool("global-max-pool2d-average", (2, 3, 3), average=True),
    adaptive("adaptive-avg-pool1d", (2, 7), 3),
    adaptive("adaptive-avg-pool2d", (1, 4, 6), 2),
    adaptive("adaptive-avg-pool2d-uneven", (1, 7, 5), (4, 3)),
    adaptive("adaptive-avg-pool2d-larger", (1, 3, 4), (5, None)),
    adaptive("adaptive-avg-pool3d", (1, 3, 2, 4), (2, 1, 3)),
    adaptive_max("adaptive-max-pool1d", (2, 7), 3),
    adaptive_max("adaptive-max-pool2d-uneven", (1, 7, 5), (4, 3)),
    adaptive_max("adaptive-max-pool2d-shared", (1, 5, 5), (3, None), ties="shared"),
    adaptive_max("adaptive-max-pool2d-near", (1, 5, 4), 3, ties=Near(0.5)),
    adaptive_max("adaptive-max-pool2d-average", (1, 5, 4), 3, average=True),
    adaptive_max("adaptive-max-pool3d", (1, 3, 2, 4), (2, 1, 3)),
]

RESIZE = [
    resize("resize1d", (2, 3), size=5),
    resize("resize1d-smaller", (2, 7), size=3),
    resize("resize1d-corners", (2, 3), size=5, coordinates="align_corners"),
    resize("resize1d-corners-to-one", (2, 3), size=1, coordinates="align_corners"),
    resize("resize1d-to-one", (2, 4), size=1, coordinates="pytorch_half_pixel"),
    resize("resize1d-from-one", (3, 1), size=3),
    resize("resize1d-scale-uneven", (1, 5), scale=1.5),
    resize("resize2d", (1, 3, 4), scale=2),
    resize("resize2d-per-axis", (1, 3, 4), size=(2, 7)),
    resize("resize2d-asymmetric", (1, 3, 2), scale=(2.5, 2), coordinates="asymmetric"),
    resize("resize2d-corners", (1, 3, 4), size=(5, 3), coordinates="align_corners"),
    resize("resize2d-pytorch", (1, 3, 4), scale=(Fraction(4, 3), 0.25), coordinates="pytorch_half_pixel"),
    resize("resize3d", (1, 2, 3, 2), size=(3, 2, 3)),
    resize("resize-nearest1d", (2, 4), size=6, mode="nearest", coordinates="asymmetric"),
    resize("resize-nearest1d-floor", (2, 4), size=7, mode="nearest"),
    resize("resize-nearest1d-smaller", (2, 7), size=3, mode="nearest", rounding="ceil"),
    resize("resize-nearest1d-half", (1, 6), size=3, mode="nearest", rounding="round_prefer_floor"),
    resize("resize-nearest1d-half-up", (1, 6), size=3, mode="nearest", rounding="round_prefer_ceil"),
    resize("resize-nearest2d", (1, 3, 4), scale=(2, 0.75), mode="nearest", rounding="round_prefer_ceil"),
    resize("resize-nearest2d-corners", (1, 3, 4), size=(5, 3), mode="nearest", coordinates="align_corners"),
]

CHANNEL = [0.75, -1.25, 0.0]
SHIFT = [0.5, -0.25, 1.0]
FULL = [[0.5, -1.0, 0.0], [2.0, 0.125, -0.75]]

NORM = [
    fixed("batch-norm", BatchNorm(CHANNEL, SHIFT), by.batch_norm(CHANNEL, SHIFT, (3,))),
    fixed("batch-norm-2d", BatchNorm(CHANNEL, SHIFT), by.batch_norm(CHANNEL, SHIFT, (3, 2, 2))),
    fixed("scale", Scale(-1.5, 0.25), by.scale(-1.5, 0.25, (2, 3))),
    fixed("scale-no-bias", Scale(0.5), by.scale(0.5, None, (2, 3))),
    fixed("scale-per-channel", Scale(CHANNEL, SHIFT), by.scale(CHANNEL, SHIFT, (3, 4))),
    fixed("scale-full", Scale(FULL, 0.5), by.scale(FULL, 0.5, (2, 3))),
    fixed("scale-full-bias", Scale(0.5, FULL), by.scale(0.5, FULL, (2, 3))),
]


def merge(id: str, layer: Layer, make: Callable[..., by.Operator], *shapes: Shape, **options: Any) -> Case:
    """A layer of several inputs, whose definition takes their shapes."""
    return Case(id, layer, shapes, always(make(shapes, **options)))


MERGE = [
    merge("add", Add(), by.add, (2, 3), (2, 3)),
    merge("add-three", Add(), by.add, (4,), (4,), (4,)),
    merge("add-broadcast", Add(), by.add, (2, 3, 2), (2, 1, 1), (1, 3, 1)),
    merge("add-broadcast-both", Add(), by.add, (2, 1), (1, 3)),
    merge("add-constant", Add(constant=FULL), by.add, (2, 3), (2, 3), constant=FULL),
    merge("add-constant-scalar", Add(constant=0.25), by.add, (2, 3), (2, 3), constant=0.25),
    merge("add-constant-only", Add(constant=SHIFT), by.add, (2, 3), constant=SHIFT),
    merge("add-constant-larger", Add(constant=FULL), by.add, (1, 3), constant=FULL),
    merge("sub", Sub(), by.sub, (2, 3), (2, 3)),
    merge("sub-broadcast", Sub(), by.sub, (2, 1), (1, 3)),
    merge("sub-constant", Sub(constant=SHIFT), by.sub, (2, 3), constant=SHIFT),
    merge("concat", Concat(), by.concat, (2,), (3,), axis=0),
    merge("concat-three-channels", Concat(axis=1), by.concat, (2, 2, 2), (1, 2, 2), (3, 2, 2), axis=0),
    merge("concat-last-axis", Concat(axis=-1), by.concat, (2, 3), (2, 1), axis=1),
    fixed("sum", Sum(1), by.sum_over((3, 4), [0])),
    fixed("sum-all-negative-axes", Sum((-1, -2)), by.sum_over((3, 4), [0, 1])),
    fixed("sum-keepdims", Sum((2,), keepdims=True), by.sum_over((2, 3, 2), [1], True)),
    fixed("mean", Mean(2), by.mean_over((3, 3), [1])),
    fixed("mean-two-axes", Mean((1, 3)), by.mean_over((2, 2, 3), [0, 2])),
    fixed("mean-keepdims", Mean((-1, -2), keepdims=True), by.mean_over((2, 2, 3), [1, 2], True)),
]

WIRES = [
    fixed("identity", Identity(), by.identity((2, 3))),
    fixed("dropout", Dropout(p=0.25), by.identity((4,))),
    activation("relu", ReLU(), (3, 4), 0.0),
    activation("leaky-relu", LeakyReLU(slope=0.25), (5,), 0.25),
    fixed("flatten", Flatten(), by.flatten((2, 3, 2))),
    fixed("reshape", Reshape((3, 4)), by.reshape((2, 6), (3, 4))),
    fixed("reshape-free", Reshape((2, -1, 2)), by.reshape((12,), (2, 3, 2))),
    fixed("transpose", Transpose((0, 3, 1, 2)), by.transpose((2, 3, 4), (2, 0, 1))),
    fixed("squeeze", Squeeze(2), by.squeeze((3, 1, 2), 1)),
    fixed("squeeze-two", Squeeze((1, -1)), by.reshape((1, 4, 1), (4,))),
    fixed("unsqueeze", Unsqueeze(1), by.unsqueeze((3, 2), 0)),
    fixed("unsqueeze-last", Unsqueeze(-1), by.unsqueeze((3, 2), 2)),
    fixed("slice", Slice(1, 1, 3), by.slice_((4, 2), [slice(1, 3)])),
    fixed("slice-step", Slice(-1, 1, None, 2), by.slice_((2, 6), [slice(None), slice(1, None, 2)])),
    fixed("slice-from-end", Slice(1, -2), by.slice_((4, 2), [slice(-2, None)])),
    fixed("pad", Pad(((0, 0), (1, 2))), by.pad((2, 3), [(0, 0), (1, 2)])),
    fixed("pad-channels", Pad(((1, 0), (0, 1), (1, 0))), by.pad((1, 2, 3), [(1, 0), (0, 1), (1, 0)])),
    fixed("upsample", Upsample(2), by.upsample((2, 2, 3), (2, 2))),
    fixed("upsample-per-axis", Upsample((3, 1)), by.upsample((2, 2, 3), (3, 1))),
    fixed("depth-to-space", DepthToSpace(2), by.depth_to_space((8, 2, 1), 2, "DCR")),
    fixed("depth-to-space-crd", DepthToSpace(2, mode="CRD"), by.depth_to_space((8, 2, 3), 2, "CRD")),
    fixed("depth-to-space-1d", DepthToSpace(3), by.depth_to_space((6, 4), 3, "DCR")),
    fixed("space-to-depth", SpaceToDepth(2), by.space_to_depth((3, 4, 2), 2, "DCR")),
    fixed("space-to-depth-crd", SpaceToDepth(2, mode="CRD"), by.space_to_depth((2, 2, 2, 4), 2, "CRD")),
]

GRID = [*DENSE, *CONV, *CONV_TRANSPOSE, *POOL, *RESIZE, *NORM, *MERGE, *WIRES]
assert len({case.id for case in GRID}) == len(GRID)
