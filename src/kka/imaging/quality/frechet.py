"""The Fréchet distance of two sets of features, each taken for a normal distribution (Heusel et al. 2017).

||m_1 - m_2||² + tr(C_1 + C_2 - 2 (C_1 C_2)^½). Of n pictures a side it is biased upwards, the more the fewer they
are (Bińkowski et al. 2018): two samples of one distribution are not at distance 0. Distances are compared at equal n
alone, and beside that of two samples of real pictures.
"""

import numpy as np
from jaxtyping import Float


def frechet_distance(a: Float[np.ndarray, "_n d"], b: Float[np.ndarray, "_m d"]) -> float:
    """Between the features of two sets of at least two pictures; 0 for the same set."""
    means = a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)
    first, second = (np.cov(x.astype(np.float64), rowvar=False).reshape(x.shape[1], -1) for x in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    crossed = np.linalg.eigvalsh(root @ second @ root).clip(min=0)  # those of C_1 C_2
    return float(means @ means + np.trace(first) + np.trace(second) - 2 * np.sqrt(crossed).sum())
