"""SimpleNet (Liu et al. 2023, https://arxiv.org/abs/2303.15140), with a way in for image-level anomalies.

Paper -> code: the feature extractor F = `load_backbone` and `PatchFeatures` (frozen), G_theta = `Heads.adaptor`,
D_psi = `Heads.discriminator`, epsilon ~ N(0, sigma^2) = `noise`, th+ = -th- = `margin`. The backbone is frozen and
images are not augmented, so features are computed once (`kka.detectors.features`).
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from kka.common.device import choose_device
from kka.common.progress import Progress
from kka.detectors.backbones import load_backbone
from kka.detectors.graph import in_batches
from kka.detectors.inputs import checked_with_masks, small_ones
from kka.detectors.patch_images import features_computed_once, images_at_once, patch_cover, score_maps
from kka.detectors.patches import Extractor, build_extractor
from kka.detectors.saving import device_here, load_into, read_card, read_tensors, settings_from, write
from kka.detectors.simplenet.network import Heads
from kka.detectors.simplenet.settings import SimpleNetSettings
from kka.detectors.simplenet.training import train_heads
from kka.protocols import Images, Masks, Scores
from kka.settings.backbone import BackboneSettings


class SimpleNet:
    """Patches of a frozen backbone, judged by a small discriminator. Score: higher = more anomalous.

    `fit` sets `graph_`, `losses_` (the mean of each epoch) and `noise_draws_`: how many normals had noise added to
    their features, each pass anew.

    Example:
        >>> detector = build_detector("simplenet", preset="cpu", backbone=BackboneSettings(name="mobilenetv2_100"))
        >>> detector.fit(normals, anomalies)
        >>> detector.score(images)  # (n,), higher = more anomalous
    """

    SETTINGS = SimpleNetSettings
    PRESETS: ClassVar = {
        "published": SimpleNetSettings(),
        "small": SimpleNetSettings(
            size=128, crop=128, strides=(16, 32), dimension=384, standardise=True, hidden=256, noise=1.0,
            score_top=0.25, epochs=40, batch_size=16, learning_rate=1e-3,
        ),
        "cpu": SimpleNetSettings(
            size=128, crop=128, strides=(16, 32), dimension=256, standardise=True, hidden=128, noise=1.0,
            score_top=0.25, epochs=40, batch_size=32, learning_rate=2e-3,
        ),
    }  # fmt: skip
    takes = frozenset({"masks"})

    def __init__(
        self, *, settings: SimpleNetSettings | None = None, backbone: BackboneSettings | None = None, seed: int = 0,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings or SimpleNetSettings()
        self.backbone = backbone or BackboneSettings()
        self.seed = seed
        self.progress = progress

    @property
    def input_size(self) -> int:
        """Larger images are of no use to it, in pixels a side."""
        return self.settings.size

    def check_weights(self) -> None:
        """Load the backbone and let it go: what is wrong with the weights shows before hours of work."""
        load_backbone(self.backbone, strides=self.settings.strides)

    def fit(self, normals: Images, anomalies: Images | None = None, *, masks: Masks | None = None) -> "SimpleNet":
        """Compute the features once, or find them in the cache, and train on them to the last epoch.

        `masks`: where each anomaly is one; the rest of it teaches nothing.
        """
        normals, anomalies, masks = checked_with_masks(normals, anomalies, masks)
        if anomalies is not None and masks is not None:
            anomalies, masks = small_ones(anomalies, masks, self.settings.mask_most)
        device = choose_device(self.settings.device)
        with features_computed_once(self.settings, self.backbone, seed=self.seed, device=device) as (extract, stored):
            of_normals = stored(normals)
            heads, self.losses_ = train_heads(
                of_normals, stored(anomalies) if anomalies is not None else None, settings=self.settings,
                seed=self.seed, device=device, progress=self.progress,
                cover=None if masks is None else patch_cover(masks, extract.prepare, patches=of_normals.shape[1]),
            )  # fmt: skip
        self.graph_ = _Graph(extract, heads, self.settings).eval()
        self.noise_draws_ = self.settings.epochs * len(normals)
        return self

    def score(self, images: Images) -> Scores:
        """(n,): higher = more anomalous."""
        return in_batches(self.graph_, images, self._device, batch=self._batch)

    def score_map(self, images: Images) -> Float32[np.ndarray, "n h w"]:
        """(n, h, w) at the images' own size: higher = more anomalous. Outside the crop its border's values go on."""
        return score_maps(self.graph_.maps, images, self.settings, self._device, batch=self._batch)

    def graph(self) -> nn.Module:
        """From pixels (b, h, w, 3) to the scores (b,), for export."""
        return self.graph_

    def save(self, path: Path) -> None:
        """All weights, the backbone's too, and `detector.json` into the folder `path`."""
        write(
            path, "simplenet", self.graph_.state_dict(), seed=self.seed, settings=self.settings, backbone=self.backbone
        )

    @classmethod
    def load(cls, path: Path) -> "SimpleNet":
        """Read what `save` wrote."""
        card = read_card(path)
        settings = settings_from(SimpleNetSettings, card["settings"])
        detector = cls(settings=settings, backbone=settings_from(BackboneSettings, card["backbone"]), seed=card["seed"])
        backbone = load_backbone(detector.backbone, strides=settings.strides, fetch=False)
        extract = build_extractor(backbone, settings)
        graph = _Graph(extract, Heads(settings.dimension, settings.hidden), settings)
        load_into(graph, read_tensors(path), path)
        graph = graph.to(device_here(settings.device)).to(memory_format=torch.channels_last)
        detector.graph_ = graph.eval()
        return detector

    @property
    def _device(self) -> torch.device:
        return next(self.graph_.parameters()).device

    @property
    def _batch(self) -> int:
        return images_at_once(self.settings)


class _Graph(nn.Module):
    """Pixels (b, h, w, 3) -> scores (b,)."""

    def __init__(self, extract: Extractor, heads: Heads, settings: SimpleNetSettings) -> None:
        super().__init__()
        self.extract, self.heads = extract, heads
        self.share = settings.score_top

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b"]:
        return self.heads.score(self.extract(pixels), self.share)

    def maps(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b g g"]:
        """-D(q) on the grid of the patches."""
        answers = self.heads.answers(self.heads.adapt(self.extract(pixels)))
        side = round(answers.shape[1] ** 0.5)
        return -answers.unflatten(1, (side, side))
