"""Parquet folders: `train.parquet` and `test.parquet` with images, class labels and captions.

Columns: `image` (struct of `bytes` and `path`, as Hugging Face `datasets` writes it), `label` (int); and, where they
exist, `label_name`, `captions` (list of strings, or one string), `coarse_label`, `coarse_name` (superclasses). Labels
and captions are read at once; image bytes only for the rows that the task needs, row group by row group.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kka.common.images import Source
from kka.data.assemble import assemble, sides_of, template
from kka.data.metadata import captions_in
from kka.data.request import Request, Split
from kka.data.split import choose_normal, fold
from kka.errors import UserError
from kka.task import SetAside, Task

BATCH = 256
"""Rows of image bytes in memory at a time."""


def load_parquet(folder: Path, request: Request) -> Task:
    """The task of a Parquet folder.

    Normals: the training images of the normal classes, each with one of its captions, chosen by the seed. Test: the
    whole test file, if there is one. Knowledge: the training images of the other classes that are not withheld, with
    all their captions. Where a caption is missing, the request's description (normals only) or a template with the
    class name stands in; the details say so. Raises UserError for files, columns or classes that are not as expected.
    """
    tables = _tables(folder)
    names = _class_names(list(tables.values()))
    normal = _choose(request.normal, list(tables.values()), names)
    train, stood_in = _split(tables["train"], names, normal, request.describe)
    test = _split(tables["test"], names, normal, None)[0] if "test" in tables else None
    notes = []
    if stood_in:
        by = "the class name ('a photo of a …')"
        by += f", for normals {request.describe!r}," if request.describe else ""
        notes.append(f"{stood_in} of the {len(train.paths)} training images have no caption: {by} stands in")
    elif request.describe:
        notes.append("the description is not used: all training images have captions")
    return assemble(
        request,
        folder,
        train,
        test,
        normal=normal,
        native_size=True,
        set_aside=[aside for table in tables.values() for aside in table.unlabelled],
        notes=notes,
    )


def check_normal(folder: Path, tasks: Sequence[Sequence[str]]) -> None:
    """Raises UserError where the normal classes of one of the tasks are none of the data set's; no image is read."""
    tables = list(_tables(folder).values())
    names = _class_names(tables)
    for normal in tasks:
        _choose(normal, tables, names)


def class_sides(folder: Path, normal: Sequence[str], unseen: float, seed: int) -> dict[str, list[str]]:
    """The classes that are normal, known and withheld, as `load_parquet` has them in its details; no image is read.

    Raises:
        UserError: files or classes that are not as expected.
    """
    tables, names = read_tables(folder)
    chosen = choose_classes(normal, tables, names, of="normal")
    kinds = {side: {names[label] for label in table.labels} for side, table in tables.items()}
    return sides_of(kinds["train"], kinds.get("test", set()), chosen, unseen, seed)


def read_tables(folder: Path) -> "tuple[dict[str, _Table], dict[str, str]]":
    """What the files train and test hold but the image bytes, and the name of each label's class.

    Raises:
        UserError: a file that is not there or not of the expected form.
    """
    tables = _tables(folder)
    return tables, _class_names(list(tables.values()))


def choose_classes(
    words: Sequence[str], tables: "Mapping[str, _Table]", names: Mapping[str, str], *, of: str
) -> set[str]:
    """The classes that `words` name; `of`: the option, as errors call it."""
    return _choose(words, list(tables.values()), names, of=of)


def split_of(table: "_Table", names: Mapping[str, str]) -> Split:
    """One file, its pictures not yet decoded; a template stands in for captions that are not there."""
    return _split(table, names, set(), None)[0]


def _tables(folder: Path) -> "dict[str, _Table]":
    train_file = folder / "train.parquet"
    if not train_file.is_file():
        raise UserError(f"expected {train_file}, the training images; found only test.parquet there")
    tables = {"train": _Table(train_file)}
    if (folder / "test.parquet").is_file():
        tables["test"] = _Table(folder / "test.parquet")
    return tables


