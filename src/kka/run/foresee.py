"""What a run will take, part by part, by doing a little of each with the models that it has loaded."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kka.algorithm.altering import alter_pictures
from kka.algorithm.compared import Pairs, pairs_of_pool, pairs_of_thirds
from kka.algorithm.deep_sad import DIMENSIONS, pretrain
from kka.algorithm.evaluator import train_evaluator
from kka.algorithm.pictures import draw_pictures
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.algorithm.records import WrittenCaption
from kka.common.extrapolate import seconds_for, watch
from kka.common.ledger import Entry
from kka.common.mapped import in_memory
from kka.common.memory import PeakMemory
from kka.common.progress import Progress
from kka.config import RunConfig
from kka.deploy.anomalies import Anomalies
from kka.errors import UserError
from kka.imaging.diffusers import DiffusersModel
from kka.protocols import (
    Alters,
    Detector,
    Embeds,
    ImageModel,
    LanguageModel,
    Metered,
    TunableLanguageModel,
    WritesLists,
)
from kka.run.estimate import DetectorCost, Estimate, Part, detector_cost, read_of, stored_size, whole_of
from kka.run.models import run_detector
from kka.run.traced import traced_by
from kka.run.training import Division
from kka.settings.threshold import HELD_OUT
from kka.task import Task

SECONDS = {"captions": 1.5, "images": 1.0, "evaluator": 1.5, "dpo": 2.0, "detectors": 2.0, "report": 1.0}
"""Of each part, to be measured in: about."""
TOO_LONG = 60.0
"""Seconds that may pass before the first step of a tuning."""
SERVER = "openai"
"""What models on a server are called: nothing is asked of them to be measured."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a preview has made so far, in the stages of a run."""

    task: Task
    specs: tuple[str, str]
    language: LanguageModel
    images: ImageModel | Alters
    prompts: Sequence[str]
    asked: int
    """Of them captions were asked of."""
    written: Sequence[WrittenCaption]
    pool: AnomalyPool
    counts: Mapping[str, Entry]
    """Stage of round 0 -> what it cost."""
    stored: int
    """Bytes of the pictures' stage."""
    loading: float
    """Seconds from the start of the process until data and models were there."""
    reading: float
    """Of them those that the pictures took, which grow with their number."""
    process: int
    """Bytes of a process that has imported everything and loaded nothing."""


def foresee(config: RunConfig, seen: Seen, memory: PeakMemory, listen: "Listen") -> Estimate:
    """The run that `config` describes."""
    task, rounds = seen.task, config.rounds
    normals, tested = whole_of(task)
    read = sum(read_of(task))
    more = (normals + tested) / read
    later = config.fresh * config.best_of
    wanted = config.initial + rounds * later
    parts = [
        Part(
            stage="loading", seconds=seen.loading + seen.reading * max(0.0, more - 1),
            how=f"{read:,} photos and the models, as here",
        ),
        _representatives(config, seen, normals / len(task.normals)),
        _captions(config, seen),
        _pictures(seen, wanted + (config.initial if isinstance(seen.images, DiffusersModel) else 0)),
    ]
    disk = seen.stored / max(1, len(seen.pool)) * (wanted + (rounds + 1) * config.initial)
    if rounds:
        judged, evaluator = _evaluator(config, seen, normals)
        tuned, adapter = _tuning(config, seen, listen)
        parts += [judged, tuned]
        disk += rounds * (evaluator + adapter)
    trained, detector, workers = _detectors(config, seen, normals, tested)
    parts.append(trained)
    if (reported := _report(config, seen, tested)) is not None:
        parts.append(reported)
    side = int(np.prod(task.normals.shape[1:]))
    kept = in_memory((normals + tested - read) * side) + 2 * in_memory(wanted * side)
    return Estimate(
        parts=tuple(parts), memory=int(memory.peak_mb * 2**20) + kept + workers * seen.process,
        disk=int(disk + 2 * detector), calls=_calls(config, seen, wanted),
    )  # fmt: skip


