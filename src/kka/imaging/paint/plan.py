"""From words to numbers: what a caption leaves open, the seed decides. Sizes are relative to the object.

Each attribute has its own random number, so that a caption with one word changed gives the same defect in that one
respect only: "faint" in the place of "obvious" keeps place, size and direction.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kka.defects.vocabulary import STROKES
from kka.imaging.paint.places import CORNERS, TURNS, cluster, likely, point, row, scatter
from kka.imaging.paint.scene import Scene

STRENGTH = {"faint": 0.2, "slight": 0.4, "clear": 0.68, "obvious": 1.0}
SIZE = {"tiny": 0.05, "small": 0.1, "medium": 0.2, "large": 0.38, "huge": 0.65}
"""Extent, as a share of the object's."""
WIDTH = {"hairline": 0.003, "thin": 0.007, "wide": 0.028}
"""Of a line, as a share of the object's side."""
NUMBER = dict(one=(1, 1), two=(2, 2), three=(3, 3), four=(4, 4), five=(5, 5), several=(4, 6), many=(9, 12))
UNSAID = {"pit": (2, 8), "speck": (2, 9), "bubble": (1, 4), "scratch": (1, 4), "crack": (1, 2), "fiber": (1, 3)}
"""How many there are where a caption does not say, as in "dusty"; of other families one."""
EXTENT = {
    "crack": 1.9, "scratch": 1.8, "hair": 1.9, "fiber": 1.1, "hole": 0.6, "pit": 0.3, "dent": 1.0, "bubble": 0.6,
    "stain": 1.0, "spill": 1.2, "rust": 1.2, "discoloration": 1.5, "fading": 1.6, "chip": 0.8, "burr": 0.7,
    "deformation": 1.7, "speck": 0.28, "missing": 1.1, "doubled": 1.1, "shifted": 1.3, "turned": 1.3, "blur": 1.5,
    "misprint": 1.3, "texture": 1.7, "light": 2.4, "coating": 2.2,
}  # fmt: skip
"""How large a family's defects are beside the size that a word means."""
MANY = {"large": 8, "small": 12}
"""Most defects of one kind in a picture: of areas, parts and lines, and of spots."""
SPOTS = frozenset({"pit", "speck", "bubble", "hole", "stain"})
ANGLE = {"horizontal": 0.0, "vertical": np.pi / 2, "diagonal": np.pi / 4}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One defect to paint, in pixels and radians."""

    strength: float
    """From just visible, 0.2, to what nobody overlooks, 1."""
    x: float
    y: float
    reach: float
    """Half of its extent."""
    width: float
    """Of a line."""
    angle: float
    """Of its long side from the x axis, downwards."""
    aimed: bool
    """The caption gives the direction."""
    edge: str | None
    """As the caption says it."""
    soft: float
    """Width of its edge."""
    rough: float
    """How far its outline strays."""
    color: str | None
    shape: str | None
    place: str | None
    rng: np.random.Generator
    """For what is left."""


def marks(family: str, said: Mapping[str, str], scene: Scene, seed: int, number: int) -> list[Mark]:
    """The defects that one name in a caption stands for. `number`: of the name in the caption."""
    u = _generator(seed, number).random(16).tolist()
    strength = STRENGTH.get(said.get("strength", ""), 0.35 + 0.6 * u[0])
    share = SIZE.get(said.get("size", ""), 0.08 * 4.5 ** u[1]) * (0.88 + 0.24 * u[2])
    reach = max(0.5 * share * EXTENT[family] * scene.unit, 0.8)
    width = scene.unit * WIDTH.get(said.get("width", ""), 0.008 * 2.2 ** u[3])
    angle = ANGLE[said["direction"]] if "direction" in said else np.pi * u[4]
    if said.get("direction") == "diagonal" and u[4] < 0.5:
        angle = -angle
    angle += (u[5] - 0.5) * (0.2 if "direction" in said else 0.0)
    low, high = NUMBER[said["number"]] if "number" in said else UNSAID.get(family, (1, 1))
    count = min(low + int(u[6] * (high - low + 1)), MANY["small" if family in SPOTS else "large"])
    edge = said.get("edge")
    soft = max(scene.blur, {"soft": 0.55 * reach, "sharp": 0.8}.get(edge or "", 0.8 + u[7] * 0.14 * reach))
    rough = {"ragged": 0.5, "sharp": 0.22}.get(edge or "", 0.12 + 0.25 * u[8])
    shape = said.get("shape")
    if shape in ("round", "oval"):
        rough *= 0.35
    elif shape == "irregular":
        rough = max(rough, 0.45)
    place = said.get("place")
    if place == "corner":
        place = CORNERS[int(u[9] * 4)]
    found: list[Mark] = []
    weights = likely(scene, place, reach)
    rngs = [_generator(seed, number, i + 1) for i in range(count)]
    points = [point(weights, scene, rng) for rng in rngs]
    if family in STROKES:  # they lie side by side
        apart, beside = 0.06 * scene.unit, np.pi / 2
    else:
        apart, beside = max(1.3 * reach, 0.03 * scene.unit), 0.0
    if said.get("spread") == "clustered":
        points = cluster(points, rngs, scene, apart)
    elif said.get("spread") == "scattered":
        points = scatter(points, rngs, scene, weights)
    elif said.get("spread") == "row":
        turns = (0.0,) if "direction" in said else TURNS
        points, along = row(points, scene, 2 * apart, [angle + beside + turn for turn in turns])
        angle = along - beside
    for i, (rng, (x, y)) in enumerate(zip(rngs, points, strict=True)):
        vary = 0.75 + 0.5 * rng.random() if i else 1.0
        lean = (rng.random() - 0.5) * (0.5 if i and family in STROKES else 0.0)
        found.append(
            Mark(
                strength=strength, x=x, y=y, reach=max(reach * vary, 0.8), width=width * vary,
                angle=angle + lean, aimed="direction" in said, edge=edge, soft=soft, rough=rough,
                color=said.get("color"), shape=shape, place=place, rng=rng,
            )
        )  # fmt: skip
    return found


def _generator(*seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))
