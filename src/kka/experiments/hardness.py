"""What a hard anomaly is worth, taken apart: by share, number, distance and origin, of everything that was generated.

    kka experiment hardness --dataset garden --only sad

The pools are Table III's, in mode rep. Choices by the share of hard ones are all as many (200, or what the scarcer side
has); `images` says how many. Not timed yet. The paper has hard ones help most.
"""

from collections.abc import Sequence

from kka.experiments.engine.arms import Arm
from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.choices import CHOICES
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.summary import (
    as_text,
    complete,
    gains,
    markdown,
    mean_count,
    mean_of,
    mean_over_tasks,
    tasks_and_seeds,
)

DETECTORS = {"sad": "SAD", "simplenet": "SimpleNet", "recontrast": "ReContrast"}
ARMS = ("none", "other", *CHOICES)
BASES = {
    **{f"share-{p}": "share-0" for p in (25, 50, 75, 100)},
    **{f"few-{n}-hard": f"few-{n}-any" for n in (10, 25, 50)},
    **{f"quarter-{k}": "quarter-4" for k in (1, 2, 3)},
    "tuned": "untuned",
}  # fmt: skip
"""A choice -> the one that it is set against."""


def cells(plan: Plan) -> list[Cell]:
    """Detector by detector, seed by seed, task by task."""
    return [
        plan.cell(name, task, detector, arm, seed)
        for detector in DETECTORS
        for seed in plan.seeds
        for name, task in plan.tasks()
        for arm in ARMS
    ]


def table(rows: Sequence[Row], name: str) -> list[str]:
    """Markdown: a row a detector and choice; p-values are Holm's over a detector's comparisons."""
    # a choice of which a pool had none was trained with nothing, and says nothing of it
    mine = complete([row for row in rows if row.dataset == name and row.detector in DETECTORS
                     and (row.anomalies or row.arm not in CHOICES)])  # fmt: skip
    head = ["detector", "trained with", "against", "images", "hard", "relative distance", "AUROC", "gain",
            "tasks × seeds"]  # fmt: skip
    found: list[list[str]] = []
    for detector, title in DETECTORS.items():
        gained = gains(mine, detector, list(BASES.items()))
        for arm in ARMS:
            here = [row for row in mine if row.detector == detector and row.arm == arm]
            shares = [100 * row.hard / row.anomalies for row in here if row.hard is not None and row.anomalies]
            distances = [row.relative for row in here if row.relative is not None]
            found.append([
                title, Arm.named(arm).title, Arm.named(BASES[arm]).title if arm in BASES else "",
                mean_count(here, "anomalies"), mean_of(shares, "{:.0f} %"), mean_of(distances, "{:.2f}"),
                as_text(mean_over_tasks(mine, detector, arm)), gained.get(arm, ""), tasks_and_seeds(here),
            ])  # fmt: skip
    return markdown(head, found, words=3)


EXPERIMENT = Experiment(cells=cells, table=table)
