"""Our rules and presets against zennit and captum, run beside us on networks drawn from a seed.

In float64, at the input and at every module's output that the peer tells of, within 1e-10 of max|R|. Where a peer means
another formula, a public value of lrp_ref gives its numbers: those of known_differences.toml, and for zennit
- a batch norm that it merged keeps its epsilon: the graph of the module as it leaves it;
- numbers that bound a box are rounded to float32: ZBox with these;
- ExcitationBackprop has no rule for activations and batch norms: Gradient() for these before the preset's cases.
A draw agrees, or agrees under such variants alone, or it differs: then the test fails, and its id is the seed. Where
zennit's norm_scale meets nothing but zeros it gives 0/0, not a number: such a draw is run again, with
Relative(plus=1e-9) and the same added to zennit's.
"""

import dataclasses
from pathlib import Path

import case_rules
import numpy as np
import pytest
import torch
from captum.attr import LRP, LayerLRP
from captum.attr import _utils as captum_utils
from draws import COMPOSITES, SequentialMergeBatchNorm, composite, draw, stabilizer
from test_cases import deviation, off

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref.layers import Activation

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # what torch and the peers warn of

BOUND = 1e-10
VARIANTS = case_rules.Known.read(Path(__file__).parents[1] / "known_differences.toml").variants
torch.set_num_threads(1)


# --- what the peers say ---------------------------------------------------------------------------------------------


def of_zennit(made):
    """The output, and relevance by module, and at the input under "input"."""
    outputs = {}
    x = made.x.clone().requires_grad_()
    handles = []
    with composite(made).context(made.net):
        for name, module in made.leaves().items():
            keep = lambda module, args, output, name=name: outputs.__setitem__(name, output)  # noqa: E731
            handles.append(module.register_forward_hook(keep))
        y = made.net(x)
        R = torch.autograd.grad(y, [x, *outputs.values()], made.R)
    for handle in handles:
        handle.remove()
    return y, dict(zip(["input", *outputs], R, strict=True))


def of_captum(made):
    """The same; captum tells nothing of activations."""
    ruled = {name: module for name, module in made.leaves().items() if made.asked[name]["rule"] != "none"}

    def attach():  # captum takes the rules off again
        for name, module in ruled.items():
            module.rule = captum_rule(made.asked[name])

    attach()
    R = {"input": LRP(made.net).attribute(made.x, target=made.R)}
    attach()
    R |= zip(ruled, LayerLRP(made.net, list(ruled.values())).attribute(made.x, target=made.R), strict=True)
    return made.net(made.x), R


def captum_rule(asked):
    """captum's rule as it was asked for."""
    kind = getattr(captum_utils.lrp_rules, asked["rule"])
    if asked["rule"] == "EpsilonRule":
        return kind(epsilon=asked["stability_factor"])
    return kind(**{name: asked[name] for name in ("gamma", "set_bias_to_zero") if name in asked})


# --- what we say ----------------------------------------------------------------------------------------------------


def explained(made, graph, R, variants):
    """Our explanation under the rules of the same names, or with variants."""
    if made.composite:
        rules = COMPOSITES[made.composite](**bounded(made.options, single=bool(variants)))
        if variants and made.composite == "ExcitationBackprop":
            rules = lrp.Composite([(lrp.kind(Activation, L.BatchNorm), lrp.Gradient()), *rules.cases])
        return lrp.explain(graph, made.x.numpy(), rules, R)
    by_node = {graph.resolve(name): asked for name, asked in made.asked.items() if name in graph.aliases}
    by_node |= {name: asked for name, asked in made.asked.items() if name not in graph.aliases}
    cases = []
    for node in graph.nodes:
        asked = bounded(by_node.get(node.name, {"rule": "none", "module": node.kind}), single=bool(variants))
        rule = case_rules.nominal(made.peer, asked)
        if "how" in asked:
            rule = dataclasses.replace(rule, stabilizer=stabilizer(asked, made.plus))
        for variant in variants:
            rule = variant.applied(rule) if variant.fits(made.peer, asked) else rule
        cases.append((lrp.named(node.name), rule))
    return lrp.explain(graph, made.x.numpy(), lrp.Composite(cases), R)


def bounded(asked, single):
    """With the bounds of a box as ZBox takes them; `single`: numbers rounded to float32, as zennit does."""
    asked = dict(asked)
    for name in {"low", "high"} & set(asked):
        bound = asked[name]
        asked[name] = np.ravel(bound["tensor"]).tolist() if isinstance(bound, dict) else bound
        if single and isinstance(bound, float):
            asked[name] = float(np.float32(bound))
    return asked


def graphs(made):
    """The network as we canonize it, and, if that is another, as zennit leaves it."""
    example = torch.cat([made.x, made.x])  # of 2 samples or more, which tell the batch axis
    ours = lrp.from_torch(made.net, example, canonize=made.merge)
    if not made.merge:
        return ours, ours
    merged = SequentialMergeBatchNorm().apply(made.net)
    theirs = lrp.from_torch(made.net, example, canonize=False)  # batch norms keep their epsilon: 1 / sqrt(1 + epsilon)
    for canonizer in merged:
        canonizer.remove()
    return ours, theirs


def deviations(e, y, R):
    """How far we are from everything that the peer said."""
    assert all(np.isfinite(ours).all() for ours in e.relevances.values())
    found = {name: deviation(e.at(name), theirs.detach().numpy()) for name, theirs in R.items()}
    return found | {"y": deviation(e.output, y.detach().numpy())}


def compared(made):
    """The deviations under the rules of the same names, and under the variants."""
    y, R = (of_captum if made.peer == "captum" else of_zennit)(made)
    ours, theirs = graphs(made)
    start = np.zeros(y.shape)
    if made.peer == "captum":
        for sample, place in enumerate(made.R):
            index = (sample, *place) if isinstance(place, tuple) else (sample, place)
            start[index] = y.detach().numpy()[index]
    else:
        start = made.R.numpy()
    plain = deviations(explained(made, ours, start, []), y, R)
    return plain, deviations(explained(made, theirs, start, VARIANTS), y, R)


@pytest.mark.parametrize("peer", ["zennit", "captum"])
def test_draw(peer, seed, record):
    made = draw(peer, seed)
    group = f"{peer} {made.composite or 'rules'}"
    record(group, "differ")
    plain, varied = compared(made)
    if undefined := np.isnan(list(varied.values())).any():
        made.plus = 1e-9
        plain, varied = compared(made)
    passed = "0/0" if undefined else "variant" if off(plain, BOUND) else "agree"
    outcome = "differ" if off(varied, BOUND) else passed
    record(group, outcome, varied.values())
    assert outcome != "differ", f"seed {seed} of {peer}: {off(varied, BOUND)}\n{made.net}\n{made.said()}"
