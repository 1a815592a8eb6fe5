"""diagnose(): the node, the name, and what it does not know; a sample of the seeded faults of tests/faults.py."""

import dataclasses
import json
import math
import warnings

import faults
import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref.oracle import CATALOGUE, Setting, diagnose, variant_named
from lrp_ref.oracle.search import Search
from lrp_ref.oracle.walks import certified_errors, forked, walked

pytestmark = pytest.mark.filterwarnings("ignore:ZBox. .* input values lie beyond")

RNG = np.random.default_rng(8)
GRAPH = lrp.Graph(
    [
        lrp.Node("conv", L.Conv(RNG.normal(size=(3, 2, 3, 3)), RNG.normal(size=3), padding=1), "input"),
        lrp.Node("relu", L.ReLU(), "conv"),
        lrp.Node("side", L.Conv(RNG.normal(size=(3, 3, 1, 1)), RNG.normal(size=3)), "relu"),
        lrp.Node("add", L.Add(), "side", "relu"),
        lrp.Node("relu2", L.ReLU(), "add"),
        lrp.Node("pool", L.MaxPool(2), "relu2"),
        lrp.Node("flat", L.Flatten(), "pool"),
        lrp.Node("fc", L.Dense(RNG.normal(size=(12, 4)), RNG.normal(size=4)), "flat"),
    ],
    outputs="fc",
)
X = RNG.normal(size=(2, 2, 4, 4))
COMPOSITE = lrp.Composite(
    [
        (lrp.kind(L.Conv), lrp.ZPlus(epsilon=1e-6)),
        (lrp.kind(L.Dense), lrp.Epsilon(epsilon=1e-6)),
        (lrp.kind(L.Add), lrp.Norm(epsilon=1e-6)),
    ]
)
SETTING = Setting.of(GRAPH, X, COMPOSITE, 1)


def found(setting, *, only_input=False, **changes):
    """What is said of what the setting gives."""
    theirs = dict(setting.explain().relevances)
    given = theirs["input"] if only_input else {**theirs, **changes}
    return diagnose(GRAPH, X, COMPOSITE, 1, given)


# --- agreement ----------------------------------------------------------------------------------------------------


def test_on_agreement_it_says_so():
    d = found(SETTING)
    assert (d.verdict, d.node, d.tensor, d.hypotheses, d.ambiguous) == ("agree", None, None, (), False)
    assert str(d).startswith("agree: 0.0e+00")
    assert d.deviation <= d.bound < 1e-12
    assert found(SETTING, only_input=True).verdict == "agree"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_framework_that_only_rounds_otherwise_agrees(dtype):
    for seed in range(5):
        fault = faults.nothing_wrong(seed, dtype)
        net = fault.network
        for theirs in (fault.theirs, fault.theirs["input"]):
            d = diagnose(net.graph, net.x, net.composite, net.target, theirs)
            assert d.verdict == "agree", f"seed {seed}: {d}"


def test_numbers_in_float32_are_held_to_float32():
    theirs = {name: R.astype(np.float32) for name, R in SETTING.explain().relevances.items()}
    d = diagnose(GRAPH, X, COMPOSITE, 1, theirs)
    assert d.verdict == "agree"
    assert 1e-7 < d.bound < 1e-3


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_layer_that_longdouble_lacks_is_diagnosed_too(dtype):
    """GELU: the own error is then how far a roundoff of the input reaches."""
    graph = GRAPH.with_layers({"relu": L.GELU()})
    setting = Setting.of(graph, X.astype(dtype), COMPOSITE, 1)
    d = diagnose(graph, X.astype(dtype), COMPOSITE, 1, setting.explain().relevances)
    assert d.verdict == "agree"
    assert 0 < d.bound < 2.0**12 * np.finfo(dtype).eps
    theirs = variant_named("bias dropped").at(setting, "side").explain().relevances
    d = diagnose(graph, X.astype(dtype), COMPOSITE, 1, theirs)
    assert (d.node, d.answer.names) == ("side", ("bias dropped",))


