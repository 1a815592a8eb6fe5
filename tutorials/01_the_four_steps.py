# %% [markdown]
# # The four steps
#
# Layer-wise relevance propagation (LRP) explains one output of a network: it takes the number that came out and deals
# it out backwards, layer by layer, until it lies on the input. This page does so by hand on one layer, then on a small
# network for handwritten digits, keeps the books in floats and in exact fractions, and ends with a rule of your own.
#
# It reads beside section 10.2.2, on implementing LRP efficiently, of
# [Montavon, Binder, Lapuschkin, Samek, Müller (2019), *Layer-Wise Relevance Propagation: An
# Overview*](https://doi.org/10.1007/978-3-030-28954-6_10), called the chapter below.

# %%
import inspect
from pathlib import Path

import numpy as np

import lrp_ref as lrp
from lrp_ref import data, show
from lrp_ref.layers import Add, AvgPool, BatchNorm, Conv, Dense

# %% [markdown]
# ## One layer, by hand
#
# A dense layer computes $z_k = \sum_j a_j w_{jk} + b_k$. Relevance $R_k$ has arrived at its outputs, and each $R_k$ is
# shared among the inputs $j$ in proportion to what they contributed to $z_k$. Three of the chapter's rules are one:
#
# $$R_j = \sum_k \frac{a_j \, \rho(w_{jk})}{\epsilon + \sum_{0,j} a_j \, \rho(w_{jk})} \, R_k$$
#
# The sum $\sum_{0,j}$ runs over all inputs and the bias, as a weight $w_{0k} = b_k$ with $a_0 = 1$. With $\rho(w) = w$
# and $\epsilon = 0$ this is LRP-0; with $\epsilon > 0$ it is LRP-$\epsilon$; and $\rho(w) = w + \gamma w^+$, which
# favors what speaks for the output, makes it LRP-$\gamma$. Here are $\gamma$ and $\epsilon$ at once.

# %%
a = np.array([[1.0, 2.0, 0.0]])  # one sample, three inputs
weight = np.array([[1.0, -1.0], [0.5, 2.0], [3.0, -2.0]])  # three inputs, two outputs
bias = np.array([0.5, -1.0])
R = a @ weight + bias  # take the outputs themselves as relevance
epsilon = gamma = 0.25


def rho(w):
    return w + gamma * np.maximum(w, 0)


# %% [markdown]
# Computed in four steps, it takes two passes through the layer and no loop over pairs $(j, k)$:

# %%
z = epsilon + a @ rho(weight) + rho(bias)  # 1 forward
s = R / z  # 2 divide
c = s @ rho(weight).T  # 3 backward
R_in = a * c  # 4 multiply

print("R    ", R)
print("R_in ", R_in)

# %% [markdown]
# Step 3 is a gradient: with $s$ held fixed, $c_j$ is the derivative of $\sum_k z_k s_k$ by $a_j$. That is why one
# forward and one backward pass are enough for any layer that is linear, a convolution as well as this one. The third
# input is 0, contributed nothing, and receives nothing.
#
# ## One layer, by lrp_ref
#
# The library has the same four lines, for every linear layer and every rule:

# %%
print(inspect.getsource(lrp.four_steps))

# %%
layer = Dense(weight=weight, bias=bias)
rule = lrp.Gamma(gamma=gamma, epsilon=epsilon)
R_same, absorbed = lrp.four_steps(layer, rule, a, R)

print(rule, "gives", R_same)
print("as by hand:", np.allclose(R_same, R_in, rtol=1e-15))

# %% [markdown]
# Besides the relevance of the inputs it returns what did not get there. The denominator holds the bias and $\epsilon$
# beside the inputs, so they take a share, and that share is written down. What came is what went and what stayed:

# %%
print("came            ", R.sum())
print("went            ", R_same.sum())
print("bias took       ", absorbed.bias.sum())
print("stabilizer took ", absorbed.stabilizer.sum())
print("came - all three", R.sum() - R_same.sum() - absorbed.bias.sum() - absorbed.stabilizer.sum())

