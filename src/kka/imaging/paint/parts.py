"""Parts of the photo itself that are gone, doubled, moved, turned, bent, blurred, misprinted, or of another texture."""

import cv2
import numpy as np

from kka.imaging.paint.borders import backdrop
from kka.imaging.paint.colors import mixed
from kka.imaging.paint.patch import patch
from kka.imaging.paint.plan import Mark
from kka.imaging.paint.scene import LUMA, Colors, Scene, View
from kka.imaging.paint.shapes import Field, cover, lit, noise, outline, soften


def _salient(mark: Mark, scene: Scene) -> tuple[float, float]:
    """A point near the mark's where the photo has something to lose: the one of most detail among a few."""
    h, w = scene.light.shape
    far = scene.unit * (0.1 if mark.place else 0.3)
    tries = mark.rng.random((7, 2)) * 2 - 1
    best, point = -1.0, (mark.x, mark.y)
    for dx, dy in np.concatenate([np.zeros((1, 2)), tries * far]):
        x, y = float(np.clip(mark.x + dx, 0, w - 1)), float(np.clip(mark.y + dy, 0, h - 1))
        view = scene.view(x, y, 0.7 * mark.reach)
        rich = float((view.picture @ LUMA).std()) * float(view.object.mean())
        if rich > best + 0.5:
            best, point = rich, (x, y)
    return point


def _region(mark: Mark, view: View, x: float, y: float, reach: float) -> Field:
    """Signed distance to the outline of a part: an oval, or a plate with round corners."""
    slim = 0.65 + 0.35 * mark.rng.random()
    if mark.rng.random() < 0.5:
        return outline(*view.size, x - view.left, y - view.top, slim * reach, reach, mark.angle, 0.15, mark.rng)
    columns = np.arange(view.size[1], dtype=np.float32)[None, :] - np.float32(x - view.left)
    rows = np.arange(view.size[0], dtype=np.float32)[:, None] - np.float32(y - view.top)
    corner = 0.25 * reach
    x_off = np.maximum(np.abs(columns) - 0.85 * reach + corner, 0)
    y_off = np.maximum(np.abs(rows) - slim * 0.85 * reach + corner, 0)
    off = np.hypot(x_off, y_off)
    return np.asarray(corner - off, dtype=np.float32)