def test_our_own_error_is_certified():
    """Against rationals: at each tensor, from theirs above it."""
    known = {name: R * 1.5 for name, R in SETTING.explain().relevances.items()}
    walk = walked(SETTING, known)
    in_rationals = Setting.of(GRAPH, lrp.exact(X), COMPOSITE, 1)
    truth = walked(in_rationals, {name: lrp.exact(R) for name, R in known.items()})
    errors = certified_errors(walk, known, math.inf)
    assert set(errors) == set(known)
    for name, error in errors.items():
        off = float(abs(lrp.fractions(lrp.exact(walk.found[name])) - lrp.fractions(truth.found[name])).max())
        scale = float(abs(walk.found[name]).max())
        assert off <= error <= off + 2.0**-58 * scale, name
    spoilt = dataclasses.replace(walk, found={**walk.found, "fc": np.full_like(walk.found["fc"], np.inf)})
    assert set(certified_errors(spoilt, known, math.inf)) == set(known) - {"fc"}, "no bound of what is no number"
    assert found(SETTING).error_by == "a certificate"
    assert str(found(SETTING)).endswith("is rounding, by a certificate")


def test_what_is_not_certified_is_said():
    with pytest.raises(lrp.LrpError, match=r"would take .* multiplications: certified=True makes it"):
        certified_errors(walked(SETTING, {}), {"input": SETTING.explain().relevance}, 1000)
    theirs = SETTING.explain().relevance
    assert diagnose(GRAPH, X, COMPOSITE, 1, theirs, certified=False).error_by == "longer arithmetic"

    tied = lrp.graph.chain(L.Dense([[1.0, 1.0]]), L.Tanh(), L.Dense([[2.0, 1.0], [0.0, -1.0]]), L.ReLU())
    x, R = np.array([[0.5]]), np.array([[1.0, 1.0]])
    rule = lrp.Epsilon(epsilon=0.5)
    theirs = lrp.explain(tied, x, rule, R).relevance
    d = diagnose(tied, x, rule, R, theirs)
    assert d.verdict == "agree"
    assert d.error_by.startswith("longer arithmetic (")
    assert "cannot be told" in d.error_by
    with pytest.raises(lrp.Undecided):
        diagnose(tied, x, rule, R, theirs, certified=True)


def test_half_a_bound_agrees_and_twice_a_bound_does_not():
    R = SETTING.explain().relevance
    bound = found(SETTING, only_input=True).bound * abs(R).max()
    off = np.zeros_like(R)
    off.flat[abs(R).argmax()] = bound
    assert diagnose(GRAPH, X, COMPOSITE, 1, R + off / 2).verdict == "agree"
    assert diagnose(GRAPH, X, COMPOSITE, 1, R + 2 * off).verdict == "unknown"


def test_exact_inputs_and_parts_of_the_layers_will_do():
    R = SETTING.explain().relevances
    assert diagnose(GRAPH, lrp.exact(X), COMPOSITE, 1, R["input"]).verdict == "agree"
    assert diagnose(GRAPH, X, COMPOSITE, 1, R["input"], {"add": R["add"]}).verdict == "agree"
    assert diagnose(GRAPH, X, COMPOSITE, 1, layers={"pool": R["pool"]}).verdict == "agree"


# --- names and places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("only_input", [False, True])
@pytest.mark.parametrize(
    ("name", "node", "tensor"),
    [
        ("bias dropped", "side", "relu"),
        ("inputs not split", "conv", "input"),
        ("add doubled", "add", "side"),
        ("max pool as average", "pool", "relu2"),
        ("kernel flipped", "conv", "input"),
        ("stabilizer of size 0.001", "fc", "flat"),
    ],
)
def test_one_variant_is_named_where_it_is(name, node, tensor, only_input):
    d = found(variant_named(name).at(SETTING, node), only_input=only_input)
    assert d.verdict == "explained"
    assert d.answer.names == (name,)
    assert d.answer.causes[0].nodes == (node,)
    assert d.node == node
    assert d.tensor == ("input" if only_input else tensor)
    assert d.answer.fit < 1e-13 < d.deviation


@pytest.mark.parametrize("only_input", [False, True])
def test_the_same_at_all_nodes_is_one_cause(only_input):
    d = found(variant_named("bias dropped").everywhere(SETTING), only_input=only_input)
    (cause,) = d.answer.causes
    assert (cause.name, cause.nodes, cause.everywhere) == ("bias dropped", ("fc", "side", "conv"), True)
    assert d.node == "fc", "the first from the top"


@pytest.mark.parametrize("only_input", [False, True])
def test_two_causes_are_both_named(only_input):
    changed = variant_named("inputs not split").at(variant_named("max pool spread evenly").at(SETTING, "pool"), "conv")
    d = found(changed, only_input=only_input)
    assert d.answer.names == ("inputs not split", "max pool spread evenly")
    assert d.node == "pool"


