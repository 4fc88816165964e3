"""How much a command says while it works: `--quiet`, and where there is no terminal a line every half a minute."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from kka.settings import settings

EVERY = 30.0
"""Seconds from one line to the next where there is no terminal, in which nothing moves: a log shows that it goes on."""
TICK = 1.0
"""Seconds from one look at the clock to the next."""

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@settings()
class Hushed:
    """What every command that shows its progress takes."""

    quiet: bool = False
    """Print the result, warnings and errors, and nothing else."""


def is_quiet() -> bool:
    """Whether the command is to say nothing of how it goes on."""
    return _quiet.get()


def asks_for_quiet(command: Any) -> bool:
    """Whether `--quiet` stands in a command, or in the part of it that was chosen."""
    inner = next((getattr(command, name) for name in ("command", "action") if hasattr(command, name)), None)
    return bool(getattr(command, "quiet", False) or getattr(inner, "quiet", False))


class Log:
    """The lines of a log: where the work is, told at least every `EVERY` seconds, whatever the work is in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """With a new command."""
        self.where, self._told = "At work", time.monotonic()

    def at(self, where: str) -> None:
        """The work is there now."""
        self.where = where
        self.tell()

    def tell(self) -> None:
        """A line, if it is time for one."""
        with self._lock:
            if is_quiet() or sys.stderr.isatty() or time.monotonic() - self._told < EVERY:
                return
            self._told = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {self.where}", file=sys.stderr, flush=True)


LOG = Log()
"""Of this process."""


@contextmanager
def heard(*, quiet: bool) -> Iterator[None]:
    """While the block runs, the log goes on, or nothing but results and warnings is said."""
    token, ended = _quiet.set(quiet), threading.Event()
    LOG.begin()

    def beat() -> None:
        while not ended.wait(TICK):
            LOG.tell()

    thread = threading.Thread(target=beat, daemon=True)
    if not quiet:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if not quiet:
            thread.join()
        _quiet.reset(token)
