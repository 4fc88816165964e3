"""Eq. 8, which pictures enter: against a literal farthest-first rule, and by hand."""

import numpy as np
import pytest

from kka.algorithm.selection import banded, content_words, in_band, kinds_of, nearest


def test_nearest() -> None:
    """The least distance first; among equals, the order in which they were drawn."""
    assert nearest(np.array([2.0, 0.5, 1.0, 0.5])) == [1, 3, 2, 0]


def test_content_words() -> None:
    """An article more makes no kind of its own; a caption of function words alone keeps them."""
    assert content_words("A tall, red flower on the wall.") == {"tall", "red", "flower", "wall"}
    assert content_words("this is it") == {"this", "is", "it"}


def test_kinds_by_hand() -> None:
    """Four of five content words shared: 4/6 is one kind; 3 of 5 shared: 3/7 is another."""
    captions = [
        "a red flower with five narrow petals",
        "the red flower has five broad petals",
        "a blue flower with ten narrow petals",
        "a red flower, with five narrow petals!",
    ]
    assert kinds_of(captions) == [0, 0, 1, 0]
    assert kinds_of([]) == []


def literal(relative, z, kinds, centres, taken) -> list[int]:
    """Word for word: again and again the allowed one whose nearest centre is the farthest."""
    centres, taken, order = [list(c) for c in centres], list(taken), []
    while True:
        inside = [i for i in range(len(z)) if i not in order and 0.7 <= relative[i] <= 1.5]
        allowed = [i for i in inside if taken.count(kinds[i]) < 3]
        if not allowed:
            return order
        gaps = {i: min(sum((a - b) ** 2 for a, b in zip(z[i], c, strict=True)) for c in centres) for i in allowed}
        order.append(max(allowed, key=lambda i: (gaps[i], -i)))
        centres.append(list(z[order[-1]]))
        taken.append(kinds[order[-1]])


@pytest.mark.parametrize("seed", range(5))
def test_the_band_is_spread_and_of_many_kinds(seed: int) -> None:
    """Near copies of the normal, what is found anyway, and one caption over and over, all stay out."""
    rng = np.random.default_rng(seed)
    relative, z, centres = rng.uniform(0.4, 2, 40), rng.normal(size=(40, 3)), rng.normal(size=(4, 3))
    kinds, taken = rng.integers(0, 6, 40).tolist(), [0, 0, 0, 1, 9]
    order = banded(relative, z, kinds, centres=centres, taken=taken)
    assert order == literal(relative, z, kinds, centres, taken)
    assert in_band(relative[order]).all()
    counts = np.bincount([kinds[i] for i in order], minlength=6)
    assert counts[0] == 0 and counts[1] <= 2 and counts.max() <= 3


def test_an_empty_pool_or_nothing_fresh() -> None:
    """Without centres the first in the band comes first; without pictures nothing does."""
    z = np.array([[0.0], [1.0], [5.0]])
    assert banded(np.array([2.0, 1.0, 1.2]), z, [0, 1, 2], centres=np.zeros((0, 1))) == [1, 2]
    assert banded(np.zeros(0), np.zeros((0, 1)), [], centres=z) == []
