"""The pure parts of the benchmark of detectors; nothing is timed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kka.experiments.engine.cells import Results, Row


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


def test_anomalies_are_drawn_by_their_hardness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of hard ones is what the row says; the nearest are the nearest; too few hard ones give no row."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from selection import draw

    relative = np.random.default_rng(0).permutation(np.linspace(0.01, 4.0, 400))  # 100 hard, 300 easy

    def drawn(share: float | None, which: str = "random") -> np.ndarray:
        chosen = draw(relative, share, which, 80, np.random.default_rng(1))
        assert len(set(chosen.tolist())) == 80
        return relative[chosen]

    assert [(drawn(share) < 1).sum() for share in (0.0, 0.25, 0.5, 1.0)] == [0, 20, 40, 80]
    assert (np.sort(drawn(0.5, "nearest"))[:40] == np.sort(relative)[:40]).all()
    assert not (np.sort(drawn(0.5))[:40] == np.sort(relative)[:40]).all()
    assert 5 <= (drawn(None) < 1).sum() <= 35
    assert not len(draw(np.array([0.5, 2.0, 3.0, 4.0]), 1.0, "random", 3, np.random.default_rng(0)))


def test_the_pages_are_what_the_stored_files_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure in the documents that no stored file has, or an old one, would be found by nobody."""
    root = Path(__file__).parents[1]
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import results

    rows = Results(results.RESULTS / "experiments.jsonl").rows()
    assert {row.made_with for row in rows} <= Results(results.RESULTS / "experiments.jsonl").settings().keys()
    again = "python benchmarks/results.py writes it anew"
    assert (root / "docs/results.md").read_text() == "\n".join(results.page(rows)).rstrip() + "\n", again
    shown = (root / "README.md").read_text().partition("<!-- results -->\n")[2].partition("<!-- /results -->")[0]
    assert shown == "\n".join(results.readme(rows)) + "\n", again


def test_the_page_is_written_from_stored_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table with the paper's column, and the README's with its gains; nothing is run."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import results

    common: dict[str, Any] = {"dataset": "oxford102", "detector": "sad", "seed": 0, "protocol": "withheld"}
    common |= {"scale": "cpu", "variant": ""}
    figures: dict[str, Any] = {"seen": 0.5, "unseen": 0.5, "anomalies": 200, "hard": 20, "generated": 200}
    figures |= {"noise_draws": 0, "fit_seconds": 9.0, "score_seconds": 1.0}
    rows = [
        Row(**common, **figures, normal=normal, arm=arm, auroc=auroc)
        for normal in ("26", "10")
        for arm, auroc in (("none", 0.6), ("rep-0", 0.9), ("rep-3", 0.925))
    ]
    page = "\n".join(results.page(rows))
    assert "| KKA (0), rep | 200 | 92.9 ± 1.2 | 90.0 ± 0.0 |" in page and "Normal: 26, 10." in page
    assert "## Figure 4" in page and "## Table IV" not in page  # of which nothing is stored
    readme = "\n".join(results.readme(rows))
    assert "| Deep SAD trained with | Oxford-102 |" in readme and "| no anomalies | 60.0 ± 0.0 |" in readme
    # eight tasks, three seeds, eleven arms; six are stored. 258 x 10 s, and 24 x (130 s + 85 s) of pools
    assert "| `kka experiment table3 --dataset oxford102 --seeds 3` | 6 | 258 | 2.1 h |" in page


