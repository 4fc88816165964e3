"""Parquet folders: the right images on the right side, and nothing of the test set in what is trained on."""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kka.data import open_task
from kka.errors import UserError
from kka.task import Task

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
NAMES = ["pink primrose", "orchid", "oak_tree", "old oak", "maple"]
COARSE = ["flowers", "flowers", "trees", "trees", "trees"]


def picture(seed: int, size: tuple[int, int] = (12, 12)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def row(label: int, seed: int, *, side: str = "train", size: tuple[int, int] = (12, 12)) -> dict[str, object]:
    return {
        "image": {"bytes": png(picture(seed, size)), "path": f"{side}_{seed}.png"},
        "label": label,
        "label_name": NAMES[label],
        "coarse_label": int(COARSE[label] == "trees"),
        "coarse_name": COARSE[label],
        "captions": [f"{NAMES[label]} {seed} said {way}" for way in ("so", "otherwise", "again")],
    }


def write(folder: Path, train: Sequence[dict[str, object]], test: Sequence[dict[str, object]] = ()) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        if rows:
            pq.write_table(pa.Table.from_pylist(list(rows)), folder / f"{name}.parquet", row_group_size=7)
    return folder


def rows(each: int = 10) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Classes in turn, as real files mix them; training pictures 0 …, test pictures 1000 …."""
    train = [row(i % 5, i) for i in range(5 * each)]
    return train, [row(i % 5, 1000 + i, side="test") for i in range(20)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "plants", *rows())


def hashes(images: np.ndarray) -> set[bytes]:
    return {hashlib.sha256(image.tobytes()).digest() for image in images}


def test_sides_classes_and_captions(folder: Path) -> None:
    """Every image must keep its own pixels, class and captions through row groups and threads."""
    task = open_task(str(folder), normal=["1"])
    assert task.normals.shape == (10, 12, 12, 3)  # the pictures' own size, as all have it
    assert hashes(task.normals) == {hashlib.sha256(picture(s).tobytes()).digest() for s in range(1, 50, 5)}
    for pixels, caption in zip(task.normals, task.captions, strict=True):
        assert np.array_equal(pixels, picture(int(caption.split()[1])))
    assert task.knowledge is not None and task.test is not None
    assert len(task.knowledge.images) == 40
    for pixels, captions, kind in zip(
        task.knowledge.images, task.knowledge.captions, task.knowledge.kinds, strict=True
    ):
        seed = int(captions[0].removeprefix(kind).split()[0])
        assert len(captions) == 3 and NAMES[seed % 5] == kind and kind != "orchid"
        assert np.array_equal(pixels, picture(seed))
    assert [NAMES[i % 5] for i in range(20)] == list(task.test.kinds)
    assert task.test.is_anomaly.tolist() == [i % 5 != 1 for i in range(20)]
    assert all(np.array_equal(task.test.images[i], picture(1000 + i)) for i in range(20))
    assert task.test.seen is None
    assert (task.name, task.domain, task.source) == ("plants: orchid", "images", str(folder))


@pytest.mark.parametrize(
    ("normal", "expected"),
    [
        (["Orchid"], ["orchid"]),
        (["oak tree", "4"], ["maple", "oak_tree"]),
        (["trees"], ["maple", "oak_tree", "old oak"]),
        (["coarse:trees"], ["maple", "oak_tree", "old oak"]),
        (["coarse:0"], ["orchid", "pink primrose"]),
        (["0"], ["pink primrose"]),
    ],
)
def test_normal_by_number_name_and_superclass(folder: Path, normal: list[str], expected: list[str]) -> None:
    """Classes can be named as people know them; a superclass stands for all of its classes."""
    task = open_task(str(folder), normal=normal)
    assert task.details["classes"]["normal"] == expected  # type: ignore[index]
    assert len(task.normals) == 10 * len(expected)


def test_unknown_normal_lists_near_and_known(folder: Path) -> None:
    """A label that does not exist must be answered with those that do."""
    with pytest.raises(UserError, match=r"'orkid'\. Did you mean 'orchid'\? Known: coarse:flowers, .*1 orchid"):
        open_task(str(folder), normal=["orkid"])
    with pytest.raises(UserError, match=r"no class is called '77'"):
        open_task(str(folder), normal=["1", "77"])
    with pytest.raises(UserError, match=r"got none\. Known"):
        open_task(str(folder))


def test_all_classes_normal_leaves_nothing_to_find(folder: Path) -> None:
    """Without an anomalous test image no AUROC exists; the run must not find that out at its end."""
    with pytest.raises(UserError, match="20 normal and 0 anomalous"):
        open_task(str(folder), normal=["trees", "flowers"])


def test_unseen_classes_are_in_no_knowledge(tmp_path: Path, folder: Path) -> None:
    """Withheld classes must be absent from knowledge, marked in the test, and the same for the same seed alone."""
    task = open_task(str(folder), normal=["1"], unseen=0.5, seed=7)
    classes = task.details["classes"]
    withheld, known = set(classes["withheld"]), set(classes["known"])  # type: ignore[index]
    assert task.knowledge is not None and task.test is not None and task.test.seen is not None
    assert len(withheld) == 2 and withheld | known == {*NAMES} - {"orchid"}
    assert {*task.knowledge.kinds} == known
    assert task.test.seen.tolist() == [kind not in withheld for kind in task.test.kinds]
    train, test = rows()
    again = open_task(str(write(tmp_path / "other", train[::-1], test)), normal=["orchid"], unseen=0.5, seed=7)
    assert again.details["classes"] == classes
    by_seed = {
        tuple(open_task(str(folder), normal=["1"], unseen=0.5, seed=s).details["classes"]["withheld"])  # type: ignore[index]
        for s in range(8)
    }
    assert len(by_seed) > 1


def test_everything_withheld_leaves_no_knowledge(folder: Path) -> None:
    """A share of 1 withholds all: there is no knowledge, and no test anomaly is seen."""
    task = open_task(str(folder), normal=["1"], unseen=1.0)
    assert task.knowledge is None and task.test is not None and task.test.seen is not None
    assert np.array_equal(task.test.seen, ~task.test.is_anomaly)


def test_caption_of_a_normal_is_chosen_by_the_seed(folder: Path) -> None:
    """Equal seeds give equal captions; over seeds all captions of an image get their turn."""
    chosen = [open_task(str(folder), normal=["1"], seed=s).captions for s in range(12)]
    assert open_task(str(folder), normal=["1"], seed=3).captions == chosen[3]
    assert len({captions[0] for captions in chosen}) == 3


def leaks(task: Task) -> set[bytes]:
    assert task.test is not None and task.knowledge is not None
    return hashes(task.test.images) & (hashes(task.normals) | hashes(task.knowledge.images))


def test_no_test_image_is_trained_on(tmp_path: Path) -> None:
    """Planted copies of test images in the training file must be removed there, named, and the test left whole."""
    train, test = rows()
    for where, label, seed in ((3, 1, 1002), (20, 1, 1001), (33, 4, 1007), (44, 0, 1019)):
        train.insert(where, row(label, seed, side="copy"))
    task = open_task(str(write(tmp_path / "leaky", train, test)), normal=["1"])
    assert not leaks(task)
    assert task.test is not None and len(task.test.images) == 20
    named = {aside.path: aside.reason for aside in task.set_aside}
    assert set(named) == {f"train.parquet:copy_{s}.png" for s in (1001, 1002, 1007, 1019)}
    assert "the same picture as test.parquet:test_1007.png" in named["train.parquet:copy_1007.png"]
    assert "removed from the normals" in named["train.parquet:copy_1002.png"]
    assert task.details["duplicates_removed"] == 4
    assert len(task.normals) == len(task.captions) == 10
    assert task.knowledge is not None and len(task.knowledge.images) == len(task.knowledge.captions) == 40


def test_same_pixels_in_another_file_format_are_found(tmp_path: Path) -> None:
    """The comparison is of pixels, not of files: a re-encoded or wider copy with the same working picture counts."""
    train, test = rows()
    buffer = BytesIO()
    Image.fromarray(picture(1003)).save(buffer, "WEBP", lossless=True)
    train[1]["image"] = {"bytes": buffer.getvalue(), "path": "disguised.webp"}
    task = open_task(str(write(tmp_path / "leaky", train, test)), normal=["1"])
    assert not leaks(task) and [s.path for s in task.set_aside] == ["train.parquet:disguised.webp"]


def test_a_normal_among_the_knowledge_is_removed(tmp_path: Path) -> None:
    """The image library must not hand out a normal's picture as an anomaly."""
    train, test = rows()
    train.append(row(2, 6, side="copy"))
    task = open_task(str(write(tmp_path / "mixed", train, test)), normal=["1"])
    assert [s.reason for s in task.set_aside] == [
        "the same picture as the normal train.parquet:train_6.png; removed from the knowledge"
    ]


def test_missing_captions_use_the_class_name(tmp_path: Path) -> None:
    """Data without captions still runs, with class-name templates, and the details say so."""
    train, test = rows()
    for entry in [*train, *test]:
        del entry["captions"]
    task = open_task(str(write(tmp_path / "bare", train, test)), normal=["1"])
    assert task.captions == ("a photo of a orchid",) * 10
    assert task.knowledge is not None and task.knowledge.captions[0] == ("a photo of a pink primrose",)
    assert task.details["notes"] == [
        "50 of the 50 training images have no caption: the class name ('a photo of a …') stands in"
    ]
    described = open_task(str(tmp_path / "bare"), normal=["1"], describe="an orchid in a pot")
    assert described.captions == ("an orchid in a pot",) * 10


def test_empty_captions_count_as_missing(tmp_path: Path) -> None:
    """Blank and null captions must not reach a prompt."""
    train, test = rows()
    train[1]["captions"] = []
    train[6]["captions"] = None
    train[11]["captions"] = ["  ", "", "one real caption "]
    task = open_task(str(write(tmp_path / "some", train, test)), normal=["1"])
    assert task.captions[:3] == ("a photo of a orchid", "a photo of a orchid", "one real caption")
    assert "2 of the 50" in str(task.details["notes"])


def test_only_label_and_image_are_needed(tmp_path: Path) -> None:
    """Class names, superclasses, captions and a test file are optional; a run without a test has no test set."""
    train, _ = rows()
    bare = [{"image": {"bytes": r["image"]["bytes"]}, "label": r["label"]} for r in train]  # type: ignore[index]
    task = open_task(str(write(tmp_path / "bare", bare)), normal=["1"])
    assert task.test is None and task.details["classes"]["normal"] == ["class 1"]  # type: ignore[index]


def test_labels_that_share_a_name_stay_apart(tmp_path: Path) -> None:
    """Two classes of one name must not be merged: one of them is the normal, the other an anomaly."""
    train, test = rows()
    for entry in [*train, *test]:
        entry["label_name"] = "plant"
    task = open_task(str(write(tmp_path / "same", train, test)), normal=["1"])
    assert len(task.normals) == 10 and task.details["classes"]["normal"] == ["plant (1)"]  # type: ignore[index]


def test_bad_rows_are_set_aside_and_too_many_refused(tmp_path: Path) -> None:
    """A corrupt image or a row without a label is named; rows beside it keep their captions."""
    train, test = rows(each=20)
    train[6]["image"] = {"bytes": b"broken", "path": "broken.png"}
    train[7]["image"] = {"bytes": None, "path": "nothing.png"}
    train[8]["label"] = None
    task = open_task(str(write(tmp_path / "bad", train, test)), normal=["1"])
    named = {aside.path.split(":")[1]: aside.reason for aside in task.set_aside}
    assert set(named) == {"broken.png", "nothing.png", "train_8.png"}
    assert named["nothing.png"] == "the file is empty" and named["train_8.png"] == "it has no label"
    assert len(task.normals) == 19
    assert all(np.array_equal(p, picture(int(c.split()[1]))) for p, c in zip(task.normals, task.captions, strict=True))
    for i in (11, 16):
        train[i]["image"] = {"bytes": b"broken", "path": f"broken_{i}.png"}
    with pytest.raises(UserError, match=r"3 of the 20 images .* first: train\.parquet:broken\.png: not an image"):
        open_task(str(write(tmp_path / "bad", train, test)), normal=["1"])


def test_too_few_normals_after_removal_says_why(tmp_path: Path) -> None:
    """When copies of test images were most of the normals, the error must name them."""
    train, test = rows(each=7)
    train += [row(1, 1000 + i, side="copy") for i in range(4)]
    with pytest.raises(UserError, match=r"at least 8 .* got 7 .* 4 could not be used: train.parquet:copy_1000"):
        open_task(str(write(tmp_path / "few", train, test)), normal=["1"])


def test_mixed_sizes_and_a_wanted_size(tmp_path: Path, folder: Path) -> None:
    """Pictures of several sizes come at 64 pixels; a wanted size always wins."""
    assert open_task(str(folder), normal=["1"], size=24).normals.shape[1:] == (24, 24, 3)
    train, test = rows()
    test[5] = row(0, 1005, side="test", size=(12, 20))
    task = open_task(str(write(tmp_path / "mixed", train, test)), normal=["1"])
    assert task.test is not None and task.knowledge is not None
    assert {part.shape[1:] for part in (task.normals, task.knowledge.images, task.test.images)} == {(64, 64, 3)}


def test_files_of_another_form_are_refused(tmp_path: Path, folder: Path) -> None:
    """A Parquet file that is none, or has other columns, must be answered with what was expected."""
    (tmp_path / "odd").mkdir()
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "odd" / "train.parquet")
    with pytest.raises(UserError, match=r"expected the columns image .* got x: int64"):
        open_task(str(tmp_path / "odd"), normal=["1"])
    (tmp_path / "odd" / "train.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        open_task(str(tmp_path / "odd"), normal=["1"])
    (folder / "train.parquet").unlink()
    with pytest.raises(UserError, match=r"found only test\.parquet"):
        open_task(str(folder), normal=["1"])


def test_damaged_image_pages_end_in_a_user_error(folder: Path) -> None:
    """A Parquet file whose middle was overwritten (a bad disk) must not end in a library's own error."""
    file = folder / "train.parquet"
    data = bytearray(file.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    file.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"train\.parquet"):
        open_task(str(folder), normal=["1"])


@pytest.mark.skipif(not (SHARED / "oxford102").is_dir(), reason="the shared data sets are not on this machine")
def test_oxford102() -> None:
    """The real flowers: counts as its README gives them, and no test picture in anything trained on."""
    task = open_task(str(SHARED / "oxford102"), normal=["77"], unseen=0.5)
    assert task.test is not None and task.knowledge is not None
    assert task.domain == "flowers" and task.details["classes"]["normal"] == ["passion flower"]  # type: ignore[index]
    assert len(task.test.images) == 2463 and task.test.images.shape[1:] == (64, 64, 3)
    assert not leaks(task)
    withheld = task.details["classes"]["withheld"]  # type: ignore[index]
    assert len(withheld) == 51 and not {*withheld} & {*task.knowledge.kinds}
