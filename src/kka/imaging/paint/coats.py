"""What lies on a surface or has changed its colour: stains, liquid, rust, tints, fading, uneven light and coating."""

import numpy as np

from kka.imaging.paint.colors import detail, ink, material, mixed
from kka.imaging.paint.patch import patch
from kka.imaging.paint.plan import Mark
from kka.imaging.paint.scene import LUMA, Scene, View
from kka.imaging.paint.shapes import Field, cover, lit, noise, soften, streaks, strokes


def _coat(mark: Mark, scene: Scene, rough: float, margin: float = 3.0) -> tuple[View, Field]:
    """Its window and outline, of many lobes where the caption does not say."""
    stray = rough if mark.shape is None else mark.rough
    return patch(mark, scene, stray, slim=0.45, margin=mark.soft + margin)


def stain(mark: Mark, scene: Scene) -> None:
    """A tint that soaked in: denser at its rim, uneven within; the surface shows through."""
    rng = mark.rng
    view, inside = _coat(mark, scene, 0.12 + 0.7 * mark.rough)
    shape = soften(cover(inside, mark.soft), 0.5 * scene.blur)
    rim = np.exp(-np.square((inside - mark.soft) / np.float32(max(0.07 * mark.reach, 0.9))))
    rim *= np.float32(rng.random() ** 2)
    uneven = 0.78 + 0.25 * noise(*view.size, max(0.6 * mark.reach, 2.0), rng)
    share = np.clip(shape * (uneven + 0.45 * rim), 0, 1.15) * np.float32(0.18 + 0.7 * mark.strength)
    rgb = ink(mark, view, "brown", "dark", "dark", "black", "yellow")
    tint = view.picture * np.clip(rgb / max(float(rgb.max()), 140.0), 0.15, 1)  # as dye does: light is taken away
    coat = 0.55 * tint + 0.45 * material(view, rgb, 0.8)
    if mark.color in ("white", "light", "grey", "pink", "yellow"):
        coat = material(view, rgb, 0.6)
    view.put(mixed(view.picture, coat, np.clip(share, 0, 0.95)), shape, mark.strength)


def spill(mark: Mark, scene: Scene) -> None:
    """A liquid: lobes and runs that flow together, a wet darker ground, and a glint along its edge."""
    rng = mark.rng
    flow = mark.angle if mark.aimed else np.pi / 2 + (rng.random() - 0.5) * 0.3
    reach = 1.7 * mark.reach
    view = scene.view(mark.x, mark.y, reach + 4)
    center = np.array([mark.x - view.left, mark.y - view.top], np.float32)
    down = np.array([np.cos(flow), np.sin(flow)], np.float32)
    aside = np.array([-down[1], down[0]], np.float32)
    lines = []
    for _ in range(5 + int(rng.random() * 4)):  # lobes
        at = center + aside * (rng.random() - 0.5) * 1.1 * mark.reach + down * (rng.random() - 0.6) * 0.8 * mark.reach
        size = mark.reach * (0.35 + 0.5 * rng.random())
        lines.append((np.stack([at, at + 0.2]), np.full(2, size), np.ones(2)))
    for _ in range(1 + int(rng.random() * 3)):  # runs
        at = center + aside * (rng.random() - 0.5) * 1.0 * mark.reach
        far = mark.reach * (0.7 + 0.8 * rng.random())
        path = np.stack([at + down * far * t for t in np.linspace(0, 1, 9)])
        lines.append((path, mark.reach * np.linspace(0.24, 0.1, 9) + 0.8, np.ones(9)))
        lines.append((path[-2:], np.full(2, 0.22 * mark.reach + 1), np.ones(2)))
    for _ in range(int(rng.random() * 5)):  # drops apart
        turn, far = rng.random() * 2 * np.pi, mark.reach * (1.0 + 0.6 * rng.random())
        at = center + np.array([np.cos(turn), np.sin(turn)], np.float32) * np.float32(far)
        size = mark.reach * (0.05 + 0.1 * rng.random())
        lines.append((np.stack([at, at + 0.2]), np.full(2, size), np.ones(2)))
    lines = [(path.astype(np.float32), widths, dense) for path, widths, dense in lines]
    drawn = soften(strokes(*view.size, lines), max(0.6, 0.07 * mark.reach))
    edge = 0.45 if mark.soft > 0.4 * mark.reach else 0.16
    shape = cover((drawn - 0.5) / np.float32(edge), 1.0)
    rgb = ink(mark, view, "clear", "dark", "brown", "black")
    wet = view.picture * np.float32(1 - 0.45 * mark.strength)
    clear = mark.color in (None, "clear") and rng.random() < 0.5
    coat = wet if clear else 0.35 * wet + 0.65 * material(view, rgb, 0.35)
    share = shape * np.float32(0.25 + 0.7 * mark.strength)
    slope = lit(soften(shape, max(0.8, 0.07 * mark.reach)), scene.sun)
    glint = np.square(np.clip(slope, 0, 1)) * np.float32(20 + 75 * mark.strength) * shape
    shade = np.clip(-slope, 0, 1) * np.float32(8 + 20 * mark.strength) * shape
    view.put(mixed(view.picture, coat, share) + (glint - shade)[..., None], shape, mark.strength)


