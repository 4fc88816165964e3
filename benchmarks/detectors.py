"""kka's SimpleNet and ReContrast beside anomalib's SuperSimpleNet, PatchCore and Reverse Distillation.

One row a method and task: seconds to train, images/s to score, peak memory, AUROC; the same images, input size,
backbone and weights, each in a process of its own, on one thread by default. kka's methods are their "cpu" preset, with
normals alone and with real images of other, known classes as anomalies; anomalib's take normals alone.

    pip install 'kka[anomalib]'
    python benchmarks/detectors.py --data ../shared/data --backbone-weights FILE.safetensors --backbone-padding same \\
        --backbone-mean 0.5 --backbone-std 0.5

What is alike, and what is not:
- Passes: SuperSimpleNet makes as many epochs as kka's SimpleNet; anomalib recommends 300, and the table gives what
  those would take. Its AUROC after so few is not that of the method: `--only supersimplenet-300
  supersimplenet-noise-300` trains in full. Reverse Distillation sees as many images as kka's ReContrast. PatchCore
  makes its one pass.
- Noise: SuperSimpleNet's default, 0.015, is little beside features that deviate by 3 to 5, as MobileNetV2's do here.
  On a tuning task its loss stayed at that of an untrained map, and the AUROC, 6 after 40 epochs, is that of heads that
  learned nothing, not a defect of the method. A second row gives it the noise of kka's preset, one deviation of the
  normals' features: 84 on that task. Compare kka with this row. Whether 300 epochs mend the first is not measured.
- Layers: strides 8 and 16 for SuperSimpleNet and PatchCore, anomalib's default, the counterpart of layers 2 and 3 of a
  ResNet; kka's preset has its own. SimpleNet has a row with these layers too, PatchCore one with 16 and 32.
- anomalib's decoder for Reverse Distillation exists for ResNets alone: it runs on a ResNet-18 (`--resnet-weights`, at
  first random), and kka's ReContrast on the same one beside it. Compare these two with each other alone.
- kka's presets were tuned on other classes of the same data sets; anomalib's settings are its defaults.
- Neither library reads files: images are in memory. anomalib's maps and image scores are computed together, kka's
  scores alone; both 64 images at a time.

Floor of training and of scoring: the FLOP of the method's own convolutions and matrix products (counted on a few
images, forward and backward), over the machine's matrix rate, measured in the same process in fp32. PatchCore's search
for a core set has no matrix product: its training floor is the backbone's.

Rows in --out that were measured with the same settings and on the same machine are kept. Memory is read from /proc:
Linux.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from detector_row import cpu_settings

from kka.data import open_task
from kka.seeding import derive_seed

PAIR, OTHER, LEVELS = [8, 16], [16, 32], [4, 8, 16]
METHODS: dict[str, dict[str, Any]] = {
    "simplenet": {"library": "kka", "title": "SimpleNet"},
    "simplenet+anomalies": {"library": "kka", "title": "SimpleNet", "anomalies": True},
    "simplenet-8-16": {"library": "kka", "title": "SimpleNet, strides 8 + 16", "strides": PAIR},
    "supersimplenet": {"library": "anomalib", "title": "SuperSimpleNet", "strides": PAIR},
    "supersimplenet-noise": {
        "library": "anomalib", "title": "SuperSimpleNet, noise of the features' deviation", "strides": PAIR,
        "noise": "features",
    },
    "patchcore": {"library": "anomalib", "title": "PatchCore", "strides": PAIR},
    "patchcore-16-32": {"library": "anomalib", "title": "PatchCore, strides 16 + 32", "strides": OTHER},
    "recontrast": {"library": "kka", "title": "ReContrast"},
    "recontrast+anomalies": {"library": "kka", "title": "ReContrast", "anomalies": True},
    "recontrast-resnet18": {"library": "kka", "title": "ReContrast, ResNet-18", "resnet": True},
    "reverse_distillation": {
        "library": "anomalib", "title": "Reverse Distillation, ResNet-18", "strides": LEVELS, "resnet": True,
    },
    "supersimplenet-300": {"library": "anomalib", "title": "SuperSimpleNet", "strides": PAIR, "epochs": 300},
    "supersimplenet-noise-300": {
        "library": "anomalib", "title": "SuperSimpleNet, noise of the features' deviation", "strides": PAIR,
        "noise": "features", "epochs": 300,
    },
}  # fmt: skip
"""Name -> what its row is measured with; the title may stand in several rows of the table."""
DEFAULT = [name for name in METHODS if not name.endswith("-300")]


def machine(threads: int) -> dict[str, Any]:
    """What the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"processor": model or platform.machine(), "cores": os.cpu_count(), "threads": threads}


