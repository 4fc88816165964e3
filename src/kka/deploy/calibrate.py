"""The score above which an image is called anomalous, at a wanted false-positive rate (split-conformal prediction).

With n normals that the detector has not trained on, and k = ceil((n + 1)(1 - rate)), a new normal of the same kind
scores above the k-th smallest of their scores with a chance of at most 1 - k / (n + 1) <= rate (Vovk et al. 2005;
Papadopoulos et al. 2002). The promise is on the average over draws of the held-out normals, whatever the detector.
"""

import math
import warnings
from dataclasses import dataclass

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
    return Calibration(
        threshold=float(np.sort(scores)[k - 1]), fpr=fpr, held_out=n, promised=1 - k / (n + 1)
    )  # fmt: skip


def check_rate(fpr: float) -> None:
    """Raises UserError for a rate that no threshold can have."""
    if not 0 < fpr < 1:
        raise UserError(f"false-positive rate: expected a number between 0 and 1, such as 0.05; got {fpr}")
