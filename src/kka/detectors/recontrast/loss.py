"""ReContrast's losses (Guo et al. 2023, arXiv:2306.02602), and the margin by which anomalies enter. Pure functions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Maps = list[Tensor]
"""One (b, c, h, w) for each level."""

ALPHA = (-3.0, 1.0)
"""The hard-mining threshold in deviations above the mean: at the start, and once it has been ramped up."""


def alpha_at(step: int, steps: int) -> float:
    """The ramp of alpha: from -3 to 1 over the first tenth of the iterations, then 1."""
    ramp = max(1.0, 0.1 * steps)
    return ALPHA[0] + (ALPHA[1] - ALPHA[0]) * min(1.0, step / ramp)


def point_distance(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """1 - cos of the channels at each position."""
    return 1 - F.cosine_similarity(a, b, dim=1)


def image_distance(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """1 - cos of the whole map as one vector: the global cosine distance."""
    return 1 - F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)


def hard_positions(distance: Float[Tensor, "b h w"], alpha: float) -> Bool[Tensor, "b h w"]:
    """The positions whose distance is at least mean + alpha * deviation (over the batch): the others teach nothing."""
    return distance >= distance.mean() + alpha * distance.std()


def gradient_at(x: Float[Tensor, "b c h w"], keep: Bool[Tensor, "b h w"]) -> Float[Tensor, "b c h w"]:
    """`x`, whose gradient is zero outside `keep`."""
    return torch.where(keep[:, None], x, x.detach())


def cross_reconstruction(targets: Maps, decoded: Maps, alpha: float) -> Float[Tensor, ""]:
    """Half the sum over the pairs of 1 - cos(flatten(target), flatten(decoded)), averaged over the batch.

    Pairs: three levels of the frozen encoder with what is decoded from the trainable one, and three the other way
    round, each way weighing a half. Targets get no gradient; of the decoded maps only hard positions do.
    """
    total = torch.zeros((), device=decoded[0].device)
    for target, found in zip(targets, decoded, strict=True):
        target = target.detach()
        with torch.no_grad():
            keep = hard_positions(point_distance(target, found), alpha)
        total = total + image_distance(target, gradient_at(found, keep)).mean()
    return total / 2


def discrepancy(targets: Maps, decoded: Maps, *, top: float = 1.0) -> Float[Tensor, "b"]:
    """How badly each image is reconstructed, from 0 to 2: the mean over the pairs of a map's distance.

    `top` = 1: of the whole map, as the loss sees it. Below 1: the mean over that share of the positions, the most
    distant ones, at least one.
    """
    distances = []
    for target, found in zip(targets, decoded, strict=True):
        if top >= 1:
            distances.append(image_distance(target.detach(), found))
        else:
            points = point_distance(target.detach(), found).flatten(1)
            distances.append(points.topk(max(1, round(top * points.shape[1])), dim=1).values.mean(dim=1))
    return torch.stack(distances).mean(dim=0)


def masked_discrepancy(
    targets: Maps, decoded: Maps, covers: Sequence[Float[Tensor, "b _h _w"]], least: float
) -> Float[Tensor, "b"]:
    """How badly each image is reconstructed where its mask is: the mean over the pairs of the mean distance of the
    positions that it covers by `least` or more, or of the one that it covers most where it covers none so far."""
    distances = []
    for target, found, cover in zip(targets, decoded, covers, strict=True):
        flat = cover.flatten(1)
        counted = (flat >= torch.minimum(flat.amax(dim=1, keepdim=True), flat.new_tensor(least))).to(flat)
        points = point_distance(target.detach(), found).flatten(1)
        distances.append((points * counted).sum(dim=1) / counted.sum(dim=1))
    return torch.stack(distances).mean(dim=0)


def margin_loss(discrepancies: Float[Tensor, "b"], margin: float) -> Float[Tensor, ""]:
    """Mean of max(0, margin - d): an anomaly must be reconstructed at least this badly."""
    return F.relu(margin - discrepancies).mean()
