"""Photos as tiles: geometry, assembled maps, what is learnt from, what is split, and the way to the device."""

import io
import itertools
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kka.data.tiled
from kka.algorithm.evaluator import train_evaluator
from kka.cli import main
from kka.common.cache import pixel_hash
from kka.common.files import sha256
from kka.common.images import decode, read_picture
from kka.common.masks import read_mask
from kka.common.photos import PhotoFiles
from kka.common.pixel_metrics import count_pixels
from kka.common.tiles import PhotoMap, corners, inner, map_size, starts, tile
from kka.data import open_task
from kka.deploy.anomalies import read_anomalies
from kka.deploy.calibrate import calibrate
from kka.deploy.defect_tiles import tiles_of_defects
from kka.deploy.defects import read_defects
from kka.deploy.export import export_onnx, relative_difference
from kka.deploy.marks import Mark
from kka.deploy.reviewed import TESTED, UNMARKED, with_reviews
from kka.deploy.score import score_files
from kka.deploy.stored import open_detector
from kka.deploy.stored_scores import ScoredPhoto
from kka.deploy.train import hold_out, train_detector
from kka.deploy.whole import BATCH, maps_of, scores_of
from kka.errors import UserError
from kka.protocols import Images
from kka.review.scored import ScoredPhotos
from kka.settings.deep_sad import DeepSADSettings
from kka.settings.fit import Fit
from reference import photo_map as literal

DEVICE = Path(__file__).parent.parent / "examples" / "device.py"
SIZES = [(1, 1), (7, 40), (16, 16), (17, 16), (28, 29), (60, 33)]


# --- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "overlap"), [(16, 0.25), (16, 0.0), (7, 0.5), (8, 0.9), (1, 0.25)])
def test_tiles_cover_every_pixel_and_overlap(side: int, overlap: float) -> None:
    """A defect in a gap, or cut in two by an edge, would be lost; a tile beyond the photo would be no tile."""
    for length in range(1, 90):
        found = starts(length, side, overlap)
        assert found[0] == 0 and found[-1] == max(0, length - side) and found == sorted(set(found))
        shared = [a + side - b for a, b in itertools.pairwise(found)]
        assert all(share >= min(side - 1, int(side * overlap)) for share in shared)
        covered = np.zeros(length, int)
        for start in found:
            part = inner(start, length, side, overlap)
            covered[start + part.start : start + part.stop] += 1
        assert covered.all(), "each pixel lies in the inner part of a tile"
    assert len(starts(8660, 256, 0.25)) == 45, "no more than are needed"


def test_a_tile_is_the_photo_itself_and_its_mirror_image_beyond() -> None:
    """Scaled tiles lose small defects; grey beyond a small photo is an edge that no normal of another size has."""
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(photo)
    assert np.array_equal(tile(image, 11, 3, 16), photo[3:19, 11:27])
    small = tile(image, 0, 0, 32)
    assert np.array_equal(small[:20, :30], photo)
    assert np.array_equal(small[20:32, :30], photo[:7:-1]) and np.array_equal(small[:20, 30:], photo[:, :27:-1])
    narrow = tile(Image.fromarray(photo[:1, :2]), 0, 0, 8)
    assert np.array_equal(narrow[:, :, 0], np.tile(photo[0, [0, 1, 1, 0] * 2, 0], (8, 1)))


@pytest.mark.parametrize("most", [2048, 23])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_assembled_map_against_the_literal_reference(size: tuple[int, int], most: int) -> None:
    """At the photo's own size, and where a large one's map is smaller by no whole number."""
    rng = np.random.default_rng(size[0])
    tiles = {place: rng.normal(size=(16, 16)).astype(np.float32) for place in corners(size, 16, 0.25)}
    made = PhotoMap(size, 16, 0.25, most=most)
    for place, heat in tiles.items():
        made.add(*place, heat)
    width, height = map_size(size, most)
    assert made.found.shape == (height, width) and max(width, height) <= most
    expected = literal.whole(tiles, *size, 16)
    if (width, height) != size:
        expected = literal.smaller(expected, width, height)
    assert made.found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("most", [4096, 150])
