"""What the report works out from stored results: mean ROC, a map of the latent space."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

MAX_POINTS = 700
"""Test images on the map of the latent space: t-SNE of more takes many seconds on a slow core."""
MAX_NORMALS = 250
T = TypeVar("T")


def mean_roc(
    scores: Sequence[Float[np.ndarray, "n"]], is_anomaly: Bool[np.ndarray, "n"], points: int = 201
) -> tuple[Float[np.ndarray, "p"], Float[np.ndarray, "p"]]:
    """False and true positive rates; the latter the mean over the seeds' curves at equal false positive rates."""
    from sklearn.metrics import roc_curve

    grid = np.linspace(0, 1, points)
    curves = []
    for one in scores:
        fpr, tpr, _ = roc_curve(is_anomaly, one)
        curves.append(np.interp(grid, fpr, tpr))
    return np.r_[0.0, grid], np.r_[0.0, np.mean(curves, axis=0)]


def sample_points(is_anomaly: Bool[np.ndarray, "n"], seed: int = 0) -> Int[np.ndarray, "k"]:
    """At most `MAX_POINTS` test images, `MAX_NORMALS` of them normal; the same for every arm."""
    rng = np.random.default_rng(seed)
    normals = rng.permutation(np.flatnonzero(~is_anomaly))[:MAX_NORMALS]
    anomalies = rng.permutation(np.flatnonzero(is_anomaly))[: MAX_POINTS - len(normals)]
    return np.sort(np.concatenate([normals, anomalies]))


def tsne(latent: Float[np.ndarray, "n d"], seed: int = 0) -> Float[np.ndarray, "n 2"] | None:
    """A map of the latent space on which neighbours stay neighbours. None where there is nothing to map:
    fewer than 10 points or 2 dimensions, all at one place, or values that are not finite."""
    from sklearn.manifold import TSNE

    if min(len(latent) / 5, latent.shape[1]) < 2 or not np.isfinite(latent).all() or not (latent != latent[0]).any():
        return None
    settings: dict[str, Any] = dict(perplexity=min(30, (len(latent) - 1) / 3), init="pca", n_jobs=1)
    points: np.ndarray = TSNE(2, random_state=seed, max_iter=500, **settings).fit_transform(latent)
    return points


def evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, spread evenly over their order, first and last included."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]
