"""How much memory a piece of work takes."""

import threading
from contextlib import suppress

BESIDE: set[int] = set()
"""Ids of the processes that work for this one."""


class PeakMemory:
    """The largest resident memory of this process, and of those that work for it, while the block runs; sampled 20
    times a second."""

    def __enter__(self) -> "PeakMemory":
        self._peak = self._before = _resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._peak = max(self._peak, _resident())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._peak = max(self._peak, _resident())

    @property
    def grown(self) -> int:
        """Bytes of the peak above what there was before."""
        return self._peak - self._before

    @property
    def peak_mb(self) -> float:
        return round(self._peak / 2**20, 1)


def _resident() -> int:
    """Bytes."""
    import psutil

    total: int = psutil.Process().memory_info().rss
    for pid in BESIDE.copy():
        with suppress(psutil.Error):  # it has ended
            total += psutil.Process(pid).memory_info().rss
    return total
