"""The anomalies of an experiment: Algorithm 1 on a task, once for each seed and mode, kept in a run directory.

The modes of one seed part at the pool of round 1: what comes before is made once.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kka.algorithm.folder import RunFolder, stage_name
from kka.algorithm.loop import rounds
from kka.algorithm.resume import SAME_RESULTS
from kka.common.begun import differences, read_config
from kka.common.cache import ImageCache
from kka.common.files import write_atomically
from kka.common.own import is_class_path
from kka.common.store import Store
from kka.config import RunConfig
from kka.detectors.sad import SAD
from kka.errors import UserError, unknown
from kka.experiments.engine.cell_task import UNSEEN, data_digest, source_of
from kka.experiments.engine.cells import Cell, claim
from kka.experiments.engine.language_models import ensure_language_model, language_folder, name_suffixes
from kka.experiments.engine.leaks import check_images
from kka.experiments.engine.tasks import classes, dataset
from kka.language import LANGUAGE_MODELS
from kka.run.models import build_images, build_language, resolve
from kka.settings import parsed
from kka.settings.drawing import DrawingSettings
from kka.settings.language import LanguageSettings
from kka.task import Task

ROUNDS = 3
ROUND_0 = tuple(stage_name(0, stage) for stage in ("representatives", "captions", "images"))
JUDGED = (*ROUND_0, stage_name(1, "evaluator"))
BEFORE_POOL = (*JUDGED, *(stage_name(1, stage) for stage in ("dpo", "captions", "images", "scores")))
"""What comes before the pool of round 1: the same whatever enters that pool."""
UNTOUCHED = {
    "mode": BEFORE_POOL, "max_hard_share": BEFORE_POOL, "per_round": BEFORE_POOL, "choose": BEFORE_POOL,
    "steer": JUDGED, "pairs": JUDGED,
}  # fmt: skip
"""Setting -> the stages that do not depend on it. Of any other setting nothing is taken to be independent."""
SMOKE: dict[str, Any] = {
    "rounds": 3, "initial": 24, "fresh": 16, "per_round": 6, "representatives": 2, "autoencoder_epochs": 1,
}  # fmt: skip
DATA = "data.digest"
"""In a pool's folder: of the data set's files."""
FACTS = "rounds.json"
"""In a pool's folder: the facts of each round."""


class BusyError(Exception):
    """Another process is making this pool."""


def pool_config(cell: Cell, data: Path, work: Path) -> RunConfig:
    """The run behind a pool: the defaults, but for the data set's sizes and the cell's variant."""
    known = dataset(cell.dataset)
    sizes: dict[str, Any] = {"rounds": ROUNDS, "initial": known.initial, "fresh": known.fresh}
    sizes["per_round"] = known.per_round
    config = RunConfig(
        data=source_of(cell.dataset, data), normal=classes(cell.normal), unseen=UNSEEN[cell.protocol],
        lm="auto" if known.embedded else f"hf:{language_folder(cell, known, work)}", mode=cell.trained_with.mode,
        seed=cell.seed, split_seed=cell.split_seed, seeds=1, **sizes,
    )  # fmt: skip
    if cell.scale == "cpu":
        epochs = known.cpu_epochs
        config = dataclasses.replace(
            config, sad=dataclasses.replace(config.sad, epochs=epochs)
        )
    if cell.scale == "full":
        published = SAD.PRESETS["published"]
        falls = tuple(epoch / known.epochs for epoch in published.falls if epoch < known.epochs)  # at epoch 50
        sad = dataclasses.replace(
            config.sad, epochs=known.epochs, learning_rate=published.learning_rate, milestones=falls
        )
        config = dataclasses.replace(config, sad=sad)
    variant = cell.variant.split(",") if cell.variant else []
    if cell.scale == "smoke":
        short: dict[str, Any] = {"dpo_steps": 2}
        if not any(text.startswith("lm=") for text in variant):  # trained for a moment, it does not end its answers
            short["max_new_tokens"] = 24
        elif is_class_path(next(text for text in variant if text.startswith("lm="))[3:], LANGUAGE_MODELS):
            short = {}  # a person's own, which may have no such setting
        language = dataclasses.replace(config.language, **short)
        config = dataclasses.replace(config, **SMOKE, sad=dataclasses.replace(config.sad, epochs=1), language=language)
    if not any(text.startswith("lm=") for text in variant):  # as stored figures say it of our own small models
        language = dataclasses.replace(config.language, temperature=1.0, batch_size=256)
        config = dataclasses.replace(config, language=language)
    return _with_settings(config, variant)


