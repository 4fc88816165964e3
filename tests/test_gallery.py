"""The pictures that a person sees first."""

import numpy as np

from kka.deploy.gallery import choose


def test_which_pictures_are_shown() -> None:
    """By hand: good ones from the highest, missed ones from the lowest, of the found each kind in turn."""
    scores = np.array([1, 5, 3, 2, 9, 8, 7, 4], np.float32)
    is_anomaly = np.array([False, False, False, True, True, True, True, True])
    kinds = ("good", "good", "good", "a", "a", "a", "b", "b")
    found = choose(scores, is_anomaly, kinds, 4.0)
    assert found == {"good": [1, 2, 0], "missed": [3, 7], "found": [4, 6, 5]}
