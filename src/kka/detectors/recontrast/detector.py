"""The ReContrast detector (Guo et al. 2023, arXiv:2306.02602), with a way in for anomalies.

Normals are reconstructed across two encoders; anomalies, where there are any, must be reconstructed badly: a margin on
their discrepancy (ours; `docs/deviations.md`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from kka.common.device import choose_device, seeded
from kka.common.progress import Progress
from kka.detectors.backbones import load_backbone
from kka.detectors.graph import Preprocess, in_batches
from kka.detectors.heatmaps import smooth_maps
from kka.detectors.inputs import checked_with_masks
from kka.detectors.recontrast.network import ReContrastNet
from kka.detectors.recontrast.settings import STRIDES, ReContrastSettings
from kka.detectors.recontrast.training import train_recontrast
from kka.detectors.saving import device_here, load_into, read_card, read_tensors, settings_from, write
from kka.protocols import Images, Masks, Scores
from kka.seeding import derive_seed
from kka.settings.backbone import RANDOM, BackboneSettings


class ReContrast:
    """Two encoders, a bottleneck and a decoder. Score: the smoothed sum of six distance maps, pooled; higher = more
    anomalous.

    With random weights ("no pre-training") the encoders' BatchNorm statistics are first taken from the normals: those
    of an untrained network (0 and 1) describe nothing. `fit` sets `graph_` and `losses_` (of each iteration's normals).

    Example:
        >>> detector = build_detector("recontrast", preset="cpu", backbone=BackboneSettings(name="mobilenetv2_100"))
        >>> detector.fit(normals, anomalies)
        >>> detector.score(images)  # (n,), higher = more anomalous
    """

    SETTINGS = ReContrastSettings
    PRESETS: ClassVar = {
        "published": ReContrastSettings(),
        "small": ReContrastSettings(size=128, iterations=500, pooling="mean"),
        "cpu": ReContrastSettings(size=64, iterations=200, pooling="mean"),
    }
    takes = frozenset({"masks"})

    def __init__(
        self, *, settings: ReContrastSettings | None = None, backbone: BackboneSettings | None = None, seed: int = 0,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings or ReContrastSettings()
        self.backbone = backbone or BackboneSettings()
        self.seed = seed
        self.progress = progress
        self.on_epoch: Callable[[int], None] | None = None
        """Called after each pass over the normals, with `score` ready for use: for figures of convergence alone."""

    @property
    def input_size(self) -> int:
        """Larger images are of no use to it, in pixels a side."""
        return self.settings.size

    def check_weights(self) -> None:
        """Load the backbone and let it go: what is wrong with the weights shows before hours of work."""
        load_backbone(self.backbone, strides=STRIDES)

    def fit(self, normals: Images, anomalies: Images | None = None, *, masks: Masks | None = None) -> "ReContrast":
        """Train to the last iteration. `masks`: where each anomaly is one; the rest of it is not judged."""
        normals, anomalies, masks = checked_with_masks(normals, anomalies, masks)
        device, untrained = choose_device(self.settings.device), self.backbone.weights == RANDOM
        encoder = load_backbone(self.backbone, strides=STRIDES, seed=self.seed)
        network = seeded(lambda: ReContrastNet(encoder), device, seed=derive_seed(self.seed, "network"))
        self.graph_ = _Graph(network, self.settings).to(device)
        self.losses_ = train_recontrast(
            network, self.graph_.prepare, normals, anomalies, self.settings, seed=self.seed,
            untrained=untrained, masks=masks, progress=self.progress, on_epoch=self.on_epoch,
        )  # fmt: skip
        self.graph_.eval()
        return self

    def score(self, images: Images) -> Scores:
        """(n,): higher = more anomalous."""
        return in_batches(self.graph_, images, self._device)

    def score_map(self, images: Images) -> Float32[np.ndarray, "n h w"]:
        """(n, h, w) at the images' own size: higher = more anomalous."""

        def maps(pixels: Tensor) -> Tensor:
            found = self.graph_.maps(pixels)[:, None]
            size = (pixels.shape[1], pixels.shape[2])
            return F.interpolate(found, size=size, mode="bilinear", antialias=True, align_corners=False)[:, 0]

        return in_batches(maps, images, self._device) if len(images) else np.zeros(images.shape[:3], np.float32)

    def graph(self) -> nn.Module:
        """From pixels (b, h, w, 3) to the scores (b,), for export."""
        return self.graph_

    def save(self, path: Path) -> None:
        """All weights, both encoders', and `detector.json` into the folder `path`."""
        write(
            path, "recontrast", self.graph_.state_dict(), seed=self.seed, settings=self.settings, backbone=self.backbone
        )

    @classmethod
    def load(cls, path: Path) -> "ReContrast":
        """Read what `save` wrote."""
        card = read_card(path)
        settings = settings_from(ReContrastSettings, card["settings"])
        detector = cls(settings=settings, backbone=settings_from(BackboneSettings, card["backbone"]), seed=card["seed"])
        graph = _Graph(ReContrastNet(load_backbone(detector.backbone, strides=STRIDES, fetch=False)), settings)
        load_into(graph, read_tensors(path), path)
        detector.graph_ = graph.to(device_here(settings.device)).to(memory_format=torch.channels_last).eval()
        return detector

    @property
    def _device(self) -> torch.device:
        return next(self.graph_.parameters()).device


class _Graph(nn.Module):
    """Pixels (b, h, w, 3) -> scores (b,)."""

    def __init__(self, network: ReContrastNet, settings: ReContrastSettings) -> None:
        super().__init__()
        encoder = network.encoder
        self.prepare = Preprocess(settings.size, mean=encoder.mean, std=encoder.std)
        self.network, self.pooling, self.sigma = network, settings.pooling, settings.sigma

    def maps(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b s s"]:
        grid = self.network.point_map(self.prepare(pixels))
        return smooth_maps(grid, (grid.shape[1], grid.shape[2]), self.sigma)

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b"]:
        flat = self.maps(pixels).flatten(1)
        return flat.amax(dim=1) if self.pooling == "max" else flat.mean(dim=1)
