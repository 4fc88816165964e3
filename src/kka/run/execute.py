"""One run from configuration to summary: task, models, Algorithm 1, comparison, report."""

import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kka import __version__
from kka.algorithm.folder import (
    LEDGER,
    POOL,
    SAMPLES,
    SUMMARY,
    TASK,
    TASK_ARRAYS,
    TRACED,
    WORTH,
    RunFolder,
    arm_name,
    up_to_date,
)
from kka.algorithm.loop import rounds
from kka.algorithm.resume import may_change, require_same_image_model, require_same_task
from kka.common.cache import ImageCache
from kka.common.cluster import Cluster
from kka.common.files import read_json, replacing
from kka.common.ledger import SPENT, Counts, Ledger
from kka.common.metrics import Estimate
from kka.common.progress import StageProgress
from kka.common.store import Store
from kka.common.workers import Copies
from kka.config import RunConfig
from kka.data import open_task
from kka.deploy.defects import read_defects
from kka.deploy.stored import INSPECTION, open_detector
from kka.errors import UserError
from kka.imaging.diffusers import SAMPLES as SAMPLES_OF_A_MODEL
from kka.imaging.diffusers import DiffusersModel
from kka.protocols import Alters, ImageModel, LanguageModel, TellsMore, identity_of
from kka.run.automatic import hint, settled
from kka.run.comparison import StoredPools, compare
from kka.run.drawing import TaskClasses, require_ignorant
from kka.run.models import (
    build_images,
    build_language,
    caption_writer,
    check_config,
    check_counts,
    check_models,
    resolve,
    run_detector,
    undescribed,
    working_size,
)
from kka.run.traced import trace, traced_by
from kka.task import Task
from kka.tracking import check_trackers
from kka.tracking.follow import Follower


