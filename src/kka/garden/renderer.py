"""Draws garden flowers at 64x64: `render(flowers, seeds)`.

The seed of an image gives all that its flower leaves open: pose, size, place, tilt, the make of each petal, the
direction of the light, the blur behind, a blade of grass in front, the sensor's noise. All numbers of one image come
from one generator of its own, and every operation is elementwise over the batch, so that image i depends on flower i
and seed i alone, bit for bit. Work goes in chunks that fit the processor's cache: memory does not grow.
"""

from collections.abc import Sequence

import numpy as np

from kka.garden import backdrop
from kka.garden.backdrop import SIZE
from kka.garden.bloom import draw
from kka.garden.geometry import CENTER_KINDS, MAX_PETALS, Blooms, Field, column, smooth_step
from kka.garden.greenery import DRAWS as GREENERY_DRAWS
from kka.garden.greenery import greenery
from kka.garden.palette import CENTER_RADIUS, CENTER_RGB, LIGHT, PETAL_RGB, SHADOW, jittered, shape_numbers
from kka.garden.vocabulary import PETALS, Flower
from kka.protocols import Images

VERSION = 2
"""Goes up with every change that alters a pixel; part of the image model's identity."""

CHUNK = 48
_BLOOMS = {"single": 1, "pair": 2, "trio": 3, "ring": 6, "spike": 6}
_TILES = (20, 26, 32, 38, 46, 54, 62)
"""Sides in pixels of the squares that blooms are drawn on; a bloom takes the smallest that holds it."""
_TILE_PIXELS = 2**16
"""How many pixels of tiles are drawn at once: the arrays of a step then stay in the processor's cache."""
_SLOTS = 6
_PER_BLOOM = 8 + 3 * MAX_PETALS + 9
_DRAWS = backdrop.DRAWS + 7 + 12 + GREENERY_DRAWS + _SLOTS * _PER_BLOOM
_TEXTURES = ("veined", "spotted", "ruffled", "striped", "velvety", "glossy")
_PATTERNS = ("tips", "edges", "base")


class _Draws:
    """The uniform numbers (b, n) of a chunk, given out in a fixed order."""

    def __init__(self, numbers: Field) -> None:
        self._numbers, self._at = numbers, 0

    def take(self, k: int) -> Field:
        self._at += k
        return self._numbers[:, self._at - k : self._at]

    def between(self, low: float, high: float) -> Field:
        return np.float32(low) + np.float32(high - low) * self.take(1)[:, 0]


def render(flowers: Sequence[Flower], seeds: Sequence[int]) -> Images:
    """Pictures (n, 64, 64, 3), uint8, of `flowers` with the natural variation of `seeds`, one for each."""
    if len(flowers) != len(seeds):
        raise ValueError(f"seeds: expected one for each of the {len(flowers)} flowers; got {len(seeds)}")
    out = np.empty((len(flowers), SIZE, SIZE, 3), np.uint8)
    # like with like: a chunk skips what none of its flowers has
    order = sorted(range(len(flowers)), key=lambda i: (flowers[i].arrangement, flowers[i].texture, flowers[i].pattern))
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        out[rows] = _render_chunk([flowers[i] for i in rows], [int(seeds[i]) for i in rows])
    return out


def _render_chunk(flowers: list[Flower], seeds: list[int]) -> Images:
    count = len(flowers)
    numbers = np.empty((count, _DRAWS), np.float32)
    noise = np.empty((count, 3, SIZE, SIZE), np.uint8)
    for i, seed in enumerate(seeds):
        rng = np.random.Generator(np.random.SFC64([seed % 2**64, 97]))
        rng.random(out=numbers[i], dtype=np.float32)
        noise[i] = np.frombuffer(rng.bytes(noise[i].size), np.uint8).reshape(noise[i].shape)
    u = _Draws(numbers)
    canvas = backdrop.background(flowers, u.take(backdrop.DRAWS))
    grass, scene = u.take(7), _Draws(u.take(12))
    light = _light(flowers, scene)
    places = _places(flowers, scene)
    greenery(canvas, flowers, places, light, u.take(GREENERY_DRAWS))
    _blooms(canvas, flowers, places, light, u.take(_SLOTS * _PER_BLOOM).reshape(count, _SLOTS, _PER_BLOOM))
    backdrop.blade(canvas, grass)
    return _develop(canvas, flowers, light, scene, noise)


