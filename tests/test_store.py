"""The run directory: commits, lock, refusals, ledger."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kka.common.begun import read_config, require_same
from kka.common.files import write_atomically
from kka.common.store import Store
from kka.errors import UserError

CONFIG = {
    "data": "gärten",
    "rounds": 2,
    "sad": {"weight_decay": 5e-7, "milestones": [50]},
    "normal": ["077"],
    "size": None,
}


def fill(text: str = "done", **counts) -> Callable[[Path], dict]:
    def compute(folder: Path) -> dict:
        (folder / "sub").mkdir()
        (folder / "sub" / "result.txt").write_text(text)
        return counts

    return compute


def never(folder: Path) -> dict:
    raise AssertionError("a committed stage was computed again")


def test_a_stage_is_computed_once(tmp_path: Path) -> None:
    """A resumed run that computed a stage again would waste hours, and could go another way."""
    with Store(tmp_path / "run", CONFIG) as store:
        assert not store.done("rounds/0/captions")
        folder = store.stage("rounds/0/captions", fill(images=3))
        assert store.done("rounds/0/captions") and store.stage("rounds/0/captions", never) == folder
        assert (folder / "sub" / "result.txt").read_text() == "done"
        assert store.entry("rounds/0/captions").counts["images"] == 3
    with Store(tmp_path / "run", CONFIG, resume=True) as store:
        assert store.stage("rounds/0/captions", never) == folder


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), UserError("told")])
def test_a_failed_stage_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    """Half a stage under its name would be taken for a whole one; the next try starts from an empty folder."""

    def fails(folder: Path) -> dict:
        (folder / "half.txt").write_text("half")
        raise error

    with Store(tmp_path / "run", CONFIG) as store:
        with pytest.raises(type(error)):
            store.stage("rounds/1/dpo", fails)
        assert not store.done("rounds/1/dpo") and not (store.root / "rounds/1/dpo").exists()
        assert store.ledger().stages == {}
        folder = store.stage("rounds/1/dpo", fill())
        assert sorted(p.name for p in folder.iterdir()) == ["stage.json", "sub"]
        assert [p.name for p in folder.parent.iterdir()] == ["dpo"]


def test_a_folder_without_its_marker_is_done_again(tmp_path: Path) -> None:
    """The marker is what commits; files that a person or a crash left there do not count."""
    with Store(tmp_path / "run", CONFIG) as store:
        (store.root / "task").mkdir()
        (store.root / "task" / "old.txt").write_text("old")
        folder = store.stage("task", fill("new"))
    assert not (folder / "old.txt").exists() and (folder / "sub" / "result.txt").read_text() == "new"


def test_the_marker_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash while the marker is written leaves no stage."""

    def crash(path: Path, text: str) -> None:
        if path.name == "stage.json":
            raise RuntimeError("power cut")
        write_atomically(path, text)

    with Store(tmp_path / "run", CONFIG) as store:
        monkeypatch.setattr("kka.common.store.write_atomically", crash)
        with pytest.raises(RuntimeError):
            store.stage("task", fill())
        assert not (store.root / "task").exists()


def test_ledger_sums(tmp_path: Path) -> None:
    """Counts and seconds add up, memory takes the largest; work in progress does not count."""
    with Store(tmp_path / "run", CONFIG) as store:
        store.stage("a", fill(images=3, tokens=None, peak_mb=10.0))
        store.stage("rounds/0/b", fill(images=4, flag=True, peak_mb=7.5))
        (store.root / ".c.part").mkdir()
        (store.root / ".c.part" / "stage.json").write_text('{"images": 99}')
        ledger = store.ledger().as_dict()
    assert sorted(ledger["stages"]) == ["a", "rounds/0/b"]
    assert ledger["totals"]["images"] == 7 and ledger["totals"]["peak_mb"] == 10.0
    assert "tokens" not in ledger["totals"] and "flag" not in ledger["totals"]
    assert ledger["totals"]["seconds"] >= 0


@pytest.mark.parametrize("place", [".hidden/run", "../beside/run"])
def test_ledger_below_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """`--out ../runs/x` or a hidden folder above the run must not make its stages count as hidden."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with Store(Path(place), CONFIG) as store:
        store.stage("a", fill(images=3))
        assert store.ledger().totals.counts["images"] == 3


def test_peak_memory_sees_a_short_peak() -> None:
    """100 MB held and given back within the block; in a process of its own, as one that has freed much before may
    give them out of that."""
    code = """
import time
import numpy as np
from kka.common.memory import PeakMemory
with PeakMemory() as memory:
    before = memory.peak_mb
    block = np.ones(100 * 2**17)
    time.sleep(0.5)
    del block
