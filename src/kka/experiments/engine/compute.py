"""From a cell to its figures: the task, its anomalies, the leak check, a detector to its last epoch, the metrics."""

import dataclasses
import os
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kka import __version__
from kka.common.images import first_few
from kka.common.metrics import evaluate, share_flagged
from kka.detectors import build_detector, fit_detector, is_own_detector
from kka.experiments.engine.anomalies import ArmImages, anomalies_of
from kka.experiments.engine.cell_task import open_cell_task
from kka.experiments.engine.cells import Cell, Row, has_backbone
from kka.experiments.engine.leaks import check_images
from kka.experiments.engine.place import Place
from kka.experiments.engine.tasks import SCALES, dataset
from kka.experiments.engine.traces import ensure_traces, with_traces
from kka.protocols import AddsNoise, Detector, Images
from kka.seeding import derive_seed
from kka.settings.backbone import RANDOM
from kka.task import Task


@lru_cache(maxsize=1)  # cells are worked through task by task
def _task(dataset_name: str, normal: str, protocol: Any, split_seed: int, data: Path) -> Task:
    cell = Cell(
        dataset=dataset_name, normal=normal, protocol=protocol, detector="sad", arm="none", seed=0,
        split_seed=split_seed,
    )  # fmt: skip
    task = open_cell_task(cell, data)
    if task.set_aside:
        several = f"{len(task.set_aside)} picture{'s' * (len(task.set_aside) > 1)}"
        warnings.warn(f"{dataset_name} {normal}: {several} set aside: {first_few(task.set_aside)}", stacklevel=2)
    notes = task.details.get("notes", ())
    for note in notes if isinstance(notes, list | tuple) else ():
        warnings.warn(f"{dataset_name} {normal}: {note}", stacklevel=2)
    return task


def task_of(cell: Cell, place: Place) -> Task:
    """The cell's task; the last one is kept in memory."""
    return _task(cell.dataset, cell.normal, cell.protocol, cell.split_seed, place.data)


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
    if has_backbone(cell.detector):
        backbone = place.backbone
        if cell.detector.endswith("-random"):
            backbone = dataclasses.replace(backbone, weights=RANDOM)
    if is_own_detector(name):  # a person's own, as it is unasked
        return build_detector(name, seed=derive_seed(cell.seed, "detector"))
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
    task = task_of(cell, place)
    assert task.test is not None
    anomalies, detector = prepared(cell, task, place)
    traces = _traces(cell, task, place)
    started = time.perf_counter()
    fit_detector(
        detector, task.normals, anomalies.images, captions=task.captions, hard=anomalies.hard, masks=anomalies.masks
    )
    trained = time.perf_counter()
    scores = detector.score(task.test.images)
    scored = time.perf_counter()
    figures: dict[str, Any] = evaluate(scores, task.test.is_anomaly, task.test.seen)
    normals = scores[~task.test.is_anomaly]
    return Row(
        **dataclasses.asdict(cell),
        **figures,
        normals=len(task.normals),
        test_normals=int((~task.test.is_anomaly).sum()),
        test_anomalies=int(task.test.is_anomaly.sum()),
        anomalies=0 if anomalies.images is None else len(anomalies.images),
        hard=None if anomalies.hard is None else int(anomalies.hard.sum()),
        relative=_median(anomalies.relative),
        generated=anomalies.generated,
        **anomalies.spent,
        fresh_hard=anomalies.fresh_hard,
        closed=anomalies.closed,
        traces=None if traces is None else share_flagged(normals, detector.score(traces)),
        noise_draws=detector.noise_draws_ if isinstance(detector, AddsNoise) else 0,
        fit_seconds=round(trained - started, 2),
        score_seconds=round(scored - trained, 2),
        machine=machine(),
        version=__version__,
    )


def _traces(cell: Cell, task: Task, place: Place) -> Images | None:
    """Pictures of the normals' own captions, to ask a detector trained with KKA about; None where there are none."""
    return ensure_traces(cell, task, place).images if with_traces(cell) else None


def machine() -> str:
    """What it ran on, in a few words."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def _median(values: np.ndarray | None) -> float | None:
    """None where there are no values."""
    return None if values is None or not len(values) else round(float(np.median(values)), 4)
