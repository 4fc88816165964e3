"""Masks read as masks, at the fit of their photos; labels of scored files by their folders; figures from both."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kka.common.inspection import GOOD
from kka.common.masks import read_mask
from kka.data import open_task
from kka.deploy.calibrate import Calibration
from kka.deploy.inspect import inspect_test
from kka.deploy.labels import inspect_files, labels_of
from kka.deploy.score import score_files
from kka.deploy.stored import StoredDetector
from kka.protocols import Images, Scores
from kka.settings.fit import Fit


class Bright:
    """The score of a pixel is its red; that of a picture its brightest pixel."""

    def fit(self, normals: Images, anomalies: Images | None = None) -> "Bright":
        return self

    def score(self, images: Images) -> Scores:
        return images[..., 0].max(axis=(1, 2)).astype(np.float32)

    def score_map(self, images: Images) -> np.ndarray:
        return images[..., 0].astype(np.float32)

    def save(self, path: Path) -> None: ...


def photo(file: Path, spot: tuple[int, int] | None = None, *, value: int = 250, grey: int = 90) -> None:
    """40 x 20 pixels, with a bright spot of 4 x 4 whose upper left corner is at (column, row)."""
    image = np.full((20, 40, 3), grey, np.uint8)
    if spot is not None:
        image[spot[1] : spot[1] + 4, spot[0] : spot[0] + 4] = value
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


def mask(file: Path, spot: tuple[int, int], *, marked: int = 255) -> None:
    values = np.zeros((20, 40), np.uint8)
    values[spot[1] : spot[1] + 4, spot[0] : spot[0] + 4] = marked
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file)


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten good photos to train with, four good ones to test, two holes (one at the edge), two that are faint."""
    root = tmp_path_factory.mktemp("mvtec")
    for i in range(10):
        photo(root / f"train/good/{i}.png", grey=80 + i)
    for i in range(4):
        photo(root / f"test/good/{i}.png", grey=60 + i)
    for i, spot in enumerate([(0, 8), (20, 8)]):
        photo(root / f"test/hole/{i}.png", spot)
        mask(root / f"ground_truth/hole/{i}_mask.png", spot)
    for i in range(2):
        photo(root / f"test/faint/{i}.png", (20, 4 * i), value=85, grey=50)
        if i == 0:
            mask(root / f"ground_truth/faint/{i}_mask.png", (20, 0), marked=1)
    return root


@pytest.mark.parametrize(("fit", "rows", "columns"), [
    ("squash", (8, 12), (0, 2)), ("pad", (9, 11), (0, 2)), ("crop", None, None),
])  # fmt: skip
def test_a_mask_goes_where_its_photo_goes(
    mvtec: Path, fit: Fit, rows: tuple[int, int] | None, columns: tuple[int, int] | None
) -> None:
    """By hand: at 20 pixels a side the 4 x 4 spot of a 40 x 20 photo is 2 wide, and 4 or 2 high; a crop loses it."""
    found = read_mask([mvtec / "ground_truth/hole/0_mask.png"], mvtec / "test/hole/0.png", 20, fit)
    assert found is not None and found.any() == (rows is not None)
    if rows is not None and columns is not None:
        wanted = np.zeros((20, 20), bool)
        wanted[rows[0] : rows[1], columns[0] : columns[1]] = True
        assert (found == wanted).all()


def test_what_masks_there_are(tmp_path: Path) -> None:
    """Several masks are one together; 0 and 1 mark as 0 and 255 do; a tiny defect stays; another shape is no mask."""
    photo(tmp_path / "a.png")
    mask(tmp_path / "m1.png", (0, 0), marked=1)
    mask(tmp_path / "m2.png", (36, 16))
    both = read_mask([tmp_path / "m1.png", tmp_path / "m2.png"], tmp_path / "a.png", 20, "squash")
    assert both is not None and both[:4, :2].all() and both[16:, 18:].all() and both.sum() == 16
    dot = np.zeros((20, 40), np.uint8)
    dot[7, 11] = 255
    Image.fromarray(dot).save(tmp_path / "dot.png")
    tiny = read_mask([tmp_path / "dot.png"], tmp_path / "a.png", 5, "squash")
    assert tiny is not None and np.argwhere(tiny).tolist() == [[1, 1]]
    Image.fromarray(dot[:, :20]).save(tmp_path / "other.png")
    (tmp_path / "bad.png").write_bytes(b"no")
    for name in ("other.png", "bad.png"):
        assert read_mask([tmp_path / name], tmp_path / "a.png", 20, "squash") is None
    assert not read_mask([], tmp_path / "a.png", 20, "squash").any()  # type: ignore[union-attr]


