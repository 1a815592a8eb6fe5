"""Each variant of the catalogue against literal loops in exact arithmetic, and where it says that it has no effect."""

import dataclasses
import math
from fractions import Fraction as F

import by_definition as by
import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref.oracle import CATALOGUE, Setting, Statistics, Step, of_statistics, variant_named

E = 0.125
G = 0.25
RNG = np.random.default_rng(20)


def eighths(*shape):
    return RNG.integers(-8, 9, shape) / 8


SHAPE = (2, 3, 4)
KERNEL, BIAS = eighths(2, 2, 3, 3), np.array([0.375, -0.625])
CONV = L.Conv(KERNEL, BIAS, padding=1)
CONV_OP = by.conv(KERNEL.tolist(), BIAS.tolist(), SHAPE, [1, 1], [(1, 1), (1, 1)], [1, 1])
X = eighths(*SHAPE)
X[0, 0, :2] = 0
NEAR = np.array([[[1.0, 1.0001, 0.5, -1.0], [0.25, 0.5, 0.75, 0.75]]])
CLOSE = np.array([[[1.0, 1.0 + 2.0**-30, 0.5, -1.0], [0.25, 0.5, 0.75, 0.75]]])
DEAD = np.array([[[0.0, -1.0, 0.5, -1.0], [-0.25, 0.0, 0.75, 0.25]]])
MAX, AVG = L.MaxPool(2), L.AvgPool(2)
WINDOW = [2, 2], [2, 2], [(0, 0)] * 2


def max_op(x, ties="first"):
    return by.max_pool(x, x.shape, *WINDOW, [1, 1], False, ties)


AVG_OP = by.avg_pool((1, 2, 4), *WINDOW, False, True)
AS_AVG_OP = by.max_pool_as_average((1, 2, 4), *WINDOW, [1, 1], False)
SCALE, SHIFT = np.array([0.5, -1.5]), np.array([0.75, -0.25])
NORM, NORM_OP = L.BatchNorm(SCALE, SHIFT), by.batch_norm(SCALE.tolist(), SHIFT.tolist(), SHAPE)
CANCELS = np.array([[[1.0, -1.0, 1.0, 0.5]]])  # sums of neighbours are exactly 0, or smaller than E
PAIRS = L.Conv(np.array([[[[1.0, 1.0]]]]) * 0.5, None)
PAIRS_OP = by.conv([[[[0.5, 0.5]]]], None, (1, 1, 4), [1, 1], [(0, 0)] * 2, [1, 1])


def gradient(op, R):
    """sum_k w_jk R_k."""
    return by.received(op, {(j, k): w * by.vector(R, op.outputs)[k] for (j, k), w in op.w.items()})


def active(op, a, R):
    z = by.forward(op, a)
    kept = [r if z_k > 0 else 0 for r, z_k in zip(by.vector(R, op.outputs), z, strict=True)]
    return by.generalized_gamma(op, a, kept, G, epsilon=E).R_in


def unmultiplied(op, a, R):
    z = by.forward(op, a)
    e = by.signed(z, F(1e-9))
    return by.received(op, {(j, k): w / (z[k] + e[k]) * by.vector(R, op.outputs)[k] for (j, k), w in op.w.items()})


def padded_box(op, a, R):
    """z-box on the image with a border of zeros that belongs to it."""
    (c, h, w), a = SHAPE, by.vector(a, SHAPE)
    whole = [F(0)] * (c * (h + 2) * (w + 2))
    inner = [by.number((i, y + 1, x + 1), (c, h + 2, w + 2)) for i, y, x in by.indices(SHAPE)]
    for j, value in zip(inner, a, strict=True):
        whole[j] = value
    big = by.conv(KERNEL.tolist(), None, (c, h + 2, w + 2), [1, 1], [(0, 0)] * 2, [1, 1])
    got = by.z_box(big, whole, R, -2, 3, epsilon=E).R_in
    return [got[j] for j in inner]


def conv_op(kernel):
    return by.conv(kernel.tolist(), BIAS.tolist(), SHAPE, [1, 1], [(1, 1), (1, 1)], [1, 1])


def eps(op, a, R, **options):
    return by.epsilon(op, a, R, **({"epsilon": E} | options)).R_in


