"""The memory bank as a module: patch features to distances and scores.

Paper -> code: M = `Bank.normals`, m* = the nearest of them, N_b(m*) = `Bank.near[m*]`, s* = the distance to m*, and
its weight w = 1 - exp(s*) / sum over m in N_b(m*) of exp(distance to m), Eq. 6 and 7.

Ours: the mean over several patches in the place of the maximum (`score_top`), and anomalies. A patch at distance s from
M and a from the patches of anomalies counts as s (1 + `anomaly_weight` s / (s + a)): what is normal stays so, and the
rest counts the more, up to 1 + `anomaly_weight` times, the nearer to a known anomaly it lies.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from kka.detectors.patchcore.settings import PatchCoreSettings

_TINY = 1e-12


class Bank(nn.Module):
    """What is remembered: `m` patches of normals, for each the `b` nearest of them, and `a` patches of anomalies."""

    mean: Tensor
    scale: Tensor
    normals: Tensor
    near: Tensor
    anomalies: Tensor

    def __init__(self, dimension: int, m: int, b: int, a: int, settings: PatchCoreSettings) -> None:
        super().__init__()
        self.share, self.weight = settings.score_top, settings.anomaly_weight
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("scale", torch.ones(dimension))
        self.register_buffer("normals", torch.zeros(m, dimension))
        self.register_buffer("near", torch.zeros(m, b, dtype=torch.int64))
        self.register_buffer("anomalies", torch.zeros(a, dimension))

    @property
    def counts(self) -> tuple[int, int, int]:
        """m, b and a."""
        return len(self.normals), self.near.shape[1], len(self.anomalies)

    def standard(self, patches: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Patches in the units in which they are compared."""
        return (patches - self.mean) * self.scale

    def distances(self, patches: Float[Tensor, "b p d"]) -> tuple[Float[Tensor, "b p"], Int64[Tensor, "b p"]]:
        """Of standard patches to the nearest normal one, and which that is."""
        squares, nearest = squared_distances(patches, self.normals).min(dim=2)
        return squares.sqrt(), nearest

    def raised(self, patches: Float[Tensor, "b p d"], distance: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
        """The distances, raised near anomalies."""
        if not len(self.anomalies) or not self.weight:
            return distance
        other = squared_distances(patches, self.anomalies).amin(dim=2).sqrt()
        return distance * (1 + self.weight * distance / (distance + other + _TINY))

    def answers(self, patches: Float[Tensor, "b p d"]) -> Float[Tensor, "b p"]:
        """How anomalous each patch is."""
        x = self.standard(patches)
        return self.raised(x, self.distances(x)[0])

    def score(self, patches: Float[Tensor, "b p d"]) -> Float[Tensor, "b"]:
        """Of each image: the weighted mean over its most anomalous patches; higher = more anomalous."""
        x = self.standard(patches)
        distance, nearest = self.distances(x)
        p = x.shape[1]
        top, place = self.raised(x, distance).topk(max(1, min(p, round(self.share * p))), dim=1)
        if self.near.shape[1] > 1:
            those = x.gather(1, place[:, :, None].expand(-1, -1, x.shape[2]))
            top = top * self.weights(those, distance.gather(1, place), nearest.gather(1, place))
        return top.mean(dim=1)

    def weights(
        self, patches: Float[Tensor, "b k d"], distance: Float[Tensor, "b k"], nearest: Int64[Tensor, "b k"]
    ) -> Float[Tensor, "b k"]:
        """w of each patch, from its `distance` to the `nearest` normal one."""
        around = self.normals[self.near[nearest]]
        others = (patches[:, :, None] - around).square().sum(dim=3).sqrt()
        return 1 - 1 / (others - distance[:, :, None]).exp().sum(dim=2)


def squared_distances(x: Float[Tensor, "b p d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "b p m"]:
    """By |x|² - 2 x y + |y|², at least 0: matrix products alone, which every runtime is fast at."""
    found = x.square().sum(dim=2, keepdim=True) - 2 * (x @ y.T) + y.square().sum(dim=1)
    return found.clamp(min=0)
