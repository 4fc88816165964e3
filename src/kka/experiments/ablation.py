"""What lets later rounds help: the loop's settings on tuning tasks, which no table reports.

    kka experiment ablation --dataset oxford102 ucm_caption --seeds 1

Scale `cpu`: about two minutes a task, seed and variant on one core. Settings are chosen by such tables alone.
"""

import dataclasses
from collections.abc import Sequence

from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.pools import ROUNDS
from kka.experiments.engine.summary import as_text, gain, mean_over_tasks, tasks_and_seeds
from kka.experiments.engine.tasks import dataset

VARIANTS = {
    "max_hard_share=0.3": "at most 30 % hard",
    "max_hard_share=1": "no bound on the hard",
    "folds=1": "hardness not cross-fitted",
    "quantile=1": "hard up to the farthest normal",
    "quantile=1,folds=1": "the paper's rule of hardness: both",
    "steer=none": "no tuning: sample on and keep the hard (rejection)",
    "steer=none,fresh=600,per_round=180": "the same with more pictures: 600 a round, of which 180 may enter",
    "steer=examples": "no tuning: prompts show hard anomalies",
}
"""Settings of the loop, mode rep -> what they are."""
LAST = f"rep-{ROUNDS}"
ROWS = (
    ("KKA (0): no rounds", "rep-0", ""),
    ("the defaults, rep", LAST, ""),
    ("the defaults, add", f"add-{ROUNDS}", ""),
)
"""What stands above the variants: title, arm, variant."""


def cells(plan: Plan) -> list[Cell]:
    """Task by task, so that a task's variants can be compared early."""
    return [
        plan.cell(name, task, "sad", arm, seed, variant)
        for seed in plan.seeds
        for name in plan.datasets
        for task in plan.chosen or dataset(name).tuning
        for _, arm, variant in _rows()
    ]


def _rows() -> list[tuple[str, str, str]]:
    return [*ROWS, *((title, LAST, variant) for variant, title in VARIANTS.items())]


def _beside(rows: Sequence[Row], mine: Sequence[Row], base: str, *, same: bool) -> tuple[str, str]:
    """The AUROC of the loop as it stands on the tasks and seeds that `mine` has, and the gain of `mine` over it."""
    if same or not mine:
        return "", ""
    pairs = {(row.normal, row.seed) for row in mine}
    there = [
        dataclasses.replace(row, arm="none") for row in rows
        if (row.arm, row.variant) == (base, "") and (row.normal, row.seed) in pairs
    ]  # fmt: skip
    difference = gain([*there, *mine], "sad", mine[0].arm, "none")
    return as_text(mean_over_tasks(there, "sad", "none")), as_text(difference, signed=True)


def table(rows: Sequence[Row], name: str) -> list[str]:
    """Markdown: a row a variant, beside KKA (0) and the defaults on the very tasks and seeds that it has."""
    head = ["the loop with", "AUROC", "KKA (0) there", "gain", "the defaults, rep, there", "gain", "hard in the pool",
            "tasks × seeds"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for title, arm, variant in _rows():
        mine = [row for row in rows if row.arm == arm and row.variant == variant]
        share = [row.hard / row.anomalies for row in mine if row.hard is not None]
        cells = [
            title,
            as_text(mean_over_tasks(mine, "sad", arm)),
            *_beside(rows, mine, "rep-0", same=arm == "rep-0"),
            *_beside(rows, mine, LAST, same=(arm, variant) == (LAST, "")),
            f"{100 * sum(share) / len(share):.0f} %" if share else "–",
            tasks_and_seeds(mine),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


EXPERIMENT = Experiment(cells=cells, table=table)
