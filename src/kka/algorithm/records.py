"""What the stages of Algorithm 1 store, a line each in the run's folder."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Representative:
    """A normal whose caption is in a prompt (Eq. 2)."""

    normal: int
    """Its index in the task's normals."""
    caption: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class WrittenCaption:
    """A caption of the language model (Eq. 3)."""

    caption: str
    prompt: str
    """The prompt that it answers."""
    seed: int
    """Of its picture."""


@dataclass(frozen=True, kw_only=True)
class UnusablePicture:
    """A picture (Eq. 4) that was set aside."""

    caption: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What an evaluator says of a picture (Eq. 6)."""

    id: str
    relative_distance: float
    """Below 1: hard."""
    hard: bool