# %% [markdown]
# ## A network
#
# The package ships handwritten digits of 8 x 8 pixels between 0 and 1, and two small networks trained on them. A
# network is a graph of named layers; this one has a residual connection, which leads around `conv2` to `add`.

# %%
digits, graph = data.digits(), data.digits_cnn()
print(graph)

images = digits.images.astype(np.float64)
said = graph.forward(images[digits.test])["logits"].argmax(axis=1)
print(f"\ncorrect on {(said == digits.labels[digits.test]).mean():.1%} of {len(digits.test)} test images")

# %% [markdown]
# What is explained is a logit, here that of class 3 for an image of a 3. `explain` runs the network forward once,
# starts with that logit as relevance, and takes the four steps at every node on the way back. With LRP-0 for all:

# %%
threes = digits.test[digits.labels[digits.test] == 3]
x = images[threes[:1]]
plain = lrp.explain(graph, x, lrp.Zero(), 3)

print("logits   ", plain.output[0].round(2))
print("relevance", plain.relevance.shape, "sums to", plain.relevance.sum())

# %% [markdown]
# ## A rule for each layer
#
# One rule does not suit all layers; section 10.3 of the chapter says which suits where. Near the output LRP-0 stays
# close to the function. Lower down, convolutions see the same pattern at many places and contributions cancel;
# LRP-$\gamma$ favors the positive ones, to be calmer there. (`GeneralizedGamma` is its form for outputs of any sign:
# `conv2` has no ReLU behind it.) Pixels have bounds rather than a natural zero, and the $z^B$ rule, `ZBox`, knows them.
# A composite is such a list of cases; at each node the first that fits counts:

# %%
cases = [
    (lrp.first(Conv), lrp.ZBox(low=0, high=1)),
    (lrp.kind(Conv), lrp.GeneralizedGamma(gamma=0.25)),
    (lrp.kind(Add, AvgPool), lrp.Norm()),
    (lrp.kind(Dense), lrp.Zero()),
]

try:
    lrp.explain(graph, x, lrp.Composite(cases), 3)
except lrp.NoRule as error:
    print(error)

# %% [markdown]
# No case fits the batch norms, and nothing is guessed. They scale and shift each value on its own, and may hand on all
# that comes: `Pass`. So do ReLU, max pool and flatten, which are wires at the data point and need no case.

# %%
composite = lrp.Composite([*cases, (lrp.kind(BatchNorm), lrp.Pass())])
explanation = lrp.explain(graph, x, composite, 3)
print(explanation.rules)

# %% [markdown]
# Red speaks for the 3, blue against it. One rule for all multiplies by the pixel in the end, so it cannot color the
# black ones. The composite can: it also says where the absence of ink matters.

# %%
explanations = {
    "LRP-0": plain,
    "LRP-gamma": lrp.explain(graph, x, lrp.GeneralizedGamma(gamma=0.25), 3),
    "composite": explanation,
}
maps = [e.relevance for e in explanations.values()]
picture = show.figure(
    [[R[0, 0] for R in maps]],
    columns=list(explanations),
    images=x,
    captions=[[f"{show.negative_share(R)[0]:.0%} negative" for R in maps]],
)
Path("demo-output").mkdir(exist_ok=True)
picture.savefig("demo-output/01_the_four_steps.png")
picture

# %% [markdown]
# ## The books
#
# Each explanation keeps books, a line for each node, from the output down. Those of LRP-0, and of the composite:

# %%
print(plain.ledger, explanation.ledger, sep="\n\n")

