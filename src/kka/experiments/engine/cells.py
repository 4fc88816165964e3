"""One cell of a table: a task, a seed, a detector and what it is trained with; and the file that cells are kept in.

A result is one JSON line, appended under a lock as soon as it is there, so several processes share one file and a
killed one loses the cell it was at. A cell is claimed by a lock on a file of its own, which the system frees when
its process ends.
"""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kka.errors import UserError
from kka.experiments.engine.arms import Arm
from kka.experiments.engine.tasks import Protocol, Scale

Row = dict[str, Any]

BACKBONED = ("simplenet", "recontrast", "recontrast-random")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one figure is a figure of."""

    dataset: str
    normal: str
    """Normal classes, joined by "+"."""
    detector: str
    """A detector's name; "recontrast-random" is ReContrast without pre-training."""
    arm: str
    """The name of an `Arm`, as rows have it."""
    seed: int
    protocol: Protocol = "withheld"
    scale: Scale = "cpu"
    variant: str = ""
    """Settings of the loop other than the data set's: "max_hard_share=0.3,quantile=1"."""
    backbone: str = ""
    """For detectors that have one."""

    @property
    def id(self) -> str:
        parts = [self.dataset, self.normal, self.detector, self.arm, str(self.seed), self.protocol, self.scale]
        return "/".join([*parts, *filter(None, (self.variant, self.backbone))])

    @property
    def trained_with(self) -> Arm:
        """The arm itself."""
        return Arm.named(self.arm)

    @property
    def round(self) -> int | None:
        """The round of its pool; None for the controls."""
        return self.trained_with.round

    def __post_init__(self) -> None:
        Arm.named(self.arm)


FIELDS = ("id", *(f.name for f in fields(Cell)), "auroc")
"""What a row has at least."""


class Results:
    """The file of results.

    Raises:
        UserError: the path is a folder.
    """

    def __init__(self, path: Path, fields: tuple[str, ...] = FIELDS) -> None:
        if path.is_dir():
            raise UserError(f"results: expected a file of JSON lines; {path} is a folder")
        self.path = path
        self.fields = fields

    def rows(self) -> list[Row]:
        """Every stored result; of two with one id, the later. A warning names lines that are none."""
        if not self.path.is_file():
            return []
        found = {}
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if missing := [name for name in self.fields if name not in row]:
                    raise ValueError(f"without {', '.join(missing)}")
                found[row["id"]] = row
            except (ValueError, TypeError) as error:  # half a line of a killed process
                warnings.warn(f"{self.path}, line {number}: no result ({error}); it is passed over", stacklevel=2)
        return list(found.values())

    def done(self) -> set[str]:
        return {row["id"] for row in self.rows()}

    def append(self, cell: Cell, figures: Row, settings: Row | None = None) -> None:
        """One line, whole, whatever other processes append at the time.

        Args:
            settings: What the figures were made with; kept once in the file beside, under the row's `made_with`.
        """
        row = {"id": cell.id, **asdict(cell), **figures}
        if settings is not None:
            row["made_with"] = made_with(settings)
            beside = self._settings()
            if row["made_with"] not in beside.done():
                beside._append({"id": row["made_with"], **settings})
        self._append(row)

    def settings(self) -> dict[str, Row]:
        """`made_with` -> the settings."""
        return {row["id"]: row for row in self._settings().rows()}

    def _settings(self) -> "Results":
        return Results(self.path.with_suffix(".settings.jsonl"), ("id",))

    def _append(self, row: Row) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(row, ensure_ascii=False) + "\n"
        with FileLock(self.path.with_name(f".{self.path.name}.lock")), self.path.open("ab+") as file:
            if file.tell() and not _ends_whole(file):  # a process was killed within its line
                line = "\n" + line
            file.write(line.encode("utf-8"))


def made_with(settings: Row) -> str:
    """The name of some settings: a digest of them."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=6).hexdigest()


def _ends_whole(file: Any) -> bool:
    file.seek(-1, 2)
    return bool(file.read(1) == b"\n")


@contextlib.contextmanager
def claim(folder: Path, name: str, *, wait: bool = False) -> Iterator[bool]:
    """Whether `name` is this process's own while the block runs. With `wait`, it will be."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(name.encode(), digest_size=10).hexdigest()
    lock = FileLock(folder / f"{digest}.lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