print(memory.peak_mb - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 80


# --- taking up and refusing ------------------------------------------------------------------------------------


def test_configuration_round_trip(tmp_path: Path) -> None:
    """Through YAML and back: 5e-7 stays a number, "077" a text, None None; else resuming refuses itself."""
    with Store(tmp_path / "run", CONFIG):
        pass
    assert read_config(tmp_path / "run") == CONFIG
    with Store(tmp_path / "run", CONFIG, resume=True):
        pass


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    """Without --resume a directory that holds a run is refused, and told how to go on."""
    with Store(tmp_path / "run", CONFIG) as store:
        store.stage("a", fill())
    with pytest.raises(UserError, match=r"holds a run already.*--resume"):
        Store(tmp_path / "run", CONFIG)


def test_a_run_without_a_finished_stage_blocks_nothing(tmp_path: Path) -> None:
    """A first command that came to nothing must not stand in the way of the corrected one, nor leave a lock behind."""
    with Store(tmp_path / "run", CONFIG):
        pass
    with Store(tmp_path / "run", CONFIG | {"rounds": 5}):
        pass
    assert read_config(tmp_path / "run")["rounds"] == 5
    with Store(tmp_path / "new", CONFIG) as store:
        store.withdraw()
    assert not (tmp_path / "new").exists()
    (tmp_path / "run" / "run.json").unlink()  # as an old version left it, or another program's config.yaml
    with pytest.raises(UserError, match="holds a run already"):
        Store(tmp_path / "run", CONFIG)


def test_a_withdrawn_resumption_changes_nothing(tmp_path: Path) -> None:
    """--resume with a device that there is none of: the next --resume without it must find the old settings."""
    with Store(tmp_path / "run", CONFIG) as store:
        store.stage("a", fill())
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file()}
    with Store(tmp_path / "run", CONFIG | {"rounds": 3}, resume=True, free=lambda *_: True) as store:
        assert store.changed == {"rounds": (2, 3)} and read_config(store.root)["rounds"] == 3
        store.withdraw()
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file()}


def test_a_stage_made_anew_must_come_out_alike(tmp_path: Path) -> None:
    """What was made from a stage that is another one now must not pass for made from that."""

    def resumed(text: str) -> Store:
        with Store(tmp_path / "run", CONFIG, resume=(tmp_path / "run").exists()) as store:
            store.stage("rounds/0/captions", fill(text))
            store.stage("rounds/0/images", fill("drawn"), after=["rounds/0/captions"])
        return store

    resumed("one")
    shutil.rmtree(tmp_path / "run/rounds/0/captions")
    resumed("one")
    shutil.rmtree(tmp_path / "run/rounds/0/captions")
    with pytest.raises(UserError, match=r"images was made from another rounds/0/captions .*Remove the folder .*images"):
        resumed("two")


