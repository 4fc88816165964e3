"""A few real defects at hand: what a detector finds of them, the threshold they set, and that they train nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import FAST, run_fake, small_task
from kka.algorithm.folder import RunFolder
from kka.cli import main
from kka.deploy.anomalies import Anomalies
from kka.deploy.calibrate import Calibration
from kka.deploy.defects import FEW, Caught, Defects, catch, read_defects
from kka.deploy.stored import open_detector
from kka.errors import UserError
from test_painted_run import plate

QUICK = ["--preset", "cpu", "--set", "epochs=2", "milestones=", "precision=fp32", "--fpr", "0.3"]
OF_NORMALS = Calibration(threshold=0.8, fpr=0.2, held_out=9, promised=0.2)


def write(folder: Path, photos: dict[str, np.ndarray]) -> Path:
    for name, photo in photos.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(folder / name)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """16 plates, and a test set whose defects are darker."""
    good = {f"photos/train/good/{i}.png": plate(20, 20, i) for i in range(16)}
    tested = {f"photos/test/good/{i}.png": plate(20, 20, 50 + i) for i in range(4)}
    tested |= {f"photos/test/dark/{i}.png": plate(20, 20, 60 + i) // 2 for i in range(4)}
    return write(tmp_path, good | tested) / "photos"


@pytest.fixture
def defects(tmp_path: Path) -> Path:
    """Six, of two kinds, one with a mask; one that is a test picture, one a normal, one twice, one damaged."""
    mask = np.zeros((20, 20), np.uint8)
    mask[5:9, 5:9] = 255
    files = {f"own/dark/{i}.png": plate(20, 20, 70 + i) // 3 for i in range(4)}
    files |= {f"own/light/{i}.png": 255 - plate(20, 20, 80 + i) // 3 for i in range(2)}
    files |= {"own/ground_truth/dark/0_mask.png": mask, "own/dark/again.png": files["own/dark/1.png"]}
    files |= {"own/light/tested.png": plate(20, 20, 61) // 2, "own/light/normal.png": plate(20, 20, 3)}
    folder = write(tmp_path, files) / "own"
    (folder / "dark" / "broken.png").write_bytes(b"")
    return folder


def test_only_photos_of_neither_side_are_read(photos: Path, defects: Path) -> None:
    """A test picture that sets a threshold, or trains, makes the test's figures worthless."""
    from kka.data import open_task

    task = open_task(str(photos), describe="x", size=20)
    found = read_defects(defects, task)
    assert sorted(found.kinds) == ["dark"] * 4 + ["light"] * 2
    assert {item.path: item.reason for item in found.set_aside} == {
        "dark/broken.png": "the file is empty",
        "light/tested.png": "the same picture as a picture of the test set: it is not used as a defect",
        "light/normal.png": "the same picture as one of the normals: it is not used as a defect",
        "dark/again.png": "the same picture as the defect dark/1.png: it is not used as a defect",
    }
    assert found.masked.tolist() == [kind == "dark" and i == 0 for i, kind in enumerate(found.kinds)]
    assert (found.masks[0] > 0).sum() == 16
    trained = Anomalies(images=found.images[1:])
    assert len(read_defects(defects, task, trained).images) == 1
    with pytest.raises(UserError, match="in neither training nor test"):
        read_defects(photos / "test" / "dark", task)
    with pytest.raises(UserError, match="expected a folder of photos of defects"):
        read_defects(defects / "none", task)