def prepare(task_name: str, arguments: argparse.Namespace, file: Path) -> dict[str, int]:
    """The images of a task into `file`; how many there are of each kind. A part of them, chosen by the seed."""
    folder, _, normal = task_name.partition(":")
    task = open_task(str(arguments.data / folder), normal=normal.split("+"), unseen=0.5, seed=arguments.seed)
    assert task.test is not None and task.knowledge is not None
    rng = np.random.default_rng(derive_seed(arguments.seed, "benchmark"))

    def some(count: int, wanted: int) -> np.ndarray:
        return np.sort(rng.permutation(count)[: wanted or None])

    odd = np.flatnonzero(task.test.is_anomaly)
    even = np.flatnonzero(~task.test.is_anomaly)
    chosen = np.sort(np.concatenate([even, odd[some(len(odd), max(arguments.test - len(even), 1))]]))
    parts = {
        "normals": task.normals[some(len(task.normals), arguments.normals)],
        "anomalies": task.knowledge.images[some(len(task.knowledge.images), arguments.anomalies)],
        "test": task.test.images[chosen],
    }
    np.savez(file, is_anomaly=task.test.is_anomaly[chosen], **parts)
    return {name: len(images) for name, images in parts.items()}


def anomalib_epochs(method: str, asked: int | None, normals: int) -> int:
    """As many passes as kka's method of the same kind makes, or those asked for."""
    if method == "patchcore" or asked:
        return asked or 1
    if method == "supersimplenet":
        return int(cpu_settings("simplenet").epochs)
    like = cpu_settings("recontrast")
    return math.ceil(like.iterations * like.batch_size / normals)


def spec(name: str, arguments: argparse.Namespace, normals: int) -> dict[str, Any]:
    """All that shapes a row's figures, but the machine and the images."""
    method, base = METHODS[name], name.partition("+")[0].partition("-")[0]
    ours = method["library"] == "kka"
    backbone: dict[str, Any] = {
        "name": arguments.backbone, "weights": arguments.backbone_weights, "padding": arguments.backbone_padding,
        "mean": arguments.backbone_mean, "std": arguments.backbone_std,
    }  # fmt: skip
    if method.get("resnet"):
        backbone = {"name": "resnet18", "weights": arguments.resnet_weights}
    return {
        "method": base, "library": method["library"], "anomalies": method.get("anomalies", False),
        "strides": method.get("strides"), "noise": method.get("noise"), "backbone": backbone,
        "epochs": None if ours else anomalib_epochs(base, method.get("epochs"), normals),
        "settings": repr(cpu_settings(base)) if ours else f"anomalib {version('anomalib')}",
        "size": arguments.size, "seed": arguments.seed,
    }  # fmt: skip


def key(row_spec: dict[str, Any], images: dict[str, int], place: dict[str, Any]) -> str:
    """Names what was measured: equal where a stored row can be kept. Weights go by their file's name."""
    weights = Path(row_spec["backbone"]["weights"]).name
    facts = row_spec | {"backbone": row_spec["backbone"] | {"weights": weights}, "images": images, "machine": place}
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


