"""DFM as its papers write it, with scikit-learn's PCA, one photo at a time; and what anomalies add."""

import numpy as np
from sklearn.decomposition import PCA


def reconstruction_error(
    x: np.ndarray, normals: np.ndarray, variance: float, anomalies: np.ndarray, most: int, weight: float
) -> float:
    """|e|^2 + weight |A e|^2 over the normals' mean of |x - mu|^2: e is what the normals' principal components leave
    of x, A the `most` strongest directions of what they leave of the anomalies."""
    pca = PCA(n_components=variance, svd_solver="full").fit(normals)

    def left(y: np.ndarray) -> np.ndarray:
        error: np.ndarray = y - pca.inverse_transform(pca.transform(y[None]))[0]
        return error

    total = float(np.mean([((y - normals.mean(axis=0)) ** 2).sum() for y in normals]))
    error = float((left(x) ** 2).sum())
    if len(anomalies):
        rest = np.stack([left(y) for y in anomalies])
        directions = np.linalg.svd(rest, full_matrices=False)[2][:most]
        error += weight * float(((directions @ left(x)) ** 2).sum())
    return error / total
