"""The control `other` of a cell: pictures of another data set's training side, or textures."""

from pathlib import Path

from kka.algorithm.controls import texture_controls
from kka.data.other import pictures_of_another_kind
from kka.experiments.engine.cell_task import data_folder, other_of
from kka.experiments.engine.cells import Cell
from kka.experiments.engine.tasks import TEXTURES
from kka.protocols import Images
from kka.task import Task


def other_images(cell: Cell, task: Task, count: int, data: Path) -> Images:
    """`count` pictures of it, of the size of the normals, by the cell's seed.

    Raises:
        UserError: the other data set is not in `data`.
    """
    other = other_of(cell)
    if other.name == TEXTURES:
        return texture_controls(task, count, seed=cell.seed)
    folder = data_folder(other.name, data)
    return pictures_of_another_kind(str(folder), task, count, seed=cell.seed, without=other.without)