ON_CONV = {
    "bias dropped": (lrp.ZPlus(epsilon=E), lambda op, a, R: by.z_plus(op, a, R, epsilon=E, bias="none").R_in),
    "bias raw": (lrp.ZPlus(epsilon=E), lambda op, a, R: by.z_plus(op, a, R, epsilon=E, bias="raw").R_in),
    "bias in both parts": (
        lrp.AlphaBeta(epsilon=E),
        lambda op, a, R: by.alpha_beta(op, a, R, 2, 1, epsilon=E, bias="raw").R_in,
    ),
    "bias squared": (lrp.WSquare(), lambda op, a, R: by.w_square(op, a, R, bias="squared").R_in),
    "bias spread": (lrp.Epsilon(epsilon=E), lambda op, a, R: eps(op, a, R, bias="spread")),
    "inputs not split": (
        lrp.ZPlus(epsilon=E),
        lambda op, a, R: by.z_plus(op, a, R, epsilon=E, split="weight").R_in,
    ),
    "inputs not split, bias raw": (
        lrp.ZPlus(epsilon=E),
        lambda op, a, R: by.z_plus(op, a, R, epsilon=E, split="weight", bias="raw").R_in,
    ),
    "gamma not generalized": (
        lrp.GeneralizedGamma(gamma=G, epsilon=E),
        lambda op, a, R: by.gamma(op, a, R, G, epsilon=E).R_in,
    ),
    "gamma not generalized, bias raw": (
        lrp.GeneralizedGamma(gamma=G, epsilon=E),
        lambda op, a, R: by.gamma(op, a, R, G, epsilon=E, bias="raw").R_in,
    ),
    "gamma generalized": (
        lrp.Gamma(gamma=G, epsilon=E),
        lambda op, a, R: by.generalized_gamma(op, a, R, G, epsilon=E).R_in,
    ),
    "gamma of active outputs only": (lrp.GeneralizedGamma(gamma=G, epsilon=E), active),
    "stabilizer unsigned": (lrp.Epsilon(epsilon=E), lambda op, a, R: eps(op, a, R, stabilizer=by.unsigned)),
    "stabilizer at exact zeros only": (lrp.Epsilon(epsilon=E), lambda op, a, R: eps(op, a, R, stabilizer=by.at_zero)),
    "stabilizer clipped": (lrp.Epsilon(epsilon=E), lambda op, a, R: eps(op, a, R, stabilizer=by.clip)),
    "stabilizer relative to the sample's rms": (
        lrp.Epsilon(epsilon=E),
        lambda op, a, R: eps(op, a, R, stabilizer=by.relative()),
    ),
    "stabilizer halved": (lrp.Epsilon(epsilon=E), lambda op, a, R: eps(op, a, R, epsilon=F(1, 16))),
    **{
        f"stabilizer of {size:g} rms": (
            lrp.Epsilon(epsilon=E),
            lambda op, a, R, size=size: eps(op, a, R, epsilon=size, stabilizer=by.relative(sign=False, plus=1e-9)),
        )
        for size in (0.25, 0.1)
    },
    "stabilizer left out": (lrp.Epsilon(epsilon=E), lambda op, a, R: eps(op, a, R, epsilon=0)),
    **{
        f"stabilizer of size {size:g}": (
            lrp.Epsilon(epsilon=E),
            lambda op, a, R, size=size: eps(op, a, R, epsilon=size),
        )
        for size in (1e-16, 1e-12, 1e-9, 1e-8, 1e-7, 1e-6, 1e-3)
    },
    "bounds padded": (lrp.ZBox(low=-2, high=3, epsilon=E), padded_box),
    "kernel flipped": (
        lrp.Epsilon(epsilon=E),
        lambda op, a, R: eps(conv_op(KERNEL[:, :, ::-1, ::-1]), a, R),
    ),
    "weights transposed": (
        lrp.Epsilon(epsilon=E),
        lambda op, a, R: eps(conv_op(KERNEL.swapaxes(0, 1)), a, R),
    ),
    **{
        f"factor {text}": (
            lrp.Epsilon(epsilon=E),
            lambda op, a, R, factor=factor: [factor * r for r in eps(op, a, R)],
        )
        for text, factor in (("2", 2), ("1/2", F(1, 2)), ("1/4", F(1, 4)), ("-1", -1))
    },
}
ON_NORM = {
    "batch norm passed": (lrp.Epsilon(epsilon=E), lambda op, a, R: by.vector(R, op.outputs)),
    "batch norm by the z-rule": (lrp.Pass(), lambda op, a, R: by.zero(op, a, R).R_in),
    "batch norm by the epsilon rule, 1e-09": (lrp.Pass(), lambda op, a, R: eps(op, a, R, epsilon=1e-9)),
    "batch norm by the epsilon rule, 1e-06": (lrp.Pass(), lambda op, a, R: eps(op, a, R, epsilon=1e-6)),
    "batch norm by magnitudes": (lrp.Epsilon(epsilon=E), lambda op, a, R: by.absolute(op, a, R, epsilon=E).R_in),
    "batch norm by its gradient": (lrp.Pass(), lambda op, a, R: gradient(op, R)),
    "identity rule after a ReLU": (lrp.Pass(), unmultiplied),
}
CASES = {
    **{name: (CONV, X, rule, CONV_OP, expected) for name, (rule, expected) in ON_CONV.items()},
    **{name: (NORM, X, rule, NORM_OP, expected) for name, (rule, expected) in ON_NORM.items()},
    "stabilizer of sign 0 at 0": (
        PAIRS,
        CANCELS,
        lrp.Epsilon(epsilon=E),
        PAIRS_OP,
        lambda op, a, R: eps(op, a, R, stabilizer=by.signed_or(1e-12)),
    ),
    "ties shared": (
        MAX,
        NEAR,
        lrp.Pass(),
        max_op(NEAR, "shared"),
        lambda op, a, R: by.pass_(op, R, op.w).R_in,
    ),
    "ties approximate (Flux)": (
        MAX,
        NEAR,
        lrp.Pass(),
        max_op(NEAR, ("near", 2.0**-11.5)),
        lambda op, a, R: by.pass_(op, R).R_in,
    ),
    "ties approximate (Flux in Float64)": (
        MAX,
        CLOSE,
        lrp.Pass(),
        max_op(CLOSE, ("near", 2.0**-26)),
        lambda op, a, R: by.pass_(op, R).R_in,
    ),
    "max pool as average": (MAX, NEAR, lrp.Pass(), AS_AVG_OP, lambda op, a, R: by.norm(op, a, R).R_in),
    "max pool as average, 1e-9": (
        MAX,
        NEAR,
        lrp.Pass(),
        AS_AVG_OP,
        lambda op, a, R: by.norm(op, a, R, epsilon=1e-9).R_in,
    ),
    "max pool spread evenly": (MAX, NEAR, lrp.Pass(), AS_AVG_OP, lambda op, a, R: by.flat(op, a, R).R_in),
    "max pool divides, 1e-09": (MAX, DEAD, lrp.Pass(), max_op(DEAD), lambda op, a, R: eps(op, a, R, epsilon=1e-9)),
    "max pool divides, 1e-06": (MAX, DEAD, lrp.Pass(), max_op(DEAD), lambda op, a, R: eps(op, a, R, epsilon=1e-6)),
    "average pool spread evenly": (AVG, NEAR, lrp.Norm(), AVG_OP, lambda op, a, R: by.flat(op, a, R).R_in),
    "average pool by its gradient": (AVG, NEAR, lrp.Norm(), AVG_OP, lambda op, a, R: gradient(op, R)),
    "average pool by alpha-beta": (
        AVG,
        NEAR,
        lrp.Norm(),
        AVG_OP,
        lambda op, a, R: by.alpha_beta(op, a, R, 2, 1, epsilon=1e-16).R_in,
    ),
    "activation by its gradient": (
        L.LeakyReLU(0.25),
        X,
        lrp.Pass(),
        by.scale(np.where(X > 0, 1.0, 0.25).tolist(), None, SHAPE),
        lambda op, a, R: gradient(op, R),
    ),
}
ADDS = {
    "add doubled": lambda op, a, R: gradient(op, R),
    "add split evenly": lambda op, a, R: by.flat(op, a, R).R_in,
    "add by magnitudes": lambda op, a, R: by.absolute(op, a, R, epsilon=E).R_in,
    "add by positive parts": lambda op, a, R: by.z_plus(op, a, R, epsilon=E).R_in,
}
DENSE = L.Dense(np.array([[1.0, -0.5, 2.0], [0.25, 1.5, -1.0]]), np.array([0.5, -1.0, 0.25]))
DENSE_OP = by.dense(DENSE.weight.tolist(), DENSE.bias.tolist())
AT = np.array([[0.5, -1.5]])


