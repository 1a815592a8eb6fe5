"""The benchmark's own parts: its numbers worked out here, its tables, and both sides on small networks."""

import json
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref import layers as L

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.append(str(SCRIPTS))

import bench  # noqa: E402
import bench_common as common  # noqa: E402
import bench_growth as growth  # noqa: E402
import bench_profile as profile  # noqa: E402

ROWS = {row.name: row for row in bench.ROWS}


def measures(**seconds):
    """What the process of one network would have written."""
    off = {"max": 2e-6, "norm": 1e-6}
    checks = {"ours egb": {"beside": "zennit egb", "off": off, "bounds": bench.BOUNDS}}
    seconds = {name.replace("_", " "): values for name, values in seconds.items()}
    return {"seconds": seconds, "checks": checks, "factors": {}, "notes": ["a note"]}


FOUND = {
    "vgg16": measures(zennit_egb=[2.0, 4.0, 3.0], ours_egb=[0.5, 1.0, 0.6]),
    "vgg16-memory": {
        "megabytes": {
            "ours": {"loading": 900.0, "explaining": 600.0},
            "one-shot": {"loading": 900.0, "explaining": 610.0},
            "zennit": {"loading": 800.0, "explaining": 1200.0},
        }
    },
}
ASKED = [ROWS["vgg16-egb"], ROWS["vgg16-memory"]]


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_the_exponent_of_a_power_is_found(power):
    sizes = [3, 7, 20, 100]
    assert common.exponent(sizes, [5e-4 * size**power for size in sizes]) == pytest.approx(power)


def test_ratios_are_of_medians_and_their_spread_of_rounds():
    low, middle, high = common.ratios([2.0, 4.0, 9.0], [1.0, 1.0, 3.0], factor=0.5)
    assert (low, middle, high) == (1.25, 2.0, 1.75)


def test_every_call_runs_once_in_every_round_in_turn():
    said = []
    calls = {name: (lambda name=name: said.append(name)) for name in "abc"}
    seconds = common.interleaved(calls, rounds=2, pause=0)
    assert said == list("abcabc")
    assert [len(values) for values in seconds.values()] == [2, 2, 2]


def test_operations_are_counted_from_the_shapes():
    def numbers(*shape):
        return np.ones(shape, np.float32)

    graph = lrp.chain(
        L.Conv(weight=numbers(4, 3, 3, 3), padding=1),
        L.Conv(weight=numbers(4, 1, 3, 3), stride=2, padding=1, groups=4),
        L.Flatten(),
        L.Dense(weight=numbers(4 * 3 * 3, 7)),
    )
    counts = common.operations(graph, numbers(2, 3, 5, 5))
    assert list(counts.values()) == [2 * 2 * 25 * 4 * 27, 2 * 2 * 9 * 4 * 9, 2 * 2 * 36 * 7]


def test_useful_operations_are_those_of_three_forward_passes_at_the_rate_of_sgemm():
    found = {"vgg16": measures(sgemm=[0.1], ours_egb=[0.5])}
    found["vgg16"]["factors"] = {"sgemm": 3.0}  # the network's three passes are three such products
    (result,) = bench.evaluated([ROWS["vgg16-flops-egb"]], found)
    assert result["value"] == pytest.approx(0.6)
    assert result["met"] == "no"


def test_a_row_says_which_bound_is_kept():
    faster, cheaper = ROWS["vgg16-egb"], ROWS["vgg16-lrp0"]
    assert [faster.met(value) for value in (3.7, 3.8, 4.5)] == ["no", "must", "aim"]
    assert [cheaper.met(value) for value in (1.3, 1.25, 1.0)] == ["no", "must", "aim"]


# --- rows -----------------------------------------------------------------------------------------------------------


def test_rows_have_names_of_their_own_and_composites():
    assert len(ROWS) == len(bench.ROWS)
    assert set(bench.QUICK) <= set(ROWS)
    for row in bench.ROWS:
        for label in (row.top, row.bottom):
            kind, *key = label.split()
            assert kind in ("ours", "zennit", "torch", "sgemm", "memory")
            assert kind in ("torch", "sgemm", "memory") or key[0] in bench.COMPOSITES


def test_rows_are_chosen_by_pattern():
    assert [row.name for row in bench.chosen(["mlp-*"], quick=False)] == ["mlp-epsilon", "mlp-zplus"]
    assert {row.name for row in bench.chosen(None, quick=True)} == set(bench.QUICK)
    with pytest.raises(SystemExit, match="no row fits 'vgg17-egb'; rows: vgg16-egb, "):
        bench.chosen(["vgg17-egb"], quick=False)


