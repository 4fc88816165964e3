"""The map of a photo from those of its tiles, pixel by pixel: a weighed mean at full size, then means over areas."""

import math

import numpy as np


def whole(tiles: dict[tuple[int, int], np.ndarray], width: int, height: int, side: int) -> np.ndarray:
    """(height, width): at each pixel the mean of the tiles (x, y) -> (side, side) that it lies in, weighed by sin^2
    along both sides."""
    found = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            total = weights = 0.0
            for (left, top), values in tiles.items():
                if 0 <= x - left < side and 0 <= y - top < side:
                    weight = math.sin(math.pi * (x - left + 0.5) / side) ** 2
                    weight *= math.sin(math.pi * (y - top + 0.5) / side) ** 2
                    total += weight * values[y - top, x - left]
                    weights += weight
            found[y, x] = total / weights
    return found


def smaller(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width): the mean over each area, pixels at its edge counted by the part of them that lies in it."""
    found = np.zeros((height, width))
    tall, wide = values.shape[0] / height, values.shape[1] / width
    for i in range(height):
        for j in range(width):
            total = 0.0
            for y in range(math.floor(i * tall), min(values.shape[0], math.ceil((i + 1) * tall))):
                for x in range(math.floor(j * wide), min(values.shape[1], math.ceil((j + 1) * wide))):
                    in_rows = max(0.0, min((i + 1) * tall, y + 1) - max(i * tall, y))
                    in_columns = max(0.0, min((j + 1) * wide, x + 1) - max(j * wide, x))
                    total += in_rows * in_columns * values[y, x]
            found[i, j] = total / (tall * wide)
    return found