@pytest.mark.parametrize("only_input", [False, True])
def test_two_causes_at_one_node_are_both_named(only_input):
    changed = variant_named("kernel flipped").at(variant_named("bias dropped").at(SETTING, "conv"), "conv")
    assert found(changed, only_input=only_input).answer.names == ("bias dropped", "kernel flipped")


def test_a_start_is_named_and_blames_no_node():
    d = found(variant_named("start at 1").everywhere(SETTING))
    assert d.answer.names == ("start at 1",)
    assert (d.node, d.tensor) == (None, "fc")


def test_float32_is_named_only_for_numbers_that_float32_has():
    theirs = {
        name: R.astype(np.float64)
        for name, R in variant_named("float32 arithmetic").everywhere(SETTING).explain().relevances.items()
    }
    assert diagnose(GRAPH, X, COMPOSITE, 1, theirs).answer.names == ("float32 arithmetic",)
    assert diagnose(GRAPH, X, COMPOSITE, 1, theirs["input"]).answer.names == ("float32 arithmetic",)
    noisy = theirs["input"] * (1 + 1e-8)
    assert diagnose(GRAPH, X, COMPOSITE, 1, noisy).verdict == "unknown"


def test_an_ambiguous_answer_says_so():
    d = found(variant_named("stabilizer left out").at(SETTING, "fc"), only_input=True)
    assert d.ambiguous
    names = {hypothesis.names for hypothesis in d.hypotheses}
    assert names >= {("stabilizer left out",), ("stabilizer clipped",), ("stabilizer at exact zeros only",)}
    assert "ambiguous: these numbers do not tell it from" in str(d)
    assert not found(variant_named("add doubled").at(SETTING, "add"), only_input=True).ambiguous


def test_of_an_ambiguous_answer_an_input_is_shown_that_tells():
    """-z_k and |z_k| are the same where the logit is negative."""
    z = SETTING.activations["fc"]
    i, k = np.argwhere(z < 0)[0]
    setting = Setting.of(GRAPH, X[i : i + 1], COMPOSITE, int(k))
    theirs = variant_named("start at the magnitude of the logit").everywhere(setting).explain().relevance
    d = diagnose(GRAPH, setting.x, COMPOSITE, int(k), theirs)
    assert d.answer.names == ("start at the magnitude of the logit",)
    (apart,) = d.apart
    assert apart.other.names == ("factor -1",)
    there = dataclasses.replace(setting, x=apart.x)
    one = (variant_named("start at the magnitude of the logit").everywhere(there) or there).explain().relevance
    other = variant_named("factor -1").at(there, "fc").explain().relevance
    assert abs(one - other).max() == pytest.approx(apart.difference * abs(one).max())
    assert apart.difference > 1
    assert "an input was found on which they differ by" in str(d)


def test_stabilizers_are_told_apart_where_a_denominator_is_next_to_zero():
    """Nothing in X tells one of 1e-16 from one at exact zeros only; a logit brought near 0 does."""
    d = found(variant_named("stabilizer of size 1e-16").at(SETTING, "fc"), only_input=True)
    assert d.ambiguous
    (told,) = (a for a in d.apart if "stabilizer of size 1e-16" in (*a.first.names, *a.other.names))
    there = SETTING.with_input(told.x)
    one, other = (variant_named(h.names[0]).at(there, "fc").explain().relevance for h in (told.first, told.other))
    assert abs(one - other).max() == pytest.approx(told.difference * abs(one).max())
    assert told.difference > 2.0**-16


# --- what it does not know ----------------------------------------------------------------------------------------


def test_a_leak_of_a_thousandth_is_unknown_and_its_node_is_found():
    step = dataclasses.replace(SETTING.at("side"), factor=0.999)
    d = found(SETTING.with_steps({"side": step}))
    assert (d.verdict, d.answer, d.suspects) == ("unknown", None, ("add", "side"))
    assert d.tensor == "relu"
    assert "unknown: nothing in the catalogue gives these numbers at add, side" in str(d)
    step = dataclasses.replace(SETTING.at("fc"), factor=0.999)
    assert found(SETTING.with_steps({"fc": step})).node == "fc"


def test_numbers_that_are_none_are_unknown():
    theirs = dict(SETTING.explain().relevances)
    theirs["input"] = np.full_like(theirs["input"], np.nan)
    assert diagnose(GRAPH, X, COMPOSITE, 1, theirs).verdict == "unknown"


