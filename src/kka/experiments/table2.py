"""Table II: five detectors, alone, with noise, and with KKA in both modes.

    kka experiment table2 --dataset oxford102 --tasks 10 46 51 77 89 --backbone.name mobilenetv2_100 …

A detector of your own, `--detector package.module:Class`, gets rows beside ours.

Scale `cpu` takes about a quarter of an hour a task and seed on one core; `full` needs a GPU. Expected: every
detector gains from KKA, SAD the most (about +25 points on Oxford-102), pretrained ones by a few points.
"""

from collections.abc import Sequence

from kka.detectors import learns_from_anomalies
from kka.experiments.engine import paper
from kka.experiments.engine.arms import Arm
from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.summary import (
    as_text,
    complete,
    gain,
    gains,
    markdown,
    mean_count,
    mean_over_tasks,
    tasks_and_seeds,
)
from kka.experiments.engine.tasks import dataset

DETECTORS = {
    "ssd": "SSD", "cmda": "CMDA", "simplenet": "SimpleNet", "recontrast-random": "ReContrast (no pre-training)",
    "recontrast": "ReContrast", "sad": "SAD",
}  # fmt: skip


def arms(name: str) -> tuple[str, ...]:
    """Alone, with as much noise or something else, and with the pool after the data set's last round, in both modes."""
    last = dataset(name).rounds
    return ("none", "noise", "other", f"add-{last}", f"rep-{last}")


def cells(plan: Plan) -> list[Cell]:
    """Seed by seed, task by task: what is stored early is spread over all rows."""
    return [
        plan.cell(name, task, detector, arm, seed)
        for seed in plan.seeds
        for name, task in plan.tasks()
        for detector in (*DETECTORS, *plan.own)
        for arm in (arms(name) if detector != "recontrast-random" and learns_from_anomalies(detector) else ("none",))
    ]


def table(rows: Sequence[Row], name: str) -> list[str]:
    """Markdown: our mean over tasks beside the paper's, and the counts."""
    own = {row.detector: row.detector for row in rows if ":" in row.detector}
    detectors = DETECTORS | own
    mine = complete([row for row in rows if row.dataset == name and row.detector in detectors])
    head = ["detector", "trained with", "paper", "AUROC", "seen", "unseen", "gain over alone", "over something else",
            "anomaly images", "images generated", "feature-noise draws", "tasks × seeds"]  # fmt: skip
    found = []
    for detector, title in detectors.items():
        over_other = gains(mine, detector, [(arm, "other") for arm in arms(name) if Arm.named(arm).needs_pool])
        for arm in arms(name):
            here = [row for row in mine if row.detector == detector and row.arm == arm]
            published = paper.TABLE2.get(name, {}).get(f"{detector}/{Arm.named(arm).kind}")
            if not here and published is None:
                continue
            cells = [
                title, Arm.named(arm).title, as_text(published),
                *(as_text(mean_over_tasks(mine, detector, arm, figure)) for figure in ("auroc", "seen", "unseen")),
                "" if arm == "none" else as_text(gain(mine, detector, arm, "none"), signed=True),
                over_other.get(arm, ""),
                *(mean_count(here, number) for number in ("anomalies", "generated", "noise_draws")),
                tasks_and_seeds(here),
            ]  # fmt: skip
            found.append(cells)
    without = () if any(row.arm == "other" for row in mine) else ("over something else",)
    return markdown(head, found, without=without, words=2)


EXPERIMENT = Experiment(cells=cells, table=table)
