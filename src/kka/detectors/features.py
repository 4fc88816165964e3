"""Features of a frozen network, computed once and read from disk, batch by batch, in half precision.

Memory grows with the batch, never with the number of images. A file lies in `features` in the cache folder under the
hash of what it holds: the images' pixels in their order, and the extractor. It is written under a temporary name and
moved into place, so processes share the folder and a killed one leaves no half file; a checksum at its end finds
damage, and then it is made anew. Files unused for longest are removed when all together exceed `LIMIT`.
"""

import hashlib
import os
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float, Float16
from torch import Tensor, nn

from kka.common.cache import pixel_hash
from kka.common.caches import cache_folder
from kka.common.device import sent
from kka.common.files import replacing
from kka.detectors.graph import in_batches
from kka.errors import UserError
from kka.protocols import Images

LIMIT = 8 * 2**30
"""Bytes of all files together."""
_CRC = 4  # bytes at the end of a file, after an ordinary .npy
_BLOCK = 2**22
_LARGEST = 65504.0  # of half precision

Extractor = Callable[[Tensor], Tensor]
"""Pixels (b, h, w, 3) -> features (b, …)."""


class Features:
    """The features of n images on disk; `features[index]` reads those of a batch. `shape` is (n, …).

    A context manager: it closes its file.
    """

    def __init__(self, path: Path) -> None:
        """`path`: of a file of `_write`. Raises OSError where it cannot be read, ValueError where it is damaged."""
        self._file = path.open("rb")
        try:
            self.shape, self._offset = _verified(self._file)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Features":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | np.ndarray) -> Float[Tensor, "b ..."]:
        """Rows in single precision."""
        return self._rows(index).float()

    def on(self, device: torch.device, index: Tensor | np.ndarray) -> Float[Tensor, "b ..."]:
        """Rows on a device in single precision; half of it travels there."""
        return sent(self._rows(index), device).float()

    def _rows(self, index: Tensor | np.ndarray) -> Float16[Tensor, "b ..."]:
        """Mapped for this read alone: pages that stay mapped would count as memory in use."""
        mapped = np.memmap(self._file, dtype=np.float16, mode="r", offset=self._offset, shape=self.shape)
        return torch.from_numpy(mapped[np.asarray(index)])


def fingerprint(*modules: nn.Module, **facts: Any) -> str:
    """Names an extractor: its weights and all else that shapes its features."""
    digest = hashlib.blake2b(repr(sorted(facts.items())).encode(), digest_size=16)
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def cached_features(
    images: Images, extract: Extractor, device: torch.device, *, identity: str, batch: int = 64,
    folder: Path | None = None,
) -> Features:  # fmt: skip
    """The features of `images`, read from the cache or computed now.

    Args:
        extract: Takes `batch` images at a time to the same number of features.
        identity: Of the extractor; see `fingerprint`.
        folder: Defaults to `features` in `kka.common.caches.cache_folder()`.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = folder if folder is not None else cache_folder() / "features"
    path = folder / f"{_key(images, identity)}.npy"
    if (found := _found(path)) is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path, sync=False) as part:  # what a power cut spoils is found by its checksum
            with part.open("wb") as file:
                _write(file, images, extract, device, batch)
            written = Features(part)
    except OSError as error:
        raise UserError(
            f"the feature cache {folder} cannot be written: {error}. "
            "Make room or set KKA_CACHE to a folder that can be written."
        ) from error
    _prune(folder, keep=path)
    return written


def _key(images: Images, identity: str) -> str:
    digest = hashlib.blake2b(identity.encode(), digest_size=16)
    for image in images:
        digest.update(pixel_hash(image).encode())
    return digest.hexdigest()


def _found(path: Path) -> Features | None:
    """The file of `path`, marked as used now; None, with a warning if it is damaged, where there is none to use."""
    try:
        found = Features(path)
    except OSError:  # a folder that cannot be read cannot be written either, and that is said then
        return None
    except (ValueError, EOFError) as error:
        warnings.warn(f"cached features {path} cannot be used ({error}): they are computed anew", stacklevel=4)
        return None
    with suppress(OSError):
        os.utime(path)
    return found


def _write(file: IO[bytes], images: Images, extract: Extractor, device: torch.device, batch: int) -> None:
    """An .npy of half-precision features, then the checksum of its numbers."""
    check = 0
    for start in range(0, len(images), batch):
        part = in_batches(extract, images[start : start + batch], device, batch=batch)
        part = part.clip(-_LARGEST, _LARGEST).astype(np.float16)
        if not start:
            header = {"descr": "<f2", "fortran_order": False, "shape": (len(images), *part.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
        content = part.astype("<f2", copy=False).tobytes()
        check = zlib.crc32(content, check)
        file.write(content)
    file.write(check.to_bytes(_CRC, "little"))


def _verified(file: IO[bytes]) -> tuple[tuple[int, ...], int]:
    """Shape and offset of the numbers; ValueError unless they are all there, and those that were written."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    offset = file.tell()
    left = int(np.prod(shape)) * dtype.itemsize
    if os.fstat(file.fileno()).st_size != offset + left + _CRC:
        raise ValueError("its length is wrong")
    check = 0
    while left:
        block = file.read(min(left, _BLOCK))
        check, left = zlib.crc32(block, check), left - len(block)
    if file.read(_CRC) != check.to_bytes(_CRC, "little"):
        raise ValueError("its checksum is wrong")
    return shape, offset


def _prune(folder: Path, *, keep: Path) -> None:
    """Remove what was unused for longest until the rest fits `LIMIT`. A reader that has a file open keeps it."""
    with suppress(OSError):  # another process prunes too
        files = sorted(((s.st_mtime, s.st_size, p) for p in folder.glob("[!.]*.npy") if (s := p.stat())), reverse=True)
        total = 0
        for _, size, path in files:
            total += size
            if total > LIMIT and path != keep:
                path.unlink(missing_ok=True)
