"""The pure parts of the benchmark of detectors; nothing is timed."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's module: the benchmarks are scripts beside the package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import detectors

    return detectors


ROW = {
    "task": "birds:1", "size": 128, "title": "SuperSimpleNet", "library": "anomalib",
    "anomalies": 0, "passes": 20, "pass": "epoch",
    "seconds": 40.04, "seconds_at_own_epochs": 600.6, "floor_seconds": 4.0, "images_per_s": 51.2,
    "floor_images_per_s": 302.7, "peak_mb": 1500.4, "loaded_mb": 900.0, "auroc": 0.87654,
}  # fmt: skip


def test_a_row_of_the_table(detectors: Any) -> None:
    """A table that shows the memory of the libraries as the method's, or an AUROC of few epochs as that of all."""
    *_, line = detectors.table([ROW])
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "birds:1", "128", "SuperSimpleNet (anomalib)", "–", "20 epochs", "40.0 (300 epochs: 601)", "4.0", "51", "303",
        "1500 (600)", "87.7",
    ]  # fmt: skip


def test_the_table_has_a_heading_for_every_cell(detectors: Any) -> None:
    """A column added to the rows alone would shift all that stands right of it."""
    row = ROW | {"passes": 1, "seconds_at_own_epochs": None, "anomalies": 200}
    assert {line.count("|") for line in detectors.table([row])} == {12}


def test_a_row_is_measured_again_when_what_shapes_it_changes(detectors: Any) -> None:
    """Stale figures kept after a change of settings, or all measured again because the weights' folder moved."""
    spec = {"method": "simplenet", "settings": "epochs=20", "backbone": {"weights": "/a/net.safetensors"}}
    images, place = {"normals": 50}, {"cores": 2}
    key = detectors.key(spec, images, place)
    moved = spec | {"backbone": {"weights": "/b/net.safetensors"}}
    assert detectors.key(moved, images, place) == key
    assert detectors.key(spec | {"settings": "epochs=40"}, images, place) != key
    assert detectors.key(spec, {"normals": 64}, place) != key
    assert detectors.key(spec, images, {"cores": 8}) != key
