"""Files: written whole or not at all, JSON lines, digests, and the image files that a person names."""

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import numpy as np

from kka.common.disk import reading
from kka.common.images import first_few
from kka.common.json_text import parse_json
from kka.common.masks import find_masks
from kka.common.walk import is_image, listed, printable, walk
from kka.errors import UserError

T = TypeVar("T")


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A hidden path beside `path`, with its suffix, to write a file or a folder to. It takes the place of `path` when
    the block ends, and is gone when the block fails: readers see the old content or the new, never a part.

    Several processes may write the same path; the last one counts. (A folder takes the place of none, or an empty one.)

    Args:
        sync: Have the disk hold it first, so that it is whole after a power cut as well.
    """
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield part
        if sync:
            sync_tree(part)
        part.replace(path)
    except BaseException:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """The text, whole or not at all, in UTF-8."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def sync_tree(path: Path) -> None:
    """Have the disk hold a file, or a folder with all that is in it."""
    for inner in path.rglob("*") if path.is_dir() else ():
        sync(inner)
    sync(path)


def sync(path: Path) -> None:
    """Have the disk hold a file, or which files a folder has."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folder
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: there is none, or it is damaged.
    """
    with reading(path):
        loaded = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(loaded, dict):
            raise TypeError(f"expected a JSON object, got {type(loaded).__name__}")
    return loaded


def read_array(path: Path) -> np.ndarray:
    """The array in an .npy file.

    Raises:
        UserError: there is none, or it is damaged.
    """
    with reading(path), path.open("rb") as file:
        return np.asarray(np.load(file, allow_pickle=False))


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file; none where there is no file: the stage that writes it never ran.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return []
    # Not splitlines(): a caption may hold characters, such as U+2028 and U+0085, at which that would cut.
    with reading(path):
        text = path.read_bytes().decode("utf-8")
        return [parse_json(line) for line in text.split("\n") if line]


def append_line(path: Path, *rows: Mapping[str, Any]) -> None:
    """Add a line for each row, whole, and have the disk hold them before anything else is done."""
    text = b"".join(_line(row) for row in rows)
    with path.open("ab+") as file:
        if file.tell() and not _ends_whole(file):  # a process was killed within its line
            text = b"\n" + text
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _line(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # the name of a file may hold any bytes
        return json.dumps(row).encode("utf-8") + b"\n"


def _ends_whole(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def write_records(path: Path, records: Sequence[Any]) -> None:
    """Each record, a dataclass of plain values, on a line of JSON."""
    write_jsonl(path, [asdict(record) for record in records])


def read_records(path: Path, kind: Callable[..., T]) -> list[T]:
    """The records of `kind` that `write_records` wrote; none where there is no file.

    Raises:
        UserError: a line that is none of them; it says which.
    """
    found = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            found.append(kind(**row))
        except TypeError as error:
            raise UserError(f"{path}, line {number}: expected the fields of a {kind.__name__}; {error}") from error
    return found


def image_files(named: Sequence[Path]) -> list[Path]:
    """Each named file, and the image files in each named folder, sorted; nothing hidden, nothing twice, no masks.

    Warns of what is left out of a folder: masks (`kka.common.masks`), and folders that cannot be entered.

    Raises:
        UserError: a name that does not exist.
    """
    found: dict[Path, None] = {}
    visited: set[Path] = set()
    for path in named:
        if path.is_dir():
            walked = walk(path, visited)
            apart = find_masks({file.relative_to(path).as_posix(): file for file in walked.files if is_image(file)})
            found |= dict.fromkeys(path / name for name in apart.photos)
            if apart.of:
                where = listed(sorted({printable(str(PurePosixPath(mask).parent)) for mask in apart.of}))
                _warn(f"{path}: {len(apart.of)} masks (in {where}) are no photos and are left out")
            if walked.unreadable:
                _warn(f"{path}: {len(walked.unreadable)} left out: {first_few(walked.unreadable)}")
        elif path.is_file():
            found[path] = None
        else:
            raise UserError(f"images: expected image files or folders; {path} does not exist")
    return list(found)


def _warn(text: str) -> None:
    warnings.warn(printable(text), stacklevel=3)
