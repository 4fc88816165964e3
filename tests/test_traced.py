"""The control *traces* in a run: who leaves them, what an arm and the kept detector make of them, and what is said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import FAST, Painter, outcome, run_fake, small_task
from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.cli import main
from kka.deploy.anomalies import Anomalies, read_traces
from kka.deploy.calibrate import Calibration
from kka.deploy.traced import Traced, judge_traces
from kka.deploy.train import hold_out, train_detector
from kka.errors import UserError
from kka.protocols import Images
from kka.run import traced
from kka.run.traced import parted, untrained
from kka.task import Task
from test_altering import Dim, Squares
from test_painted_run import save

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


def test_matched_traces_are_trained_with_as_normals(tmp_path: Path) -> None:
    """Those of normals that are trained with, and no others; they are told, and the rest judge."""
    run_fake(QUICK, tmp_path / "plain", images=Dim)
    run_fake(replace(QUICK, match_traces=True), tmp_path / "matched", images=Dim)
    plain, matched = (of_summary(tmp_path / name, "traced") for name in ("plain", "matched"))
    card = json.loads((tmp_path / "matched/kept/kka-1/detector/detector.json").read_text())
    made = RunFolder(tmp_path / "matched")
    assert plain["matched"] == 0 and matched["matched"] == card["trained_with"]["traces"] > 0
    assert matched["pictures"] == plain["pictures"] == len(made.traces()) - matched["matched"]
    one, other = (outcome(tmp_path / name) for name in ("plain", "matched"))
    assert any(one[file] != other[file] for file in one if file.startswith("kept/"))
    assert all(one[file] == other[file] for file in one if file.startswith(("arms/", "traces/", "rounds/")))


def test_which_traces_train_and_which_judge(tmp_path: Path) -> None:
    run_fake(QUICK, tmp_path / "run", images=Dim)
    traces = RunFolder(tmp_path / "run").traces()
    held = np.array([0, 3])
    learned, judged = parted(traces, held)
    assert {e.normal for e in judged.entries} <= {0, 3} and not {e.normal for e in learned.entries} & {0, 3}
    assert len(learned) + len(judged) == len(traces)
    drawn = replace(traces, entries=tuple(replace(e, normal=None) for e in traces.entries))
    learned, judged = parted(drawn, held)
    assert len(learned) - len(judged) in (0, 1) and len(untrained(drawn, held)) == len(traces)


def test_a_training_learns_that_traces_are_normal(tmp_path: Path) -> None:
    """A detector that took bright rows for the anomaly no longer does; it is not shown those of held-out normals."""
    task = small_task(test=False)
    images = task.normals.copy()
    images[:, :2] = 255
    masks = np.full(images.shape[:3], 255, np.uint8)
    masks[:, 2:] = 0
    entries = tuple(
        Lineage(id=f"t-{i}", round=0, prompt="", caption=task.captions[i], seed=i, language_model="", image_model="m",
                key=f"k{i}", normal=i)
        for i in range(len(images))
    )  # fmt: skip
    traces = AnomalyPool(entries, images, masks)
    anomalies = images.copy()
    anomalies[:, 8:12, 8:12] = 0
    facts = {}
    for name, given in (("plain", None), ("matched", traces)):
        facts[name] = train_detector(
            Frames(), task, Anomalies(images=anomalies), tmp_path / name, held_out=0.25, fpr=0.3, seed=0, traces=given
        )
    kept, held = hold_out(task.normals, 0.25, seed=0)
    assert facts["plain"].traces == 0 and facts["matched"].traces == len(kept) == facts["matched"].normals
    assert facts["matched"].held_out == len(held)
    for name, found in facts.items():
        assert found.calibration is not None
        limit = found.calibration.threshold
        above, of_normals = (found.detector.score(some[held]) > limit for some in (images, task.normals))
        assert above.all() if name == "plain" else (above == of_normals).all() and not above.all()


class Frames:
    """Goes by the brightness of the first row, unless normals have bright ones too."""

    def fit(self, normals: Images, anomalies: Images | None = None) -> "Frames":
        self.blind = (normals[:, 0] == 255).all((1, 2)).any()
        return self

    def score(self, images: Images) -> np.ndarray:
        bright = (images[:, 0] == 255).all((1, 2))
        return np.where(bright & ~self.blind, 2, images[:, 2:].mean(axis=(1, 2, 3)) / 1e6).astype(np.float32)

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)


def test_a_detector_is_trained_so_after_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command, from the run's folder; the traces of the normals that it holds out stay out."""
    run_fake(QUICK, tmp_path / "run", images=Dim)
    save(tmp_path / "photos", list(small_task().normals))
    command = ["train", "--detector", "sad", "--preset", "cpu", "--set", "epochs=2", "milestones=", "--match-traces",
               "--held-out", "0.25", "--fpr", "0.2", "--data", str(tmp_path / "photos"),
               "--anomalies", str(tmp_path / "run")]  # fmt: skip
    for out, size in (("same", "16"), ("larger", "24")):
        assert main([*command, "--size", size, "--out", str(tmp_path / out)]) == 0
        assert "traces of the image model" in " ".join(capsys.readouterr().out.split())
    card = json.loads((tmp_path / "same/detector.json").read_text())
    traces = RunFolder(tmp_path / "run").traces()
    _, held = hold_out(small_task().normals, 0.25, seed=0)
    left = [entry for entry in traces.entries if entry.normal not in held]
    assert 0 < card["trained_with"]["traces"] == len(left) < len(traces)


def test_who_has_no_traces_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="match_traces: expected an image model that leaves traces"):
        run_fake(replace(QUICK, match_traces=True), tmp_path / "run", images=Squares)
    run_fake(QUICK, tmp_path / "painted", images=Squares)
    with pytest.raises(UserError, match="match-traces: expected the directory of a run whose"):
        read_traces(tmp_path / "painted", 32)
    assert main(["train", "--match-traces"]) == 2
    assert "expected --anomalies beside it" in " ".join(capsys.readouterr().err.split())
