"""Layouts of folders: what is normal, anomalous, a mask is read from known words, said, and never guessed."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kka.common.cache import pixel_hash
from kka.common.files import image_files
from kka.common.folder_words import Role, only_group, role_of
from kka.common.masks import find_masks, look_at
from kka.config import RunConfig
from kka.data import open_task
from kka.data.describe import describe
from kka.data.layout import read_layout
from kka.data.sides import Sides, choose_sides
from kka.errors import UserError
from kka.imaging.library import read_library
from kka.run.models import build_images
from kka.settings.drawing import DrawingSettings


def picture(path: Path, seed: int, *, size: tuple[int, int] = (12, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def mask(path: Path, *, size: tuple[int, int] = (12, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size, np.uint8)
    pixels[3:6, 4:9] = 255
    Image.fromarray(pixels).save(path)
    return path


def make(folder: Path, layout: str) -> Path:
    """Folders and how many pictures each holds: "good 9, gt! 2", where ! is for masks and ? for <name>_mask.png."""
    for at, part in enumerate(layout.split(", ")):
        name, count = part.rsplit(" ", 1)
        for i in range(int(count)):
            if name[-1] in "!?":
                mask(folder / name[:-1] / (f"{i:03}.png" if name[-1] == "!" else f"{i:03}_mask.png"))
            else:
                picture(folder / name / f"{i:03}.png", 1000 * at + i)
    return folder


def sides_of(folder: Path, *normal: str) -> Sides:
    return choose_sides(read_layout(folder, normal=normal), normal, source="SET")


KNOWN = [
    ("good 9, defect 2, ground_truth! 2",
     "9 normals in good/; 2 anomalies in defect/ form the test set; 2 masks in ground_truth/"),
    ("OK 9, NG 2", "9 normals in OK/; 2 anomalies in NG/ form the test set"),
    ("normal 9, abnormal 2, mask! 2",
     "9 normals in normal/; 2 anomalies in abnormal/ form the test set; 2 masks in mask/"),
    ("Train/Good 9, Test/Scratch 2, Test/GOOD 1",
     "9 normals in Train/Good/; 1 normal in Test/GOOD/ and 2 anomalies in Test/Scratch/ form the test set"),
    ("good 9, test/good 1, test/bent lead 2",
     "9 normals in good/; 1 normal in test/good/ and 2 anomalies in test/bent lead/ form the test set"),
    ("train/ok 9, test/ok 1, test/ko 2, ground_truth/ko! 2",
     "9 normals in train/ok/; 1 normal in test/ok/ and 2 anomalies in test/ko/ form the test set; "
     "2 masks in ground_truth/ko/"),
    ("train/good 9, test/scratch 2, test/ground_truth/scratch? 2",
     "9 normals in train/good/; 2 anomalies in test/scratch/ form the test set; 2 masks in test/ground_truth/"),
    ("train/good 9, Defekte 2", "9 normals in train/good/; 2 anomalies in Defekte/ form the test set"),
    (". 9, .? 3", "9 normals; no test set; 3 masks"),
    ("images 9, labels! 9", "9 normals in images/; no test set; 9 masks in labels/"),
    ("Data/Images/Normal 9, Data/Images/Anomaly 2, Data/Masks/Anomaly! 2",
     "9 normals in Data/Images/; 2 anomalies in Data/Images/ form the test set; 2 masks in Data/Masks/"),
    ("good/train 9, good/test 1, defect/test 2",
     "9 normals in good/train/; 1 normal in good/test/ and 2 anomalies in defect/test/ form the test set"),
    ("train_good 9, test_good 1, test-defects 2",
     "9 normals in train_good/; 1 normal in test_good/ and 2 anomalies in test-defects/ form the test set"),
    ("lineA/good 5, lineB/good 4, lineB/bad 2",
     "9 normals in lineA/good/, lineB/good/; 2 anomalies in lineB/bad/ form the test set"),
    ("train/OK 9", "9 normals in train/OK/; no test set"),
    ("良品 9, 不良 2", "9 normals in 良品/; 2 anomalies in 不良/ form the test set"),
    ("Bueno 9, Defectuoso 2", "9 normals in Bueno/; 2 anomalies in Defectuoso/ form the test set"),
    ("n.i.O. 2, i.O. 9", "9 normals in i.O./; 2 anomalies in n.i.O./ form the test set"),
    ("2024-01 5, 2024-02 4", "9 normals in 2024-01/, 2024-02/; no test set"),
    ("camera1 5, camera2 4", "9 normals in camera1/, camera2/; no test set"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "said"), KNOWN, ids=[layout for layout, _ in KNOWN])
def test_known_layouts_are_recognised_and_said(tmp_path: Path, layout: str, said: str) -> None:
    """Each was taken as normals throughout, anomalies and masks included, or refused without a way out."""
    folder = make(tmp_path / "set", layout)
    sides = sides_of(folder)
    assert sides.said == said
    assert sides.normal == {"good"} and {*sides.train.values()} == {"good"}
    words = ("cratch", "bent", "ko/", "bad", "efe", "NG", "不良", "n.i.O", "bnormal", "nomaly", "mask", "labels/")
    assert not [path for path in sides.train if any(word in path for word in words)]
    assert describe(folder).notes[0] == said, "describe agrees"


UNCLEAR = [
    ("cup 5, fork 9", r"sub-folders cup, fork hold\. .*--normal NAME, .*form the test set.*--normal \"\*\""),
    ("good 9, bent lead 2", r"sub-folders bent lead hold, beside normal in good/.*--normal good"),
    (". 9, defect 2", r"9 images in no sub-folder hold, beside anomalous in defect/.*--normal \."),
    (". 9, test/good 1, test/bad 1", r"9 images in no sub-folder hold.*--normal \."),
    ("0 9, 1 2", r"sub-folders 0, 1 hold"),
    ("class1 9, class2 2", r"sub-folders class1, class2 hold"),
    ("valid 9, invalid 2", r"sub-folders invalid hold"),
    ("train/good 9, train/scuffed 2", r"sub-folders scuffed hold.*--normal good, and the others are knowledge"),
    ("train/cup 9, train/fork 2", r"normal: expected the class.*got none\. Known: cup, fork"),
    ("defect 9", r"expected normal images to learn from; all 9 are in defect/"),
    ("bad/ok 2, good 9", r"these say both: bad/ok/.*--normal NAME"),
    ("test/good 9, test/bad 2", r"has test/ but no train/"),
    ("a/train/good 9, b/train/good 9", r"several data sets.*choose one of: a, b"),
    ("masks! 3", r"got 3 masks in masks/"),
]


@pytest.mark.parametrize(("layout", "told"), UNCLEAR, ids=[layout for layout, _ in UNCLEAR])
def test_what_is_not_clear_is_asked(tmp_path: Path, layout: str, told: str) -> None:
    """An anomaly that is taken as normal spoils the detector without a word; the error names folders and option."""
    with pytest.raises(UserError, match=told):
        sides_of(make(tmp_path / "set", layout))


NAMED = [
    ("cup 5, fork 9", ("fork",), "9 normals in fork/; 5 anomalies in cup/ form the test set"),
    ("cup 5, fork 9", ("*",), "14 normals in cup/, fork/; no test set"),
    ("good 9, bent lead 2", ("good",), "9 normals in good/; 2 anomalies in bent lead/ form the test set"),
    (". 9, defect 2", (".",), "9 normals; 2 anomalies in defect/ form the test set"),
    ("train/OK 9, train/NG 2, test/ok 1, test/NG 2", ("OK",),
     "9 normals in train/OK/; 2 images of other classes in train/NG/; "
     "1 normal in test/ok/ and 2 anomalies in test/NG/ form the test set"),
    ("train/OK 9, test/Good 1, test/NG 2", ("OK", "good"),
     "9 normals in train/OK/; 1 normal in test/Good/ and 2 anomalies in test/NG/ form the test set"),
    ("mask 9, no_mask 3", ("mask",), "9 normals in mask/; 3 anomalies in no_mask/ form the test set"),
    ("train/cup/good 9, train/fork/good 2, test/cup/good 1, test/cup/bad 2", ("cup",),
     "9 normals in train/cup/; 2 images of other classes in train/fork/; "
     "1 normal in test/cup/ and 2 anomalies in test/cup/ form the test set"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "normal", "said"), NAMED, ids=[f"{layout} {n}" for layout, n, _ in NAMED])
def test_the_option_settles_it(tmp_path: Path, layout: str, normal: tuple[str, ...], said: str) -> None:
    """Every error above must have a way out that people can type."""
    assert sides_of(make(tmp_path / "set", layout), *normal).said == said


def test_a_forgotten_normal_is_asked_about(tmp_path: Path) -> None:
    """`--normal OK` beside test/Good would make the good ones anomalies."""
    with pytest.raises(UserError, match="test/Good/ of SET is called normal, and OK does not name it"):
        sides_of(make(tmp_path / "set", "train/OK 9, test/Good 2, test/NG 2"), "OK")


def test_labelled_anomalies_are_no_knowledge_unasked(tmp_path: Path) -> None:
    """Labels reach figures only: the models may see anomalies only where the user names the normal class."""
    folder = make(tmp_path / "set", "train/good 9, train/defect 3, test/good 2, test/defect 2")
    task = open_task(str(folder), describe="a photo")
    assert task.knowledge is None and len(task.normals) == 9
    assert any(note.startswith("3 anomalies in train/defect/ are not used") for note in task.details["notes"])  # type: ignore[attr-defined]
    asked = open_task(str(folder), describe="a photo", normal=["good"]).knowledge
    assert asked is not None and {*asked.kinds} == {"defect"}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("01-Good_images", Role(label="normal")), ("not OK", Role(label="anomalous")),
        ("NotOK", Role(label="anomalous")), ("without defect", Role(label="normal")),
        ("defect-free", Role(label="normal")), ("Défaut", Role(label="anomalous")), ("GroundTruth", Role(label="mask")),
        ("label maps", Role(label="mask")), ("defect_masks", Role(label="mask")), ("Testing", Role(split="test")),
        ("normal_test", Role(split="test", label="normal")), ("异常", Role(label="anomalous")),
        ("scratches", Role(label="anomalous", defect=True)), ("images", Role(container=True)),
        ("goodyear", Role()), ("without_mask", Role()), ("contest", Role()), ("okra", Role()), ("2024", Role()),
        ("test_rig_3", Role()), ("badge", Role()),
    ],
)  # fmt: skip
def test_words(name: str, role: Role) -> None:
    """A word more or less makes an anomaly normal: only whole, known words count."""
    assert role_of(name) == role


def test_folders_that_only_group() -> None:
    """Dates and numbered cameras are legal as all normal; numbers alone and numbered classes may be labels."""
    assert only_group(["2024-01-31", "20240201"]) and only_group(["Cam 1", "cam-02"])
    for names in (["0", "1"], ["class_1", "class_2"], ["cam1", "line2"], ["2024-01", "dog"]):
        assert not only_group(names)


def test_masks_beside_photos(tmp_path: Path) -> None:
    """By name, size and look together: a photo that is only called a mask stays one, and that is said."""
    for i in range(9):
        picture(tmp_path / f"{i}.jpg", i)
    mask(tmp_path / "0_mask.png")
    mask(tmp_path / "1.png")
    mask(tmp_path / "2_gt.png", size=(6, 8))
    picture(tmp_path / "3_mask.png", 50)
    mask(tmp_path / "stamp.png")
    layout = read_layout(tmp_path)
    assert layout.masks == {"0.jpg": ("0_mask.png",), "1.jpg": ("1.png",)} and layout.unpaired == ()
    assert len(layout.photos) == 12 and "stamp.png" in layout.photos
    assert layout.notes == (
        "2 pictures are named like masks, but have not the look or the size of one, and are taken as photos: "
        "2_gt.png, 3_mask.png",
    )
    assert sides_of(tmp_path).notes[0].startswith("2 normals have a mask that marks something: 0.jpg, 1.jpg")


def test_masks_are_looked_for_by_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening every picture of a large folder twice would take minutes, and gigabytes over a network."""
    import kka.common.masks as module

    make(tmp_path, "train/good 30, test/good 30, test/scratch 30")
    opened = []
    monkeypatch.setattr(module, "look_at", lambda file: opened.append(file) or look_at(file))
    layout = read_layout(tmp_path)
    assert not layout.masks and len(layout.photos) == 90 and len(set(opened)) <= 9