def test_a_process_runs_what_its_rows_need():
    assert bench.labels_of([ROWS["vgg16-egb"]], one_shot=False) == ["zennit egb", "ours egb"]
    assert bench.labels_of([ROWS["vgg16-lrp0"]], one_shot=True) == [
        "torch gradient", "torch forward", "zennit epsilon", "captum epsilon", "ours epsilon", "one-shot epsilon",
    ]  # fmt: skip
    assert bench.labels_of([ROWS["vgg16-batch"]], one_shot=True) == ["ours egb batch", "ours egb"]


# --- what is written ------------------------------------------------------------------------------------------------


def test_tables_hold_the_rows_the_calls_and_the_notes():
    lines = [line.split("|") for line in bench.tables(bench.evaluated(ASKED, FOUND), FOUND).splitlines()]
    cells = [[cell.strip() for cell in line[1:-1]] for line in lines]
    title = "VGG-16 epsilon_gamma_box, times as fast as zennit"
    assert ["vgg16-egb", title, "5.00", "4.00 to 4.50", "≥ 3.8", "4.5", "aim"] in cells
    assert ["vgg16", "ours egb", "600", "550 to 800", "2e-06 (≤ 1e-02)", "1e-06 (≤ 1e-03)", "zennit egb"] in cells
    assert ["ours", "900", "600"] in cells
    assert ["- a note"] in lines
    assert all(len(row) in (0, 3, 5, 7) for row in cells)


def test_a_relevance_that_is_further_off_is_named():
    assert not bench.differing(FOUND)
    off = json.loads(json.dumps(FOUND))
    off["vgg16"]["checks"]["ours egb"]["off"]["norm"] = math.nan
    assert bench.differing(off) == ["vgg16: ours egb is nan off zennit egb (norm, bound 1e-03)"]


def test_how_far_relevances_are_apart():
    found = common.deviation(np.array([3.0, 4.0, 0.5]), np.array([3.0, 4.0, 0.0]))
    assert found == {"max": 0.125, "norm": 0.1}


def test_reports_name_machine_versions_and_command_and_no_host():
    page = bench.report("| table |", "sh scripts/bench --rounds 5", 5, 224)
    results = growth.fits({"batch": {"1": [1.0], "2": [2.0], "4": [4.0]}})
    grown = growth.report(results, "sh scripts/bench growth", 3, "growth.png")
    for text, command in ((page, "sh scripts/bench --rounds 5"), (grown, "sh scripts/bench growth")):
        assert f"- command: `{command}`" in text
        assert f"numpy {np.__version__}" in text
        assert f"{os.cpu_count()} cores" in text
        assert os.uname().nodename not in text
        assert str(SCRIPTS.parent) not in text
    assert "| table |" in page
    assert "| batch        | 1.00     | 1.00                | 1                 |" in grown
    assert "(growth.png)" in grown


def test_pictures_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    bench.bars(FOUND, tmp_path / "bars.png")
    growth.plot(growth.fits({"depth": {"2": [1.0], "4": [2.1], "8": [4.0]}}), tmp_path / "growth.png")
    assert [path.read_bytes()[:4] for path in sorted(tmp_path.iterdir())] == [b"\x89PNG"] * 2


# --- measuring ------------------------------------------------------------------------------------------------------


def test_a_chain_grows_as_asked_and_is_explained():
    graph = growth.chain(channels=4, depth=3)
    assert [type(node.layer) for node in graph.nodes] == [L.Conv, L.ReLU] * 3 + [L.GlobalAvgPool, L.Flatten]
    explanation = growth.call_of({"pixels": 64, "channels": 4, "batch": 2, "depth": 3})()
    assert explanation.relevance.shape == (2, 4, 8, 8)
    assert set(explanation.engine.values()) != {"plain"}


def test_several_targets_are_those_of_one_at_a_time():
    graph = lrp.chain(L.Conv(weight=np.ones((3, 2, 3, 3), np.float32)), L.GlobalAvgPool(), L.Flatten())
    x = np.random.default_rng(0).uniform(0, 1, (1, 2, 5, 5)).astype(np.float32)
    explain = common.prepared(graph, lrp.presets.epsilon_plus(), x)
    together = common.several_targets(graph, lrp.presets.epsilon_plus(), x, (0, 2))()
    for R, target in zip(together, (0, 2), strict=True):
        np.testing.assert_allclose(R, explain(x, target).relevance, rtol=1e-5)


