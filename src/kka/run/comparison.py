"""Algorithm 1, line 11 and after: detectors trained with each round's pool, beside their controls.

Arms: "none" (normals alone), "noise" (random pixels), "kka-<r>" (the pool after round r), "real" (random training
images of other classes, where the data has them: an upper mark). Each is trained to the last epoch with every seed;
test labels reach `kka.common.metrics` and nothing else.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from kka.algorithm.controls import noise_images, real_images
from kka.algorithm.folder import ARM_SCORES, DETECTOR, LATENT, METRICS, RunFolder, arm_name, arm_stage, pool_stage
from kka.common.files import read_json
from kka.common.ledger import Counts
from kka.common.metrics import Estimate, evaluate
from kka.common.progress import StageProgress
from kka.common.store import Store
from kka.deploy.train import annotate
from kka.detectors import fit_detector
from kka.protocols import Detector, Embeds, Images, Pretrains
from kka.seeding import derive_seed
from kka.task import Task

Build = Callable[[int], Detector]
"""From a seed to an untrained detector."""
FIGURES = ("auroc", "aupr", "fpr95", "seen", "unseen")


def arms(task: Task, pools: Sequence[Images], *, seed: int) -> dict[str, Callable[[], Images | None]]:
    """Name -> how to get the anomalies that an arm trains with, controls first: one arm is in memory at a time.

    Noise and real ones are as many as the first pool.
    """
    count, knowledge = len(pools[0]), task.knowledge
    chosen: dict[str, Callable[[], Images | None]] = {
        "none": lambda: None,
        "noise": lambda: noise_images(task, count, seed=seed),
    }
    chosen |= {arm_name(number): partial(pools.__getitem__, number) for number in range(len(pools))}
    if knowledge is not None and len(knowledge.images):
        chosen["real"] = lambda: real_images(knowledge, count, seed=seed)
    return chosen


class StoredPools(Sequence[Images]):
    """The pools of a run's rounds, each read when it is asked for."""

    def __init__(self, made: RunFolder, number: int) -> None:
        self.made, self.number = made, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, number: int) -> Images:  # type: ignore[override]  # there are no slices
        if not 0 <= number < self.number:
            raise IndexError(number)
        return self.made.pool(number).images


def compare(
    task: Task,
    pools: Sequence[Images],
    *,
    build: Build,
    hard: Sequence[np.ndarray | None],
    seeds: int,
    seed: int,
    store: Store,
    progress: StageProgress | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Train and score every arm with every seed. Name -> figures: mean, 95 % interval and each seed's.

    `hard`: for each pool, which of its anomalies are hard (Eq. 6); None where none was judged. Of the controls it is
    not known. Without a test set only the last pool's detectors are trained, and there are no figures.
    """
    trained = arms(task, pools, seed=seed)
    known = {arm_name(number): flags for number, flags in enumerate(hard)}
    sources = {arm_name(number): pool_stage(number) for number in range(len(pools))}
    last = arm_name(len(pools) - 1)
    if task.test is None:
        trained = {last: trained[last]}
    starts: dict[int, Any] = {}
    total, done, figures = len(trained) * seeds, 0, {}
    for name, get in trained.items():
        runs, anomalies = [], cache(get)  # read once, if any seed is left to train
        for k in range(seeds):
            if progress is not None:
                progress("detectors", done, total)
            keep = name == last and k == 0
            folder = _train_arm(
                task, name, anomalies, k, partial(build, derive_seed(seed, "detector", k)), starts, store,
                hard=known.get(name), keep=keep, source=sources.get(name),
            )  # fmt: skip
            runs.append(read_json(folder / METRICS))
            done += 1
        if task.test is not None:
            figures[name] = _summarise(runs)
    if progress is not None:
        progress("detectors", total, total)
    return figures


def _train_arm(
    task: Task,
    name: str,
    get: Callable[[], Images | None],
    k: int,
    build: Callable[[], Detector],
    starts: dict[int, Any],
    store: Store,
    *,
    hard: np.ndarray | None,
    keep: bool,
    source: str | None,
) -> Path:
    """One detector as a stage: its test scores and figures; weights and embeddings of the one to keep.

    `source`: the stage with the pool that it trains with.
    """

    def compute(folder: Path) -> Counts:
        model, anomalies = build(), get()
        # One pretraining serves all arms of a seed, which start from the same weights.
        if isinstance(model, Pretrains):
            if k not in starts:
                starts[k] = model.pretrain(task.normals)
            model = model.pretrained(starts[k])
        model = fit_detector(model, task.normals, anomalies, captions=task.captions, hard=hard)
        metrics: dict[str, float] = {}
        if task.test is not None:
            scores = model.score(task.test.images)
            np.save(folder / ARM_SCORES, np.asarray(scores, dtype=np.float32))
            metrics = evaluate(scores, task.test.is_anomaly, task.test.seen)
        if keep:
            model.save(folder / DETECTOR)
            annotate(folder / DETECTOR, task.normals, white=task.white)
        if k == 0:
            _save_latent(model, task, folder)
        (folder / METRICS).write_text(json.dumps(metrics, indent=1))
        return {"anomalies": 0 if anomalies is None else len(anomalies)}

    return store.stage(arm_stage(name, k), compute, after=[] if source is None else [source])


def _save_latent(model: Detector, task: Task, folder: Path) -> None:
    """The latent space of the test set, for detectors that have one: the report's t-SNE."""
    if task.test is not None and isinstance(model, Embeds):
        np.save(folder / LATENT, model.embed(task.test.images).astype(np.float16))


def _summarise(runs: list[dict[str, float]]) -> dict[str, Estimate]:
    found = {figure: [run[figure] for run in runs if figure in run] for figure in FIGURES}
    return {figure: Estimate.of(values) for figure, values in found.items() if values}
