"""Peak memory of commands on 1,000, 10,000 and 100,000 photos of 128 pixels, and on as many anomalies.

    OMP_NUM_THREADS=1 python benchmarks/many_photos.py            # goes on where it was stopped
    OMP_NUM_THREADS=1 python benchmarks/many_photos.py --rows "open" "train sad" --sizes 1000 10000
    python benchmarks/many_photos.py --plot                       # docs/figures/memory.png, from what is stored

The photos are made: flowers of the garden at 128 pixels, shifted and dimmed so that no two are equal, JPEG. Each row is
a real command in processes of its own, with trainings of one epoch: memory does not grow with epochs. `held` is the
largest memory that its processes held together, looked at 20 times a second, without pages of mapped files, which the
system takes back where it needs the room; `resident` is with them. The floor of growth is 0; what was held before
(pixels in memory) is `pixels`. Kept, row by row, in results/many_photos.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kka.common.files import write_atomically

SIZES = (1_000, 10_000, 100_000)
SIDE = 128
RESULT = Path(__file__).parent / "results" / "many_photos.json"
EPOCH = ("epochs=1", "pretrain_epochs=1")
BACKBONE = ("--backbone.name", "mobilenetv2_100", "--backbone.weights", "random", "--preset", "cpu")
DESCRIBE = ("--describe", "a photo of a flower")
IN_PYTHON = """
import sys, time
from kka.data import open_task
import kka.data.folder
from kka.algorithm.deep_sad import pretrain, train_deep_sad
from kka.settings.deep_sad import DeepSADSettings
opened = time.perf_counter()
task = open_task(sys.argv[1], describe="a photo of a flower", size=128)
opened = time.perf_counter() - opened
if sys.argv[2] == "train":
    settings = DeepSADSettings(epochs=1, milestones=(), pretrain_epochs=0)
    start = pretrain(task.normals[:64], settings=settings, seed=0)
    begun = time.perf_counter()
    train_deep_sad(task.normals, settings=settings, seed=0, start=start)
    print("SECONDS", time.perf_counter() - begun)
else:
    print("SECONDS", opened)
"""


def make(folder: Path, number: int) -> None:
    """The photos that are not there yet."""
    from kka.data import open_task

    flowers = [np.asarray(Image.fromarray(flower).resize((SIDE, SIDE))) for flower in open_task("garden").normals]
    rng = np.random.default_rng(0)
    for k in range(number):
        file = folder / f"{k:06}.jpg"
        down, right, light = *rng.integers(0, SIDE, 2), rng.uniform(0.7, 1)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            moved = np.roll(flowers[k % len(flowers)], (down, right), axis=(0, 1)) * light
            Image.fromarray(moved.astype(np.uint8)).save(file, quality=90)


def commands(name: str, photos: Path, number: int, work: Path) -> list[str]:
    """What a row runs."""
    kka = [sys.executable, "-m", "kka.cli"]
    data = ["--data", str(photos), *DESCRIBE, "--size", str(SIDE), "--out", str(work / "out")]
    run = ["--seeds", "1", "--detector", "sad", "--set", *EPOCH, "--sad.epochs", "1", "--sad.pretrain-epochs", "1",
           "--autoencoder-epochs", "1", "--language.dpo-steps", "4"]  # fmt: skip
    if name in ("open", "open again", "rate"):
        return [sys.executable, "-c", IN_PYTHON, str(photos), "train" if name == "rate" else "open"]
    if name == "train sad":
        return [*kka, "train", *data, "--detector", "sad", "--set", *EPOCH]
    if name in ("train dfm", "train patchcore"):
        return [*kka, "train", *data, "--detector", name.split()[1], *BACKBONE]
    if name == "train simplenet":
        return [*kka, "train", *data, "--detector", "simplenet", *BACKBONE, "--set", "epochs=1"]
    if name == "run":
        return [*kka, "run", *data, *run, "--rounds", "1", "--initial", "200", "--fresh", "200"]
    assert name == "pool"
    return [*kka, "run", *data, *run, "--rounds", "0", "--initial", str(number)]


def watched(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Its seconds, and the largest memory that it and its processes held, in MiB."""
    import psutil

    held = resident = 0
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        top = psutil.Process(process.pid)
        while process.poll() is None:
            found = []
            try:
                found = [one.memory_info() for one in (top, *top.children(recursive=True))]
            except psutil.Error:  # one has ended
                continue
            finally:
                time.sleep(0.05)
            held = max(held, sum(one.rss - one.shared for one in found))
            resident = max(resident, sum(one.rss for one in found))
        seconds = time.perf_counter() - started
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{text[-3000:]}")
    if "SECONDS" in text:  # of the work itself
        seconds = float(text.rsplit("SECONDS", 1)[1])
    return {"held_mb": round(held / 2**20, 1), "resident_mb": round(resident / 2**20, 1), "seconds": round(seconds, 1)}