class _Table:
    """One file: everything but the image bytes, for the rows that have a label, and a reader of those bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                has_path = _check_columns(file.schema_arrow, path)
                text = ["label", "label_name", "coarse_label", "coarse_name", "captions"]
                columns = [name for name in text if name in file.schema_arrow.names]
                table = file.read(columns + ["image.path"] * has_path)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path} cannot be read as Parquet: {error}") from error
        stored = pc.struct_field(table["image"], "path").to_pylist() if has_path else [None] * len(table)
        labels = table["label"].to_pylist()
        paths = [f"{path.name}:{name or f'row {i}'}" for i, name in enumerate(stored)]
        self.rows = [i for i, label in enumerate(labels) if label is not None]
        self.unlabelled = [
            SetAside(path=paths[i], reason="it has no label") for i, label in enumerate(labels) if label is None
        ]
        self.labels = [str(labels[i]) for i in self.rows]
        self.paths = [paths[i] for i in self.rows]
        self.table = table.take(self.rows) if self.unlabelled else table

    def column(self, name: str) -> list[Any]:
        """The values of an optional column, None where it does not exist."""
        return self.table[name].to_pylist() if name in self.table.column_names else [None] * len(self.rows)

    def read(self, positions: Sequence[int]) -> Iterator[Source]:
        """The image bytes at ascending positions; row groups without one of them are skipped."""
        wanted = np.array([self.rows[p] for p in positions], int)
        try:
            with pq.ParquetFile(self.path) as file:
                contents = _bytes_of(file, wanted)
                for position, content in zip(positions, contents, strict=True):
                    yield self.paths[position], content
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.path}: the images cannot be read: {error}") from error


def _bytes_of(file: pq.ParquetFile, wanted: np.ndarray) -> Iterator[bytes]:
    ends = np.cumsum([file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)])
    groups = np.searchsorted(ends, wanted, side="right")
    for group in np.unique(groups).tolist():
        first = int(ends[group - 1]) if group else 0
        yield from _bytes_of_rows(file, group, wanted[groups == group] - first)


def _bytes_of_rows(file: pq.ParquetFile, group: int, rows: np.ndarray) -> Iterator[bytes]:
    start = 0
    for batch in file.iter_batches(batch_size=BATCH, row_groups=[group], columns=["image.bytes"]):
        inside = rows[(rows >= start) & (rows < start + len(batch))] - start
        column = batch.column(0).field("bytes")
        for i in inside.tolist():
            yield column[i].as_py() or b""  # no bytes: set aside as an empty file when decoded
        start += len(batch)


def _check_columns(schema: pa.Schema, path: Path) -> bool:
    """Whether images have a path. Raises UserError when the file is not of the expected form."""
    kind = schema.field("image").type if "image" in schema.names else None
    members: list[str] = []
    if kind is not None and pa.types.is_struct(kind):
        members = [kind.field(i).name for i in range(kind.num_fields)]
    if "bytes" not in members or "label" not in schema.names:
        raise UserError(
            f"{path}: expected the columns image (a struct of bytes and path) and label, with label_name and "
            f"captions where there are any; got {', '.join(f'{f.name}: {f.type}' for f in schema)}"
        )
    return "path" in members


def _class_names(tables: list[_Table]) -> dict[str, str]:
    """Label -> the class's name, unique. A name that several labels share gets the label beside it."""
    names: dict[str, str] = {}
    for table in tables:
        for label, name in zip(table.labels, table.column("label_name"), strict=True):
            if label not in names:
                names[label] = str(name).strip() if name else f"class {label}"
    counts = Counter(names.values())
    return {label: name if counts[name] == 1 else f"{name} ({label})" for label, name in names.items()}


def _choose(
    normal: Sequence[str], tables: list[_Table], names: Mapping[str, str], *, of: str = "normal"
) -> set[str]:
    """The normal classes, or those of the option `of`. A word is tried as label, as class name, then as superclass."""
    aliases: dict[str, set[str]] = defaultdict(set)
    for table in tables:
        for column in ("coarse_name", "coarse_label"):
            for label, coarse in set(zip(table.labels, table.column(column), strict=True)):
                if coarse is not None:
                    aliases[f"coarse:{fold(coarse)}"].add(names[label])
                    if column == "coarse_name":
                        aliases[fold(coarse)].add(names[label])
    for name in names.values():
        aliases[fold(name)] = {name}
    for label, name in names.items():
        aliases[fold(label)] = {name}
    shown = [f"{label} {names[label]}" for label in sorted(names, key=lambda x: (len(x), x))]
    superclasses = sorted({str(c) for table in tables for c in table.column("coarse_name") if c is not None})
    wanted = [fold(name).replace("coarse: ", "coarse:") for name in normal]
    return choose_normal(wanted, dict(aliases), shown=[*[f"coarse:{c}" for c in superclasses], *shown], of=of)


def _split(table: _Table, names: Mapping[str, str], normal: set[str], describe: str | None) -> tuple[Split, int]:
    """The rows of one file, and the number of images whose caption is a stand-in."""
    kinds = tuple(names[label] for label in table.labels)
    captions, stood_in = [], 0
    for kind, given in zip(kinds, table.column("captions"), strict=True):
        written = captions_in(given)
        if not written:
            stood_in += 1
            written = (describe.strip() if describe and kind in normal else template(kind),)
        captions.append(written)
    split = Split(
        where=str(table.path), paths=tuple(table.paths), kinds=kinds, captions=tuple(captions), read=table.read
    )
    return split, stood_in
