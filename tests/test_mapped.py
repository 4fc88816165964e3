"""Arrays that lie in files without a name: the same numbers as in memory, room asked for, nothing left behind."""

import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes import FAST, run_fake
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.common import mapped
from kka.common.device import batch_at, resident
from kka.common.files import read_json
from kka.common.mapped import empty, joined, taken
from kka.errors import UserError


def is_mapped(array: np.ndarray) -> bool:
    """Whether its numbers lie in a file."""
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(base, mmap.mmap)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(params=[0, mapped.LARGE], ids=["mapped", "memory"])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(mapped, "LARGE", request.param)
    monkeypatch.setattr(mapped, "_CHUNK", 40)  # several chunks, and a last one that is not whole
    return int(request.param)


TAKEN = (
    ([3, 0, 3, 6], [3, 0, 3, 6]),
    ([], []),
    (range(7), [0, 1, 2, 3, 4, 5, 6]),
    (np.arange(7) % 3 > 0, [1, 2, 4, 5]),
    (np.array([5, 1], np.int32), [5, 1]),
)


@pytest.mark.parametrize(("index", "places"), TAKEN)
def test_what_is_taken_are_the_rows(large: int, index: Sequence[int], places: list[int]) -> None:
    array = numbers(7, 5, 3)
    found = taken(array, index)
    expected = [array[i] for i in places]
    assert found.shape == (len(expected), 5, 3) and found.dtype == np.uint8
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))
    assert is_mapped(found) == (large == 0 and 0 < len(expected) < 7)


@pytest.mark.parametrize(("n", "m"), [(7, 4), (0, 4), (7, 0)])
def test_what_is_joined_stands_in_order(large: int, n: int, m: int) -> None:
    one, other = numbers(n, 5, 3), numbers(m, 5, 3, seed=1)
    found = joined(one, other)
    assert [row.tolist() for row in found] == [*one.tolist(), *other.tolist()]
    assert is_mapped(found) == (large == 0 and n > 0 and m > 0)


def test_files_have_no_name_and_are_gone_with_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "LARGE", 0)
    monkeypatch.setenv("KKA_CACHE", str(tmp_path))
    found = empty((1000, 10), np.float32)
    found[:] = 3
    assert is_mapped(found) and found.dtype == np.float32 and (found == 3).all()
    assert not list((tmp_path / "scratch").iterdir())
    assert len(empty((0, 4))) == 0


def test_a_disk_without_room_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapped file that finds no room when it is written to ends the process without a word."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(UserError, match=r"100 pictures need 4\.7 GiB of disk .* No space left on device.*KKA_CACHE"):
        empty((100, 4096, 4096, 3))


def test_room_is_made_by_zeros_where_there_is_no_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "LARGE", 0)
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(mapped, "_CHUNK", 7)
    found = empty((10, 3))
    assert is_mapped(found) and found.tolist() == [[0, 0, 0]] * 10


@pytest.mark.parametrize("limit", [8, 16])
def test_pixels_for_training(large: int, limit: int) -> None:
    """Those beside the first come to their size; a batch is the pictures at its places."""
    normals, odd = numbers(6, 12, 12, 3), numbers(3, 20, 20, 3, seed=1)
    pixels = resident(normals, torch.device("cpu"), limit=limit, beside=odd)
    side = min(limit, 12)
    assert pixels.shape == (9, 3, side, side) and pixels.dtype == torch.uint8
    if side == 12:
        assert (pixels[:6].numpy() == normals.transpose(0, 3, 1, 2)).all()
    alone = resident(odd, torch.device("cpu"), limit=side)
    assert (pixels[6:] == alone).all()
    assert (batch_at(pixels, torch.tensor([8, 2]), torch.device("cpu")) == pixels[[8, 2]]).all()


def test_pools_of_several_groups_of_rows(large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kka.algorithm.pool.GROUP", 3)
    entries = tuple(
        Lineage(id=f"r0-{i}", round=0, prompt="p", caption=f"c{i}", seed=i, language_model="l", image_model="m",
                key=f"k{i}", normal=i, history=((1, i / 3),))
        for i in range(8)
    )  # fmt: skip
    pool = AnomalyPool(entries, numbers(8, 6, 6, 3), numbers(8, 6, 6, seed=1))
    pool.save(tmp_path / "pool.parquet")
    found = AnomalyPool.load(tmp_path / "pool.parquet")
    assert found.entries == entries and (found.images == pool.images).all()
    assert found.masks is not None and pool.masks is not None and (found.masks == pool.masks).all()
    again = found.take([7, 0]).joined(found.take([1]))
    assert [entry.id for entry in again.entries] == ["r0-7", "r0-0", "r0-1"]
    assert (again.images == pool.images[[7, 0, 1]]).all() and is_mapped(again.images) == (large == 0)
    nothing = found.take([])
    nothing.save(tmp_path / "none.parquet")
    assert len(AnomalyPool.load(tmp_path / "none.parquet")) == 0


def test_a_run_is_the_same_in_files(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array of a whole run mapped: the same pool, the same figures."""
    monkeypatch.setattr(mapped, "LARGE", 0)
    run_fake(FAST, tmp_path / "run")
    assert (tmp_path / "run" / "pool.parquet").read_bytes() == (finished / "pool.parquet").read_bytes()
    found, expected = (read_json(folder / "summary.json") for folder in (tmp_path / "run", finished))
    for name in ("task", "arms", "rounds"):
        assert found[name] == expected[name]
