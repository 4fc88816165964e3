"""Tiles of a photo: where they lie, how they are cut, how their scores become the photo's, and their maps its map.

Tiles are squares of `side` pixels of the photo, spread evenly from edge to edge, so that every pixel lies in one;
neighbours have at least the share `overlap` of a side in common, so that a defect of that size lies whole in one. A
photo that is smaller than a tile is continued by its mirror image: it keeps its scale, and gets no edge but its own.
`examples/device.py`, which runs without kka, holds `starts` and `tile` word for word.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

OVERLAP = 0.25
"""Of detectors that are trained now; it stands in their cards."""
MAP_SIDE = 2048
"""The longer side of a photo's map, at most, in pixels: maps of larger photos are means over areas."""


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where the tiles of `side` pixels begin along a photo's side of `length`."""
    step = max(1, int(side * (1 - overlap)))
    number = 1 + max(0, -((side - length) // step))
    return [i * max(0, length - side) // max(1, number - 1) for i in range(number)]


def tile(image: Image.Image, x: int, y: int, side: int) -> np.ndarray:
    """uint8 (side, side, …): what lies right of x and below y, continued by its mirror image beyond the photo."""
    part = np.asarray(image.crop((x, y, min(x + side, image.width), min(y + side, image.height))))
    beyond = [(0, side - part.shape[0]), (0, side - part.shape[1])] + [(0, 0)] * (part.ndim - 2)
    return np.pad(part, beyond, mode="symmetric")


def corners(size: tuple[int, int], side: int, overlap: float) -> list[tuple[int, int]]:
    """The upper left corners (x, y) of the tiles of a photo of `size` (width, height), row by row."""
    width, height = size
    return [(x, y) for y in starts(height, side, overlap) for x in starts(width, side, overlap)]


def inner(start: int, length: int, side: int, overlap: float) -> slice:
    """Of the tile that begins at `start`, along a photo's side of `length`: what is not near an edge that has a
    neighbour. These parts cover the photo as well."""
    border = (side - max(1, int(side * (1 - overlap)))) // 2
    return slice(border if start else 0, side - border if start + side < length else side)


def photo_score(scores: Sequence[float] | Float[np.ndarray, "n"]) -> float:
    """A photo is as anomalous as its most anomalous tile; so is the verdict, where any tile has one."""
    return float(np.max(scores))


def map_size(size: tuple[int, int], most: int = MAP_SIDE) -> tuple[int, int]:
    """Of a photo of `size` (width, height): its own, or with a longer side of `most`."""
    scale = min(1.0, most / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


class PhotoMap:
    """The map of a photo, put together from those of its tiles without seams, in memory at its own size alone.

    Each pixel is a mean over the tiles that it lies in, weighed by a window, sin^2 along each side, that is nearly
    nothing at a tile's edge. Both the weights, whose sum is 1 everywhere, and the means over areas are products of one
    factor a side, so a tile's map (side, side) enters by two matrices.
    """

    def __init__(self, size: tuple[int, int], side: int, overlap: float, *, most: int = MAP_SIDE) -> None:
        width, height = map_size(size, most)
        self.found = np.zeros((height, width), np.float32)
        """(h, w) of `map_size`: the map, when all tiles have been added."""
        self._columns = _shares(size[0], width, side, overlap)
        self._rows = _shares(size[1], height, side, overlap)

    def add(self, x: int, y: int, heat: Float[np.ndarray, "side side"]) -> None:
        """The map of the tile that begins at x, y."""
        (top, rows), (left, columns) = self._rows[y], self._columns[x]
        self.found[top : top + len(rows), left : left + len(columns)] += rows @ heat @ columns.T


def _shares(length: int, target: int, side: int, overlap: float) -> dict[int, tuple[int, Float[np.ndarray, "t s"]]]:
    """Start of a tile -> the first pixel of `target` that it reaches, and what each of its `side` pixels adds to those
    from there on; over all tiles, the sum for each pixel is 1."""
    window = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    total = np.zeros(length)
    begun = starts(length, side, overlap)
    for start in begun:
        total[start : start + side] += window[: length - start]
    scale = length / target
    found = {}
    for start in begun:
        end = min(start + side, length)
        first, last = int(start / scale), min(target, int(np.ceil(end / scale)))
        edges = np.arange(first, last + 1)[:, None] * scale
        at = np.arange(start, end)[None, :]
        area = (np.minimum(edges[1:], at + 1) - np.maximum(edges[:-1], at)).clip(0) / scale
        shares = np.zeros((last - first, side), np.float32)
        shares[:, : end - start] = area * window[: end - start] / total[start:end]
        found[start] = (first, shares)
    return found