def softmax(z):
    powers = np.exp(z - z.max())
    return powers / powers.sum()


LOGITS = np.array([[0.625, -3.5, 2.75]])  # of AT
STARTS = {
    "start at 1": (lrp.logit(1), lambda z: [0, 1, 0]),
    "start at the logit": (lrp.one(1), lambda z: [0, z[1], 0]),
    "start at the magnitude of the logit": (lrp.logit(1), lambda z: [0, -z[1], 0]),
    "start at the probability": (lrp.logit(1), lambda z: [0, softmax(z)[1], 0]),
    "start at all logits": (lrp.logit(1), lambda z: z),
    "start at all probabilities": (lrp.logit(1), softmax),
    "start at 1 everywhere": (lrp.logit(1), lambda z: [1, 1, 1]),
    "start at the greatest logit": (lrp.logit(1), lambda z: [0, 0, z[2]]),
    "start at the log-probability": (lrp.logit(1), lambda z: z * (np.array([0, 1, 0]) - softmax(z))),
}
NETWORK = {
    "batch norm folded", "batch norm not folded", "batch norm leaves its epsilon, 1e-05",
    "batch norm leaves its epsilon, 0.001", "Flat on the first convolution only", "first layer as the others",
    "first layer by Flat", "first layer by w^2", "float32 arithmetic",
}  # fmt: skip


