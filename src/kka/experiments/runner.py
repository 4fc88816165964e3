"""Works through cells: those that are stored are skipped, those that another process has claimed are left to it."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from kka.experiments.cells import Cell, Results, Row, claim
from kka.experiments.compute import Place, compute
from kka.experiments.pools import BusyError
from kka.experiments.provenance import changed_settings, check_settings, settings_of

Told = Callable[[Cell, Row | None, int, int, float | None], None]
"""Called with (cell, its row once it is there, cells done, cells in all, estimated seconds left)."""

FALLBACK_SECONDS = {
    "sad": 30.0, "ssd": 120.0, "cmda": 150.0, "simplenet": 60.0, "recontrast": 150.0, "recontrast-random": 150.0,
}  # fmt: skip
"""Of a cell of Oxford-102 at scale cpu on one core; used where nothing like it has been measured."""


POOL_SECONDS = {"oxford102": 160.0, "ucm_caption": 120.0, "cifar100": 480.0}
"""Of a pool with three rounds at scale cpu on one core, its share of a language model included."""


def pool_seconds(pools: Sequence[Cell]) -> float:
    """How long the pools of these cells take on one process."""
    return sum(POOL_SECONDS.get(cell.dataset, 60.0) for cell in pools)


def run_cells(
    cells: Sequence[Cell], place: Place, results: Results, told: Told | None = None, *, redo: bool = False
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
    old = {row["id"]: row["made_with"] for row in results.rows() if row["id"] in changed}

    def stored() -> set[str]:
        return {row["id"] for row in results.rows() if row["id"] not in old or row.get("made_with") != old[row["id"]]}

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
                    tell(cell, None, len(cells) - len(left), len(cells), seconds_left(left, results.rows()))
                try:
                    row = compute(cell, place)
                except BusyError:
                    continue
                results.append(cell, row, settings_of(cell, place))
            tell(cell, row, len(cells) - len(left) + 1, len(cells), None)
            break  # read again what others have done meanwhile
        else:
            if not tried:
                return  # all that is left is in other processes' hands
            time.sleep(2)  # waiting for a pool that another process makes


def seconds_left(cells: Sequence[Cell], rows: Sequence[Row]) -> float:
    """How long the cells take on one process, by the mean of stored ones that are like them.

    Like: the same data set, detector and scale; else the same detector on any data set; else a rule of thumb.
    """
    exact: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        seconds = row["fit_seconds"] + row["score_seconds"]
        for key in ((row["dataset"], row["detector"], row["scale"]), (row["detector"], row["scale"])):
            exact.setdefault(key, []).append(seconds)
    total = 0.0
    for cell in cells:
        near = exact.get((cell.dataset, cell.detector, cell.scale)) or exact.get((cell.detector, cell.scale))
        total += float(np.mean(near)) if near else FALLBACK_SECONDS.get(cell.detector, 60.0)
    return total
