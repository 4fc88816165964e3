"""What is wrong is said before the first picture is read or drawn or a model loaded, and leaves nothing behind."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import huggingface_hub
import numpy as np
import pytest
from PIL import Image

import kka.common.hub
import kka.run.execute
from fakes import FAST, Painter, fakes_registered, fast_arguments, run_fake, small_task
from kka.cli import main
from kka.common.hub import require_model
from kka.common.json_text import parse_json
from kka.common.store import Store
from kka.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten photos, which no refused command may read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub that cannot be reached; the models that were asked for."""
    asked: list[str] = []

    def model_info(self: Any, name: str, **_: Any) -> Any:
        asked.append(name)
        raise ConnectionError("Name or service not known")

    kka.common.hub._found.cache_clear()
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    yield asked
    kka.common.hub._found.cache_clear()


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that opens no data, loads no model and leaves no file."""
    with (
        fakes_registered(),
        mock.patch.object(kka.run.execute, "open_task", side_effect=AssertionError("the pictures were read")),
        mock.patch("kka.data.open_task", side_effect=AssertionError("the pictures were read")),
    ):
        assert main(arguments) == 2
    out = capsys.readouterr()
    told = out.err.lstrip()
    assert told.startswith("kka: ") and "Traceback" not in told and out.out == ""
    return told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--set", "epochs=nan"], "expected epochs to be a whole number from 1 to 100,000; got 'nan'"),
        (["--prompt", "no place for it"], "a text that contains {caption}"),
        (["--lm", "hf:./nowhere"], "there is no folder './nowhere'"),
        (["--images", "diffusers:./nowhere"], "there is no folder './nowhere'"),
        (["--images", "bank:./nowhere"], "got no folder there"),
        (["--images", "bank:"], "expected a folder after 'bank:'"),
        (["--out", "a\0b"], "zero byte"),
        (["--images", "diffusers:x/y", "--drawing.size", "30"], "expected multiples of 8 pixels"),
        (["--lm", "garden", "--language.max-new-tokens", "None"], "language.max_new_tokens: expected a number"),
        (["--detector", "simplenet", "--backbone.name", "resnet19"], "expected an architecture that timm knows"),
        (["--detector", "simplenet", "--backbone.weights", "x.safetensors"], "which does not exist"),
        (["--folds", "1000"], "expected folds to be a whole number from 1 to 100"),
    ],
)
def test_a_run_says_it_before_it_reads_a_picture(
    options: list[str], told: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same --out takes the corrected command: not even an empty folder is left."""
    usual = {"--lm": "fake", "--images": "fake"}
    for name, value in usual.items():
        options = options if name in options else [*options, name, value]
    out = tmp_path / "out"
    assert told in refused(["run", "--data", str(photos), "--out", str(out), *options], capsys)
    assert not out.exists()


def test_both_models_are_looked_for_at_once_and_in_a_line_each(
    no_hub: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twelve lines of retries for a minute, and the second model after the first had come."""
    models = ["--lm", "hf:Qwen/Qwen3-4B-Instruct-2507", "--images", "diffusers:stabilityai/sd-turbo"]
    told = refused(["run", "--data", str(photos), "--out", str(tmp_path / "out"), *models], capsys)
    assert no_hub == ["Qwen/Qwen3-4B-Instruct-2507", "stabilityai/sd-turbo"]
    assert len(told.splitlines()) == 2 and all(name in told for name in no_hub)
    assert told.count("the hub cannot be reached") == 2


def test_a_model_on_the_hub(no_hub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy does without a hub; a model of another kind is refused; one that is there is asked for once."""
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: "config.json")
    assert require_model("owner/name", "config.json", what="model") is True
    kka.common.hub._found.cache_clear()
    asked: list[str] = []

    def model_info(self: Any, name: str, **_: Any) -> Any:
        asked.append(name)
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename="config.json")])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    assert not require_model("owner/name", "config.json", what="model")
    assert not require_model("owner/name", "config.json", what="model") and asked == ["owner/name"]
    with pytest.raises(UserError, match=r"expected a model with model_index\.json; the hub's has config\.json"):
        require_model("owner/name", "model_index.json", what="model")


def test_more_folds_than_normals_or_pictures(tmp_path: Path) -> None:
    """Found at the first evaluator, after all captions and pictures."""
    task = small_task()
    with mock.patch.object(Painter, "draw", side_effect=AssertionError("drawn")):
        for wrong, told in (
            ({"folds": 25}, "folds: expected 1 to 24"), ({"folds": 9, "initial": 8}, "1 to 8, as there"),
            ({"representatives": 30}, "representatives: expected 1 to 24"),
        ):  # fmt: skip
            with pytest.raises(UserError, match=told):
                run_fake(dataclasses.replace(FAST, **wrong), tmp_path / "out", task=lambda: task)
            assert not (tmp_path / "out").exists()


