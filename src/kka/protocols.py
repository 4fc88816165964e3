"""The interfaces of the exchangeable parts. A member needs one or two methods, and no base class.

`Images` is an array of unsigned bytes of shape (n, h, w, 3), RGB.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

Images = UInt8[np.ndarray, "_n _h _w 3"]
"""The underscores: two arguments of one function may differ in number and size."""
Scores = Float[np.ndarray, "n"]


@dataclass(frozen=True, kw_only=True)
class PreferencePair:
    """One comparison of Eq. 7: under `prompt` (of x_n), `hard` (x_ha) is preferred to `easy` (x_ea)."""

    prompt: str
    hard: str
    easy: str


@dataclass(frozen=True, kw_only=True)
class DPOReport:
    """What one tuning step (Eq. 7) did. `margin` and `accuracy` are those of the validation pairs' rewards."""

    steps: int
    train_pairs: int
    validation_pairs: int
    train_loss: float
    validation_loss: float
    margin: float
    accuracy: float
    kl_to_base: float
    """Estimated on fresh samples, in nats a caption."""
    step: float = 1.0
    """Share of the way that the tuning went, where it would have led too far from the base model."""


@runtime_checkable
class LanguageModel(Protocol):
    """Eq. 3: writes captions."""

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        """`n` raw answers to each prompt, prompt by prompt."""
        ...


@runtime_checkable
class TunableLanguageModel(LanguageModel, Protocol):
    """A language model that Eq. 7 can tune. The base model stays as it is: only an adapter changes."""

    def tune(self, pairs: Sequence[PreferencePair], validation: Sequence[PreferencePair], *, seed: int) -> DPOReport:
        """Go on from the present adapter; the reference is always the base model."""
        ...

    def save(self, path: Path) -> None:
        """Write the adapter (safetensors) into the folder `path`."""
        ...

    def restore(self, path: Path) -> None:
        """Take up an adapter that `save` wrote."""
        ...


@runtime_checkable
class ImageModel(Protocol):
    """Eq. 4: draws captions. Image i depends on caption i and seed i alone, never on its neighbours."""

    identity: str
    """Names the model and all that shapes its pictures: the key under which they are cached."""

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images: ...


@runtime_checkable
class ImageLibrary(ImageModel, Protocol):
    """An image model that looks pictures up. It gives each of its pictures at most once in a run."""

    def retrieve(self, captions: Sequence[str], *, seeds: Sequence[int], taken: Collection[str]) -> list[str]:
        """The key of the nearest picture to each caption that is neither in `taken` nor given before it."""
        ...

    def fetch(self, keys: Sequence[str]) -> Images: ...


@runtime_checkable
class Detector(Protocol):
    """Scores images: higher = more anomalous.

    A detector that also wants to know the normals' captions, or which anomalies are hard, says so in `takes`
    (a set of "captions", "hard") and has `fit` take them by that name; see `kka.detectors.fit_detector`.
    """

    def fit(self, normals: Images, anomalies: Images | None = None) -> "Detector": ...

    def score(self, images: Images) -> Scores: ...

    def save(self, path: Path) -> None:
        """Write everything that `score` needs into the folder `path` (safetensors and JSON, no pickle)."""
        ...
