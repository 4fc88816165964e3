"""The colors, petal shapes and lights of the garden, as numbers."""

import numpy as np

PETAL_RGB: dict[str, tuple[float, float, float]] = {
    "white": (0.95, 0.95, 0.96),
    "cream": (0.96, 0.91, 0.74),
    "yellow": (0.98, 0.87, 0.22),
    "gold": (0.93, 0.68, 0.09),
    "orange": (0.96, 0.50, 0.10),
    "peach": (0.98, 0.70, 0.48),
    "coral": (0.95, 0.47, 0.40),
    "red": (0.85, 0.11, 0.13),
    "maroon": (0.50, 0.06, 0.14),
    "pink": (0.96, 0.52, 0.69),
    "magenta": (0.87, 0.19, 0.56),
    "lavender": (0.70, 0.57, 0.92),
    "purple": (0.49, 0.22, 0.70),
    "blue": (0.27, 0.38, 0.86),
}
CENTER_RGB: dict[str, tuple[float, float, float]] = {
    "yellow": (0.96, 0.80, 0.16),
    "orange": (0.92, 0.50, 0.10),
    "white": (0.94, 0.93, 0.86),
    "green": (0.58, 0.72, 0.26),
    "brown": (0.45, 0.27, 0.13),
    "dark": (0.16, 0.10, 0.12),
    "red": (0.72, 0.12, 0.14),
    "purple": (0.40, 0.15, 0.48),
}
CENTER_RADIUS = {"small": 0.15, "medium": 0.235, "large": 0.34}
"""Radius of the center, as a share of the flower's."""

# (low, middle, high): a field of soft noise in 0..1 runs through these three colors
BACKGROUND_RGB: dict[str, tuple[tuple[float, float, float], ...]] = {
    "leafy": ((0.07, 0.15, 0.06), (0.20, 0.36, 0.13), (0.46, 0.60, 0.26)),
    "dark": ((0.01, 0.01, 0.02), (0.04, 0.05, 0.05), (0.13, 0.14, 0.12)),
    "sky": ((0.42, 0.62, 0.86), (0.60, 0.76, 0.93), (0.90, 0.94, 0.98)),
    "soil": ((0.16, 0.10, 0.06), (0.34, 0.23, 0.15), (0.56, 0.42, 0.29)),
    "grass": ((0.16, 0.28, 0.06), (0.36, 0.52, 0.14), (0.62, 0.72, 0.30)),
    "stone": ((0.30, 0.30, 0.30), (0.50, 0.49, 0.47), (0.70, 0.69, 0.66)),
    "meadow": ((0.22, 0.38, 0.16), (0.52, 0.60, 0.34), (0.86, 0.62, 0.58)),
    "water": ((0.03, 0.08, 0.11), (0.09, 0.19, 0.23), (0.30, 0.44, 0.48)),
}
BACKGROUND_FIELDS: dict[str, tuple[float, float, float, float, float]] = {
    # weights of: wide blobs, middle blobs, fine grain, upright streaks, level streaks
    "leafy": (0.55, 0.65, 0.12, 0.0, 0.0),
    "dark": (0.8, 0.3, 0.0, 0.0, 0.0),
    "sky": (0.9, 0.25, 0.0, 0.0, 0.25),
    "soil": (0.3, 0.4, 0.75, 0.0, 0.0),
    "grass": (0.35, 0.15, 0.1, 0.95, 0.0),
    "stone": (0.4, 0.45, 0.45, 0.0, 0.2),
    "meadow": (0.55, 0.85, 0.0, 0.0, 0.0),
    "water": (0.5, 0.1, 0.0, 0.0, 0.85),
}
SHADOW = {
    "leafy": 0.42, "dark": 0.4, "sky": 0.0, "soil": 0.45, "grass": 0.36, "stone": 0.42, "meadow": 0.16, "water": 0.25,
}  # fmt: skip
"""How dark a bloom's shadow falls on what is behind it; the sky is too far."""
LEAF_RGB = {
    "narrow": (0.36, 0.54, 0.20),
    "round": (0.32, 0.52, 0.22),
    "heart": (0.28, 0.50, 0.20),
    "serrated": (0.26, 0.45, 0.16),
    "dark": (0.10, 0.25, 0.13),
    "none": (0.30, 0.48, 0.20),
}
LEAF_SHAPE = {
    "narrow": "narrow", "round": "rounded", "heart": "heart", "serrated": "oval", "dark": "oval", "none": "oval",
}  # fmt: skip

