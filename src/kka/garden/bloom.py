"""One bloom: petals, their shading and texture, and the center, drawn on a square tile with anti-aliased outlines.

A petal is a profile in polar coordinates of the flower's plane: half angle as a function of the distance from the
middle. A pixel lies between the axes of two petals only, so two evaluations draw any number of petals; the later
petal lies over the earlier one, all around. All arrays are float32 of shape (m, tile, tile) for m blooms.
"""

import numpy as np

from kka.garden.center import paint_center
from kka.garden.geometry import MAX_PETALS, Blooms, Field, column, plane, smooth_step
from kka.garden.palette import PROFILE_END, PROFILE_STEPS, profiles

_WIDTH, _SLOPE = profiles()


def _petal(b: Blooms, r: Field, index: Field, off: Field) -> tuple[Field, Field, Field, Field]:
    """Of the petal `index`: signed distance to its outline in pixels (inside > 0), t along it, u across it, brightness.

    `off` is the angle from the petal's axis, in steps from axis to axis; u is -1..1 between the petal's rims.
    """
    row = (index + np.arange(len(r), dtype=np.float32)[:, None, None] * MAX_PETALS).astype(np.intp)
    off = off - b.bends.ravel().take(row)
    reach = column(b.radius) * b.lengths.ravel().take(row)
    width = column(b.width)
    u = off / width
    if b.notch.any():
        reach = reach * (1 - column(b.notch) * np.exp(np.float32(-9) * u * u))
    wavy = b.texture[:, 2] * np.float32(0.05) + b.fringe
    if wavy.any():
        teeth = np.sin(u * np.float32(8.5) + column(b.phase) * np.float32(40) + index)
        reach = reach * (1 + column(wavy) * np.float32(0.5) * (teeth - 1) * np.minimum(r / reach, 1))
    t = r / reach
    step = np.minimum(t * np.float32((PROFILE_STEPS - 1) / PROFILE_END), np.float32(PROFILE_STEPS - 1.001))
    cell = np.floor(step)
    at = (cell + (b.profile * PROFILE_STEPS).astype(np.float32)[:, None, None]).astype(np.intp)
    slope = _SLOPE.ravel().take(at) * width
    half = _WIDTH.ravel().take(at) * width + slope * (step - cell) * np.float32(PROFILE_END / (PROFILE_STEPS - 1))
    per_arc = column(b.petals) * np.float32(0.5 / np.pi) / r
    radial = slope / reach
    distance = (half - np.abs(off)) / np.sqrt(radial * radial + per_arc * per_arc)
    return distance, t, u, b.shades.ravel().take(row)


def _petal_paint(b: Blooms, r: Field, lit: Field, petal: tuple[Field, Field, Field, Field]) -> tuple[Field, Field]:
    """Share of the second color, and brightness, over one petal; `lit` is the cosine to the light."""
    distance, t, u, shade = petal
    folded = u * u
    strength, behind = column(b.light[:, 1]), column(b.light[:, 2])
    value = shade * (np.float32(0.80) + np.float32(0.28) * t - np.float32(0.10) * folded)
    value += np.float32(0.20) * strength * lit * t
    value += behind * (np.float32(0.36) * smooth_step(0.4, 1.0, t) - np.float32(0.16))
    value -= np.float32(0.15) * np.exp(np.float32(-0.9) * np.maximum(distance, 0))  # a soft darker rim
    mix = np.zeros_like(t)
    if b.pattern.any():
        tips, edges, base = (column(b.pattern[:, i]) for i in range(3))
        mix += tips * smooth_step(0.58, 0.84, t)
        mix += edges * (1 - smooth_step(1.0, 2.8, distance * (np.float32(22) / column(b.radius))))
        mix += base * (1 - smooth_step(0.34, 0.58, t))
    veined, spotted, ruffled, striped, velvety, glossy = (column(b.texture[:, i]) for i in range(6))
    inner = 1 - smooth_step(0.55, 1.05, t)
    if veined.any():
        veins = np.float32(0.5) + np.float32(0.5) * np.cos(u * np.float32(11) + t * u * np.float32(3))
        value -= veined * np.float32(0.30) * veins * veins * (np.float32(0.35) + inner)
    if spotted.any():
        row = np.floor(t * np.float32(7.96)) * np.float32(1.7)
        cells = np.sin(t * np.float32(25)) * np.cos(u * np.float32(6.5) + row)
        zone = smooth_step(0.25, 0.35, t) * (1 - smooth_step(0.85, 0.95, t))
        value -= spotted * np.float32(0.55) * smooth_step(0.25, 0.6, cells) * zone
    if ruffled.any():
        waves = np.sin(u * np.float32(8.5) + column(b.phase) * np.float32(40) + t * np.float32(5))
        value += ruffled * np.float32(0.16) * waves * t
    if striped.any():
        value -= striped * np.float32(0.5) * (1 - smooth_step(0.14, 0.30, np.abs(u))) * (1 - smooth_step(0.8, 1.0, t))
    value -= velvety * (np.float32(0.42) * (1 - smooth_step(0.25, 0.9, t)) + np.float32(0.05))
    shine = (
        np.float32(-14) * (t - np.float32(0.68)) * (t - np.float32(0.68)) - np.float32(5) * (u - np.float32(0.2)) ** 2
    )
    if glossy.any():
        value += glossy * np.float32(0.55) * np.exp(shine)
    return np.minimum(mix, 1), np.maximum(value, np.float32(0.12))


