"""Eq. 7, whose captions are compared: the pool's hard with its easy ones, or the near with the far of all so far."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from kka.algorithm.hardness import preferred
from kka.algorithm.pool import Lineage
from kka.algorithm.preferences import Group, make_pairs, thirds
from kka.protocols import PreferencePair

MAX_PAIRS = 600

Pairs = tuple[list[PreferencePair], list[PreferencePair]]
"""Of training and of validation."""


def pairs_of_pool(entries: Sequence[Lineage], *, least: float, seed: int) -> Pairs:
    """The pool's hard with its easy ones, within one prompt. `least`: see `preferred`."""
    groups, captions, relative = by_text((entry, (entry.prompt,)) for entry in entries)
    return make_pairs(captions, groups, preferred(relative, least).tolist(), max_pairs=MAX_PAIRS, seed=seed)


def pairs_of_thirds(entries: Sequence[Lineage], *, seed: int) -> Pairs:
    """The nearest with the farthest third, within one prompt and one round."""
    groups, captions, relative = by_text((entry, (entry.prompt, entry.round)) for entry in entries)
    side = thirds(relative, groups)
    compared = np.flatnonzero(side).tolist()
    return make_pairs(
        [captions[i] for i in compared],
        [groups[i] for i in compared],
        [bool(side[i] > 0) for i in compared],
        relative=relative[compared].tolist(),
        max_pairs=MAX_PAIRS,
        seed=seed,
    )


def by_text(entries: Iterable[tuple[Lineage, Group]]) -> tuple[list[Group], list[str], np.ndarray]:
    """Group, caption and relative distance of each caption; of several pictures of one, the geometric mean."""
    logs: dict[tuple[Group, str], list[float]] = {}
    for entry, group in entries:
        logs.setdefault((group, entry.caption), []).append(math.log(max(entry.relative, 1e-30)))
    return [group for group, _ in logs], [c for _, c in logs], np.exp([np.mean(values) for values in logs.values()])
