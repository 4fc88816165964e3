"""What painted anomalies are worth on photos: detectors trained with them, beside their controls, on magnetic tiles.

    OMP_NUM_THREADS=1 python benchmarks/painted.py --data ../shared/data --weights mobilenetv2_100_in1k.safetensors \\
        --runs runs/painted

Tasks, tuning apart from what is reported, and the preset `cpu` of each detector: as in `photos.py`. Arms, 200 pictures
each: none; noise; other (flowers, beside flowers aerial photos); cutpaste (a rectangle or a scar of the photo itself,
pasted elsewhere: Li et al. 2021); painted (`paint` with random captions of the grammar, no loop), and, where `--runs`
has what `painted_runs.py` made, the pools of Algorithm 1 after a round: kka-0, rep-2, add-2, and, of everything that
the run in mode rep generated, as many with 0 to 100 % hard ones among them (`kka experiment hardness` has the same
choices). Detectors that take masks get them, but for `painted, no masks`.

A row a process, kept in results/painted.json row by row; rows that are there are not measured again.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from photos import CLASSES, Case, Pictures, apart, aupro, by_kind, pictures

from kka.algorithm.fitness import VISIBLE, difference
from kka.algorithm.folder import RunFolder
from kka.algorithm.pictures import fit_pictures
from kka.common.files import write_atomically
from kka.common.metrics import mean_ci95
from kka.data import open_task
from kka.defects.grammar import describe
from kka.deploy.anomalies import Anomalies, fit_anomalies, read_anomalies
from kka.detectors import build_detector
from kka.detectors.graph import in_batches
from kka.experiments.engine.choices import CHOICES, chosen
from kka.imaging.paint.painter import Paint
from kka.seeding import derive_seed
from kka.settings.backbone import BackboneSettings

OUT = Path(__file__).parent / "results" / "painted.json"
SUBJECTS = {"tiles": "a grey photo of a magnetic tile", "flowers 77": "a photo of a flower",
            "aerial 19+20": "an aerial photo of land"}  # fmt: skip
"""Of the tasks that are reported, what the photos show."""
COUNT = 200
SIZE = 256
"""Pixels a side at which photos are kept and altered; what is smaller, a detector makes of all of them alike."""
DETECTORS = {"dfm": 128, "simplenet": 128, "patchcore": 256, "recontrast": 128, "sad": 32, "ssd": 32, "cmda": 32}
"""Detector -> pixels a side. The last three say nothing of where: they take whole pictures, and no masks."""
WHOLE = ("sad", "ssd", "cmda")
CONTROLS = ("none", "painted", "cutpaste", "other", "noise")
NORMALS = (600, 50)
MODES: tuple[Literal["rep", "add"], ...] = ("rep", "add")
ROUNDS = 2
POOLS = {"kka-0": ("rep", 0), "rep-2": ("rep", ROUNDS), "add-2": ("add", ROUNDS)}
"""Arm -> the mode of its run, and the round after which the pool is taken."""
SHARES = tuple(name for name in CHOICES if name.startswith("share-"))
"""By the share of hard ones among them."""
TABLES = (
    ("tiles", 600, "reported"), ("tiles", 50, "reported"), ("flowers 77", 600, "all"), ("aerial 19+20", 600, "all"),
)  # fmt: skip
"""What is reported: task, normals at most, and the group of kinds."""
SMALL = 0.25
"""Largest share of a photo that a mask may cover, of the arm `painted small`."""
VARIANTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("simplenet", "painted, no masks", ()),
    ("simplenet", "painted small", ("mask_weight=0.3",)),
    ("simplenet", "painted small", ()),
    ("simplenet", "painted", ("mask_most=1",)),
    ("simplenet", "painted small", ("mask_weight=0.03",)),
    ("simplenet", "painted small", ("mask_from=0.3",)),
    ("simplenet", "painted faint", ()),
    ("simplenet", "painted strong", ()),
    ("patchcore", "painted, no masks", ()),
    ("patchcore", "painted small", ()),
    ("patchcore", "painted", ()),
    ("patchcore", "cutpaste", ()),
    ("simplenet", "cutpaste", ()),
    ("recontrast", "painted, no masks", ()),
    ("recontrast", "painted", ()),
    ("recontrast", "painted small", ()),
    ("recontrast", "cutpaste", ()),
)
"""What was chosen among, on `tuning`: detector, arm, and settings on top of the preset."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured."""

    task: str
    detector: str
    arm: str
    seed: int
    sets: tuple[str, ...] = ()
    normals: int = 600
    """At most so many of the task's."""


