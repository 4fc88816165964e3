"""What the captions speak of, by round: the words whose share rose and fell most against round 0. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kka.algorithm.selection import content_words


@dataclass(frozen=True, kw_only=True)
class Word:
    """A content word, and in how many captions it stands."""

    text: str
    before: int
    """Of round 0."""
    after: int
    """Of the round."""
    hard: int
    """Of the round's hard ones."""
    z: float
    """Smoothed log-odds ratio over its standard error: positive = rose. 0 in round 0."""


@dataclass(frozen=True, kw_only=True)
class RoundWords:
    """The words of one round: the strongest first."""

    number: int
    before: int
    """Captions of round 0."""
    after: int
    """Captions of the round."""
    hard: int
    """Hard ones among them."""
    rose: tuple[Word, ...]
    """In round 0, which rose against nothing, its most frequent words."""
    fell: tuple[Word, ...]

    @property
    def words(self) -> tuple[Word, ...]:
        return self.rose + self.fell


def words_by_round(
    captions: Sequence[Sequence[str]], hard: Sequence[Sequence[str]], *, top: int = 8
) -> list[RoundWords]:
    """The `top` words of each round whose share of its captions rose, and fell, most against round 0.

    Words in fewer than 3 captions, or 1 %, of both rounds together are left out.

    Args:
        captions: Of each round, round 0 first.
        hard: Of each round's hard pictures, as far as they were judged.
    """
    first, *later = (Counter(word for caption in of for word in content_words(caption)) for of in captions)
    among_hard = [Counter(word for caption in of for word in content_words(caption)) for of in hard]
    n0 = len(captions[0])
    usual = sorted(first, key=lambda word: (-first[word], word))[:top]
    found = [
        RoundWords(
            number=0, before=n0, after=n0, hard=len(hard[0]), fell=(),
            rose=tuple(_word(word, first[word], first[word], among_hard[0][word], n0, n0) for word in usual),
        )
    ]  # fmt: skip
    for number, counts in enumerate(later, 1):
        n = len(captions[number])
        least = max(3.0, 0.01 * (n0 + n))
        words = [
            _word(word, first[word], counts[word], among_hard[number][word], n0, n)
            for word in sorted(first.keys() | counts.keys())
            if first[word] + counts[word] >= least
        ]
        moved = [(word.after / max(1, n) - word.before / max(1, n0), word) for word in words]
        rose = sorted((pair for pair in moved if pair[0] > 0), key=lambda pair: -pair[0])
        fell = sorted((pair for pair in moved if pair[0] < 0), key=lambda pair: pair[0])
        found.append(
            RoundWords(
                number=number, before=n0, after=n, hard=len(hard[number]),
                rose=tuple(word for _, word in rose[:top]), fell=tuple(word for _, word in fell[:top]),
            )
        )  # fmt: skip
    return found


def _word(text: str, before: int, after: int, hard: int, n0: int, n: int) -> Word:
    """y of n captions hold it: log-odds log((y + 1/2) / (n - y + 1/2)), its variance the sum of the reciprocals of both
    terms (Haldane and Anscombe); z = difference / sqrt(sum of variances)."""
    odds = [(before + 0.5, n0 - before + 0.5), (after + 0.5, n - after + 0.5)]
    difference = math.log(odds[1][0] / odds[1][1]) - math.log(odds[0][0] / odds[0][1])
    return Word(
        text=text, before=before, after=after, hard=hard, z=difference / math.sqrt(sum(1 / x for p in odds for x in p))
    )
