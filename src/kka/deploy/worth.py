"""What imagined anomalies were worth to a detector, by what a person without a test set has: normals and such anomalies
that it has not trained on. No label of a test set is asked.

How well held-out imagined anomalies are told from held-out normals, by a detector that trained with such ones and by
one that did not. That is no measure of what they were worth against real defects: in experiments with labels it went
with that for some detectors and kinds of pictures and not for others (docs/LOG.md). Pictures that are told by something
that no defect has look well here and may do harm.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from kka.common.metrics import chance
from kka.seeding import derive_seed

LEAST = 20
"""Normals, and anomalies, below which nothing is said."""
DRAWS = 2000
TOLD = 0.6
"""Of a detector that trained with such ones: the chance that one outscores a normal, below which they look normal."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """The chance that an imagined anomaly outscores a normal (AUROC), both held out, in two trainings."""

    normals: int
    anomalies: int
    without: float
    """Trained without imagined anomalies."""
    trained: float
    """Trained with such ones too."""
    low: float
    high: float
    """95 % interval of `trained` - `without` over draws of pictures (bootstrap), of photos where these are tiles; that
    trainings differ is not in it."""

    @property
    def harm(self) -> bool:
        """Whether the training with them was the worse one, beyond chance draws of pictures, of a detector that sees
        them at all: near chance the trainings' own differences are larger."""
        return self.high < 0 and self.without >= TOLD

    @property
    def look_normal(self) -> bool:
        """Whether even a detector that trained with such ones hardly tells them from normals."""
        return self.trained < TOLD

    def sentence(self) -> str:
        """For people, without a full stop."""
        one, other, low, high = (100 * x for x in (self.without, self.trained, self.low, self.high))
        found = (
            f"{self.anomalies:,} imagined anomalies against {self.normals:,} normals, none of them trained on: AUROC "
            f"{one:.1f} after a training without such ones, {other:.1f} with them ({other - one:+.1f}, 95 % "
            f"interval over pictures {low:+.1f} to {high:+.1f})"
        )
        if self.harm:
            return found + ": they did harm, and the detector that is kept was trained without them"
        if self.look_normal:
            return found + ": the detector hardly tells them from normals. Look at them before you trust it"
        if self.low > 0:
            return found + ": they taught it something"
        return found + ": no difference that the pictures' chance would not make"


def weigh(
    without: tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]],
    trained: tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]],
    *,
    photos: tuple[Int[np.ndarray, "n"], Int[np.ndarray, "m"]] | None = None,
    seed: int = 0,
) -> Worth:
    """From the scores of the same held-out normals (n,) and anomalies (m,) by the detectors of two trainings.

    Args:
        photos: Where these are tiles: which photo each is of. The tiles of one are alike, so they are drawn together.
    """
    (normals, anomalies), rng = without, np.random.default_rng(derive_seed(seed, "worth"))
    n, m = len(normals), len(anomalies)
    # wins[i, j]: that anomaly j outscores normal i after the one training, less that it does after the other.
    wins = _outscored(*trained) - _outscored(*without)
    rows, columns = (_drawn(of, rng) for of in photos or (np.arange(n), np.arange(m)))
    drawn = ((rows @ wins) * columns).sum(axis=1) / (rows.sum(axis=1) * columns.sum(axis=1))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Worth(
        normals=n, anomalies=m, without=chance(*without), trained=chance(*trained), low=float(low), high=float(high)
    )


def _drawn(photos: Int[np.ndarray, "n"], rng: np.random.Generator) -> Float[np.ndarray, "draws n"]:
    """How often each draw, of as many photos as there are, has each of the pictures."""
    different, at = np.unique(photos, return_inverse=True)
    k = len(different)
    found: np.ndarray = rng.multinomial(k, np.full(k, 1 / k), size=DRAWS).astype(np.float32)[:, at]
    return found


def _outscored(normals: Float[np.ndarray, "n"], anomalies: Float[np.ndarray, "m"]) -> Float[np.ndarray, "n m"]:
    """1 where the anomaly scores higher, one half where both score alike, else 0."""
    apart = np.sign(anomalies[None, :].astype(np.float32) - normals[:, None].astype(np.float32))
    found: np.ndarray = (apart + 1).astype(np.float32) / 2
    return found
