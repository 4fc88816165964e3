"""Deep SAD with weights for hard anomalies, and with a guard for few normals: an ablation on tuning tasks.

Each row is a setting of `DeepSADSettings`; the tasks are the tuning tasks of two data sets (never the reported ones),
with the pools of KKA after rounds 0 and 2. Language models and pools are made where they are missing (minutes a task).

    python benchmarks/sad_weights.py --data ../shared/data --seeds 2 --out benchmarks/results/sad_weights.json
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from kka.deep_sad import DeepSADSettings
from kka.detectors.backbones import BackboneOptions
from kka.detectors.sad import SAD
from kka.experiments.cells import Cell
from kka.experiments.compute import Place, anomalies_of
from kka.experiments.pools import open_cell_task
from kka.experiments.summary import written
from kka.experiments.tasks import dataset
from kka.metrics import auroc, mean_ci95
from kka.seeding import derive_seed

VARIANTS = {
    "as it stands": {},
    "hard × 2": {"hard_weight": 2.0},
    "hard × 0.5": {"hard_weight": 0.5},
    "ratio ≤ 2": {"max_anomaly_ratio": 2.0},
    "ratio ≤ 1": {"max_anomaly_ratio": 1.0},
    "ratio ≤ 0.5": {"max_anomaly_ratio": 0.5},
}
ARMS = ("rep-0", "rep-2")


def measure(place: Place, name: str, normal: str, seed: int, done: dict[str, float]) -> None:
    """AUROC of every variant on one task and seed, into `done`."""
    task = None
    for arm in ARMS:
        cell = Cell(dataset=name, normal=normal, detector="sad", arm=arm, seed=seed)
        wanted = [(f"{variant}/{cell.id}", settings) for variant, settings in VARIANTS.items()]
        if all(key in done for key, _ in wanted):
            continue
        task = task or open_cell_task(cell, place.data)
        assert task.test is not None
        anomalies = anomalies_of(cell, task, place)
        for key, settings in wanted:
            if key not in done:
                sad = SAD(settings=DeepSADSettings(**settings), seed=derive_seed(seed, "detector"))
                sad.fit(task.normals, anomalies.images, hard=anomalies.hard)
                done[key] = auroc(sad.score(task.test.images), task.test.is_anomaly)
                print(f"{key}: {100 * done[key]:.1f}", flush=True)


def table(done: dict[str, float]) -> list[str]:
    """Markdown: the mean over tasks and seeds, and the gain over the settings as they stand, paired."""
    lines = ["| Deep SAD | " + " | ".join(f"{arm}: AUROC | gain" for arm in ARMS) + " |"]
    lines.append("|---|" + "---:|" * 2 * len(ARMS))
    for variant in VARIANTS:
        row = [variant]
        for arm in ARMS:
            keys = [k.removeprefix(f"{variant}/") for k in done if k.startswith(f"{variant}/") and f"/{arm}/" in k]
            keys = [key for key in keys if f"as it stands/{key}" in done]
            if not keys:
                row += ["–", "–"]
                continue
            gains = [100 * (done[f"{variant}/{key}"] - done[f"as it stands/{key}"]) for key in keys]
            row += [f"{100 * np.mean([done[f'{variant}/{key}'] for key in keys]):.1f}"]
            row += [written(mean_ci95(gains), signed=True)]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--datasets", nargs="+", default=["oxford102", "ucm_caption"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sad_weights.json"))
    arguments = parser.parse_args()
    place = Place(data=arguments.data, work=arguments.work, backbone=BackboneOptions())
    done = json.loads(arguments.out.read_text())["auroc"] if arguments.out.is_file() else {}
    for seed in range(arguments.seeds):
        for name in arguments.datasets:
            for normal in dataset(name).tuning:
                measure(place, name, normal, seed, done)
                settings = dataclasses.asdict(DeepSADSettings())
                arguments.out.write_text(json.dumps({"settings": settings, "auroc": done}, indent=1) + "\n")
    print("\n".join(table(done)))


if __name__ == "__main__":
    main()
