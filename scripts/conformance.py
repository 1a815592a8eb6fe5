"""CONFORMANCE.md: what each framework and version gives for each rule and layer; a reproduction of each difference.

The reproductions are run, and what they print is in the page. The same versions give the same page. It fails for a
difference that no finding explains, and for a finding that no difference shows any more. ``--check`` writes nothing,
and fails if the page would be another.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lrp_ref.files import written_whole
from lrp_ref.oracle import peers
from lrp_ref.oracle.conform import ZERO_DIVIDED, Report, conform
from lrp_ref.oracle.peers import golden
from lrp_ref.oracle.vectors import VERSION

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "CONFORMANCE.md"
LONGEST = 15
"""A reproduction has fewer lines."""


@dataclass(frozen=True)
class Finding:
    """A difference as a fact that a maintainer can act on."""

    peer: str
    title: str
    fact: str
    labels: Sequence[str]
    """Of the report's differences that it explains, alone or with others."""
    code: str
    """In the framework's own API."""
    like: str = ""
    """In the ids of cases, or in their rules, where the label alone does not say it."""


def said(code: str) -> str:
    """What a reproduction prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings(action="ignore"):
        exec(compile(code, "reproduction", "exec"), {"__name__": "reproduction"})
    return out.getvalue().rstrip()


ZENNIT = (
    Finding(
        "zennit",
        "WSquare has the squared bias in its denominator",
        "R_j = sum_k w_jk^2 / (sum_j w_jk^2 + b_k^2) R_k: the bias takes a part of the relevance. Montavon et al. 2017 "
        "have no bias there, nor have iNNvestigate, lrp_toolbox and RelevancePropagation.jl. "
        "`WSquare(zero_params='bias')` agrees.",
        ["bias squared"],
        """
        import torch
        from zennit.rules import WSquare

        layer = torch.nn.Linear(2, 1).double()
        layer.weight.data = torch.tensor([[1.0, -1.0]]).double()
        layer.bias.data = torch.tensor([-1.0]).double()
        x, R = torch.ones(1, 2).double().requires_grad_(), -torch.ones(1, 1).double()
        for zero_params in (None, "bias"):
            handles = WSquare(stabilizer=1e-12, zero_params=zero_params).register(layer)
            print(torch.autograd.grad(layer(x), x, R)[0])
            handles.remove()
        """,
    ),
    Finding(
        "zennit",
        "A denominator of 0 is divided by",
        "`Epsilon(epsilon=0)`, which the documentation calls LRP-0, gives nan where all inputs of an output are 0, "
        "and inf where contributions cancel; one nan is enough to make every relevance below it nan. Any epsilon > 0 "
        "gives 0 for the first, and R_k / epsilon for the second. The vectors book both as unclaimed. The cases that "
        "differ are those that cancel, asked for with epsilon = 2^-200.",
        [ZERO_DIVIDED],
        """
        import torch
        from zennit.rules import Epsilon

        layer = torch.nn.Linear(2, 1, bias=False).double()
        layer.weight.data = torch.tensor([[1.0, -1.0]]).double()
        for a in ([0.0, 0.0], [1.0, 1.0]):
            for epsilon in (0.0, 1e-6):
                x = torch.tensor([a]).double().requires_grad_()
                handles = Epsilon(epsilon=epsilon).register(layer)
                print(a, epsilon, torch.autograd.grad(layer(x), x, torch.ones(1, 1).double())[0].tolist())
                handles.remove()
        """,
    ),
    Finding(
        "zennit",
        "ZBox loses digits where a denominator is near 0",
        "It subtracts three sums over the outputs, x c - l c^+ - h c^-, and a denominator near 0 makes each of them "
        "huge: what the other outputs give is rounded away. In float32 that shows at the default stabilizer. Sums of "
        "(x_j - l_j) w_jk^+ and (x_j - h_j) w_jk^- do not cancel. Here the first output has contributions of 0, and "
        "(0.4615, 0.5385) is right.",
        ["unknown"],
        """
        import torch
        from zennit.rules import ZBox

        for dtype in (torch.float64, torch.float32):
            layer = torch.nn.Linear(2, 2, bias=False).to(dtype)
            layer.weight.data = torch.tensor([[-1.0, 0.0], [0.3, 0.7]], dtype=dtype)
            ZBox(low=0.0, high=1.0).register(layer)
            x = torch.tensor([[1.0, 0.5]], dtype=dtype, requires_grad=True)
            print(torch.autograd.grad(layer(x), x, torch.ones(1, 2, dtype=dtype))[0].tolist())
        """,
        like="ZBox",
    ),
)

LINEAR = """
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import {rule}

