"""Eq. 7, what a person told of pictures as preference pairs, which come before the machine's own.

A choice between two pictures under one prompt is a pair. A picture that is harder than it was judged is preferred to
the farthest third of its prompt and round, as the nearest third is; to one that is easier, the nearest third is.
"""

from collections.abc import Sequence

import numpy as np

from kka.algorithm.captions import normalise
from kka.algorithm.compared import MAX_PAIRS, Pairs
from kka.algorithm.pool import Lineage
from kka.algorithm.preferences import Group, thirds
from kka.algorithm.reviews import Reviews
from kka.protocols import PreferencePair


def pairs_told(entries: Sequence[Lineage], reviews: Reviews) -> list[PreferencePair]:
    """The pairs that follow from choices, and then those from single pictures, at most `MAX_PAIRS`.

    Args:
        entries: All pictures so far, judged; those vetoed say nothing.
    """
    known = {entry.id: entry for entry in entries if entry.id not in reviews.vetoed}
    found = [_pair(known[c.harder], known[c.easier]) for c in reviews.choices if {c.harder, c.easier} <= known.keys()]
    rest = list(known.values())
    groups: list[Group] = [(entry.prompt, entry.round) for entry in rest]
    side = thirds(np.array([entry.relative for entry in rest], dtype=np.float64), groups)
    harder, easier = reviews.ids("harder"), reviews.ids("easier")
    for i, entry in enumerate(rest):
        side[i] = 1 if entry.id in harder else -1 if entry.id in easier else side[i]
    for i, entry in enumerate(rest):
        if entry.id in harder or entry.id in easier:
            others = [rest[j] for j in range(len(rest)) if groups[j] == groups[i] and side[j] == -side[i]]
            found += [_pair(entry, other) if side[i] > 0 else _pair(other, entry) for other in others]
    pairs: dict[tuple[str, str, str], PreferencePair] = {}
    for pair in found:
        if pair is None:
            continue
        hard, easy = normalise(pair.hard), normalise(pair.easy)
        if (pair.prompt, easy, hard) not in pairs:  # of two that contradict each other the first counts
            pairs.setdefault((pair.prompt, hard, easy), pair)
    return list(pairs.values())[:MAX_PAIRS]


def _pair(hard: Lineage, easy: Lineage) -> PreferencePair | None:
    """None of two captions that are one, or that answer different prompts: Eq. 7 compares within a prompt."""
    if hard.prompt != easy.prompt or normalise(hard.caption) == normalise(easy.caption):
        return None
    return PreferencePair(prompt=hard.prompt, hard=hard.caption, easy=easy.caption)


def put_first(told: Sequence[PreferencePair], own: Pairs) -> Pairs:
    """What was told, then the machine's own pairs, in training at most `MAX_PAIRS` in all. A pair of the machine's that
    contradicts one is left out, and so is one of validation whose texts are in training now."""
    if not told:
        return own
    against = {(pair.prompt, normalise(pair.easy), normalise(pair.hard)) for pair in told}
    same = {(pair.prompt, normalise(pair.hard), normalise(pair.easy)) for pair in told}
    train = [p for p in own[0] if (p.prompt, normalise(p.hard), normalise(p.easy)) not in against | same]
    texts = {normalise(text) for pair in told for text in (pair.hard, pair.easy)}
    validation = [p for p in own[1] if not {normalise(p.hard), normalise(p.easy)} & texts]
    return [*told, *train][:MAX_PAIRS], validation
