"""Single layers: each kind in two shapes at least, with the corners in which frameworks differ."""

from __future__ import annotations

import numpy as np

from ... import layers as L
from ...arrays import Array
from ...errors import LrpError
from ...layers.pool import MAX_POOLS
from ...values import value
from .cases import conditions
from .numbers import Draw

Shape = tuple[int, ...]

QUARTERS = tuple(i / 4 for i in range(-4, 5))
"""What weights are drawn from."""
SIGNED = tuple(i / 2 for i in range(-4, 5))
"""What inputs are drawn from: all in the box from -2 to 2."""
ABOVE = tuple(i / 2 for i in range(1, 5))
FEW = (-1.0, -0.5, 0.0, 0.5, 1.0)
TRIES = 4000


@value
class Instance:
    """A layer with the shapes of its inputs. If `rich`, three samples with all that the kind can have; else one
    sample of positive inputs, whose start relevance is its output.
    """

    name: str
    layer: L.Layer
    shapes: tuple[Shape, ...]
    rich: bool = True

    @property
    def kind(self) -> str:
        """The layer's class."""
        return type(self.layer).__name__


def weights(label: str, *shape: int, outputs: int) -> Array:
    """Quarters of both signs and 0; of the outputs, along that axis, the first has positive ones only, and the second
    negative ones, so that a part of one sign is empty.
    """
    w = Draw(f"weights/{label}").of(QUARTERS, shape)
    if shape[outputs] > 2:
        rows = np.moveaxis(w, outputs, 0)
        rows[0], rows[1] = abs(rows[0]) + 0.25, -abs(rows[1]) - 0.25
    return w


def bias(n: int) -> Array:
    """Above 0, below 0, 0, and so on."""
    return np.array([(0.5, -0.75, 0.0, 0.25, -0.5)[i % 5] for i in range(n)])


