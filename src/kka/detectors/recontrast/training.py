"""How ReContrast is trained: iterations of normals, with anomalies beside them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kka.common.device import batch_at, resident, sent
from kka.common.numbers import DIVERGED, require_finite
from kka.common.progress import Progress
from kka.detectors.graph import Preprocess, covered
from kka.detectors.recontrast.loss import (
    Maps,
    alpha_at,
    cross_reconstruction,
    discrepancy,
    margin_loss,
    masked_discrepancy,
)
from kka.detectors.recontrast.network import ReContrastNet
from kka.detectors.recontrast.settings import ReContrastSettings
from kka.protocols import Images, Masks
from kka.seeding import derive_seed

FINE_TUNING_RATE, RANDOM_RATE = 1e-5, 1e-3
"""Of the trainable encoder: as published for a pretrained one, and for one that must learn from the start."""

LOOK = 10
"""Iterations after which their losses are fetched: a GPU is not waited for at each one."""

Pixels = UInt8[Tensor, "n 3 h w"]


def train_recontrast(
    network: ReContrastNet,
    prepare: Preprocess,
    normals: Images,
    anomalies: Images | None,
    settings: ReContrastSettings,
    *,
    seed: int,
    untrained: bool,
    masks: Masks | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> list[float]:
    """Train `network` in place; the reconstruction loss of the normals at each iteration.

    `untrained`: the encoders have random weights. Their BatchNorm statistics are then first taken from the normals,
    and the trainable one's rate is `RANDOM_RATE` where the settings name none. `masks`: where each anomaly is one.
    Raises UserError where it diverges.
    """
    s, device = settings, next(network.parameters()).device
    pixels, normal = resident(normals, device, limit=s.size, beside=anomalies), len(normals)
    odd = len(pixels) - normal
    if untrained:
        for encoder in (network.encoder, network.frozen):
            parts = (sent(part, device).permute(0, 2, 3, 1) for part in pixels[:normal].split(64))
            settle_batchnorm(encoder, map(prepare, parts))
    rate = s.encoder_learning_rate
    if rate is None:
        rate = RANDOM_RATE if untrained else FINE_TUNING_RATE
    optimiser = torch.optim.AdamW(
        [
            {"params": network.encoder.parameters(), "lr": rate},
            {"params": [*network.bottleneck.parameters(), *network.decoder.parameters()], "lr": s.learning_rate},
        ],
        betas=(0.9, 0.999), weight_decay=s.weight_decay,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(derive_seed(seed, "train"))
    batches = _batches(normal, s.batch_size, generator)
    negatives = _batches(odd, s.anomalies_per_batch, generator)
    epoch_length = max(1, round(normal / s.batch_size))
    losses: list[float] = []
    unseen: list[Tensor] = []  # losses that still lie on the device
    by_batch = s.encoder_batchnorm == "train" or (s.encoder_batchnorm == "auto" and odd > 0)
    _train_mode(network, by_batch)
    for step in range(s.iterations):
        batch = batch_at(pixels, next(batches), device)
        n, of_batch = len(batch), None
        if odd:
            chosen = next(negatives)
            batch = torch.cat([batch, batch_at(pixels, normal + chosen, device)])
            of_batch = None if masks is None else sent(torch.from_numpy(masks[chosen.numpy()]), device)
        beside = Beside(n, of_batch, prepare)
        loss, total = _losses(network, prepare(batch.permute(0, 2, 3, 1)), beside, alpha_at(step, s.iterations), s)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
        unseen.append(loss.detach())
        if len(unseen) == LOOK or step + 1 == s.iterations:
            losses += _looked_at(unseen, len(losses))
            unseen.clear()
        if progress is not None:
            progress(step + 1, s.iterations)
        if on_epoch is not None and (step + 1) % epoch_length == 0:
            network.eval()
            on_epoch((step + 1) // epoch_length)
            _train_mode(network, by_batch)
    network.eval()
    return losses


def _looked_at(losses: Sequence[Tensor], before: int) -> list[float]:
    """The losses of iterations, after `before` others. Raises UserError where one is no number."""
    found: list[float] = torch.stack(list(losses)).cpu().tolist()
    for i, value in enumerate(found, start=before + 1):
        require_finite(value, f"the training loss of iteration {i}", DIVERGED)
    return found


@dataclass(frozen=True)
class Beside:
    """The anomalies beside the normals of a batch, which are its images from `first` on."""

    first: int
    masks: UInt8[Tensor, "m h w"] | None
    prepare: Preprocess

    def discrepancy(self, targets: Maps, decoded: Maps, s: ReContrastSettings) -> Float[Tensor, "m"]:
        targets, decoded = [t[self.first :] for t in targets], [d[self.first :] for d in decoded]
        if self.masks is None:
            return discrepancy(targets, decoded, top=s.anomaly_top)
        covers = [covered(self.masks, self.prepare, (t.shape[2], t.shape[3])) for t in targets]
        return masked_discrepancy(targets, decoded, covers, s.mask_from)


def _losses(
    network: ReContrastNet, x: Float[Tensor, "b 3 h w"], beside: Beside, alpha: float, s: ReContrastSettings
) -> tuple[Tensor, Tensor]:
    """The reconstruction loss of the normals, and with the margin of the anomalies added to it."""
    n = beside.first
    targets, decoded = network(x)
    loss = cross_reconstruction([t[:n] for t in targets], [d[:n] for d in decoded], alpha)
    if n == len(x):
        return loss, loss
    if not s.anomaly_encoder:  # a second pass, through an encoder that the term cannot reach
        with _held(network.encoder):
            targets, decoded = network(x)
    return loss, loss + s.anomaly_weight * margin_loss(beside.discrepancy(targets, decoded, s), s.margin)


class _held:  # noqa: N801  # reads as a statement
    """The module's parameters get no gradient from what is computed inside the block."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for p in self.parameters:
            p.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for p in self.parameters:
            p.requires_grad_(True)


def _train_mode(network: ReContrastNet, by_batch: bool) -> None:
    network.train()
    network.frozen.eval()
    network.encoder.train(by_batch)


@torch.no_grad()
def settle_batchnorm(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set every BatchNorm's running statistics to those of `batches`, layer upon layer in one pass."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean over the batches
    module.train()
    for batch in batches:
        module(batch)
    module.eval()
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of `size` places among `n`, or of all of them: each pass is a new order."""
    size = min(size, n)
    order = torch.empty(0, dtype=torch.long)
    while True:
        while len(order) < size:
            order = torch.cat([order, torch.randperm(n, generator=generator)])
        yield order[:size]
        order = order[size:]
