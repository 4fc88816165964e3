"""What might help on photos, tried one by one: brightness, flips and small turns of the normals, positions, two scales.

    OMP_NUM_THREADS=1 python benchmarks/photo_ideas.py --data ../shared/data --weights mobilenetv2_100_in1k.safetensors

PatchCore, preset cpu, on `tuning` of photos.py: 480 good tiles to train with, 120 that stand for good ones, against the
defects fray and blowhole; two seeds. Kept in results/photo_ideas.json, row by row; rows that are there are not
measured again.

- brightness: each photo's mean and deviation, over all its pixels, become those of all normals.
- flips: each normal also mirrored, upside down, and both.
- turns: each normal also turned by 5 degrees to either side, its border mirrored outwards.
- positions: a patch's row and column stand beside its features, with 0.5 or 1 of the weight that the features have
  altogether, so that a patch is compared with those near its own place.
- scales: the mean of the scores (and of the maps) at 256 and at 128 pixels, each in deviations of the normals' patches.

And what more patches cost and bring, with and without `standardise` (units) and even brightness, seed 0 alone:
`px strides most` are the settings.
Then `standardise`, strides and the share of patches in a score on classes of flowers and aerial photos.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import photos
import torch
from photos import SHARES, Case, Pictures, aupro, by_kind, pictures, top_mean

from kka.common.files import write_atomically
from kka.detectors.graph import in_batches
from kka.detectors.patch_images import features_computed_once
from kka.detectors.patchcore.detector import PatchCore
from kka.detectors.patchcore.training import fill_bank
from kka.settings.backbone import BackboneSettings

OUT = Path(__file__).parent / "results" / "photo_ideas.json"
SEEDS = (0, 1)
FINER = [
    (256, (16, 32), 2000, True), (256, (16, 32), 2000, False), (256, (16, 32), 8000, False),
    (256, (8, 16), 2000, False), (256, (8, 16), 8000, False), (256, (8, 16, 32), 2000, False),
    (320, (16, 32), 2000, False), (320, (8, 16, 32), 2000, False), (320, (16, 32), 8000, False),
]  # fmt: skip
OTHERS = {"flowers 82": ("oxford102", ("82",)), "flowers 94": ("oxford102", ("94",)),
          "aerial 4+15": ("ucm_caption", ("4", "15"))}  # fmt: skip
"""Apart from what photos.py reports. 100 normals, 128 pixels."""
TURN = 5
CPU = torch.device("cpu")


def evened(images: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    """(n, h, w, 3) with each photo's own mean and deviation put to the given ones."""
    x = images.astype(np.float32)
    own = x.mean(axis=(1, 2, 3), keepdims=True)
    spread = x.std(axis=(1, 2, 3), keepdims=True).clip(min=1)
    return ((x - own) / spread * deviation + mean).round().clip(0, 255).astype(np.uint8)


def turned(images: np.ndarray, degrees: float) -> np.ndarray:
    """(n, h, w, 3) around their centres."""
    h, w = images.shape[1:3]
    matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), degrees, 1)
    return np.stack([cv2.warpAffine(x, matrix, (w, h), borderMode=cv2.BORDER_REFLECT_101) for x in images])


def by_detector(
    normals: np.ndarray, test: np.ndarray, backbone: BackboneSettings, seed: int, size: int, **changed: Any
) -> np.ndarray:
    """The maps (n, g, g) of the test pictures, by PatchCore as it is, or with changed settings."""
    settings = replace(PatchCore.PRESETS["cpu" if size >= 256 else "small"], size=size, crop=size, **changed)
    detector = PatchCore(settings=settings, backbone=backbone, seed=seed).fit(normals)
    return in_batches(detector.graph_.maps, test, CPU, batch=4)


def with_positions(
    normals: np.ndarray, test: np.ndarray, backbone: BackboneSettings, seed: int, weight: float
) -> np.ndarray:
    """The maps by a bank of patches that know their places."""
    settings = PatchCore.PRESETS["cpu"]
    with features_computed_once(settings, backbone, seed=seed, device=CPU) as (extract, stored):
        of_normals = stored(normals)
        side = round(of_normals.shape[1] ** 0.5)
        grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij"), dim=-1).view(-1, 2)
        spread = grid.var(dim=0).sum().sqrt()
        whole = fill_bank(of_normals, None, settings=settings, seed=seed, device=CPU)
        places = grid / spread * weight * whole.normals.var(dim=0).sum().sqrt()

        class Placed:
            """Standard features, with places."""

            shape = (*of_normals.shape[:2], of_normals.shape[2] + 2)

            def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
                x = whole.standard(of_normals[index])
                return torch.cat([x, places.expand(len(x), -1, -1)], dim=2)

        plain = replace(settings, standardise=False, dimension=Placed.shape[2])
        features: Any = Placed()
        bank = fill_bank(features, None, settings=plain, seed=seed, device=CPU)

        def maps(pixels: torch.Tensor) -> torch.Tensor:
            x = whole.standard(extract(pixels))
            return bank.answers(torch.cat([x, places.expand(len(x), -1, -1)], dim=2)).unflatten(1, (side, side))

        return in_batches(maps, test, CPU, batch=16)


