"""Faults to be found: seeded, drawn from the whole catalogue of variants, and others that are in no catalogue.

`fault(seed)` gives a network of at least 6 nodes and 3 rules, what "the other framework" computes on it, and which
variants it has: one, or two where seed % 3 is 2. A fault that moves no relevance of the input is drawn again, and
counted. `stranger(seed)` gives the same with a fault that is no variant, `nothing_wrong(seed)` without any.

The other framework's numbers are those of longer arithmetic, rounded, so that their rounding is not ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref.composites import Composite, first, kind
from lrp_ref.ledger import Absorbed
from lrp_ref.oracle.settings import Setting, Variant
from lrp_ref.oracle.variants import CATALOGUE, Statistics, of_statistics

SEEN, LOOKED_AT, UNSEEN, STRANGERS = range(300), range(300, 400), range(400, 500), range(100)
"""LOOKED_AT were unseen until they were measured once, and then helped to mend what they had found."""
STATISTICS = ("batch norm folded without epsilon", "batch norm by iNNvestigate's own formula")
NAMES = sorted([*(variant.name for variant in CATALOGUE), *STATISTICS])  # whatever order the catalogue has
Rng = np.random.Generator


@dataclass(frozen=True)
class Network:
    """A network, an input, rules and target, with the catalogue that knows its batch norms."""

    graph: lrp.Graph
    x: Any
    composite: Composite
    target: Any
    catalogue: Sequence[Variant]

    @property
    def setting(self) -> Setting:
        return Setting.of(self.graph, self.x, self.composite, self.target)


@dataclass(frozen=True)
class Fault:
    """What was drawn."""

    seed: int
    network: Network
    truth: tuple[tuple[str, str], ...]
    """Name and node of each variant, "everywhere" if it is at every node where it applies."""
    theirs: Mapping[str, Any]
    """Relevance at the output of every node, and of the input."""
    redrawn: int = 0
    """How many faults before this one had no visible effect."""


# --- networks -----------------------------------------------------------------------------------------------------


def numbers(rng: Rng, coarse: bool, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Weights: normal, or halves, so that sums and maxima tie and vanish."""
    return rng.integers(-2, 3, shape) / 2 if coarse else rng.normal(size=shape) * scale


class Builder:
    """A graph, written from the input on."""

    def __init__(self, rng: Rng, coarse: bool) -> None:
        self.rng, self.coarse, self.nodes, self.statistics = rng, coarse, [], {}
        self.last = "input"

    def add(self, layer: L.Layer, *inputs: str) -> str:
        name = f"{type(layer).__name__.lower()}{len(self.nodes)}"
        self.nodes.append(lrp.Node(name, layer, *(inputs or (self.last,))))
        self.last = name
        return name

    def conv(self, inputs: int, outputs: int, kernel: int, padding: int = 0) -> str:
        weight = numbers(self.rng, self.coarse, outputs, inputs, kernel, kernel, scale=(inputs * kernel**2) ** -0.5)
        return self.add(L.Conv(weight, numbers(self.rng, self.coarse, outputs, scale=0.3), padding=padding))

    def norm(self, channels: int) -> str:
        if self.coarse:
            scale = self.rng.choice([0.5, 1.0, 2.0, -1.0], channels)
            return self.add(L.BatchNorm(scale, numbers(self.rng, True, channels)))
        s = Statistics(
            mean=self.rng.normal(size=channels) * 0.3,
            variance=self.rng.uniform(0.3, 2, channels),
            weight=self.rng.uniform(0.5, 1.5, channels),
            bias=self.rng.normal(size=channels) * 0.3,
        )
        layer = L.BatchNorm.from_statistics(
            mean=s.mean, variance=s.variance, weight=s.weight, bias=s.bias, epsilon=s.epsilon
        )
        name = self.add(layer)
        self.statistics[name] = s
        return name


