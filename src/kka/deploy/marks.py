"""What a person says of photos that a detector scored: `reviews.jsonl` beside its card, each on disk as it is made.

A photo is known by the SHA-256 of its file, wherever it lies. The last word on it counts; lines are only ever added.
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from kka.common.files import append_line
from kka.common.json_text import parse_json
from kka.common.metrics import anomalous
from kka.deploy.chosen import now, user
from kka.errors import UserError

MARKS = "reviews.jsonl"
"""The file, in the folder of the detector, unless another is named."""
NORMAL, ANOMALOUS, NO_OPINION = SAID = ("normal", "anomalous", "no opinion")
"""What can be said; "no opinion" takes back what was said before."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is said of one photo, with what the detector said of it then."""

    sha256: str
    """Of the file's content."""
    bytes: int
    """Its size, by which a moved file is looked for."""
    path: str
    """Where it lay, absolute."""
    said: str
    score: float
    threshold: float | None
    """Where it stood on the page; None: there was none."""
    by: str = field(default_factory=user)
    at: str = field(default_factory=now)
    """When, in UTC."""

    def __post_init__(self) -> None:
        if self.said not in SAID:
            raise UserError(f"review: expected one of {', '.join(SAID)}; got {self.said!r}")
        if not isinstance(self.sha256, str) or not isinstance(self.path, str) or not isinstance(self.bytes, int):
            raise UserError("review: expected the digest, the path and the size of a photo; got something else")

    @property
    def missed(self) -> bool:
        """Whether it is an anomaly that the detector took for a normal."""
        if self.said != ANOMALOUS or self.threshold is None:
            return False
        return not anomalous(np.array([self.score], np.float32), self.threshold)[0]


def add_mark(file: Path, mark: Mark) -> None:
    """Keep it, on disk before anything else is done."""
    append_line(file, asdict(mark))


def read_marks(file: Path) -> Mapping[str, Mark]:
    """SHA-256 -> the last word on each photo; none where there is no file. A warning names lines that say nothing."""
    marks: dict[str, Mark] = {}
    for number, line in enumerate(file.read_bytes().split(b"\n") if file.is_file() else [], start=1):
        if not line.strip():
            continue
        try:
            mark = Mark(**parse_json(line))
        except (ValueError, TypeError) as error:  # half a line of a killed process; an edit by hand
            warnings.warn(f"{file}, line {number}: no mark of a photo ({error}); it is passed over", stacklevel=2)
            continue
        marks.pop(mark.sha256, None)  # the last word stands last
        marks[mark.sha256] = mark
    return marks
