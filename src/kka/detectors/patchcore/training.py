"""From cached features of normals and anomalies to the memory bank. Nothing is learnt by gradients."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kka.common.progress import Progress
from kka.detectors.features import Features
from kka.detectors.patchcore.coreset import greedy_coreset, projected
from kka.detectors.patchcore.network import Bank, squared_distances
from kka.detectors.patchcore.settings import PatchCoreSettings
from kka.seeding import derive_seed

_BATCH = 32
_ROWS = 4096
"""Images, and patches, that are worked with at a time."""

NORMAL = 0.99
"""The share of normals' patches that is nearer to the bank than an anomaly's patch must be to be remembered."""


def fill_bank(
    normals: Features, anomalies: Features | None, *, settings: PatchCoreSettings, seed: int, device: torch.device,
    cover: Float[Tensor, "m p"] | None = None, progress: Progress | None = None,
) -> Bank:  # fmt: skip
    """The bank of `normals`, and of what in `anomalies` is not normal.

    Features are (n, p, d). `cover`: what share of each patch of the anomalies is anomalous, where that is known; those
    of which it is less than `mask_from` are not remembered. Candidates are drawn alike from each image; the bank is a
    greedy cover of them.
    """
    n, p, d = normals.shape
    mean, scale = standardisation(normals, len(settings.strides)) if settings.standardise else (None, None)
    drawn = _draw(normals, settings.candidates, np.random.default_rng(derive_seed(seed, "candidates"))).to(device)
    if mean is not None and scale is not None:
        mean, scale = mean.to(device), scale.to(device)
        drawn = (drawn - mean) * scale
    if progress is not None:
        progress(1, 3)
    m = min(len(drawn), settings.most, max(1, round(settings.share * n * p)))
    first = int(np.random.default_rng(derive_seed(seed, "first")).integers(len(drawn)))
    shadows = projected(drawn, settings.projection, derive_seed(seed, "projection"))
    kept = drawn[greedy_coreset(shadows, m, first=first).to(device)]
    if progress is not None:
        progress(2, 3)
    bank = Bank(d, m, min(settings.neighbours, m), 0, settings).to(device)
    if mean is not None and scale is not None:
        bank.mean.copy_(mean)
        bank.scale.copy_(scale)
    bank.normals.copy_(kept)
    if bank.near.shape[1]:
        parts = [squared_distances(rows[None], kept)[0] for rows in kept.split(_ROWS)]
        bank.near.copy_(torch.cat([part.topk(bank.near.shape[1], largest=False).indices for part in parts]))
    if anomalies is not None and settings.anomaly_weight:
        bank.anomalies = unlike_normals(bank, normals, anomalies, settings, seed, device, cover)
    if progress is not None:
        progress(3, 3)
    return bank


def _draw(features: Features, most: int, rng: np.random.Generator) -> Float[Tensor, "c d"]:
    """At most `most` patches, as many from each image; all where there are no more."""
    n, p, _ = features.shape
    each = min(p, max(1, most // n))
    some = torch.from_numpy(rng.permutation(n)[: max(1, most // each)])
    parts = []
    for index in some.split(_BATCH):
        patches = features[index]
        parts += [patches[i, torch.from_numpy(rng.permutation(p)[:each])] for i in range(len(index))]
    return torch.cat(parts)


def _covered(
    features: Features, cover: Float[Tensor, "m p"], settings: PatchCoreSettings, rng: np.random.Generator
) -> Float[Tensor, "c d"]:
    """Patches that the masks cover by `mask_from` or more; of too many, a random choice."""
    parts = [
        features[index][(cover[index] >= settings.mask_from) & (cover[index] > 0)]
        for index in torch.arange(len(cover)).split(_BATCH)
    ]
    found = torch.cat(parts)
    return found[torch.from_numpy(rng.permutation(len(found))[: settings.candidates])]


@torch.no_grad()
def standardisation(features: Features, parts: int) -> tuple[Float[Tensor, "d"], Float[Tensor, "d"]]:
    """The mean of each dimension over all patches, and 1 / deviation, one for each of the equal `parts` of them.

    Afterwards each part's squared distances from the mean sum up to 1, on the mean: all strides count alike.
    """
    n, p, d = features.shape
    total, square = (torch.zeros(d, dtype=torch.float64) for _ in range(2))
    for index in torch.arange(n).split(_BATCH):
        x = features[index].flatten(0, 1).double()
        total, square = total + x.sum(dim=0), square + x.square().sum(dim=0)
    mean = total / (n * p)
    variance = (square / (n * p) - mean.square()).clamp(min=0).view(parts, -1).sum(dim=1)
    scale = 1 / variance.sqrt().clamp(min=1e-3)  # normals that are all alike have none
    return mean.float(), scale.float().repeat_interleave(d // parts)


@torch.no_grad()
def unlike_normals(
    bank: Bank, normals: Features, anomalies: Features, settings: PatchCoreSettings, seed: int, device: torch.device,
    cover: Float[Tensor, "m p"] | None = None,
) -> Float[Tensor, "a d"]:  # fmt: skip
    """A greedy cover of the anomalies' patches that lie farther from the bank than nearly all of the normals' do, and
    that their masks cover, where these are known.

    An anomaly has normal parts too: its label is of the whole, and nearness to those says nothing.
    """
    rng = np.random.default_rng(derive_seed(seed, "anomalies"))
    known = bank.standard(_draw(normals, settings.candidates, rng).to(device))
    if cover is None:
        drawn = bank.standard(_draw(anomalies, settings.candidates, rng).to(device))
    else:
        drawn = bank.standard(_covered(anomalies, cover, settings, rng).to(device))
        if not len(drawn):
            return drawn

    def distances(patches: Tensor) -> Tensor:
        return torch.cat([bank.distances(rows[None])[0][0] for rows in patches.split(_ROWS)])

    limit = np.quantile(distances(known).cpu().numpy(), NORMAL)
    odd = drawn[distances(drawn) > float(limit)]
    if not len(odd):
        return odd
    shadows = projected(odd, settings.projection, derive_seed(seed, "projection"))
    return odd[greedy_coreset(shadows, min(len(odd), len(bank.normals)), first=0).to(device)]