def conv(
    name: str, shape: Shape, outputs: int, kernel: Shape, *, groups: int = 1, plain: bool = False, **options: object
) -> Instance:
    """A convolution."""
    w = weights(name, outputs, shape[0] // groups, *kernel, outputs=0)
    layer = L.Conv(w, None if plain else bias(outputs), groups=groups, **options)  # type: ignore[arg-type]
    return Instance(name, layer, (shape,), rich=not plain)


def transposed(
    name: str, shape: Shape, outputs: int, kernel: Shape, *, groups: int = 1, plain: bool = False, **options: object
) -> Instance:
    """A transposed convolution."""
    w = weights(name, shape[0], outputs // groups, *kernel, outputs=1)
    layer = L.ConvTranspose(w, None if plain else bias(outputs), groups=groups, **options)  # type: ignore[arg-type]
    return Instance(name, layer, (shape,), rich=not plain)


def of(name: str, layer: L.Layer, *shapes: Shape, rich: bool = True) -> Instance:
    """Any other layer."""
    return Instance(name, layer, shapes, rich=rich)


def instances() -> list[Instance]:
    """All of them, in the order of the files."""
    return [
        # dense
        of("dense", L.Dense(weights("dense", 5, 4, outputs=1), bias(4)), (5,)),
        of("dense-tokens", L.Dense(weights("dense-tokens", 3, 3, outputs=1), bias(3)), (2, 3)),
        of("dense-plain", L.Dense(weights("dense-plain", 4, 3, outputs=1)), (4,), rich=False),
        # convolution
        conv("conv1d-all-options", (4, 7), 4, (2,), stride=2, padding=((1, 2),), dilation=2, groups=2),
        conv("conv2d-all-options", (2, 4, 3), 4, (2, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
        conv("conv2d-plain", (1, 3, 4), 3, (2, 3), plain=True),
        conv("conv1d-stride", (2, 5), 3, (2,), stride=3),
        conv("conv2d-padding", (1, 2, 3), 3, (2, 3), padding=((1, 0), (0, 2))),
        conv("conv1d-dilation", (2, 6), 3, (3,), dilation=2),
        conv("conv2d-depthwise", (3, 3, 2), 3, (2, 1), groups=3),
        conv("conv3d", (1, 2, 3, 2), 3, (2, 2, 1)),
        # transposed convolution
        transposed(
            "transposed1d-all-options",
            (4, 4),
            6,
            (2,),
            stride=2,
            padding=((1, 0),),
            output_padding=1,
            dilation=2,
            groups=2,
        ),
        transposed(
            "transposed2d-all-options", (2, 2, 3), 6, (2, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2), groups=2
        ),
        transposed("transposed2d-plain", (1, 2, 2), 3, (2, 2), plain=True),
        transposed("transposed1d-stride-above-kernel", (2, 3), 3, (2,), stride=3),
        transposed("transposed3d", (1, 2, 1, 2), 3, (1, 2, 2)),
        # pools
        of("avg-pool1d-padding", L.AvgPool(2, stride=2, padding=1), (2, 6)),
        of(
            "avg-pool2d-padding-not-counted",
            L.AvgPool((2, 2), stride=(1, 2), padding=((1, 0), (0, 1)), count_include_pad=False),
            (1, 3, 4),
        ),
        of("avg-pool2d-ceil", L.AvgPool(2, ceil=True), (1, 3, 4), rich=False),
        of("sum-pool1d-padding", L.SumPool(3, stride=2, padding=1), (2, 6)),
        of("sum-pool2d-padding", L.SumPool((2, 2), stride=(1, 2), padding=((1, 0), (0, 1))), (1, 3, 4)),
        of("sum-pool2d-ceil", L.SumPool(2, ceil=True), (1, 3, 4), rich=False),
        of("max-pool1d-all-options", L.MaxPool(2, stride=2, padding=1, dilation=2), (2, 7)),
        of("max-pool2d-all-options", L.MaxPool(2, stride=(2, 1), padding=(1, 0), dilation=(2, 1)), (1, 4, 3)),
        of("max-pool2d-plain", L.MaxPool(2), (1, 4, 4), rich=False),
        of("max-pool2d-ties-shared", L.MaxPool(2, stride=1, ties="shared"), (2, 3, 3)),
        of("max-pool1d-ties-near", L.MaxPool(3, stride=2, padding=1, ties=L.Near(0.25)), (2, 5)),
        of("max-pool1d-as-average", L.MaxPool(2, stride=2, padding=1, dilation=2, frozen_as="average"), (2, 7)),
        of(
            "max-pool2d-as-average",
            L.MaxPool(2, stride=(2, 1), padding=(1, 0), dilation=(2, 1), frozen_as="average"),
            (1, 4, 3),
        ),
        of("global-avg-pool1d", L.GlobalAvgPool(), (3, 4)),
        of("global-avg-pool2d", L.GlobalAvgPool(), (2, 3, 2)),
        of("global-max-pool1d", L.GlobalMaxPool(), (3, 4)),
        of("global-max-pool2d", L.GlobalMaxPool(), (2, 3, 2)),
        of("global-max-pool2d-ties-shared", L.GlobalMaxPool(ties="shared"), (2, 2, 2)),
        of("global-max-pool1d-as-average", L.GlobalMaxPool(frozen_as="average"), (3, 4)),
        of("global-max-pool2d-as-average", L.GlobalMaxPool(frozen_as="average"), (2, 3, 2)),
        of("adaptive-avg-pool1d", L.AdaptiveAvgPool(3), (2, 7)),
        of("adaptive-avg-pool2d", L.AdaptiveAvgPool((2, 3)), (1, 3, 5)),
        of("adaptive-max-pool1d", L.AdaptiveMaxPool(3), (2, 7)),
        of("adaptive-max-pool2d", L.AdaptiveMaxPool((2, None)), (1, 3, 4)),
        of("adaptive-max-pool1d-as-average", L.AdaptiveMaxPool(3, frozen_as="average"), (2, 7)),
        of("adaptive-max-pool2d-as-average", L.AdaptiveMaxPool((2, 3), frozen_as="average"), (1, 3, 5)),
        # scales and batch norms
        of("batch-norm", L.BatchNorm([0.5, -1.0, 2.0, 0.25], bias(4)), (4,)),
        of("batch-norm-2d", L.BatchNorm([0.5, -1.0, 2.0], bias(3)), (3, 2, 2)),
        of("batch-norm-plain", L.BatchNorm([0.5, 2.0], [0.0, 0.0]), (2, 3), rich=False),
        of("scale-per-channel", L.Scale([0.5, -1.0, 2.0], bias(3)), (3, 2)),
        of("scale-full", L.Scale([[0.5, -1.0], [2.0, 0.25]], [[0.5, -0.75], [0.0, 0.25]]), (2, 2)),
        of("scale-plain", L.Scale(0.5), (2, 3), rich=False),
        # sums
        of("add-constant", L.Add(constant=[[0.5, -0.75, 0.0], [0.0, 1.0, -0.5]]), (2, 3), (2, 3)),
        of("add-broadcast", L.Add(constant=[0.5, -0.5, 0.0]), (2, 1), (1, 3), (2, 3)),
        of("add-constant-only", L.Add(constant=[0.5, -0.75, 0.0, 0.25]), (4,)),
        of("add-constant-only-2d", L.Add(constant=[0.5, -0.5, 0.0]), (2, 3)),
        of("add-plain", L.Add(), (4,), (4,), rich=False),
        of("sub", L.Sub(), (2, 3), (2, 3)),
        of("sub-broadcast", L.Sub(), (2, 1), (1, 3)),
        of("sub-constant", L.Sub(constant=[0.5, -0.75, 0.0, 0.25]), (4,)),
        of("sub-constant-2d", L.Sub(constant=[0.5, -0.5, 0.0]), (2, 3)),
        of("sum", L.Sum(1), (3, 4)),
        of("sum-keepdims", L.Sum((1, 3), keepdims=True), (2, 2, 3)),
        of("mean", L.Mean(2), (3, 4)),
        of("mean-keepdims", L.Mean((1, 3), keepdims=True), (2, 2, 3)),
        of("mul", L.Mul(), (2, 3), (2, 3)),
        of("mul-broadcast", L.Mul(), (3, 2), (3, 1)),
        of("concat", L.Concat(), (2, 2), (3, 2)),
        of("concat-last-axis", L.Concat(axis=-1), (2, 3), (2, 1), (2, 2)),
        # resizing
        of("resize1d-linear", L.Resize(size=6), (2, 3)),
        of("resize2d-linear-corners", L.Resize(size=(3, 5), coordinates="align_corners"), (1, 2, 3)),
        of("resize1d-nearest", L.Resize(size=6, mode="nearest", coordinates="asymmetric"), (2, 4)),
        of("resize2d-nearest", L.Resize(scale=(2, 0.5), mode="nearest", rounding="round_prefer_ceil"), (1, 2, 4)),
        of("upsample1d", L.Upsample(2), (2, 3)),
        of("upsample2d", L.Upsample((2, 1)), (1, 2, 3)),
        # wires
        of("identity", L.Identity(), (2, 3)),
        of("identity-1d", L.Identity(), (5,)),
        of("dropout", L.Dropout(p=0.25), (4,)),
        of("dropout-2d", L.Dropout(), (2, 2)),
        of("flatten", L.Flatten(), (2, 3)),
        of("flatten-3d", L.Flatten(), (2, 1, 3)),
        of("reshape", L.Reshape((3, 2)), (6,)),
        of("reshape-free", L.Reshape((2, -1)), (2, 2, 2)),
        of("transpose", L.Transpose((0, 2, 1)), (2, 3)),
        of("transpose-3d", L.Transpose((0, 3, 1, 2)), (2, 1, 3)),
        of("squeeze", L.Squeeze(2), (3, 1, 2)),
        of("squeeze-two", L.Squeeze((1, -1)), (1, 5, 1)),
        of("unsqueeze", L.Unsqueeze(1), (4,)),
        of("unsqueeze-last", L.Unsqueeze(-1), (2, 3)),
        of("slice", L.Slice(1, 1, 3), (4, 2)),
        of("slice-step", L.Slice(-1, 1, None, 2), (2, 5)),
        of("pad", L.Pad(((0, 0), (1, 2))), (2, 2)),
        of("pad-channels", L.Pad(((1, 0), (0, 1), (1, 0))), (1, 2, 2)),
        of("depth-to-space", L.DepthToSpace(2), (4, 2, 1)),
        of("depth-to-space-crd", L.DepthToSpace(2, mode="CRD"), (8, 1, 1)),
        of("space-to-depth", L.SpaceToDepth(2), (1, 2, 4)),
        of("space-to-depth-crd", L.SpaceToDepth(2, mode="CRD"), (2, 2, 2)),
        # activations
        of("relu", L.ReLU(), (2, 3)),
        of("relu-1d", L.ReLU(), (5,)),
        of("leaky-relu", L.LeakyReLU(slope=0.25), (2, 3)),
        of("leaky-relu-1d", L.LeakyReLU(slope=0.125), (5,)),
        of("prelu", L.PReLU([0.5, -0.25]), (2, 3)),
        of("prelu-scalar", L.PReLU(0.25), (5,)),
        of("clip", L.Clip(low=-0.5, high=1.0), (2, 3)),
        of("clip-relu6", L.Clip(low=0, high=6), (5,)),
        of("hard-sigmoid", L.HardSigmoid(slope=0.25), (2, 3)),
        of("hard-sigmoid-keras", L.HardSigmoid(slope=0.2), (5,)),
        of("hard-swish", L.HardSwish(), (2, 3)),
        of("hard-swish-1d", L.HardSwish(), (5,)),
        *(
            of(f"{name}-{len(shape)}d", layer, shape)
            for name, layer in (
                ("elu", L.ELU()),
                ("selu", L.SELU()),
                ("celu", L.CELU()),
                ("softplus", L.Softplus()),
                ("sigmoid", L.Sigmoid()),
                ("silu", L.SiLU()),
                ("gelu", L.GELU()),
                ("tanh", L.Tanh()),
                ("softmax", L.Softmax()),
            )
            for shape in ((4,), (2, 2))
        ),
    ]


GROUP: dict[str, str] = {
    "Dense": "dense",
    "Conv": "conv",
    "ConvTranspose": "conv_transpose",
    **dict.fromkeys(("AvgPool", "SumPool", "GlobalAvgPool", "AdaptiveAvgPool"), "average_pool"),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "AdaptiveMaxPool"), "max_pool"),
    **dict.fromkeys(("BatchNorm", "Scale"), "norm"),
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean", "Mul", "Concat"), "merge"),
    **dict.fromkeys(("Resize", "Upsample"), "resize"),
    **dict.fromkeys(
        ("Identity", "Dropout", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Pad",
         "DepthToSpace", "SpaceToDepth"), "shape",
    ),
    **dict.fromkeys(
        ("ReLU", "LeakyReLU", "PReLU", "Clip", "HardSigmoid", "HardSwish", "ELU", "SELU", "CELU", "Softplus",
         "Sigmoid", "SiLU", "GELU", "Tanh", "Softmax"), "activation",
    ),
}  # fmt: skip
"""The file that a single layer's cases stand in."""


def wanted(instance: Instance) -> list[str]:
    """What its inputs are to have: all that does not depend on its options, as far as its map allows it."""
    if not instance.rich:
        return []
    layer, x = instance.layer, [np.ones((1, *shape)) for shape in instance.shapes]
    names = ["signed", "zeros", "dead window", "negative z", "batch of 3"]
    if isinstance(layer, MAX_POOLS):
        names.append("ties")
    if layer.product or (isinstance(layer, MAX_POOLS) and layer.wire):
        return names  # the winner is the output, and 0 only if it is 0
    frozen, a = layer.frozen(*x), layer.join(*x)
    weight, bias = frozen.parameters(a)
    fed = frozen.linear(a, np.ones(weight.shape))
    return [*names, "cancellation"] if (fed > 1).any() or (bias != 0).any() else names


def inputs(instance: Instance) -> list[Array]:
    """Drawn inputs, the first draw that has all that is wanted.

    Three samples: one of both signs, one of zeros only, one of few values, so that sums cancel and maxima tie.
    """
    if not instance.rich:
        return [Draw(f"inputs/{instance.name}/{i}").of(ABOVE, (1, *shape)) for i, shape in enumerate(instance.shapes)]
    missing: set[str] = set()
    for attempt in range(TRIES):
        drawn = []
        for i, shape in enumerate(instance.shapes):
            draw = Draw(f"inputs/{instance.name}/{i}/{attempt}")
            drawn.append(np.stack([draw.of(SIGNED, shape), np.zeros(shape), draw.of(FEW, shape)]))
        missing = set(wanted(instance)) - set(conditions(instance.layer, drawn, np.ones(1)))
        if not missing:
            return drawn
    raise LrpError(f"{instance.name}: no draw of {TRIES} has {sorted(missing)}")
