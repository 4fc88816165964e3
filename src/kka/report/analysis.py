"""What the report works out from stored results: words gained and lost, mean ROC, a map of the latent space."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

MAX_POINTS = 700
"""Test images on the map of the latent space: t-SNE of more takes many seconds on a slow core."""
MAX_NORMALS = 250
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word, or two in a row, and in how many captions it stands."""

    text: str
    before: float
    """Share of the captions before."""
    after: float
    z: float
    """Smoothed log-odds ratio over its standard error: positive = gained."""


def compare_words(before: Sequence[str], after: Sequence[str], *, top: int = 10) -> tuple[list[Word], list[Word]]:
    """The words and pairs of words that most gained, and those that most lost, each the strongest first.

    y of n captions hold the word: log-odds log((y + 1/2) / (n - y + 1/2)), its variance the sum of the reciprocals of
    both terms (Haldane and Anscombe), z = difference / sqrt(sum of variances). Words in fewer than 3 captions, or 1 %
    of all, are left out, and so are phrases that hold, or are part of, a word already chosen.
    """
    counts = Counter(term for caption in before for term in terms(caption))
    later = Counter(term for caption in after for term in terms(caption))
    least = max(3.0, 0.01 * (len(before) + len(after)))
    words = []
    for term in sorted(counts.keys() | later.keys()):
        a, b = counts[term], later[term]
        if a + b < least:
            continue
        odds = [(a + 0.5, len(before) - a + 0.5), (b + 0.5, len(after) - b + 0.5)]
        difference = np.log(odds[1][0] / odds[1][1]) - np.log(odds[0][0] / odds[0][1])
        z = difference / np.sqrt(sum(1 / x for pair in odds for x in pair))
        words.append(Word(text=term, before=a / max(1, len(before)), after=b / max(1, len(after)), z=float(z)))
    gained = sorted((w for w in words if w.z > 0), key=lambda w: -w.z)
    lost = sorted((w for w in words if w.z < 0), key=lambda w: w.z)
    return _distinct(gained, top), _distinct(lost, top)


def terms(caption: str) -> set[str]:
    """The words of a caption in small letters, and the pairs of neighbours."""
    words = re.findall(r"\w+(?:['’-]\w+)*", caption.lower())
    return {*words, *(f"{a} {b}" for a, b in pairwise(words))}


def _distinct(words: list[Word], top: int) -> list[Word]:
    chosen: list[Word] = []
    used: set[str] = set()
    for word in words:
        parts = set(word.text.split())
        if len(chosen) < top and not parts & used:
            chosen.append(word)
            used |= parts
    return chosen


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
