# %% [markdown]
# # Deep Taylor decomposition, verified
#
# Most rules of LRP come with a second reading: what a neuron sends to its inputs are the first-order terms of a Taylor
# expansion, of a model of the neuron's relevance, at a root of that model. This page draws the roots of one neuron,
# checks the terms in exact fractions, does the same on a digit network, and then turns to what such a check does not
# show. Proposed in [Montavon, Lapuschkin, Binder, Samek, Müller (2017), *Explaining nonlinear classification decisions
# with deep Taylor decomposition*](https://doi.org/10.1016/j.patcog.2016.11.008), Pattern Recognition 65, 211-222 (the
# paper below); taken up in [Montavon et al. (2019)](https://doi.org/10.1007/978-3-030-28954-6_10) (the chapter); and
# criticized in [Sixt, Landgraf (2022), *A Rigorous Study of the Deep Taylor
# Decomposition*](https://arxiv.org/abs/2211.08425), TMLR (the study).

# %%
from fractions import Fraction
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import lrp_ref as lrp
from lrp_ref import data
from lrp_ref.layers import Dense, ReLU
from lrp_ref.theory import dtd, full_recursion, gradient

# %% [markdown]
# ## One neuron, by hand
#
# A neuron with two inputs, both between 0 and 1, computes $\max(0, z)$ with $z = w \cdot a + b$. The network above has
# sent it relevance $R$. How would $R$ change with $a$? The theory does not ask the network. It makes a model, in which
# the *context* $c = R / z$ is a constant:
#
# $$\hat R(a) = \max(0, w \cdot a + b) \, c$$
#
# On the active side of the line $z = 0$ the model is linear, so a first-order expansion at a point $\tilde a$ of that
# side leaves no higher terms out:
#
# $$\hat R(a) = \hat R(\tilde a) + \sum_j (a_j - \tilde a_j) \, w_j \, c$$
#
# If $\tilde a$ is a root, $\hat R(\tilde a) = 0$, and the terms of the sum share out all of $R$. But which root? A rule
# that deals out by contributions $n_j$ names a direction, $v_j = n_j / w_j$, and $\tilde a = a - t v$ lies along it.

# %%
a, w = lrp.fractions(lrp.exact([[0.75, 0.375], [2, -1]]))  # Python's fractions, in NumPy arrays
b, c = Fraction(1, 4), Fraction(2)
z = w @ a + b
R = z * c
low, high, gamma, epsilon = 0, 1, Fraction(1, 4), Fraction(1, 2)


def plus(x):
    return np.maximum(x, 0)


contributions = {  # of the inputs, of the bias, and the stabilizer
    "LRP-0": (a * w, b, 0),
    "LRP-eps": (a * w, b, epsilon),
    "LRP-gamma": (a * (w + gamma * plus(w)), b + gamma * plus(b), 0),
    "z+": (a * plus(w), plus(b), 0),
    "w^2": (w * w, 0, 0),
    "z-box": (a * w - low * plus(w) - high * -plus(-w), 0, 0),
    "flat": (w / w, 0, 0),
}

# %% [markdown]
# How far to go, $t$, depends on what one lets the bias do, and the field has two readings. The chapter counts the bias
# as a weight $w_0 = b$ of an input $a_0 = 1$ which moves like any other: the *extended* reading, where $t$ is $z$ over
# the rule's whole denominator. In the paper only real inputs move: the *physical* reading, where $t$ is $z$ over the
# sum of the inputs' contributions, so that $\tilde a$ is a root of the real neuron.

# %%
points, terms, messages = {}, {}, {}
for name, (n, n_bias, stabilizer) in contributions.items():
    v = n / w
    denominator = n.sum() + n_bias + stabilizer
    messages[name] = n / denominator * R
    for reading, t in {"extended": z / denominator, "physical": z / n.sum()}.items():
        points[name, reading] = a - t * v
        terms[name, reading] = (a - points[name, reading]) * w * c

for reading in ("physical", "extended"):
    print(f"{reading + ':':28} point        z there   in the box")
    for name in contributions:
        point = points[name, reading]
        inside = "inside" if all(low <= x <= high for x in point) else "outside"
        print(f"{name:12} {point[0]!s:>12} {point[1]!s:>12} {w @ point + b!s:>12}   {inside}")

# %% [markdown]
# ## The same, by lrp_ref
#
# `dtd.verify` does this for every neuron of an explanation. The network is our neuron and a layer that multiplies its
# output by $c$; in fractions, `==` means equal.

