"""Figure 5: the latent space of the test images by t-SNE, SSD (no anomalies) beside SAD + KKA.

    kka experiment figure5 --dataset oxford102

Two detectors on the first task of each data set, seed 0: minutes at scale `cpu`. Expected: SSD mixes normals and
anomalies; KKA draws the normals together. The picture decides nothing; AUROC stands in each title.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kka.common.metrics import auroc
from kka.detectors import fit_detector
from kka.experiments.engine.cell_task import open_cell_task
from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.compute import prepared
from kka.experiments.engine.drawing import COLOURS, announce, figure
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.place import Place
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.tasks import dataset
from kka.protocols import Embeds
from kka.report.analysis import tsne
from kka.task import Task

MOST = 300
"""Test images of each side that are shown."""


def draw(plan: Plan, place: Place, rows: Sequence[Row], folder: Path) -> list[Path]:
    """One PNG for each data set."""
    paths = []
    for name in plan.datasets:
        task_name = plan.first_task(name)
        arms = (("SSD", "ssd", "none"), ("SAD + KKA (rep)", "sad", f"rep-{dataset(name).rounds}"))
        task = open_cell_task(plan.cell(name, task_name, "sad", "none", 0), place.data)
        paths.append(folder / f"figure5-{name}.png")
        with figure(paths[-1], width=8.0, height=3.8, columns=2) as (_, axes):
            for axis, (title, detector, arm) in zip(axes[0], arms, strict=True):
                cell = plan.cell(name, task_name, detector, arm, 0)
                points, is_anomaly, score = _embedded(cell, task, place)
                dots = ((is_anomaly, "anomaly", "hard", 7), (~is_anomaly, "normal", "normal", 22))  # the few on top
                for side, label, colour, area in dots:
                    axis.scatter(*points[side].T, s=area, color=COLOURS[colour], label=label, alpha=0.8, linewidths=0)
                axis.set(title=f"{title}: AUROC {100 * score:.1f} %", xticks=[], yticks=[])
            axes[0][0].legend()
    return paths


def _embedded(cell: Cell, task: Task, place: Place) -> tuple[np.ndarray, np.ndarray, float]:
    """2-D points (n, 2) of a sample of the test images, whether each is an anomaly, and the AUROC over all."""
    assert task.test is not None
    anomalies, detector = prepared(cell, task, place)
    announce(f"figure 5: training {cell.id}")
    fit_detector(detector, task.normals, anomalies.images, hard=anomalies.hard)
    rng = np.random.default_rng(0)
    sides = [np.flatnonzero(task.test.is_anomaly == side) for side in (False, True)]
    chosen = np.sort(np.concatenate([rng.permutation(side)[:MOST] for side in sides]))
    assert isinstance(detector, Embeds)
    features = detector.embed(task.test.images[chosen])
    points = tsne(features)
    assert points is not None, "embeddings that differ"
    scores = detector.score(task.test.images)
    return points, task.test.is_anomaly[chosen], auroc(scores, task.test.is_anomaly)


EXPERIMENT = Experiment(draw=draw)
