"""Eq. 8, which pictures of a round enter the pool, where it is not random hard ones: an order, best first. Pure.

`nearest`: over-generate and keep. `banded`: neither copies of the normals nor what any detector finds, few of one
kind of caption, spread over the evaluator's space by the greedy k-centre rule (Gonzalez 1985; Sener and Savarese 2018).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from kka.algorithm.answers import normalise

BAND = (0.7, 1.5)
"""Relative distances. Nearer ones are mostly the normal itself with a word changed, farther ones are found anyway."""
PER_KIND = 3
"""Of one kind of caption, at most so many are in the pool."""
SAME_KIND = 0.5
"""Captions are of one kind where their content words overlap by at least this much (Jaccard)."""
_FUNCTION_WORDS = """
    a an the this that these those its it is are was were be been being has have had there here and or but nor as at
    by for from in into of off on onto out over to under up upon with within without while which who whose where
    when than then so such very quite rather some any each every both all photo picture image
"""


def nearest(relative: Float[np.ndarray, "n"]) -> list[int]:
    """All places, the least relative distance first."""
    places: list[int] = np.argsort(relative, kind="stable").tolist()
    return places


def in_band(relative: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Whose relative distance lies in `BAND`, ends included."""
    return (relative >= BAND[0]) & (relative <= BAND[1])


def banded(
    relative: Float[np.ndarray, "n"],
    z: Float[np.ndarray, "n d"],
    kinds: Sequence[int],
    *,
    centres: Float[np.ndarray, "m d"],
    taken: Sequence[int] = (),
) -> list[int]:
    """The places in `BAND`, at most `PER_KIND` of a kind, each time the one farthest from all before it.

    Args:
        z: Embeddings of the pictures.
        kinds: Of each picture's caption (`kinds_of`).
        centres: Embeddings of what the pool holds already: what is unlike that comes first.
        taken: The kinds of pictures in the pool that count against `PER_KIND`.
    """
    free = in_band(relative)
    counts: dict[int, int] = {}
    for kind in taken:
        counts[kind] = counts.get(kind, 0) + 1
    of_kind = np.asarray(kinds, dtype=np.int64)
    for kind, count in counts.items():
        free &= (of_kind != kind) | (count < PER_KIND)
    apart = np.full(len(z), np.inf)
    for centre in centres:
        apart = np.minimum(apart, np.square(z - centre).sum(axis=1))
    order: list[int] = []
    while free.any():
        chosen = int(np.argmax(np.where(free, apart, -1.0)))
        order.append(chosen)
        free[chosen] = False
        kind = int(of_kind[chosen])
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] >= PER_KIND:
            free &= of_kind != kind
        apart = np.minimum(apart, np.square(z - z[chosen]).sum(axis=1))
    return order


def kinds_of(captions: Sequence[str]) -> list[int]:
    """A number for the kind of each caption: that of the first caption whose content words are nearly the same."""
    leaders: list[frozenset[str]] = []
    kinds: list[int] = []
    for caption in captions:
        words = content_words(caption)
        kind = next((k for k, leader in enumerate(leaders) if _overlap(words, leader) >= SAME_KIND), len(leaders))
        if kind == len(leaders):
            leaders.append(words)
        kinds.append(kind)
    return kinds


def content_words(caption: str) -> frozenset[str]:
    """The words of a caption, normalised, but articles, prepositions and the like; all where there are only those."""
    words = frozenset(normalise(caption).split())
    return words.difference(_FUNCTION_WORDS.split()) or words


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))
