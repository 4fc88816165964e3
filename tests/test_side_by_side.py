"""Detectors trained side by side are those that were trained one after the other; and what ends a run ends them."""

import dataclasses
import os
import pickle
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes import FAST, outcome, run_fake
from kka.common.memory import BESIDE
from kka.common.workers import Worker
from kka.errors import UserError
from kka.protocols import Images, Scores
from kka.run.training import Division


class Own:
    """A detector of a person's own, with something in it that no other process can be given."""

    def __init__(self, held: object = None) -> None:
        self.held = held

    def fit(self, normals: Images, anomalies: Images | None = None) -> "Own":
        return self

    def score(self, images: Images) -> Scores:
        return np.zeros(len(images), np.float32)

    def save(self, path: Path) -> None:
        pass


def test_the_machine_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that depended on how many detectors are left would make a resumed run another one."""
    monkeypatch.setattr("kka.run.training.choose_device", lambda device: torch.device("cpu"))
    monkeypatch.setattr("kka.run.training.MEMORY_EACH", 1)

    def divided(cores: int, detectors: int, left: int, held: object = None) -> tuple[int, int]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
        return dataclasses.astuple(Division.of(Own(held), detectors=detectors, left=left))

    assert divided(2, 18, 18) == (2, 1)
    assert divided(2, 18, 1) == (1, 1)
    assert divided(16, 18, 18) == (16, 1)
    assert divided(16, 3, 3) == (3, 5) and divided(16, 3, 2) == (2, 5)
    assert divided(1, 18, 18) == (1, 1) and divided(2, 1, 1) == (1, 2)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(lambda: 0)
    assert divided(2, 18, 18, held=lambda: 0) == (1, 2)
    monkeypatch.setattr("kka.run.training.MEMORY_EACH", 2**60)
    assert divided(2, 18, 18) == (1, 1)
    monkeypatch.setattr("kka.run.training.choose_device", lambda device: torch.device("cuda"))
    assert divided(2, 18, 18) == (1, 2)


def killed(worker: Worker, *_: object) -> None:
    """What memory that runs out does to a process."""
    worker._process.kill()
    ask(worker, os.getpid)


ask = Worker.call


def without_detectors(finished: Path, folder: Path) -> Path:
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "arms")
    (folder / "summary.json").unlink()
    return folder


def test_the_same_to_the_last_bit(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on two cores that differed from one on one core, or stopped and resumed, could not be repeated. One
    worker dies at the first detector that it gets: that is told with what to do, and the run goes on after it."""
    out = without_detectors(finished, tmp_path / "run")
    monkeypatch.setattr(Division, "of", classmethod(lambda cls, model, **_: cls(2, 1)))
    with monkeypatch.context() as broken:
        broken.setattr(Worker, "call", killed)
        with pytest.raises(UserError, match=r"ended \(exit status -9\).*OMP_NUM_THREADS=1 kka run --out .* --resume"):
            run_fake(FAST, out, resume=True)
    assert not BESIDE and not (out / "arms/none/seed-0/stage.json").exists()
    run_fake(FAST, out, resume=True)
    assert outcome(out) == outcome(finished)
    assert not BESIDE and not list(out.glob(".detectors*"))


def test_the_detector_for_use_has_its_threads_after_a_kill(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before it, with all the others there: the resumed run would train it with one thread, and otherwise. A
    run that has it looks at no normal again."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "kept")
    (out / "summary.json").unlink()
    numbers: list[int] = []

    def noted(number: int) -> nullcontext[None]:
        numbers.append(number)
        return nullcontext()

    monkeypatch.setattr("kka.run.comparison.threads", noted)
    monkeypatch.setattr(Division, "of", classmethod(lambda cls, model, **_: cls(1, 7)))
    run_fake(FAST, out, resume=True)
    assert numbers == [7] and outcome(out) == outcome(finished)
    (out / "summary.json").unlink()
    monkeypatch.setattr("kka.run.kept.hold_out", None)
    run_fake(FAST, out, resume=True)
    assert outcome(out) == outcome(finished)
