"""A folder or a file that one process writes: a second one is refused at its start, not at its end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kka.errors import UserError


class Hold:
    """One process's hold on `what`, by a lock on a file, which the system frees when the process ends."""

    def __init__(self, lock_file: Path, what: Path, *, wait: bool = False) -> None:
        """Take it.

        Args:
            wait: For the process that has it, in the place of an error.

        Raises:
            UserError: another process has it.
        """
        self._file = lock_file
        self._lock = FileLock(lock_file)
        try:
            self._lock.acquire(timeout=-1 if wait else 0)
        except Timeout as error:
            raise UserError(
                f"{what} is in use by another process (pid {_holder(lock_file)}). Wait for it, or choose another --out."
            ) from error
        with suppress(OSError):  # a courtesy to whom it refuses: a full disk is told by what is written later
            lock_file.write_text(str(os.getpid()))

    def release(self) -> None:
        """Let go of it, and leave no file behind."""
        with suppress(OSError):  # Windows removes no open file
            self._file.unlink(missing_ok=True)  # before the release: who waits sees that it is gone, and asks anew
        self._lock.release()


def _holder(lock_file: Path) -> str:
    with suppress(OSError):
        return lock_file.read_text().strip() or "unknown"
    return "unknown"


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[None]:
    """The file or folder `path` is this process's own while the block runs. Its lock lies beside it; in it, where the
    folder around it is not to be written, as of a mounted volume.

    Raises:
        UserError: another process has it; the folder around it cannot be written.
    """
    place = path.resolve()
    missing = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        inside = place.is_dir() and not os.access(place.parent, os.W_OK)
        hold = Hold(place / ".lock" if inside else place.parent / f".{place.name}.lock", path, wait=wait)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}. Choose another --out.") from error
    try:
        yield
    finally:
        hold.release()
        for folder in missing:  # made for nothing, where the work failed
            with suppress(OSError):
                folder.rmdir()
