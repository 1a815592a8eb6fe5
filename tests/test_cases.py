"""Relevances that other frameworks computed, against ours, at the input and at every layer that they recorded.

Each case is explained in float64, from the inputs and parameters that the peer had, under the rules of the same names
with the same parameters. It agrees within 1e-10 of max|R|; within 1e-5 where the peer computed in float32, whose own
rounding that is. Where a peer means another formula, known_differences.toml says which public value of lrp_ref gives
its numbers, and it does so within the same bounds.
"""

import dataclasses
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import case_rules
import numpy as np
import pytest
from case_rules import Known, Variant, networks

import lrp_ref as lrp
from lrp_ref import layers as L

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "shared" / "cases"
KNOWN = Known.read(HERE / "known_differences.toml")
ALL = sorted(f"{path.parents[1].name}/{path.parent.name}" for path in FOLDER.glob("*/*/case.json"))
EXCLUDED = [case for case in ALL if KNOWN.exclusion(case)]
RUN = [case for case in ALL if not KNOWN.exclusion(case)]
OUTCOMES = {}
"""What became of each case that was run: agree, variant, beyond or failed."""

needs_the_cases = pytest.mark.skipif(
    not ALL, reason="needs the cases of other frameworks: ../shared/cases beside the checkout"
)


def tolerance(peer):
    return 1e-5 if peer in case_rules.FLOAT32 else 1e-10


def deviation(ours, theirs):
    """The greatest difference, relative to their greatest value."""
    assert ours.shape == theirs.shape, f"{ours.shape} here, {theirs.shape} there"
    largest = float(abs(theirs).max()) or 1.0
    return float(abs(ours - theirs).max()) / largest


def deviations(network, variants=()):
    """For everything that the peer recorded, how far we are from it."""
    found = {}
    if network.gradient is not None:
        ours = network.gradient(network.graph, network.x, network.target)
        return {key: deviation(ours, theirs) for key, (_, theirs) in network.expected.items()}
    e = network.explain(variants)
    for key, (place, theirs) in network.expected.items():
        found[key] = deviation(e.at(place), theirs)
    for module, (place, theirs) in network.sums.items():
        samples = e.at(place).reshape(len(network.x), -1)
        found[f"sum of R/{module}"] = float((abs(samples.sum(axis=1) - theirs) / abs(samples).sum(axis=1)).max())
    if network.output is not None:
        found["y"] = deviation(e.output, network.output)
    return found


def read(case):
    """The networks of a case."""
    if (FOLDER / case).with_name("model.onnx").exists():
        pytest.importorskip("onnx")
    OUTCOMES.setdefault(case, (peer_of(case), "failed"))
    return list(networks(FOLDER / case))


def peer_of(case):
    return case_rules.peer_of(case_rules.about(FOLDER / case))


def largest(nets, variants=()):
    """All deviations of a case, the greatest first."""
    found = {}
    for network in nets:
        for key, value in deviations(network, variants).items():
            found[key] = float(np.maximum(value, found.get(key, 0.0)))  # NaN stays NaN
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def off(found, bound):
    return ", ".join(f"{key} by {value:.1e}" for key, value in found.items() if not value <= bound)


@needs_the_cases
@pytest.mark.filterwarnings("ignore:ZBox. .* input values lie beyond")  # Julia's inputs are normal, its box is 0 to 1
@pytest.mark.parametrize("case", RUN or ["all"])
def test_case(case):
    nets = read(case)
    bound = tolerance(nets[0].peer)
    plain = largest(nets)
    variants = [variant for variant in KNOWN.variants if any(network.used([variant]) for network in nets)]
    beyond = [entry for entry in KNOWN.beyond if any(fnmatchcase(case, pattern) for pattern in entry["cases"])]
    listed = any(case in variant.cases for variant in variants)
    varied = largest(nets, variants) if variants else plain
    if beyond:
        assert off(plain, bound), f"{case} agrees: take it off known_differences.toml"
        must = {key: value for key, value in varied.items() if key in (*beyond[0]["agree"], "y")}
        assert len(must) == len(beyond[0]["agree"]) + 1
        assert not off(must, bound), off(must, bound)
        outcome = "beyond"
    elif listed:
        assert off(plain, bound), f"{case} agrees without a variant: take it off known_differences.toml"
        assert not off(varied, bound), f"under {[variant.value for variant in variants]}: {off(varied, bound)}"
        outcome = "variant"
    else:
        assert not off(plain, bound), off(plain, bound)
        assert not off(varied, bound), f"only under {[variant.value for variant in variants]}: {off(varied, bound)}"
        outcome = "agree"
    OUTCOMES[case] = nets[0].peer, outcome


@needs_the_cases
def test_every_case_is_run_or_excluded(capsys):
    assert len(RUN) + len(EXCLUDED) == len(ALL) == KNOWN.total
    for entry in [*KNOWN.excluded, *KNOWN.beyond]:
        for pattern in entry["cases"]:
            assert any(fnmatchcase(case, pattern) for case in ALL), f"{pattern} names no case"
    for variant in KNOWN.variants:
        assert set(variant.cases) <= set(RUN), variant.value
    if set(OUTCOMES) != set(RUN):
        pytest.skip("counts when all cases were run before it")
    excluded = Counter(map(peer_of, EXCLUDED))
    counts = Counter(OUTCOMES.values())
    with capsys.disabled():
        print(f"\n{'peer':25}   run  agree  variant  beyond  failed  excluded")
        for peer in [*sorted({peer for peer, _ in counts} | set(excluded)), "all"]:
            some = Counter(outcome for of, outcome in OUTCOMES.values() if peer in (of, "all"))
            numbers = [some.total(), *(some[outcome] for outcome in ("agree", "variant", "beyond", "failed"))]
            left = excluded.total() if peer == "all" else excluded[peer]
            print("{:25} {:5} {:6} {:8} {:7} {:7} {:9}".format(peer, *numbers, left))
    assert counts.total() + excluded.total() == KNOWN.total


