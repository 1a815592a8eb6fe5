"""What frameworks compute under the same names: each difference that was found in the field, as a value.

A :class:`Setting` is everything that decides the relevance. A :class:`Variant` turns a setting into another, or
into None where it does not apply or can have no effect; what the new setting gives is computed by the same
propagation as everything else, in any arithmetic.

>>> setting = Setting.of(graph, x, composite, target=3)  # doctest: +SKIP
>>> variant_named("bias dropped").everywhere(setting).explain().relevance  # doctest: +SKIP

Sources of the differences: zennit 0.5.1, captum 0.9.0, LXT 2.1, iNNvestigate 2.1, RelevancePropagation.jl 3.0 with
Flux, lrp_toolbox, LRP_for_LSTM, the authors' tutorial, BiLRP, and Binder's code for ResNet and DenseNet, as run or
read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..arrays import (
    Array,
    divide,
    exact,
    floats,
    greatest_class,
    is_enclosed,
    is_exact,
    like,
    namespace,
    number,
    ones,
    zeros,
)
from ..canonize import batch_norm_folded
from ..errors import LrpError
from ..graph import Graph, Node, chain
from ..layers import (
    Activation,
    Add,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    Layer,
    Near,
    Scale,
    Sub,
    SumPool,
)
from ..layers.pool import AVERAGE_POOLS, MAX_POOLS
from ..ledger import Absorbed
from ..propagate import Rule, Share, Term, keep
from ..rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    GeneralizedGamma,
    Gradient,
    Norm,
    Pass,
    WSquare,
    ZBox,
    Zero,
    ZMinus,
    ZPlus,
)
from ..stabilize import AtZero, Clipped, Relative, SignedOrZero, Unsigned
from ..targets import one_hot, softmax
from ..values import value
from .settings import Setting, Start, Step, Variant

MEAN_POOLS = (*AVERAGE_POOLS, SumPool)
WEIGHTED = (Dense, Conv, ConvTranspose)
TAKE_BIAS = (Zero, Epsilon, Norm, Gamma, GeneralizedGamma, ZPlus, ZMinus, AlphaBeta)
"""Rules whose denominators hold the bias."""


def variant_named(name: str) -> Variant:
    """The variant of the catalogue with that name."""
    for variant in CATALOGUE:
        if variant.name == name:
            return variant
    raise LrpError(f'no variant "{name}": the catalogue has {", ".join(repr(v.name) for v in CATALOGUE)}')


def _with(step: Step, rule: Rule | None = None, layer: Layer | None = None) -> Step:
    return dataclasses.replace(step, rule=rule or step.rule, layer=layer or step.layer)


def _changed(step: Step, **parameters: Any) -> Step | None:
    """The step with other parameters of its rule; None where they are those it has."""
    if all(getattr(step.rule, name) == new for name, new in parameters.items()):
        return None
    return _with(step, dataclasses.replace(step.rule, **parameters))


def _stabilized(rule: Rule, like_that: Rule) -> Rule:
    """The rule with the stabilizer of another."""
    return dataclasses.replace(rule, epsilon=like_that.epsilon, stabilizer=like_that.stabilizer)


# --- rules that only variants need


class Magnitude(Rule):
    r"""The |z|-rule: shares by magnitude, the bias' among them.

    .. math:: R_j = \sum_k \frac{|a_j w_{jk}|}{\sum_j |a_j w_{jk}| + |b_k| + e_k} R_k

    Hui and Binder 2019 (doi 10.1007/978-3-030-20518-8_24).
    """

    def shares(self) -> tuple[Share, ...]:
        """(|a|, |w|, |b|)."""
        return (Share((Term(abs, abs, abs),)),)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ActiveGamma(Rule):
    """Generalized gamma where z_k > 0, and nothing elsewhere: its sign taken behind the ReLU."""

    gamma: float = 0.25

    def shares(self) -> tuple[Share, ...]:
        """The first of the two shares of generalized gamma."""
        return GeneralizedGamma(gamma=self.gamma).shares()[:1]


class Unmultiplied(Rule):
    r"""The steps without the fourth: what captum's IdentityRule hands a ReLU that it reads.

    .. math:: R_j = \sum_k \frac{w_{jk}}{z_k + e_k} R_k
    """

    def shares(self) -> tuple[Share, ...]:
        """(a, w, b), as far as something is divided."""
        return (Share((Term(),)),)

    def back(self, layer: Layer, inputs: Sequence[Array], R: Array) -> tuple[tuple[Array, ...], Absorbed]:
        """The adjoint of R / (z + e)."""
        frozen, a = self.linear_map(layer, inputs)
        weight, bias = frozen.parameters(a)
        z = frozen.linear(a, weight) + bias
        d = z + self.stabilizer(z, self.epsilon)
        c = frozen.adjoint(divide(R, d), weight, a.shape)
        handed = divide(frozen.linear(ones(a.shape, a), weight), d)
        return layer.split(c, [x.shape for x in inputs]), Absorbed.undealt(R, [handed])


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PaddedBox(Rule):
    """z-box with the bounds padded as if they were the input: padded cells take part, and what they get is lost."""

    low: Any
    high: Any

    def shares(self) -> tuple[Share, ...]:
        """Those of z-box."""
        return ZBox(low=self.low, high=self.high).shares()

    def back(self, layer: Layer, inputs: Sequence[Array], R: Array) -> tuple[tuple[Array, ...], Absorbed]:
        """z-box on the input with its padding, cut to the input."""
        frozen, a = self.linear_map(layer, inputs)
        assert isinstance(frozen, Conv)
        padding: Any = frozen.padding
        inside = (slice(None), slice(None), *(slice(p, p + n) for (p, _), n in zip(padding, a.shape[2:], strict=True)))
        shape = [*a.shape[:2], *(n + p + q for (p, q), n in zip(padding, a.shape[2:], strict=True))]
        whole, real = zeros(shape, a), zeros(shape, a)
        whole[inside], real[inside] = a, number(1, a)
        conv = dataclasses.replace(frozen, padding=0)
        weight, _ = conv.parameters(whole)
        box = ZBox(low=self.low, high=self.high, epsilon=self.epsilon, stabilizer=self.stabilizer)
        (share,) = box.shares()
        x, w, _ = box.modified(share, whole, weight, zeros((1,), a))
        z = sum(map(conv.linear, x, w))
        e = self.stabilizer(z, self.epsilon)
        s = divide(R, z + e)
        R_in = sum(x_t * conv.adjoint(s, w_t, whole.shape) for x_t, w_t in zip(x, w, strict=True))
        got = sum(conv.linear(x_t * real, w_t) for x_t, w_t in zip(x, w, strict=True))
        absorbed = Absorbed.share(R, z, e, s * number(0, s), s * e, one_sign=False)
        lost = Absorbed.undealt(R, [number(1, R) - divide(z - got, z + e)])
        return layer.split(R_in[inside], [i.shape for i in inputs]), absorbed + lost


# --- the bias


def _has_bias(layer: Layer) -> bool:
    """Whether what the layer freezes to has a bias other than 0."""
    arrays = (getattr(layer, name, None) for name in ("bias", "tap_bias", "shift", "constant"))
    return any(array is not None and bool((array != 0).any()) for array in arrays)


def _bias(how: str, *rules: type[Rule]) -> Callable[[Step], Step | None]:
    def change(step: Step) -> Step | None:
        if not isinstance(step.rule, rules) or not _has_bias(step.layer):
            return None
        return _changed(step, bias=how)

    return change


def _bias_spread(step: Step) -> Step | None:
    if not isinstance(step.rule, (Zero, Epsilon, Norm)) or isinstance(step.layer, BatchNorm):
        return None  # spread to one input it is Pass
    if not (_has_bias(step.layer) or step.rule.epsilon):
        return None
    return _changed(step, bias="spread")


BIAS = (
    Variant(
        "bias dropped",
        "denominators without the bias: sum_j a_j w_jk + e_k, or the rule's own sum without b_k",
        ("zennit with zero_params", "iNNvestigate's IgnoreBias and z+", "deep Taylor", "captum with set_bias_to_zero"),
        _bias("none", *TAKE_BIAS),
    ),
    Variant(
        "bias raw",
        "denominators with b_k as it is where the rule transforms it: + b_k in place of + b_k^+ or b_k + gamma b_k^+",
        ("captum's Alpha1_Beta0_Rule and GammaRule",),
        _bias("raw", Gamma, GeneralizedGamma, ActiveGamma, ZPlus, ZMinus),
    ),
    Variant(
        "bias in both parts",
        "alpha-beta with b_k in both denominators: sum_j (a_j w_jk)^+ + b_k and sum_j (a_j w_jk)^- + b_k",
        ("iNNvestigate", "Binder with ignorebias=False"),
        _bias("raw", AlphaBeta),
    ),
    Variant(
        "bias squared",
        "w^2 with the bias: sum_j w_jk^2 + b_k^2 in the denominator",
        ("zennit",),
        _bias("squared", WSquare),
    ),
    Variant(
        "bias spread",
        "what bias and stabilizer take is dealt out equally: (a_j w_jk + (b_k + e_k)/n_k) / (z_k + e_k) R_k",
        ("LRP_for_LSTM with bias_factor=1",),
        _bias_spread,
    ),
)


# --- stabilizers


def _form(form: Any) -> Callable[[Step], Step | None]:
    def change(step: Step) -> Step | None:
        return _changed(step, stabilizer=form) if step.rule.shares() and step.rule.epsilon else None

    return change


def _size(epsilon: float) -> Callable[[Step], Step | None]:
    def change(step: Step) -> Step | None:
        return _changed(step, epsilon=epsilon) if step.rule.shares() else None

    return change


def _halved(step: Step) -> Step | None:
    return _changed(step, epsilon=step.rule.epsilon / 2) if step.rule.shares() and step.rule.epsilon else None


def _of_rms(epsilon: float) -> Callable[[Step], Step | None]:
    form = Relative(over="batch", signed=False, plus=1e-9)

    def change(step: Step) -> Step | None:
        return _changed(step, epsilon=epsilon, stabilizer=form) if step.rule.shares() else None

    return change


SIZES: Mapping[float, tuple[str, ...]] = {
    1e-16: ("lrp_toolbox",),
    1e-12: ("lrp_toolbox's pools", "Binder where z_k = 0"),
    1e-9: ("captum", "RelevancePropagation.jl", "the tutorial", "BiLRP"),
    1e-8: ("LXT's add2 and matmul",),
    1e-7: ("iNNvestigate",),
    1e-6: ("zennit", "LXT", "RelevancePropagation.jl's EpsilonRule", "Binder's dense layers"),
    1e-3: ("LRP_for_LSTM",),
}
FORMS = (
    Variant(
        "stabilizer unsigned",
        "e_k = epsilon whatever the sign of z_k",
        ("LXT", "BiLRP", "the tutorial"),
        _form(Unsigned()),
    ),
    Variant(
        "stabilizer at exact zeros only",
        "e_k = epsilon where z_k is exactly 0, else 0",
        ("iNNvestigate in every rule but Epsilon",),
        _form(AtZero()),
    ),
    Variant(
        "stabilizer clipped",
        "denominators s(z_k) max(|z_k|, epsilon)",
        ("zennit with clip=True",),
        _form(Clipped()),
    ),
    Variant(
        "stabilizer of sign 0 at 0",
        "e_k = epsilon sign(z_k) with sign(0) = 0, and 1e-12 where z_k is exactly 0",
        ("Binder",),
        _form(SignedOrZero()),
    ),
    Variant(
        "stabilizer relative to the sample's rms",
        "e_k = epsilon rms(z) s(z_k), rms over the sample",
        ("zennit with norm_scale=True",),
        _form(Relative(over="sample")),
    ),
    Variant(
        "stabilizer halved",
        "e_k / 2: denominators 2 z_k + epsilon for half the relevance",
        ("LXT's matmul",),
        _halved,
    ),
    *(
        Variant(
            f"stabilizer of {size:g} rms",
            f"e_k = {size:g} rms(z) + 1e-9, rms over the whole batch",
            ("the tutorial",),
            _of_rms(size),
        )
        for size in (0.25, 0.1)
    ),
    Variant("stabilizer left out", "e_k = 0", ("the formulas as printed with epsilon = 0",), _size(0.0)),
    *(Variant(f"stabilizer of size {e:g}", f"epsilon = {e:g}", who, _size(e)) for e, who in SIZES.items()),
)


# --- how contributions are split, and gamma


def _unsplit(step: Step) -> Step | None:
    return _changed(step, split="weight") if isinstance(step.rule, (ZPlus, ZMinus, AlphaBeta)) else None


def _unsplit_raw(step: Step) -> Step | None:
    both = isinstance(step.rule, ZPlus) and step.rule.bias == "rule" and step.rule.split == "product"
    return _changed(step, split="weight", bias="raw") if both and _has_bias(step.layer) else None


def _common(rule: Rule) -> dict[str, Any]:
    return {"epsilon": rule.epsilon, "stabilizer": rule.stabilizer, "bias": rule.bias}


def _gamma_plain(step: Step) -> Step | None:
    rule = step.rule
    if not isinstance(rule, GeneralizedGamma) or not rule.gamma:
        return None
    return _with(step, Gamma(gamma=rule.gamma, **_common(rule)))


def _gamma_plain_raw(step: Step) -> Step | None:
    plain = _gamma_plain(step)
    if plain is None or step.rule.bias != "rule" or not _has_bias(step.layer):
        return None
    return _changed(plain, bias="raw")


def _gamma_generalized(step: Step) -> Step | None:
    rule = step.rule
    return _with(step, GeneralizedGamma(gamma=rule.gamma, **_common(rule))) if isinstance(rule, Gamma) else None


def _gamma_active(step: Step) -> Step | None:
    rule = step.rule
    return _with(step, ActiveGamma(gamma=rule.gamma, **_common(rule))) if isinstance(rule, GeneralizedGamma) else None


SPLITS = (
    Variant(
        "inputs not split",
        "the sign of the weight decides, not of the product: a_j w_jk^+ in place of (a_j w_jk)^+",
        ("captum's Alpha1_Beta0_Rule", "iNNvestigate's ZPlusFast"),
        _unsplit,
    ),
    Variant(
        "inputs not split, bias raw",
        "a_j w_jk^+ / (sum_j a_j w_jk^+ + b_k)",
        ("captum's Alpha1_Beta0_Rule",),
        _unsplit_raw,
    ),
    Variant(
        "gamma not generalized",
        "a_j (w_jk + gamma w_jk^+) whatever the signs of a_j and z_k",
        ("the tutorial", "BiLRP", "RelevancePropagation.jl's GammaRule"),
        _gamma_plain,
    ),
    Variant(
        "gamma not generalized, bias raw",
        "a_j (w_jk + gamma w_jk^+) / (sum_j a_j (w_jk + gamma w_jk^+) + b_k)",
        ("captum's GammaRule",),
        _gamma_plain_raw,
    ),
    Variant(
        "gamma generalized",
        "contributions of the sign of z_k raised: m_jk + gamma m_jk^+ or m_jk^-, with m_jk = a_j w_jk",
        ("zennit's Gamma", "RelevancePropagation.jl's GeneralizedGammaRule"),
        _gamma_generalized,
    ),
    Variant(
        "gamma of active outputs only",
        "generalized gamma with the sign taken behind the ReLU: nothing is handed on where z_k < 0",
        ("RelevancePropagation.jl's GeneralizedGammaRule",),
        _gamma_active,
    ),
)


# --- pools


def _ties(ties: Any) -> Callable[[Step], Step | None]:
    def change(step: Step) -> Step | None:
        layer = step.layer
        if not isinstance(layer, MAX_POOLS) or layer.frozen_as != "winner" or layer.ties == ties:
            return None
        return _with(step, layer=dataclasses.replace(layer, ties=ties))

    return change


def _max_pool(rule: Rule, *, average: bool) -> Callable[[Step], Step | None]:
    def change(step: Step) -> Step | None:
        layer = step.layer
        if not isinstance(layer, MAX_POOLS) or layer.frozen_as != "winner" or (step.rule == rule and not average):
            return None
        return _with(step, rule, dataclasses.replace(layer, frozen_as="average") if average else layer)

    return change


def _mean_pool(rule: Rule) -> Callable[[Step], Step | None]:
    def change(step: Step) -> Step | None:
        return _with(step, rule) if isinstance(step.layer, MEAN_POOLS) and step.rule != rule else None

    return change


POOLS = (
    Variant("ties shared", "equal maxima of a window share R_k equally", ("lrp_toolbox",), _ties("shared")),
    Variant(
        "ties approximate (Flux)",
        "the first cell within 3.45e-4 of the maximum wins, relative to it",
        ("RelevancePropagation.jl with Flux in Float32",),
        _ties(Near(2.0**-11.5)),
    ),
    Variant(
        "ties approximate (Flux in Float64)",
        "the first cell within 1.49e-8 of the maximum wins, relative to it",
        ("RelevancePropagation.jl with Flux in Float64",),
        _ties(Near(2.0**-26)),
    ),
    Variant(
        "max pool as average",
        "a_j / sum_j a_j R_k over the windows of a max pool",
        ("the tutorial", "the chapter", "BiLRP"),
        _max_pool(Norm(), average=True),
    ),
    Variant(
        "max pool as average, 1e-9",
        "a_j / (sum_j a_j / n_k + e_k) R_k / n_k over the windows of a max pool, epsilon = 1e-9",
        ("the tutorial", "early captum"),
        _max_pool(Norm(epsilon=1e-9), average=True),
    ),
    Variant(
        "max pool spread evenly",
        "R_k / n_k to every cell of a window, winner or not",
        ("lrp_toolbox with flat or ww",),
        _max_pool(Flat(), average=True),
    ),
    *(
        Variant(
            f"max pool divides, {e:g}",
            f"the winner gets a_j / (a_j + e_k) R_k, epsilon = {e:g}: nothing where the maximum is 0",
            who,
            _max_pool(Epsilon(epsilon=e), average=False),
        )
        for e, who in {
            1e-9: ("captum", "RelevancePropagation.jl", "BiLRP"),
            1e-6: ("zennit with Norm on a pool",),
        }.items()
    ),
    Variant(
        "average pool spread evenly",
        "R_k / n_k to every cell of a window, in place of a_j / sum_j a_j R_k",
        ("iNNvestigate's DeepTaylor", "lrp_toolbox with flat or ww"),
        _mean_pool(Flat()),
    ),
    Variant(
        "average pool by its gradient",
        "w_jk R_k: the average's derivative 1/n_k, padded cells counted if the pool counts them",
        ("iNNvestigate's DeepTaylor", "any module without a rule"),
        _mean_pool(Gradient()),
    ),
    Variant(
        "average pool by alpha-beta",
        "alpha = 2, beta = 1 on pools: 2 R_k is handed on where no input is negative",
        ("lrp_toolbox",),
        _mean_pool(AlphaBeta(alpha=2, epsilon=1e-16)),
    ),
)


# --- activations, adds


def _activation(step: Step) -> Step | None:
    return _with(step, Gradient()) if isinstance(step.layer, Activation) and step.rule != Gradient() else None


def _add(rule: Rule) -> Callable[[Step], Step | None]:
    def change(step: Step) -> Step | None:
        if not isinstance(step.layer, (Add, Sub)):
            return None
        new = _stabilized(rule, step.rule) if isinstance(rule, (Magnitude, ZPlus)) else rule
        return None if step.rule == new else _with(step, new)

    return change


ADDS = (
    Variant(
        "activation by its gradient",
        "R_j = f'(a_j) R_j in place of R_j = R_k",
        ("any module without a rule", "iNNvestigate's unlisted layers"),
        _activation,
    ),
    Variant(
        "add doubled",
        "all of R_k to each branch of an add: its gradient",
        ("zennit without ResNetCanonizer", "captum's + outside a module", "iNNvestigate's DeepTaylor"),
        _add(Gradient()),
    ),
    Variant("add split evenly", "R_k / 2 to each branch of an add", ("users of several",), _add(Flat())),
    Variant(
        "add by magnitudes",
        "|a_j| / (sum_j |a_j|) R_k to each branch of an add",
        ("proposed for sums that cancel",),
        _add(Magnitude()),
    ),
    Variant(
        "add by positive parts",
        "a_j^+ / sum_j a_j^+ R_k to each branch of an add",
        ("excitation backprop",),
        _add(ZPlus()),
    ),
)


# --- batch norm


@value
class Statistics:
    """What a training framework keeps of a batch norm; the layer here has only their combination."""

    mean: Any
    variance: Any
    weight: Any = 1.0
    bias: Any = 0.0
    epsilon: float = 1e-5


def _batch_norm(rule: Rule) -> Callable[[Step], Step | None]:
    def change(step: Step) -> Step | None:
        new = _stabilized(rule, step.rule) if isinstance(rule, Magnitude) else rule
        if not isinstance(step.layer, BatchNorm) or step.rule == new:
            return None
        if isinstance(rule, Epsilon) and isinstance(step.rule, (Zero, Epsilon, Norm)):
            return None  # only its stabilizer differs
        return _with(step, new)

    return change


def _fold_at(setting: Setting) -> Iterator[tuple[str, str, Layer]]:
    """Each batch norm that reads a linear layer which nobody else reads: both names, and the layer folded."""
    graph = setting.prepared
    read = [source for node in graph.nodes for source in node.inputs]
    for node in graph.nodes:
        if isinstance(node.layer, BatchNorm) and read.count(node.inputs[0]) == 1 and node.inputs[0] not in graph.inputs:
            before = graph[node.inputs[0]]
            if isinstance(before.layer, WEIGHTED) and before.name not in graph.outputs:
                pair = batch_norm_folded(chain(before.layer, node.layer))
                if len(pair.nodes) == 1:
                    yield before.name, node.name, pair.nodes[0].layer


def _batch_norm_folded(setting: Setting) -> Setting | None:
    steps: dict[str, Rule] = {}
    for linear, norm, folded in _fold_at(setting):
        steps[linear] = _with(setting.at(linear), layer=folded)
        steps[norm] = _with(setting.at(norm), Pass())
    return setting.with_steps(steps) if steps else None


def _batch_norm_unfolded(setting: Setting) -> Setting | None:
    """The network as it was before it was canonized, its batch norms passed."""
    raw = setting.graph.like(setting.x)
    added = {node.name for node in raw.nodes} - {node.name for node in setting.prepared.nodes}
    if not setting.canonize or not any(isinstance(raw[name].layer, BatchNorm) for name in added):
        return None
    if not all(isinstance(raw[name].layer, BatchNorm) or raw[name].layer.wire for name in added):
        return None
    if any(isinstance(rule, Step) or name not in {n.name for n in raw.nodes} for name, rule in setting.rules.items()):
        return None
    return dataclasses.replace(setting, canonize=(), rules={**setting.rules, **dict.fromkeys(added, Pass())})


def _batch_norms(setting: Setting, layers: Mapping[str, BatchNorm]) -> Setting | None:
    """The network with other batch norms, forwards too."""
    if not layers or any(isinstance(setting.rules.get(name), Step) for name in layers):
        return None
    return dataclasses.replace(setting, graph=setting.graph.with_layers(layers))


def _epsilon_left(epsilon: float) -> Callable[[Setting], Setting | None]:
    def change(setting: Setting) -> Setting | None:
        graph = setting.prepared
        norms = [node.name for node in setting.graph.nodes if isinstance(node.layer, BatchNorm)]
        left = {graph.aliases[name]: name for name in norms if name in graph.aliases}
        if not left:
            return None
        nodes = []
        for node in graph.nodes:
            nodes.append(Node(node.name, node.layer, *(left.get(source, source) for source in node.inputs)))
            if node.name in left:
                nodes.append(Node(left[node.name], Scale(weight=1 / (1 + epsilon) ** 0.5), node.name))
        outputs = [left.get(name, name) for name in graph.outputs]
        changed = Graph(nodes, outputs=outputs, inputs=graph.inputs)
        rules = {**setting.rules, **dict.fromkeys(left.values(), Pass())}
        return dataclasses.replace(setting, graph=changed, rules=rules, canonize=())

    return change


def of_statistics(statistics: Mapping[str, Statistics]) -> tuple[Variant, ...]:
    """The variants of batch norm that need more than its scale and shift: by node what was kept of it."""

    def without_epsilon(setting: Setting) -> Setting | None:
        layers = {}
        for node in setting.graph.nodes:
            if node.name in statistics and isinstance(node.layer, BatchNorm):
                s = statistics[node.name]
                deviation = floats(exact(s.variance)) ** 0.5 + 1e-9
                scale = s.weight / deviation
                layers[node.name] = BatchNorm(scale=scale, shift=s.bias - scale * s.mean)
        return _batch_norms(setting, layers)

    def own_formula(setting: Setting) -> Setting | None:
        steps: dict[str, Rule] = {}
        for name in statistics:
            if name in setting.rules and isinstance((step := setting.at(name)).layer, BatchNorm):
                s = statistics[name]
                deviation = (floats(exact(s.variance)) ** 2 + s.epsilon) ** 0.5
                scale = s.weight / deviation + 0 * deviation
                wrong = BatchNorm(scale=scale, shift=s.bias - s.mean / deviation)
                steps[name] = _with(step, Zero() if isinstance(step.rule, Pass) else step.rule, wrong)
        return setting.with_steps(steps) if steps else None

    return (
        Variant(
            "batch norm folded without epsilon",
            "scale = weight / (sqrt(variance) + 1e-9), forwards too",
            ("RelevancePropagation.jl",),
            without_epsilon,
            "network",
        ),
        Variant(
            "batch norm by iNNvestigate's own formula",
            "a rule for a_j g/d - m/d + b, d = sqrt(variance^2 + epsilon), g the weight, m the mean, b the bias",
            ("iNNvestigate",),
            own_formula,
            "network",
        ),
    )


BATCH_NORMS = (
    Variant(
        "batch norm passed",
        "R_j = R_k at a batch norm",
        ("zennit's composites", "captum with IdentityRule", "RelevancePropagation.jl"),
        _batch_norm(Pass()),
    ),
    *(
        Variant(
            f"batch norm by the epsilon rule, {e:g}" if e else "batch norm by the z-rule",
            f"w_j a_j / (w_j a_j + b_j + e_j) R_j at a batch norm, epsilon = {e:g}",
            who,
            _batch_norm(Epsilon(epsilon=e)),
        )
        for e, who in {
            0.0: ("iNNvestigate",),
            1e-9: ("captum",),
            1e-6: ("zennit with Epsilon on a batch norm",),
        }.items()
    ),
    Variant(
        "batch norm by magnitudes",
        "|w_j a_j| / (|w_j a_j| + |b_j|) R_j at a batch norm",
        ("Hui and Binder",),
        _batch_norm(Magnitude()),
    ),
    Variant(
        "batch norm by its gradient",
        "w_j R_j at a batch norm",
        ("any module without a rule",),
        _batch_norm(Gradient()),
    ),
    Variant(
        "identity rule after a ReLU",
        "w_j / (w_j a_j + b_j + e_j) R_j, epsilon = 1e-9, in place of R_j",
        ("captum's IdentityRule on a module that reads a ReLU",),
        _batch_norm(Unmultiplied(epsilon=1e-9)),
    ),
    Variant(
        "batch norm folded",
        "the linear layer before a batch norm takes its scale into its weights, and its shift into its bias",
        ("zennit with a canonizer", "RelevancePropagation.jl's canonize", "Binder"),
        _batch_norm_folded,
        "network",
    ),
    Variant(
        "batch norm not folded",
        "batch norms that canonizing folds are passed",
        ("zennit without a canonizer",),
        _batch_norm_unfolded,
        "network",
    ),
    *(
        Variant(
            f"batch norm leaves its epsilon, {e:g}",
            f"every batch norm that was folded still divides by sqrt(1 + {e:g}), forwards too",
            ("zennit's SequentialMergeBatchNorm",),
            _epsilon_left(e),
            "network",
        )
        for e in (1e-5, 1e-3)
    ),
)


# --- bounds, weights, factors


def _bounds_padded(step: Step) -> Step | None:
    rule, layer = step.rule, step.layer
    if not isinstance(rule, ZBox) or not isinstance(layer, Conv):
        return None
    padding: Any = layer.padding
    depth = max(_depth(rule.low), _depth(rule.high))
    if depth > 1 or not any(map(sum, padding)):
        return None
    return _with(step, PaddedBox(low=rule.low, high=rule.high, **_common(rule)))


def _depth(bound: Any) -> int:
    return 1 + _depth(bound[0]) if isinstance(bound, tuple) else 0


def _reweighted(step: Step, transform: Callable[[Array], Array]) -> Step | None:
    layer: Any = step.layer
    weight = transform(layer.weight)
    return (
        None if bool((weight == layer.weight).all()) else _with(step, layer=dataclasses.replace(layer, weight=weight))
    )


def _flipped(step: Step) -> Step | None:
    layer = step.layer
    if not isinstance(layer, (Conv, ConvTranspose)) or not step.rule.shares() or isinstance(step.rule, Flat):
        return None
    spatial = tuple(range(2, layer.weight.ndim))
    return _reweighted(step, lambda w: namespace(w).flip(w, spatial))


def _transposed(step: Step) -> Step | None:
    layer = step.layer
    if not isinstance(layer, WEIGHTED) or not step.rule.shares() or isinstance(step.rule, Flat):
        return None
    if layer.weight.shape[0] != layer.weight.shape[1] or getattr(layer, "groups", 1) != 1:
        return None
    return _reweighted(step, lambda w: w.swapaxes(0, 1))


def _times(factor: float) -> Callable[[Step], Step | None]:
    return lambda step: dataclasses.replace(step, factor=step.factor * factor)


WEIGHTS = (
    Variant(
        "bounds padded",
        "z-box with l_j and h_j in padded cells too: they take part in the sums, and what they get is lost",
        ("users who pad the bounds with themselves",),
        _bounds_padded,
    ),
    Variant(
        "kernel flipped",
        "relevance goes back through the kernel flipped along its spatial axes",
        ("Flux's weights taken as they are",),
        _flipped,
    ),
    Variant(
        "weights transposed",
        "relevance goes back through w_kj in place of w_jk (where there are as many inputs as outputs)",
        ("weights read in another framework's order",),
        _transposed,
    ),
    *(
        Variant(f"factor {text}", f"a node hands on {text} of what its rule says", who, _times(factor))
        for text, factor, who in (
            ("2", 2, ("both branches of a product counted",)),
            ("1/2", 0.5, ("LXT's uniform rule on a product",)),
            ("1/4", 0.25, ("LXT at queries and keys",)),
            ("-1", -1, ("beta with the other sign",)),
        )
    ),
)


# --- the first layer


def _first_layers(setting: Setting) -> tuple[list[str], list[str]]:
    """The first convolutions or dense layers, and all others."""
    graph = setting.prepared
    some = [node.name for node in graph.nodes if isinstance(node.layer, WEIGHTED)]
    first = [name for name in some if not graph.upstream[name] & set(some)]
    return first, [name for name in some if name not in first]


def _others_rule(setting: Setting, name: str) -> Rule | None:
    """The rule of the first other layer of the same kind."""
    _, others = _first_layers(setting)
    kind = type(setting.prepared[name].layer)
    rules = [setting.at(other).rule for other in others if type(setting.prepared[other].layer) is kind]
    return rules[0] if rules else None


def _first_as_others(dense_only: bool) -> Callable[[Setting], Setting | None]:
    def change(setting: Setting) -> Setting | None:
        steps: dict[str, Rule] = {}
        for name in _first_layers(setting)[0]:
            step, rule = setting.at(name), _others_rule(setting, name)
            special = isinstance(step.rule, Flat) if dense_only else isinstance(step.rule, (Flat, WSquare, ZBox))
            if special and rule is not None and rule != step.rule and dense_only <= isinstance(step.layer, Dense):
                steps[name] = _with(step, rule)
        return setting.with_steps(steps) if steps else None

    return change


def _first_by(rule: Rule) -> Callable[[Setting], Setting | None]:
    def change(setting: Setting) -> Setting | None:
        steps = {
            name: _with(setting.at(name), _stabilized(rule, setting.at(name).rule))
            for name in _first_layers(setting)[0]
            if type(setting.at(name).rule) is not type(rule)
        }
        return setting.with_steps(steps) if steps else None

    return change


FIRST = (
    Variant(
        "Flat on the first convolution only",
        "a first layer that is dense takes the rule of the other dense layers, not Flat",
        ("RelevancePropagation.jl",),
        _first_as_others(dense_only=True),
        "network",
    ),
    Variant(
        "first layer as the others",
        "no rule of its own for the first layer: that of the other layers of its kind",
        ("composites without a first layer",),
        _first_as_others(dense_only=False),
        "network",
    ),
    Variant(
        "first layer by Flat", "Flat at the first layer", ("zennit's ...Flat composites",), _first_by(Flat()), "network"
    ),
    Variant(
        "first layer by w^2",
        "w^2 at the first layer",
        ("deep Taylor on real numbers",),
        _first_by(WSquare()),
        "network",
    ),
)


# --- the start


def _class(R: Array) -> Any:
    """The class of each sample from which relevance starts, if it is one and the output is (batch, classes)."""
    if R.ndim != 2 or bool(((R != 0).sum(axis=1) != 1).any()):
        return None
    return (R != 0).argmax(axis=1)


def _at_class(number_of: Callable[[Array], Array]) -> Start:
    def change(z: Array, R: Array) -> Array | None:
        k = _class(R)
        return None if k is None else number_of(z) * one_hot(z, k)

    return change


def _everywhere(number_of: Callable[[Array], Array]) -> Start:
    return lambda z, R: number_of(z) if z.ndim == 2 else None


def _probabilities(z: Array) -> Array:
    rational = is_exact(z) and not is_enclosed(z)
    return like(softmax(floats(z)), z) if rational else softmax(z)


def _log_probability(z: Array, R: Array) -> Array | None:
    k = _class(R)
    return None if k is None else z * (one_hot(z, k) - _probabilities(z))


def _greatest(z: Array, R: Array) -> Array | None:
    return None if _class(R) is None else z * one_hot(z, greatest_class(z))


def _one(z: Array) -> Array:
    return ones(z.shape, z)


STARTS = tuple(
    Variant(name, says, who, change, "start")
    for name, says, change, who in (
        ("start at 1", "R_k = 1 at the target", _at_class(_one), ("RelevancePropagation.jl", "zennit's one-hot")),
        ("start at the logit", "R_k = z_k at the target", _at_class(keep), ("captum", "iNNvestigate", "the tutorial")),
        ("start at the magnitude of the logit", "R_k = |z_k| at the target", _at_class(abs), ("zennit-crp",)),
        ("start at the probability", "R_k = softmax(z)_k", _at_class(_probabilities), ("lrp_toolbox",)),
        ("start at all logits", "R = z", _everywhere(keep), ("zennit's default",)),
        ("start at all probabilities", "R = softmax(z)", _everywhere(_probabilities), ("lrp_toolbox's demo",)),
        ("start at 1 everywhere", "R = 1 for every class", _everywhere(_one), ("a gradient of the summed outputs",)),
        ("start at the greatest logit", "R_k = z_k, k the greatest", _greatest, ("iNNvestigate's default",)),
        ("start at the log-probability", "R = z (e_k - softmax(z))", _log_probability, ("gradients of log p_k",)),
    )
)


# --- arithmetic


def _in_float32(setting: Setting) -> Setting | None:
    first = next(iter(setting.x.values())) if isinstance(setting.x, Mapping) else setting.x
    if setting.dtype is not None or first.dtype.char not in "dg":
        return None
    return dataclasses.replace(setting, dtype="float32")


ARITHMETIC = (
    Variant(
        "float32 arithmetic",
        "the same formulas in single precision",
        ("RelevancePropagation.jl", "iNNvestigate", "torch by default"),
        _in_float32,
        "network",
    ),
)


CATALOGUE: tuple[Variant, ...] = (
    *SPLITS, *BIAS, *FORMS, *POOLS, *ADDS, *BATCH_NORMS, *FIRST, *STARTS, *WEIGHTS, *ARITHMETIC,
)  # fmt: skip
"""Every variant, the likelier first where two have the same effect."""