def rust(mark: Mark, scene: Scene) -> None:
    """Orange to dark brown, mottled and grainy, dense in the middle and in islands around it."""
    rng = mark.rng
    view, inside = _coat(mark, scene, 0.45, margin=5.0)
    h, w = view.size
    mottle = noise(h, w, max(0.5 * mark.reach, 2.5), rng, 4)
    profile = np.clip(inside / np.float32(mark.reach) * 1.6 + 0.28, -0.5, 1)
    crisp = 0.55 if mark.soft > 0.4 * mark.reach else 0.22
    shape = cover((profile + 0.55 * mottle - 0.12) / np.float32(crisp), 1.0) * cover(profile + 0.3, 0.5)
    shape = soften(shape, 0.4 * scene.blur)
    tone = np.clip(0.5 + 0.5 * noise(h, w, max(0.35 * mark.reach, 2.0), rng, 3) + 0.25 * mottle, 0, 1)[..., None]
    deep, bright = np.array([72, 40, 26], np.float32), np.array([176, 98, 44], np.float32)
    coat = (deep + (bright - deep) * tone) * np.clip(0.45 + 0.55 * view.light / 120, 0.5, 1.35)[..., None]
    grain = soften(rng.standard_normal((h, w), dtype=np.float32), 0.7 * scene.blur) * np.float32(14)
    coat = coat + (grain + 0.5 * detail(view))[..., None]
    share = shape * np.float32(0.2 + 0.72 * mark.strength) * np.clip(0.75 + 0.4 * mottle, 0.3, 1)
    view.put(mixed(view.picture, coat, share), shape, mark.strength)


def discoloration(mark: Mark, scene: Scene) -> None:
    """A wide tint without a border; light and texture stay."""
    view, inside = _coat(mark, scene, 0.3)
    soft = mark.soft if mark.edge else 0.8 * mark.reach
    uneven = 0.85 + 0.2 * noise(*view.size, max(mark.reach, 3.0), mark.rng)
    shape = soften(cover(inside, soft), 0.1 * soft) * np.clip(uneven, 0, 1)
    rgb = ink(mark, view, "yellow", "brown", "dark", "light", "red")
    bright = max(float(rgb @ LUMA), 1.0)
    level = 1.0 if mark.color in (None, "clear") else np.clip(bright / max(float(view.light.mean()), 20), 0.55, 1.6)
    tint = view.light[..., None] * (rgb / bright) * np.float32(level) * np.float32(0.92)
    if scene.grey and mark.color is None:
        tint = view.light[..., None] * np.float32(0.62 if mark.rng.random() < 0.65 else 1.4)
    coat = tint + detail(view)[..., None]
    view.put(mixed(view.picture, coat, shape * np.float32(0.15 + 0.6 * mark.strength)), shape, mark.strength)


