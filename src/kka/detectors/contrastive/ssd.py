"""The SSD detector (Sehwag et al. 2021, arXiv:2103.12051): contrastive features, and the distance to the normals'."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32
from torch import Tensor, nn

from kka.common.device import choose_device, seeded
from kka.common.progress import Progress
from kka.detectors.contrastive.density import fit_feature_score, load_fitted, save_fitted
from kka.detectors.contrastive.loss import nt_xent
from kka.detectors.contrastive.network import ImageNetwork
from kka.detectors.contrastive.settings import SSDSettings
from kka.detectors.contrastive.training import TrainingImages, counted, steps_of, train_contrastive
from kka.detectors.graph import in_batches
from kka.detectors.inputs import checked
from kka.protocols import Images, Scores
from kka.seeding import derive_seed


class SSD:
    """SSD: an encoder that tells every image from every other (NT-Xent), then a Gaussian of the normals' features.

    Score: squared Mahalanobis distance to the normals, less that to the known anomalies if there are any; higher =
    more anomalous. Departures: the covariance is shrunk (Ledoit-Wolf), since tens of normals span no 2048 dimensions;
    anomalies also join each step of NT-Xent as negatives, which are not drawn to their own other view.

    `fit` sets `model_` and `losses_` (the mean of each epoch).

    Example:
        >>> detector = build_detector("ssd", preset="cpu").fit(normals, anomalies)
        >>> detector.score(images)  # (n,), higher = more anomalous
    """

    SETTINGS = SSDSettings
    PRESETS: ClassVar = {
        "published": SSDSettings(),
        "small": SSDSettings(depth=18, epochs=200, batch_size=32, learning_rate=0.06),
        "cpu": SSDSettings(depth=18, width=16, epochs=30, batch_size=32, learning_rate=0.06),
    }
    takes: frozenset[str] = frozenset()

    def __init__(self, *, settings: SSDSettings | None = None, seed: int = 0, progress: Progress | None = None) -> None:
        self.settings = settings or SSDSettings()
        self.seed = seed
        self.progress = progress

    @property
    def input_size(self) -> int:
        """Larger images are of no use to it, in pixels a side: crops are taken from twice what the network sees."""
        return 2 * self.settings.size

    def fit(self, normals: Images, anomalies: Images | None = None) -> "SSD":
        """Train the encoder to the last epoch, then fit the Gaussians to its features."""
        normals, anomalies, _ = checked(normals, anomalies)
        s, device = self.settings, choose_device(self.settings.device)
        network = seeded(lambda: ImageNetwork(s.depth, s.width), device, seed=derive_seed(self.seed, "network"))

        def loss(first: Tensor, second: Tensor, negatives: Tensor | None, index: Tensor) -> Tensor:
            return nt_xent(first, second, negatives, temperature=s.temperature)

        self.losses_ = train_contrastive(
            network, loss, TrainingImages(normals, anomalies, device, size=s.size), s, epochs=s.epochs,
            seed=derive_seed(self.seed, "train"),
            progress=counted(self.progress, s.epochs * steps_of(len(normals), s)),
        )  # fmt: skip
        self.model_ = fit_feature_score(
            network.encoder, normals, anomalies if s.outlier_score else None, shape=_shape(s), device=device,
            seed=derive_seed(self.seed, "clusters"),
        )  # fmt: skip
        return self

    def score(self, images: Images) -> Scores:
        """(n,): higher = more anomalous."""
        return in_batches(self.model_, images, self.model_.mean.device)

    def embed(self, images: Images) -> Float32[np.ndarray, "n d"]:
        """The encoder's features, of length 1."""
        return in_batches(self.model_.embed, images, self.model_.mean.device)

    def graph(self) -> nn.Module:
        """From pixels (b, h, w, 3) to the scores (b,), for export."""
        return self.model_

    def save(self, path: Path) -> None:
        """Encoder and Gaussians (safetensors) and `detector.json` into the folder `path`."""
        save_fitted(path, "ssd", self.model_, seed=self.seed, settings=self.settings)

    @classmethod
    def load(cls, path: Path) -> "SSD":
        """Read what `save` wrote."""
        return load_fitted(cls, SSDSettings, _shape, path)


def _shape(settings: SSDSettings) -> dict[str, Any]:
    return dict(depth=settings.depth, width=settings.width, size=settings.size, clusters=settings.clusters)
