"""How photos become squares, measured: crop, squash and pad on a folder of photos with defects and masks.

    OMP_NUM_THREADS=1 python benchmarks/fits.py --data magnetic_tile --weights mobilenetv2_100_in1k.safetensors

SimpleNet at 128 and PatchCore at 256 pixels, preset cpu, 300 normals, three seeds, no anomalies. Row by row; rows that
are there are not measured again. Kept in results/fits.json: image AUROC of all defects, of those that the crop
cuts away whole and of the others, AUPRO; and, as the kinds of defect differ in the shape of their photos, AUROC within
matched shapes: each defective photo against the good ones that are nearest to it in width and height. A detector that
sees nothing but the shape is measured alike.

Then long, thin objects, made of the photos: tiles in a row, 1 to 8 of them at one height. In a defective row one tile
is defective. 200 good rows of training photos; 100 good and 100 defective ones of test photos.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photos import aupro
from PIL import Image

from kka.common.files import write_atomically
from kka.common.images import sizes_of
from kka.common.metrics import auroc, chance
from kka.common.pixels import square
from kka.data import open_task
from kka.data.layout import read_layout
from kka.data.sides import choose_sides
from kka.detectors import build_detector
from kka.detectors.graph import in_batches
from kka.settings.backbone import BackboneSettings

FITS = ("crop", "squash", "pad")
DETECTORS = {"simplenet": 128, "patchcore": 256}
SEEDS = (0, 1, 2)
NORMALS = 300
NEIGHBOURS = 20
"""Good photos that a defective one is compared with."""
ROWS = (1, 2, 3, 4, 6, 8)
"""Tiles in a long object."""
LONG_NORMALS, LONG_TESTED = 200, 100
HEIGHT = 256
RESULT = Path(__file__).parent / "results" / "fits.json"


def shapes_of(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) log width and log height of the test photos and of the training ones, in the order of a task."""
    layout = read_layout(data)
    sides = choose_sides(layout, source=str(data))
    found = []
    for paths in (sides.test, sides.train):
        sizes = list(sizes_of(layout.files[path] for path in paths))
        assert len(sizes) == len(paths), "rows are matched with files by their order"
        found.append(np.log(np.array(sizes, float)))
    return found[0], found[1]


def matched_auroc(scores: np.ndarray, is_anomaly: np.ndarray, shapes: np.ndarray) -> float:
    """The chance that a defective photo outscores a good one of nearly its own shape; ties count half."""
    good = np.flatnonzero(~is_anomaly)
    wins = []
    for i in np.flatnonzero(is_anomaly):
        distance = np.abs(shapes[good] - shapes[i]).sum(axis=1)
        near = good[np.argsort(distance, kind="stable")[:NEIGHBOURS]]
        wins.append(chance(scores[near], scores[[i]]))
    return float(np.mean(wins))


def detector_of(name: str, size: int, weights: Path, seed: int) -> Any:
    backbone = BackboneSettings(name="mobilenetv2_100", weights=str(weights), padding="same", mean=(0.5,), std=(0.5,))
    return build_detector(
        name, preset="cpu", overrides=[f"size={size}", f"crop={size}"], backbone=backbone, seed=seed
    )


def measured(data: Path, weights: Path, name: str, fit: str, seed: int) -> dict[str, Any]:
    """Of one way into squares, on the photos as they are."""
    size = DETECTORS[name]
    shapes, _ = shapes_of(data)
    task = open_task(str(data), describe="a photo", size=size, fit=fit)
    assert task.test is not None and not task.set_aside, "rows are matched with files by their order"
    is_anomaly, masks = task.test.is_anomaly, task.test.masks
    assert masks is not None
    lost = is_anomaly & ~masks.any(axis=(1, 2))
    chosen = np.random.default_rng(0).permutation(len(task.normals))[:NORMALS]
    started = time.process_time()
    detector = detector_of(name, size, weights, seed).fit(task.normals[np.sort(chosen)])
    seconds = time.process_time() - started
    scores = detector.score(task.test.images)
    grids = in_batches(detector.graph_.maps, task.test.images, torch.device("cpu"), batch=8)
    good = scores[~is_anomaly]
    kinds = np.where(is_anomaly, np.array(task.test.kinds), "good")
    return {
        "auroc": auroc(scores, is_anomaly), "auroc_whole_or_part": chance(good, scores[is_anomaly & ~lost]),
        "auroc_matched_shapes": matched_auroc(scores, is_anomaly, shapes),
        "aupro": aupro(grids, masks, kinds, size)["all"], "seconds": seconds, "cut_away": int(lost.sum()),
    }  # fmt: skip


def alone(data: Path) -> dict[str, float]:
    """What the shape of a photo says by itself: how far it is from the nearest training photo's."""
    shapes, known = shapes_of(data)
    sides = choose_sides(read_layout(data), source=str(data))
    is_anomaly = np.array([kind not in sides.normal for kind in sides.test.values()])
    distance = np.array([np.abs(known - shape).sum(axis=1).min() for shape in shapes])
    return {
        "auroc": auroc(distance, is_anomaly), "auroc_matched_shapes": matched_auroc(distance, is_anomaly, shapes)
    }


