"""The anomalies of a cell's arm: a pool, what was chosen of everything generated, or a control."""

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from kka.algorithm.controls import noise_images, real_images
from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool
from kka.experiments.engine.arms import TRACES
from kka.experiments.engine.cells import Cell
from kka.experiments.engine.choices import CHOICES, chosen
from kka.experiments.engine.others import other_images
from kka.experiments.engine.place import Place
from kka.experiments.engine.pools import ensure_pool
from kka.experiments.engine.tasks import dataset
from kka.experiments.engine.traces import ensure_traces
from kka.protocols import Images, Masks
from kka.seeding import derive_seed
from kka.task import Task


@dataclass(frozen=True, kw_only=True)
class ArmImages:
    """What an arm trains with."""

    images: Images | None
    masks: Masks | None = None
    """Where each is anomalous; None: pictures that are drawn whole."""
    hard: np.ndarray | None = None
    """Which of them are hard, by the last judgement; None where nothing judged them."""
    relative: np.ndarray | None = None
    """The relative distance of each, by the last judgement."""
    generated: int = 0
    """Images generated to get them."""
    spent: dict[str, Any] = field(default_factory=dict)
    """What the language model read, wrote and cost for them, as a row has it."""
    fresh_hard: float | None = None
    """The share of hard ones in what the arm's round generated."""
    closed: bool | None = None
    """Whether the arm's round closed without an entry; None: it has no round."""


def anomalies_of(cell: Cell, task: Task, place: Place) -> ArmImages:
    """The anomalies of a cell's arm.

    Raises:
        BusyError: another process is making the pool.
        UserError: an arm that the pool cannot give; see `ensure_traces`.
    """
    count, arm = dataset(cell.dataset).initial, cell.trained_with
    if not arm.needs_pool:
        return ArmImages(images=_control(cell, task, count, place))
    if arm.kind == TRACES:
        return _of(ensure_traces(cell, task, place))
    made = RunFolder(ensure_pool(cell, task, place.data, place.work))
    if arm.kind in CHOICES:
        return _choice(made, arm.kind, derive_seed(cell.seed, "controls"))
    assert arm.round is not None
    pool, hard = made.pool(arm.round), made.hard(arm.round)
    if arm.kind == "real":
        assert task.knowledge is not None
        return ArmImages(images=real_images(task.knowledge, len(pool), seed=cell.seed))
    rng = np.random.default_rng(derive_seed(cell.seed, "controls"))
    if arm.kind == "any":
        return _any(made, arm.round, len(pool), rng)
    if arm.kind == "first":  # captions come in the order of the prompts, so shuffled
        order = rng.permutation(len(pool))[: arm.number]
        return _of(pool.take(order.tolist()), hard=None if hard is None else hard[order], generated=len(order))
    facts = made.facts(arm.round)
    return _of(
        pool, hard=hard, relative=_relative(pool), generated=made.generated(arm.round),
        spent=made.spent(arm.round), fresh_hard=facts.hard_share_fresh,
        closed=facts.closed is not None if arm.round else None,
    )  # fmt: skip


def _of(pool: AnomalyPool, **more: Any) -> ArmImages:
    return ArmImages(images=pool.images, masks=pool.masks, **more)


def _control(cell: Cell, task: Task, count: int, place: Place) -> Images | None:
    if cell.arm == "none":
        return None
    if cell.arm == "noise":
        return noise_images(task, count, seed=cell.seed)
    if cell.arm == "other":
        return other_images(cell, task, count, place.data)
    assert task.knowledge is not None
    return real_images(task.knowledge, count, seed=cell.seed)


def _relative(pool: AnomalyPool) -> np.ndarray | None:
    """The last judgement of each picture; None where some have none, as those of round 0."""
    return pool.relative if len(pool) and np.isfinite(pool.relative).all() else None


def _choice(made: RunFolder, name: str, seed: int) -> ArmImages:
    everything = made.everything()
    relative = everything.relative
    rounds = np.array([entry.round for entry in everything.entries], dtype=np.int64)
    places = chosen(CHOICES[name], relative, rounds, seed=seed)
    return _of(
        everything.take(places.tolist()), hard=everything.hard[places], relative=relative[places],
        generated=len(everything),
    )  # fmt: skip


def _any(made: RunFolder, last: int, count: int, rng: np.random.Generator) -> ArmImages:
    """The first generation, and random ones of what the rounds up to `last` drew, hard or not."""
    parts = [(made.fresh(number), made.fresh_hard(number)) for number in range(last + 1)]
    first, everything = len(parts[0][0]), sum(len(pool) for pool, _ in parts)
    later = first + rng.permutation(everything - first)[: count - first]
    chosen = np.concatenate([np.arange(first), np.sort(later)])
    judged = [np.zeros(len(pool), dtype=bool) if hard is None else hard for pool, hard in parts]
    whole = reduce(AnomalyPool.joined, [pool for pool, _ in parts]).take(chosen.tolist())
    return _of(whole, hard=np.concatenate(judged)[chosen], generated=made.generated(last))

