"""The three data sets from files of the official forms: pixels, labels, captions and sides are right."""

import dataclasses
import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import kka.data.prepare as preparing
from kka.data import open_task
from kka.data.prepare import NAMES, prepare, preparers
from kka.data.prepare.cifar100 import CIFAR100, FINE
from kka.data.prepare.names import with_article
from kka.data.prepare.options import PrepareOptions
from kka.data.prepare.oxford102 import OXFORD102
from kka.data.prepare.records import DataSet, Record, unpack
from kka.data.prepare.split import split_at_random
from kka.data.prepare.ucm_caption import UCM_CAPTION, place
from kka.data.prepare.write import schema, sha256
from kka.errors import UserError
from prepare_fakes import (
    SETS,
    cifar_pixels,
    opened,
    oxford_labels,
    rows_of,
    serving,
    small,
    smooth,
    tar,
    with_files,
    write_cifar,
    write_oxford,
    write_reed,
    write_sentences,
    write_ucm,
    zipped,
)  # fmt: skip

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny data sets count as whole; files that are not the official ones are refused no more."""
    sets = {CIFAR100.name: small(CIFAR100), OXFORD102.name: small(OXFORD102), UCM_CAPTION.name: small(UCM_CAPTION, 5)}
    patched = {name: with_any_files(dataset) for name, dataset in sets.items()}
    monkeypatch.setattr(preparing, "preparers", lambda: patched)


def with_any_files(dataset: DataSet) -> DataSet:
    return dataclasses.replace(dataset, downloads=())


def options(source: Path, **more: object) -> PrepareOptions:
    return PrepareOptions(source=str(source), **more)  # type: ignore[arg-type]


def test_cifar(tiny: None, tmp_path: Path) -> None:
    """Planes taken for rows, or coarse for fine, would give coloured noise under wrong names."""
    card = prepare("cifar100", tmp_path / "cifar100", options(write_cifar(tmp_path / "raw")))
    for side, each in (("train", 2), ("test", 1)):
        rows = rows_of(tmp_path / "cifar100", side)
        assert [row["label"] for row in rows] == [label for label in range(100) for _ in range(each)]
        for i, row in enumerate(rows):
            assert row["label_name"] == FINE[row["label"]]
            np.testing.assert_array_equal(opened(row), cifar_pixels(side, row["label"], i % each))
    apple = rows_of(tmp_path / "cifar100", "test")[0]
    assert apple["captions"] == ["a photo of an apple"] and apple["coarse_name"] == "fruit_and_vegetables"
    assert card["images"] == {"train": 200, "test": 100} and not card["partial"]
    task = open_task(str(tmp_path / "cifar100"), normal=["coarse:flowers"])
    assert len(task.normals) == 10 and task.domain == "photos of objects"
    expected = {cifar_pixels("train", FINE.index(n), i).tobytes() for n in ("orchid", "rose", "tulip") for i in (0, 1)}
    assert expected <= {image.tobytes() for image in task.normals}


def test_the_python_version_of_cifar_is_not_loaded(tmp_path: Path) -> None:
    """A pickle can run code; the error must say which file to get instead."""
    (tmp_path / "raw/cifar-100-python").mkdir(parents=True)
    (tmp_path / "raw/cifar-100-python/train").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=r"pickles are never loaded.*cifar-100-binary.tar.gz.*cs.toronto.edu"):
        prepare("cifar100", tmp_path / "out", options(tmp_path / "raw"))


def test_cut_off_and_mixed_up_cifar_files(tmp_path: Path) -> None:
    """Another file of the same name would give pictures that start in the middle of others."""
    raw = write_cifar(tmp_path / "raw")
    file = raw / "cifar-100-binary/train.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="expected a multiple of 3074 bytes"):
        prepare("cifar100", tmp_path / "out", options(raw, allow_partial=True))
    file.write_bytes(b"\x13" + whole[1:])
    with pytest.raises(UserError, match="superclass 19 and class 0, which disagree"):
        prepare("cifar100", tmp_path / "out", options(raw, allow_partial=True))


def test_oxford_with_the_captions_of_reed(tiny: None, tmp_path: Path) -> None:
    """The official split, labels by image number, ten captions each, and pictures cut square."""
    raw = write_reed(write_oxford(tmp_path / "raw"), oxford_labels(3))
    card = prepare("oxford102", tmp_path / "oxford102", options(raw, split="official", size=16))
    assert card["images"] == {"train": 204, "test": 102} and card["captions"] == {"own": 306}
    for side, first in (("train", 1), ("test", 205)):
        for i, row in enumerate(rows_of(tmp_path / "oxford102", side), start=first):
            assert row["image"]["path"] == f"image_{i:05d}.jpg" and row["label"] == oxford_labels(3)[i - 1]
            assert row["label_name"] == OXFORD102.label_name(row["label"])
            assert row["captions"] == [f"flower {i} said in way {k}" for k in range(10)]
            np.testing.assert_allclose(opened(row), smooth(i, 16, 16), atol=6)


def test_oxford_at_random(tiny: None, tmp_path: Path) -> None:
    """Without captions the class name stands in; 70 % of each class train; the seed decides which."""
    raw = write_oxford(tmp_path / "raw")
    card = prepare("oxford102", tmp_path / "a", options(raw))
    assert card["split"] == {"rule": "random", "train_share": 0.7, "seed": 0} and card["size"] == 128
    train = rows_of(tmp_path / "a", "train")
    assert set(Counter(row["label"] for row in train).values()) == {2}
    assert {c for row in train for c in row["captions"] if row["label"] in (3, 9, 35)} == {
        "a photo of canterbury bells", "a photo of a monkshood", "a photo of an alpine sea holly",
    }  # fmt: skip
    again = prepare("oxford102", tmp_path / "b", options(raw))
    other = prepare("oxford102", tmp_path / "c", options(raw, seed=1))
    assert again["sha256"] == card["sha256"] != other["sha256"]
    assert sha256(tmp_path / "a/train.parquet") == card["sha256"]["train.parquet"]


def test_identical_pictures_are_on_one_side() -> None:
    """A test picture that is in the training set, too, measures memory."""
    contents = [b"%d" % i for i in range(40)]
    contents[7] = contents[31] = contents[2]
    records = [
        Record(name=f"{i:02d}.jpg", label=i % 2, side=None, load=lambda i=i: contents[i])  # type: ignore[misc]
        for i in range(40)
    ]
    for seed in range(8):
        divided = split_at_random(records, 0.7, seed)
        assert len({divided[i].side for i in (2, 7, 31)}) == 1
        trained = Counter(record.label for record in divided if record.side == "train")
        assert trained == {0: 14, 1: 14}
        backwards = split_at_random(records[::-1], 0.7, seed)[::-1]
        assert [record.side for record in backwards] == [record.side for record in divided]


@pytest.mark.parametrize("numbered", [True, False])
def test_ucm(tiny: None, tmp_path: Path, numbered: bool) -> None:
    """The caption file names images in two ways; taken wrongly, every caption is another picture's."""
    raw = write_ucm(tmp_path / "raw")
    sentences = write_sentences(tmp_path / "dataset.json", numbered=numbered)
    card = prepare("ucm_caption", tmp_path / "ucm_caption", options(raw, captions=sentences, size=32))
    assert card["images"] == {"train": 63, "test": 42} and card["split"] == {"rule": "official"}
    for side, numbers in (("train", (0, 1, 2)), ("test", (3, 4))):
        rows = rows_of(tmp_path / "ucm_caption", side)
        assert [row["image"]["path"] for row in rows] == [
            f"{name}{n:02d}.jpg" for name in UCM_CAPTION.label_names for n in numbers
        ]
        for row in rows:
            name, n = row["label_name"], int(row["image"]["path"][-6:-4])
            assert row["captions"] == [f"{name} {n} way {w} ." for w in range(5)]
            np.testing.assert_allclose(opened(row), smooth(100 * row["label"] + n, 32, 32), atol=6)


