"""conform(), with adapters written here: right ones, wrong ones, and ones that cannot."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref import testing
from lrp_ref.data import digits, digits_cnn
from lrp_ref.oracle import peers
from lrp_ref.oracle.conform import (
    INSTEAD_OF_ZERO,
    VERDICTS,
    ZERO_DIVIDED,
    Cannot,
    Difference,
    Report,
    Verdict,
    cell,
    conform,
    judge,
    tolerances,
)
from lrp_ref.oracle.peers import golden
from lrp_ref.oracle.settings import Setting
from lrp_ref.oracle.variants import CATALOGUE, variant_named
from lrp_ref.oracle.vectors import VERSION, read
from lrp_ref.oracle.vectors.files import DATA
from lrp_ref.targets import StartRelevance
from lrp_ref.testing import assert_conforms

README = (Path(peers.__file__).parent / "README.md").read_text()
CASES = {case.id: case for case in read.cases()}
SOME_DENSE = [case for case in CASES.values() if case.id.startswith("dense/")][::8]
WITNESS = "hand/witness-a/z+"


def ours(case, dtype="float64", change=(), rules=None, nodes=True):
    """lrp_ref as a framework, with variants of the catalogue wherever they apply, or other rules."""
    x = {name: a.astype(dtype) for name, a in case.inputs.items()}
    start = {name: StartRelevance(R) for name, R in case.start.items()}
    graph, composite = case.graph.like(x), Setting(case.graph, x, rules or case.rules).composite
    if change:
        setting = Setting.of(graph, x, composite, start)
        for name in change:
            setting = variant_named(name).everywhere(setting) or setting
        e = setting.explain()
    else:
        e = lrp.explain(graph, x, composite, start, edit=case.mask)
    return {name: e.at(name) for name in (case.relevance if nodes else case.inputs)}


def with_rules(change):
    """An adapter that computes other rules."""
    return lambda case: ours(case, rules={node: change(rule) for node, rule in case.rules.items()})


# --- the cases ------------------------------------------------------------------------------------------------------


def test_cases_are_all_tests_of_the_vectors():
    assert len(CASES) == read.count() == json.loads((DATA / "manifest.json").read_text())["numberOfTests"]
    assert [case.id for case in read.cases(["dense"])] == [name for name in CASES if name.startswith("dense/")]
    assert read.count(["dense", "hand"]) == sum(name.startswith(("dense/", "hand/")) for name in CASES)


def test_a_case_has_the_network_as_a_graph_and_as_a_file():
    case = CASES["conv/conv2d-plain/ZPlus"]
    from_file = lrp.from_onnx(case.onnx, canonize=False, check=False)
    for name, a in case.graph.forward(dict(case.inputs)).items():
        np.testing.assert_array_equal(a, from_file.like(case.x).forward(dict(case.inputs))[name])
    assert case.onnx == case.onnx
    assert case.said["layer"]["rule"] == "ZPlus"
    assert case.rules == {"layer": lrp.ZPlus(epsilon=0.25)}


def test_expected_values_are_those_of_the_json_rounded():
    case = CASES["hand/julia-dense"]
    np.testing.assert_array_equal(case.relevance["input"], [[17 / 90, 316 / 675]])
    np.testing.assert_array_equal(case.R, [[1 / 3, 2 / 3]])
    (dropped,) = [a.relevance["input"] for a in case.accepted if "bias dropped" in a.variants]
    np.testing.assert_array_equal(dropped, [[161 / 561, 400 / 561]])
    assert case.margin == 18


def test_a_case_of_several_inputs_has_no_one_input():
    case = next(case for case in CASES.values() if len(case.inputs) == 2)
    with pytest.raises(lrp.LrpError, match="has the inputs input0, input1: take them by name"):
        _ = case.x


def test_a_group_that_there_is_not_is_named():
    with pytest.raises(lrp.LrpError, match="the vectors have no group 'dence'; the nearest names are 'dense'"):
        conform(ours, groups=["dence"])


# --- verdicts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_lrp_ref_itself_agrees_with_all(dtype):
    report = conform(lambda case: ours(case, dtype))
    assert report.counts == {"agrees": len(CASES), "variant": 0, "differs": 0, "cannot": 0}
    assert report.differences == ()


def test_the_tolerance_is_64_times_our_own_error_and_no_less_than_32_roundoffs():
    case = CASES["networks/mlp/epsilon_plus_flat"]
    for dtype, u in (("float64", 2.0**-53), ("float32", 2.0**-24)):
        e = ours(case, dtype)
        for name, within in tolerances(case, dtype).items():
            scale = abs(case.relevance[name]).max()
            error = abs(e[name].astype(float) - case.relevance[name]).max() / scale
            assert within == max(64 * error, 32 * u)
            just = judge(case, {**ours(case), name: case.relevance[name] + 0.9 * within * scale})
            assert just.verdict == ("agrees" if dtype == "float64" else "differs")
            beyond = {**e, name: (case.relevance[name] + 1.1 * within * scale).astype(dtype)}
            assert judge(case, beyond).verdict != "agrees"


@pytest.mark.parametrize(
    ("change", "cells"),
    [
        ("bias raw", {"ZPlus": "Dense", "Gamma": "Conv"}),
        ("inputs not split", {"ZPlus": "Conv", "AlphaBeta": "Dense"}),
        ("bias squared", {"WSquare": "ConvTranspose"}),
        ("ties shared", {"Pass": "MaxPool"}),
        ("add doubled", {"Norm": "Add"}),
    ],
)
def test_a_consumer_with_a_published_formula_agrees_with_that_variant(change, cells):
    cases = [case for case in CASES.values() if change in case.flags or case.id.startswith("conv/")]
    report = conform(lambda c: ours(c) if c.mask else ours(c, change=[change], nodes=False), cases=cases)
    assert report.counts["variant"] >= 3
    assert report.counts["differs"] <= 0.2 * report.counts["variant"]
    first = report.differences[0]
    assert first.label == change
    assert first.says == variant_named(change).says
    for rule, layer in cells.items():
        assert layer in first.cells[rule]
    changed = {case.id for case in cases if change in case.flags and not case.mask}
    assert {v.id for v in report.verdicts if v.verdict != "agrees"} == changed


def test_captums_raw_bias_is_a_variant_with_its_formula_and_smallest_witness():
    report = conform(
        with_rules(lambda r: dataclasses.replace(r, bias="raw") if isinstance(r, lrp.ZPlus) else r),
        groups=["dense", "hand"],
    )
    (raw,) = (d for d in report.differences if d.label == "bias raw")
    assert set(raw.cells) >= {"ZPlus"}
    assert raw.witness.verdict == "variant"
    assert raw.witness.size == min(v.size for v in raw.verdicts)
    assert all("bias raw" in v.names for v in report.verdicts if v.id == WITNESS)


def leaky(rule):
    """A rule that loses a thousandth at every node that divides."""

    @dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
    class Leaky(lrp.Rule):
        def shares(self):
            return rule.shares()

        def back(self, layer, inputs, R):
            parts, absorbed = rule.back(layer, inputs, R)
            return tuple(part * 0.999 for part in parts), absorbed

    return Leaky() if rule.shares() else rule


def test_a_fault_of_no_catalogue_is_unknown_and_its_node_is_named():
    report = conform(with_rules(leaky), cases=SOME_DENSE)
    divided = [v for v in report.verdicts if v.rule != "Gradient"]
    assert {v.verdict for v in divided} == {"differs"}
    assert {(v.names, v.why, v.node) for v in divided} == {((), "unknown", "layer")}
    assert all(v.off == pytest.approx(1e-3) for v in divided)


def test_several_causes_in_a_network_are_named_by_the_diagnosis():
    case = CASES["networks/lenet/epsilon_plus"]
    verdict = judge(case, ours(case, change=["bias raw", "average pool spread evenly"]))
    assert verdict.verdict == "differs"
    assert "average pool spread evenly and bias raw" in verdict.names


def test_a_framework_that_divides_by_all_zeros_is_told_so():
    """With epsilon = 2^-200 in place of 0: it differs where contributions cancel, and nowhere else."""

    def divided(rule):
        if not rule.shares() or rule.epsilon or rule.bias == "spread":  # which deals out what the stabilizer took
            return rule
        return dataclasses.replace(rule, epsilon=INSTEAD_OF_ZERO)

    report = conform(with_rules(divided), groups=["dense", "hand"])
    wrong = {v.id: v for v in report.verdicts if v.verdict != "agrees"}
    assert {v.names for v in wrong.values()} == {(ZERO_DIVIDED,)}
    assert set(wrong) <= {case.id for case in CASES.values() if case.zero_denominators}
    assert wrong["hand/cancellation without a stabilizer"].off > 1e50


def test_both_a_variant_and_zeros_are_named_together():
    def captums(rule):
        if not isinstance(rule, lrp.ZPlus):
            return rule
        epsilon = rule.epsilon or INSTEAD_OF_ZERO
        return dataclasses.replace(rule, split="weight", bias="raw", epsilon=epsilon)

    verdict = judge(CASES[WITNESS], with_rules(captums)(CASES[WITNESS]))
    assert f"inputs not split, bias raw and {ZERO_DIVIDED}" in verdict.names


def test_what_is_no_number_is_said_with_its_node():
    case = CASES["networks/lenet/zero"]
    answer = ours(case)
    node = case.graph.nodes[2].name
    answer[node] = answer[node] * np.nan
    verdict = judge(case, answer)
    assert (verdict.verdict, verdict.why, verdict.node, verdict.off) == ("differs", "not a number", node, np.inf)
    assert json.dumps(Report("x", "", (verdict,)).to_dict(), allow_nan=False)


def test_an_answer_in_another_shape_differs():
    verdict = judge(CASES[WITNESS], CASES[WITNESS].relevance["input"][:, :1])
    assert verdict.why == 'relevance at "input" of shape (1, 1), need (1, 2)'


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "the answer lacks the relevance of the input 'input'"),
        ({"input": np.zeros((1, 2)), "conv": np.zeros(1)}, "the answer has 'conv'; there are input, "),
        ({"input": np.zeros((1, 2), dtype=int)}, "is int64, need float32 or float64"),
        ({"input": np.zeros((1, 2), dtype="float16")}, "is float16, need float32 or float64"),
    ],
)
def test_an_answer_that_is_none_is_refused(answer, message):
    with pytest.raises(lrp.LrpError, match=re.escape(message)):
        judge(CASES[WITNESS], answer)


def test_masked_relevance_is_not_diagnosed():
    case = next(case for case in CASES.values() if case.mask)
    verdict = judge(case, {name: R * 1.5 for name, R in case.relevance.items()})
    assert verdict.why == "unknown: masked relevance is not diagnosed"


def test_an_adapter_that_fails_is_named_with_the_case():
    def broken(case):
        raise KeyError("weight")

    with pytest.raises(lrp.LrpError, match=r'fails at case "dense/\S+": KeyError: .weight.'):
        conform(broken, groups=["dense"])


def test_cells():
    assert cell(CASES["conv/conv2d-plain/ZPlus"]) == ("ZPlus", "Conv")
    assert cell(CASES["networks/lenet/epsilon_plus"]) == ("Epsilon, Norm, ZPlus", "network")
    assert cell(CASES["activation/relu/Pass"]) == ("Pass", "ReLU")


# --- the report -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report():
    def relevance(case):
        if case.graph.nodes[0].kind == "MaxPool":
            raise Cannot("no max pool")
        return ours(case, change=["bias raw"]) if not case.mask else ours(case)

    return conform(relevance, groups=["dense", "hand"], name="mine", version="1.2")


def test_the_text(report):
    text = str(report)
    counts = report.counts
    assert text.startswith(
        f"mine 1.2 against vectors 1.0.0: of {len(report.verdicts)} cases {counts['agrees']} agree, "
        f"{counts['variant']} agree with a variant, 0 differ, {counts['cannot']} cannot be asked\n"
    )
    cells = [v.verdict for v in report.verdicts if (v.rule, v.layer) == ("ZPlus", "Dense")]
    (row,) = [line for line in text.splitlines() if line.startswith("Dense ")]
    assert f"{cells.count('agrees')} {cells.count('variant')}a" in row
    assert f"a  bias raw: {counts['variant']} cases\n   {variant_named('bias raw').says}\n" in text
    assert f"{counts['cannot']:7}  no max pool" in text


def test_the_page_has_the_same(report):
    page = report.markdown()
    grids = report.grids()
    assert len(grids) == 2
    for head, rows in grids:
        assert f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |\n" in page
        assert all(len(row) == len(head) for row in rows)
    assert f"- **a** bias raw, {report.counts['variant']} cases: " in page
    assert "- 2: no max pool" in page or f"- {report.counts['cannot']}: no max pool" in page


def test_the_json_has_fixed_keys(report):
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    keys = ["peer", "version", "against", "counts", "cells", "differences", "reasons", "cases"]
    assert list(found) == keys
    assert list(found["counts"]) == list(VERDICTS)
    for one in found["cells"]:
        assert list(one) == ["rule", "layer", *VERDICTS]
    for verdict in VERDICTS:
        assert sum(one[verdict] for one in found["cells"]) == found["counts"][verdict]
    for one in found["differences"]:
        assert list(one) == ["label", "says", "cells", "smallest", "cases"]
        assert one["smallest"] in one["cases"]
    for one in found["cases"]:
        assert list(one) == ["id", "rule", "layer", "verdict", "names", "why", "node", "off", "tolerance"]


def test_of_names_that_fit_the_one_is_chosen_that_changes_nothing_that_agrees():
    verdict = Verdict("1", "ZPlus", "Dense", "variant", ("inputs not split", "bias raw"))
    other = Verdict("2", "ZPlus", "Dense", "agrees", flags=("inputs not split",))
    (found,) = Report("x", "", (verdict, other)).differences
    assert found.label == "bias raw"
    (found,) = Report("x", "", (verdict,)).differences
    assert found.label == "inputs not split"  # the catalogue's order


def test_a_witness_shows_in_float32_if_one_does():
    small = Verdict("1", "Zero", "Dense", "differs", why="unknown", off=1e-9, size=2)
    large = dataclasses.replace(small, id="2", off=0.1, size=20)
    assert Difference("unknown", "", (small, large)).witness is large
    assert Difference("unknown", "", (small,)).witness is small


# --- in a test suite ------------------------------------------------------------------------------------------------


def raw(case):
    return ours(case, change=["bias raw"], nodes=False) if not case.mask else ours(case)


def test_what_conforms_passes_and_gives_the_report():
    assert assert_conforms(ours, groups=["dense"]).counts["agrees"] == read.count(["dense"])


def test_what_does_not_fails_with_a_readable_list():
    with pytest.raises(AssertionError) as failure:
        assert_conforms(raw, groups=["dense"])
    title, *lines = str(failure.value).splitlines()
    assert title.startswith("the adapter against vectors")
    assert "dense/dense/ZPlus (ZPlus on Dense): the numbers are those of: bias raw" in lines
    assert len(lines) <= testing.SHOWN + 1


def test_known_differences_pass_as_what_they_are_known():
    rules = ("ZPlus", "ZMinus", "Gamma", "GeneralizedGamma")
    known = {f"{rule}/Dense": "bias raw" for rule in rules}
    assert_conforms(raw, groups=["dense"], known=known)
    assert_conforms(raw, groups=["dense"], known=dict.fromkeys(known, "we mean that"))
    with pytest.raises(AssertionError, match="is known as 'bias dropped', and the numbers are those of: bias raw"):
        assert_conforms(raw, groups=["dense"], known={**known, "ZPlus/Dense": "bias dropped"})
    with pytest.raises(AssertionError, match="'Zero/Dense' is known as 'bias raw', and differs nowhere"):
        assert_conforms(raw, groups=["dense"], known={**known, "Zero/Dense": "bias raw"})
    case = "dense/dense/ZPlus"
    with pytest.raises(AssertionError) as failure:
        assert_conforms(raw, groups=["dense"], known={case: "bias raw"})
    assert case not in str(failure.value)


def test_an_unknown_difference_is_said_with_its_node():
    with pytest.raises(AssertionError, match=r'differs at node "layer": unknown, off by 0.001 of max\|R\|'):
        assert_conforms(with_rules(leaky), cases=SOME_DENSE[:2])


def test_a_case_that_cannot_be_asked_fails_nothing():
    def relevance(case):
        raise Cannot("nothing here")

    assert assert_conforms(relevance, groups=["dense"]).counts["cannot"] == read.count(["dense"])


# --- the command ----------------------------------------------------------------------------------------------------

EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def adapter(tmp_path):
    def write(text):
        path = tmp_path / "adapter.py"
        path.write_text(text)
        return path

    return write


def test_the_adapter_of_the_readme_runs_and_is_about_20_lines(run, adapter):
    assert len(EXAMPLES[0].strip().splitlines()) <= 22
    path = adapter(EXAMPLES[0])
    code, out, err = run("conform", path, "--groups", "dense,hand")
    assert (code, err) == (0, f"lrp-ref: running the code of {path}\n")
    assert "0 agree with a variant, 0 differ" in out
    asked = re.search(r"cases (\d+) agree", out)
    assert int(asked[1]) >= 12


def test_the_test_of_the_readme_passes_and_would_fail():
    space = {}
    exec(EXAMPLES[0], space)
    exec(EXAMPLES[1], space)
    space["test_lrp"]()
    space["relevance"] = lambda case: 1.001 * case.relevance["input"]
    with pytest.raises(AssertionError, match="dense/dense/Zero"):
        space["test_lrp"]()


RAW = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_conform import raw as relevance
"""


