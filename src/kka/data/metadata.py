"""Captions beside images: `metadata.jsonl` in the Hugging Face ImageFolder convention.

One JSON object a line: `file_name` (relative to the file's own folder) and `text` or `caption` (a text), or
`captions` (a list of texts). A line that cannot be used is named with its number; the others still count.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from kka.task import SetAside

METADATA = "metadata.jsonl"
COLUMNS = ("text", "caption", "captions")


def read_captions(
    folder: Path, files: Sequence[Path], images: Mapping[str, Path]
) -> tuple[dict[str, tuple[str, ...]], list[SetAside]]:
    """Path of each captioned image, as `images` names it -> its captions; and the lines that cannot be used.

    `images`: path relative to `folder`, with "/" -> file. Names match in any Unicode normal form, as file systems
    and editors write "ü" in two ways.
    """
    by_name = {unicodedata.normalize("NFC", path): path for path in images}
    captions: dict[str, tuple[str, ...]] = {}
    problems: list[SetAside] = []
    for file in files:
        parent = PurePosixPath(file.parent.relative_to(folder).as_posix())
        shown = file.relative_to(folder).as_posix()
        try:
            lines = file.read_bytes().splitlines()
        except OSError as error:
            problems.append(SetAside(path=shown, reason=error.strerror or str(error)))
            continue
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                name, texts = _parse(line)
                path = by_name.get(unicodedata.normalize("NFC", str(parent / name)))
                if path is None:
                    raise ValueError(f"no such image: {name}")
                captions[path] = captions.get(path, ()) + texts
            except ValueError as error:
                problems.append(SetAside(path=f"{shown}, line {number}", reason=str(error)))
    return captions, problems


def captions_in(given: object) -> tuple[str, ...]:
    """The captions in a value that holds one or several: a text, a list of texts; of anything else none."""
    texts = given if isinstance(given, list) else [given]
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())


def _parse(line: bytes) -> tuple[str, tuple[str, ...]]:
    """The file name and the captions of one line. Raises ValueError with the reason."""
    try:
        entry = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    name = entry.get("file_name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise ValueError('expected an object with "file_name" and "text"')
    given = next((entry[column] for column in COLUMNS if column in entry), None)
    written = captions_in(given)
    if not written:
        raise ValueError(f"no caption: expected a text in one of {', '.join(COLUMNS)}")
    return name, written
