"""What painted anomalies are worth on photos: detectors trained with them, beside their controls, on magnetic tiles.

    OMP_NUM_THREADS=1 python benchmarks/painted.py --data ../shared/data --weights mobilenetv2_100_in1k.safetensors \\
        --runs runs/tiles

Tasks, tuning apart from what is reported, and the preset `cpu` of each detector: as in `photos.py`. Arms, 200 pictures
each: none; noise; other (flowers); cutpaste (a rectangle or a scar of the photo itself, pasted elsewhere: Li et al.
2021); painted (`paint` with random captions of the grammar, no loop), and, where `--runs` has them, the pools of runs
of `kka run` as they stand after a round: kka-0, rep-2, add-2 (folders `rep-<seed>` and `add-<seed>`). Detectors that
take masks get them, but for `painted, no masks`.

A row a process, kept in results/painted.json row by row; rows that are there are not measured again.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photos import Case, Pictures, apart, aupro, by_kind, pictures

from kka.algorithm.fitness import VISIBLE, difference
from kka.algorithm.pictures import fit_pictures
from kka.common.files import write_atomically
from kka.common.metrics import mean_ci95
from kka.data import open_task
from kka.defects.grammar import describe
from kka.deploy.anomalies import Anomalies, fit_anomalies, read_anomalies
from kka.detectors import build_detector
from kka.detectors.graph import in_batches
from kka.imaging.paint.painter import Paint
from kka.seeding import derive_seed
from kka.settings.backbone import BackboneSettings

OUT = Path(__file__).parent / "results" / "painted.json"
SUBJECT = "a grey photo of a magnetic tile"
COUNT = 200
SIZE = 256
"""Pixels a side at which photos are kept and altered; what is smaller, a detector makes of all of them alike."""
DETECTORS = {"simplenet": 128, "recontrast": 128, "patchcore": 256, "dfm": 128}
"""Detector -> pixels a side."""
CONTROLS = ("none", "painted", "cutpaste", "other", "noise")
POOLS = {"kka-0": ("rep", 0), "rep-2": ("rep", 2), "add-2": ("add", 2)}
"""Arm -> the mode of its run, and the round after which the pool is taken."""
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
        wanted += [Row("tuning", name, "none", seed) for name in DETECTORS]
        wanted += [Row("tuning", name, arm, seed, sets) for name, arm, sets in VARIANTS]
        there = [arm for arm, (mode, _) in POOLS.items() if runs and (runs / f"{mode}-{seed}/summary.json").is_file()]
        for normals in (600, 50):
            arms = [*CONTROLS, *there]
            wanted += [Row("tiles", name, arm, seed, (), normals) for arm in arms for name in DETECTORS]
    return wanted


def anomalies_of(row: Row, normals: np.ndarray, data: Path, runs: Path | None) -> Anomalies | None:
    """What the arm trains with besides the normals."""
    rng, size = np.random.default_rng(derive_seed(row.seed, "arm")), normals.shape[1]
    if row.arm == "none":
        return None
    if row.arm == "noise":
        return Anomalies(images=rng.integers(0, 256, (COUNT, size, size, 3), dtype=np.uint8))
    if row.arm == "other":
        known = open_task(str(data / "oxford102"), normal=("77",), unseen=0.0).knowledge
        assert known is not None
        return Anomalies(images=fit_pictures(known.images[rng.permutation(len(known.images))[:COUNT]], (size, size)))
    if row.arm == "cutpaste":
        return cut_paste(normals[rng.integers(len(normals), size=COUNT)], rng)
    if row.arm in POOLS:
        assert runs is not None
        mode, number = POOLS[row.arm]
        stage = "images/images.parquet" if number == 0 else "pool/pool.parquet"
        return read_anomalies(runs / f"{mode}-{row.seed}" / "rounds" / str(number) / stage, size)
    made, shows = painted(normals, rng)
    assert made.masks is not None
    small = (made.masks > 0).mean(axis=(1, 2)) <= SMALL
    if "small" in row.arm:
        made = made.only(small)
    if "faint" in row.arm or "strong" in row.arm:
        made = made.only(small & ((shows < np.median(shows)) == ("faint" in row.arm)))
    return dataclasses.replace(made, masks=None) if "no masks" in row.arm else made


def painted(normals: np.ndarray, rng: np.random.Generator) -> tuple[Anomalies, np.ndarray]:
    """`COUNT` of the normals, each with what a random caption of the grammar says, and how much each shows."""
    painter = Paint(subject=SUBJECT, others=normals)
    captions = [describe(rng, SUBJECT) for _ in range(COUNT)]
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
    case = Case(row.task, row.detector, DETECTORS[row.detector], row.sets)
    found: Pictures = pictures(dataclasses.replace(case, size=SIZE), data)
    assert found.masks is not None
    normals = found.normals
    if row.normals < len(normals):
        some = np.random.default_rng(derive_seed(row.seed, "normals")).permutation(len(normals))[: row.normals]
        normals = normals[np.sort(some)]
    anomalies = anomalies_of(row, normals, data, runs)
    backbone = BackboneSettings(name="mobilenetv2_100", weights=str(weights), padding="same", mean=(0.5,), std=(0.5,))
    detector: Any = build_detector(
        row.detector, preset="cpu", overrides=case.overrides, backbone=backbone, seed=row.seed
    )
    cpu = time.process_time()
    fit_anomalies(detector, normals, anomalies, captions=["a tile"] * len(normals))
    seconds = time.process_time() - cpu
    scores = detector.score(found.test)
    grids = in_batches(detector.graph_.maps, found.test, torch.device("cpu"), batch=16)
    return {
        "anomalies": 0 if anomalies is None else len(anomalies.images), "cpu_seconds": seconds,
        "auroc": by_kind(scores, found.kinds), "aupro": aupro(grids, found.masks, found.kinds, case.size),
        "settings": dataclasses.asdict(detector.settings),
    }  # fmt: skip


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
        auroc, pro = (100 * float(np.mean([r[name][group] for r in mine.values()])) for name in ("auroc", "aupro"))
        said = ", ".join([row["arm"], *row["sets"]])
        lines.append(f"| {row['detector']} | {said} | {auroc:.1f} | {told} | {pro:.1f} | {len(mine)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--only", nargs="+", choices=["tuning", "tiles"])
    parser.add_argument("--detectors", nargs="+", default=[*DETECTORS])
    parser.add_argument("--arms", nargs="+", help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--normals", type=int, nargs="+", default=[600, 50])
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
    for task, normals, group in (("tuning", 600, "all"), ("tiles", 600, "reported"), ("tiles", 50, "reported")):
        print(f"\n{task}, {normals} normals at most, {group}", *table(rows, task, normals, group), sep="\n")


if __name__ == "__main__":
    main()