def network(rng: Rng) -> Network:
    """Convolutions, pools, batch norms, adds and dense layers; a chain, or with branches."""
    coarse = bool(rng.random() < 0.3)
    near = not coarse and bool(rng.random() < 0.15)
    b, size, c = Builder(rng, coarse), int(rng.choice([6, 8])), int(rng.integers(2, 5))
    kernel = 1 if near else int(rng.choice([2, 3]))
    padding = kernel // 2 if rng.random() < 0.7 else 0
    b.conv(2, c, kernel, padding)
    size += 2 * padding - kernel + 1
    if rng.random() < 0.5:
        b.norm(c)
    b.add(L.ReLU())
    if near or rng.random() < 0.5:
        b.add(L.MaxPool(2))
        size //= 2
    shape = rng.choice(["chain", "residual", "parallel"])
    entry = b.last
    if shape == "residual":
        b.conv(c, c, 3, 1)
        if rng.random() < 0.6:
            b.norm(c)
        b.add(L.Add(), b.last, entry)
        b.add(L.ReLU())
    elif shape == "parallel":
        left = b.conv(c, 2, 1)
        b.last = entry
        right = b.conv(c, 2, 3, 1)
        b.add(L.Concat(), left, right)
        b.add(L.ReLU())
        c = 4
    else:
        b.conv(c, c, 3, 1)
        if rng.random() < 0.4:
            b.norm(c)
        b.add(L.ReLU() if rng.random() < 0.8 else L.LeakyReLU(0.25))
    if size >= 2 and rng.random() < 0.7:
        b.add((L.MaxPool if rng.random() < 0.5 else L.AvgPool)(2))
        size //= 2
    elif rng.random() < 0.5:
        b.add(L.AvgPool(3, stride=1, padding=1))
    b.add(L.Flatten())
    units, classes = c * size * size, int(rng.integers(3, 6))
    hidden = classes if rng.random() < 0.5 else 5
    if rng.random() < 0.7:
        b.add(L.Dense(numbers(rng, coarse, units, hidden, scale=units**-0.5), numbers(rng, coarse, hidden, scale=0.3)))
        b.add(L.ReLU())
        units = hidden
    b.add(L.Dense(numbers(rng, coarse, units, classes, scale=units**-0.5), numbers(rng, coarse, classes, scale=0.3)))
    graph = lrp.Graph(b.nodes, outputs=b.last)

    batch, side = int(rng.integers(1, 3)), int(graph.nodes[0].layer.weight.shape[1]) and _side(graph)
    if coarse:
        x = rng.integers(-2, 3, (batch, 2, side, side)) / 2
    else:
        x = rng.normal(size=(batch, 2, side, side))
        if near:
            x = np.repeat(np.repeat(x[:, :, ::2, ::2], 2, 2), 2, 3) * (1 + 1e-5 * rng.random(x.shape))
    z = graph.forward(x)[graph.outputs[0]]
    target = lrp.logit(int(rng.integers(classes))) if rng.random() < 0.5 else lrp.argmax()
    target = lrp.logit(z.argmax(axis=1)) if isinstance(target, lrp.argmax) else target
    return Network(graph, x, composite(rng), target, (*CATALOGUE, *of_statistics(b.statistics)))


def _side(graph: lrp.Graph) -> int:
    """The side of the input that fits the dense layers: tried, for it was rounded on the way."""
    for side in (8, 6):
        try:
            graph.forward(np.zeros((1, 2, side, side)))
        except lrp.LrpError:
            continue
        return side
    raise AssertionError("no input fits")


def composite(rng: Rng) -> Composite:
    """Rules of at least three kinds."""
    e = float(rng.choice([1e-6, 1e-6, 1e-4, 1e-2]))
    convs = [
        lrp.ZPlus(epsilon=e),
        lrp.AlphaBeta(alpha=2, epsilon=e),
        lrp.AlphaBeta(alpha=1, epsilon=e),
        lrp.Gamma(gamma=0.25, epsilon=e),
        lrp.GeneralizedGamma(gamma=0.25, epsilon=e),
        lrp.GeneralizedGamma(gamma=0.5, epsilon=e),
        lrp.Epsilon(epsilon=e),
    ]
    cases: list[tuple[Any, lrp.Rule]] = []
    start = rng.integers(6)
    if start == 0:
        cases.append((first(L.Conv, L.Dense), lrp.Flat()))
    elif start == 1:
        cases.append((first(L.Conv, L.Dense), lrp.WSquare(epsilon=e)))
    elif start in (2, 3):
        cases.append((first(L.Conv), lrp.ZBox(low=-5, high=5, epsilon=e)))
    cases.append((kind(L.Conv), convs[rng.integers(len(convs))]))
    cases.append((kind(L.Dense), lrp.Epsilon(epsilon=e) if rng.random() < 0.7 else lrp.Gamma(gamma=0.25, epsilon=e)))
    cases.append((kind(L.Add, L.AvgPool), lrp.Norm(epsilon=e)))
    norms = rng.integers(4)
    cases.append((kind(L.BatchNorm), lrp.Epsilon(epsilon=e) if norms == 0 else lrp.Pass()))
    return Composite(cases, canonize=[lrp.canonize] if norms == 1 else [])


