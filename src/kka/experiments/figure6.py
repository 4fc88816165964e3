"""Figure 6: how ReContrast converges with and without KKA: loss and AUROC by epoch.

    kka experiment figure6 --dataset oxford102 --backbone.name mobilenetv2_100 …

Two trainings on the first task, seed 0; the test set is scored at each epoch for this figure alone, and never chooses
a model. Expected (the paper): with KKA the AUROC rises faster and higher.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from kka.common.files import write_atomically
from kka.common.json_text import parse_json
from kka.common.metrics import auroc
from kka.detectors import fit_detector
from kka.detectors.recontrast.detector import ReContrast
from kka.experiments.engine.cell_task import open_cell_task
from kka.experiments.engine.cells import Cell, Row, made_with
from kka.experiments.engine.compute import prepared
from kka.experiments.engine.drawing import COLOURS, announce, figure
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.place import Place
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.provenance import settings_of
from kka.experiments.engine.tasks import dataset
from kka.task import Task

POINTS = 20
"""Of the AUROC's curve: few normals make for many epochs, and each point scores the whole test set."""


def draw(plan: Plan, place: Place, rows: Sequence[Row], folder: Path) -> list[Path]:
    """One PNG, of the first data set; its curves are stored as JSON beside it and serve again."""
    name, task_name = plan.tasks()[0]
    stored = folder / f"figure6-{name}.json"
    curves = parse_json(stored.read_text()) if stored.is_file() else {}
    cells = [plan.cell(name, task_name, "recontrast", arm, 0) for arm in ("none", f"rep-{dataset(name).rounds}")]
    for cell in cells:
        now = made_with(settings_of(cell, place))
        if curves.get(cell.id, {}).get("made_with") != now:
            announce(f"figure 6: training {cell.id}")
            task = open_cell_task(cell, place.data)
            curves[cell.id] = {"arm": cell.arm, "made_with": now, **_curve(cell, task, place)}
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(stored, json.dumps(curves, indent=1))
    path = folder / f"figure6-{name}.png"
    with figure(path, width=8.0, height=3.0, columns=2) as (_, axes):
        for curve in (curves[cell.id] for cell in cells):
            label = "ReContrast" if curve["arm"] == "none" else "ReContrast + KKA (rep)"
            colour = COLOURS["none" if curve["arm"] == "none" else "kka"]
            axes[0][0].plot(curve["losses"], color=colour, label=label, linewidth=1.0)
            axes[0][1].plot(curve["epochs"], [100 * v for v in curve["auroc"]], "o-", color=colour, markersize=3)
        axes[0][0].set(xlabel="iteration", ylabel="reconstruction loss of the normals")
        axes[0][1].set(xlabel="epoch", ylabel="AUROC, %")
        axes[0][0].legend()
    return [path]


def _curve(cell: Cell, task: Task, place: Place) -> dict[str, list[float]]:
    """The loss of each iteration, and the AUROC of the test set at each epoch."""
    assert task.test is not None
    test = task.test
    anomalies, detector = prepared(cell, task, place)
    assert isinstance(detector, ReContrast)
    epochs: list[float] = []
    figures: list[float] = []

    passes = detector.settings.iterations * detector.settings.batch_size / len(task.normals)
    every = max(1, round(passes / POINTS))

    def on_epoch(epoch: int) -> None:
        if epoch % every:
            return
        epochs.append(epoch)
        figures.append(auroc(detector.score(test.images), test.is_anomaly))

    detector.on_epoch = on_epoch
    fit_detector(detector, task.normals, anomalies.images)
    return {"losses": detector.losses_, "epochs": epochs, "auroc": figures}


EXPERIMENT = Experiment(draw=draw)
