"""One augmented view of one picture, pixel by pixel."""

import math

import numpy as np

LUMA, MEAN, STD = (0.299, 0.587, 0.114), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def bilinear_crop(image: np.ndarray, centre: tuple, half: tuple, flipped: bool, size: int) -> np.ndarray:
    """Sample a (h, w, 3) picture at the centres of a size x size grid over a box given in [-1, 1] coordinates."""
    height, width, _ = image.shape
    out = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size):
            u, v = (2 * column + 1) / size - 1, (2 * row + 1) / size - 1
            x = centre[0] + half[0] * (-u if flipped else u)
            y = centre[1] + half[1] * v
            px, py = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
            px, py = min(max(px, 0), width - 1), min(max(py, 0), height - 1)
            x0, y0 = math.floor(px), math.floor(py)
            x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
            fx, fy = px - x0, py - y0
            top = (1 - fx) * image[y0, x0] + fx * image[y0, x1]
            bottom = (1 - fx) * image[y1, x0] + fx * image[y1, x1]
            out[row, column] = (1 - fy) * top + fy * bottom
    return out


def coloured(crop: np.ndarray, matrix: np.ndarray, offset: float) -> np.ndarray:
    """matrix @ rgb + offset * (mean luma of the crop), clipped to [0, 1] and normalised."""
    mean_luma = float(np.mean(crop @ np.array(LUMA)))
    out = np.zeros_like(crop)
    for row in range(crop.shape[0]):
        for column in range(crop.shape[1]):
            rgb = np.clip(matrix @ crop[row, column] + offset * mean_luma, 0, 1)
            out[row, column] = (rgb - np.array(MEAN)) / np.array(STD)
    return out
