"""What a stage committed: its files with size and SHA-256, so that what is read back is what was written."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kka.common.disk import STAGE_FILE, DamagedError, reading, remedy
from kka.common.files import read_json, sha256
from kka.common.ledger import Entry

Manifest = dict[str, dict[str, Any]]
"""Name below the folder -> {"bytes": …, "sha256": …}."""


def manifest(folder: Path) -> Manifest:
    """Of every file in the folder but the stage's marker."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / STAGE_FILE)
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
    }


def _check_files(folder: Path, expected: Mapping[str, Mapping[str, Any]], *, nested: bool) -> None:
    """Raises DamagedError for a file that is missing or not as it was written; what came later is left alone."""
    for name, facts in expected.items():
        path = folder / name
        if "/" in name and not nested:
            continue
        if not path.is_file():
            raise DamagedError(f"{path} is missing. {remedy(path)}")
        if (size := path.stat().st_size) != facts["bytes"]:
            raise DamagedError(
                f"{path} is damaged: expected {facts['bytes']:,} bytes, as written; got {size:,}. {remedy(path)}"
            )
        if sha256(path) != facts["sha256"]:
            raise DamagedError(f"{path} was changed since the run wrote it, or is damaged. {remedy(path)}")


def read_entry(root: Path, name: str) -> Entry:
    """What the stage `name` of the run in `root` cost.

    Raises:
        UserError: its marker is missing or damaged.
    """
    file = root / name / STAGE_FILE
    stored = read_json(file)
    with reading(file):
        return Entry.from_dict(stored)


def check_stage(root: Path, name: str, *, nested: bool = True) -> None:
    """Raises UserError where the files of a committed stage are not those that were committed.

    A stage of an older version, which kept no list of them, passes.

    Args:
        nested: Look at its networks and adapters, which lie in folders of it, too.
    """
    file = root / name / STAGE_FILE
    stored = read_json(file)
    with reading(file):
        Entry.from_dict(stored)
        _check_files(file.parent, stored.get("files") or {}, nested=nested)


def digest_of(root: Path, name: str) -> str | None:
    """Of all files of a committed stage; None where nothing lists them."""
    files = read_json(root / name / STAGE_FILE).get("files") if (root / name / STAGE_FILE).is_file() else None
    return None if files is None else hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