def test_every_variant_of_the_catalogue_is_tested():
    assert len({variant.name for variant in CATALOGUE}) == len(CATALOGUE)
    assert {variant.name for variant in CATALOGUE} == {*CASES, *ADDS, *STARTS, *NETWORK}
    assert variant_named("bias dropped").name == "bias dropped"
    with pytest.raises(lrp.LrpError, match="no variant"):
        variant_named("bias forgotten")
    for variant in CATALOGUE:
        assert variant.says
        assert variant.who
        assert variant.name in str(variant)


def of_layer(layer, x, rule, R, exact):
    return Setting.of(lrp.chain(layer), exact(x[None]), lrp.Composite([(lrp.kind(L.Layer), rule)]), exact(R[None]))


@pytest.mark.parametrize("name", CASES)
def test_a_variant_at_one_layer_by_definition(name, exact):
    layer, x, rule, op, expected = CASES[name]
    R = np.random.default_rng(3).integers(-8, 9, op.outputs) / 8
    setting = of_layer(layer, x, rule, R, exact)
    variant, (node,) = variant_named(name), (n.name for n in setting.prepared.nodes)
    changed = variant.at(setting, node)
    assert variant.nodes(setting) == (node,)
    e = changed.explain()
    assert lrp.fractions(e.relevance).ravel().tolist() == list(expected(op, x, R)), name
    assert (lrp.fractions(e.ledger.balance()) == 0).all()
    assert lrp.fractions(e.ledger[node].balance()).tolist() == [0]
    assert (variant.everywhere(setting).explain().relevance == e.relevance).all()
    assert not (setting.explain().relevance == e.relevance).all(), "the witness does not tell it from the default"
    assert setting.rules[node] == rule, "the setting was changed in place"


@pytest.mark.parametrize("name", ADDS)
def test_a_variant_of_an_add_by_definition(name, exact):
    u, v, R = eighths(5), eighths(5), eighths(5)
    graph = lrp.Graph([lrp.Node("add", L.Add(), "u", "v")], outputs="add", inputs=("u", "v"))
    x = {"u": exact(u[None]), "v": exact(v[None])}
    setting = Setting.of(graph, x, lrp.Norm(epsilon=E), exact(R[None]))
    e = variant_named(name).at(setting, "add").explain()
    ours = [*lrp.fractions(e.relevance["u"]).ravel(), *lrp.fractions(e.relevance["v"]).ravel()]
    assert ours == list(ADDS[name](by.add([(5,), (5,)]), [*u, *v], R))
    default = setting.explain().relevance
    assert any((default[part] != e.relevance[part]).any() for part in "uv")


