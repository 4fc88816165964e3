"""The preview of a run and of a training: everything is shown, nothing stays, and what is left to do is foreseen."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kka.common.extrapolate as extrapolate
import kka.run.foresee as foresee
import kka.run.preview as preview
import kka.run.preview_sheet as preview_sheet
from fakes import FAST, Painter, fakes_registered, fast_arguments, small_task
from kka.algorithm.captions import write_captions
from kka.algorithm.pool import AnomalyPool
from kka.algorithm.records import WrittenCaption
from kka.cli import main
from kka.common.extrapolate import seconds_for, watch
from kka.common.ledger import Entry
from kka.data import open_task
from kka.language.openai import OpenAILanguageModel
from kka.report.sheet import Block
from kka.run.foresee import Seen, requests_for
from test_language_openai import Server, server  # noqa: F401  # a fixture
from test_painted_run import plate, save


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As little is measured as can be."""
    monkeypatch.setattr(foresee, "SECONDS", dict.fromkeys(foresee.SECONDS, 0.01))
    monkeypatch.setattr(preview, "SECONDS", 0.01)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """What is drawn on the sheets."""
    found: list[Block] = []
    write = preview_sheet.write_sheet_of

    def listening(path: Path, title: str, given: Any) -> None:
        found.extend(given)
        write(path, title, given)

    monkeypatch.setattr(preview_sheet, "write_sheet_of", listening)
    return found


def test_a_run_is_shown_and_stays_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], blocks: list[Block], own_cache: Path
) -> None:
    """A preview that left a folder behind would have the run refuse it; one that filled the cache would be a run."""
    out = tmp_path / "runs" / "one"
    before = sorted(own_cache.rglob("*"))
    with fakes_registered():
        assert main([*fast_arguments(out), "--preview", "5"]) == 0
        told = capsys.readouterr().out
        assert [path.name for path in out.parent.iterdir()] == ["one.preview.png"]
        assert sorted(own_cache.rglob("*")) == before
        assert main([*fast_arguments(out), "--rounds", "0", "--initial", "8"]) == 0
    assert (out / "summary.json").is_file()
    with Image.open(out.with_name("one.preview.png")) as sheet:
        assert sheet.width > 1000 and sheet.height > 500
    titles = [block.title for block in blocks]
    assert len(titles) == 5 and "Photos as the detector sees them" in titles
    photos, prompt, pictures, notes, costs = blocks
    assert len(photos.cells) == 5 and np.array_equal(photos.cells[0].pictures[0], small_task().normals[0])
    assert len(pictures.cells) == 5 and all("flower" in cell.caption for cell in pictures.cells)
    assert "flower" in " ".join(prompt.lines) and notes.lines
    for text in ("24 normals; 32 test pictures", *prompt.lines, pictures.cells[3].caption, *costs.lines):
        assert " ".join(text.split()) in " ".join(told.split())
    for stage in ("Loading", "Typical normals", "Writing captions", "Drawing", "evaluator", "Tuning", "detectors"):
        assert any(stage in line for line in costs.lines), stage


def test_masks_are_outlined(tmp_path: Path, blocks: list[Block]) -> None:
    """Where a photo was altered is what a person has to see."""
    data = save(tmp_path / "photos", [plate(40, 50, seed) for seed in range(10)])
    quick = ["--sad.epochs", "1", "--autoencoder-epochs", "1", "--rounds", "0", "--initial", "8", "--seeds", "1"]
    out = tmp_path / "run"
    models = ["--lm", "fake", "--images", "paint", "--describe", "a photo of a plate"]
    with fakes_registered():
        assert main(["run", "--data", data, *models, "--out", str(out), "--preview", "3", *quick]) == 0
    pictures = next(block for block in blocks if "its mask" in block.title)
    assert 1 <= len(pictures.cells) <= 3 and all("flower" in cell.caption for cell in pictures.cells)
    for normal, altered, outlined in (cell.pictures for cell in pictures.cells):
        assert (normal != altered).any() and (altered != outlined).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "run.preview.png"]