def test_ucm_without_captions_says_so(tiny: None, tmp_path: Path) -> None:
    """A random split and class names must not pass for the official split and human captions."""
    raw = write_ucm(tmp_path / "raw")
    card = prepare("ucm_caption", tmp_path / "a", options(raw))
    assert card["split"]["rule"] == "random" and card["captions"] == {"class_name": 105}
    assert "RSICD_optimal" in card["notes"][0]
    with pytest.raises(UserError, match="split: nothing in the source says"):
        prepare("ucm_caption", tmp_path / "b", options(raw, split="official"))
    write_sentences(raw / "dataset.json", each=4)  # the fifth image of each class is in no part
    card = prepare("ucm_caption", tmp_path / "c", options(raw))
    assert card["captions"] == {"own": 84} and len(card["set_aside"]) == 21
    assert card["set_aside"][0] == {"path": "agricultural04.tif", "reason": "on no side of the official split"}


def test_numbered_names() -> None:
    """1.tif to 2100.tif go through the classes a hundred at a time."""
    assert [place(n) for n in ("1.tif", "100.tif", "101.tif", "2100.tif")] == [(0, 0), (0, 99), (1, 0), (20, 99)]
    assert place("x/tenniscourt42.TIF") == (20, 42)
    assert [place(n) for n in ("0.tif", "2101.tif", "castle01.tif", "notes.txt")] == [None] * 4


