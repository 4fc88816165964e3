"""The CMDA detector: SSD's encoder, taught by captions too, first as they are and then by the images they mix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from kka.common.device import choose_device, seeded
from kka.common.progress import Progress
from kka.common.texts import embed_texts
from kka.detectors.contrastive.density import fit_feature_score, load_fitted, save_fitted
from kka.detectors.contrastive.loss import affinity, generated, nt_xent
from kka.detectors.contrastive.network import EMBEDDING, Head, ImageNetwork
from kka.detectors.contrastive.settings import CMDASettings
from kka.detectors.contrastive.training import TrainingImages, counted, steps_of, train_contrastive
from kka.detectors.graph import in_batches
from kka.detectors.inputs import checked
from kka.errors import UserError
from kka.protocols import Images, Scores
from kka.seeding import derive_seed


class CMDA:
    """Cross-modal data augmentation: contrastive image features that captions take part in. Scores as SSD, K = 1.

    Step 1: SupCon(view1, view2) + 0.1 SupCon(view1, text), with a caption's text vector T = MLP(embedding).
    Step 2: W = |T I^T| in the batch, rows summing to 1; generated = W view1; SupCon(generated, view2).
    Without classes, SupCon's one positive is the same image's other vector, which makes it NT-Xent.
    Without captions there are no text terms and no step 2: the images alone are trained, as long as step 1 takes.

    Score: squared Mahalanobis distance to the normals; higher = more anomalous. Departures: the covariance is shrunk
    (as SSD's); anomalies join every term as negatives; TF-IDF by default in the place of sentence embeddings; the rows
    of W do sum to 1. How the published 200 epochs divide between the steps is not known; 50 + 150 is a reading.

    `fit` sets `model_`, `losses_` (the mean of each epoch, step 1's before step 2's) and `noise_draws_`: how many
    images step 2 generated, as vectors.

    Example:
        >>> detector = build_detector("cmda", preset="cpu").fit(normals, anomalies, captions=captions)
        >>> detector.score(images)  # (n,), higher = more anomalous
    """

    SETTINGS = CMDASettings
    PRESETS: ClassVar = {
        "published": CMDASettings(),
        "small": CMDASettings(depth=18, text_width=1024, batch_size=32, learning_rate=0.06),
        "cpu": CMDASettings(
            depth=18, width=16, text_width=512, image_epochs=20, generation_epochs=10, batch_size=32,
            learning_rate=0.06,
        ),
    }  # fmt: skip
    takes = frozenset({"captions"})

    def __init__(
        self, *, settings: CMDASettings | None = None, seed: int = 0, progress: Progress | None = None
    ) -> None:
        self.settings = settings or CMDASettings()
        self.seed = seed
        self.progress = progress

    @property
    def input_size(self) -> int:
        """Larger images are of no use to it, in pixels a side: crops are taken from twice what the network sees."""
        return 2 * self.settings.size

    def fit(self, normals: Images, anomalies: Images | None = None, *, captions: Sequence[str] | None = None) -> "CMDA":
        """Train both steps to the last epoch, then fit the Gaussians to the image encoder's features.

        `captions`: one for each normal. Without them the image terms are trained alone, and step 2 falls away.

        Raises:
            UserError: another number of captions than normals; captions that cannot be embedded.
        """
        normals, anomalies, _ = checked(normals, anomalies)
        if captions is not None and len(captions) != len(normals):
            raise UserError(f"captions: expected one for each of the {len(normals)} normals; got {len(captions)}")
        s, device = self.settings, choose_device(self.settings.device)
        network = seeded(lambda: ImageNetwork(s.depth, s.width), device, seed=derive_seed(self.seed, "network"))
        texts = None if captions is None else self._texts(captions, device)
        self.losses_ = self._train(network, texts, TrainingImages(normals, anomalies, device, size=s.size))
        self.noise_draws_ = 0 if texts is None else s.generation_epochs * len(normals)
        self.model_ = fit_feature_score(
            network.encoder, normals, anomalies if s.outlier_score else None, shape=_shape(s), device=device,
            seed=derive_seed(self.seed, "clusters"),
        )  # fmt: skip
        return self

    def _texts(self, captions: Sequence[str], device: torch.device) -> "_Texts":
        vectors = embed_texts(captions, self.settings.text, seed=derive_seed(self.seed, "texts"), device=str(device))
        width = self.settings.text_width
        return seeded(
            lambda: _Texts(torch.from_numpy(vectors), width), device, seed=derive_seed(self.seed, "text network")
        )

    def _train(self, network: ImageNetwork, texts: "_Texts | None", stock: TrainingImages) -> list[float]:
        s = self.settings

        def step_1(first: Tensor, second: Tensor, negatives: Tensor | None, index: Tensor) -> Tensor:
            value = nt_xent(first, second, negatives, temperature=s.temperature)
            if texts is not None:
                value = value + s.text_weight * nt_xent(first, texts(index), negatives, temperature=s.temperature)
            return value

        def step_2(first: Tensor, second: Tensor, negatives: Tensor | None, index: Tensor) -> Tensor:
            assert texts is not None
            mixed = generated(affinity(texts(index), first), first)
            return nt_xent(mixed, second, negatives, temperature=s.temperature)

        parts = [("images", step_1, s.image_epochs)]
        if texts is not None and s.generation_epochs:
            parts.append(("generation", step_2, s.generation_epochs))
        each = steps_of(stock.n, s)
        total, before = each * sum(epochs for *_, epochs in parts), 0
        losses: list[float] = []
        for name, loss, epochs in parts:
            losses += train_contrastive(
                network, loss, stock, s, epochs=epochs, seed=derive_seed(self.seed, name), beside=texts,
                progress=counted(self.progress, total, before),
            )  # fmt: skip
            before += each * epochs
        return losses

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
        """Image encoder and Gaussians (safetensors) and `detector.json` into the folder `path`."""
        save_fitted(path, "cmda", self.model_, seed=self.seed, settings=self.settings)

    @classmethod
    def load(cls, path: Path) -> "CMDA":
        """Read what `save` wrote."""
        return load_fitted(cls, CMDASettings, _shape, path)


class _Texts(nn.Module):
    """The captions' embeddings and the MLP on them: places (n,) among the normals -> vectors of length 1 (n, 128)."""

    embeddings: Tensor

    def __init__(self, embeddings: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings)
        self.head = Head(embeddings.shape[1], width, width, EMBEDDING)

    def forward(self, index: Tensor) -> Tensor:
        return self.head(self.embeddings[index])


def _shape(settings: CMDASettings) -> dict[str, Any]:
    return dict(depth=settings.depth, width=settings.width, size=settings.size, clusters=1)
