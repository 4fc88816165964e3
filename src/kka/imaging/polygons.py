"""A mask as polygons: outlines along the edges of its pixels, which hold what it holds and no more."""

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Bool

Polygon = list[float]
"""x, y, x, y, … in pixels; the upper left corner of the picture is 0, 0."""


def polygons(mask: Bool[np.ndarray, "_h _w"]) -> list[Polygon]:
    """The outlines of the parts of a mask, by OpenCV's `findContours`. A part with a hole is cut in two through it, as
    a polygon has none."""
    return [_along_edges(contour) for part in _without_holes(mask) for contour in _contours(part)]


def _contours(mask: np.ndarray) -> list[np.ndarray]:
    """The outer outline of each part, on a grid twice as fine: of a line one pixel wide there would else be none."""
    fine = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    found, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour[:, 0] for contour in found]


def _along_edges(contour: np.ndarray) -> Polygon:
    """Pixel x of the mask is 2x and 2x + 1 on the fine grid: its edges are x and x + 1."""
    flat: Polygon = ((contour + 1) // 2).astype(float).ravel().tolist()
    return flat


def _without_holes(mask: np.ndarray) -> Iterator[np.ndarray]:
    """The connected parts of a mask, cut until none has a hole."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    for label in range(1, count):
        part = labels == label
        # what is connected to the outside, with a border around: holes are what is left
        outside = np.pad(~part, 1, constant_values=True).astype(np.uint8)
        _, around = cv2.connectedComponents(outside, connectivity=4)
        holes = np.argwhere((around != around[0, 0]) & (outside > 0)) - 1
        if not len(holes):
            yield part
            continue
        row = int(holes[len(holes) // 2][0])
        upper, lower = part.copy(), part.copy()
        upper[row + 1 :], lower[: row + 1] = False, False
        yield from _without_holes(upper)
        yield from _without_holes(lower)