def rows_of(runs: Path | None) -> list[Row]:
    """All of them, seed by seed; of the pools, those that are there."""
    wanted: list[Row] = []
    for seed in range(3):
        wanted += [Row("tuning", name, "none", seed) for name in DETECTORS if name not in WHOLE]
        wanted += [Row("tuning", name, arm, seed, sets) for name, arm, sets in VARIANTS]
        for task, normals, _ in TABLES:
            modes = [mode for mode in MODES if runs and ended(folder_of(runs, task, normals, mode, seed))]
            arms = [*CONTROLS, *(arm for arm, (mode, _) in POOLS.items() if mode in modes)]
            arms += SHARES if MODES[0] in modes and normals == NORMALS[0] else ()
            wanted += [Row(task, name, arm, seed, (), normals) for name in DETECTORS for arm in arms]
    return wanted


def folder_of(runs: Path, task: str, normals: int, mode: str, seed: int) -> Path:
    """Of a run of `painted_runs.py`."""
    return runs / f"{task.replace(' ', '-')}-{normals}-{mode}-{seed}"


def ended(run: Path) -> bool:
    """Whether all its rounds are there."""
    return (run / "rounds" / str(ROUNDS) / "pool" / "pool.parquet").is_file()


def chosen_normals(total: int, number: int, seed: int) -> np.ndarray:
    """Places, ascending: at most so many of the task's."""
    order = np.random.default_rng(derive_seed(seed, "normals")).permutation(total)
    return np.sort(order[:number])


def anomalies_of(row: Row, normals: np.ndarray, data: Path, runs: Path | None) -> Anomalies | None:
    """What the arm trains with besides the normals."""
    rng, size = np.random.default_rng(derive_seed(row.seed, "arm")), normals.shape[1]
    if row.arm == "none":
        return None
    if row.arm == "noise":
        return Anomalies(images=rng.integers(0, 256, (COUNT, size, size, 3), dtype=np.uint8))
    if row.arm == "other":
        folder, normal = CLASSES["aerial 19+20" if row.task.startswith("flowers") else "flowers 77"]
        known = open_task(str(data / folder), normal=normal, unseen=0.0).knowledge
        assert known is not None
        return Anomalies(images=fit_pictures(known.images[rng.permutation(len(known.images))[:COUNT]], (size, size)))
    if row.arm == "cutpaste":
        return cut_paste(normals[rng.integers(len(normals), size=COUNT)], rng)
    if row.arm in POOLS or row.arm in SHARES:
        assert runs is not None
        mode, number = POOLS.get(row.arm, (MODES[0], ROUNDS))
        run = folder_of(runs, row.task, row.normals, mode, row.seed)
        if row.arm in POOLS:
            stage = "images/images.parquet" if number == 0 else "pool/pool.parquet"
            return read_anomalies(run / "rounds" / str(number) / stage, size)
        made = RunFolder(run).everything()
        relative, round_of = (np.array([getattr(e, name) for e in made.entries]) for name in ("relative", "round"))
        found = made.take(chosen(CHOICES[row.arm], relative, round_of, seed=derive_seed(row.seed, "controls")).tolist())
        if found.images.shape[1:3] != (size, size):
            raise ValueError(f"{run}: expected pictures of {size} pixels; got {found.images.shape[1:3]}")
        return Anomalies.of_pool(found, None)
    painting, shows = painted(normals, rng, SUBJECTS.get(row.task, SUBJECTS["tiles"]))
    assert painting.masks is not None
    small = (painting.masks > 0).mean(axis=(1, 2)) <= SMALL
    if "small" in row.arm:
        painting = painting.only(small)
    if "faint" in row.arm or "strong" in row.arm:
        painting = painting.only(small & ((shows < np.median(shows)) == ("faint" in row.arm)))
    return dataclasses.replace(painting, masks=None) if "no masks" in row.arm else painting


