"""How a command ends: errors meant for people, a disk that refuses, Ctrl-C and SIGTERM, each in one message."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from kka.errors import UserError


class Terminated(KeyboardInterrupt):
    """SIGTERM came. To all that clean up it is a Ctrl-C."""


def ended(work: Callable[[], int]) -> int:
    """The exit status of `work`. What is a bug keeps its traceback."""
    try:
        with _terminable():
            return work()
    except UserError as error:
        print(f"kka: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:  # before or after the part of a run that there is something to resume of
        return stopped(stop)
    except BrokenPipeError:  # nobody reads on, as in kka score … | head
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
    except Exception as error:
        from kka.common.disk import refusal

        text = refusal(error)
        if text is None:
            raise
        print(f"kka: {text}", file=sys.stderr)
        return 2


def stopped(stop: KeyboardInterrupt, then: str = "") -> int:
    """Say that a command was stopped, and what then; the exit status: 130 after Ctrl-C, 143 after SIGTERM."""
    print(f"\nkka: stopped. {then}".rstrip(), file=sys.stderr)
    return 143 if isinstance(stop, Terminated) else 130


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what is in work is cleared away."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # signals are the main thread's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