def test_a_start_that_was_stopped_blocks_nothing(tmp_path: Path) -> None:
    """Ctrl-C or a kill while the models load left "holds a run already"; what others keep in the folder stays."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    stopped = mock.patch.object(kka.run.execute, "build_language", side_effect=KeyboardInterrupt)
    with stopped, pytest.raises(KeyboardInterrupt):
        run_fake(FAST, out)
    assert [file.name for file in out.iterdir()] == ["notes.txt"]
    with Store(out, {"a": 1}):
        pass  # as a kill leaves it: a configuration and no stage
    with Store(out, {"a": 2}) as store:
        store.stage("first", lambda folder: {})
    with pytest.raises(UserError, match="holds a run already"):
        Store(out, {"a": 3})


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--out", "FILE/x"], ["score", "--detector-dir", ".", "x.png", "--out", "FILE/x.csv"],
        ["score", "--detector-dir", ".", "x.png", "--maps", "FILE"],
        ["score", "--detector-dir", ".", "x", "--out", "."],
        ["export", "--detector-dir", ".", "--out", "FILE/m.onnx"], ["lm", "train", "--out", "FILE/lm"],
        ["data", "prepare", "cifar100", "--out", "FILE/c"], ["data", "describe", ".", "--html", "FILE/d.html"],
        ["run", "--data", "fake", "--lm", "fake", "--images", "fake", "--out", "FILE/run"],
    ],
    ids=lambda words: " ".join(words[:2]) + words[-1],
)  # fmt: skip
def test_a_place_that_cannot_be_written_is_said_first(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training of an hour whose --out turns out to be in no folder."""
    file = tmp_path / "file"
    file.write_text("a file where a folder is wanted")
    told = refused([word.replace("FILE", str(file)) for word in arguments], capsys)
    assert "cannot write to" in told or "expected a f" in told
    assert file.read_text() == "a file where a folder is wanted" and [*tmp_path.iterdir()] == [file]


def test_experiments_look_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--results that cannot be written: found after the first cell, an hour of pools before it."""
    from kka.experiments.engine import cell_task

    file = tmp_path / "file"
    file.write_text("")
    usual = ["experiment", "table3", "--dataset", "oxford102", "--work", str(tmp_path / "work")]
    with mock.patch.object(cell_task, "check_tasks"):
        for options, told in (
            (["--results", str(file / "r.jsonl")], "--results: cannot write to"),
            (["--results", str(tmp_path / "r.jsonl"), "--loop", "lm=hf:./nowhere"], "there is no folder './nowhere'"),
            (["--results", str(tmp_path / "r.jsonl"), "--loop", "prompt=nothing"], "contains {caption}"),
        ):
            assert told in refused([*usual, *options], capsys)
    assert [*tmp_path.iterdir()] == [file]


def test_lm_train_names_options_that_it_has(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It said "--describe" or "--lm", which it does not take."""
    told = refused(["lm", "train", "--data", str(photos), "--out", str(tmp_path / "lm")], capsys)
    assert "expected captions of classes" in told and "--describe" not in told and "kka run" in told


def test_names_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """rich takes ":x:" for an emoji and "[/]" for markup: another file would be named, or none."""
    from rich.table import Table

    from kka.cli.progress import Console
    from kka.common.images import SetAside
    from kka.common.terminal import terminal

    name = "a :x: [/] [red]b.png"
    table = Table(title=name)
    table.add_row(name)
    console = terminal(width=120)
    console.print(table)
    console.print(name)
    assert capsys.readouterr().out.count(name) == 3
    task = dataclasses.replace(small_task(), name=name, set_aside=(SetAside(path=name, reason=name),))
    with Console() as shown:
        shown.task(task)
        shown.progress(name, 1, 2)
    assert " ".join(capsys.readouterr().err.split()).count(name) >= 3


def test_there_is_one_terminal() -> None:
    """A console of rich's own would take markup and emoji again."""
    source = Path(kka.run.execute.__file__).parent.parent
    making = re.compile(r"rich\.console import Console\b(?! as)")
    found = {file.name for file in source.rglob("*.py") if making.search(file.read_text(encoding="utf-8"))}
    assert found <= {"terminal.py", "description.py"}  # the latter for a type
    assert "Console(" not in (source / "report" / "description.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_deep_json_is_no_json(text: str) -> None:
    """Python raises a RecursionError, which nobody who reads a file expects."""
    for given in (text, text.encode()):
        with pytest.raises(json.JSONDecodeError, match="too deep to be read"):
            parse_json(given)


def test_the_run_with_the_fakes_still_starts(tmp_path: Path) -> None:
    """All this must let an honest command pass."""
    with fakes_registered():
        assert main([*fast_arguments(tmp_path / "run"), "--rounds", "0"]) == 0