def large_enough(setting: Setting) -> bool:
    """At least 6 nodes and 3 kinds of rules."""
    return len(setting.prepared.nodes) >= 6 and len({type(rule) for rule in setting.rules.values()}) >= 3


# --- their numbers ------------------------------------------------------------------------------------------------


def computed(setting: Setting) -> dict[str, np.ndarray]:
    """Relevance at every node and the input: of longer arithmetic, rounded; of float32 if the setting says so."""
    if setting.dtype is None:
        setting = dataclasses.replace(setting, x=setting.x.astype(np.longdouble))
    return {name: np.asarray(R, dtype=np.float64) for name, R in setting.explain().relevances.items()}


def visible(one: Mapping[str, Any], other: Mapping[str, Any], network: Network, bound: float = 2.0**-42) -> bool:
    """Whether the input's relevance differs by more than rounding does: 64 times our own, or 2^-42 of the greatest."""
    (name,) = network.graph.inputs
    rounding = abs(network.setting.explain().relevances[name] - computed(network.setting)[name]).max()
    difference = abs(one[name] - other[name]).max()
    return bool(difference > max(64 * rounding, bound * abs(one[name]).max()))


def healthy(theirs: Mapping[str, Any]) -> bool:
    """Whether the numbers are numbers, and not those of a pole."""
    return all(bool(np.isfinite(R).all()) and abs(R).max(initial=0) < 1e6 for R in theirs.values())


# --- faults of the catalogue --------------------------------------------------------------------------------------


def placed(rng: Rng, variant: Variant, setting: Setting) -> tuple[Setting, str] | None:
    """The setting with the variant at one node where it applies, or at all."""
    nodes = variant.nodes(setting)
    if variant.scope == "node" and nodes and (len(nodes) == 1 or rng.random() < 0.6):
        node = nodes[rng.integers(len(nodes))]
        changed = variant.at(setting, node)
        return None if changed is None else (changed, "everywhere" if len(nodes) == 1 else node)
    changed = variant.everywhere(setting)
    return None if changed is None else (changed, "everywhere")


def fault(seed: int) -> Fault:
    """One variant, or two where seed % 3 is 2."""
    rng = np.random.default_rng([seed, 6])
    redrawn = 0
    while True:
        names = [NAMES[i] for i in rng.choice(len(NAMES), size=2 if seed % 3 == 2 else 1, replace=False)]
        for _ in range(60):
            net = network(rng)
            setting = net.setting
            if not large_enough(setting) or not healthy(ours := computed(setting)):
                continue
            changed, truth, singles = setting, [], []
            for name in names:
                variant = next((v for v in net.catalogue if v.name == name), None)
                put = None if variant is None else placed(rng, variant, changed)
                if put is None:
                    break
                if len(names) == 2 and (alone := _alone(variant, put[1], setting)) is not None:
                    singles.append(alone)
                changed = put[0]
                truth.append((name, put[1]))
            if len(truth) < len(names) or len(singles) != 2 * (len(names) == 2):
                continue
            theirs = computed(changed)
            if not healthy(theirs):
                continue
            others = [ours, *(computed(single) for single in singles)]
            bound = 2.0**-18 if changed.dtype == "float32" and len(names) == 2 else 2.0**-42
            if all(visible(other, theirs, net, bound) for other in others):
                return Fault(seed, net, tuple(truth), theirs, redrawn)
            redrawn += 1


def _alone(variant: Variant, where: str, setting: Setting) -> Setting | None:
    """One of the two, by itself."""
    return variant.everywhere(setting) if where == "everywhere" else variant.at(setting, where)


# --- faults of no catalogue ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Broken(lrp.Rule):
    """A rule that is given, or gives, something else."""

    rule: lrp.Rule
    before: Callable[[Any], Any] = lambda R: R
    after: Callable[[Any], Any] = lambda R: R

    def back(self, layer: L.Layer, inputs: Sequence[Any], R: Any) -> tuple[tuple[Any, ...], Absorbed]:
        R_in, absorbed = self.rule.back(layer, inputs, self.before(R))
        return tuple(map(self.after, R_in)), absorbed


def message_dropped(rng: Rng, R: Any) -> Any:
    """The greatest relevance of each sample lost."""
    flat = R.reshape(len(R), -1).copy()
    flat[np.arange(len(R)), abs(flat).argmax(axis=1)] = 0
    return flat.reshape(R.shape)


