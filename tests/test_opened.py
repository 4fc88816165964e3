"""Folders that were opened before: their pixels come from the cache, and never when a file is another one."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kka.common.decoded as decoded
import kka.data.assemble as assemble
from kka.common.cache import pixel_hash
from kka.common.decoded import DecodedCache
from kka.data import open_task
from kka.task import Task


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve to train with, six to test, one damaged; and a cache of their own, for any number of photos."""
    monkeypatch.setenv("KKA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded, "LEAST", 3)
    for place, number in (("train/good", 12), ("test/good", 3), ("test/odd", 3)):
        folder = tmp_path / "photos" / place
        folder.mkdir(parents=True)
        for i in range(number):
            noise = np.random.default_rng([number, i, len(place)]).integers(0, 255, (20, 26, 3), np.uint8)
            Image.fromarray(noise).save(folder / f"{i}.bmp")
    (tmp_path / "photos" / "train" / "good" / "broken.bmp").write_bytes(b"BM no picture")
    return tmp_path / "photos"


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sides that were decoded, and not read from the cache."""
    found: list[str] = []

    def listened(name: str) -> None:
        real = getattr(assemble, name)

        def listening(*given: Any, **more: Any) -> Any:
            if given[1]:  # there may be no pictures of other classes
                found.append(more["where"])
            return real(*given, **more)

        monkeypatch.setattr(assemble, name, listening)

    listened("decode_all")
    listened("decode_in_own_range")
    return found


def opened(photos: Path, **more: Any) -> Task:
    return open_task(str(photos), describe="x", **{"size": 16, **more})


def same(one: Task, other: Task) -> bool:
    assert one.test is not None and other.test is not None
    pixels = np.array_equal(one.normals, other.normals) and np.array_equal(one.test.images, other.test.images)
    told = (one.set_aside, one.details, one.captions, one.white, one.fit, one.test.kinds)
    return bool(pixels and told == (other.set_aside, other.details, other.captions, other.white, other.fit,
                                    other.test.kinds))  # fmt: skip


def test_the_second_time_nothing_is_decoded(photos: Path, decodings: list[str]) -> None:
    """And all is as before: pixels, what was set aside, notes; another size or fit is decoded anew."""
    first = opened(photos)
    assert len(decodings) == 2 and len(first.set_aside) == 1
    again = opened(photos)
    assert len(decodings) == 2 and same(first, again)
    again.normals[0] = 0  # what one process writes to its pictures is its own
    assert same(first, opened(photos)) and len(decodings) == 2
    assert opened(photos, fit="pad").fit == "pad" and len(decodings) == 4
    assert opened(photos, size=12).normals.shape[1] == 12 and len(decodings) == 6


def test_what_may_be_readable_the_next_time_is_asked_again(photos: Path, decodings: list[str]) -> None:
    """HEIC without pillow-heif, or a share that was away: kept, these photos would be missing for ever."""
    (photos / "train" / "good" / "broken.bmp").unlink()  # two of thirteen would be refused
    real = Path.open

    def refused(self: Path, *given: Any, **more: Any) -> Any:
        if self.name == "3.bmp" and self.parent.parent.name == "train":
            raise OSError(5, "Input/output error")
        return real(self, *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", refused)
        first = opened(photos)
    assert "Input/output error" in {item.reason for item in first.set_aside}
    again = opened(photos)
    assert len(again.normals) == len(first.normals) + 1 and len(again.set_aside) == len(first.set_aside) - 1


@pytest.mark.parametrize("way", ["written over", "replaced", "renamed", "added", "removed"])
def test_another_file_is_noticed(photos: Path, decodings: list[str], way: str) -> None:
    """Old pixels in the place of a changed photo would be wrong without a word. Equal size and time do not hide it."""
    first = opened(photos)
    file = photos / "train" / "good" / "3.bmp"
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-40:] = bytes(40)
    if way == "written over":
        file.write_bytes(content)
    elif way == "replaced":
        other = photos.parent / "other.bmp"
        other.write_bytes(content)
        other.replace(file)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif way == "renamed":
        file.rename(file.with_name("03.bmp"))
    elif way == "added":
        Image.new("RGB", (20, 26), "red").save(file.with_name("red.bmp"))
    else:
        file.unlink()
    again = opened(photos)
    assert len(decodings) == 3, decodings
    hashes = [{pixel_hash(image) for image in task.normals} for task in (first, again)]
    assert (hashes[0] == hashes[1]) == (way == "renamed")


@pytest.mark.parametrize("way", ["cut", "longer", "empty", "head", "zeros", "other"])
def test_a_torn_file_is_written_anew(photos: Path, decodings: list[str], way: str) -> None:
    """A power cut or a full disk leaves such files."""
    first = opened(photos)
    for file in (photos.parent / "cache" / "decoded").glob("*.bin"):
        content = bytearray(file.read_bytes())
        if way == "cut":
            content = content[:-7]
        elif way == "longer":
            content += b"more"
        elif way == "empty":
            content.clear()
        elif way == "head":
            content[60] ^= 1
        elif way == "zeros":
            content[-2000:-4] = bytes(1996)
        else:
            content[:4] = b"none"
        file.write_bytes(content)
    assert same(first, opened(photos)) and len(decodings) == 4
    assert same(first, opened(photos)) and len(decodings) == 4


def test_several_may_write_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands that open one folder at once; and a cache that grows for ever fills the disk."""
    cache, images = DecodedCache(tmp_path), np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), np.uint8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: cache.put("one", images, {"kept": [1]}), range(16)))
        found = list(pool.map(lambda k: cache.get("one"), range(16)))
    assert all(one is not None and np.array_equal(one[0], images) and one[1] == {"kept": [1]} for one in found)
    assert [file.name for file in tmp_path.iterdir()] == ["one.bin"]
    cache.put("empty", images[:0], {})
    none = cache.get("empty")
    assert none is not None and none[0].shape == (0, 8, 8, 3)
    monkeypatch.setattr(decoded, "LIMIT", 2 * images.nbytes)
    os.utime(tmp_path / "one.bin", ns=(1, 1))
    cache.put("two", images, {})
    cache.put("three", images, {})
    assert cache.get("one") is None and cache.get("three") is not None


def test_few_photos_are_not_kept(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for each small folder, and for each preview, would be of no use."""
    monkeypatch.setattr(decoded, "LEAST", 100)
    opened(photos)
    assert not (photos.parent / "cache").exists()
