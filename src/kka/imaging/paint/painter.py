"""`Paint`: alters normals by captions, one at a time, on one core."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from kka.common.cache import pixel_hash
from kka.defects.reading import read
from kka.defects.vocabulary import FAMILIES
from kka.errors import UserError
from kka.imaging.paint import borders, coats, lines, matter, parts, relief
from kka.imaging.paint.plan import Mark, marks
from kka.imaging.paint.scene import Scene, open_scene
from kka.protocols import Altered, Images

VERSION = 2
"""Raise it whenever the pictures would change: it is part of the key under which they are kept."""
MOST = 4
"""Names of defects that are painted of one caption; what it names beyond them is left out."""
PAINTERS: dict[str, Callable[[Mark, Scene], None]] = {
    "crack": lines.crack, "scratch": lines.scratch,
    "hole": relief.hole, "pit": relief.pit, "dent": relief.dent, "bubble": relief.bubble,
    "stain": coats.stain, "spill": coats.spill, "rust": coats.rust, "discoloration": coats.discoloration,
    "fading": coats.fading, "light": coats.light, "coating": coats.coating,
    "chip": borders.chip, "burr": borders.burr,
    "speck": matter.speck, "fiber": matter.fiber, "hair": matter.hair,
    "deformation": parts.deformation, "missing": parts.missing, "doubled": parts.doubled, "shifted": parts.shifted,
    "turned": parts.turned, "blur": parts.blur, "misprint": parts.misprint, "texture": parts.texture,
}  # fmt: skip
"""family -> what paints one of it."""


class Paint:
    """Paints on each normal the defects that its caption names, and gives the mask of what it changed.

    Picture i depends on caption i, seed i and normal i alone. Where a caption names no defect, the seed chooses one.

    Args:
        subject: What the photos show, as `--describe` says it: its words are no defects, and count as known.
        others: Normals from which a changed texture may come; without them it comes from the photo itself.

    Example:
        >>> altered = Paint().alter(normals, ["a long thin scratch near the left edge"] * len(normals), seeds=seeds)
        >>> altered.images, altered.masks
    """

    def __init__(self, *, subject: str = "", others: Images | None = None) -> None:
        self._subject = subject
        self._others = others if others is not None and len(others) else None
        content = "" if self._others is None else "/" + "".join(pixel_hash(other) for other in self._others)
        self.identity = f"paint/{VERSION}/{hashlib.sha256((subject + content).encode()).hexdigest()[:16]}"
        self.ignored_words = 0
        """Words outside the vocabulary in all captions so far."""

    def reads(self, caption: str) -> bool:
        """Whether the caption names a defect; of one that names none the seed chooses it."""
        return bool(read(caption, self._subject).defects)

    def alter(self, normals: Images, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
        """The normals (n, h, w, 3) with the defects of the captions, and the masks (n, h, w)."""
        if not len(normals) == len(captions) == len(seeds):
            raise UserError(
                f"paint: expected a normal, a caption and a seed for each picture; "
                f"got {len(normals)}, {len(captions)} and {len(seeds)}"
            )
        images, masks = np.empty_like(normals), np.empty(normals.shape[:3], np.uint8)
        for i, (normal, caption, seed) in enumerate(zip(normals, captions, seeds, strict=True)):
            images[i], masks[i] = self._paint(normal, caption, seed)
        return Altered(images=images, masks=masks)

    def _paint(self, normal: np.ndarray, caption: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        reading = read(caption, self._subject)
        self.ignored_words += reading.ignored
        rng = np.random.Generator(np.random.SFC64([seed, 0]))
        sun, which, other = rng.random(3)
        named = [(defect.family, defect.attributes) for defect in reading.defects[:MOST]]
        if not named:
            named = [(tuple(FAMILIES)[int(which * len(FAMILIES))], dict(reading.said))]
        another = None if self._others is None else self._others[int(other * len(self._others))]
        scene = open_scene(normal, (-0.75 + 0.5 * (sun - 0.5)) * np.pi, another)  # from above, as lamps and the sun
        for number, (family, said) in enumerate(named, start=1):
            for mark in marks(family, said, scene, seed, number):
                PAINTERS[family](mark, scene)
        return scene.finish()