def test_an_assembled_map_has_no_seams(most: int) -> None:
    """Of equal tiles it is constant. Where neighbours disagree by 1, no step from pixel to pixel is more than the
    window allows, while tiles set side by side have a step of 1."""
    for side in (128, 64):
        plain = PhotoMap((350, 250), side, 0.25, most=most)
        uneven = PhotoMap((350, 250), side, 0.25, most=most)
        for i, place in enumerate(corners((350, 250), side, 0.25)):
            plain.add(*place, np.full((side, side), 3, np.float32))
            uneven.add(*place, np.full((side, side), i % 2, np.float32))
        assert plain.found == pytest.approx(np.full(plain.found.shape, 3), abs=1e-5)
        shrunk = 350 / plain.found.shape[1]
        for axis in (0, 1):
            assert 0 < np.abs(np.diff(uneven.found, axis=axis)).max() < 8 * shrunk / (0.25 * side)


# --- photos, and detectors of tiles that count what they see ----------------------------------------------------------


class Brightest:
    """Scores an image by its brightest pixel, and maps brightness: quick, and right to the last bit."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.learnt: Images | None = None
        self.anomalies: Images | None = None
        self.masks: np.ndarray | None = None
        self.takes = frozenset({"masks"})

    def fit(self, normals: Images, anomalies: Images | None = None, *, masks: np.ndarray | None = None) -> "Brightest":
        self.learnt, self.anomalies, self.masks = normals, anomalies, masks
        return self

    def score(self, images: Images) -> np.ndarray:
        self.seen.append(len(images))
        return images.max(axis=(1, 2, 3)).astype(np.float32)

    def score_map(self, images: Images) -> np.ndarray:
        return images.max(axis=3).astype(np.float32)

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)


def grain(seed: int, width: int, height: int) -> np.ndarray:
    """A grey surface, no pixel brighter than 150."""
    rng = np.random.default_rng(seed)
    return rng.integers(90, 150, (height, width, 1), dtype=np.uint8).repeat(3, axis=2)


def defective(seed: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The same with a spot of 5 x 5 white pixels, and its mask."""
    photo, mask = grain(seed, width, height), np.zeros((height, width), np.uint8)
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width - 5), rng.integers(0, height - 5)
    photo[y : y + 5, x : x + 5], mask[y : y + 5, x : x + 5] = 250, 255
    return photo, mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of several sizes, as MVTec AD lays them out; defects of 5 pixels, with masks."""
    root = tmp_path_factory.mktemp("large") / "photos"
    sizes = [(200, 150), (150, 200), (90, 170), (40, 50)]
    (root / "ground_truth/spot").mkdir(parents=True)
    for name, n in (("train/good", 12), ("test/good", 6), ("test/spot", 6)):
        (root / name).mkdir(parents=True)
        for i in range(n):
            seed = 100 * len(name) + i
            photo, mask = defective(seed, *sizes[i % 4]) if "spot" in name else (grain(seed, *sizes[i % 4]), None)
            Image.fromarray(photo).save(root / name / f"{i:03}.png")
            if mask is not None:
                Image.fromarray(mask).save(root / "ground_truth/spot" / f"{i:03}_mask.png")
    return root


@pytest.fixture(scope="module")
def task(folder: Path) -> Any:
    return open_task(str(folder), describe="a photo", size=64, fit="tile")


def test_what_is_learnt_from(task: Any) -> None:
    """Tiles at the photos' own resolution, each with its photo's caption; views of the test photos to show."""
    assert task.normals.shape[1:] == (64, 64, 3) and len(task.captions) == len(task.normals) == len(task.photo_of)
    counts = np.bincount(task.photo_of)
    wanted = [len(corners(task.photos.read(i).size, 64, task.photos.overlap)) for i in range(12)]
    assert counts.tolist() == wanted and max(wanted) == 12 and min(wanted) == 1
    for i in range(12):
        photo = task.photos.read(i)
        own = {image.tobytes() for image in task.normals[task.photo_of == i]}
        assert own == {tile(photo, x, y, 64).tobytes() for x, y in corners(photo.size, 64, task.photos.overlap)}
    assert task.test.images.shape == (12, 64, 64, 3) and len(task.test.photos) == 12
    assert any("are 99 tiles of 64 pixels" in note for note in task.details["notes"]), task.details["notes"]


def test_few_tiles_of_many_photos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos beyond what memory holds: as many tiles of each photo as there is room for, the same ones each time."""
    monkeypatch.setattr(kka.data.tiled, "MOST_BYTES", 3 * 64**2 * 40)
    a, b = (open_task(str(folder), describe="a photo", size=64, fit="tile", seed=seed) for seed in (0, 7))
    assert 30 <= len(a.normals) <= 40 and set(np.bincount(a.photo_of).tolist()) == {1, 4}
    assert np.array_equal(a.normals, b.normals)
    assert any("of them, spread evenly over the photos" in note for note in a.details["notes"])