# %%
net = lrp.chain(Dense(weight=w[:, None].astype(float), bias=[float(b)]), ReLU(), Dense(weight=[[float(c)]]))
rules = {
    "LRP-0": lrp.Zero(),
    "LRP-eps": lrp.Epsilon(epsilon=float(epsilon)),
    "LRP-gamma": lrp.Gamma(gamma=float(gamma)),
    "z+": lrp.ZPlus(),
    "w^2": lrp.WSquare(),
    "z-box": lrp.ZBox(low=low, high=high),
    "flat": lrp.Flat(),
}


def explained(rule):
    composite = lrp.Composite([(lrp.first(Dense), rule), (lrp.kind(Dense), lrp.Zero())])
    return lrp.explain(net, lrp.exact(a[None]), composite)


def same(found, expected):
    return bool((lrp.fractions(found) == expected).all())


explanations = {name: explained(rule) for name, rule in rules.items()}
reports = {(name, reading): dtd.verify(explanations[name], reading, dtd.Box(low, high)) for name, reading in points}
roots = {key: report.root("0.dense", [0]) for key, report in reports.items()}

print("points as by hand:  ", all(same(roots[key].point, points[key]) for key in points))
print("terms as by hand:   ", all(same(roots[key].first_order, terms[key]) for key in points))
print("messages as by hand:", all(same(roots[key].messages, messages[key[0]]) for key in points))

# %% [markdown]
# ## Drawn
#
# The neuron is on below the line $z = 0$, where the plane is shaded. The frame is the domain, the inputs that the
# neuron can meet. A dot is a point inside of it, a cross one outside. The rules leave $a$ in different directions:
# LRP-0 straight for the origin; $z^+$ along the inputs with positive weights only, with LRP-$\gamma$ between them;
# $w^2$ takes the shortest way to the line; the $z$-box rule heads for the corner of the box where $z$ is least, and so
# meets a root in the box whenever the box has one; flat heads where each input gives up the same part of $z$.

# %%
labels = {"LRP-0": "LRP-0", "LRP-eps": "LRP-$\\epsilon$", "LRP-gamma": "LRP-$\\gamma$", "z+": "$z^+$", "w^2": "$w^2$",
          "z-box": "$z$-box", "flat": "flat"}  # fmt: skip
colors = dict(zip(labels, ("#b2182b", "#e08214", "#8c510a", "#1b7837", "#2166ac", "#762a83", "#404040"), strict=True))
titles = {"physical": "physical: only the inputs move", "extended": "extended: the bias moves too"}

picture = Figure(figsize=(11, 5.3), dpi=150, layout="constrained")
FigureCanvasAgg(picture)
for axes, (reading, title) in zip(picture.subplots(1, 2, sharey=True), titles.items(), strict=True):
    x = np.array([-0.6, 1.2])
    line = -(float(w[0]) * x + float(b)) / float(w[1])  # a_2 where z = 0
    axes.fill_between(x, line.min(), line, color="#f3efe4", lw=0)
    axes.plot(x, line, color="#1a1a1a", lw=1.2)
    axes.text(0.39, 1.17, "$z = 0$", ha="right")
    axes.text(0.78, -0.2, "neuron on, $z > 0$", ha="center", color="#6b6250")
    axes.plot([low, high, high, low, low], [low, low, high, high, low], color="#1a1a1a", lw=1, ls="--")
    axes.text(0.985, 0.955, "domain", ha="right", va="top", color="#1a1a1a")
    for name, label in labels.items():
        if (name, reading) == ("LRP-eps", "physical"):
            continue  # the same point as that of LRP-0
        label = "LRP-0 and\nLRP-$\\epsilon$" if (name, reading) == ("LRP-0", "physical") else label
        inside = bool(reports[name, reading]["0.dense"].neurons.in_domain[0])
        ends = np.array([a, points[name, reading]], dtype=float)
        axes.plot(*ends.T, color=colors[name], lw=0.9, ls=":")
        axes.plot(*ends[1], color=colors[name], marker="o" if inside else "X", ms=8, mec="white", mew=0.8)
        offset, align = (-9, 4), "right"
        if name == "z+" or (reading == "extended" and name in ("LRP-0", "LRP-eps")):
            offset, align = (6, -15), "left"
        elif (name, reading) == ("LRP-gamma", "extended"):
            offset, align = (-2, 17), "left"
        elif name == "LRP-0":
            offset, align = (-9, -12), "right"
        axes.annotate(label + ("" if inside else ", outside"), ends[1], offset, textcoords="offset points", ha=align,
                      color=colors[name])  # fmt: skip
    axes.plot(*a.astype(float), color="#1a1a1a", marker="o", ms=9)
    axes.annotate("$a$", a.astype(float), (10, -4), textcoords="offset points", fontsize=13)
    axes.set(xlim=(-0.6, 1.1), ylim=(-0.3, 1.25), aspect="equal", title=title, xlabel="$a_1$")
    axes.spines[["top", "right"]].set_visible(False)
