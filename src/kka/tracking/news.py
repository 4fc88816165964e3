"""What a tracker is shown, and what it must be able to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Axis = Literal["round", "epoch"]


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """One figure at one step."""

    tag: str
    """Letters, digits, "_", "-", "." and "/" alone, which every tracker takes."""
    step: int
    value: float
    axis: Axis = "round"
    """What the steps count."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One picture of many, at one step."""

    tag: str
    step: int
    pixels: np.ndarray
    """(h, w, 3), bytes."""


@dataclass(frozen=True, kw_only=True)
class News:
    """What a tracker was not shown before."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Setting -> value: all of them the first time, those that have changed later."""
    scalars: tuple[Scalar, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    files: tuple[Path, ...] = ()
    """Files for people, such as the report."""

    def __bool__(self) -> bool:
        return bool(self.settings or self.scalars or self.sheets or self.files)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tracker begins, or goes on."""

    folder: Path
    """Of the run, or of the detector."""
    identity: str | None = None
    """What the tracker called the run when it was first told of it; None: it was not."""


@runtime_checkable
class Tracker(Protocol):
    """Shows a run to people. Its class takes what stands behind the colon of its spec, and a `Place`.

    A class may have a static method `check`, which raises UserError where the tracker is not set up.
    """

    identity: str
    """By which it finds the run again when that is resumed. No secret: it is written to disk."""

    def log(self, news: News) -> None:
        """Show it. When this returns without an error it is not shown again."""
        ...

    def close(self, *, finished: bool) -> None:
        """Nothing more comes. `finished`: the run came to its end."""
        ...
