"""Eq. 6: an anomaly is hard when it lies nearer to the centre than some of the normals.

Paper's rule: D(x_a) < max over the training normals of D(x_n). The evaluator has trained on both sides, and the
maximum is one outlier's say. Here the rule is D(x_a) < the q-quantile of D over normals that the evaluator has
not trained on (`held-out`), which `q = 1` with the training normals turns back into the paper's.
"""

import math

import numpy as np
from jaxtyping import Float, Int


def relative_distance(
    anomalies: Float[np.ndarray, "m"], normals: Float[np.ndarray, "n"], quantile: float
) -> Float[np.ndarray, "m"]:
    """D(x_a) over the q-quantile of D(x_n): below 1 = hard, comparable between evaluators.

    `quantile=1` is Eq. 6's maximum.
    """
    threshold = np.quantile(normals, quantile)
    return anomalies / max(float(threshold), np.finfo(np.float32).tiny)


def is_hard(relative: Float[np.ndarray, "m"]) -> np.ndarray:
    """Eq. 6: (m,) bool."""
    return relative < 1


def preferred(relative: Float[np.ndarray, "m"], at_least: float) -> np.ndarray:
    """The anomalies whose captions Eq. 7 prefers, (m,) bool: the hard ones, or the nearest if fewer are hard.

    A strong evaluator finds hardly any anomaly hard; the nearest `at_least` share of them still shows the way.
    """
    count = math.ceil(at_least * len(relative))
    hard = is_hard(relative)
    if hard.sum() >= count:
        return hard
    nearest = np.zeros(len(relative), dtype=bool)
    nearest[np.argsort(relative, kind="stable")[:count]] = True
    return nearest


def fold_of(n: int, folds: int, *, seed: int) -> Int[np.ndarray, "n"]:
    """A balanced random assignment of n items to folds; fold f is held out from evaluator f."""
    order = np.random.default_rng(seed).permutation(n)
    fold = np.empty(n, dtype=np.int64)
    fold[order] = np.arange(n) % folds
    return fold
