"""From images to the features of their patches, computed once, and from what a detector says of patches to maps."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from kka.detectors.backbones import load_backbone
from kka.detectors.features import Features, cached_features, fingerprint
from kka.detectors.graph import Preprocess, covered, in_batches
from kka.detectors.heatmaps import photo_maps
from kka.detectors.patches import Extractor, build_extractor
from kka.protocols import Images, Masks
from kka.settings.backbone import BackboneSettings
from kka.settings.patches import CropSettings, PatchSettings

_PIXELS = 64 * 128**2
"""Of a batch that goes through the backbone at once."""


def images_at_once(settings: CropSettings) -> int:
    """Of a batch that goes through the backbone."""
    return max(1, min(64, _PIXELS // settings.crop**2))


@contextmanager
def features_computed_once(
    settings: PatchSettings, backbone: BackboneSettings, *, seed: int, device: torch.device
) -> Iterator[tuple[Extractor, Callable[[Images], Features]]]:
    """The extractor, and what gives the features of images (n, p, d), computed or from the cache; they lie in files
    that are open while the block runs."""
    extract = build_extractor(load_backbone(backbone, strides=settings.strides, seed=seed), settings)
    extract = extract.to(device).to(memory_format=torch.channels_last).eval()
    # Weights alone would not do: a backbone may hold the same ones whichever of its maps are taken.
    identity = fingerprint(
        extract, size=settings.size, crop=settings.crop, strides=settings.strides, dimension=settings.dimension,
        name=backbone.name, padding=backbone.padding, device=device.type,
    )  # fmt: skip
    with ExitStack() as files:

        def stored(images: Images) -> Features:
            found = cached_features(images, extract, device, identity=identity, batch=images_at_once(settings))
            return files.enter_context(found)

        yield extract, stored


def score_maps(
    maps: Callable[[Tensor], Tensor], images: Images, settings: CropSettings, device: torch.device, *, batch: int
) -> Float32[np.ndarray, "n h w"]:
    """What `maps` says of images on the grid of their patches, at the images' own size. Outside of the crop its
    border's values go on."""

    def at_their_size(pixels: Tensor) -> Tensor:
        photo = (pixels.shape[1], pixels.shape[2])
        return photo_maps(maps(pixels), photo, size=settings.size, crop=settings.crop)

    found = in_batches(at_their_size, images, device, batch=batch)
    return found if len(images) else np.zeros(images.shape[:3], np.float32)


def patch_cover(masks: Masks, prepare: Preprocess, *, patches: int) -> Float[Tensor, "m p"]:
    """What share of each patch, in a square grid of them over what `prepare` gives, is anomalous."""
    side = round(patches**0.5)
    parts = torch.from_numpy(masks).split(64)
    return torch.cat([covered(part, prepare, (side, side)).flatten(1) for part in parts])
