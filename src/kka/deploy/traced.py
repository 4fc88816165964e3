"""What a kept detector makes of an image model's traces: pictures that it drew without an anomaly.

A detector that calls them anomalous goes by how the model draws, and not by what it shows.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kka.common.metrics import anomalous
from kka.deploy.calibrate import Calibration

MANY = 2.0
"""Times the share of normals that may be called anomalous, from which on the detector is said to go by traces."""
LEAST = 20
"""Pictures below which neither is said."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What the kept detector makes of traces."""

    pictures: int
    share: float
    """Of them, called anomalous."""
    promised: float
    """The share of normals that is called anomalous, at most."""
    matched: int = 0
    """Other such pictures that it was trained with as normals."""

    def sentence(self) -> str:
        """For people, without a full stop."""
        with_them = f" after training with {self.matched:,} others as normals" if self.matched else ""
        found = (
            f"{100 * self.share:.0f} % of {self.pictures:,} pictures that went through the image model without an "
            f"anomaly are called anomalous{with_them} (of normals at most {100 * self.promised:.0f} %)"
        )
        if self.pictures < LEAST:
            return found + ": too few to say what it goes by"
        if self.share > MANY * self.promised:
            told = found + ": the detector goes by how the model draws as well, and not by the anomaly alone"
            return told if self.matched else told + ". --match-traces trains with such pictures as normals"
        return found + ": it goes by what they show"


def judge_traces(scores: Float[np.ndarray, "n"], calibration: Calibration, *, matched: int = 0) -> Traced:
    """By the scores of the kept detector. `matched`: how many others it was trained with as normals."""
    share = float(anomalous(scores, calibration.threshold).mean())
    return Traced(pictures=len(scores), share=share, promised=calibration.promised, matched=matched)
