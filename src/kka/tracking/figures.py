"""The figures of a run, read from what it has stored: a pure function of its folder."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kka.algorithm.folder import LOSSES, SCORES, STAGES, RunFolder, arm_stage, stage_name
from kka.algorithm.records import Judgement
from kka.common.files import read_json, read_records
from kka.common.inspection import ALL, Row
from kka.common.manifest import read_entry
from kka.common.metrics import read_estimates
from kka.tracking.news import Axis, Scalar

WRITTEN = ("answers", "unusable", "duplicates", "copies_of_normals", "tokens", "tokens_read", "cost")
"""Counts of the captions' stage that are shown."""
TUNED = (
    "train_loss", "validation_loss", "margin", "accuracy", "kl_to_base", "base_entropy", "steps", "train_pairs",
    "different_before", "different_after",
)  # fmt: skip
"""Figures of Eq. 7 that are shown."""


def round_figures(folder: RunFolder, number: int) -> Iterator[Scalar]:
    """What round `number` made, by what is stored by now: round 0 is judged in round 1."""
    facts = folder.facts(number)
    yield from _scalars("hard_share", number, {
        "fresh": facts.hard_share_fresh, "pool": facts.hard_share_pool, "before": facts.hard_share_before,
    })  # fmt: skip
    yield from _scalars("pool", number, {"size": facts.pool_size, "entered": facts.entered})
    counts = read_entry(folder.root, stage_name(number, "captions")).counts
    captions = {name: counts.get(name) for name in WRITTEN}
    yield from _scalars("captions", number, {"usable": facts.captions, "asked": facts.captions_asked, **captions})
    yield from _scalars("pictures", number, {"made": facts.generated, "set_aside": facts.set_aside})
    report = None if facts.dpo is None else facts.dpo.report
    if report is not None:
        yield from _scalars("dpo", number, {name: getattr(report, name) for name in TUNED})
    yield from _scalars("evaluator", number, _judged(folder, number))
    seconds = [read_entry(folder.root, name).seconds for name in _stages(folder, number)]
    yield from _scalars("cost", number, {"seconds": sum(seconds)})


def _judged(folder: RunFolder, number: int) -> dict[str, Any]:
    """How far pictures lie from the centre, relative to the distance below which an anomaly is hard (Eq. 6)."""
    found: dict[str, Any] = {}
    if fresh := list((folder.judgements(number) or {}).values()):
        found["median_distance_fresh"] = np.median(fresh)
        found["nearest_tenth_fresh"] = np.quantile(fresh, 0.1)
    if number:
        rows = read_records(folder.file(number, "evaluator", SCORES), Judgement)
        if pool := [row.relative_distance for row in rows]:
            found["median_distance_pool"] = np.median(pool)
    return found


def _stages(folder: RunFolder, number: int) -> list[str]:
    names = ["representatives", *STAGES] if number == 0 else list(STAGES)
    return [name for stage in names if folder.file(number, stage, "stage.json").is_file()
            for name in [stage_name(number, stage)]]  # fmt: skip


def detector_figures(folder: RunFolder, summary: Mapping[str, Any]) -> Iterator[Scalar]:
    """The detectors of the comparison: each one's loss by epoch, and what each arm came to on the test images.

    The arms of the rounds are one curve, kka, over the rounds. A control is as a level line beside it.
    """
    last, seeds = int(summary["rounds"][-1]["round"]), len(summary["seeds"])
    for arm, stored in summary["arms"].items():
        for k in range(seeds):
            yield from losses(folder.root / arm_stage(arm, k), f"loss/{arm}/seed-{k}")
        of_round = arm.removeprefix("kka-")
        steps, name = ([int(of_round)], "kka") if of_round != arm else (range(last + 1), arm)
        for figure, estimate in read_estimates(stored).items():
            for step in steps:
                yield from _scalars(f"test/{figure}", step, {name: estimate.mean})
    if found := summary.get("inspection"):
        yield from inspected([Row.from_dict(row) for row in found["rows"]], "kept", last)


def losses(folder: Path, tag: str) -> Iterator[Scalar]:
    """The training loss of a detector by epoch (or iteration), where it told it."""
    if (file := folder / LOSSES).is_file():
        for epoch, loss in enumerate(read_json(file)["losses"]):
            yield from _scalars(tag.rpartition("/")[0], epoch, {tag.rpartition("/")[2]: loss}, axis="epoch")


def inspected(rows: list[Row], prefix: str, step: int) -> Iterator[Scalar]:
    """What inspectors measured of a detector: over all defects, and of the good photos its false alarms."""
    for row in rows:
        wanted = row.figures if row.kind == ALL else {n: f for n, f in row.figures.items() if n.startswith("false")}
        yield from _scalars(prefix, step, {name: figure.value for name, figure in wanted.items()})


def _scalars(prefix: str, step: int, values: Mapping[str, Any], *, axis: Axis = "round") -> Iterator[Scalar]:
    """Without what was not measured."""
    for name, value in values.items():
        if value is not None and math.isfinite(value):
            yield Scalar(tag=f"{prefix}/{name}", step=step, value=float(value), axis=axis)
