"""How photos become squares, measured: crop, squash and pad on a folder of photos with defects and masks.

    python benchmarks/fits.py --data magnetic_tile --weights mobilenetv2_100_in1k.safetensors --work fits

SimpleNet, preset cpu, trained on normals alone, one seed; what is trained is kept in --work. Written to
benchmarks/results/fits.json: image AUROC of all defects and of each kind, of those that the crop cuts away whole and of
the others, pixel AUROC and AUPRO; and, as the kinds of defect differ in the shape of their photos, AUROC within matched
shapes: each defective photo against the good ones that are nearest to it in width and height. A detector that sees
nothing but the shape is measured alike.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kka.common.images import sizes_of
from kka.common.inspection import inspect
from kka.common.metrics import auroc, chance
from kka.common.pixel_metrics import count_pixels
from kka.data import open_task
from kka.data.layout import read_layout
from kka.data.sides import choose_sides
from kka.detectors import build_detector
from kka.settings.backbone import BackboneSettings

FITS = ("crop", "squash", "pad")
NEIGHBOURS = 20
"""Good photos that a defective one is compared with."""
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


def figures(found: dict[str, np.ndarray], shapes: np.ndarray, lost: np.ndarray) -> dict[str, Any]:
    """Of one way into squares. `lost`: the photos of which a crop leaves nothing that the masks mark."""
    scores, is_anomaly, maps, masks = (found[name] for name in ("scores", "is_anomaly", "maps", "masks"))
    pixels = count_pixels(len(maps), lambda rows: maps[rows].astype(np.float32), masks.__getitem__)
    rows = inspect(scores, is_anomaly, found["kinds"].tolist(), pixels=pixels, known=found["masked"])
    by_kind = {row.kind: {name: [f.value, f.low, f.high] for name, f in row.figures.items()} for row in rows}
    good = scores[~is_anomaly]
    return {
        "auroc": auroc(scores, is_anomaly), "auroc_cut_away": chance(good, scores[is_anomaly & lost]),
        "auroc_whole_or_part": chance(good, scores[is_anomaly & ~lost]),
        "auroc_matched_shapes": matched_auroc(scores, is_anomaly, shapes), "by_kind": by_kind,
        "seconds": float(found["seconds"]),
    }  # fmt: skip


def trained(fit: str, options: argparse.Namespace) -> dict[str, Any]:
    """Scores and maps of the test photos, from --work where they are there."""
    file = options.work / f"{options.data.name}-{options.weights.stem}-{fit}-{options.size}-{options.normals}.npz"
    if not file.is_file():
        task = open_task(str(options.data), describe="a photo", size=options.size, fit=fit)
        assert task.test is not None and not task.set_aside, "rows are matched with files by their order"
        chosen = np.random.default_rng(0).permutation(len(task.normals))[: options.normals]
        backbone = BackboneSettings(
            name="mobilenetv2_100", weights=str(options.weights), padding="same", mean=(0.5,), std=(0.5,)
        )
        sizes = [f"size={options.size}", f"crop={options.size}"]
        started = time.perf_counter()
        detector: Any = build_detector("simplenet", preset="cpu", overrides=sizes, backbone=backbone, seed=0)
        detector.fit(task.normals[np.sort(chosen)])
        seconds = time.perf_counter() - started
        scores, maps = detector.score(task.test.images), detector.score_map(task.test.images)
        options.work.mkdir(parents=True, exist_ok=True)
        np.savez(
            file, scores=scores, maps=maps.astype(np.float16), is_anomaly=task.test.is_anomaly,
            kinds=np.array(task.test.kinds), seconds=seconds, masks=task.test.masks, masked=task.test.masked,
        )  # fmt: skip
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--normals", type=int, default=300)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    shapes, known = shapes_of(options.data)
    stored = {fit: trained(fit, options) for fit in FITS}
    crop = stored["crop"]
    lost = crop["is_anomaly"] & ~crop["masks"].any(axis=(1, 2))
    distance = np.array([np.abs(known - shape).sum(axis=1).min() for shape in shapes])
    result: dict[str, Any] = {
        "data": options.data.name, "size": options.size, "normals": options.normals, "seed": 0,
        "anomalies": int(crop["is_anomaly"].sum()), "cut_away": int(lost.sum()),
        "shape_alone": {
            "auroc": auroc(distance, crop["is_anomaly"]),
            "auroc_matched_shapes": matched_auroc(distance, crop["is_anomaly"], shapes),
        },
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
    }  # fmt: skip
    result["fits"] = {fit: figures(found, shapes, lost) for fit, found in stored.items()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for fit, row in result["fits"].items():
        print(fit, {name: round(value, 4) for name, value in row.items() if name != "by_kind"})


if __name__ == "__main__":
    main()
