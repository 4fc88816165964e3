"""Does a set of anomalies do harm, and can a run tell from its own held-out pictures, without a test label?

Deep SAD on four fifths of a task's normals, alone and with 150 pictures of each kind: what the loop's first generation
drew; the same drawn so poorly that colour alone is left (brought down to 4 x 4 pixels); noise; something else
altogether; pictures of the normals' own captions. A fifth of the normals and 50 further pictures of the kind are held
out. Told beside the true gain (test AUROC with them less alone): how well the held-out pictures of the kind are told
from the held-out normals by the detector alone (`before`) and with the others (`after`), and what has become of the
loop's held-out pictures (`loop_after` less `loop_before`). Pools are those of `kka experiment table3`.

    python benchmarks/harm.py --dataset garden
    python benchmarks/harm.py --dataset oxford102 --data data --loop images=diffusers:MODEL drawing.steps=10
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from kka.common.files import write_atomically
from kka.common.metrics import auroc, mean_ci95
from kka.detectors import fit_detector
from kka.experiments.engine.anomalies import anomalies_of
from kka.experiments.engine.cell_task import open_cell_task
from kka.experiments.engine.cells import Cell
from kka.experiments.engine.compute import build
from kka.experiments.engine.place import Place
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.summary import as_text
from kka.protocols import Images
from kka.seeding import derive_seed
from kka.settings.backbone import BackboneSettings
from kka.task import Task

OUT = Path(__file__).parent / "results" / "harm.json"
ARMS = {"rep-0": "rep-0", "poor": "rep-0", "noise": "noise", "other": "other", "traces": "traces"}
"""Kind of pictures -> the arm of Table III that they are made of."""
TRAINED, HELD = 150, 50
COARSE = 4


def poor(images: Images) -> Images:
    """Colour alone, as a model that has hardly learned draws."""
    side = images.shape[1]
    small = [Image.fromarray(image).resize((COARSE, COARSE), Image.Resampling.BOX) for image in images]
    return np.stack([np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in small])


def rows_of(task: Task, cells: dict[str, Cell], place: Place) -> list[dict[str, Any]]:
    """The figures of one task and seed, a row a kind."""
    assert task.test is not None
    first = cells["none"]
    order = np.random.default_rng(derive_seed(first.seed, "harm")).permutation(len(task.normals))
    held = task.normals[order[: len(order) // 5]]
    normals = task.normals[np.sort(order[len(order) // 5 :])]
    captions = tuple(np.array(task.captions, dtype=object)[np.sort(order[len(order) // 5 :])])
    drawn: dict[str, Images] = {}
    for kind, arm in ARMS.items():
        images = anomalies_of(cells[arm], task, place).images
        assert images is not None
        mixed = images[np.random.default_rng(derive_seed(first.seed, "harm", kind)).permutation(len(images))]
        drawn[kind] = poor(mixed) if kind == "poor" else mixed

    def told(detector: Any, images: Images) -> float:
        return auroc(
            np.concatenate([detector.score(held), detector.score(images)]),
            np.r_[np.zeros(len(held), bool), np.ones(len(images), bool)],
        )

    def trained(images: Images | None) -> Any:
        return fit_detector(build(first, place), normals, images, captions=captions)

    def tested(detector: Any) -> float:
        assert task.test is not None
        return auroc(detector.score(task.test.images), task.test.is_anomaly)

    alone = trained(None)
    figures = []
    for kind, images in drawn.items():
        detector, kept = trained(images[:TRAINED]), images[TRAINED : TRAINED + HELD]
        loop = drawn["rep-0"][TRAINED : TRAINED + HELD]
        figures.append({
            "kind": kind, "alone": tested(alone), "with": tested(detector),
            "before": told(alone, kept), "after": told(detector, kept),
            "loop_before": told(alone, loop), "loop_after": told(detector, loop),
        })  # fmt: skip
    return figures


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row a kind; then how the signals go with the gain."""
    lines = ["| trained with | gain | worse than alone | own, before | own, after | the loop's, change |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for kind in ARMS:
        here = [row for row in rows if row["kind"] == kind]
        gains = [100 * (row["with"] - row["alone"]) for row in here]
        own = [f"{100 * np.mean([row[name] for row in here]):.1f}" for name in ("before", "after")]
        change = [100 * (row["loop_after"] - row["loop_before"]) for row in here]
        lines.append(f"| {kind} | {as_text(mean_ci95(gains))} | {sum(g < 0 for g in gains)} of {len(gains)} | "
                     f"{' | '.join(own)} | {as_text(mean_ci95(change))} |")  # fmt: skip
    return lines


def correlations(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Spearman's rho of each signal with the gain, over tasks and kinds."""
    gain = [row["with"] - row["alone"] for row in rows]
    signals = {
        "before": [row["before"] for row in rows], "after": [row["after"] for row in rows],
        "own change": [row["after"] - row["before"] for row in rows],
        "the loop's change": [row["loop_after"] - row["loop_before"] for row in rows],
        "the loop's, after": [row["loop_after"] for row in rows],
    }  # fmt: skip
    return {name: round(float(spearmanr(values, gain).statistic), 3) for name, values in signals.items()}


def main() -> None:
    """Tasks that are stored are not computed again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="garden")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--tasks", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--loop", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    stored: list[dict[str, Any]] = json.loads(args.out.read_text())["rows"] if args.out.is_file() else []
    place = Place(data=args.data, work=args.work, backbone=BackboneSettings())
    plan = Plan(
        datasets=(args.dataset,), chosen=tuple(args.tasks), seeds=range(args.seeds), scale="cpu", protocol="withheld",
        backbone="", loop=tuple(args.loop),
    )  # fmt: skip
    for seed in plan.seeds:
        for name, normal in plan.tasks():
            key = {"dataset": name, "normal": normal, "seed": seed, "loop": " ".join(args.loop)}
            if any(key.items() <= row.items() for row in stored):
                continue
            cells = {arm: plan.cell(name, normal, "sad", arm, seed) for arm in {"none", *ARMS.values()}}
            rows = rows_of(open_cell_task(cells["none"], args.data), cells, place)
            stored += [key | row for row in rows]
            for row in rows:
                told = {k: v if isinstance(v, str) else round(v, 3) for k, v in row.items()}
                print(name, normal, seed, told, flush=True)
            shown = {each: [row for row in stored if row["dataset"] == each] for each in {r["dataset"] for r in stored}}
            summary = {each: correlations(found) for each, found in shown.items()}
            write_atomically(args.out, json.dumps({"spearman": summary, "rows": stored}, indent=1) + "\n")
    for each in sorted({row["dataset"] for row in stored}):
        found = [row for row in stored if row["dataset"] == each]
        print(f"\n{each}", *table(found), correlations(found), sep="\n")


if __name__ == "__main__":
    main()