def test_photos_are_known_again_by_all_their_pixels(task: Any, tmp_path: Path) -> None:
    """Two large photos that differ by a pinhole have one small view: a test photo's twin is no copy of it."""
    photo = np.random.default_rng(0).integers(90, 150, (600, 700, 3), dtype=np.uint8)
    other = photo.copy()
    other[300, 300] = 151
    for i, pixels in enumerate((photo, other)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    seen = [read_picture(tmp_path / f"{i}.png", 8, fit="tile") for i in range(2)]
    assert np.array_equal(seen[0].pixels, seen[1].pixels) and seen[0].digest != seen[1].digest
    assert seen[0].digest == pixel_hash(photo), "as everywhere else"
    assert pickle.loads(pickle.dumps(task.photos)) == task.photos, "detectors of a run are trained by other processes"


def test_photos_are_split_and_never_tiles(task: Any) -> None:
    """Tiles of one photo on both sides: the threshold would promise what it does not hold. Copies of a photo too."""
    kept, held = hold_out(task.normals, 0.25, seed=0, photo_of=task.photo_of)
    assert len(kept) + len(held) == len(task.normals)
    assert not {*task.photo_of[kept].tolist()} & {*task.photo_of[held].tolist()}
    assert len({*task.photo_of[held].tolist()}) == 3
    with pytest.raises(UserError, match="at least 8 photos must remain to train with; got 6 of 12"):
        hold_out(task.normals, 0.5, seed=0, photo_of=task.photo_of)


def test_copies_of_a_photo_are_one(tmp_path: Path) -> None:
    """A held-out copy of a training photo would set the threshold too low."""
    for i in range(10):
        Image.fromarray(grain(max(i, 1), 80, 60)).save(tmp_path / f"{i}.png")
    found = open_task(str(tmp_path), describe="a photo", size=32, fit="tile")
    assert len(np.unique(found.photo_of)) == 9 and len(found.photos) == 10


def test_the_folds_of_the_evaluator_are_of_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluator that trained on a neighbour of the tile it is asked about takes normals for nearer than they are."""
    trained: list[Images] = []

    def train(normals: Images, *_: Any, **__: Any) -> None:
        trained.append(normals)
        raise InterruptedError

    monkeypatch.setattr("kka.algorithm.evaluator.pretrain", lambda *_, **__: None)
    monkeypatch.setattr("kka.algorithm.evaluator.train_deep_sad", train)
    photo_of = np.repeat(np.arange(6), 5)
    normals = np.zeros((30, 4, 4, 3), np.uint8)
    normals[:] = photo_of[:, None, None, None]
    sad = DeepSADSettings()
    for seed in range(3):
        with pytest.raises(InterruptedError):
            train_evaluator(
                normals, normals[:4], settings=sad, quantile=0.8, seed=0, fold_seed=seed, photo_of=photo_of
            )
        assert sorted(np.bincount(trained[-1][:, 0, 0, 0], minlength=6).tolist()) == [0, 0, 0, 5, 5, 5]


def test_a_photo_has_the_score_and_the_map_of_its_tiles(task: Any) -> None:
    """The highest score, batch by batch; a map at the photo's size, which of a map of each pixel alone is the photo."""
    detector = Brightest()
    scores = scores_of(detector, task.test.photos)
    assert scores.tolist() == [task.test.photos.read(i).getextrema()[0][1] for i in range(12)]
    assert ((scores > 200) == task.test.is_anomaly).all()
    assert max(detector.seen) <= BATCH and sum(detector.seen) == sum(
        len(corners(task.test.photos.read(i).size, 64, 0.25)) for i in range(12)
    )
    for i, found in enumerate(maps_of(detector, task.test.photos)):
        assert found == pytest.approx(np.asarray(task.test.photos.read(i)).max(axis=2).astype(float), abs=1e-3)


def test_squash_loses_what_tiles_find(folder: Path) -> None:
    """What tiles are for: a spot of 5 pixels in photos of 2,000, which a picture of 64 pixels does not show."""
    detector = Brightest()
    gaps = []
    fits: tuple[Fit, ...] = ("squash", "tile")
    for fit in fits:
        cards = [np.full((1500, 2000, 3), 100, np.uint8) for _ in range(2)]
        cards[1][700:705, 900:905] = 200
        paths = [folder.parent / f"{fit}{i}.png" for i in range(2)]
        for path, card in zip(paths, cards, strict=True):
            Image.fromarray(card).save(path)
        if fit == "tile":
            scores = scores_of(detector, PhotoFiles(files=tuple(paths), side=64))
        else:
            scores = detector.score(np.stack([decode(path, 64, fit=fit) for path in paths]))
        gaps.append(scores[1] - scores[0])
    assert gaps[0] < 15 and gaps[1] == 100


# --- masks and anomalies ---------------------------------------------------------------------------------------------


def test_the_mask_of_a_photo_is_of_its_maps_size(folder: Path, tmp_path: Path) -> None:
    """Masks and maps of another size cannot be compared."""
    photo, mask = folder / "test/spot/000.png", folder / "ground_truth/spot/000_mask.png"
    found = read_mask([mask], photo, 2048, "tile")
    with Image.open(mask) as opened:
        size, drawn = opened.size, np.asarray(opened) > 0
    assert found is not None and np.array_equal(found, drawn)
    small = read_mask([mask], photo, 50, "tile")
    assert small is not None and small.shape == map_size(size, 50)[::-1] and small.any()


def test_figures_of_pixels_of_photos_of_several_sizes() -> None:
    """As for photos of one size; a photo without a mask has nothing marked."""
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(9, 11)).astype(np.float32), rng.normal(size=(20, 5)).astype(np.float32)]
    mask = np.zeros((20, 5), bool)
    mask[3:6, 1:4] = True
    maps[1][mask] += 5

    def asked(rows: np.ndarray) -> Iterator[np.ndarray]:
        return (maps[i] for i in rows)

    counts = count_pixels(2, asked, lambda rows: (None if i == 0 else mask for i in rows))
    figures = counts.figures(np.ones((1, 2)))[0]
    flat, marked = np.concatenate([m.ravel() for m in maps]), np.concatenate([np.zeros(99, bool), mask.ravel()])
    wins = (flat[marked][:, None] > flat[~marked][None, :]).mean()
    assert figures["pixel_auroc"] == pytest.approx(wins, abs=1e-9)