net = torch.nn.Sequential(torch.nn.Linear(2, 1)).double()
net[0].weight.data = torch.tensor([[{weight}]]).double()
net[0].bias.data = torch.tensor([{bias}]).double()
net[0].rule = {rule}()
print(LRP(net).attribute(torch.tensor([[{x}]]).double(), target=0).tolist())
"""

CAPTUM = (
    Finding(
        "captum",
        "Alpha1_Beta0_Rule leaves the bias as it is",
        "Weights are clamped, and b_k is not: z+ has b_k^+ in its denominator. A negative bias can then cancel the "
        "positive contributions: here the denominator is 1 - 1 + 1e-9, and the first input gets -1e9 in place of -1. "
        "`set_bias_to_zero=True` drops the bias, which is the form of Montavon et al. 2017.",
        ["bias raw", "inputs not split, bias raw"],
        LINEAR.format(rule="Alpha1_Beta0_Rule", weight="1.0, -1.0", bias="-1.0", x="1.0, 1.0"),
        like="ZPlus",
    ),
    Finding(
        "captum",
        "GammaRule leaves the bias as it is",
        "Weights become w + gamma w^+, and b_k stays: Montavon et al. 2019 have b_k + gamma b_k^+ in the denominator "
        "(so do zennit and RelevancePropagation.jl), which gives (1, 1) here.",
        ["bias raw"],
        LINEAR.format(rule="GammaRule", weight="1.0, 1.0", bias="1.0", x="1.0, 1.0"),
        like="Gamma",
    ),
    Finding(
        "captum",
        "Alpha1_Beta0_Rule does not split the inputs",
        "The sign of the weight decides, and not that of the product: a negative input times a positive weight "
        "counts as positive. Bach et al. 2015 take (a_j w_jk)^+, which gives (1, 0) here. On inputs >= 0 the two are "
        "the same.",
        ["inputs not split", "inputs not split, bias raw"],
        LINEAR.format(rule="Alpha1_Beta0_Rule", weight="1.0, 1.0", bias="0.0", x="2.0, -1.0"),
    ),
    Finding(
        "captum",
        "A denominator of 0 is divided by",
        "`EpsilonRule(epsilon=0)` makes one output of 0 the nan of every input. With epsilon > 0 contributions that "
        "cancel become relevance of the size of R_k / epsilon, if that output has relevance; the vectors book it as "
        "unclaimed. The cases that differ are those that cancel, asked for with epsilon = 2^-200.",
        [ZERO_DIVIDED],
        """
        import torch
        from captum.attr import LRP
        from captum.attr._utils.lrp_rules import EpsilonRule

        net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 1)).double()
        net[0].weight.data = torch.tensor([[1.0, -1.0], [1.0, 1.0]]).double()
        net[1].weight.data, net[1].bias.data = torch.ones(1, 2).double(), torch.zeros(1).double()
        for epsilon in (0.0, 1e-9):
            net[0].rule = EpsilonRule(epsilon)
            print(LRP(net).attribute(torch.ones(1, 2).double(), target=0).tolist())
        """,
    ),
    Finding(
        "captum",
        "Max pools divide by their maximum",
        "A pool without a rule gets EpsilonRule, so that the winner receives a_j / (a_j + 1e-9) R_k: nothing where the "
        "maximum is 0, and half where it is 1e-9. A pool's one winner could take all of it. Behind a batch norm with "
        "IdentityRule, windows of zeros do have relevance to lose.",
        ["max pool divides, 1e-09"],
        """
        import torch
        from captum.attr import LRP

        net = torch.nn.Sequential(torch.nn.MaxPool1d(2)).double()
        for a in ([1.0, 0.0], [1e-9, 0.0]):
            x = torch.tensor([[a]]).double()
            R, y = LRP(net).attribute(x, target=(0, 0)), net(x)
            print("of", y.item(), "arrives", R.sum().item())
        """,
    ),
    Finding(
        "captum",
        "IdentityRule behind a ReLU hands on gradients, not relevance",
        "Its hook on the input does not set `replace_out`, which the hook of the activation below looks for: what "
        "goes down from there is w_j / (z_j + e) R_j and not R_j. Here both rules should give (4, 4): the batch norm "
        "changes nothing.",
        ["identity rule after a ReLU"],
        """
        import torch
        from captum.attr import LRP
        from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule

        parts = [torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.BatchNorm1d(2, eps=0), torch.nn.Linear(2, 1)]
        net = torch.nn.Sequential(*parts).double().eval()
        net[0].weight.data, net[0].bias.data = 4 * torch.eye(2).double(), torch.zeros(2).double()
        net[3].weight.data, net[3].bias.data = torch.ones(1, 2).double(), torch.zeros(1).double()
        for identity in (False, True):
            net[2].rule = IdentityRule() if identity else EpsilonRule()
            print(LRP(net).attribute(torch.ones(1, 2).double(), target=0).tolist())
        """,
    ),
    Finding(
        "captum",
        "A tensor read by a module and by a function gets relevance multiplied by its activation",
        "The hook on a module's input multiplies the whole gradient of that tensor by the activation, the part too "
        "that came through a function such as torch.cat, and is relevance already. In a densely connected block this "
        "is so at every tensor that is concatenated and read on. Here x = 1, a = 2, b = 3 a = 6, and y = a + b = 8 "
        "is what should arrive.",
        ["unknown"],
        """
        import torch
        from captum.attr import LRP

        a, b, y = (torch.nn.Linear(n, 1, bias=False).double() for n in (1, 1, 2))
        for module, weight in ((a, [[2.0]]), (b, [[3.0]]), (y, [[1.0, 1.0]])):
            module.weight.data = torch.tensor(weight).double()
        net = torch.nn.ModuleList([a, b, y])
        net.forward = lambda x: (lambda z: y(torch.cat([z, b(z)], 1)))(a(x))
        print(LRP(net).attribute(torch.ones(1, 1).double(), target=0).tolist())
        """,
        like="networks/densenet",
    ),
)

LXT = (
    Finding(
        "lxt",
        "The stabilizer has no sign",
        "Denominators are z_k + epsilon whatever the sign of z_k, in linear_epsilon, add2, mean and EpsilonRule: a "
        "negative z_k comes nearer to 0. With the sign of z_k this is -1 / (-1 - 0.5) = 2/3.",
        ["stabilizer unsigned"],
        """
        import torch
        import lxt.explicit.functional as lf

        w, x = torch.tensor([[-1.0]]).double(), torch.ones(1, 1).double().requires_grad_()
        y = lf.linear_epsilon(x, w, None, 0.5)
        print(torch.autograd.grad(y, x, torch.ones(1, 1).double())[0])
        """,
    ),
    Finding(
        "lxt",
        "A z_k of -epsilon gives inf or nan",
        "The unsigned stabilizer then makes the denominator 0, and one such unit makes the relevance below inf or nan.",
        ["not a number"],
        """
        import torch
        import lxt.explicit.functional as lf

        w, x = torch.tensor([[-1.0, 0.0]]).double(), torch.tensor([[0.5, 0.0]]).double().requires_grad_()
        y = lf.linear_epsilon(x, w, None, 0.5)
        print(torch.autograd.grad(y, x, torch.ones(1, 1).double())[0])
        """,
    ),
    Finding(
        "lxt",
        "mean has its epsilon beside the sum",
        "x_j / (sum_j x_j + epsilon) R: the mean's epsilon rule is x_j / n / (mean + epsilon) R, so that epsilon is "
        "n times less than asked for. Here the second, of EpsilonRule on torch.mean, is (1/2) / (1 + 1/2) = 1/3.",
        ["unknown"],
        """
        import torch
        import lxt.explicit.functional as lf
        from lxt.explicit.rules import epsilon_lrp

        for mean in (lambda x: lf.mean(x, 1, False, 0.5), lambda x: epsilon_lrp(lambda a: a.mean(1), 0.5, x)):
            x = torch.ones(1, 2).double().requires_grad_()
            print(torch.autograd.grad(mean(x), x, torch.ones(1).double())[0])
        """,
        like="merge/mean",
    ),
    Finding(
        "lxt",
        "A denominator of 0 is divided by",
        "With epsilon = 0 outputs of 0 give nan or inf; with any other, contributions that cancel become relevance "
        "of the size of R_k / epsilon. The vectors book it as unclaimed. The cases that differ are those that "
        "cancel, asked for with epsilon = 2^-200.",
        [ZERO_DIVIDED],
        """
        import torch
        import lxt.explicit.functional as lf

        w = torch.tensor([[1.0, -1.0]]).double()
        for epsilon in (0.0, 1e-6):
            x = torch.ones(1, 2).double().requires_grad_()
            y = lf.linear_epsilon(x, w, None, epsilon)
            print(epsilon, torch.autograd.grad(y, x, torch.ones(1, 1).double())[0].tolist())
        """,
    ),
)

FINDINGS = (*ZENNIT, *CAPTUM, *LXT)


def explains(finding: Finding, report: Report) -> list[str]:
    """The ids of the cases that a finding explains."""
    return [
        verdict.id
        for difference in report.differences
        for verdict in difference.verdicts
        if set(finding.labels) & set(difference.label.split(" and ")) and finding.like in f"{verdict.id} {verdict.rule}"
    ]


def counted(n: int) -> str:
    """So many cases show something."""
    return "1 case shows" if n == 1 else f"{n} cases show"


def section(peer: str, report: Report) -> str:
    """A framework's part of the page."""
    own = [finding for finding in FINDINGS if finding.peer == peer]
    left = {verdict.id for difference in report.differences for verdict in difference.verdicts}
    parts = [f"## {peer} {report.version}".rstrip(), ""]
    for finding in own:
        ids = explains(finding, report)
        if not ids:
            raise SystemExit(f"{peer}: no case shows any more: {finding.title}")
        left -= set(ids)
        code = textwrap.dedent(finding.code).strip()
        if len(code.splitlines()) >= LONGEST:
            raise SystemExit(f"{finding.title}: its reproduction has {len(code.splitlines())} lines")
        size = {verdict.id: (verdict.size, verdict.id) for verdict in report.verdicts}
        smallest = min(ids, key=lambda name: size[name])
        parts += [
            f"### {finding.title}",
            "",
            f"{finding.fact} {counted(len(ids))} it, the smallest `{smallest}`.",
            "",
        ]
        parts += ["```python", code, "```", "", "prints", "", "```", said(code), "```", ""]
    if own and left:
        raise SystemExit(f"{peer}: no finding explains {', '.join(sorted(left))}")
    parts += ["### By rule and layer", "", report.markdown()]
    return "\n".join(parts)


