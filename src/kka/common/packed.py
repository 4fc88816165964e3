"""Files and folders as bytes, to be sent to a machine that has no disk in common with this one."""

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kka.common.files import replacing, sync, sync_tree
from kka.errors import UserError


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


KEPT_DAYS = 30
"""What `unpack_once` wrote and nothing asked for since is removed."""


def unpack_once(packed: bytes, root: Path) -> Path:
    """The folder under `root` with what `pack` took, by its digest: written where it is not there yet. What lies beside
    it, and nothing has asked for of late, is removed.

    Raises:
        UserError: it cannot be written.
    """
    folder = root / hashlib.blake2b(packed, digest_size=10).hexdigest()
    if not folder.is_dir():
        with suppress(OSError):  # where another process was first, it is there
            root.mkdir(parents=True, exist_ok=True)
            with replacing(folder, sync=False) as part:
                part.mkdir()
                unpack(packed, part)
    if not folder.is_dir():
        raise UserError(f"the cache {root} cannot be written. Set KKA_CACHE to a folder that can be.")
    with suppress(OSError):  # of another person's cache, which serves as it is
        os.utime(folder)
        oldest = time.time() - KEPT_DAYS * 86_400
        for other in root.iterdir():
            if other.stat().st_mtime < oldest:
                shutil.rmtree(other, ignore_errors=True)
    return folder


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
