"""Heat maps over pictures, in one scale for all maps of a detector."""

import numpy as np
from jaxtyping import Float, UInt8

MOST_OPAQUE = 0.7
"""Of an overlay's colour, where it is hottest."""


def heat_limits(normal: Float[np.ndarray, "n h w"], threshold: float | None = None) -> tuple[float, float]:
    """Where colour begins and where it is full: at the threshold of maps, so that normals do not glow, and as far
    beyond it as it lies above the normals' median. Without one: at that median, and beyond their largest value."""
    low, high = float(np.median(normal)), float(normal.max())
    if threshold is not None:
        return threshold, threshold + max(threshold - low, 1e-6)
    return low, low + 2 * max(high - low, 1e-6)


def overlay(
    image: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"], limits: tuple[float, float]
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in grey, under colour from yellow to dark red where it is anomalous."""
    from matplotlib import colormaps

    strength = np.clip((heat - limits[0]) / (limits[1] - limits[0]), 0, 1)[..., None]
    colour = 255 * colormaps["YlOrRd"](strength[..., 0])[..., :3]
    grey = image.mean(axis=2, keepdims=True)
    alpha = MOST_OPAQUE * np.sqrt(strength)
    return np.clip(np.round((1 - alpha) * grey + alpha * colour), 0, 255).astype(np.uint8)