def _light(flowers: list[Flower], u: _Draws) -> Field:
    """(b, 3): direction on the picture, mostly from above; strength; share from behind."""
    kinds = np.array([LIGHT[f.light] for f in flowers], np.float32)
    direction = np.float32(-np.pi / 2) + u.between(-1.5, 1.5)
    return np.stack([direction, kinds[:, 3] * u.between(0.8, 1.2), kinds[:, 4]], axis=1)


def _places(flowers: list[Flower], u: _Draws) -> Field:
    """(b, 6, 3): x, y and radius of up to six blooms, in pixels; radius 0 where there is none."""
    x, y = u.between(27.0, 37.0), u.between(26.0, 36.0)
    size, turn, bend = u.between(0.0, 1.0), u.between(0.0, 2 * np.pi), u.between(-1.0, 1.0)
    out = np.zeros((len(flowers), 6, 3), np.float32)
    slot = np.arange(6, dtype=np.float32)
    for name, number in _BLOOMS.items():
        rows = np.flatnonzero([f.arrangement == name for f in flowers])
        if not len(rows):
            continue
        s, a, k = size[rows, None], turn[rows, None], slot[None, :number]
        if name == "spike":
            dx = bend[rows, None] * (k - np.float32(2.5)) * np.float32(1.6) + np.cos(
                np.float32(np.pi) * k
            ) * np.float32(3.6)
            dy, radius = (
                (k - np.float32(2.8)) * np.float32(8.2),
                (np.float32(5.6) + np.float32(1.9) * s) * (np.float32(0.72) + np.float32(0.07) * k),
            )
        else:
            ring = {"single": 0.0, "pair": 12.5, "trio": 13.0, "ring": 16.5}[name]
            low, high = {"single": (20.0, 27.0), "pair": (12.5, 15.5), "trio": (10.5, 13.5), "ring": (6.0, 7.8)}[name]
            angle = (a * np.float32(0.3) - np.float32(0.6) if name == "pair" else a) + k * np.float32(
                2 * np.pi / number
            )
            dx, dy = np.float32(ring) * np.cos(angle), np.float32(ring) * np.sin(angle)
            radius = np.float32(low) + np.float32(high - low) * s + 0 * k
        pull = np.float32(1.0 if name == "single" else 0.4)
        out[rows, :number, 0] = 32 + (x[rows, None] - 32) * pull + dx
        out[rows, :number, 1] = 31 + (y[rows, None] - 31) * pull + dy
        out[rows, :number, 2] = radius
    return out


