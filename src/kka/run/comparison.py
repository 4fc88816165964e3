"""Algorithm 1, line 11 and after: detectors trained with each round's pool, beside their controls.

Arms: "none" (normals alone), "noise" (random pixels), "other" (something else altogether: what any anomalies do, with
no word of the domain), "traces" (what the image model draws without an anomaly, where a network draws), "kka-<r>" (the
pool after round r), "real" (random training images of other classes, where the data has them: an upper mark). Each is
trained to the last epoch with every seed, several side by side where there are cores; test labels reach
`kka.common.metrics` and nothing else.
"""

import dataclasses
import json
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from kka.algorithm.controls import noise_images, real_images, texture_controls
from kka.algorithm.folder import METRICS, SHARED, RunFolder, arm_name, arm_stage, kept_stage, pool_stage
from kka.common.cluster import Cluster, Hand, Piece
from kka.common.files import read_json
from kka.common.ledger import Counts
from kka.common.metrics import Estimate, evaluate
from kka.common.packed import unpack
from kka.common.progress import StageProgress
from kka.common.store import Store
from kka.common.workers import EndedError, Worker, side_by_side
from kka.data.other import pictures_of_another_kind
from kka.deploy.anomalies import Anomalies
from kka.deploy.defects import Defects
from kka.deploy.train import way_of
from kka.errors import UserError
from kka.protocols import Detector, Images, Scores
from kka.run.kept import keep_detector
from kka.run.training import (
    Division,
    Material,
    Stored,
    can_travel,
    pretrained,
    pretrained_stored,
    threads,
    train,
    train_packed,
    train_stored,
)
from kka.seeding import derive_seed
from kka.task import Task

Build = Callable[[int], Detector]
"""From a seed to an untrained detector."""
Key = tuple[str, int]
"""Arm, and number of the seed."""
FIGURES = ("auroc", "aupr", "fpr95", "seen", "unseen")


def arms(
    task: Task, pools: Sequence[Anomalies], *, seed: int, other: str | None = None, made: RunFolder | None = None
) -> dict[str, Callable[[], Anomalies | None]]:
    """Name -> how to get the anomalies that an arm trains with, controls first: one arm is in memory at a time.

    Controls are as many as the first pool. `other`: the folder of the pictures of something else; None: textures.
    `made`: the run, whose traces are a control where it has any.
    """
    count, knowledge = len(pools[0].images), task.knowledge
    chosen: dict[str, Callable[[], Anomalies | None]] = {
        "none": lambda: None,
        "noise": lambda: Anomalies(images=noise_images(task, count, seed=seed)),
        "other": lambda: Anomalies(images=other_images(other, task, count, seed=seed)),
    }
    if made is not None and made.has_traces:
        chosen["traces"] = lambda: Anomalies.of_pool(made.traces(), None)
    chosen |= {arm_name(number): partial(pools.__getitem__, number) for number in range(len(pools))}
    if knowledge is not None and len(knowledge.images):
        chosen["real"] = lambda: Anomalies(images=real_images(knowledge, count, seed=seed))
    return chosen


def other_images(source: str | None, task: Task, count: int, *, seed: int) -> Images:
    """`count` pictures of something else altogether: of the folder `source`, or textures."""
    if source is None:
        return texture_controls(task, count, seed=seed)
    return pictures_of_another_kind(source, task, count, seed=seed)


class StoredPools(Sequence[Anomalies]):
    """The pools of a run's rounds, each read when it is asked for."""

    def __init__(self, made: RunFolder, number: int) -> None:
        self.made, self.number = made, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, number: int) -> Anomalies:  # type: ignore[override]  # there are no slices
        if not 0 <= number < self.number:
            raise IndexError(number)
        pool = self.made.pool(number)  # after a round its pictures carry their judgements; those of round 0 do not yet
        return Anomalies.of_pool(pool, pool.hard if number else self.made.hard_of(0, pool.entries))