def _representatives(config: RunConfig, seen: Seen, scale: float) -> Part:
    first, epochs = seen.counts["representatives"].seconds, config.autoencoder_epochs
    settings = dataclasses.replace(config.sad, pretrain_epochs=min(1, epochs))
    started = time.perf_counter()
    pretrain(seen.task.normals, settings=settings, seed=0)
    epoch = time.perf_counter() - started
    return Part(
        stage="representatives", seconds=scale * (first + max(0, epochs - 1) * epoch), how=f"1 of {epochs} epochs"
    )


def _captions(config: RunConfig, seen: Seen) -> Part:
    """Of all rounds; each asks anew."""
    entry, prompts = seen.counts["captions"], list(seen.prompts)
    counts = entry.counts
    each = (counts.get("answers") or 1) / max(1, len(seen.written))  # answers of a caption
    rounds = [config.initial, *[config.fresh * config.best_of] * config.rounds]
    if is_server(seen.specs[0]):
        requests = [requests_for(config, seen, count) for count in rounds]
        first = seen.asked
        parallel = config.language.parallel
        seconds = sum(entry.seconds / first * math.ceil(asked / parallel) for asked in requests)
        return Part(stage="captions", seconds=seconds, how=f"{first} requests, of {sum(requests):,}")

    def write(count: int) -> None:
        seen.language.sample(prompts, max(1, round(count * each / len(prompts))), seed=count)

    most = max(rounds)
    took = seconds_for(write, most, start=len(seen.written), seconds=SECONDS["captions"])
    return Part(
        stage="captions", seconds=entry.seconds + took * sum(rounds) / most,
        how=f"{len(seen.written)} captions and more, of {sum(rounds):,}",
    )  # fmt: skip


def requests_for(config: RunConfig, seen: Seen, count: int) -> int:
    """To a server, for so many captions."""
    from kka.language.openai import ANSWERS_A_CALL

    at_once = seen.language.captions_an_answer if isinstance(seen.language, WritesLists) else 1
    prompts = len(seen.prompts)
    answers = math.ceil(math.ceil(count / prompts) / at_once)
    counts = seen.counts["captions"].counts
    usable = len(seen.written) / max(1.0, (counts.get("answers") or 1) * at_once)
    lost = max(1.0, count / max(1.0, min(1.0, 2 * usable) * answers * at_once * prompts))
    return math.ceil(prompts * math.ceil(answers / ANSWERS_A_CALL) * lost)


def _pictures(seen: Seen, wanted: int) -> Part:
    """All that are drawn or altered."""
    entry, texts = seen.counts["images"], [written.caption for written in seen.written]
    model, normals = seen.images, seen.task.normals
    if is_server(seen.specs[1]):
        return Part(
            stage="images", seconds=entry.seconds / len(texts) * wanted, how=f"{len(texts)} pictures, of {wanted:,}"
        )

    def draw(count: int) -> None:
        captions = [texts[i % len(texts)] for i in range(count)]
        seeds = [10_000 + i for i in range(count)]
        if isinstance(model, Alters):
            alter_pictures(model, normals[np.arange(count) % len(normals)], captions, seeds=seeds)
        else:
            draw_pictures(model, captions, seeds=seeds, size=(normals.shape[1], normals.shape[2]))

    try:
        took = seconds_for(draw, wanted, start=len(texts), seconds=SECONDS["images"])
    except UserError:  # a library that has no more
        took = entry.seconds / len(texts) * wanted
    return Part(stage="images", seconds=took, how=f"{len(texts)} pictures and more, of {wanted:,}")


