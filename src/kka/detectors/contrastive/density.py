"""The score of SSD and CMDA: how far an encoder's feature of an image lies from the normals' in squared Mahalanobis."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kka.algorithm.mahalanobis import fit_clusters
from kka.common.device import seeded
from kka.detectors.contrastive.network import ResNet
from kka.detectors.graph import Preprocess, in_batches
from kka.detectors.saving import device_here, load_into, read_card, read_tensors, settings_from, write
from kka.protocols import Images

D = TypeVar("D", bound=Any)

_FLOOR = 1e-5
"""Smallest standard deviation to divide by: features have length 1, and fp32 noise is about 1e-8."""


class Gaussians(nn.Module):
    """Features (b, d) -> squared Mahalanobis distance to the nearest cluster (b,): higher = farther from all.

    (z - mu)^T P (z - mu) is computed as ||(z - mu)^T L||^2 with P = L L^T (Cholesky): never negative in fp32, and two
    plain matrix operations in an exported graph.
    """

    means: Tensor  # (k, d)
    factors: Tensor  # (k, d, d)

    def __init__(self, clusters: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(clusters, 1, dimensions))
        self.register_buffer("factors", torch.zeros(clusters, dimensions, dimensions))

    def fill(self, features: Float[np.ndarray, "n d"], *, seed: int) -> "Gaussians":
        """Fit as many clusters as this has (k-means, Ledoit-Wolf) to `features`."""
        fitted = fit_clusters(features, len(self.means), seed=seed)
        symmetric = (fitted.precisions + fitted.precisions.transpose(0, 2, 1)) / 2
        self.means.copy_(torch.from_numpy(fitted.means)[:, None])
        self.factors.copy_(torch.from_numpy(np.linalg.cholesky(symmetric)))
        return self

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
        whitened = (z[None] - self.means) @ self.factors  # (k, b, d)
        return whitened.square().sum(dim=2).amin(dim=0)


class FeatureScore(nn.Module):
    """From pixels (b, h, w, 3) to scores (b,): SSD's s(x) (Sehwag et al. 2021, arXiv:2103.12051).

    z = the encoder's feature at length 1, standardised by the training normals' mean and deviation; the score is the
    squared Mahalanobis distance to the normals. With a Gaussian of the known anomalies (`outliers`) their distance is
    subtracted: SSD_k.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, depth: int, width: int, *, size: int, clusters: int, outliers: bool) -> None:
        super().__init__()
        self.prepare = Preprocess(size)
        self.encoder = ResNet(depth, width)
        self.register_buffer("mean", torch.zeros(self.encoder.features))
        self.register_buffer("deviation", torch.ones(self.encoder.features))
        self.normals = Gaussians(clusters, self.encoder.features)
        self.outliers = Gaussians(1, self.encoder.features) if outliers else None

    def embed(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b d"]:
        """Features of length 1."""
        return F.normalize(self.encoder(self.prepare(pixels)), dim=1)

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b"]:
        z = (self.embed(pixels) - self.mean) / self.deviation
        distance: Tensor = self.normals(z)
        return distance if self.outliers is None else distance - self.outliers(z)


def fit_feature_score(
    encoder: ResNet,
    normals: Images,
    anomalies: Images | None,
    *,
    shape: dict[str, Any],
    device: torch.device,
    seed: int,
) -> FeatureScore:
    """The score with the trained `encoder`, in eval mode.

    Args:
        anomalies: Of the outliers' Gaussian; None: a score by the normals alone.
        shape: What `FeatureScore` is built with, but for `outliers`.

    Raises:
        UserError: more clusters than distinct normals.
    """
    model = seeded(lambda: FeatureScore(**shape, outliers=anomalies is not None), device, seed=0)
    model.encoder.load_state_dict(encoder.state_dict())
    model.eval()
    features = in_batches(model.embed, normals, device).astype(np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0).clip(min=_FLOOR)
    model.mean.copy_(torch.from_numpy(mean))
    model.deviation.copy_(torch.from_numpy(deviation))
    model.normals.fill((features - mean) / deviation, seed=seed)
    if anomalies is not None and model.outliers is not None:
        known = in_batches(model.embed, anomalies, device).astype(np.float64)
        model.outliers.fill((known - mean) / deviation, seed=seed)
    return model


def save_fitted(path: Path, name: str, model: FeatureScore, *, seed: int, settings: Any) -> None:
    """A fitted score and the settings of its detector into the folder `path`."""
    write(path, name, model.state_dict(), seed=seed, settings=settings, outliers=model.outliers is not None)


def load_fitted(kind: Callable[..., D], settings: type, shape: Callable[[Any], dict[str, Any]], path: Path) -> D:
    """The detector of class `kind` that `save_fitted` wrote. `shape`: of its settings, as `fit_feature_score` takes it.

    Raises:
        UserError: tensors that do not fit the card.
    """
    card = read_card(path)
    detector = kind(settings=settings_from(settings, card["settings"]), seed=card["seed"])
    device, outliers = device_here(detector.settings.device), card["outliers"]
    model = seeded(lambda: FeatureScore(**shape(detector.settings), outliers=outliers), device, seed=0)
    load_into(model, read_tensors(path), path)
    detector.model_ = model.eval()
    return detector
