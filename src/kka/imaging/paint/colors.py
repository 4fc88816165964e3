"""Colours of what lies on a photo: as a caption names them, in the photo's own light, with its grain."""

import numpy as np

from kka.imaging.paint.plan import Mark
from kka.imaging.paint.scene import LUMA, Colors, View
from kka.imaging.paint.shapes import Field

RGB: dict[str, tuple[int, int, int]] = {
    "black": (26, 24, 23), "grey": (128, 127, 125), "white": (236, 235, 230), "brown": (104, 68, 38),
    "red": (168, 38, 34), "orange": (206, 112, 34), "yellow": (208, 178, 62), "green": (66, 108, 52),
    "blue": (48, 78, 146), "purple": (104, 60, 128), "pink": (216, 138, 156),
}  # fmt: skip
APART = 45
"""Levels between a colour that the caption leaves open and the ground, in one channel at least."""


def ink(mark: Mark, view: View, *unsaid: str) -> np.ndarray:
    """(3,): the colour of a mark; where the caption names none, one of `unsaid`, by the mark's generator."""
    which = int(mark.rng.random() * len(unsaid))
    name = mark.color or unsaid[which]
    mean = view.picture.reshape(-1, 3).mean(axis=0)
    if name in RGB:
        rgb = np.array(RGB[name], np.float32)
        far = rgb - mean if not view.scene.grey else np.full(3, float((rgb - mean) @ LUMA))
        if mark.color or float(np.abs(far).max()) >= APART:
            return rgb
        name = "light" if mean.mean() < 70 else "dark"  # what looks like its ground is no defect
    if name == "light":
        return np.asarray(mean + (250 - mean) * np.float32(0.6), dtype=np.float32)
    return np.asarray(mean * np.float32(0.3 if name == "dark" else 0.55), dtype=np.float32)  # "clear": wet


def material(view: View, rgb: np.ndarray, keep: float) -> Colors:
    """An even coat of a colour as it would look in this place: the photo's shading, and `keep` of its detail."""
    bright = view.light / max(float(view.light.mean()), 1.0)
    shade = np.clip(np.float32(0.45) + np.float32(0.55) * bright, 0.45, 1.6)
    coat = rgb[None, None, :] * shade[..., None]
    if keep:
        coat = coat + np.float32(keep) * detail(view)[..., None]
    return np.asarray(coat, dtype=np.float32)


def detail(view: View) -> Field:
    """The fine part of the luminance."""
    return np.asarray(view.picture @ LUMA - view.light, dtype=np.float32)


def mixed(old: Colors, new: Colors | np.ndarray, share: Field) -> Colors:
    """`new` laid over `old`, `share` (0..1) of it."""
    return np.asarray(old + (new - old) * share[..., None], dtype=np.float32)
