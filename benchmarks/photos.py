"""Which detector for photos: DFM, SimpleNet, ReContrast, PatchCore by size and strides; tiles, flowers, aerial photos.

    OMP_NUM_THREADS=1 python benchmarks/photos.py --data ../shared/data --weights mobilenetv2_100_in1k.safetensors

Choices are made on `tuning` alone: of the tiles' training photos 480 to train with and 120 that stand for good ones,
against the defects fray and blowhole. `tiles` is what is reported: all 600, against the test set's good photos, and
break, crack and uneven, which no choice has seen, apart from the other two. Flowers and aerial photos (two classes
each, none of the tuning classes of the other benchmarks) are small; their AUROC is of other classes' pictures, with
normals alone and with 200 pictures of known classes as anomalies.

A row a process. Kept in results/photos.json, row by row; rows that are there are not measured again. Image AUROC by
kind of defect and for several shares of patches that a score is the mean of, AUPRO, CPU seconds of the training
(features included, one thread), peak memory. Ends with writing the tables into docs/detectors.md; `--show` does that
alone.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detector_row import memory_mb

from kka.common.files import write_atomically
from kka.common.metrics import chance
from kka.common.pixel_metrics import count_pixels
from kka.data import open_task
from kka.detectors import build_detector
from kka.detectors.graph import in_batches
from kka.detectors.heatmaps import photo_maps
from kka.settings.backbone import BackboneSettings

OUT = Path(__file__).parent / "results" / "photos.json"
PAGE = Path(__file__).parents[1] / "docs" / "detectors.md"
TITLES = {
    "tiles": "Magnetic tiles: reported", "tuning": "Magnetic tiles: what the choices were made on",
    "flowers 77": "Oxford-102, 77", "flowers 26": "Oxford-102, 26", "aerial 19+20": "UCM-Caption, 19+20",
    "aerial 3+16": "UCM-Caption, 3+16",
}  # fmt: skip
NAMES = {"dfm": "DFM", "patchcore": "PatchCore", "simplenet": "SimpleNet", "recontrast": "ReContrast"}
TUNING_KINDS, REPORTED_KINDS = ("blowhole", "fray"), ("break", "crack", "uneven")
TUNING_GOOD = 120
SHARES = (0.0, 0.01, 0.03, 0.1, 0.25, 1.0)
CLASSES = {"flowers 77": ("oxford102", ("77",)), "flowers 26": ("oxford102", ("26",)),
           "aerial 19+20": ("ucm_caption", ("19", "20")), "aerial 3+16": ("ucm_caption", ("3", "16"))}  # fmt: skip
NORMALS, TESTED, ANOMALIES = 100, 300, 200


@dataclasses.dataclass(frozen=True)
class Case:
    """A detector as it is set up, on a task."""

    task: str
    detector: str
    size: int
    sets: tuple[str, ...] = ()
    anomalies: bool = False

    @property
    def overrides(self) -> list[str]:
        """Of the preset `cpu`."""
        sizes = [f"size={self.size}"] + ([] if self.detector == "recontrast" else [f"crop={self.size}"])
        return [*sizes, *self.sets]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What a case is measured on."""

    normals: np.ndarray
    anomalies: np.ndarray | None
    test: np.ndarray
    kinds: np.ndarray
    """Of each test picture; "good" for normal ones."""
    masks: np.ndarray | None


PAIR, DEEP, THREE = "strides=8,16", "strides=16,32", "strides=8,16,32"
TUNING = [
    Case("tuning", "patchcore", 256),
    Case("tuning", "patchcore", 256, (THREE,)),
    Case("tuning", "patchcore", 192),
    Case("tuning", "patchcore", 128),
    Case("tuning", "simplenet", 256),
    Case("tuning", "patchcore", 320),
    Case("tuning", "patchcore", 256, (PAIR,)),
    Case("tuning", "patchcore", 256, ("most=500",)),
    Case("tuning", "patchcore", 256, ("most=8000",)),
    Case("tuning", "patchcore", 256, ("dimension=768",)),
    Case("tuning", "patchcore", 256, ("standardise=true",)),
    Case("tuning", "simplenet", 128),
    Case("tuning", "simplenet", 192),
    Case("tuning", "dfm", 128),
    Case("tuning", "dfm", 256),
    Case("tuning", "dfm", 128, ("pools=1",)),
    Case("tuning", "dfm", 128, ("pools=4", "map_pool=4")),
    Case("tuning", "dfm", 128, ("pools=1,8",)),
    Case("tuning", "dfm", 128, ("stride=8", "pools=4,16", "map_pool=2")),
    Case("tuning", "recontrast", 64),
    Case("tuning", "recontrast", 128),
    Case("tuning", "recontrast", 256),
]
REPORTED = [
    Case("tiles", "dfm", 128),
    Case("tiles", "dfm", 256),
    Case("tiles", "patchcore", 256),
    Case("tiles", "simplenet", 128),
    Case("tiles", "simplenet", 256),
    Case("tiles", "recontrast", 128),
    Case("tiles", "patchcore", 128),
    Case("tiles", "patchcore", 192),
]
OTHERS = [
    Case(task, detector, 128, (), known)
    for known in (False, True)
    for task in CLASSES
    for detector in ("dfm", "patchcore", "simplenet", "recontrast")
]
NO_ANOMALIES = [Case(task, "patchcore", 128, ("anomaly_weight=0",), True) for task in CLASSES]
"""The same pictures, with anomalies that are not used: what the rule for anomalies is worth."""