@pytest.mark.parametrize("missing", ["none", "no/parent", "empty"])
def test_nothing_to_resume(tmp_path: Path, missing: str) -> None:
    """A misspelt --out must not start a new run, nor make folders."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="nothing to resume"):
        Store(tmp_path / missing, CONFIG, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["empty"] and not any((tmp_path / "empty").iterdir())


def test_another_configuration_shows_every_difference(tmp_path: Path) -> None:
    """Half a run with 2 rounds and half with 3 is no run; the error names each option, nested ones too."""
    with Store(tmp_path / "run", CONFIG):
        pass
    other = CONFIG | {"rounds": 3, "sad": {"weight_decay": 5e-7, "milestones": [40]}, "new": True}
    with pytest.raises(UserError) as caught:
        Store(tmp_path / "run", other, resume=True)
    assert "rounds: started with 2, got 3" in str(caught.value)
    assert "sad.milestones: started with [50], got [40]" in str(caught.value)
    assert "new: started with None, got True" in str(caught.value)
    assert "data" not in str(caught.value).split("\n", 1)[1]
    with Store(tmp_path / "run", CONFIG, resume=True):  # the refusal let go of the lock, and changed nothing
        pass
    require_same(CONFIG, dict(CONFIG), tmp_path)


def test_lock_within_one_process(tmp_path: Path) -> None:
    """Two runs of one notebook on one directory; after the first is closed, the way is free."""
    with Store(tmp_path / "run", CONFIG):
        for resume in (True, False):
            with pytest.raises(UserError, match=rf"in use by another process \(pid {os.getpid()}\)"):
                Store(tmp_path / "run", CONFIG, resume=resume)
    with Store(tmp_path / "run", CONFIG, resume=True):
        pass


def test_lock_against_another_process(tmp_path: Path) -> None:
    """The error names the pid of the living process; after kill -9 the lock is free."""
    script = (
        "import sys, time; from pathlib import Path; from kka.common.store import Store\n"
        "store = Store(Path(sys.argv[1]), {'a': 1})\nprint('held', flush=True)\ntime.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"in use by another process \(pid {holder.pid}\)"):
            Store(tmp_path / "run", {"a": 1}, resume=True)
    finally:
        holder.kill()
        holder.communicate()
    with Store(tmp_path / "run", {"a": 1}, resume=True):
        pass


# --- what the disk refuses -------------------------------------------------------------------------------------


def fill_text() -> None:
    with Path("/dev/full").open("w") as file:
        file.write("x" * 100)


def fill_numpy() -> None:
    with Path("/dev/full").open("wb") as file:
        np.save(file, np.zeros(100_000))


def fill_parquet() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.OSFile("/dev/full", "wb") as file:
        pq.write_table(pa.table({"a": np.arange(1000)}), file)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, the always full device")
@pytest.mark.parametrize("write", [fill_text, fill_numpy, fill_parquet])
def test_full_disk(tmp_path: Path, write: Callable[[], None]) -> None:
    """A real ENOSPC by each library that writes results: told in words, with the way on, and nothing committed."""

    def compute(folder: Path) -> dict:
        write()
        return {}

    with Store(tmp_path / "run", CONFIG) as store:
        with pytest.raises(UserError, match=r"the disk is full .*--resume"):
            store.stage("a", compute)
        assert not store.done("a")
        store.stage("a", fill())


def test_other_errors_are_not_called_a_full_disk(tmp_path: Path) -> None:
    """A bug must show its own traceback."""
    with Store(tmp_path / "run", CONFIG) as store:
        for error in (RuntimeError("5 requested and 4 written"), FileNotFoundError(2, "gone"), OSError("strange")):
            with pytest.raises(type(error)), store.guarded():
                raise error


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    """--out names a file, or a folder below a file."""
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=r"cannot write to .*--out"):
            Store(out, CONFIG)
    assert (tmp_path / "file").read_text() == "mine"


def test_where_no_folder_can_be_made(tmp_path: Path) -> None:
    """/proc refuses even root; a name that is too long is refused everywhere."""
    if Path("/proc/self").exists():
        with pytest.raises(UserError, match=r"cannot (write to|create)"):
            Store(Path("/proc/run"), CONFIG)
    with pytest.raises(UserError, match="cannot write to"):
        Store(tmp_path / ("x" * 300), CONFIG)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    """A folder of another owner."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"cannot write to .*Permission denied"):
            Store(tmp_path / "run", CONFIG)
    finally:
        tmp_path.chmod(0o700)


def test_text_is_whole_or_old(tmp_path: Path) -> None:
    """summary.json is read by others while a run goes on."""
    write_atomically(tmp_path / "a.json", "1")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a.json", "2" * 10_000 + "\ud800")
    assert json.loads((tmp_path / "a.json").read_text()) == 1


def test_fork_takes_whole_stages_alone(tmp_path: Path) -> None:
    """A stage of another run that was never committed, or one that this run has already, must not be taken over."""
    with Store(tmp_path / "a", {"x": 1}) as source:
        for name in ("round-0/captions", "round-0/images"):
            source.stage(name, lambda folder, name=name: (folder / "f").write_text(name) and {"n": 3})
        (tmp_path / "a" / "round-1" / "captions").mkdir(parents=True)
        (tmp_path / "a" / "round-1" / "captions" / "f").write_text("half")
        (tmp_path / "a" / "round-1" / ".images.part").mkdir()
    with Store(tmp_path / "b", {"x": 2}) as fork:
        fork.stage("round-0/images", lambda folder: (folder / "f").write_text("own") and {})
        fork.fork(tmp_path / "a", ("round-0/captions", "round-0/images", "round-1/captions", "round-1/images"))
        assert fork.done("round-0/captions") and not fork.done("round-1/captions") and not fork.done("round-1/images")
        assert (tmp_path / "b" / "round-0" / "captions" / "f").read_text() == "round-0/captions"
        assert (tmp_path / "b" / "round-0" / "images" / "f").read_text() == "own"
        assert fork.entry("round-0/captions").counts["n"] == 3
        fork.fork(tmp_path / "nowhere", ("round-2/images",))
        assert not fork.done("round-2/images")
    assert sorted(path.name for path in (tmp_path / "b" / "round-0").iterdir()) == ["captions", "images"]
