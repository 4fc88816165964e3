"""Eq. 6."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kka.algorithm.hardness import fold_of, is_hard, preferred, relative_distance

distances = st.lists(st.floats(2**-10, 2**10, width=32), min_size=1, max_size=30)


@given(anomalies=distances, normals=distances)
def test_quantile_one_is_the_papers_rule(anomalies: list[float], normals: list[float]) -> None:
    """Eq. 6 literally: hard if there is a training normal farther from the centre."""
    a, n = np.array(anomalies, np.float32), np.array(normals, np.float32)
    expected = [any(d < other for other in n) for d in a]
    assert is_hard(relative_distance(a, n, 1.0)).tolist() == expected


def test_quantile_by_hand() -> None:
    """The 0.5-quantile of 1, 2, 3 is 2: relative distances are halves."""
    relative = relative_distance(np.array([1.0, 2.0, 5.0]), np.array([1.0, 2.0, 3.0]), 0.5)
    assert relative.tolist() == [0.5, 1.0, 2.5]
    assert is_hard(relative).tolist() == [True, False, False]


@given(anomalies=distances, normals=distances, low=st.floats(0.1, 0.9), more=st.floats(0, 0.1))
def test_a_higher_quantile_makes_no_fewer_hard(
    anomalies: list[float], normals: list[float], low: float, more: float
) -> None:
    """The threshold grows with the quantile."""
    a, n = np.array(anomalies), np.array(normals)
    assert is_hard(relative_distance(a, n, low)).sum() <= is_hard(relative_distance(a, n, low + more)).sum()


def test_all_normals_in_the_centre() -> None:
    """A collapsed network has distance 0 everywhere: nothing is hard, and nothing is NaN."""
    relative = relative_distance(np.array([0.0, 1.0], np.float32), np.zeros(4, np.float32), 0.9)
    assert relative[0] == 0 and relative[1] > 1 and not np.isnan(relative).any()


@given(n=st.integers(1, 60), folds=st.integers(1, 8), seed=st.integers(0, 99))
def test_folds_are_balanced_and_whole(n: int, folds: int, seed: int) -> None:
    """An item in no fold would never be judged; uneven folds would leave one network with few normals."""
    fold = fold_of(n, folds, seed=seed)
    counts = np.bincount(fold, minlength=folds)
    assert fold.shape == (n,) and counts.sum() == n and len(counts) == folds
    assert counts.max() - counts.min() <= 1
    assert (fold == fold_of(n, folds, seed=seed)).all()


def test_folds_are_shuffled() -> None:
    """Neighbours in a data set are often shots of one object: folds by position would be easy to tell apart."""
    fold = fold_of(100, 2, seed=0)
    assert 30 < np.abs(np.diff(fold)).sum() < 70
    assert (fold != fold_of(100, 2, seed=1)).any()


def test_direction() -> None:
    """Nearer to the centre = harder: a reversed comparison would feed the pool with the easiest."""
    assert is_hard(relative_distance(np.array([0.1, 9.0]), np.array([1.0, 1.1]), 1.0)).tolist() == [True, False]
    assert pytest.approx(1.0) == float(relative_distance(np.array([3.0]), np.array([3.0]), 1.0)[0])


def test_the_nearest_stand_in_where_few_are_hard() -> None:
    """Eq. 7 would have nothing to learn from once the evaluator finds hardly any anomaly hard."""
    relative = np.array([3.0, 0.5, 2.0, 5.0, 4.0])
    assert preferred(relative, 0.0).tolist() == [False, True, False, False, False]
    assert preferred(relative, 0.2).tolist() == [False, True, False, False, False]
    assert preferred(relative, 0.4).tolist() == [False, True, True, False, False]  # two of five: the nearest two
    assert preferred(np.array([0.1, 0.2, 3.0]), 0.3).tolist() == [True, True, False]  # enough are hard: just those
