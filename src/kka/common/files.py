"""Files: JSON lines, and the image files that a person names."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kka.common.images import SUFFIXES
from kka.errors import UserError


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file; none where there is no file: the stage that writes it never ran."""
    if not path.is_file():
        return []
    # Not splitlines(): a caption may hold characters, such as U+2028 and U+0085, at which that would cut.
    text = path.read_bytes().decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def image_files(named: Sequence[Path]) -> list[Path]:
    """Each named file, and the image files in each named folder, sorted; nothing hidden, nothing twice.

    Raises:
        UserError: a name that does not exist.
    """
    found: dict[Path, None] = {}
    for path in named:
        if path.is_dir():
            inner = (file for file in sorted(path.rglob("*")) if _shown(file.relative_to(path)) and file.is_file())
            found |= dict.fromkeys(file for file in inner if file.suffix.lower() in SUFFIXES)
        elif path.is_file():
            found[path] = None
        else:
            raise UserError(f"images: expected image files or folders; {path} does not exist")
    return list(found)


def _shown(path: Path) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in path.parts)
