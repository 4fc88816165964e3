"""Figures: the only place that test labels reach. Scores: higher = more anomalous.

Scores and figures are numbers, or there is a UserError.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from kka.common.numbers import DAMAGED, require_finite
from kka.errors import UserError

REPEAT = "They were stored by a training that diverged: remove them and train again"


def auroc(scores: Float[np.ndarray, "n"], is_anomaly: Bool[np.ndarray, "n"]) -> float:
    """Area under the ROC curve: the chance that an anomaly outscores a normal."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_anomaly, _checked(scores, is_anomaly)))


def chance(normal: Float[np.ndarray, "n"], anomalous: Float[np.ndarray, "m"]) -> float:
    """That an anomaly outscores a normal, ties counted half (Mann and Whitney): `auroc`, for many small draws."""
    ordered = np.sort(normal)
    below = np.searchsorted(ordered, anomalous, "left") + np.searchsorted(ordered, anomalous, "right")
    return float(below.sum() / (2 * len(normal) * len(anomalous)))


def aupr(scores: Float[np.ndarray, "n"], is_anomaly: Bool[np.ndarray, "n"]) -> float:
    """Average precision with the anomalies as positives."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(is_anomaly, _checked(scores, is_anomaly)))


def fpr_at_tpr(scores: Float[np.ndarray, "n"], is_anomaly: Bool[np.ndarray, "n"], tpr: float = 0.95) -> float:
    """The share of normals flagged at the highest threshold that catches `tpr` of the anomalies."""
    anomalies = np.sort(_checked(scores, is_anomaly)[is_anomaly])[::-1]
    threshold = anomalies[int(np.ceil(tpr * len(anomalies))) - 1]
    return float((scores[~is_anomaly] >= threshold).mean())


def share_flagged(normals: Float[np.ndarray, "n"], scores: Float[np.ndarray, "m"], fpr: float = 0.05) -> float:
    """The share of `scores` above the threshold that the share `fpr` of the normals' scores exceeds."""
    return float((scores > np.quantile(normals, 1 - fpr)).mean())


def anomalous(scores: Float[np.ndarray, "n"], threshold: float) -> Bool[np.ndarray, "n"]:
    """The scores above the threshold, which is taken in fp32 as they are."""
    return scores > np.float32(threshold)


def _checked(scores: np.ndarray, is_anomaly: np.ndarray) -> np.ndarray:
    """The scores; UserError where one is no number, or where normals or anomalies are missing."""
    anomalies = int(is_anomaly.sum())
    if not 0 < anomalies < len(is_anomaly):
        raise UserError(
            f"metrics: expected scores of normals and of anomalies; got {len(is_anomaly) - anomalies} normals and "
            f"{anomalies} anomalies. Add the missing side to the test set."
        )
    return require_finite(scores, "metrics: the scores of the test images", DAMAGED)


def evaluate(
    scores: Float[np.ndarray, "n"],
    is_anomaly: Bool[np.ndarray, "n"],
    seen: Bool[np.ndarray, "n"] | None = None,
) -> dict[str, float]:
    """AUROC, AUPR and FPR at 95 % TPR; with `seen`, also the AUROC of known and of withheld kinds apart.

    Each of `seen` and `unseen` sets its anomalies against all the normals.
    """
    figures = {
        "auroc": auroc(scores, is_anomaly),
        "aupr": aupr(scores, is_anomaly),
        "fpr95": fpr_at_tpr(scores, is_anomaly),
    }
    if seen is not None:
        for name, members in (("seen", seen), ("unseen", ~seen)):
            part = ~is_anomaly | members
            if (is_anomaly & members).any():
                figures[name] = auroc(scores[part], is_anomaly[part])
    return figures


def mean_ci95(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the half-width of its 95 % interval (Student's t); None with fewer than two values."""
    from scipy.stats import t

    x = require_finite(np.asarray(values, dtype=np.float64), "metrics: the figures of the seeds", REPEAT)
    if len(x) < 2:
        return float(x.mean()), None
    half = t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean()), float(half)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure over seeds, as summary.json holds it."""

    mean: float
    ci95: float | None
    """Half-width of the 95 % interval; None with one seed."""
    per_seed: Sequence[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Over the seeds' figures."""
        mean, ci95 = mean_ci95(values)
        return cls(mean=mean, ci95=ci95, per_seed=list(values))


def read_estimates(stored: dict[str, dict[str, Any]]) -> dict[str, Estimate]:
    """Figure -> estimate, of an arm in summary.json."""
    return {name: Estimate(**values) for name, values in stored.items()}
