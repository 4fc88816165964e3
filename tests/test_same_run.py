"""A resumed run is the run that was begun: its data, its settings and its models; what changes no result may change."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes import FAST, FakeLanguageModel, outcome, run_fake, small_task
from kka.algorithm.resume import may_change
from kka.cli import main
from kka.errors import UserError
from kka.task import Task


def another_pixel() -> Task:
    task = small_task()
    normals = task.normals.copy()
    normals[3, 0, 0, 0] ^= 1
    return replace(task, normals=normals)


def one_more() -> Task:
    task = small_task()
    return replace(task, normals=np.concatenate([task.normals, task.normals[:1]]), captions=(*task.captions, "new"))


def other_caption() -> Task:
    task = small_task()
    return replace(task, captions=("another", *task.captions[1:]))


def other_labels() -> Task:
    return small_task(shuffle=True)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (another_pixel, "normals: 24 as before, but not the same ones"),
        (one_more, "normals: 24 then, 25 now"),
        (other_caption, "captions of the normals: 24 as before"),
        (other_labels, "labels of the test images: 32 as before"),
        (lambda: small_task(knowledge=False), "known anomalies: 30 then, 0 now"),
    ],
)
def test_other_data_is_refused(tmp_path: Path, finished: Path, task: Callable[[], Task], said: str) -> None:
    """Photos that were replaced or added after the start: half the run would be of other data."""
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(UserError, match="is not what the run was begun with") as caught:
        run_fake(FAST, tmp_path / "run", resume=True, task=task)
    assert said in str(caught.value) and "--out" in str(caught.value)
    assert outcome(tmp_path / "run") == outcome(finished)


class AnotherWriter(FakeLanguageModel):
    """A model under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = "another"


def test_another_language_model_is_refused(tmp_path: Path, finished: Path) -> None:
    """A folder whose model was exchanged: the adapters of the rounds that are done are not of it."""
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(UserError, match="begun with the language model fake-writer; got another"):
        run_fake(FAST, tmp_path / "run", resume=True, language=AnotherWriter)


def test_an_edited_config_is_refused(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By --resume and by report: both would say of the figures that they are of settings that they are not of."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    file = out / "config.yaml"
    text = file.read_text()
    file.write_text(text.replace("quantile: 0.6", "quantile: 0.9"))
    for command in (["run", "--out", str(out), "--resume"], ["report", str(out)]):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert "was edited" in told and "quantile: begun with 0.6, config.yaml has 0.9" in told
    file.unlink()
    run_fake(FAST, out, resume=True)
    assert file.read_text() == text


def test_more_rounds_and_seeds(tmp_path: Path, finished: Path) -> None:
    """A finished run goes on: as a run that was begun with as many. Fewer rounds than are done are refused."""
    more = replace(FAST, rounds=3, seeds=2)
    shutil.copytree(finished, tmp_path / "run")
    run_fake(more, tmp_path / "run", resume=True)
    run_fake(more, tmp_path / "whole")
    grown, whole = outcome(tmp_path / "run"), outcome(tmp_path / "whole")
    told, expected = (json.loads(files.pop("summary.json")) for files in (grown, whole))
    assert sorted({*told["seconds"]} - {"kept/kka-2"}) == expected["seconds"]
    assert told | {"seconds": None} == expected | {"seconds": None}
    # The detector of what was the last round stays; run.json tells what changed.
    assert {name for name in grown.keys() | whole.keys() if grown.get(name) != whole.get(name)} == {
        "run.json", *(name for name in grown if name.startswith(("arms/kka-2/seed-0/detector/", "kept/kka-2/"))),
    }  # fmt: skip
    with pytest.raises(UserError, match="rounds: started with 3, got 2"):
        run_fake(replace(FAST, rounds=2, seeds=2), tmp_path / "run", resume=True)


def test_where_it_is_computed_may_change(tmp_path: Path, finished: Path) -> None:
    """After an out-of-memory kill a smaller micro-batch must not cost the run; here none of them is a difference."""
    shutil.copytree(finished, tmp_path / "run")
    for stage in ("rounds/2", "arms", "summary.json"):
        path = tmp_path / "run" / stage
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    config = replace(FAST, language=replace(FAST.language, dpo_micro_batch=4), sad=replace(FAST.sad, device="cpu"))
    run_fake(config, tmp_path / "run", resume=True)
    before, after = outcome(finished), outcome(tmp_path / "run")
    # its card says on which device the kept detector scores
    cards = {f"{place}/detector/detector.json" for place in ("arms/kka-2/seed-0", "kept/kka-2")}
    assert {name for name in before if before[name] != after[name]} <= {"config.yaml", "run.json", *cards}
    assert b"dpo_micro_batch: 4" in after["config.yaml"]
    assert b'"setting": "language.dpo_micro_batch"' in after["run.json"]


def test_what_may_change(tmp_path: Path) -> None:
    """Settings that shape draws or training may not."""
    assert may_change(tmp_path, "detector_options.set", ["epochs=3"], ["epochs=3", "device=cpu"])
    assert not may_change(tmp_path, "detector_options.set", ["epochs=3"], ["epochs=4"])
    assert not may_change(tmp_path, "seeds", 3, 2)
    for name in ("language.batch_size", "sad.batch_size", "sad.precision", "language.dpo_batch", "seed"):
        assert not may_change(tmp_path, name, 1, 2), name