def pictures(case: Case, data: Path) -> Pictures:
    """Read as `kka train` reads them for a detector of this size."""
    if case.task in CLASSES:
        folder, normal = CLASSES[case.task]
        task = open_task(str(data / folder), normal=normal, unseen=0.5)
        assert task.test is not None and task.knowledge is not None
        rng = np.random.default_rng(0)
        some = rng.permutation(len(task.normals))[:NORMALS]
        odd = np.flatnonzero(task.test.is_anomaly)
        chosen = np.r_[np.flatnonzero(~task.test.is_anomaly), rng.permutation(odd)[:TESTED]]
        known = task.knowledge.images[rng.permutation(len(task.knowledge.images))[:ANOMALIES]]
        kinds = np.where(task.test.is_anomaly, "other", "good")[chosen]
        return Pictures(task.normals[some], known if case.anomalies else None, task.test.images[chosen], kinds, None)
    task = open_task(str(data / "magnetic_tile"), describe="a photo", size=case.size)
    assert task.test is not None and not task.set_aside
    kinds = np.where(task.test.is_anomaly, np.array(task.test.kinds), "good")
    images, masks = task.test.images, task.test.masks
    assert masks is not None
    if case.task == "tiles":
        return Pictures(task.normals, None, images, kinds, masks)
    order = np.random.default_rng(0).permutation(len(task.normals))
    good, rest = task.normals[order[:TUNING_GOOD]], task.normals[np.sort(order[TUNING_GOOD:])]
    odd = np.isin(kinds, TUNING_KINDS)
    blank = np.zeros((len(good), *masks.shape[1:]), bool)
    named = np.r_[np.repeat("good", len(good)), kinds[odd]]
    return Pictures(rest, None, np.concatenate([good, images[odd]]), named, np.concatenate([blank, masks[odd]]))


def measured(case: Case, data: Path, weights: Path) -> dict[str, Any]:
    """The figures of a row."""
    found = pictures(case, data)
    backbone = BackboneSettings(
        name="mobilenetv2_100", weights=str(weights), padding="same", mean=(0.5,), std=(0.5,)
    )
    detector: Any = build_detector(case.detector, preset="cpu", overrides=case.overrides, backbone=backbone, seed=0)
    before = memory_mb()["now"]
    wall, cpu = time.perf_counter(), time.process_time()
    detector.fit(found.normals, found.anomalies)
    row: dict[str, Any] = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall}
    row |= {"peak_mb": memory_mb()["peak"], "loaded_mb": before, "normals": len(found.normals)}
    row |= {"settings": dataclasses.asdict(detector.settings)}
    cpu = time.process_time()
    if found.masks is None:
        scores = detector.score(found.test)
    else:  # maps and scores of one pass
        grids = in_batches(detector.graph_.maps, found.test, torch.device("cpu"), batch=16)
        pooled = "pools" in row["settings"]  # whose score is of other poolings than its maps
        scores = detector.score(found.test) if pooled else of_grids(grids, row["settings"])
        np.testing.assert_allclose(scores[:8], detector.score(found.test[:8]), rtol=1e-3)
    row |= {"score_ms": 1000 * (time.process_time() - cpu) / len(found.test), "auroc": by_kind(scores, found.kinds)}
    if found.masks is not None:
        row["aupro"] = aupro(grids, found.masks, found.kinds, case.size)
    if found.masks is not None and not pooled:
        tops = {str(share): top_mean(grids, share) for share in SHARES}
        row["auroc_by_share"] = {share: by_kind(top, found.kinds) for share, top in tops.items()}
    return row


