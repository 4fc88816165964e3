"""A run directory as plain records. Whatever a run may lack (test set, rounds, latent space) is None or empty here."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from kka.algorithm.facts import RoundFacts
from kka.algorithm.folder import (
    ARM_SCORES,
    CONFIG,
    IMAGES,
    LATENT,
    LEDGER,
    SUMMARY,
    TASK,
    TASK_ARRAYS,
    RunFolder,
    arm_stage,
)
from kka.algorithm.records import Representative, UnusablePicture
from kka.common.json_text import parse_json
from kka.common.ledger import Ledger
from kka.common.metrics import Estimate, read_estimates
from kka.errors import UserError
from kka.protocols import Images


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One generated picture, without its pixels."""

    row: int
    """Its row in the round's images.parquet."""
    caption: str
    relative: float | None
    """Relative distance at its first judgement, by the evaluator of its round (round 0: of round 1). Below 1 = hard.
    None: never judged."""


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

    def images(self, pictures: list[Picture]) -> list[Image.Image]:
        """The pixels of some of the round's pictures, in that order."""
        import pyarrow.parquet as pq

        if not pictures:  # an empty list has no type that `take` knows
            return []
        rows = pq.read_table(self.images_file, columns=["image"]).take([p.row for p in pictures]).to_pylist()
        return [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows]


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


def read_run(folder: Path) -> Run:
    """Read the run directory `folder`.

    Raises:
        UserError: no summary.json, so the run is not finished, or this is no run.
    """
    if not RunFolder(folder).finished:
        raise UserError(f"report: expected a finished run with summary.json in {folder}; found none")
    summary = _json(folder / SUMMARY)
    with np.load(folder / TASK / TASK_ARRAYS, allow_pickle=False) as stored:
        task = {name: stored[name] for name in stored.files}
    config_text = (folder / CONFIG).read_text(encoding="utf-8")
    return Run(
        folder=folder,
        summary=summary,
        config=yaml.safe_load(config_text),
        config_text=config_text,
        ledger=Ledger.from_dict(_json(folder / LEDGER)),
        normals=task["normals"],
        representatives=tuple(RunFolder(folder).representatives()),
        representative_images=task.get("representatives"),
        rounds=tuple(_round(RunFolder(folder), facts) for facts in summary["rounds"]),
        arms={name: _arm(folder, name, figures) for name, figures in summary["arms"].items()},
        is_anomaly=task.get("is_anomaly"),
        seen=task.get("seen"),
    )


def _round(run: RunFolder, facts: dict[str, Any]) -> RoundRecord:
    import pyarrow.parquet as pq

    number = facts["round"]
    relative = run.judgements(number) or {}
    images_file = run.file(number, "images", IMAGES)
    table = pq.read_table(images_file, columns=["id", "caption"])
    return RoundRecord(
        number=number,
        facts=RoundFacts.from_dict(facts),
        captions=tuple(row.caption for row in run.captions(number)),
        pictures=tuple(
            Picture(row=i, caption=entry["caption"], relative=relative.get(entry["id"]))
            for i, entry in enumerate(table.to_pylist())
        ),
        set_aside=tuple(run.set_aside(number)),
        images_file=images_file,
    )


def _arm(folder: Path, name: str, figures: dict[str, Any]) -> ArmRecord:
    seeds = [folder / arm_stage(name, k) for k in range(len(figures["auroc"]["per_seed"]))]
    latent = seeds[0] / LATENT
    return ArmRecord(
        name=name,
        figures=read_estimates(figures),
        scores=tuple(np.load(seed / ARM_SCORES, allow_pickle=False) for seed in seeds),
        latent=np.load(latent, allow_pickle=False).astype(np.float32) if latent.is_file() else None,
    )


def _json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
    return loaded
