"""Figure 4: how many anomalies, against how many hard ones; SAD on Oxford-102.

    kka experiment figure4

About two minutes a task and seed on one core at scale `cpu`, with a pool of 800 images. Expected: more of the first
generation help less and less; the paper's harder pools of 200 lie above them.
"""

from collections.abc import Sequence
from pathlib import Path

from kka.experiments.engine.arms import Arm
from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.drawing import COLOURS, figure
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.place import Place
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.summary import as_text, complete, mean_over_tasks, tasks_and_seeds

NAME = "oxford102"
LARGE = "initial=800,rounds=0"
"""The loop's settings for one large first generation, of which the first N serve."""
SIZES = (50, 100, 200, 400, 800)
ROUNDS = ("rep-0", "rep-1", "rep-2", "rep-3", "add-3")


def cells(plan: Plan) -> list[Cell]:
    """The first N anomalies of a large generation, the pools of 200 round by round, and one that was added to."""
    tasks = plan.chosen or tuple(task for name, task in plan.tasks() if name == NAME)
    return [
        cell
        for seed in plan.seeds
        for task in tasks
        for cell in (
            *(plan.cell(NAME, task, "sad", f"first-{size}", seed, LARGE) for size in SIZES),
            *(plan.cell(NAME, task, "sad", arm, seed) for arm in ROUNDS),
        )
    ]


def _whole(rows: Sequence[Row]) -> list[Row]:
    return complete([row for row in rows if row.dataset == NAME and row.detector == "sad"])


def table(rows: Sequence[Row], name: str = NAME) -> list[str]:
    """Markdown: AUROC by the number of anomalies."""
    mine = _whole(rows)
    lines = ["| anomalies | number | AUROC | tasks × seeds |", "|---|---:|---:|---:|"]
    for arm in (*(f"first-{size}" for size in SIZES), *ROUNDS):
        here = [row for row in mine if row.arm == arm]
        number = sum(row.anomalies for row in here) / len(here) if here else 0
        figures = f"{number:,.0f} | {as_text(mean_over_tasks(mine, 'sad', arm))} | {tasks_and_seeds(here)}"
        lines.append(f"| {Arm.named(arm).title} | {figures} |")
    return lines


def draw(plan: Plan, place: Place, rows: Sequence[Row], folder: Path) -> list[Path]:
    """AUROC over the number of anomalies; nothing where no task has every arm yet."""
    mine = _whole(rows)
    if not mine:
        return []
    with figure(folder / "figure4.png", width=5.0, height=3.2) as (_, axes):
        axis = axes[0][0]
        for label, arms, marker, colour in (
            ("first generation", [f"first-{size}" for size in SIZES], "o-", COLOURS["first"]),
            ("KKA (rep), by round", [arm for arm in ROUNDS if arm.startswith("rep")], "s", COLOURS["kka"]),
            ("KKA (add), by round", [arm for arm in ROUNDS if arm.startswith("add")], "D", COLOURS["hard"]),
        ):
            points = []
            for arm in arms:
                found = mean_over_tasks(mine, "sad", arm)
                numbers = [row.anomalies for row in mine if row.arm == arm]
                if found is not None:
                    points.append((sum(numbers) / len(numbers), found[0], str(Arm.named(arm).number)))
            axis.plot(*zip(*(point[:2] for point in points), strict=True), marker, color=colour, label=label)
            for k, (x, y, number) in enumerate(points if marker != "o-" else []):  # to either side in turn
                aside = (8 - 16 * (k % 2), 0)
                axis.annotate(number, (x, y), aside, textcoords="offset points", va="center", ha="center")
        title = f"Oxford-102, {tasks_and_seeds([row for row in mine if row.arm == ROUNDS[0]])}"
        axis.set(xlabel="anomalies in training", ylabel="AUROC, %", xscale="log", title=title)
        axis.set_xticks(SIZES, [str(size) for size in SIZES])
        axis.set_xticks([], minor=True)
        axis.legend()
    return [folder / "figure4.png"]


EXPERIMENT = Experiment(cells=cells, table=table, draw=draw, dataset=NAME)
