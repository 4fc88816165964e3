"""ReContrast's choices on the tuning classes: how anomalies enter, the encoder's BatchNorm and rate, size, weights.

    python benchmarks/recontrast_ablation.py --data ../shared/data --backbone mobilenetv2_100 \\
        --weights ../shared/weights/mobilenetv2_100_in1k.safetensors --padding same --mean 0.5 --std 0.5

Each row is the `cpu` preset, the encoder's BatchNorm in eval mode, with the changes named. It trains on 100 normals
and, where it says so, on 200 real images of other classes (half of the anomaly classes are withheld). AUROC in % on the
normals and 300 anomalies of the test set. Each figure is stored in results/recontrast_ablation.json as it comes; a
killed run goes on. None of these classes is among the reported ones.
"""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from simplenet_ablation import TASKS, parsed, task_images

from kka.common.files import write_atomically
from kka.common.metrics import auroc
from kka.detectors.recontrast.detector import ReContrast
from kka.settings.backbone import RANDOM, BackboneSettings

OUT = Path(__file__).parent / "results" / "recontrast_ablation.json"
CHOSEN = ("oxford102 82", "ucm 4+15", "oxford102 94")
VARIANTS: dict[str, tuple[dict[str, object], bool, bool]] = {
    "no anomalies": ({}, False, False),
    "no anomalies, BatchNorm of the encoder by batch (published)": ({"encoder_batchnorm": "train"}, False, False),
    "margin 1": ({}, True, False),
    "margin 0.5": ({"margin": 0.5}, True, False),
    "margin 1.5": ({"margin": 1.5}, True, False),
    "margin 1, weight 3": ({"anomaly_weight": 3.0}, True, False),
    "margin 1 on the most distant quarter of positions": ({"anomaly_top": 0.25}, True, False),
    "margin 1, no gradient into the encoder": ({"anomaly_encoder": False}, True, False),
    "margin 1, BatchNorm of the encoder by batch": ({"encoder_batchnorm": "train"}, True, False),
    "margin 1, encoder's rate 1e-4": ({"encoder_learning_rate": 1e-4}, True, False),
    "margin 1, 96 pixels": ({"size": 96}, True, False),
    "random weights, no anomalies": ({"encoder_learning_rate": 1e-5}, False, True),
    "random weights, no anomalies, encoder's rate 1e-3": ({"encoder_learning_rate": 1e-3}, False, True),
    "random weights, margin 1, encoder's rate 1e-3": ({"encoder_learning_rate": 1e-3}, True, True),
}
"""What changes -> the settings, whether with anomalies, whether with random weights."""


def run(data: Path, backbone: BackboneSettings, seeds: int, command: str) -> list[dict]:
    """A row for each (task, variant, seed)."""
    rows: list[dict] = json.loads(OUT.read_text())["runs"] if OUT.is_file() else []
    done = {(row["task"], row["variant"], row["seed"]) for row in rows}
    for seed in range(seeds):
        for name in CHOSEN:
            normals, anomalies, test, is_anomaly = task_images(data, *TASKS[name])
            for variant, (changes, with_anomalies, random) in VARIANTS.items():
                if (name, variant, seed) in done:
                    continue
                settings = dataclasses.replace(ReContrast.PRESETS["cpu"], **{"encoder_batchnorm": "eval"} | changes)  # type: ignore[arg-type]
                where = dataclasses.replace(backbone, weights=RANDOM) if random else backbone
                detector = ReContrast(settings=settings, backbone=where, seed=seed)
                started = time.perf_counter()
                detector.fit(normals, anomalies if with_anomalies else None)
                seconds = round(time.perf_counter() - started, 1)
                figure = round(auroc(detector.score(test), is_anomaly), 4)
                rows.append({"task": name, "variant": variant, "seed": seed, "auroc": figure, "fit_s": seconds})
                stored = {"command": command, "threads": torch.get_num_threads(), "runs": rows}
                write_atomically(OUT, json.dumps(stored, indent=1) + "\n")
                print(f"{name}, {variant}: {100 * figure:.1f}, {seconds:.0f} s", flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Markdown: a row a variant, a column a task."""
    tasks = [name for name in CHOSEN if any(row["task"] == name for row in rows)]
    lines = ["| trained with | " + " | ".join([*tasks, "mean", "s"]) + " |", "|---|" + "---:|" * (len(tasks) + 2)]
    for variant in VARIANTS:
        own = [row for row in rows if row["variant"] == variant]
        by_task = [[row["auroc"] for row in own if row["task"] == name] for name in tasks]
        if not all(by_task):
            continue
        means = [100 * float(np.mean(found)) for found in by_task]
        seconds = float(np.mean([row["fit_s"] for row in own]))
        figures = [f"{mean:.1f}" for mean in (*means, float(np.mean(means)))]
        lines.append(f"| {variant} | " + " | ".join([*figures, f"{seconds:.0f}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    a, backbone = parsed(__doc__)
    command = f"python benchmarks/recontrast_ablation.py --data DATA --backbone {a.backbone} --seeds {a.seeds}"
    print(table(run(a.data, backbone, a.seeds, command)))


if __name__ == "__main__":
    main()
