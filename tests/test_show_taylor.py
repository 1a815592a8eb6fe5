"""The picture of deep Taylor decomposition: what is drawn is what the report holds, in number and in place."""

import dataclasses
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

import lrp_ref as lrp
from lrp_ref import presets
from lrp_ref.arrays import floats
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.show import taylor
from lrp_ref.show.page import save
from lrp_ref.show.taylor import _Scale, claim
from lrp_ref.theory import dtd

DIGIT = digits().images[[3]].astype(float)
MODELS = {"cnn": digits_cnn, "mlp": digits_mlp}
CLAIM = "messages equal the first-order terms of the relevance model at the point a~"


def verified(model="mlp", reading="extended", **options):
    e = lrp.explain(MODELS[model](), DIGIT, presets.epsilon_gamma_box(low=0, high=1))
    return dtd.verify(e, reading, **options)


@pytest.fixture(scope="module")
def reports():
    return {(model, reading): verified(model, reading) for model in MODELS for reading in ("extended", "physical")}


DRAWN = [("cnn", "extended"), ("mlp", "physical")]
"""Those that are rendered, which takes most of the time."""
CASES = [(model, reading) for model in MODELS for reading in ("extended", "physical")]


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def said(figure):
    """All words of a picture in one line."""
    return " ".join(" ".join(words(figure)).split())


def panel(figure, label):
    (axes,) = (axes for axes in figure.axes if axes.get_label() == label)
    return axes


def bars(axes):
    """Middle and height of each bar."""
    return {round(p.get_x() + p.get_width() / 2, 6): p.get_height() for p in axes.patches}


def changed(report, name, **columns):
    """The report with other columns at one node."""
    nodes = [
        dataclasses.replace(node, neurons=dataclasses.replace(node.neurons, **columns)) if node.name == name else node
        for node in report.nodes
    ]
    return dataclasses.replace(report, nodes=nodes)


def by_counting(numbers, width):
    """Bins by the loop: each number to the nearest multiple of the width."""
    counts = {}
    for number in numbers:
        at = round(round(number / width) * width, 6) + 0.0
        counts[at] = counts.get(at, 0) + 1
    return counts


# --- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_each_node_with_roots_has_its_shares_and_histograms(reports, case):
    report = reports[case]
    figure = taylor(report)
    rooted = [node for node in report.nodes if node.neurons is not None]
    assert rooted
    for node in rooted:
        t, drift = node.neurons.t, node.neurons.drift
        asked = len(t) + len(node.rootless)
        domain, side = panel(figure, f"{node.name}: shares").patches
        assert domain.get_width() == node.root_in_domain
        assert side.get_width() == node.neurons.active.sum() / asked
        assert panel(figure, f"{node.name}: shares").get_xlim() == (0, 1)
        text = said(figure)
        assert f"root in the domain: {node.root_in_domain:.1%} ({node.neurons.in_domain.sum()} of {asked})" in text
        assert f"half-space: {side.get_width():.1%} ({node.neurons.active.sum()} of {asked})" in text

        steps = panel(figure, f"{node.name}: t")
        assert bars(steps) == by_counting(t[t < 3.025], 0.05)
        assert [list(line.get_xdata()) for line in steps.lines] == [[1.0, 1.0]]
        assert steps.get_ylim() == (0, max(bars(steps).values()))
        if not drift.any():
            assert f"{node.name}: drift" not in [axes.get_label() for axes in figure.axes]
            continue
        assert bars(panel(figure, f"{node.name}: drift")) == by_counting(np.log10(drift[drift > 0]), 0.5)
        assert f"median {np.median(drift):.3g}".replace("-", "−") in text
    labels = [axes.get_label() for axes in figure.axes[1:]]
    assert len(labels) == len(set(labels))
    assert len([label for label in labels if label.endswith(": t")]) == len(rooted)
    limits = {axes.get_xlim() for axes in figure.axes if axes.get_label().endswith(": t")}
    assert len(limits) == 1  # rows can be compared
    for node in report.nodes:
        assert (f"{node.name} ({node.kind}, {node.rule!r})" in said(figure)) == (node.neurons is None)
        if node.reason:
            assert f"No root: {node.reason}: " in said(figure)


