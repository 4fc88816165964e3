"""The choice of normal and withheld classes."""

import numpy as np
import pytest

from kka.data.split import choose_caption, choose_normal, fold, seen_mask, withhold
from kka.errors import UserError

CLASSES = [f"class {i}" for i in range(101)]


def test_withheld_share_is_exact_and_independent_of_order() -> None:
    """The same seed must withhold the same classes, in whatever order a file lists them; another seed, others."""
    first = withhold(CLASSES, 0.5, seed=3)
    assert len(first) == 51  # 50.5, rounded half up
    assert first == withhold(CLASSES[::-1], 0.5, seed=3)
    assert first != withhold(CLASSES, 0.5, seed=4)
    assert withhold(CLASSES, 0.0, seed=3) == ()
    assert withhold(CLASSES, 1.0, seed=3) == tuple(sorted(CLASSES))


def test_smaller_share_is_part_of_the_larger() -> None:
    """Classes are ranked once per seed, so shares can be compared: 0.25 withholds some of what 0.5 does."""
    assert {*withhold(CLASSES, 0.25, seed=0)} < {*withhold(CLASSES, 0.5, seed=0)}


def test_withholding_is_not_biased_to_a_class() -> None:
    """Over seeds every class is withheld about equally often (binomial, 5 standard deviations)."""
    counts = np.zeros(20)
    for seed in range(400):
        for name in withhold([str(i) for i in range(20)], 0.5, seed=seed):
            counts[int(name)] += 1
    assert np.abs(counts - 200).max() < 5 * 10


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_share_outside_the_unit_interval(share: float) -> None:
    """A share that is none must be refused, not clipped."""
    with pytest.raises(UserError, match="from 0 to 1"):
        withhold(CLASSES, share, seed=0)


def test_names_match_without_case_and_underscores() -> None:
    """`Vehicles_1`, `vehicles 1` are one name."""
    assert fold("Vehicles_1 ") == fold("vehicles  1")
    assert choose_normal(["Beech_Tree"], {"beech tree": ["b"]}, shown=["b"]) == {"b"}


def test_unknown_class_lists_near_matches_and_known() -> None:
    """A misspelt class must be answered with its neighbours and what there is."""
    with pytest.raises(UserError, match=r"no class is called 'orchd'. Did you mean 'orchid'\? Known: 1 orchid, 2 oak"):
        choose_normal(["orchd"], {"orchid": ["orchid"], "oak": ["oak"]}, shown=["1 orchid", "2 oak"])
    with pytest.raises(UserError, match=r"got none\. Known: 1 orchid"):
        choose_normal([], {"orchid": ["orchid"]}, shown=["1 orchid"])


def test_caption_choice_depends_on_seed_and_path_alone() -> None:
    """The caption of an image must not change when other images are added before it."""
    captions = [str(i) for i in range(10)]
    assert choose_caption(captions, 1, "a.jpg") == choose_caption(captions, 1, "a.jpg")
    assert len({choose_caption(captions, seed, "a.jpg") for seed in range(60)}) == 10


def test_seen_mask() -> None:
    """Normals count as seen; an anomaly is seen when its class is known."""
    assert seen_mask(["n", "k", "w"], ["n"], ["k"]).tolist() == [True, True, False]
