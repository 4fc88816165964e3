"""One cell of a table: a task, a seed, a detector and what it is trained with; and the file that cells are kept in.

A result is one JSON line, appended under a lock as soon as it is there, so several processes share one file and a
killed one loses the cell it was at. A cell is claimed by a lock on a file of its own, which the system frees when
its process ends.
"""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from kka.common.json_text import parse_json
from kka.detectors import is_of_family
from kka.errors import UserError
from kka.experiments.engine.arms import Arm
from kka.experiments.engine.tasks import Protocol, Scale

T = TypeVar("T")

BACKBONED = ("simplenet", "recontrast", "recontrast-random")


def has_backbone(detector: str) -> bool:
    """Whether an experiment's backbone is given to the detector of this name."""
    return detector in BACKBONED or is_of_family(detector)


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
    split_seed: int = 0
    """Of the choice of the withheld half of the anomaly classes."""

    @property
    def id(self) -> str:
        parts = [self.dataset, self.normal, self.detector, self.arm, str(self.seed), self.protocol, self.scale]
        split = f"split-{self.split_seed}" if self.split_seed else ""
        return "/".join([*parts, *filter(None, (self.variant, self.backbone, split))])

    @property
    def trained_with(self) -> Arm:
        """The arm itself."""
        return Arm.named(self.arm)

    @property
    def needs_pool(self) -> bool:
        """Whether its anomalies come from a pool."""
        return self.trained_with.needs_pool

    def __post_init__(self) -> None:
        Arm.named(self.arm)


@dataclass(frozen=True, kw_only=True)
class Row(Cell):
    """A cell with its figures, as they are stored. AUROC, AUPR and FPR95 are shares, times are seconds."""

    auroc: float
    aupr: float | None = None
    fpr95: float | None = None
    seen: float | None = None
    """AUROC against the kinds of anomaly that the language model and the image bank knew; None: no such split."""
    unseen: float | None = None
    """AUROC against the withheld ones."""
    normals: int = 0
    test_normals: int | None = None
    """None: of a version that did not store it."""
    test_anomalies: int | None = None
    anomalies: int = 0
    """Images that the detector trained with as anomalies."""
    hard: int | None = None
    """Of those; None where nothing judged them."""
    relative: float | None = None
    """The median of their relative distances, by the last judgement; None where nothing judged them all."""
    generated: int = 0
    """Images generated to get them."""
    tokens_read: int | None = None
    """By the language model, for the captions of these images; None: nothing counts it."""
    tokens_written: int | None = None
    cost: float | None = None
    """Of these tokens, where prices are given."""
    fresh_hard: float | None = None
    """The share of hard ones in what the arm's round generated."""
    closed: bool | None = None
    """Whether the arm's round closed without an entry; None: of a version that did not say."""
    traces: float | None = None
    """The share that the detector calls anomalous, of pictures that the image model drew of the normals' own captions,
    at the threshold that flags 5 % of the test normals; None where it looks pictures up."""
    noise_draws: int = 0
    """Of noise on features, by detectors that add it."""
    fit_seconds: float = 0.0
    score_seconds: float = 0.0
    machine: str = ""
    version: str = ""
    made_with: str | None = None
    """The name of the settings that it was made with; None: of a version that did not say."""

    def as_dict(self) -> dict[str, Any]:
        """A line of the file of results: without what was not measured, but for `hard`."""
        return {"id": self.id, **{k: v for k, v in asdict(self).items() if v is not None or k == "hard"}}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Row":
        """Read what `as_dict` gave. Fields that this version does not know are passed over.

        Raises:
            ValueError: fields that a row has at least are missing, or an arm that there is none of.
        """
        if missing := [name for name in _LEAST if name not in stored]:
            raise ValueError(f"without {', '.join(missing)}")
        names = {field.name for field in fields(cls)}
        try:
            return cls(**{name: value for name, value in stored.items() if name in names})
        except UserError as error:
            raise ValueError(str(error)) from error


_LEAST = ("id", *(field.name for field in fields(Cell) if field.name != "split_seed"), "auroc")


class Results:
    """The file of results.

    Raises:
        UserError: the path is a folder.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise UserError(f"results: expected a file of JSON lines; {path} is a folder")
        self.path = path

    def rows(self) -> list[Row]:
        """Every stored result; of two with one id, the later. A warning names lines that are none."""
        return list(_read(self.path, Row.from_dict).values())

    def done(self) -> set[str]:
        return {row.id for row in self.rows()}

    def append(
        self, row: Row, settings: dict[str, Any] | None = None, *, unless: Callable[[Row], bool] | None = None
    ) -> bool:
        """One line, whole, whatever other processes append at the time; whether it was added.

        Args:
            settings: What the figures were made with; kept once in the file beside, under the row's `made_with`.
            unless: Of the row that stands for the cell now: whether that one is to stay, and this one to go.
        """
        if settings is not None:
            row = replace(row, made_with=made_with(settings))
            if row.made_with not in self.settings():
                _append(self._beside, {"id": row.made_with, **settings})

        def stays() -> bool:
            there = None if unless is None else {each.id: each for each in self.rows()}.get(row.id)
            return there is not None and unless is not None and unless(there)

        return _append(self.path, row.as_dict(), unless=stays)

    def settings(self) -> dict[str, dict[str, Any]]:
        """`made_with` -> the settings, by name."""
        return _read(self._beside, dict)

    @property
    def _beside(self) -> Path:
        return self.path.with_suffix(".settings.jsonl")


def _read(path: Path, parse: Callable[[dict[str, Any]], T]) -> dict[str, T]:
    """Id -> what each line holds; of two with one id, the later. A warning names lines that hold nothing."""
    found: dict[str, T] = {}
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            stored = parse_json(line)
            found[stored["id"]] = parse(stored)
        except (ValueError, TypeError, KeyError) as error:  # half a line of a killed process
            warnings.warn(f"{path}, line {number}: no result ({error}); it is passed over", stacklevel=3)
    return found


def _append(path: Path, row: dict[str, Any], *, unless: Callable[[], bool] = lambda: False) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row, ensure_ascii=False) + "\n"
    with FileLock(path.with_name(f".{path.name}.lock")), path.open("ab+") as file:
        if unless():
            return False
        if file.tell() and not _ends_whole(file):  # a process was killed within its line
            line = "\n" + line
        file.write(line.encode("utf-8"))
    return True


def made_with(settings: dict[str, Any]) -> str:
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