def test_a_mask_of_what_the_camera_stored_is_turned(tmp_path: Path) -> None:
    """Cameras turn photos by EXIF; a mask drawn before or after that must lie on the same place of the shown photo."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = np.full((20, 40, 3), 90, np.uint8)
    image[0:4, 0:4] = 250
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    mask(tmp_path / "stored.png", (0, 0))
    shown = Image.open(tmp_path / "stored.png").transpose(Image.Transpose.ROTATE_270)
    shown.save(tmp_path / "shown.png")
    bright = np.asarray(Image.open(tmp_path / "a.png").transpose(Image.Transpose.ROTATE_270).convert("L")) > 200
    for name in ("stored.png", "shown.png"):
        found = read_mask([tmp_path / name], tmp_path / "a.png", 40, "pad")
        assert found is not None and (found[:, 10:30] == bright).all()


def test_a_task_has_the_masks_of_its_test_photos(mvtec: Path) -> None:
    """Known of all but the anomaly without one, which is said; a crop says how many defects it cuts away."""
    task = open_task(str(mvtec), describe="a photo", size=20)
    test = task.test
    assert test is not None and test.masks is not None and test.masked is not None and task.fit == "squash"
    marked: dict[str, list[int]] = {kind: [] for kind in test.kinds}
    for kind, found in zip(test.kinds, test.masks, strict=True):
        marked[kind].append(int(found.sum()))
    assert marked == {"good": [0] * 4, "hole": [8, 8], "faint": [8, 0]}
    assert test.masked.sum() == 7 and "1 of 4 anomalies have no mask" in " ".join(task.details["notes"])  # type: ignore[arg-type]
    cropped = open_task(str(mvtec), describe="a photo", size=20, fit="crop")
    assert "of 1 of 4 anomalies nothing that their masks mark is left" in " ".join(cropped.details["notes"])  # type: ignore[arg-type]


def test_figures_of_a_test_set_by_kind(mvtec: Path) -> None:
    """A detector that sees bright spots finds every hole, to the pixel, and misses what is faint."""
    task = open_task(str(mvtec), describe="a photo", size=20)
    assert task.test is not None
    detector = Bright()
    rows = {row.kind: row for row in inspect_test(detector, task.test, detector.score(task.test.images), 89.0)}
    assert list(rows) == [GOOD, "all defects", "faint", "hole"]
    assert rows["hole"].figures["aupro"].value == pytest.approx(1) and rows["hole"].figures["miss_rate"].value == 0
    assert rows["faint"].figures["miss_rate"].value == 1 and rows[GOOD].figures["false_positive_rate"].value == 0
    assert rows["all defects"].figures["pixel_auroc"].low <= rows["all defects"].figures["pixel_auroc"].value <= 1


def test_folders_say_what_scored_files_are(mvtec: Path, tmp_path: Path) -> None:
    """The test folder alone finds the masks beside it; training photos and folders that say nothing are left out."""
    for named in (mvtec, mvtec / "test"):
        found = labels_of([named])
        kinds = sorted(label.kind for label in found.values())
        assert kinds == ["faint"] * 2 + ["good"] * 4 + ["hole"] * 2
        assert len(found[(mvtec / "test/hole/1.png").resolve()].masks) == 1
    photo(tmp_path / "cam1/a.png")
    photo(tmp_path / "OK/a.png")
    photo(tmp_path / "NG/scratch/a.png")
    named = {file.parent.name: label.kind for file, label in labels_of([tmp_path]).items()}
    assert named == {"OK": "good", "scratch": "scratch"} and labels_of([tmp_path / "OK/a.png"]) == {}


def test_scored_folders_give_the_same_figures(mvtec: Path) -> None:
    """`kka score` on the test folder measures what training measured on the task."""
    calibration = Calibration(threshold=89.0, fpr=0.05, held_out=9, promised=0.1)
    kept = StoredDetector(
        detector=Bright(), name="bright", size=20, calibration=calibration, folder=mvtec / "none", fit="squash"
    )
    files = sorted((mvtec / "test").rglob("*.png"))
    told: list[tuple[int, int]] = []
    scored = score_files(kept, files).rows
    rows = inspect_files(kept, scored, [mvtec / "test"], localising=True, progress=lambda *done: told.append(done))
    task = open_task(str(mvtec), describe="a photo", size=20)
    assert task.test is not None
    wanted = inspect_test(Bright(), task.test, Bright().score(task.test.images), 89.0)
    assert [(row.kind, row.photos) for row in rows] == [(row.kind, row.photos) for row in wanted]
    for row, other in zip(rows, wanted, strict=True):
        assert {n: f.value for n, f in row.figures.items()} == {n: f.value for n, f in other.figures.items()}
    assert (told[0], told[-1]) == ((0, 8), (8, 8))
    plain = inspect_files(kept, scored, [mvtec / "test"], localising=False)
    assert [{*row.figures} for row in plain] == [{*row.figures} - {"pixel_auroc", "aupro"} for row in rows]
    assert inspect_files(kept, score_files(kept, files[:1]).rows, [files[0]], localising=True) == []
