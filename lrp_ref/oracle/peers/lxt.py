"""LXT's functions and rules (lxt.explicit), asked layer by layer: github.com/rachtibat/LRP-eXplains-Transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...arrays import Array
from ...graph import Node
from ...layers import Activation, Add, Dense, Dropout, Identity, Mean, Mul, Softmax, Sub
from ...layers.pool import AVERAGE_POOLS, MAX_POOLS
from ...propagate import Rule
from ...rules import Epsilon, Gradient, Norm, Pass, Product, Zero
from ...stabilize import Signed, Unsigned
from ..conform import INSTEAD_OF_ZERO, Cannot
from ..vectors.read import Case
from .modules import SHAPES, WEIGHTED, asked, composed, module, refused


def relevance(case: Case) -> Mapping[str, Array]:
    """The relevance of the inputs: the gradient of the network written with LXT's functions.

    Dense layers are linear_epsilon, adds add2, products mul2, means mean; EpsilonRule wraps other linear modules,
    IdentityRule activations. epsilon = 0 is asked for as 2^-200. Softmax waits for a rule to compare it with.
    """
    import torch

    def own(node: Node, shape: Sequence[int]) -> Any:
        return made_by_lxt(node, shape, case.rules[node.name])

    for node in case.graph.nodes:
        if isinstance(node.layer, SHAPES) and not isinstance(case.rules[node.name], (Pass, Gradient)):
            raise Cannot("LXT gives functions that only move numbers no rule")
    made = asked(case, own)
    inputs = [a.requires_grad_() for a in made.x]
    with refused("lxt"):
        y = made.net(*inputs)
        R = torch.autograd.grad(y, inputs, made.R, allow_unused=True)
    return {
        name: (torch.zeros_like(a) if got is None else got).detach().numpy()
        for name, got, a in zip(case.graph.inputs, R, inputs, strict=True)
    }


def made_by_lxt(node: Node, shape: Sequence[int], rule: Rule) -> Any:
    """A module that computes the layer, and its relevance by the rule of the same nominal meaning."""
    from lxt.explicit import functional as lf
    from lxt.explicit import rules

    layer = node.layer
    if isinstance(layer, Mul):
        if isinstance(rule, Product) and tuple(rule.portions) == (0.5, 0.5):
            return composed(lf.mul2)
        raise Cannot("LXT shares a product in equal parts")
    if isinstance(rule, Gradient):
        return None
    if isinstance(rule, Pass):
        if isinstance(layer, MAX_POOLS):
            return None
        return rules.IdentityRule(module(layer, shape))
    if not isinstance(rule, (Zero, Epsilon, Norm)):
        raise Cannot(f"LXT has no {type(rule).__name__}")
    if not isinstance(rule.stabilizer, (Signed, Unsigned)):
        raise Cannot(f"LXT has no stabilizer {type(rule.stabilizer).__name__}")
    if rule.bias not in ("rule", "raw"):
        raise Cannot(f'LXT keeps the bias in the denominator, and has no bias="{rule.bias}"')
    epsilon = float(rule.epsilon) or INSTEAD_OF_ZERO
    if isinstance(layer, (Activation, Softmax, Identity, Dropout, *MAX_POOLS)):
        raise Cannot("LXT's epsilon rule on what is no linear map is gradient x input, another rule")
    match layer:
        case Add() if layer.constant is None and len(node.inputs) == 2:
            return composed(lambda a, b: lf.add2(a, b, epsilon=epsilon))
        case Add() | Sub():
            raise Cannot("LXT has a function for sums of two tensors alone")
        case Dense():
            linear = module(layer, shape)
            return composed(lambda x: lf.linear_epsilon(x, linear.weight, linear.bias, epsilon), linear=linear)
        case Mean() if isinstance(layer.axes, int) or len(layer.axes) == 1:
            (axis,) = (layer.axes,) if isinstance(layer.axes, int) else layer.axes
            return composed(lambda x: lf.mean(x, axis, layer.keepdims, epsilon))
    if isinstance(layer, (*WEIGHTED, *AVERAGE_POOLS)):
        return rules.EpsilonRule(module(layer, shape), epsilon)
    raise Cannot(f"LXT has nothing for {node.kind}")
