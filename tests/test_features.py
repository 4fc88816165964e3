"""Features on disk: right to half precision, whole or made anew, shared between processes, bounded."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kka.common.files import replacing
from kka.detectors import features
from kka.detectors.features import Features, cached_features, fingerprint
from kka.errors import UserError
from kka.protocols import Images

CPU = torch.device("cpu")


def pictures(n: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


class Counting:
    """(b, 8, 8, 3) -> (b, 64, 3); `calls`: the batches it was given."""

    def __init__(self, scale: float = 0.01) -> None:
        self.calls: list[int] = []
        self.scale = scale

    def __call__(self, pixels: Tensor) -> Tensor:
        self.calls.append(len(pixels))
        return pixels.float().flatten(1, 2) * self.scale


def stored(images: Images, folder: Path, extract: Counting, identity: str = "a") -> Features:
    return cached_features(images, extract, CPU, identity=identity, batch=4, folder=folder)


def test_equal_direct_computation(tmp_path: Path) -> None:
    """To half precision, in any order of rows, in batches that memory can hold."""
    images, extract = pictures(10), Counting()
    with stored(images, tmp_path, extract) as found:
        assert found.shape == (10, 64, 3) and len(found) == 10 and extract.calls == [4, 4, 2]
        index = torch.tensor([7, 0, 7])
        expected = torch.from_numpy(images[index.numpy()]).float().flatten(1, 2) * 0.01
        assert found[index].dtype == torch.float32
        torch.testing.assert_close(found[index], expected, rtol=1e-3, atol=1e-6)


def test_computed_once(tmp_path: Path) -> None:
    """The same images and extractor are read; other images, another order or extractor are not taken for them."""
    images, extract = pictures(6), Counting()
    for _ in range(2):
        with stored(images, tmp_path, extract):
            pass
    assert sum(extract.calls) == 6
    for other, identity in ((images[::-1], "a"), (pictures(6, seed=1), "a"), (images, "b")):
        with stored(other, tmp_path, extract, identity):
            pass
    assert sum(extract.calls) == 24


@pytest.mark.parametrize("damage", ["short", "flipped", "longer", "empty", "text"])
def test_damaged_files_are_rebuilt(tmp_path: Path, damage: str) -> None:
    """A disk that filled up, a flipped bit: training on it would be silently wrong."""
    images, extract = pictures(6), Counting()
    with stored(images, tmp_path, extract) as found:
        expected = found[np.arange(6)]
    path = next(tmp_path.glob("*.npy"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    ruined = {"short": content[:-9], "flipped": content, "longer": content + b"x", "empty": b"", "text": b"no numbers"}
    path.write_bytes(ruined[damage])
    with pytest.warns(UserWarning, match="computed anew"), stored(images, tmp_path, extract) as found:
        torch.testing.assert_close(found[np.arange(6)], expected)
    assert sum(extract.calls) == 12
    with stored(images, tmp_path, extract):
        assert sum(extract.calls) == 12


def test_a_killed_writer_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    """An extractor that fails half way: no file under the name, no rest, and the next fit computes."""
    images = pictures(10)

    class Failing(Counting):
        def __call__(self, pixels: Tensor) -> Tensor:
            if len(self.calls) == 2:
                raise RuntimeError("out of memory")
            return super().__call__(pixels)

    with pytest.raises(RuntimeError):
        stored(images, tmp_path, Failing())
    assert not list(tmp_path.iterdir())
    (tmp_path / ".left.tmp").write_bytes(b"from a process that was killed")
    with stored(images, tmp_path, Counting()) as found:
        assert len(found) == 10


def test_processes_share_it(tmp_path: Path) -> None:
    """Two processes at once that want the same file: both get it, and one file is left."""
    code = (
        "import sys, numpy as np, torch; from pathlib import Path\n"
        "from kka.detectors.features import cached_features\n"
        "x = np.arange(20 * 12, dtype=np.uint8).reshape(20, 2, 2, 3)\n"
        "f = cached_features(x, lambda p: p.float().flatten(1), torch.device('cpu'), identity='a', batch=1,\n"
        "                    folder=Path(sys.argv[1]))\n"
        "assert (f[np.arange(20)].numpy() == x.reshape(20, 12)).all()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1


def test_an_open_file_outlives_its_removal(tmp_path: Path) -> None:
    """Another process may prune the file of a training that runs."""
    images = pictures(6)
    with stored(images, tmp_path, Counting()) as found:
        next(tmp_path.glob("*.npy")).unlink()
        assert torch.isfinite(found[np.arange(6)]).all()


def test_the_oldest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound every round of every run would leave its features for ever."""
    sets = [pictures(6, seed=seed) for seed in range(3)]
    for age, images in zip((100, 200), sets, strict=False):
        before = set(tmp_path.glob("*.npy"))
        with stored(images, tmp_path, Counting()):
            pass
        (new,) = set(tmp_path.glob("*.npy")) - before
        os.utime(new, (time.time() - age,) * 2)
    size = new.stat().st_size
    monkeypatch.setattr(features, "LIMIT", 2 * size)
    extract = Counting()
    with stored(sets[2], tmp_path, extract), stored(sets[0], tmp_path, extract):
        pass
    assert not new.exists() and len(list(tmp_path.glob("*.npy"))) == 2 and sum(extract.calls) == 6


def test_what_another_process_is_writing_is_not_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file would be gone when it comes to be put in its place, and the other process would fail."""
    monkeypatch.setattr(features, "LIMIT", 1)
    with replacing(tmp_path / "other.npy") as part:
        part.write_bytes(b"half")
        os.utime(part, (0, 0))
        with stored(pictures(3), tmp_path, Counting()):
            pass
        assert part.exists()


def test_large_numbers_stay_finite(tmp_path: Path) -> None:
    """Half precision ends at 65,504; beyond it lies infinity, and a loss that is not a number."""
    with stored(pictures(3), tmp_path, Counting(scale=1e6)) as found:
        values = found[np.arange(3)]
    assert torch.isfinite(values).all() and values.max() == 65504


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """In words, with what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"feature cache .* cannot be written"):
        stored(pictures(2), tmp_path / "file" / "below", Counting())


def test_the_fingerprint_follows_weights_and_facts() -> None:
    """Features of other weights or another crop must never be taken up."""
    with torch.random.fork_rng(devices=[]):
        a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    names = {fingerprint(a, size=1), fingerprint(a, size=2), fingerprint(b, size=1), fingerprint(a, b, size=1)}
    assert len(names) == 4 and fingerprint(a, size=1) in names
