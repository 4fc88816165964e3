"""Work done side by side: each piece in a process of its own, which lives on for the next piece.

A worker is a fresh Python that reads pieces of work from its input. `multiprocessing` would run the caller's script
once more in every process, and so a script without a guard for ever. A worker ends with the process that started it,
however that one ends, as its input closes then. What passes between the two is pickled, and nothing else reads it.
"""

import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, runtime_checkable

from kka.common.memory import BESIDE
from kka.errors import UserError

J = TypeVar("J")
R = TypeVar("R")
W = TypeVar("W", bound="Ends")


@runtime_checkable
class Ends(Protocol):
    """Whoever does work, one piece after the other."""

    def end(self) -> None:
        """At once, whatever it is at."""
        ...


@runtime_checkable
class Crew(Protocol):
    """Who does pieces of work on other machines: see `kka.common.cluster.Cluster`."""

    def share(self, value: Any) -> Any:
        """A value for many pieces of work."""
        ...

    def submit(self, work: Callable[..., Any], *arguments: Any, threads: int | None = None, name: str = "") -> Any:
        """Have a function of a module done; what this gives may be an argument of later work."""
        ...

    def result(self, piece: Any) -> Any:
        """What a piece of work gave or raised."""
        ...


@runtime_checkable
class Copies(Protocol):
    """Copies of one thing, such as a model, on several machines."""

    @property
    def number(self) -> int: ...

    def share(self, value: Any) -> Any:
        """A value for many pieces of work."""
        ...

    def each(
        self, work: Callable[..., Any], items: Iterable[tuple[Any, ...]], *, most: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Number and `work(copy, *item)` of each item, of which there are `most`, as it is done, whichever copy does
        it. Few are sent ahead."""
        ...


class EndedError(Exception):
    """A worker ended before it had an answer."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a worker sends back."""

    value: Any = None
    error: BaseException | None = None
    where: str = ""
    """The traceback of the error."""
    warned: list[tuple[str, type[Warning], str, int, str | None]] = field(default_factory=list)
    """Message, category, file, line and module of each warning."""
    seconds: float = 0.0
    """That it took, on another machine."""
    peak_mb: float = 0.0

    def given(self, *, warn: bool = True) -> Any:
        """The value, or the error raised, in the process that asked for it; the warnings are warned of there."""
        if warn:
            for message, category, file, line, module in self.warned:
                warnings.warn_explicit(message, category, file, line, module)
        if self.error is not None:
            if not isinstance(self.error, UserError):  # whose words are enough
                self.error.add_note(f"In a process of its own:\n{self.where}")
            raise self.error
        return self.value


class Worker:
    """A process that does what it is given, one piece after the other, with so many threads."""

    def __init__(self, *, threads: int) -> None:
        # It imports as this process does: "" is the working folder, which -P would else leave out and -c put first.
        searched = [path or str(Path.cwd()) for path in sys.path]
        # A Ctrl-C reaches it by the process that started it, and not by the terminal as well: so a session of its own.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", "from kka.common.workers import serve; serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(searched)},
        )  # fmt: skip
        BESIDE.add(self._process.pid)

    def call(self, work: Callable[..., R], *arguments: Any) -> R:
        """What `work` returns or raises, which must be a function of a module, as its process imports it.

        Raises:
            EndedError: the process ended.
        """
        given, answers = self._process.stdin, self._process.stdout
        assert given is not None and answers is not None
        packed = pickle.dumps((work, arguments))
        try:
            _send(given, packed)
            received = _receive(answers)
        except (OSError, EOFError, ValueError) as error:
            raise EndedError(f"exit status {self._process.wait()}") from error
        answer: Answer = pickle.loads(received)
        value: R = answer.given()
        return value

    def end(self) -> None:
        """At once, whatever it is at."""
        self._process.kill()
        self._process.wait()
        BESIDE.discard(self._process.pid)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was left to be sent
                pipe.close()  # type: ignore[union-attr]


def side_by_side(
    jobs: Sequence[J], do: Callable[[J, W], R], *, crew: Sequence[W], told: Callable[[int], None]
) -> list[R]:
    """`do` for every job, in the order of the jobs, as many at once as there are in the crew; what it gives, in order.

    `do` runs in this process, and gives what is heavy to the worker that it gets. The first error, or a Ctrl-C, ends
    the others, and the crew is ended with the work.

    Args:
        told: Called with the number of jobs that are done.
    """
    free: queue.SimpleQueue[W] = queue.SimpleQueue()
    for worker in crew:
        free.put(worker)

    def one(job: J) -> R:
        worker = free.get()
        try:
            return do(job, worker)
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(len(crew))
    try:
        futures = [pool.submit(one, job) for job in jobs]
        for number, future in enumerate(as_completed(futures), start=1):
            future.result()
            told(number)
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in crew:
            worker.end()  # the job that waits for it ends with an error
        pool.shutdown()


# --- in the worker ---------------------------------------------------------------------------------------------------


def serve() -> None:
    """Do what comes, until the input closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    while True:
        answer = done(_unpacked, jobs.get())
        try:
            packed = pickle.dumps(answer)
            pickle.loads(packed)  # an error with arguments of its own is packed, and cannot be unpacked
        except Exception as error:  # an answer, or an error, that cannot be sent
            packed = pickle.dumps(_unsendable(answer, error))
        _send(answers, packed)


def _listen(jobs: "queue.SimpleQueue[bytes]") -> None:
    """Take in jobs. Nobody waits for an answer once the input is closed, least of all the folder to be written to."""
    with suppress(EOFError, OSError):
        while True:
            jobs.put(_receive(sys.stdin.buffer))
    os._exit(1)


def _unpacked(job: bytes) -> Any:
    work, arguments = pickle.loads(job)
    return work(*arguments)


def _unsendable(answer: Answer, error: Exception) -> Answer:
    return Answer(error=TypeError(f"cannot be handed from one process to another: {error}\n{answer.where}"))


def done(work: Callable[..., Any], *arguments: Any) -> Answer:
    """What `work` returns or raises, and what it warned of, to be sent to the process that asked for it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # what is shown, the process that gets them knows
        try:
            answer = Answer(value=work(*arguments))
        except Exception as error:
            answer = Answer(error=error, where=traceback.format_exc())
    modules = {getattr(module, "__file__", None): name for name, module in sys.modules.copy().items()}
    for told in caught:
        answer.warned.append((str(told.message), told.category, told.filename, told.lineno, modules.get(told.filename)))
    return answer


def sendable(answer: Answer) -> Answer:
    """The answer; in the place of an error that could not be unpacked again, one that says so."""
    try:
        pickle.loads(pickle.dumps(answer.error))
    except Exception as error:
        return _unsendable(answer, error)
    return answer


# --- on both sides ---------------------------------------------------------------------------------------------------


def _send(stream: IO[bytes], packed: bytes) -> None:
    stream.write(struct.pack("<Q", len(packed)))
    stream.write(packed)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """Raises EOFError where the other side has ended."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    length = struct.unpack("<Q", head)[0]
    packed = stream.read(length)
    if len(packed) < length:
        raise EOFError
    return packed
