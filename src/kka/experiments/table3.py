"""Table III: SAD + KKA (rep), without anomalies and after rounds 0 to 3; beside it KKA (add) and controls.

    kka experiment table3 --dataset oxford102 ucm_caption --seeds 3

Scale `cpu`: about four minutes a task and seed on one core with the pool (CIFAR-100: half an hour). Expected: the first
generation gains most (the paper: +17.7 on CIFAR-100, +24.7 on Oxford-102, +7.3 on UCM-Caption), later rounds a little.
"""

from collections.abc import Sequence

from kka.experiments.engine import paper
from kka.experiments.engine.arms import Arm
from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.summary import as_text, complete, gain, mean_count, mean_over_tasks, tasks_and_seeds

ARMS = ("none", "noise", "rep-0", "rep-1", "rep-2", "rep-3", "add-3", "any-3", "real", "real-3")
LATER = ("rep-1", "rep-2", "rep-3", "add-3", "any-3")


def cells(plan: Plan) -> list[Cell]:
    """Seed by seed, task by task."""
    return [
        plan.cell(name, task, "sad", arm, seed)
        for seed in plan.seeds
        for name, task in plan.tasks()
        for arm in ARMS
    ]


def table(rows: Sequence[Row], name: str) -> list[str]:
    """Markdown: our mean over tasks beside the paper's, and the gain of each round over the first generation."""
    return rounds_table(complete([row for row in rows if row.dataset == name]), paper.TABLE3[name])


def rounds_table(mine: Sequence[Row], published: dict[str, paper.Figure]) -> list[str]:
    """A row an arm."""
    head = ["trained with", "images", "paper", "AUROC", "seen", "unseen", "over no anomalies", "over KKA (0)",
            "tasks × seeds"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for arm in ARMS:
        here = [row for row in mine if row.detector == "sad" and row.arm == arm]
        cells = [
            Arm.named(arm).title, mean_count(here, "anomalies"), as_text(published.get(arm)),
            *(as_text(mean_over_tasks(mine, "sad", arm, figure)) for figure in ("auroc", "seen", "unseen")),
            "" if arm == "none" else as_text(gain(mine, "sad", arm, "none"), signed=True),
            as_text(gain(mine, "sad", arm, "rep-0"), signed=True) if arm in LATER else "",
            tasks_and_seeds(here),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


EXPERIMENT = Experiment(cells=cells, table=table)
