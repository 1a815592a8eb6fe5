"""captum's LRP, asked rule by rule: github.com/pytorch/captum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...arrays import Array
from ...graph import Node
from ...layers import Activation, Add, Dropout, Softmax, Sub
from ...layers.pool import MAX_POOLS
from ...propagate import Rule
from ...rules import AlphaBeta, Epsilon, Gamma, Gradient, Norm, Pass, Zero, ZPlus
from ...stabilize import Signed
from ..conform import INSTEAD_OF_ZERO, Cannot
from ..vectors.read import Case
from .modules import SHAPES, WEIGHTED, asked, composed, refused

DIVIDES_ALIKE = (Zero, Epsilon, Norm)


def relevance(case: Case) -> Mapping[str, Array]:
    """The relevance of inputs, and of modules that have a rule, by captum's LRP and LayerLRP.

    captum starts from an output's value; it is started from any relevance by a last module whose rule hands that on.
    Pass on a max pool is captum's default there, EpsilonRule. STABILITY_FACTOR, which GammaRule and Alpha1_Beta0_Rule
    do not take as an argument, is set on the rule: to 2^-200 where epsilon is 0.
    """
    import torch
    from captum.attr import LRP, LayerLRP

    if all(isinstance(node.layer, SHAPES) for node in case.graph.nodes):
        raise Cannot("captum gives functions that only move numbers no rule")
    made = asked(case, own)
    rules = {node.name: rule_of(node, case.rules[node.name]) for node in case.graph.nodes}
    net = started(made.net, made.R)
    x = tuple(a.clone() for a in made.x)

    def attach() -> None:  # captum takes the rules off again
        for name, (said, make) in rules.items():
            if said:
                made.net.made[name].rule = make()
        net.last.rule = net.start()

    with refused("captum"):
        attach()
        found = LRP(net).attribute(x, target=0)
        answer = dict(zip(case.graph.inputs, found, strict=True))
        inside = [name for name, (said, _) in rules.items() if said and name not in case.graph.outputs]
        if inside:
            attach()
            layers = [made.net.made[name] for name in inside]
            answer |= zip(inside, LayerLRP(net, layers).attribute(x, target=0), strict=True)
    return {name: (R if isinstance(R, torch.Tensor) else R[0]).detach().numpy() for name, R in answer.items()}


def started(net: Any, R: Any) -> Any:
    """The network with a last module, whose output is 1 for each sample and whose rule hands R on."""
    from captum.attr._utils.lrp_rules import PropagationRule

    class Start(PropagationRule):  # type: ignore[misc]
        def _manipulate_weights(self, module: Any, inputs: Any, outputs: Any) -> None:
            pass

        def _create_backward_hook_input(self, inputs: Any) -> Any:
            def hook(grad: Any) -> Any:
                handed = R.clone()
                grad.replace_out = handed  # for an activation below, as captum's own rules do
                return handed

            return hook

    last = composed(lambda y: y.flatten(1).sum(1, keepdim=True) * 0 + 1)
    whole = composed(lambda *inputs: last(net(*inputs)), net=net, last=last).eval()
    whole.start = Start
    return whole


def own(node: Node, shape: Sequence[int]) -> Any:
    """captum's module for an add."""
    from captum.attr._utils.custom_modules import Addition_Module

    if isinstance(node.layer, (Add, Sub)):
        if isinstance(node.layer, Sub) or node.layer.constant is not None or len(node.inputs) != 2:
            raise Cannot("captum has a module for sums of two tensors alone")
        return Addition_Module()
    return None


def rule_of(node: Node, rule: Rule) -> tuple[bool, Any]:
    """Whether captum is told a rule, and what makes the one of the same nominal meaning."""
    from captum.attr._utils import lrp_rules

    layer = node.layer
    if isinstance(layer, SHAPES):
        if isinstance(rule, (Pass, Gradient)):
            return False, None
        raise Cannot("captum gives functions that only move numbers no rule")
    if isinstance(rule, Pass):
        if isinstance(layer, MAX_POOLS):
            return True, lrp_rules.EpsilonRule
        if type(layer).__name__ in ("ReLU", "Dropout", "Tanh"):
            return False, None
        return True, lrp_rules.IdentityRule
    if isinstance(layer, (Activation, Softmax, Dropout)):
        raise Cannot("captum hands relevance on at activations")
    kind = type(rule).__name__
    if not isinstance(rule, (*DIVIDES_ALIKE, Gamma, ZPlus, AlphaBeta)):
        raise Cannot(f"captum has no {kind}")
    if not isinstance(rule.stabilizer, Signed):
        raise Cannot(f"captum has no stabilizer {type(rule.stabilizer).__name__}")
    epsilon = float(rule.epsilon) or INSTEAD_OF_ZERO
    if rule.bias not in ("rule", "raw") and (isinstance(rule, DIVIDES_ALIKE) or rule.bias != "none"):
        raise Cannot(f'captum\'s {type(rule).__name__} has no bias="{rule.bias}"')
    free = {"set_bias_to_zero": rule.bias == "none"}
    match rule:
        case Zero() | Epsilon() | Norm():
            return True, lambda: lrp_rules.EpsilonRule(epsilon)
        case Gamma() if isinstance(layer, WEIGHTED):
            return True, lambda: _of_size(lrp_rules.GammaRule(rule.gamma, **free), epsilon)
        case ZPlus() if isinstance(layer, WEIGHTED):
            return True, lambda: _of_size(lrp_rules.Alpha1_Beta0_Rule(**free), epsilon)
        case AlphaBeta() if isinstance(layer, WEIGHTED) and rule.alpha == 1 and rule.split == "product":
            if rule.bias == "raw":
                raise Cannot("captum has no alpha-beta with the bias in both parts")
            return True, lambda: _of_size(lrp_rules.Alpha1_Beta0_Rule(**free), epsilon)
    if isinstance(layer, WEIGHTED):
        raise Cannot("captum has no alpha-beta with alpha > 1")
    raise Cannot("captum's rules for weights need weights")


def _of_size(rule: Any, epsilon: float) -> Any:
    rule.STABILITY_FACTOR = epsilon
    return rule
