"""What a Ray cluster on this machine adds and costs: pictures a second by actors, real work on cores, overhead.

    python benchmarks/ray_scaling.py [--parts waiting work overhead] [--out FILE]

waiting: an image model that waits 100 ms a picture, as a server or a GPU does, by 1 to 16 actors (Ray is told of as
many cores, which the work does not need): pictures a second, and as a share of so many times one actor's.
work: pictures of paint on plates of 256 pixels, by one actor and by as many as there are cores, in turn.
overhead: the small cells of an experiment (Deep SAD for one epoch) by `kka experiment --jobs` and by `--ray local`,
from the start of the command to its end, in turn.

Measurements in --out are kept; a part that is there is not measured again. CPU alone. With --plot the figure alone.
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from kka.algorithm.altering import alter_pictures
from kka.algorithm.pictures import draw_pictures
from kka.common.cluster import Cluster
from kka.common.files import write_atomically
from kka.experiments.engine.drawing import figure
from kka.imaging.paint.painter import Paint
from kka.protocols import Images
from kka.settings.needs import Needs

SECONDS = 0.1
ACTORS = (1, 2, 4, 8, 16)
EACH = 300
"""Pictures an actor, of the model that waits."""
PAINTED = 1600
PAIRS = 3


class Waits:
    """An image model that waits, then gives a picture of one colour and a stripe, by caption and seed."""

    identity = "waits/1"
    batch_size = 4

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        time.sleep(SECONDS * len(captions))
        pictures = np.empty((len(captions), 64, 64, 3), np.uint8)
        for picture, caption, seed in zip(pictures, captions, seeds, strict=True):
            picture[:] = (len(caption) * 7 + seed) % 256
            picture[:, :8] = 255 - picture[:, :8]
        return pictures


def waiting(actors: int) -> dict[str, Any]:
    """Pictures a second by so many actors, from when all of them have begun."""
    import ray

    ray.init("local", num_cpus=actors, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
             object_store_memory=200 * 2**20)  # fmt: skip
    try:
        with Cluster("local") as cluster:
            captions, seeds = ["a picture"] * (EACH * actors), range(EACH * actors)
            ended: list[float] = []
            started = time.perf_counter()
            draw_pictures(Waits(), captions, seeds=seeds, copies=cluster.copies(Waits),
                          progress=lambda done, total: ended.append(time.perf_counter()))  # fmt: skip
            whole = time.perf_counter() - started
            # Actors begin one after the other on a few cores: of the last third all have.
            last = ended[2 * len(ended) // 3 :]
            steady = (len(last) - 1) / (last[-1] - last[0])
    finally:
        ray.shutdown()
    return {"actors": actors, "pictures": len(captions), "seconds": round(whole, 2), "steady": round(steady, 2)}


def work(actors: int) -> dict[str, Any]:
    """Pictures that are painted a second, by so many actors with a core each."""
    import ray

    rng = np.random.default_rng(0)
    plates = rng.normal(120, 8, (8, 256, 256, 1)).clip(0, 255).astype(np.uint8).repeat(3, axis=3)
    normals = plates[np.arange(PAINTED) % 8]
    kinds = ("a scratch", "a dark stain", "a crack", "a hole")
    captions = [f"a photo of a steel plate with {kinds[i % 4]}" for i in range(PAINTED)]
    ray.init("local", num_cpus=actors, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
             object_store_memory=400 * 2**20)  # fmt: skip
    try:
        with Cluster("local", Needs(cpus=1)) as cluster:
            times: list[float] = []
            alter_pictures(
                Paint(), normals, captions, seeds=range(PAINTED), copies=cluster.copies(Paint),
                progress=lambda done, total: times.append(time.perf_counter()),
            )  # fmt: skip
            last = times[len(times) // 2 :]
            each = PAINTED / len(times)
            steady = each * (len(last) - 1) / (last[-1] - last[0])
    finally:
        ray.shutdown()
    return {"actors": actors, "pictures": PAINTED, "steady": round(steady, 2), "load": round(os.getloadavg()[0], 1)}


def overhead(folder: Path, how: Sequence[str]) -> float:
    """Seconds of an experiment's command on the tiny data set in `folder`."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable, "-W", "ignore", "-m", "kka.cli", "experiment", "table3", "--dataset", "ucm_caption",
            "--tasks", "19+20", "--scale", "smoke", "--seeds", "1", "--data", str(folder), "--work", f"{out}/work",
            "--results", f"{out}/r.jsonl", "--no-draw", "--quiet", *how,
        ]  # fmt: skip
        started = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - started