def _with_settings(config: RunConfig, texts: Sequence[str]) -> RunConfig:
    """With "setting=value" for the loop, and "language.setting=value" or "drawing.setting=value" for its models."""
    groups: dict[str, list[str]] = {group: [] for group in (*OF_MODELS, "")}
    for text in texts:
        group, dot, _ = text.partition("=")[0].partition(".")
        groups[group if dot and group in OF_MODELS else ""].append(text)
    changes = parsed(RunConfig, groups[""], of="the loop")
    for group, kind in OF_MODELS.items():
        given = [text.removeprefix(f"{group}.") for text in groups[group]]
        values = parsed(kind, given, of=f"the loop's {group} model")
        changes[group] = dataclasses.replace(getattr(config, group), **values)
    return dataclasses.replace(config, **changes)


def _shared_stages(config: RunConfig, other: RunConfig) -> tuple[str, ...]:
    """The stages of another run that this one would make the same; of a run with the same settings none are asked."""
    names = [f.name for f in dataclasses.fields(config) if getattr(config, f.name) != getattr(other, f.name)]
    if not names:
        return ()
    return tuple(stage for stage in BEFORE_POOL if all(stage in UNTOUCHED.get(name, ()) for name in names))


def forerunner(cell: Cell, data: Path, work: Path) -> tuple[Cell, tuple[str, ...]]:
    """The cell of the pool from which this one's parts, and the stages that they have in common; none: it is alone."""
    config = pool_config(cell, data, work)
    # mode add follows rep with the same settings; a variant in mode rep follows the default settings
    usual = dataclasses.replace(cell, arm=f"rep-{ROUNDS}", variant="" if config.mode == "rep" else cell.variant)
    return usual, _shared_stages(config, pool_config(usual, data, work))


def pool_folder(cell: Cell, work: Path) -> Path:
    """Of a cell's pool, whether it is there or not."""
    return work / "pools" / pool_name(cell)


def pool_name(cell: Cell) -> str:
    """The folder of a cell's pool, among the pools."""
    mode = cell.trained_with.mode
    parts = [cell.dataset, cell.normal.replace(":", "_"), str(cell.seed), mode]
    variant = re.sub(r"[^\w.=,+-]+", "_", cell.variant)[:80]  # a model's spec has slashes and colons, and may be long
    if variant != cell.variant:
        variant += "-" + hashlib.blake2b(cell.variant.encode(), digest_size=6).hexdigest()
    return "-".join([*parts, *(mark for mark, holds in name_suffixes(cell) if holds), *filter(None, [variant])])


def ensure_pool(cell: Cell, task: Task, data: Path, work: Path) -> Path:
    """The run directory that holds the cell's pool with all its rounds, made now if need be.

    Raises:
        BusyError: another process is at it.
        UserError: it is there, but made with other settings; a leak.
    """
    config = pool_config(cell, data, work)
    out = pool_folder(cell, work)
    made_from, own = data_digest(cell.dataset, data), own_language(cell, config, work)
    check_pool(cell, data, work)
    if (out / "done").is_file():
        return out
    check_images(task, {})
    if own:
        ensure_language_model(cell, data, work)
    with claim(work / "claims", str(out)) as mine:
        if not mine:
            raise BusyError(str(out))
        usual, shared = forerunner(cell, data, work)
        begun = RunFolder(out).begun
        first = ensure_pool(usual, task, data, work) if shared and not begun else None
        with open_pool(cell, out, data, work) as store:
            if first is not None:
                store.fork(first, shared)
            write_atomically(out / DATA, made_from + "\n")
            language, images = resolve(config, task)
            model, writer = build_images(images, config, task), build_language(language, config, task)
            facts = []
            for made in rounds(task, writer, model, config=config, store=store, cache=ImageCache()):
                facts.append(made.facts.as_dict())
                drawn = RunFolder(out).fresh(made.number).images
                check_images(task, {f"round {made.number}": drawn})  # before the next evaluator trains with them
        write_atomically(out / FACTS, json.dumps(facts, indent=1))
        write_atomically(out / "done", "")
    return out


