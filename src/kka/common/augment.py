"""Training augmentation, vectorised over the batch on the images' own device.

The recipe is the published one: random resized crop 0.2-1, horizontal flip, colour jitter (.4, .4, .4, .1) with
p = .8, greyscale p = .2, ImageNet normalisation. Each image draws its own parameters. Brightness, contrast,
saturation, hue and greyscale are linear in the colours, so the whole jitter is one 3x4 matrix an image
(hue turns the YIQ plane instead of HSV's hexagon; values are clipped once, at the end).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from kka.common.device import sent

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)

_RGB_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_YIQ_TO_RGB = torch.linalg.inv(_RGB_TO_YIQ)


def normalise(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """ImageNet normalisation of images in [0, 1]."""
    mean, std, _ = _constants(images.device)
    return (images - mean) / std


@lru_cache(maxsize=8)
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """ImageNet's mean and deviation (1, 3, 1, 1) and the luma's weights (3,): a step would wait for their copy."""
    with torch.inference_mode(mode=False):  # whoever asks first, a training must be able to use them
        mean, std, luma = (torch.tensor(values).to(device) for values in (IMAGENET_MEAN, IMAGENET_STD, LUMA))
    return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1), luma


def resize(images: UInt8[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 s s"]:
    """Antialiased resize to size x size, in [0, 1]."""
    x = images.float() / 255
    if x.shape[-2:] == (size, size):
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def crop_boxes(
    n: int, *, scale: tuple[float, float], generator: torch.Generator
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Centre and half-size (x, y) of random crops, in the [-1, 1] coordinates of `grid_sample`.

    Area uniform in `scale`, aspect ratio log-uniform in [3/4, 4/3], position uniform inside the image.
    """
    u = torch.rand(n, 4, generator=generator)
    area = scale[0] + (scale[1] - scale[0]) * u[:, 0]
    ratio = torch.exp((2 * u[:, 1] - 1) * math.log(4 / 3))
    half = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1)
    centre = (2 * u[:, 2:] - 1) * (1 - half)
    return centre, half


def colour_matrices(
    n: int,
    *,
    strength: Sequence[float] = (0.4, 0.4, 0.4, 0.1),
    p_jitter: float = 0.8,
    p_grey: float = 0.2,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n"]]:
    """One colour matrix an image, and how much of the image's mean grey contrast mixes in.

    `strength` is (brightness, contrast, saturation, hue), as torchvision's ColorJitter takes it.
    """
    u = torch.rand(n, 6, generator=generator)
    jitter = (u[:, 4] < p_jitter).float()
    factors = 1 + (2 * u[:, :3] - 1) * torch.tensor(strength[:3]) * jitter[:, None]
    brightness, contrast, saturation = factors.unbind(1)
    saturation = torch.where(u[:, 5] < p_grey, torch.zeros_like(saturation), saturation)
    angle = (2 * u[:, 3] - 1) * strength[3] * 2 * math.pi * jitter

    # In YIQ a saturation change scales the (I, Q) plane and a hue change turns it; Y, the luma, stays.
    turn = torch.zeros(n, 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
    turn[:, 1, 2] = -saturation * angle.sin()
    turn[:, 2, 1] = saturation * angle.sin()
    matrix = (brightness * contrast)[:, None, None] * (_YIQ_TO_RGB @ turn @ _RGB_TO_YIQ)
    return matrix, brightness * (1 - contrast)


def augment(
    images: UInt8[Tensor, "b 3 h w"],
    size: int,
    *,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.2, 1.0),
) -> Float[Tensor, "b 3 s s"]:
    """A random view of each image at size x size, normalised. `generator` is a CPU generator."""
    n, device = len(images), images.device
    x = images.float() / 255

    centre, half = crop_boxes(n, scale=scale, generator=generator)
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = half[:, 0] * flip, half[:, 1]
    theta[:, :, 2] = centre
    grid = F.affine_grid(sent(theta, device), [n, 3, size, size], align_corners=False)
    x = _sampled(x, grid)

    matrix, offset = colour_matrices(n, generator=generator)
    grey = torch.einsum("c,bchw->b", _constants(device)[2], x) / (size * size)
    x = torch.baddbmm((sent(offset, device) * grey)[:, None, None], sent(matrix, device), x.flatten(2))
    return normalise(x.clamp(0, 1).view(n, 3, size, size))


def _sampled(x: Float[Tensor, "b 3 h w"], grid: Float[Tensor, "b s s 2"]) -> Float[Tensor, "b 3 s s"]:
    """Bilinear, with the image's border beyond it."""
    if x.device.type == "mps":  # whose grid_sample learned "border" after torch 2.10
        return F.grid_sample(x, within(grid, x.shape[2], x.shape[3]), mode="bilinear", align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def within(grid: Float[Tensor, "b s s 2"], height: int, width: int) -> Float[Tensor, "b s s 2"]:
    """The places of `grid` (x, y), none beyond the centres of an image's outermost pixels: what "border" means."""
    x, y = grid.unbind(-1)
    return torch.stack([x.clamp(1 / width - 1, 1 - 1 / width), y.clamp(1 / height - 1, 1 - 1 / height)], dim=-1)
