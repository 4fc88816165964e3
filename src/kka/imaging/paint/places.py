"""Where on the object defects lie: by the place that a caption names, and together, apart or in a row."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from kka.imaging.paint.scene import Scene

AT = {
    "center": (0.5, 0.5), "top": (None, 0.16), "bottom": (None, 0.84), "left": (0.16, None), "right": (0.84, None),
    "top left": (0.17, 0.17), "top right": (0.83, 0.17), "bottom left": (0.17, 0.83), "bottom right": (0.83, 0.83),
    "left edge": (0.03, None), "right edge": (0.97, None), "top edge": (None, 0.03), "bottom edge": (None, 0.97),
}  # fmt: skip
"""Where a word points to within the object's bounds, as shares of width and height; None is anywhere."""
CORNERS = ("top left", "top right", "bottom left", "bottom right")
GRID = 24
"""Places a side that are told apart."""
TRIES = 8
"""Places that are looked at for each of several defects that lie together, or apart."""
TURNS = (0.0, np.pi / 4, np.pi / 2, -np.pi / 4)
"""By which a row may turn, to have room."""
Cells = Float[np.ndarray, "rows columns"]
Point = tuple[float, float]
"""(x, y) in pixels."""


def likely(scene: Scene, place: str | None, reach: float) -> Cells:
    """How likely a defect's centre lies in each cell of a grid over the photo."""
    h, w = scene.light.shape
    rows, columns = min(GRID, h), min(GRID, w)
    inside = cv2.resize(scene.object, (columns, rows), interpolation=cv2.INTER_AREA)
    solid = np.pad((inside > 0.6).astype(np.uint8), 1)
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3)[1:-1, 1:-1] * (max(h, w) / GRID)
    depth = depth / max(float(depth.max()), 1e-6)  # 0 outside, 1 where the object is thickest
    y, x = np.nonzero(inside > 0.5)
    if len(x) == 0:
        return np.ones((rows, columns)) / (rows * columns)
    across = (np.arange(columns) - x.min() + 0.5) / max(np.ptp(x) + 1, 1)
    down = (np.arange(rows) - y.min() + 0.5) / max(np.ptp(y) + 1, 1)
    weights = np.where(depth > 0, 1.0, 0.0)
    if place in AT:
        u, v = AT[place]
        narrow = 0.05 if "edge" in place else 0.1
        weights *= 1e-9 + np.outer(_near(down, v, narrow), _near(across, u, narrow))
    elif place == "edge":
        weights *= 1e-9 + np.exp(-((depth / 0.2) ** 2))
    if place is None or "edge" not in place:  # wholly on the object, where there is room
        weights *= 0.02 + np.minimum(depth, min(1.0, 1.2 * reach / scene.unit + 0.15))
    total: np.ndarray = weights / weights.sum()
    return total


def point(weights: Cells, scene: Scene, rng: np.random.Generator) -> Point:
    """A point of one of the cells of `likely`."""
    which, u, v = rng.random(3)
    h, w = scene.light.shape
    upto = np.cumsum(weights)
    down, across = divmod(int(np.searchsorted(upto, which * upto[-1])), weights.shape[1])
    down = min(down, weights.shape[0] - 1)
    return (across + u) * w / weights.shape[1] - 0.5, (down + v) * h / weights.shape[0] - 0.5


def cluster(points: Sequence[Point], rngs: Sequence[np.random.Generator], scene: Scene, apart: float) -> list[Point]:
    """One of the points, and as many others close about it as there are, on the object where there is room."""
    first = _first(points, scene)
    found = [first]
    for rng in rngs[1:]:
        turns = 2 * np.pi * rng.random(TRIES)
        far = np.minimum(apart * (1 + 2 * rng.random(TRIES)), max(apart, 0.15 * scene.unit))
        tries = np.stack([first[0] + far * np.cos(turns), first[1] + far * np.sin(turns)], axis=1)
        found.append(_first([(x, y) for x, y in tries.tolist()], scene))
    return found


def scatter(points: Sequence[Point], rngs: Sequence[np.random.Generator], scene: Scene, weights: Cells) -> list[Point]:
    """Each of the points, or another likely one that is farther from those before it."""
    found = [points[0]]
    for given, rng in zip(points[1:], rngs[1:], strict=True):
        tries = [given, *(point(weights, scene, rng) for _ in range(TRIES))]
        found.append(max(tries, key=lambda at: min(np.hypot(at[0] - x, at[1] - y) for x, y in found)))
    return found


def row(points: Sequence[Point], scene: Scene, step: float, angles: Sequence[float]) -> tuple[list[Point], float]:
    """As many points as there are, on a line through one of them that stays on the object, `step` apart where there is
    room; and its direction: the first of `angles` with room enough, else the one with the most."""
    first, wanted = _first(points, scene), (len(points) - 1) * step
    rooms = {angle: _room(first, angle, wanted, scene) for angle in angles}
    angle = max(angles, key=lambda a: min(rooms[a][1] - rooms[a][0], wanted))
    low, high = rooms[angle]
    length = min(wanted, high - low)
    start = float(np.clip(-length / 2, low, high - length))
    places = start + np.linspace(0, length, len(points))
    return [(first[0] + s * np.cos(angle), first[1] + s * np.sin(angle)) for s in places.tolist()], angle


def _room(at: Point, angle: float, far: float, scene: Scene) -> tuple[float, float]:
    """How far the object goes on from a point, backwards (negative) and forwards, up to `far`, less a tenth."""
    steps = np.arange(0, far, 0.5)
    ends = []
    for cos, sin in ((-np.cos(angle), -np.sin(angle)), (np.cos(angle), np.sin(angle))):
        on = _solid(scene, at[0] + steps * cos, at[1] + steps * sin)
        ends.append(0.45 * float(np.argmin(np.append(on, False))))  # the first that is not, of steps of 0.5
    return -ends[0], ends[1]


def _solid(scene: Scene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points are on the object."""
    h, w = scene.object.shape
    inside = (x >= -0.5) & (x <= w - 0.5) & (y >= -0.5) & (y <= h - 0.5)
    column, line = np.round(x).astype(int).clip(0, w - 1), np.round(y).astype(int).clip(0, h - 1)
    on: np.ndarray = inside & (scene.object[line, column] > 0.5)
    return on


def _first(points: Sequence[Point], scene: Scene) -> Point:
    """The first of the points that is on the object."""
    x, y = np.array(points).T
    return points[int(np.argmax(_solid(scene, x, y)))]


def _near(at: np.ndarray, wanted: float | None, narrow: float) -> np.ndarray:
    return np.ones_like(at) if wanted is None else np.exp(-(((at - wanted) / narrow) ** 2) / 2)
