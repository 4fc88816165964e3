"""A run directory as plain records. Whatever a run may lack (test set, rounds, latent space) is None or empty here."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kka.algorithm.facts import RoundFacts
from kka.algorithm.folder import (
    ARM_SCORES,
    CONFIG,
    IMAGES,
    LATENT,
    LEDGER,
    SAMPLES,
    SUMMARY,
    TASK,
    TASK_ARRAYS,
    RunFolder,
    arm_name,
    arm_stage,
    up_to_date,
)
from kka.algorithm.records import Representative, UnusablePicture
from kka.algorithm.resume import may_change
from kka.common.begun import read_config, require_unedited
from kka.common.disk import reading
from kka.common.files import read_array, read_json
from kka.common.ledger import Ledger
from kka.common.manifest import check_stage
from kka.common.metrics import Estimate, read_estimates
from kka.deploy.gallery import GALLERY
from kka.errors import UserError
from kka.protocols import Images
from kka.report.altered import views


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One generated picture, without its pixels."""

    row: int
    """Its row in the round's images.parquet."""
    caption: str
    relative: float | None
    """Relative distance at its first judgement, by the evaluator of its round (round 0: of round 1). Below 1 = hard.
    None: never judged."""
    normal: int | None = None
    """The index of the normal that was altered; None: drawn from nothing."""


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """What one round made."""

    number: int
    facts: RoundFacts
    """The round's entry in summary.json."""
    captions: tuple[str, ...]
    pictures: tuple[Picture, ...]
    set_aside: tuple[UnusablePicture, ...]
    images_file: Path
    normals: Mapping[int, np.ndarray]
    """Index -> (h, w, 3), of those that were altered."""

    @property
    def alters(self) -> bool:
        """Whether its pictures are altered normals."""
        return bool(self.normals)

    def views(self, pictures: list[Picture]) -> list[list[Image.Image]]:
        """Some of the round's pictures, in that order, each as it is shown: see `kka.report.altered.views`."""
        import pyarrow.parquet as pq

        if not pictures:  # an empty list has no type that `take` knows
            return []
        columns = ["image", "mask"] if self.alters else ["image"]
        with reading(self.images_file):
            rows = pq.read_table(self.images_file, columns=columns).take([p.row for p in pictures]).to_pylist()
            arrays = [
                [np.asarray(Image.open(io.BytesIO(row[name]["bytes"]))) for name in columns] for row in rows
            ]
        return [
            views(
                None if picture.normal is None else self.normals[picture.normal],
                image[0], image[1] if self.alters else None,
            )
            for picture, image in zip(pictures, arrays, strict=True)
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ArmRecord:
    """One arm of the comparison."""

    name: str
    figures: dict[str, Estimate]
    """The arm's entry in summary.json."""
    scores: tuple[np.ndarray, ...]
    """Of each seed: (n,) test scores, higher = more anomalous."""
    latent: np.ndarray | None
    """(n, d) embedding of the test images by seed 0. None: this detector has no latent space."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run."""

    folder: Path
    summary: dict[str, Any]
    config: dict[str, Any]
    config_text: str
    ledger: Ledger
    normals: Images
    """A few of the training normals."""
    representatives: tuple[Representative, ...]
    representative_images: Images | None
    """Their pictures, where the run stored them."""
    rounds: tuple[RoundRecord, ...]
    arms: dict[str, ArmRecord]
    is_anomaly: np.ndarray | None
    """(n,) bool, of the test images. None: no test set."""
    seen: np.ndarray | None
    """(n,) bool. None: no split into known and withheld kinds."""
    samples: Path | None = None
    """A sheet of what the image model draws, where kka trained it."""
    gallery: dict[str, np.ndarray] | None = None
    """Of the detector that is kept: see `kka.deploy.gallery`. None: an older run, no test set, or no threshold."""

    @property
    def last_arm(self) -> str:
        """The arm that has the pool of the last round."""
        return arm_name(self.rounds[-1].number)


def read_run(folder: Path) -> Run:
    """Read the run directory `folder`.

    Raises:
        UserError: no summary.json, so the run is not finished, or this is no run; a file that is damaged; a config.yaml
            that was edited.
    """
    if not RunFolder(folder).finished:
        raise UserError(f"report: expected a finished run with summary.json in {folder}; found none")
    run = RunFolder(folder)
    require_unedited(folder, complete=up_to_date, free=partial(may_change, folder))
    summary = read_json(folder / SUMMARY)
    with reading(folder / SUMMARY):
        stages, arms, rounds = dict(summary["seconds"]), dict(summary["arms"]), list(summary["rounds"])
    for name in stages:
        check_stage(folder, name, nested=False)  # no report reads networks
    task = _arrays(folder / TASK / TASK_ARRAYS)
    with reading(folder / CONFIG):
        config, config_text = read_config(folder), (folder / CONFIG).read_text(encoding="utf-8")
    ledger = read_json(folder / LEDGER)
    with reading(folder / LEDGER):
        costs = Ledger.from_dict(ledger)
    return Run(
        folder=folder,
        summary=summary,
        config=config,
        config_text=config_text,
        ledger=costs,
        normals=task["normals"],
        representatives=tuple(run.representatives()),
        representative_images=task.get("representatives"),
        rounds=tuple(_round(run, facts) for facts in rounds),
        arms={name: _arm(folder, name, figures) for name, figures in arms.items()},
        is_anomaly=task.get("is_anomaly"),
        seen=task.get("seen"),
        samples=folder / SAMPLES if (folder / SAMPLES).is_file() else None,
        gallery=_gallery(run.kept(arm_name(int(rounds[-1]["round"]))) / GALLERY) if rounds else None,
    )


def _gallery(path: Path) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _round(run: RunFolder, facts: dict[str, Any]) -> RoundRecord:
    with reading(run.root / SUMMARY):
        figures = RoundFacts.from_dict(facts)
    return read_round(run, figures)


def read_round(run: RunFolder, figures: RoundFacts) -> RoundRecord:
    """What a round made, of a run that need not be finished."""
    import pyarrow.parquet as pq

    number = figures.round
    relative = run.judgements(number) or {}
    images_file = run.file(number, "images", IMAGES)
    with reading(images_file):
        there = [name for name in ("id", "caption", "normal") if name in pq.read_schema(images_file).names]
        table = pq.read_table(images_file, columns=there)
    return RoundRecord(
        number=number,
        facts=figures,
        captions=tuple(row.caption for row in run.captions(number)),
        pictures=tuple(
            Picture(row=i, caption=entry["caption"], relative=relative.get(entry["id"]), normal=entry.get("normal"))
            for i, entry in enumerate(table.to_pylist())
        ),
        set_aside=tuple(run.set_aside(number)),
        images_file=images_file,
        normals=run.altered_normals(number),
    )


def _arm(folder: Path, name: str, figures: dict[str, Any]) -> ArmRecord:
    with reading(folder / SUMMARY):
        estimates = read_estimates(figures)
        seeds = [folder / arm_stage(name, k) for k in range(len(figures["auroc"]["per_seed"]))]
    latent = seeds[0] / LATENT
    return ArmRecord(
        name=name,
        figures=estimates,
        scores=tuple(read_array(seed / ARM_SCORES) for seed in seeds),
        latent=read_array(latent).astype(np.float32) if latent.is_file() else None,
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        task = {name: stored[name] for name in stored.files}
        if "normals" not in task:
            raise KeyError("normals")
        return task