LIGHT: dict[str, tuple[float, float, float, float, float]] = {
    # tint red, green, blue (exposure included); strength of directional shading; light from behind
    "soft": (1.0, 1.0, 1.0, 0.55, 0.0),
    "sunny": (1.14, 1.12, 1.04, 1.25, 0.0),
    "golden": (1.12, 0.95, 0.70, 0.95, 0.15),
    "shade": (0.70, 0.80, 0.92, 0.35, 0.0),
    "backlit": (0.98, 0.96, 0.90, 0.6, 1.0),
}

# widest half angle of a petal in degrees; share of the space between two petal axes it may at most fill;
# depth of the notch at the tip; depth of the fringe
SHAPE: dict[str, tuple[float, float, float, float]] = {
    "rounded": (45.0, 0.88, 0.0, 0.0),
    "oval": (29.0, 0.74, 0.0, 0.0),
    "pointed": (29.0, 0.78, 0.0, 0.0),
    "narrow": (13.0, 0.46, 0.0, 0.0),
    "heart": (45.0, 0.82, 0.24, 0.0),
    "spoon": (24.0, 0.66, 0.0, 0.0),
    "fan": (38.0, 0.86, 0.0, 0.0),
    "fringed": (41.0, 0.88, 0.0, 0.17),
}
PROFILE_STEPS = 256
PROFILE_END = 1.5
"""The profiles reach from the flower's middle, 0, past the tip, 1, to here."""


def profiles() -> tuple[np.ndarray, np.ndarray]:
    """The angular half width of each shape along the petal, with its slope: two (shapes, PROFILE_STEPS) tables.

    1 is the widest. Past the tip the width goes on below zero, so that it is a distance to the outline there too.
    """
    t = np.linspace(0.0, PROFILE_END, PROFILE_STEPS)
    inside = np.clip(t, 1e-3, 1.0)
    ellipse = lambda mid, half: np.sqrt(np.clip(1 - ((inside - mid) / half) ** 2, 0, 1))  # noqa: E731
    physical = {
        "rounded": np.where(inside < 0.55, 0.35 + 0.65 * (inside / 0.55) ** 0.8, ellipse(0.55, 0.45)),
        "oval": np.where(inside < 0.5, 0.45 + 0.55 * (inside / 0.5) ** 0.8, ellipse(0.5, 0.5)),
        "pointed": np.where(
            inside < 0.42, 0.5 + 0.5 * (inside / 0.42) ** 0.8, 1 - (np.maximum(inside - 0.42, 0) / 0.58) ** 1.35
        ),
        "narrow": np.where(inside < 0.8, 0.75 + 0.25 * inside / 0.8, ellipse(0.8, 0.2)),
        "heart": np.where(inside < 0.68, 0.2 + 0.8 * (inside / 0.68) ** 0.9, ellipse(0.68, 0.32)),
        "spoon": np.maximum(0.22 * (inside < 0.7), ellipse(0.73, 0.27)),
        "fan": np.where(inside < 0.88, inside / 0.88, ellipse(0.88, 0.12)),
        "fringed": np.where(inside < 0.9, (inside / 0.9) ** 0.9, ellipse(0.9, 0.1)),
    }
    rows = []
    for name in SHAPE:
        angular = physical[name] / (inside + 0.06)
        angular = np.minimum(angular / angular[(inside > 0.3)].max(), 1.0)
        rows.append(np.where(t > 1.0, -(t - 1.0) * 3.0, angular))
    table = np.stack(rows)
    return table.astype(np.float32), np.gradient(table, t, axis=1).astype(np.float32)


def jittered(colors: np.ndarray, u: np.ndarray, amount: float) -> np.ndarray:
    """RGB (b, 3) as a species varies: a little brighter or darker, and off in hue. `u` (b, 3) is uniform."""
    shift = (u - np.float32(0.5)) * np.float32(2 * amount)
    return np.clip(colors + shift * np.float32(0.6) + shift[:, :1] * np.float32(0.6), 0.02, 0.98)


def shape_numbers(names: list[str], number: np.ndarray) -> dict[str, np.ndarray]:
    """Each (b,): row of the profile table, half width as a share of the angle between petals, notch, fringe."""
    shape = np.array([SHAPE[n] for n in names], np.float32)
    index = list(SHAPE)
    width = np.minimum(shape[:, 0] * number / np.float32(360), shape[:, 1])
    return {
        "profile": np.array([index.index(n) for n in names]),
        "width": width,
        "notch": shape[:, 2],
        "fringe": shape[:, 3],
    }
