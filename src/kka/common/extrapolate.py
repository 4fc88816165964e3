"""How long work will take, from doing a little of it: a training that is stopped early, a number that grows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from kka.common.progress import Progress

GROWTH = 4
"""How much more is done at each try."""
STEPS, LONGEST = 4, 3
"""So many steps are waited for, for so many times as long as is wanted; after that two are enough."""


class EnoughError(Exception):
    """Ends a piece of work that has been watched for long enough. Nothing that it made is used."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was seen of a piece of work until it ended or was stopped."""

    result: Any
    """None where it was stopped."""
    finished: bool
    before: float
    """Seconds until its first step was done, that step left out."""
    seconds: float
    """That the whole of it takes."""
    steps: int
    """That the whole of it has; 0 where it told none."""

    @property
    def a_step(self) -> float:
        """Seconds."""
        return (self.seconds - self.before) / self.steps if self.steps else 0.0


def watch(work: Callable[[Progress], Any], *, seconds: float) -> Watched:
    """Do `work`, which tells its steps, and stop it between two of them after so many seconds.

    Steps are taken to last alike; before the first one lies what is done once.
    """
    started = time.perf_counter()
    ticks: list[tuple[int, float]] = []
    total = 0

    def told(done: int, of: int) -> None:
        nonlocal total
        now = time.perf_counter() - started
        if done > 0:
            total = of
            ticks.append((done, now))
            patient = seconds if len(ticks) >= STEPS else LONGEST * seconds
            if now > patient and len(ticks) > 1 and done < of:  # the first one tells what lies before it, too
                raise EnoughError

    try:
        result, finished = work(told), True
    except EnoughError:
        result, finished = None, False
    whole = time.perf_counter() - started
    if not ticks:
        return Watched(result=result, finished=finished, before=0.0, seconds=whole, steps=0)
    first, at = ticks[0]
    pairs = [(b - a) / (n - m) for (m, a), (n, b) in pairwise(ticks) if n > m]
    each = float(median(pairs)) if pairs else at / first  # on a busy machine single steps take many times as long
    before = max(0.0, at - each * first)
    return Watched(
        result=result, finished=finished, before=before, seconds=whole if finished else before + each * total,
        steps=total,
    )  # fmt: skip


def seconds_for(work: Callable[[int], Any], wanted: int, *, start: int, seconds: float) -> float:
    """Seconds of `work(wanted)`, from ever larger numbers, until about so many seconds are spent or all is done."""
    if wanted < 1:
        return 0.0
    number, spent = min(start, wanted), 0.0
    points: list[tuple[int, float]] = []
    while True:
        began = time.perf_counter()
        work(number)
        points.append((number, time.perf_counter() - began))
        spent += points[-1][1]
        alone = len(points) == 1 and spent < seconds  # what is done once must not count for each
        if number == wanted or (spent + GROWTH * points[-1][1] > seconds and not alone):
            break
        number = min(GROWTH * number, wanted)
    most, took = points[-1]
    if len(points) == 1:
        return took * wanted / most
    fewer, quick = points[-2]
    return took + max(0.0, took - quick) / (most - fewer) * (wanted - most)