def test_which_tiles_of_a_defective_photo_are_learnt_from(tmp_path: Path) -> None:
    """Those that show what is marked; unmarked ones are dropped, and photos that nothing says anything of are named."""
    (tmp_path / "ground_truth").mkdir()
    for name, size in (("a", (200, 150)), ("b", (200, 150)), ("c", (50, 60)), ("d", (50, 60))):
        photo, mask = grain(ord(name), *size), np.zeros(size[::-1], np.uint8)
        photo[10:14, 20:24], mask[10:14, 20:24] = 250, 255
        Image.fromarray(photo).save(tmp_path / f"{name}.png")
        if name in "ac":
            Image.fromarray(mask).save(tmp_path / "ground_truth" / f"{name}_mask.png")
    with pytest.warns(UserWarning, match=r"1 of 4 photos in .* have no mask"):
        found = tiles_of_defects(tmp_path, 64, 65535)
    assert len(found.images) == 3 and len(set(found.digests)) == 3 and found.masks is not None
    assert [int((mask > 0).sum()) for mask in found.masks] == [16, 16, 64 * 64]
    assert all((image[mask > 0] == 250).all() for image, mask in zip(found.images[:2], found.masks[:2], strict=True))


def test_every_marked_pixel_is_learnt_from(tmp_path: Path) -> None:
    """A defect at the edge of all tiles that hold it would be dropped with them."""
    (tmp_path / "ground_truth").mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        photo, mask = grain(i, 150, 130), np.zeros((130, 150), np.uint8)
        y, x = (0, 0) if i == 0 else (rng.integers(0, 130), rng.integers(0, 150))
        photo[y, x], mask[y, x] = 250, 255
        Image.fromarray(photo).save(tmp_path / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "ground_truth" / f"{i}_mask.png")
    found = tiles_of_defects(tmp_path, 64, 65535)
    assert len(set(found.digests)) == 30 and found.masks is not None and found.masks.any(axis=(1, 2)).all()
    assert len(found.images) < 45, "few enter twice"


