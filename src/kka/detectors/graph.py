"""From raw pixels to a score as one module: what `score` runs is what is exported."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Real, UInt8
from torch import Tensor, nn

from kka.common.augment import IMAGENET_MEAN, IMAGENET_STD
from kka.common.device import full_precision, sent
from kka.common.numbers import DAMAGED, require_finite
from kka.protocols import Images


@lru_cache(maxsize=64)
def resize_matrix(source: int, target: int) -> Float32[np.ndarray, "t s"]:
    """The antialiased bilinear resize of one side as a matrix: row i weighs the `source` pixels of output pixel i.

    A triangle around the centre (i + 0.5) source / target, as wide as a pixel of the coarser grid, normalised. In
    fp32 throughout, as `F.interpolate(antialias=True)` works its weights out.
    """
    one, half = np.float32(1), np.float32(0.5)
    scale = np.float32(source) / np.float32(target)
    centre = (np.arange(target, dtype=np.float32)[:, None] + half) * scale
    distance = np.abs(np.arange(source, dtype=np.float32)[None, :] - centre + half) / max(scale, one)
    weights = np.maximum(one - distance, np.float32(0))
    matrix: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return matrix


def resized(x: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c s s"]:
    """Antialiased bilinear resize by two constant matrices, which an exported graph computes as this one does.

    ONNX Runtime's own antialiased Resize rounds its weights otherwise.
    """
    rows, columns = (torch.from_numpy(resize_matrix(int(side), size)).to(x) for side in x.shape[2:])
    return rows @ x @ columns.T


class Preprocess(nn.Module):
    """RGB pixels (b, h, w, 3), 0 to 255, of any size -> normalised (b, 3, crop, crop).

    Antialiased bilinear resize to `size` x `size`, the centre `crop` of it, (x - mean) / std. The sides are resized
    alone: pictures are square by then (`kka.common.images`).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        size: int,
        *,
        crop: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.size, self.crop = size, crop or size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, pixels: Real[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 c c"]:
        x = pixels.permute(0, 3, 1, 2).float()
        if (x.shape[2], x.shape[3]) != (self.size, self.size):
            x = resized(x, self.size)
        x = x / 255
        if self.crop < self.size:
            top = (self.size - self.crop) // 2
            x = x[:, :, top : top + self.crop, top : top + self.crop]
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def covered(masks: UInt8[Tensor, "b h w"], prepare: Preprocess, grid: tuple[int, int]) -> Float[Tensor, "b g g"]:
    """What share of each cell of a grid over the pixels that `prepare` gives is anomalous, 0 to 1."""
    x = masks[:, None].float() / 255
    if (x.shape[2], x.shape[3]) != (prepare.size, prepare.size):
        x = resized(x, prepare.size)
    top = (prepare.size - prepare.crop) // 2
    x = x[:, :, top : top + prepare.crop, top : top + prepare.crop]
    return F.adaptive_avg_pool2d(x, grid)[:, 0]


@torch.no_grad()
@full_precision()
def in_batches(
    module: nn.Module | Callable[[Tensor], Tensor], images: Images, device: torch.device, *, batch: int = 64
) -> np.ndarray:
    """`module` of the images (n, h, w, 3), `batch` at a time; (n, …) in fp32. Memory grows with the batch alone.

    Raises:
        UserError: NaN or infinity came out.
    """
    parts = [
        module(sent(torch.from_numpy(np.ascontiguousarray(images[i : i + batch])), device)).float().cpu().numpy()
        for i in range(0, len(images), batch)
    ]
    found = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return require_finite(found, "detector: what its network says of images", DAMAGED)