def tiny(folder: Path, *, side: int = 32, train: int = 40, test: int = 10) -> None:
    """A data set of 21 kinds of small pictures, under names that the experiments know.

    Args:
        side: Pixels of a picture.
        train, test: Pictures of each kind.
    """
    rng = np.random.default_rng(0)
    for data in ("ucm_caption", "cifar100"):
        (folder / data).mkdir(parents=True)
        for name, number in (("train", train), ("test", test)):
            rows = []
            for label in range(1, 22):
                for k in range(number):
                    pixels = rng.integers(0, 90, (side, side, 3)).astype(np.uint8)
                    pixels[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4, label % 3] = 100 + 7 * label
                    buffer = io.BytesIO()
                    Image.fromarray(pixels).save(buffer, format="PNG")
                    words = [f"a {size} place of kind {chr(96 + label)} with {n} houses" for size in ("small", "large")
                             for n in ("four", "five", "six")]  # fmt: skip
                    rows.append({"image": {"bytes": buffer.getvalue(), "path": f"{label}-{k}.png"}, "label": label,
                                 "label_name": f"kind {chr(96 + label)}", "captions": words})  # fmt: skip
            pq.write_table(pa.Table.from_pylist(rows), folder / data / f"{name}.parquet")


def plot(stored: dict[str, Any], path: Path) -> None:
    """Pictures a second by actors, beside so many times one actor's."""
    rows = stored["waiting"]
    actors = [row["actors"] for row in rows]
    with figure(path, width=5, height=3.4) as (_, axes):
        linear = [rows[0]["steady"] * n for n in actors]
        axes[0, 0].plot(actors, linear, color="#8a8f98", linestyle="--", label="linear")
        axes[0, 0].plot(actors, [row["steady"] for row in rows], color="#2f6f9f", marker="o", label="measured")
        axes[0, 0].set(xscale="log", yscale="log", xlabel="actors", ylabel="pictures a second, of 100 ms each")
        axes[0, 0].set_xticks(actors, [str(n) for n in actors])
        axes[0, 0].set_yticks([10, 20, 40, 80, 160], ["10", "20", "40", "80", "160"])
        axes[0, 0].minorticks_off()
        axes[0, 0].legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["waiting", "work", "overhead"])
    parser.add_argument("--times", type=int, default=2, help="measurements of each way of the overhead")
    here = Path(__file__).parent
    parser.add_argument("--out", type=Path, default=here / "results" / "ray_scaling.json")
    parser.add_argument("--figure", type=Path, default=here.parent / "docs/figures/ray-scaling.png")
    parser.add_argument("--plot", action="store_true")
    asked = parser.parse_args()
    stored = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    stored |= {"machine": platform.machine(), "cores": os.cpu_count()}

    def keep() -> None:
        write_atomically(asked.out, json.dumps(stored, indent=1) + "\n")

    if not asked.plot:
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        if "waiting" in asked.parts:
            rows = stored.setdefault("waiting", [])
            for actors in ACTORS[len(rows) :]:
                rows.append(waiting(actors) | {"load": round(os.getloadavg()[0], 1)})
                rows[-1]["of_linear"] = round(rows[-1]["steady"] / (actors * rows[0]["steady"]), 3)
                print(rows[-1], flush=True)
                keep()
        if "work" in asked.parts and "work" not in stored:
            cores = os.cpu_count() or 1
            stored["work"] = [[work(1), work(cores)] for _ in range(PAIRS)]
            stored["work_ratios"] = [round(many["steady"] / one["steady"], 2) for one, many in stored["work"]]
            print(stored["work"], stored["work_ratios"], flush=True)
            keep()
        if "overhead" in asked.parts:
            pairs = stored.setdefault("overhead", [])
            jobs = str(os.cpu_count() or 1)
            with tempfile.TemporaryDirectory() as folder:
                tiny(Path(folder))
                while len(pairs) < asked.times:
                    local = overhead(Path(folder), ["--jobs", jobs])
                    on_ray = overhead(Path(folder), ["--ray", "local"])
                    load = round(os.getloadavg()[0], 1)
                    pairs.append({"jobs": round(local, 1), "ray": round(on_ray, 1), "load": load})
                    print(pairs[-1], flush=True)
                    keep()
    plot(stored, asked.figure)


if __name__ == "__main__":
    main()