def plot(rows: dict[str, Any], file: Path) -> None:
    """Memory held by each command against the number of photos; pixels alone as a dotted line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    for name in dict.fromkeys(key.rsplit(" ", 1)[0] for key in rows):
        found = sorted((int(key.rsplit(" ", 1)[1]), row["held_mb"]) for key, row in rows.items()
                       if key.rsplit(" ", 1)[0] == name)  # fmt: skip
        if name not in ("rate", "open again"):
            axes.plot(*zip(*found, strict=True), marker="o", label={"pool": "run, so many anomalies"}.get(name, name))
    pixels = [number * SIDE**2 * 3 / 2**20 for number in SIZES]
    axes.plot(SIZES, pixels, ":", color="grey", label="the pixels alone")
    axes.set(xscale="log", xlabel=f"photos of {SIDE} pixels", ylabel="memory held at the peak, MiB", ylim=(0, 5000))
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=150)


def show(rows: dict[str, Any]) -> list[str]:
    """The table of docs/scale.md."""
    names = {
        "open": "opening", "open again": "opening again", "rate": "Deep SAD, in Python", "run": "`kka run`, one round",
        "pool": "`kka run` on 1,000, so many anomalies",
    }  # fmt: skip
    lines = ["| command | 1,000 photos | 10,000 | 100,000 |", "|---|---:|---:|---:|"]
    for name in ROWS:
        found = [rows.get(f"{name} {number}") for number in SIZES]
        cells = ["–" if row is None else f"{row['held_mb']:,.0f}" for row in found]
        if any(found):
            title = names.get(name, f"`kka {name.replace(' ', ' --detector ')}`")
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


ROWS = ("open", "open again", "rate", "train dfm", "train sad", "run", "pool", "train simplenet", "train patchcore")


def main() -> None:
    """Measure what is not stored, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=ROWS)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--work", type=Path, default=Path("runs/many_photos"), help="where the photos are made")
    parser.add_argument("--redo", action="store_true")
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--show", action="store_true")
    asked = parser.parse_args()
    stored: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {"rows": {}}
    if asked.plot:
        return plot(stored["rows"], Path("docs/figures/memory.png"))
    if asked.show:
        return print("\n".join(show(stored["rows"])))
    stored["machine"] = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1}
    for number in asked.sizes:
        for name in asked.rows:
            key = f"{name} {number}"
            if key in stored["rows"] and not asked.redo:
                continue
            photos = asked.work / ("1000" if name == "pool" else str(number))
            make(photos, 1000 if name == "pool" else number)
            with tempfile.TemporaryDirectory(dir=asked.work) as scratch:
                cache = Path(scratch) / "cache" if name == "open" else asked.work / "cache"
                environment = os.environ | {"KKA_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
                command = commands(name, photos, number, Path(scratch))
                if name == "open again":
                    watched(command, environment)
                row = watched(command, environment)
            row["load"] = round(os.getloadavg()[0], 1)
            stored["rows"][key] = row
            print(f"{key:24}  {row}", flush=True)
            write_atomically(RESULT, json.dumps(stored, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
