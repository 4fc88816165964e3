"""How the language model is led to hard anomalies: tuning, prompts with hard examples, best of n; at equal cost.

    kka experiment leading --dataset garden

Each way writes and draws `TIMES` times the data set's number in every round, of which as many may enter as ever: so
where the image model is a bank, it may run out of pictures. Not timed yet. The paper tunes.
"""

import dataclasses
from collections.abc import Sequence

from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.pools import ROUNDS
from kka.experiments.engine.summary import (
    as_text,
    gains_between,
    markdown,
    mean_count,
    mean_of,
    mean_over_tasks,
    tasks_and_seeds,
)
from kka.experiments.engine.tasks import dataset

TIMES = 4
WAYS = {
    "steer=none": "as it is",
    "steer=dpo": "tuned (Eq. 7)",
    "steer=examples": "prompts with hard examples",
    f"steer=none,best_of={TIMES},choose=nearest": f"best of {TIMES}: the nearest",
    f"steer=none,best_of={TIMES},choose=band": f"best of {TIMES}: a band, spread",
}
"""Settings of the loop -> as people read them. The first is what the others are set against."""
ARMS = tuple(f"rep-{number}" for number in range(1, ROUNDS + 1))


def variant(way: str, name: str) -> str:
    """The settings of a way on a data set: those without best of n make as much by making more at once."""
    return way if "best_of" in way else f"{way},fresh={TIMES * dataset(name).fresh}"


def cells(plan: Plan) -> list[Cell]:
    """Seed by seed, task by task, way by way."""
    return [
        plan.cell(name, task, "sad", arm, seed, variant(way, name))
        for seed in plan.seeds
        for name, task in plan.tasks()
        for way in WAYS
        for arm in ARMS
    ]


def table(rows: Sequence[Row], name: str) -> list[str]:
    """Markdown: a row a way, with the share of hard ones that each round drew; p-values are Holm's."""
    head = ["language model", "AUROC", "over as it is", *(f"hard drawn, round {n}" for n in range(1, ROUNDS + 1)),
            "images generated", "tasks × seeds"]  # fmt: skip
    found: list[list[str]] = []
    by_way = {way: [row for row in rows if _is_of(row, variant(way, name))] for way in WAYS}
    # ways stand in the place of detectors: their last rounds are compared, of the tasks and seeds that all of them have
    last = [
        dataclasses.replace(row, detector=way) for way, rows in by_way.items() for row in rows if row.arm == ARMS[-1]
    ]
    having: dict[str, set[tuple[str, int, int]]] = {}
    for row in last:
        having.setdefault(row.detector, set()).add((row.normal, row.seed, row.split_seed))
    common = set.intersection(*having.values()) if having else set()
    last = [row for row in last if (row.normal, row.seed, row.split_seed) in common]
    first, *others = WAYS
    gained = gains_between(last, ARMS[-1], [(way, first) for way in others])
    for way, title in WAYS.items():
        here = [row for row in last if row.detector == way]
        shares = [
            mean_of([100 * row.fresh_hard for row in by_way[way] if row.arm == arm and row.fresh_hard is not None])
            for arm in ARMS
        ]
        figure = as_text(mean_over_tasks(last, way, ARMS[-1]))
        found.append(
            [title, figure, gained.get(way, ""), *shares, mean_count(here, "generated"), tasks_and_seeds(here)]
        )
    return markdown(head, found)


def _is_of(row: Row, given: str) -> bool:
    """Whether a row's loop has just these settings, after those of every pool (--loop)."""
    return row.variant == given or row.variant.endswith(f",{given}")


EXPERIMENT = Experiment(cells=cells, table=table)
