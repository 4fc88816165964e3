"""Figures, against hand counts and loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kka.common.metrics import aupr, auroc, evaluate, fpr_at_tpr, mean_ci95


@given(
    normals=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    anomalies=st.lists(st.integers(0, 9), min_size=1, max_size=12),
)
def test_auroc_is_the_chance_of_the_right_order(normals: list[int], anomalies: list[int]) -> None:
    """Ties count one half; a reversed sign would give 1 - AUROC."""
    scores = np.array(normals + anomalies, dtype=np.float64)
    labels = np.array([False] * len(normals) + [True] * len(anomalies))
    won = sum((a > n) + 0.5 * (a == n) for a in anomalies for n in normals)
    assert auroc(scores, labels) == pytest.approx(won / len(normals) / len(anomalies))


def test_aupr_by_hand() -> None:
    """Ranks of the anomalies 1 and 3: (1/1 + 2/3) / 2."""
    scores, labels = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    assert aupr(scores, labels) == pytest.approx((1 + 2 / 3) / 2)


def test_fpr_by_hand() -> None:
    """20 anomalies: 95 % of them are 19, caught at the threshold 2; two of four normals lie at or above it."""
    anomalies = np.arange(1.0, 21.0)
    normals = np.array([0.0, 1.5, 2.0, 30.0])
    scores = np.concatenate([normals, anomalies])
    labels = np.array([False] * 4 + [True] * 20)
    assert fpr_at_tpr(scores, labels) == 0.5


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_fpr_is_the_best_of_all_thresholds(items: list[tuple[int, bool]]) -> None:
    """Over every threshold that catches 95 %, the smallest share of false alarms."""
    labels = np.array([odd for _, odd in items])
    if labels.all() or not labels.any():
        return
    scores = np.array([s for s, _ in items], dtype=np.float32)
    best = min((scores[~labels] >= t).mean() for t in scores if (scores[labels] >= t).mean() >= 0.95)
    assert fpr_at_tpr(scores, labels) == pytest.approx(best)


def test_seen_and_unseen() -> None:
    """Each part sets its anomalies against all normals; a normal must not drop out with the split."""
    scores = np.array([0.0, 2.0, 1.0, 3.0])
    labels = np.array([False, False, True, True])
    figures = evaluate(scores, labels, np.array([True, True, True, False]))
    assert figures["seen"] == 0.5 and figures["unseen"] == 1.0 and figures["auroc"] == 0.75
    assert "unseen" not in evaluate(scores, labels, np.ones(4, dtype=bool))
    assert "seen" not in evaluate(scores, labels)


def test_mean_and_interval() -> None:
    """Student's t with n - 1 degrees of freedom: 12.706 for two values, 4.303 for three."""
    assert mean_ci95([0.5, 0.7]) == (pytest.approx(0.6), pytest.approx(12.7062 * 0.1, rel=1e-4))
    mean, half = mean_ci95([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.30265 / np.sqrt(3), rel=1e-5)
    assert mean_ci95([0.4]) == (0.4, None)