def painted(
    normals: np.ndarray, rng: np.random.Generator, subject: str = SUBJECTS["tiles"]
) -> tuple[Anomalies, np.ndarray]:
    """`COUNT` of the normals, each with what a random caption of the grammar says, and how much each shows."""
    painter = Paint(subject=subject, others=normals)
    captions = [describe(rng, subject) for _ in range(COUNT)]
    chosen = rng.integers(len(normals), size=COUNT)
    made = painter.alter(normals[chosen], captions, seeds=rng.integers(2**31, size=COUNT).tolist())
    shows = np.array([difference(*three) for three in zip(made.images, normals[chosen], made.masks, strict=True)])
    shown = shows >= VISIBLE
    return Anomalies(images=made.images[shown], masks=made.masks[shown]), shows[shown]


def cut_paste(normals: np.ndarray, rng: np.random.Generator) -> Anomalies:
    """Half of them with a rectangle of 2 to 15 % of the photo from elsewhere in it, half with a thin scar of it."""
    size, images = normals.shape[1], normals.copy()
    masks = np.zeros(normals.shape[:3], np.uint8)
    for i, image in enumerate(images):
        if i % 2:
            height, width = rng.integers(size // 12, size // 4), max(2, int(size * rng.uniform(0.01, 0.07)))
            height, width = (height, width) if rng.random() < 0.5 else (width, height)
        else:
            area, aspect = rng.uniform(0.02, 0.15) * size**2, np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
            sides = np.sqrt([area / aspect, area * aspect])
            height, width = np.clip(sides, 2, size - 1).astype(int).tolist()
        (top, y), (left, x) = rng.integers(0, size - height + 1, 2), rng.integers(0, size - width + 1, 2)
        image[top : top + height, left : left + width] = normals[i, y : y + height, x : x + width]
        masks[i, top : top + height, left : left + width] = 255
    return Anomalies(images=images, masks=masks)


def measured(row: Row, data: Path, weights: Path, runs: Path | None) -> dict[str, Any]:
    """The figures of a row."""
    whole = row.detector in WHOLE
    case = Case(row.task, row.detector, DETECTORS[row.detector], row.sets)
    found: Pictures = pictures(dataclasses.replace(case, size=SIZE), data)
    normals = found.normals[chosen_normals(len(found.normals), row.normals, row.seed)]
    anomalies = anomalies_of(row, normals, data, runs)
    backbone = BackboneSettings(name="mobilenetv2_100", weights=str(weights), padding="same", mean=(0.5,), std=(0.5,))
    how: dict[str, Any] = {"overrides": row.sets} if whole else {"overrides": case.overrides, "backbone": backbone}
    detector: Any = build_detector(row.detector, preset="cpu", seed=row.seed, **how)
    cpu = time.process_time()
    fit_anomalies(detector, normals, anomalies, captions=["a photo"] * len(normals))
    seconds = time.process_time() - cpu
    scores = detector.score(found.test)
    facts = {
        "anomalies": 0 if anomalies is None else len(anomalies.images), "cpu_seconds": seconds,
        "auroc": by_kind(scores, found.kinds), "settings": dataclasses.asdict(detector.settings),
    }  # fmt: skip
    if whole or found.masks is None:
        return facts
    grids = in_batches(detector.graph_.maps, found.test, torch.device("cpu"), batch=16)
    return facts | {"aupro": aupro(grids, found.masks, found.kinds, case.size)}


def table(rows: list[dict[str, Any]], task: str, normals: int, group: str) -> list[str]:
    """Markdown: of each detector and arm the AUROC of a group of kinds, the difference from `none` paired by seed, and
    AUPRO, in %; mean over seeds, with 95 % intervals where there are several."""
    own = [row for row in rows if row["task"] == task and row["normals"] == normals]
    lines = ["| detector | trained with | AUROC | over none | AUPRO | seeds |", "|---|---|---:|---:|---:|---:|"]
    done = set()
    for row in own:
        key = (row["detector"], row["arm"], tuple(row["sets"]))
        if key in done:
            continue
        done.add(key)
        mine = {r["seed"]: r for r in own if (r["detector"], r["arm"], tuple(r["sets"])) == key}
        plain = {r["seed"]: r for r in own if (r["detector"], r["arm"]) == (key[0], "none")}
        seeds = sorted(mine.keys() & plain.keys())
        gains = [100 * (mine[s]["auroc"][group] - plain[s]["auroc"][group]) for s in seeds]
        mean, ci = mean_ci95(gains) if gains else (0.0, None)
        told = f"{mean:+.1f}" + (f" ± {ci:.1f}" if ci is not None else "")
        auroc = 100 * float(np.mean([r["auroc"][group] for r in mine.values()]))
        maps = [r["aupro"][group] for r in mine.values() if "aupro" in r]
        pro = f"{100 * float(np.mean(maps)):.1f}" if maps else "–"
        said = ", ".join([row["arm"], *row["sets"]])
        lines.append(f"| {row['detector']} | {said} | {auroc:.1f} | {told} | {pro} | {len(mine)} |")
    return lines


def by_arm(rows: list[dict[str, Any]], task: str, normals: int, group: str) -> list[str]:
    """Markdown: of each arm the gain over none and over painted, mean over detectors; of each detector the mean over
    the seeds that have both. ± is the 95 % interval over detectors."""
    own = [row for row in rows if row["task"] == task and row["normals"] == normals and not row["sets"]]
    auroc = {(row["arm"], row["detector"], row["seed"]): 100 * row["auroc"][group] for row in own}

    def gains(arm: str, base: str) -> dict[str, float]:
        found = {}
        for name in DETECTORS:
            both = [s for s in range(3) if (arm, name, s) in auroc and (base, name, s) in auroc]
            if both:
                found[name] = float(np.mean([auroc[arm, name, s] - auroc[base, name, s] for s in both]))
        return found

    def told(found: dict[str, float]) -> str:
        if not found:
            return "–"
        mean, ci = mean_ci95([*found.values()])
        return f"{mean:+.1f}" + ("" if ci is None or len(found) < 3 else f" ± {ci:.1f}")  # of two it says nothing

    lines = ["| trained with | over none | the least of a detector | over painted | detectors |",
             "|---|---:|---:|---:|---:|"]  # fmt: skip
    for arm in dict.fromkeys(row["arm"] for row in own):
        over = gains(arm, "none")
        if arm == "none" or not over:
            continue
        least = min(over, key=over.__getitem__)
        beside = "" if arm == "painted" else told(gains(arm, "painted"))
        lines.append(f"| {arm} | {told(over)} | {over[least]:+.1f} ({least}) | {beside} | {len(over)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--only", nargs="+", choices=["tuning", *SUBJECTS])
    parser.add_argument("--detectors", nargs="+", default=[*DETECTORS])
    parser.add_argument("--arms", nargs="+", help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--normals", type=int, nargs="+", default=[*NORMALS])
    parser.add_argument("--show", action="store_true", help="measure nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(OUT.read_text()) if OUT.is_file() else {"rows": []}
    rows: list[dict[str, Any]] = stored["rows"]
    keys = [{name: row[name] for name in (field.name for field in dataclasses.fields(Row))} for row in rows]
    for row in [] if options.show else rows_of(options.runs):
        spec = json.loads(json.dumps(dataclasses.asdict(row)))
        if (options.only and row.task not in options.only) or (options.arms and row.arm not in options.arms):
            continue
        if row.detector not in options.detectors or row.seed >= options.seeds or row.normals not in options.normals:
            continue
        if spec in keys:
            continue
        given = (row, options.data, options.weights, options.runs)
        rows.append({**spec, **json.loads(json.dumps(apart(lambda given=given: measured(*given))))})  # type: ignore[misc]
        write_atomically(OUT, json.dumps({"backbone": options.weights.name, "rows": rows}, indent=1) + "\n")
        told = {kind: round(100 * value, 1) for kind, value in rows[-1]["auroc"].items()}
        print(row.task, row.detector, row.arm, *row.sets, row.seed, row.normals, told, file=sys.stderr, flush=True)
    for task, normals, group in (("tuning", 600, "all"), *TABLES):
        print(f"\n{task}, {normals} normals at most, {group}", *table(rows, task, normals, group), sep="\n")


if __name__ == "__main__":
    main()
