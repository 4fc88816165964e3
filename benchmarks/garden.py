"""Images/s of the garden's renderer on one core, beside its floor and a plain per-image drawing with PIL.

The floor: an image cannot be drawn faster than its sensor noise is made (one normal number for each of its 64 x 64 x 3
bytes) and its float canvas is read and written once; both are measured here. The plain alternative draws the same
flowers petal by petal as polygons with PIL at four times the size and scales down: the usual way to get smooth
outlines. It draws less (no texture, shading, shadow or blur).

    OMP_NUM_THREADS=1 python benchmarks/garden.py --out garden.json
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kka.garden.backdrop import SIZE
from kka.garden.palette import BACKGROUND_RGB, CENTER_RADIUS, CENTER_RGB, LIGHT, PETAL_RGB
from kka.garden.renderer import render
from kka.garden.tasks import DEFAULT_NORMAL, NORMALS
from kka.garden.vocabulary import PETALS, Flower, fill

SCALE = 4
AIM = 500
"""Images/s on one core."""


def bytes_rgb(color: tuple[float, ...]) -> tuple[int, int, int]:
    """0..1 floats to bytes."""
    red, green, blue = (int(255 * c) for c in color)
    return red, green, blue


def draw_plainly(flower: Flower, seed: int) -> np.ndarray:
    """One flower with PIL: background, petals as ellipses in polygons, center, light, noise. (64, 64, 3) uint8."""
    rng = np.random.default_rng(seed)
    side = SIZE * SCALE
    image = Image.new("RGB", (side, side), bytes_rgb(BACKGROUND_RGB[flower.background][1]))
    pen = ImageDraw.Draw(image)
    count = {"single": 1, "pair": 2, "trio": 3, "ring": 6, "spike": 6}[flower.arrangement]
    radius = side * (0.38 if count == 1 else 0.2 if count < 4 else 0.11)
    for bloom in range(count):
        around = 0 if count == 1 else side * 0.24
        x = side / 2 + around * math.cos(2 * math.pi * bloom / count)
        y = side / 2 + around * math.sin(2 * math.pi * bloom / count)
        petals, turn = PETALS[flower.number], rng.random() * 2 * math.pi
        t = np.linspace(0, 2 * np.pi, 40)
        for petal in range(petals):
            angle = turn + 2 * math.pi * petal / petals
            along, across = radius * (0.5 + 0.5 * np.cos(t)), radius * 0.3 * np.sin(t)
            px = x + along * math.cos(angle) - across * math.sin(angle)
            py = y + along * math.sin(angle) + across * math.cos(angle)
            shade = 0.85 + 0.15 * rng.random()
            tone = bytes_rgb(tuple(shade * c for c in PETAL_RGB[flower.color]))
            pen.polygon(list(zip(px.tolist(), py.tolist(), strict=True)), fill=tone, outline=(40, 40, 40))
        r = radius * CENTER_RADIUS[flower.center_size]
        pen.ellipse((x - r, y - r, x + r, y + r), fill=bytes_rgb(CENTER_RGB[flower.center_color]))
    small = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), np.float32)
    small = small * np.array(LIGHT[flower.light][:3], np.float32) + 3 * rng.standard_normal(small.shape, np.float32)
    return np.clip(small, 0, 255).astype(np.uint8)


def rate(work: Callable[[], object], images: int, repeats: int) -> tuple[float, float]:
    """Best images/s of the repeats: by the clock, and by processor time (what a core gives when others use it too)."""
    clock = processor = 0.0
    for _ in range(repeats):
        wall, busy = time.perf_counter(), time.process_time()
        work()
        clock = max(clock, images / (time.perf_counter() - wall))
        processor = max(processor, images / (time.process_time() - busy))
    return clock, processor


def floor_work(count: int) -> np.ndarray:
    """The least that any renderer of noisy 64x64 pictures does: make the noise, add it to a canvas, round to bytes."""
    canvas = np.full((3, SIZE, SIZE), 0.5, np.float32)
    out = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for i in range(count):
        noise = np.random.Generator(np.random.SFC64(i)).standard_normal((3, SIZE, SIZE), dtype=np.float32)
        out[i] = np.clip((canvas + 0.01 * noise) * 255, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return out


def main() -> None:
    """Measure, print, and write the result where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    n, repeats = options.images, options.repeats
    whole = [fill({}, np.random.default_rng([1, i])) for i in range(n)]
    normals = [NORMALS[DEFAULT_NORMAL].draw(np.random.default_rng([2, i])) for i in range(n)]
    render(whole[:48], range(48))  # warm up
    jobs: dict[str, Callable[[], object]] = {
        "renderer, whole garden": lambda: render(whole, range(n)),
        "renderer, normal kind": lambda: render(normals, range(n)),
        "plain PIL, whole garden": lambda: [draw_plainly(f, i) for i, f in enumerate(whole)],
        "floor: noise and rounding": lambda: floor_work(n),
    }
    rates = {name: rate(job, n, repeats) for name, job in jobs.items()}
    print(f"{'images/s on one core':28} {'clock':>9} {'processor':>10}")
    for name, (clock, processor) in rates.items():
        print(f"{name:28} {clock:9.0f} {processor:10.0f}")
    reached = rates["renderer, whole garden"][1]
    print(f"aim {AIM}: {'reached' if reached >= AIM else 'missed'}; bytes an image {SIZE * SIZE * 3}")
    if options.out:
        result = {
            "benchmark": "garden",
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "images": n,
            "repeats": repeats,
            "aim_images_per_second": AIM,
            "images_per_second": {k: {"clock": c, "processor": p} for k, (c, p) in rates.items()},
        }
        options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