@pytest.mark.parametrize("name", STARTS)
def test_a_start_by_definition(name, exact):
    target, start = STARTS[name]
    setting = Setting.of(lrp.chain(DENSE), exact(AT), lrp.Epsilon(epsilon=E), target)
    changed = variant_named(name).everywhere(setting)
    assert lrp.fractions(setting.activations["0.dense"]).tolist() == LOGITS.tolist()
    R = start(LOGITS[0])
    ours = lrp.fractions(changed.explain().relevance)[0]
    if "probabilit" in name:  # of floats, taken as the numbers that they are
        expected = by.epsilon(DENSE_OP, AT[0], R, epsilon=E).R_in
        assert np.allclose([float(a) for a in ours], [float(b) for b in expected], rtol=1e-14, atol=0)
    else:
        assert ours.tolist() == by.epsilon(DENSE_OP, AT[0], R, epsilon=E).R_in
    assert variant_named(name).everywhere(changed) is None, "twice is once"


def test_a_start_follows_the_network_it_starts_from():
    setting = Setting.of(lrp.chain(DENSE), AT, lrp.Epsilon(epsilon=E), 1)
    changed = dataclasses.replace(variant_named("start at the magnitude of the logit").everywhere(setting), x=2 * AT)
    (z,) = changed.activations["0.dense"]
    assert changed.explain().relevances["0.dense"].tolist() == [[0, abs(z[1]), 0]]


# --- where there is no effect -------------------------------------------------------------------------------------

