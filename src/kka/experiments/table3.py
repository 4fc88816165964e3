"""Table III: SAD + KKA (rep), without anomalies and after rounds 0 to 3; beside it KKA (add) and controls.

    kka experiment table3 --dataset oxford102 ucm_caption --seeds 3

Scale `cpu`: about four minutes a task and seed on one core with the pool (CIFAR-100: half an hour). Expected: the first
generation gains most (the paper: +17.7 on CIFAR-100, +24.7 on Oxford-102, +7.3 on UCM-Caption), later rounds a little.
"""

from collections.abc import Sequence

from kka.experiments.engine import paper
from kka.experiments.engine.arms import TRACES, Arm
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
    mean_of,
    mean_over_tasks,
    tasks_and_seeds,
)
from kka.experiments.engine.traces import draws

ARMS = ("none", "noise", "other", "rep-0", "rep-1", "rep-2", "rep-3", "add-3", "any-3", "real", "real-3")
LATER = ("rep-1", "rep-2", "rep-3", "add-3", "any-3")
GENERATED = ("rep-0", *LATER)
"""Arms whose own part is what stands above `other`."""


def arms(name: str, plan: Plan) -> tuple[str, ...]:
    """Of a data set: where the image model draws, what it draws of the normals' captions as well."""
    return (*ARMS, *((TRACES,) if draws(name, plan.loop) else ()))


def cells(plan: Plan) -> list[Cell]:
    """Seed by seed, task by task."""
    return [
        plan.cell(name, task, "sad", arm, seed)
        for seed in plan.seeds
        for name, task in plan.tasks()
        for arm in arms(name, plan)
    ]


def table(rows: Sequence[Row], name: str) -> list[str]:
    """Markdown: our mean over tasks beside the paper's, and the gain of each round over the first generation."""
    return rounds_table(complete([row for row in rows if row.dataset == name]), paper.TABLE3.get(name, {}))


def rounds_table(mine: Sequence[Row], published: dict[str, paper.Figure]) -> list[str]:
    """A row an arm; columns that no row has anything for are left out."""
    over_other = gains(mine, "sad", [(arm, "other") for arm in GENERATED])
    over_first = gains(mine, "sad", [(arm, "rep-0") for arm in LATER])
    head = ["trained with", "images", "paper", "AUROC", "seen", "unseen", "over no anomalies", "over something else",
            "over KKA (0)", "closed", "normals' captions flagged", "tasks × seeds"]  # fmt: skip
    has = {
        "over something else": any(row.arm == "other" for row in mine),
        "closed": any(row.closed is not None for row in mine),
        "normals' captions flagged": any(row.traces is not None for row in mine),
    }
    found = []
    for arm in [*ARMS, *([TRACES] if any(row.arm == TRACES for row in mine) else [])]:
        here = [row for row in mine if row.detector == "sad" and row.arm == arm]
        cells = [
            Arm.named(arm).title, mean_count(here, "anomalies"), as_text(published.get(arm)),
            *(as_text(mean_over_tasks(mine, "sad", arm, figure)) for figure in ("auroc", "seen", "unseen")),
            "" if arm == "none" else as_text(gain(mine, "sad", arm, "none"), signed=True),
            over_other.get(arm, ""), over_first.get(arm, ""), _closed(here),
            mean_of([100 * row.traces for row in here if row.traces is not None]) if arm in GENERATED else "",
            tasks_and_seeds(here),
        ]  # fmt: skip
        found.append(cells)
    return markdown(head, found, without=[title for title, there in has.items() if not there])


def _closed(rows: Sequence[Row]) -> str:
    """In how many runs the arm's round closed without an entry: "3 of 24"."""
    said = [row.closed for row in rows if row.closed is not None]
    return f"{sum(said)} of {len(said)}" if said else ""


EXPERIMENT = Experiment(cells=cells, table=table)
