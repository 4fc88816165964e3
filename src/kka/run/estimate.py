"""What a run or a training will take: time, memory, disk and calls, from doing a little of each part of it here."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kka.common.extrapolate import watch
from kka.common.progress import Progress
from kka.deploy.anomalies import Anomalies, fit_anomalies
from kka.protocols import Detector, HasSettings, Localises
from kka.run.training import threads
from kka.task import Task

LITTLE = 16
"""Photos that a detector is trained with to see what scoring and storing take, where its training was not ended."""
PASSES = ("epochs", "iterations", "image_epochs", "generation_epochs", "pretrain_epochs")
"""Settings of detectors that say how long they are trained."""


MOST = 256
"""Photos of each side that a preview reads, spread over all of them."""


def read_of(task: Task) -> tuple[int, int]:
    """Normals and test pictures that were read; of photos that are cut, the tiles of both."""
    tiles = task.details.get("tiles")
    if isinstance(tiles, dict):
        return int(tiles["normals"]), int(tiles["test"])
    return len(task.normals), 0 if task.test is None else len(task.test.images)


def whole_of(task: Task) -> tuple[int, int]:
    """Normals and test pictures in all, where no more than `MOST` were read: then what is set aside of the others is
    not known."""
    read = read_of(task)
    whole = task.details.get("whole")
    if not isinstance(whole, dict):
        return read
    of = (int(whole["normals"]), int(whole["test"]))
    if task.photos is not None:
        return of
    return of[0] if of[0] > MOST else read[0], of[1] if of[1] > MOST else read[1]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the work."""

    stage: str
    """As `kka.common.labels.STAGES` has it, or in words."""
    seconds: float | None
    """None: not known."""
    how: str
    """From what it was told."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of a whole run or training."""

    parts: tuple[Part, ...]
    memory: int
    """Bytes, at the peak; of all processes."""
    disk: int
    """Bytes that stay."""
    calls: Mapping[str, float] = field(default_factory=dict)
    """What goes to servers: "requests for captions", "pictures", "tokens read", "tokens written", "cost"."""

    @property
    def seconds(self) -> float:
        """Of the parts that are known."""
        return sum(part.seconds or 0.0 for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class DetectorCost:
    """What a detector takes, in seconds and bytes."""

    fit: float
    """A training on all normals and anomalies."""
    alone: float
    """On the normals alone."""
    picture: float
    """To score one, and to map it where the detector localises."""
    disk: int
    how: str
    """From what it was told."""

    def kept(self, held: float, scored: int) -> float:
        """A training on a share of the normals, whose rest `held` sets the threshold, with figures of the test."""
        return (1 - held) * self.fit + scored * self.picture


def detector_cost(
    build: Callable[[Progress | None], Detector], task: Task, anomalies: Anomalies | None, *, normals: int, all_of: int,
    seconds: float, use: int,
) -> DetectorCost:  # fmt: skip
    """Train the detector for so many seconds, on as many photos as it can look at meanwhile.

    Args:
        build: Makes it, untrained.
        normals: How many there are in all, of which `task` has some; `all_of`: anomalies in all.
        use: Threads.
    """
    given = 0 if anomalies is None else len(anomalies.images)
    with threads(use), elsewhere():
        few = np.arange(given) < LITTLE
        little = _trained(
            _shortened(build(None)), task, LITTLE, None if anomalies is None or not given else anomalies.only(few)
        )
        some = task.normals[:LITTLE]
        picture = _each(lambda: little.score(some), len(some))
        if isinstance(little, Localises):
            picture += _each(lambda: little.score_map(some), len(some))
        most = max(LITTLE, int(seconds / max(picture, 1e-9)))  # so many it can look at
        rows = min(len(task.normals), most)
        shown = anomalies if anomalies is None or given <= most else anomalies.only(np.arange(given) < most)
        seen = watch(lambda told: _trained(build(told), task, rows, shown), seconds=seconds)
        stored = stored_size((seen.result if seen.finished else little).save)
    share = (normals + all_of) / max(1, rows + (0 if shown is None else len(shown.images)))
    steps = seen.seconds - seen.before
    passes = not hasattr(getattr(build(None), "settings", None), "iterations")  # which are as many of any photos
    fit = share * seen.before + (share if passes else 1.0) * steps
    how = f"{seen.steps:,} steps of training, of which some were made on {rows:,} photos"
    return DetectorCost(
        fit=fit, alone=fit * normals / max(1, normals + all_of) if passes else fit, picture=picture, disk=stored,
        how=how if seen.steps else f"a training on {rows:,} photos",
    )  # fmt: skip


def _trained(detector: Detector, task: Task, rows: int, anomalies: Anomalies | None) -> Detector:
    return fit_anomalies(detector, task.normals[:rows], anomalies, captions=list(task.captions[:rows]))


def _shortened(detector: Any) -> Any:
    """It, to be trained for one pass, where its settings say how many there are."""
    if isinstance(type(detector), HasSettings) and dataclasses.is_dataclass(getattr(detector, "settings", None)):
        names = {f.name for f in dataclasses.fields(detector.settings)} & {*PASSES}
        short = {name: 1 for name in names if (getattr(detector.settings, name) or 2) > 1}  # None: as many as it likes
        detector.settings = dataclasses.replace(detector.settings, **short)
    return detector


def _each(work: Callable[[], Any], number: int) -> float:
    work()  # the first time something is set up
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / number


@contextmanager
def elsewhere() -> Iterator[None]:
    """What is cached while the block runs lies in a folder that is gone afterwards."""
    before = os.environ.get("KKA_CACHE")
    with tempfile.TemporaryDirectory(prefix="kka-preview-") as scratch:
        os.environ["KKA_CACHE"] = scratch
        try:
            yield
        finally:
            os.environ.pop("KKA_CACHE")
            if before is not None:
                os.environ["KKA_CACHE"] = before


def stored_size(save: Callable[[Path], Any]) -> int:
    """Bytes of what `save` writes into a folder."""
    with tempfile.TemporaryDirectory(prefix="kka-preview-") as scratch:
        save(Path(scratch) / "stored")
        return folder_size(Path(scratch))


def folder_size(folder: Path) -> int:
    """Bytes of all files below it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
