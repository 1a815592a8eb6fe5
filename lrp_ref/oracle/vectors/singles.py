"""The cases of single layers: every rule on every kind of layer, with all that a rule can be told."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from ...arrays import exact
from ...composites import Composite, named
from ...errors import UnsuitableRule
from ...graph import given
from ...propagate import Rule
from ...rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    GeneralizedGamma,
    Gradient,
    Norm,
    Pass,
    Product,
    WSquare,
    ZBox,
    Zero,
    ZMinus,
    ZPlus,
)
from ...stabilize import AtZero, Clipped, Relative, SignedOrZero, Stabilizer, Unsigned
from .cases import Case, Network, single
from .instances import GROUP, Instance, inputs, instances
from .numbers import Draw

RULES = (
    "Zero", "Epsilon", "Norm", "Gamma", "GeneralizedGamma", "ZPlus", "ZMinus", "AlphaBeta", "Flat", "WSquare", "ZBox",
    "Pass", "Gradient", "Product",
)  # fmt: skip
"""The columns of the table of coverage."""

R_OF = tuple(i / 4 for i in (-8, -6, -4, -3, -2, -1, 1, 2, 3, 4, 6, 8))
"""What start relevance is drawn from: never 0, so that every output counts."""


def basic(i: int, instance: Instance) -> list[Rule]:
    """Each rule once, with parameters that change from instance to instance."""
    return [
        Zero(),
        Epsilon(epsilon=(0.25, 0.125, 0.5)[i % 3]),
        Norm(epsilon=(0.0, 0.25)[i % 2]),
        Gamma(gamma=(0.25, 1.0, 0.5)[i % 3]),
        GeneralizedGamma(gamma=(0.25, 1.0, 0.5)[i % 3]),
        ZPlus(epsilon=(0.0, 0.0, 0.25)[i % 3]),
        ZMinus(epsilon=(0.0, 0.25, 0.0)[i % 3]),
        AlphaBeta(alpha=(2.0, 1.5, 1.0)[i % 3]),
        Flat(),
        WSquare(epsilon=(0.0, 0.0, 0.25)[i % 3]),
        box(i, instance),
        Pass(),
        Gradient(),
        Product(portions=((1.0, 0.0), (0.5, 0.5))[i % 2]),
    ]


def box(i: int, instance: Instance) -> Rule:
    """Bounds for all inputs, or for each channel its own."""
    if i % 2 == 0 or instance.layer.product:
        return ZBox(low=-2.0, high=2.5)
    a = instance.layer.join(*(np.zeros((1, *shape)) for shape in instance.shapes))
    steps = [c / 4 for c in range(a.shape[1])]
    return ZBox(low=[-2 - step for step in steps], high=[2 + step for step in reversed(steps)])


STABILIZERS: dict[str, Stabilizer] = {
    "unsigned": Unsigned(),
    "at zero": AtZero(),
    "clipped": Clipped(),
    "signed or zero": SignedOrZero(at_zero=0.125),
    "relative to the sample": Relative(over="sample"),
    "relative to the batch": Relative(over="batch", signed=False, plus=0.125),
}
BIASES = ("none", "raw", "squared", "spread")
IN_FULL = ("dense", "conv1d-all-options", "avg-pool2d-padding-not-counted", "batch-norm", "add-constant")
"""Where the forms of the stabilizer are tried; those of the bias too, where there is one."""


def told(instance: Instance) -> Iterator[tuple[str, Rule]]:
    """Rules told something other than usual."""
    for form, stabilizer in STABILIZERS.items():
        yield f"epsilon, stabilizer {form}", Epsilon(epsilon=0.5, stabilizer=stabilizer)
        yield f"alpha-beta, stabilizer {form}", AlphaBeta(alpha=2.0, epsilon=0.5, stabilizer=stabilizer)
    if "pool" not in instance.name:
        for bias in BIASES:
            yield f"zero, bias {bias}", Zero(bias=bias)  # type: ignore[arg-type]
            yield f"gamma, bias {bias}", Gamma(gamma=0.5, bias=bias)  # type: ignore[arg-type]
            yield f"generalized-gamma, bias {bias}", GeneralizedGamma(gamma=0.5, bias=bias)  # type: ignore[arg-type]
            yield f"z-plus, bias {bias}", ZPlus(bias=bias)  # type: ignore[arg-type]
            yield f"alpha-beta, bias {bias}", AlphaBeta(alpha=2.0, bias=bias)  # type: ignore[arg-type]
            yield f"w-square, bias {bias}", WSquare(bias=bias)  # type: ignore[arg-type]
    yield "z-plus, inputs not split", ZPlus(split="weight")
    yield "z-minus, inputs not split", ZMinus(split="weight")
    yield "alpha-beta, inputs not split", AlphaBeta(alpha=2.0, split="weight")
    yield "epsilon 1e-6", Epsilon(epsilon=1e-6)


@cache
def networks() -> dict[str, Network]:
    """Of every instance."""
    return {instance.name: single(instance.name, instance.layer, *instance.shapes) for instance in instances()}


def cases() -> Iterator[Case]:
    """All of them."""
    for i, instance in enumerate(instances()):
        rules = [(type(rule).__name__, rule) for rule in basic(i, instance)]
        rules += told(instance) if instance.name in IN_FULL else ()
        for name, rule in rules:
            if refusal(instance, rule) is None:
                yield case(instance, name, rule)


def case(instance: Instance, name: str, rule: Rule) -> Case:
    """One rule on one layer."""
    network = networks()[instance.name]
    x = dict(zip(network.graph.inputs, inputs(instance), strict=True))
    z = network.graph.forward(x)["layer"]
    if instance.rich:
        start = exact(Draw(f"start/{instance.name}").of(R_OF, z.shape))
    else:
        start = network.graph.forward({source: exact(a) for source, a in x.items()})["layer"]
    label = type(rule).__name__
    return Case(
        group=GROUP[instance.kind],
        name=f"{instance.name}/{name}",
        comment=f"{rule!r} on {instance.layer!r}",
        network=network,
        inputs=x,
        start=start,
        rules=Composite([(named("layer"), rule)]),
        kind=instance.kind,
        label=label,
    )


def refusal(instance: Instance, rule: Rule) -> str | None:
    """Why the rule cannot be applied to the layer, if so."""
    if isinstance(rule, Gradient) and not getattr(instance.layer, "rational", True):
        return "its derivative is not rational"
    network = networks()[instance.name]
    x = {name: np.ones((1, *shape)) for name, shape in network.shapes.items()}
    layer = given(network.graph, x)["layer"].layer.like(exact([1]))
    try:
        rule.back(layer, [exact(a) for a in x.values()], exact(network.graph.forward(x)["layer"]))
    except UnsuitableRule as error:
        return str(error)
    return None


# --- why a cell of the table of coverage is empty ---------------------------------------------------------------------

ONE_EACH = (
    "BatchNorm", "Scale", "Mul", "Concat", "Upsample", "Identity", "Dropout", "Flatten", "Reshape", "Transpose",
    "Squeeze", "Unsqueeze", "Slice", "Pad", "DepthToSpace", "SpaceToDepth", "ReLU", "LeakyReLU", "PReLU", "Clip",
    "HardSigmoid", "HardSwish", "ELU", "SELU", "CELU", "Softplus", "Sigmoid", "SiLU", "GELU", "Tanh", "Softmax",
)  # fmt: skip
"""Layers each of whose outputs reads one input (one of each factor, for a product)."""
WITH_BIAS = ("Dense", "Conv", "ConvTranspose", "BatchNorm", "Scale", "Add", "Sub")
WINDOWED = ("Conv", "ConvTranspose", "AvgPool", "SumPool", "MaxPool")
MAXIMA = ("MaxPool", "GlobalMaxPool", "AdaptiveMaxPool")
NOT_RATIONAL = ("ELU", "SELU", "CELU", "Softplus", "Sigmoid", "SiLU", "GELU", "Tanh", "Softmax")

LATER: dict[str, str] = {
    'SoftMinPool(share="eta")': "nothing is left unclaimed, by a sum that is not rational: no ball proves a 0",
    "attention": "the layers are not there yet",
    "LSTM": "the layers are not there yet",
    "LayerNorm": "the layer is not there yet; RelevancePropagation.jl's analytic case of it comes with it",
    "hand facts with tanh": "captum's simple_tanh and lrp_toolbox's XOR network have weights that are no dyadic "
    "numbers of few bits; the networks of group smooth are of their kind",
}
"""What has no cases at all, and why."""


def reason(kind: str, rule: str, condition: str | None = None) -> str | None:
    """Why there can be no case of this rule on this kind of layer, in which the condition holds; None: there can."""
    if kind == "Mul" and rule not in ("Product", "Gradient"):
        return "a product is no linear map of its factors together: refused"
    if kind != "Mul" and rule == "Product":
        return "the layer is no product: refused"
    if rule == "Pass" and kind not in (*ONE_EACH, *MAXIMA, "Add", "Sub", "Resize"):
        return "an output reads several inputs, and Pass does not say how they share: refused"
    if rule == "Gradient" and kind in NOT_RATIONAL:
        return "the derivative is not rational: as balls, later"
    if condition is None:
        return None
    if condition == "ties" and kind not in MAXIMA:
        return "no maximum is taken"
    if condition.startswith("bias") and kind not in WITH_BIAS:
        return "the layer has no bias"
    if condition == "padding" and kind not in (*WINDOWED, "Pad"):
        return "the layer has no padding"
    if condition == "stride" and kind not in WINDOWED:
        return "the layer has no stride"
    if condition == "dilation" and kind not in ("Conv", "ConvTranspose", "MaxPool"):
        return "the layer has no dilation"
    if condition == "groups" and kind not in ("Conv", "ConvTranspose"):
        return "the layer has no groups"
    if condition == "cancellation":
        if kind in ONE_EACH and kind not in WITH_BIAS:
            return "an output reads one input: nothing is there to cancel"
        if rule == "Pass" and kind in (*MAXIMA, "Resize"):
            return "Pass is for outputs that read one input each, where nothing is there to cancel"
    return None