Path("demo-output").mkdir(exist_ok=True)
picture.axes[0].set_ylabel("$a_2$")
picture.savefig("demo-output/03_deep_taylor.png")
picture

# %% [markdown]
# On the left, LRP-0 and LRP-$\gamma$ must leave the domain to reach the line: the bias is positive, stays as it is, and
# the inputs have to make up for it. On the right they stay inside, but off the line: what is drawn there is no root of
# the real neuron, whose bias does not move.
#
# ## Where the bias went
#
# In the extended reading $z(\tilde a)$ is not 0 at such points, and the expansion keeps a zero-order term
# $z(\tilde a) \, c$. The ledger, in turn, says what bias and stabilizer absorbed. The two were computed without each
# other, one from the point and one from the shares, and are the same fraction. Physically nothing is left over, but
# the terms are the messages only where nothing was absorbed.

# %%
balances = []
for name in rules:
    entry = explanations[name].ledger["0.dense"]
    absorbed = lrp.fractions(entry.bias + entry.stabilizer)[0]
    zero_order = (w @ points[name, "extended"] + b) * c
    balances.append(zero_order == absorbed and terms[name, "physical"].sum() == R)
    equal = "the messages" if (terms[name, "physical"] == messages[name]).all() else "not the messages"
    print(f"{name:10} absorbed {absorbed!s:>7}   zero order {zero_order!s:>7}   physical terms: {equal}")
print("zero order == absorbed, and the physical terms sum to R:", all(balances))

# %% [markdown]
# ## A digit network
#
# Now every neuron of the small residual network, with its batch norms folded into the convolutions.

# %%
digits = data.digits()
image = digits.images[digits.test[digits.labels[digits.test] == 3][:1]].astype(np.float64)
digit = lrp.explain(lrp.canonize(data.digits_cnn()), image, lrp.presets.epsilon_gamma_box(low=0, high=1), 3)
report = dtd.verify(digit)
print(report)

# %% [markdown]
# - **neurons**: those with relevance. **off model**: those of them that the model gives none, and **no root**: those
#   whose line meets no root.
# - **domain**, **in domain**: where the layer's inputs may lie, and how many points do. **t <= 1**: how many steps
#   are no longer than the direction itself.
# - **zero order - absorbed** and **terms - messages**: the identities of this page; the worst error is rounding.
# - **negative**: neurons with a message against the sign of their relevance. **off side**: points on the other side of
#   $z = 0$, where the linear piece only goes on in thought. **distance**: of the point from the data.
# - **drift**: by how much the context is another, once the network above is really run from near the point.
#   **flips**: the share of the other ReLUs that switched. Medians, both.
#
# In the physical reading the messages are the same, but fewer roots lie in the domain. Some neurons have none on their
# line: what the inputs contribute does not bring $z$ any closer to 0, since the neuron owes its sign to the bias.

# %%
for reading, found in {"extended": report, "physical": dtd.verify(digit, "physical")}.items():
    node = found["conv2"]
    print(f"conv2, {reading}: {node.root_in_domain:.0%} in the domain, {len(node.rootless)} without a root")
print("every identity holds:", report.holds)
n = report["conv1"].neurons
print(f"conv1: the context has vanished for {(n.context_at_root == 0).sum()} of {len(n)} neurons")

# %% [markdown]
# The last line is the max pool: just in front of its root a neuron is hardly on, another one of its window is the
# greatest, and no relevance comes down to it. The model, with its constant context, knows nothing of that.
#
# ## What it does not show
#
# **Any split has a root.** Take any shares $q_j$ that sum to 1, on inputs with $w_j \ne 0$. The point
# $\tilde a_j = a_j - z q_j / w_j$ is a root, and its terms are $q_j R$. Here is a rule that gives the first input minus
# nine times $R$, and the second ten times $R$. Nobody would want it. It passes.


# %%
class Absurd(lrp.Rule):
    """(-9, 10) times R_k, whatever the inputs and the weights are."""

    def shares(self):
        return (lrp.Share((lrp.Term(x=lambda a: lrp.exact([[-9, 10]]), w=lambda w: w / w, b=lambda b: b * 0),)),)