@pytest.mark.filterwarnings("ignore:.*held-out normals:UserWarning")
def test_a_training_is_shown_and_stays_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], blocks: list[Block]
) -> None:
    """Photos, anomalies, notes and costs; and the same --out is free."""
    data = save(tmp_path / "photos", [plate(40, 50, seed) for seed in range(12)])
    anomalies = save(tmp_path / "odd", [plate(40, 50, seed) // 2 for seed in range(20, 23)])
    (tmp_path / "photos" / "broken.png").write_bytes(b"no")
    command = [
        "train", "--data", data, "--anomalies", anomalies, "--out", str(tmp_path / "d"), "--preset", "cpu", "--set",
        "epochs=2",
    ]  # fmt: skip
    assert main([*command, "--preview"]) == 0
    told = capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.preview.png", "odd", "photos"]
    photos, pictures, notes, costs = blocks
    assert len(photos.cells) == 8 and len(pictures.cells) == 3
    assert any("broken.png" in line for line in notes.lines) and "3 in all, without masks" in told
    assert any("Training detectors" in line for line in costs.lines) and "of memory" in costs.lines[0]
    assert main(command) == 0 and (tmp_path / "d" / "detector.json").is_file()


def test_of_many_photos_some_are_read(tmp_path: Path) -> None:
    """All of 20,000 would be the wait that a preview is to save; how many there are must be known all the same."""
    data = save(tmp_path / "photos", [plate(12, 12, seed) for seed in range(30)])
    task = open_task(data, describe="x", most=10)
    assert len(task.normals) == 10 and task.details["whole"] == {"normals": 30, "test": 0}
    every = open_task(data, describe="x")
    assert np.array_equal(task.normals[0], every.normals[0]) and np.array_equal(task.normals[-1], every.normals[-1])
    assert "whole" not in every.details


class Clock:
    """Time that passes as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(extrapolate.time, "perf_counter", lambda: self.now)


def test_a_training_that_is_stopped_tells_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done once must not count for every step, nor a single step for all."""
    clock, steps = Clock(monkeypatch), []

    def training(told: Any) -> str:
        clock.now += 7
        for step in range(100):
            clock.now += 0.5
            steps.append(step)
            told(step + 1, 100)
        return "trained"

    seen = watch(training, seconds=1.0)
    assert (len(steps), seen.finished, seen.steps, seen.result) == (2, False, 100, None)
    assert seen.before == pytest.approx(7) and seen.seconds == pytest.approx(57) and seen.a_step == pytest.approx(0.5)
    whole = watch(training, seconds=1000.0)
    assert whole.finished and whole.result == "trained" and whole.seconds == pytest.approx(57)


def test_numbers_grow_until_they_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes long to begin would else seem slow by the piece."""
    clock, asked = Clock(monkeypatch), []

    def work(number: int) -> None:
        asked.append(number)
        clock.now += 1 + 0.1 * number

    assert seconds_for(work, 1000, start=8, seconds=10.0) == pytest.approx(101)
    assert asked == [8, 32]
    assert seconds_for(work, 5, start=8, seconds=10.0) == pytest.approx(1.5) and asked[-1] == 5
    assert seconds_for(work, 0, start=8, seconds=10.0) == 0


@pytest.mark.parametrize("count", [200, 60])
def test_requests_are_foreseen(count: int, server: Server) -> None:  # noqa: F811
    """They are paid for: what is told before must be what is sent."""
    number = iter(range(10_000))

    def listed(body: dict[str, Any]) -> dict[str, Any]:
        texts = [
            "\n".join(f"{k}. a plate with the mark {next(number)} and a {next(number)} beside" for k in range(1, 11))
            for _ in range(body["n"])
        ]
        choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
        return {"choices": choices, "usage": {"completion_tokens": 100, "prompt_tokens": 20}}

    server.next_reply = listed  # type: ignore[method-assign]
    model, prompts = OpenAILanguageModel("m"), [f"describe plate {i}" for i in range(6)]
    first = write_captions(model, prompts[:1], 8, seed=0)
    asked = len(server.requests)
    seen = Seen(
        task=small_task(), specs=("openai:m", "fake"), language=model, images=Painter(), prompts=prompts, asked=1,
        written=[WrittenCaption(caption=c, prompt=prompts[0], seed=0) for c in first.captions],
        pool=AnomalyPool((), np.zeros((0, 8, 8, 3), np.uint8)), loading=0.0, reading=0.0, stored=0, process=0,
        counts={"captions": Entry(seconds=1.0, peak_mb=0.0, counts={"answers": first.answers, "captions": 8})},
    )  # fmt: skip
    foreseen = requests_for(FAST, seen, count)
    write_captions(model, prompts, count, seed=1)
    sent = len(server.requests) - asked
    assert sent / 2 <= foreseen <= 2 * sent, (foreseen, sent)
    assert math.isfinite(foreseen)
