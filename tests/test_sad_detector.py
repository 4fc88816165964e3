"""The SAD detector and the registry of detectors."""

import json
from pathlib import Path

import numpy as np
import pytest

from kka.detectors import DETECTORS, build_detector, load_detector
from kka.detectors.sad import SAD
from kka.errors import UserError
from kka.protocols import Detector, Images
from kka.settings.deep_sad import DeepSADSettings

QUICK = DeepSADSettings(epochs=1, pretrain_epochs=1, milestones=(), precision="fp32", device="cpu")


def pictures(n: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def fitted() -> SAD:
    return SAD(settings=QUICK, seed=1).fit(pictures(8), pictures(3, seed=1))


def test_contract(fitted: SAD) -> None:
    """`fit` returns the detector itself; scores are one finite number an image."""
    assert isinstance(fitted, Detector)
    scores = fitted.score(pictures(5, seed=2))
    assert scores.shape == (5,) and np.isfinite(scores).all()


def test_with_eight_normals_and_nothing_else() -> None:
    """The smallest task there is."""
    detector = SAD(settings=QUICK)
    assert detector.fit(pictures(8)) is detector
    assert np.isfinite(detector.score(pictures(4))).all()


def test_survives_save_and_load(fitted: SAD, tmp_path: Path) -> None:
    """By the registry, to the bit, with its settings."""
    fitted.save(tmp_path)
    loaded = load_detector(tmp_path)
    images = pictures(6, seed=3)
    assert (loaded.score(images) == fitted.score(images)).all()
    assert isinstance(loaded, SAD) and loaded.settings == fitted.settings and loaded.seed == 1


def test_a_shared_start_equals_an_own_one(fitted: SAD) -> None:
    """The comparison pretrains once a seed for all arms; an arm must come out as if alone."""
    other = SAD(settings=QUICK, seed=1)
    shared = other.pretrained(other.pretrain(pictures(8))).fit(pictures(8), pictures(3, seed=1))
    images = pictures(6, seed=3)
    assert (shared.score(images) == fitted.score(images)).all()


def test_unknown_detector_lists_the_known() -> None:
    """A misspelt name."""
    with pytest.raises(UserError, match=f"unknown detector: expected one of .*{next(iter(DETECTORS))}.*got 'sda'"):
        build_detector("sda")
    assert isinstance(build_detector("sad", seed=2, settings=QUICK), SAD)


def test_nothing_and_nonsense_to_load(tmp_path: Path) -> None:
    """An empty folder, and a card of a detector that this version does not have."""
    with pytest.raises(UserError, match="found none"):
        load_detector(tmp_path)
    (tmp_path / "detector.json").write_text(json.dumps({"detector": "oracle"}))
    with pytest.raises(UserError, match=r"unknown detector: expected one of .*got 'oracle'"):
        load_detector(tmp_path)
