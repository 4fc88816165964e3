"""`open_task`: which source a name opens, and what is said when it opens none."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kka.data import open_task
from kka.errors import UserError
from kka.task import Task


def test_missing_and_unknown_data(tmp_path: Path) -> None:
    """A name that is nothing must be answered with what is expected and what lies beside it."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "000.png").write_bytes(b"")
    expected = "expected 'garden' .* train.parquet and test.parquet, or a folder of images"
    with pytest.raises(UserError, match=rf"{expected}; .*photo does not exist\. Did you mean photos"):
        open_task(str(tmp_path / "photo"))
    with pytest.raises(UserError, match=f"{expected}; gardn does not exist. Did you mean garden"):
        open_task("gardn")
    with pytest.raises(UserError, match=f"{expected}; got the file"):
        open_task(str(tmp_path / "photos" / "000.png"))
    with pytest.raises(UserError, match=expected):
        open_task("")
    with pytest.raises(UserError, match="data:"):
        open_task("a\0b")
    with pytest.raises(UserError, match="data:"):
        open_task(str(tmp_path / ("x" * 5000)))


@pytest.fixture
def garden(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """A garden that draws black and notes what it is asked for."""
    calls: list[tuple[object, ...]] = []

    def load_garden(normal: str | None, unseen: float, seed: int) -> Task:
        calls.append((normal, unseen, seed))
        images = np.zeros((8, 64, 64, 3), np.uint8)
        return Task(name="garden", normals=images, captions=("a daisy",) * 8, domain="flowers", source="garden")

    module = ModuleType("kka.data.garden")
    module.load_garden = load_garden  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kka.data.garden", module)
    return calls


def test_garden_gets_its_arguments(garden: list[tuple[object, ...]]) -> None:
    """The embedded world must receive normal kind, unseen share and seed, and a domain that is asked for."""
    assert open_task("garden").domain == "flowers"
    assert open_task("garden", normal=["daisy"], unseen=0.5, seed=3, domain="daisies").domain == "daisies"
    assert garden == [(None, 0.0, 0), ("daisy", 0.5, 3)]


def test_garden_refuses_what_it_cannot_do(garden: list[tuple[object, ...]]) -> None:
    """Arguments that the garden has no use for must not be ignored."""
    with pytest.raises(UserError, match="one normal kind; got 2: a, b"):
        open_task("garden", normal=["a", "b"])
    with pytest.raises(UserError, match="captions of their own"):
        open_task("garden", describe="a photo of a rose")
    with pytest.raises(UserError, match="draws 64 pixels a side; got 32"):
        open_task("garden", size=32)
    assert open_task("garden", size=64).normals.shape[1] == 64


@pytest.mark.parametrize("unseen", [-0.5, 1.01, float("nan")])
def test_unseen_is_a_share(unseen: float, garden: list[tuple[object, ...]]) -> None:
    """A percentage given as a share (50 for 0.5) must be refused at once, for every source."""
    with pytest.raises(UserError, match="from 0 to 1"):
        open_task("garden", unseen=unseen)
    assert garden == []


@pytest.mark.parametrize("size", [0, -64, 7])
def test_size_is_a_useful_number_of_pixels(size: int) -> None:
    """A picture of no pixels must be refused before anything is read."""
    with pytest.raises(UserError, match="8 pixels or more"):
        open_task("garden", size=size)


def test_a_single_normal_may_be_a_plain_string(garden: list[tuple[object, ...]]) -> None:
    """`normal="daisy"` must mean one class, not five letters."""
    open_task("garden", normal="daisy")
    assert garden[0][0] == "daisy"


def test_import_is_light() -> None:
    """`kka --help` imports this package: Pillow, pyarrow and torch must wait until data is opened."""
    code = "import sys, kka.data; print([m for m in ('PIL', 'pyarrow', 'pandas', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
