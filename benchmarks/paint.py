"""Pictures/s of `paint` by family of defect, at 128 pixels on one core, beside the floor.

The floor: a painter that keeps light and texture of a photo reads it as float32, estimates its light (one blur of the
luminance), makes one field of noise, blends one layer by one mask, and rounds to bytes; each over the whole picture,
with the same libraries. Its bytes are those of these passes, read and written. Rates are by processor time, which is
what a core gives when others use it too, and by the clock.

    OMP_NUM_THREADS=1 python benchmarks/paint.py --out benchmarks/results/paint.json
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from kka.defects.grammar import describe
from kka.defects.vocabulary import FAMILIES
from kka.garden.renderer import render
from kka.garden.tasks import DEFAULT_NORMAL, NORMALS
from kka.imaging.paint.painter import VERSION, Paint
from kka.imaging.paint.scene import LUMA
from kka.imaging.paint.shapes import noise

SIDE = 128
AIM = 100
"""Pictures/s on one core."""
FLOOR_BYTES = 4 * SIDE * SIDE * (0.25 * 3 + 3 + 3 + 1 + 1 + 1 + 2 + 1 + 3 * 3 + 1 + 3 + 3 * 0.25)
"""Read and written by each pass of `floor_work` over one picture of float32."""


def photos(count: int) -> np.ndarray:
    """Garden flowers, which have a background, and brushed plates, which have none, in turn: (count, 128, 128, 3)."""
    flowers = render([NORMALS[DEFAULT_NORMAL].draw(np.random.default_rng([2, i])) for i in range(count)], range(count))
    found = np.stack([cv2.resize(flower, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for flower in flowers])
    for i in range(0, count, 2):
        rng = np.random.default_rng(i)
        plate = 120 + 20 * noise(1, SIDE, 6, rng) + 8 * noise(SIDE, SIDE, 40, rng) + rng.normal(0, 4, (SIDE, SIDE))
        found[i] = np.clip(plate, 0, 255).astype(np.uint8)[..., None]
    return found


def floor_work(normals: np.ndarray) -> np.ndarray:
    """The least passes over the pictures."""
    out = np.empty_like(normals)
    for i, normal in enumerate(normals):
        photo = normal.astype(np.float32)
        light = cv2.GaussianBlur(photo @ LUMA, (0, 0), 2)
        field = noise(SIDE, SIDE, 16, np.random.Generator(np.random.SFC64(i)), 1)
        mask = np.clip(field, 0, 1)
        blended = photo + (light[..., None] - photo) * mask[..., None]
        out[i] = np.clip(blended, 0, 255).astype(np.uint8)
    return out


def rates(work: Callable[[], object], images: int, repeats: int) -> dict[str, float]:
    """Best pictures/s of the repeats, by processor time and by the clock."""
    best = {"per_core_second": 0.0, "per_second": 0.0}
    for _ in range(repeats):
        wall, busy = time.perf_counter(), time.process_time()
        work()
        found = images / (time.process_time() - busy), images / (time.perf_counter() - wall)
        best = {name: max(best[name], rate) for name, rate in zip(best, found, strict=True)}
    return {name: round(rate, 1) for name, rate in best.items()}


def main() -> None:
    """Measure, print, and write the result where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    n, repeats = options.images, options.repeats
    normals, paint = photos(n), Paint()
    captions = {name: [f"a clear {(family.nouns or family.masses)[0]}"] * n for name, family in FAMILIES.items()}
    captions["captions of the grammar"] = [describe(np.random.default_rng([3, i])) for i in range(n)]
    paint.alter(normals[:2], captions["crack"][:2], seeds=[0, 1])  # warm up
    floor = rates(lambda: floor_work(normals), n, repeats)
    print(f"{'floor':<24} {floor['per_core_second']:8.0f} /s of processor time", flush=True)
    rows = {}
    for name, texts in captions.items():
        rows[name] = rates(lambda texts=texts: paint.alter(normals, texts, seeds=range(n)), n, repeats)  # type: ignore[misc]
        print(f"{name:<24} {rows[name]['per_core_second']:8.0f} /s of processor time", flush=True)
    slowest = min(rows, key=lambda name: rows[name]["per_core_second"])
    result = {
        "what": __doc__.splitlines()[0] if __doc__ else "",
        "side": SIDE, "images": n, "repeats": repeats, "aim_per_core_second": AIM, "paint_version": VERSION,
        "floor": floor | {"bytes_a_picture": int(FLOOR_BYTES)},
        "pictures": rows, "slowest": slowest,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "machine": {"processor": platform.processor() or platform.machine(), "threads": cv2.getNumThreads()},
        "opencv": cv2.__version__, "numpy": np.__version__,
    }  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
