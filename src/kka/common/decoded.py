"""Decoded photos of a folder, kept: the next command that opens the folder reads them in one go.

A file lies in `decoded` in the cache folder under the hash of what the pixels follow from: the version of this code and
of Pillow, size, fit and white, and of each photo path, size, time of change and of replacement. The disk holds it whole
before it has its name, so processes share the folder; what is torn all the same is not used, and written anew. Pixels
are mapped into memory, and read when they are looked at. Files unused for longest are removed when all together exceed
`LIMIT`.
"""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from kka.common.files import replacing

VERSION = 1
"""Raised when photos are decoded otherwise."""
LEAST = 500
"""Photos from which on they are kept: fewer are decoded in a second."""
LIMIT = 8 * 2**30
"""Bytes of all files together."""
MAGIC = b"kka-decoded-1\n"
SAMPLED = 64
"""Pictures that the checksum is of."""


def key_of(files: Sequence[Path], **facts: Any) -> str | None:
    """Of the files as they are now; None where one cannot be asked."""
    digest = hashlib.blake2b(repr((VERSION, PIL.__version__, sorted(facts.items()))).encode(), digest_size=16)
    try:
        for file in files:
            path = os.fspath(file)
            found = os.stat(path)  # noqa: PTH116  # twenty thousand of them
            digest.update(
                b"%s\0%d %d %d\n" % (os.fsencode(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            )
    except OSError:
        return None
    return digest.hexdigest()


class DecodedCache:
    """Arrays of pictures with facts, by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        """None where there is none, or a torn one."""
        path = self.folder / f"{key}.bin"
        try:
            with path.open("rb") as file:
                if file.read(len(MAGIC)) != MAGIC:
                    return None
                length, shape = int.from_bytes(file.read(8), "big"), tuple(np.frombuffer(file.read(32), ">i8").tolist())
                head, start = file.read(length), file.tell()
                number = math.prod(shape)
                if len(shape) != 4 or min(shape) < 0 or os.fstat(file.fileno()).st_size != start + number + 4:
                    return None
                images = np.zeros(shape, np.uint8)
                if number:  # what is written to it stays in this process
                    images = np.asarray(np.memmap(file, np.uint8, mode="c", offset=start, shape=shape))
                file.seek(start + number)
                if file.read(4) != _checksum(head, images):
                    return None
            facts: dict[str, Any] = json.loads(head)
        except (OSError, ValueError, MemoryError):
            return None
        with suppress(OSError):
            os.utime(path)  # it was used
        return images, facts

    def put(self, key: str, images: np.ndarray, facts: dict[str, Any]) -> None:
        """Keep them; not where the disk refuses."""
        head = json.dumps(facts).encode()
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / f"{key}.bin") as part, part.open("wb") as file:
                file.write(MAGIC + len(head).to_bytes(8, "big") + np.array(images.shape, ">i8").tobytes() + head)
                file.write(np.ascontiguousarray(images).data if images.size else b"")
                file.write(_checksum(head, images))
            self._tidy()

    def _tidy(self) -> None:
        used = sorted((found.st_mtime, found.st_size, file) for file in self.folder.glob("*.bin")
                      if (found := file.stat()))  # fmt: skip
        total = sum(size for _, size, _ in used)
        for _, size, file in used[:-1]:  # the newest stays
            if total <= LIMIT:
                break
            file.unlink(missing_ok=True)
            total -= size


def _checksum(head: bytes, images: np.ndarray) -> bytes:
    """Of the head and of some pictures, spread evenly: to look at all would be to read all."""
    found = zlib.crc32(head)
    for i in np.linspace(0, len(images) - 1, min(SAMPLED, len(images))).round().astype(int):
        found = zlib.crc32(np.ascontiguousarray(images[i]).data, found)
    return found.to_bytes(4, "big")


Wanted = Callable[[], tuple[np.ndarray, dict[str, Any]]]


def kept(
    folder: Path, files: Sequence[Path], decode: Wanted, *, keep: Callable[[dict[str, Any]], bool], **facts: Any
) -> tuple[np.ndarray, dict[str, Any]]:
    """What `decode` gives, or gave when the files were as they are. A file that changes meanwhile keeps it from being
    stored, and so does `keep`, which is asked of its facts."""
    key = key_of(files, **facts) if len(files) >= LEAST else None
    cache = DecodedCache(folder)
    if key is not None and (found := cache.get(key)) is not None:
        return found
    images, told = decode()
    if key is not None and keep(told) and key == key_of(files, **facts):
        cache.put(key, images, told)
        return cache.get(key) or (images, told)  # from then on as the next command has them
    return images, told