@pytest.fixture
def photos(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import photos

    return photos


def test_what_is_reported_was_not_chosen_on(photos: Any) -> None:
    """Kinds of defects that a choice has seen are no test of it: they are apart, and no case of tuning has others."""
    assert not set(photos.TUNING_KINDS) & set(photos.REPORTED_KINDS)
    assert {case.task for case in photos.TUNING} == {"tuning"} and len(photos.TUNING) > 10
    kinds = np.array(["good", "break", "fray", "crack", "uneven"])
    assert photos.groups(kinds)["reported"].tolist() == [False, True, False, True, True]
    assert photos.groups(kinds)["all"].sum() == 4
    assert "reported" not in photos.groups(np.array(["good", "fray"]))


def test_scores_of_maps(photos: Any) -> None:
    """The mean of the highest places: 0 is the maximum, 1 the mean."""
    grids = np.arange(8.0).reshape(2, 2, 2)
    assert photos.top_mean(grids, 0).tolist() == [3, 7] and photos.top_mean(grids, 1).tolist() == [1.5, 5.5]
    assert photos.of_grids(grids, {"score_top": 0.5}).tolist() == [2.5, 6.5]
    assert photos.of_grids(grids, {"pooling": "mean", "size": 2}).tolist() == [1.5, 5.5]


def test_a_row_of_other_settings_is_measured_again(photos: Any) -> None:
    """A preset that changes must not leave the old figures standing as its own."""
    case = photos.Case("tiles", "patchcore", 128, ("most=5",))
    known = photos.build_detector("patchcore", preset="cpu", overrides=case.overrides).settings
    row = json.loads(json.dumps(dataclasses.asdict(case) | {"settings": dataclasses.asdict(known)}))
    assert photos.same(row, case)
    assert not photos.same(row, dataclasses.replace(case, size=192))
    assert not photos.same(row | {"settings": row["settings"] | {"score_top": 0.7}}, case)


def test_a_killed_measurement_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A GPU's minutes spent twice on what is stored, or what failed for a missing library never tried again."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import gpu

    out, ran = tmp_path / "gpu.json", []

    def part(name: str, device: str, size: dict[str, Any], limit: int) -> dict[str, Any]:
        ran.append(name)
        if name == "dpo" and ran.count("dpo") == 1:
            return {"reason": "no trl"}
        if name == "patchcore" and ran.count("patchcore") == 1:
            raise KeyboardInterrupt
        return {"images_s": 1.0}

    monkeypatch.setattr(gpu, "run_part", part)
    only = ["--only", "dpo", "dfm", "patchcore"]
    monkeypatch.setattr("sys.argv", ["gpu.py", "--device", "cpu", "--out", str(out), *only])
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    gpu.main()
    assert ran == ["dpo", "dfm", "patchcore", "dpo", "patchcore"]
    (section,) = json.loads(out.read_text()).values()
    assert {name: found.get("images_s") for name, found in section["parts"].items()} == {
        "dpo": 1.0, "dfm": 1.0, "patchcore": 1.0,
    }  # fmt: skip
    assert gpu.SIZES.keys() == gpu.PARTS.keys()


def test_a_part_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """One library that is missing would cost the figures of all other parts."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import gpu

    assert "images" in gpu.run_part("dfm", "cpu", {}, 100)["reason"]


def test_gains_over_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each detector the mean over the seeds that have both sides, then over detectors; the least is named."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import painted

    auroc = {("dfm", "none"): (0.9, 0.8), ("dfm", "painted"): (0.92,), ("dfm", "add-2"): (0.93, 0.84),
             ("sad", "none"): (0.5,), ("sad", "painted"): (0.6,), ("sad", "add-2"): (0.48,)}  # fmt: skip
    rows = [
        {"task": "tiles", "normals": 50, "detector": detector, "arm": arm, "seed": seed, "sets": [],
         "auroc": {"all": one}}
        for (detector, arm), found in auroc.items() for seed, one in enumerate(found)
    ]  # fmt: skip
    other = {**rows[0], "normals": 600, "auroc": {"all": 0.1}}
    _, _, first, second = painted.by_arm([*rows, other], "tiles", 50, "all")
    assert first.startswith("| painted | +6.0 |") and "| +2.0 (dfm) |" in first  # (2 + 10) / 2
    assert second.startswith("| add-2 | +0.8 |") and "| -2.0 (sad) |" in second  # ((3 + 4) / 2 - 2) / 2
    assert "| -5.5 | 2 |" in second  # ((93 - 92) + (48 - 60)) / 2