@pytest.mark.parametrize("case", DRAWN)
def test_the_png_has_the_bars_where_the_axes_say(reports, tmp_path, case):
    report = reports[case]
    figure = taylor(report)
    wide, tall = (round(size * figure.dpi) for size in figure.get_size_inches())
    places = []
    for axes in figure.axes[1:]:
        for patch in axes.patches:
            if not patch.get_width() or not patch.get_height():
                continue
            (x0, y0), (x1, y1) = axes.transData.transform(patch.get_bbox().get_points())
            places.append((min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1), patch.get_facecolor()[:3]))
    left, right = 56, wide - 56
    picture = imread(save(figure, tmp_path / "taylor.png"))[..., :3]
    assert picture.shape[:2] == (tall, wide)
    assert wide == 1892
    rooted = [node for node in report.nodes if node.neurons is not None]
    assert 352 * len(rooted) < tall < 352 * len(rooted) + 700
    for x0, x1, y0, y1, color in places:
        assert left <= round(x0) < round(x1) <= right
        at = picture[tall - 1 - int((y0 + y1) / 2), int(x0 + 0.8 * (x1 - x0))]  # beside the line at t = 1
        np.testing.assert_allclose(at, color, atol=0.01)
    edges = np.ones((tall, wide), bool)
    edges[20:-20, 40:-40] = False
    assert (picture[edges] == 1).all()  # nothing is cut at the edges


@pytest.mark.parametrize("case", DRAWN)
def test_words_do_not_overlap_and_stay_on_the_page(reports, case):
    figure = taylor(reports[case])
    figure.canvas.draw()
    page = figure.axes[0]
    boxes = [text.get_window_extent() for text in page.texts if text.get_text()]
    wide, tall = figure.canvas.get_width_height()
    for i, one in enumerate(boxes):
        assert 0 <= one.x0 < one.x1 <= wide
        assert 0 <= one.y0 < one.y1 <= tall
        for other in boxes[:i]:
            apart = one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
            assert apart, (page.texts[i].get_text(), one, other)
    assert min(text.get_size() for text in page.texts) >= 7


# --- what is told ----------------------------------------------------------------------------------------------------


def test_the_headline_says_the_reading_and_claims_no_more_than_is_so(reports):
    for (_, reading), report in reports.items():
        text = said(taylor(report))
        assert f"Deep Taylor decomposition, {reading} reading" in text
        assert CLAIM in text
        assert "expansion of the network" not in text
        assert ("only where bias and stabilizer absorb nothing" in text) == (reading == "physical")
        assert claim(report).startswith("At every neuron below")
        assert ("within rounding" in text, "exactly" in claim(report)) == (True, False)
    rootless = lrp.explain(digits_mlp(), DIGIT, lrp.AlphaBeta(alpha=2, beta=1))
    assert f"No neuron has a root of this form: there is no point of which to ask whether {CLAIM}." in said(
        taylor(dtd.verify(rootless))
    )
    wrong = changed(reports["mlp", "extended"], "dense2", difference=np.ones(4))
    assert claim(wrong).startswith(f"Not so for all neurons: {CLAIM}. Broken: ")
    assert wrong.broken()[0] in said(taylor(wrong))


def test_tails_of_t_and_of_the_drift_are_counted_and_not_drawn(reports):
    report = reports["mlp", "extended"]
    neurons = report["dense1"].neurons
    t = np.array([-7.0, -1.0, 0.0, 0.5, 1.0, 3.0, 4.0, 1e300, np.inf, np.nan])
    context = np.full(10, 2.0)
    drift = np.array([0, 0, 0, 1.0, 1e-3, 1e3, 1e-40, 1e40, 1e12, np.inf])
    figure = taylor(changed(report, "dense1", t=t, context=context, context_at_root=context * (1 + drift)))
    assert len(neurons) == 10
    assert bars(panel(figure, "dense1: t")) == {-1.0: 1, 0.0: 1, 0.5: 1, 1.0: 1, 3.0: 1}
    assert "not drawn: 1 below −1, 2 above 3, 2 not finite" in said(figure)
    found = bars(panel(figure, "dense1: drift"))  # 1 + 1e-40 is 1: a drift of 0
    assert found == {-3.0: 1, 0.0: 1, 3.0: 1, 12.0: 1}
    assert "not drawn: 4 exactly 0, 1 above 10¹², 1 not finite" in said(figure)
    for name in ("dense1", "dense2", "logits"):
        assert panel(figure, f"{name}: t").get_xlim() == pytest.approx((-1.025, 3.025))


