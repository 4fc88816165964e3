"""Pictures of something else altogether, from a folder: what a detector gains from any anomalies, of no domain.

Training pictures alone, where the folder tells training from test; and none that the task's test set holds.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from kka.common.cache import pixel_hash
from kka.common.images import Source, decode_in_own_range
from kka.data.layout import read_layout
from kka.errors import UserError
from kka.protocols import Images
from kka.seeding import derive_seed
from kka.task import Task

Read = Callable[[Sequence[int]], Iterable[Source]]


def check_other(folder: str) -> Path:
    """Raises UserError where there is no such folder."""
    where = Path(folder).expanduser()
    if not where.is_dir():
        raise UserError(f"other: expected a folder of pictures, or one with train.parquet; got {folder}")
    return where


def pictures_of_another_kind(folder: str, task: Task, count: int, *, seed: int, without: Sequence[str] = ()) -> Images:
    """`count` random training pictures of `folder`, or all where it has fewer, of the size of the task's normals.

    `without`: classes of a folder with train.parquet that are too like the task's, by number, name or superclass.

    Raises:
        UserError: a folder that is not there or holds no such picture.
    """
    where = check_other(folder)
    places, read = _of_parquet(where, without) if (where / "train.parquet").is_file() else _of_photos(where)
    chosen = np.random.default_rng(derive_seed(seed, "controls")).permutation(places)[:count]
    rows: list[int] = np.sort(chosen).tolist()
    side = task.normals.shape[1]
    found = decode_in_own_range(partial(read, rows), len(rows), side, where=folder, fit=task.fit).images
    if task.test is not None:
        sealed = {pixel_hash(image) for image in task.test.images}
        found = found[[pixel_hash(image) not in sealed for image in found]]
    if not len(found):
        raise UserError(f"other: expected training pictures in {folder} that are no test pictures; got none")
    return found


def _of_parquet(folder: Path, without: Sequence[str]) -> tuple[np.ndarray, Read]:
    """Places of the training pictures that may be taken, and what reads them."""
    from kka.data.parquet import choose_classes, read_tables, split_of

    tables, names = read_tables(folder)
    train = split_of(tables["train"], names)
    left_out = choose_classes(without, tables, names, of="other") if without else set()
    return np.flatnonzero([kind not in left_out for kind in train.kinds]), train.read


def _of_photos(folder: Path) -> tuple[np.ndarray, Read]:
    layout = read_layout(folder)
    paths = [path for path, place in layout.places.items() if place.split == "train" or not layout.has_train]
    return np.arange(len(paths)), lambda rows: [(paths[i], layout.files[paths[i]]) for i in rows]
