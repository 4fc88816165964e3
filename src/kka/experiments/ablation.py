"""What lets later rounds help: the loop's settings on tuning tasks, which no table reports.

    kka experiment ablation --dataset oxford102 ucm_caption --seeds 1

Scale `cpu`: about two minutes a task, seed and variant on one core. Settings are chosen by this table alone; the
defaults are its best row that holds on both data sets.
"""

from collections.abc import Sequence

from kka.experiments.cells import Cell, Row
from kka.experiments.plan import Plan
from kka.experiments.pools import ROUNDS
from kka.experiments.summary import counted, gain, mean_over_tasks, written
from kka.experiments.tasks import dataset

VARIANTS = {
    "": "the defaults",
    "max_hard_share=0.3": "at most 30 % hard",
    "max_hard_share=1": "no bound on the hard",
    "quantile=1,folds=1": "the paper's rule of hardness, not cross-fitted",
    "steer=none": "no tuning: sample on and keep the hard (rejection)",
    "steer=examples": "no tuning: prompts show hard anomalies",
}
"""Settings of the loop -> what they are."""
ARMS = ("rep-0", f"rep-{ROUNDS}", f"add-{ROUNDS}")


def cells(plan: Plan) -> list[Cell]:
    """Task by task, so that a task's variants can be compared early."""
    return [
        plan.cell(name, task, "sad", arm, seed, "" if arm == "rep-0" else variant)
        for seed in plan.seeds
        for name in plan.datasets
        for task in plan.chosen or dataset(name).tuning
        for variant in VARIANTS
        for arm in (ARMS if not variant else ARMS[1:])
    ]


def table(rows: Sequence[Row], name: str) -> list[str]:
    """Markdown: a row a variant; the gain is over the first generation, paired by task and seed."""
    head = ["the loop with", "rep", "gain over KKA (0)", "add", "gain over KKA (0)", "tasks × seeds"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    first = [row for row in rows if row["arm"] == "rep-0"]
    lines.append(f"| no rounds: KKA (0) | {written(mean_over_tasks(first, 'sad', 'rep-0'))} |  |  |  |  |")
    for variant, title in VARIANTS.items():
        mine = [row for row in rows if row["variant"] == variant and row["arm"] != "rep-0"]
        cells = []
        for arm in ARMS[1:]:
            cells += [
                written(mean_over_tasks(mine, "sad", arm)),
                written(gain([*first, *mine], "sad", arm, "rep-0"), signed=True),
            ]
        lines.append("| " + " | ".join([title, *cells, counted(mine)]) + " |")
    return lines
