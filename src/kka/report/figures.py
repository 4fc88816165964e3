"""The report's charts, as SVG that stands in the page itself: sharp at any size, in the colours of its style sheet.

matplotlib draws with the colours below; `_svg` puts the style sheet's variables in their place, so that one drawing
serves light and dark. Text stays text, in the page's own typeface.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from kka.common.metrics import Estimate

INK, SOFT, GRID, GROUND = "#22272e", "#68707a", "#e3e5e8", "#fefefe"
NORMAL, ANOMALY, KKA, KKA_FIRST, CONTROL = "#2f6db3", "#cf5a34", "#0b7f70", "#6db8ab", "#8b929b"
VARIABLES = {
    INK: "--ink", SOFT: "--soft", GRID: "--rule", GROUND: "--ground", NORMAL: "--normal", ANOMALY: "--anomaly",
    KKA: "--kka", KKA_FIRST: "--kka-first", CONTROL: "--control",
}  # fmt: skip
NAMES = {"none": "no anomalies", "noise": "noise", "other": "something else", "traces": "traces", "real": "real images"}
"""Short, to stand beside a line."""
STYLES = {"none": "-", "noise": ":", "other": "-.", "traces": (0, (1, 4)), "real": "--"}
"""Controls are grey, and told apart by their dashes."""

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "kka", "font.size": 10, "text.color": INK,
    "axes.edgecolor": SOFT, "axes.labelcolor": SOFT, "axes.linewidth": 0.8, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.major.size": 3, "ytick.major.size": 0, "xtick.minor.size": 0, "legend.frameon": False,
    "axes.ymargin": 0.1, "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip


def auroc_by_round(
    rounds: Sequence[int], figures: Sequence[Estimate], controls: dict[str, Estimate]
) -> Markup:
    """KKA's rounds as points with 95 % intervals; each control (arm -> figure) as a line with a band."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _panel()
        for arm, value in controls.items():
            mean, half = 100 * value.mean, 100 * (value.ci95 or 0)
            axes.axhline(mean, color=CONTROL, linestyle=STYLES.get(arm, "-."), linewidth=1.2)
            if half:
                axes.axhspan(mean - half, mean + half, color=CONTROL, alpha=0.13, linewidth=0)
        _line(axes, rounds, figures, color=KKA)
        _round_axis(axes, rounds)
        _inside(axes)
        labels = [(NAMES.get(arm, arm), 100 * value.mean, SOFT) for arm, value in controls.items()]
        _label_ends(axes, [*labels, ("KKA", 100 * figures[-1].mean, KKA)])
        return _svg(figure, "AUROC by round, with the controls")


def split_by_round(rounds: Sequence[int], parts: Sequence[tuple[str, Sequence[Estimate]]]) -> Markup:
    """KKA's AUROC by round, for known and withheld kinds apart: the first part filled and full, the others hollow."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _panel()
        for number, (_, figures) in enumerate(parts):
            _line(axes, rounds, figures, color=KKA, hollow=number > 0)
        _round_axis(axes, rounds)
        _inside(axes)
        _label_ends(axes, [(label, 100 * figures[-1].mean, KKA) for label, figures in parts])
        return _svg(figure, "AUROC by round for known and withheld kinds")


def hard_share(
    rounds: Sequence[int], fresh: Sequence[float | None], pool: Sequence[float | None], limit: float | int
) -> Markup:
    """Share of hard pictures among each round's new ones and in the pool."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _panel()
        ends = []
        for label, values, hollow in (("new", fresh, True), ("pool", pool, False)):
            known = [(r, 100 * v) for r, v in zip(rounds, values, strict=True) if v is not None]
            if known:
                axes.plot(*zip(*known, strict=True), **_strokes(KKA, hollow=hollow))
                ends.append((label, known[-1][1], KKA))
        if limit < 1:
            axes.axhline(100 * limit, color=CONTROL, linestyle="--", linewidth=1)
            ends.append(("limit", 100 * limit, SOFT))
        _round_axis(axes, rounds)
        axes.set_ylim(0, 100)
        _label_ends(axes, ends)
        return _svg(figure, "Share of hard pictures by round")


def is_wide(scores: Sequence[Float[np.ndarray, "n"]]) -> bool:
    """Whether scores need a logarithmic axis: all positive, and some detector's reach far beyond its median."""
    positive = all(s.min() > 0 for s in scores)
    return positive and any(np.quantile(s, 0.99) > 5 * np.median(s) for s in scores)


def histogram(scores: Float[np.ndarray, "n"], is_anomaly: Bool[np.ndarray, "n"], *, log: bool) -> Markup:
    """Test scores of normals and of anomalies, each as shares of its own number."""
    low, high = float(scores.min()), float(scores.max())
    if high <= low:
        low, high, log = low - 0.5, high + 0.5, False
    edges = np.geomspace(low, high, 29) if log else np.linspace(low, high, 29)
    edges[0], edges[-1] = low, high  # rounding must not push the extremes out of their bins
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _panel(260, 150)
        for members, color in ((is_anomaly, ANOMALY), (~is_anomaly, NORMAL)):
            counts, _ = np.histogram(scores[members], edges)
            share = counts / max(1, members.sum())
            axes.stairs(share, edges, fill=True, color=color, alpha=0.3, linewidth=0)
            axes.stairs(share, edges, color=color, linewidth=1.2)
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=8))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlim(low, high)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_visible(False)
        axes.grid(visible=False)
        return _svg(figure, "Histogram of the test scores of normals and anomalies")


