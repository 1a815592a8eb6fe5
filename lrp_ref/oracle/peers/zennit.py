"""zennit, asked rule by rule: github.com/chr5tphr/zennit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...arrays import Array
from ...graph import Node
from ...layers import Activation, Add, Dropout, Identity, Mean, Softmax, Sub, Sum
from ...layers.pool import AVERAGE_POOLS, MAX_POOLS
from ...propagate import Rule
from ...rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    GeneralizedGamma,
    Gradient,
    Norm,
    Pass,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
)
from ...stabilize import Clipped, Relative, Signed
from ..conform import INSTEAD_OF_ZERO, Cannot
from ..vectors.read import Case
from .modules import SHAPES, WEIGHTED, asked, composed, named, refused

DIVIDES_ALIKE = (Zero, Epsilon, Norm)


def relevance(case: Case) -> Mapping[str, Array]:
    """The relevance of inputs and modules' outputs by zennit, under a composite of hooks by name.

    Rules are those of the same name; LRP-0 is Epsilon. epsilon = 0 is asked for as 2^-200, since zennit divides by
    0 otherwise. Layers of no rule take the gradient, as in zennit's composites: max pools, and what only moves numbers.
    """
    import torch
    from zennit.core import Composite

    made = asked(case, own)
    hooks = {}
    for node in case.graph.nodes:
        rule = case.rules[node.name]
        if isinstance(rule, ZBox) and node.name in case.zero_denominators:
            raise Cannot("zennit's ZBox subtracts sums that a zero denominator without a stabilizer makes huge")
        hook = hook_of(node, rule)
        if hook is not None:
            place = named(node.name)
            hooks[f"{place}.sum" if isinstance(node.layer, Add) else place] = hook
    outputs: dict[str, Any] = {}
    inputs = [a.requires_grad_() for a in made.x]
    with refused("zennit"), Composite(lambda ctx, name, module: hooks.get(name)).context(made.net):
        for name, module in made.net.made.items():
            module.register_forward_hook(_keeper(outputs, name))
        y = made.net(*inputs)
        R = torch.autograd.grad(y, [*inputs, *outputs.values()], made.R, allow_unused=True)
    names = [*case.graph.inputs, *outputs]
    return {
        name: (torch.zeros_like(at) if got is None else got).detach().numpy()
        for name, got, at in zip(names, R, [*inputs, *outputs.values()], strict=True)
    }


def _keeper(outputs: dict[str, Any], name: str) -> Any:
    def keep(module: Any, arguments: Any, output: Any) -> None:
        outputs[name] = output

    return keep


def own(node: Node, shape: Sequence[int]) -> Any:
    """zennit's Sum over the branches of an add, stacked."""
    import torch
    from zennit.layer import Sum as ZennitSum

    if isinstance(node.layer, Sub) or (isinstance(node.layer, Add) and node.layer.constant is not None):
        raise Cannot("zennit has a layer for sums of tensors alone")
    if not isinstance(node.layer, Add):
        return None
    total = ZennitSum()
    return composed(lambda *branches: total(torch.stack(torch.broadcast_tensors(*branches), -1)), sum=total)


def hook_of(node: Node, rule: Rule) -> Any:
    """zennit's rule of the same nominal meaning; None for the gradient."""
    from zennit import rules

    layer = node.layer
    if isinstance(rule, Gradient):
        return None
    if isinstance(rule, Pass):
        return rules.Pass() if not isinstance(layer, (*MAX_POOLS, *SHAPES)) else None
    if not isinstance(rule, (*DIVIDES_ALIKE, GeneralizedGamma, AlphaBeta, ZBox, ZPlus, WSquare, Flat)):
        raise Cannot(f"zennit has no {type(rule).__name__}")
    if isinstance(layer, (Activation, Softmax, Identity, Dropout, *SHAPES)):
        raise Cannot("zennit has no rule but Pass for what is no linear layer, pool or sum")
    if isinstance(layer, (*MAX_POOLS, *AVERAGE_POOLS, Add, Mean, Sum)) and not isinstance(rule, DIVIDES_ALIKE):
        raise Cannot("zennit's rules for weights need weights: pools and sums take Norm or Epsilon")
    same = "raw" if isinstance(rule, DIVIDES_ALIKE) else "squared" if isinstance(rule, WSquare) else "rule"
    if rule.bias not in ("rule", "none", same):
        raise Cannot(f'zennit keeps or drops a bias, and has no bias="{rule.bias}"')
    given: dict[str, Any] = {"stabilizer": stabilizer(rule)}
    if rule.bias == "none":
        given["zero_params"] = "bias"
    if getattr(rule, "split", "product") != "product":
        raise Cannot("zennit splits by the sign of the product, never of the weight alone")
    match rule:
        case Norm() if not isinstance(layer, WEIGHTED):
            return rules.Norm(given["stabilizer"])
        case Zero() | Epsilon() | Norm():
            return rules.Epsilon(given.pop("stabilizer"), **given)
        case GeneralizedGamma():
            return rules.Gamma(rule.gamma, **given)
        case AlphaBeta():
            return rules.AlphaBeta(float(rule.alpha), float(rule.alpha) - 1, **given)
        case ZBox():
            return rules.ZBox(*(bound(b, shape_of(node)) for b in (rule.low, rule.high)), **given)
        case ZPlus() | WSquare() | Flat():
            return getattr(rules, type(rule).__name__)(**given)
    raise AssertionError(rule)


def shape_of(node: Node) -> int:
    """How many axes the input of a convolution or dense layer has."""
    return int(getattr(node.layer, "weight", np.ones((1, 1))).ndim)


def bound(given: Any, axes: int) -> Any:
    """A number, or a tensor with the channels along axis 1."""
    import torch

    if np.ndim(given) == 0:
        return float(given)
    a = np.array(given, dtype=float)
    return torch.from_numpy(a.reshape(1, -1, *[1] * (axes - 2)) if a.ndim == 1 else a[None])


def stabilizer(rule: Rule) -> Any:
    """A number, or zennit's Stabilizer."""
    from zennit.core import Stabilizer

    epsilon = float(rule.epsilon) or INSTEAD_OF_ZERO
    match rule.stabilizer:
        case Signed():
            return epsilon
        case Clipped():
            return Stabilizer(epsilon, clip=True)
        case Relative(over=over, signed=True, plus=0) if over != "batch":
            return Stabilizer(epsilon, norm_scale=True, dim=None if over == "sample" else over)
    raise Cannot(f"zennit has no stabilizer {type(rule.stabilizer).__name__} of that kind")
