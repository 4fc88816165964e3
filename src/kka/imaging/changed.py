"""Where a redrawn photo was changed, and how what was drawn is put into the photo. Pure functions of pictures.

A mask is 0 where the photo stays as it is, to the last bit, and up to 255 the more of what was drawn is seen.
"""

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

MARGIN = 8.0
"""Grey levels by which a change must exceed the model's own: what is less does not show beside its reconstruction."""
Photo = UInt8[np.ndarray, "h w 3"]
Mask = UInt8[np.ndarray, "h w"]


def feathered(region: Bool[np.ndarray, "h w"], room: int) -> Mask:
    """The region, all of it at 255, with an edge of `room` pixels around it that falls off to nothing.

    Around the region as far as `room` (Euclidean) a pixel has 255 × (its distance to the outside) / room.
    """
    if not region.any():
        return np.zeros(region.shape, np.uint8)
    wide = _distance(~region) <= room
    return np.ceil(255 * np.minimum(_distance(wide) / max(room, 1), 1)).astype(np.uint8)


def composite(normal: Photo, drawn: Photo, mask: Mask) -> Photo:
    """What was drawn, put into the normal by the mask: (mask × drawn + (255 − mask) × normal) / 255, rounded."""
    weight = mask[..., None].astype(np.int32)
    both = weight * drawn + (255 - weight) * normal
    return ((both + 127) // 255).astype(np.uint8)


def changed(normal: Photo, drawn: Photo, own: Photo, reach: int) -> Bool[np.ndarray, "h w"]:
    """Where `drawn` is farther from the normal than the model's reconstruction `own` is, anywhere near, and visibly.

    Both differences are those of the channel that differs most, on the mean of 3 × 3 pixels; the model's own is the
    largest within `reach` pixels to each side, as its edges lie a little off; between them lies `MARGIN`.
    """
    apart, usual = (_difference(normal, other) for other in (drawn, own))
    return apart > ndimage.maximum_filter(usual, 2 * reach + 1, mode="nearest") + MARGIN


def cleaned(region: Bool[np.ndarray, "h w"], least: int) -> Bool[np.ndarray, "h w"]:
    """Without holes of a pixel, and without spots of fewer than `least` pixels, corners touching."""
    whole = region | ndimage.binary_closing(region, np.ones((3, 3), bool))
    spots, count = ndimage.label(whole, np.ones((3, 3), bool))
    sizes = ndimage.sum_labels(whole, spots, np.arange(count + 1))
    kept: Bool[np.ndarray, "h w"] = (sizes >= least)[spots] & whole
    return kept


def _difference(normal: Photo, other: Photo) -> np.ndarray:
    apart = np.abs(normal.astype(np.float64) - other).max(axis=2)
    return ndimage.uniform_filter(apart, 3, mode="nearest")


def _distance(region: np.ndarray) -> np.ndarray:
    """Of each pixel of the region to the nearest outside of it; where there is no outside, far away."""
    if region.all():
        return np.full(region.shape, np.inf)
    found: np.ndarray = ndimage.distance_transform_edt(region)
    return found
