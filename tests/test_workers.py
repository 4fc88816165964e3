"""Processes that work side by side: their answers, their errors, and their end."""

import operator
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import psutil
import pytest

from kka.common.memory import BESIDE, PeakMemory
from kka.common.workers import EndedError, Worker, side_by_side
from kka.errors import UserError


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(threads=3)
    yield made
    made.end()


def fails(text: str) -> None:
    raise UserError(text)


class OwnError(ValueError):
    def __init__(self, found: int, of: int) -> None:
        super().__init__(f"{found} of {of}")


def fails_in_its_own_way() -> None:
    raise OwnError(3, 4)


def talks() -> str:
    print("a library that prints")
    warnings.warn("a word to the reader", stacklevel=1)
    return "done"


def test_answers(worker: Worker) -> None:
    """What a library prints would be taken for an answer; a warning would reach nobody; threads would contend."""
    assert worker.call(os.getpid) != os.getpid()
    with pytest.warns(UserWarning, match="a word to the reader"):
        assert worker.call(talks) == "done"
    assert worker.call(os.getenv, "OMP_NUM_THREADS") == "3"


def test_errors(worker: Worker) -> None:
    """The next piece of work is done all the same; a bug keeps the place where it is."""
    with pytest.raises(UserError, match=r"^a finer word$"):
        worker.call(fails, "a finer word")
    with pytest.raises(ZeroDivisionError) as caught:
        worker.call(operator.floordiv, 1, 0)
    assert "in done" in caught.value.__notes__[0]
    with pytest.raises(TypeError, match="cannot be handed"):
        worker.call(open, os.devnull)
    assert worker.call(operator.add, 1, 2) == 3
    with pytest.raises(EndedError, match="exit status 7"):
        worker.call(os._exit, 7)


def test_an_error_that_cannot_be_unpacked(worker: Worker) -> None:
    """What it says would be lost behind an error of pickle; after a ValueError the worker was waited for for ever."""
    with pytest.raises(TypeError, match=r"(?s)cannot be handed.*OwnError: 3 of 4"):
        worker.call(fails_in_its_own_way)
    assert worker.call(operator.add, 1, 2) == 3


def test_a_worker_imports_as_its_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the user's photos would stand in for one of Python's; work of the working folder would be lost."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "queue.py").write_text("raise SystemExit(9)")
    (tmp_path / "work_beside.py").write_text("def answer():\n    return 42\n")
    worker = Worker(threads=1)
    assert worker.call(operator.add, 1, 2) == 3
    worker.end()
    (tmp_path / "queue.py").unlink()
    monkeypatch.syspath_prepend("")
    answer = import_module("work_beside").answer
    worker = Worker(threads=1)
    assert worker.call(answer) == 42
    worker.end()


def crew() -> list[Worker]:
    return [Worker(threads=1) for _ in range(2)]


def test_side_by_side() -> None:
    """In the order asked for, whichever ends first; each is counted while it works; none is left behind."""
    told: list[int] = []
    counted: list[int] = []

    def do(job: int, worker: Worker) -> int:
        answer = worker.call(operator.mul, job, 2)
        counted.append(worker.call(os.getpid) in BESIDE)
        return answer

    found = side_by_side(range(5), do, crew=crew(), told=told.append)
    assert found == [0, 2, 4, 6, 8] and told == [1, 2, 3, 4, 5]
    assert counted == [True] * 5 and not BESIDE


def test_memory_of_those_beside(worker: Worker) -> None:
    """A run's peak would leave out most of what its detectors take; both processes are at rest while it is read."""
    with PeakMemory() as memory:
        pid = worker.call(os.getpid)
    beside = psutil.Process(pid).memory_info().rss
    BESIDE.discard(pid)
    with PeakMemory() as alone:
        pass
    BESIDE.add(pid)
    assert (memory.peak_mb - alone.peak_mb) * 2**20 > beside / 2 > 2**20


def test_an_error_ends_the_others() -> None:
    """One that fails at once would else wait for hours of others' work."""
    started = time.monotonic()

    def do(job: int, worker: Worker) -> None:
        worker.call(time.sleep, 120) if job else worker.call(fails, "enough")

    with pytest.raises(UserError, match="enough"):
        side_by_side(range(4), do, crew=crew(), told=lambda done: None)
    assert time.monotonic() - started < 60 and not BESIDE


def test_a_worker_ends_with_its_process() -> None:
    """After a kill -9 it would write into the folder that the resumed run fills."""
    code = (
        "import os, threading, time\n"
        "from kka.common.workers import Worker\n"
        "worker = Worker(threads=1)\n"
        "print(worker.call(os.getpid), flush=True)\n"
        "threading.Thread(target=worker.call, args=(time.sleep, 120), daemon=True).start()\n"
        "time.sleep(0.2)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == -9
    deadline = time.monotonic() + 30
    while psutil.pid_exists(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(done.stdout))
