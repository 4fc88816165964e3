"""What a stored figure was made with, so that a changed default cannot let an old figure stand for a new one.

The settings are those of the cell's detector and of the run that made its anomalies, with a digest of the data set's
files and of a backbone's weights file. Seeds, tasks and places are no part of them: a cell's id has those. Nor is the
content of a language model's or a bank's folder that was named (--loop): its name alone is known.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kka.common.begun import flat
from kka.common.files import sha256
from kka.config import RunConfig
from kka.detectors import is_of_family, is_own_detector
from kka.errors import UserError
from kka.experiments.engine.arms import TRACES
from kka.experiments.engine.cell_task import data_digest, file_digest, has_data, other_of
from kka.experiments.engine.cells import Cell, Results, has_backbone
from kka.experiments.engine.compute import build
from kka.experiments.engine.place import Place
from kka.experiments.engine.pools import pool_config
from kka.experiments.engine.tasks import TEXTURES, dataset
from kka.settings.deep_sad import DeepSADSettings
from kka.settings.language import OF_THE_WORK

Settings = dict[str, Any]
"""Setting -> its value, plain: {"detector.learning_rate": 0.0003, "loop.mode": "rep"}."""

NOT_OF_THE_LOOP = ("data", "normal", "lm", "images", "seed", "seeds", "detector", "detector_options")
"""Fields of a run's configuration that its anomalies do not depend on, or that a cell's id has."""


SINCE = {
    "sad": ("hard_weight", "max_anomaly_ratio", "pretrain_learning_rate", "pretrain_weight_decay", "device"),
    "language": ("batch_size", "dpo_max_epochs", "dpo_warmup", "lora_targets", "captions_an_answer", "set"),
    "drawing": ("set",),
}  # fmt: skip
"""Settings that a run's configuration has had since figures were stored: at their defaults they are no part."""

WAS = {"loop.pairs": "pool"}
"""What stored figures were made with that name a loop, but not these settings, as there was no other way then."""


def settings_of(cell: Cell, place: Place) -> Settings:
    """The settings behind a cell's figure."""
    detector: Any = build(cell, place)
    if is_own_detector(cell.detector):
        found: dict[str, Any] = {"detector": {"source": _source_digest(type(detector))}}
    else:
        found = {"detector": dataclasses.asdict(detector.settings)}
    if isinstance(getattr(detector, "settings", None), DeepSADSettings):
        found["detector"]["milestones"] = detector.settings.falls  # in epochs, as stored files have them
    if has_data(cell.dataset, place.data):
        found["data"] = data_digest(cell.dataset, place.data)
    found["detector"].pop("device", None)
    if is_of_family(cell.detector):
        found["detector"]["version"] = detector.version
    if has_backbone(cell.detector) and detector.backbone is not None:
        found["backbone"] = {name: getattr(detector.backbone, name) for name in ("padding", "mean", "std")}
        weights = Path(detector.backbone.weights)
        found["backbone"]["weights"] = file_digest(weights) if weights.is_file() else str(weights)
    known = dataset(cell.dataset)
    if cell.needs_pool:
        config = pool_config(cell, place.data, place.work)
        run = config.as_dict()
        run["sad"]["milestones"] = config.sad.falls
        for part, names in SINCE.items():
            usual = RunConfig().as_dict()[part]
            run[part] = {k: v for k, v in run[part].items() if k not in names or v != usual[k]}
        run["language"] = {k: v for k, v in run["language"].items() if k not in OF_THE_WORK}
        found["loop"] = {name: value for name, value in run.items() if name not in NOT_OF_THE_LOOP}
        if cell.arm == TRACES or cell.trained_with.round == 0:  # before any tuning
            del found["loop"]["pairs"]
        found["language_steps"] = known.language_steps
    elif cell.arm != "none":
        found["anomalies"] = known.initial
    if cell.arm == "other":
        other = other_of(cell)
        found["other"] = {"name": other.name, "without": other.without}
        if other.name != TEXTURES and has_data(other.name, place.data):
            found["other"]["data"] = data_digest(other.name, place.data)
    settings: Settings = json.loads(json.dumps(flat(found)))  # as they are read back: lists for tuples
    return settings


def _source_digest(kind: type) -> str:
    """Of the file that a person's own detector stands in: other code, other figures. What it imports is not in it."""
    file = getattr(sys.modules[kind.__module__], "__file__", None)
    return "" if file is None else sha256(Path(file))


def check_settings(cells: Sequence[Cell], place: Place, results: Results) -> None:
    """Refuse to go on where stored figures of these cells were made with other settings.

    A setting that one of the two does not know is passed over: it has come since, or gone.

    Raises:
        UserError: with how many, one of them, and what differs.
    """
    changed = changed_settings(cells, place, results)
    if changed:
        name, (_, differences) = next(iter(changed.items()))
        raise UserError(
            f"{results.path}: {len(changed)} of its figures were made with other settings, such as {name}:\n"
            f"{differences}\nGive the settings that they were made with, name another --results, or add --redo to make "
            f"the figures anew (pools and language models of other settings or data are named then, to be removed)."
        )


def changed_settings(cells: Iterable[Cell], place: Place, results: Results) -> dict[str, tuple[str, str]]:
    """Id -> the row's `made_with` and what differs, of the stored cells that were made with other settings."""
    made = {row.id: row.made_with for row in results.rows()}
    known = results.settings()
    found: dict[str, tuple[str, str]] = {}
    for cell in cells:
        name = made.get(cell.id)
        stored = known.get(name) if name is not None else None
        if name is None or stored is None:  # not computed yet, or by a version that did not say
            continue
        stored = {**WAS, **stored} if "loop.mode" in stored else stored
        now = settings_of(cell, place)
        lines = [f"  {k}: made with {stored[k]!r}, now {now[k]!r}" for k in now if stored.get(k, now[k]) != now[k]]
        if lines:
            found[cell.id] = (name, "\n".join(lines))
    return found
