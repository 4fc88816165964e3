"""Eq. 2."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kka.algorithm.mahalanobis import fit_clusters
from kka.algorithm.representatives import representatives
from reference.squared_mahalanobis import nearest_members, squared_mahalanobis


def clouds(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([30 * j + rng.normal(size=(12 + j, 4)) for j in range(3)])


def test_argmin_in_each_cluster() -> None:
    """A representative from another cluster, or not its nearest member, would not stand for the class."""
    features = clouds(0)
    assignment = fit_clusters(features, 3, seed=0).assignment
    expected = nearest_members(squared_mahalanobis(features, assignment, features), assignment)
    assert representatives(features, 3, seed=0) == expected
    assert sorted(assignment[i] for i in expected) == [0, 1, 2]


def test_obvious_centres() -> None:
    """The middle of a symmetric cross is its most typical point, whatever the order."""
    cross = np.array([[0.0, 0], [3, 0], [-3, 0], [0, 3], [0, -3]])
    assert representatives(cross, 1, seed=0) == [0]
    assert representatives(cross[::-1].copy(), 1, seed=0) == [4]


def test_ties_go_to_the_smaller_index() -> None:
    """Equal normals: the choice must not hang on the sort algorithm."""
    assert representatives(np.ones((6, 3)), None, seed=0) == [0]


@pytest.mark.parametrize("k", [None, 1, 5])
def test_indexes_are_plain_distinct_integers(k: int | None) -> None:
    """They are written to JSON and index the captions: numpy integers or repeats would break either."""
    chosen = representatives(np.random.default_rng(2).normal(size=(60, 3)).astype(np.float32), k, seed=0)
    assert all(type(i) is int for i in chosen)
    assert len(set(chosen)) == len(chosen) == (k or 4)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_scale_of_the_features_does_not_matter(seed: int) -> None:
    """Mahalanobis distances are relative: features in other units choose the same normals."""
    features = clouds(seed)
    assert representatives(features, 3, seed=0) == representatives(1000 * features, 3, seed=0)