def test_they_train_nothing_unless_asked(
    photos: Path, defects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights and the same threshold with and without them; others where they are trained with."""
    (defects / "dark" / "broken.png").unlink()
    odd = write(tmp_path, {f"odd/{i}.png": plate(20, 20, 30 + i) * 2 for i in range(6)}) / "odd"
    command = ["train", "--data", str(photos), "--size", "20", "--anomalies", str(odd), *QUICK]
    weights, cards = {}, {}
    for name, more in {
        "without": [], "with": ["--defects", str(defects)],
        "trained": ["--defects", str(defects), "--train-on-defects"],
    }.items():  # fmt: skip
        out = tmp_path / name
        assert main([*command, "--out", str(out), *more]) == 0
        weights[name] = (out / "deep_sad.safetensors").read_bytes()
        cards[name] = json.loads((out / "detector.json").read_text())
        said = capsys.readouterr()
        assert ("defects at hand" in said.out) == (name != "without")
        assert ("light/tested.png" in said.err) == (name != "without")
    assert weights["without"] == weights["with"] != weights["trained"]
    assert cards["without"]["calibration"] == cards["with"]["calibration"] and "defects" not in cards["without"]
    assert cards["with"]["trained_with"]["anomalies"] == 6 and cards["with"]["defects"]["trained_with"] == 0
    assert cards["trained"]["trained_with"]["anomalies"] == 12 == 2 * cards["trained"]["trained_with"]["real_defects"]
    assert cards["trained"]["defects"]["threshold"] is None and cards["with"]["defects"]["threshold"] is not None
    _scores_by_their_threshold(tmp_path, defects, capsys)


def _scores_by_their_threshold(tmp_path: Path, defects: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv = tmp_path / "scores.csv"
    score = ["score", str(defects / "dark"), str(defects / "light" / "0.png"), str(defects / "light" / "1.png")]
    for name in ("without", "trained"):
        assert main([*score, "--detector-dir", str(tmp_path / name), "--threshold", "defects"]) == 2
        told = capsys.readouterr().err
        assert "without --defects" in told if name == "without" else "promises nothing of others" in told
    assert main([*score, "--detector-dir", str(tmp_path / "with"), "--threshold", "defects", "--out", str(csv)]) == 0
    rows = csv.read_text().splitlines()[1:]
    assert len(rows) == 7 and all(row.endswith(",true") for row in rows)
    kept = open_detector(tmp_path / "with")
    assert kept.caught is not None and kept.calibration is not None
    lower = kept.by("defects").threshold
    assert lower is not None and lower < kept.caught.lowest and kept.by(None) is kept


def test_the_threshold_that_catches_them_all() -> None:
    """It is the highest that does, what it promises is the rank's, and the cost is counted on held-out normals."""
    held = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], np.float32)
    scores = np.array([0.55, 3.0, 0.9, 0.75, 2.0], np.float32)
    found = catch(scores, ["a", "a", "b", "a", "b"], held, OF_NORMALS)
    assert (found.defects, found.caught, found.kinds) == (5, 3, {"a": [1, 3], "b": [2, 2]})
    assert found.threshold is not None
    assert (scores > np.float32(found.threshold)).all() and not (scores > np.float32(0.55)).all()
    assert found.recall == pytest.approx(5 / 6) and found.fpr == pytest.approx(4 / 9)
    # Clopper-Pearson: the largest rate at which 4 or fewer of 9 still come with a chance of one in twenty.
    rate = found.fpr_most
    assert rate is not None
    chance = sum(_choose(9, k) * rate**k * (1 - rate) ** (9 - k) for k in range(5))
    assert chance == pytest.approx(0.05, abs=1e-6)
    told = " ".join(found.sentences(OF_NORMALS))
    assert "Of 5 defects at hand the threshold catches 3" in told and "a 1 of 3" in told and "at least 83 %" in told
    few = catch(scores[: FEW - 1], ["a"] * (FEW - 1), held, OF_NORMALS)
    assert few.threshold is None and "too few" in " ".join(few.sentences(OF_NORMALS))
    trained = catch(scores, ["a"] * 5, held, OF_NORMALS, trained_with=5)
    assert trained.threshold is None and "promises nothing" in " ".join(trained.sentences(OF_NORMALS))
    assert catch(scores - 1, ["a"] * 5, held, OF_NORMALS).fpr_most == 1.0
    with pytest.raises(UserError, match=r"no number|not a number|numbers"):
        catch(np.array([np.nan], np.float32), ["a"], held, OF_NORMALS)
    with pytest.raises(UserError, match="expected threshold to be a number"):
        Caught(defects=1, caught=0, lowest=0.0, threshold=float("nan"))


