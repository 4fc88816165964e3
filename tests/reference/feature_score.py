"""SSD's score of one feature vector, step by step."""

import numpy as np
from sklearn.covariance import LedoitWolf


def unit(z: np.ndarray) -> np.ndarray:
    return np.array([row / np.sqrt(sum(v * v for v in row)) for row in z])


def score(normals: np.ndarray, anomalies: np.ndarray | None, asked: np.ndarray) -> list[float]:
    """Length 1, standardise by the normals, squared Mahalanobis to them, less that to the anomalies."""
    normals, asked = unit(normals), unit(asked)
    mean, deviation = normals.mean(axis=0), normals.std(axis=0)
    values = _distances((normals - mean) / deviation, (asked - mean) / deviation)
    if anomalies is not None:
        others = _distances((unit(anomalies) - mean) / deviation, (asked - mean) / deviation)
        values = [a - b for a, b in zip(values, others, strict=True)]
    return values


def _distances(members: np.ndarray, asked: np.ndarray) -> list[float]:
    centre = members.mean(axis=0)
    inverse = np.linalg.inv(LedoitWolf().fit(members).covariance_)
    result = []
    for z in asked:
        total = 0.0
        for i in range(len(z)):
            for j in range(len(z)):
                total += (z[i] - centre[i]) * inverse[i, j] * (z[j] - centre[j])
        result.append(total)
    return result