def petals(b: Blooms, r: Field, angle: Field) -> tuple[Field, Field]:
    """The row of petals: RGB (3, m, tile, tile) and coverage (m, tile, tile)."""
    steps = (angle * column(b.mirror) + column(b.turn)) * (column(b.petals) * np.float32(0.5 / np.pi))
    axis = np.floor(steps)
    number = column(b.petals)
    lower = axis - number * np.floor((axis + np.float32(0.5)) / number)
    upper = lower + 1
    upper -= number * (upper == number)
    off = steps - axis
    lit = np.cos(angle - column(b.light[:, 0]))
    below, above = _petal(b, r, lower, off), _petal(b, r, upper, off - 1)
    mix_a, value_a = _petal_paint(b, r, lit, below)
    mix_b, value_b = _petal_paint(b, r, lit, above)
    cover_a, cover_b = (np.clip(p[0] + np.float32(0.5), 0, 1) for p in (below, above))
    fall = np.clip(1 + above[0] * np.float32(0.30), 0, 1)  # the upper petal's soft shadow on the lower one
    value_a = value_a * (1 - np.float32(0.34) * fall)
    cover = cover_a + cover_b - cover_a * cover_b
    share = cover_b / np.maximum(cover, np.float32(1e-4))
    value = value_a + share * (value_b - value_a)
    mix = mix_a + share * (mix_b - mix_a)
    return _tint(b.color, b.second, mix, value), cover


def apart(b: Blooms, r: Field, angle: Field) -> tuple[Field, Field]:
    """As `petals`, for petals (or leaves) of half width below 0.5 less their bend, which never overlap."""
    steps = (angle * column(b.mirror) + column(b.turn)) * (column(b.petals) * np.float32(0.5 / np.pi))
    axis = np.floor(steps + np.float32(0.5))
    index = axis - column(b.petals) * np.floor((axis + np.float32(0.5)) / column(b.petals))
    petal = _petal(b, r, index, steps - axis)
    mix, value = _petal_paint(b, r, np.cos(angle - column(b.light[:, 0])), petal)
    return _tint(b.color, b.second, mix, value), np.clip(petal[0] + np.float32(0.5), 0, 1)


def _tint(color: Field, second: Field, mix: Field, value: Field) -> Field:
    """RGB of a mix of two colors at a brightness; above 1 it runs towards white, below it grows more saturated."""
    out = np.empty((3, *mix.shape), np.float32)
    glow = np.clip(value - 1, 0, 1) * np.float32(0.7)
    low = np.minimum(value, 1)
    shadow = low * low
    for i in range(3):
        base = column(color[:, i])
        tone = base + mix * (column(second[:, i]) - base)
        out[i] = tone * (tone * low + (1 - tone) * shadow)
        out[i] += glow * (1 - out[i])
    return out


def draw(b: Blooms, double: Field, tile: int) -> tuple[Field, Field]:
    """Whole blooms: RGB (3, m, tile, tile) and coverage (m, tile, tile). `double` (m,) bool: two rows of petals."""
    r, angle = plane(b, tile)
    rgb, cover = petals(b, r, angle)
    rows = np.flatnonzero(double)
    if len(rows):
        inner = b.pick(rows).inner_row()
        top, over = petals(inner, r[rows], angle[rows])
        edge = column(inner.radius) * np.float32(1.08)
        dim = np.float32(0.9) - np.float32(0.4) * (1 - smooth_step(0.8, 1.3, r[rows] / edge))
        rgb[:, rows] = rgb[:, rows] * dim * (1 - over) + top * over
        cover[rows] = np.maximum(cover[rows], over)
    margin = round(tile * 0.14)  # no center reaches further
    inner_part = np.s_[..., margin : tile - margin, margin : tile - margin]
    paint_center(b, r[inner_part], angle[inner_part], rgb[inner_part], cover[inner_part])
    return rgb, cover
