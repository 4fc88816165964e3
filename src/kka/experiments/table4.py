"""Table IV: CIFAR-100, one class normal against the 99 others; SAD + KKA (rep).

    kka experiment table4 --seeds 1

Scale `cpu`: about ten minutes a task and seed on one core. Expected: easier than a superclass (the paper: 72.95 without
anomalies, 78.51 after the first generation, 82.18 after round 3).
"""

from collections.abc import Sequence

from kka.experiments.engine import paper
from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.summary import complete
from kka.experiments.engine.tasks import dataset
from kka.experiments.table3 import arms, rounds_table

NAME = "cifar100"


def cells(plan: Plan) -> list[Cell]:
    """Seed by seed, class by class; of CIFAR-100 alone. All tasks: its 100 classes. A superclass is no class."""
    known = dataset(NAME)
    tasks: tuple[str, ...] = plan.chosen or known.single
    if tasks == known.every:
        tasks = tuple(str(label) for label in range(100))
    tasks = tuple(task for task in tasks if not task.startswith("coarse:"))
    chosen = arms(NAME, plan)
    return [plan.cell(NAME, task, "sad", arm, seed) for seed in plan.seeds for task in tasks for arm in chosen]


def table(rows: Sequence[Row], name: str = NAME) -> list[str]:
    """Markdown, as Table III."""
    return rounds_table(complete(rows), paper.TABLE4)


EXPERIMENT = Experiment(cells=cells, table=table, dataset=NAME)
