"""What is exported of a run: its pool, its masks, how it was made, and the normals where they are wanted."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kka import __version__
from kka.algorithm.folder import SUMMARY, RunFolder
from kka.algorithm.hardness import is_hard
from kka.algorithm.identity import task_digests
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.algorithm.reviews import REVIEWS, read_reviews
from kka.common.begun import read_record
from kka.common.files import read_json
from kka.config import RunConfig
from kka.data import is_photos, open_task
from kka.errors import UserError
from kka.task import Task

Mask = UInt8[np.ndarray, "_h _w"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A pool with what is known of it."""

    run: str
    """The name of its folder."""
    round: int
    """The pool is that after this round."""
    finished: bool
    config: RunConfig
    models: Mapping[str, str]
    """"language" and "images": their specs, as a finished run found them, else as they were asked for."""
    domain: str
    """What the pictures show, in the plural."""
    pool: AnomalyPool
    masks: Mapping[str, Mask]
    """Id of a picture -> where it was altered, 0 to 255; of pictures that were drawn whole there is none."""
    task: Task | None = None
    """With the normals; None: not asked for."""

    @property
    def masked(self) -> bool:
        """Whether every picture has a mask."""
        return len(self.pool) > 0 and all(entry.id in self.masks for entry in self.pool.entries)

    @property
    def facts(self) -> dict[str, Any]:
        """What an export says of where it came from."""
        return {
            "run": self.run, "round": self.round, "finished": self.finished, "pictures": len(self.pool),
            "hard": int(self.pool.hard.sum()), "masks": len(self.masks), "models": dict(self.models),
            "kka": __version__,
        }  # fmt: skip


def read_run(run: Path, *, number: int | None = None) -> Exported:
    """The pool of a run after round `number`, by default its last, without what a person vetoed.

    Raises:
        UserError: no run there, or one without a pool yet, or without such a round.
    """
    made = RunFolder(run)
    if not made.begun:
        raise UserError(f"pool: expected the directory of a kka run; there is none in {run}")
    last = made.last_round
    if not made.drawn(0):
        raise UserError(f"pool: {run} has no pool yet; go on with: kka run --out {run} --resume")
    if number is not None and number > last:
        raise UserError(f"pool: expected a round from 0 to {last}, as {run} has them; got {number}")
    chosen, config = last if number is None else number, made.config()
    pool = made.pool(chosen)
    if chosen == 0 and (judged := made.judgements(0)):
        pool = AnomalyPool(tuple(_judged(entry, judged) for entry in pool.entries), pool.images, pool.masks)
    summary = read_json(made.root / SUMMARY) if made.finished else {}
    asked = {"language": config.lm, "images": config.images}
    models = {name: str(summary.get("models", asked)[name]) for name in asked}
    domain = str(summary.get("task", {}).get("domain") or config.domain or "of one kind")
    pool = read_reviews(run / REVIEWS).without_vetoed(pool)
    if not len(pool):
        raise UserError(f"pool: nothing of {run} is left to export: all its pictures were vetoed")
    return Exported(
        run=run.resolve().name, round=chosen, finished=made.finished, config=config, models=models, domain=domain,
        pool=pool, masks={} if pool.masks is None else dict(zip([e.id for e in pool.entries], pool.masks, strict=True)),
    )  # fmt: skip


def open_normals(exported: Exported, run: Path) -> Exported:
    """With the task, opened as the run opened it. Its normals must be those that the run saw.

    Raises:
        UserError: the data is gone, or is not what it was.
    """
    config = exported.config
    size = exported.pool.images.shape[1] if config.data != "garden" and is_photos(Path(config.data)) else config.size
    task = open_task(
        config.data, normal=config.normal, unseen=config.unseen, describe=config.describe, domain=config.domain,
        size=size, fit=config.fit, seed=config.split_seed, undescribed="an object",
    )  # fmt: skip
    begun, now = read_record(run).get("data"), task_digests(task)["normals"]
    if begun is not None and begun["normals"] != now:
        raise UserError(
            f"pool: the normals of {exported.config.data} are not those that {run} was begun with "
            f"({begun['normals']['count']:,} then, {now['count']:,} now); put the data back"
        )
    return dataclasses.replace(exported, task=task)


def row(entry: Lineage) -> dict[str, Any]:
    """What is said of a picture in every format: plain values, None where nothing judged it."""
    relative = entry.relative if math.isfinite(entry.relative) else None
    return {
        "id": entry.id, "text": entry.caption, "round": entry.round, "relative_distance": relative,
        "hard": None if relative is None else bool(is_hard(np.array([relative]))[0]), "prompt": entry.prompt,
        "seed": entry.seed, "language_model": entry.language_model, "image_model": entry.image_model,
    }  # fmt: skip


def _judged(entry: Lineage, judged: Mapping[str, float]) -> Lineage:
    return dataclasses.replace(entry, history=((1, judged[entry.id]),)) if entry.id in judged else entry