@pytest.mark.parametrize("name", NAMES)
def test_download_and_prepare(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way from the server's archives to a task, without --from."""
    served = tmp_path / "served"
    served.mkdir()
    if name == "cifar100":
        files = [tar(write_cifar(tmp_path / "raw"), "cifar-100-binary", served / "cifar-100-binary.tar.gz")]
    elif name == "oxford102":
        raw = write_oxford(tmp_path / "raw", size=(16, 16))
        files = [tar(raw, "jpg", served / "102flowers.tgz"), raw / "imagelabels.mat", raw / "setid.mat"]
    else:
        files = [zipped(write_ucm(tmp_path / "raw", 3), "UCMerced_LandUse", served / "UCMerced_LandUse.zip")]
    by_name = {file.name: file for file in files}
    with serving(by_name) as server:
        ours = with_files(small(SETS[name]), by_name, server.url)
        monkeypatch.setattr(preparing, "preparers", lambda: {name: ours})
        seen: list[str] = []
        card = prepare(
            name,
            tmp_path / name,
            PrepareOptions(downloads=tmp_path / "downloads", size=16),
            lambda what, done, total: seen.append(what),
        )
    assert sum(card["images"].values()) == 3 * len(ours.label_names) and not card["partial"]
    assert f"Getting {files[0].name}" in seen and "Storing pictures" in seen
    assert card["source"]["from"] == [d.url for d in ours.downloads]
    assert {path.name for path in (tmp_path / name).iterdir()} == {"dataset.json", "test.parquet", "train.parquet"}
    assert json.loads((tmp_path / name / "dataset.json").read_text()) == card
    damaged = tmp_path / "downloads" / name / files[0].name
    damaged.write_bytes(damaged.read_bytes() + b"x")
    with pytest.raises(UserError, match="is not the official file: expected MD5"):
        prepare(name, tmp_path / "again", PrepareOptions(source=str(damaged.parent)))


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    """A subset must not pass for the data set, and people must learn where to get the rest."""
    raw = write_ucm(tmp_path / "raw")
    with pytest.raises(UserError, match=r"expected 2,100 images; got 105; expected 100 images of each class; got agri"):
        prepare("ucm_caption", tmp_path / "out", options(raw))
    assert not (tmp_path / "out").exists()
    card = prepare("ucm_caption", tmp_path / "out", options(raw, allow_partial=True))
    assert card["partial"] and "got 105" in card["faults"][0]
    (tmp_path / "empty").mkdir()
    for name, told in (("cifar100", "kriz/cifar.html"), ("oxford102", "vgg/data/flowers"), ("ucm_caption", "weegee")):
        with pytest.raises(UserError, match=told):
            prepare(name, tmp_path / "nothing", options(tmp_path / "empty"))


def test_bad_files_are_named(tiny: None, tmp_path: Path) -> None:
    """A damaged picture must neither stop the work nor vanish; many mean that something is wrong."""
    raw = write_oxford(tmp_path / "raw")
    (raw / "jpg/image_00005.jpg").write_bytes(b"no picture")
    card = prepare("oxford102", tmp_path / "a", options(raw))
    assert [item["path"] for item in card["set_aside"]] == ["image_00005.jpg"]
    assert sum(card["images"].values()) == 305
    for i in range(1, 40):
        (raw / f"jpg/image_{i:05d}.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="39 of the 306 images"):
        prepare("oxford102", tmp_path / "b", options(raw))
    assert not (tmp_path / "b").exists()


def test_nothing_is_overwritten_unasked(tiny: None, tmp_path: Path) -> None:
    """A second command with the wrong folder would destroy the first one's result; a failed one must keep it."""
    raw = write_ucm(tmp_path / "raw")
    prepare("ucm_caption", tmp_path / "a", options(raw))
    before = sha256(tmp_path / "a/train.parquet")
    with pytest.raises(UserError, match="--overwrite"):
        prepare("ucm_caption", tmp_path / "a", options(raw))
    for file in raw.rglob("airplane*.tif"):
        file.unlink()
    with pytest.raises(UserError, match="airplane: 0"):
        prepare("ucm_caption", tmp_path / "a", options(raw, overwrite=True))
    assert sha256(tmp_path / "a/train.parquet") == before and (tmp_path / "a/dataset.json").is_file()
    prepare("ucm_caption", tmp_path / "a", options(raw, overwrite=True, allow_partial=True))
    assert sha256(tmp_path / "a/train.parquet") != before


def test_wrong_requests(tmp_path: Path) -> None:
    """Mistakes are told before any download."""
    with pytest.raises(UserError, match="unknown data set: expected one of cifar100, oxford102, ucm_caption"):
        prepare("cifar10", tmp_path)
    with pytest.raises(UserError, match="cifar100 has official; got random"):
        prepare("cifar100", tmp_path, PrepareOptions(split="random"))
    with pytest.raises(UserError, match="neither"):
        prepare("cifar100", tmp_path, PrepareOptions(source="no such folder"))
    with pytest.raises(UserError, match="expected size to be a whole number from 8 to 4,096"):
        PrepareOptions(size=4)
    file = tmp_path / "a.json"
    file.write_text('{"images": [{"filename": "1.tif"}]}')
    with pytest.raises(UserError, match=r"KeyError.*RSICD_optimal"):
        prepare("ucm_caption", tmp_path / "o", options(write_ucm(tmp_path / "raw"), captions=file, allow_partial=True))


@pytest.mark.parametrize(
    ("name", "said"),
    [("oak_tree", "an oak tree"), ("bee", "a bee"), ("bearded iris", "a bearded iris"), ("watercress", "a watercress"),
     ("canterbury bells", "canterbury bells"), ("unicorn", "a unicorn"), ("bus", "a bus"), ("otter", "an otter")],
)  # fmt: skip
def test_articles(name: str, said: str) -> None:
    """A caption such as "a apple" teaches the language model bad English."""
    assert with_article(name) == said


@pytest.mark.parametrize("name", NAMES)
def test_the_form_is_that_of_the_stored_sets(name: str) -> None:
    """Benchmarks written for the stored files would not run on prepared ones, or class numbers would differ."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"the real data is not at {SHARED / name}")
    dataset = preparers()[name]
    columns = ["label", "label_name", *(["coarse_label", "coarse_name"] if name == "cifar100" else [])]
    for side in ("train", "test"):
        assert pq.read_schema(SHARED / name / f"{side}.parquet").equals(schema(dataset))
        table = pq.read_table(SHARED / name / f"{side}.parquet", columns=columns)
        for row in table.group_by(columns).aggregate([]).to_pylist():
            assert dataset.label_name(row["label"]) == row["label_name"]
            assert dataset.coarse.get(row["label"], (None, None)) == (row.get("coarse_label"), row.get("coarse_name"))


def test_pictures_of_any_file_type(tiny: None, tmp_path: Path) -> None:
    """Sixteen-bit and transparent images, as the decoder takes them, must not stop the work."""
    raw = write_ucm(tmp_path / "raw")
    images = raw / "UCMerced_LandUse/Images"
    Image.fromarray(np.full((20, 20), 65535, np.uint16)).save(images / "beach/beach00.tif")
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(images / "beach/beach01.tif")
    prepare("ucm_caption", tmp_path / "a", options(raw, size=16))
    rows = [*rows_of(tmp_path / "a", "train"), *rows_of(tmp_path / "a", "test")]
    by_path = {row["image"]["path"]: opened(row) for row in rows}
    assert by_path["beach00.jpg"].min() == by_path["beach01.jpg"].min() == 255


def test_an_encrypted_archive_is_named(tmp_path: Path) -> None:
    """Python raises a plain RuntimeError for it, which would end in a traceback."""
    archive = tmp_path / "some.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "secret")
    content = bytearray(archive.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1  # "encrypted"
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"some\.zip cannot be unpacked: .*encrypted"):
        unpack(archive, tmp_path / "into")
