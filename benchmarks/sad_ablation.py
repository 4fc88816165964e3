"""Deep SAD's choices on tuning tasks: learning rate, weights of hard anomalies, a guard for few normals.

Each row is a change of `DeepSADSettings`; the tasks are tuning tasks of two data sets (never the reported ones), with
the first generation of KKA, its pool after round 3, and everything that was generated up to then, hard or not.
Language models and pools are made where they are missing (minutes a task). Figures are stored as they come.

    python benchmarks/sad_ablation.py --data ../shared/data
"""

import argparse
import json
from pathlib import Path

import numpy as np

from kka.algorithm.folder import RunFolder
from kka.common.files import write_atomically
from kka.common.metrics import auroc, mean_ci95
from kka.detectors.sad import SAD
from kka.experiments.engine.cell_task import open_cell_task
from kka.experiments.engine.cells import Cell
from kka.experiments.engine.place import Place
from kka.experiments.engine.pools import ROUNDS, ensure_pool
from kka.experiments.engine.summary import as_text
from kka.protocols import Images
from kka.seeding import derive_seed
from kka.settings.backbone import BackboneSettings
from kka.settings.deep_sad import DeepSADSettings
from kka.task import Task

OUT = Path(__file__).parent / "results" / "sad_ablation.json"
TASKS = (("oxford102", "82"), ("ucm_caption", "4+15"), ("oxford102", "94"), ("oxford102", "60"))
VARIANTS: dict[str, dict[str, float]] = {
    "as it stands (rate 3e-4)": {},
    "rate 1e-3": {"learning_rate": 1e-3},
    "rate 1e-4 (published)": {"learning_rate": 1e-4},
    "hard ones weigh 2": {"hard_weight": 2.0},
    "hard ones weigh 0.5": {"hard_weight": 0.5},
    "at most 2 anomalies a normal in an epoch": {"max_anomaly_ratio": 2.0},
    "at most 1 anomaly a normal in an epoch": {"max_anomaly_ratio": 1.0},
}
STANDS = next(iter(VARIANTS))
ARMS = ("first generation", "pool after round 3", "everything generated")


def anomalies_by_arm(
    place: Place, task: Task, name: str, normal: str, seed: int
) -> dict[str, tuple[Images, np.ndarray]]:
    """Arm -> images and which of them are hard."""
    cell = Cell(dataset=name, normal=normal, detector="sad", arm=f"rep-{ROUNDS}", seed=seed)
    out = ensure_pool(cell, task, place.data, place.work)
    made = RunFolder(out)
    parts = [(made.fresh(number), made.fresh_hard(number)) for number in range(ROUNDS + 1)]
    pools = tuple((made.pool(number), made.hard(number)) for number in (0, ROUNDS))
    found = [(pool.images, _known(hard)) for pool, hard in pools]
    images = np.concatenate([pool.images for pool, _ in parts])
    found.append((images, np.concatenate([_known(hard) for _, hard in parts])))
    return dict(zip(ARMS, found, strict=True))


def _known(hard: np.ndarray | None) -> np.ndarray:
    assert hard is not None  # every pool of these runs has been judged
    return hard


def run(place: Place, seeds: int, command: str) -> list[dict]:
    """A row for each (task, seed, arm, variant)."""
    rows: list[dict] = json.loads(OUT.read_text())["runs"] if OUT.is_file() else []
    done = {(row["task"], row["seed"], row["arm"], row["variant"]) for row in rows}
    for seed in range(seeds):
        for name, normal in TASKS:
            title = f"{name} {normal}"
            wanted = [(arm, variant) for arm in ARMS for variant in VARIANTS if (title, seed, arm, variant) not in done]
            if not wanted:
                continue
            cell = Cell(dataset=name, normal=normal, detector="sad", arm="none", seed=seed)
            task = open_cell_task(cell, place.data)
            assert task.test is not None
            by_arm = anomalies_by_arm(place, task, name, normal, seed)
            for arm, variant in wanted:
                images, hard = by_arm[arm]
                sad = SAD(settings=DeepSADSettings(**VARIANTS[variant]), seed=derive_seed(seed, "detector"))  # type: ignore[arg-type]
                sad.fit(task.normals, images, hard=hard)
                figure = round(auroc(sad.score(task.test.images), task.test.is_anomaly), 4)
                row = {"task": title, "seed": seed, "arm": arm, "variant": variant}
                rows.append({**row, "anomalies": len(images), "hard": int(hard.sum()), "auroc": figure})
                write_atomically(OUT, json.dumps({"command": command, "runs": rows}, indent=1) + "\n")
                print(f"{title}, {arm}, {variant}: {100 * figure:.1f}", flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Markdown: the mean over tasks and seeds, and the gain over the settings as they stand, paired."""
    lines = ["| Deep SAD | " + " | ".join(f"{arm} | gain" for arm in ARMS) + " |", "|---|" + "---:|" * 2 * len(ARMS)]
    found = {(r["variant"], r["arm"], r["task"], r["seed"]): 100 * r["auroc"] for r in rows}
    for variant in VARIANTS:
        cells = [variant]
        for arm in ARMS:
            pairs = {key[2:]: value for key, value in found.items() if key[:2] == (variant, arm)}
            if not pairs:
                cells += ["–", ""]
                continue
            gains = [  # over tasks, of the mean over seeds
                float(np.mean([v - found[(STANDS, arm, *key)] for key, v in pairs.items() if key[0] == task]))
                for task in sorted({task for task, _ in pairs})
            ]
            cells.append(f"{np.mean(list(pairs.values())):.1f}")
            cells.append("" if variant == STANDS else as_text(mean_ci95(gains), signed=True))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parsed(doc: str | None, seeds: int) -> tuple[Place, int]:
    """The arguments of an ablation of Deep SAD: where things are, and how many seeds."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of the data sets' folders")
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--seeds", type=int, default=seeds)
    a = parser.parse_args()
    return Place(data=a.data, work=a.work, backbone=BackboneSettings()), a.seeds


def main() -> None:
    place, seeds = parsed(__doc__, 1)
    print(table(run(place, seeds, f"python benchmarks/sad_ablation.py --data DATA --seeds {seeds}")))


if __name__ == "__main__":
    main()
