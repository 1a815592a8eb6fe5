"""Our rules on the modules and rule cases of zennit's own tests: `sh scripts/peers --zennit-checkout DIR`.

Its fixtures are imported from DIR and not copied. Each case is a rule of zennit and its authors' slower twin of it.
Ours must agree with the rule, for relevance that is the output and for other relevance, and with the twin, which takes
the output alone.
"""

import inspect
import os
from pathlib import Path

import case_rules
import pytest
import torch
from test_cases import deviation

import lrp_ref as lrp
from lrp_ref import layers as L

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif("ZENNIT_CHECKOUT" not in os.environ, reason="needs --zennit-checkout"),
]

BOUND = 1e-10
VARIANTS = case_rules.Known.read(Path(__file__).parents[1] / "known_differences.toml").variants


def layer(module):
    """Our layer with the module's weight and bias."""
    weight, bias = (None if p is None else p.detach().numpy() for p in (module.weight, module.bias))
    if isinstance(module, torch.nn.Linear):
        return L.Dense(weight=weight.T, bias=bias)
    options = {name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")}
    if module.transposed:
        return L.ConvTranspose(weight=weight, bias=bias, output_padding=module.output_padding, **options)
    return L.Conv(weight=weight, bias=bias, **options)


def asked(rule):
    """A rule of zennit that was given some of its parameters, as the translation takes it."""
    given = inspect.signature(rule.func).bind(*rule.args, **rule.keywords)
    given.apply_defaults()
    return {"rule": rule.func.__name__, "module": "", **given.arguments}


def theirs(rule, module, x, R):
    """What zennit's rule gives for relevance that is a function of the output."""
    x = x.clone().requires_grad_()
    handle = rule().register(module)
    try:
        y = module(x)
        return torch.autograd.grad(y, x, R(y))[0].detach().numpy()
    finally:
        handle.remove()


def signed(y):
    """Relevance that is not the output."""
    return torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(7))


def test_rule(module_linear, data_linear, rule_pair_linear, record):
    rule, twin = rule_pair_linear
    record(group := f"zennit's fixtures {rule.func.__name__}", "differ")
    wanted = asked(rule)
    plain = varied = case_rules.nominal("zennit", wanted)
    for variant in VARIANTS:
        varied = variant.applied(varied) if variant.fits("zennit", wanted) else varied
    y = module_linear(data_linear).detach()
    graph, x = lrp.chain(layer(module_linear)), data_linear.numpy()
    found = {plain: [], varied: []}
    for ours in found:
        for R in (torch.clone, signed):
            e = lrp.explain(graph, x, ours, R(y).numpy())
            found[ours].append(deviation(e.relevance, theirs(rule, module_linear, data_linear, R)))
            if R is torch.clone:
                found[ours].append(deviation(e.relevance, twin(module_linear, data_linear, y).detach().numpy()))
    within = [max(found[ours]) <= BOUND for ours in (plain, varied)]
    outcome = "agree" if all(within) else "variant" if within[1] else "differ"
    record(group, outcome, found[varied])
    assert outcome != "differ", f"{varied} on {module_linear}: {found[varied]}"
