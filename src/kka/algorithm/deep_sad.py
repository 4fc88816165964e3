"""Eq. 5: Deep SAD. One implementation, for the confusion evaluator and for the SAD detector.

Paper -> code: theta_C = `LeNet`, c = `centre`, y~ = +1 for a normal and -1 for an anomaly, lambda = `weight_decay`
(Adam's L2 term is the gradient of lambda/2 ||W||^2). The paper's sum names anomalies only; normals enter with
their plain distance, as in Deep SAD.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor, nn

from kka.common.augment import augment, normalise, resize
from kka.common.device import autocast_dtype, batch_at, choose_device, full_precision, resident, seeded, sent
from kka.common.disk import reading
from kka.common.numbers import DAMAGED, DIVERGED, require_finite, require_finite_tensors
from kka.common.progress import Progress
from kka.protocols import Images, Scores
from kka.seeding import derive_seed
from kka.settings.deep_sad import DeepSADSettings

INPUT_SIZE = 32
LIMIT = 2 * INPUT_SIZE
"""Images are kept at no more than this side: crops of them then never alias much."""
DIMENSIONS = 128
_EPSILON = 1e-6
SCORE_BATCH = 256


class LeNet(nn.Module):
    """phi: (b, 3, 32, 32) -> (b, 128). No biases and no affine BatchNorm: either would let phi collapse onto c."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 32, 64, 128)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 5, padding=2, bias=False) for a, b in pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, eps=1e-4, affine=False) for c in channels[1:])
        self.head = nn.Linear(128 * 4 * 4, DIMENSIONS, bias=False)

    def forward(self, x: Float[Tensor, "b 3 32 32"]) -> Float[Tensor, "b 128"]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.leaky_relu(norm(conv(x))), 2)
        return self.head(x.flatten(1))


