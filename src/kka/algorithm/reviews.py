"""What a person says of generated pictures: `reviews.jsonl` in the run's folder, each decision on disk as it is made.

A line is a `Decision` on one picture or a `Choice` between two. The last word on a picture, or on two, counts; lines
are only ever added.
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kka.algorithm.pool import AnomalyPool
from kka.common.files import append_line
from kka.common.json_text import parse_json
from kka.errors import UserError

REVIEWS = "reviews.jsonl"
"""At the top of a run's folder; and, as a round found them, in that round's stage of the same name."""
VERDICTS = ("keep", "veto", "harder", "easier", "none")
""""harder": easier taken for a normal than it was judged, "easier": the reverse. "none" takes back what was said."""
REASONS = ("looks normal", "does not show its caption", "nonsense")
"""Of a veto."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is said of one picture."""

    id: str
    verdict: str
    reason: str | None = None
    """Of a veto alone."""
    at: str = field(default_factory=_now)
    """When, in UTC."""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise UserError(f"review: expected a verdict among {', '.join(VERDICTS)}; got {self.verdict!r}")
        if (self.verdict == "veto") != (self.reason is not None) or self.reason not in (None, *REASONS):
            raise UserError(
                f"review: expected a reason with a veto alone, among {', '.join(REASONS)}; got {self.reason!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Of two pictures the harder, which is easier taken for a normal."""

    harder: str
    easier: str
    at: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        if self.harder == self.easier:
            raise UserError(f"review: expected two pictures; got {self.harder} twice")


@dataclass(frozen=True)
class Reviews:
    """All that was said, the last word of each."""

    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """By the id of the picture."""
    choices: tuple[Choice, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.decisions or self.choices)

    def ids(self, verdict: str) -> frozenset[str]:
        """The pictures of which this was said."""
        return frozenset(name for name, decision in self.decisions.items() if decision.verdict == verdict)

    @property
    def vetoed(self) -> frozenset[str]:
        """The pictures that leave the pool and never come back."""
        return self.ids("veto")

    def without_vetoed(self, pool: AnomalyPool) -> AnomalyPool:
        """The pool without them, and without copies of them that carry another name."""
        keys = {entry.key for entry in pool.entries if entry.id in self.vetoed}
        kept = [i for i, entry in enumerate(pool.entries) if entry.id not in self.vetoed and entry.key not in keys]
        return pool if len(kept) == len(pool) else pool.take(kept)

    def with_said(self, said: Decision | Choice) -> "Reviews":
        """With one more, the last word."""
        if isinstance(said, Choice):
            pair = {said.harder, said.easier}
            return Reviews(self.decisions, (*(c for c in self.choices if {c.harder, c.easier} != pair), said))
        rest = {name: decision for name, decision in self.decisions.items() if name != said.id}
        return Reviews(rest if said.verdict == "none" else rest | {said.id: said}, self.choices)

    def counts(self) -> dict[str, int]:
        """How often what was said: verdicts, reasons of vetoes, choices."""
        said = Counter(d.reason or d.verdict for d in self.decisions.values())
        names = [name for name in VERDICTS if name not in ("veto", "none")]
        return {name: said[name] for name in (*names, *REASONS)} | {"choices": len(self.choices)}


def append(root: Path, said: Decision | Choice) -> None:
    """Add a line, whole, and have the disk hold it before anything else is done."""
    append_line(root / REVIEWS, {k: v for k, v in asdict(said).items() if v is not None})


def read_reviews(file: Path) -> Reviews:
    """What stands in a file of reviews; nothing where there is none. A warning names lines that say nothing."""
    decisions: dict[str, Decision] = {}
    choices: dict[frozenset[str], Choice] = {}
    for number, line in enumerate(file.read_bytes().split(b"\n") if file.is_file() else [], start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            if "id" in row:
                decisions[row["id"]] = Decision(**row)
            else:
                choice = Choice(**row)
                choices.pop(pair := frozenset((choice.harder, choice.easier)), None)  # the last word stands last
                choices[pair] = choice
        except (ValueError, TypeError) as error:  # half a line of a killed process; an edit by hand
            warnings.warn(f"{file}, line {number}: no review ({error}); it is passed over", stacklevel=2)
    kept = {name: decision for name, decision in decisions.items() if decision.verdict != "none"}
    return Reviews(kept, tuple(choices.values()))