def test_nearly_binary_photos_are_no_masks_of_each_other(tmp_path: Path) -> None:
    """Silhouettes with equal names in two folders are photos: which of the two is the mask nothing says."""
    make(tmp_path, "cam1! 9, cam2! 9")
    assert len(read_layout(tmp_path).photos) == 18
    assert find_masks({}).photos == ()


def dark(path: Path, seed: int, *, bright: bool = False) -> Path:
    """Dust on black, which is nearly binary; or a photo of the same size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 12, (40, 40))
    pixels[3, 4] = 255
    Image.fromarray((rng.integers(0, 256, (40, 40)) if bright else pixels).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("night", "day"),
    [("good", "defect"), ("2024-01-01", "2024-01-02"), ("train/good", "test/scratch"), ("cam1", "cam2")],
)
def test_dark_photos_are_no_masks_of_bright_ones(tmp_path: Path, night: str, day: str) -> None:
    """Numbers as names are the same in each folder; a class would be gone, and photos of a production unscored."""
    for i in range(9):
        dark(tmp_path / night / f"{i:03}.png", i)
        dark(tmp_path / day / f"{i:03}.png", 50 + i, bright=True)
    assert len(read_layout(tmp_path).photos) == 18 and len(image_files([tmp_path])) == 18


def test_a_folder_called_mask_may_hold_photos(tmp_path: Path) -> None:
    """As of people who wear one: the anomalies would be gone without a word."""
    make(tmp_path, "no_mask 9, mask 5")
    assert sides_of(tmp_path, "no_mask").test and not read_layout(tmp_path).masks
    assert "named like masks" in " ".join(read_layout(tmp_path).notes)
    with pytest.raises(UserError, match="not clear what the sub-folders mask"):
        sides_of(tmp_path)


def test_a_cut_out_and_a_photo_of_a_label_are_photos(tmp_path: Path) -> None:
    """Parts on white, and backlit ones, are nearly binary."""
    for i in range(9):
        dark(tmp_path / f"{i:03}.png", i, bright=True)
        dark(tmp_path / f"{i:03}.bmp", 20 + i)
        dark(tmp_path / f"x{i}.png", 40 + i)
        dark(tmp_path / f"x{i}_label.png", 60 + i)
    assert not read_layout(tmp_path).masks


def test_all_are_normal_but_those_that_say_otherwise(tmp_path: Path) -> None:
    """The option that the error names would train on defects."""
    make(tmp_path, "line1 9, line2 9, defect 4")
    sides = sides_of(tmp_path, "*")
    assert {path.split("/")[0] for path in sides.train} == {"line1", "line2"}
    assert {path.split("/")[0] for path in sides.test} >= {"defect"}


def test_each_mask_finds_its_photo(tmp_path: Path) -> None:
    """Figures by pixel would compare a map with the mask of another photo."""
    make(tmp_path, "train/good 3, test/good 3, test/scratch 3, test/dent 3, ground_truth/scratch? 3")
    mask(tmp_path / "ground_truth/dent/001/0.png")
    mask(tmp_path / "ground_truth/dent/77.png")
    layout = read_layout(tmp_path)
    assert layout.masks == {
        **{f"test/scratch/{i:03}.png": (f"ground_truth/scratch/{i:03}_mask.png",) for i in range(3)},
        "test/dent/001.png": ("ground_truth/dent/001/0.png",),
    }
    assert layout.unpaired == ("ground_truth/dent/77.png",) and len(layout.mask_paths) == 5


def test_junk_and_strangers(tmp_path: Path) -> None:
    """What systems leave behind is no photo; other files are named; an image without a suffix is one."""
    folder = make(tmp_path / "set", ". 9")
    for name in ("@eaDir/000.png/SYNOFILE.jpg", "__MACOSX/._000.png", "$RECYCLE.BIN/x.png", "lost+found/y.png",
                 ".ipynb_checkpoints/000-checkpoint.png", "._000.png", "Thumbs.db", "desktop.ini"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no image")
    (folder / "000.png").rename(folder / "IMG_0001")
    (folder / "README").write_text("about these photos")
    (folder / "clip.mp4").write_bytes(b"film")
    layout = read_layout(folder)
    assert len(layout.photos) == 9 and "IMG_0001" in layout.photos
    assert layout.notes == ("2 files are not read, as they are no images: README, clip.mp4",)
    assert len(open_task(str(folder), describe="a photo").normals) == 9
    assert len(image_files([folder])) == describe(folder).parts["photos"].images == 9


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    """Opening a named pipe waits for ever."""
    folder = make(tmp_path / "set", ". 9")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    assert [item.path for item in read_layout(folder).set_aside] == ["pipe", "pipe.png"]


def test_linked_folders_count_everywhere_and_once(tmp_path: Path) -> None:
    """A linked folder was trained with, but not described, scored or searched."""
    make(tmp_path / "elsewhere", ". 9")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "one").symlink_to(tmp_path / "elsewhere")
    (folder / "two").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(folder)
    lines = [json.dumps({"file_name": f"one/{i:03}.png", "text": f"photo {i}"}) for i in range(9)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    assert len(open_task(str(folder)).normals) == 9
    assert describe(folder).parts["photos"].images == 9
    assert len(image_files([folder])) == len(image_files([folder, tmp_path / "elsewhere"])) == 9
    assert len(read_library(str(folder)).images) == 9


def test_scoring_a_folder_leaves_masks_out(tmp_path: Path) -> None:
    """A mask would be scored as a photo, and be called anomalous; one that is named itself is scored."""
    folder = make(tmp_path / "set", "test/good 2, test/bad 2, ground_truth/bad? 2, .? 0")
    with pytest.warns(UserWarning, match=r"2 masks \(in ground_truth/bad\) are no photos"):
        files = image_files([folder])
    assert [file.parent.name for file in files] == ["bad", "bad", "good", "good"]
    named = folder / "ground_truth/bad/000_mask.png"
    assert image_files([named]) == [named] and len(image_files([named.parent])) == 2


def test_a_bank_holds_no_mask_and_no_test_anomaly(tmp_path: Path) -> None:
    """The anomalies of the test set would come back as training images by way of the library."""
    folder = make(tmp_path / "set", "good 3, defect 2, Test/good 1, masks! 3")
    images = [path.relative_to(folder).as_posix() for path in folder.rglob("*.png")]
    lines = [json.dumps({"file_name": path, "text": f"a {path}"}) for path in images]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="2 anomalies are a test set, and left out"):
        found = read_library(str(folder))
    assert {*found.kinds} == {"good"} and len(found.images) == 3


def test_a_bank_of_the_same_folder_gives_no_test_picture(tmp_path: Path) -> None:
    """It keeps larger pictures than the task: a test picture must be known again all the same."""
    for at, name in enumerate(("apple", "pear")):
        lines = []
        for i in range(9):
            picture(tmp_path / name / f"{i:03}.png", 100 * at + i, size=(90, 90))
            lines.append(json.dumps({"file_name": f"{i:03}.png", "text": f"{name} number {i}"}))
        (tmp_path / name / "metadata.jsonl").write_text("\n".join(lines))
    task = open_task(str(tmp_path), normal=["apple"])
    assert task.test is not None and task.test.is_anomaly.sum() == 9
    config = RunConfig(data=str(tmp_path), normal=("apple",))
    bank = build_images(f"bank:{tmp_path}", config, task)
    pictures = bank.draw(["pear number 3"] * 9, seeds=range(9))
    assert pictures.shape[1:3] == (64, 64)  # as the task's, or none would be known again
    assert not {pixel_hash(image) for image in pictures} & {pixel_hash(image) for image in task.test.images}
    sized = dataclasses.replace(config, drawing=DrawingSettings(size=48))
    with pytest.raises(UserError, match=r"drawing\.size: expected 64"):
        build_images(f"bank:{tmp_path}", sized, task)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_captions_in_other_forms_of_metadata(tmp_path: Path, form: str) -> None:
    """Hugging Face reads metadata.csv and metadata.parquet too: captions would be missing without a word."""
    folder = make(tmp_path / "set", "sub 8, . 1")
    names = ["000.png", *(f"sub/{i:03}.png" for i in range(8)), "gone.png"]
    if form == "csv":
        rows = "".join(f'{name},"photo, of {name}"\n' for name in names)
        (folder / "metadata.csv").write_text(f"file_name,text\n{rows}", encoding="utf-8-sig")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = {"file_name": names, "text": [f"photo, of {name}" for name in names]}
        pq.write_table(pa.table(table), folder / "metadata.parquet")
    task = open_task(str(folder))
    assert task.captions[0] == "photo, of 000.png" and len(task.captions) == 9
    at = "line 11" if form == "csv" else "row 10"
    assert [(item.path, item.reason) for item in task.set_aside] == [
        (f"metadata.{form}, {at}", "no such image: gone.png")
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.csv", b"file_name,label\n000.png,1\n", "expected the columns file_name and one of text"),
        ("metadata.csv", b"\xff\xfe\x00", "not UTF-8 text"),
        ("metadata.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("metadata.jsonl", b"[" * 100_000, "not JSON"),
    ],
)
def test_metadata_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    """A traceback, or captions that are lost in silence."""
    folder = make(tmp_path / "set", ". 9")
    (folder / name).write_bytes(content)
    task = open_task(str(folder), describe="a photo")
    assert len(task.set_aside) == 1 and reason in task.set_aside[0].reason


def test_names_and_captions_that_are_no_text_reach_the_page(tmp_path: Path) -> None:
    """Half a character in a caption, or a file name in an old encoding, ended `describe --html` in a traceback."""
    from kka.cli import main

    folder = make(tmp_path / "set", ". 9")
    (folder / "metadata.jsonl").write_text('{"file_name": "000.png", "text": "half \\ud83d of one"}')
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).mkdir()
        picture(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9/\xff.png")), 70)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert main(["data", "describe", str(folder), "--html", str(tmp_path / "page.html")]) == 0
    assert "half \\ud83d of one" in (tmp_path / "page.html").read_text(encoding="utf-8")
