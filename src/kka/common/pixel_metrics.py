"""How well maps show where: pixel AUROC, and AUPRO (Bergmann et al. 2021, https://doi.org/10.1007/s11263-020-01400-4).

Scores of pixels are counted in bins, so that memory stays flat and a bootstrap over photos only weighs the counts anew.
With no more distinct values than bins the figures are exact.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

LIMIT = 0.3
"""AUPRO counts false positive rates up to this."""
BINS = 1024
SAMPLE, CHUNK = 48, 64
"""Photos whose pixels set the bins; photos whose maps are in memory at a time."""
Positions = Int[np.ndarray, "k"]
THINNED = 2**18
"""Pixels of one map that set the bins, at most, evenly spread."""
Maps = Callable[[Positions], Iterable[Float[np.ndarray, "_h _w"]]]
"""Each asked for when it is counted: photos of several sizes are in memory one at a time."""
Masks = Callable[[Positions], Iterable[Bool[np.ndarray, "_h _w"] | None]]
"""None: nothing is marked."""


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """The pixels of n photos by their score, in bins from the lowest to the highest."""

    good: Float[np.ndarray, "n b"]
    """Pixels outside of the masks."""
    marked: Float[np.ndarray, "n b"]
    """Pixels inside."""
    overlap: Float[np.ndarray, "n b"]
    """Of each photo the sum over its regions (connected, with corners) of the share of the region in each bin."""
    regions: Int[np.ndarray, "n"]

    def figures(self, weights: Float[np.ndarray, "r n"]) -> list[dict[str, float]]:
        """"pixel_auroc" and "aupro" with each photo counted as often as each row says; none without marked pixels."""
        good, marked, overlap = (
            np.cumsum((weights @ counts)[:, ::-1], axis=1) for counts in (self.good, self.marked, self.overlap)
        )
        regions = weights @ self.regions
        found: list[dict[str, float]] = []
        for outside, inside, shares, count in zip(good, marked, overlap, regions, strict=True):
            if not count or not outside[-1]:
                found.append({})
                continue
            fpr = outside / outside[-1]
            found.append(
                {"pixel_auroc": area(fpr, inside / inside[-1], 1.0), "aupro": area(fpr, shares / count, LIMIT)}
            )
        return found


def area(fpr: Float[np.ndarray, "b"], rate: Float[np.ndarray, "b"], limit: float) -> float:
    """Under the curve through (0, 0), both rising, up to a false positive rate of `limit`, over `limit`."""
    x, y = np.r_[0.0, fpr], np.r_[0.0, rate]
    i = int(np.argmax(x >= limit))
    end = y[i - 1] + (y[i] - y[i - 1]) * (limit - x[i - 1]) / (x[i] - x[i - 1])
    return float(np.trapezoid(np.r_[y[:i], end], np.r_[x[:i], limit]) / limit)


def count_pixels(n: int, maps: Maps, masks: Masks) -> PixelCounts:
    """The maps of n photos, chunk by chunk, against their masks; both are asked for by the photos' positions."""
    edges = _edges(n, maps)
    b = len(edges) + 1
    good, marked, overlap = np.zeros((n, b)), np.zeros((n, b)), np.zeros((n, b))
    regions = np.zeros(n, np.int64)
    for start in range(0, n, CHUNK):
        rows = np.arange(start, min(start + CHUNK, n))
        for i, found, marks in zip(rows, maps(rows), masks(rows), strict=True):
            mask = np.zeros(found.shape, bool) if marks is None else marks
            binned = np.searchsorted(edges, found, side="left")
            good[i] = np.bincount(binned[~mask], minlength=b)
            if mask.any():
                marked[i] = np.bincount(binned[mask], minlength=b)
                overlap[i], regions[i] = _overlap(binned, mask, b)
    return PixelCounts(good=good, marked=marked, overlap=overlap, regions=regions)


def _edges(n: int, maps: Maps) -> np.ndarray:
    """Where one bin ends and the next begins: values in the lower bin are at most this. By photos spread over all."""
    some = maps(np.linspace(0, n - 1, min(SAMPLE, n)).round().astype(int))
    values = np.unique(np.concatenate([np.unique(_thinned(found)) for found in some]))
    if len(values) > BINS:
        values = values[np.linspace(0, len(values) - 1, BINS).round().astype(int)]
    return values[:-1]


def _thinned(found: np.ndarray) -> np.ndarray:
    return found.ravel()[:: 1 + found.size // THINNED]


def _overlap(binned: np.ndarray, mask: np.ndarray, bins: int) -> tuple[np.ndarray, int]:
    from scipy.ndimage import label

    labelled, count = label(mask, structure=np.ones((3, 3), int))
    inside = mask.nonzero()
    region, bin_ = labelled[inside] - 1, binned[inside]
    sizes = np.bincount(region, minlength=count)
    return np.bincount(bin_, weights=1 / sizes[region], minlength=bins), count
