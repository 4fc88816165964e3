"""The tables of what is stored, as Markdown: each experiment takes the rows that are its own."""

import dataclasses
from collections.abc import Iterator, Sequence

from kka.experiments import EXPERIMENTS, experiment
from kka.experiments.engine.cells import Row
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.summary import rows_of


def tables(
    plan: Plan, rows: Sequence[Row], names: Sequence[str] = tuple(EXPERIMENTS)
) -> Iterator[tuple[str, str, list[str]]]:
    """(experiment, data set, lines of its table), for the experiments called `names` and the plan's data sets."""
    for name in names:
        shown = experiment(name)
        if shown.table is None:
            continue
        for data in shown.datasets(plan.datasets):
            cells = shown.cells(dataclasses.replace(plan, datasets=(data,)))
            yield name, data, shown.table(rows_of(rows, cells), data)
