"""Altered normals, to look at: the normal, the picture, and where it was altered."""

import numpy as np
from PIL import Image
from scipy import ndimage

OUTLINE = (255, 0, 200)
"""A colour that no photo of a part has much of."""


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(h, w, 3) with a line one pixel wide around what the mask (h, w) marks, on the outside of it."""
    marked = mask > 0
    line = ndimage.binary_dilation(marked, iterations=1) & ~marked
    shown: np.ndarray = image.copy()
    shown[line] = OUTLINE
    return shown


def views(normal: np.ndarray | None, image: np.ndarray, mask: np.ndarray | None) -> list[Image.Image]:
    """The picture; of an altered normal that one first, and last where it was altered."""
    shown = [image] if mask is None or normal is None else [normal, image, outlined(image, mask)]
    return [Image.fromarray(pixels) for pixels in shown]
