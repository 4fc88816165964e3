"""Contrastive training: two random views of each normal, and of known anomalies beside them, step by step."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from kka.common.augment import augment
from kka.common.device import autocast_dtype, batch_at, resident, sent
from kka.common.numbers import DIVERGED, require_finite
from kka.common.progress import Progress
from kka.detectors.contrastive.network import ImageNetwork
from kka.detectors.contrastive.settings import ContrastiveSettings
from kka.protocols import Images

Vectors = Float[Tensor, "n d"]
Loss = Callable[[Tensor, Tensor, Tensor | None, Tensor], Tensor]
"""Of the vectors (n, d) of both views of a batch of normals, of those (k, d) of all views of its anomalies (None if
there are none), and of the normals' places (n,) among all."""


class TrainingImages:
    """The training images, at no more than twice the network's input: crops then hardly alias."""

    def __init__(self, normals: Images, anomalies: Images | None, device: torch.device, *, size: int) -> None:
        self.device, self.n = device, len(normals)
        self.pixels = resident(normals, device, limit=2 * size, beside=anomalies)

    def normals(self, index: Int[Tensor, "n"]) -> UInt8[Tensor, "n 3 h w"]:
        """Those at these places."""
        return batch_at(self.pixels, index, self.device)

    def negatives(self, n: int, generator: torch.Generator) -> UInt8[Tensor, "k 3 h w"] | None:
        """`n` random anomalies, or all if there are fewer."""
        anomalies = len(self.pixels) - self.n
        if not anomalies:
            return None
        chosen = torch.randperm(anomalies, generator=generator)[:n]
        return batch_at(self.pixels, self.n + chosen, self.device)


def steps_of(n: int, settings: ContrastiveSettings) -> int:
    """Steps in a pass over `n` normals: batches of near-equal size, so that none is left with a single image."""
    return max(1, round(n / settings.batch_size))


def train_contrastive(
    network: ImageNetwork,
    loss: Loss,
    stock: TrainingImages,
    settings: ContrastiveSettings,
    *,
    epochs: int,
    seed: int,
    beside: nn.Module | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """Train to the last epoch by SGD, whose learning rate falls from step to step along half a cosine to 0; the mean
    loss of each epoch.

    Args:
        beside: A module that `loss` uses and that is trained too.
        progress: Called with the number of steps done.

    Raises:
        UserError: the training diverged.
    """
    device = stock.device
    trained = nn.ModuleList([network] if beside is None else [network, beside])
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(
        trained.parameters(), lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    dtype = autocast_dtype(settings.precision, device)
    each = steps_of(stock.n, settings)
    total, done, losses = each * epochs, 0, []
    trained.train()
    for epoch in range(epochs):
        summed = torch.zeros((), device=device)
        for index in torch.randperm(stock.n, generator=generator).tensor_split(each):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * done / total)) / 2
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                first, second, negatives = _vectors(network, stock, index, settings.size, generator)
                value = loss(first, second, negatives, sent(index, device))
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            summed += value.detach()
            done += 1
        losses.append(require_finite(float(summed) / each, f"the training loss of epoch {epoch + 1}", DIVERGED))
        progress(done)
    trained.eval()
    return losses


def _vectors(
    network: ImageNetwork, stock: TrainingImages, index: Int[Tensor, "n"], size: int, generator: torch.Generator
) -> tuple[Vectors, Vectors, Float[Tensor, "_k d"] | None]:
    """The network's vectors of two views of the normals and of anomalies, in one pass: they share the BatchNorm."""
    pixels, n = stock.normals(index), len(index)
    anomalies = stock.negatives(n, generator)
    parts = [pixels, pixels] if anomalies is None else [pixels, pixels, anomalies, anomalies]
    views = augment(torch.cat(parts), size, generator=generator).contiguous(memory_format=torch.channels_last)
    vectors = network(views)
    return vectors[:n], vectors[n : 2 * n], None if anomalies is None else vectors[2 * n :]


def counted(progress: Progress | None, total: int, before: int = 0) -> Callable[[int], None]:
    """`progress` for one part of the training, which `before` steps went ahead of."""

    def call(done: int) -> None:
        if progress is not None:
            progress(before + done, total)

    return call
