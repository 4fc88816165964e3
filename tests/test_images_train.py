"""`kka images train` in small: its folder, what it learns, going on after a kill, what it may know, errors."""

import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from PIL import Image
from safetensors import SafetensorError

from kka.cli import main
from kka.common.cache import pixel_hash
from kka.errors import UserError
from kka.imaging import build_image_model
from kka.imaging.published import RECOMMENDED
from kka.run.drawing import Allowed, allowed_pictures
from kka.settings.image_training import ImageTrainingSettings
from kka.task import Knowledge

pytest.importorskip("diffusers", reason="the optional package diffusers is absent")

from kka.imaging.fitting import batch_of
from kka.imaging.train import ImageTrainingReport, train_image_model
from kka.imaging.training_folder import work_folder
from kka.language.clip import encode, train_clip_tokenizer

COLORS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30), "white": (240, 240, 240)}
SMALL = ImageTrainingSettings(
    width=16, steps=24, autoencoder_steps=10, batch_size=8, learning_rate=1e-2, drawing_steps=2, guidance=1.5,
    save_every=5, sample_every=12, vocabulary=512, ema=0.9,
)  # fmt: skip


def plain(color: str, seed: int, side: int = 32) -> np.ndarray:
    """A picture of one colour, with a little noise."""
    noise = np.random.default_rng(seed).normal(0, 6, (side, side, 3))
    return (np.array(COLORS[color]) + noise).clip(0, 255).astype(np.uint8)


def toy(side: int = 32, count: int = 24) -> Knowledge:
    """Pictures of two colours and captions that name them."""
    kinds = tuple(("red", "blue")[i % 2] for i in range(count))
    return Knowledge(
        images=np.stack([plain(kind, i, side) for i, kind in enumerate(kinds)]),
        captions=tuple((f"a {kind} flower", f"This flower  is {kind}.")[: 1 + i % 2] for i, kind in enumerate(kinds)),
        kinds=kinds,
    )


def train(out: Path, knowledge: Knowledge | None = None, **options: Any) -> ImageTrainingReport:
    settings = options.pop("settings", SMALL)
    return train_image_model(knowledge or toy(), out, settings=settings, origin={"data": "toy"}, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageTrainingReport, list[tuple[str, int, int]]]:
    """A model that was trained without a stop."""
    out, told = tmp_path_factory.mktemp("drawing") / "a model, ä", []
    report = train(out, progress=lambda *given: told.append(given))
    return out, report, told


def test_the_folder_is_a_pipeline_that_draws(trained: tuple[Path, Any, Any]) -> None:
    """The point of it all: the code that loads Stable Diffusion loads it, and draws pictures of its own size."""
    out = trained[0]
    model: Any = build_image_model(f"diffusers:{out}", device="cpu")
    assert (model.steps, model.guidance) == (2, 1.5)
    drawn = model.draw(["a red flower", "a red flower", "ein weißer Kelch 花 🌷"], seeds=[1, 2, 1])
    assert (drawn.shape, drawn.dtype) == ((3, 32, 32, 3), np.uint8)
    assert len({pixel_hash(picture) for picture in drawn}) == 3
    names = {file.name for file in out.rglob("*") if file.is_file()}
    assert {"model_index.json", "samples.png", RECOMMENDED, "diffusion_pytorch_model.safetensors"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl", ".ckpt")) for name in names)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert json.loads((out / RECOMMENDED).read_text())["trained"]["data"] == "toy"


def test_the_loss_falls_and_progress_is_told(trained: tuple[Path, ImageTrainingReport, Any]) -> None:
    """A network that learns nothing keeps the loss of its beginning, 2: the variances of noise and latents."""
    _, report, told = trained
    assert report.fitted["drawing"].loss < 1.8 and report.psnr > 5
    assert (report.pictures, report.captions) == (24, 36)
    assert [done for stage, done, _ in told if stage == "drawing"] == list(range(1, 25))
    assert [done for stage, done, _ in told if stage == "autoencoder"] == list(range(1, 11))
    for fitted in report.fitted.values():
        assert fitted.pictures_per_second is not None and fitted.pictures_per_second > 0
        assert fitted.multiply_adds is not None and fitted.multiply_adds > 1e6


def weights(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.suffix in (".safetensors", ".png") or file.parent != folder]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.is_file()}


