# %% [markdown]
# # Your own network
#
# The first tutorial explained a network that ships with the library. This one explains one that you trained: it is
# loaded in one line, its layers keep their names, and the rules are chosen by those names. With PyTorch installed the
# network is trained here, in a few seconds; without it, the same network is read from an ONNX file.
#
# The chapter is [Montavon, Binder, Lapuschkin, Samek, Müller (2019), *Layer-Wise Relevance Propagation: An
# Overview*](https://doi.org/10.1007/978-3-030-28954-6_10).

# %%
import importlib.util
from pathlib import Path

import numpy as np

import lrp_ref as lrp
from lrp_ref import data, show
from lrp_ref.layers import Conv, Dense

digits = data.digits()
images, labels = digits.images, digits.labels

# %% [markdown]
# ## A network, trained
#
# Two convolutions with batch norm, a max pool, an average pool and a dense layer, as one would write it in PyTorch.


# %%
def trained():
    """The network as a torch module, trained on the training rows."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)
    features = nn.Sequential()
    for name, layer in {
        "conv1": nn.Conv2d(1, 8, 3, padding=1, bias=False),
        "norm1": nn.BatchNorm2d(8),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(8, 16, 3, padding=1),
        "relu2": nn.ReLU(),
        "pool2": nn.AvgPool2d(2),
    }.items():
        features.add_module(name, layer)
    net = nn.Sequential()
    net.add_module("features", features)
    net.add_module("flatten", nn.Flatten())
    net.add_module("classifier", nn.Linear(64, 10))
    net.add_module("probabilities", nn.Softmax(dim=1))

    x, y = torch.from_numpy(images[digits.train]), torch.from_numpy(labels[digits.train])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(15):
        for rows in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            logits = net[:-1](x[rows])
            nn.functional.cross_entropy(logits, y[rows]).backward()
            optimizer.step()
    return net.eval()


# %% [markdown]
# ## Loaded
#
# `lrp.load` looks at what it is given: a torch module (with an example of its input), a path to an ONNX or Keras file,
# a Keras model, a fitted scikit-learn estimator. What it makes of it is checked against the framework's own output.

# %%
if importlib.util.find_spec("torch"):
    graph = lrp.load(trained(), input=images[:1])
else:
    graph = lrp.load(data.FOLDER / "digits_torch.onnx")
print(graph)

# %% [markdown]
# The lines below the table say what was done on the way: a batch norm behind a convolution is folded into it, since
# LRP's rules look at weights, and the weights that the network really applies are those of both together; and the
# softmax is taken off, since relevance starts from a logit. `canonize=False` leaves everything as it was. The nodes
# have the names of the modules.

# %%
said = graph.forward(images[digits.test])[graph.outputs[0]].argmax(axis=1)
print(f"correct on {(said == labels[digits.test]).mean():.1%} of {len(said)} test images")

# %% [markdown]
# ## Explained
#
# A preset is a composite with a name. Before anything is computed one can look at what it would do:

# %%
preset = lrp.presets.epsilon_plus()
print(preset.assign(graph))

# %%
fives = digits.test[labels[digits.test] == 5]
x = images[fives[:1]].astype(np.float64)
explanation = lrp.explain(graph, x, preset)
print(explanation.ledger)

# %% [markdown]
# The books say where relevance went: what came to a layer, what it passed on, and what its bias and the stabilizer
# took. `bias` is where the two are told apart that a sum over the map cannot tell: this network's logit is
# explained in part by its biases.

# %%
entries = {entry.node: entry for entry in explanation.ledger}
for name, entry in entries.items():
    if entry.bias[0]:
        print(f"{name:16} bias took {entry.bias[0]:8.4f} of {entry.came[0]:.4f}")

# %% [markdown]
# ## Changed, by name
#
# The first convolution reads pixels, which have bounds; the second gets LRP-gamma. Each case names what it is for, by
# kind, by place, or by name; a pattern that fits nothing is an error that says what is near.

# %%
rules = lrp.Composite(
    [
        (lrp.named("features.conv1"), lrp.ZBox(low=0, high=1)),
        (lrp.kind(Conv) & lrp.before("flatten"), lrp.Gamma(gamma=0.25)),
        (lrp.kind(Dense), lrp.Zero()),
        *preset.cases,
    ]
)
changed = lrp.explain(graph, x, rules)
print(changed.rules)

try:
    lrp.explain(graph, x, lrp.Composite([(lrp.named("feature.conv*"), lrp.Zero())]))
except lrp.NoRule as error:
    print(error)

# %% [markdown]
# One logit against another is a target of its own; so is any array of start relevance. Here: why a 5 and not a 3?

# %%
against = lrp.explain(graph, x, rules, lrp.contrast(5, 3))

maps = {"epsilon_plus": explanation, "by name": changed, "5 rather than 3": against}
picture = show.figure(
    [[e.relevance[0, 0] for e in maps.values()]],
    columns=list(maps),
    images=x,
    captions=[[f"{show.negative_share(e.relevance)[0]:.0%} negative" for e in maps.values()]],
)
Path("demo-output").mkdir(exist_ok=True)
picture.savefig("demo-output/02_your_own_network.png")
picture

# %% [markdown]
# ## Certain
#
# The weights are floats, hence fractions, and the network is small: the same explanation in exact arithmetic shows that
# what the floats leave over is rounding and nothing else.

# %%
exact = lrp.explain(graph, lrp.exact(x), rules)
truth = lrp.fractions(exact.relevance)
off = abs(lrp.fractions(changed.relevance) - truth).max() / abs(truth).max()

print("the books balance at every node:", all(entry.balance()[0] == 0 for entry in exact.ledger))
print(f"the floats are off by {float(off):.1e} of the largest relevance")

# %% [markdown]
# An explanation can be kept: relevances, rules, books and versions in one file, without pickles.

# %%
changed.save("demo-output/02_your_own_network.npz")
print(lrp.read("demo-output/02_your_own_network.npz").rules["features.conv1"])
