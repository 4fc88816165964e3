"""Which detector `--detector auto` means."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kka.cli import main
from kka.config import DetectorOptions, RunConfig
from kka.run.automatic import HINT, choose_detector, hint, settled
from kka.run.preview import preview_run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve good ones, and two others that are not counted."""
    rng = np.random.default_rng(0)
    for i in range(14):
        file = tmp_path / "photos" / ("good" if i < 12 else "defect") / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    return tmp_path / "photos"


def test_by_data_and_anomalies(photos: Path, tmp_path: Path) -> None:
    """What was named stays; photos alone, with masked and with whole anomalies, and data that is no photos."""
    plain = DetectorOptions()

    def chosen(data: str, options: DetectorOptions = plain, name: str = "auto", **known: bool) -> tuple[str, object]:
        found, its = choose_detector(name, data, options, **known)
        return found, its.preset

    assert chosen(str(photos), name="recontrast") == ("recontrast", None)
    assert chosen(str(photos)) == ("dfm", "cpu")
    assert chosen(str(photos), anomalies=True) == ("simplenet", "cpu")
    assert chosen(str(photos), anomalies=True, masked=True) == ("dfm", "cpu")
    assert chosen(str(photos), DetectorOptions(preset="published")) == ("dfm", "published")
    assert chosen("garden") == ("sad", None)
    (tmp_path / "train.parquet").write_bytes(b"")
    assert chosen(str(tmp_path)) == ("sad", None)


def test_other_settings_stay(photos: Path) -> None:
    """Single settings and the backbone that came with auto are those of the detector that it means."""
    given = DetectorOptions(set=("variance=0.5",))
    assert choose_detector("auto", str(photos), given)[1].set == ("variance=0.5",)


def test_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`kka train --detector auto` says what it chose, and the folder holds a detector of that kind."""
    command = ["train", "--detector", "auto", "--data", str(photos), "--out", str(tmp_path / "d"), "--set", "size=64"]
    backbone = ["crop=64", "--fpr", "0.5", "--backbone.name", "mobilenetv2_035", "--backbone.weights", "random"]
    assert main([*command, *backbone]) == 0
    assert "Detector: dfm, preset cpu" in capsys.readouterr().out
    assert json.loads((tmp_path / "d" / "detector.json").read_text())["detector"] == "dfm"


def test_of_a_run(photos: Path) -> None:
    """Painted photos have masks; drawn pictures have none. What was named stays, and sad on photos is commented."""

    def chosen(**given: str) -> str:
        return settled(RunConfig(**{"data": str(photos), "detector": "auto"} | given)).detector  # type: ignore[arg-type]

    assert chosen() == chosen(images="paint") == chosen(images="inpaint:somewhere") == "dfm"
    assert chosen(images="diffusers:somewhere") == "simplenet"
    assert chosen(data="garden") == "sad"
    assert chosen(detector="recontrast") == "recontrast"
    assert settled(RunConfig(data=str(photos), detector="auto")).detector_options.preset == "cpu"
    assert hint(RunConfig(data=str(photos))) == HINT
    assert hint(RunConfig(data=str(photos), detector="dfm")) is None and hint(RunConfig()) is None


def test_a_run_says_it(photos: Path) -> None:
    """Before the work: what was found of the data names the better way."""
    found = preview_run(RunConfig(data=str(photos), describe="a photo of a tile", size=32), 1)
    assert HINT in found.notes
