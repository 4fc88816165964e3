"""From a small grid of anomaly scores to one value a pixel: bilinear, then a Gaussian."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TRUNCATE = 4.0
"""The kernel ends this many sigmas from its centre, as scipy.ndimage.gaussian_filter's does."""


def smooth_maps(maps: Float[Tensor, "b h w"], size: tuple[int, int], sigma: float = 4.0) -> Float[Tensor, "b H W"]:
    """Score maps at `size` (H, W): bilinear, then a Gaussian of `sigma` pixels.

    Beyond the border a map goes on with its nearest value, so a constant map stays constant at any size.
    """
    x = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)
    if sigma <= 0:
        return x[:, 0]
    kernel = gaussian_kernel(sigma).to(x)
    r = len(kernel) // 2
    x = F.conv2d(F.pad(x, (0, 0, r, r), mode="replicate"), kernel.view(1, 1, -1, 1))
    x = F.conv2d(F.pad(x, (r, r, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return x[:, 0]


def photo_maps(
    maps: Float[Tensor, "b g g"], photo: tuple[int, int], *, size: int, crop: int, sigma: float = 4.0
) -> Float[Tensor, "b h w"]:
    """From what a network that saw the centre `crop` of `size` x `size` says, to `photo` (h, w), the photos' own size.

    Outside of the crop its border's values go on. `sigma`: of the Gaussian, in pixels of the crop; 0: none.
    """
    before = (size - crop) // 2
    after = size - crop - before
    frame = F.pad(smooth_maps(maps, (crop, crop), sigma)[:, None], (before, after) * 2, mode="replicate")
    return F.interpolate(frame, size=photo, mode="bilinear", antialias=True, align_corners=False)[:, 0]


def gaussian_kernel(sigma: float) -> Float[Tensor, "k"]:
    """Samples of a Gaussian at whole pixels, out to `TRUNCATE` sigmas; their sum is 1."""
    r = max(1, math.floor(TRUNCATE * sigma + 0.5))
    x = torch.arange(-r, r + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return (kernel / kernel.sum()).float()
