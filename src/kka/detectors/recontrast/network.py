"""ReContrast's network: a trainable and a frozen encoder, one bottleneck, one decoder with two heads at each level.

As in reverse distillation (Deng & Li 2022, arXiv:2201.10703), but lighter (`docs/deviations.md`), the bottleneck fuses
three levels into one embedding, from which the decoder goes the way back. It decodes the embeddings of both encoders:
the trainable one's, by the first head, to the frozen features, and the frozen one's, by the second, to the trainable
features.
"""

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kka.detectors.backbones import Backbone
from kka.detectors.recontrast.loss import Maps, point_distance


class _Conv(nn.Sequential):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, a: int, b: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(a, b, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)
        )


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _Conv(channels, channels, 3),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.body(x))


class Bottleneck(nn.Module):
    """Levels at strides 4, 8, 16 -> one embedding at stride 32 of twice the last level's channels."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        last = channels[-1]
        self.down = nn.ModuleList()
        for i, first in enumerate(channels):
            sizes = [first, *channels[i + 1 :]]
            self.down.append(nn.Sequential(*(_Conv(a, b, 3, 2) for a, b in pairwise(sizes))))
        self.fuse = _Conv(last * len(channels), last, 1)
        self.embed = nn.Sequential(_Conv(last, 2 * last, 3, 2), _Residual(2 * last))

    def forward(self, levels: Maps) -> Float[Tensor, "b e h w"]:
        fused = [down(level) for down, level in zip(self.down, levels, strict=True)]
        return self.embed(self.fuse(torch.cat(fused, dim=1)))


class Decoder(nn.Module):
    """The way back: each stage doubles the sides; at each level two 1x1 heads. Levels in the encoder's order."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        sizes = [2 * channels[-1], *reversed(channels)]
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2, bias=False) for a, b in pairwise(sizes))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(b), nn.ReLU(inplace=True), _Residual(b)) for b in sizes[1:]
        )
        self.heads = nn.ModuleList(nn.ModuleList(nn.Conv2d(b, b, 1) for _ in range(2)) for b in sizes[1:])

    def forward(self, embedding: Float[Tensor, "b e h w"]) -> tuple[Maps, Maps]:
        """What the first heads say of the first half of the batch, and the second heads of the second half."""
        first: Maps = []
        second: Maps = []
        x = embedding
        for up, stage, heads in zip(self.up, self.stages, self.heads, strict=True):
            x = stage(up(x))
            half = x.shape[0] // 2
            first.insert(0, heads[0](x[:half]))  # type: ignore[index]
            second.insert(0, heads[1](x[half:]))  # type: ignore[index]
        return first, second


class ReContrastNet(nn.Module):
    """Images -> (targets, decoded), six pairs of maps (see `cross_reconstruction`)."""

    def __init__(self, encoder: Backbone) -> None:
        super().__init__()
        self.encoder = encoder
        self.frozen = copy.deepcopy(encoder).requires_grad_(False)
        self.bottleneck = Bottleneck(encoder.channels)
        self.decoder = Decoder(encoder.channels)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Maps, Maps]:
        trainable, frozen = self.encoder(x), self.frozen(x)
        both = [torch.cat(pair) for pair in zip(trainable, frozen, strict=True)]
        to_frozen, to_trainable = self.decoder(self.bottleneck(both))
        return frozen + trainable, to_frozen + to_trainable

    def point_map(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """The sum of the six distance maps, each brought to the image's size."""
        total = None
        for target, found in zip(*self(x), strict=True):
            grid = point_distance(target, found)[:, None]
            grid = F.interpolate(grid, size=(x.shape[2], x.shape[3]), mode="bilinear", align_corners=False)
            total = grid if total is None else total + grid
        assert total is not None
        return total[:, 0]
