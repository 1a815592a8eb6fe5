"""What deep Taylor decomposition finds, as a picture: shares of roots, the step t, how far the context drifts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import Array, floats, is_exact
from ..text import printable
from .page import FAINT, Page, text_width, wrapped

if TYPE_CHECKING:
    from ..theory.dtd import Neurons, NodeReport, Report

_EDGE, _WIDE, _GAP, _TALL, _FALL = 56, 520, 110, 132, 352
_TRACK, _LINE = (234, 234, 234), (120, 120, 120)
_WHAT_MOVES = {
    "extended": "Extended: the bias is a coordinate that moves too. ",
    "physical": "Physical: only inputs move, the bias stays. ",
}
_CAUTION = (
    "A root alone shows nothing, since every way to split R_k has one: what says something is whether it lies in the "
    "domain, and whether the context c_k = R_k / z_k, which is held fixed, is the same there."
)
_DOMAIN, _SIDE, _STEP, _DRIFT = "#2a6f78", "#8dbcb4", "#56657a", "#b3742d"


class _Scale(NamedTuple):
    """Bins of one width, the k-th with k * width at its middle, so that 0 and 1 and what rounds to them is one bin."""

    width: float
    first: int
    last: int

    @classmethod
    def of(cls, numbers: Sequence[Array], width: float, shown: tuple[int, int], most: tuple[int, int]) -> _Scale:
        """Wide enough for all `numbers` and the bins `shown`, no wider than the bins `most`."""
        every = np.concatenate([np.zeros(0), *numbers])
        bins = np.rint(np.clip(every / width, *most)).astype(int)
        return cls(width, int(bins.min(initial=shown[0])), int(bins.max(initial=shown[1])))

    def counts(self, numbers: Array) -> tuple[Array, int, int]:
        """How many numbers each bin holds; how many lie below the first, and above the last."""
        bins = np.rint(np.clip(numbers / self.width, self.first - 1, self.last + 1)).astype(int)
        counts = np.bincount(bins - (self.first - 1), minlength=self.last - self.first + 3)
        return counts[1:-1], int(counts[0]), int(counts[-1])

    @property
    def limits(self) -> tuple[float, float]:
        return (self.first - 0.5) * self.width, (self.last + 0.5) * self.width


class _Panel(NamedTuple):
    """Rectangles (left, bottom, width, height, color) in a box of the page, measured in numbers of their own."""

    label: str
    box: tuple[int, int, int, int]
    x: tuple[float, float]
    y: tuple[float, float]
    bars: Sequence[tuple[float, float, float, float, str]]
    mark: float | None = None


def claim(report: Report) -> str:
    """What the report shows, in one sentence, or where it fails; never that LRP is an expansion of the network."""
    words = "messages equal the first-order terms of the relevance model at the point a~"
    steps = [node.neurons.t for node in report.nodes if node.neurons is not None]
    if not steps:
        return f"No neuron has a root of this form: there is no point of which to ask whether {words}."
    if broken := report.broken():
        return f"Not so for all neurons: {words}. Broken: {'; '.join(broken)}."
    how = "exactly" if all(map(is_exact, steps)) else "within rounding"
    if report.reading == "physical":
        return (
            f"At every neuron below, the first-order terms sum to R_k, {how}; {words} only where bias and stabilizer "
            "absorb nothing."
        )
    return f"At every neuron below, {how}, {words}; the zero-order term is what bias and stabilizer absorb."


def taylor(report: Report) -> Any:
    r"""A picture of what :func:`lrp_ref.theory.dtd.verify` found.

    A row for each node with roots, of three panels:

    - the share of its neurons with a root in the domain, and of those for which the way from a to a~ stays in the
      half-space in which the neuron is active; of all neurons asked about, as in the report;
    - the histogram of the step t, with t = 1 marked. Where bins would lie below -1 or above 3 the neurons are counted
      in words;
    - the histogram of the context drift \|c_k(a~) - c_k(a)\| / \|c_k(a)\| on a logarithmic axis, zeros counted in
      words.

    The axes are the same in all rows. Nodes without a root are listed at the foot with the reason.

    Parameters
    ----------
    report : Report

    Returns
    -------
    matplotlib.figure.Figure
        free of pyplot: nothing needs to be closed.

    Raises
    ------
    ImportError
        if matplotlib is missing (extra ``plot``).
    """
    rooted = [(node, node.neurons) for node in report.nodes if node.reason is None and node.neurons is not None]
    steps = [_finite(neurons.t) for _, neurons in rooted]
    drifts = [_powers(neurons) for _, neurons in rooted]
    of_t = _Scale.of(steps, 0.05, (0, 20), (-20, 60))
    of_drift = _Scale.of(drifts, 0.5, (-2, 2), (-24, 24))

    width = 2 * _EDGE + 3 * _WIDE + 2 * _GAP
    inner = width - 2 * _EDGE
    head = [
        (f"Deep Taylor decomposition, {report.reading} reading", 13, {"fontweight": "bold"}),
        (claim(report), 9, {}),
        (_WHAT_MOVES[report.reading] + _CAUTION, 7, {"color": FAINT}),
    ]
    foot: list[tuple[str, int, dict[str, str]]] = [(text, 8, {}) for text in _without_root(report.nodes)] or [
        ("Every node has roots.", 8, {})
    ]
    above, below = (_blocks(texts, inner) for texts in (head, foot))
    top = _EDGE + sum(tall for *_, tall in above) + 24 + (44 if rooted else 0)
    end = top + _FALL * len(rooted)
    page = Page(width, end + sum(tall for *_, tall in below) + _EDGE)
    _write_all(page, above, _EDGE)
    _write_all(page, below, end)
    if rooted:
        headings = ("share of the neurons", "step t to the root, a~ = a − t v", "context drift |c(a~) − c(a)| / |c(a)|")
        for i, heading in enumerate(headings):
            page.write(_left(i), top - 26, heading, 9, ha="left", color=FAINT)
    panels: list[_Panel] = []
    for i, (node, neurons) in enumerate(rooted):
        panels += _row(page, node, neurons, top + _FALL * i, of_t, of_drift)

    figure = page.figure()
    for panel in panels:
        _draw(figure, page, panel)
    return figure


def _draw(figure: Any, page: Page, panel: _Panel) -> None:
    from matplotlib.patches import Rectangle

    tall, wide, _ = page.pixels.shape
    left, top, width, height = panel.box
    axes = figure.add_axes((left / wide, 1 - (top + height) / tall, width / wide, height / tall), label=panel.label)
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    axes.set_xlim(panel.x)
    axes.set_ylim(panel.y)
    for x, y, w, h, color in panel.bars:
        axes.add_patch(Rectangle((x, y), w, h, facecolor=color, edgecolor="none", linewidth=0, antialiased=True))
    if panel.mark is not None:
        axes.plot(
            [panel.mark] * 2, panel.y, color="#c02020", linewidth=1, linestyle=(0, (4, 3)), marker="", clip_on=False
        )


def _left(column: int) -> int:
    return _EDGE + column * (_WIDE + _GAP)


def _row(page: Page, node: NodeReport, neurons: Neurons, y: int, of_t: _Scale, of_drift: _Scale) -> list[_Panel]:
    """Writes one node's row, its upper end at `y`; what is left to be drawn."""
    name = printable(node.name)
    asked = len(neurons) + len(node.rootless)
    facts = [f"{_count(asked, 'neuron')} asked about", f"domain {node.domain}"]
    facts += [f"{len(node.rootless)} without a root"] if node.rootless else []
    facts += [f"{node.outside_model} outside of the model, {node.outside_share:.1%} of |R|"] * bool(node.outside_model)
    facts += [f"{node.left_out} of less |R_k| left out"] if node.left_out else []
    page.pixels[y : y + 2, _EDGE : page.pixels.shape[1] - _EDGE] = _TRACK
    title = _short(f"{name}   {node.kind}   {' '.join(repr(node.rule).split())}", page.pixels.shape[1] - 2 * _EDGE, 10)
    page.write(_EDGE, y + 34, title, 10, ha="left", fontweight="bold")
    page.write(_EDGE, y + 70, " · ".join(facts), 8, ha="left", color=FAINT)
    top = y + 112

    shares = {
        "root in the domain": (node.root_in_domain, int(neurons.in_domain.sum()), _DOMAIN),
        "in the active half-space": (int(neurons.active.sum()) / asked, int(neurons.active.sum()), _SIDE),
    }
    bars: list[tuple[float, float, float, float, str]] = []
    for i, (what, (share, count, color)) in enumerate(shares.items()):
        at = top + 72 * i
        page.write(_left(0), at + 10, f"{what}: {share:.1%} ({count} of {asked})", 8, ha="left")
        page.pixels[at + 28 : at + 56, _left(0) : _left(0) + _WIDE] = _TRACK
        bars.append((0.0, 72.0 * i + 28, share, 28.0, color))
    panels = [_Panel(f"{name}: shares", (_left(0), top, _WIDE, _TALL), (0, 1), (_TALL, 0), bars)]

    t = _finite(neurons.t)
    said = _said(_spread(t), _tails(of_t.counts(t), of_t, len(neurons) - len(t), powers=False))
    ticks = {k / 2: _number(k / 2) for k in range(-2, 7)}
    panels.append(_histogram(page, f"{name}: t", 1, top, of_t, t, ticks, said, _STEP, mark=1.0))
    page.write(_left(1) + _WIDE * _part(1.0, of_t), top - 14, "t = 1", 7, color="#c02020")

    if neurons.drift is None:
        page.write(_left(2), top + _TALL / 2, wrapped(f"not measured{_note(node)}", _WIDE, 8), 8, ha="left")
        return panels
    drift, powers = floats(neurons.drift), _powers(neurons)
    zeros, numbers = int((drift == 0).sum()), _finite(neurons.drift)
    if not len(powers):
        none = f"0 at {'the one neuron' if len(drift) == 1 else f'all {len(drift)} neurons'}: the context is the same"
        page.write(_left(2), top + _TALL / 2, none if zeros == len(drift) else "no finite number", 8, ha="left")
        return panels
    tails = _tails(of_drift.counts(powers), of_drift, len(drift) - len(numbers), powers=True)
    said = _said(_spread(numbers), [f"{zeros} exactly 0"] * bool(zeros) + tails)
    every = max(1, -(-(of_drift.last - of_drift.first) // 12))
    ticks = {float(k): _power(k) for k in range(-12, 13) if k % every == 0}
    panels.append(_histogram(page, f"{name}: drift", 2, top, of_drift, powers, ticks, said, _DRIFT))
    return panels


def _histogram(
    page: Page,
    label: str,
    column: int,
    top: int,
    scale: _Scale,
    numbers: Array,
    ticks: Mapping[float, str],
    said: str,
    color: str,
    mark: float | None = None,
) -> _Panel:
    """Writes all but the bars, which it returns."""
    counts, *_ = scale.counts(numbers)
    left, floor, most = _left(column), top + _TALL, max(1, int(counts.max()))
    page.pixels[floor : floor + 2, left : left + _WIDE] = _LINE
    for at, text in ticks.items():
        part = _part(at, scale)
        if 0 <= part <= 1:
            x = round(left + _WIDE * part)
            page.pixels[floor : floor + 8, x - 1 : x + 1] = _LINE
            page.write(x, floor + 24, text, 7)
    page.write(left - 10, top + 8, str(most), 7, ha="right", color=FAINT)
    page.write(left - 10, floor - 4, "0", 7, ha="right", color=FAINT)
    page.write(left, floor + 42, said, 7, ha="left", va="top", color=FAINT)
    bars = [
        ((k - 0.45) * scale.width, 0.0, 0.9 * scale.width, float(count), color)
        for k, count in zip(range(scale.first, scale.last + 1), counts.tolist(), strict=True)
        if count
    ]
    return _Panel(label, (left, top, _WIDE, _TALL), scale.limits, (0, most), bars, mark)


def _part(at: float, scale: _Scale) -> float:
    low, high = scale.limits
    return (at - low) / (high - low)


def _finite(numbers: Array) -> Array:
    numbers = floats(numbers)
    return numbers[np.isfinite(numbers)]


def _powers(neurons: Neurons) -> Array:
    """log10 of the drifts that are positive and finite."""
    drift = np.zeros(0) if neurons.drift is None else _finite(neurons.drift)
    return np.log10(drift[drift > 0])


def _note(node: NodeReport) -> str:
    return f": {node.note}" if node.note else ""


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _number(x: float) -> str:
    return f"{x:.3g}".replace("-", "−")


def _power(k: int) -> str:
    """The power of ten as it is written."""
    return "10" + str(k).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) if k else "1"


def _spread(numbers: Array) -> str:
    if not len(numbers):
        return "none finite"
    if len(numbers) == 1:
        return f"the one: {_number(numbers[0])}"
    return f"median {_number(float(np.median(numbers)))}, from {_number(numbers.min())} to {_number(numbers.max())}"


def _tails(counted: tuple[Array, int, int], scale: _Scale, not_finite: int, *, powers: bool) -> list[str]:
    """How many neurons the picture leaves out, in words."""
    _, below, above = counted
    ends = scale.first * scale.width, scale.last * scale.width
    low, high = (_power(round(x)) if powers else _number(x) for x in ends)
    left_out = [f"{below} below {low}"] * bool(below) + [f"{above} above {high}"] * bool(above)
    left_out += [f"{not_finite} not finite"] * bool(not_finite)
    return left_out


def _said(spread: str, left_out: Sequence[str]) -> str:
    return f"{spread}\nnot drawn: {', '.join(left_out)}" if left_out else spread


def _without_root(nodes: Sequence[NodeReport]) -> list[str]:
    """The nodes that have no row, by the reason."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        if node.reason is None and node.neurons is not None:
            continue
        reason = node.reason
        if reason is None:
            modelled = node.relevant - node.outside_model
            reason = "no neuron has relevance"
            if node.relevant:
                reason = f"of {_count(node.relevant, 'neuron')} with relevance {node.outside_model} lie outside of the "
                reason += f"model, and the lines of {modelled} meet no root"
        rule = _short(" ".join(repr(node.rule).split()), 600, 8)
        found.setdefault(reason, []).append(f"{printable(node.name)} ({node.kind}, {rule})")
    return [f"No root: {reason}: {', '.join(names)}." for reason, names in found.items()]


def _short(text: str, width: int, size: int) -> str:
    """`text` cut to `width` pixels, which is said by three dots."""
    while text_width(text, size) > width:
        text = text[: min(len(text) - 2, len(text) * width // text_width(text, size))] + "…"
    return text


Block = tuple[str, int, Mapping[str, str], int]


def _blocks(texts: Sequence[tuple[str, int, Mapping[str, str]]], width: int) -> list[Block]:
    """Texts in lines of the page's width, and the pixels that each takes."""
    blocks = []
    for text, size, style in texts:
        lines = wrapped(text, width, size)
        blocks.append((lines, size, style, round(3.4 * size * (1 + lines.count("\n"))) + 14))
    return blocks


def _write_all(page: Page, blocks: Sequence[Block], y: int) -> None:
    for text, size, style, tall in blocks:
        page.write(_EDGE, y, text, size, **{"ha": "left", "va": "top", **style})
        y += tall
