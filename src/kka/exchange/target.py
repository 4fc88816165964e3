"""Where an export lies: a folder that is there whole or not at all, and says that it is one."""

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from kka.common.files import read_json, replacing
from kka.common.progress import Progress
from kka.errors import UserError
from kka.exchange.source import Exported

MARK = "kka-export.json"
"""In an export: what it is of. A folder without it is none of ours, and is left alone."""


def require_ours(out: Path) -> None:
    """Raises UserError where `out` holds what is no export."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file()):
        what = "a file" if out.is_file() else f"a folder with other things in it (it has no {MARK})"
        raise UserError(f"--out: expected a new folder, or an export to write anew; {out} is {what}. Choose another.")
    if (out / MARK).is_file():
        read_json(out / MARK)


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """An empty folder to write to; it takes the place of `out` when the block ends, of an older export too."""
    require_ours(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    old = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.old")
    try:
        with replacing(out) as part:
            part.mkdir()
            yield part
            if out.is_dir():
                out.replace(old)  # the folder is gone for the moment between these two names
    except BaseException:
        if old.is_dir() and not out.exists():
            old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def mark(folder: Path, form: str, facts: Mapping[str, Any]) -> None:
    """Say of the folder that it is an export, and of what."""
    (folder / MARK).write_text(json.dumps({"format": form, **facts}, indent=1, ensure_ascii=False), encoding="utf-8")


def write_pictures(exported: Exported, folder: Path, progress: Progress, *, masks: Path | None = None) -> None:
    """Each picture of the pool as `<id>.png` into `folder`, and its mask, where it has one, into `masks`."""
    folder.mkdir(parents=True)
    if masks is not None and exported.masks:
        masks.mkdir(parents=True)
    total = len(exported.pool)
    for done, (entry, image) in enumerate(zip(exported.pool.entries, exported.pool.images, strict=True)):
        progress(done, total)
        Image.fromarray(image).save(folder / f"{entry.id}.png")
        if masks is not None and entry.id in exported.masks:
            Image.fromarray(exported.masks[entry.id]).save(masks / f"{entry.id}.png")
    progress(total, total)
