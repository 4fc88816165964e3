"""What imagined anomalies were worth, by pictures that no training has seen: the interval, the words, what is kept."""

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import FAST, run_fake, small_task
from kka.algorithm.folder import RunFolder, pool_stage
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.common.store import Store
from kka.deploy.anomalies import Anomalies
from kka.deploy.worth import LEAST, Worth, weigh
from kka.protocols import Images
from kka.run import kept
from kka.run.kept import keep_detector, unseen_anomalies

WORTH = Worth(normals=40, anomalies=30, without=0.8, trained=0.85, low=-0.01, high=0.1)


def test_the_figures_are_the_literal_ones() -> None:
    """AUROC by counting pairs, and a bootstrap that draws pictures one by one."""
    rng = np.random.default_rng(0)
    without = rng.normal(0, 1, 25), rng.normal(0.5, 1, 30)
    trained = without[0] + rng.normal(0, 0.2, 25), without[1] + rng.normal(0.6, 0.2, 30)

    def literal(normals: np.ndarray, anomalies: np.ndarray) -> float:
        return float(np.mean([(b > a) + (b == a) / 2 for a, b in product(normals, anomalies)]))

    found = weigh(without, trained)
    assert (found.normals, found.anomalies) == (25, 30)
    assert found.without == pytest.approx(literal(*without)) and found.trained == pytest.approx(literal(*trained))
    drawn = []
    for _ in range(2000):
        i, j = rng.integers(0, 25, 25), rng.integers(0, 30, 30)
        drawn.append(literal(trained[0][i], trained[1][j]) - literal(without[0][i], without[1][j]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)
    assert weigh(without, trained) == found
    same = weigh(without, without)
    assert (same.low, same.high) == (0, 0) and not same.harm


def test_the_tiles_of_a_photo_are_drawn_together() -> None:
    """Copies of a picture add nothing that is known: the interval stays that of the photos."""
    rng = np.random.default_rng(0)
    without = rng.normal(0, 1, 12), rng.normal(0.5, 1, 15)
    trained = without[0] + rng.normal(0, 0.5, 12), without[1] + rng.normal(0.3, 0.5, 15)
    alone = weigh(without, trained)
    nine = [tuple(np.repeat(of, 9) for of in scores) for scores in (without, trained)]
    photos = np.repeat(np.arange(12), 9), np.repeat(np.arange(15) + 5, 9)
    tiles = weigh(*nine, photos=photos)
    assert (tiles.normals, tiles.anomalies) == (108, 135)
    assert (tiles.low, tiles.high) == pytest.approx((alone.low, alone.high), abs=1e-6)
    as_if_apart = weigh(*nine)
    assert as_if_apart.high - as_if_apart.low < 0.6 * (tiles.high - tiles.low)


def test_photos_of_several_sizes_weigh_by_their_tiles() -> None:
    """A literal bootstrap of photos with 1 to 5 tiles each."""
    rng = np.random.default_rng(1)
    of = tuple(np.repeat(np.arange(k), rng.integers(1, 6, k)) for k in (14, 11))
    without = tuple(rng.normal(shift, 1, len(photos)) for shift, photos in zip((0, 0.5), of, strict=True))
    trained = tuple(
        scores + rng.normal(shift, 0.4, len(scores)) for shift, scores in zip((0, 0.3), without, strict=True)
    )
    found = weigh(without, trained, photos=of)  # type: ignore[arg-type]
    drawn = []
    for _ in range(2000):
        some = []
        for photos in of:
            chosen = rng.integers(0, photos.max() + 1, photos.max() + 1)
            some.append(np.concatenate([np.flatnonzero(photos == photo) for photo in chosen]))
        pairs = [scores[1][some[1]][:, None] > scores[0][some[0]] for scores in (without, trained)]
        one, other = (float(wins.mean()) for wins in pairs)
        drawn.append(other - one)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.02)


def test_ties_count_half() -> None:
    zeros = np.zeros(20), np.zeros(20)
    assert weigh(zeros, zeros).without == 0.5
    worse = weigh((np.zeros(20), np.ones(20)), zeros)
    assert (worse.without, worse.trained, worse.low, worse.high) == (1, 0.5, -0.5, -0.5) and worse.harm


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "no difference"),
        ({"low": 0.01}, "taught it something"),
        ({"trained": 0.7, "low": -0.2, "high": -0.01}, "did harm, and the detector that is kept was trained without"),
        ({"trained": 0.55, "without": 0.5}, "hardly tells them from normals"),
        ({"trained": 0.5, "without": 0.55, "high": -0.01}, "hardly tells them from normals"),
    ],
)
def test_it_is_said_in_words(changed: dict[str, float], words: str) -> None:
    assert words in replace(WORTH, **changed).sentence()  # type: ignore[arg-type]
    assert "30 imagined anomalies against 40 normals" in WORTH.sentence() and "80.0" in WORTH.sentence()