def run(row_spec: dict[str, Any], images: Path, threads: int) -> dict[str, Any]:
    """The row's figures, measured in a process of its own. Raises RuntimeError with the last of what it said."""
    with tempfile.TemporaryDirectory() as scratch:
        argument = json.dumps(row_spec | {"images": str(images), "scratch": scratch})
        # all on the CPU, where there is a GPU too: the other library's rows are
        place = {"OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("detector_row.py")), argument],
            env=os.environ | place,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-500:])
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown, one line a row. Memory: the peak, and how much of it the method added to what was loaded."""
    lines = [
        "| task | px | method | anomalies | passes | training, s | floor | images/s | floor | peak MB (own) | AUROC |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        training = f"{row['seconds']:.1f}"
        if row["seconds_at_own_epochs"] and round(row["seconds_at_own_epochs"]) != round(row["seconds"]):
            training += f" (300 epochs: {row['seconds_at_own_epochs']:.0f})"
        cells = [
            row["task"],
            str(row["size"]),
            f"{row['title']} ({row['library']})",
            str(row["anomalies"] or "–"),
            f"{row['passes']} {row['pass']}{'s' if row['passes'] != 1 else ''}",
            training,
            f"{row['floor_seconds']:.1f}",
            f"{row['images_per_s']:.0f}",
            f"{row['floor_images_per_s']:.0f}",
            f"{row['peak_mb']:.0f} ({row['peak_mb'] - row['loaded_mb']:.0f})",
            f"{100 * row['auroc']:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder that holds the data sets' folders")
    parser.add_argument("--tasks", nargs="+", default=["ucm_caption:19+20", "oxford102:77"], help="folder:class+class")
    parser.add_argument(
        "--only", nargs="+", choices=METHODS, default=DEFAULT, metavar="METHOD", help=f"of {', '.join(METHODS)}"
    )
    parser.add_argument("--normals", type=int, default=50, help="of them, at most; 0: all")
    parser.add_argument("--anomalies", type=int, default=200)
    parser.add_argument("--test", type=int, default=400, help="test images; all normal ones are among them")
    parser.add_argument("--size", type=int, default=128, help="pixels a side that every backbone sees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--backbone-weights", default="hub", help="hub, random, or a .safetensors file")
    parser.add_argument("--backbone-padding", choices=["same"])
    parser.add_argument("--backbone-mean", type=float, nargs="+")
    parser.add_argument("--backbone-std", type=float, nargs="+")
    parser.add_argument("--resnet-weights", default="random", help="of the ResNet-18: hub, random, or a file")
    parser.add_argument("--fresh", action="store_true", help="measure every row again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/detectors.json"))
    return parser.parse_args()


def row(
    task: str, name: str, row_spec: dict[str, Any], images: dict[str, int], arguments: argparse.Namespace, file: Path
) -> dict[str, Any]:
    """What is stored of a method on a task: what it was, and its figures."""
    kind, backbone = METHODS[name], row_spec["backbone"]
    return {
        "task": task,
        "name": name,
        "title": kind["title"],
        "library": kind["library"],
        "anomalies": images["anomalies"] if row_spec["anomalies"] else 0,
        **run(row_spec, file, arguments.threads),
        "images": images,
        "backbone": backbone | {"weights": Path(backbone["weights"]).name},
        "size": arguments.size,
        "seed": arguments.seed,
    }


def main() -> int:
    arguments = parsed()
    place = machine(arguments.threads)
    stored = json.loads(arguments.out.read_text())["rows"] if arguments.out.is_file() else []
    rows = {(known["task"], known["name"]): known for known in stored}
    failed = 0
    for task in arguments.tasks:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "images.npz"
            images = prepare(task, arguments, file)
            for name in arguments.only:
                try:
                    row_spec = spec(name, arguments, images["normals"])
                    identity = key(row_spec, images, place)
                    if not arguments.fresh and rows.get((task, name), {}).get("key") == identity:
                        continue
                    new = row(task, name, row_spec, images, arguments, file)
                except (RuntimeError, ImportError) as error:  # anomalib may be absent: its rows are left out
                    print(f"{task} {name}: {error}", file=sys.stderr, flush=True)
                    failed += 1
                    continue
                rows[task, name] = new | {"machine": place, "key": identity}
                print(f"{task} {name}: {new['seconds']:.1f} s, {100 * new['auroc']:.1f}", flush=True)
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(json.dumps({"rows": list(rows.values())}, indent=1) + "\n")
    order = list(METHODS)
    print("\n".join(table(sorted(rows.values(), key=lambda row: (row["task"], order.index(row["name"]))))))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
