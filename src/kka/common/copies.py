"""Copies of one thing, such as a model, on the machines of a cluster: work goes to whichever is free."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from kka.common.pieces import RETRIES, Copy, LostError

AHEAD = 2
"""So many pieces wait at each copy, so that none is idle while an answer travels."""


class Copies:
    """Copies of one thing on several machines, for as long as `each` runs: then others get the room."""

    def __init__(self, cluster: Any, build: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self._cluster, self._ray = cluster, cluster._ray
        self._build, self._arguments = build, arguments

    @property
    def number(self) -> int:
        """As many as the cluster has room for now."""
        return self._cluster.slots()

    def share(self, value: Any) -> Any:
        """As `Cluster.share`."""
        return self._cluster.share(value)

    def each(
        self, work: Callable[..., Any], items: Iterable[tuple[Any, ...]], *, most: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Number and `work(copy, *item)` of each item as it is done, whichever copy does it. Few are sent ahead.

        A piece whose copy is lost goes to another.

        Args:
            most: So many items there are at most: more copies are not made. Of none, no copy is.

        Raises:
            LostError: a piece was tried again and again.
            Exception: what the building of a copy, or the work, raised.
        """
        if most == 0:
            return
        left = ((number, item, 0) for number, item in enumerate(items))
        again: deque[tuple[int, tuple[Any, ...], int]] = deque()
        starting: dict[Any, Any] = {}  # whether it has begun -> the copy
        load: dict[Any, int] = {}  # copy that has begun -> pieces that are with it
        away: dict[Any, tuple[int, tuple[Any, ...], int, Any]] = {}  # piece -> number, item, times lost, copy
        lost = 0

        def start() -> None:
            copy = self._start()
            starting[copy.begun.remote()] = copy

        def send() -> bool:
            """Give out the next piece; False where no copy takes more, or there is no piece."""
            copy = min(load, key=load.__getitem__, default=None)
            if copy is None or load[copy] >= AHEAD:
                return False
            found = again.popleft() if again else next(left, None)
            if found is None:
                return False
            number, item, tries = found
            away[copy.do.remote(work, *item)] = number, item, tries, copy
            load[copy] += 1
            return True

        for _ in range(min(self.number, most or self.number)):
            start()
        try:
            while not load or away or again or send():
                while send():
                    pass
                for piece in self._cluster._wait([*starting, *away]):
                    if piece in starting:
                        copy = starting.pop(piece)
                        try:
                            self._cluster.result(piece)
                            load[copy] = 0
                        except LostError:
                            lost += 1
                            if lost > RETRIES * self.number:
                                raise
                            start()
                        continue
                    number, item, tries, copy = away.pop(piece)
                    try:
                        value = self._cluster.result(piece)
                    except LostError:
                        if tries == RETRIES:
                            raise
                        again.append((number, item, tries + 1))
                        if load.pop(copy, None) is not None:
                            self._end(copy)  # where an answer alone was lost it lives, and would keep its room
                            start()  # which waits until there is room
                        continue
                    if copy in load:
                        load[copy] -= 1
                        send()
                    yield number, value
        finally:
            for copy in [*starting.values(), *load]:
                self._end(copy)

    def _start(self) -> Any:
        needs = self._cluster.needs
        kind = self._ray.remote(Copy).options(num_cpus=needs.cpus, num_gpus=needs.gpus)
        return kind.remote(self._cluster._here(needs.cpus), self._build, *self._arguments)

    def _end(self, copy: Any) -> None:
        with suppress(Exception):  # it has ended, or the cluster is gone
            self._ray.kill(copy)
