"""The SAD detector: Eq. 5, trained on the normals and whatever anomalies there are."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from kka.algorithm.deep_sad import (
    INPUT_SIZE,
    LIMIT,
    SCORE_BATCH,
    DeepSAD,
    pretrain,
    squared_distance,
    train_deep_sad,
)
from kka.common.progress import Progress
from kka.detectors.graph import Preprocess, in_batches, resized
from kka.detectors.inputs import checked
from kka.detectors.saving import device_here, does_not_fit, read_card, settings_from, write_card
from kka.protocols import Images, Scores
from kka.settings.deep_sad import DeepSADSettings, with_shares


class SAD:
    """Deep SAD with LeNet at 32 x 32. Score: squared distance to the centre, higher = more anomalous.

    `fit` sets `model_`, `graph_` and `losses_` (the mean of each epoch).

    Example:
        >>> detector = build_detector("sad", preset="cpu").fit(normals, anomalies)
        >>> detector.score(images)  # (n,), higher = more anomalous
    """

    SETTINGS = DeepSADSettings
    PRESETS: ClassVar = {
        "published": DeepSADSettings(epochs=200, learning_rate=1e-4, milestones=(0.25,), precision="fp32"),
        "small": DeepSADSettings(),
        "cpu": DeepSADSettings(epochs=25),
    }
    takes = frozenset({"hard"})
    input_size = LIMIT
    """Larger images are of no use to it, in pixels a side."""

    def __init__(
        self, *, settings: DeepSADSettings | None = None, seed: int = 0, progress: Progress | None = None
    ) -> None:
        self.settings = settings or DeepSADSettings()
        self.seed = seed
        self.progress = progress
        self._start: dict[str, Tensor] | None = None

    def pretrained(self, start: dict[str, Tensor]) -> "SAD":
        """Start from these weights (`kka.algorithm.deep_sad.pretrain`) instead of pretraining at `fit`."""
        self._start = start
        return self

    def pretrain(self, normals: Images) -> dict[str, Tensor]:
        """The start that `fit` would make from these normals; give it to several detectors of one seed."""
        return pretrain(normals, settings=self.settings, seed=self.seed)

    def fit(self, normals: Images, anomalies: Images | None = None, *, hard: np.ndarray | None = None) -> "SAD":
        """Train to the last epoch. `hard`: (m,) bool for each anomaly, where the settings weight them apart."""
        normals, anomalies, hard = checked(normals, anomalies, hard=hard)
        model = train_deep_sad(
            normals, anomalies, hard=hard, settings=self.settings, seed=self.seed, start=self._start,
            progress=self.progress,
        )  # fmt: skip
        return self._scoring(model)

    def score(self, images: Images) -> Scores:
        """(n,): higher = more anomalous."""
        return in_batches(self.graph_, images, self.graph_.centre.device, batch=SCORE_BATCH)

    def embed(self, images: Images) -> Float32[np.ndarray, "n d"]:
        """phi of each image."""
        return self.model_.embed(images)

    def graph(self) -> nn.Module:
        """From pixels (b, h, w, 3) to the scores (b,), for export."""
        return self.graph_

    def save(self, path: Path) -> None:
        """Weights and centre (safetensors) and `detector.json` into the folder `path`."""
        self.model_.save(path)
        write_card(path, {"detector": "sad", "seed": self.seed, "settings": self.settings})

    @classmethod
    def load(cls, path: Path) -> "SAD":
        """Read what `save` wrote.

        Raises:
            UserError: weights that do not fit the card.
        """
        card = read_card(path)
        detector = cls(settings=settings_from(DeepSADSettings, with_shares(card["settings"])), seed=card["seed"])
        try:
            return detector._scoring(DeepSAD.load(path, device=str(device_here(detector.settings.device))))
        except (KeyError, RuntimeError) as error:
            raise does_not_fit(path, error) from error

    def _scoring(self, model: DeepSAD) -> "SAD":
        self.model_, self.graph_, self.losses_ = model, _Graph(model).to(model.centre.device).eval(), model.losses
        return self


class _Graph(nn.Module):
    """What `DeepSAD.score` computes: larger pixels first come down to LIMIT, rounded, as in training."""

    centre: Tensor

    def __init__(self, model: DeepSAD) -> None:
        super().__init__()
        self.prepare = Preprocess(INPUT_SIZE)
        self.network = model.network
        self.register_buffer("centre", model.centre)

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b"]:
        if max(pixels.shape[1:3]) > LIMIT:
            pixels = resized(pixels.permute(0, 3, 1, 2).float(), LIMIT).round().clamp(0, 255).permute(0, 2, 3, 1)
        return squared_distance(self.network(self.prepare(pixels)), self.centre)
