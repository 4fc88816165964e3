"""Folders of images as people have them: every layout, every kind of bad input, each named."""

import json
import os
import shutil
import struct
import tempfile
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kka.common.cache import pixel_hash
from kka.config import RunConfig
from kka.data import open_task
from kka.errors import UserError
from kka.run.models import undescribed

BRACKET = "a photo of a machined bracket"


def photo(path: Path, seed: int, size: tuple[int, int] = (20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def photos(folder: Path, n: int, first: int = 0) -> Path:
    for i in range(n):
        photo(folder / f"{i:03}.png", first + i)
    return folder


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes whose header claims a giant picture."""
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(100))),
        (b"IEND", b""),
    ):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data


def captions(folder: Path, lines: list[object]) -> None:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")


def mvtec(folder: Path) -> Path:
    photos(folder / "train" / "good", 10)
    photos(folder / "test" / "good", 3, 100)
    photos(folder / "test" / "scratch", 2, 200)
    photos(folder / "test" / "bent lead", 2, 300)
    photos(folder / "ground_truth" / "scratch", 2, 400)
    return folder


def test_flat_folder_is_all_normal(tmp_path: Path) -> None:
    """The simplest use, a folder and one sentence, gives normals of 64 pixels with that caption and no test set."""
    photos(tmp_path / "photos", 9)
    photo(tmp_path / "photos" / "inner" / "more.JPG", 50)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.png").write_text("no image either")
    task = open_task(str(tmp_path / "photos"), describe=BRACKET)
    assert task.normals.shape == (10, 64, 64, 3) and task.captions == (BRACKET,) * 10
    assert task.test is None and task.knowledge is None and task.set_aside == ()
    assert (task.name, task.domain) == ("photos", "machined brackets")
    assert open_task(str(tmp_path / "photos"), describe=BRACKET, size=16, domain="brackets").domain == "brackets"


def test_photos_of_which_nothing_is_said(tmp_path: Path) -> None:
    """A language model that writes of any object needs no description; one that must know what it writes of does."""
    folder = str(photos(tmp_path / "photos", 9))
    with pytest.raises(UserError, match=r"9 of the 9 training images in .* have no caption"):
        open_task(folder)
    task = open_task(folder, undescribed="an object")
    assert task.captions == ("an object",) * 9
    assert "9 of the 9 training images have no caption: 'an object' stands in" in task.details["notes"][0]  # type: ignore[index]
    assert open_task(folder, undescribed="an object", describe=BRACKET).captions == (BRACKET,) * 9
    assert [undescribed(RunConfig(lm=lm)) for lm in ("defects", "auto", "smollm2")] == ["an object", "an object", None]


def test_path_with_spaces_and_letters_of_all_kinds(tmp_path: Path) -> None:
    """Folder, files and captions may hold spaces and any letters, in either Unicode form of an accent."""
    folder = photos(tmp_path / "Meine Büro-Fotos 写真", 8)
    photo(folder / unicodedata.normalize("NFD", "Schlüssel grün.png"), 50)
    captions(
        folder,
        [
            {"file_name": unicodedata.normalize("NFC", "Schlüssel grün.png"), "text": "ein grüner Schlüssel"},
            *({"file_name": f"{i:03}.png", "text": f"写真 {i}"} for i in range(8)),
        ],
    )
    task = open_task(str(folder))
    assert task.captions == (*(f"写真 {i}" for i in range(8)), "ein grüner Schlüssel")
    assert task.set_aside == ()


def test_mvtec_layout(tmp_path: Path) -> None:
    """train/good is normal; test/<defect> is anomalous with its kind; masks in ground_truth are no photos."""
    task = open_task(str(mvtec(tmp_path / "bottle")), describe=BRACKET)
    assert len(task.normals) == 10 and task.test is not None and task.knowledge is None
    assert dict(zip(task.test.kinds, task.test.is_anomaly.tolist(), strict=True)) == {
        "good": False,
        "scratch": True,
        "bent lead": True,
    }
    assert task.details["images"]["test_anomalies"] == 4  # type: ignore[index]
    assert task.details["notes"] == [
        "2 of 4 anomalies have no mask of their shape that can be read: the figures of pixels leave them out"
    ]
    assert task.details["layout"] == (
        "10 normals in train/good/; 3 normals in test/good/ and 4 anomalies in test/bent lead/, test/scratch/ form the "
        "test set; 2 masks in ground_truth/scratch/"
    )


def test_collection_of_data_sets_is_refused(tmp_path: Path) -> None:
    """Given the parent of several MVTec classes, defects and masks must not silently become normals."""
    mvtec(tmp_path / "mvtec" / "bottle")
    mvtec(tmp_path / "mvtec" / "cable")
    with pytest.raises(UserError, match="choose one of: bottle, cable"):
        open_task(str(tmp_path / "mvtec"), describe=BRACKET)
    shutil.rmtree(tmp_path / "mvtec" / "bottle" / "train")
    with pytest.raises(UserError, match="test/ but no train/"):
        open_task(str(tmp_path / "mvtec" / "bottle"), describe=BRACKET)


def test_test_set_without_normals_takes_some_that_train_nothing(tmp_path: Path) -> None:
    """Defects alone are what people have: held-out normals stand beside them, the same at every start."""
    folder = mvtec(tmp_path / "bottle")
    shutil.rmtree(folder / "test" / "good")
    task = open_task(str(folder), describe=BRACKET)
    assert task.test is not None and task.test.is_anomaly.sum() == 4 and (~task.test.is_anomaly).sum() == 2
    assert len(task.normals) == len(task.captions) == 8
    every = [pixel_hash(image) for image in (*task.normals, *task.test.images[~task.test.is_anomaly])]
    assert len(set(every)) == 10, "held out, and not trained with as well"
    assert "2 of the 10 normals" in task.details["notes"][0]  # type: ignore[index]
    np.testing.assert_array_equal(open_task(str(folder), describe=BRACKET).test.images, task.test.images)  # type: ignore[union-attr]
    chosen = {open_task(str(folder), describe=BRACKET, seed=s).normals.tobytes() for s in range(5)}
    assert len(chosen) > 1, "the seed chooses"


def test_test_set_without_normals_to_spare(tmp_path: Path) -> None:
    """With eight normals none can be held out: all are trained with, and that there is no test set is said."""
    photos(tmp_path / "set" / "good", 8)
    photos(tmp_path / "set" / "defect", 2, 50)
    task = open_task(str(tmp_path / "set"), describe=BRACKET)
    assert len(task.normals) == 8 and task.test is None
    assert "no test set after all" in task.details["notes"][0]  # type: ignore[index]


def test_test_set_of_normals_alone_is_refused(tmp_path: Path) -> None:
    """Without anomalies nothing can be measured; the run must say so before it starts."""
    folder = mvtec(tmp_path / "bottle")
    shutil.rmtree(folder / "test" / "scratch")
    shutil.rmtree(folder / "test" / "bent lead")
    with pytest.raises(UserError, match="got 3 normal and 0 anomalous"):
        open_task(str(folder), describe=BRACKET)


def test_photos_that_are_all_one_picture(tmp_path: Path) -> None:
    """Copies of one picture are no distribution, and "add photos" would not say what is wrong; some copies are said."""
    folder = photos(tmp_path / "photos", 10)
    shutil.copy(folder / "000.png", folder / "copy.png")
    assert "the 11 normals are 10 different" in open_task(str(folder), describe=BRACKET).details["notes"][0]  # type: ignore[index]
    for file in folder.iterdir():
        if file.name != "000.png":
            shutil.copyfile(folder / "000.png", file)
    with pytest.raises(UserError, match=r"the 11 usable from .* are one and the same picture"):
        open_task(str(folder), describe=BRACKET)


def classes(folder: Path) -> Path:
    for k, name in enumerate(["cup", "old_plate", "fork"]):
        photos(folder / "train" / name, 9, 100 * k)
        photos(folder / "test" / name, 2, 1000 + 100 * k)
    return folder


def test_class_folders_with_a_chosen_normal(tmp_path: Path) -> None:
    """The other training classes are knowledge, the test has kinds, and a share of the classes can be withheld."""
    folder = classes(tmp_path / "kitchen")
    task = open_task(str(folder), normal=["cup"])
    assert task.captions == ("a photo of a cup",) * 9 and task.knowledge is not None
    assert {*zip(task.knowledge.kinds, task.knowledge.captions, strict=True)} == {
        ("old_plate", ("a photo of a old plate",)),
        ("fork", ("a photo of a fork",)),
    }
    half = open_task(str(folder), normal=["cup"], unseen=0.5)
    assert half.knowledge is not None and half.test is not None and half.test.seen is not None
    assert len({*half.knowledge.kinds}) == 1
    assert {k for k, s in zip(half.test.kinds, half.test.seen, strict=True) if s} == {"cup", *half.knowledge.kinds}


def test_class_folders_need_a_normal(tmp_path: Path) -> None:
    """Without a chosen normal, or with an unknown one, the error lists the classes."""
    folder = str(classes(tmp_path / "kitchen"))
    with pytest.raises(UserError, match=r"got none\. Known: cup, fork, old_plate"):
        open_task(folder)
    with pytest.raises(UserError, match=r"'cupp'\. Did you mean 'cup'"):
        open_task(folder, normal=["cupp"])


def test_options_that_a_flat_folder_cannot_meet(tmp_path: Path) -> None:
    """A normal class or unseen share that has no meaning here must not be ignored."""
    folder = str(photos(tmp_path / "photos", 9))
    with pytest.raises(UserError, match="has no sub-folders, such as train/<class>"):
        open_task(folder, normal=["cup"], describe=BRACKET)
    with pytest.raises(UserError, match="no training images of classes other than the normal"):
        open_task(folder, unseen=0.5, describe=BRACKET)


def test_no_test_image_is_trained_on(tmp_path: Path) -> None:
    """A test photo that was copied into the training folder is removed there, and the test stays whole."""
    folder = mvtec(tmp_path / "bottle")
    shutil.copy(folder / "test" / "scratch" / "000.png", folder / "train" / "good" / "copy.png")
    task = open_task(str(folder), describe=BRACKET)
    assert [(s.path, "test/scratch/000.png" in s.reason) for s in task.set_aside] == [("train/good/copy.png", True)]
    assert len(task.normals) == 10 and task.test is not None and len(task.test.images) == 7


def test_metadata_in_subfolders_and_several_captions(tmp_path: Path) -> None:
    """metadata.jsonl is read wherever it lies, file names are relative to it, and lists of captions work."""
    folder = mvtec(tmp_path / "bottle")
    captions(folder / "train" / "good", [{"file_name": f"{i:03}.png", "caption": f"bottle {i}"} for i in range(5)])
    captions(folder, [{"file_name": f"train/good/{i:03}.png", "captions": [f"a {i}", f"b {i}"]} for i in range(5, 10)])
    drawn = [open_task(str(folder), seed=s).captions for s in range(6)]
    assert all(c[:5] == tuple(f"bottle {i}" for i in range(5)) for c in drawn)
    assert {c[7] for c in drawn} == {"a 7", "b 7"}


def test_metadata_wins_over_the_description(tmp_path: Path) -> None:
    """The description fills the gaps only."""
    folder = photos(tmp_path / "photos", 8)
    captions(folder, [{"file_name": "000.png", "text": "the first"}])
    assert open_task(str(folder), describe=BRACKET).captions == ("the first", *[BRACKET] * 7)


def test_metadata_faults_are_named_by_line(tmp_path: Path) -> None:
    """Malformed lines and entries for missing files are named with their line, and the rest still counts."""
    folder = photos(tmp_path / "photos", 9)
    good = [{"file_name": f"{i:03}.png", "text": f"number {i}"} for i in range(9)]
    captions(
        folder,
        [
            *good[:4],
            '{"file_name": "000.png", "text": ',
            {"file_name": "gone.png", "text": "gone"},
            "",
            *good[4:],
            {"text": "of nothing"},
            {"file_name": "001.png"},
            '["001.png"]',
            {"file_name": "../photos/001.png", "text": "outside"},
        ],
    )
    task = open_task(str(folder))
    assert task.captions == tuple(f"number {i}" for i in range(9))
    named = {s.path.removeprefix("metadata.jsonl, line "): s.reason for s in task.set_aside}
    assert list(named) == ["5", "6", "13", "14", "15", "16"]
    assert named["5"].startswith("not JSON") and named["6"] == "no such image: gone.png"
    assert named["14"].startswith("no caption") and named["16"].startswith("no such image")


def test_missing_captions_say_what_to_do(tmp_path: Path) -> None:
    """Normals without captions end in an error that names --describe and metadata.jsonl, and the files."""
    folder = photos(tmp_path / "photos", 9)
    with pytest.raises(UserError, match=r"9 of the 9 .* 000\.png, 001\.png, 002\.png and 6 more.*--describe"):
        open_task(str(folder))
    captions(folder, [*({"file_name": f"{i:03}.png", "text": "x"} for i in range(8)), "broken"])
    with pytest.raises(UserError, match=r"1 of the 9 .* 008\.png.*metadata\.jsonl, line 9: not JSON"):
        open_task(str(folder))
    with pytest.raises(UserError, match="got an empty text"):
        open_task(str(folder), describe="  ")


def test_empty_folder(tmp_path: Path) -> None:
    """A folder without images must say so, and count what else is there."""
    with pytest.raises(UserError, match=r"no images in .*\.jpeg.* got no files"):
        open_task(str(tmp_path), describe=BRACKET)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match="got 1 other files"):
        open_task(str(tmp_path), describe=BRACKET)
    (tmp_path / "train").mkdir()
    photos(tmp_path / "test" / "good", 1)
    with pytest.raises(UserError, match="/train: expected the training images"):
        open_task(str(tmp_path), describe=BRACKET)


def test_corrupt_truncated_giant_and_dangling_are_set_aside(tmp_path: Path) -> None:
    """Each bad file is named with its reason and counted, and the good ones are used."""
    folder = photos(tmp_path / "photos", 50)
    (folder / "corrupt.jpg").write_bytes(b"this is no image")
    whole = photo(folder / "truncated.jpg", 99, (200, 200)).read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.png").write_bytes(png_claiming(60_000, 60_000))
    (folder / "link.png").symlink_to(tmp_path / "nowhere.png")
    task = open_task(str(folder), describe=BRACKET)
    reasons = {s.path: s.reason for s in task.set_aside}
    assert list(reasons) == ["bomb.png", "corrupt.jpg", "link.png", "truncated.jpg"]
    assert "too large" in reasons["bomb.png"] and "not an image" in reasons["corrupt.jpg"]
    assert reasons["link.png"] == "No such file or directory" and "truncated" in reasons["truncated.jpg"]
    assert len(task.normals) == len(task.captions) == 50
    assert task.details["images"]["set_aside"] == 4  # type: ignore[index]


def test_more_than_a_tenth_bad_is_an_error(tmp_path: Path) -> None:
    """A folder that is largely unreadable must stop the run, naming the first files."""
    folder = photos(tmp_path / "photos", 10)
    for name in ("x.png", "y.heic"):
        (folder / name).write_bytes(b"broken")
    told = r"2 of the 12 images .* x\.png: not an image.*y\.heic: (HEIC .* convert it|not an image)"
    with pytest.raises(UserError, match=told):
        open_task(str(folder), describe=BRACKET)


def test_photos_of_a_telephone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEIC is what telephones write. Without the package that reads it, the file is named, with what to do."""
    heif = pytest.importorskip("pillow_heif", reason="the optional package pillow-heif is absent")
    folder = photos(tmp_path / "photos", 9)
    shown = np.full((40, 60, 3), (200, 60, 30), np.uint8)
    heif.from_bytes(mode="RGB", size=(60, 40), data=shown.tobytes()).save(folder / "phone.HEIC", quality=-1)
    task = open_task(str(folder), describe=BRACKET, size=32)
    assert len(task.normals) == 10 and not task.set_aside
    own = min(task.normals, key=lambda image: np.abs(image.astype(int) - (200, 60, 30)).mean())
    assert np.abs(own.astype(int) - (200, 60, 30)).max() <= 4
    monkeypatch.setattr("kka.common.opened._reads_heic", lambda: False)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    without = open_task(str(folder), describe=BRACKET, size=32)
    assert [s.path for s in without.set_aside] == ["phone.HEIC"]
    assert "pip install 'kka[heic]'" in without.set_aside[0].reason


def test_raw_files_are_named_unless_a_camera_developed_them(tmp_path: Path) -> None:
    """A folder of raw files held "no images"; beside JPEGs of the same names they are no loss."""
    folder = photos(tmp_path / "photos", 9)
    first = sorted(folder.iterdir())[0]
    (folder / f"{first.stem}.CR2").write_bytes(b"raw")
    (folder / "alone.nef").write_bytes(b"raw")
    task = open_task(str(folder), describe=BRACKET)
    assert [(s.path, s.reason) for s in task.set_aside] == [
        ("alone.nef", "a camera's raw file; develop it into a JPEG, PNG or TIFF")
    ]


def test_fewer_than_eight_normals(tmp_path: Path) -> None:
    """Too few photos must be refused; what was set aside is named as the cause."""
    folder = photos(tmp_path / "photos", 7)
    with pytest.raises(UserError, match="at least 8 normal images to learn from; got 7"):
        open_task(str(folder), describe=BRACKET)
    shutil.copytree(folder, tmp_path / "set" / "train" / "good")
    test = photos(tmp_path / "set" / "test" / "good", 2, 50)
    photos(tmp_path / "set" / "test" / "bad", 2, 60)
    shutil.copy(test / "000.png", tmp_path / "set" / "train" / "good" / "copy.png")
    with pytest.raises(UserError, match=r"got 7 usable .* 1 could not be used: train/good/copy\.png: the same picture"):
        open_task(str(tmp_path / "set"), describe=BRACKET)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder, and no right to read what is closed: root, whom no mode stops, becomes another user."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="file modes are of POSIX systems")
def test_no_read_permission_is_named(unprivileged: Path) -> None:
    """A file or folder that may not be read is named with the system's reason; the others are used."""
    photos(unprivileged, 20)
    (unprivileged / "005.png").chmod(0)
    photos(unprivileged / "closed", 2, 50).chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    task = open_task(str(unprivileged), describe=BRACKET)
    assert {(s.path, s.reason) for s in task.set_aside} == {
        ("005.png", "Permission denied"),
        ("closed", "Permission denied"),
    }
    assert len(task.normals) == 19


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A file name in an old encoding must not break the summary, which is UTF-8."""
    folder = photos(tmp_path / "photos", 9)
    odd = os.fsencode(folder) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(odd)).write_bytes(b"broken")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    task = open_task(str(folder), describe=BRACKET)
    assert [s.path for s in task.set_aside] == ["caf\\xe9.png"]


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    """A link to the photos works; a link in a circle does not hang or count a photo twice."""
    photos(tmp_path / "elsewhere", 9)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "inner").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "photos")
    assert len(open_task(str(tmp_path / "photos"), describe=BRACKET).normals) == 9


def test_summary_facts_can_be_written(tmp_path: Path) -> None:
    """The details go into summary.json: they must be plain JSON values."""
    details = open_task(str(mvtec(tmp_path / "bottle")), describe=BRACKET).details
    assert json.loads(json.dumps(details)) == details
