"""A run that was stopped, killed, or ran out of disk goes on, and ends as one that was not."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import FAST, Painter, fakes_registered, fast_arguments, outcome, run_fake, small_task
from kka.algorithm.resume import may_change, require_same_image_model
from kka.cli import main
from kka.common.store import Store
from kka.errors import UserError

FAKES = Path(__file__).with_name("fakes.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class StoppedError(Exception):
    """Stands for whatever ends a run from inside."""


def test_stopped_within_every_stage(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every try finishes one more stage and dies at the end of the next, before its commit.

    A stage that reads what an earlier one left in memory, or that depends on being the first try, would differ.
    """
    original = Store.stage
    committed: list[str] = []
    this_try: list[str] = []

    def stage(self: Store, name: str, compute: Callable[[Path], dict[str, Any] | None], **rest: Any) -> Path:
        if self.done(name):
            return original(self, name, compute, **rest)

        def dies_at_the_second(folder: Path) -> dict[str, Any] | None:
            counts = compute(folder)
            if this_try:
                raise StoppedError(name)
            return counts

        folder = original(self, name, dies_at_the_second, **rest)
        this_try.append(name)
        committed.append(name)
        return folder

    monkeypatch.setattr(Store, "stage", stage)
    tries = 0
    while not (tmp_path / "run" / "summary.json").exists():
        this_try.clear()
        tries += 1
        assert tries < 60
        with contextlib.suppress(StoppedError):
            run_fake(FAST, tmp_path / "run", resume=(tmp_path / "run").exists())
    assert len(set(committed)) == len(committed) == tries == len(list(finished.rglob("stage.json")))
    assert outcome(tmp_path / "run") == outcome(finished)


def test_stopped_in_a_progress_call(tmp_path: Path, finished: Path) -> None:
    """Ctrl-C mostly strikes while something is being told."""
    from kka.run.execute import run

    calls = 0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls in (12, 30):
            raise KeyboardInterrupt

    with fakes_registered():
        for resume in (False, True):
            with pytest.raises(KeyboardInterrupt):
                run(FAST, tmp_path / "run", resume=resume, progress=progress)
        run(FAST, tmp_path / "run", resume=True, progress=progress)
    assert outcome(tmp_path / "run") == outcome(finished)


def test_a_finished_run_can_be_resumed(tmp_path: Path, finished: Path) -> None:
    """`--resume` once too often repeats nothing and changes nothing; another configuration is refused."""
    import shutil
    from dataclasses import replace

    from kka.errors import UserError

    shutil.copytree(finished, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("stage.json")}
    run_fake(FAST, tmp_path / "run", resume=True)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("stage.json")}
    assert outcome(tmp_path / "run") == outcome(finished)
    with pytest.raises(UserError, match="folds: started with 2, got 3"):
        run_fake(replace(FAST, folds=3), tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(finished)


def test_a_run_of_an_older_version_can_be_resumed(tmp_path: Path, finished: Path) -> None:
    """Its config.yaml lacks the settings that came later: they have their defaults, and are no difference."""
    import shutil

    import yaml

    shutil.copytree(finished, tmp_path / "run")
    file = tmp_path / "run/config.yaml"
    stored = yaml.safe_load(file.read_text())
    del stored["detector_options"]
    file.write_text(yaml.safe_dump(stored))
    run_fake(FAST, tmp_path / "run", resume=True)
    before, after = outcome(finished), outcome(tmp_path / "run")
    assert {name for name in before if before[name] != after[name]} <= {"config.yaml"}


# --- by other processes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """What `fakes.py scenarios` did with real processes: the folder, what it tells, and its stderr."""
    folder = tmp_path_factory.mktemp("scenarios")
    done = subprocess.run(
        [sys.executable, str(FAKES), "scenarios", str(folder)],
        capture_output=True, text=True, timeout=570, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "facts.json").read_text()), done.stderr


@pytest.mark.slow
def test_another_process_ends_alike(scenarios: tuple[Path, dict[str, Any], str], finished: Path) -> None:
    """The same configuration in a fresh process: nothing hangs on hash seeds, import order or earlier tests."""
    folder, facts, errors = scenarios
    assert facts["whole"] == 0, errors
    assert outcome(folder / "whole") == outcome(finished)


@pytest.mark.slow
def test_kill_9(scenarios: tuple[Path, dict[str, Any], str]) -> None:
    """Killed five times at random moments, then left alone: the same pool, scores, networks and summary."""
    folder, facts, errors = scenarios
    killed = facts["killed"]
    assert killed["last"] == 0, errors
    assert killed["codes"].count(-signal.SIGKILL) >= 2  # else this proved little
    assert killed["stages"] == sorted(killed["stages"])  # what was committed stays
    assert outcome(folder / "killed") == outcome(folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["6000", "1000000"])
def test_full_disk(scenarios: tuple[Path, dict[str, Any], str], limit: str) -> None:
    """Text at 6 kB, network weights at 1 MB cannot be written: a clear error, an intact directory, and on it goes."""
    folder, facts, errors = scenarios
    filled = facts["filled"][limit]
    assert filled["full"] == 2 and filled["last"] == 0, errors
    assert filled["stages"] > 0
    assert f"UserError: the disk is full ({folder / f'filled-{limit}'})" in errors
    assert f"kka run --out {folder / f'filled-{limit}'} --resume" in errors
    assert outcome(folder / f"filled-{limit}") == outcome(folder / "whole")


@pytest.mark.slow
def test_second_process(scenarios: tuple[Path, dict[str, Any], str]) -> None:
    """Two writers would mix two runs: the second is refused, and told by whom."""
    folder, facts, errors = scenarios
    assert facts["held"]["second"] == 2
    assert f"UserError: {folder / 'held'} is in use by another process (pid {facts['held']['pid']})" in errors


def interrupted(command: list[str], out: Path, wanted: str) -> subprocess.CompletedProcess:
    """Ctrl-C as soon as the stage `wanted` is committed."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        # A shell that put the tests into the background has them ignore Ctrl-C, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 240
        while not (out / wanted / "stage.json").is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        texts = process.communicate(timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(command, process.returncode, *texts)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command line: exit code 130, the command that resumes, no traceback; and the command works as told."""
    out = tmp_path / "möhre und co"  # spaces and non-ASCII letters
    command = [sys.executable, str(FAKES), "cli", *fast_arguments(out)]
    stopped = interrupted(command, out, "rounds/0/images")
    assert stopped.returncode == 130, stopped.stderr
    assert "--resume" in stopped.stderr and "go on with: kka run --out" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    with fakes_registered():
        assert main(["run", "--out", str(out), "--resume"]) == 0
    told = capsys.readouterr().out
    assert "no anomalies" in told and "KKA (2)" in told
    assert (out / "pool.parquet").is_file() and len(list(out.rglob("stage.json"))) == len(
        list(finished.rglob("stage.json"))
    )


def test_auto_that_meant_another_model_then(tmp_path: Path) -> None:
    """Photos were drawn by a model of the hub; a later version would go on with another, or die over a missing file."""
    run_fake(replace(FAST, rounds=0), tmp_path / "run", task=lambda: small_task(test=False))
    require_same_image_model(tmp_path / "run", Painter.identity)
    with pytest.raises(UserError, match=r"by the image model fake-painter/1; got paint/2/x\. Name that with --images"):
        require_same_image_model(tmp_path / "run", "paint/2/x")
    assert may_change(tmp_path, "images", "auto", "fake") and not may_change(tmp_path, "images", "bank", "fake")
