"""What inspectors measure of a detector, for all defects and for each kind: image and pixel figures at a threshold.

Each kind is set against all good photos. Intervals are of a bootstrap over photos, good and defective ones apart: they
say how figures would vary with other photos, and nothing of other seeds.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from kka.common.files import write_atomically
from kka.common.folder_words import GOOD
from kka.common.metrics import anomalous, chance
from kka.common.pixel_metrics import PixelCounts

RESAMPLES = 300
ALL = "all defects"
FIGURES = ("auroc", "f1", "miss_rate", "false_positive_rate", "pixel_auroc", "aupro")
"""In the order of tables."""
TITLES = {
    "auroc": "AUROC", "f1": "F1", "miss_rate": "missed", "false_positive_rate": "false alarms",
    "pixel_auroc": "pixel AUROC", "aupro": "AUPRO",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of photos."""

    kind: str
    photos: int
    figures: dict[str, Interval]
    """Of `FIGURES` those that can be measured: with a threshold, with masks."""

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Row":
        """As it stands in JSON."""
        figures = {name: Interval(**value) for name, value in stored["figures"].items()}
        return cls(kind=stored["kind"], photos=stored["photos"], figures=figures)


def inspect(
    scores: Float[np.ndarray, "n"],
    is_anomaly: Bool[np.ndarray, "n"],
    kinds: Sequence[str],
    *,
    threshold: float | None = None,
    pixels: PixelCounts | None = None,
    known: Bool[np.ndarray, "n"] | None = None,
    seed: int = 0,
) -> list[Row]:
    """The good photos, all defects, and each kind of defect.

    Args:
        scores: Higher = more anomalous; anomalous = above `threshold`, in fp32.
        pixels: Of all photos; counted are those of which the mask is `known`.
    """
    named = np.array(kinds)
    good = np.flatnonzero(~is_anomaly)
    groups = {ALL: np.flatnonzero(is_anomaly)}
    several = sorted({*named[is_anomaly].tolist()})
    if len(several) > 1:
        groups |= {kind: np.flatnonzero(is_anomaly & (named == kind)) for kind in several}
    rng = np.random.default_rng(seed)
    rows = []
    if len(good):
        alone = _intervals(scores, good, good[:0], threshold, None, None, rng)
        rows.append(Row(kind=GOOD, photos=len(good), figures=alone))
    for kind, bad in groups.items():
        if len(bad):
            figures = _intervals(scores, good, bad, threshold, pixels, known, rng)
            figures.pop("false_positive_rate", None)  # that of the good ones, whatever the kind
            rows.append(Row(kind=kind, photos=len(bad), figures=figures))
    return rows


def _intervals(
    scores: np.ndarray,
    good: np.ndarray,
    bad: np.ndarray,
    threshold: float | None,
    pixels: PixelCounts | None,
    known: np.ndarray | None,
    rng: np.random.Generator,
) -> dict[str, Interval]:
    """Each figure with the interval of its values on photos drawn with replacement."""

    def redrawn(some: np.ndarray) -> np.ndarray:
        return rng.choice(some, len(some)) if len(some) else some

    draws = [(good, bad), *((redrawn(good), redrawn(bad)) for _ in range(RESAMPLES))]
    measured: list[dict[str, float]] = []
    weights = np.zeros((len(draws), len(scores)))
    for i, (some_good, some_bad) in enumerate(draws):
        measured.append(image_figures(scores[some_good], scores[some_bad], threshold))
        weights[i] = np.bincount(np.r_[some_good, some_bad], minlength=len(scores))
    if pixels is not None and known is not None:
        more = pixels.figures(weights * known)
        measured = [one | other for one, other in zip(measured, more, strict=True)]
    values, *drawn = measured
    intervals = {}
    for name in FIGURES:
        if name in values:
            low, high = np.quantile([found.get(name, values[name]) for found in drawn], [0.025, 0.975])
            intervals[name] = Interval(value=values[name], low=float(low), high=float(high))
    return intervals


def image_figures(
    good: Float[np.ndarray, "n"], bad: Float[np.ndarray, "m"], threshold: float | None
) -> dict[str, float]:
    """AUROC where there are both; at the threshold F1, the share of `bad` that is missed, and of `good` that is not."""
    found: dict[str, float] = {}
    if len(good) and len(bad):
        found["auroc"] = chance(good, bad)
    if threshold is not None:
        caught, alarms = int(anomalous(bad, threshold).sum()), int(anomalous(good, threshold).sum())
        if len(good):
            found["false_positive_rate"] = alarms / len(good)
        if len(bad):
            found |= {"f1": 2 * caught / (caught + alarms + len(bad)), "miss_rate": 1 - caught / len(bad)}
    return found


def write_inspection(rows: Sequence[Row], path: Path, **facts: Any) -> None:
    """The rows as `path`.csv and, with `facts` beside them, as `path`.json; `path` without suffix."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["kind", "photos", *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high"))])
    for row in rows:
        cells: list[str] = []
        for name in FIGURES:
            found = row.figures.get(name)
            cells += ["", "", ""] if found is None else [f"{x:.6g}" for x in dataclasses.astuple(found)]
        table.writerow([row.kind, row.photos, *cells])
    write_atomically(path.with_name(path.name + ".csv"), text.getvalue())
    whole = {**facts, "rows": [dataclasses.asdict(row) for row in rows]}
    write_atomically(path.with_name(path.name + ".json"), json.dumps(whole, indent=1))
