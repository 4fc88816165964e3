"""What stands behind and before the blooms: blurred background, stems, and a blade of grass out of focus.

Arrays are float32; a canvas is (3, b, 64, 64).
"""

import numpy as np

from kka.garden.geometry import Field, column, smooth_step
from kka.garden.palette import BACKGROUND_FIELDS, BACKGROUND_RGB
from kka.garden.vocabulary import Flower

SIZE = 64
_GRIDS = ((5, 5), (10, 10), (26, 26), (4, 22), (20, 4))  # rows, columns of the five fields' knots
DRAWS = sum(h * w for h, w in _GRIDS) + 3 + 3 * 3 + 6 * 5
"""Random numbers that one background needs."""


def _spline(knots: int) -> Field:
    """(SIZE, knots): cubic B-spline weights that blow `knots` values up to SIZE smooth ones."""
    at = np.linspace(0.5, knots - 1.5, SIZE)[:, None] - np.arange(knots)[None, :]
    d = np.abs(at)
    w = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0))
    return np.asarray(w / w.sum(1, keepdims=True), dtype=np.float32)


_WEIGHTS = {knots: _spline(knots) for pair in _GRIDS for knots in pair}


def background(flowers: list[Flower], u: Field) -> Field:
    """Blurred backgrounds (3, b, 64, 64) from uniform numbers `u` (b, DRAWS)."""
    names = [f.background for f in flowers]
    weights = np.array([BACKGROUND_FIELDS[n] for n in names], np.float32)
    field, at = np.zeros((len(u), SIZE, SIZE), np.float32), 0
    for i, (rows, columns) in enumerate(_GRIDS):
        used = np.flatnonzero(weights[:, i])
        knots = u[used, at : at + rows * columns].reshape(-1, rows, columns) * np.float32(2) - 1
        at += rows * columns
        if len(used):
            field[used] += column(weights[used, i]) * (_WEIGHTS[rows] @ knots @ _WEIGHTS[columns].T)
    slope = u[:, at : at + 3] - np.float32(0.5)
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    field += (
        column(slope[:, 0]) * ramp[None, None, :]
        - column(slope[:, 1] * np.float32(0.8) + np.float32(0.3)) * ramp[None, :, None]
    )
    field = np.clip(np.float32(0.5) + np.float32(0.62) * field + column(slope[:, 2] * np.float32(0.4)), 0, 1)
    colors = np.array([BACKGROUND_RGB[n] for n in names], np.float32)
    cast = np.float32(0.84) + np.float32(0.32) * u[:, at + 3 : at + 12].reshape(-1, 3, 3)
    colors = colors * cast[:, :, :1] * (np.float32(0.94) + np.float32(0.12) * cast[:, :1, :])
    low, high = np.minimum(field * 2, 1), np.maximum(field * 2 - 1, 0)
    canvas = np.empty((3, *field.shape), np.float32)
    for c in range(3):
        dark, middle, bright = (column(colors[:, i, c]) for i in range(3))
        canvas[c] = dark + low * (middle - dark) + high * (bright - middle)
    _bokeh(canvas, names, u[:, at + 12 : at + 42].reshape(-1, 6, 5))
    return canvas


def _bokeh(canvas: Field, names: list[str], u: Field) -> None:
    """Soft bright discs, as of lights and flowers far out of focus."""
    strength = np.array([{"meadow": 0.75, "leafy": 0.26, "dark": 0.10}.get(n, 0.0) for n in names], np.float32)
    rows = np.flatnonzero(strength)
    if not len(rows):
        return
    grid = np.arange(SIZE, dtype=np.float32)
    colorful = np.array([n == "meadow" for n in names])[rows]
    part = canvas[:, rows]
    for i in range(u.shape[1]):
        x, y, size, hue, alpha = (u[rows, i, j] for j in range(5))
        square = (grid[None, None, :] - column(x * SIZE)) ** 2 + (grid[None, :, None] - column(y * SIZE)) ** 2
        radius = column(np.float32(4.5) + np.float32(6) * size)
        disc = np.clip((radius - np.sqrt(square)) * np.float32(0.45) + np.float32(0.5), 0, 1)
        disc *= column(strength[rows] * (np.float32(0.35) + np.float32(0.65) * alpha))
        for c in range(3):
            petal = np.float32(0.55) + np.float32(0.42) * np.cos(
                np.float32(2 * np.pi) * (hue + np.float32((0.0, 0.36, 0.72)[c]))
            )
            tone = np.where(colorful, petal, np.float32((0.62, 0.76, 0.42)[c]))
            part[c] += disc * (column(tone) - part[c])
    canvas[:, rows] = part


def stem(canvas: Field, x: Field, y: Field, foot: Field, bend: Field, width: Field, color: Field) -> None:
    """A bent stem from (x, y) down to (foot, bottom), in place. All (b,), pixels; `color` (b, 3)."""
    grid = np.arange(SIZE, dtype=np.float32)
    down = (grid[None, :] - y[:, None]) / np.maximum(SIZE + 2 - y, 1)[:, None]  # (b, 64): 0 at the bloom, 1 at the foot
    middle = x[:, None] + (foot - x)[:, None] * down + bend[:, None] * down * (1 - down)
    off = grid[None, None, :] - middle[:, :, None]
    cover = np.clip(column(width) - np.abs(off) + np.float32(0.5), 0, 1) * np.clip(down * 40, 0, 1)[:, :, None]
    shade = np.float32(0.9) + np.float32(0.16) * np.clip(off / column(width), -1, 1)
    for c in range(3):
        canvas[c] += cover * (column(color[:, c]) * shade - canvas[c])


def blade(canvas: Field, u: Field, share: float = 0.36) -> None:
    """On a `share` of the images, a blade of grass passes in front, a little out of focus. `u` is (b, 7)."""
    rows = np.flatnonzero(u[:, 0] < share)
    if not len(rows):
        return
    _, place, lean, bend, width, tone, reach = u[rows].T.astype(np.float32)
    grid = np.arange(SIZE, dtype=np.float32) - np.float32(SIZE / 2)
    height = (np.float32(SIZE / 2) - grid)[None, :] / SIZE  # (1, 64): 0 at the bottom, 1 at the top
    x = (place - np.float32(0.5))[:, None] * 50 + (lean - np.float32(0.5))[:, None] * 70 * height
    x = x + (bend - np.float32(0.5))[:, None] * 50 * height * height
    top = (np.float32(0.45) + np.float32(0.65) * reach)[:, None]
    half = (np.float32(1.3) + np.float32(1.9) * width)[:, None] * np.sqrt(np.clip(1 - height / top, 0, 1))
    off = np.abs(grid[None, None, :] - x[:, :, None])
    cover = smooth_step(-1.3, 1.3, half[:, :, None] - off) * smooth_step(0.0, 0.6, half)[:, :, None] * np.float32(0.92)
    light = (np.float32(0.75) + np.float32(0.45) * tone)[:, None, None] * (np.float32(1.08) - np.float32(0.05) * off)
    part = canvas[:, rows]
    for c in range(3):
        part[c] += cover * (np.float32((0.34, 0.50, 0.18)[c]) * np.maximum(light, np.float32(0.4)) - part[c])
    canvas[:, rows] = part
