"""One vector of a picture: the means over the places of a frozen backbone's maps."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from kka.common.device import choose_device
from kka.common.progress import Progress
from kka.detectors.backbones import Backbone, load_backbone
from kka.detectors.features import cached_features, fingerprint
from kka.detectors.graph import Preprocess
from kka.protocols import Images
from kka.settings.backbone import BackboneSettings

ENLARGED, LARGEST = 2, 224
"""Small pictures are enlarged so many times, up to so many pixels a side: a backbone tells more of them."""
STRIDES = (16, 32)


class _Pooled(nn.Module):
    def __init__(self, backbone: Backbone, side: int) -> None:
        super().__init__()
        self.preprocess = Preprocess(side, mean=backbone.mean, std=backbone.std)
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> Float[Tensor, "b d"]:
        return torch.cat([maps.mean((2, 3)) for maps in self.backbone(self.preprocess(pixels))], dim=1)


def pooled_features(
    settings: BackboneSettings, *, side: int, device: str = "auto", progress: Progress | None = None
) -> Callable[[Images], Float32[np.ndarray, "_n _d"]]:
    """A function from pictures (n, h, w, 3) to (n, d), which keeps what it has computed in the cache.

    Args:
        side: Of the pictures, in pixels.

    Raises:
        UserError: weights that cannot be had or do not fit.
    """
    chosen, seen_at = choose_device(device), min(ENLARGED * side, LARGEST)
    network = _Pooled(load_backbone(settings, strides=STRIDES), seen_at).to(chosen).eval()
    identity = fingerprint(
        network, name=settings.name, padding=settings.padding, side=seen_at, strides=STRIDES, device=chosen.type
    )

    def features(images: Images) -> Float32[np.ndarray, "_n _d"]:
        done = 0

        def extract(pixels: Tensor) -> Tensor:
            nonlocal done
            done += len(pixels)
            if progress is not None:
                progress(done, len(images))
            found: Tensor = network(pixels)
            return found

        with cached_features(images, extract, chosen, identity=identity) as stored:
            rows: np.ndarray = stored[np.arange(len(stored))].numpy()
        return rows

    return features
