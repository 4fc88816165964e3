"""Eq. 2: the normals that stand for the class, one argmin of Eq. 1 in each of K clusters."""

import numpy as np
from jaxtyping import Float, Int

from kka.algorithm.mahalanobis import fit_clusters


def representatives(features: Float[np.ndarray, "n d"], k: int | None = None, *, seed: int) -> list[int]:
    """The index of the most typical normal of each cluster (x_n1 … x_nK), cluster by cluster.

    `features` are phi(x) of the normals. Ties go to the smaller index.
    """
    return clustered(features, k, seed=seed)[0]


def clustered(
    features: Float[np.ndarray, "n d"], k: int | None = None, *, seed: int
) -> tuple[list[int], Int[np.ndarray, "n"]]:
    """`representatives`, and the number of each normal's cluster, which counts them."""
    clusters = fit_clusters(features, k, seed=seed)
    scores = clusters.score(np.asarray(features, dtype=np.float64))
    chosen = []
    for j in range(scores.shape[1]):
        own = np.flatnonzero(clusters.assignment == j)
        chosen.append(int(own[scores[own, j].argmin()]))
    return chosen, clusters.assignment
