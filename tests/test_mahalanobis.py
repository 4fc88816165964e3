"""Eq. 1."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kka.algorithm.mahalanobis import default_cluster_count, fit_clusters
from kka.errors import UserError
from reference.squared_mahalanobis import squared_mahalanobis


def blobs(seed: int, k: int, n: int, d: int) -> np.ndarray:
    """k well separated anisotropic clouds of n points."""
    rng = np.random.default_rng(seed)
    stretch = rng.uniform(0.3, 2, (d, d)) / d
    return np.concatenate([20 * j + rng.normal(size=(n, d)) @ stretch for j in range(k)])


@pytest.mark.parametrize("k", [1, 3])
def test_score_is_eq_1(k: int) -> None:
    """The einsum, the shrunk covariance or its inverse would differ from the formula written out."""
    features = blobs(0, k, 15, 6)
    asked = np.random.default_rng(1).normal(10, 10, (5, 6))
    clusters = fit_clusters(features, k, seed=0)
    expected = squared_mahalanobis(features, clusters.assignment, asked)
    # the floor of 1e-6 of the mean variance is the only difference
    np.testing.assert_allclose(clusters.score(asked), expected, rtol=2e-4)


def test_by_hand() -> None:
    """One dimension, where nothing is shrunk: s = (z - mean)^2 / variance (of n, not n - 1)."""
    clusters = fit_clusters(np.array([[1.0], [3.0], [5.0], [7.0]]), 1, seed=0)
    assert clusters.means[0, 0] == 4
    assert clusters.score(np.array([[9.0]]))[0, 0] == pytest.approx(25 / 5, rel=1e-5)


def test_few_samples_in_many_dimensions() -> None:
    """20 samples in 128 dimensions have a singular covariance: the score must be finite and still know directions."""
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(128) < 4, 10.0, 0.1)
    features = rng.normal(size=(20, 128)) * scale
    clusters = fit_clusters(features, 1, seed=0)
    along, across = 5 * np.eye(128)[0], 5 * np.eye(128)[100]
    scores = clusters.score(np.stack([clusters.means[0] + along, clusters.means[0] + across]))[:, 0]
    assert np.isfinite(clusters.score(features)).all()
    assert scores[1] > 3 * scores[0]


@pytest.mark.parametrize("noise", [0.0, 1e-14, 1e-9])
def test_constant_features(noise: float) -> None:
    """A dead feature extractor gives equal features: no division by zero and no warning of k-means."""
    features = np.ones((12, 8)) + noise * np.random.default_rng(0).normal(size=(12, 8))
    clusters = fit_clusters(features, None, seed=0)
    assert np.isfinite(clusters.score(features)).all()
    assert (clusters.score(features) >= 0).all()


def test_some_constant_dimensions() -> None:
    """A dimension without spread would make the covariance singular; a step along it must cost much, not nothing."""
    features = np.random.default_rng(0).normal(size=(200, 3))
    features[:, 2] = 7
    clusters = fit_clusters(features, 1, seed=0)
    mean = clusters.means[0]
    off = clusters.score(mean + np.array([[1, 0, 0], [0, 0, 1]]))[:, 0]
    assert np.isfinite(off).all() and off[1] > 10 * off[0]


@pytest.mark.parametrize("k", [0, -1, 11, 100])
def test_impossible_k(k: int) -> None:
    """More clusters than normals must be refused in words, not fail inside k-means."""
    with pytest.raises(UserError, match=rf"clusters: expected 1 to 10 .*; got {k}"):
        fit_clusters(np.random.default_rng(0).normal(size=(10, 4)), k, seed=0)


def test_k_counts_distinct_normals() -> None:
    """Copies of photos do not make new clusters: k-means would leave some empty, with NaN means."""
    features = np.repeat(np.random.default_rng(0).normal(size=(3, 4)), 10, axis=0)
    with pytest.raises(UserError, match="expected 1 to 3"):
        fit_clusters(features, 4, seed=0)
    assert np.isfinite(fit_clusters(features, 3, seed=0).means).all()


def test_singletons() -> None:
    """As many clusters as normals: each has one member, at score zero, and no spread to divide by."""
    features = np.arange(5.0)[:, None] * np.ones((5, 3))
    clusters = fit_clusters(features, 5, seed=0)
    own = clusters.score(features)[np.arange(5), clusters.assignment]
    np.testing.assert_allclose(own, 0, atol=1e-12)


@pytest.mark.parametrize(("n", "k"), [(3, 3), (8, 4), (31, 4), (124, 5), (158, 6), (200, 8), (2500, 8)])
def test_default_k(n: int, k: int) -> None:
    """The number of prompts by default is documented: one for about 25 normals, from 4 to 8."""
    assert default_cluster_count(n) == k
    if n <= 200:
        features = np.random.default_rng(0).normal(size=(n, 2))
        assert len(fit_clusters(features, None, seed=0).means) == k


def test_float32_and_equal_seeds() -> None:
    """Features come as float32 from the network; equal seeds must give equal clusters."""
    features = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    a, b = (fit_clusters(features, 4, seed=3) for _ in range(2))
    assert (a.assignment == b.assignment).all() and (a.precisions == b.precisions).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(4, 30), d=st.integers(1, 12), scale=st.sampled_from([1e-3, 1, 1e3]))
def test_never_negative(seed: int, n: int, d: int, scale: float) -> None:
    """A covariance that is not positive definite would give negative scores."""
    features = scale * np.random.default_rng(seed).normal(size=(n, d))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = fit_clusters(features, min(2, n), seed=0).score(features)
    assert np.isfinite(scores).all() and (scores >= 0).all()
