"""Eq. 7's pure part: the split by text, the pairs, and the loss against hand-derived values and TRL's."""

import math

import numpy as np
import pytest

from kka.algorithm.captions import normalise
from kka.algorithm.preferences import Group, dpo_loss, make_pairs, reward_margins, split_by_text, thirds
from kka.errors import UserError


def test_loss_by_hand() -> None:
    """β = 0.1, log-ratios hard 2 − (−1) = 3… worked out on paper: m = 0.1·(3 − (−2)) = 0.5, L = log(1 + e^−0.5)."""
    args = [np.array([x]) for x in (-10.0, -14.0, -13.0, -12.0)]
    assert reward_margins(*args, 0.1)[0] == pytest.approx(0.5)
    assert dpo_loss(*args, 0.1)[0] == pytest.approx(math.log(1 + math.exp(-0.5)))
    assert dpo_loss(*[np.zeros(1)] * 4, 0.1)[0] == pytest.approx(math.log(2))


def test_loss_is_stable_for_large_margins() -> None:
    """A plain log(sigmoid(m)) overflows at m = ±1000; the loss there is |m| or 0."""
    zero = np.zeros(2)
    np.testing.assert_allclose(dpo_loss(np.array([1e4, -1e4]), zero, zero, zero, 0.1), [0.0, 1000.0])


def test_loss_equals_torch_logsigmoid() -> None:
    """The form in which TRL states the sigmoid loss: −logsigmoid(β·(Δ_hard − Δ_easy))."""
    import torch

    rng = np.random.default_rng(0)
    a, b, c, d = rng.normal(-30, 9, (4, 50))
    expected = -torch.nn.functional.logsigmoid(0.3 * torch.tensor((a - c) - (b - d)))
    np.testing.assert_allclose(dpo_loss(a, b, c, d, 0.3), expected.numpy(), rtol=1e-9)


def test_split_keeps_copies_together() -> None:
    """In the published data 69 of 100 validation texts also stood in the training pairs."""
    texts = [f"flower number {i}" for i in range(20)]
    captions = texts + [t.upper() + "." for t in texts]
    sides = split_by_text(captions, 0.25, seed=3)
    assert sides[:20] == sides[20:]
    assert sum(sides[:20]) == 5


def test_split_depends_on_the_text_alone() -> None:
    """A text's side must not change with the order of the captions, or a resumed run would mix the two."""
    texts = [f"flower number {i}" for i in range(30)]
    sides = dict(zip(texts, split_by_text(texts, 0.2, seed=1), strict=True))
    assert dict(zip(texts[::-1], split_by_text(texts[::-1], 0.2, seed=1), strict=True)) == sides
    assert sides != dict(zip(texts, split_by_text(texts, 0.2, seed=2), strict=True))


def test_split_of_few_texts() -> None:
    """Two texts: one on each side. One text, or no share: training has it."""
    assert sorted(split_by_text(["a b c", "d e f"], 0.01, 0)) == [False, True]
    assert split_by_text(["a b c"], 0.4, 0) == [False]
    assert split_by_text(["a b c", "d e f"], 0.0, 0) == [False, False]
    with pytest.raises(UserError, match="validation share"):
        split_by_text(["a"], 1.0, 0)


def _pool(n: int = 40) -> tuple[list[str], list[Group], list[bool]]:
    captions = [f"flower {i} with {i * i} petals" for i in range(n)]
    return captions, [(f"prompt {i % 3}",) for i in range(n)], [i % 4 == 0 for i in range(n)]


def test_pairs_compare_hard_with_easy_of_one_prompt() -> None:
    """Captions of different prompts answer different questions; the loss compares under one."""
    captions, prompts, hard = _pool()
    of = {c: (p, h) for c, p, h in zip(captions, prompts, hard, strict=True)}
    train, validation = make_pairs(captions, prompts, hard, max_pairs=60, seed=0)
    assert len(train) == 60
    assert 0 < len(validation) <= 12
    for pair in train + validation:
        assert of[pair.hard] == ((pair.prompt,), True)
        assert of[pair.easy] == ((pair.prompt,), False)
    assert len(set(train)) == len(train)


def test_no_text_on_both_sides() -> None:
    """A validation text seen in training makes margin and accuracy worthless. Repeats in other case count as one."""
    captions, prompts, hard = _pool()
    captions, prompts, hard = captions + [c.upper() for c in captions], prompts * 2, hard * 2
    train, validation = make_pairs(captions, prompts, hard, max_pairs=500, seed=5)
    sides = [{normalise(t) for p in pairs for t in (p.hard, p.easy)} for pairs in (train, validation)]
    assert validation
    assert not sides[0] & sides[1]


