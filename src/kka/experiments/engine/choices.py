"""What a hard anomaly is worth, taken apart: which of everything that a pool's rounds generated a detector trains with.

Random ones, by a seed; of equal number wherever two choices are compared. A picture counts as hard, and lies as far
from the centre, as its last judgement says (Eq. 6: below 1 = hard).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from kka.algorithm.hardness import is_hard
from kka.algorithm.selection import BAND, in_band

NUMBER = 200
"""Pictures of a choice, or as many as there are."""
QUARTERS = 4


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which pictures: the fields that are set must all hold."""

    title: str
    number: int = NUMBER
    hard: float | None = None
    """The share of hard ones; None: as they come."""
    quarter: int | None = None
    """By relative distance among everything generated: 0 is the nearest."""
    band: bool = False
    """Those whose relative distance is in `BAND`."""
    origin: Literal["first", "tuned"] | None = None
    """first: captions of round 0, of the language model as it came; tuned: of later rounds."""


CHOICES = {
    **{f"share-{p}": Choice(title=f"{p} % hard", hard=p / 100) for p in (0, 25, 50, 75, 100)},
    **{
        f"few-{n}-{kind}": Choice(title=f"{n}, {title}", number=n, hard=share)
        for n in (10, 25, 50)
        for kind, title, share in (("hard", "hard alone", 1.0), ("any", "hard or not", None))
    },
    **{
        f"quarter-{k + 1}": Choice(title=title, quarter=k)
        for k, title in enumerate(("the nearest quarter", "the second quarter", "the third", "the farthest quarter"))
    },
    "band": Choice(title=f"relative distance {BAND[0]:g} to {BAND[1]:g}", band=True),
    "untuned": Choice(title="captions of round 0", origin="first"),
    "tuned": Choice(title="captions of later rounds", origin="tuned"),
}  # fmt: skip
"""The arm's name -> its choice."""


def chosen(
    choice: Choice, relative: Float[np.ndarray, "n"], rounds: Int[np.ndarray, "n"], *, seed: int
) -> Int[np.ndarray, "m"]:
    """Places of the pictures of a choice, ascending; empty where there are none such.

    Choices by the share of hard ones are all as many: what the scarcer side has, at most. Fewer where it says so: a
    few hard ones and as many of any kind are both as many as there are hard ones, at most. The hard ones of a smaller
    share are among those of a larger.

    Args:
        relative: The last judgement of each picture.
        rounds: In which round each was generated.
    """
    order = np.random.default_rng(seed).permutation(len(relative))
    hard = is_hard(relative)[order]
    if choice.number < NUMBER:
        number = min(choice.number, int(hard.sum()))
        return np.sort((order if choice.hard is None else order[hard])[:number])
    if choice.hard is not None:
        number = min(choice.number, int(hard.sum()), int((~hard).sum()))
        of_hard = round(choice.hard * number)
        return np.sort(np.concatenate([order[hard][:of_hard], order[~hard][: number - of_hard]]))
    return np.sort(order[_members(choice, relative, rounds)[order]][: choice.number])


def _members(choice: Choice, relative: Float[np.ndarray, "n"], rounds: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    inside = in_band(relative) if choice.band else np.ones(len(relative), dtype=bool)
    if choice.quarter is not None:
        rank = np.empty(len(relative), dtype=np.int64)
        rank[np.argsort(relative, kind="stable")] = np.arange(len(relative))
        inside &= rank * QUARTERS // len(relative) == choice.quarter
    if choice.origin is not None:
        inside &= (rounds == 0) == (choice.origin == "first")
    return np.asarray(inside)
