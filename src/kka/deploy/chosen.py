"""A threshold that a person chose for a kept detector: a file beside its card, with who and when.

The card stays as training wrote it, and a run whose detector it is finds it unchanged.
"""

import getpass
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from kka.common.disk import reading
from kka.common.files import read_json, sync, write_atomically
from kka.errors import UserError

CHOSEN = "threshold.json"
"""The file, in the folder of the detector."""
LARGEST = float(np.finfo(np.float32).max)
"""That a score can be compared with."""


def user() -> str:
    """The name by which the system knows who is at work."""
    with suppress(OSError, KeyError):  # of a number without a name, as in containers
        return getpass.getuser()
    return "unknown"


def now() -> str:
    """In UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


AT_HAND = "the defects at hand"
"""Who chose a threshold, where no person did but `--threshold defects`."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """It counts in the place of the threshold in the card."""

    threshold: float
    """Anomalous = a score above it, in fp32."""
    promised: float | None
    """The false-positive rate that held-out normals promise there; None: none were kept."""
    by: str = field(default_factory=user)
    at: str = field(default_factory=now)

    def __post_init__(self) -> None:
        value = self.threshold
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= LARGEST:
            raise UserError(f"threshold: expected a number that a score can be compared with; got {value!r}")

    @property
    def told(self) -> str:
        """Whose it is, in words."""
        return f"chosen by {self.by} on {self.at[:10]}"


def read_chosen(folder: Path) -> Chosen | None:
    """What was chosen for the detector in `folder`; None: its card's own threshold counts.

    Raises:
        UserError: a damaged file.
    """
    file = folder / CHOSEN
    if not file.is_file():
        return None
    stored = read_json(file)
    with reading(file):
        return Chosen(**stored)


def keep_chosen(folder: Path, chosen: Chosen | None) -> None:
    """Keep it, whole or not at all; None: take back what was chosen."""
    if chosen is not None:
        write_atomically(folder / CHOSEN, json.dumps(asdict(chosen), indent=1))
        return
    (folder / CHOSEN).unlink(missing_ok=True)
    sync(folder)