def test_captions_are_used_evenly() -> None:
    """Five hard and fifteen easy, 30 pairs: each hard six times, each easy twice, no pair twice."""
    captions = [f"flower {i} with {i * i} petals" for i in range(20)]
    hard = [i < 5 for i in range(20)]
    train, _ = make_pairs(captions, [("p",)] * 20, hard, max_pairs=30, seed=0, validation_share=0.0)
    assert len(set(train)) == 30
    assert {sum(p.hard == c for p in train) for c in captions[:5]} == {6}
    assert {sum(p.easy == c for p in train) for c in captions[5:]} == {2}


def test_all_pairs_when_they_are_few() -> None:
    """Below the limit every combination is there, once."""
    captions = [f"flower {i} with {i * i} petals" for i in range(6)]
    train, _ = make_pairs(captions, [("p",)] * 6, [i < 2 for i in range(6)], max_pairs=99, seed=0, validation_share=0.0)
    assert {(p.hard, p.easy) for p in train} == {(h, e) for h in captions[:2] for e in captions[2:]}


@pytest.mark.parametrize("all_hard", [True, False])
def test_one_kind_only_gives_no_pairs(all_hard: bool) -> None:
    """Nothing to prefer: the round then tunes nothing."""
    captions, prompts, _ = _pool()
    assert make_pairs(captions, prompts, [all_hard] * 40, max_pairs=60, seed=0) == ([], [])


def test_hard_and_easy_under_different_prompts_give_no_pairs() -> None:
    """Both kinds exist, but never under one prompt."""
    captions, _, _ = _pool(8)
    pairs = make_pairs(captions, [("p",)] * 4 + [("q",)] * 4, [True] * 4 + [False] * 4, max_pairs=9, seed=0)
    assert pairs == ([], [])


def test_text_that_is_both_is_left_out() -> None:
    """One text, drawn twice, once hard and once easy: preferring it to itself would teach noise."""
    captions = ["red one here", "Red one, here", "blue one here", "pink one here", "green one here"]
    train, _ = make_pairs(
        captions, [("p",)] * 5, [True, False, True, False, False], max_pairs=9, seed=0, validation_share=0.0
    )
    assert {(p.hard, p.easy) for p in train} == {("blue one here", e) for e in captions[3:]}


def test_pairs_are_equal_for_equal_seeds() -> None:
    """Resume repeats this step and must find the same pairs."""
    assert make_pairs(*_pool(), max_pairs=20, seed=4) == make_pairs(*_pool(), max_pairs=20, seed=4)
    assert make_pairs(*_pool(), max_pairs=20, seed=4) != make_pairs(*_pool(), max_pairs=20, seed=5)


def test_thirds_by_hand() -> None:
    """Of seven captions two and two; of two, one and one; of one, none. Groups do not mix."""
    relative = np.array([7.0, 1, 6, 2, 5, 3, 4, 90, 80, 0.1])
    groups: list[Group] = [*[("p", 0)] * 7, *[("p", 1)] * 2, ("q", 0)]
    assert thirds(relative, groups).tolist() == [-1, 1, -1, 1, 0, 0, 0, -1, 1, 0]


def test_later_captions_are_not_preferred_for_being_late() -> None:
    """Round 1 is nearer than round 0 throughout: pairs must still prefer the near of each round, not the round."""
    rng = np.random.default_rng(0)
    n = 60
    captions = [f"flower {i} with {i * i} petals" for i in range(n)]
    groups: list[Group] = [(f"prompt {i % 2}", i // 30) for i in range(n)]
    relative = rng.permutation(np.linspace(1, 4, n)) * np.where(np.arange(n) < 30, 100.0, 1.0)
    side = thirds(relative, groups)
    kept = np.flatnonzero(side)
    near = dict(zip(captions, relative, strict=True))
    of = dict(zip(captions, groups, strict=True))
    pairs = [
        pair
        for part in make_pairs(
            [captions[i] for i in kept], [groups[i] for i in kept], [bool(side[i] > 0) for i in kept],
            relative=relative[kept].tolist(), max_pairs=999, seed=0,
        )
        for pair in part
    ]  # fmt: skip
    assert {of[pair.hard] for pair in pairs} == set(groups)
    for pair in pairs:
        assert of[pair.hard] == of[pair.easy] and of[pair.hard][0] == pair.prompt
        assert near[pair.easy] >= 1.25 * near[pair.hard]
    late = {word: sum(of[getattr(pair, word)][1] for pair in pairs) for word in ("hard", "easy")}
    assert late["hard"] == late["easy"] > 0
    assert not {pair.hard for pair in pairs} & {pair.easy for pair in pairs}


def test_pairs_without_a_margin_are_left_out() -> None:
    """Two evaluators would rank them the other way round."""
    captions = ["red one here", "blue one here", "pink one here", "green one here"]
    train, _ = make_pairs(
        captions, [("p", 0)] * 4, [True, True, False, False], relative=[1.0, 1.9, 2.0, 3.0], max_pairs=9, seed=0,
        validation_share=0.0,
    )  # fmt: skip
    assert {(p.hard, p.easy) for p in train} == {
        ("red one here", "pink one here"), ("red one here", "green one here"), ("blue one here", "green one here"),
    }  # fmt: skip
