# %% [markdown]
# # The oracle
#
# Two programs compute "LRP-epsilon" of one network and do not agree. Is it rounding, or another formula? If another
# formula, which, and at which layer? And is the picture at hand right at all? This page answers with proofs where there
# are proofs to be had: enclosures of the exactly computed relevance, a catalogue of what frameworks compute under the
# same names, and known answers for tests of your own.

# %%
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import lrp_ref as lrp
from lrp_ref import data
from lrp_ref.oracle import Setting, certify, conform, diagnose, variant_named
from lrp_ref.testing import Cannot, assert_conforms

# %% [markdown]
# ## Certify a heatmap
#
# Every float is some exact number, so a network of floats, an input of floats and a rule of floats have *one* exact
# relevance. `certify` encloses it: for each pixel an interval that is proven to contain it, here from
# [Arb](https://doi.org/10.1109/TC.2017.2690633)'s ball arithmetic. Precision is chosen so that every decision on the
# way (which ReLU is on, which cell is the maximum, which sign a denominator has) is certain.

# %%
digits = data.digits()
net, x = lrp.canonize(data.digits_cnn()), digits.images[5:6].astype(float)
rules = lrp.presets.epsilon_gamma_box(low=0, high=1)

sure = certify(net, x, rules)
print(f"{sure.engine}, {sure.precision} bits")
print("every sign is certain:", not np.isnan(sure.sign()).any())
print("total relevance:", sure.total())
places, certain = sure.top(5)
print(f"the five greatest, in certain order as far as the {certain}th:", [place[2:] for place in places])

# %% [markdown]
# From the enclosure follows a bound on the error of *any* result, whoever computed it. So one can ask what floats do to
# a relevance, and get no estimate but a bound:

# %%
errors = {}
for dtype in ("float32", "float64"):
    run = net.like(x.astype(dtype))  # what is certified must be the network that was run
    e = lrp.explain(run, x.astype(dtype), rules)
    errors[dtype] = certify(run, x.astype(dtype), rules).error(e.relevance)
    print(f"{dtype}: at most {errors[dtype]:.1e} of the greatest relevance from the exact one")
print("float32 is good for six digits here:", errors["float32"] < 1e-6)

# %% [markdown]
# ## Why do two heatmaps differ?
#
# Suppose that somebody's framework computes the same preset, and that this is what it returns. (It is made here by one
# of the variants of the catalogue, at one layer; imagine that all we have is the array.)

# %%
setting = Setting.of(net, x, rules)
theirs = variant_named("bias dropped").at(setting, "conv2").explain().relevance
ours = lrp.explain(net, x, rules).relevance
print(f"off by {abs(theirs - ours).max() / abs(ours).max():.1%} of the greatest relevance")

# %% [markdown]
# Both are heatmaps that one would believe. The sum does not help: relevance that a bias takes is part of the method.
# `diagnose` tries what frameworks are known to do, at each node and everywhere, and reports what reproduces the numbers
# to rounding:

# %%
found = diagnose(net, x, rules, None, theirs)
print(found)
print("the layer was found:", found.node == "conv2", "and the cause:", found.answer.names == ("bias dropped",))

# %% [markdown]
# With relevances at several layers the search is quicker, because each layer is judged by itself. What is no variant of
# the catalogue is said to be unknown, and never given a name:

# %%
agreement = diagnose(net, x, rules, None, ours.copy())
noise = diagnose(net, x, rules, None, ours * (1 + 0.01 * np.sin(np.arange(64)).reshape(ours.shape)))
print(agreement)
print(noise)
print("agreement is agreement, noise is unknown:", (agreement.verdict, noise.verdict) == ("agree", "unknown"))

# %%
figure = Figure(figsize=(8, 2.6), layout="constrained")
FigureCanvasAgg(figure)
panels = {"exact, to float64": sure.midpoint()[0, 0], "theirs": theirs[0, 0], "the difference": (theirs - ours)[0, 0]}
for axes, (title, R) in zip(figure.subplots(1, 3), panels.items(), strict=True):
    greatest = abs(panels["theirs"]).max() if title != "the difference" else abs(R).max()
    axes.imshow(R, cmap="bwr", vmin=-greatest, vmax=greatest)
    axes.set(title=title, xticks=[], yticks=[])
figure.suptitle("A dropped bias, at one layer")
out = Path("demo-output")
out.mkdir(exist_ok=True)
figure.savefig(out / "04_the_oracle.png", dpi=120)

# %% [markdown]
# ## Check a framework in its own tests
#
# The conformance vectors are networks, inputs and rules with every choice spelled out, and the relevance at every node
# and the books as exact rationals: known answers, for a framework in any language (`lrp-ref vectors export DIR` writes
# the files, and their README has a reader of 40 lines). In Python an adapter, one function from case to arrays, is held
# to them. Here is one of somebody who computes LRP-epsilon of dense layers, and forgot the bias:


# %%
def relevance(case):
    """LRP-epsilon of one dense layer."""
    if len(case.graph.nodes) > 1 or not isinstance(case.rules["layer"], lrp.Epsilon):
        raise Cannot("only LRP-epsilon, on one layer")
    rule, w = case.rules["layer"], case.graph["layer"].layer.weight
    if rule.stabilizer != lrp.Signed() or rule.bias != "rule":
        raise Cannot("only the usual stabilizer and bias")
    z = case.x @ w
    return case.x * ((case.R / (z + rule.epsilon * np.where(z >= 0, 1, -1))) @ w.T)


report = conform(relevance, groups=["dense"])
print(report)

# %% [markdown]
# The answer is not only *wrong*, but *this is what you compute*. In the framework's own tests one line asserts it. A
# difference that is meant is said to be known, by its name, so that the test notices when it becomes another:

# %%
try:
    assert_conforms(relevance, groups=["dense"])
except AssertionError as failure:
    print(str(failure).splitlines()[1])
known = assert_conforms(relevance, groups=["dense"], known={"Epsilon/Dense": "bias dropped"})
print("the forgotten bias is named, and may be known:", known.counts["variant"] == report.counts["variant"] > 0)
