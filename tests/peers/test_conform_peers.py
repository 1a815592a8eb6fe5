"""The adapters beside zennit, captum and LXT as they are, and the page of what came of them: CONFORMANCE.md."""

import re
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import draws  # noqa: F401  makes torchvision importable
import numpy as np
import pytest

from lrp_ref.oracle import peers
from lrp_ref.oracle.conform import Cannot, conform
from lrp_ref.oracle.peers import modules
from lrp_ref.oracle.vectors import read

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONFORMANCE.md").read_text()
sys.path.insert(0, str(ROOT / "scripts"))
conformance = __import__("conformance")


def adapter_of(peer):
    """The adapter, or a skip in sight."""
    try:
        return peers.adapter(peer)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=peers.PEERS)
def report(request):
    relevance = adapter_of(request.param)
    return conform(relevance, name=request.param, version=version(request.param))


def test_the_page_has_what_comes_of_it(report):
    """Its counts and tables, for the versions that it is of."""
    if f"## {report.name} {report.version}\n" not in PAGE:
        pytest.skip(f"CONFORMANCE.md is of another version of {report.name} than {report.version}")
    assert report.markdown() in PAGE


def test_enough_is_asked_to_say_something(report):
    """Of every rule that the framework has, on layers with weights and on networks."""
    asked = {(v.rule, v.layer) for v in report.verdicts if v.verdict != "cannot"}
    rules = {
        "zennit": ("Zero", "Epsilon", "GeneralizedGamma", "ZPlus", "AlphaBeta", "Flat", "WSquare", "ZBox"),
        "captum": ("Zero", "Epsilon", "Gamma", "ZPlus"),
        "lxt": ("Zero", "Epsilon"),
    }[report.name]
    for rule in rules:
        assert (rule, "Dense") in asked
        assert any(rule in names and layer == "network" for names, layer in asked), rule
    assert report.counts["agrees"] >= 150


def test_what_is_known_of_each_framework_is_found(report):
    known = {
        "zennit": {"bias squared"},
        "captum": {"bias raw", "inputs not split", "max pool divides, 1e-09"},
        "lxt": {"stabilizer unsigned", "not a number"},
    }[report.name]
    assert known <= {difference.label for difference in report.differences}


@pytest.mark.parametrize("finding", conformance.FINDINGS, ids=lambda finding: f"{finding.peer}: {finding.title}")
def test_a_reproduction_prints_what_the_page_says(finding):
    adapter_of(finding.peer)
    if f"## {finding.peer} {version(finding.peer)}\n" not in PAGE:
        pytest.skip(f"CONFORMANCE.md is of another version of {finding.peer}")
    code = conformance.textwrap.dedent(finding.code).strip()
    assert len(code.splitlines()) < 15
    assert f"```python\n{code}\n```\n\nprints\n\n```\n{conformance.said(code)}\n```\n" in PAGE


def test_the_builder_computes_the_networks_of_the_vectors():
    """`asked` refuses a module that computes something else: of layers that torch has, only a few may be refused."""
    refused = []
    for case in read.cases(["networks", "dense", "conv", "conv_transpose", "norm", "max_pool", "average_pool"]):
        try:
            made = modules.asked(case)
        except Cannot as reason:
            refused.append(str(reason))
            continue
        y = made.net(*made.x).detach().numpy()
        np.testing.assert_allclose(
            y, case.graph.forward(dict(case.inputs))[case.graph.outputs[0]], rtol=1e-12, atol=1e-12
        )
    words = {re.sub(r"such .*", "such", reason) for reason in refused}
    assert words <= {
        "torch's modules pad both sides alike",
        "torch has no max pool that is explained as an average",
        "torch's max pools give a tie to the first of equal cells",
        "torch has no such",
        "relevance is masked on its way",
    }


def test_modules_are_named_as_nodes():
    case = next(case for case in read.cases(["hand"]) if "." in case.graph.nodes[0].name)
    made = modules.asked(case)
    assert [name for name, _ in made.net.named_children()] == [node.name.replace(".", "_") for node in case.graph.nodes]


def test_a_difference_without_a_finding_stops_the_page(monkeypatch):
    relevance = adapter_of("zennit")
    with warnings.catch_warnings(action="ignore"):
        report = conform(relevance, name="zennit", version="0", groups=["dense", "hand", "smooth"])
    conformance.section("zennit", report)
    zeros = tuple(finding for finding in conformance.FINDINGS if "squared" not in finding.title)
    monkeypatch.setattr(conformance, "FINDINGS", zeros)
    with pytest.raises(SystemExit, match=r"zennit: no finding explains .*hand/witness-a/w2"):
        conformance.section("zennit", report)


def test_a_finding_that_nothing_shows_stops_the_page():
    relevance = adapter_of("zennit")
    report = conform(relevance, name="zennit", version="0", groups=["average_pool"])
    with pytest.raises(SystemExit, match="no case shows any more: WSquare has the squared bias"):
        conformance.section("zennit", report)
