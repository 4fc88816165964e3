"""A model of anomalib as a detector: `anomalib:patchcore`, and every other name of `kka.detectors.anomalib.models`.

anomalib's own Lightning module is trained by Lightning on images in memory; kka prepares the images, as anomalib's
default for the model says, sets the threshold, and keeps the weights. Scores and maps are the model's own, without
anomalib's normalisation.
"""

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from kka.common.device import choose_device
from kka.common.numbers import DIVERGED, require_finite
from kka.common.progress import Progress
from kka.detectors.anomalib.models import PREFIX, model_named
from kka.detectors.anomalib.network import Graph, arguments_of, build, make_room, prepare_of, version
from kka.detectors.anomalib.settings import AnomalibSettings
from kka.detectors.anomalib.training import Batches, quiet_and_seeded, train
from kka.detectors.graph import in_batches
from kka.detectors.heatmaps import photo_maps
from kka.detectors.inputs import checked_with_masks
from kka.detectors.saving import device_here, load_into, read_card, read_tensors, settings_from, write
from kka.protocols import Images, Masks, Scores
from kka.seeding import derive_seed
from kka.settings.backbone import BackboneSettings

_PIXELS = 32 * 256**2
"""Of a batch that is scored at once."""


class Anomalib:
    """A model of anomalib. Score: higher = more anomalous.

    `fit` sets `graph_`, and `losses_` where the model learns by gradients.

    Example:
        >>> detector = build_detector("anomalib:padim", overrides=["size=128", "n_features=50"])
        >>> detector.fit(normals)
        >>> detector.score(images)  # (n,), higher = more anomalous
    """

    SETTINGS = AnomalibSettings
    PRESETS: ClassVar = {
        "published": AnomalibSettings(),
        "small": AnomalibSettings(size=128, epochs=10),
        "cpu": AnomalibSettings(size=256, epochs=10),
    }
    def __init__(
        self, *, model: str, settings: AnomalibSettings | None = None, backbone: BackboneSettings | None = None,
        seed: int = 0, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.settings = settings or AnomalibSettings()
        self.backbone = None if backbone == BackboneSettings() else backbone
        self.seed = seed
        self.progress = progress
        self._spec = model_named(model)
        self._arguments = arguments_of(self._spec, self.settings.options, of=self.name)
        if self._spec.maps:
            self.score_map = self._score_map

    @property
    def name(self) -> str:
        """As the command line says it."""
        return f"{PREFIX}:{self.model}"

    @property
    def version(self) -> str:
        """anomalib's."""
        return version()

    @property
    def uses_anomalies(self) -> bool:
        """Whether `fit` learns from anomalies."""
        needed = self._spec.with_anomalies.items()
        return self._spec.anomalies and all(self._arguments.get(name, value) == value for name, value in needed)

    @property
    def takes(self) -> frozenset[str]:
        """What `fit` takes beside anomalies."""
        return frozenset({"masks"}) if self.uses_anomalies else frozenset()

    @property
    def input_size(self) -> int:
        """Larger images are of no use to it, in pixels a side."""
        return prepare_of(self._spec, self.settings.size, None).size

    def check_weights(self) -> None:
        """Build the model and let it go: what is wrong with weights and arguments shows before hours of work."""
        self._built()

    def fit(self, normals: Images, anomalies: Images | None = None, *, masks: Masks | None = None) -> "Anomalib":
        """Train to the last epoch, or fill the model's bank.

        `masks`: where each anomaly is one. A model that learns from normals alone says that anomalies are not used.
        """
        if anomalies is not None and not self.uses_anomalies:
            checked_with_masks(normals, None, None)
            warnings.warn(f"{self.name} learns from normals alone: the {len(anomalies)} anomalies are not used",
                          stacklevel=2)  # fmt: skip
            anomalies = masks = None
        normals, anomalies, masks = checked_with_masks(normals, anomalies, masks)
        settings, spec = self.settings, self._spec
        device = choose_device(settings.device)
        module = self._built(with_anomalies=anomalies is not None)
        prepare = prepare_of(spec, settings.size, self.backbone)
        batches = Batches(
            normals, anomalies, masks, prepare, size=settings.batch_size or spec.batch_size,
            seed=derive_seed(self.seed, "batches"),
        )  # fmt: skip
        with quiet_and_seeded(derive_seed(self.seed, "training")):
            losses = train(
                module, spec, batches, epochs=settings.epochs, device=device, of=self.name, progress=self.progress
            )
        if losses:
            self.losses_ = losses
            require_finite(np.array(losses), f"{self.name}: the losses of its epochs", DIVERGED)
        self.graph_ = Graph(prepare, module.model).to(device).eval()
        self._with_anomalies = anomalies is not None
        return self

    def score(self, images: Images) -> Scores:
        """(n,): higher = more anomalous."""
        with torch.no_grad():
            return in_batches(self.graph_, images, self._device, batch=self._batch)

    def _score_map(self, images: Images) -> Float32[np.ndarray, "n h w"]:
        """(n, h, w) at the images' own size: higher = more anomalous. Outside the crop its border's values go on."""

        def at_their_size(pixels: Tensor) -> Tensor:
            photo, prepare = (pixels.shape[1], pixels.shape[2]), self.graph_.prepare
            return photo_maps(self.graph_.maps(pixels), photo, size=prepare.size, crop=prepare.crop, sigma=0.0)

        if not len(images):
            return np.zeros(images.shape[:3], np.float32)
        return in_batches(at_their_size, images, self._device, batch=self._batch)

    def graph(self) -> nn.Module:
        """From pixels (b, h, w, 3) to the scores (b,), for export."""
        return self.graph_

    def save(self, path: Path) -> None:
        """All weights, the backbone's too, and `detector.json` into the folder `path`."""
        write(
            path, self.name, self.graph_.state_dict(), seed=self.seed, settings=self.settings, backbone=self.backbone,
            model=self.model, with_anomalies=self._with_anomalies, anomalib=version(),
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "Anomalib":
        """Read what `save` wrote."""
        card = read_card(path)
        stored = card["backbone"]
        detector = cls(
            model=card["model"], settings=settings_from(AnomalibSettings, card["settings"]), seed=card["seed"],
            backbone=None if stored is None else settings_from(BackboneSettings, stored),
        )  # fmt: skip
        detector._with_anomalies = card["with_anomalies"]
        module = detector._built(with_anomalies=card["with_anomalies"], fetch=False)
        graph = Graph(prepare_of(detector._spec, detector.settings.size, detector.backbone), module.model)
        tensors = read_tensors(path)
        make_room(graph, tensors)
        load_into(graph, tensors, path)
        detector.graph_ = graph.to(device_here(detector.settings.device)).eval()
        return detector

    def _built(self, *, with_anomalies: bool = False, fetch: bool = True) -> Any:
        arguments = {**(self._spec.with_anomalies if with_anomalies else {}), **self._arguments}
        prepare = prepare_of(self._spec, self.settings.size, self.backbone)
        with quiet_and_seeded(derive_seed(self.seed, "model")):
            return build(self._spec, arguments, prepare, self.backbone, of=self.name, fetch=fetch)

    @property
    def _device(self) -> torch.device:
        return self.graph_.prepare.mean.device

    @property
    def _batch(self) -> int:
        return max(1, min(64, _PIXELS // self.graph_.prepare.crop**2))