def roc(curves: Sequence[tuple[str, Float[np.ndarray, "p"], Float[np.ndarray, "p"]]], last: str) -> Markup:
    """ROC curves of the arms (arm, false and true positive rates); `last` is the arm of the last round."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _panel(360, 330)
        axes.plot([0, 100], [0, 100], color=GRID, linewidth=1)
        for arm, fpr, tpr in curves:
            color = KKA if arm == last else KKA_FIRST if arm.startswith("kka") else CONTROL
            width = 2.2 if arm == last else 1.5
            axes.plot(100 * fpr, 100 * tpr, color=color, linestyle=STYLES.get(arm, "-"), linewidth=width)
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        axes.set_xlabel("normals wrongly flagged, %")
        axes.set_ylabel("anomalies found, %")
        return _svg(figure, "ROC curves")


def latent_map(
    points: Float[np.ndarray, "n 2"], is_anomaly: Bool[np.ndarray, "n"], seen: Bool[np.ndarray, "n"] | None
) -> Markup:
    """Test images on the plane: normals, anomalies, and those of withheld kinds as rings."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _panel(340, 300)
        withheld = np.zeros_like(is_anomaly) if seen is None else is_anomaly & ~seen
        known = is_anomaly & ~withheld
        x, y = points.T
        axes.scatter(x[withheld], y[withheld], s=9, facecolors="none", edgecolors=ANOMALY, linewidths=0.8, alpha=0.75)
        axes.scatter(x[known], y[known], s=11, color=ANOMALY, linewidths=0, alpha=0.65)
        axes.scatter(x[~is_anomaly], y[~is_anomaly], s=22, color=NORMAL, linewidths=0, alpha=0.95)
        axes.set_axis_off()
        return _svg(figure, "Map of the latent space")


def _panel(width: int = 340, height: int = 235) -> tuple[Figure, Axes]:
    """A figure of so many points, with one pair of axes."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, figure.add_subplot()


def _strokes(color: str, *, hollow: bool) -> dict[str, Any]:
    # Hollow means filled with the page's own ground: with no filling, the line would show through.
    return dict(
        color=color, marker="o", markersize=5.5, markeredgewidth=1.5, linewidth=1.5,
        linestyle="--" if hollow else "-", markerfacecolor=GROUND if hollow else color,
    )  # fmt: skip


def _line(
    axes: Axes, rounds: Sequence[int], figures: Sequence[Estimate], *, color: str, hollow: bool = False
) -> None:
    means = [100 * f.mean for f in figures]
    halves = [100 * (f.ci95 or 0) for f in figures]
    axes.plot(rounds, means, **_strokes(color, hollow=hollow))
    for x, mean, half in zip(rounds, means, halves, strict=True):
        if half:
            axes.plot([x, x], [mean - half, mean + half], color=color, linewidth=1.2, solid_capstyle="butt")


def _round_axis(axes: Axes, rounds: Sequence[int]) -> None:
    axes.set_xticks(list(rounds) if len(rounds) <= 12 else rounds[:: -(-len(rounds) // 10)])
    axes.set_xlim(rounds[0] - 0.25, rounds[-1] + 0.25)
    axes.set_xlabel("round")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0f} %"))
    axes.grid(visible=False, axis="x")


def _inside(axes: Axes) -> None:
    """At least 10 points of range, so that noise does not look like a gain; never beyond what is possible."""
    low, high = axes.get_ylim()
    spare = max(0.0, 10 - (high - low)) / 2
    axes.set_ylim(max(0, low - spare), min(100, high + spare))


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Names at the right end of their lines, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: end[1])
    places = apart([value for _, value, _ in ordered], 0.085 * (high - low), high)
    for (label, _, color), place in zip(ordered, places, strict=True):
        axes.annotate(
            label, (1, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", color=color, fontsize=9.5, annotation_clip=False,
        )  # fmt: skip


def apart(values: Sequence[float], gap: float, high: float) -> list[float]:
    """Ascending `values` moved up, or down from `high`, so that neighbours are at least `gap` apart."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + gap) if places else value)
    ceiling = high
    for i in reversed(range(len(places))):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return places


def _svg(figure: Figure, label: str) -> Markup:
    """The drawing as an <svg> element whose identifiers are its own and whose colours are the page's."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"| version="[^"]*"', "", text)
    text = re.sub(r'<svg( width="[^"]*"| height="[^"]*")+', "<svg", text)
    text = re.sub(r' ?font-family: [^;"]*;?', "", text)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    own = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>c{own}-", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))
