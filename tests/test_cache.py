"""The image cache: what goes in comes out, whole or not at all."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from kka.common.cache import ImageCache, picture_key, pixel_hash
from kka.common.caches import cache_folder
from kka.errors import UserError


def _picture(seed: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def test_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Someone whose home is full could not move the cache."""
    monkeypatch.setenv("KKA_CACHE", str(tmp_path / "a b"))
    assert cache_folder() == tmp_path / "a b"
    assert ImageCache().folder == tmp_path / "a b" / "images"
    monkeypatch.delenv("KKA_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "kka"


def test_a_picture_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    """A lossy or channel-swapping store would make a resumed run differ from one never killed."""
    cache = ImageCache(tmp_path / "with a space and é")
    assert cache.get("ab12") is None
    for size in (1, 8, 65):
        cache.put("ab12", _picture(size, size))
        np.testing.assert_array_equal(cache.get("ab12"), _picture(size, size))
    assert [path.name for path in tmp_path.rglob("*.*")] == ["12.png"]  # no temporary file stays


def test_keys_tell_model_caption_and_seed_apart() -> None:
    """Equal keys for different requests would show the wrong picture for a caption."""
    requests = [("m", "a", 1), ("m", "a", 11), ("ma", "", 1), ("m", "a1", 1), ("m", "é", 1), ("m", "\ud800", 1)]
    assert len({picture_key(*request) for request in requests}) == len(requests)
    # Written down: another machine, or another version, must still find what this one stored.
    assert picture_key("m", "a", 1) == "ce3c3f4e234db0462fcda881636bb23e"


def test_pixel_hash_sees_shape_and_pixels_and_nothing_else() -> None:
    """A leak check by hash would miss a test picture that lies otherwise in memory."""
    picture = _picture(0)
    assert pixel_hash(picture) == pixel_hash(np.asfortranarray(picture)) == pixel_hash(picture[::-1][::-1])
    other = picture.copy()
    other[3, 4, 2] ^= 1
    assert pixel_hash(other) != pixel_hash(picture)
    assert pixel_hash(np.zeros((2, 8, 3), np.uint8)) != pixel_hash(np.zeros((8, 2, 3), np.uint8))


@pytest.mark.parametrize("damage", ["empty", "truncated", "not a picture", "another picture", "a folder"])
def test_a_damaged_file_is_a_miss_and_is_replaced(tmp_path: Path, damage: str) -> None:
    """A damaged file would stop a run, or put garbage in the pool."""
    cache, picture = ImageCache(tmp_path), _picture(0)
    cache.put("ab12", picture)
    path = cache.path("ab12")
    content = path.read_bytes()
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "another picture":
        from PIL import Image

        Image.fromarray(_picture(1)).save(path)
    else:
        path.write_bytes({"empty": b"", "truncated": content[:60], "not a picture": b"GIF89a" * 9}[damage])
    with pytest.warns(UserWarning, match=r"12\.png cannot be used .*: it is drawn anew"):
        assert cache.get("ab12") is None
    if damage != "a folder":
        cache.put("ab12", picture)
        np.testing.assert_array_equal(cache.get("ab12"), picture)


def test_no_flipped_bit_yields_another_picture(tmp_path: Path) -> None:
    """A picture changed on the disk would be used as if it had been drawn."""
    cache, picture = ImageCache(tmp_path), _picture(0, 4)
    cache.put("ab12", picture)
    content = cache.path("ab12").read_bytes()
    misses = 0
    with pytest.warns(UserWarning, match="drawn anew"):
        for place in range(len(content)):
            cache.path("ab12").write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
            found = cache.get("ab12")
            misses += found is None
            assert found is None or np.array_equal(found, picture)
    assert misses > len(content) // 3


def _write_and_read(folder: Path) -> int:
    cache, wrong = ImageCache(folder), 0
    for turn in range(60):
        key = f"ab{turn % 3}"
        cache.put(key, _picture(turn % 3, 32))
        found = cache.get(key)
        wrong += found is None or not np.array_equal(found, _picture(turn % 3, 32))
    return wrong


def test_several_processes_share_a_cache(tmp_path: Path) -> None:
    """Two runs on one machine would read each other's half-written files."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_write_and_read, [tmp_path] * 2) == [0, 0]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A full disk or a read-only folder would end in a traceback."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"image cache .*file.* cannot be written.*KKA_CACHE"):
        ImageCache(tmp_path / "file").put("ab12", _picture(0))


def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up in the middle would destroy what was there."""
    cache = ImageCache(tmp_path)
    cache.put("ab12", _picture(0))

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        cache.put("ab12", _picture(1))
    np.testing.assert_array_equal(cache.get("ab12"), _picture(0))
    assert not list(tmp_path.rglob("*.tmp"))
