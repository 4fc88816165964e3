"""From a cell to its figures: the task, its anomalies, the leak check, a detector to its last epoch, the metrics."""

import dataclasses
import os
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kka import __version__
from kka.algorithm.controls import noise_images, real_images
from kka.algorithm.folder import RunFolder
from kka.common.images import first_few
from kka.common.metrics import evaluate
from kka.detectors import build_detector, fit_detector
from kka.experiments.engine.cell_task import open_cell_task
from kka.experiments.engine.cells import BACKBONED, Cell, Row
from kka.experiments.engine.leaks import check_images
from kka.experiments.engine.pools import ensure_pool
from kka.experiments.engine.tasks import SCALES, dataset
from kka.protocols import AddsNoise, Detector, Images
from kka.seeding import derive_seed
from kka.settings.backbone import RANDOM, BackboneSettings
from kka.task import Task


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an experiment finds and keeps things."""

    data: Path
    """The folder that holds the data sets' folders."""
    work: Path
    """Language models, pools and claims."""
    backbone: BackboneSettings
    """Of the detectors that have one."""


@dataclass(frozen=True, kw_only=True)
class ArmImages:
    """What an arm trains with."""

    images: Images | None
    hard: np.ndarray | None = None
    generated: int = 0
    """Images generated to get them."""


@lru_cache(maxsize=1)  # cells are worked through task by task
def _task(dataset_name: str, normal: str, protocol: Any, data: Path) -> Task:
    cell = Cell(dataset=dataset_name, normal=normal, protocol=protocol, detector="sad", arm="none", seed=0)
    task = open_cell_task(cell, data)
    if task.set_aside:
        several = f"{len(task.set_aside)} picture{'s' * (len(task.set_aside) > 1)}"
        warnings.warn(f"{dataset_name} {normal}: {several} set aside: {first_few(task.set_aside)}", stacklevel=2)
    notes = task.details.get("notes", ())
    for note in notes if isinstance(notes, list | tuple) else ():
        warnings.warn(f"{dataset_name} {normal}: {note}", stacklevel=2)
    return task


def anomalies_of(cell: Cell, task: Task, place: Place) -> ArmImages:
    """The anomalies of a cell's arm.

    Raises:
        BusyError: another process is making the pool.
    """
    count, arm = dataset(cell.dataset).initial, cell.trained_with
    if arm.kind == "none":
        return ArmImages(images=None)
    if arm.kind == "noise":
        return ArmImages(images=noise_images(task, count, seed=cell.seed))
    assert task.knowledge is not None
    if arm.kind == "real" and arm.number is None:
        return ArmImages(images=real_images(task.knowledge, count, seed=cell.seed))
    assert arm.round is not None
    out = ensure_pool(cell, task, place.data, place.work)
    made = RunFolder(out)
    pool, hard = made.pool(arm.round), made.hard(arm.round)
    if arm.kind == "real":
        return ArmImages(images=real_images(task.knowledge, len(pool), seed=cell.seed))
    rng = np.random.default_rng(derive_seed(cell.seed, "controls"))
    if arm.kind == "any":
        return _any(made, arm.round, len(pool), rng)
    if arm.kind == "first":  # captions come in the order of the prompts, so shuffled
        order = rng.permutation(len(pool))[: arm.number]
        generated = len(order)
    else:
        order, generated = np.arange(len(pool)), made.generated(arm.round)
    return ArmImages(images=pool.images[order], hard=None if hard is None else hard[order], generated=generated)


def _any(made: RunFolder, last: int, count: int, rng: np.random.Generator) -> ArmImages:
    """The first generation, and random ones of what the rounds up to `last` drew, hard or not."""
    parts = [(made.fresh(number), made.fresh_hard(number)) for number in range(last + 1)]
    first, everything = len(parts[0][0]), sum(len(pool) for pool, _ in parts)
    later = first + rng.permutation(everything - first)[: count - first]
    chosen = np.concatenate([np.arange(first), np.sort(later)])
    judged = [np.zeros(len(pool), dtype=bool) if hard is None else hard for pool, hard in parts]
    images = np.concatenate([pool.images for pool, _ in parts])
    return ArmImages(images=images[chosen], hard=np.concatenate(judged)[chosen], generated=made.generated(last))


PUBLISHED_FALL = 50
"""The epoch at which SAD's learning rate falls, however many there are."""


def sad_schedule(cell: Cell) -> list[str]:
    """How long SAD is trained: as published, or as scale cpu has it, the rate falling after three quarters."""
    known = dataset(cell.dataset)
    if cell.scale == "full":
        fall = PUBLISHED_FALL / known.epochs
        return [f"epochs={known.epochs}", f"milestones={fall if fall < 1 else ''}"]
    return [f"epochs={known.cpu_epochs}"]


def build(cell: Cell, place: Place) -> Detector:
    """The cell's detector, by its scale, untrained."""
    scale = SCALES[cell.scale]
    name, settings = cell.detector.removesuffix("-random"), list(scale.settings(cell.detector, cell.dataset))
    if name == "sad":
        settings = [*sad_schedule(cell), *settings]
    backbone = None
    if cell.detector in BACKBONED:
        backbone = place.backbone
        if cell.detector.endswith("-random"):
            backbone = dataclasses.replace(backbone, weights=RANDOM)
    preset = scale.preset if name != "sad" or cell.scale == "full" else "small"
    return build_detector(
        name, preset=preset, overrides=settings, backbone=backbone, seed=derive_seed(cell.seed, "detector")
    )


def prepared(cell: Cell, task: Task, place: Place) -> tuple[ArmImages, Detector]:
    """The anomalies of a cell, checked for leaks, and its detector, untrained: what every training starts from.

    Raises:
        BusyError: another process is making its pool.
        UserError: a leak.
    """
    anomalies = anomalies_of(cell, task, place)
    check_images(task, {f"the anomalies ({cell.arm})": anomalies.images})
    return anomalies, build(cell, place)


def compute(cell: Cell, place: Place) -> Row:
    """The row of one cell.

    Raises:
        BusyError: another process is making its pool.
        UserError: a leak; data that is not there.
    """
    task = _task(cell.dataset, cell.normal, cell.protocol, place.data)
    assert task.test is not None
    anomalies, detector = prepared(cell, task, place)
    started = time.perf_counter()
    fit_detector(detector, task.normals, anomalies.images, captions=task.captions, hard=anomalies.hard)
    trained = time.perf_counter()
    scores = detector.score(task.test.images)
    scored = time.perf_counter()
    figures: dict[str, Any] = evaluate(scores, task.test.is_anomaly, task.test.seen)
    return Row(
        **dataclasses.asdict(cell),
        **figures,
        normals=len(task.normals),
        test_normals=int((~task.test.is_anomaly).sum()),
        test_anomalies=int(task.test.is_anomaly.sum()),
        anomalies=0 if anomalies.images is None else len(anomalies.images),
        hard=None if anomalies.hard is None else int(anomalies.hard.sum()),
        generated=anomalies.generated,
        noise_draws=detector.noise_draws_ if isinstance(detector, AddsNoise) else 0,
        fit_seconds=round(trained - started, 2),
        score_seconds=round(scored - trained, 2),
        machine=machine(),
        version=__version__,
    )


def machine() -> str:
    """What it ran on, in a few words."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
