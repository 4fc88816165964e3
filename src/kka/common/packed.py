"""Files and folders as bytes, to be sent to a machine that has no disk in common with this one."""

import io
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kka.common.files import sync, sync_tree


def pack(root: Path, names: Sequence[str]) -> bytes:
    """The files and folders of these names under `root`, without what is hidden: locks and work in progress."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            archive.add(root / name, name, filter=_seen)
    return buffer.getvalue()


def _seen(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(entry.name).name.startswith(".") else entry


def unpack(packed: bytes, root: Path) -> None:
    """Write what `pack` took, into a folder of one's own."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(root, filter="data")


def install(packed: bytes, root: Path, names: Sequence[str]) -> None:
    """Write what `pack` took of these names in the place of what is there, each whole or not at all, in their order."""
    root.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".packed.", dir=root))
    try:
        unpack(packed, part)
        sync_tree(part)
        for name in names:
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                shutil.rmtree(target)
            (part / name).replace(target)
            sync(target.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
