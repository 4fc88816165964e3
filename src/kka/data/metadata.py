"""Captions beside images, in the Hugging Face ImageFolder convention: `metadata.jsonl`, `.csv` or `.parquet`.

One row an image: `file_name` (relative to the file's own folder) and `text` or `caption` (a text), or `captions` (a
list of texts). A row that cannot be used is named with its line; the others still count.
"""

import csv
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kka.common.json_text import parse_json
from kka.common.walk import printable, shown
from kka.task import SetAside

METADATA = "metadata.jsonl"
METADATA_FILES = (METADATA, "metadata.csv", "metadata.parquet")
COLUMNS = ("text", "caption", "captions")

_Row = tuple[str, dict[str, Any] | ValueError]
"""Where it stands, as "line 3", and what is there, or why that cannot be read."""


def read_captions(
    folder: Path, files: Sequence[Path], images: Mapping[str, Path]
) -> tuple[dict[str, tuple[str, ...]], list[SetAside]]:
    """Path of each captioned image, as `images` names it -> its captions; and the rows that cannot be used.

    `images`: path relative to `folder`, with "/" -> file. Names match in any Unicode normal form, as file systems
    and editors write "ü" in two ways.
    """
    by_name = {unicodedata.normalize("NFC", path): path for path in images}
    captions: dict[str, tuple[str, ...]] = {}
    problems: list[SetAside] = []
    for file in files:
        parent = PurePosixPath(shown(file.parent, folder))
        where = shown(file, folder)
        try:
            for at, row in _READERS[file.suffix.lower()](file):
                try:
                    name, texts = _parse(row)
                    path = by_name.get(unicodedata.normalize("NFC", str(parent / name)))
                    if path is None:
                        raise ValueError(f"no such image: {printable(name)}")
                    captions[path] = captions.get(path, ()) + texts
                except ValueError as error:
                    problems.append(SetAside(path=f"{where}, {at}", reason=str(error)))
        except OSError as error:
            problems.append(SetAside(path=where, reason=error.strerror or str(error)))
        except ValueError as error:
            problems.append(SetAside(path=where, reason=str(error)))
    return captions, problems


def captions_in(given: object) -> tuple[str, ...]:
    """The captions in a value that holds one or several: a text, a list of texts; of anything else none."""
    texts = given if isinstance(given, list) else [given]
    return tuple(printable(text.strip()) for text in texts if isinstance(text, str) and text.strip())


def _lines(file: Path) -> Iterator[_Row]:
    """Of JSON lines."""
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if line.strip():
            yield f"line {number}", _json(line)


def _json(line: bytes) -> dict[str, Any] | ValueError:
    try:
        entry = parse_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return ValueError("not UTF-8 text")
    except json.JSONDecodeError as error:
        return ValueError(f"not JSON: {error}")
    return entry if isinstance(entry, dict) else ValueError('expected an object with "file_name" and "text"')


def _comma_separated(file: Path) -> Iterator[_Row]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    reader = csv.DictReader(text.splitlines(keepends=True))
    try:
        _refuse_columns(reader.fieldnames or ())
        for row in reader:
            yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise ValueError(f"not comma-separated values: {error}") from error


def _table(file: Path) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            _refuse_columns(names)
            rows = opened.read([name for name in ("file_name", *COLUMNS) if name in names]).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"cannot be read as Parquet: {error}") from error
    yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))


_READERS = {".jsonl": _lines, ".csv": _comma_separated, ".parquet": _table}


def _refuse_columns(names: Sequence[str]) -> None:
    if "file_name" not in names or not {*COLUMNS} & {*names}:
        got = printable(", ".join(map(str, names))) or "none"
        raise ValueError(f"expected the columns file_name and one of {', '.join(COLUMNS)}; got {got}")


def _parse(row: dict[str, Any] | ValueError) -> tuple[str, tuple[str, ...]]:
    """The file name and the captions of one row. Raises ValueError with the reason."""
    if isinstance(row, ValueError):
        raise row
    name = row.get("file_name")
    if not isinstance(name, str):
        raise ValueError('expected an object with "file_name" and "text"')
    given = next((row[column] for column in COLUMNS if column in row), None)
    written = captions_in(given)
    if not written:
        raise ValueError(f"no caption: expected a text in one of {', '.join(COLUMNS)}")
    return name, written
