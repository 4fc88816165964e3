"""Geometry of defects: noise, outlines as signed distances, and lines of changing width. All in pixels, float32."""

import cv2
import numpy as np
from jaxtyping import Float

Field = Float[np.ndarray, "h w"]
Path = Float[np.ndarray, "_points 2"]
"""Points (x, y) in order."""
FINE = 4
"""Lines are drawn at up to so many times the size, and brought down: widths below a pixel come out faint."""
LARGEST = 1024
"""Side of that drawing at most, in pixels."""


def noise(h: int, w: int, grain: float, rng: np.random.Generator, octaves: int = 3, fall: float = 0.6) -> Field:
    """Smooth noise, about -1..1: waves of `grain` pixels, and in each further octave of half that, `fall` as high."""
    total = np.zeros((h, w), np.float32)
    for octave in range(octaves):
        step = max(grain / 2**octave, 1.0)
        rows, columns = int(h / step) + 4, int(w / step) + 4
        knots = rng.random((min(rows, h + 4), min(columns, w + 4)), dtype=np.float32) * 2 - 1
        total += cv2.resize(knots, (w, h), interpolation=cv2.INTER_CUBIC) * np.float32(fall**octave)
    return total


def streaks(h: int, w: int, grain: float, angle: float, rng: np.random.Generator) -> Field:
    """Noise that is drawn out along a direction, as brushes and rollers leave it; mean 0, about -1..1."""
    reach = int(np.hypot(h, w)) + 2
    line = noise(1, reach, grain, rng, 3)[0]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    across = -(x - w / 2) * np.float32(np.sin(angle)) + (y - h / 2) * np.float32(np.cos(angle)) + reach / 2
    return np.asarray(np.interp(across, np.arange(reach), line), dtype=np.float32)


def outline(
    h: int, w: int, x: float, y: float, across: float, along: float, angle: float, rough: float,
    rng: np.random.Generator,
) -> Field:  # fmt: skip
    """Signed distance to the outline of an oval with half axes `along` and `across`: positive within.

    Args:
        rough: How far the outline strays from the oval, as a share of its size.
    """
    columns = np.arange(w, dtype=np.float32)[None, :] - np.float32(x)
    rows = np.arange(h, dtype=np.float32)[:, None] - np.float32(y)
    size = max(across, along)
    if rough > 0:
        columns = columns + np.float32(rough * size) * noise(h, w, max(size, 2.0), rng, 3, 0.42)
        rows = rows + np.float32(rough * size) * noise(h, w, max(size, 2.0), rng, 3, 0.42)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (columns * cos + rows * sin) / np.float32(along), (rows * cos - columns * sin) / np.float32(across)
    return np.asarray((1 - np.sqrt(u * u + v * v)) * np.float32(min(across, along)), dtype=np.float32)


def cover(distance: Field, soft: float = 1.0) -> Field:
    """Coverage 0..1 of a shape by its signed distance, with an edge `soft` pixels wide."""
    at = np.clip(distance / np.float32(max(soft, 0.5)) + np.float32(0.5), 0, 1)
    return np.asarray(at * at * (3 - 2 * at), dtype=np.float32)


def lit(height: Field, sun: tuple[float, float]) -> Field:
    """How much brighter the slopes of a relief are: positive where they face the light at `sun` (x, y); at most 1."""
    x = cv2.Scharr(height, cv2.CV_32F, 1, 0)
    y = cv2.Scharr(height, cv2.CV_32F, 0, 1)
    slope = -(x * np.float32(sun[0]) + y * np.float32(sun[1]))
    return np.asarray(slope / max(float(np.abs(slope).max()), 1e-6), dtype=np.float32)


def soften(field: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; of wide ones, at a smaller size."""
    if sigma < 0.25:
        return field
    h, w = field.shape[:2]
    if sigma < 4 or min(h, w) < 16:
        return cv2.GaussianBlur(field, (0, 0), sigma)
    down = min(sigma / 2, min(h, w) / 6)
    small = cv2.resize(field, (max(3, round(w / down)), max(3, round(h / down))), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / down)
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)


def wander(length: float, angle: float, rough: float, curl: float, rng: np.random.Generator, points: int = 33) -> Path:
    """A line about the origin that runs along `angle`, strays by `rough` of its length and bends by `curl` radians."""
    at = np.linspace(-0.5, 0.5, points)
    turn = curl * at * (1 if rng.random() < 0.5 else -1)
    steps = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (length / (points - 1))
    path = np.cumsum(steps, axis=0)
    stray = np.zeros(points)
    for octave in range(4):
        knots = rng.standard_normal(2 ** (octave + 1) + 1)
        stray += np.interp(at, np.linspace(-0.5, 0.5, len(knots)), knots) * 0.5**octave
    path[:, 1] += rough * length * stray
    path -= path.mean(axis=0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(path @ np.array([[cos, sin], [-sin, cos]]), dtype=np.float32)


def curls(length: float, angle: float, bend: float, rng: np.random.Generator, points: int = 41) -> Path:
    """A smooth line about the origin whose direction changes by about `bend` radians, now to this side, now to that."""
    knots = rng.standard_normal(6).astype(np.float32) * np.float32(bend)
    turn = cv2.resize(knots[None, :], (points, 1), interpolation=cv2.INTER_CUBIC)[0]
    direction = angle + turn - turn.mean()
    path = np.cumsum(np.stack([np.cos(direction), np.sin(direction)], axis=1), axis=0) * (length / points)
    return np.asarray(path - (path.min(axis=0) + path.max(axis=0)) / 2, dtype=np.float32)


def strokes(h: int, w: int, lines: list[tuple[Path, np.ndarray, np.ndarray]]) -> Field:
    """Coverage 0..1 of lines: (points in pixels, width at each, how dense it is at each, 0..1)."""
    fine = int(np.clip(LARGEST / max(h, w), 1, FINE))
    canvas = np.zeros((h * fine, w * fine), np.uint8)
    for path, widths, dense in lines:
        at = np.round(((path + 0.5) * fine - 0.5) * 16).astype(int).tolist()
        thick = np.maximum(widths * fine, 0.5)
        shown = np.clip(np.round(255 * dense * np.minimum(thick, 1)), 0, 255).astype(int).tolist()
        thickness = np.maximum(1, np.round(thick)).astype(int).tolist()
        for i in range(len(at) - 1):
            cv2.line(canvas, at[i], at[i + 1], (shown[i],), thickness[i], cv2.LINE_8, 4)
    small = canvas if fine == 1 else cv2.resize(canvas, (w, h), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)