def test_bins_have_0_and_1_at_their_middle():
    scale = _Scale.of([np.array([-0.2, 1.4])], 0.05, (0, 20), (-20, 60))
    assert (scale.first, scale.last) == (-4, 28)
    counts, below, above = scale.counts(np.array([1 - 1e-9, 1.0, 1 + 1e-9, -1e-12, 1e-12, -9, 9, 9]))
    assert (below, above) == (1, 2)
    assert counts[24] == 3
    assert counts[4] == 2
    assert counts.sum() == 5
    assert _Scale.of([], 0.5, (-2, 2), (-24, 24)) == (0.5, -2, 2)


def test_what_was_not_measured_is_said():
    figure = taylor(verified(context=False))
    assert words(figure).count("not measured") == 3
    assert not [axes for axes in figure.axes if axes.get_label().endswith(": drift")]
    figure = taylor(verified("mlp", units=3))
    assert "3 neurons asked about · domain R · 7 of less |R_k| left out" in words(figure)
    report = verified()
    noted = dataclasses.replace(report["dense1"].neurons, context_at_root=None)
    node = dataclasses.replace(report["dense1"], neurons=noted, note="it reads one node twice")
    text = said(taylor(dataclasses.replace(report, nodes=[node])))
    assert "not measured: it reads one node twice" in text
    assert "Every node has roots." in text


def test_nodes_whose_neurons_have_no_root_are_listed_with_the_reason(reports):
    report = reports["mlp", "extended"]
    without = dataclasses.replace(report["dense2"], neurons=None, rootless=((0,), (1,)), relevant=3, outside_model=1)
    nodes = [without, dataclasses.replace(report["logits"], neurons=None, relevant=0)]
    figure = taylor(dataclasses.replace(report, nodes=nodes))
    assert len(figure.axes) == 1
    text = said(figure)
    assert "No root: of 3 neurons with relevance 1 lie outside of the model, and the lines of 2 meet no root" in text
    assert "No root: no neuron has relevance: logits (Dense, Epsilon(epsilon=1e-06))." in text


def test_long_names_are_cut_and_stay_on_the_page(reports):
    report = reports["mlp", "extended"]
    node = dataclasses.replace(report["dense1"], name="a\nvery long name " * 30)
    figure = taylor(dataclasses.replace(report, nodes=[node]))
    figure.canvas.draw()
    wide, _ = figure.canvas.get_width_height()
    assert all(text.get_window_extent().x1 <= wide for text in figure.axes[0].texts)
    assert any(text.endswith("…") for text in words(figure))


# --- arithmetic, settings, matplotlib --------------------------------------------------------------------------------


def test_exact_reports_are_drawn_as_their_floats(exact):
    e = lrp.explain(digits_mlp(), exact(DIGIT), presets.epsilon_gamma_box(low=0, high=1))
    report = dtd.verify(e, nodes=["dense2"])
    figure = taylor(report)
    assert sum(bars(panel(figure, "dense2: t")).values()) == len(floats(report["dense2"].neurons.t)) == 4
    assert f"At every neuron below, exactly, {CLAIM}" in said(figure)
    assert to_rgb(panel(figure, "dense2: t").patches[0].get_facecolor()) == to_rgb("#56657a")


def test_the_settings_of_matplotlib_do_not_matter(reports, tmp_path):
    report = reports["mlp", "physical"]
    plain = save(taylor(report), tmp_path / "plain.png").read_bytes()
    others = {"axes.facecolor": "red", "axes.grid": True, "lines.linewidth": 9, "lines.marker": "o"}
    others |= {"patch.edgecolor": "red", "patch.force_edgecolor": True, "savefig.dpi": 50, "figure.autolayout": True}
    others |= {"axes.xmargin": 0.4, "font.size": 40, "text.usetex": True, "savefig.bbox": "tight", "hatch.color": "red"}
    with mpl.rc_context(others):
        assert save(taylor(report), tmp_path / "other.png").read_bytes() == plain


def test_a_missing_matplotlib_is_named_with_its_extra(reports, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "lrp_ref\[plot\]"'):
        taylor(reports["mlp", "extended"])
