"""Pictures of nothing in particular: clouds, stripes and cells of random colours, at scales from grain to the whole.

They stand for "something else altogether" where no other photos are at hand. Picture i depends on the seed and i alone.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from kka.protocols import Images

Field = Float[np.ndarray, "h w"]
OCTAVES = (2, 4, 8, 16, 32)
"""Patches of noise along a side, from coarse to fine."""
GRAIN = 6.0
"""Standard deviation of the pixels' own noise, in grey levels."""


def texture_images(height: int, width: int, count: int, *, seed: int) -> Images:
    """`count` textures (count, height, width, 3); of a larger count the first are the same."""
    images = np.empty((count, height, width, 3), np.uint8)
    for i in range(count):
        images[i] = _texture(height, width, np.random.default_rng([seed, i]))
    return images


def _texture(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    field = _MAKERS[int(rng.integers(len(_MAKERS)))](height, width, rng)
    low, high = float(field.min()), float(field.max())
    field = (field - low) / max(high - low, 1e-9)
    colours = rng.uniform(0, 255, (int(rng.integers(2, 5)), 3))
    stops = np.linspace(0, 1, len(colours))
    painted = np.stack([np.interp(field, stops, colours[:, channel]) for channel in range(3)], axis=-1)
    return np.clip(painted + rng.normal(0, GRAIN, painted.shape), 0, 255).astype(np.uint8)


def _clouds(height: int, width: int, rng: np.random.Generator) -> Field:
    """Noise of all octaves; how fast the finer ones fade is drawn."""
    fade = rng.uniform(0.4, 1.0)
    return np.sum([fade**k * _noise(height, width, side, rng) for k, side in enumerate(OCTAVES)], axis=0)


def _stripes(height: int, width: int, rng: np.random.Generator) -> Field:
    """Waves of one direction and length, bent by coarse noise."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    angle, waves, bend = rng.uniform(0, np.pi), rng.uniform(2, 16), rng.uniform(0, 1)
    phase = waves * (x * np.cos(angle) + y * np.sin(angle)) + bend * _noise(height, width, OCTAVES[1], rng)
    return np.asarray(np.sin(2 * np.pi * phase))


def _cells(height: int, width: int, rng: np.random.Generator) -> Field:
    """Distance to the nearest of 3 to 60 random points: cobbles, scales, foam."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    points = rng.uniform(0, 1, (int(rng.integers(3, 61)), 2))
    squares = (y[None] - points[:, 0, None, None]) ** 2 + (x[None] - points[:, 1, None, None]) ** 2
    return np.asarray(np.sqrt(squares.min(axis=0)))


def _noise(height: int, width: int, side: int, rng: np.random.Generator) -> Field:
    """Normal noise of `side` patches along each side, smoothly filled in."""
    patches = Image.fromarray(rng.normal(0, 1, (side, side)).astype(np.float32), mode="F")
    return np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)


_MAKERS: tuple[Callable[[int, int, np.random.Generator], Field], ...] = (_clouds, _stripes, _cells)