def _blooms(canvas: Field, flowers: list[Flower], places: Field, light: Field, u: Field) -> None:
    """Draw every bloom, in place: those that share a tile size at once. `u` is (b, slots, _PER_BLOOM)."""
    image, slot = np.nonzero(places[:, :, 2] > 0)
    place, pose, hue = places[image, slot], u[image, slot, :8], u[image, slot, 8:17]
    petal = u[image, slot, 17:].reshape(-1, 3, MAX_PETALS) * np.float32(2) - 1
    reach = place[:, 2] * (np.float32(0.93) + np.float32(0.14) * pose[:, 0])
    tiles = np.searchsorted(_TILES, reach * np.float32(2.06) + 3)
    drawn: list[tuple[int, int, Field, Field, Field, Field]] = []
    for index, tile in enumerate(_TILES):
        same = np.flatnonzero(tiles == index)
        for rows in np.split(same, range(_TILE_PIXELS // tile**2, len(same), _TILE_PIXELS // tile**2)):
            if not len(rows):
                continue
            few = [flowers[i] for i in image[rows]]
            blooms, corner = _make(few, place[rows], light[image[rows]], pose[rows], petal[rows], hue[rows], tile)
            rgb, cover = draw(blooms, np.array([f.rows == "double" for f in few]), tile)
            shadow = _shadow(blooms, few, tile)
            drawn += [
                (int(slot[k]), int(image[k]), rgb[:, j], cover[j], shadow[j], corner[j]) for j, k in enumerate(rows)
            ]
    for _, i, rgb, cover, shadow, corner in sorted(drawn, key=lambda d: d[:2]):
        _paste(canvas[:, i], rgb, cover, shadow, int(corner[0]), int(corner[1]))


def _make(
    flowers: list[Flower], place: Field, light: Field, pose: Field, petal: Field, hue: Field, tile: int
) -> tuple[Blooms, Field]:
    """The blooms of one tile size, and the corner of each tile on the canvas."""
    number = np.array([PETALS[f.number] for f in flowers], np.float32)
    corner = np.floor(place[:, :2]) - tile // 2
    spread = np.float32(0.16) / np.sqrt(number)[:, None]
    colors = np.array([PETAL_RGB[f.color] for f in flowers], np.float32)
    second = np.array([PETAL_RGB[f.color if f.second == "none" else f.second] for f in flowers], np.float32)
    center = np.array([CENTER_RGB[f.center_color] for f in flowers], np.float32)
    width = shape_numbers([f.shape for f in flowers], number)
    width["width"] = width["width"] * (np.float32(0.94) + np.float32(0.12) * pose[:, 5])
    return Blooms(
        petals=number,
        **width,
        radius=place[:, 2] * (np.float32(0.93) + np.float32(0.14) * pose[:, 0]),
        turn=pose[:, 1] * np.float32(2 * np.pi),
        tilt=np.stack([np.float32(0.42) * pose[:, 2] ** 2, pose[:, 3] * np.float32(2 * np.pi)], axis=1),
        mirror=np.where(pose[:, 4] < 0.5, np.float32(-1), np.float32(1)),
        x=place[:, 0] - corner[:, 0],
        y=place[:, 1] - corner[:, 1],
        lengths=1 + np.float32(0.07) * petal[:, 0] - np.float32(0.05),
        bends=petal[:, 1] * spread,
        shades=1 + np.float32(0.07) * petal[:, 2],
        color=jittered(colors, hue[:, :3], 0.05),
        second=jittered(second, hue[:, 3:6], 0.04),
        pattern=np.array([[f.pattern == p for p in _PATTERNS] for f in flowers], np.float32),
        texture=np.array([[f.texture == t for t in _TEXTURES] for f in flowers], np.float32),
        light=light,
        phase=pose[:, 6],
        center_color=jittered(center, hue[:, 6:9], 0.04),
        center_radius=np.array([CENTER_RADIUS[f.center_size] for f in flowers], np.float32)
        * place[:, 2]
        * (np.float32(0.93) + np.float32(0.14) * pose[:, 7]),
        center_kind=np.array([CENTER_KINDS.index(f.center_kind) for f in flowers]),
    ), corner


def _shadow(b: Blooms, flowers: list[Flower], tile: int) -> Field:
    """(m, tile, tile): how much of the light the bloom takes from what lies behind it."""
    grid = np.arange(tile, dtype=np.float32)
    away = b.radius * np.float32(0.14)
    dx = grid[None, None, :] - column(b.x - np.cos(b.light[:, 0]) * away)
    dy = grid[None, :, None] - column(b.y - np.sin(b.light[:, 0]) * away)
    near = np.sqrt(dx * dx + dy * dy) / column(b.radius)
    fade = np.clip(np.minimum(grid, grid[::-1]) * np.float32(0.25), 0, 1)  # nothing is left at the tile's border
    depth = np.array([SHADOW[f.background] for f in flowers], np.float32)
    return column(depth) * (1 - smooth_step(0.55, 1.2, near)) * fade[None, None, :] * fade[None, :, None]


def _paste(canvas: Field, rgb: Field, cover: Field, shadow: Field, x: int, y: int) -> None:
    """Lay a tile over one canvas (3, 64, 64) with its corner at (x, y), cut at the border."""
    tile = len(cover)
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + tile, SIZE), min(x + tile, SIZE)
    if top >= bottom or left >= right:
        return
    cut = np.s_[top - y : bottom - y, left - x : right - x]
    part = canvas[:, top:bottom, left:right]
    part *= 1 - shadow[cut]
    part += cover[cut] * (rgb[(slice(None), *cut)] - part)


def _develop(canvas: Field, flowers: list[Flower], light: Field, u: _Draws, noise: Field) -> Images:
    """Light's color, exposure, falling-off to the corners and sensor noise: floats to bytes."""
    tint = np.array([LIGHT[f.light][:3] for f in flowers], np.float32)
    exposure = u.between(0.9, 1.08)
    grain = u.between(0.005, 0.016) / np.float32(73.9)  # of bytes, whose standard deviation is 73.9
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    cos, sin = column(np.cos(light[:, 0])), column(np.sin(light[:, 0]))
    sweep = 1 + np.float32(0.07) * column(light[:, 1]) * (cos * ramp[None, None, :] + sin * ramp[None, :, None])
    sweep *= 1 - np.float32(0.10) * (ramp[None, :, None] ** 2 + ramp[None, None, :] ** 2)
    sweep *= column(exposure)
    out = np.empty((len(flowers), SIZE, SIZE, 3), np.uint8)
    for c in range(3):
        plane_c = canvas[c] * sweep * column(tint[:, c])
        plane_c = plane_c + column(grain) * (noise[:, c].astype(np.float32) - np.float32(127.5))
        out[..., c] = np.clip(plane_c * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
    return out
