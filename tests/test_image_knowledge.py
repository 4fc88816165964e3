"""What a drawing model knows of a task: refused where it knows too much, said where too little; `--images trained`."""

import dataclasses
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import kka.run.drawing
from kka.config import RunConfig
from kka.data import open_task
from kka.data.parquet import class_sides
from kka.errors import UserError
from kka.imaging.diffusers import SAMPLES, DiffusersModel
from kka.imaging.published import RECOMMENDED
from kka.run.drawing import Allowed, TaskClasses, require_ignorant, trained_model
from kka.run.execute import _save_samples, _with_notes
from kka.run.models import build_images, check_classes, check_config, check_counts, resolve
from kka.settings.image_training import ImageTrainingSettings
from kka.task import Task

NAMES = ("red", "blue", "green", "white", "black")
CLASSES = TaskClasses(
    normal=frozenset({"red"}), known=frozenset({"blue", "green"}), withheld=frozenset({"white", "black"})
)  # fmt: skip
TINY = ImageTrainingSettings(
    width=16, steps=3, autoencoder_steps=2, batch_size=4, drawing_steps=1, vocabulary=512, sample_every=100,
    save_every=1,
)  # fmt: skip


def model(folder: Path, classes: list[str] | None) -> str:
    """A folder that says what it was trained on, as `kka images train` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"steps": 4, "guidance": 2.0}
    if classes is not None:
        facts["trained"] = {"data": "flowers", "classes": classes}
    (folder / RECOMMENDED).write_text(json.dumps(facts))
    return f"diffusers:{folder}"


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (["blue", "red"], "does not know the normal class of this task; got one that learned from red"),
        (["white", "blue", "black"], "the withheld classes of this task; got one that learned from black, white"),
    ],
)
def test_a_model_that_knows_too_much_is_refused(classes: list[str], told: str, tmp_path: Path) -> None:
    """Its pictures of a withheld class would make every figure on withheld classes worthless."""
    with pytest.raises(UserError, match=told) as error:
        require_ignorant(model(tmp_path, classes), CLASSES)
    assert "--images trained" in str(error.value)


def test_what_a_model_knows_is_said(tmp_path: Path) -> None:
    """One that knows fewer classes passes with a note, as does one that says nothing; others have nothing to say."""
    fewer = require_ignorant(model(tmp_path, ["blue", "rose"]), CLASSES)
    assert fewer is not None and "knows 1 of the 2 classes that it may; it does not know green" in fewer
    assert require_ignorant(model(tmp_path, ["blue", "green"]), CLASSES) is None
    for silent in (model(tmp_path, None), model(tmp_path, []), "diffusers:some/hub-id"):
        told = require_ignorant(silent, CLASSES)
        assert told is not None and "does not say which classes" in told
    assert require_ignorant("bank:train", CLASSES) is None
    assert require_ignorant("garden", CLASSES) is None


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five classes of twelve training pictures and three test pictures."""
    folder = tmp_path_factory.mktemp("flowers")
    for side, each in (("train", 12), ("test", 3)):
        rows = []
        for i in range(5 * each):
            label, buffer = i % 5, io.BytesIO()
            noise = np.random.default_rng([each, i]).integers(0, 40, (32, 32, 3))
            Image.fromarray((noise + 40 * label).astype(np.uint8)).save(buffer, "PNG")
            rows.append({
                "image": {"bytes": buffer.getvalue(), "path": f"{i}.png"}, "label": label,
                "label_name": NAMES[label], "captions": [f"a {NAMES[label]} flower"],
            })  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{side}.parquet")
    return folder


@pytest.fixture(scope="module")
def task(data: Path) -> Task:
    return open_task(str(data), normal=["red"], unseen=0.5)


def sides(task: Task) -> dict[str, list[str]]:
    found = task.details["classes"]
    assert isinstance(found, dict)
    return found


def test_the_run_refuses_before_it_reads_a_picture(data: Path, task: Task, tmp_path: Path) -> None:
    """The classes that are known before anything is decoded are those of the task."""
    assert class_sides(data, ["red"], 0.5, 0) == sides(task)
    withheld = sides(task)["withheld"]
    assert len(withheld) == 2
    spec = model(tmp_path / "much", withheld[:1])
    (tmp_path / "much" / "model_index.json").write_text("{}")
    config = RunConfig(data=str(data), normal=("red",), unseen=0.5, images=spec, lm="garden")
    with pytest.raises(UserError, match=f"learned from {withheld[0]}"):
        check_config(config)
    with pytest.raises(UserError, match=f"learned from {withheld[0]}"):
        build_images(spec, config, task)
    fewer = model(tmp_path / "fewer", sides(task)["known"][:1])
    noted = _with_notes(task, fewer, None)
    notes = noted.details["notes"]
    assert isinstance(notes, list) and "knows 1 of the 2 classes" in notes[-1]
    assert check_classes(fewer, data, ["red"], 0.5, 0) == notes[-1]
    assert _with_notes(task, "bank:train", None) is task