def weighed(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())["worth"]
    return found


@pytest.fixture
def more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LEAST", 2)  # the fakes' task has few normals
    monkeypatch.setattr(kept, "HELD_OUT", 0.4)


def test_a_run_says_it_and_keeps_the_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where they did harm, the detector that is kept is the one that trained on normals alone."""
    run_fake(FAST, tmp_path / "plain")
    found = weighed(tmp_path / "plain")
    assert found["normals"] >= 2 and found["anomalies"] >= 2
    asked: list[int] = []

    def harmful(without: Any, trained: Any, **_: Any) -> Worth:
        asked.append(len(without[0]))
        assert len(without[0]) == len(trained[0]) and len(without[1]) == len(trained[1])
        return replace(WORTH, low=-0.2, high=-0.1)

    monkeypatch.setattr(kept, "weigh", harmful)
    run_fake(FAST, tmp_path / "harm", report=True)
    assert len(asked) == 1 and weighed(tmp_path / "harm")["high"] == -0.1
    files = [tmp_path / name / "kept/kka-2/detector/detector.json" for name in ("plain", "harm")]
    cards = [json.loads(file.read_text()) for file in files]
    assert [card["trained_with"]["anomalies"] > 0 for card in cards] == [True, False]
    assert not (tmp_path / "harm" / "kept/kka-2/without").exists()
    assert "they did harm" in (tmp_path / "harm" / "report.html").read_text(encoding="utf-8")


def test_too_few_say_nothing(finished: Path) -> None:
    assert weighed(finished) is None
    assert LEAST == 20


def test_unseen_are_those_that_did_not_stay(finished: Path) -> None:
    """Of pictures drawn from nothing; by what they show, not by their names."""
    made = RunFolder(finished)
    held = np.arange(3)
    everything, pool = made.everything(), made.pool(made.last_round)
    pooled = {entry.key for entry in pool.entries}
    expected = [image for entry, image in zip(everything.entries, everything.images, strict=True)
                if entry.key not in pooled]  # fmt: skip
    found = unseen_anomalies(made, held, small_task().normals[held]).images
    assert len(found) == len(expected) > 0
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


class Brightness:
    """Scores by brightness; what it writes cannot be read again, as it has no `load`."""

    def fit(self, normals: Images, anomalies: Images | None = None) -> "Brightness":
        self.mean = float(normals.mean()) if anomalies is None else -float(anomalies.mean())
        return self

    def score(self, images: Images) -> np.ndarray:
        return (np.sign(self.mean) * images.mean(axis=(1, 2, 3))).astype(np.float32)

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)


def test_a_detector_that_cannot_be_read_again(finished: Path, tmp_path: Path, more: None) -> None:
    """It is weighed as it was trained: a comparison must not end in an error after all its work."""
    shutil.copytree(finished, tmp_path / "run")
    made = RunFolder(tmp_path / "run")
    config = made.config().as_dict()
    with Store(made.root, config, resume=True) as store:
        keep_detector(
            small_task(), lambda: Anomalies.of_pool(made.pool(2), None), arm="own", source=pool_stage(2),
            build=Brightness, store=store,
        )  # fmt: skip
    found = json.loads((made.root / "kept/own/worth.json").read_text())
    assert found["without"] == pytest.approx(1 - found["trained"])  # one's scores are the other's, turned round


def test_of_a_pool_only_what_training_leaves_out_is_unseen(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image model of a person's own may change what its mask does not mark: then the detector trains with it."""
    made, normals = RunFolder(finished), small_task().normals
    images, masks = normals[:4].copy(), np.zeros(normals.shape[:3], np.uint8)[:4]
    images[:, :5, :5], masks[:, :5, :5] = 255, 255
    images[1, 10, 10] ^= 255  # beyond the mask
    entries = tuple(
        Lineage(id=f"r0-{i}", round=0, prompt="p", caption="c", seed=i, language_model="l", image_model="m",
                key=f"k{i}", normal=i)
        for i in range(4)
    )  # fmt: skip
    monkeypatch.setattr(RunFolder, "everything", lambda self: AnomalyPool(entries, images, masks))
    monkeypatch.setattr(RunFolder, "lineage", lambda self, number: entries[:2])
    found = unseen_anomalies(made, np.arange(3), normals[:3])
    assert np.array_equal(found.images, images[[0, 2]])
