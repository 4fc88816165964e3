"""A piece of work where it is done: in a process of its own on one of the machines of a cluster."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from kka import __version__
from kka.common.memory import PeakMemory
from kka.common.workers import Answer, EndedError, done, sendable
from kka.errors import UserError

RETRIES = 3
"""So often is a piece begun anew whose process or machine ended."""


class LostError(EndedError, UserError):
    """A piece of work whose process or machine ended each time that it was tried."""


@dataclass(frozen=True, kw_only=True)
class Here:
    """How a piece of work finds its process."""

    folder: str
    """The working folder, where there is one of this path."""
    threads: int | None
    """None: it computes nothing that has any."""
    gpu: bool


def do(here: Here, work: Callable[..., Any], *arguments: Any) -> Answer:
    """A piece of work; where an argument failed, its error is the answer."""
    with suppress(OSError):
        os.chdir(here.folder)
    if not here.gpu:  # Ray itself shows all GPUs to those that were given none
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return _measured(here.threads, work, *arguments)


def _measured(threads: int | None, work: Callable[..., Any], *arguments: Any) -> Answer:
    started = time.perf_counter()
    with PeakMemory() as memory:
        answer = done(_with_threads, threads, work, *arguments)
    return replace(sendable(answer), seconds=time.perf_counter() - started, peak_mb=memory.peak_mb)


class Copy:
    """The actor behind one of `Copies`."""

    def __init__(self, here: Here, build: Callable[..., Any], *arguments: Any) -> None:
        self._threads = here.threads
        self._made = do(here, build, *arguments)

    def begun(self) -> Answer:
        """What was warned of; an error of the building."""
        return replace(self._made, value=None)

    def do(self, work: Callable[..., Any], *arguments: Any) -> Answer:
        return _measured(self._threads, work, self._made, *arguments)


def _with_threads(threads: int | None, work: Callable[..., Any], *arguments: Any) -> Any:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return work(*(given.given(warn=False) if isinstance(given, Answer) else given for given in arguments))


def versions() -> str:
    return f"kka {__version__} on Python {'.'.join(map(str, sys.version_info[:3]))}"
