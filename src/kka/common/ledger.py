"""What stages cost: seconds, memory, and counts of what they made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Counts = Mapping[str, int | float | None]
"""What a stage made: {"images": 40, "tokens": 812}. None: nothing counts it there."""

SPENT = {"tokens_read": "tokens_read", "tokens_written": "tokens", "cost": "cost"}
"""What a language model used, as summaries and rows say it -> the count of it."""

_NO_COUNTS = ("seconds", "peak_mb", "files", "after")
"""In a stage's marker beside its counts."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one stage cost."""

    seconds: float
    peak_mb: float
    """The largest resident memory of the process while it ran, MiB."""
    counts: Counts

    def as_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return {"seconds": self.seconds, "peak_mb": self.peak_mb, **self.counts}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Entry":
        """Read what `as_dict` gave."""
        counts = {name: value for name, value in stored.items() if name not in _NO_COUNTS}
        return cls(seconds=float(stored["seconds"]), peak_mb=float(stored["peak_mb"]), counts=counts)

    def plus(self, other: "Entry") -> "Entry":
        """Both together: sums, and the larger memory."""
        counts = dict(self.counts)
        for name, value in other.counts.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                counts[name] = (counts.get(name) or 0) + value
        return Entry(
            seconds=round(self.seconds + other.seconds, 3), peak_mb=max(self.peak_mb, other.peak_mb), counts=counts
        )


NOTHING = Entry(seconds=0.0, peak_mb=0.0, counts={})


@dataclass(frozen=True)
class Ledger:
    """The entries of a run's stages, by name."""

    stages: Mapping[str, Entry]

    @property
    def totals(self) -> Entry:
        """Of all stages."""
        whole = NOTHING
        for entry in self.stages.values():
            whole = whole.plus(entry)
        return whole

    def as_dict(self) -> dict[str, Any]:
        """As ledger.json holds it."""
        totals = self.totals.as_dict() if self.stages else {}
        return {"totals": totals, "stages": {name: entry.as_dict() for name, entry in self.stages.items()}}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Ledger":
        """Read what `as_dict` gave."""
        return cls({name: Entry.from_dict(entry) for name, entry in stored["stages"].items()})