# %% [markdown]
# - **came**: relevance at the node's output; **went**: what it dealt on to its inputs, all together.
# - **bias**, **stabilizer**: what these took, as in the layer above.
# - **unclaimed**: relevance of outputs to which nothing contributed, so that nobody could take it.
# - **edited**: what a mask took on the way (`explain(..., edit=...)`), for asking about a part of the network.
# - **amplified**: the sum of $|R|$ at the inputs over that at the output. Above 1, positive and negative parts grew at
#   each other's cost; below 1, they canceled.
#
# A dot is an exact zero. The map of LRP-0 does not sum to the logit, and the books say why: the shifts of the two batch
# norms stand in denominators, and take their share. A negative share is one that the inputs had to make up for. The
# composite passes the batch norms by, and only the bias of the last layer takes anything.

# %%
print("the logit:", plain.output[0, 3].round(2))
print("taken under LRP-0 by bn2, bn1:", *(plain.ledger[node].bias[0].round(2) for node in ("bn2", "bn1")))
for name, e in explanations.items():
    print(f"{name:9}: sum of the map {e.relevance.sum():.2f}, of its sizes {abs(e.relevance).sum():.2f}")

# %% [markdown]
# Every number is booked where it arises, never as a remainder, for a remainder always balances. So these are checks.
# (`pool1` has two readers, `conv2` and `add`; what came to it is what both sent.)

# %%
ledger = explanation.ledger
print("came - went - taken, at worst:", max(abs(entry.balance()[0]) for entry in ledger))
print("came to pool1 - sent by both: ", ledger.fan_in()["pool1"][0])
print("logit - arrived - taken:      ", ledger.balance()[0])

# %% [markdown]
# ## Exactly
#
# What is left there is rounding. To know that it is nothing else, compute without: every float is a fraction, these
# layers and rules only add, multiply, divide and compare, and the same code runs on fractions. First the one layer:

# %%
a_exact, R_exact = lrp.exact(a), lrp.exact(R)
R_fractions, absorbed = lrp.four_steps(layer.like(a_exact), rule, a_exact, R_exact)

print("R_in      ", *R_fractions[0])
print("bias      ", absorbed.bias.sum())
print("stabilizer", absorbed.stabilizer.sum())
print("came == went + both:", R_exact.sum() == R_fractions.sum() + absorbed.bias.sum() + absorbed.stabilizer.sum())

# %% [markdown]
# Then the network. Now `==` means equal, at every node, at every fan-in and from end to end:

# %%
exact = lrp.explain(graph, lrp.exact(x), composite, 3)

print("at every node  ", all(entry.balance()[0] == 0 for entry in exact.ledger))
print("at every fan-in", all(rest[0] == 0 for rest in exact.ledger.fan_in().values()))
print("end to end     ", exact.ledger.balance()[0] == 0)

pixels = lrp.fractions(exact.relevance)
off = abs(lrp.fractions(explanation.relevance) - pixels).max() / abs(pixels).max()
digits_long = max(len(str(pixel.denominator)) for pixel in pixels.flat)
print(f"the longest denominator of a pixel has {digits_long} digits")
print(f"the floats are off by {float(off):.1e} of the largest relevance")

# %% [markdown]
# ## Your own rule
#
# A rule says by which contributions $R_k$ is shared, and nothing else: terms $x(a_j) \, w(w_{jk})$, and $b(b_k)$ beside
# them. Say that inputs should share by the size of their contributions, whatever the sign:


# %%
class Size(lrp.Rule):
    """R_k in proportion to |a_j w_jk|."""

    def shares(self):
        return (lrp.Share((lrp.Term(x=abs, w=abs, b=abs),)),)


# %% [markdown]
# That is all. It works on every layer, in every arithmetic, prints itself, and its books close, because the four steps
# keep them. It never makes negative relevance of positive, so its map can speak only for the 3, never against:

# %%
own = lrp.explain(graph, lrp.exact(x), Size(), 3)

print(own.rules["conv1"], "at conv1;", "negative share of its map:", show.negative_share(own.relevance)[0])
print("exact at every node:", all(entry.balance()[0] == 0 for entry in own.ledger))
print(own.ledger)