# --- training, scoring, the device -----------------------------------------------------------------------------------


def test_the_threshold_is_of_whole_photos(task: Any, tmp_path: Path) -> None:
    """Of tiles it would promise the rate for a tile, and a photo of a hundred would nearly always be anomalous."""
    detector = Brightest()
    facts = train_detector(detector, task, None, tmp_path / "d", held_out=0.25, fpr=0.3, seed=0)
    kept, held = hold_out(task.normals, 0.25, seed=0, photo_of=task.photo_of)
    photos = np.unique(task.photo_of[held])
    own = np.array([task.photos.read(int(i)).getextrema()[0][1] for i in photos], np.float32)
    assert facts.calibration is not None and facts.calibration.held_out == 3
    assert facts.calibration.threshold == calibrate(own, 0.3).threshold
    assert facts.calibration.map_threshold == pytest.approx(facts.calibration.threshold, abs=1e-3)
    assert facts.normals == 9 and facts.held_out == 3
    assert detector.learnt is not None and len(detector.learnt) == len(kept)
    rows = {row.kind: row.figures for row in facts.inspection}
    assert rows["all defects"]["auroc"].value == 1 and rows["all defects"]["pixel_auroc"].value > 0.999
    assert rows["all defects"]["aupro"].value > 0.99


def test_no_tile_of_a_test_photo_is_learnt_from(task: Any, folder: Path, tmp_path: Path) -> None:
    """The folder of defects may well be that of the test: photos are known again by all their pixels, not by tiles."""
    defects = tmp_path / "defects"
    shutil.copytree(folder / "test/spot", defects)
    shutil.copytree(folder / "ground_truth/spot", defects / "ground_truth")
    photo, mask = defective(99, 200, 150)
    Image.fromarray(photo).save(defects / "new.png")
    Image.fromarray(mask).save(defects / "ground_truth" / "new_mask.png")
    detector = Brightest()
    given = read_anomalies(defects, 64, task.white, "tile")
    with pytest.warns(UserWarning, match=f"{len(given.images) - 1} of {len(given.images)} anomalies are test images"):
        facts = train_detector(detector, task, given, tmp_path / "d", held_out=0.25, fpr=0.3, seed=0)
    assert facts.anomalies == 1 and detector.anomalies is not None and detector.masks is not None
    assert (detector.anomalies[detector.masks > 0] == 250).all() and (detector.masks > 0).sum() == 25


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`kka train --fit tile`, of a detector that has maps."""
    out = tmp_path_factory.mktemp("trained") / "detector"
    command = ["train", "--detector", "patchcore", "--preset", "cpu", "--data", str(folder), "--out", str(out)]
    command += ["--set", "size=64", "crop=64", "most=100", "--backbone", "mobilenetv2_035", "--backbone-weights"]
    command += ["random", "--fit", "tile", "--size", "64", "--held-out", "0.25", "--fpr", "0.3"]
    assert main(command) == 0
    return out


def test_the_card_and_the_figures(trained: Path) -> None:
    """Scoring knows nothing but the folder; figures are of whole photos, those of pixels of assembled maps."""
    card = json.loads((trained / "detector.json").read_text())
    assert (card["fit"], card["overlap"], card["image_size"]) == ("tile", 0.25, [64, 64])
    assert card["trained_with"] == {"normals": 9, "held_out": 3, "anomalies": 0}
    assert card["calibration"]["held_out"] == 3
    rows = {row["kind"]: row for row in json.loads((trained / "inspection.json").read_text())["rows"]}
    assert rows["good"]["photos"] == 6 and rows["all defects"]["photos"] == 6
    assert {"auroc", "pixel_auroc", "aupro"} <= {*rows["all defects"]["figures"]}
    kept = open_detector(trained)
    assert (kept.fit, kept.overlap) == ("tile", 0.25)
    card["overlap"] = 1
    (trained / "detector.json").write_text(json.dumps(card))
    try:
        with pytest.raises(UserError, match=r'expected "overlap" to be 0 to 0\.9; got 1'):
            open_detector(trained)
    finally:
        card["overlap"] = 0.25
        (trained / "detector.json").write_text(json.dumps(card))


def test_scores_maps_and_figures_from_the_command_line(trained: Path, folder: Path, tmp_path: Path) -> None:
    """As at the end of the training: the same photos, the same figures; an overlay as large as the photo."""
    command = ["score", "--detector-dir", str(trained), str(folder / "test"), str(folder.parent / "broken.png")]
    (folder.parent / "broken.png").write_bytes(b"no picture")
    command += ["--out", str(tmp_path / "scores.csv"), "--maps", str(tmp_path / "maps")]
    command += ["--figures", str(tmp_path / "f")]
    assert main(command) == 0
    found, before = (json.loads(path.read_text()) for path in (tmp_path / "f.json", trained / "inspection.json"))
    for row, other in zip(found["rows"], before["rows"], strict=True):
        for name, value in row["figures"].items():
            assert value["value"] == pytest.approx(other["figures"][name]["value"], abs=0.02), (row["kind"], name)
    maps = sorted((tmp_path / "maps").rglob("*.png"))
    assert len(maps) == 12
    for path in maps:
        (photo,) = folder.rglob(f"test/{path.parent.name}/{path.name}")
        with Image.open(path) as one, Image.open(photo) as other:
            assert one.size == other.size


def test_the_device_scores_as_kka_does(trained: Path, folder: Path, tmp_path: Path) -> None:
    """The exported model scores a tile; its metadata and the script must tell how a photo is cut, pooled and judged."""
    Image.fromarray(grain(5, 190, 210)).save(tmp_path / "turned.jpg", exif=turned())
    files = [*sorted((folder / "test/spot").iterdir()), tmp_path / "turned.jpg"]
    facts = export_onnx(open_detector(trained), tmp_path / "model.onnx", files[:2])
    assert facts.fit == "tile" and "highest score of its tiles" in facts.from_file and facts.images == 2
    rows = score_files(open_detector(trained), files).rows
    command = [sys.executable, str(DEVICE), str(tmp_path / "model.onnx"), *map(str, files)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    told = [line.split("\t") for line in lines]
    ours, theirs = np.array([row.score for row in rows]), np.array([float(score) for _, score, _ in told])
    assert relative_difference(ours, theirs) < 1e-4 and len(np.unique(ours)) == len(files)
    assert [word == "anomalous" for *_, word in told] == [row.anomalous for row in rows]


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_what_a_person_says_of_photos_counts_for_their_tiles(task: Any, tmp_path: Path) -> None:
    """A photo called normal gives tiles of a photo of its own; one called anomalous takes all of its tiles away, and
    teaches where it is one tile; of a larger one nobody said where."""
    files = {"new": tmp_path / "new.png", "odd": tmp_path / "odd.png", "small": tmp_path / "small.png"}
    for name, size in (("new", (150, 90)), ("odd", (200, 150)), ("small", (50, 40))):
        Image.fromarray(grain(len(name) + size[0], *size)).save(files[name])
    files |= {"mine": task.photos.files[0], "tested": task.test.photos.files[1]}
    said = {"new": "normal", "odd": "anomalous", "small": "anomalous", "mine": "anomalous", "tested": "normal"}
    marks = {
        sha256(file): Mark(sha256=sha256(file), bytes=file.stat().st_size, path=str(file), said=said[name], score=1.0,
                           threshold=None)
        for name, file in files.items()
    }  # fmt: skip
    joined, anomalies, found, aside = with_reviews(task, None, marks, folder=None, caption=None)
    assert (found.normals, found.anomalies, found.no_normals) == (1, 1, 1)
    reasons = {Path(item.path).name: item.reason for item in aside}
    assert reasons == {"odd.png": UNMARKED, files["mine"].name: UNMARKED} | {files["tested"].name: TESTED}
    own = joined.photo_of == 12
    assert own.sum() == len(corners((150, 90), 64, 0.25)) and not (joined.photo_of == 0).any()
    assert len(joined.normals) == len(joined.photo_of) == len(joined.captions) and len(joined.photos) == 13
    assert anomalies is not None and np.array_equal(anomalies.images[0][:40, :50], grain(55, 50, 40))
    assert len(anomalies.digests) == 1


def test_defects_at_hand_are_scored_whole_and_learnt_from_by_tiles(task: Any, folder: Path, tmp_path: Path) -> None:
    """A threshold of tiles finds no photos; and a test photo among them would promise what it should measure."""
    defects = tmp_path / "defects"
    (defects / "ground_truth").mkdir(parents=True)
    for i in range(6):
        photo, mask = defective(500 + i, 200, 150)
        Image.fromarray(photo).save(defects / f"{i}.png")
        Image.fromarray(mask).save(defects / "ground_truth" / f"{i}_mask.png")
    shutil.copy(task.test.photos.files[-1], defects / "tested.png")
    found = read_defects(defects, task)
    assert [item.path for item in found.set_aside] == ["tested.png"] and len(found.pictures) == 6
    facts = train_detector(Brightest(), task, None, tmp_path / "a", held_out=0.25, fpr=0.3, seed=0, defects=found)
    assert facts.caught is not None and facts.caught.caught == 6
    assert facts.caught.threshold is not None and 249 < facts.caught.threshold < 250
    detector = Brightest()
    train_detector(
        detector, task, None, tmp_path / "b", held_out=0.25, fpr=0.3, seed=0, defects=found, train_on_defects=True
    )
    assert detector.anomalies is not None and detector.masks is not None and 6 <= len(detector.anomalies) <= 24
    assert (detector.anomalies[detector.masks > 0] == 250).all() and (detector.masks > 0).any(axis=(1, 2)).all()


def test_the_page_of_scores_shows_the_map_of_a_photo(trained: Path, folder: Path, tmp_path: Path) -> None:
    """Of a squashed view it would show another scale than the score is of."""
    kept, file = open_detector(trained), next((folder / "test/spot").iterdir())
    photo = ScoredPhoto(file=file, sha256=sha256(file), bytes=1, score=1.0)
    page = ScoredPhotos(kept, [photo], [folder], tmp_path / "marks.jsonl")
    shown = page.heat(0, side=1024)
    assert shown is not None
    with Image.open(io.BytesIO(shown)) as one, Image.open(file) as other:
        assert one.size == other.size
    (expected,) = maps_of(kept.detector, kept.photos([file]))
    assert np.array_equal(page._maps[0], expected)


def test_pictures_in_parquet_are_no_photos_to_cut(folder: Path, tmp_path: Path) -> None:
    """Silently squashed, they would be scored otherwise than they were learnt from."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((folder / "train/good").iterdir())
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"image": images, "label": [0] * len(files)}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match="tile, which is for folders of photos"):
        open_task(str(tmp_path), normal=["0"], fit="tile")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*held-out normals:UserWarning", "always:.*at another scale:UserWarning")
