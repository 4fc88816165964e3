"""Arrays that may be larger than memory: small ones lie in it, large ones in files that no folder names.

A large array is an ordinary one whose numbers lie in a file, mapped. What is looked at is read, and the system takes
the memory of what was read or written back whenever it needs it: memory does not grow with the number of pictures. The
disk has the room from the beginning, and gets it back with the last array that looks at the file, also where the
process is killed. The files lie in `scratch` in the cache folder.
"""

import os
import tempfile
from collections.abc import Sequence
from math import prod
from typing import IO

import numpy as np

from kka.common.caches import cache_folder
from kka.errors import UserError

LARGE = 2**26
"""Bytes up to which an array lies in memory."""
_CHUNK = 2**22
"""Bytes that are copied at a time."""


def empty(shape: Sequence[int], dtype: type[np.generic] = np.uint8) -> np.ndarray:
    """As `np.empty`: its numbers are whatever was there, 0 in a file.

    Raises:
        UserError: the disk has no room for a large one.
    """
    wanted = prod(shape) * np.dtype(dtype).itemsize
    if wanted <= LARGE:
        return np.empty(tuple(shape), dtype)
    folder = cache_folder() / "scratch"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file, wanted)
            return np.asarray(np.memmap(file, dtype, mode="r+", shape=tuple(shape)))
    except OSError as error:
        raise UserError(
            f"{shape[0]:,} pictures need {wanted / 2**30:,.1f} GiB of disk while this command runs, which {folder} "
            f"does not give: {error.strerror or error}. Make room, set KKA_CACHE to a folder on a larger disk, or give "
            "a smaller --size, or fewer pictures."
        ) from error


def in_memory(wanted: int) -> int:
    """How many of so many bytes lie in memory."""
    return wanted if wanted <= LARGE else 0


def taken(array: np.ndarray, index: np.ndarray | Sequence[int]) -> np.ndarray:
    """`array[index]`, by positions or by (n,) bool; of a large array never all in memory. Not to be written to: where
    all are taken, in their order, it may be the array itself."""
    places = np.asarray(index)
    places = np.flatnonzero(places) if places.dtype == bool else places.astype(np.int64, copy=False)
    if len(places) * _row(array) <= LARGE:
        return array[places]
    if len(places) == len(array) and (places == np.arange(len(array))).all():
        return array
    found = empty((len(places), *array.shape[1:]), array.dtype.type)
    step = max(1, _CHUNK // _row(array))
    for start in range(0, len(places), step):
        found[start : start + step] = array[places[start : start + step]]
    return found


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`np.concatenate` of the two; large ones never all in memory. Not to be written to: where one is empty, it may be
    the other itself."""
    if one.nbytes + other.nbytes <= LARGE:
        return np.concatenate([one, other])
    if not len(one) or not len(other):
        return one if len(one) else other
    found = empty((len(one) + len(other), *one.shape[1:]), one.dtype.type)
    for start, part in ((0, one), (len(one), other)):
        step = max(1, _CHUNK // _row(part))
        for i in range(0, len(part), step):
            some = part[i : i + step]
            found[start + i : start + i + len(some)] = some
    return found


def _row(array: np.ndarray) -> int:
    return max(1, prod(array.shape[1:]) * array.dtype.itemsize)


def _reserve(file: IO[bytes], length: int) -> None:
    """Room on the disk: a mapped file that finds none when it is written to ends the process. OSError where there is
    none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, length)
        return
    zeros = bytes(_CHUNK)
    for start in range(0, length, _CHUNK):
        file.write(zeros[: min(_CHUNK, length - start)])
    file.flush()
