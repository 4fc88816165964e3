"""Run directories that a disk, a copy or a person damaged: right results, or one message that says what to do."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kka.report.html
from fakes import fakes_registered, outcome
from kka.algorithm.folder import RunFolder
from kka.cli.ending import ended
from kka.report import write_report
from kka.run.execute import run

FILES = (
    "config.yaml", "run.json", "summary.json", "ledger.json", "pool.parquet",
    "rounds/0/representatives/representatives.jsonl", "rounds/0/captions/captions.jsonl",
    "rounds/0/captions/stage.json", "rounds/0/images/images.parquet", "rounds/1/evaluator/scores.jsonl",
    "rounds/1/evaluator/fold-0/deep_sad.safetensors", "rounds/1/evaluator/fold-1/normal_distances.npy",
    "rounds/1/dpo/dpo.json", "rounds/1/dpo/adapter/weights.json", "rounds/2/pool/pool.parquet",
    "arms/none/seed-0/scores.npy", "arms/none/seed-0/metrics.json", "arms/noise/seed-0/latent.npy",
    "arms/kka-2/seed-0/detector/detector.json", "task/task.npz",
)  # fmt: skip


def truncated(file: Path, content: bytes) -> None:
    file.write_bytes(content[: len(content) // 2])


def emptied(file: Path, content: bytes) -> None:
    file.write_bytes(b"")


def garbled(file: Path, content: bytes) -> None:
    file.write_bytes(bytes(range(256)) * (len(content) // 256 + 1))


def deleted(file: Path, content: bytes) -> None:
    pass


DAMAGES = (truncated, emptied, garbled, deleted)


def damaged(finished: Path, copy: Path, name: str, damage: Callable[[Path, bytes], None]) -> Path:
    """A copy of the run in which one file is damaged; the others are links, which nothing writes into."""
    shutil.copytree(finished, copy, copy_function=os.link)
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    damage(copy / name, content)
    return copy


def command(work: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and what a person reads of an error. An exception that is none for people ends the test."""
    capsys.readouterr()
    with fakes_registered():
        status = ended(lambda: 0 if work() is not None else 1)
    return status, " ".join(capsys.readouterr().err.split())


def report(out: Path) -> Callable[[], object]:
    return lambda: write_report(out)


def resumed(out: Path) -> Callable[[], object]:
    """As `kka run --out … --resume` does it, its options apart."""
    return lambda: run(RunFolder(out).config(), out, resume=True)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that reads all that a report reads, without the seconds that charts take."""

    def render(made: Any) -> str:
        return repr([len(one.views(list(one.pictures))) for one in made.rounds])

    monkeypatch.setattr(kka.report.html, "render", render)


def cases() -> Iterator[Any]:
    """Each file with each damage; two a file always, the others among the slow tests."""
    for i, name in enumerate(FILES):
        for k, damage in enumerate(DAMAGES):
            marks = () if (i + k) % 2 else (pytest.mark.slow,)
            yield pytest.param(name, damage, marks=marks, id=f"{name}-{damage.__name__}")


@pytest.mark.parametrize(("name", "damage"), list(cases()))
def test_a_damaged_run(
    tmp_path: Path,
    finished: Path,
    plain: None,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path, bytes], None],
) -> None:
    """Each kind of file cut, emptied, overwritten and deleted: never a traceback, and never another result."""
    out = damaged(finished, tmp_path / "run", name, damage)
    status, told = command(report(out), capsys)
    assert status == 0 or (told.startswith("kka: ") and told.count("kka: ") == 1 and str(out) in told), told
    (out / "report.html").unlink(missing_ok=True)
    status, told = command(resumed(out), capsys)
    if status == 2:  # what it says helps
        assert Path(name).name in told and str(out) in told, told
        for folder in re.findall(r"Remove the folder (\S+),", told):
            shutil.rmtree(folder)
        if "emove it" in told:
            (out / name).unlink()
        status, told = command(resumed(out), capsys)
    assert status == 0, told
    assert outcome(out) == outcome(finished)


def as_an_old_version_left_it(run: Path) -> Path:
    """Without lists of the stages' files, and without run.json."""
    for file in run.rglob("stage.json"):
        stored = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("files", "after")}
        file.unlink()
        file.write_text(json.dumps(stored))
    (run / "run.json").unlink(missing_ok=True)
    return run


def test_damaged_runs_of_an_old_version(
    tmp_path: Path, finished: Path, plain: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing vouches for their files, but what cannot be read is named."""
    for number, name in enumerate(name for name in FILES if name not in ("run.json", "rounds/0/captions/stage.json")):
        out = damaged(finished, tmp_path / str(number), name, DAMAGES[number % 4])
        as_an_old_version_left_it(out)
        for work in (report(out), resumed(out)):
            status, told = command(work, capsys)
            assert status == 0 or (status == 2 and told.count("kka: ") == 1 and str(out) in told), (name, told)


def test_a_whole_run_of_an_old_version(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on as before, and from then on knows its data and settings again."""
    shutil.copytree(finished, tmp_path / "old")
    as_an_old_version_left_it(tmp_path / "old")
    assert command(resumed(tmp_path / "old"), capsys)[0] == 0
    assert outcome(tmp_path / "old") == outcome(finished)