def test_photos_and_the_garden_have_no_such_classes() -> None:
    """A note about withheld classes where there are none would only puzzle."""
    assert TaskClasses.of(open_task("garden")) is None


def test_an_experiment_refuses_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment of many tasks would come to the refused one after hours."""
    from kka.experiments.engine import checks
    from kka.experiments.engine.cells import Cell
    from kka.experiments.engine.compute import Place
    from kka.settings.backbone import BackboneSettings

    monkeypatch.setattr(checks, "check_models", lambda specs, config: None)
    (tmp_path / "oxford102").symlink_to(data)
    place = Place(data=tmp_path, work=tmp_path / "work", backbone=BackboneSettings())

    def check(spec: str) -> None:
        cell = Cell(
            dataset="oxford102", normal="0", detector="sad", arm="rep-1", seed=0, variant=f"images={spec}",
            protocol="paper", scale="smoke",
        )  # fmt: skip
        checks.check_parts([cell], place)

    with pytest.raises(UserError, match="learned from red"):
        check(model(tmp_path / "m", ["red", "blue"]))
    with pytest.warns(UserWarning, match=r"knows 1 of the 4 classes.*\(oxford102 0\)"):
        check(model(tmp_path / "m", ["blue"]))


def test_images_trained(data: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on what the task may know, its time told first, stopped and gone on with, and then found again."""
    pytest.importorskip("diffusers", reason="the optional package diffusers is absent")
    monkeypatch.setenv("KKA_CACHE", str(tmp_path))
    allowed, said = Allowed(data=str(data), normal=("red",), unseen=0.5), list[str]()

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("drawing", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained_model(task, allowed, settings=TINY, progress=stop, say=said.append)
    assert "is trained first, on 24 pictures" in said[0] and "about 1 minute in all" in said[1]
    elsewhere = dataclasses.replace(allowed, data=f"{data}/")  # the same pictures by another name
    folder = trained_model(task, elsewhere, settings=dataclasses.replace(TINY, save_every=2), say=said.append)
    assert any("from where it was stopped" in text for text in said)
    assert any(text.startswith("drawing: going on after step") for text in said)
    facts = json.loads((folder / RECOMMENDED).read_text())["trained"]
    assert facts["classes"] == sides(task)["known"] and (facts["normal"], facts["unseen"]) == (["red"], 0.5)
    assert require_ignorant(f"diffusers:{folder}", TaskClasses.of(task) or CLASSES) is None
    monkeypatch.setattr(kka.run.drawing, "_train_cached", lambda *_: pytest.fail("it was trained again"))
    assert trained_model(task, allowed, settings=dataclasses.replace(TINY, device="cpu")) == folder
    with pytest.raises(pytest.fail.Exception):
        trained_model(task, allowed, settings=dataclasses.replace(TINY, steps=4))

    monkeypatch.setattr(kka.run.drawing, "ImageTrainingSettings", lambda size: dataclasses.replace(TINY, size=size))
    config = RunConfig(data=str(data), normal=("red",), unseen=0.5, images="trained")
    assert resolve(config, task)[1] == "trained"
    painter = build_images("trained", config, task)
    assert isinstance(painter, DiffusersModel) and painter.draw(["a blue flower"], seeds=[0]).shape == (1, 32, 32, 3)
    (tmp_path / "run").mkdir()
    _save_samples(painter, tmp_path / "run")
    assert (tmp_path / "run" / "samples.png").read_bytes() == (folder / SAMPLES).read_bytes()


def test_trained_needs_something_to_learn_from(task: Task) -> None:
    """Said before the language model is loaded."""
    config = RunConfig(images="trained", lm="garden")
    with pytest.raises(UserError, match="'trained' is trained on captioned pictures of other classes"):
        check_counts(config, dataclasses.replace(task, knowledge=None))
    with pytest.raises(UserError, match="'trained' is trained on captioned pictures"):
        trained_model(dataclasses.replace(task, knowledge=None), Allowed(data="x"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_counts(config, task)
