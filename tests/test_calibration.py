"""The threshold at a wanted false-positive rate."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kka.common.metrics import anomalous
from kka.deploy.calibrate import Calibration, calibrate, promised_rate
from kka.errors import UserError
from reference import promised_rate as literal


@pytest.mark.parametrize(
    ("n", "fpr", "rank"),
    [(19, 0.05, 19), (20, 0.05, 20), (39, 0.05, 38), (99, 0.1, 90), (100, 0.1, 91), (9, 0.3, 7), (1, 0.5, 1)],
)
def test_the_rank_by_hand(n: int, fpr: float, rank: int) -> None:
    """ceil((n + 1)(1 - fpr)): one rank too low and the promise is broken, one too high and anomalies are missed."""
    scores = np.random.default_rng(0).permutation(np.arange(1, n + 1)).astype(np.float32)
    found = calibrate(scores, fpr)
    assert found.threshold == rank and (found.fpr, found.held_out) == (fpr, n)
    assert found.promised == pytest.approx(1 - rank / (n + 1)) and found.promised <= fpr + 1e-12


def test_too_few_are_said_to_be_too_few() -> None:
    """Eight normals cannot promise 5 %: the largest score, and a warning with what they can and what it would take."""
    scores = np.array([3, 1, 2, 8, 5, 4, 7, 6], np.float32)
    with pytest.warns(UserWarning, match=r"8 held-out normals are too few .* 0.05, which needs 19.* promises 0.111"):
        found = calibrate(scores, 0.05)
    assert found.threshold == 8 and found.promised == pytest.approx(1 / 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(np.arange(19, dtype=np.float32), 0.05)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_against_counting(n: int, fpr: float) -> None:
    """The smallest score that enough of the n + 1 ranks lie at or below, found by trying one after the other."""
    scores = np.random.default_rng(n).normal(size=n).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = calibrate(scores, fpr)
    enough = [s for s in sorted(scores) if (scores <= s).sum() >= (n + 1) * (1 - fpr) - 1e-9]
    assert found.threshold == (enough[0] if enough else scores.max())


def test_the_promise_holds() -> None:
    """Over many draws of held-out normals, new normals are called anomalous no more often than promised."""
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(400):
        found = calibrate(rng.exponential(size=39).astype(np.float32), 0.1)
        rates.append(math.exp(-found.threshold))  # the chance that a new exponential number lies above it
    assert np.mean(rates) == pytest.approx(0.1, abs=0.01)


def test_a_score_at_the_threshold_is_normal() -> None:
    """In fp32, as the exported graph compares: a threshold read back from JSON flags no more than before."""
    scores = np.array([0.1, 0.2, 0.3], np.float32)
    assert anomalous(scores, float(np.float32(0.2))).tolist() == [False, False, True]


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, math.nan])
def test_impossible_rates(fpr: float) -> None:
    """A rate of 0 needs infinitely many normals."""
    with pytest.raises(UserError, match="false-positive rate: expected a number between 0 and 1"):
        calibrate(np.zeros(9, np.float32), fpr)


def test_nothing_held_out() -> None:
    """No scores, no threshold."""
    with pytest.raises(UserError, match="held-out normals; got none"):
        calibrate(np.zeros(0, np.float32), 0.1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=25), st.integers(-1, 13))
def test_any_threshold_promises_a_rate(values: list[int], threshold: int) -> None:
    """What the slider shows: by trying out every order of n + 1 normals, with ties, and never below 1 / (n + 1)."""
    scores = [value / 8 for value in sorted(values)]
    found = promised_rate(scores, threshold / 8)
    assert found == pytest.approx(float(literal.promised_rate(scores, threshold / 8)))
    assert found >= 1 / (len(values) + 1) - 1e-12


def test_the_promise_holds_at_other_thresholds() -> None:
    """Over many draws, new normals score above the 30th of 39 held-out scores no more often than is promised there."""
    rng = np.random.default_rng(2)
    rates, promised = [], set()
    for _ in range(400):
        found = calibrate(rng.exponential(size=39).astype(np.float32), 0.05)
        threshold = found.scores[29]
        promised.add(found.promised_at(threshold))
        rates.append(math.exp(-threshold))
    assert promised == {0.25} and np.mean(rates) == pytest.approx(0.25, abs=0.02)


def test_scores_are_kept() -> None:
    """To the last bit of fp32, ascending, and back from JSON; a card without them knows its own threshold alone."""
    scores = np.random.default_rng(3).normal(size=50).astype(np.float32)
    found = calibrate(scores, 0.1)
    assert (np.array(found.scores, np.float32) == np.sort(scores)).all()
    stored = json.loads(json.dumps(dataclasses.asdict(found)))
    assert Calibration.from_card(stored) == found and "scores" not in found.figures
    assert found.promised_at(found.threshold) == pytest.approx(found.promised)
    old = Calibration.from_card(found.figures)
    assert old.promised_at(old.threshold) == old.promised and old.promised_at(old.threshold + 1) is None


@pytest.mark.parametrize("scores", [[1.0, 0.5], [0.5], [0.5, float("nan")], ["a", "b"], {"a": 1}, [True, 1.0]])
def test_scores_that_cannot_be(scores: object) -> None:
    """A card that was edited by hand would promise what is not so."""
    stored = {"threshold": 1.0, "fpr": 0.1, "held_out": 2, "promised": 0.1, "scores": scores}
    with pytest.raises((UserError, TypeError)):
        Calibration.from_card(stored)