def test_a_defect_is_caught_however_its_score_is_worked_out() -> None:
    """Alone, in a batch, on a GPU or exported a score differs in its last digits; export allows a ten-thousandth."""
    scores = np.array([0.55, 3.0, 0.9, 0.75, 2.0], np.float32)
    found = catch(scores, ["a"] * 5, np.array([0.1, 0.5], np.float32), OF_NORMALS).threshold
    assert found is not None and 0.54 < found < 0.55 * (1 - 1e-4)
    far = catch(-100 * scores, ["a"] * 5, np.array([0.1, 0.5], np.float32), OF_NORMALS).threshold
    assert far is not None and -310 < far < -300 * (1 + 1e-4)


def test_defects_that_are_trained_with_say_nothing(photos: Path, defects: Path) -> None:
    """A pool may hold the very photos: that the detector catches these promises nothing of others."""
    from kka.data import open_task

    found = read_defects(defects, open_task(str(photos), describe="x", size=20))
    other = Anomalies(images=255 - found.images)
    assert found.apart_from(other) is found
    with pytest.warns(UserWarning, match="2 of 6 defects are among the anomalies"):
        rest = found.apart_from(Anomalies(images=np.concatenate([other.images, found.images[1:3]])))
    assert rest is not None and rest.kinds == (found.kinds[0], *found.kinds[3:])
    assert np.array_equal(rest.images, found.images[[0, 3, 4, 5]])
    with pytest.warns(UserWarning, match="6 of 6 defects"):
        assert found.apart_from(Anomalies(images=found.images)) is None


def _choose(n: int, k: int) -> float:
    return float(np.prod([(n - i) / (i + 1) for i in range(k)]))


def test_masks_decide_which_join() -> None:
    """One whose place is not known would teach a detector of patches that all of it is anomalous."""
    images = np.zeros((2, 8, 8, 3), np.uint8)
    own = Defects(
        images=images, masks=np.full((2, 8, 8), 9, np.uint8), masked=np.array([True, False]), kinds=("a", "a")
    )
    pool = Anomalies(images=images, masks=np.ones((2, 8, 8), np.uint8), hard=np.array([True, False]))
    joined, number = own.joined(pool, by_masks=True)
    assert number == 1 and len(joined.images) == 3 and joined.masks is not None and joined.hard is not None
    assert joined.hard.tolist() == [True, False, False] and joined.masks[2].max() == 9
    joined, number = own.joined(pool, by_masks=False)
    assert number == 2 and len(joined.images) == 4 and joined.masks is None
    joined, number = own.joined(None, by_masks=True)
    assert number == 2 and joined.masks is None


def test_a_run_keeps_them_apart(tmp_path: Path) -> None:
    """Pool, arms and the kept detector are as without them; asked to, the kept detector alone is another."""
    task = small_task(test=False)
    own = write(tmp_path, {f"own/{i}.png": np.full((16, 16, 3), 40 * i, np.uint8) for i in range(6)}) / "own"
    Image.fromarray(task.normals[20]).save(own / "normal.png")
    config = replace(FAST, rounds=0, initial=10)
    summaries: dict[str, Any] = {}
    for name, more in {"without": {}, "with": {"defects": str(own)},
                       "trained": {"defects": str(own), "train_on_defects": True}}.items():  # fmt: skip
        changed: Any = more
        out = tmp_path / name
        summaries[name] = run_fake(replace(config, **changed), out, task=lambda: task, report=name == "with")

    def weights(name: str, arm: str) -> bytes:
        return (tmp_path / name / arm / "detector" / "deep_sad.safetensors").read_bytes()

    for name in ("with", "trained"):
        assert weights(name, "arms/kka-0/seed-0") == weights("without", "arms/kka-0/seed-0")
        assert (tmp_path / name / "pool.parquet").read_bytes() == (tmp_path / "without" / "pool.parquet").read_bytes()
        assert summaries[name]["defects"]["set_aside"][0]["path"] == "normal.png"
    assert weights("with", "kept/kka-0") == weights("without", "kept/kka-0") != weights("trained", "kept/kka-0")
    kept = open_detector(RunFolder(tmp_path / "with").kept("kka-0"))
    assert kept.caught is not None and kept.caught.defects == 6 and kept.caught.threshold is not None
    page = (tmp_path / "with" / "report.html").read_text(encoding="utf-8")
    assert "Defects at hand" in page and "A second threshold" in page and "normal.png" in page
    with pytest.raises(UserError, match="beside train_on_defects"):
        replace(config, train_on_defects=True)