POOLS = """### DeepTaylor and BoundedDeepTaylor spread an average pool evenly

Relevance is handed on as the pool's gradient, R_k / n_k to every cell; the analyzers by LRP, and the z+ rule of which
deep Taylor is made, hand on a_j / sum_j a_j R_k. iNNvestigate was not run here: these are its own files. A window of
`{name}`, inputs and attributions:

```
{window}
```
"""


def window(folder: Path, name: str) -> str:
    """A window that received relevance, with what each cell got."""
    with np.load(folder / name / "data.npz") as file:
        x, R = file["input"], file["AveragePooling2D/attribution"]
    n, i, j, c = (int(place[0]) for place in np.nonzero(R))
    cells = (n, slice(i // 2 * 2, i // 2 * 2 + 2), slice(j // 2 * 2, j // 2 * 2 + 2), c)
    return "\n".join(
        f"{what}: {np.round(a[cells].astype(float), 5).ravel().tolist()}" for what, a in (("x", x), ("R", R))
    )


def of_files(peer: str, read: Callable[[Path], Any], folder: Path) -> Report:
    """Golden files held to lrp_ref."""
    if not folder.exists():
        raise SystemExit(f"{folder} is not there: --cases names the folder of the cases of other frameworks")
    with warnings.catch_warnings(action="ignore"):
        cases, relevance, _ = golden.held(read(folder))
        return conform(relevance, cases=cases, name=peer, version="(golden files)", against="lrp_ref")


def page(cases: Path) -> str:
    """The whole of it."""
    reports = {}
    for peer in peers.PEERS:
        reports[peer] = conform(peers.adapter(peer), name=peer, version=peers.version_of(peer))
    inn = of_files("iNNvestigate", golden.innvestigate, cases / "innvestigate_layers")
    julia = of_files("RelevancePropagation.jl", golden.julia, cases / "julia_rules")
    rows = [
        f"| {report.name} | {report.version} | {report.against} | {' | '.join(map(str, report.counts.values()))} |"
        for report in (*reports.values(), inn, julia)
    ]
    if julia.differences or [d.label for d in inn.differences] != ["average pool spread evenly"]:
        raise SystemExit("the golden files show other differences than the page says")
    parts = [
        "# Conformance",
        "",
        "What other frameworks give under the names of the rules: held to the "
        f"[conformance vectors](lrp_ref/oracle/vectors/README.md), version {VERSION}, with torch "
        f"{version('torch').partition('+')[0]}. Made by `sh scripts/conformance`; "
        "[how a framework is held to them](lrp_ref/oracle/peers/README.md).",
        "",
        "Agree: off by no more than 64 times what our own run in the same dtype is off, and 32 unit roundoffs. "
        "Variant: the numbers of a named formula that somebody means. Differ: others, with the causes that the "
        "diagnosis names, or unknown. Cannot: no such rule, layer, option, or module of torch.",
        "",
        "| framework | version | held to | agree | variant | differ | cannot |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Rules are asked for by the names that they have there, and epsilon = 0 as 2^-200, which changes no "
        "denominator but 0. captum is started from any relevance by a last module of ours, and its STABILITY_FACTOR "
        "is set where a rule takes no epsilon. A reproduction prints what it printed when this page was made.",
        "",
        *(section(peer, report) for peer, report in reports.items()),
        "## iNNvestigate, from its golden files",
        "",
        POOLS.format(name="DeepTaylor/AveragePooling2D", window=window(cases / "innvestigate_layers", "DeepTaylor")),
        "### By rule and layer",
        "",
        inn.markdown(),
        "## RelevancePropagation.jl, from its golden files",
        "",
        julia.markdown(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and exit with 1 if the page is another")
    parser.add_argument("--cases", type=Path, default=ROOT.parent / "shared" / "cases", metavar="DIR")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT / "tests" / "peers"))
    import draws  # noqa: F401  makes torchvision importable

    made = page(options.cases)
    if options.check:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == made
        print("CONFORMANCE.md is as it would be made now" if same else "CONFORMANCE.md would be another: make it anew")
        return int(not same)
    with written_whole(PAGE) as file:
        file.write(made.encode())
    print(f"written: {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