def test_a_difference_exits_with_1_and_is_printed_and_written(run, adapter, tmp_path):
    page = tmp_path / "page" / "report.md"
    code, out, err = run("conform", adapter(RAW), "--groups", "dense", "--markdown", page)
    assert code == 1
    assert "a  bias raw: " in out
    assert err.splitlines()[-1].startswith("lrp-ref: ")
    assert err.splitlines()[-1].endswith("are not what the rule of that name gives")
    assert "- **a** bias raw" in page.read_text()
    code, out, _ = run("conform", adapter(RAW), "--groups", "dense", "--json")
    assert code == 1
    assert json.loads(out)["peer"] == "adapter"


def test_ctrl_c_leaves_what_was_done(run, adapter):
    text = EXAMPLES[0] + (
        "\n\ncount = iter(range(40))\ninner = relevance\n\n\ndef relevance(case):\n"
        "    if next(count) == 30:\n        raise KeyboardInterrupt\n    return inner(case)\n"
    )
    code, out, err = run("conform", adapter(text))
    assert code == 130
    assert ": of 30 cases " in out
    assert err.endswith("lrp-ref: interrupted\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["zenit"], "no framework 'zenit'; the nearest names are 'zennit'"),
        (["nothing.py"], "nothing.py: there is no such file"),
        (["julia-golden"], "julia-golden: name the folder of the golden files"),
        (["zennit", "DIR"], "zennit: needs no folder"),
        (["julia-golden", "DIR", "--groups", "dense"], "--groups are of the vectors"),
        (["julia-golden", "DIR"], "no golden files of julia in it"),
        (["innvestigate-golden", "DIR"], "no golden files of innvestigate in it"),
    ],
)
def test_wrong_use_of_conform_is_one_line(run, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("conform", *argv)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


def test_a_file_without_the_function_is_refused(run, adapter):
    code, _, err = run("conform", adapter("x = 1"))
    assert code == 2
    assert "defines no function relevance(case)" in err


@pytest.mark.parametrize("peer", peers.PEERS)
def test_a_framework_that_is_not_there_is_one_line_that_names_the_group(run, monkeypatch, peer):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    code, out, err = run("conform", peer)
    assert (code, out) == (2, "")
    assert "cannot import torch" in err
    assert 'the dependency group "peers"' in err


def broken_import(name):
    raise RuntimeError("operator torchvision::nms does not exist")


def test_a_framework_whose_import_fails_is_said_so(monkeypatch):
    monkeypatch.setattr(peers, "import_module", broken_import)
    with pytest.raises(ImportError, match="zennit is installed, and its import fails: operator torchvision::nms"):
        peers.imported("zennit")


# --- golden files ---------------------------------------------------------------------------------------------------


def innvestigate_files(folder, *, spread):
    """A reference of an average pool, channels last: LRP by the inputs' parts, or in equal ones."""
    x = np.random.default_rng(1).random((2, 4, 4, 3))
    y = x.reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    flat = y.reshape(2, -1)
    R = np.zeros_like(flat)
    R[range(2), flat.argmax(axis=1)] = flat.max(axis=1)
    share = (R.reshape(y.shape) / 4).repeat(2, axis=1).repeat(2, axis=2)
    part = share if spread else share * x / y.repeat(2, axis=1).repeat(2, axis=2)
    path = folder / "LRPZ" / "data.npz"
    path.parent.mkdir()
    group = {"AveragePooling2D/output": flat, "AveragePooling2D/attribution": part.astype("float32")}
    np.savez(path, input=x, **group)
    return folder


def test_golden_files_that_agree(run, tmp_path):
    code, out, err = run("conform", "innvestigate-golden", innvestigate_files(tmp_path, spread=False))
    assert (code, err) == (0, "")
    assert out.startswith("innvestigate-golden against lrp_ref: of 1 cases 1 agree")


def test_golden_files_that_differ_are_diagnosed(run, tmp_path):
    code, out, _ = run("conform", "innvestigate-golden", innvestigate_files(tmp_path, spread=True))
    assert code == 1
    assert "a  average pool spread evenly: 1 cases" in out


def test_a_golden_reference_is_compared_in_float32(tmp_path):
    cases, relevance, left = golden.held(golden.innvestigate(innvestigate_files(tmp_path, spread=False)))
    assert not left
    assert relevance(cases[0]).dtype == np.float32
    assert judge(cases[0], relevance(cases[0])).tolerance >= 32 * 2.0**-24
    with pytest.raises(lrp.LrpError, match="has no file of ONNX"):
        _ = cases[0].onnx


# --- arrays alone ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explained():
    x = digits().images[[3]].astype(float)
    return lrp.explain(digits_cnn(), x, lrp.presets.epsilon_plus())


def compared(run, path, *extra):
    return run("compare", path, "--input", 3, "--composite", "epsilon_plus", *extra)


@pytest.mark.parametrize("named_so", ["R", "input", "layers"])
def test_the_same_relevance_agrees(run, tmp_path, explained, named_so):
    nodes = {name: R for name, R in explained.relevances.items() if "conv" in name}
    arrays = {"layers": {"input": explained.relevance, **nodes}}.get(named_so, {named_so: explained.relevance[0]})
    np.savez(tmp_path / "theirs.npz", **arrays)
    code, out, err = compared(run, tmp_path / "theirs.npz")
    assert (code, err) == (0, "")
    assert "agree: " in out


def test_another_is_diagnosed_and_exits_with_1(run, tmp_path, explained):
    x = digits().images[[3]].astype(float)
    setting = Setting.of(digits_cnn(), x, lrp.presets.epsilon_plus(), explained.targets[explained.graph.outputs[0]])
    theirs = variant_named("bias dropped").everywhere(setting).explain()
    np.savez(tmp_path / "theirs.npz", **{name.replace("/", "_"): R for name, R in theirs.relevances.items()})
    code, out, err = compared(run, tmp_path / "theirs.npz")
    assert code == 1
    assert "because: bias dropped" in out
    assert "is not the relevance by epsilon_plus" in err
    code, out, _ = compared(run, tmp_path / "theirs.npz", "--json")
    assert json.loads(out)["hypotheses"][0]["causes"][0]["name"] == "bias dropped"


@pytest.mark.parametrize(
    ("arrays", "extra", "message"),
    [
        ({"R": np.zeros((1, 1, 3, 3))}, [], "has shape (1, 1, 3, 3), need (1, 1, 8, 8)"),
        ({"convx": np.zeros(3), "R": np.zeros(3)}, [], 'no node or input "convx"'),
        ({"R": np.zeros(3)}, ["--exact"], "--exact: their relevance is in floats"),
    ],
)
def test_wrong_use_of_compare_is_one_line(run, tmp_path, arrays, extra, message):
    np.savez(tmp_path / "theirs.npz", **arrays)
    code, out, err = compared(run, tmp_path / "theirs.npz", *extra)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


def test_what_is_no_file_of_arrays_is_refused(run, tmp_path):
    (tmp_path / "theirs.npz").write_bytes(b"no zip")
    code, _, err = compared(run, tmp_path / "theirs.npz")
    assert code == 2
    assert "no file of arrays that can be read" in err


def test_the_catalogue_has_no_variant_of_our_own_label():
    assert ZERO_DIVIDED not in {variant.name for variant in CATALOGUE}


# --- the page -------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[1] / "CONFORMANCE.md").read_text()


def test_the_committed_page_is_of_these_vectors():
    assert f"version {VERSION}, with torch" in PAGE
    rows = re.findall(
        r"^\| (\S+) \| (\S+) \| vectors (\S+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE
    )
    assert [row[0] for row in rows] == list(peers.PEERS)
    for _, _, of, *counts in rows:
        assert of == VERSION
        assert sum(map(int, counts)) == read.count()
    witnesses = re.findall(r"[Ss]mallest:? `([^`]+)`", PAGE)
    assert len(witnesses) > 20
    assert {name for name in witnesses if "Pooling2D" not in name} <= set(CASES)


def test_every_reproduction_on_the_page_is_short():
    codes = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(codes) >= 10
    assert max(len(code.strip().splitlines()) for code in codes) < 15