def test_one_cause_of_two_that_is_in_no_catalogue_leaves_it_unknown():
    changed = variant_named("bias dropped").at(SETTING, "fc")
    changed = changed.with_steps({"conv": dataclasses.replace(changed.at("conv"), factor=0.9)})
    assert found(changed).verdict == "unknown"


def test_what_cannot_be_compared_is_refused():
    R = SETTING.explain().relevance
    with pytest.raises(lrp.GraphError, match="give their relevance"):
        diagnose(GRAPH, X, COMPOSITE, 1)
    with pytest.raises(lrp.GraphError, match='no node or input "pol"; the nearest names are'):
        diagnose(GRAPH, X, COMPOSITE, 1, {"pol": R})
    with pytest.raises(lrp.ShapeError, match=r'at "input" has shape \(1, 2, 4, 4\), need \(2, 2, 4, 4\)'):
        diagnose(GRAPH, X, COMPOSITE, 1, R[:1])


def test_it_prints_and_goes_into_json():
    d = found(variant_named("bias dropped").at(SETTING, "side"))
    lines = str(d).splitlines()
    assert lines[0].startswith('differ: first at the relevance of "relu", by ')
    assert lines[1].startswith("because: bias dropped at side; what remains is ")
    assert lines[2].startswith("  bias dropped: denominators without the bias")
    assert "deep Taylor" in lines[2]
    as_dict = json.loads(json.dumps(d.to_dict()))
    assert as_dict["hypotheses"][0]["causes"][0]["name"] == "bias dropped"
    assert (as_dict["verdict"], as_dict["node"], as_dict["suspects"]) == ("explained", "side", ["add", "side"])


# --- how it is computed -------------------------------------------------------------------------------------------


def test_many_walks_at_once_are_the_walks_one_by_one():
    base = walked(SETTING, {})
    nodes = [node.name for node in reversed(SETTING.prepared.nodes)]
    moves = [(variant, node) for node in nodes for variant in CATALOGUE if variant.at(SETTING, node) is not None]
    steps = [(node, variant.change(SETTING.at(node))) for variant, node in moves]
    at_once = forked(base, {}, "input", nodes, steps)
    assert len(at_once) == len(moves) > 50
    for i, (node, step) in enumerate(steps):
        alone = SETTING.with_steps({node: step})
        expected = walked(alone, {}).found["input"]
        np.testing.assert_allclose(at_once[i], expected, rtol=1e-9, atol=1e-12 * abs(expected).max())
        assert (walked(alone, {}, base).found["input"] == expected).all(), "taken over from the walk before"


def test_the_maps_to_the_input_are_the_walk():
    search = Search(SETTING, {"input": SETTING.explain().relevance}, CATALOGUE)
    base = walked(SETTING, {})
    nodes = search.suspects("input", SETTING)
    assert nodes == tuple(node.name for node in reversed(GRAPH.nodes))
    maps = search.maps("input", SETTING, nodes)
    for name in nodes:
        assert maps[name].shape == (base.found[name][0].size, 2, 32)
    out = search.through(maps["fc"], base.found["fc"], 2)[0]
    np.testing.assert_allclose(out, base.found["input"], rtol=1e-12)


# --- the seeded faults --------------------------------------------------------------------------------------------


def names_of(fault, theirs):
    net = fault.network
    with warnings.catch_warnings(action="ignore"):
        return diagnose(net.graph, net.x, net.composite, net.target, theirs, variants=net.catalogue)


def right(d, fault):
    truth = tuple(sorted(name for name, _ in fault.truth))
    return any(hypothesis.names == truth for hypothesis in d.hypotheses)


def test_faults_are_drawn_from_the_whole_catalogue_and_are_what_they_say():
    assert set(faults.NAMES) == {variant.name for variant in CATALOGUE} | set(faults.STATISTICS)
    drawn = [faults.fault(seed) for seed in range(6)]
    for fault in drawn:
        setting = fault.network.setting
        assert len(fault.truth) == (2 if fault.seed % 3 == 2 else 1)
        assert len(setting.prepared.nodes) >= 6
        assert len({type(rule) for rule in setting.rules.values()}) >= 3
        ours = faults.computed(setting)["input"]
        assert abs(ours - fault.theirs["input"]).max() > 2.0**-42 * abs(ours).max()
    again = faults.fault(4)
    assert again.truth == drawn[4].truth
    assert (again.theirs["input"] == drawn[4].theirs["input"]).all()


