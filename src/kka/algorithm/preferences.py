"""Eq. 7: preference pairs (prompt, hard caption, easy caption) and the DPO loss. Pure functions.

    L = −log σ( β [log π_θ(x_ha|p)/π_0(x_ha|p) − log π_θ(x_ea|p)/π_0(x_ea|p)] )

x_ha, x_ea: captions of a hard and of an easy anomaly under one prompt p; π_θ: the tuned model; π_0: the base model.
Rafailov et al. 2023, eq. 7.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

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


def make_pairs(
    captions: Sequence[str],
    prompts: Sequence[str],
    is_hard: Sequence[bool],
    *,
    max_pairs: int,
    seed: int,
    validation_share: float = 0.2,
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Training and validation pairs; no text stands in both. Pairs compare captions of one prompt only.

    Hard and easy texts are split apart by their own, so that validation gets some of both. A text that is hard in
    one picture and easy in another says nothing about words and is left out. Each caption of a prompt is used about
    equally often. No hard or no easy caption: no pairs, and the round has nothing to tune.

    Args:
        prompts: The prompt of each caption.
        is_hard: Eq. 6 for each caption.
        max_pairs: At most so many training pairs; validation gets at most the `validation_share` of it.
    """
    hard_texts = {normalise(c) for c, hard in zip(captions, is_hard, strict=True) if hard}
    easy_texts = {normalise(c) for c, hard in zip(captions, is_hard, strict=True) if not hard}
    torn = hard_texts & easy_texts
    # Keyed by text, so that a repeated caption gives one entry to its prompt.
    groups: dict[tuple[bool, str, bool], dict[str, str]] = {}
    for hard in (True, False):
        mine = [i for i, h in enumerate(is_hard) if bool(h) == hard and normalise(captions[i]) not in torn]
        sides = split_by_text([captions[i] for i in mine], validation_share, seed)
        for i, validation in zip(mine, sides, strict=True):
            group = groups.setdefault((validation, prompts[i], hard), {})
            group.setdefault(normalise(captions[i]), captions[i])
    limits = {False: max_pairs, True: max(1, round(max_pairs * validation_share))}
    train, held_out = (_pairs_of(groups, side, limits[side], seed) for side in (False, True))
    return train, held_out


def _pairs_of(
    groups: dict[tuple[bool, str, bool], dict[str, str]], validation: bool, limit: int, seed: int
) -> list[PreferencePair]:
    """Up to `limit` pairs of one side, the prompts in turn."""
    prompts = sorted({prompt for side, prompt, _ in groups if side == validation})
    streams = []
    for prompt in prompts:
        rng = np.random.default_rng(derive_seed(seed, "pairs", int(validation), prompt))
        hard, easy = (sorted(groups.get((validation, prompt, kind), {}).values()) for kind in (True, False))
        streams.append(_combinations(prompt, list(rng.permutation(hard)), list(rng.permutation(easy))))
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


def _combinations(prompt: str, hard: list[str], easy: list[str]) -> Iterator[PreferencePair]:
    """Every (hard, easy) once, in an order that uses all captions of a side before it repeats one."""
    if not hard or not easy:
        return
    cycle = math.lcm(len(hard), len(easy))
    for i in range(len(hard) * len(easy)):
        shift = i // cycle  # after a whole cycle the pairings would repeat: move on by one
        yield PreferencePair(prompt=prompt, hard=str(hard[i % len(hard)]), easy=str(easy[(i + shift) % len(easy)]))
