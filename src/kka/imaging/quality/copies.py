"""Whether drawn pictures are copies: their distance to the nearest training picture, against that of real pictures."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

QUANTILE = 0.01
"""Of the real pictures' distances: a drawn picture that is nearer is counted."""
NEIGHBOURS = 50
"""A distance is also taken relative to the mean of that of so many nearest ones (Carlini et al. 2023): a smooth picture
is near to everything, a copy to one."""
CHUNK = 128


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Of each picture, the nearest training picture."""

    index: Int[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]
    """Euclidean, divided by the root of the number of dimensions: in pixels, grey levels."""
    relative: Float[np.ndarray, " n"]
    """To the mean distance of the nearest NEIGHBOURS, in 0 to 1; a copy is near 0."""


def nearest(
    vectors: Float[np.ndarray, "_n d"], training: Float[np.ndarray, "_m d"],
    mirrored: Float[np.ndarray, "_m d"] | None = None,
) -> Nearest:  # fmt: skip
    """The nearest of the training pictures, as they are or, where that is given, mirrored."""
    both = [side.astype(np.float32) for side in (training, mirrored) if side is not None]
    squares = [np.einsum("md,md->m", side, side) for side in both]
    count = min(NEIGHBOURS, len(training))
    index: list[np.ndarray] = []
    distances: list[np.ndarray] = []
    for start in range(0, len(vectors), CHUNK):
        x = vectors[start : start + CHUNK].astype(np.float32)
        own = np.einsum("nd,nd->n", x, x)[:, None]
        to = [own - 2 * x @ side.T + square for side, square in zip(both, squares, strict=True)]
        near = np.sqrt(np.min(to, axis=0).clip(min=0) / x.shape[1])
        index.append(near.argmin(axis=1))
        distances.append(np.sort(np.partition(near, count - 1, axis=1)[:, :count], axis=1))
    found = np.concatenate(distances)
    mean = found.mean(axis=1)
    relative = np.divide(found[:, 0], mean, out=np.ones_like(mean), where=mean > 0)
    return Nearest(index=np.concatenate(index), distance=found[:, 0], relative=relative)


def share_nearer(drawn: Float[np.ndarray, " _n"], real: Float[np.ndarray, " _m"]) -> tuple[float, float]:
    """The share of the drawn pictures that are nearer than the QUANTILE of the real ones, and that quantile.

    Drawn pictures that are as far as real ones have the share QUANTILE.
    """
    limit = float(np.quantile(real, QUANTILE))
    return float((drawn < limit).mean()), limit
