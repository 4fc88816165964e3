"""ReContrast's losses in plain loops: one image, one position, one channel at a time."""

import math

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    lengths = math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(y) ** 2 for y in b))
    return dot / lengths


def image_distances(a: np.ndarray, b: np.ndarray) -> list[float]:
    """1 - cos of each image's whole map."""
    return [1 - cosine(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True)]


def point_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - cos of the channels at each position of each image."""
    n, _, h, w = a.shape
    found = np.zeros((n, h, w))
    for i in range(n):
        for y in range(h):
            for x in range(w):
                found[i, y, x] = 1 - cosine(a[i, :, y, x], b[i, :, y, x])
    return found


def hard(distances: np.ndarray, alpha: float) -> np.ndarray:
    values = [float(d) for d in distances.reshape(-1)]
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return np.array([[[bool(d >= mean + alpha * deviation) for d in row] for row in image] for image in distances])


def alpha(step: int, steps: int) -> float:
    """-3 at the start, 1 after a tenth, a straight line between."""
    tenth = max(1.0, steps / 10)
    return 1.0 if step >= tenth else -3.0 + 4.0 * step / tenth


def loss(targets: list[np.ndarray], decoded: list[np.ndarray]) -> float:
    """The published sum: half of each way, and each way the sum over its levels."""
    total = 0.0
    for a, b in zip(targets, decoded, strict=True):
        distances = image_distances(a, b)
        total += 0.5 * sum(distances) / len(distances)
    return total


def discrepancy(targets: list[np.ndarray], decoded: list[np.ndarray], top: float) -> list[float]:
    images = []
    for i in range(len(targets[0])):
        parts = []
        for a, b in zip(targets, decoded, strict=True):
            if top >= 1:
                parts.append(image_distances(a[i : i + 1], b[i : i + 1])[0])
                continue
            points = sorted(point_distances(a[i : i + 1], b[i : i + 1]).reshape(-1), reverse=True)
            count = max(1, round(top * len(points)))
            parts.append(sum(points[:count]) / count)
        images.append(sum(parts) / len(parts))
    return images


def margin(discrepancies: list[float], wanted: float) -> float:
    return sum(max(0.0, wanted - d) for d in discrepancies) / len(discrepancies)


def masked_discrepancy(
    targets: list[np.ndarray], decoded: list[np.ndarray], covers: list[np.ndarray], least: float
) -> list[float]:
    """The mean over the levels of the mean distance of the positions that are covered enough, or covered most."""
    found = []
    for i in range(len(targets[0])):
        levels = []
        for target, other, cover in zip(targets, decoded, covers, strict=True):
            distances = point_distances(target[i : i + 1], other[i : i + 1])[0].reshape(-1)
            shares = [float(share) for share in cover[i].reshape(-1)]
            wanted = least if max(shares) >= least else max(shares)
            counted = [float(d) for d, share in zip(distances, shares, strict=True) if share >= wanted]
            levels.append(sum(counted) / len(counted))
        found.append(sum(levels) / len(levels))
    return found
