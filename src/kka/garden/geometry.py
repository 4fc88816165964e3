"""The numbers that shape blooms, and the plane of a flower in which petals and center are drawn."""

from dataclasses import dataclass, replace

import numpy as np

Field = np.ndarray
MAX_PETALS = 16


@dataclass(frozen=True, kw_only=True)
class Blooms:
    """The numbers that shape m blooms. Arrays are (m,), or as said."""

    petals: Field
    """Number of petals in one row, as float32."""
    profile: Field
    """Row of the shape table, int."""
    width: Field
    """Half width of a petal as a share of the angle between two axes."""
    notch: Field
    fringe: Field
    radius: Field
    """In pixels."""
    turn: Field
    """Rotation in the flower's plane, radians."""
    tilt: Field
    """(m, 2): how much the plane is foreshortened, 0..1, and in which direction."""
    mirror: Field
    """1 or -1: which way round the petals overlap."""
    x: Field
    y: Field
    """Middle of the bloom on the tile, in pixels."""
    lengths: Field
    bends: Field
    shades: Field
    """(m, MAX_PETALS): each petal's length (near 1), angle off its axis and brightness (near 1)."""
    color: Field
    second: Field
    """(m, 3) RGB of the petals, and of tips, edges or base."""
    pattern: Field
    """(m, 3): 1 for tips, edges, base."""
    texture: Field
    """(m, 6): 1 for veined, spotted, ruffled, striped, velvety, glossy."""
    light: Field
    """(m, 3): direction (radians), strength, share that comes from behind."""
    phase: Field
    """A number in 0..1 that no other part uses."""
    center_color: Field
    """(m, 3)."""
    center_radius: Field
    """In pixels."""
    center_kind: Field
    """Index into CENTER_KINDS."""

    def pick(self, rows: Field) -> "Blooms":
        """The blooms of these rows."""
        return Blooms(**{name: value[rows] for name, value in vars(self).items()})

    def inner_row(self) -> "Blooms":
        """The second, inner row of petals of a double flower: smaller, and between the axes of the first."""
        half_step = np.float32(np.pi) / self.petals
        return replace(
            self,
            radius=self.radius * np.float32(0.66),
            turn=self.turn + half_step,
            shades=self.shades[:, ::-1] * np.float32(1.10),
        )


CENTER_KINDS = ("disc", "cone", "stamens", "throat", "star", "ring")


def column(values: Field) -> Field:
    return values.astype(np.float32)[:, None, None]


def smooth_step(low: float, high: float, x: Field) -> Field:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((x - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (np.float32(3) - np.float32(2) * t)


def plane(b: Blooms, tile: int) -> tuple[Field, Field]:
    """Distance from the middle (pixels) and angle of every tile pixel, in the plane of the flower."""
    grid = np.arange(tile, dtype=np.float32)
    dx, dy = grid[None, None, :] - column(b.x), grid[None, :, None] - column(b.y)
    cos, sin = column(np.cos(b.tilt[:, 1])), column(np.sin(b.tilt[:, 1]))
    along = dx * cos + dy * sin
    across = (dy * cos - dx * sin) / column(np.float32(1) - b.tilt[:, 0])
    r = np.sqrt(along * along + across * across) + np.float32(1e-3)
    return r, np.arctan2(across, along) + column(b.tilt[:, 1])
