"""`kka train --reviews`: photos of which a person said what they are, as normals and anomalies to train with."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fakes import small_task
from kka.cli import main
from kka.common.files import sha256
from kka.common.images import decode
from kka.config import DetectorOptions
from kka.data import open_task
from kka.deploy.anomalies import Anomalies
from kka.deploy.marks import MARKS, Mark, add_mark
from kka.deploy.reviewed import TESTED, read_verdicts, with_reviews
from kka.deploy.train import train_detector
from kka.errors import UserError
from kka.run.models import detector_of
from kka.settings.threshold import HELD_OUT
from kka.task import Task

SAD = ["--detector", "sad", "--preset", "cpu", "--set", "epochs=1", "milestones=", "precision=fp32", "--size", "16"]


def task_here() -> Task:
    """24 normals, and a test set; two captions, one of them of most."""
    task = small_task()
    return replace(task, captions=("a flower",) * 20 + ("a rose",) * 4)


def saved(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def mark(file: Path, said: str, *, score: float = 1.0, threshold: float | None = 2.0, at: str = "2026-01-01") -> Mark:
    return Mark(sha256=sha256(file), bytes=file.stat().st_size, path=str(file), said=said, score=score,
                threshold=threshold, at=at)  # fmt: skip


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def test_normals_and_anomalies_join(tmp_path: Path) -> None:
    """New ones join; a normal of the data that is called anomalous changes sides, and an anomaly called normal too."""
    task = task_here()
    pool = np.stack([noise(i) for i in range(5)])
    masks = np.zeros(pool.shape[:3], np.uint8)
    given = Anomalies(images=pool, hard=np.array([True, False, True, False, True]), masks=masks)
    files = {
        "new": saved(tmp_path / "new.png", noise(10)), "odd": saved(tmp_path / "odd.png", noise(11)),
        "mine": saved(tmp_path / "mine.png", task.normals[3]), "known": saved(tmp_path / "known.png", pool[1]),
        "clear": saved(tmp_path / "clear.png", noise(12)), "same": saved(tmp_path / "same.png", task.normals[5]),
    }  # fmt: skip
    said = {"new": "normal", "odd": "anomalous", "mine": "anomalous", "known": "normal", "clear": "anomalous",
            "same": "normal"}  # fmt: skip
    marks = [mark(files[name], what, score=3.0 if name == "clear" else 1.0) for name, what in said.items()]
    with pytest.warns(UserWarning, match="3 photos that were marked anomalous have no mask"):
        joined, anomalies, found, aside = with_reviews(
            task, given, {one.sha256: one for one in marks}, folder=None, caption=None
        )
    assert not aside and anomalies is not None and anomalies.hard is not None and anomalies.masks is not None
    assert (found.normals, found.anomalies, found.no_normals, found.no_anomalies) == (2, 3, 1, 1)
    assert joined.normals.tobytes() == np.concatenate(
        [np.delete(task.normals, 3, axis=0), noise(10)[None], pool[1][None]]
    ).tobytes()
    assert len(joined.captions) == 25 and joined.captions[-2:] == ("a flower", "a flower")
    added = np.stack([noise(11), task.normals[3], noise(12)])
    assert (anomalies.images == np.concatenate([np.delete(pool, 1, axis=0), added])).all()
    assert anomalies.hard.tolist() == [True, True, False, True, True, True, False], "what was missed is hard"
    assert (anomalies.masks[:4] == 0).all() and (anomalies.masks[4:] == 255).all()
    alone = with_reviews(task, None, {marks[1].sha256: marks[1]}, folder=None, caption="x")
    assert alone[0].captions == task.captions and alone[1] is not None and alone[1].masks is None is alone[1].hard


def test_files_are_known_by_content(tmp_path: Path) -> None:
    """A photo that was sorted into another folder is found, one that was changed or is gone is named, and two files of
    one picture are one photo."""
    task = task_here()
    names = ("new/moved", "new/up", "data", "gone")
    places = {name: saved(tmp_path / f"{name}.png", noise(i)) for i, name in enumerate(names)}
    marks = {one.sha256: one for one in (mark(file, "normal") for file in places.values())}
    (tmp_path / "sorted").mkdir()
    (tmp_path / "data/deep/er").mkdir(parents=True)
    places["new/moved"].rename(tmp_path / "sorted/x.png")
    places["new/up"].rename(tmp_path / "y.png")
    places["data"].rename(tmp_path / "data/deep/er/y.png")
    saved(places["gone"], noise(99))
    _, _, found, aside = with_reviews(task, None, marks, folder=tmp_path / "data", caption=None)
    assert found.normals == 3 and [item.path for item in aside] == [str(places["gone"])]
    assert "marked, and not found" in aside[0].reason
    gone = {key: one for key, one in marks.items() if one.path == str(places["gone"])}
    assert with_reviews(task, None, gone, folder=None, caption=None)[2].normals == 0
    twice = [saved(tmp_path / "a.png", noise(5)), tmp_path / "b.bmp"]
    Image.fromarray(noise(5)).save(twice[1])
    _, anomalies, found, _ = with_reviews(
        task, None, {one.sha256: one for one in (mark(twice[0], "normal"), mark(twice[1], "anomalous"))}, folder=None,
        caption=None,
    )  # fmt: skip
    assert (found.normals, found.anomalies) == (0, 1) and anomalies is not None, "the last word"


def test_photos_of_the_test_set_are_refused(tmp_path: Path) -> None:
    """By what they show, whatever file they are: a test photo that was trained with makes its figures worthless."""
    task = task_here()
    assert task.test is not None
    copies = [tmp_path / "copy.bmp", tmp_path / "other.png"]
    for file, image in zip(copies, (task.test.images[0], task.test.images[-1]), strict=True):
        Image.fromarray(image).save(file)
    marks = {one.sha256: one for one in (mark(copies[0], "normal"), mark(copies[1], "anomalous"))}
    joined, anomalies, found, aside = with_reviews(task, None, marks, folder=None, caption=None)
    assert [item.reason for item in aside] == [TESTED, TESTED] and {item.path for item in aside} == {*map(str, copies)}
    assert (found.normals, found.anomalies) == (0, 0) and anomalies is None
    assert (joined.normals == task.normals).all()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marked") / "photos"
    for i, image in enumerate(small_task().normals):
        saved(folder / f"{i:02}.png", image)
    return folder


def trained(photos: Path, out: Path, *more: str) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["train", *SAD, "--data", str(photos), "--out", str(out), "--fpr", "0.2", *more]) == 0
    return out


def test_reviews_change_a_training(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a word that counts, the detector is that of a training without reviews, to the last bit; with some it is
    that of a training with these pictures given by hand, and its card says how many came from a person."""
    file, odd = tmp_path / MARKS, [saved(tmp_path / f"odd/{i}.png", noise(20 + i)) for i in range(4)]
    fine = saved(tmp_path / "fine.png", 255 - small_task().normals[0])
    add_mark(file, mark(odd[0], "anomalous"))
    add_mark(file, mark(odd[0], "no opinion"))
    plain = trained(photos, tmp_path / "plain")
    same = trained(photos, tmp_path / "same", "--reviews", str(file))
    names = [path.name for path in plain.glob("*.safetensors")]
    assert names
    for name in names:
        assert (plain / name).read_bytes() == (same / name).read_bytes()
    assert (plain / "detector.json").read_text() == (same / "detector.json").read_text()
    for one in odd:
        add_mark(file, mark(one, "anomalous"))
    add_mark(file, mark(fine, "normal"))
    capsys.readouterr()
    other = trained(photos, tmp_path / "other", "--reviews", str(file))
    told = capsys.readouterr().out
    assert "normals from reviews" in told and "anomalies from reviews" in told
    card = json.loads((other / "detector.json").read_text())
    counts = card["trained_with"]
    assert counts["reviews"] == {"normals": 1, "anomalies": 4, "no_normals": 0, "no_anomalies": 0}
    assert counts["normals"] + counts["held_out"] == 25 and counts["anomalies"] == 4
    task = open_task(str(photos), describe="a photo", size=16)
    by_hand = replace(task, normals=np.concatenate([task.normals, decode(fine)[None]]), captions=("a photo",) * 25)
    detector = detector_of("sad", DetectorOptions(preset="cpu", set=("epochs=1", "milestones=", "precision=fp32")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train_detector(
            detector, by_hand, Anomalies(images=np.stack([decode(one) for one in odd])), tmp_path / "hand",
            held_out=HELD_OUT, fpr=0.2, seed=0,
        )  # fmt: skip
    for name in names:
        made = (other / name).read_bytes()
        assert made == (tmp_path / "hand" / name).read_bytes() != (plain / name).read_bytes()


def test_files_that_are_no_reviews(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip in the name would else train without what a person said; and a run's reviews are another file."""
    assert main(["train", *SAD, "--data", str(photos), "--reviews", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl is none" in " ".join(capsys.readouterr().err.split())
    run = tmp_path / "reviews.jsonl"
    run.write_text('{"id": "r0-00001", "verdict": "keep", "at": "2026-01-01T00:00:00+00:00"}\n')
    with pytest.warns(UserWarning, match="no mark of a photo"), pytest.raises(UserError, match="--anomalies RUN"):
        read_verdicts(run)