# --- what shows that an excess is the peer's ------------------------------------------------------------------------


@needs_the_cases
@pytest.mark.parametrize("case", [c for c in RUN if fnmatchcase(c, "bn_before/captum_*_bnidentity")] or ["all"])
def test_captum_hands_the_relu_before_an_identity_rule_a_quotient(case):
    (network,) = read(case)
    e = network.explain(KNOWN.variants)
    scale, z = network.graph["7"].layer.scale.reshape(1, -1, 1, 1), e.activations["7"]
    quotient = scale / (z + np.where(z < 0, -1e-9, 1e-9))
    found = deviations(dataclasses.replace(network, edit={"6": quotient}), KNOWN.variants)
    assert len(found) == 9
    assert not off(found, 1e-10), off(found, 1e-10)


# --- the test tested ------------------------------------------------------------------------------------------------


def toy(rule, asked):
    """One dense layer, what zennit was asked for there, and what it would say of it if it had our rule."""
    rng = np.random.default_rng(7)
    graph = lrp.chain(L.Dense(weight=rng.normal(size=(5, 4)), bias=rng.normal(size=4)), L.ReLU())
    x, R = rng.normal(size=(3, 5)), rng.normal(size=(3, 4))
    e = lrp.explain(graph, x, rule, R)
    (dense, relu) = graph.nodes
    return case_rules.Network(
        "zennit",
        graph,
        {dense.name: {"module": "Linear"} | asked, relu.name: {"module": "ReLU", "rule": "Pass"}},
        x,
        R,
        {"R_in": ("input", e.relevance), "R/0": (dense.name, R)},
        e.output,
        {"0": (dense.name, R.sum(axis=1))},
    )


ASKED = {"rule": "WSquare", "stabilizer": 1e-6, "zero_params": None}
SQUARED = KNOWN.variants[0]


def test_agreement_is_seen():
    found = deviations(toy(lrp.WSquare(epsilon=1e-6), ASKED))
    assert set(found) == {"R_in", "R/0", "sum of R/0", "y"}
    assert max(found.values()) == 0
    assert deviations(toy(lrp.WSquare(epsilon=1e-6, bias="squared"), ASKED), [SQUARED])["R_in"] == 0


@pytest.mark.parametrize(
    ("rule", "variants"),
    [
        (lrp.WSquare(epsilon=2e-6), []),
        (lrp.WSquare(epsilon=1e-6, bias="squared"), []),
        (lrp.WSquare(epsilon=1e-6), [SQUARED]),
        (lrp.Flat(epsilon=1e-6), []),
    ],
)
def test_another_rule_is_seen(rule, variants):
    found = deviations(toy(rule, ASKED), variants)
    assert found["R_in"] > tolerance("captum")
    assert off(found, 1e-10).startswith("R_in by ")


@pytest.mark.parametrize("change", ["R/0", "sums", "output"])
def test_a_wrong_number_in_a_layer_sum_or_output_is_seen(change):
    network = toy(lrp.WSquare(epsilon=1e-6), ASKED)
    if change == "R/0":
        place, R = network.expected["R/0"]
        network = dataclasses.replace(network, expected={"R/0": (place, R + 1e-9)})
    elif change == "sums":
        ((module, (place, total)),) = network.sums.items()
        network = dataclasses.replace(network, sums={module: (place, total + 1e-8)})
    else:
        network = dataclasses.replace(network, output=network.output + 1e-8)
    assert off(deviations(network), 1e-10)


def test_shapes_that_only_broadcast_are_a_difference():
    with pytest.raises(AssertionError, match=r"\(2, 1\) here, \(2, 2\) there"):
        deviation(np.ones((2, 1)), np.ones((2, 2)))


@pytest.mark.parametrize(
    ("value", "rule", "gives"),
    [
        ('ZPlus(split="weight", bias="raw")', lrp.ZPlus(epsilon=3), lrp.ZPlus(split="weight", bias="raw", epsilon=3)),
        ('ZPlus(split="weight", bias="raw")', lrp.ZPlus(bias="none"), lrp.ZPlus(split="weight", bias="none")),
        ("Flat()", lrp.Norm(epsilon=1), lrp.Flat()),
        ("Epsilon(epsilon=1, stabilizer=Relative(over='batch'))", lrp.Zero(), None),
    ],
)
def test_a_variant_changes_defaults_and_nothing_that_the_peer_was_asked_for(value, rule, gives):
    if gives is None:
        gives = lrp.Epsilon(epsilon=1, stabilizer=lrp.Relative(over="batch"))
    assert Variant("captum", ["x"], value, "", []).applied(rule) == gives


def test_a_variant_of_a_layer_leaves_its_sizes():
    variant = Variant("p", ["r"], "MaxPool(ties=Near(rtol=0.5))", "", [])
    assert variant.of_a_layer
    changed = variant.applied(L.MaxPool(kernel=3, stride=2))
    assert (changed.kernel, changed.stride, changed.ties, changed.frozen_as) == (3, 2, L.Near(rtol=0.5), "winner")
