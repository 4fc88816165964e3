"""Large photos with small defects: `--fit squash` beside `--fit tile`, PatchCore at 256 pixels, on mosaics of tiles.

    OMP_NUM_THREADS=1 python benchmarks/tiles.py --data magnetic_tile --weights mobilenetv2_100_in1k.safetensors

The photos are made, of real ones: each is 4 x 4 cells of 192 x 192 pixels, cut at full resolution out of photos of
magnetic tiles, with dark gaps between them, 848 pixels a side. Good ones have good tiles alone; anomalous ones have one
defective tile among fifteen good ones, a blowhole (12 pixels wide by the median) or a crack. 16 photos to learn from
are made of the data's training photos, 16 good and 32 anomalous ones to test with of its test photos; within a photo no
tile occurs twice, between photos good tiles do, in other cuts. The seed deals tiles and cuts, and is the detector's.

A row is a process of its own, with an empty cache. Image AUROC of all and by kind; AUPRO and pixel AUROC of maps at the
photos' full size (those of squash are brought there); CPU seconds of the training and of a photo's score, and the
memory that both add to what is loaded. Of tiles also the AUROC by how tile scores become the photo's: the highest, the
mean of the highest 2, 3, 5, or of all. Kept in results/tiles.json, and the tables in docs/photos.md; rows that are
there are not measured again; `--show` measures nothing.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detector_row import memory_mb
from photos import apart, of_grids
from PIL import Image

from kka.common.files import write_atomically
from kka.common.metrics import chance
from kka.common.pixel_metrics import count_pixels
from kka.common.tiles import PhotoMap
from kka.data import open_task
from kka.deploy.whole import scores_of, some_of, tiles_of
from kka.detectors import build_detector
from kka.detectors.graph import in_batches
from kka.detectors.heatmaps import photo_maps
from kka.protocols import Pictures
from kka.settings.backbone import BackboneSettings
from kka.settings.fit import Fit

OUT = Path(__file__).parent / "results" / "tiles.json"
PAGE = Path(__file__).parents[1] / "docs" / "photos.md"
CELL, CELLS, GAP, DARK = 192, 4, 16, 30
SIDE = CELLS * CELL + (CELLS + 1) * GAP
SIZE = 256
KINDS = ("blowhole", "crack")
TRAINED, GOOD, EACH = 16, 16, 16
SEEDS = (0, 1, 2)
FITS: tuple[Fit, ...] = ("squash", "tile")
HIGHEST = (1, 2, 3, 5)
TIMED = 4
"""Photos that are scored by the clock."""


def grey(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("L"))


class Cuts:
    """Cells out of the photos of a folder that are large enough."""

    def __init__(self, photos: Path, masks: Path | None = None) -> None:
        self.pairs = []
        for file in sorted(photos.iterdir()):
            photo = grey(file)
            if min(photo.shape) >= CELL:
                mask = None if masks is None else grey(masks / f"{file.stem}_mask.png") > 127
                self.pairs.append((photo, mask))

    def cell(self, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Somewhere of a photo; with a mask, where the middle of what it marks is seen."""
        photo, mask = self.pairs[number]
        most = np.array(photo.shape) - CELL
        if mask is None:
            y, x = rng.integers(0, most + 1)
            return photo[y : y + CELL, x : x + CELL], np.zeros((CELL, CELL), bool)
        marked = np.argwhere(mask)
        middle = marked[np.abs(marked - np.median(marked, axis=0)).sum(axis=1).argmin()]
        y, x = np.clip(middle - rng.integers(CELL // 4, 3 * CELL // 4, 2), 0, most)
        return photo[y : y + CELL, x : x + CELL], mask[y : y + CELL, x : x + CELL]


def mosaic(cells: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    photo, mask = np.full((SIDE, SIDE), DARK, np.uint8), np.zeros((SIDE, SIDE), bool)
    for i, (own, marked) in enumerate(cells):
        y, x = (GAP + k * (CELL + GAP) for k in divmod(i, CELLS))
        photo[y : y + CELL, x : x + CELL], mask[y : y + CELL, x : x + CELL] = own, marked
    return photo, mask


def make(data: Path, folder: Path, seed: int) -> None:
    """The photos of a seed, as MVTec AD lays them out."""
    rng = np.random.default_rng(seed)
    learnt, good = Cuts(data / "train/good"), Cuts(data / "test/good")
    defects = {kind: Cuts(data / "test" / kind, data / "ground_truth" / kind) for kind in KINDS}

    def write(name: str, number: int, source: Cuts, defect: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        chosen = rng.permutation(len(source.pairs))[: CELLS**2]
        cells = [source.cell(k, rng) for k in chosen]
        if defect is not None:
            cells[rng.integers(len(cells))] = defect
        photo, mask = mosaic(cells)
        places = [(folder / name / f"{number:03}.png", photo)]
        if defect is not None:
            marked = np.where(mask, 255, 0).astype(np.uint8)
            places.append((folder / "ground_truth" / Path(name).name / f"{number:03}_mask.png", marked))
        for path, picture in places:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)

    for i in range(TRAINED):
        write("train/good", i, learnt)
    for i in range(GOOD):
        write("test/good", i, good)
    for kind, source in defects.items():
        for i, k in enumerate(rng.permutation(len(source.pairs))[:EACH]):
            write(f"test/{kind}", i, good, source.cell(k, rng))


def measured(fit: Fit, seed: int, data: Path, weights: Path) -> dict[str, Any]:
    """The figures of a row."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        make(data, folder, seed)
        task = open_task(str(folder), describe="a photo", size=SIZE, fit=fit)
        full = open_task(str(folder), describe="a photo", size=SIZE, fit="tile")  # of which the masks are at full size
        assert task.test is not None and full.test is not None and full.test.photos is not None
        backbone = BackboneSettings(
            name="mobilenetv2_100", weights=str(weights), padding="same", mean=(0.5,), std=(0.5,)
        )
        detector: Any = build_detector("patchcore", preset="cpu", backbone=backbone, seed=seed)
        before = memory_mb()["now"]
        cpu = time.process_time()
        detector.fit(task.normals)
        row: dict[str, Any] = {"fit": fit, "seed": seed, "train_cpu_seconds": time.process_time() - cpu}
        row |= {"pictures": len(task.normals), "bank": len(detector.graph_.bank.normals)}
        cpu = time.process_time()
        timed = scores_of(detector, some_of(task.test.pictures, np.arange(TIMED)))
        row["score_cpu_seconds"] = (time.process_time() - cpu) / TIMED
        row["peak_mb"] = memory_mb()["peak"] - before
        seen = [look(detector, task.test.pictures, i) for i in range(len(task.test.is_anomaly))]
        scores = np.array([tiles[0] for tiles, _ in seen])
        np.testing.assert_allclose(scores[:TIMED], timed, rtol=1e-3)
        kinds = np.where(task.test.is_anomaly, np.array(task.test.kinds), "good")
        row["auroc"] = by_kind(scores, kinds)
        if fit == "tile":
            row["auroc_by_pooling"] = by_pooling([tiles for tiles, _ in seen], kinds)
        photos = full.test.photos
        counts = count_pixels(
            len(seen), lambda rows: (seen[i][1] for i in rows), lambda rows: (photos.mask(int(i)) for i in rows)
        )
        return row | counts.figures(np.ones((1, len(seen))))[0]


def look(detector: Any, pictures: Pictures, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The scores of a photo's tiles, the highest first, and its map, of one pass through the network."""

    def seen(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        grids = in_batches(detector.graph_.maps, squares, torch.device("cpu"), batch=16)
        heat = photo_maps(torch.from_numpy(grids), (SIZE, SIZE), size=SIZE, crop=SIZE).numpy()
        return of_grids(grids, dataclasses.asdict(detector.settings)), heat

    if isinstance(pictures, np.ndarray):
        scores, heat = seen(pictures[[number]])
        return scores, np.asarray(Image.fromarray(heat[0]).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    photo = pictures.read(number)
    whole, found = PhotoMap(photo.size, SIZE, pictures.overlap), []
    for places, tiles in tiles_of(photo, pictures):
        scores, heats = seen(tiles)
        found.append(scores)
        for place, heat in zip(places, heats, strict=True):
            whole.add(*place, heat)
    return np.sort(np.concatenate(found))[::-1], whole.found


def by_kind(scores: np.ndarray, kinds: np.ndarray) -> dict[str, float]:
    """AUROC of all anomalous photos and of each kind, against the good ones."""
    good = scores[kinds == "good"]
    odd = {"all": kinds != "good"} | {kind: kinds == kind for kind in KINDS}
    return {name: chance(good, scores[rows]) for name, rows in odd.items()}


def by_pooling(tiles: list[np.ndarray], kinds: np.ndarray) -> dict[str, dict[str, float]]:
    """AUROC by what a photo's score is made of: the mean of so many of its highest tiles, or of all."""
    found = {str(k): np.array([scores[:k].mean() for scores in tiles]) for k in HIGHEST}
    found["all"] = np.array([scores.mean() for scores in tiles])
    return {name: by_kind(scores, kinds) for name, scores in found.items()}


def told(values: list[float], digits: int = 1) -> str:
    """The mean and, over several seeds, the lowest and highest."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: figures in %, mean over seeds and their range."""
    lines = [
        "| `--fit` | AUROC, all | blowhole | crack | pixel AUROC | AUPRO | training, CPU s | CPU s a photo | MB |",
        "|---|" + "---:|" * 8,
    ]
    for fit in FITS:
        own = [row for row in rows if row["fit"] == fit]
        if own:
            cells = [told([100 * row["auroc"][kind] for row in own]) for kind in ("all", *KINDS)]
            cells += [told([100 * row[name] for row in own]) for name in ("pixel_auroc", "aupro")]
            cells += [f"{np.mean([row['train_cpu_seconds'] for row in own]):.0f}"]
            cells += [f"{np.mean([row['score_cpu_seconds'] for row in own]):.2f}"]
            cells += [f"{max(row['peak_mb'] for row in own):.0f}"]
            lines.append("| " + " | ".join([f"`{fit}`", *cells]) + " |")
    return lines


def pooling_table(rows: list[dict[str, Any]]) -> list[str]:
    """AUROC of all by pooling, mean over seeds and their range."""
    own = [row["auroc_by_pooling"] for row in rows if "auroc_by_pooling" in row]
    names = {"1": "the highest", **{str(k): f"mean of {k}" for k in HIGHEST[1:]}, "all": "mean of all"}
    return [
        "| tiles of which the photo's score is made | " + " | ".join(names.values()) + " |",
        "|---|" + "---:|" * len(names),
        "| AUROC, all | " + " | ".join(told([100 * row[key]["all"] for row in own]) for key in names) + " |",
    ]


def write_page(rows: list[dict[str, Any]]) -> None:
    """The tables in docs/photos.md, between their marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition("<!-- tiles -->\n")
    _, end, after = rest.partition("<!-- /tiles -->")
    if end and rows:
        parts = "\n".join([*table(rows), "", *pooling_table(rows)])
        write_atomically(PAGE, f"{before}<!-- tiles -->\n{parts}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(options.out.read_text())["rows"] if options.out.is_file() else []
    for seed, fit in [] if options.show else [(seed, fit) for seed in SEEDS for fit in FITS]:
        if not any((row["seed"], row["fit"]) == (seed, fit) for row in rows):
            work = (fit, seed, options.data, options.weights)
            rows.append(apart(lambda work=work: measured(*work)))  # type: ignore[misc]
            whole = {"backbone": options.weights.name, "size": SIZE, "photo": SIDE, "rows": rows}
            write_atomically(options.out, json.dumps(whole, indent=1) + "\n")
            print(rows[-1], file=sys.stderr, flush=True)
    write_page(rows)
    print("\n".join([*table(rows), "", *pooling_table(rows)]))


if __name__ == "__main__":
    main()
