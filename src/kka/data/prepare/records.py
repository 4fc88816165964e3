"""What the preparers share: a picture not yet read, a data set's facts, and where its files may lie."""

import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from kka.data.prepare.download import Download, check_md5
from kka.data.prepare.options import PrepareOptions
from kka.errors import UserError

Content = bytes | Path | np.ndarray
"""An image file, its content, or its pixels (h, w, 3) uint8."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One picture, not yet read."""

    name: str
    """The file's name, as errors say it and as it is stored but for the ending."""
    label: int
    side: Literal["train", "test"] | None
    """Its side in the official split; None where there is none."""
    load: Callable[[], Content]
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a preparer found at one source."""

    records: Sequence[Record]
    source: Mapping[str, object]
    """Where it came from, for dataset.json."""
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    """What is not as in the official files; only --allow-partial goes on with these."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The facts of one data set, and how its official files are read."""

    name: str
    label_names: tuple[str, ...]
    first_label: int
    size: int
    """Default side of the stored pictures, in pixels."""
    encoding: Literal["webp", "jpeg"]
    """webp: without loss. jpeg: quality 95, colours at full resolution."""
    splits: tuple[Literal["official", "random"], ...]
    """Those it has; the first is the default."""
    train_share: float
    """Of the random split."""
    expected: Mapping[str, int]
    """Images of each class: {"train": 500, "test": 100} by official side, or {"all": 100}; {} where classes differ."""
    total: int
    downloads: tuple[Download, ...]
    where: str
    """Where people get it, and where to put what; the end of an error's text."""
    find: Callable[["DataSet", Path, Path, PrepareOptions], Found]
    """(this, folder with the official files, scratch folder, options) -> what is there."""
    captions: Callable[[int], str]
    """The caption of an image of which only the class is known, by its label."""
    coarse: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    """Label -> superclass, by number and name; empty where there are none."""
    aliases: Mapping[str, int] = field(default_factory=dict)
    """Other names of classes that are in use -> label."""

    def label_name(self, label: int) -> str:
        """The class's name."""
        return self.label_names[label - self.first_label]

    def by_name(self) -> dict[str, int]:
        """Names and aliases as `compact` gives them -> label."""
        named = {compact(name): i for i, name in enumerate(self.label_names, start=self.first_label)}
        return {**{compact(name): label for name, label in self.aliases.items()}, **named}


def compact(name: str) -> str:
    """The letters and digits of a name alone: "Colt's foot" and "colts_foot" are one class."""
    return "".join(character for character in name.casefold() if character.isalnum())


def count_faults(dataset: DataSet, records: Sequence[Record]) -> list[str]:
    """What `records` lack of (or have beyond) the known counts, in words; empty when they are whole."""
    faults: list[str] = []
    if len(records) != dataset.total:
        faults.append(f"expected {dataset.total:,} images; got {len(records):,}")
    for side, each in dataset.expected.items():
        counts = Counter(record.label for record in records if side in ("all", record.side))
        wrong = [
            f"{name}: {counts[i]}"
            for i, name in enumerate(dataset.label_names, start=dataset.first_label)
            if counts[i] != each
        ]
        if wrong:
            of = "" if side == "all" else f" in {side}"
            more = f" and {len(wrong) - 5} more classes" if len(wrong) > 5 else ""
            faults.append(f"expected {each} images of each class{of}; got {', '.join(wrong[:5])}{more}")
    if not dataset.expected:
        there = {record.label for record in records}
        empty = [n for i, n in enumerate(dataset.label_names, start=dataset.first_label) if i not in there]
        if empty:
            more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
            faults.append(f"no image of {', '.join(empty[:5])}{more}")
    return faults


def locate(folder: Path, *names: str) -> Path | None:
    """The first of `names` that lies in `folder` or up to two folders below, as torchvision and archives nest them."""
    for name in names:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            found = next(iter(sorted(folder.glob(pattern))), None)
            if found is not None:
                return found
    return None


def unpack(archive: Path, into: Path) -> Path:
    """The archive's content in a folder of its own below `into`. Members that would land elsewhere are refused."""
    target = into / archive.name.partition(".")[0]
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as file:
                file.extractall(target)
        else:
            with tarfile.open(archive) as file:
                file.extractall(target, filter="data")
    except (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: the zip is encrypted, or packed in a way that Python does not know
        raise UserError(f"{archive} cannot be unpacked: {error}. Remove it and get it again.") from error
    return target


def verify(files: Sequence[Path], dataset_downloads: Sequence[Download]) -> tuple[list[dict[str, str]], list[str]]:
    """Name and MD5 of each file for dataset.json, and what differs from the official ones."""
    official = {download.name: download.md5 for download in dataset_downloads}
    facts, faults = [], []
    for file in files:
        found = check_md5(file)
        facts.append({"file": file.name, "md5": found})
        if file.name in official and found != official[file.name]:
            faults.append(f"{file.name} is not the official file: expected MD5 {official[file.name]}; got {found}")
    return facts, faults
