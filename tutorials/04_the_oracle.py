# %% [markdown]
# # The oracle
#
# Two programs compute "LRP-epsilon" of one network and do not agree. Is it rounding, or another formula? If another
# formula, which, and at which layer? And is the picture at hand right at all? This page answers with proofs where there
# are proofs to be had: enclosures of the exactly computed relevance, a catalogue of what frameworks compute under the
# same names, and known answers for tests of your own.

# %%
import json
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import lrp_ref as lrp
from lrp_ref import data
from lrp_ref.oracle import certify, diagnose, variants, vectors

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
setting = variants.Setting.of(net, x, rules)
faulty = next(v for v in variants.CATALOGUE if v.name == "bias dropped")
theirs = faulty.at(setting, "conv2").explain().relevance
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
# and the books as exact rationals: known answers, for a framework in any language. `lrp-ref vectors export DIR` writes
# the files. Here a few of them judge a consumer of five lines, which drops the bias where the rule keeps it:

# %%
folder = Path(tempfile.mkdtemp()) / "vectors"
vectors.export(folder)
group = json.loads((folder / "dense.json").read_text())


def relevance(a, w, R, epsilon):
    """LRP-epsilon of a dense layer, by somebody who forgot the bias."""
    z = a @ w
    return a * ((R / (z + epsilon * np.where(z >= 0, 1, -1))) @ w.T)


# %% [markdown]
# A test names the published differences that it is able to tell from the rule (`flags`), and what those give instead
# (`accept`). So the answer is not only *wrong*, but *this is what you compute*:


# %%
def tensors(path):
    """The arrays of a file of safetensors."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    kinds = {"F32": "<f4", "F64": "<f8"}
    for name, about in header.items():
        first, last = about["data_offsets"]
        flat = np.frombuffer(content[start + first : start + last], kinds[about["dtype"]])
        yield name, flat.reshape(about["shape"]).astype(float)


def number(entry):
    """An expected value, rounded."""
    p, _, q = entry.partition("/") if isinstance(entry, str) else (entry["float64"], "", "")
    return float(p) / float(q or 1)


arrays = dict(tensors(folder / group["tensors"]))
judged = {}
for part in group["testGroups"]:
    w = arrays[f"network/{part['network']}/layer/weight"]
    for test in part["tests"]:
        rule = test["rules"]["layer"]
        if rule["rule"] == "Epsilon" and rule["stabilizer"] == {"form": "Signed"} and rule["bias"] == "rule":
            key = test["tcId"]
            R_in = relevance(arrays[f"{key}/x/input"], w, arrays[f"{key}/start/layer"], rule["epsilon"])
            expected = {"as it should be": arrays[f"{key}/R/input"]}
            for other in test["accept"]:
                values = [number(entry) for entry in other["relevance"]["input"]["values"]]
                expected[" or ".join(other["variants"])] = np.reshape(values, R_in.shape)
            scale = abs(expected["as it should be"]).max()
            names = [name for name, R in expected.items() if abs(R_in - R).max() <= 1e-9 * scale]
            judged[test["id"]] = names[0] if names else "something else"
print("\n".join(f"{name}: {verdict}" for name, verdict in judged.items()))
print("the forgotten bias is named:", any("bias dropped" in verdict for verdict in judged.values()))
