"""Training augmentation, vectorised over the batch on the images' own device.

The recipe is the published one: random resized crop 0.2-1, horizontal flip, colour jitter (.4, .4, .4, .1) with
p = .8, greyscale p = .2, ImageNet normalisation. Each image draws its own parameters. Brightness, contrast,
saturation, hue and greyscale are linear in the colours, so the whole jitter is one 3x4 matrix an image
(hue turns the YIQ plane instead of HSV's hexagon; values are clipped once, at the end).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)

_RGB_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_YIQ_TO_RGB = torch.linalg.inv(_RGB_TO_YIQ)


def normalise(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """ImageNet normalisation of images in [0, 1]."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / std


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
    grid = F.affine_grid(theta.to(device), [n, 3, size, size], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    matrix, offset = colour_matrices(n, generator=generator)
    luma = torch.tensor(LUMA, device=device)
    grey = torch.einsum("c,bchw->b", luma, x) / (size * size)
    x = torch.baddbmm((offset.to(device) * grey)[:, None, None], matrix.to(device), x.flatten(2))
    return normalise(x.clamp(0, 1).view(n, 3, size, size))