def rolled(rng: Rng, R: Any) -> Any:
    """One cell off."""
    return np.roll(R, 1, axis=-1)


def one_sign_wrong(rng: Rng, R: Any) -> Any:
    """The first channel with the other sign; half of them may be a branch, whose sign is in the catalogue."""
    changed = R.copy()
    changed[:, 0] *= -1
    return changed


def noisy(size: float) -> Callable[[Rng, Any], Any]:
    def change(rng: Rng, R: Any) -> Any:
        return R * (1 + size * np.random.default_rng(11).normal(size=R.shape))

    return change


def reversed_channels(rng: Rng, R: Any) -> Any:
    return R[:, ::-1]


def leak(share: float) -> Callable[[Rng, Any], Any]:
    return lambda rng, R: R * (1 - share)


def only_positive(rng: Rng, R: Any) -> Any:
    return np.maximum(R, 0)


def first_half_alone(rng: Rng, R: Any) -> Any:
    changed = R.copy()
    changed[:, R.shape[1] // 2 :] = 0
    return changed


ON_RELEVANCE = {
    "a message dropped": message_dropped,
    "one cell off": rolled,
    "one channel's sign wrong": one_sign_wrong,
    "noise of 1e-3": noisy(1e-3),
    "noise of 1e-6": noisy(1e-6),
    "noise of 1e-9": noisy(1e-9),
    "channels in reverse": reversed_channels,
    "0.1 % lost": leak(1e-3),
    "30 % lost": leak(0.3),
    "negative relevance lost": only_positive,
    "half the channels lost": first_half_alone,
}


def other_parameter(step: Any) -> lrp.Rule | None:
    """Another gamma or alpha."""
    rule = step.rule
    if isinstance(rule, (lrp.Gamma, lrp.GeneralizedGamma)):
        return dataclasses.replace(rule, gamma=rule.gamma + 0.05)
    if isinstance(rule, lrp.AlphaBeta):
        return dataclasses.replace(rule, alpha=rule.alpha + 0.5, beta=None)
    return None


def other_weight(step: Any) -> L.Layer | None:
    """Weights off by a hundredth, the first alone."""
    if not isinstance(step.layer, (L.Conv, L.Dense)):
        return None
    weight = step.layer.weight.copy()
    weight[0] = weight[0] * 1.01 + 0.001
    return dataclasses.replace(step.layer, weight=weight)


def other_bias(step: Any) -> L.Layer | None:
    """Biases half as large again."""
    if not isinstance(step.layer, (L.Conv, L.Dense)) or step.layer.bias is None:
        return None
    return dataclasses.replace(step.layer, bias=step.layer.bias * 1.5)


KINDS = (*ON_RELEVANCE, "another parameter", "other weights", "other biases")


def stranger(seed: int) -> Fault:
    """A fault of no catalogue, at one node."""
    rng = np.random.default_rng([seed, 66])
    name, redrawn = KINDS[seed % len(KINDS)], 0
    while True:
        net = network(rng)
        setting = net.setting
        if not large_enough(setting) or not healthy(ours := computed(setting)):
            continue
        node = setting.prepared.nodes[rng.integers(len(setting.prepared.nodes))].name
        step = setting.at(node)
        if name in ON_RELEVANCE:
            change = ON_RELEVANCE[name]
            late = bool(rng.random() < 0.5)
            if ours[node].shape[1] < 2:
                continue
            put: lrp.Rule = Broken(rule=step, **{"after" if late else "before": lambda R: change(rng, R)})  # noqa: B023
        elif name == "another parameter":
            other = other_parameter(step)
            if other is None:
                continue
            put = dataclasses.replace(step, rule=other)
        else:
            layer = (other_weight if name == "other weights" else other_bias)(step)
            if layer is None:
                continue
            put = dataclasses.replace(step, layer=layer)
        theirs = computed(setting.with_steps({node: put}))
        if not healthy(theirs):
            continue
        if visible(ours, theirs, net, 2.0**-36):
            return Fault(seed, net, ((name, node),), theirs, redrawn)
        redrawn += 1


def nothing_wrong(seed: int, dtype: Any = np.float64) -> Fault:
    """A framework that agrees, in float64 or float32."""
    rng = np.random.default_rng([seed, 666])
    while True:
        net = network(rng)
        if dtype == np.float32:
            net = dataclasses.replace(net, x=net.x.astype(np.float32))
        setting = net.setting
        if large_enough(setting) and healthy(theirs := computed(setting)):
            return Fault(seed, net, (), {name: R.astype(dtype) for name, R in theirs.items()})
