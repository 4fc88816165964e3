"""Eq. 1 and 2 by loops: slow, literal, independent of kka."""

import numpy as np
from sklearn.covariance import LedoitWolf


def squared_mahalanobis(features: np.ndarray, assignment: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(m, K): s_k(z) = (z - mu_k)^T Sigma_k^-1 (z - mu_k) of each row of `asked`."""
    clusters = sorted(set(assignment.tolist()))
    scores = np.zeros((len(asked), len(clusters)))
    for column, k in enumerate(clusters):
        members = np.array([z for z, own in zip(features, assignment, strict=True) if own == k])
        mean = sum(members) / len(members)
        inverse = np.linalg.inv(LedoitWolf().fit(members).covariance_)
        for row, z in enumerate(asked):
            total = 0.0
            for i in range(len(mean)):
                for j in range(len(mean)):
                    total += (z[i] - mean[i]) * inverse[i, j] * (z[j] - mean[j])
            scores[row, column] = total
    return scores


def nearest_members(scores: np.ndarray, assignment: np.ndarray) -> list[int]:
    """Eq. 2: of each cluster, the member with the smallest score of that cluster."""
    chosen = []
    for k in range(scores.shape[1]):
        best = None
        for i, own in enumerate(assignment):
            if own == k and (best is None or scores[i, k] < scores[best, k]):
                best = i
        assert best is not None
        chosen.append(best)
    return chosen
