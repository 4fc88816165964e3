"""How much memory a piece of work takes."""

import threading
from contextlib import suppress

BESIDE: set[int] = set()
"""Ids of the processes that work for this one."""


_OPEN = threading.local()
"""`inner`: the block of this thread that was begun last."""


class PeakMemory:
    """The most memory that this process, and those that work for it, held while the block runs; sampled 20 times a
    second. Pages of files that are mapped, of libraries and of `kka.common.mapped`, are not held: the system takes
    them back where it needs the room."""

    machine_seconds = 0.0
    """Of work that was done for the block on other machines."""

    def __enter__(self) -> "PeakMemory":
        self._around, _OPEN.inner = getattr(_OPEN, "inner", None), self
        self._peak = self._before = _held()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._peak = max(self._peak, _held())

    def __exit__(self, *_: object) -> None:
        _OPEN.inner = self._around
        self._stop.set()
        self._thread.join()
        self._peak = max(self._peak, _held())

    @property
    def grown(self) -> int:
        """Bytes of the peak above what there was before."""
        return self._peak - self._before

    @property
    def peak_mb(self) -> float:
        return round(self._peak / 2**20, 1)


def spent_elsewhere(seconds: float, peak_mb: float) -> None:
    """Add work of another machine to the block that this thread is in: its seconds, and its memory where it is more."""
    block: PeakMemory | None = getattr(_OPEN, "inner", None)
    if block is not None:
        block.machine_seconds += seconds
        block._peak = max(block._peak, int(peak_mb * 2**20))


def _held() -> int:
    """Bytes."""
    import psutil

    total = 0
    for process in (None, *BESIDE.copy()):
        with suppress(psutil.Error):  # it has ended
            found = psutil.Process(process).memory_info()
            total += found.rss - getattr(found, "shared", 0)  # which Linux tells
    return total