def of_grids(grids: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """The scores that go with the maps of a detector trained without anomalies."""
    if "pooling" in settings:
        return top_mean(grids, 0.0 if settings["pooling"] == "max" else 1.0)
    return top_mean(grids, settings["score_top"])


def top_mean(grids: np.ndarray, share: float) -> np.ndarray:
    """The mean over each map's highest places: a share of them, and at least one."""
    flat = np.sort(grids.reshape(len(grids), -1), axis=1)[:, ::-1]
    found: np.ndarray = flat[:, : max(1, round(share * flat.shape[1]))].mean(axis=1)
    return found


def groups(kinds: np.ndarray) -> dict[str, np.ndarray]:
    """Which pictures count as anomalous: of each kind, of all, and of the tiles' kinds that are reported."""
    found = {kind: kinds == kind for kind in sorted({*kinds.tolist()} - {"good"})}
    if set(REPORTED_KINDS) <= set(found):
        found["reported"] = np.isin(kinds, REPORTED_KINDS)
    return found | {"all": kinds != "good"}


def by_kind(scores: np.ndarray, kinds: np.ndarray) -> dict[str, float]:
    """AUROC of each group against all good pictures."""
    return {name: chance(scores[kinds == "good"], scores[odd]) for name, odd in groups(kinds).items()}


def aupro(grids: np.ndarray, masks: np.ndarray, kinds: np.ndarray, size: int) -> dict[str, float]:
    """Of each group, beside all good photos, at the photos' working size; maps as `score_map` makes them."""

    def maps(rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = photo_maps(
            torch.from_numpy(grids[rows]), (masks.shape[1], masks.shape[2]), size=size, crop=size
        ).numpy()
        return found

    counts = count_pixels(len(grids), maps, lambda rows: masks[rows])
    chosen = {name: odd | (kinds == "good") for name, odd in groups(kinds).items()}
    found = counts.figures(np.stack([rows.astype(float) for rows in chosen.values()]))
    return {name: figures["aupro"] for name, figures in zip(chosen, found, strict=True)}


def apart(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives in a process of its own, with an empty cache of features: its memory and time are its own."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def child() -> None:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["KKA_CACHE"] = cache
            there.send(work())

    process = context.Process(target=child)
    process.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv()
    except EOFError:
        raise SystemExit("a row's process ended without a result; see above") from None
    finally:
        process.join()
    return found


def table(rows: list[dict[str, Any]], task: str) -> list[str]:
    """Markdown, a line a row: AUROC in % by kind, AUPRO, CPU seconds of the training, MB that it added to those there.

    AUPRO: of the reported kinds where there are such, else of all.
    """
    own = [row for row in rows if row["task"] == task]
    if not own:
        return []
    kinds = list(own[0]["auroc"])
    kinds = ["all"] if len(kinds) == 2 else kinds  # one kind, and all of it
    of = "reported" if "reported" in kinds else "all"
    pro = ["AUPRO", "AUPRO, all"][: 2 if of == "reported" else 1] if "aupro" in own[0] else []
    titles = ["all five" if kind == "all" and of == "reported" else kind for kind in kinds]
    head = ["detector", "px", "set", *titles, *pro, "CPU s", "ms a photo", "MB"]
    lines = ["| " + " | ".join(head) + " |", "|---|---:|---|" + "---:|" * (len(head) - 3)]
    for row in own:
        figures = [f"{100 * row['auroc'][kind]:.1f}" for kind in kinds]
        figures += [f"{100 * row['aupro'][group]:.1f}" for group in (of, "all")[: len(pro)]]
        told = ", ".join([*row["sets"], *(["anomalies"] if row["anomalies"] else [])]) or "–"
        costs = [f"{row['cpu_seconds']:.0f}", f"{row['score_ms']:.0f}", f"{row['peak_mb'] - row['loaded_mb']:.0f}"]
        lines.append("| " + " | ".join([NAMES[row["detector"]], str(row["size"]), told, *figures, *costs]) + " |")
    return lines


def write_page(rows: list[dict[str, Any]]) -> None:
    """The tables in docs/detectors.md, between their marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition("<!-- photos -->\n")
    _, end, after = rest.partition("<!-- /photos -->")
    if not end:
        return
    parts = [f"**{TITLES[task]}**\n\n" + "\n".join(found) for task in TITLES if (found := table(rows, task))]
    write_atomically(PAGE, before + "<!-- photos -->\n" + "\n\n".join(parts) + "\n" + end + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*TITLES])
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(options.out.read_text()) if options.out.is_file() else {"rows": []}
    rows: list[dict[str, Any]] = stored["rows"]
    for case in [] if options.show else [*TUNING, *REPORTED, *OTHERS, *NO_ANOMALIES]:
        if (options.only and case.task not in options.only) or any(same(row, case) for row in rows):
            continue
        found = apart(lambda case=case: measured(case, options.data, options.weights))  # type: ignore[misc]
        spec = spec_of(case)
        rows[:] = [row for row in rows if not spec.items() <= row.items()]  # measured with settings that have changed
        rows.append({**spec, **found})
        whole = {"backbone": options.weights.name, "seed": 0, "rows": rows}
        write_atomically(options.out, json.dumps(whole, indent=1) + "\n")
        print(*table([rows[-1]], case.task)[-1:], file=sys.stderr, flush=True)
    write_page(rows)
    for task in TITLES:
        print(f"\n{TITLES[task]}", *table(rows, task), sep="\n")


def same(row: dict[str, Any], case: Case) -> bool:
    """Whether a stored row is of this case: with the settings that it would be measured with now."""
    known: Any = build_detector(case.detector, preset="cpu", overrides=case.overrides)
    settings = json.loads(json.dumps(dataclasses.asdict(known.settings)))
    return spec_of(case).items() <= row.items() and bool(row["settings"] == settings)


def spec_of(case: Case) -> dict[str, Any]:
    """The case, as a row begins."""
    spec: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(case)))
    return spec


if __name__ == "__main__":
    main()
