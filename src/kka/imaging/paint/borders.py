"""Defects of the object's border, of the photo's where it is full: pieces broken out, and burrs that stand out."""

import cv2
import numpy as np

from kka.imaging.paint.colors import detail, material, mixed
from kka.imaging.paint.places import AT
from kka.imaging.paint.plan import Mark
from kka.imaging.paint.scene import Colors, Scene, View
from kka.imaging.paint.shapes import cover, lit, noise, outline, soften, strokes


def border_point(mark: Mark, scene: Scene) -> tuple[float, float, float, float]:
    """A point of the border that is near the place that the caption names, and the direction outwards: x, y, (u, v)."""
    h, w = scene.light.shape
    points = _full_border(h, w) if scene.whole else _outline_of(scene)
    if scene.whole:
        outward = (points >= [w - 1, h - 1]).astype(float) - (points <= 0)
    else:
        smooth = soften(scene.object, max(1.0, 0.02 * scene.unit))
        x, y = cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
        at = points[:, 1], points[:, 0]
        outward = -np.stack([x[at], y[at]], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    share = (points - low) / np.maximum(high - low, 1)
    if mark.place in AT:
        wanted = np.array([np.nan if at is None else at for at in AT[mark.place]])
        off = np.nan_to_num(share - wanted)
        weights = np.exp(-(off * off).sum(1) / 0.02) + 1e-12
    else:
        weights = np.ones(len(points))
    upto = np.cumsum(weights)
    i = min(int(np.searchsorted(upto, mark.rng.random() * upto[-1])), len(points) - 1)
    u, v = outward[i] / max(float(np.hypot(*outward[i])), 1e-6)
    return float(points[i, 0]), float(points[i, 1]), float(u), float(v)


def _full_border(h: int, w: int) -> np.ndarray:
    """The pixels (x, y) along the photo's border."""
    x, y = np.arange(w), np.arange(h)
    sides = [(x, np.zeros(w)), (x, np.full(w, h - 1)), (np.zeros(h), y), (np.full(h, w - 1), y)]
    return np.concatenate([np.stack(side, axis=1) for side in sides]).astype(int)


def _outline_of(scene: Scene) -> np.ndarray:
    """The pixels (x, y) along the object's outline, but those where the photo cuts it off."""
    h, w = scene.light.shape
    found, _ = cv2.findContours((scene.object > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate([outline[:, 0] for outline in found])
    inner = (points[:, 0] > 1) & (points[:, 1] > 1) & (points[:, 0] < w - 2) & (points[:, 1] < h - 2)
    return points[inner] if inner.any() else points


def chip(mark: Mark, scene: Scene) -> None:
    """A piece is gone: the background shows, or the broken face where there is none, behind a rough edge."""
    rng = mark.rng
    x, y, u, v = border_point(mark, scene)
    deep = mark.reach * (0.55 + 0.3 * rng.random())
    view = scene.view(x, y, 1.7 * mark.reach + 5)
    middle = x - u * 0.15 * deep - view.left, y - v * 0.15 * deep - view.top
    turn = float(np.arctan2(v, u)) + np.pi / 2
    inside = outline(*view.size, *middle, deep, mark.reach, turn, 0.3 + 0.5 * mark.rough, rng)
    facets = np.round(noise(*view.size, max(0.5 * mark.reach, 2.0), rng, 2) * 2.5) / 2.5  # stone breaks in flat pieces
    inside = inside + facets * np.float32(0.12 * mark.reach)
    bite = soften(cover(inside, 1.0), 0.5 * scene.blur)
    face = _broken_face(view, mark, scene)
    if scene.whole:
        wall = np.exp(-np.square(inside / np.float32(1.0 + 0.12 * mark.reach)))
        lip = lit(-soften(bite, 0.8), scene.sun) * (10 + 30 * mark.strength)
        new = mixed(view.picture, face, bite * np.float32(0.25 + 0.72 * mark.strength)) + (wall * lip)[..., None]
        view.put(new, bite, mark.strength)
        return
    rim = cover(inside + np.float32(0.2 * deep + 1), 1.2) * (1 - bite)
    ragged = mixed(view.picture, face, np.clip(rim, 0, 1) * np.float32(0.25 + 0.6 * mark.strength))
    gap = bite * np.float32(0.35 + 0.65 * mark.strength)
    new = mixed(ragged, backdrop(view), gap)
    view.put(new, np.maximum(bite, rim), mark.strength)


def _broken_face(view: View, mark: Mark, scene: Scene) -> Colors:
    """The inside of the material: rough, in facets, darker or lighter than the skin."""
    h, w = view.size
    height = noise(h, w, max(0.6 * mark.reach, 3.0), mark.rng, 4)
    relief = lit(np.round(height * 3) / 3 + 0.4 * height, scene.sun)
    mean = view.picture.reshape(-1, 3).mean(axis=0)
    bright = mark.rng.random() < 0.35 and mean.mean() < 150
    rgb = mean + (235 - mean) * 0.45 if bright else mean * 0.42
    return material(view, rgb.astype(np.float32), 0.3) + (relief * 30)[..., None]


def backdrop(view: View) -> Colors:
    """What would be seen if the object were not there: the background's colours drawn inwards, with its grain."""
    outside = 1 - view.object
    reach = max(2.0, 0.35 * max(view.size))
    weight = soften(outside, reach) + 1e-4
    near = soften(view.picture * outside[..., None], reach) / weight[..., None]
    if float(outside.mean()) < 0.02:  # none in this window
        away = view.scene
        rest = 1 - away.object
        mean = (away.photo * rest[..., None]).sum((0, 1)) / max(float(rest.sum()), 1e-3)
        near = np.broadcast_to(mean, near.shape)
    grain = cv2.flip(detail(view) * outside, -1)
    return np.asarray(near + 0.7 * grain[..., None], dtype=np.float32)


def burr(mark: Mark, scene: Scene) -> None:
    """Thin teeth of the object's own material beyond its border; a ragged ridge where the object fills the photo."""
    rng = mark.rng
    x, y, u, v = border_point(mark, scene)
    view = scene.view(x, y, 1.8 * mark.reach + 4)
    h, w = view.size
    base = np.array([x - view.left, y - view.top], np.float32)
    out, along = np.array([u, v], np.float32), np.array([-v, u], np.float32)
    inward = -1.0 if scene.whole else 1.0
    lines = []
    for _ in range(5 + int(rng.random() * 6)):
        foot = base + along * np.float32((rng.random() - 0.5) * 1.8 * mark.reach) - out * 1.5 * np.float32(inward)
        tall = mark.reach * (0.25 + 0.65 * rng.random() ** 2) + 1.5
        lean = along * np.float32((rng.random() - 0.5) * 0.9) + out * np.float32(inward)
        path = np.stack([foot + lean * np.float32(tall * t) for t in np.linspace(0, 1, 7)]).astype(np.float32)
        wide = max(0.16 * mark.reach, 1.0) * (0.6 + 0.8 * rng.random())
        lines.append((path, wide * np.linspace(1.6, 0.25, 7), np.ones(7)))
    teeth = soften(strokes(h, w, lines), 0.5 * scene.blur)
    relief = lit(soften(teeth, 0.8), scene.sun)
    if scene.whole:
        body = view.picture * np.float32(1.15) + np.float32(14)
    else:
        weight = soften(view.object, max(1.5, 0.3 * mark.reach)) + 1e-4
        body = soften(view.picture * view.object[..., None], max(1.5, 0.3 * mark.reach)) / weight[..., None]
    body = body + (relief * (18 + 30 * mark.strength) + 0.5 * detail(view))[..., None]
    new = mixed(view.picture, body, np.clip(teeth * np.float32(0.35 + 0.62 * mark.strength), 0, 1))
    view.put(new, teeth, mark.strength, beyond=True)
