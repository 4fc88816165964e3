"""The small language models of the experiments' tasks: what they may know, and where they lie."""

import dataclasses
from functools import lru_cache
from pathlib import Path

from kka.common.files import write_atomically
from kka.data.metadata import captions_in
from kka.errors import UserError
from kka.experiments.engine.cell_task import open_cell_task
from kka.experiments.engine.cells import Cell, claim
from kka.experiments.engine.leaks import check_captions
from kka.experiments.engine.tasks import DataSet, Protocol, dataset
from kka.run.models import corpus, corpus_digest, train_corpus_model
from kka.task import Task

MADE_FROM = ".made_from"
"""Beside a language model: the digest of what it was trained on and how."""


def name_suffixes(cell: Cell) -> tuple[tuple[str, bool], ...]:
    """What makes a cell's models other than the usual ones."""
    return (
        ("paper", cell.protocol == "paper"), (cell.scale, cell.scale != "cpu"),
        (f"split-{cell.split_seed}", cell.split_seed != 0),
    )  # fmt: skip


def _language_group(cell: Cell, known: DataSet) -> tuple[str, tuple[str, ...]]:
    """The name of the language model of a cell's task, and the tasks that it serves."""
    if known.common_language_model:
        for suffix, group in (("", known.reported), ("-single", known.single), ("-tuning", known.tuning)):
            if cell.normal in group:
                return known.name + suffix, group
    return f"{known.name}-{cell.normal}".replace(":", "_"), (cell.normal,)


def language_folder(cell: Cell, known: DataSet, work: Path) -> Path:
    name = _language_group(cell, known)[0]
    extra = [mark for mark, holds in name_suffixes(cell) if holds]
    return work / "lm" / "-".join([name, *extra])


def ensure_language_model(cell: Cell, data: Path, work: Path) -> None:
    """Train the language model of a cell's task, unless it is there.

    It knows no normal class and no withheld class of any task that it serves.

    Raises:
        UserError: a leak; or a model is there that was made otherwise.
    """
    known = dataset(cell.dataset)
    folder = language_folder(cell, known, work)
    steps = 30 if cell.scale == "smoke" else known.language_steps
    with claim(work / "claims", str(folder), wait=True):
        task = language_task(cell.dataset, _language_group(cell, known)[1], cell.protocol, data, cell.split_seed)
        digest, marker = corpus_digest(task, steps), folder.with_name(folder.name + MADE_FROM)
        if (folder / "config.json").is_file():
            if not marker.is_file() or marker.read_text().strip() != digest:
                raise UserError(
                    f"the language model {folder} was made from other captions, with other steps or by another version "
                    f"of kka. Remove the folder to train it anew (and the pools and results that it made), or name "
                    f"another --work."
                )
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, digest + "\n")  # first: a run that is killed in between trains again
        train_corpus_model(task, folder, seed=0, steps=steps)


@lru_cache(maxsize=8)  # a model serves many pools of one process
def language_task(name: str, group: tuple[str, ...], protocol: Protocol, data: Path, split_seed: int = 0) -> Task:
    """What the language model of a group of tasks may know, checked for leaks."""
    usual = Cell(
        dataset=name, normal=group[0], protocol=protocol, detector="sad", arm="none", seed=0, split_seed=split_seed
    )
    task = _common([open_cell_task(dataclasses.replace(usual, normal=normal), data) for normal in group])
    check_captions(
        [caption for _, caption in corpus(task)],
        test=_captions(data / name / "test.parquet"),
        training=_captions(data / name / "train.parquet"),
    )
    return task


def _captions(file: Path) -> list[str]:
    import pyarrow.parquet as pq

    if "captions" not in pq.read_schema(file).names:
        return []
    return [text for given in pq.read_table(file, columns=["captions"])["captions"].to_pylist()
            for text in captions_in(given)]  # fmt: skip


def _common(tasks: list[Task]) -> Task:
    """The first task, with the classes alone that all of them may know."""
    first = tasks[0].knowledge
    assert first is not None
    kinds = set.intersection(*(set(task.knowledge.kinds) for task in tasks if task.knowledge is not None))
    keep = [i for i, kind in enumerate(first.kinds) if kind in kinds]
    return dataclasses.replace(tasks[0], knowledge=first.only(keep))
