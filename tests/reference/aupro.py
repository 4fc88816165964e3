"""AUPRO and pixel AUROC as they are defined: every threshold, every region, one after the other."""

from itertools import pairwise

import numpy as np


def regions(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The connected parts of a mask, corners count, by walking from pixel to pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        region, waiting = [], [left.pop()]
        while waiting:
            y, x = waiting.pop()
            region.append((y, x))
            for step in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if step in left:
                    left.remove(step)
                    waiting.append(step)
        found.append(region)
    return found


def curve(maps: np.ndarray, masks: np.ndarray) -> list[tuple[float, float]]:
    """(false positive rate, mean overlap of the regions) at every threshold, from the highest."""
    parts = [(m, region) for m, mask in zip(maps, masks, strict=True) for region in regions(mask)]
    outside = [float(v) for m, mask in zip(maps, masks, strict=True) for v in m[~mask]]
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for v in maps.ravel()}, reverse=True):
        fpr = sum(v >= threshold for v in outside) / len(outside)
        overlaps = [sum(m[y, x] >= threshold for y, x in region) / len(region) for m, region in parts]
        points.append((fpr, sum(overlaps) / len(overlaps)))
    return points


def aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """The area under the curve up to `limit`, by trapezia, over `limit`."""
    total = 0.0
    points = curve(maps, masks)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        total += (x1 - x0) * (y0 + y1) / 2
    return total / limit


def pixel_auroc(maps: np.ndarray, masks: np.ndarray) -> float:
    """The chance that a marked pixel outscores another; ties count half."""
    inside, outside = maps[masks], maps[~masks]
    wins = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    return float(np.mean(wins))
