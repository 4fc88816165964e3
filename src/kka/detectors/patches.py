"""From pixels to locally aware patch features of a backbone (PatchCore, Roth et al. 2022; SimpleNet uses the same).

For a layer's map of c channels: the 3 x 3 neighbourhood of each position, zeros beyond the border, is a vector of 9 c
numbers (channel, row, column); adaptive average pooling brings it to d. Coarser layers are resized to the first
layer's grid (bilinear), the layers' vectors are put one after the other, and adaptive average pooling brings those
L d numbers to d again.

All of this is linear, and resizing commutes with what mixes channels. So a layer is one fixed 3 x 3 convolution.
Adaptive pooling's bins meet the borders of g = gcd(c, d / L) equal parts of the channels, and every part is pooled
alike: the convolution has g groups and one small kernel, and no (9 c, d) matrix is ever built.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kka.detectors.backbones import Backbone
from kka.detectors.graph import Preprocess
from kka.errors import UserError
from kka.settings.patches import PatchSettings

WINDOW = 3


class PatchFeatures(nn.Module):
    """Maps [(b, c_l, h_l, w_l)], the finest first -> patch features (b, dimension, h_1, w_1)."""

    def __init__(self, channels: Sequence[int], dimension: int) -> None:
        super().__init__()
        layers = len(channels)
        if dimension < layers or dimension % layers:
            raise UserError(f"dimension: expected a multiple of the number of strides, {layers}; got {dimension}")
        self.groups = [math.gcd(c, dimension // layers) for c in channels]
        for level, (c, g) in enumerate(zip(channels, self.groups, strict=True)):
            layer = pooling_matrix(WINDOW**2 * c // g, dimension // g)
            whole = pooling_matrix(dimension // g, dimension // layers // g)
            kernel = (whole @ layer).float().view(-1, c // g, WINDOW, WINDOW).repeat(g, 1, 1, 1)
            self.register_buffer(f"kernel{level}", kernel, persistent=False)  # it follows from the settings

    def forward(self, maps: Sequence[Tensor]) -> Float[Tensor, "b d h w"]:
        parts = []
        for level, (x, g) in enumerate(zip(maps, self.groups, strict=True)):
            part = F.conv2d(x, self.get_buffer(f"kernel{level}"), padding=WINDOW // 2, groups=g)
            if level:
                part = F.interpolate(part, size=maps[0].shape[2:], mode="bilinear", align_corners=False)
            parts.append(part)
        return torch.cat(parts, dim=1)


class Extractor(nn.Module):
    """Pixels (b, h, w, 3) -> patch features (b, p, d), row by row of the first stride's grid."""

    def __init__(self, prepare: Preprocess, backbone: Backbone, patches: PatchFeatures) -> None:
        super().__init__()
        self.prepare, self.backbone, self.patches = prepare, backbone, patches

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b p d"]:
        return self.patches(self.backbone(self.prepare(pixels))).flatten(2).transpose(1, 2)


def build_extractor(backbone: Backbone, settings: PatchSettings) -> Extractor:
    """The extractor on a frozen `backbone`: it sees the centre `crop` of what is resized to `size`."""
    prepare = Preprocess(settings.size, crop=settings.crop, mean=backbone.mean, std=backbone.std)
    return Extractor(prepare, backbone.requires_grad_(False), PatchFeatures(backbone.channels, settings.dimension))


def pooling_matrix(n: int, bins: int) -> Float[Tensor, "bins n"]:
    """Adaptive average pooling: bin i is the mean of numbers floor(i n / bins) to ceil((i + 1) n / bins) - 1."""
    matrix = torch.zeros(bins, n, dtype=torch.float64)
    for i in range(bins):
        first, end = i * n // bins, -(-(i + 1) * n // bins)
        matrix[i, first:end] = 1 / (end - first)
    return matrix
