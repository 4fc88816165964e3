"""The test pictures that a person should see first: good ones that look anomalous, missed defects, and found ones."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from kka.common.metrics import anomalous
from kka.deploy.heat import overlay, resized_map
from kka.deploy.whole import maps_of, some_of
from kka.protocols import Detector, Localises, Scores
from kka.task import TestSet

GALLERY = "gallery.npz"
"""The file, beside a detector's card."""
MOST = 8
"""Pictures of each group."""
GROUPS = ("good", "missed", "found")


def choose(
    scores: Float[np.ndarray, "n"], is_anomaly: Bool[np.ndarray, "n"], kinds: tuple[str, ...], threshold: float
) -> dict[str, list[int]]:
    """Group -> positions, the most telling first: the highest good ones; the lowest of the missed; the highest of the
    found, one of each kind in turn."""
    above = anomalous(scores, threshold)
    order = np.argsort(-scores, kind="stable")
    found = [i for i in order.tolist() if is_anomaly[i] and above[i]]
    turn: dict[str, int] = {}
    ranked: list[tuple[int, int, int]] = []
    for i in found:
        turn[kinds[i]] = turn.get(kinds[i], 0) + 1
        ranked.append((turn[kinds[i]], len(ranked), i))
    return {
        "good": [i for i in order.tolist() if not is_anomaly[i]][:MOST],
        "missed": [i for i in order[::-1].tolist() if is_anomaly[i] and not above[i]][:MOST],
        "found": [i for *_, i in sorted(ranked)][:MOST],
    }


def write_gallery(
    path: Path, detector: Detector, test: TestSet, scores: Scores, threshold: float, limits: tuple[float, float] | None
) -> None:
    """The chosen pictures, their maps in the scale `limits` where the detector localises, and their masks."""
    chosen = choose(scores, test.is_anomaly, test.kinds, threshold)
    rows = np.array([i for group in GROUPS for i in chosen[group]], int)
    arrays: dict[str, np.ndarray] = {
        "images": test.images[rows],
        "scores": scores[rows],
        "kinds": np.array([test.kinds[i] for i in rows]),
        "groups": np.array([group for group in GROUPS for _ in chosen[group]]),
    }
    if limits is not None and isinstance(detector, Localises):
        drawn = []
        for image, heat in zip(test.images[rows], maps_of(detector, some_of(test.pictures, rows)), strict=True):
            drawn.append(overlay(image, resized_map(heat, image.shape[:2]), limits))
        arrays["maps"] = np.array(drawn, np.uint8)
    if test.masks is not None and test.masked is not None:
        arrays |= {"masks": test.masks[rows], "masked": test.masked[rows]}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
