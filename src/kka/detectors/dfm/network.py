"""DFM as modules: pixels to pooled feature maps, and these to what a subspace of the normals leaves of them.

x: a photo's whole map at one pooling, as one vector; mu: the normals' mean; P: their principal directions, rows of
length 1. What is left is e = (x - mu) - P^T P (x - mu), and the feature reconstruction error |e|^2 (Ndiour et al. 2020,
https://arxiv.org/abs/2012.04250). Here it is divided by the normals' mean of |x - mu|^2, so that poolings count alike,
and with anomalies it is |e|^2 + w |A e|^2: A are the strongest directions of what is left of them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kka.detectors.backbones import Backbone
from kka.detectors.dfm.settings import DFMSettings
from kka.detectors.graph import Preprocess

_TINY = 1e-12


class PooledMaps(nn.Module):
    """Pixels (b, h, w, 3) -> (b, d): the backbone's map (c, g, g) at each pooling, one after the other."""

    def __init__(self, prepare: Preprocess, backbone: Backbone, pools: Sequence[int]) -> None:
        super().__init__()
        self.prepare, self.backbone, self.pools = prepare, backbone, tuple(pools)
        with torch.no_grad():
            empty = torch.zeros(1, prepare.crop, prepare.crop, 3, dtype=torch.uint8)
            self.shapes = [(x.shape[1], x.shape[2], x.shape[3]) for x in self.maps(empty)]
        """(c, g, g) of each."""

    def maps(self, pixels: UInt8[Tensor, "b h w 3"]) -> list[Tensor]:
        """The map at each pooling. A pooling that is wider than the map takes all of it."""
        (x,) = self.backbone(self.prepare(pixels))
        side = min(x.shape[2:])
        return [F.avg_pool2d(x, min(pool, side), ceil_mode=True) for pool in self.pools]

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b d"]:
        return torch.cat([x.flatten(1) for x in self.maps(pixels)], dim=1)

    @property
    def lengths(self) -> list[int]:
        """Of the part of each pooling in the whole vector."""
        return [c * h * w for c, h, w in self.shapes]


class Subspace(nn.Module):
    """mu, P and A of one pooling, for vectors of length d: P has k rows, A has a."""

    mean: Tensor
    scale: Tensor
    basis: Tensor
    odd: Tensor

    def __init__(self, d: int, k: int, a: int, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("basis", torch.zeros(k, d))
        self.register_buffer("odd", torch.zeros(a, d))

    def left(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """e of each."""
        x = x - self.mean
        return x - (x @ self.basis.T) @ self.basis

    def errors(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """What each number of a vector adds to its error."""
        e = self.left(x)
        found = e.square()
        if len(self.odd):
            found = found + self.weight * ((e @ self.odd.T) @ self.odd).square()
        return found / self.scale.clamp(min=_TINY)


class DFMGraph(nn.Module):
    """Pixels (b, h, w, 3) -> scores (b,): the root of the mean of the errors at the poolings that a score is of."""

    def __init__(self, extract: PooledMaps, subspaces: Sequence[Subspace], settings: DFMSettings) -> None:
        super().__init__()
        self.extract, self.subspaces = extract, nn.ModuleList(subspaces)
        self.scored = [extract.pools.index(pool) for pool in settings.pools]
        self.mapped = extract.pools.index(settings.map_pool)

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b"]:
        parts = self._parts(pixels)
        return torch.stack([self._errors(parts, i).sum(dim=(1, 2)) for i in self.scored]).mean(dim=0).sqrt()

    def maps(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b g g"]:
        """The root of each place's error, at the pooling that maps are of."""
        return self._errors(self._parts(pixels), self.mapped).sqrt()

    def _parts(self, pixels: UInt8[Tensor, "b h w 3"]) -> Sequence[Tensor]:
        parts: Sequence[Tensor] = self.extract(pixels).split(self.extract.lengths, dim=1)
        return parts

    def _errors(self, parts: Sequence[Tensor], i: int) -> Float[Tensor, "b g g"]:
        """The error of each place at the i-th pooling."""
        errors: Tensor = self.subspaces[i].errors(parts[i])  # type: ignore[operator]
        return errors.unflatten(1, self.extract.shapes[i]).sum(dim=1)
