"""The tables of what is stored, as Markdown: each experiment takes the rows that are its own."""

import dataclasses
from collections.abc import Iterator, Sequence

from kka.experiments import EXPERIMENTS, experiment
from kka.experiments.engine.cells import Row
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.summary import belonging


def tables(
    plan: Plan, rows: Sequence[Row], names: Sequence[str] = tuple(EXPERIMENTS)
) -> Iterator[tuple[str, str, list[str]]]:
    """(experiment, data set, lines of its table), for the experiments called `names` and the plan's data sets."""
    for name in names:
        module = experiment(name)
        if not hasattr(module, "table"):
            continue
        for data in plan.datasets:
            if data != getattr(module, "NAME", data):  # some are of one data set alone
                continue
            cells = module.cells(dataclasses.replace(plan, datasets=(data,)))
            yield name, data, module.table(belonging(rows, cells), data)