def small():
    """A chain of every kind that the profile has a floor for, an input, and a composite."""
    rng = np.random.default_rng(0)
    weight, dense = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 2, 3, 3), (4 * 9, 3)))
    graph = lrp.chain(
        L.Conv(weight=weight, padding=1), L.ReLU(), L.MaxPool(kernel=2), L.Flatten(), L.Dense(weight=dense)
    )
    return graph, rng.uniform(0, 1, (1, 2, 6, 6)).astype(np.float32), lrp.presets.epsilon_plus()


def test_a_floor_is_of_operations_or_of_bytes():
    graph, x, composite = small()
    explanation = lrp.explain(graph, x, composite, 0)
    slow = profile.floors_of(graph, explanation, x, {"operations": 1.0, "bytes": 1e9})
    assert slow["0.conv"] == {"forward": 2 * 2 * 36 * 72, "back": 2 * 36 * 72}  # z and that of w+, one adjoint
    assert slow["4.dense"] == {"forward": 2 * 108, "back": 2 * 108}
    floors = profile.floors_of(graph, explanation, x, {"operations": 1e9, "bytes": 1.0})
    assert floors["1.relu"] == {"forward": 2 * 4 * 144, "back": 0}
    assert floors["2.maxpool"] == {"forward": 4 * (144 + 36), "back": 2 * 4 * (144 + 36)}
    assert floors["3.flatten"] == {"forward": 0, "back": 0}


def test_the_greatest_gap_stands_first():
    nodes = [
        {
            "node": name, "kind": "Conv", "rule": "ZPlus", "engine": "fused",
            "seconds": {"forward": forward, "back": 0.02}, "floor": {"forward": 0.01, "back": 0.01},
        }
        for name, forward in (("a", 0.02), ("b", 0.05))
    ]  # fmt: skip
    found = {"nodes": nodes, "whole": 0.14, "rates": {"operations": 1e11, "bytes": 1e10}}
    assert profile.gaps(found)[0][1:] == ("b", "Conv", "forward")
    assert profile.outside(found) == pytest.approx(0.03)
    page = profile.report({"vgg16-egb": found}, "sh scripts/bench profile", 3, 224)
    assert "The next largest gap: b (Conv, forward), 40.0 ms above its floor." in page
    assert "| whole                | 140.00     | 40.00 |         |       |" in page


@pytest.mark.skipif(not hasattr(lrp, "prepare"), reason="needs lrp_ref.prepare")
def test_every_step_is_clocked():
    graph, x, composite = small()
    found = profile.measure(graph, composite, x, 0, rounds=1)
    assert [node["node"] for node in found["nodes"]] == [node.name for node in graph.nodes]
    assert all(node["seconds"][d] > 0 for node in found["nodes"] for d in profile.DIRECTIONS)
    assert sum(node["seconds"][d] for node in found["nodes"] for d in profile.DIRECTIONS) < found["whole"]


@pytest.mark.torch
@pytest.mark.skipif(find_spec("zennit") is None, reason="needs zennit (group bench)")
@pytest.mark.filterwarnings("ignore")  # what torch and zennit warn of
class TestPeers:
    @pytest.mark.parametrize(
        ("network", "labels"),
        [
            ("mlp", ["captum epsilon", "zennit epsilon", "ours epsilon", "zennit zplus", "ours zplus"]),
            ("squeezenet", ["torch forward", "zennit ab", "ours ab", "one-shot ab"]),
            ("mobilenet", ["zennit epf", "ours epf"]),
            ("resnet50", ["zennit egb", "ours egb", "zennit epsilon", "ours epsilon"]),
            ("efficientnet", ["ours epf"]),
        ],
    )  # fmt: skip
    def test_both_sides_compute_the_same(self, network, labels):
        found = bench.measure(network, labels, rounds=1, size=64)
        assert list(found["seconds"]) == labels
        assert not bench.differing({network: found})

    def test_batch_norm_is_folded_with_its_epsilon(self):
        import bench_networks as nets
        import torch

        part = nets.ConvNorm(3, 4, 3)
        part.norm.running_var *= 1e-5  # where epsilon is half of all
        part.norm.running_mean += 0.5
        model, x = torch.nn.Sequential(part).eval(), torch.rand((1, 3, 6, 6))
        before = model(x)
        assert torch.allclose(nets.folded(model)(x), before, rtol=1e-5, atol=1e-4)
        assert isinstance(part.norm, torch.nn.Identity)