def fading(mark: Mark, scene: Scene) -> None:
    """Paler, greyer and flatter, as bleached or worn."""
    view, inside = _coat(mark, scene, 0.2)
    soft = mark.soft if mark.edge else 0.6 * mark.reach
    uneven = 0.9 + 0.2 * noise(*view.size, max(0.5 * mark.reach, 3.0), mark.rng)
    shape = soften(cover(inside, soft), 0.1 * soft) * np.clip(uneven, 0, 1)
    grey = (view.picture @ LUMA)[..., None]
    pale = 0.35 * view.picture + 0.65 * grey
    flat = pale - 0.55 * detail(view)[..., None]
    light = flat + (np.maximum(225 - view.light, 0) * np.float32(0.38))[..., None]
    view.put(mixed(view.picture, light, shape * np.float32(0.2 + 0.75 * mark.strength)), shape, mark.strength)


def light(mark: Mark, scene: Scene) -> None:
    """A shadow or a glare that falls over the photo: no edge of its own, and the texture goes with it."""
    falls = mark.rng.random() < 0.4 and mark.edge is None
    view, inside = _band(mark, scene, mark.angle, both=False) if falls else _coat(mark, scene, 0.12, mark.reach)
    soft = mark.soft if mark.edge else (1.6 if falls else 1.2) * mark.reach
    shape = soften(cover(inside, soft), 0.15 * soft)
    bright = mark.color in ("light", "white", "yellow") or (mark.color is None and mark.rng.random() < 0.4)
    if bright:
        new = view.picture * np.float32(1.05 + 0.5 * mark.strength) + np.float32(5 + 30 * mark.strength)
    else:
        new = view.picture * np.float32(0.78 - 0.55 * mark.strength)
    view.put(mixed(view.picture, new, shape), shape, mark.strength, beyond=True)


def coating(mark: Mark, scene: Scene) -> None:
    """A part of the surface whose coat is thicker or thinner: another brightness, and streaks along it."""
    rng = mark.rng
    along = mark.angle if mark.aimed else (0.0 if rng.random() < 0.5 else np.pi / 2) + (rng.random() - 0.5) * 0.2
    view, inside = _band(mark, scene, along) if rng.random() < 0.6 else _coat(mark, scene, 0.35)
    shape = soften(cover(inside, mark.soft), 0.5 * scene.blur)
    h, w = view.size
    comb = streaks(h, w, max(0.04 * scene.unit, 2.0), along + (np.pi / 2 if rng.random() < 0.3 else 0), rng)
    sign = 1 if mark.color in ("light", "white") or (mark.color is None and rng.random() < 0.5) else -1
    uneven = sign + 0.45 * comb + 0.2 * noise(h, w, 0.5 * mark.reach + 3, rng)
    gain = 1 + np.float32(0.1 + 0.32 * mark.strength) * uneven
    coarse = np.float32(mark.strength * (rng.random() - 0.3)) * detail(view)
    new = (view.picture + coarse[..., None]) * np.maximum(gain, 0.3)[..., None]
    if mark.color and mark.color not in ("light", "dark", "white"):
        new = mixed(new, material(view, ink(mark, view), 0.7), np.full((h, w), 0.2 + 0.4 * mark.strength, np.float32))
    view.put(mixed(view.picture, new, shape), shape, mark.strength)


def _band(mark: Mark, scene: Scene, along: float, *, both: bool = True) -> tuple[View, Field]:
    """The whole scene, and the signed distance to a strip across it, or all to one side; its border wavers a little."""
    h, w = scene.light.shape
    view = scene.view(w / 2, h / 2, float(max(h, w)))
    y, x = np.mgrid[:h, :w].astype(np.float32)
    across = -(x - mark.x) * np.float32(np.sin(along)) + (y - mark.y) * np.float32(np.cos(along))
    across += np.float32(0.025 * scene.unit) * noise(h, w, 0.5 * scene.unit + 2, mark.rng)
    if both:
        across = 0.6 * mark.reach - np.abs(across)
    return view, np.asarray(across, dtype=np.float32)
