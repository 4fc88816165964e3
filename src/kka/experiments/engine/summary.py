"""From rows to a table's figures: the mean over tasks of the mean over seeds, and paired gains."""

from collections.abc import Sequence

import numpy as np

from kka.common.metrics import mean_ci95
from kka.errors import UserError
from kka.experiments.engine.cells import Cell, Row

Figure = tuple[float, float | None]
"""Mean and half-width of the 95 % interval, in %; None with one task alone."""


_SAME = ("dataset", "normal", "detector", "arm", "protocol", "scale", "variant")


def rows_of(rows: Sequence[Row], cells: Sequence[Cell]) -> list[Row]:
    """The rows that are of these cells, with any seed: those of other tasks and variants stay out.

    Of the cells' backbone where there are any such rows, else of whichever there is.
    """
    wanted = {tuple(getattr(cell, name) for name in _SAME) for cell in cells}
    found = [row for row in rows if tuple(getattr(row, name) for name in _SAME) in wanted]
    asked = {cell.backbone for cell in cells} - {""}
    if asked & {row.backbone for row in found}:
        return [row for row in found if row.backbone in (*asked, "")]
    return found


def complete(rows: Sequence[Row]) -> list[Row]:
    """The rows of those tasks and seeds that have every arm that their detector has anywhere in `rows`.

    Means over unlike tasks side by side would be read as a difference between arms.
    """
    arms: dict[str, set[str]] = {}
    found: dict[tuple[str, str, int], set[str]] = {}
    for row in rows:
        arms.setdefault(row.detector, set()).add(row.arm)
        found.setdefault((row.detector, row.normal, row.seed), set()).add(row.arm)
    return [r for r in rows if found[r.detector, r.normal, r.seed] == arms[r.detector]]


def by_task(rows: Sequence[Row], detector: str, arm: str, figure: str = "auroc") -> dict[str, dict[int, float]]:
    """Task -> seed -> the figure in %.

    Raises:
        UserError: two rows of one task and seed, as those of two backbones are.
    """
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        value = getattr(row, figure)
        if row.detector == detector and row.arm == arm and value is not None:
            seeds = found.setdefault(row.normal, {})
            if row.seed in seeds:
                raise UserError(
                    f"results: two rows of {detector}, {arm}, {row.normal}, seed {row.seed}, the later with "
                    f"backbone {row.backbone!r}. A table is of one backbone: keep the rows of each in a file of "
                    f"its own (--results)."
                )
            seeds[row.seed] = 100 * value
    return found


def mean_over_tasks(rows: Sequence[Row], detector: str, arm: str, figure: str = "auroc") -> Figure | None:
    """The figure over tasks; None where nothing is stored."""
    means = [float(np.mean(list(seeds.values()))) for seeds in by_task(rows, detector, arm, figure).values()]
    return mean_ci95(means) if means else None


def gain(
    rows: Sequence[Row], detector: str, arm: str, base: str, figure: str = "auroc", *, base_detector: str | None = None
) -> Figure | None:
    """The gain of an arm over another in points: paired by task and seed, then the mean over tasks.

    Only (task, seed) pairs that both have count. The interval is over tasks.
    """
    with_it, without = by_task(rows, detector, arm, figure), by_task(rows, base_detector or detector, base, figure)
    means = []
    for task in with_it.keys() & without.keys():
        both = with_it[task].keys() & without[task].keys()
        if both:
            means.append(float(np.mean([with_it[task][seed] - without[task][seed] for seed in both])))
    return mean_ci95(means) if means else None


def mean_count(rows: Sequence[Row], name: str) -> str:
    """The mean of a count over rows, rounded: "1,250"."""
    return f"{sum(getattr(row, name) for row in rows) / len(rows):,.0f}" if rows else "–"


def as_text(figure: Figure | None, *, signed: bool = False) -> str:
    """ "71.3 ± 2.0"; "–" where there is none."""
    if figure is None:
        return "–"
    mean, half = figure
    return (f"{mean:+.1f}" if signed else f"{mean:.1f}") + ("" if half is None else f" ± {half:.1f}")


def tasks_and_seeds(rows: Sequence[Row]) -> str:
    """ "5 tasks × 3 seeds", or what there is of each."""
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row.normal, set()).add(row.seed)
    if not seeds:
        return "nothing yet"
    counts = sorted({len(s) for s in seeds.values()})
    several = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{len(seeds)} task{'s' * (len(seeds) > 1)} × {several} seed{'s' * (several != '1')}"
