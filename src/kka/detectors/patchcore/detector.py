"""PatchCore (Roth et al. 2022, https://arxiv.org/abs/2106.08265), with a way in for image-level anomalies.

A frozen backbone, locally aware patch features (`kka.detectors.patches`), a memory bank of normal ones that covers them
all (`coreset`), and the distance to the nearest (`network`). Images are not augmented, so features are computed once
(`kka.detectors.features`); nothing is trained.
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
from kka.detectors.inputs import checked_with_masks
from kka.detectors.patch_images import features_computed_once, images_at_once, patch_cover, score_maps
from kka.detectors.patchcore.network import Bank
from kka.detectors.patchcore.settings import PatchCoreSettings
from kka.detectors.patchcore.training import fill_bank
from kka.detectors.patches import Extractor, build_extractor
from kka.detectors.saving import device_here, load_into, read_card, read_tensors, settings_from, write
from kka.protocols import Images, Masks, Scores
from kka.settings.backbone import BackboneSettings

_DISTANCES = 2**24
"""Between a batch's patches and the bank's, at once."""


class PatchCore:
    """The distance of an image's patches to the nearest ones that normals have. Score: higher = more anomalous.

    `fit` sets `graph_`.

    Example:
        >>> detector = build_detector("patchcore", preset="cpu", backbone=BackboneSettings(name="mobilenetv2_100"))
        >>> detector.fit(normals)
        >>> detector.score(images)  # (n,), higher = more anomalous
    """

    SETTINGS = PatchCoreSettings
    PRESETS: ClassVar = {
        "published": PatchCoreSettings(),
        "small": PatchCoreSettings(
            size=128, crop=128, strides=(16, 32), dimension=384, share=1, most=2000,
            candidates=60_000, projection=64, neighbours=0, score_top=0.1,
        ),
        "cpu": PatchCoreSettings(
            size=256, crop=256, strides=(16, 32), dimension=384, share=1, most=2000,
            candidates=60_000, projection=64, neighbours=0, score_top=0.03,
        ),
    }  # fmt: skip
    takes = frozenset({"masks"})

    def __init__(
        self, *, settings: PatchCoreSettings | None = None, backbone: BackboneSettings | None = None, seed: int = 0,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings or PatchCoreSettings()
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

    def fit(self, normals: Images, anomalies: Images | None = None, *, masks: Masks | None = None) -> "PatchCore":
        """Compute the features once, or find them in the cache, and choose what the bank keeps.

        `masks`: where each anomaly is one; the rest of it is not remembered.
        """
        normals, anomalies, masks = checked_with_masks(normals, anomalies, masks)
        device = choose_device(self.settings.device)
        with features_computed_once(self.settings, self.backbone, seed=self.seed, device=device) as (extract, stored):
            of_normals = stored(normals)
            cover = None if masks is None else patch_cover(masks, extract.prepare, patches=of_normals.shape[1])
            bank = fill_bank(
                of_normals, stored(anomalies) if anomalies is not None else None, settings=self.settings,
                seed=self.seed, device=device, cover=cover, progress=self.progress,
            )  # fmt: skip
        self.graph_ = _Graph(extract, bank).eval()
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
        """The bank, the backbone's weights, and `detector.json` into the folder `path`."""
        write(
            path, "patchcore", self.graph_.state_dict(), seed=self.seed, settings=self.settings,
            backbone=self.backbone, bank=self.graph_.bank.counts,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "PatchCore":
        """Read what `save` wrote."""
        card = read_card(path)
        settings = settings_from(PatchCoreSettings, card["settings"])
        detector = cls(settings=settings, backbone=settings_from(BackboneSettings, card["backbone"]), seed=card["seed"])
        backbone = load_backbone(detector.backbone, strides=settings.strides, fetch=False)
        m, b, a = card["bank"]
        bank = Bank(settings.dimension, m, b, a, settings)
        graph = _Graph(build_extractor(backbone, settings), bank)
        load_into(graph, read_tensors(path), path)
        detector.graph_ = graph.to(device_here(settings.device)).to(memory_format=torch.channels_last).eval()
        return detector

    @property
    def _device(self) -> torch.device:
        return next(self.graph_.parameters()).device

    @property
    def _batch(self) -> int:
        crop, bank = self.settings.crop, self.graph_.bank
        patches = (crop // self.settings.strides[0] + 1) ** 2
        remembered = len(bank.normals) + len(bank.anomalies)
        return max(1, min(images_at_once(self.settings), _DISTANCES // (patches * remembered)))


class _Graph(nn.Module):
    """Pixels (b, h, w, 3) -> scores (b,)."""

    def __init__(self, extract: Extractor, bank: Bank) -> None:
        super().__init__()
        self.extract, self.bank = extract, bank

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b"]:
        return self.bank.score(self.extract(pixels))

    def maps(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b g g"]:
        """How anomalous each patch is, on their grid."""
        answers = self.bank.answers(self.extract(pixels))
        side = round(answers.shape[1] ** 0.5)
        return answers.unflatten(1, (side, side))
