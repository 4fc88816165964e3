"""Works through cells: those that are stored are skipped, those that another process has claimed are left to it."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from kka.experiments.engine.cells import Cell, Results, Row, claim
from kka.experiments.engine.compute import compute
from kka.experiments.engine.place import Place
from kka.experiments.engine.pools import BusyError, missing_language_models, missing_pools
from kka.experiments.engine.provenance import changed_settings, check_settings, settings_of
from kka.experiments.engine.tasks import dataset

OnCell = Callable[[Cell, Row | None, int, int, float | None], None]
"""Called with (cell, its row once it is there, cells done, cells in all, estimated seconds left)."""

FALLBACK_SECONDS = {
    "sad": 30.0, "ssd": 120.0, "cmda": 150.0, "simplenet": 60.0, "recontrast": 150.0, "recontrast-random": 150.0,
}  # fmt: skip
"""Of a cell of Oxford-102 at scale cpu on one core; used where nothing like it has been measured."""


POOL_SECONDS = {"oxford102": (130.0, 85.0), "ucm_caption": (100.0, 70.0), "cifar100": (215.0, 140.0)}
"""Of a pool with three rounds at scale cpu on one core: whole, and where it parts from another one after round 1's
pictures."""
LANGUAGE_SECONDS = 120.0
"""Of the training of a small language model there."""


def pool_seconds(pools: Sequence[Cell]) -> float:
    """How long the pools of these cells take on one process, at scale cpu."""
    seconds = 0.0
    for cell in pools:
        alone, beside = POOL_SECONDS.get(cell.dataset, (60.0, 40.0))
        seconds += beside if cell.trained_with.mode == "add" or cell.variant else alone
    return seconds


def run_cells(
    cells: Sequence[Cell], place: Place, results: Results, told: OnCell | None = None, *, redo: bool = False
) -> None:
    """Compute and store every cell that is not stored, in order; several processes may do so at once.

    Args:
        redo: Compute those anew that were made with other settings; their later row counts.

    Raises:
        UserError: stored figures were made with other settings; what a cell's computation says, such as a leak.
    """
    tell = told or (lambda *_: None)
    if not redo:
        check_settings(cells, place, results)
    changed = changed_settings(cells, place, results) if redo else {}
    old = {name: made_with for name, (made_with, _) in changed.items()}

    def stored() -> set[str]:
        return {row.id for row in results.rows() if row.id not in old or row.made_with != old[row.id]}

    left = list(cells)
    announced = set()
    while left:
        done = stored()
        left = [cell for cell in left if cell.id not in done]
        tried = False
        for cell in left:
            with claim(place.work / "claims", cell.id) as mine:
                if not mine or cell.id in stored():
                    continue
                tried = True
                if cell.id not in announced:  # again and again, while another process makes its pool
                    announced.add(cell.id)
                    pools = missing_pools(left, place.work)
                    remaining = estimate(left, results.rows(), pools, missing_language_models(pools, place.work))
                    tell(cell, None, len(cells) - len(left), len(cells), remaining)
                try:
                    row = compute(cell, place)
                except BusyError:
                    continue
                results.append(row, settings_of(cell, place))
            tell(cell, row, len(cells) - len(left) + 1, len(cells), None)
            break  # read again what others have done meanwhile
        else:
            if not tried:  # all that is left is in other processes' hands
                if left:
                    names = f"{left[0].id}" + (f" and {len(left) - 1} more" if len(left) > 1 else "")
                    warnings.warn(f"left to another process that is at it: {names}", stacklevel=2)
                return
            time.sleep(2)  # waiting for a pool that another process makes


def estimate(cells: Sequence[Cell], rows: Sequence[Row], pools: Sequence[Cell], models: int = 0) -> float | None:
    """Seconds that cells, pools and small language models take on one process like the measured; None: nothing tells.

    At scale full nothing has been measured: SAD, as evaluator and as detector, is taken to cost by its epochs. Nor has
    any other language model or image model.
    """
    if any(name in cell.variant for cell in pools for name in ("lm=", "images=")):
        return None
    scales = {cell.scale for cell in cells}
    if scales <= {"cpu"}:
        return seconds_left(cells, rows) + pool_seconds(pools) + LANGUAGE_SECONDS * models
    if scales != {"full"} or {cell.detector for cell in cells} != {"sad"}:
        return None
    total = LANGUAGE_SECONDS * models
    for name in {cell.dataset for cell in cells}:
        known = dataset(name)
        usual, mine = (
            [dataclasses.replace(cell, scale="cpu") for cell in part if cell.dataset == name] for part in (cells, pools)
        )
        total += known.epochs / known.cpu_epochs * (seconds_left(usual, rows) + pool_seconds(mine))
    return total


def seconds_left(cells: Sequence[Cell], rows: Sequence[Row]) -> float:
    """How long the cells take on one process, by the mean of stored ones that are like them.

    Like: the same data set, detector and scale; else the same detector on any data set; else a rule of thumb.
    """
    exact: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        seconds = row.fit_seconds + row.score_seconds
        for key in ((row.dataset, row.detector, row.scale), (row.detector, row.scale)):
            exact.setdefault(key, []).append(seconds)
    total = 0.0
    for cell in cells:
        near = exact.get((cell.dataset, cell.detector, cell.scale)) or exact.get((cell.detector, cell.scale))
        total += float(np.mean(near)) if near else FALLBACK_SECONDS.get(cell.detector, 60.0)
    return total
