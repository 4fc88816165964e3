"""Eq. 1: the squared Mahalanobis score s_k = (z - mu_k)^T Sigma_k^-1 (z - mu_k), over K clusters.

Paper -> code: z = `features`, k = `cluster`, mu_k = `means[k]`, Sigma_k^-1 = `precisions[k]`.
The paper's sample covariance is singular below d + 1 samples; here it is shrunk (Ledoit-Wolf), so that
20 samples in 128 dimensions give a finite score that still knows directions.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf

from kka.errors import UserError

_FLOOR = 1e-6
"""Smallest variance, relative to the mean one: constant features must not divide by zero."""


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """K Gaussian clusters of d-dimensional features."""

    means: Float[np.ndarray, "k d"]
    precisions: Float[np.ndarray, "k d d"]
    assignment: Int[np.ndarray, "n"]
    """The cluster of each feature that was fitted."""

    def score(self, features: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """Eq. 1 against every cluster; its minimum over k is the anomaly score (higher = more anomalous)."""
        centred = features[:, None, :] - self.means[None]
        return np.einsum("mki,kij,mkj->mk", centred, self.precisions, centred)


def default_cluster_count(n: int) -> int:
    """K from the data: one cluster for about 25 normals, at least 4 (or as many as there are) and at most 8.

    Several prompts, or Eq. 2 and the conditioning of Eq. 3, 7 and 8 say nothing; few enough to sample each well.
    """
    return min(n, int(np.clip(round(n / 25), 4, 8)))


def fit_clusters(features: Float[np.ndarray, "n d"], k: int | None = None, *, seed: int) -> Clusters:
    """k-means, then a shrunk mean and covariance for each cluster.

    Raises UserError when `k` exceeds the number of distinct features.
    """
    features = np.asarray(features, dtype=np.float64)
    distinct = len(np.unique(features, axis=0))
    if k is None:
        k = min(default_cluster_count(len(features)), distinct)
    if not 1 <= k <= distinct:
        raise UserError(f"clusters: expected 1 to {distinct} (the number of distinct normals); got {k}")
    assignment = KMeans(k, n_init=10, random_state=seed).fit_predict(features)
    means = np.stack([features[assignment == j].mean(axis=0) for j in range(k)])
    precisions = np.stack([_precision(features[assignment == j]) for j in range(k)])
    return Clusters(means=means, precisions=precisions, assignment=assignment.astype(np.int64))


def _precision(members: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    d = members.shape[1]
    if len(members) < 2:  # a cluster of one has no spread to estimate
        return np.eye(d)
    covariance, _ = ledoit_wolf(members)
    mean_variance = np.trace(covariance) / d
    floor = _FLOOR * mean_variance if mean_variance > 0 else 1.0
    return np.linalg.inv(covariance + floor * np.eye(d))
