"""Deep SAD trained in bf16 against fp32: AUROC over tasks and seeds, and seconds of a fit.

Tuning tasks, alone and with 200 real images of other classes. Scores are fp32 in both. Figures are stored as they come.

    python benchmarks/precision.py --data ../shared/data
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from kka.algorithm.controls import real_images
from kka.common.files import write_atomically
from kka.common.metrics import auroc, mean_ci95
from kka.detectors.sad import SAD
from kka.experiments.engine.cell_task import open_cell_task
from kka.experiments.engine.cells import Cell
from kka.experiments.engine.compute import machine
from kka.experiments.engine.summary import as_text
from kka.seeding import derive_seed
from kka.settings.deep_sad import DeepSADSettings

OUT = Path(__file__).parent / "results" / "precision.json"
TASKS = (*(("oxford102", name) for name in ("12", "60", "82", "94")), ("ucm_caption", "4+15"))
ARMS, PRECISIONS = ("none", "real"), ("fp32", "bf16")


def run(data: Path, seeds: int) -> list[dict]:
    """A row for each (task, seed, arm, precision)."""
    rows: list[dict] = json.loads(OUT.read_text())["runs"] if OUT.is_file() else []
    done = {(row["task"], row["seed"], row["arm"], row["precision"]) for row in rows}
    for seed in range(seeds):
        for name, normal in TASKS:
            cell = Cell(dataset=name, normal=normal, detector="sad", arm="none", seed=seed)
            task = open_cell_task(cell, data)
            assert task.test is not None and task.knowledge is not None
            for arm in ARMS:
                anomalies = real_images(task.knowledge, 200, seed=seed) if arm == "real" else None
                for precision in PRECISIONS:
                    if (f"{name} {normal}", seed, arm, precision) in done:
                        continue
                    settings = DeepSADSettings(precision=precision)  # type: ignore[arg-type]
                    sad = SAD(settings=settings, seed=derive_seed(seed, "detector"))
                    started = time.perf_counter()
                    sad.fit(task.normals, anomalies)
                    seconds = time.perf_counter() - started
                    figure = auroc(sad.score(task.test.images), task.test.is_anomaly)
                    row = {"task": f"{name} {normal}", "seed": seed, "arm": arm, "precision": precision}
                    rows.append({**row, "auroc": round(figure, 4), "fit_s": round(seconds, 2)})
                    write_atomically(OUT, json.dumps({"machine": machine(), "runs": rows}, indent=1) + "\n")
                    print(f"{row['task']}, seed {seed}, {arm}, {precision}: {100 * figure:.1f}", flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Markdown: the mean over tasks of the mean over seeds, and bf16's difference, paired."""
    lines = ["| anomalies | fp32 | bf16 | bf16 − fp32 | seconds a fit, fp32 / bf16 |", "|---|---:|---:|---:|---:|"]
    for arm in ARMS:
        mine = [row for row in rows if row["arm"] == arm]
        fp32, bf16 = ({(r["task"], r["seed"]): r for r in mine if r["precision"] == p} for p in PRECISIONS)
        both = fp32.keys() & bf16.keys()
        pairs = {key: (100 * fp32[key]["auroc"], 100 * bf16[key]["auroc"]) for key in both}
        tasks = {task for task, _ in both}
        means = [np.mean([pairs[key] for key in both if key[0] == task], axis=0) for task in tasks]
        figures = [mean_ci95([float(v) for v in values]) for values in np.transpose([(a, b, b - a) for a, b in means])]
        seconds = " / ".join(f"{np.mean([found[key]['fit_s'] for key in both]):.1f}" for found in (fp32, bf16))
        cells = [arm, as_text(figures[0]), as_text(figures[1]), as_text(figures[2], signed=True), seconds]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(table(run(asked.data, asked.seeds)))


if __name__ == "__main__":
    main()