def _sampled(image: np.ndarray, columns: Field, rows: Field) -> np.ndarray:
    """An image at other places, (h, w) or (h, w, 3); beyond its border it is mirrored."""
    at = columns.astype(np.float32), rows.astype(np.float32)
    return cv2.remap(image, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _grid(view: View) -> tuple[Field, Field]:
    """The scene's coordinates of a window's pixels: columns and rows, (h, w) each."""
    h, w = view.size
    columns = np.broadcast_to(np.arange(w, dtype=np.float32)[None, :] + view.left, (h, w))
    rows = np.broadcast_to(np.arange(h, dtype=np.float32)[:, None] + view.top, (h, w))
    return columns, rows


def _seamless(view: View, source: Colors, shape: Field) -> Colors:
    """`source` in the place of the window's picture where `shape` is, with its gradients and the place's light.

    Poisson blending (Pérez et al. 2003), by OpenCV.
    """
    mask = (shape > 0.3).astype(np.uint8) * 255
    x, y, w, h = cv2.boundingRect(mask)
    if w < 4 or h < 4:
        return source
    pad = 3
    around = [np.clip(im, 0, 255).astype(np.uint8) for im in (source, view.picture)]
    new, old = (cv2.copyMakeBorder(im, pad, pad, pad, pad, cv2.BORDER_REPLICATE) for im in around)
    where = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    cloned = cv2.seamlessClone(new, old, where, (pad + x + w // 2, pad + y + h // 2), cv2.NORMAL_CLONE)
    return cloned[pad:-pad, pad:-pad].astype(np.float32)


def missing(mark: Mark, scene: Scene) -> None:
    """A part is gone: the background stands there, or the surface from beside it, and a trace of its place."""
    x, y = _salient(mark, scene)
    view = scene.view(x, y, 1.35 * mark.reach + 5)
    inside = _region(mark, view, x, y, mark.reach)
    shape = soften(cover(inside, 1.3), 0.4 * scene.blur)
    filled = _seamless(view, _plainest(mark, scene, view, x, y), shape) if scene.whole else backdrop(view)
    new = mixed(view.picture, filled, shape * np.float32(0.4 + 0.6 * mark.strength))
    if scene.whole:  # what was let in leaves a hollow
        new = _stepped(new, -shape, mark, scene) * np.float32(1 - 0.12 * mark.strength)
    view.put(new, shape, mark.strength)


def _plainest(mark: Mark, scene: Scene, view: View, x: float, y: float) -> Colors:
    """The window around the place beside (x, y) that shows least."""
    columns, rows = _grid(view)
    h, w = scene.light.shape
    start = mark.rng.random() * 2 * np.pi
    best, found = np.inf, view.picture
    for turn in start + np.linspace(0, 2 * np.pi, 6, endpoint=False):
        dx, dy = np.cos(turn) * 2.1 * mark.reach, np.sin(turn) * 2.1 * mark.reach
        if not (mark.reach < x + dx < w - mark.reach and mark.reach < y + dy < h - mark.reach):
            continue
        there = scene.view(x + dx, y + dy, mark.reach)
        busy = float((there.picture @ LUMA).std()) + 0.1 * abs(float(there.light.mean()) - float(view.light.mean()))
        if busy < best:
            best, found = busy, _sampled(scene.picture, columns + dx, rows + dy)
    return found


def doubled(mark: Mark, scene: Scene) -> None:
    """A part stands there twice."""
    x, y = _salient(mark, scene)
    h, w = scene.light.shape
    turn, far = mark.rng.random() * 2 * np.pi, mark.reach * (1.3 + 0.9 * mark.rng.random())
    for _ in range(8):
        at_x, at_y = x + far * np.cos(turn), y + far * np.sin(turn)
        if 0.5 * mark.reach < at_x < w - 0.5 * mark.reach and 0.5 * mark.reach < at_y < h - 0.5 * mark.reach:
            break
        turn += np.pi / 4
    view = scene.view(at_x, at_y, 1.35 * mark.reach + 5)
    columns, rows = _grid(view)
    lean = (mark.rng.random() - 0.5) * 0.5
    source_x = x + (columns - at_x) * np.cos(lean) - (rows - at_y) * np.sin(lean)
    source_y = y + (columns - at_x) * np.sin(lean) + (rows - at_y) * np.cos(lean)
    copied = _sampled(scene.picture, source_x, source_y)
    shape = cover(_region(mark, view, at_x, at_y, mark.reach), 1.5)
    if scene.whole:
        copied = _seamless(view, copied, shape)
    else:  # the part alone, without the background around it
        shape = shape * _sampled(scene.object, source_x, source_y)
    shape = soften(shape, 0.4 * scene.blur)
    new = mixed(view.picture, copied, shape * np.float32(0.4 + 0.6 * mark.strength))
    new = _stepped(new, shape, mark, scene)
    view.put(new, shape, mark.strength, beyond=True)


def shifted(mark: Mark, scene: Scene) -> None:
    """A part sits beside its place; cuts show where it no longer meets the rest."""
    x, y = _salient(mark, scene)
    view = scene.view(x, y, 1.35 * mark.reach + 5)
    columns, rows = _grid(view)
    angle = mark.angle if mark.aimed else mark.rng.random() * 2 * np.pi
    far = max(1.2, mark.reach * (0.1 + 0.5 * mark.strength) * (0.8 + 0.4 * mark.rng.random()))
    moved = _sampled(scene.picture, columns - far * np.cos(angle), rows - far * np.sin(angle))
    _inlay(view, moved, _region(mark, view, x, y, mark.reach), mark, scene)


def turned(mark: Mark, scene: Scene) -> None:
    """A round part is turned in its place, or a part stands upside down."""
    x, y = _salient(mark, scene)
    view = scene.view(x, y, 1.1 * mark.reach + 4)
    columns, rows = _grid(view)
    turn = (0.15 + 1.3 * mark.strength) * (1 if mark.rng.random() < 0.5 else -1)
    if mark.rng.random() < 0.25:
        turn = np.pi
    dx, dy = columns - x, rows - y
    to_x, to_y = x + dx * np.cos(turn) - dy * np.sin(turn), y + dx * np.sin(turn) + dy * np.cos(turn)
    moved = _sampled(scene.picture, to_x, to_y)
    _inlay(view, moved, mark.reach - np.hypot(dx, dy), mark, scene)


def _inlay(view: View, moved: Colors, inside: Field, mark: Mark, scene: Scene) -> None:
    """Put a part of the photo into it."""
    shape = soften(cover(inside, 1.2), 0.4 * scene.blur)
    new = _stepped(mixed(view.picture, moved, shape), shape, mark, scene)
    view.put(new, shape, mark.strength, beyond=True)


def _stepped(picture: Colors, shape: Field, mark: Mark, scene: Scene) -> Colors:
    """The edge of a part that stands a little above its surroundings, or below: one side lit, the other dark."""
    edge = lit(soften(shape, max(0.7, 0.6 * scene.blur)), scene.sun)
    return np.asarray(picture * (1 + edge * np.float32(0.06 + 0.2 * mark.strength))[..., None], dtype=np.float32)


def deformation(mark: Mark, scene: Scene) -> None:
    """A local warp: a bulge, a pinch, a twist, or a bend to one side; with the shading that it brings."""
    x, y = mark.x, mark.y
    reach = max(mark.reach, 2.0)
    view = scene.view(x, y, reach + 2)
    columns, rows = _grid(view)
    dx, dy = columns - np.float32(x), rows - np.float32(y)
    radius = np.sqrt(dx * dx + dy * dy) / np.float32(reach)
    fall = np.square(np.clip(1 - radius * radius, 0, 1))
    power = np.float32(0.2 + 0.5 * mark.strength)
    kind = 1.0 if mark.aimed else mark.rng.random()
    if kind < 0.25:  # bulge
        to_x, to_y = columns - dx * fall * power, rows - dy * fall * power
    elif kind < 0.45:  # pinch
        to_x, to_y = columns + dx * fall * power * 0.8, rows + dy * fall * power * 0.8
    elif kind < 0.65:  # twist
        turn = fall * power * np.float32(2.2)
        to_x, to_y = x + dx * np.cos(turn) - dy * np.sin(turn), y + dx * np.sin(turn) + dy * np.cos(turn)
    else:  # bend
        far = fall * power * np.float32(0.75 * reach)
        to_x, to_y = columns - far * np.float32(np.cos(mark.angle)), rows - far * np.float32(np.sin(mark.angle))
    moved = _sampled(scene.picture, to_x, to_y)
    slope = (dx * np.float32(scene.sun[0]) + dy * np.float32(scene.sun[1])) / np.float32(reach)
    gain = 1 + slope * fall * np.float32(1.3 * mark.strength)
    view.put(moved * gain[..., None], np.minimum(1, fall * 4), mark.strength, beyond=True)


def blur(mark: Mark, scene: Scene) -> None:
    """A part of the print or the photo is out of focus, or smeared in a direction."""
    x, y = _salient(mark, scene)
    view = scene.view(x, y, 1.4 * mark.reach + mark.soft + 4)
    shape = cover(_region(mark, view, x, y, mark.reach), max(mark.soft, 0.25 * mark.reach))
    sigma = max(1.0, (0.008 + 0.034 * mark.strength) * scene.unit)
    if mark.aimed or mark.rng.random() < 0.5:
        side = 2 * int(np.ceil(2 * sigma)) + 1
        kernel = np.zeros((side, side), np.float32)
        end = np.array([np.cos(mark.angle), np.sin(mark.angle)]) * (side // 2)
        middle = np.array([side // 2, side // 2])
        start, stop = (np.round(at).astype(int).tolist() for at in (middle - end, middle + end))
        cv2.line(kernel, start, stop, (1.0,))
        smeared = cv2.filter2D(view.picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
        smeared = smeared * np.float32(1 - 0.06 * mark.strength)  # ink is carried along
    else:
        smeared = soften(view.picture, sigma)
    view.put(mixed(view.picture, smeared, shape), shape, mark.strength, beyond=True)


def misprint(mark: Mark, scene: Scene) -> None:
    """A part of the print is a ghost of itself, mirrored, or its colours do not lie upon each other."""
    x, y = _salient(mark, scene)
    view = scene.view(x, y, 1.3 * mark.reach + 4)
    columns, rows = _grid(view)
    shape = soften(cover(_region(mark, view, x, y, mark.reach), 1.4), 0.4 * scene.blur)
    far = max(1.5, (0.012 + 0.045 * mark.strength) * scene.unit)
    dx, dy = far * np.cos(mark.angle), far * np.sin(mark.angle)
    kind = mark.rng.random()
    if kind < 0.4:
        ghost = _sampled(scene.picture, columns - dx, rows - dy)
        darker = np.minimum(view.picture, ghost)
        share = np.full(view.size, 0.35 + 0.5 * mark.strength, np.float32)
        new = mixed(view.picture, 0.5 * darker + 0.5 * ghost, share)
    elif kind < 0.7:
        new = _sampled(scene.picture, 2 * x - columns, rows)
    else:
        new = view.picture.copy()
        if scene.grey:
            new = 2 * view.light[..., None] - new  # light and dark exchanged
        else:
            new[..., 0] = _sampled(scene.picture, columns - dx, rows - dy)[..., 0]
            new[..., 2] = _sampled(scene.picture, columns + dx, rows + dy)[..., 2]
    view.put(mixed(view.picture, new, shape), shape, mark.strength)


def texture(mark: Mark, scene: Scene) -> None:
    """A part has the grain of another place, of another normal, or its own turned and coarser."""
    rng = mark.rng
    view, inside = patch(mark, scene, 0.16 if mark.shape is None else mark.rough, slim=0.5, margin=mark.soft + 3)
    shape = soften(cover(inside, mark.soft), 0.4 * scene.blur)
    source = scene.photo if scene.other is None else scene.other
    h, w = source.shape[:2]
    columns, rows = _grid(view)
    at_x, at_y = (0.25 + 0.5 * rng.random(2)) * (w, h)
    turn = mark.angle if mark.aimed else np.pi / 2 * (1 if rng.random() < 0.7 else rng.random())
    zoom = np.float32(1 / (1 + 1.1 * mark.strength * rng.random()))
    dx, dy = (columns - mark.x) * zoom, (rows - mark.y) * zoom
    to_x, to_y = at_x + dx * np.cos(turn) - dy * np.sin(turn), at_y + dx * np.sin(turn) + dy * np.cos(turn)
    taken = _sampled(source, to_x, to_y)
    fine = max(1.5, 0.06 * scene.unit)
    low = soften(view.picture, fine)
    grain = (taken - soften(taken, fine)) * np.float32(0.9 + 1.1 * mark.strength)
    own = max(float((view.picture - low).std()), 2.0)
    grain = grain * np.float32(np.clip(1.3 * own / max(float(grain.std()), 1e-3), 0.8, 2.2))
    if float(grain.std()) < 1.5:  # the source is flat: a coarse grain
        coarse = noise(*view.size, max(0.02 * scene.unit, 1.5), rng, 2)
        grain = grain + coarse[..., None] * np.float32(4 + 10 * mark.strength)
    level = np.float32(1 + (rng.random() - 0.5) * 0.3 * mark.strength)
    new = low * level + grain
    view.put(mixed(view.picture, new, shape * np.float32(0.35 + 0.65 * mark.strength)), shape, mark.strength)
