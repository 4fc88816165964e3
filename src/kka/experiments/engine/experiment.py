"""What an experiment is: its cells, its table, its picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.place import Place
from kka.experiments.engine.plan import Plan


def no_cells(plan: Plan) -> list[Cell]:
    """Of an experiment whose few detectors are trained when it is drawn."""
    return []


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One table or figure of the paper, or one of ours."""

    cells: Callable[[Plan], list[Cell]] = no_cells
    """What is to be computed, in order."""
    table: Callable[[Sequence[Row], str], list[str]] | None = None
    """From the rows of its cells and a data set to lines of Markdown."""
    draw: Callable[[Plan, Place, Sequence[Row], Path], list[Path]] | None = None
    """Draws pictures into a folder; returns those that it drew."""
    dataset: str | None = None
    """Of this data set alone; None: of each that is asked for."""

    def datasets(self, asked: Sequence[str]) -> tuple[str, ...]:
        """Those of `asked` that it is of."""
        return tuple(name for name in asked if self.dataset in (None, name))
