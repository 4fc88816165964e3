"""What inspectors measure: figures of pixels and of photos, against literal references and by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from kka.common import pixel_metrics
from kka.common.inspection import GOOD, image_figures, inspect, write_inspection
from kka.common.metrics import auroc, chance
from kka.common.pixel_metrics import area, count_pixels
from reference import aupro as literal


def case(seed: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Maps of 6 photos of 9 x 11 pixels, four of them with one to three regions that stand out a little."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((6, 9, 11), bool)
    for i in range(2, 6):
        for _ in range(1 + i % 3):
            y, x = rng.integers(0, 7), rng.integers(0, 9)
            masks[i, y : y + rng.integers(1, 4), x : x + rng.integers(1, 3)] = True
    masks[5, 0, 0] = masks[5, 1, 1] = True  # one region, joined at a corner
    maps = rng.normal(size=masks.shape) + masks
    if levels is not None:
        maps = np.round(maps * levels / 4)
    return maps.astype(np.float32), masks


def counted(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Every photo once."""
    counts = count_pixels(len(maps), maps.__getitem__, masks.__getitem__)
    return counts.figures(np.ones((1, len(maps))))[0]


@pytest.mark.parametrize("levels", [None, 8])
@pytest.mark.parametrize("seed", range(3))
def test_pixels_against_the_literal_reference(seed: int, levels: int | None) -> None:
    """With every distinct score a bin of its own, and with many ties."""
    maps, masks = case(seed, levels)
    found = counted(maps, masks)
    assert found["aupro"] == pytest.approx(literal.aupro(maps, masks, 0.3), abs=1e-9)
    assert found["pixel_auroc"] == pytest.approx(literal.pixel_auroc(maps, masks), abs=1e-9)


def test_few_bins_come_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """More scores than bins: bins by the scores of some photos, the others' beyond them in the outermost."""
    maps, masks = case(7)
    exact = counted(maps, masks)
    monkeypatch.setattr(pixel_metrics, "BINS", 100)
    monkeypatch.setattr(pixel_metrics, "SAMPLE", 3)
    found = counted(maps, masks)
    assert found != exact and found["aupro"] == pytest.approx(exact["aupro"], abs=0.03)
    assert found["pixel_auroc"] == pytest.approx(exact["pixel_auroc"], abs=0.03)


def test_the_area_by_hand() -> None:
    """A curve at 1 from the start has an area of 1; the diagonal half of the limit; a step counts from there."""
    assert area(np.array([0.0, 1.0]), np.array([1.0, 1.0]), 0.3) == 1
    assert area(np.array([0.5, 1.0]), np.array([0.5, 1.0]), 0.3) == pytest.approx(0.15)
    assert area(np.array([0.15, 0.15, 1.0]), np.array([0.0, 1.0, 1.0]), 0.3) == pytest.approx(0.5)


def test_the_chance_is_the_auroc() -> None:
    """Two ways to one figure, with many ties."""
    rng = np.random.default_rng(0)
    good, bad = rng.integers(0, 9, 40).astype(np.float32), rng.integers(3, 12, 25).astype(np.float32)
    assert chance(good, bad) == pytest.approx(auroc(np.r_[good, bad], np.arange(65) >= 40), abs=1e-12)


def test_photos_at_a_threshold_by_hand() -> None:
    """Two of four defects above it and one of five good ones: a score at the threshold is good."""
    good, bad = np.array([0, 1, 2, 3, 6], np.float32), np.array([3, 3, 4, 5], np.float32)
    found = image_figures(good, bad, 3.0)
    assert found == {"auroc": 15 / 20, "false_positive_rate": 0.2, "f1": 2 * 2 / (2 + 1 + 4), "miss_rate": 0.5}
    assert image_figures(good, bad[:0], 3.0) == {"false_positive_rate": 0.2}
    assert image_figures(good[:0], bad, 3.0) == {"f1": 4 / 6, "miss_rate": 0.5}


def test_each_kind_stands_against_all_good_photos() -> None:
    """A kind that is never caught must not hide behind another that always is."""
    scores = np.array([0, 0, 1, 1, 9, 9, 9, 0, 0], np.float32)
    kinds = [GOOD] * 4 + ["hole"] * 3 + ["scratch"] * 2
    rows = {row.kind: row for row in inspect(scores, np.array([k != GOOD for k in kinds]), kinds, threshold=1.0)}
    assert list(rows) == [GOOD, "all defects", "hole", "scratch"] and [r.photos for r in rows.values()] == [4, 5, 3, 2]
    assert rows["hole"].figures["auroc"].value == 1 and rows["scratch"].figures["auroc"].value == 0.25
    assert rows["hole"].figures["miss_rate"].value == 0 and rows["scratch"].figures["miss_rate"].value == 1
    assert rows["all defects"].figures["miss_rate"].value == pytest.approx(0.4)
    assert {*rows[GOOD].figures} == {"false_positive_rate"} and "pixel_auroc" not in rows["hole"].figures


def test_the_intervals_cover_as_often_as_they_say() -> None:
    """A bootstrap of 95 % over photos: in most draws the true chance lies inside."""
    rng, covered = np.random.default_rng(0), []
    truth = 0.7602  # the chance that N(1, 1) lies above N(0, 1)
    for draw in range(25):
        scores = np.r_[rng.normal(size=60), rng.normal(1, 1, size=40)].astype(np.float32)
        rows = inspect(scores, np.arange(100) >= 60, ["good"] * 60 + ["bad"] * 40, seed=draw)
        found = rows[-1].figures["auroc"]
        assert found.low < found.value < found.high
        covered.append(found.low <= truth <= found.high)
    assert sum(covered) >= 19


def test_masks_that_are_not_known_count_for_nothing() -> None:
    """The pixels of a defect without a mask are neither good nor marked."""
    maps, masks = case(1)
    counts = count_pixels(6, maps.__getitem__, masks.__getitem__)
    known = np.array([True, True, True, True, True, False])
    scores, kinds = np.arange(6, dtype=np.float32), ["good"] * 2 + ["bad"] * 4
    rows = inspect(scores, scores > 1, kinds, pixels=counts, known=known)
    found = rows[-1].figures
    assert found["aupro"].value == pytest.approx(literal.aupro(maps[:5], masks[:5], 0.3), abs=1e-9)
    assert found["aupro"].low <= found["aupro"].value <= found["aupro"].high


def test_files(tmp_path: Path) -> None:
    """A row a kind in both; what was not measured is empty, not zero."""
    scores, is_anomaly = np.array([0, 1, 2, 3], np.float32), np.array([False, False, True, True])
    rows = inspect(scores, is_anomaly, ["good", "good", "a", "b"], threshold=2.0)
    write_inspection(rows, tmp_path / "figures", threshold=2.0)
    table = list(csv.DictReader((tmp_path / "figures.csv").read_text().splitlines()))
    assert [row["kind"] for row in table] == ["good", "all defects", "a", "b"]
    assert (table[1]["miss_rate"], table[1]["aupro"], table[0]["auroc"]) == ("0.5", "", "")
    stored = json.loads((tmp_path / "figures.json").read_text())
    assert stored["threshold"] == 2.0 and stored["rows"][2]["figures"]["miss_rate"]["value"] == 1
