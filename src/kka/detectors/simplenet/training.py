"""The loop that trains SimpleNet's heads on cached features."""


import torch
from jaxtyping import Float
from torch import Tensor

from kka.common.device import seeded, sent
from kka.common.numbers import DIVERGED, require_finite
from kka.common.progress import Progress
from kka.detectors.features import Features
from kka.detectors.simplenet.loss import anomaly_hinge, masked_hinge, normal_hinge, top_hinge
from kka.detectors.simplenet.network import Heads
from kka.detectors.simplenet.settings import SimpleNetSettings
from kka.seeding import derive_seed


def train_heads(
    normals: Features, anomalies: Features | None, *, settings: SimpleNetSettings, seed: int, device: torch.device,
    cover: Float[Tensor, "m p"] | None = None, progress: Progress | None = None,
) -> tuple[Heads, list[float]]:  # fmt: skip
    """Train to the last epoch; an epoch is a pass over the normals, each batch beside as many anomalies.

    Anomalies come round in a random order of their own. `cover`: what share of each of their patches is anomalous,
    where that is known. Returns the heads, in eval mode, and each epoch's mean loss.
    Raises UserError where it diverges.
    """
    n, dimension = normals.shape[0], normals.shape[2]
    heads = seeded(lambda: Heads(dimension, settings.hidden), device, seed=derive_seed(seed, "heads"))
    if settings.standardise:
        _standardise(heads, normals, settings.batch_size)
    order = torch.Generator().manual_seed(derive_seed(seed, "order"))
    noise = torch.Generator(device).manual_seed(derive_seed(seed, "noise"))
    rate = settings.learning_rate
    judges = [*heads.discriminator.parameters(), *heads.head.parameters()]
    optimisers = [
        torch.optim.AdamW(heads.adaptor.parameters(), lr=rate / 2, fused=True),
        torch.optim.Adam(judges, lr=rate, weight_decay=1e-5, fused=True),
    ]
    losses = []
    heads.train()
    for epoch in range(settings.epochs):
        batches = torch.randperm(n, generator=order).split(settings.batch_size)
        others = _around(len(anomalies), n, order).split(settings.batch_size) if anomalies is not None else None
        summed = torch.zeros((), device=device)
        for i, index in enumerate(batches):
            x = normals.on(device, index)
            y, covered = None, None
            if anomalies is not None and others is not None:
                y = anomalies.on(device, others[i])
                covered = None if cover is None else sent(cover[others[i]], device)
            loss = batch_loss(heads, x, y, settings, noise, covered)
            for optimiser in optimisers:
                optimiser.zero_grad(set_to_none=True)
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            summed += loss.detach()
        mean = float(summed) / len(batches)
        losses.append(require_finite(mean, f"the training loss of epoch {epoch + 1}", DIVERGED))
        if progress is not None:
            progress((epoch + 1) * len(batches), settings.epochs * len(batches))
    return heads.eval(), losses


def batch_loss(
    heads: Heads, normals: Float[Tensor, "b p d"], anomalies: Float[Tensor, "a p d"] | None,
    settings: SimpleNetSettings, generator: torch.Generator, cover: Float[Tensor, "a p"] | None = None,
) -> Float[Tensor, ""]:  # fmt: skip
    """Hinge on normal patches, on the same patches with noise, and on the anomalies: by what is covered of their
    patches, where that is known, else one of three ways."""
    margin, b = settings.margin, len(normals)
    adapted = heads.adapt(normals if anomalies is None else torch.cat([normals, anomalies]))
    own = adapted[:b]
    noise = torch.randn(own.shape, generator=generator, device=own.device) * settings.noise
    # One pass for all: BatchNorm's statistics are those of normals and negatives together, as published.
    answers = heads.answers(torch.cat([own + noise, adapted]))
    noisy, plain, odd = answers[:b], answers[b : 2 * b], answers[2 * b :]
    loss = normal_hinge(plain, margin) + settings.noise_weight * anomaly_hinge(noisy, margin)
    if anomalies is None:
        return loss
    if cover is not None:
        return loss + settings.mask_weight * masked_hinge(odd, cover, margin, settings.mask_from)
    if settings.anomaly_loss == "patches":
        return loss + anomaly_hinge(odd, margin)
    if settings.anomaly_loss == "top":
        return loss + top_hinge(odd, margin, settings.anomaly_top)
    image = heads.image(adapted)  # high = anomalous: the other sign than D
    return loss + normal_hinge(-image[:b], margin) + anomaly_hinge(-image[b:], margin)


def _around(n: int, wanted: int, generator: torch.Generator) -> Tensor:
    """`wanted` of n indices, each used once before any is used again."""
    rounds = -(-wanted // n)
    return torch.cat([torch.randperm(n, generator=generator) for _ in range(rounds)])[:wanted]


@torch.no_grad()
def _standardise(heads: Heads, normals: Features, batch: int) -> None:
    """The mean of each dimension over all patches of the normals, and one deviation for all: `noise` in its units.

    A deviation for each dimension would make those that hardly vary as loud as the others; it measured worse.
    """
    count = 0
    total, square = (torch.zeros(normals.shape[2], dtype=torch.float64) for _ in range(2))
    for index in torch.arange(len(normals)).split(batch):
        x = normals[index].flatten(0, 1).double()
        total, square, count = total + x.sum(dim=0), square + x.square().sum(dim=0), count + len(x)
    mean = total / count
    variance = (square / count - mean.square()).clamp(min=0).mean()
    heads.mean.copy_(mean)
    heads.scale.copy_(1 / variance.sqrt().clamp(min=1e-3))  # normals that are all alike have none
