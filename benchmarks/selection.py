"""Which of the generated anomalies to train with, on tuning tasks: the share of hard ones, and which hard ones.

From everything that a run with the default settings generated (its first generation and three rounds), 200 images are
drawn with a given share of hard ones: at random, or those nearest to the normals. The detector is Deep SAD as it
stands. Then a rule to stop: the round whose pool best tells held-out normals from held-out generated anomalies (a
fifth of each, in no pool), beside the last round. No test image chooses anything; figures are stored as they come.

    python benchmarks/selection.py --data ../shared/data
"""

import json
from pathlib import Path

import numpy as np
from sad_ablation import TASKS, parsed

from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool
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
from kka.settings.deep_sad import DeepSADSettings
from kka.task import Task

OUT = Path(__file__).parent / "results" / "selection.json"
NUMBER = 200
CHOICES = {
    "no hard one": (0.0, "random"),
    "a quarter hard": (0.25, "random"),
    "half hard": (0.5, "random"),
    "three quarters hard": (0.75, "random"),
    "half hard, the nearest of them": (0.5, "nearest"),
    "as generated": (None, "random"),
}
"""What is drawn -> the share of hard ones, and which of them."""
STOPPED, LAST = "round chosen on held-out generated anomalies", "last round"


def draw(relative: np.ndarray, share: float | None, which: str, number: int, rng: np.random.Generator) -> np.ndarray:
    """Places of `number` anomalies by their relative distance (below 1: hard); empty where hard ones are too few."""
    everything = rng.permutation(len(relative))
    if share is None:
        return everything[:number]
    hard, easy = (everything[(relative[everything] < 1) == kind] for kind in (True, False))
    if which == "nearest":
        hard = hard[np.argsort(relative[hard], kind="stable")]
    wanted = round(share * number)
    if min(len(hard) - wanted, len(easy) - (number - wanted)) < 0:
        return everything[:0]
    return np.concatenate([hard[:wanted], easy[: number - wanted]])


def everything_of(out: Path) -> tuple[Images, np.ndarray]:
    """All images that a run generated, and the relative distance of each when it was first judged."""
    images, relative = [], []
    for number in range(ROUNDS + 1):
        judged = out / ("rounds/1/evaluator" if number == 0 else f"rounds/{number}/scores") / "scores.jsonl"
        relative += [json.loads(line)["relative_distance"] for line in judged.read_text().splitlines()]
        images.append(RunFolder(out).fresh(number).images)
    return np.concatenate(images), np.array(relative)


def by_choice(task: Task, out: Path, seed: int) -> dict[str, dict[str, float]]:
    """AUROC of each choice."""
    images, relative = everything_of(out)
    found = {}
    for name, (share, which) in CHOICES.items():
        rng = np.random.default_rng(derive_seed(seed, "selection"))
        chosen = draw(relative, share, which, NUMBER, rng)
        if len(chosen):  # a share that the task's anomalies cannot give is left out, not rounded down in silence
            figures = {"auroc": _auroc(_sad(task.normals, images[chosen], seed), task)}
            found[name] = {**figures, "hard": int((relative[chosen] < 1).sum())}
    return found


def by_stopping(task: Task, out: Path, seed: int) -> dict[str, dict[str, float]]:
    """AUROC of the last round's pool and of the round that held-out generated anomalies choose."""
    rng = np.random.default_rng(derive_seed(seed, "stopping"))
    normal_out = rng.permutation(len(task.normals))[: len(task.normals) // 5]
    keep = np.delete(np.arange(len(task.normals)), normal_out)
    keys = [entry.key for number in range(ROUNDS + 1) for entry in RunFolder(out).fresh(number).entries]
    keys_out = set(rng.permutation(keys)[: len(keys) // 5].tolist())
    held_out = np.concatenate([_some(RunFolder(out).fresh(r), keys_out, inside=True) for r in range(ROUNDS + 1)])
    figures = []
    for number in range(ROUNDS + 1):
        pool = RunFolder(out).pool(number)
        sad = _sad(task.normals[keep], _some(pool, keys_out, inside=False), seed)
        scores = sad.score(np.concatenate([task.normals[normal_out], held_out]))
        figures.append(auroc(scores, np.arange(len(scores)) >= len(normal_out)))
    best = int(np.argmax(figures))
    chosen, last = (_auroc(_sad(task.normals, RunFolder(out).pool(r).images, seed), task) for r in (best, ROUNDS))
    return {STOPPED: {"auroc": chosen, "round": best}, LAST: {"auroc": last, "round": ROUNDS}}


def _some(pool: AnomalyPool, keys: set[str], *, inside: bool) -> Images:
    return pool.images[np.array([(entry.key in keys) == inside for entry in pool.entries], dtype=bool)]


def _sad(normals: Images, anomalies: Images, seed: int) -> SAD:
    return SAD(settings=DeepSADSettings(), seed=derive_seed(seed, "detector")).fit(normals, anomalies)


def _auroc(sad: SAD, task: Task) -> float:
    assert task.test is not None
    return round(auroc(sad.score(task.test.images), task.test.is_anomaly), 4)


def run(place: Place, seeds: int, command: str) -> list[dict]:
    """A row for each (task, seed, choice)."""
    rows: list[dict] = json.loads(OUT.read_text())["runs"] if OUT.is_file() else []
    for seed in range(seeds):
        for name, normal in TASKS:
            title = f"{name} {normal}"
            if any(row["task"] == title and row["seed"] == seed for row in rows):
                continue
            cell = Cell(dataset=name, normal=normal, detector="sad", arm=f"rep-{ROUNDS}", seed=0)
            task = open_cell_task(cell, place.data)
            out = ensure_pool(cell, task, place.data, place.work)
            for choice, figures in (by_choice(task, out, seed) | by_stopping(task, out, seed)).items():
                rows.append({"task": title, "seed": seed, "choice": choice, **figures})
                print(f"{title}, seed {seed}, {choice}: {100 * figures['auroc']:.1f}", flush=True)
            write_atomically(OUT, json.dumps({"command": command, "runs": rows}, indent=1) + "\n")
    return rows


def table(rows: list[dict]) -> str:
    """Markdown: mean over tasks of the mean over seeds, and the paired gain over what stands first of its kind."""
    lines = ["| 200 anomalies | AUROC | paired gain over as generated | tasks |", "|---|---:|---:|---:|"]
    lines += [_line(rows, choice, "as generated") for choice in CHOICES]
    return "\n".join([*lines, "", "| pool of | AUROC | over the last round | tasks |", "|---|---:|---:|---:|",
                      _line(rows, LAST, LAST), _line(rows, STOPPED, LAST)])  # fmt: skip


def _line(rows: list[dict], choice: str, base: str) -> str:
    found = {c: {(r["task"], r["seed"]): 100 * r["auroc"] for r in rows if r["choice"] == c} for c in (choice, base)}
    tasks = sorted({task for task, _ in found[choice]})
    means, gains = [], []
    for task in tasks:
        mine = [key for key in found[choice] if key[0] == task]
        means.append(float(np.mean([found[choice][key] for key in mine])))
        gains.append(float(np.mean([found[choice][key] - found[base][key] for key in mine])))
    gain = "" if choice == base else as_text(mean_ci95(gains), signed=True)
    figure = as_text(mean_ci95(means)) if means else "–"
    return f"| {choice} | {figure} | {gain if means else ''} | {len(tasks)} |"


def main() -> None:
    place, seeds = parsed(__doc__, 2)
    print(table(run(place, seeds, f"python benchmarks/selection.py --data DATA --seeds {seeds}")))


if __name__ == "__main__":
    main()
