"""The trainable image encoder of SSD and CMDA: a ResNet for small images, and the heads that training puts on top."""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

EMBEDDING = 128
"""Dimensions in which vectors are contrasted."""

_BLOCKS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """A ResNet with a CIFAR stem (conv 3x3 at stride 1, no max-pool): (b, 3, s, s) -> features (b, features).

    `width`: channels of the stem; 64 is the usual ResNet. `features`: 8 width, or 32 width from depth 50 on.
    """

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        block, counts = _BLOCKS[depth]
        self.features = 8 * width * block.expansion
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels, stages = width, []
        for level, count in enumerate(counts):
            planes = width * 2**level
            stages.append(_stage(block, channels, planes, count, stride=1 if level == 0 else 2))
            channels = planes * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b features"]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


class Subsampled(nn.Conv2d):
    """A 1x1 convolution at a stride, as every stride-th pixel and a convolution at stride 1: the same numbers.

    oneDNN's backward pass of the strided one (torch 2.14 on a CPU with AVX2, channels last, fewer than 8 channels in)
    writes outside of its memory: the process ends, sometimes much later.
    """

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


def _stage(
    block: type[BasicBlock | Bottleneck], channels: int, planes: int, count: int, *, stride: int
) -> nn.Sequential:
    """`count` blocks, of which the first changes the size and the channels."""
    out, shortcut = planes * block.expansion, None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(Subsampled(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
    first = block(channels, planes, stride, shortcut)
    return nn.Sequential(first, *(block(out, planes) for _ in range(count - 1)))


class Head(nn.Module):
    """An MLP (ReLU between its layers) whose output has length 1. `sizes`: of its input, its layers, its output."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return F.normalize(self.layers[-1](x).float(), dim=1)


class ImageNetwork(nn.Module):
    """Encoder and head: images (b, 3, s, s) -> vectors of length 1 (b, 128). Scores use the encoder alone."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.encoder = ResNet(depth, width)
        self.head = Head(self.encoder.features, self.encoder.features, EMBEDDING)

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 128"]:
        return self.head(self.encoder(x))
