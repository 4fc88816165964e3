"""The control *traces* in a run: who leaves them, what an arm and the kept detector make of them, and what is said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import FAST, Painter, outcome, run_fake, small_task
from kka.algorithm.folder import RunFolder
from kka.deploy.calibrate import Calibration
from kka.deploy.traced import Traced, judge_traces
from kka.run import traced
from kka.run.traced import untrained
from kka.task import Task
from test_altering import Dim, Squares

QUICK = replace(FAST, rounds=1, initial=20, fresh=8, seeds=1)


def untested() -> Task:
    return small_task(test=False)


def of_summary(folder: Path, part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())[part]
    return found


@pytest.mark.parametrize(("altered", "arms"), [(Dim, True), (Squares, False)])
def test_only_networks_leave_traces(altered: type, arms: bool, tmp_path: Path) -> None:
    """A painter that changes nothing but the defect has no ways of drawing."""
    run_fake(QUICK, tmp_path / "run", images=altered, report=True)
    assert ("traces" in of_summary(tmp_path / "run", "arms")) == arms
    assert RunFolder(tmp_path / "run").has_traces == arms
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert ("the image model&#39;s traces" in page) == ("traces?</h2>" in page) == arms
    if arms:
        told = of_summary(tmp_path / "run", "traced")
        assert Traced(**told).sentence() in page.replace("&#39;", "'") and 0 <= told["share"] <= 1
        held = untrained(RunFolder(tmp_path / "run").traces(), np.arange(3))
        assert all(entry.normal in (0, 1, 2) for entry in held.entries)


def test_a_resumed_run_has_the_same(tmp_path: Path) -> None:
    run_fake(QUICK, tmp_path / "whole", images=Dim)
    run_fake(replace(QUICK, rounds=0), tmp_path / "parts", images=Dim)
    run_fake(QUICK, tmp_path / "parts", images=Dim, resume=True)
    one, other = (outcome(tmp_path / name) for name in ("whole", "parts"))
    for file in (f for f in one if f.startswith(("traces/", "arms/traces/", "kept/kka-1/"))):
        assert one[file] == other[file]


def test_pictures_that_a_pipeline_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the normals' own captions, as many as round 0 has pictures; without a test set no arm is trained with them."""
    monkeypatch.setattr(traced, "DiffusersModel", Painter)
    run_fake(QUICK, tmp_path / "run", task=untested)
    made = RunFolder(tmp_path / "run")
    assert len(made.traces()) == made.images_made(0) == 20
    assert [entry.caption for entry in made.traces().entries][:3] == list(untested().captions[:3])
    assert not of_summary(tmp_path / "run", "arms")
    assert of_summary(tmp_path / "run", "traced")["pictures"] == 20


def test_share_and_words() -> None:
    calibration = Calibration(threshold=1.0, fpr=0.05, held_out=40, promised=0.05)
    found = judge_traces(np.array([0.5, 1.0, 1.5, 2.0], np.float32), calibration)
    assert found == Traced(pictures=4, share=0.5, promised=0.05)
    assert "50 % of 4 pictures" in found.sentence() and "too few to say" in found.sentence()
    many = replace(found, pictures=20)
    assert "goes by how the model draws as well" in many.sentence()
    assert "it goes by what they show" in replace(many, share=0.1).sentence()
