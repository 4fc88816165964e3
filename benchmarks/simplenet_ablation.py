"""SimpleNet's choices on the tuning classes: how anomalies enter, how patches become a score, noise and strides.

    python benchmarks/simplenet_ablation.py --data ../shared/data --backbone mobilenetv2_100 \\
        --weights ../shared/weights/mobilenetv2_100_in1k.safetensors --padding same --mean 0.5 --std 0.5

Each row is the `cpu` preset with the changes named, trained on the normals and, unless it says otherwise, on 200 real
images of other classes (half of the anomaly classes are withheld). Columns: which share of an image's patches the
score is the mean of. AUROC in %, mean over the tasks of the mean over seeds. Writes results/simplenet_ablation.json
after each task, and prints the table. None of these classes is among the reported ones.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch

from kka.common.metrics import auroc
from kka.data import open_task
from kka.detectors.graph import in_batches
from kka.detectors.simplenet.detector import SimpleNet
from kka.detectors.simplenet.loss import image_scores
from kka.settings.backbone import BackboneSettings

OUT = Path(__file__).parent / "results" / "simplenet_ablation.json"
TASKS = {
    "oxford102 94": ("oxford102", ("94",)),
    "ucm 4+15": ("ucm_caption", ("4", "15")),
    "oxford102 12": ("oxford102", ("12",)),
    "cifar100 flowers": ("cifar100", ("coarse:flowers",)),
    "oxford102 82": ("oxford102", ("82",)),
    "oxford102 60": ("oxford102", ("60",)),
    "ucm 5+7": ("ucm_caption", ("5", "7")),
}
SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)
TESTED, ANOMALIES, NORMALS = 300, 200, 100
VARIANTS: dict[str, tuple[dict[str, object], bool]] = {
    "no anomalies": ({}, False),
    "no anomalies, noise 0.015, features as they are (published)": ({"standardise": False, "noise": 0.015}, False),
    "no anomalies, strides 8 and 16 (published)": ({"strides": (8, 16)}, False),
    "patches": ({"anomaly_loss": "patches"}, True),
    "top, a tenth": ({"anomaly_loss": "top", "anomaly_top": 0.1}, True),
    "top, half": ({"anomaly_loss": "top", "anomaly_top": 0.5}, True),
    "head": ({"anomaly_loss": "head"}, True),
    "patches, noise 0.015, features as they are": ({"standardise": False, "noise": 0.015}, True),
    "patches, no noise negatives": ({"noise_weight": 0.0}, True),
    "patches, strides 8 and 16": ({"strides": (8, 16)}, True),
}


def task_images(data: Path, folder: str, normal: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Normals, anomalies, test images and whether each is anomalous."""
    task = open_task(str(data / folder), normal=normal, unseen=0.5)
    assert task.test is not None and task.knowledge is not None
    rng = np.random.default_rng(0)

    def some(n: int, most: int) -> np.ndarray:
        return rng.choice(n, min(n, most), replace=False)

    anomalous = np.flatnonzero(task.test.is_anomaly)  # and every normal: a data set with 102 classes has few of one
    test = np.concatenate([np.flatnonzero(~task.test.is_anomaly), anomalous[some(len(anomalous), TESTED)]])
    return (
        task.normals[some(len(task.normals), NORMALS)],
        task.knowledge.images[some(len(task.knowledge.images), ANOMALIES)],
        task.test.images[test],
        task.test.is_anomaly[test],
    )


@torch.no_grad()
def scores_by_share(detector: SimpleNet, features: np.ndarray) -> dict[float, np.ndarray]:
    """The image scores for each of SHARES, from the test images' patch features."""
    heads, parts = detector.graph_.heads, []
    for x in np.array_split(features, 12):
        adapted = heads.adapt(torch.from_numpy(x).float())
        parts.append((heads.answers(adapted), heads.image(adapted)))
    answers, image = (torch.cat(p) for p in zip(*parts, strict=True))
    return {share: (image_scores(answers, share) + image).numpy() for share in SHARES}


def run(data: Path, backbone: BackboneSettings, seeds: int, command: str) -> list[dict[str, object]]:
    """A row for each (task, variant, seed); the file is written anew after each task."""
    rows: list[dict[str, object]] = []
    for name, (folder, normal) in TASKS.items():
        normals, anomalies, test, is_anomaly = task_images(data, folder, normal)
        features: dict[object, np.ndarray] = {}
        for variant, (changes, with_anomalies) in VARIANTS.items():
            settings = dataclasses.replace(SimpleNet.PRESETS["cpu"], **changes)  # type: ignore[arg-type]
            for seed in range(seeds):
                detector = SimpleNet(settings=settings, backbone=backbone, seed=seed)
                start = time.perf_counter()
                detector.fit(normals, anomalies if with_anomalies else None)
                seconds = time.perf_counter() - start
                if settings.strides not in features:
                    found = in_batches(detector.graph_.extract, test, torch.device("cpu"))
                    features = {settings.strides: found.astype(np.float16), **features}
                by_share = scores_by_share(detector, features[settings.strides])
                figures = {str(share): round(auroc(s, is_anomaly), 4) for share, s in by_share.items()}
                cell = {"task": name, "variant": variant, "seed": seed}
                rows.append({**cell, "auroc": figures, "fit_s": round(seconds, 1)})
        stored = {"command": command, "threads": torch.get_num_threads(), "runs": rows}
        OUT.write_text(json.dumps(stored, indent=1) + "\n")
        print(name, table(rows), sep="\n", flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Markdown: a row a variant, a column a share."""
    heads = ["maximum" if not s else "all" if s == 1 else f"top {s:.0%}" for s in SHARES]
    lines = ["| trained with | " + " | ".join(heads) + " |", "|---" * (len(SHARES) + 1) + "|"]
    for variant in VARIANTS:
        own = [row["auroc"] for row in rows if row["variant"] == variant]
        means = [100 * np.mean([auc[str(share)] for auc in own]) for share in SHARES]
        lines.append(f"| {variant} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    return "\n".join(lines)


def parsed(doc: str | None) -> tuple[argparse.Namespace, BackboneSettings]:
    """The arguments of an ablation of a detector that has a backbone."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets' folders")
    parser.add_argument("--backbone", default=BackboneSettings.name)
    parser.add_argument("--weights", default=BackboneSettings.weights)
    parser.add_argument("--padding")
    parser.add_argument("--mean", type=float, nargs="*")
    parser.add_argument("--std", type=float, nargs="*")
    parser.add_argument("--seeds", type=int, default=1)
    a = parser.parse_args()
    mean, std = (tuple(v) if v else None for v in (a.mean, a.std))
    return a, BackboneSettings(name=a.backbone, weights=a.weights, padding=a.padding, mean=mean, std=std)


def main() -> None:
    a, backbone = parsed(__doc__)
    command = f"python benchmarks/simplenet_ablation.py --data DATA --backbone {a.backbone} --seeds {a.seeds}"
    run(a.data, backbone, a.seeds, command)


if __name__ == "__main__":
    main()