def open_pool(cell: Cell, out: Path, data: Path, work: Path) -> Store:
    """The store of a cell's pool in the folder `out`, new or begun."""
    config = pool_config(cell, data, work)
    updated = partial(_up_to_date, config=config, own=own_language(cell, config, work))
    return Store(out, config.as_dict(), resume=RunFolder(out).begun, complete=updated, free=_free)


OF_MODELS: dict[str, type[Any]] = {"language": LanguageSettings, "drawing": DrawingSettings}
"""Fields of a run's configuration that are settings of a model."""
LOOP = (
    "lm", "images", "prompt", "steer", "initial", "fresh", "repeats", "per_round", "best_of", "choose",
    "max_hard_share", "representatives", "pairs", "min_preferred", "autoencoder_epochs", "folds", "quantile",
    *(f"{group}.{field.name}" for group, kind in OF_MODELS.items() for field in dataclasses.fields(kind)),
)  # fmt: skip
"""Settings of the loop that a person may give to an experiment; others are the task's, the cell's or the scale's."""


def check_loop(settings: Sequence[str]) -> None:
    """Raises UserError for settings of the loop that an experiment does not take, or whose values do not fit."""
    for text in settings:
        name = text.partition("=")[0]
        if name not in LOOP:
            raise unknown("setting of an experiment's loop (--loop)", name, LOOP)
        if "," in text:
            raise UserError(f"--loop: expected a value without commas; got {text!r}")
    _with_settings(RunConfig(), settings)


def missing_language_models(cells: Sequence[Cell], work: Path) -> int:
    """How many language models these cells' pools need that are not there."""
    config = {cell: pool_config(cell, work, work) for cell in cells}
    wanted = {config[cell].lm.removeprefix("hf:") for cell in cells if own_language(cell, config[cell], work)}
    return sum(not (Path(folder) / "config.json").is_file() for folder in wanted)


def missing_pools(cells: Sequence[Cell], work: Path) -> list[Cell]:
    """A cell of each pool that the cells need and that is not there."""
    found = {pool_name(cell): cell for cell in cells if cell.needs_pool}
    return [cell for key, cell in found.items() if not (work / "pools" / key / "done").is_file()]


def own_language(cell: Cell, config: RunConfig, work: Path) -> bool:
    """Whether a pool's language model is the one that is trained here, and not one that was named."""
    return config.lm == f"hf:{language_folder(cell, dataset(cell.dataset), work)}"


def check_pool(cell: Cell, data: Path, work: Path) -> None:
    """Raises UserError for a pool of other settings or other data, which must not pass for the cell's."""
    out, config = pool_folder(cell, work), pool_config(cell, data, work)
    if not RunFolder(out).begun:
        return
    if (out / DATA).is_file() and (out / DATA).read_text().strip() != data_digest(cell.dataset, data):
        raise UserError(
            f"the pool {out} was made from other files than those in --data. Remove the folder to make it anew, or "
            f"name another --work."
        )
    own = own_language(cell, config, work)
    if lines := differences(_up_to_date(read_config(out), config, own=own), config.as_dict(), free=_free):
        raise UserError(
            f"the pool {out} was made with other settings:\n{lines}\nRemove the folder to make it anew (and results "
            f"that were trained with it), or name another --work."
        )


def _free(name: str, old: Any, new: Any) -> bool:
    return name in SAME_RESULTS


def _up_to_date(stored: dict[str, Any], config: RunConfig, *, own: bool) -> dict[str, Any]:
    """A stored configuration with the settings that there were none of then; where things lie is no setting.

    `own`: the language model is the one that is trained here; one that was named stays what it was.
    """
    lies = {"data": config.data} | ({"lm": config.lm} if own else {})
    return RunConfig.from_dict({"fit": config.fit} | stored | lies).as_dict()