def test_a_run_paints_on_tiles(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its pool has the defects at the scale at which a detector of tiles meets them; elsewhere a warning says so."""
    out, sets = tmp_path / "run", ["--set", "epochs=1", "milestones="]
    command = ["run", "--data", str(folder), "--describe", "a photo of a plate", "--fit", "tile", "--size", "64"]
    command += ["--detector", "sad", "--preset", "cpu", *sets, "--rounds", "1", "--initial", "12", "--fresh", "6"]
    command += ["--seeds", "1", "--autoencoder-epochs", "1", "--sad.epochs", "1", "--sad.pretrain-epochs", "1"]
    assert main([*command, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["task"]["normals"] == 99 and summary["arms"]["kka-1"]["auroc"]["per_seed"]
    card = json.loads((out / "kept/kka-1/detector/detector.json").read_text())
    assert (card["fit"], card["overlap"], card["calibration"]["held_out"]) == ("tile", 0.25, 2)
    assert main(["run", "--out", str(out), "--resume"]) == 0
    train = ["train", "--detector", "sad", "--preset", "cpu", *sets, "--data", str(folder), "--anomalies", str(out)]
    capsys.readouterr()
    assert main([*train, "--fit", "tile", "--out", str(tmp_path / "a")]) == 0
    assert "at another scale" not in " ".join(capsys.readouterr().err.split())
    assert main([*train, "--out", str(tmp_path / "b")]) == 0
    assert "at another scale" in " ".join(capsys.readouterr().err.split())