absurd = dtd.verify(explained(Absurd()), "physical", dtd.Box(low, high))
root = absurd.root("0.dense", [0])
point, first_order = lrp.fractions(root.point), lrp.fractions(root.first_order)
print("z at the point:", w @ point + b, "- exactly a root:", w @ point + b == 0)
print("its terms are R times", *(first_order / R), "- the messages:", same(root.messages, first_order))
print("every identity holds:", absurd.holds)
print(f"roots in the domain: {absurd['0.dense'].root_in_domain:.0%}, at {point[0]}, {point[1]}")

# %% [markdown]
# Only the domain objects. And it narrows the choice without making it: every point of the line $z = 0$ in the box is a
# root of some split. The line enters the box at $a_1 = 0$ and leaves it at $a_2 = 1$:

# %%
ends = np.array([[0, b], [(1 - b) / 2, 1]])
print("on the line:", all(w @ end + b == 0 for end in ends))
print("shares of the first input between", " and ".join(map(str, sorted((a[0] - ends[:, 0]) * w[0] / z))))

# %% [markdown]
# **The context is not constant.** The relevance of a hidden neuron is a function of the layer's inputs, through all
# that lies above. Taken at its word, deep Taylor decomposition would expand that function, at roots where the whole
# network above is evaluated anew. The study asks what comes of it. If the roots are constants, one for each layer, on
# the linear piece of the data, it is the gradient times the way from the root, whatever else was meant:

# %%
chain = lrp.chain(
    Dense(weight=[[2, 1, -1], [-1, 1, 3]], bias=[0.25, -0.5, -0.125]), ReLU(),
    Dense(weight=[[1, -1], [1, 2], [-1, 1]], bias=[-0.25, -0.25]), ReLU(),
    Dense(weight=[[1], [0.5]]),
)  # fmt: skip
x = lrp.exact(a[None])
near = lrp.exact(a[None] * Fraction(15, 16))
at_x, at_near = chain.forward(x), chain.forward(near)
dense = [node for node in chain.nodes if node.kind == "Dense"]
constant = {node.name: at_near.get(node.inputs[0], near)[0] for node in dense}

one_piece = all(((at_x[node.name] > 0) == (at_near[node.name] > 0)).all() for node in dense)
recursion = full_recursion(lrp.explain(chain, x, lrp.Zero(), 0), full=True, roots=constant)
expected = (x - near) * gradient(chain, x, 0)
print("the roots are on the linear piece of x:", bool(one_piece))
print("recursion == gradient x (x - root):    ", same(recursion.relevance, lrp.fractions(expected)))

# %% [markdown]
# With the roots that belong to the rules, the recursion is no longer LRP, for LRP keeps the context frozen:

# %%
for rule in (lrp.ZPlus(), lrp.Gamma(gamma=0.25)):
    frozen = lrp.explain(chain, x, rule, 0)
    print(repr(rule), "LRP", lrp.fractions(frozen.relevance).astype(float).round(3)[0])
    recursion = full_recursion(frozen, "physical", full=True)
    print(recursion, lrp.fractions(recursion.relevance).astype(float).round(3)[0], sep="\n")

# %% [markdown]
# **The roots lie on other pieces.** A ReLU network is its own first-order expansion on one linear piece only, where no
# ReLU switches. So run a multilayer perceptron from each $z^+$ root, and compare its other ReLUs with the data's:

# %%
mlp = lrp.explain(data.digits_mlp(), image, lrp.ZPlus(), 3)
report = dtd.verify(mlp, "physical", dtd.Box(0, 1))
n = report["dense1"].neurons
print(f"roots of dense1 in the box:        {int(n.in_domain.sum())} of {len(n)}")
print(f"of them on the piece of the image: {int((n.in_domain & (n.flips == 0)).sum())}")
print(f"ReLUs that flip, at most:          {n.flips.max():.0%}")
print(f"the context changes by:            {np.median(n.drift):.0%} (median), {n.drift.max():.0%} (at most)")
print("and still every identity holds:   ", report.holds)

# %% [markdown]
# ## What may be said
#
# *The messages of a neuron equal the first-order terms of its relevance model at the point $\tilde a$.* That is what
# was checked, with `==`. Say in which reading, whether $\tilde a$ is in the domain, and how far the context drifts
# there: these can fail, and the report says where.
#
# What may not be said is that LRP is the Taylor expansion of the network. The network has a context that changes, roots
# on other linear pieces, and a root for every split one likes. The theory is a way to design rules, to see that $z^+$
# fits inputs that are never negative and the $z$-box rule pixels. It is no proof that an explanation is right.