class Decoder(nn.Module):
    """LeNet's mirror: (b, 128) -> (b, 3, 32, 32), linear at the end so that it can reach normalised pixels."""

    def __init__(self) -> None:
        super().__init__()
        channels = (DIMENSIONS // 16, 128, 64, 32)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 5, padding=2, bias=False) for a, b in pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, eps=1e-4, affine=False) for c in channels[1:])
        self.out = nn.Conv2d(channels[-1], 3, 5, padding=2, bias=False)

    def forward(self, z: Float[Tensor, "b 128"]) -> Float[Tensor, "b 3 32 32"]:
        x = F.leaky_relu(z.view(len(z), DIMENSIONS // 16, 4, 4))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.interpolate(F.leaky_relu(norm(conv(x))), scale_factor=2)
        return self.out(x)


def squared_distance(z: Float[Tensor, "b d"], centre: Float[Tensor, "d"]) -> Float[Tensor, "b"]:
    """||phi(x) - c||^2, the score: higher = more anomalous."""
    return (z - centre).square().sum(dim=1)


def deep_sad_loss(
    distance: Float[Tensor, "b"],
    is_anomaly: Bool[Tensor, "b"],
    eta: float = 1.0,
    weight: Float[Tensor, "b"] | None = None,
) -> Float[Tensor, ""]:
    """Eq. 5 without its weight term: the batch mean of d for normals and eta (d + 1e-6)^-1 for anomalies."""
    terms = torch.where(is_anomaly, eta / (distance + _EPSILON), distance)
    return (terms if weight is None else terms * weight).mean()


def sample_weights(normals: int, hard: np.ndarray, hard_weight: float) -> Float32[np.ndarray, "n"]:
    """The weight of each term of Eq. 5, normals first: `hard_weight` of a hard anomaly, 1 of all others."""
    return np.concatenate([np.ones(normals), np.where(hard, hard_weight, 1.0)]).astype(np.float32)


def epoch_order(
    normals: int, anomalies: int, max_anomaly_ratio: float | None, generator: torch.Generator
) -> Int[Tensor, "n"]:
    """What one epoch goes through, in order: all normals (their places come first) and all anomalies, or as many as
    `max_anomaly_ratio` allows, at random; at least one."""
    if max_anomaly_ratio is None or not anomalies:
        return torch.randperm(normals + anomalies, generator=generator)
    most = max(1, round(max_anomaly_ratio * normals))
    taken = normals + torch.randperm(anomalies, generator=generator)[:most]
    both = torch.cat([torch.arange(normals), taken])
    return both[torch.randperm(len(both), generator=generator)]


def centre_of(z: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    """c: the mean embedding, its components pushed at least 0.1 away from 0 (which phi reaches trivially)."""
    c = z.mean(dim=0)
    return torch.where(c.abs() < 0.1, torch.where(c < 0, -0.1, 0.1), c)


class DeepSAD:
    """A trained network with its centre: embeds and scores images of any size."""

    def __init__(self, network: LeNet, centre: Float[Tensor, "d"], losses: list[float]) -> None:
        self.network = network.eval()
        self.centre = centre
        self.losses = losses
        """Mean training loss of each epoch."""

    def embed(self, images: Images) -> Float[np.ndarray, "n d"]:
        """phi of each image, in fp32, without augmentation. Raises UserError where it is no number."""
        z = _embed(self.network, resident(images, self.centre.device, limit=LIMIT))
        return require_finite(z.cpu().numpy(), "Deep SAD: embeddings of images", DAMAGED)

    def score(self, images: Images) -> Scores:
        """Squared distance to the centre: higher = more anomalous. Raises UserError where it is no number."""
        z = _embed(self.network, resident(images, self.centre.device, limit=LIMIT))
        return require_finite(squared_distance(z, self.centre).cpu().numpy(), "Deep SAD: distances of images", DAMAGED)

    def save(self, path: Path) -> None:
        """Write `deep_sad.safetensors` into the folder `path`. Raises UserError for weights that are no numbers."""
        from safetensors.torch import save_file

        losses = torch.tensor(self.losses, dtype=torch.float64)
        tensors = {"centre": self.centre, "losses": losses, **self.network.state_dict()}
        require_finite_tensors(tensors, "Deep SAD: its weights", DIVERGED)
        path.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path / "deep_sad.safetensors")

    @classmethod
    def load(cls, path: Path, *, device: str = "auto") -> "DeepSAD":
        """Read what `save` wrote. Raises UserError for weights that are no numbers."""
        from safetensors.torch import load_file

        where = choose_device(device)
        with reading(path / "deep_sad.safetensors"):
            tensors = load_file(path / "deep_sad.safetensors")
        require_finite_tensors(tensors, f"Deep SAD: the weights in {path / 'deep_sad.safetensors'}", DAMAGED)
        centre, losses = tensors.pop("centre").to(where), tensors.pop("losses").tolist()
        network = seeded(LeNet, where, seed=0)
        network.load_state_dict(tensors)
        return cls(network, centre, losses)


def train_deep_sad(
    normals: Images,
    anomalies: Images | None = None,
    *,
    settings: DeepSADSettings,
    seed: int,
    hard: np.ndarray | None = None,
    start: dict[str, Tensor] | None = None,
    progress: Progress | None = None,
) -> DeepSAD:
    """Train Eq. 5 on normals and labelled anomalies to the last epoch.

    `hard`: (m,) bool, which anomalies `settings.hard_weight` applies to. `start`: LeNet weights from `pretrain`;
    None pretrains here (`settings.pretrain_epochs`). Equal seeds give equal networks on one machine with one thread
    count.

    Raises:
        UserError: the training diverged.
    """
    device = choose_device(settings.device)
    if start is None:
        start = pretrain(normals, settings=settings, seed=seed)
    network = seeded(LeNet, device, seed=derive_seed(seed, "network"))
    network.load_state_dict(start)

    n_anomalies = 0 if anomalies is None else len(anomalies)
    pixels = resident(normals, device, limit=LIMIT, beside=anomalies if n_anomalies else None)
    centre = centre_of(_embed(network, pixels[: len(normals)]))
    is_anomaly = torch.arange(len(pixels), device=device) >= len(normals)
    weight = None
    if hard is not None and settings.hard_weight != 1:
        weight = torch.from_numpy(sample_weights(len(normals), hard, settings.hard_weight)).to(device)

    def loss(batch: Float[Tensor, "b 3 s s"], index: Tensor) -> Tensor:
        distance = squared_distance(network(batch).float(), centre)
        mine = None if weight is None else weight[index]
        return deep_sad_loss(distance, is_anomaly[index], settings.eta, mine)

    def order(generator: torch.Generator) -> Tensor:
        return epoch_order(len(normals), n_anomalies, settings.max_anomaly_ratio, generator)

    losses = _fit(
        network, loss, pixels, settings, settings.epochs, settings.learning_rate, settings.weight_decay,
        seed=derive_seed(seed, "train"), order=order, progress=progress,
    )  # fmt: skip
    return DeepSAD(network, centre, losses)


def pretrain(normals: Images, *, settings: DeepSADSettings, seed: int) -> dict[str, Tensor]:
    """LeNet weights from an autoencoder of the normals: the start of Eq. 5, and phi of Eq. 1.

    The last layer is scaled so that the embeddings keep the spread that random weights give: an autoencoder's are ten
    times larger, where the anomalies' term of Eq. 5, 1/d, has no say. With `pretrain_epochs=0`: the random weights.
    """
    device = choose_device(settings.device)
    encoder = seeded(LeNet, device, seed=derive_seed(seed, "encoder"))
    if settings.pretrain_epochs:
        decoder = seeded(Decoder, device, seed=derive_seed(seed, "decoder"))
        autoencoder = nn.ModuleList([encoder, decoder])
        pixels = resident(normals, device, limit=LIMIT)
        spread = _spread(encoder, pixels)

        def loss(batch: Float[Tensor, "b 3 s s"], index: Tensor) -> Tensor:
            return F.mse_loss(decoder(encoder(batch)).float(), batch)

        _fit(
            autoencoder, loss, pixels, settings, settings.pretrain_epochs,
            settings.pretrain_learning_rate, settings.pretrain_weight_decay, seed=derive_seed(seed, "pretrain"),
        )  # fmt: skip
        with torch.no_grad():
            encoder.head.weight *= (spread / _spread(encoder, pixels).clamp(min=1e-12)).sqrt()
    return {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}


def _spread(network: LeNet, pixels: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
    """The mean squared length of the embeddings."""
    return torch.cat([z.square().sum(dim=1) for z in _embed(network, pixels).split(SCORE_BATCH)]).mean()


def embed_with(start: dict[str, Tensor], images: Images, *, device: str = "auto") -> Float[np.ndarray, "n d"]:
    """phi(x) by weights from `pretrain`. Raises UserError where it is no number."""
    where = choose_device(device)
    network = seeded(LeNet, where, seed=0)
    network.load_state_dict(start)
    z = _embed(network.eval(), resident(images, where, limit=LIMIT))
    return require_finite(z.cpu().numpy(), "Deep SAD: embeddings of images", DAMAGED)


@torch.no_grad()
@full_precision()
def _embed(network: LeNet, pixels: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
    network.eval()
    device = next(network.parameters()).device
    parts = [
        network(normalise(resize(p.to(device), INPUT_SIZE)).contiguous(memory_format=torch.channels_last))
        for p in pixels.split(SCORE_BATCH)
    ]
    return torch.cat(parts) if parts else torch.empty(0, DIMENSIONS, device=device)


def _fit(
    module: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    pixels: UInt8[Tensor, "n 3 h w"],
    settings: DeepSADSettings,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    *,
    seed: int,
    order: Callable[[torch.Generator], Tensor] | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Adam over augmented batches of near-equal size; the mean loss of each epoch, which must be a number.

    `order` draws what an epoch goes through; None: everything, shuffled.
    """
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(module.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(settings.falls), gamma=0.1)
    dtype = autocast_dtype(settings.precision, device)
    history = []
    module.train()
    for epoch in range(epochs):
        total = torch.zeros((), device=device)
        taken = order(generator) if order else torch.randperm(len(pixels), generator=generator)
        steps = max(1, round(len(taken) / settings.batch_size))
        for index in taken.tensor_split(steps):
            batch = augment(batch_at(pixels, index, device), INPUT_SIZE, generator=generator)
            batch = batch.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                value = loss(batch, sent(index, device))
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            total += value.detach()
        schedule.step()
        what = f"Deep SAD: the training loss of epoch {epoch + 1} at a learning rate of {learning_rate:g}"
        history.append(require_finite(float(total) / steps, what, DIVERGED))
        if progress is not None:
            progress((epoch + 1) * steps, epochs * steps)
    module.eval()
    return history
