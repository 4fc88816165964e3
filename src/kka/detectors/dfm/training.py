"""From cached features of normals and anomalies to subspaces. Nothing is learnt by gradients."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kka.detectors.dfm.network import Subspace
from kka.detectors.dfm.settings import DFMSettings
from kka.detectors.features import Features
from kka.seeding import derive_seed

_COLUMNS = 4096
"""Of features that are multiplied at a time, in double precision."""
_RANK = 1e-9
"""Directions with less than this share of the strongest one's variance are rounding."""


@torch.no_grad()
def fit_subspaces(
    normals: Features, anomalies: Features | None, lengths: Sequence[int], *, settings: DFMSettings,
    cover: Sequence[Tensor] | None = None,
) -> list[Subspace]:  # fmt: skip
    """The subspace of each pooling, whose parts of the features (n, d) have these `lengths`.

    `cover`: (m, d) of each pooling, 1 where an anomaly is one, else 0, where that is known.
    """
    parts = normals[np.arange(len(normals))].split(list(lengths), dim=1)
    odd: Sequence[Tensor] = ()
    if anomalies is not None and settings.anomaly_weight and settings.anomaly_directions:
        odd = anomalies[np.arange(len(anomalies))].split(list(lengths), dim=1)
    found = []
    for i, x in enumerate(parts):
        mean = x.mean(dim=0)
        centred = x - mean
        basis = principal(centred, share=settings.variance)
        subspace = Subspace(x.shape[1], len(basis), 0, settings.anomaly_weight)
        subspace.mean.copy_(mean)
        subspace.scale.fill_(float(centred.square().sum(dim=1).mean()))
        subspace.basis.copy_(basis)
        if odd:
            left = subspace.left(odd[i])
            left = left if cover is None else left * cover[i]
            subspace.odd = principal(left, share=1.0, most=settings.anomaly_directions)
        found.append(subspace)
    return found


def some_of(n: int, most: int, seed: int, what: str) -> Int[np.ndarray, "k"]:
    """At most `most` of `n` positions, ascending: what is learnt from of the "normals" or the "anomalies"."""
    rng = np.random.default_rng(derive_seed(seed, what))
    return np.sort(rng.permutation(n)[:most])


def principal(x: Float[Tensor, "n d"], *, share: float, most: int | None = None) -> Float[Tensor, "k d"]:
    """The strongest right singular directions of `x`, of length 1, that hold `share` of its squares; `most` at most.

    By the eigenvectors of x x^T, in double precision: there are fewer rows than columns.
    """
    gram = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
    for columns in x.split(_COLUMNS, dim=1):
        gram += columns.double() @ columns.double().T
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    held = values.cumsum(0) / values.sum().clamp(min=torch.finfo(torch.float64).tiny)
    wanted = int((held < share).sum()) + 1
    k = min(wanted, int((values > _RANK * values[0]).sum()), len(values) if most is None else most)
    if not values[0] > 0:
        k = 0
    rows = (vectors[:, :k] / values[:k].sqrt()).T.to(x.dtype)
    return rows @ x
