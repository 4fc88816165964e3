"""The files below a folder, as every command sees them: links followed, each folder once, without systems' junk."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kka.common.images import RAW, SUFFIXES
from kka.task import SetAside

JUNK = frozenset(
    {
        "@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "__macosx", "__pycache__", "$recycle.bin", "recycler",
        "system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini",
        "icon\r",
    }
)  # fmt: skip
"""Files and folders that systems and network drives leave behind, in small letters. What begins with "." is hidden."""
RAW_REASON = "a camera's raw file; develop it into a JPEG, PNG or TIFF"
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What lies below a folder."""

    files: tuple[Path, ...]
    """Sorted. Links that lead nowhere are among them, so that they can be named."""
    unreadable: tuple[SetAside, ...]
    """Folders that cannot be entered, what is no file (a pipe, a device), and cameras' raw files that have no image of
    their name beside them."""


def walk(folder: Path, visited: set[Path] | None = None) -> Walk:
    """All visible files below `folder` but junk.

    `visited`: real folders that are left out, to which those entered are added; of one set for several calls.
    """
    visited = set() if visited is None else visited
    unreadable: list[SetAside] = []

    def note(error: OSError) -> None:
        unreadable.append(SetAside(path=shown(Path(error.filename), folder), reason=error.strerror or str(error)))

    files: list[Path] = []
    if folder.resolve() in visited:
        return Walk(files=(), unreadable=())
    visited.add(folder.resolve())
    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_junk(name))
        for name in list(folders):
            real = Path(parent, name).resolve()
            if real in visited:
                folders.remove(name)
            visited.add(real)
        raw = {name for name in names if os.path.splitext(name)[1].lower() in RAW}  # noqa: PTH122  # of every file
        stems = developed(names) if raw else set()
        for name in names:
            if is_junk(name):
                continue
            file = Path(parent, name)
            if name in raw:
                if file.stem not in stems:
                    unreadable.append(SetAside(path=shown(file, folder), reason=RAW_REASON))
            elif _can_be_read(file):
                files.append(file)
            else:
                unreadable.append(SetAside(path=shown(file, folder), reason="a pipe, socket or device, and no file"))
    in_order = sorted(files, key=_parts) if os.sep == "/" else sorted(files)
    return Walk(files=tuple(in_order), unreadable=tuple(unreadable))


def _parts(file: Path) -> tuple[str, ...]:
    """By which paths compare where large and small letters differ, at a fifth of the time."""
    return file.parts


def developed(names: Iterable[str]) -> set[str]:
    """The stems of the images among the names of one folder: cameras write a JPEG beside a raw file."""
    return {Path(name).stem for name in names if Path(name).suffix.lower() in SUFFIXES}


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden or left behind by a system."""
    return name.startswith((".", "~$", "__MACOSX")) or name.casefold() in JUNK


def is_image(file: Path) -> bool:
    """Whether a file is meant to be an image: by its suffix, or, where it has none, by its first bytes."""
    if file.suffix:
        return file.suffix.lower() in SUFFIXES
    try:
        with file.open("rb") as opened:
            start = opened.read(16)
    except OSError:
        return False
    if start.startswith(_MAGIC):
        return True
    riff = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    bitmap = start[:2] == b"BM" and start[6:10] == bytes(4)
    return riff or bitmap or start[4:12] in (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1")


def shown(path: Path, folder: Path) -> str:
    """The path below `folder`, with "/", as it can be printed and written."""
    text, before = os.fspath(path), f"{os.fspath(folder)}/"
    if os.sep == "/" and text.startswith(before):  # as below, which takes twenty times as long
        return printable(text[len(before) :])
    return printable(path.relative_to(folder).as_posix())


def printable(text: str) -> str:
    """The text with what is no UTF-8 escaped: file names may hold any bytes, and JSON half of a character."""
    if text.isascii():
        return text
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        content = text.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def _can_be_read(file: Path) -> bool:
    """Whether it is a file, or a link to nothing or something out of reach, which reading names with the reason."""
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return True