def stopped_at(*stops: tuple[str, int]) -> Callable[[str, int, int], None]:
    """A progress that a Ctrl-C cuts off at each of `stops`, once."""
    left = list(stops)

    def told(stage: str, done: int, total: int) -> None:
        if left and (stage, done) == left[0]:
            left.pop(0)
            raise KeyboardInterrupt

    return told


def test_going_on_is_the_same_to_the_last_bit(trained: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """A training that was killed in either part, in a sheet and after its last step gives the very same model."""
    out = tmp_path / "m"
    stop = stopped_at(("autoencoder", 8), ("samples", 2), ("drawing", 24))
    for resumed in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(out, progress=stop, resume=resumed > 0)
        assert not out.exists()
    assert len(list(work_folder(out).glob("samples-*.png"))) == 1
    said: list[str] = []
    report = train(out, resume=True, progress=stop, say=said.append)
    assert "drawing: going on after step 24 of 24" in said
    assert weights(out) == weights(trained[0])
    assert report.fitted["drawing"].loss == trained[1].fitted["drawing"].loss


def test_a_larger_size(tmp_path: Path) -> None:
    """64 pixels have the same places for the UNet, by an autoencoder of one more halving."""
    settings = dataclasses.replace(SMALL, size=64, steps=1, autoencoder_steps=2)
    train(tmp_path / "m", toy(64), settings=settings)
    drawn = build_image_model(f"diffusers:{tmp_path / 'm'}", device="cpu").draw(["a blue flower"], seeds=[0])
    assert drawn.shape == (1, 64, 64, 3)


@pytest.mark.slow
def test_the_colour_follows_the_caption(tmp_path: Path) -> None:
    """A model that hears no caption draws either colour for both."""
    settings = dataclasses.replace(
        SMALL, steps=400, autoencoder_steps=400, batch_size=16, drawing_steps=8, guidance=3.0, learning_rate=2e-3,
        ema=0.98, sample_every=1000, save_every=1000,
    )  # fmt: skip
    train(tmp_path / "m", toy(count=64), settings=settings)
    model = build_image_model(f"diffusers:{tmp_path / 'm'}", device="cpu")
    red, blue = (model.draw([f"a {color} flower"] * 8, seeds=range(8)) for color in ("red", "blue"))
    difference = [picture[..., 0].mean() - picture[..., 2].mean() for picture in (*red, *blue)]
    assert sum(d > 0 for d in difference[:8]) >= 7 and sum(d < 0 for d in difference[8:]) >= 7


def test_an_epoch_is_every_picture_once() -> None:
    """Pictures that are never met teach nothing; an order that is not the seed's cannot be resumed."""
    met = np.concatenate([batch_of(10, 4, 0, step) for step in range(5)])
    assert sorted(met[:10]) == sorted(met[10:]) == list(range(10))
    assert not np.array_equal(met[:10], met[10:])
    assert np.array_equal(batch_of(10, 4, 0, 2), met[8:12])
    assert len(batch_of(3, 8, 1, 0)) == 8


def test_any_text_can_be_encoded() -> None:
    """Captions of a language model hold words and letters that no training caption has."""
    captions = [caption for given in toy().captions for caption in given]
    tokenizer = train_clip_tokenizer(captions, 512)
    ids = encode(tokenizer, ["a red flower", "żółty 花", ""])
    assert tokenizer.convert_ids_to_tokens(ids[0])[1:4] == ["a</w>", "red</w>", "flower</w>"]
    assert len({tuple(row) for row in ids.tolist()}) == 3
    assert (ids[1] != tokenizer.unk_token_id).sum() > 5
    assert ids.shape[1] == tokenizer.model_max_length == 8


NAMES = list(COLORS)


def row(label: int, seed: int, side: str) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.fromarray(plain(NAMES[label], seed)).save(buffer, "PNG")
    return {
        "image": {"bytes": buffer.getvalue(), "path": f"{side}_{seed}.png"}, "label": label,
        "label_name": NAMES[label], "captions": [f"a {NAMES[label]} flower"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of ten; the first two training pictures are in the test set as well."""
    folder = tmp_path_factory.mktemp("data")
    rows = {
        "train": [row(i % 4, i, "train") for i in range(40)],
        "test": [row(i % 4, 1000 + i, "test") for i in range(8)] + [row(i, i, "copy") for i in (0, 1)],
    }
    for side, found in rows.items():
        pq.write_table(pa.Table.from_pylist(found), folder / f"{side}.parquet")
    return folder


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        ({}, set(NAMES)),
        ({"known": ("red", "2")}, {"red", "green"}),
        ({"known": ("blue",), "normal": ("red",)}, {"blue"}),
        ({"normal": ("red",)}, {"blue", "green", "white"}),
        ({"normal": ("red",), "unseen": 0.34}, None),
    ],
)
def test_what_it_may_know(data: Path, given: dict[str, Any], classes: set[str] | None) -> None:
    """A normal, a withheld or a test picture in the model would make every figure on it worthless."""
    knowledge, aside = allowed_pictures(Allowed(data=str(data), **given), 32)
    if classes is None:
        assert len({*knowledge.kinds}) == 2 and "red" not in knowledge.kinds
    else:
        assert {*knowledge.kinds} == classes
    sealed = {pixel_hash(plain(NAMES[i % 4], 1000 + i)) for i in range(8)}
    sealed |= {pixel_hash(plain(NAMES[i], i)) for i in (0, 1)}
    assert not sealed & {pixel_hash(image) for image in knowledge.images}
    copies = {"red": "train_0.png", "blue": "train_1.png"}
    missing = {copies[kind] for kind in {*knowledge.kinds} & {*copies}}
    assert missing <= {item.path.split(":")[1] for item in aside}
    assert len(knowledge.images) == 10 * len({*knowledge.kinds}) - len(missing)
    for image, captions, kind in zip(knowledge.images, knowledge.captions, knowledge.kinds, strict=True):
        assert captions == (f"a {kind} flower",)
        assert np.abs(image.mean((0, 1)) - COLORS[kind]).max() < 12


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"known": ("reed",)}, r"known: no class is called 'reed'\. Did you mean 'red'"),
        ({"known": ("red",), "normal": ("red",)}, "known: expected none of the normal classes; got red"),
        ({"known": ("red",), "unseen": 0.5}, "leave out --unseen"),
        ({"unseen": 0.5}, "expected --normal as well"),
        ({"data": "garden", "known": ("rose",)}, "which names classes; got garden"),
        ({"data": "/nowhere/at/all"}, "does not exist"),
    ],
)
def test_what_it_may_know_is_said_clearly(data: Path, given: dict[str, Any], told: str) -> None:
    """A class that was misspelt must not be left out, or known, in silence."""
    with pytest.raises(UserError, match=told):
        allowed_pictures(Allowed(**{"data": str(data), **given}), 32)


def test_nothing_is_written_over(trained: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """A model of hours, photos, or a training that was begun are not for a second command to take."""
    with pytest.raises(UserError, match="holds a model already"):
        train(trained[0])
    with pytest.raises(UserError, match=r"nothing to resume.* is a finished model"):
        main_error("images", "train", "--out", str(trained[0]), "--resume")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="new or an empty folder"):
        train(tmp_path / "photos")
    work_folder(tmp_path / "n").mkdir()
    (work_folder(tmp_path / "n") / "1.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"n\.training holds files of something else"):
        train(tmp_path / "n")
    with pytest.raises(UserError, match="at least 10 captioned pictures"):
        train(tmp_path / "m", toy(count=9))
    with pytest.raises(UserError, match="32 pixels a side"):
        train(tmp_path / "m", toy(64))
    assert not work_folder(tmp_path / "m").exists()


def main_error(*arguments: str) -> None:
    """Raises the UserError that the command line would print."""
    from kka.cli import parse
    from kka.cli.images import run_images

    run_images(parse(list(arguments)))


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    """Other settings, other pictures, a damaged checkpoint or a second process would give a model of neither."""
    out, stop = tmp_path / "m", stopped_at(("autoencoder", 7))
    with pytest.raises(KeyboardInterrupt):
        train(out, progress=stop)
    with pytest.raises(UserError, match=r"begun already\. Go on with it: kka images train"):
        train(out)
    with pytest.raises(UserError, match="width: started with 16, got 32"):
        train(out, resume=True, settings=dataclasses.replace(SMALL, width=32))
    with pytest.raises(UserError, match="pictures: started with"):
        train(out, toy(count=26), resume=True)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="version: started with 1, got 2"):
        patch.setattr("kka.imaging.train.VERSION", 2)
        train(out, resume=True)
    with FileLock(work_folder(out) / ".lock"), pytest.raises(UserError, match="in use by another process"):
        train(out, resume=True)
    (work_folder(out) / "autoencoder.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="expected a checkpoint of this training"):
        train(out, resume=True)


def test_a_full_disk_loses_nothing(trained: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """The error says how to go on, and going on gives the same model; before the settings are stored there is nothing
    to go on with."""
    out = tmp_path / "m"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=r"is full.*give the command again"):
        patch.setattr("kka.imaging.training_folder.write_atomically", full_too)
        train(out)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=r"disk is full.*os error 28.*--resume"):
        patch.setattr("kka.imaging.fitting.save_file", full)
        train(out)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=r"is full.*No space left.*--resume"):
        patch.setattr("diffusers.StableDiffusionPipeline.save_pretrained", full_too)
        train(out, resume=True)
    assert not out.exists() and [path.name for path in tmp_path.iterdir()] == ["m.training"]
    train(out, resume=True)
    assert weights(out) == weights(trained[0])


def full(*_: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def full_too(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line whole: stopped, taken up with --resume alone, and its speed beside the floor."""
    out = tmp_path / "m"
    small = (
        "--width 16 --steps 8 --autoencoder-steps 4 --batch-size 8 --drawing-steps 1 --save-every 2 --vocabulary 512 "
        "--sample-every 100"
    )
    arguments = ["images", "train", "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kka.imaging.train.Fit.run", interrupted)
        assert main([*arguments, "--data", str(data), "--known", "red", "white", *small.split()]) == 130
    assert f"go on with: kka images train --out {out} --resume" in capsys.readouterr().err
    assert main([*arguments, "--resume", "--steps", "9"]) == 2
    assert "steps: started with 8, got 9" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kka.common.machine.matrix_rate", lambda device, dtype: 4e10)
        assert main([*arguments, "--resume"]) == 0
    told = capsys.readouterr().out
    assert "drawing: " in told and "pictures a second" in told and "cpu's 20 billion a second allow" in told
    facts = json.loads((out / RECOMMENDED).read_text())
    assert facts["trained"]["classes"] == ["red", "white"] and facts["trained"]["steps"] == 8


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_damaged_advice_is_told(trained: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """The file with the model's own steps and guidance is read at every start."""
    folder = shutil.copytree(trained[0], tmp_path / "m")
    (folder / RECOMMENDED).write_text("{")
    with pytest.raises(UserError, match=r"drawing\.json: expected JSON with steps and guidance"):
        build_image_model(f"diffusers:{folder}", device="cpu")