def of_two_scales(normals: np.ndarray, test: np.ndarray, backbone: BackboneSettings, seed: int) -> np.ndarray:
    """Maps at 256 and 128 pixels, in units of what normals not remembered would have, put together on the finer."""
    parts = []
    for size in (256, 128):
        grids = by_detector(normals, test, backbone, seed, size)
        known = by_detector(normals[::2], normals[1::2], backbone, seed, size)
        parts.append(torch.from_numpy((grids - known.mean()) / known.std())[:, None])
    fine = parts[0].shape[2:]
    both = [torch.nn.functional.interpolate(part, fine, mode="bilinear", align_corners=False) for part in parts]
    found: np.ndarray = torch.stack(both).mean(dim=0)[:, 0].numpy()
    return found


def ideas(found: Pictures, data: Path, backbone: BackboneSettings, seed: int) -> dict[str, Callable[[], np.ndarray]]:
    """What gives the maps of each."""
    x, test = found.normals, found.test
    mean, deviation = float(x.mean()), float(np.mean([image.std() for image in x]))
    mirrored = [x[:, :, ::-1], x[:, ::-1], x[:, ::-1, ::-1]]
    both_ways = [turned(x, TURN), turned(x, -TURN)]

    def plain(normals: np.ndarray, pictures: np.ndarray = test) -> np.ndarray:
        return by_detector(np.ascontiguousarray(normals), pictures, backbone, seed, 256)

    def finer(
        size: int, strides: tuple[int, ...], most: int, standardise: bool, even: bool
    ) -> Callable[[], np.ndarray]:
        def found() -> np.ndarray:
            task = pictures(Case("tuning", "patchcore", size), data)
            known, seen = task.normals, task.test
            if even:
                known, seen = evened(known, mean, deviation), evened(seen, mean, deviation)
            changed = dict(strides=strides, most=most, standardise=standardise)
            return by_detector(known, seen, backbone, seed, size, **changed)

        return found

    combined = {named(case): finer(*case, even=False) for case in FINER} if seed == 0 else {}
    combined |= {f"{named(case)} even": finer(*case, even=True) for case in FINER[:3]} if seed == 0 else {}
    return combined | {
        "as it is": lambda: plain(x),
        "brightness": lambda: plain(evened(x, mean, deviation), evened(test, mean, deviation)),
        "flips": lambda: plain(np.concatenate([x, *mirrored])),
        "turns": lambda: plain(np.concatenate([x, *both_ways])),
        "positions 0.5": lambda: with_positions(x, test, backbone, seed, 0.5),
        "positions 1": lambda: with_positions(x, test, backbone, seed, 1.0),
        "scales": lambda: of_two_scales(x, test, backbone, seed),
    }


def named(case: tuple[int, tuple[int, ...], int, bool]) -> str:
    """Of a combination of settings."""
    size, strides, most, units = case
    return f"{size} {'+'.join(map(str, strides))} {most}{' units' if units else ''}"


def on_others(data: Path, backbone: BackboneSettings) -> list[dict[str, Any]]:
    """AUROC on classes of flowers and aerial photos, for each share of patches that a score is the mean of."""
    rows = []
    for task, chosen in OTHERS.items():
        photos.CLASSES[task] = chosen
        found = pictures(Case(task, "patchcore", 128), data)
        for strides in ((16, 32), (8, 16), (8, 16, 32)):
            for standardise in (True, False):
                changed: dict[str, Any] = dict(strides=strides, standardise=standardise)
                grids = by_detector(found.normals, found.test, backbone, 0, 128, **changed)
                shares = {str(share): by_kind(top_mean(grids, share), found.kinds)["all"] for share in SHARES}
                rows.append({"task": task, **changed, "by_share": shares})
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """A line an idea: mean over seeds, and the least and most."""
    for idea in dict.fromkeys(row["idea"] for row in rows):
        own = [row for row in rows if row["idea"] == idea]
        kinds = {kind: 100 * np.array([row["auroc"][kind] for row in own]) for kind in own[0]["auroc"]}
        told = [f"{kind} {v.mean():.1f} ({v.min():.1f} to {v.max():.1f})" for kind, v in kinds.items()]
        pro = 100 * np.mean([row["aupro"]["all"] for row in own])
        seconds = np.mean([row["seconds"] for row in own])
        print(f"{idea:24} {'; '.join(told)}; AUPRO {pro:.1f}; {seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stored: dict[str, Any] = json.loads(OUT.read_text()) if OUT.is_file() else {"rows": []}
    rows: list[dict[str, Any]] = stored["rows"]
    found = pictures(Case("tuning", "patchcore", 256), options.data)
    backbone = BackboneSettings(
        name="mobilenetv2_100", weights=str(options.weights), padding="same", mean=(0.5,), std=(0.5,)
    )
    if "others" not in stored:
        stored["others"] = on_others(options.data, backbone)
        write_atomically(OUT, json.dumps(stored, indent=1) + "\n")
    for seed in SEEDS:
        for idea, maps in ideas(found, options.data, backbone, seed).items():
            if any(row["idea"] == idea and row["seed"] == seed for row in rows):
                continue
            started = time.process_time()
            grids = maps()
            scores = top_mean(grids, PatchCore.PRESETS["cpu"].score_top)
            shares = {str(share): by_kind(top_mean(grids, share), found.kinds)["all"] for share in SHARES}
            rows.append({
                "idea": idea, "seed": seed, "seconds": time.process_time() - started,
                "auroc": by_kind(scores, found.kinds), "by_share": shares,
                "aupro": aupro(grids, found.masks, found.kinds, 256),
            })  # fmt: skip
            write_atomically(OUT, json.dumps(stored, indent=1) + "\n")
            print(seed, idea, rows[-1]["auroc"], rows[-1]["aupro"]["all"], file=sys.stderr, flush=True)
    show(rows)


if __name__ == "__main__":
    main()
