"""Heat maps over pictures, in one scale for all maps of a detector."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from kka.settings.fit import Fit

BILINEAR = Image.Resampling.BILINEAR
MOST_OPAQUE = 0.7
"""Of an overlay's colour, where it is hottest."""


def heat_limits(normal: Float[np.ndarray, "n h w"], threshold: float | None = None) -> tuple[float, float]:
    """Where colour begins and where it is full: at the threshold of maps, so that normals do not glow, and as far
    beyond it as it lies above the normals' median. Without one: at that median, and beyond their largest value."""
    low, high = float(np.median(normal)), float(normal.max())
    if threshold is not None:
        return threshold, threshold + max(threshold - low, 1e-6)
    return low, low + 2 * max(high - low, 1e-6)


def on_photo(heat: Float[np.ndarray, "_n _m"], fit: Fit, width: int, height: int) -> Float[np.ndarray, "h w"]:
    """A map of the square that `fit` made of a photo, back in the photo's shape: width and height are those wanted.
    What a crop cut away was not looked at, and is as cold as the map's coldest place. Of tiles it has the shape."""
    if fit == "tile":
        return resized_map(heat, (height, width))
    side, longer, shorter = len(heat), max(width, height), min(width, height)
    picture = Image.fromarray(heat.astype(np.float32))
    if fit == "pad":
        w, h = (max(1, round(length * side / longer)) for length in (width, height))
        left, top = (side - w) // 2, (side - h) // 2
        picture = picture.crop((left, top, left + w, top + h))
    if fit == "crop":
        page = Image.new("F", (width, height), float(heat.min()))
        page.paste(picture.resize((shorter, shorter), BILINEAR), ((width - shorter) // 2, (height - shorter) // 2))
        return np.asarray(page)
    return np.asarray(picture.resize((width, height), BILINEAR))


def resized_map(heat: Float[np.ndarray, "h w"], shape: tuple[int, int]) -> Float[np.ndarray, "_h _w"]:
    """A map at another size, (h, w): what is hot stays so, as each pixel is the largest value of its area."""
    rows, columns = ((np.arange(n) * side) // n for n, side in zip(shape, heat.shape, strict=True))
    if heat.shape == shape:
        return heat
    return np.maximum.reduceat(np.maximum.reduceat(heat, rows, axis=0), columns, axis=1)


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