NO_BIAS = L.Conv(KERNEL, None, padding=1)
WITHOUT = {
    "bias dropped": [(NO_BIAS, lrp.ZPlus()), (CONV, lrp.ZPlus(bias="none")), (CONV, lrp.Flat()), (CONV, lrp.WSquare())],
    "bias raw": [(NO_BIAS, lrp.ZPlus()), (CONV, lrp.Epsilon(epsilon=E)), (CONV, lrp.AlphaBeta())],
    "bias in both parts": [(NO_BIAS, lrp.AlphaBeta()), (CONV, lrp.ZPlus())],
    "bias squared": [(NO_BIAS, lrp.WSquare()), (CONV, lrp.Epsilon(epsilon=E)), (CONV, lrp.WSquare(bias="squared"))],
    "bias spread": [(NO_BIAS, lrp.Zero()), (CONV, lrp.ZPlus()), (NORM, lrp.Zero())],
    "inputs not split": [(CONV, lrp.Epsilon(epsilon=E)), (CONV, lrp.ZPlus(split="weight"))],
    "inputs not split, bias raw": [(NO_BIAS, lrp.ZPlus()), (CONV, lrp.ZPlus(bias="none"))],
    "gamma not generalized": [(CONV, lrp.Gamma()), (CONV, lrp.GeneralizedGamma(gamma=0))],
    "gamma not generalized, bias raw": [(NO_BIAS, lrp.GeneralizedGamma())],
    "gamma generalized": [(CONV, lrp.GeneralizedGamma())],
    "gamma of active outputs only": [(CONV, lrp.Gamma())],
    "stabilizer unsigned": [(CONV, lrp.Zero()), (MAX, lrp.Pass())],
    "stabilizer at exact zeros only": [(CONV, lrp.Zero())],
    "stabilizer clipped": [(CONV, lrp.Zero())],
    "stabilizer of sign 0 at 0": [(CONV, lrp.Zero())],
    "stabilizer halved": [(CONV, lrp.Zero())],
    "stabilizer left out": [(CONV, lrp.Zero()), (MAX, lrp.Pass())],
    "stabilizer of size 1e-06": [(CONV, lrp.Epsilon(epsilon=1e-6)), (L.ReLU(), lrp.Pass())],
    "ties shared": [(L.MaxPool(2, ties="shared"), lrp.Pass()), (AVG, lrp.Norm())],
    "max pool as average": [(L.MaxPool(2, frozen_as="average"), lrp.Norm()), (AVG, lrp.Norm())],
    "average pool spread evenly": [(AVG, lrp.Flat()), (MAX, lrp.Pass())],
    "activation by its gradient": [(L.ReLU(), lrp.Gradient()), (CONV, lrp.Zero())],
    "batch norm passed": [(NORM, lrp.Pass()), (CONV, lrp.Zero())],
    "batch norm by the z-rule": [(NORM, lrp.Epsilon(epsilon=E)), (CONV, lrp.Zero())],
    "add doubled": [(CONV, lrp.Zero())],
    "bounds padded": [(L.Conv(KERNEL), lrp.ZBox(low=-1, high=1)), (CONV, lrp.Zero())],
    "kernel flipped": [(L.Conv(KERNEL[:, :, :1, :1]), lrp.Zero()), (CONV, lrp.Flat()), (DENSE, lrp.Zero())],
    "weights transposed": [(DENSE, lrp.Zero()), (L.Conv(np.ones((2, 2, 1, 1))), lrp.Zero())],
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_variant_that_cannot_matter_says_so(name):
    for layer, rule in WITHOUT[name]:
        assert variant_named(name).change(Step(layer=layer, rule=rule)) is None, (layer, rule)


def test_starts_that_cannot_matter_say_so():
    setting = Setting.of(lrp.chain(DENSE), AT, lrp.Epsilon(epsilon=E), 2)
    assert variant_named("start at the logit").everywhere(setting) is None
    assert variant_named("start at the magnitude of the logit").everywhere(setting) is None
    assert variant_named("start at the greatest logit").everywhere(setting) is None
    several = dataclasses.replace(setting, target=np.array([[1.0, 2.0, 0.0]]))
    assert variant_named("start at 1").everywhere(several) is None, "of which class?"


# --- variants of the whole setting --------------------------------------------------------------------------------


def small(composite, target=1, x=None, nodes=None):
    """A convolution, a batch norm, a ReLU, another convolution, and a dense layer."""
    graph = lrp.Graph(
        nodes
        or [
            lrp.Node("c1", L.Conv(KERNEL, BIAS, padding=1), "input"),
            lrp.Node("bn", NORM, "c1"),
            lrp.Node("relu", L.ReLU(), "bn"),
            lrp.Node("c2", L.Conv(KERNEL[:, :, ::-1], BIAS), "relu"),
            lrp.Node("flat", L.Flatten(), "c2"),
            lrp.Node("d", L.Dense(np.arange(12).reshape(4, 3) / 4 - 1, np.array([0.5, -0.25, 1])), "flat"),
        ],
        outputs="d",
    )
    return Setting.of(graph, lrp.exact(X[None]) if x is None else x, composite, target)


def rules(first=None, conv=None, canonize=()):
    cases = [(lrp.named("c1"), first)] if first else []
    cases += [(lrp.kind(L.Conv), conv or lrp.ZPlus(epsilon=E)), (lrp.kind(L.Dense), lrp.Epsilon(epsilon=E))]
    return lrp.Composite([*cases, (lrp.kind(L.BatchNorm), lrp.Pass())], canonize=canonize)


def test_batch_norm_folded_and_not_folded_are_what_canonizing_does():
    passed, folded = small(rules()), small(rules(canonize=[lrp.canonize]))
    a, b = passed.explain().relevance, folded.explain().relevance
    assert (a != b).any()
    assert (variant_named("batch norm folded").everywhere(passed).explain().relevance == b).all()
    assert (variant_named("batch norm not folded").everywhere(folded).explain().relevance == a).all()
    assert variant_named("batch norm folded").everywhere(folded) is None
    assert variant_named("batch norm not folded").everywhere(passed) is None


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
def test_batch_norm_that_leaves_its_epsilon(epsilon):
    folded = small(rules(canonize=[lrp.canonize]), x=X[None])
    changed = variant_named(f"batch norm leaves its epsilon, {epsilon:g}").everywhere(folded)
    canonized = folded.prepared
    nodes = [
        *(lrp.Node(n.name, n.layer, *("bn" if i == "c1" else i for i in n.inputs)) for n in canonized.nodes),
        lrp.Node("bn", L.Scale(weight=1 / math.sqrt(1 + epsilon)), "c1"),
    ]
    cases = [*rules().cases, (lrp.kind(L.Scale), lrp.Pass())]
    expected = lrp.explain(lrp.Graph(nodes, outputs="d"), X[None], lrp.Composite(cases), 1, engine="plain")
    assert (changed.explain().relevance == expected.relevance).all()
    assert (changed.explain().output != folded.explain().output).any()
    assert (
        variant_named("batch norm leaves its epsilon, 1e-05").everywhere(Setting.of(lrp.chain(DENSE), AT, lrp.Zero()))
        is None
    )


def test_first_layers():
    box = small(rules(first=lrp.ZBox(low=-2, high=2, epsilon=E)))
    plain = small(rules())
    ours = variant_named("first layer as the others").everywhere(box).explain().relevance
    assert (ours == plain.explain().relevance).all()
    assert variant_named("first layer as the others").everywhere(plain) is None
    for name, rule in (("Flat", lrp.Flat(epsilon=E)), ("w^2", lrp.WSquare(epsilon=E))):
        asked = small(rules(first=rule))
        assert (
            variant_named(f"first layer by {name}").everywhere(plain).explain().relevance == asked.explain().relevance
        ).all()
        assert variant_named(f"first layer by {name}").everywhere(asked) is None
    julia = variant_named("Flat on the first convolution only")
    assert julia.everywhere(small(rules(first=lrp.Flat()))) is None, "the first layer is a convolution"
    square = L.Dense(np.array([[1.0, -0.5], [0.25, 2]]), np.array([1.0, -1]))
    mlp = lrp.chain(square, L.ReLU(), square)
    flat = lrp.Composite([(lrp.first(L.Conv, L.Dense), lrp.Flat()), (lrp.kind(L.Dense), lrp.Epsilon(epsilon=E))])
    setting = Setting.of(mlp, lrp.exact(AT), flat, 0)
    expected = lrp.explain(mlp, lrp.exact(AT), lrp.Epsilon(epsilon=E), 0)
    assert (julia.everywhere(setting).explain().relevance == expected.relevance).all()


def test_float32_arithmetic():
    setting = small(rules(), x=X[None])
    changed = variant_named("float32 arithmetic").everywhere(setting).explain()
    assert changed.relevance.dtype == np.float32
    expected = lrp.explain(setting.graph, X[None].astype(np.float32), rules(), 1, engine="plain")
    assert (changed.relevance == expected.relevance).all()
    assert variant_named("float32 arithmetic").everywhere(small(rules())) is None, "exact"
    assert variant_named("float32 arithmetic").everywhere(small(rules(), x=X[None].astype(np.float32))) is None


def test_variants_that_need_the_statistics_of_a_batch_norm():
    mean, variance, weight, bias = (np.array(v) for v in ([0.5, -1], [2.0, 0.25], [1.5, -0.5], [0.25, 1]))
    s = Statistics(mean=mean, variance=variance, weight=weight, bias=bias, epsilon=1e-3)
    layer = L.BatchNorm.from_statistics(mean=mean, variance=variance, weight=weight, bias=bias, epsilon=1e-3)
    base = small(rules(canonize=[lrp.canonize]), x=X[None])
    graph = base.graph.with_layers({"bn": layer})
    julia, keras = of_statistics({"bn": s})
    folded = Setting.of(graph, X[None], rules(canonize=[lrp.canonize]), 1)
    scale = weight / (np.sqrt(variance) + 1e-9)
    wrong = graph.with_layers({"bn": L.BatchNorm(scale, bias - scale * mean)})
    expected = lrp.explain(wrong, X[None], rules(canonize=[lrp.canonize]), 1, engine="plain")
    assert (julia.everywhere(folded).explain().relevance == expected.relevance).all()

    passed = Setting.of(graph, X[None], rules(), 1)
    e = keras.everywhere(passed).explain()
    a, R = e.activations["c1"][0], e.relevances["bn"][0]
    root = np.sqrt(variance**2 + 1e-3)
    m = (weight / root)[:, None, None] * a
    z = m + (bias - mean / root)[:, None, None]
    np.testing.assert_allclose(e.relevances["c1"][0], m / z * R, rtol=1e-13)
    assert julia.everywhere(base.of(lrp.chain(DENSE), AT, lrp.Zero())) is None
    assert keras.everywhere(base.of(lrp.chain(DENSE), AT, lrp.Zero())) is None


def test_two_variants_at_one_node_add_up(exact):
    R = eighths(2, 3, 4)
    setting = of_layer(CONV, X, lrp.ZPlus(epsilon=E), R, exact)
    for names in (("bias dropped", "factor 2", "kernel flipped"), ("kernel flipped", "bias dropped", "factor 2")):
        changed = setting
        for name in names:
            changed = variant_named(name).at(changed, "0.conv")
        expected = by.z_plus(conv_op(KERNEL[:, :, ::-1, ::-1]), X, R, epsilon=E, bias="none").R_in
        assert lrp.fractions(changed.explain().relevance).ravel().tolist() == [2 * r for r in expected]
