"""What the disk refuses and what damaged files throw, in words: one place that turns both into an error for people."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kka.errors import UserError

STAGE_FILE, CONFIG_FILE, RECORD_FILE = "stage.json", "config.yaml", "run.json"
"""What marks a committed stage of a run, a run's settings, and what it was begun with."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
    errno.ENOTEMPTY,
}  # fmt: skip
_FORMATS = ("pyarrow", "safetensors", "zipfile", "zlib", "lzma", "yaml", "PIL")
"""Packages whose errors speak of a file's content."""


class DamagedError(UserError):
    """A file that is missing, or does not hold what kka wrote."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the block throws while it reads the file `path`, whatever it is, means that the file cannot be used.

    Raises:
        DamagedError: it names the file, and what makes it again where it is of a run.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # each format has its own kinds, and each means the same here
        if isinstance(error, FileNotFoundError):
            raise DamagedError(f"{path} is missing. {remedy(path)}") from error
        if isinstance(error, OSError) and error.errno in _REFUSED:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        raise DamagedError(
            f"{path} cannot be read: expected what kka wrote there; it is damaged, cut short or of another kind "
            f"({_brief(error)}). {remedy(path)}"
        ) from error


def remedy(path: Path) -> str:
    """How to have a damaged or missing file made again."""
    begun = (CONFIG_FILE, RECORD_FILE)
    root = next((folder for folder in path.parents if any((folder / name).exists() for name in begun)), None)
    if root is None:
        return "Make or copy it anew."
    inside = path.relative_to(root).parts
    depth = {"rounds": 3, "arms": 3, "task": 1}.get(inside[0], 0)
    again = f"kka run --out {root} --resume"
    if path == root / RECORD_FILE:
        return f"Remove it, and {again} goes on, without knowing whether data and settings are those it was begun with."
    if path == root / CONFIG_FILE and (root / RECORD_FILE).exists():
        return f"Remove it, and this puts it back as it was: {again}"
    if path == root / CONFIG_FILE:
        return "Put it back, or start anew: choose another --out."
    if not depth:  # at the top of the run
        return f"This makes it again: {again}"
    return f"Remove the folder {root.joinpath(*inside[:depth])}, then this makes it again: {again}"


def refusal(error: BaseException, *, again: str = "give the command again") -> str | None:
    """In words, what the disk or a format said by an error that nobody foresaw; None: it is of another kind, a bug.

    Args:
        again: What to do once there is room.
    """
    if is_full(error):
        return f"the disk is full: {error}. Nothing half-written was kept. Free some space, then {again}."
    if is_refused(error):
        assert isinstance(error, OSError)
        return f"cannot read or write {error.filename}: {error.strerror}. Choose another place, or its permissions."
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if type(error).__module__.partition(".")[0] in _FORMATS:
        return f"a file is damaged or of another kind than expected: {_brief(error)}"
    return None


def is_full(error: BaseException) -> bool:
    """Whether the disk is full. numpy and safetensors say so in words alone, without an errno."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NO_SPACE
    text = str(error)
    short_write = isinstance(error, OSError) and "requested and" in text and text.endswith("written")
    return short_write or any(f"(os error {number})" in text for number in _NO_SPACE)


def is_refused(error: BaseException) -> bool:
    """Whether a place may not be written (or read), or is none."""
    return isinstance(error, OSError) and error.errno in _REFUSED


def _brief(error: BaseException) -> str:
    """The kind and the first line of an error."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