@pytest.mark.parametrize("seed", range(12))
def test_a_seeded_fault_is_named_from_every_node(seed):
    fault = faults.fault(seed)
    d = names_of(fault, fault.theirs)
    assert right(d, fault), f"{fault.truth}: {d}"


@pytest.mark.parametrize("seed", range(4))
def test_a_seeded_fault_is_named_from_the_input(seed):
    fault = faults.fault(seed)
    d = names_of(fault, fault.theirs["input"])
    assert right(d, fault), f"{fault.truth}: {d}"


@pytest.mark.parametrize("seed", range(len(faults.KINDS)))
def test_a_fault_of_no_catalogue_is_unknown(seed):
    fault = faults.stranger(seed)
    d = names_of(fault, fault.theirs)
    assert d.verdict == "unknown", f"{fault.truth}: {d}"


@pytest.mark.full
@pytest.mark.parametrize("only_input", [False, True])
def test_all_seeded_faults(only_input):
    wrong, unknown = [], []
    for seeds in (faults.SEEN, faults.LOOKED_AT, faults.UNSEEN):
        for seed in seeds:
            fault = faults.fault(seed)
            d = names_of(fault, fault.theirs["input"] if only_input else fault.theirs)
            if not right(d, fault):
                wrong.append(f"{seed} {fault.truth}: {d.answer or d.verdict}")
    for seed in faults.STRANGERS:
        fault = faults.stranger(seed)
        d = names_of(fault, fault.theirs["input"] if only_input else fault.theirs)
        if d.verdict != "unknown" and not (only_input and seed == 16):  # which is a variant in numbers, by chance
            unknown.append(f"{seed} {fault.truth}: {d.answer}")
    assert len(wrong) <= 10, "\n".join(wrong)
    assert not unknown, "\n".join(unknown)


@pytest.mark.full
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_agreement_over_many_seeds(dtype):
    for seed in range(150):
        fault = faults.nothing_wrong(seed, dtype)
        for theirs in (fault.theirs, fault.theirs["input"]):
            d = names_of(fault, theirs)
            assert d.verdict == "agree", f"seed {seed}: {d}"


# --- numbers that were reported of other frameworks -----------------------------------------------------------------

WITNESS = lrp.chain(L.Dense(np.array([[1.0], [-1.0]]), np.array([-1.0])))
"""W = (1, -1), b = -1, a = (1, 1), R = -1, on which they differ most."""


@pytest.mark.parametrize(
    ("rule", "theirs", "names"),
    [
        (lrp.AlphaBeta(alpha=2, epsilon=1e-7, stabilizer=lrp.AtZero()), (-2e7, 0.5), {"bias in both parts"}),
        (lrp.ZPlus(epsilon=1e-9), (-1e9, 0), {"bias raw", "inputs not split, bias raw"}),
        (lrp.WSquare(), (-1 / 3, -1 / 3), {"bias squared"}),
        (
            lrp.GeneralizedGamma(gamma=0.25),
            (5 / 3, -4 / 3),
            {"gamma not generalized", "gamma not generalized, bias raw"},
        ),
        (lrp.GeneralizedGamma(gamma=0.25), (2 / 3, -5 / 6), set()),
        (lrp.ZPlus(), (-1, 0), set()),
    ],
)
def test_the_witness_is_diagnosed_from_the_numbers_reported(rule, theirs, names):
    """iNNvestigate (issue 273), captum 0.9, zennit 0.5.1 on w^2, captum on gamma; zennit on gamma and z+ agrees."""
    d = diagnose(WITNESS, np.array([[1.0, 1.0]]), rule, np.array([[-1.0]]), np.array([theirs]))
    assert d.verdict == ("explained" if names else "agree")
    assert {name for hypothesis in d.hypotheses for name in hypothesis.names} >= names
    if names:
        assert set(d.answer.names) <= names


def test_a_constant_window_tells_how_ties_are_shared():
    """[1, 0, 0, 0] in torch, a quarter each in lrp_toolbox."""
    pool, x, R = lrp.chain(L.MaxPool(2)), np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 1))
    first, shared = np.array([[[[1.0, 0], [0, 0]]]]), np.full((1, 1, 2, 2), 0.25)
    assert diagnose(pool, x, lrp.Pass(), R, first).verdict == "agree"
    d = diagnose(pool, x, lrp.Pass(), R, shared)
    assert d.answer.names == ("ties shared",)
    assert d.ambiguous, "so does an average"
    assert {apart.other.names for apart in d.apart} >= {("max pool as average",), ("max pool spread evenly",)}
