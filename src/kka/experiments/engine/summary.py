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
    """The rows that are of these cells, with any seed and split: those of other tasks and variants stay out.

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
    found: dict[tuple[str, str, int, int], set[str]] = {}
    for row in rows:
        arms.setdefault(row.detector, set()).add(row.arm)
        found.setdefault((row.detector, row.normal, row.seed, row.split_seed), set()).add(row.arm)
    return [r for r in rows if found[r.detector, r.normal, r.seed, r.split_seed] == arms[r.detector]]


Run = tuple[int, int]
"""Seed and split seed."""


def by_task(rows: Sequence[Row], detector: str, arm: str, figure: str = "auroc") -> dict[str, dict[Run, float]]:
    """Task -> (seed, split seed) -> the figure in %.

    Raises:
        UserError: two rows of one task and seed, as those of two backbones are.
    """
    found: dict[str, dict[Run, float]] = {}
    for row in rows:
        value = getattr(row, figure)
        if row.detector == detector and row.arm == arm and value is not None:
            runs = found.setdefault(row.normal, {})
            if (row.seed, row.split_seed) in runs:
                raise UserError(
                    f"results: two rows of {detector}, {arm}, {row.normal}, seed {row.seed}, the later with "
                    f"backbone {row.backbone!r}. A table is of one backbone: keep the rows of each in a file of "
                    f"its own (--results)."
                )
            runs[row.seed, row.split_seed] = 100 * value
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
    means = paired(rows, (detector, arm), (base_detector or detector, base), figure)
    return mean_ci95(means) if means else None


def paired(rows: Sequence[Row], one: tuple[str, str], other: tuple[str, str], figure: str = "auroc") -> list[float]:
    """Of each task, the mean over seeds of the difference between two (detector, arm), in points."""
    with_it, without = by_task(rows, *one, figure), by_task(rows, *other, figure)
    means = []
    for task in sorted(with_it.keys() & without.keys()):
        both = with_it[task].keys() & without[task].keys()
        if both:
            means.append(float(np.mean([with_it[task][seed] - without[task][seed] for seed in both])))
    return means


def p_value(differences: Sequence[float]) -> float | None:
    """Student's paired t-test over tasks, two-sided; None with fewer than two, or where all are alike."""
    from scipy.stats import ttest_1samp

    if len(differences) < 2 or len(set(differences)) < 2:
        return None
    return float(ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several comparisons: the k-th smallest of m times m - k + 1, none below one before it."""
    corrected, least = [0.0] * len(p_values), 0.0
    for place, i in enumerate(np.argsort(p_values, kind="stable").tolist()):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = least
    return corrected


def gains(rows: Sequence[Row], detector: str, comparisons: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Arm -> its gain over its base as text, with Holm's p-value over all the comparisons: "+1.4 ± 0.8 (p 0.02)"."""
    return _with_p({arm: paired(rows, (detector, arm), (detector, base)) for arm, base in comparisons})


def gains_between(rows: Sequence[Row], arm: str, comparisons: Sequence[tuple[str, str]]) -> dict[str, str]:
    """As `gains`, of detectors trained with the same arm."""
    return _with_p({one: paired(rows, (one, arm), (base, arm)) for one, base in comparisons})


def _with_p(differences: dict[str, list[float]]) -> dict[str, str]:
    values = {name: p for name, found in differences.items() if (p := p_value(found)) is not None}
    corrected = dict(zip(values, holm(list(values.values())), strict=True))
    return {
        name: as_text(mean_ci95(found) if found else None, signed=True)
        + (f" (p {corrected[name]:.2g})" if name in corrected else "")
        for name, found in differences.items()
    }


def mean_of(values: Sequence[float], form: str = "{:.0f} %") -> str:
    """The mean, or "–" of none."""
    return form.format(sum(values) / len(values)) if values else "–"


def mean_count(rows: Sequence[Row], name: str) -> str:
    """The mean of a count over rows, rounded: "1,250"."""
    return f"{sum(getattr(row, name) for row in rows) / len(rows):,.0f}" if rows else "–"


def as_text(figure: Figure | None, *, signed: bool = False) -> str:
    """ "71.3 ± 2.0"; "–" where there is none."""
    if figure is None:
        return "–"
    mean, half = figure
    return (f"{mean:+.1f}" if signed else f"{mean:.1f}") + ("" if half is None else f" ± {half:.1f}")


def markdown(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, without: Sequence[str] = (), words: int = 1
) -> list[str]:
    """The lines of a table. `without`: titles of columns to leave out; `words`: how many columns hold words."""
    kept = [i for i, title in enumerate(head) if title not in without]
    lines = ["| " + " | ".join(cells[i] for i in kept) + " |" for cells in (head, *rows)]
    return [lines[0], "|---" * words + "|" + "---:|" * (len(kept) - words), *lines[1:]]


def tasks_and_seeds(rows: Sequence[Row]) -> str:
    """ "5 tasks × 3 seeds", or what there is of each; with "3 splits" where the withheld half was chosen anew."""
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row.normal, set()).add(row.seed)
    splits = len({row.split_seed for row in rows})
    if not seeds:
        return "nothing yet"
    counts = sorted({len(s) for s in seeds.values()})
    several = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    text = f"{len(seeds)} task{'s' * (len(seeds) > 1)} × {several} seed{'s' * (several != '1')}"
    return text + f" × {splits} splits" * (splits > 1)
