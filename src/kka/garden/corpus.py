"""Captions of the whole garden, from which a small language model learns."""

import numpy as np

from kka.garden.grammar import describe
from kka.garden.tasks import NORMALS, SURROUNDINGS, vary
from kka.garden.vocabulary import ATTRIBUTES, fill


def corpus(n: int, seed: int, *, near_share: float = 0.2) -> list[tuple[str, str]]:
    """`n` captions for training a language model, as (group, caption): a group is one species, named by a number.

    Species are drawn over the whole garden; a `near_share` of them is a normal kind of `kka.garden.tasks` with one to
    four attributes changed. Each species keeps its petals and center, and varies in what surrounds it.
    """
    rng = np.random.default_rng([seed, 11])
    names = list(NORMALS)
    pairs: list[tuple[str, str]] = []
    species = 0
    while len(pairs) < n:
        flower = fill({}, rng)
        if rng.random() < near_share:
            flower = NORMALS[names[int(rng.integers(len(names)))]].draw(rng)
            flower = vary(flower, int(rng.integers(1, 5)), rng)
        fixed = {a: getattr(flower, a) for a in ATTRIBUTES if a not in SURROUNDINGS}
        for _ in range(min(4, n - len(pairs))):
            pairs.append((f"species-{species:06d}", describe(fill(fixed, rng), rng)))
        species += 1
    return pairs
