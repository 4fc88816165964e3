"""What a picture looks like in a few hundred plain numbers: colours by place, colours in all, directions of edges."""

import numpy as np
from jaxtyping import Float32

from kka.protocols import Images

GRID = 4
"""Places a side at which colours and edges are averaged."""
HUES, GREYS, DIRECTIONS = 12, 4, 8
CHUNK = 512


def appearance(images: Images) -> Float32[np.ndarray, "_n _d"]:
    """(n, 204): mean colour and strength of edges in 8 directions at 4 x 4 places; a histogram of hues and greys."""
    images = images[:, : images.shape[1] // GRID * GRID, : images.shape[2] // GRID * GRID]
    parts = [_appearance(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, GRID**2 * (3 + DIRECTIONS) + 2 * HUES + GREYS), np.float32)


def _appearance(images: Images) -> Float32[np.ndarray, "_n _d"]:
    x = images.astype(np.float32) / 255
    grey = x.mean(axis=3)
    down, right = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(down, right)
    turn = (np.arctan2(down, right) % np.pi / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
    edges = strength[..., None] * np.eye(DIRECTIONS, dtype=np.float32)[turn]
    return np.concatenate([_by_place(x), _by_place(edges), _hues(x)], axis=1)


def _by_place(x: Float32[np.ndarray, "_n _h _w _c"]) -> Float32[np.ndarray, "_n _d"]:
    n, h, w, c = x.shape
    places: np.ndarray = x.reshape(n, GRID, h // GRID, GRID, w // GRID, c).mean(axis=(2, 4))
    return places.reshape(n, -1)


def _hues(x: Float32[np.ndarray, "_n _h _w 3"]) -> Float32[np.ndarray, "_n _d"]:
    """Share of the pixels of each hue, weighted by how colourful they are, apart for dark and light ones; and of grey
    ones by lightness. The hue is the angle in the plane across the grey axis."""
    red, green, blue = np.moveaxis(x, 3, 0)
    across, along = (2 * red - green - blue) / 2, np.sqrt(np.float32(3)) / 2 * (green - blue)
    hue = ((np.arctan2(along, across) / (2 * np.pi)) % 1 * HUES).astype(int) % HUES
    chroma, light = np.hypot(across, along), x.max(axis=3)
    tall = np.eye(2 * HUES, dtype=np.float32)[hue + HUES * (light > 0.6)] * chroma[..., None]
    grey = np.eye(GREYS, dtype=np.float32)[np.minimum((light * GREYS).astype(int), GREYS - 1)] * (1 - chroma[..., None])
    both: np.ndarray = np.concatenate([tall, grey], axis=3).mean(axis=(1, 2))
    return both