def _evaluator(config: RunConfig, seen: Seen, normals: int) -> tuple[Part, int]:
    """Its trainings, one a round, and the bytes of one."""
    task, number = seen.task, min(config.initial, 4 * len(seen.task.normals))
    anomalies = seen.pool.images[np.arange(number) % len(seen.pool)]

    def train(told: Progress) -> Any:
        return train_evaluator(
            task.normals, anomalies, settings=config.sad, folds=config.folds, quantile=config.quantile, seed=0,
            fold_seed=0, progress=told,
        )  # fmt: skip

    found = watch(train, seconds=SECONDS["evaluator"])
    scale = (normals + config.initial) / (len(task.normals) + number)
    short = dataclasses.replace(config.sad, epochs=1, pretrain_epochs=0)
    few = min(len(task.normals), max(16, config.folds))
    evaluator, _ = train_evaluator(
        task.normals[:few], anomalies[: max(few, config.folds)], settings=short, folds=config.folds,
        quantile=config.quantile, seed=0, fold_seed=0,
    )  # fmt: skip
    part = Part(
        stage="evaluator", seconds=config.rounds * scale * found.seconds,
        how=f"some of {found.steps:,} steps; {config.rounds} times",
    )  # fmt: skip
    return part, stored_size(evaluator.save)


class Listen:
    """Whom the language model tells how its tuning goes on."""

    def __init__(self) -> None:
        self.told: Progress | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == "dpo" and self.told is not None:
            self.told(done, total)


def _tuning(config: RunConfig, seen: Seen, listen: Listen) -> tuple[Part, int]:
    """All of them, and the bytes of an adapter. What precedes the first step (what the model writes before) is done
    again after the last."""
    model = seen.language
    if config.steer != "dpo" or not isinstance(model, TunableLanguageModel):
        return Part(stage="dpo", seconds=0.0, how="this language model is not tuned"), 0
    pairs = [_pairs(config, seen, number) for number in range(1, config.rounds + 1)]
    if not pairs[0][0]:
        return Part(stage="dpo", seconds=None, how="too few captions to compare"), 0
    started = time.perf_counter()
    model.sample(seen.prompts[:1], 8, seed=0)
    if 25 * (time.perf_counter() - started) > TOO_LONG:
        return Part(stage="dpo", seconds=None, how="not measured: this model takes long to begin with it"), 0

    def tune(told: Progress) -> None:
        listen.told = told
        try:
            model.tune(*pairs[0], seed=0)
        finally:
            listen.told = None

    found = watch(tune, seconds=SECONDS["dpo"])
    steps = [min(config.language.dpo_steps, round(found.steps * len(one) / len(pairs[0][0]))) for one, _ in pairs]
    once = found.seconds - found.a_step * found.steps
    again = 0.0 if found.finished else once
    seconds = sum(once + again + found.a_step * number for number in steps)
    return Part(
        stage="dpo", seconds=seconds, how=f"some steps, of {sum(steps):,} in {len(steps)} rounds"
    ), stored_size(model.save)


def _pairs(config: RunConfig, seen: Seen, number: int) -> Pairs:
    """As many as round `number` will have, of captions as long as those that were written, judged by chance."""
    rng, entries = np.random.default_rng(number), []
    for before in range(number):
        count = config.initial if before == 0 else config.fresh * config.best_of
        entries += [
            Lineage(
                id=f"r{before}-{i}", round=before, prompt=seen.prompts[i % len(seen.prompts)],
                caption=f"{seen.written[i % len(seen.written)].caption} {i}", seed=0, language_model="", image_model="",
                key="", history=((number, float(rng.lognormal(0.0, 0.7))),),
            )
            for i in range(count)
        ]  # fmt: skip
    if config.pairs == "pool":
        return pairs_of_pool(entries[: config.initial], least=config.min_preferred, seed=0)
    return pairs_of_thirds(entries, seed=0)


