"""A cell's task, opened from its data set's files; and what identifies those files."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from kka.common.files import sha256
from kka.data import open_task
from kka.errors import UserError, unknown
from kka.experiments.engine.cells import Cell
from kka.experiments.engine.tasks import TEXTURES, Other, classes, dataset
from kka.garden.renderer import VERSION as RENDERER
from kka.task import Task

UNSEEN = {"withheld": 0.5, "paper": 0.0}


def check_tasks(cells: Sequence[Cell], data: Path) -> None:
    """Before hours are spent: every data set is there, those of controls too, and every task's classes are in it.

    Raises:
        UserError: what is missing and what to do.
    """
    from kka.data.parquet import check_normal

    for name in dict.fromkeys(cell.dataset for cell in cells):
        tasks = sorted({cell.normal for cell in cells if cell.dataset == name})
        if dataset(name).embedded:
            for task in tasks:
                if task not in dataset(name).every:
                    raise unknown(f"task of {name}", task, dataset(name).every)
        else:
            check_normal(data_folder(name, data), [classes(task) for task in tasks])
    for other in {other_of(cell) for cell in cells if cell.arm == "other"}:
        if other.name != TEXTURES:
            data_folder(other.name, data)


def open_cell_task(cell: Cell, data: Path) -> Task:
    """The task of a cell; `data` is the folder that holds the data sets."""
    source = source_of(cell.dataset, data)
    if not dataset(cell.dataset).embedded:
        data_folder(cell.dataset, data)
    return open_task(source, normal=classes(cell.normal), unseen=UNSEEN[cell.protocol], seed=cell.split_seed)


def other_of(cell: Cell) -> Other:
    """What stands for "something else altogether" beside a cell's task."""
    known = dataset(cell.dataset)
    return known.other_of_tasks.get(cell.normal, known.other)


def source_of(name: str, data: Path) -> str:
    """A data set as `kka run --data` names it."""
    return name if dataset(name).embedded else str(data / name)


def data_folder(name: str, data: Path) -> Path:
    """The folder of a data set's files.

    Raises:
        UserError: there is none.
    """
    folder = data / name
    if not (folder / "train.parquet").is_file():
        raise UserError(
            f"data set {name}: expected {folder}/train.parquet; found none. Bring it into that form with "
            f"kka data prepare {name} --out {folder}, or name its parent folder: --data DIR."
        )
    return folder


def has_data(name: str, data: Path) -> bool:
    """Whether a data set's files are there, or it needs none."""
    return dataset(name).embedded or (data / name).is_dir()


def data_digest(name: str, data: Path) -> str:
    """Of a data set's files: figures and pools of other data under the same name must not pass for these."""
    if dataset(name).embedded:
        return f"{name}-{RENDERER}"
    return _files_digest(data / name)


@lru_cache(maxsize=8)
def _files_digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name in ("train.parquet", "test.parquet"):
        if (folder / name).is_file():
            digest.update(bytes.fromhex(file_digest(folder / name)))
    return digest.hexdigest()


file_digest = lru_cache(maxsize=32)(sha256)
