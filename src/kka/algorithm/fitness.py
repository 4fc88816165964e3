"""Which altered pictures are fit to train with: the defect shows, it lies in its mask, and no other picture has it."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from kka.algorithm.evaluator import ConfusionEvaluator
from kka.algorithm.hardness import relative_distance
from kka.protocols import Images
from kka.settings.filters import Filter

VISIBLE = 2.0
"""Grey levels, in the channel that differs most and on the mean of the mask, below which a change does not show."""
TYPICAL = 0.1
"""A picture nearer to the centre than this share of the normals is among the most typical of them."""
REASONS: dict[Filter, str] = {
    "outside": "changed outside of its mask",
    "visible": "its defect does not show",
    "duplicate": "shows what another picture of the same normal shows",
    "typical": "among the most typical normals, by the evaluator",
}
"""Why a picture is set aside, by the filter that does it."""


def unfit(
    normals: Images, images: Images, masks: np.ndarray, of: Sequence[int], filters: Collection[Filter]
) -> dict[int, str]:
    """Place -> why picture i, which is `normals[i]` altered where `masks[i]` is above 0, cannot be trained with.

    Args:
        of: What names the normal of each picture: only those of one normal can be duplicates.
    """
    tests: dict[Filter, Callable[[int], bool]] = {
        "outside": lambda i: bool((normals[i] != images[i])[masks[i] == 0].any()),
        "visible": lambda i: difference(normals[i], images[i], masks[i]) < VISIBLE,
    }
    found: dict[int, str] = {}
    kept: dict[int, list[int]] = {}
    for i, normal in enumerate(of):
        why = next((name for name, test in tests.items() if name in filters and test(i)), None)
        others = kept.setdefault(normal, [])
        if why is None and "duplicate" in filters and any(_alike(images, masks, i, j) for j in others):
            why = "duplicate"
        if why is not None:
            found[i] = REASONS[why]
        else:
            others.append(i)
    return found


def difference(one: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    """How far two pictures (h, w, 3) are apart on the mean of a mask (h, w), in grey levels of the channel that
    differs most; 0 where the mask is empty."""
    weight = float(mask.sum(dtype=np.int64))
    if weight == 0:
        return 0.0
    apart = np.abs(one.astype(np.int16) - other).astype(np.float64)
    return float(np.tensordot(mask.astype(np.float64), apart, axes=2).max() / weight)


def _alike(images: Images, masks: np.ndarray, i: int, j: int) -> bool:
    """Whether one would not show as a defect of the other, where either has one."""
    return difference(images[i], images[j], np.maximum(masks[i], masks[j])) < VISIBLE


def too_typical(evaluator: ConfusionEvaluator, relative: np.ndarray) -> np.ndarray:
    """(m,) bool: pictures of these relative distances that lie among the most typical of the held-out normals, and may
    be normal. Their distance is a mean over the evaluator's networks, and so is the limit."""
    limits = [
        relative_distance(np.quantile(normals, TYPICAL, keepdims=True), normals, evaluator.quantile)
        for normals in evaluator.normal_distances
    ]
    return relative < np.exp(np.mean(np.log(np.maximum(np.concatenate(limits), 1e-30))))