def _kept(cost: DetectorCost, held: int, tested: int, unseen: int) -> float:
    """Seconds of the detector for use and of the one without anomalies that it is weighed against."""
    alone = dataclasses.replace(cost, fit=cost.alone)
    both = cost.kept(HELD_OUT, held + tested) + alone.kept(HELD_OUT, held + tested)
    return both + 2 * (held + HELD_OUT * unseen) * cost.picture


def _detectors(config: RunConfig, seen: Seen, normals: int, tested: int) -> tuple[Part, int, int]:
    """All arms with all seeds and the one that is kept; the bytes of one, and processes beside this one."""
    task, rounds = seen.task, config.rounds
    with_anomalies = rounds + 1 + (2 if task.test is not None else 0)
    with_anomalies += traced_by(seen.images)
    with_anomalies += task.test is not None and task.knowledge is not None and len(task.knowledge.images) > 0
    if task.test is None:
        with_anomalies = 1
    count = (with_anomalies + (task.test is not None)) * config.seeds
    number = config.initial + (rounds * config.per_round if config.mode == "add" else 0)
    shown = min(number, 4 * len(task.normals))
    rows = np.arange(shown) % len(seen.pool)
    masks = seen.pool.masks
    anomalies = Anomalies(images=seen.pool.images[rows], masks=None if masks is None else masks[rows])
    division = Division.of(run_detector(config, 0), detectors=count, left=count)

    def build(told: Progress | None) -> Detector:
        detector: Any = run_detector(config, 0)
        if told is not None and hasattr(detector, "progress"):
            detector.progress = told
        return detector

    cost = detector_cost(
        build, task, anomalies, normals=normals, all_of=number, seconds=SECONDS["detectors"], use=division.threads
    )
    fits = config.seeds * (with_anomalies * cost.fit + (cost.alone if task.test is not None else 0.0))
    scored = tested * cost.picture * count
    seconds = (fits + scored) / division.processes + _kept(cost, int(HELD_OUT * normals), tested, number)
    if division.processes > 1:
        seconds += seen.loading / 2
    beside = division.processes if division.processes > 1 else 0
    how = f"{count + 2} detectors, {division.processes} at a time: {cost.how}"
    return Part(stage="detectors", seconds=seconds, how=how), cost.disk, beside


def _report(config: RunConfig, seen: Seen, tested: int) -> Part | None:
    """The map of the latent space, which takes longest of it; None without one."""
    if not tested or not isinstance(run_detector(config, 0), Embeds):
        return None
    from kka.report.analysis import MAX_POINTS, tsne

    def mapped(points: int) -> None:
        tsne(np.random.default_rng(0).normal(size=(points, DIMENSIONS)).astype(np.float32))

    mapped(min(tested, 20))  # the first time the library is loaded
    took = seconds_for(mapped, min(tested, MAX_POINTS), start=40, seconds=SECONDS["report"])
    return Part(stage="report", seconds=2 * took, how="maps of the latent space of a few points")


def is_server(spec: str) -> bool:
    """Whether a model is asked over the network, and may be paid for."""
    return spec.partition(":")[0] == SERVER


def _calls(config: RunConfig, seen: Seen, wanted: int) -> dict[str, float]:
    calls: dict[str, float] = {}
    if is_server(seen.specs[0]):
        rounds = [config.initial, *[config.fresh * config.best_of] * config.rounds]
        requests = sum(requests_for(config, seen, count) for count in rounds)
        counts, scale = seen.counts["captions"].counts, requests / seen.asked
        calls["requests for captions"] = requests
        calls["tokens read"] = scale * (counts.get("tokens_read") or 0)
        calls["tokens written"] = wanted / max(1, len(seen.written)) * (counts.get("tokens") or 0)
        language = config.language
        if isinstance(seen.language, Metered) and language.price_in is not None and language.price_out is not None:
            read, written = calls["tokens read"] * language.price_in, calls["tokens written"] * language.price_out
            calls["cost"] = (read + written) / 1e6
    if is_server(seen.specs[1]):
        calls["requests for pictures"] = wanted
    return calls
