"""A `kka` command in a process of its own, within seconds: a fork of one that has imported everything."""

import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST_MEMORY = 12 * 2**30
"""Bytes of address space. What asks for more fails at once, instead of taking the machine with it."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int | None
    """Exit status; None: it was killed, as it was asked or as it took too long."""
    text: str
    """All that it said."""
    seconds: float

    @property
    def clean(self) -> bool:
        """It ended by itself, without a traceback; if it failed, with a message."""
        if self.code is None or self.code < 0 or "Traceback (most recent call last)" in self.text:
            return False
        return self.code == 0 or bool(self.text.strip())


def warm() -> None:
    """Import what commands need, on one thread, before the first fork."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}
    import peft
    import pyarrow.parquet
    import torch
    import transformers
    import trl

    import kka.cli
    import kka.deploy.export
    import kka.language.hf
    import kka.run.execute

    torch.set_num_threads(1)
    assert peft and pyarrow and transformers and trl and kka


def command(arguments: Sequence[str]) -> Callable[[], int]:
    """`kka` with these arguments."""

    def run() -> int:
        from kka.cli import main

        return main(list(arguments))

    return run


def forked(work: Callable[[], int], *, limit: float, kill_after: float | None = None) -> Ended:
    """Do `work` in a fork.

    Args:
        limit: Seconds after which it counts as hanging.
        kill_after: Kill it after so many seconds.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+b") as said:
        pid = os.fork()
        if pid == 0:
            _child(work, said.fileno())
        end = started + min(limit, limit if kill_after is None else kill_after)
        status = None
        while status is None and time.monotonic() < end:
            found, raw = os.waitpid(pid, os.WNOHANG)
            if found:
                status = os.waitstatus_to_exitcode(raw)
            else:
                time.sleep(0.005)
        if status is None:
            with suppress(ProcessLookupError):  # it is not yet the head of a group
                os.killpg(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        seconds = time.monotonic() - started
        said.seek(0)
        return Ended(code=status, text=said.read().decode("utf-8", "replace"), seconds=seconds)


def _child(work: Callable[[], int], said: int) -> None:
    import torch

    code = 1
    try:
        os.setsid()
        torch.set_num_threads(1)  # makes torch's pool anew, which a fork breaks, before several threads ask for it
        for stream in (1, 2):
            os.dup2(said, stream)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # lives as long as the process
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        try:
            code = work()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def files_of(folder: Path, *, but: Sequence[str]) -> dict[str, bytes]:
    """Name -> content of every visible file below."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and path.name not in but and not any(part.startswith(".") for part in name.parts):
            found[str(name)] = path.read_bytes()
    return found
