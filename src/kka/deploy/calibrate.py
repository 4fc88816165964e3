"""The score above which an image is called anomalous, at a wanted false-positive rate (split-conformal prediction).

With n normals that the detector has not trained on, and k = ceil((n + 1)(1 - rate)), a new normal of the same kind
scores above the k-th smallest of their scores with a chance of at most 1 - k / (n + 1) <= rate (Vovk et al. 2005;
Papadopoulos et al. 2002). The promise is on the average over draws of the held-out normals, whatever the detector.

Read the other way, any threshold promises a rate: with c of the n scores at or below it, a new normal scores above it
with a chance of at most 1 - c / (n + 1), as c is then the largest k that it reaches.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from kka.common.numbers import DIVERGED, require_finite
from kka.errors import UserError

_LARGEST = float(np.finfo(np.float32).max)
TOO_FEW = r"\d+ held-out normals are too few"
"""How the warning of `calibrate` begins."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A threshold and what is known of it: "calibration" in a detector's card."""

    threshold: float
    """Anomalous = a score above it."""
    fpr: float
    """The wanted false-positive rate."""
    held_out: int
    """How many held-out normals it comes from."""
    promised: float
    """The rate that so many normals can promise: at most `fpr`, or more where they are too few."""
    map_threshold: float | None = None
    """Of the largest value of a held-out normal's map, found alike: where the colour of heat maps begins."""
    scores: tuple[float, ...] = ()
    """Of the held-out normals, ascending: what any other threshold would promise follows from them. None were kept by
    earlier versions."""

    def __post_init__(self) -> None:
        """Raises UserError for a threshold that no fp32 score can be compared with, and for rates that are none."""
        limits = [("threshold", -_LARGEST, _LARGEST), ("fpr", 0.0, 1.0), ("promised", 0.0, 1.0)]
        if self.map_threshold is not None:
            limits.append(("map_threshold", -_LARGEST, _LARGEST))
        for name, least, most in limits:
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
                raise UserError(f"calibration: expected {name} to be a number from {least:.3g} to {most:.3g}; "
                                f"got {value!r}")  # fmt: skip
        if any(isinstance(x, bool) or not isinstance(x, int | float) or not abs(x) <= _LARGEST for x in self.scores):
            raise UserError("calibration: expected scores to be numbers; got others among them")
        if len(self.scores) not in (0, self.held_out) or any(a > b for a, b in pairwise(self.scores)):
            raise UserError(f"calibration: expected scores to be those of {self.held_out} held-out normals, ascending; "
                            f"got {len(self.scores)}")  # fmt: skip

    @classmethod
    def from_card(cls, stored: Mapping[str, Any]) -> "Calibration":
        """As a detector's card holds it; TypeError or UserError for what cannot be."""
        scores = stored.get("scores", [])
        if not isinstance(scores, list):
            raise UserError(f"calibration: expected scores to be a list; got {scores!r}")
        return cls(**{**stored, "scores": tuple(scores)})

    @property
    def figures(self) -> dict[str, Any]:
        """All but the scores, as tables of figures name it."""
        return {name: value for name, value in asdict(self).items() if name != "scores"}

    def promised_at(self, threshold: float) -> float | None:
        """The rate that another threshold promises; None where the scores were not kept."""
        if self.scores:
            return promised_rate(self.scores, threshold)
        return self.promised if threshold == self.threshold else None


def promised_rate(scores: Sequence[float], threshold: float) -> float:
    """At most this share of new normals scores above the threshold, by the scores of held-out ones: at least
    1 / (n + 1), however high it is."""
    below = np.asarray(scores, np.float32) <= np.float32(threshold)
    return float(1 - below.sum() / (len(below) + 1))


def calibrate(scores: Float[np.ndarray, "n"], fpr: float) -> Calibration:
    """The threshold from the scores of held-out training normals, never of test images.

    With too few of them for `fpr` it is their largest score, and a warning says what rate that promises.

    Raises:
        UserError: no scores, scores that are no numbers, or a rate outside of 0 to 1.
    """
    n = len(scores)
    check_rate(fpr)
    if not n:
        raise UserError("calibration: expected scores of held-out normals; got none")
    require_finite(scores, "calibration: the scores of held-out normals", DIVERGED)
    k = math.ceil((n + 1) * (1 - fpr) - 1e-9)  # 1e-9: 10 (1 - 0.3) is 7, not 7.000…01
    if k > n:
        needed = math.ceil(1 / fpr - 1 - 1e-9)
        warnings.warn(
            f"{n} held-out normals are too few for a false-positive rate of {fpr:.3g}, which needs {needed}; the "
            f"threshold is their largest score, which promises {1 / (n + 1):.3g}",
            stacklevel=2,
        )
    k = min(max(k, 1), n)
    ordered = tuple(float(f"{score:.9g}") for score in np.sort(scores))  # nine digits are all of fp32
    return Calibration(
        threshold=float(np.sort(scores)[k - 1]), fpr=fpr, held_out=n, promised=1 - k / (n + 1), scores=ordered
    )  # fmt: skip


def check_rate(fpr: float) -> None:
    """Raises UserError for a rate that no threshold can have."""
    if not 0 < fpr < 1:
        raise UserError(f"false-positive rate: expected a number between 0 and 1, such as 0.05; got {fpr}")