def compare(
    task: Task,
    pools: Sequence[Anomalies],
    *,
    build: Build,
    seeds: int,
    seed: int,
    store: Store,
    progress: StageProgress | None = None,
    other: str | None = None,
    defects: Defects | None = None,
    train_on_defects: bool = False,
    match_traces: bool = False,
    cluster: Cluster | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Train and score every arm with every seed. Name -> figures: mean, 95 % interval and each seed's.

    `other`: as `arms` takes it; `defects`, `train_on_defects`, `match_traces`: as `keep_detector` takes them. Without
    a test set only the last pool's detectors are trained, and there are no figures.
    `cluster`: trains the detectors, with as many threads each as they have here.
    """
    trained = arms(task, pools, seed=seed, other=other, made=RunFolder(store.root))
    last = arm_name(len(pools) - 1)
    if task.test is None:
        trained = {last: trained[last]}
    wanted = [(name, k) for name in trained for k in range(seeds)]
    left = [(name, k) for name, k in wanted if not store.done(arm_stage(name, k))]

    def tell(done: int) -> None:
        if progress is not None:
            progress("detectors", done, len(wanted))

    one = partial(build, derive_seed(seed, "detector", 0))
    finished = not left and store.done(kept_stage(last))
    division = Division(1, 1) if finished else Division.of(one(), detectors=len(wanted), left=len(left))
    trainings = _Trainings(
        task=task, anomalies={name: cache(get) for name, get in trained.items()},
        sources={arm_name(number): pool_stage(number) for number in range(len(pools))},
        build=lambda k: build(derive_seed(seed, "detector", k)), kept=(last, 0), store=store,
    )  # fmt: skip
    shutil.rmtree(store.root / SHARED, ignore_errors=True)  # of a run that was killed
    if cluster is not None and left and can_travel(one()):
        tell(len(wanted) - len(left))
        trainings.on_cluster(left, cluster, division.threads, told=lambda done: tell(len(wanted) - len(left) + done))
    elif division.processes > 1:
        tell(len(wanted) - len(left))
        trainings.side_by_side(left, division, told=lambda done: tell(len(wanted) - len(left) + done))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in trained}
    for done, key in enumerate(wanted):
        if division.processes == 1:
            tell(done)
        runs[key[0]].append(read_json(trainings.alone(key, division.threads) / METRICS))
        if key[1] == seeds - 1:
            trainings.anomalies[key[0]].cache_clear()  # one arm's are in memory at a time
    with threads(division.threads):
        keep_detector(
            task, trained[last], arm=last, source=pool_stage(len(pools) - 1), build=one, store=store,
            defects=defects, train_on_defects=train_on_defects, match_traces=match_traces,
        )  # fmt: skip
    tell(len(wanted))
    return {} if task.test is None else {name: _summarise(found) for name, found in runs.items()}


@dataclass(frozen=True, kw_only=True)
class _Trainings:
    """The detectors of a comparison, each a stage: its test scores and figures; of one, its weights."""

    task: Task
    anomalies: dict[str, Any]
    """Arm -> how to get them, once."""
    sources: dict[str, str]
    """Arm -> the stage with its pool, where it has one."""
    build: Build
    """From the number of a seed."""
    kept: Key
    store: Store
    starts: dict[int, Any] = field(default_factory=dict)
    """One pretraining serves all arms of a seed, which start from the same weights."""
    written: dict[str, int] = field(default_factory=dict)
    """Arm whose material other processes can read -> how many anomalies it has."""
    writing: Any = field(default_factory=threading.Lock)
    starting: defaultdict[int, Any] = field(default_factory=lambda: defaultdict(threading.Lock))
    """Number of the seed -> the lock on its start."""

    def alone(self, key: Key, number: int) -> Path:
        """The stage of one detector, trained in this process with so many threads unless it is there."""

        def work(folder: Path) -> tuple[Scores | None, int]:
            model, material = self.build(key[1]), self._material(key[0])
            with threads(number):
                if key[1] not in self.starts:
                    self.starts[key[1]] = pretrained(model, material)
                scores = train(model, material, self.starts[key[1]], folder, **self._wanted(key))
            return scores, _number(material.anomalies)

        return self._stage(key, work)

    def side_by_side(self, left: Sequence[Key], division: Division, *, told: Callable[[int], None]) -> None:
        """The stages of all these detectors, by several processes at a time."""
        shared = (self.store.root / SHARED).resolve()
        with self.store.guarded():
            shared.mkdir()
        try:
            side_by_side(
                left, partial(self._beside, shared), told=told,
                crew=[Worker(threads=division.threads) for _ in range(division.processes)],
            )  # fmt: skip
        finally:
            shutil.rmtree(shared, ignore_errors=True)

    def on_cluster(self, left: Sequence[Key], cluster: Cluster, threads: int, *, told: Callable[[int], None]) -> None:
        """The stages of all these detectors, trained on the machines of a cluster."""
        hands = cluster.hands(min(len(left), cluster.slots(threads)))
        there = _There(normals=cluster.share(dataclasses.replace(self._material(left[0][0]), anomalies=None)))
        side_by_side(left, partial(self._elsewhere, cluster, there, threads), crew=hands, told=told)

    def _elsewhere(self, cluster: Cluster, there: "_There", threads: int, key: Key, hand: Hand) -> Path:
        """The stage of one detector, trained on another machine."""
        arm, k = key

        def work(folder: Path) -> tuple[Scores | None, int]:
            model, name = self.build(k), f"detector {arm}, seed {k}"
            with self.writing:
                if arm not in there.anomalies:
                    anomalies = self.anomalies[arm]()
                    there.anomalies[arm] = cluster.share(anomalies), _number(anomalies)
                    self.anomalies[arm].cache_clear()
                if k not in there.starts:  # which those that need it wait for where they are
                    there.starts[k] = cluster.submit(pretrained, model, there.normals, threads=threads, name=name)
            anomalies, number = there.anomalies[arm]
            given = (model, there.normals, anomalies, there.starts[k], self._wanted(key))
            scores, packed = hand.call(train_packed, *given, threads=threads, name=name)
            unpack(packed, folder)
            return scores, number

        return self._stage(key, work)

    def _beside(self, shared: Path, key: Key, worker: Worker) -> Path:
        """The stage of one detector, trained by `worker`, which finds its material in the folder `shared`."""
        arm, k = key

        def work(folder: Path) -> tuple[Scores | None, int]:
            model = self.build(k)
            task = self.task
            photos = None if task.test is None else task.test.photos
            stored = Stored(folder=shared, arm=arm, captions=task.captions, way=way_of(task), photos=photos)
            with self.writing:
                if arm not in self.written:
                    material = self._material(arm)
                    stored.write(material)
                    self.written[arm] = _number(material.anomalies)
                    self.anomalies[arm].cache_clear()
            try:
                with self.starting[k]:
                    if k not in self.starts:
                        self.starts[k] = worker.call(pretrained_stored, model, stored)
                given = (model, stored, self.starts[k], folder.resolve(), self._wanted(key))
                return worker.call(train_stored, *given), self.written[arm]
            except EndedError as error:
                raise UserError(
                    f"the process that trained the detector {arm}, seed {k}, was ended ({error}), as happens where "
                    f"memory runs out. What was finished is kept. To train one detector at a time: "
                    f"OMP_NUM_THREADS=1 kka run --out {self.store.root} --resume"
                ) from error

        return self._stage(key, work)

    def _stage(self, key: Key, work: Callable[[Path], tuple[Scores | None, int]]) -> Path:
        """`work` trains, fills the folder, and gives the scores of the test images and the number of anomalies; the
        figures are made of them here, where the labels are."""
        arm, k = key

        def compute(folder: Path) -> Counts:
            scores, number = work(folder)
            test = self.task.test
            metrics: dict[str, float] = {}
            if test is not None and scores is not None:
                metrics = evaluate(scores, test.is_anomaly, test.seen)
            (folder / METRICS).write_text(json.dumps(metrics, indent=1))
            return {"anomalies": number}

        source = self.sources.get(arm)
        return self.store.stage(arm_stage(arm, k), compute, after=[] if source is None else [source])

    def _material(self, arm: str) -> Material:
        test = self.task.test
        return Material(
            normals=self.task.normals, captions=self.task.captions, test=None if test is None else test.pictures,
            way=way_of(self.task), anomalies=self.anomalies[arm](),
        )  # fmt: skip

    def _wanted(self, key: Key) -> dict[str, bool]:
        return {"keep": key == self.kept, "latent": key[1] == 0}


@dataclass(frozen=True, kw_only=True)
class _There:
    """What the machines of a cluster were given once."""

    normals: Piece
    """And the test: a `Material` without anomalies."""
    anomalies: dict[str, tuple[Piece, int]] = field(default_factory=dict)
    """Of an arm, with their number."""
    starts: dict[int, Piece] = field(default_factory=dict)
    """Of the detectors of a seed."""


def _number(anomalies: Anomalies | None) -> int:
    return 0 if anomalies is None else len(anomalies.images)


def _summarise(runs: list[dict[str, float]]) -> dict[str, Estimate]:
    found = {figure: [run[figure] for run in runs if figure in run] for figure in FIGURES}
    return {figure: Estimate.of(values) for figure, values in found.items() if values}
