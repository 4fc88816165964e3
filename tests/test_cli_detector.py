"""`kka train`, `kka score` and `kka export`, as a person uses them, on photos and on the garden."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fakes import small_task
from kka.algorithm import deep_sad
from kka.algorithm.pool import AnomalyPool
from kka.cli import main
from kka.common.images import decode
from kka.config import DetectorOptions
from kka.data import open_task
from kka.deploy.anomalies import Anomalies, read_anomalies
from kka.deploy.calibrate import calibrate
from kka.deploy.chosen import Chosen, keep_chosen
from kka.deploy.score import heat_limits, map_paths, overlay, write_maps
from kka.deploy.stored import open_detector
from kka.deploy.train import hold_out, train_detector
from kka.detectors import load_detector
from kka.errors import UserError
from kka.run.models import detector_of

SAD = ["--detector", "sad", "--preset", "cpu", "--set", "epochs=2", "milestones=", "precision=fp32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 JPEGs without captions, with one damaged file."""
    folder = tmp_path_factory.mktemp("photos") / "möhren und co"
    folder.mkdir()
    for i, image in enumerate(small_task().normals):
        Image.fromarray(image).resize((80, 72)).save(folder / f"teil {i:02}.jpg", quality=95)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`kka train` on the photos with the pool of a run."""
    out = tmp_path_factory.mktemp("trained") / "detector"
    command = ["train", *SAD, "--data", str(photos), "--anomalies", str(finished), "--out", str(out)]
    assert main([*command, "--fpr", "0.2", "--held-out", "0.25", "--seed", "3"]) == 0
    return out


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    text = " ".join(capsys.readouterr().err.split())
    assert code == 2 and "Traceback" not in text, text
    return text


def read(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def test_the_card(trained: Path) -> None:
    """Scoring and export know nothing but the folder: sizes, threshold and a few held-out normals must lie in it."""
    card = json.loads((trained / "detector.json").read_text())
    assert card["image_size"] == [16, 16], "that of the run whose pool it trained with"
    assert card["trained_with"] == {"normals": 18, "held_out": 6, "anomalies": 24}
    assert card["settings"]["epochs"] == 2
    found = card["calibration"]
    assert (found["fpr"], found["held_out"]) == (0.2, 6)
    images = np.stack([decode(f) for f in sorted((trained / "check").glob("*.png"))])
    assert images.shape == (6, 16, 16, 3)
    assert found["threshold"] == calibrate(load_detector(trained).score(images), 0.2).threshold


def test_a_tracker_is_shown_the_detector(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`kka train --track` that trains, and shows nothing of it."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    command = ["train", *SAD, "--data", str(photos), "--out", str(tmp_path / "part"), "--held-out", "0"]
    assert main([*command, "--track", f"tensorboard:{tmp_path / 'logs'}"]) == 0
    events = accumulator.EventAccumulator(str(tmp_path / "logs" / "part"))
    events.Reload()
    losses = json.loads((tmp_path / "part" / "losses.json").read_text())["losses"]
    shown = [(event.step, event.value) for event in events.Scalars("loss/train")]
    assert shown == [(0, pytest.approx(losses[0])), (1, pytest.approx(losses[1]))]
    assert len(losses) == 2 and "settings/text_summary" in events.Tags()["tensors"]
    assert "needs the package" not in capsys.readouterr().err
    assert "expected one of mlflow" in refused([*command, "--track", "board"], capsys)


def test_score(trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file by name, its score as the library gives it, the verdict by the threshold, the bad one set aside."""
    out = tmp_path / "new" / "scores.csv"
    one = tmp_path / "one.png"
    Image.fromarray(np.full((40, 40, 3), (0, 255, 0), np.uint8)).save(one)
    assert main(["score", "--detector-dir", str(trained), str(photos), str(one), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "broken.jpg: not an image" in told.err and "25 images" in told.out and "one.png" in told.out
    rows = read(out)
    assert len(rows) == 25 and list(rows[0]) == ["file", "score", "anomalous"]
    assert rows[-1]["file"] == str(one)
    threshold = json.loads((trained / "detector.json").read_text())["calibration"]["threshold"]
    assert all((np.float32(row["score"]) > np.float32(threshold)) == (row["anomalous"] == "true") for row in rows)
    green = np.full((1, 16, 16, 3), (0, 255, 0), np.uint8)
    assert float(rows[-1]["score"]) == pytest.approx(load_detector(trained).score(green)[0], rel=1e-5)


def test_a_chosen_threshold_counts(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verdicts, the screen and what an export takes follow what a person chose, and say so; the card says no other."""
    folder = tmp_path / "detector"
    shutil.copytree(trained, folder)
    own = open_detector(folder).calibration
    assert own is not None and open_detector(folder).threshold == own.threshold
    keep_chosen(folder, Chosen(threshold=own.scores[1], promised=0.7, by="Ada"))
    found = open_detector(folder)
    assert (found.threshold, found.rate, found.calibration) == (own.scores[1], 0.7, own)
    out = tmp_path / "scores.csv"
    assert main(["score", "--detector-dir", str(folder), str(folder / "check"), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "was chosen by Ada on" in told.err and f"its own is {own.threshold:.6g}" in told.err
    assert sum(row["anomalous"] == "true" for row in read(out)) == 4, "of the six held out, as two are at or below it"
    (folder / "threshold.json").write_text("{}")
    assert "threshold.json" in refused(["score", "--detector-dir", str(folder), str(folder / "check")], capsys)


def test_score_says_what_is_wrong(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No detector, no images, only bad images, maps of a detector that has none."""
    (tmp_path / "bad.png").write_bytes(b"no")
    (tmp_path / "empty").mkdir()
    where = ["score", "--detector-dir", str(trained)]
    assert "detector.json" in refused(["score", "--detector-dir", str(tmp_path), str(tmp_path)], capsys)
    assert "does not exist" in refused([*where, str(tmp_path / "none.png")], capsys)
    assert "found none in" in refused([*where, str(tmp_path / "empty")], capsys)
    assert "none of the 1 files could be read" in refused([*where, str(tmp_path)], capsys)
    assert "leave --maps out" in refused([*where, str(trained / "check"), "--maps", str(tmp_path / "m")], capsys)


def test_export(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without further options: the model beside the detector, checked on the normals kept there."""
    assert main(["export", "--detector-dir", str(trained), "--format", "onnx"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "ms an image on one CPU thread, anomalous above" in told
    assert "on 6 images (normals kept with the detector)" in told
    assert (trained / "model.onnx").is_file() and (trained / "model.json").is_file()


def test_a_runs_detector_scores_and_exports(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a run keeps is of use at once, with a threshold; without one both say how to get one."""
    folder = tmp_path / "detector"
    shutil.copytree(finished / "kept/kka-2/detector", folder)
    card = json.loads((folder / "detector.json").read_text())
    assert card["image_size"] == [16, 16] and card["calibration"]["held_out"] == 5
    assert card["trained_with"] == {"normals": 19, "held_out": 5, "anomalies": 24}
    assert main(["score", "--detector-dir", str(folder), str(folder / "check")]) == 0
    assert "anomalous above" in capsys.readouterr().out
    del card["calibration"]
    (folder / "detector.json").write_text(json.dumps(card))
    out = tmp_path / "scores.csv"
    assert main(["score", "--detector-dir", str(folder), str(folder / "check"), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "kka train --anomalies RUN" in told.err and "verdict" not in told.out
    assert {row["anomalous"] for row in read(out)} == {""}
    assert main(["export", "--detector-dir", str(folder)]) == 0
    assert "a score and no verdict" in " ".join(capsys.readouterr().err.split())


def test_the_garden_with_a_backbone_and_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Test labels give AUROC; a detector that localises gives one overlay an image; the backbone's flags arrive."""
    pytest.importorskip("kka.detectors.simplenet.detector")
    out = tmp_path / "detector"
    command = ["train", "--detector", "simplenet", "--preset", "cpu", "--out", str(out), "--held-out", "0.5"]
    command += ["--set", "epochs=1", "size=32", "crop=32", "--backbone", "mobilenetv2_035"]
    command += ["--backbone-weights", "random", "--backbone-mean", ".5", "--backbone-std", ".5"]
    assert main([*command, "--backbone-padding", "same"]) == 0
    told = capsys.readouterr().out
    assert "AUROC" in told and "AUPR" in told
    card = json.loads((out / "detector.json").read_text())
    assert card["backbone"]["name"] == "mobilenetv2_035" and card["backbone"]["padding"] == "same"
    assert card["backbone"]["mean"] == [0.5] and card["calibration"]["threshold"]
    where = ["score", "--detector-dir", str(out), str(out / "check")]
    assert main([*where, "--maps", str(tmp_path / "maps")]) == 0
    maps = sorted((tmp_path / "maps").glob("*.png"))
    assert len(maps) == 16 and decode(maps[0]).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--detector", "sda"], "unknown detector: expected one of anomalib:<model>, cmda, dfm, patchcore"),
        (["--preset", "gpu"], "unknown preset of sad: expected one of cpu, published, small"),
        (["--set", "epoch=3"], "unknown setting of sad"),
        (["--set", "epochs"], "expected name=value"),
        (["--set", "epochs=0"], "expected epochs to be a whole number from 1 to 100,000; got '0'"),
        (["--backbone", "resnet18"], "leave --backbone out"),
        (["--detector", "simplenet", "--backbone", "mobilenetv2_035", "--backbone-weights", "no.safetensors"],
         "which does not exist"),
        (["--anomalies", "nowhere"], "nowhere, which does not exist"),
        (["--held-out", "1"], "expected held_out to be a number from 0 to below 1; got held_out = 1.0"),
        (["--held-out", "0.99"], "at least 8 normals must remain"),
        (["--fpr", "0"], "expected fpr to be a number above 0 and below 1; got fpr = 0.0"),
        (["--data", "no such folder"], "does not exist"),
    ],
)  # fmt: skip
def test_train_says_what_is_wrong(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any training, in words, and without leaving a folder behind."""
    assert told in refused(["train", "--out", str(tmp_path / "d"), *options], capsys)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trained detector is hours of work."""
    before = (trained / "detector.json").read_bytes()
    assert "holds a detector already" in refused(["train", *SAD, "--out", str(trained)], capsys)
    assert (trained / "detector.json").read_bytes() == before


def test_held_out_copies() -> None:
    """A picture that is in the folder three times is on one side: a memorised one would promise too low a threshold."""
    normals = small_task().normals
    copies = np.concatenate([normals, normals[:6], normals[:6]])
    for seed in range(5):
        kept, held = hold_out(copies, 0.3, seed=seed)
        assert sorted([*kept, *held]) == list(range(36)) and len(held) >= 7
        assert not {copies[i].tobytes() for i in kept} & {copies[i].tobytes() for i in held}
    again = hold_out(copies, 0.3, seed=4)
    assert again[0].tolist() == kept.tolist() != hold_out(copies, 0.3, seed=5)[0].tolist()
    assert len(hold_out(normals, 0.0, seed=0)[1]) == 0


def test_anomalies_from_a_run_a_file_or_a_folder(finished: Path, tmp_path: Path, photos: Path) -> None:
    """The pool with its hard flags, at another size too; a folder's images; an unfinished run is named as one."""
    pool = AnomalyPool.load(finished / "pool.parquet")
    found = read_anomalies(finished, 16)
    assert (found.images == pool.images).all() and found.hard is not None and (found.hard == pool.hard).all()
    assert read_anomalies(finished / "pool.parquet", 32).images.shape == (len(pool), 32, 32, 3)
    plain = read_anomalies(photos, 24)
    assert plain.images.shape == (24, 24, 24, 3) and plain.hard is None and len(plain.set_aside) == 1
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match="a run without a pool yet"):
        read_anomalies(tmp_path, 16)


def test_maps_lie_where_their_photos_do(tmp_path: Path) -> None:
    """Photos of one name in two folders: people must find the map of each, and none may overwrite another."""
    names = ["a/x.jpg", "a/x.png", "a/y.png", "b/y.png", "B/Y.png", "b/x.jpg.png"]
    found = map_paths([tmp_path / name for name in names])
    assert [path.as_posix() for path in found] == [
        "a/x.jpg.png", "a/x.png.png", "a/y.png", "b/y.png.png", "B/Y.png-2.png", "b/x.jpg.png",
    ]  # fmt: skip
    assert map_paths([Path("new.jpg"), Path("more/a.jpg")]) == [Path("new.png"), Path("more/a.png")]
    assert map_paths([Path("../other/new.jpg")]) == [Path("new.png")] and map_paths([]) == []
    images, heat = np.zeros((6, 4, 4, 3), np.uint8), np.ones((6, 4, 4))
    write_maps([tmp_path / "maps" / path for path in found], images, heat, (0.0, 1.0))
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 6


def test_copies_of_one_photo_are_named_as_the_cause() -> None:
    """"Add photos" does not help who has a hundred copies of one."""
    with pytest.raises(UserError, match=r"they are 1 different pictures, copied\)\. Add different photos"):
        hold_out(np.zeros((20, 4, 4, 3), np.uint8), 0.2, seed=0)


def test_overlay() -> None:
    """Where nothing is hot the picture stays, in grey; where it is hottest it is red."""
    image = np.full((4, 4, 3), (10, 20, 30), np.uint8)
    limits = heat_limits(np.array([[[0.0, 1.0], [1.0, 2.0]]]))
    assert limits == (1.0, 3.0) and heat_limits(np.array([[[0.0, 1.0], [1.0, 2.0]]]), 1.5) == (1.5, 2.0)
    heat = np.zeros((4, 4))
    heat[0, 0] = 9
    made = overlay(image, heat, limits)
    assert (made[1:] == 20).all() and made[0, 0, 0] > 60 and made[0, 0, 0] > 2 * made[0, 0, 1]


def test_test_images_are_no_anomalies(tmp_path: Path) -> None:
    """A folder of anomalies that holds test images too would make the figures of that test set worthless."""
    task = small_task()
    assert task.test is not None
    images = np.concatenate([task.test.images[20:23], task.normals[:2] // 2])
    detector = detector_of("sad", DetectorOptions(preset="cpu", set=("epochs=1", "milestones=")))
    with pytest.warns(UserWarning, match="3 of 5 anomalies are test images"):
        facts = train_detector(
            detector, task, Anomalies(images=images), tmp_path / "d", held_out=0.5, fpr=0.2, seed=0
        )
    assert facts.anomalies == 2 and 0 <= facts.figures["auroc"] <= 1


def test_held_out_normals_are_no_anomalies(tmp_path: Path) -> None:
    """A copy of a held-out normal that training calls anomalous would raise the threshold."""
    task = small_task()
    images = np.concatenate([task.normals, task.normals[:2] // 2])
    n = len(task.normals)
    detector = detector_of("sad", DetectorOptions(preset="cpu", set=("epochs=1", "milestones=")))
    with pytest.warns(UserWarning) as told:
        facts = train_detector(
            detector, task, Anomalies(images=images), tmp_path / "d", held_out=0.5, fpr=0.2, seed=0
        )
    messages = [str(warning.message) for warning in told]
    held = facts.held_out
    assert any(f"{held} of {n + 2} anomalies are copies of held-out normals" in message for message in messages)
    assert any(f"{n - held} of {n + 2 - held} anomalies are copies of normals" in message for message in messages)


def test_a_training_that_diverges_leaves_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was kept, and called every image normal; and its folder must not stand in the way of the corrected command."""
    out = tmp_path / "detector"
    command = ["train", *SAD, "--data", str(photos), "--out", str(out), "--fpr", "0.3"]
    loss = deep_sad.deep_sad_loss
    with monkeypatch.context() as patch:
        patch.setattr(deep_sad, "deep_sad_loss", lambda *given: loss(*given) * float("inf"))
        told = refused(command, capsys)
    assert "the training loss of epoch 1" in told and "finite numbers; got" in told and "lower learning rate" in told
    assert not list(tmp_path.iterdir())
    assert main(command) == 0 and (out / "detector.json").is_file()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_size": [1e6, 1e6]}, 'expected "image_size": [h, w] with h = w, 1 to 4096'),
        ({"image_size": [1000000, 1000000]}, "got [1000000, 1000000]"),
        ({"image_size": [16, 32]}, "got [16, 32]"),
        ({"image_size": "16"}, "got 16"),
        ({"white": 0}, 'expected "white" to be a whole number from 1 to 65535; got 0'),
        ({"white": 4095.5}, "got 4095.5"),
        ({"calibration": {"threshold": float("nan"), "fpr": 0.1, "held_out": 9, "promised": 0.1}}, "got NaN"),
        ({"calibration": {"threshold": 1e300, "fpr": 0.1, "held_out": 9, "promised": 0.1}}, "expected threshold to be"),
        ({"calibration": {"threshold": "0.5", "fpr": 0.1, "held_out": 9, "promised": 0.1}}, "train the detector again"),
        ({"calibration": {"threshold": 0.5, "fpr": 7.0, "held_out": 9, "promised": 0.1}}, "expected fpr to be"),
        ({"calibration": {"treshold": 0.5}}, "detector.json: "),
    ],
)
def test_a_card_that_cannot_be_is_refused(
    change: dict[str, object], told: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A NaN threshold made every image normal, and a size of a million pixels hung."""
    folder = tmp_path / "detector"
    shutil.copytree(trained, folder)
    card = json.loads((folder / "detector.json").read_text())
    (folder / "detector.json").write_text(json.dumps(card | change))
    assert told in refused(["score", "--detector-dir", str(folder), str(trained / "check")], capsys)


def test_12_bit_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine-vision camera's 12 bits in 16 are seen in full, in training and in scoring; what is beyond is named."""
    photos, out = tmp_path / "photos", tmp_path / "detector"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        values = (400 + 3600 * rng.random((40, 40))).astype(np.uint16)
        Image.fromarray(values).save(photos / f"{i:02}.png")
    assert main(["train", *SAD, "--data", str(photos), "--out", str(out), "--fpr", "0.4"]) == 0
    capsys.readouterr()
    assert json.loads((out / "detector.json").read_text())["white"] == 4095
    task = open_task(str(photos), describe="a part", size=40)
    assert task.white == 4095 and task.normals.max() > 245
    assert "read as 12-bit, 0 black and 4,095 white" in " ".join(task.details["notes"])  # type: ignore[arg-type]
    Image.fromarray(values * 4).save(tmp_path / "beyond.png")
    assert main(["score", "--detector-dir", str(out), str(tmp_path / "beyond.png"), str(photos / "00.png")]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "clipped: " in told and "beyond.png: 16-bit values beyond 4,095" in told and "00.png" not in told
