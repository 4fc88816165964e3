"""PatchCore's patch features as they are described, by loops over NumPy arrays: unfold, pool, resize, stack, pool."""

import numpy as np


def adaptive_pool(vector: np.ndarray, bins: int) -> np.ndarray:
    """Bin i is the mean of the numbers from floor(i n / bins) up to ceil((i + 1) n / bins)."""
    n = len(vector)
    return np.array([vector[i * n // bins : -(-(i + 1) * n // bins)].mean() for i in range(bins)])


def neighbourhoods(feature_map: np.ndarray) -> np.ndarray:
    """(c, h, w) -> (9 c, h, w): each position's 3 x 3 window in the order (channel, row, column), zeros outside."""
    c, h, w = feature_map.shape
    result = np.zeros((9 * c, h, w))
    for y in range(h):
        for x in range(w):
            values = []
            for channel in range(c):
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        inside = 0 <= y + dy < h and 0 <= x + dx < w
                        values.append(feature_map[channel, y + dy, x + dx] if inside else 0.0)
            result[:, y, x] = values
    return result


def bilinear(feature_map: np.ndarray, height: int, width: int) -> np.ndarray:
    """(c, h, w) -> (c, height, width), pixel centres at half-integers, the border's value beyond it."""
    _, h, w = feature_map.shape
    result = np.zeros((len(feature_map), height, width))
    for y in range(height):
        for x in range(width):
            sy = max(0.0, (y + 0.5) * h / height - 0.5)
            sx = max(0.0, (x + 0.5) * w / width - 0.5)
            y0, x0 = min(int(sy), h - 1), min(int(sx), w - 1)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = feature_map[:, y0, x0] * (1 - (sx - x0)) + feature_map[:, y0, x1] * (sx - x0)
            bottom = feature_map[:, y1, x0] * (1 - (sx - x0)) + feature_map[:, y1, x1] * (sx - x0)
            result[:, y, x] = top * (1 - (sy - y0)) + bottom * (sy - y0)
    return result


def patch_features(maps: list[np.ndarray], dimension: int) -> np.ndarray:
    """Maps (c_l, h_l, w_l) of one image, the finest first -> (dimension, h_1, w_1)."""
    _, height, width = maps[0].shape
    layers = []
    for feature_map in maps:
        windows = bilinear(neighbourhoods(feature_map), height, width)
        layers.append(windows)
    result = np.zeros((dimension, height, width))
    for y in range(height):
        for x in range(width):
            stacked = np.concatenate([adaptive_pool(layer[:, y, x], dimension) for layer in layers])
            result[:, y, x] = adaptive_pool(stacked, dimension)
    return result
