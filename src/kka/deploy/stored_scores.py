"""Scores that are kept, so that ten thousand photos are scored once: in the cache, a file for each detector.

A photo is known by its content. Where path, size and time of change are those of the last time, its content is not read
again. What was scored when a process is killed is there the next time.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kka import __version__
from kka.common.caches import cache_folder
from kka.common.files import append_line, sha256
from kka.common.json_text import parse_json
from kka.common.progress import Progress
from kka.common.walk import printable
from kka.deploy.chosen import CHOSEN
from kka.deploy.gallery import GALLERY
from kka.deploy.marks import MARKS
from kka.deploy.score import score_readable
from kka.deploy.stored import CHECK, INSPECTION, StoredDetector
from kka.detectors.saving import CARD, read_card
from kka.errors import UserError
from kka.task import SetAside

CHUNK = 64
"""Photos that are scored between two writes."""


@dataclass(frozen=True, kw_only=True)
class ScoredPhoto:
    """A photo that could be read."""

    file: Path
    sha256: str
    """Of its content."""
    bytes: int
    score: float


def scored_photos(
    kept: StoredDetector, files: Sequence[Path], *, progress: Progress | None = None
) -> tuple[list[ScoredPhoto], list[SetAside]]:
    """Those that can be read, in the order of `files`, and those that cannot. Only what is new is scored.

    Raises:
        UserError: none could be read; scores that are no numbers; a cache that cannot be written.
    """
    book = _Book(cache_folder() / "scores" / f"{detector_digest(kept)}.jsonl")
    missing = [file for file in files if book.find(file) is None]
    done = len(files) - len(missing)
    if progress is not None:
        progress(done, len(files))
    for part in (missing[i : i + CHUNK] for i in range(0, len(missing), CHUNK)):
        book.add(kept, part)
        done += len(part)
        if progress is not None:
            progress(done, len(files))
    photos: list[ScoredPhoto] = []
    bad: list[SetAside] = []
    for file in files:
        row = book.find(file)
        if row is None:
            bad.append(SetAside(path=printable(str(file)), reason="it cannot be opened, or was changed just now"))
        elif row["score"] is None:
            bad.append(SetAside(path=printable(str(file)), reason=row["reason"]))
        else:
            photos.append(ScoredPhoto(file=file, sha256=row["sha256"], bytes=row["bytes"], score=row["score"]))
    if not photos:
        why = f": {bad[0].path}: {bad[0].reason}" if bad else ""
        raise UserError(f"images: none of the {len(files)} files could be read{why}")
    return photos, bad


def detector_digest(kept: StoredDetector) -> str:
    """Of all that its scores depend on: its networks, its settings, how it reads photos, and the version of kka."""
    card = {key: value for key, value in read_card(kept.folder).items() if key not in _SAYS_NOTHING}
    digest = hashlib.sha256(f"{__version__} {json.dumps(card, sort_keys=True)}".encode())
    for file in sorted(path for path in kept.folder.rglob("*") if path.is_file()):
        name = file.relative_to(kept.folder).as_posix()
        exported = file.suffix in (".onnx", ".json") and file.with_suffix(".onnx").is_file()
        if name not in _BESIDE and not name.startswith(f"{CHECK}/") and not exported:
            digest.update(f"{name} {sha256(file)} ".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


_SAYS_NOTHING = ("calibration", "trained_with", "data")
"""Of a card: what no score depends on."""
_BESIDE = (CARD, CHOSEN, MARKS, GALLERY, f"{INSPECTION}.csv", f"{INSPECTION}.json")
"""Files beside a detector, which may change."""


class _Book:
    """The rows of a detector: by where a photo lay, and by what it holds."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._places: dict[tuple[str, int, int], dict[str, Any]] = {}
        self._contents: dict[str, dict[str, Any]] = {}
        for line in file.read_bytes().split(b"\n") if file.is_file() else []:
            with suppress(ValueError, TypeError, KeyError):  # half a line of a killed process: it is scored again
                self._take(parse_json(line))

    def _take(self, row: dict[str, Any]) -> None:
        place = row["path"], row["bytes"], row["changed"]
        if row["score"] is None or math.isfinite(row["score"]):
            self._places[place] = self._contents[row["sha256"]] = row

    def find(self, file: Path) -> dict[str, Any] | None:
        """The row of a file that lies where it lay, as it was."""
        try:
            return self._places.get(_place(file))
        except OSError:
            return None

    def add(self, kept: StoredDetector, files: Sequence[Path]) -> None:
        """Rows of these, on disk when it returns; of known content without scoring it again."""
        rows: list[dict[str, Any]] = []
        new: dict[Path, dict[str, Any]] = {}
        for file in files:
            try:
                path, size, changed = _place(file)
                content = sha256(file)
            except OSError:  # gone, or not to be read: it is named at the end
                continue
            row = {"path": path, "bytes": size, "changed": changed, "sha256": content}
            if (known := self._contents.get(content)) is not None:
                rows.append(row | {"score": known["score"], "reason": known["reason"]})
            else:
                new[file] = row
        found = score_readable(kept, list(new))
        scores = {row.file: row.score for row in found.rows}
        reasons = {item.path: item.reason for item in found.set_aside}
        rows += [
            row | {"score": scores.get(file), "reason": reasons.get(printable(str(file)))} for file, row in new.items()
        ]
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.file, *(row for row in rows if row["score"] is not None))  # a bad file may be read later
        except OSError as error:
            raise UserError(
                f"the scores in {self.file.parent} cannot be written: {error}. Make room or set KKA_CACHE to a folder "
                "that can be written."
            ) from error
        for row in rows:
            self._take(row)


def _place(file: Path) -> tuple[str, int, int]:
    """Where a file lies, its size, and when it was changed."""
    facts = file.stat()
    changed = max(facts.st_mtime_ns, facts.st_ctime_ns)  # a file put in another's place keeps its time, if asked
    return os.path.abspath(file), facts.st_size, changed  # noqa: PTH100  # resolve() would follow links
