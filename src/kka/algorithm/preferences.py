"""Eq. 7: preference pairs (prompt, hard caption, easy caption) and the DPO loss. Pure functions.

    L = −log σ( β [log π_θ(x_ha|p)/π_0(x_ha|p) − log π_θ(x_ea|p)/π_0(x_ea|p)] )

x_ha, x_ea: captions of a hard and of an easy anomaly under one prompt p; π_θ: the tuned model; π_0: the base model.
Rafailov et al. 2023, eq. 7.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from kka.algorithm.captions import normalise
from kka.errors import UserError
from kka.protocols import PreferencePair
from kka.seeding import derive_seed


def dpo_loss(
    policy_hard: Float[np.ndarray, "n"],
    policy_easy: Float[np.ndarray, "n"],
    ref_hard: Float[np.ndarray, "n"],
    ref_easy: Float[np.ndarray, "n"],
    beta: float,
) -> Float[np.ndarray, "n"]:
    """The loss of each pair, from the summed log-probabilities of the captions in nats."""
    margins = reward_margins(policy_hard, policy_easy, ref_hard, ref_easy, beta)
    return np.logaddexp(0.0, -margins)  # −log σ(m), stable for large |m|


def reward_margins(
    policy_hard: Float[np.ndarray, "n"],
    policy_easy: Float[np.ndarray, "n"],
    ref_hard: Float[np.ndarray, "n"],
    ref_easy: Float[np.ndarray, "n"],
    beta: float,
) -> Float[np.ndarray, "n"]:
    """The implied reward of the hard caption less that of the easy one; above 0 the pair is ranked rightly."""
    return beta * ((policy_hard - ref_hard) - (policy_easy - ref_easy))


def split_by_text(captions: Sequence[str], share: float, seed: int) -> list[bool]:
    """Which captions go to validation: about `share` of the different texts, and every copy of a text with it.

    The order of the captions and other captions' repeats do not matter: a text's place is drawn from its hash.
    With two texts or more and a share above 0, each side gets at least one.
    """
    if not 0 <= share < 1:
        raise UserError(f"validation share: expected a number from 0 to below 1; got {share}")
    keys = [normalise(caption) for caption in captions]
    ranked = sorted(set(keys), key=lambda key: (derive_seed(seed, "split", key), key))
    count = round(share * len(ranked))
    if share > 0 and len(ranked) > 1:
        count = min(max(count, 1), len(ranked) - 1)
    validation = set(ranked[:count])
    return [key in validation for key in keys]


Group = tuple[str | int, ...]
"""Captions that may be compared: (prompt,), or (prompt, round)."""
MIN_RATIO = 1.25
"""Between the relative distances of a pair's two captions, at least. On 200 fresh pictures of the garden's windflower
the evaluator's two networks put 56 % of the pairs below 1.1 in the same order, 61 % up to 1.25, 77 % up to 1.5, 89 % up
to 2 and 97 % up to 3 (seed 0, round 1)."""


def thirds(relative: Float[np.ndarray, "n"], groups: Sequence[Group]) -> Int[np.ndarray, "n"]:
    """1 for the nearest third of each group, −1 for the farthest third, 0 between; of two captions, one of each.

    Within one prompt and one round, so that "hard" is not another word for "of a later round".
    """
    side = np.zeros(len(relative), dtype=np.int64)
    places: dict[Group, list[int]] = {}
    for i, group in enumerate(groups):
        places.setdefault(group, []).append(i)
    for mine in places.values():
        ordered = [mine[k] for k in np.argsort(relative[mine], kind="stable")]
        count = max(len(mine) // 3, min(1, len(mine) // 2))
        side[ordered[:count]] = 1
        side[ordered[len(mine) - count :]] = -1
    return side


def make_pairs(
    captions: Sequence[str],
    groups: Sequence[Group],
    is_hard: Sequence[bool],
    *,
    relative: Sequence[float] | None = None,
    max_pairs: int,
    seed: int,
    validation_share: float = 0.2,
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Training and validation pairs; no text stands in both. Pairs compare captions of one group only.

    Hard and easy texts are split apart by their own, so that validation gets some of both. A text that is hard in
    one picture and easy in another says nothing about words and is left out. Each caption of a group is used about
    equally often. No hard or no easy caption: no pairs, and the round has nothing to tune.

    Args:
        groups: Of each caption; the first entry is its prompt.
        is_hard: For each caption: whether it is to be preferred (Eq. 6, or `thirds`).
        relative: Of each caption; pairs whose distances differ by less than `MIN_RATIO` are left out. None: all pairs.
        max_pairs: At most so many training pairs; validation gets at most the `validation_share` of it.
    """
    hard_texts = {normalise(c) for c, hard in zip(captions, is_hard, strict=True) if hard}
    easy_texts = {normalise(c) for c, hard in zip(captions, is_hard, strict=True) if not hard}
    torn = hard_texts & easy_texts
    distances: Sequence[float | None] = [None] * len(captions) if relative is None else relative
    # Keyed by text, so that a repeated caption gives one entry to its group.
    sides: _Sides = {}
    for hard in (True, False):
        mine = [i for i, h in enumerate(is_hard) if bool(h) == hard and normalise(captions[i]) not in torn]
        apart = split_by_text([captions[i] for i in mine], validation_share, seed)
        for i, validation in zip(mine, apart, strict=True):
            side = sides.setdefault((validation, groups[i], hard), {})
            side.setdefault(normalise(captions[i]), (captions[i], distances[i]))
    limits = {False: max_pairs, True: max(1, round(max_pairs * validation_share))}
    train, held_out = (_pairs_of(sides, side, limits[side], seed) for side in (False, True))
    return train, held_out


_Judged = tuple[str, float | None]
"""A caption and its relative distance, where that counts."""
_Sides = dict[tuple[bool, Group, bool], dict[str, _Judged]]
"""(validation, group, hard) -> normalised text -> caption."""


def _pairs_of(sides: _Sides, validation: bool, limit: int, seed: int) -> list[PreferencePair]:
    """Up to `limit` pairs for training or for validation, the groups in turn."""
    groups = sorted({group for side, group, _ in sides if side == validation})
    streams = []
    for group in groups:
        rng = np.random.default_rng(derive_seed(seed, "pairs", int(validation), *group))
        hard, easy = (sorted(sides.get((validation, group, kind), {}).values()) for kind in (True, False))
        shuffled = [[side[i] for i in rng.permutation(len(side))] for side in (hard, easy)]
        streams.append(_combinations(str(group[0]), *shuffled))
    pairs: list[PreferencePair] = []
    while streams and len(pairs) < limit:
        still_open = []
        for stream in streams:
            pair = next(stream, None)
            if pair is not None and len(pairs) < limit:
                pairs.append(pair)
                still_open.append(stream)
        streams = still_open
    return pairs


def _combinations(prompt: str, hard: list[_Judged], easy: list[_Judged]) -> Iterator[PreferencePair]:
    """Every (hard, easy) that differs enough, once; in an order that uses all of a side before it repeats one."""
    if not hard or not easy:
        return
    cycle = math.lcm(len(hard), len(easy))
    for i in range(len(hard) * len(easy)):
        shift = i // cycle  # after a whole cycle the pairings would repeat: move on by one
        (near, close), (far, distant) = hard[i % len(hard)], easy[(i + shift) % len(easy)]
        if close is None or distant is None or distant >= MIN_RATIO * close:
            yield PreferencePair(prompt=prompt, hard=near, easy=far)
