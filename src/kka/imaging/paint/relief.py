"""Holes, pits, dents and bubbles: what the light shows of a surface that is not flat."""

import cv2
import numpy as np

from kka.imaging.paint.colors import ink, material, mixed
from kka.imaging.paint.patch import patch
from kka.imaging.paint.plan import Mark
from kka.imaging.paint.scene import Scene, View
from kka.imaging.paint.shapes import Field, cover, lit, noise, soften


def hole(mark: Mark, scene: Scene) -> None:
    """Dark, its far wall lit, with a bright rim."""
    view, inside = patch(mark, scene, 0.6 * mark.rough, slim=0.6, margin=4.0)
    shape = soften(cover(inside, min(mark.soft, mark.reach)), 0.5 * scene.blur)
    deep = np.clip(inside / np.float32(max(0.45 * mark.reach, 1.0)), 0, 1)
    slope = lit(-soften(shape, max(0.7, 0.22 * mark.reach)), scene.sun)
    rgb = ink(mark, view, "black", "dark") * np.float32(0.35)
    floor = material(view, rgb, 0.12) + (np.clip(slope, 0, 1) * (1 - deep) * 70)[..., None]
    new = mixed(view.picture, floor, shape * np.float32(0.15 + 0.82 * mark.strength))
    rim = np.exp(-np.square((inside + 0.8) / 1.3)) * slope * np.float32(12 + 30 * mark.strength)
    view.put(new + rim[..., None], np.maximum(shape, np.minimum(1, np.abs(rim) / 14) * 0.5), mark.strength)


def pit(mark: Mark, scene: Scene) -> None:
    """A small soft hollow: one side in shadow, the other lit."""
    view, inside = patch(mark, scene, 0.6 * mark.rough, slim=0.6, margin=4.0)
    shape = soften(cover(inside, max(mark.soft, 0.6 * mark.reach)), max(0.5 * scene.blur, 0.4))
    slope = lit(-soften(shape, max(0.6, 0.35 * mark.reach)), scene.sun)
    floor = material(view, ink(mark, view, "dark") * 0.7, 0.3)
    new = mixed(view.picture, floor, shape * np.float32(0.15 + 0.7 * mark.strength))
    new = new + (slope * np.float32(8 + 30 * mark.strength))[..., None]
    view.put(new, np.maximum(shape, np.minimum(1, np.abs(slope) * 0.5)), mark.strength)


def dent(mark: Mark, scene: Scene) -> None:
    """A smooth hollow: shading from one side to the other, and what is printed on it drawn in."""
    view, inside = patch(mark, scene, 0.4 * mark.rough, slim=0.6, margin=3.0)
    t = np.clip(inside / np.float32(max((0.45 if mark.edge == "sharp" else 0.8) * mark.reach, 1)), 0, 1)
    bowl = t * t * (3 - 2 * t)
    new = _shaded(view, -bowl, mark, scene, pull=-0.35)
    view.put(new, np.minimum(1, bowl * 2.5), mark.strength)


def bubble(mark: Mark, scene: Scene) -> None:
    """A dome with a highlight towards the light and a fine shadow on the far side."""
    view, inside = patch(mark, scene, 0.25 * mark.rough, slim=0.6, margin=5.0)
    t = np.clip(inside / np.float32(max(0.8 * mark.reach, 1.0)), 0, 1)
    dome = np.sqrt(np.clip(1 - np.square(1 - t), 0, 1)).astype(np.float32)
    new = _shaded(view, soften(dome, max(0.5, scene.blur * 0.5)), mark, scene, pull=0.3)
    h, w = view.size
    reach = 0.38 * mark.reach
    x = np.arange(w, dtype=np.float32)[None, :] - np.float32(mark.x - view.left + scene.sun[0] * reach)
    y = np.arange(h, dtype=np.float32)[:, None] - np.float32(mark.y - view.top + scene.sun[1] * reach)
    spot = np.exp(-(x * x + y * y) / np.float32(2 * max(0.14 * mark.reach, 0.7) ** 2)) * (dome > 0)
    shift = max(1.0, 0.14 * mark.reach)
    shadow = cast(cover(inside, 1.2), scene, shift) * (1 - cover(inside, 1.2))
    new = new + (spot * np.float32(25 + 90 * mark.strength))[..., None]
    new = new * (1 - np.float32(0.1 + 0.3 * mark.strength) * shadow)[..., None]
    if mark.color:
        new = mixed(new, material(view, ink(mark, view), 0.6), cover(inside, 1.0) * np.float32(0.35))
    view.put(new, np.maximum(cover(inside, 1.2), shadow), mark.strength)


def cast(shape: Field, scene: Scene, shift: float) -> Field:
    """The soft shadow of a shape that stands up by about `shift` pixels."""
    move = np.array([[1, 0, -scene.sun[0] * shift], [0, 1, -scene.sun[1] * shift]], np.float32)
    moved = cv2.warpAffine(shape, move, shape.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(soften(moved, 0.5 * shift), dtype=np.float32)


def _shaded(view: View, height: Field, mark: Mark, scene: Scene, pull: float) -> np.ndarray:
    """The surface under a relief: brighter where it faces the light, and its pattern drawn along the slopes."""
    smooth = soften(height, max(0.6, 0.08 * mark.reach))
    x, y = cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    steep = max(float(np.hypot(x, y).max()), 1e-6)
    far = np.float32(pull * mark.strength * 0.45 * mark.reach / steep)
    h, w = view.size
    columns = np.arange(w, dtype=np.float32)[None, :] + far * x
    rows = np.arange(h, dtype=np.float32)[:, None] + far * y
    bent = cv2.remap(view.picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    slope = lit(smooth, scene.sun) * (1 + 0.15 * noise(h, w, max(mark.reach, 2.0), mark.rng, 2))
    gain = 1 + np.float32(0.1 + 0.5 * mark.strength) * slope
    gain = np.where(slope > 0, gain, np.maximum(gain, 0.35))
    more = slope * np.float32(4 + 14 * mark.strength)
    return np.asarray(bent * gain[..., None] + more[..., None], dtype=np.float32)