def photo_files(data: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Of training photos, and of good and of defective test photos."""
    layout = read_layout(data)
    sides = choose_sides(layout, source=str(data))
    odd = [layout.files[path] for path, kind in sides.test.items() if kind not in sides.normal]
    good = [layout.files[path] for path, kind in sides.test.items() if kind in sides.normal]
    return [layout.files[path] for path in sides.train], good, odd


def row_of(files: list[Path]) -> Image.Image:
    """Photos side by side at one height."""
    parts = []
    for file in files:
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        parts.append(picture.resize((max(1, round(picture.width * HEIGHT / picture.height)), HEIGHT)))
    page = Image.new("RGB", (sum(part.width for part in parts), HEIGHT))
    for i, part in enumerate(parts):
        page.paste(part, (sum(p.width for p in parts[:i]), 0))
    return page


def long_objects(data: Path, weights: Path, length: int, fit: str, seed: int) -> dict[str, float]:
    """Of one way into squares, on rows of `length` tiles; `seed` chooses the tiles too."""
    train, good, bad = photo_files(data)
    rng = np.random.default_rng(seed)

    def drawn(files: list[Path], n: int) -> list[Path]:
        return [files[i] for i in rng.choice(len(files), n, replace=False)]

    def defective() -> list[Path]:
        found = [*drawn(good, length - 1), *drawn(bad, 1)]
        return [found[i] for i in rng.permutation(length)]

    size = DETECTORS["patchcore"]
    sets = [[drawn(train, length) for _ in range(LONG_NORMALS)], [drawn(good, length) for _ in range(LONG_TESTED)]]
    sets.append([defective() for _ in range(LONG_TESTED)])
    rows = [[row_of(files) for files in every] for every in sets]
    ratio = float(np.median([picture.width / picture.height for picture in rows[0]]))
    known, fine, odd = (np.stack([np.asarray(square(x, size, fit)) for x in every]) for every in rows)
    detector = detector_of("patchcore", size, weights, seed).fit(known)
    return {"auroc": chance(detector.score(fine), detector.score(odd)), "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stored: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {"photos": [], "rows": []}
    stored["shape_alone"] = alone(options.data)

    def keep(kind: str, spec: dict[str, Any], found: dict[str, Any]) -> None:
        stored[kind].append({**spec, **found})
        write_atomically(RESULT, json.dumps(stored, indent=1) + "\n")
        print(kind, stored[kind][-1], file=sys.stderr, flush=True)

    def known(kind: str, spec: dict[str, Any]) -> bool:
        return any(row.items() >= spec.items() for row in stored[kind])

    for seed in SEEDS:
        for name in DETECTORS:
            for fit in FITS:
                spec: dict[str, Any] = {"detector": name, "fit": fit, "seed": seed}
                if not known("photos", spec):
                    keep("photos", spec, measured(options.data, options.weights, name, fit, seed))
        for length in ROWS:
            for fit in ("squash", "pad"):
                spec = {"tiles": length, "fit": fit, "seed": seed}
                if not known("rows", spec):
                    keep("rows", spec, long_objects(options.data, options.weights, length, fit, seed))
    print(*tables(stored), sep="\n")


def tables(stored: dict[str, Any]) -> list[str]:
    """Markdown: the photos by detector and fit, and long objects by their length; mean over seeds, in %."""
    names = {"simplenet": "SimpleNet", "patchcore": "PatchCore"}
    figures = ("auroc", "auroc_whole_or_part", "auroc_matched_shapes", "aupro")
    lines = ["| detector | fit | AUROC | of those that a crop leaves | among like shapes | AUPRO | seeds |",
             "|---|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for detector, size in DETECTORS.items():
        for fit in FITS:
            own = [row for row in stored["photos"] if (row["detector"], row["fit"]) == (detector, fit)]
            cells = [f"{100 * np.mean([row[figure] for row in own]):.1f}" for figure in figures] if own else []
            if cells:
                lines.append(f"| {names[detector]}, {size} px | {fit} | {' | '.join(cells)} | {len(own)} |")
    lines += ["", "| tiles in a row | width by height | squash | pad | seeds |", "|---:|---:|---:|---:|---:|"]
    for length in ROWS:
        by_fit = {
            fit: [row for row in stored["rows"] if (row["tiles"], row["fit"]) == (length, fit)]
            for fit in ("squash", "pad")
        }
        if all(by_fit.values()):
            ratio = np.mean([row["ratio"] for row in by_fit["squash"]])
            both = [f"{100 * np.mean([row['auroc'] for row in own]):.1f}" for own in by_fit.values()]
            lines.append(f"| {length} | {ratio:.1f} | {' | '.join(both)} | {len(by_fit['pad'])} |")
    return lines


if __name__ == "__main__":
    main()