def run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: StageProgress | None = None,
    on_task: Callable[[Task], None] | None = None,
    say: Callable[[str], None] | None = None,
    track: Sequence[str] = (),
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Run Algorithm 1 and the comparison into the folder `out`; returns what summary.json holds.

    Args:
        track: Experiment trackers that are shown it: see `kka.tracking`. A resumed run goes on with those it had.
        cluster: Machines that draw, sample captions, train the evaluator's folds and the detectors. What they give is
            written here, and is what one machine gives.

    Raises:
        UserError: bad data, an unknown name, no permission, a full disk, another process in `out`; a run to resume
            that is damaged, or was begun with other data or settings.
    """
    check_trackers(track)
    config = settled(config)
    free = partial(may_change, out)
    with Store(out, config.as_dict(), resume=resume, complete=up_to_date, free=free) as store:
        started = time.perf_counter()
        try:
            task, specs, image_model, language_model = prepare(config, progress, on_task, say)
            defects = None if config.defects is None else read_defects(Path(config.defects), task)
            require_same_task(store, task, identity_of(language_model))
            require_same_image_model(out, image_model.identity)
            follower = Follower(out, track, say=say)
            copies = None if cluster is None else _copies(cluster, config, task, specs, image_model, language_model)
        except BaseException:  # stopped by hand as well
            store.withdraw()
            raise
        if store.changed:
            (out / SUMMARY).unlink(missing_ok=True)  # it is of the settings that were
        with follower:
            follower.begin(store.config)
            made = RunFolder(out)
            with store.guarded():
                for done in rounds(
                    task, language_model, image_model, config=config, store=store, cache=ImageCache(),
                    progress=progress, crew=cluster, copies=copies,
                ):  # fmt: skip
                    follower.round(done.number)
                with replacing(out / POOL) as part:
                    done.pool.save(part)
                trace(task, image_model, store=store, cache=ImageCache(), seed=config.seed)
            with store.guarded():
                arms = compare(
                    task,
                    StoredPools(made, config.rounds + 1),
                    build=partial(run_detector, config),
                    seeds=config.seeds,
                    seed=config.seed,
                    store=store,
                    progress=progress,
                    other=config.other,
                    defects=defects,
                    train_on_defects=config.train_on_defects,
                    match_traces=config.match_traces,
                    cluster=cluster,
                )
                _save_sources(task, store)
                _save_samples(image_model, out)
            ledger = store.ledger()
            store.write(LEDGER, json.dumps(ledger.as_dict(), indent=1))
            summary = summarise(task, config, made, arms, ledger, specs)
            kept = made.kept(arm_name(config.rounds))
            summary["inspection"] = _inspection(kept)
            for name, file in (("worth", WORTH), ("traced", TRACED)):
                summary[name] = read_json(kept.parent / file) if (kept.parent / file).is_file() else None
            if defects is not None:
                summary["defects"] = {
                    "set_aside": [dataclasses.asdict(item) for item in defects.set_aside],
                    "sentences": _of_defects(kept),
                }
            summary["wall_seconds"] = round(time.perf_counter() - started, 1)
            store.write(SUMMARY, json.dumps(summary, indent=1))
            with store.guarded():
                _report(out, progress)
            follower.end()
        return summary


def _copies(
    cluster: Cluster, config: RunConfig, task: Task, specs: tuple[str, str], images: ImageModel | Alters,
    language: LanguageModel,
) -> Copies | None:  # fmt: skip
    """Those of the image model; the language model is given its own."""
    from kka.run.copies import give_copies, image_copies, require_photos

    if task.test is not None and task.test.photos is not None:
        cluster.everywhere(require_photos, config.data)
    give_copies(cluster, specs[0], config, task, language)
    return image_copies(cluster, specs[1], config, task, images)


def prepare(
    config: RunConfig, progress: StageProgress | None, on_task: Callable[[Task], None] | None,
    say: Callable[[str], None] | None, most: int | None = None,
) -> tuple[Task, tuple[str, str], ImageModel | Alters, LanguageModel]:  # fmt: skip
    """The task and the models, with their specs. What is wrong with the configuration shows here, not hours later.

    `most`: as `kka.data.open_task` has it.
    """
    detector = check_config(config)
    task = open_task(
        config.data,
        normal=config.normal,
        unseen=config.unseen,
        describe=config.describe,
        undescribed=undescribed(config),
        domain=config.domain,
        size=working_size(config.data, config.size, detector),
        fit=config.fit,
        seed=config.split_seed,
        captions=caption_writer(config, progress),
        most=most,
    )
    specs = resolve(config, task)
    task = _with_notes(task, specs[1], hint(config))
    if on_task is not None:
        on_task(task)
    check_counts(config, task)
    check_models(specs, config)
    image_model = build_images(specs[1], config, task, progress, say)
    if config.match_traces and not traced_by(image_model):
        raise UserError(
            f"match_traces: expected an image model that leaves traces, as those of diffusers do; {specs[1]} leaves "
            "none. Leave it out."
        )
    language_model = build_language(specs[0], config, task, progress)
    if isinstance(language_model, TellsMore):
        language_model.say = say
    return task, specs, image_model, language_model


def _with_notes(task: Task, images: str, more: str | None) -> Task:
    """The task with a note on what the image model knows of its classes, where there is one, and with one `more`.

    Raises:
        UserError: it knows what it must not.
    """
    classes = TaskClasses.of(task)
    told = [None if classes is None else require_ignorant(images, classes), more]
    if told == [None, None]:
        return task
    notes = task.details.get("notes", ())
    kept = notes if isinstance(notes, list | tuple) else ()
    return dataclasses.replace(task, details={**task.details, "notes": [*kept, *filter(None, told)]})


def summarise(
    task: Task,
    config: RunConfig,
    made: RunFolder,
    arms: dict[str, dict[str, Estimate]],
    ledger: Ledger,
    specs: tuple[str, str],
) -> dict[str, Any]:
    """What summary.json holds: everything but the times is a function of the configuration and the data."""
    facts = []
    for number in range(config.rounds + 1):
        auroc = arms.get(arm_name(number), {}).get("auroc")
        mean, ci95 = (None, None) if auroc is None else (auroc.mean, auroc.ci95)
        facts.append({**made.facts(number).as_dict(), "auroc": mean, "ci95": ci95})
    return {
        "task": {
            "name": task.name,
            "source": task.source,
            "domain": task.domain,
            "normals": len(task.normals),
            "image_size": list(task.normals.shape[1:3]),
            "test_normals": None if task.test is None else int((~task.test.is_anomaly).sum()),
            "test_anomalies": None if task.test is None else int(task.test.is_anomaly.sum()),
            "set_aside": [dataclasses.asdict(item) for item in task.set_aside],
            "details": task.details,
        },
        "models": {"language": specs[0], "images": specs[1], "detector": config.detector},
        "seed": config.seed,
        "seeds": list(range(config.seeds)),
        "mode": config.mode,
        "arms": {arm: {n: dataclasses.asdict(value) for n, value in found.items()} for arm, found in arms.items()},
        "rounds": facts,
        "spent": {name: ledger.totals.counts.get(count) for name, count in SPENT.items()},
        "seconds": {stage: entry.seconds for stage, entry in ledger.stages.items()},
        "peak_mb": ledger.totals.peak_mb,
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "kka": __version__},
    }


def _inspection(detector: Path) -> dict[str, Any] | None:
    """What was measured of the detector that is kept, by kind of defect; None without a test set."""
    file = detector / f"{INSPECTION}.json"
    return read_json(file) if file.is_file() else None


def _of_defects(folder: Path) -> list[str]:
    """What the kept detector finds of the defects at hand, in words."""
    try:
        found = open_detector(folder)
    except UserError:  # none was kept
        return ["No detector was kept with a threshold, as there are too few normals: nothing is said of the defects"]
    if found.caught is None or found.calibration is None:
        return ["This detector has no threshold: nothing is said of the defects"]
    return found.caught.sentences(found.calibration)


def _save_sources(task: Task, store: Store) -> None:
    """What the report needs of the task, so that it reads the run directory alone: labels, and a few pictures."""

    def compute(folder: Path) -> Counts:
        shown = np.linspace(0, len(task.normals) - 1, min(24, len(task.normals))).round().astype(int)
        rows = [row.normal for row in RunFolder(store.root).representatives()]
        arrays: dict[str, np.ndarray] = {"normals": task.normals[shown], "representatives": task.normals[rows]}
        if task.test is not None:
            arrays |= {"is_anomaly": task.test.is_anomaly, "kinds": np.array(task.test.kinds)}
            if task.test.seen is not None:
                arrays["seen"] = task.test.seen
        np.savez_compressed(folder / TASK_ARRAYS, **arrays)  # type: ignore[arg-type]
        return {}

    store.stage(TASK, compute)


def _save_samples(model: ImageModel | Alters, out: Path) -> None:
    """The samples of a model that kka trained, for the report."""
    file = Path(model.path).expanduser() / SAMPLES_OF_A_MODEL if isinstance(model, DiffusersModel) else None
    if file is not None and file.is_file():
        with replacing(out / SAMPLES) as part:
            part.write_bytes(file.read_bytes())


def _report(out: Path, progress: StageProgress | None) -> None:
    from kka.report import write_report

    if progress is not None:
        progress("report", 0, 1)
    write_report(out)
    if progress is not None:
        progress("report", 1, 1)
