"""Foreign matter that lies on the object and throws a shadow: specks, fibres, hairs."""

import numpy as np

from kka.imaging.paint.colors import ink, material, mixed
from kka.imaging.paint.lines import Stroke, window
from kka.imaging.paint.plan import Mark
from kka.imaging.paint.relief import cast
from kka.imaging.paint.scene import Scene, View
from kka.imaging.paint.shapes import Field, cover, curls, lit, noise, outline, soften


def speck(mark: Mark, scene: Scene) -> None:
    """A crumb: an uneven little body, lit from one side."""
    reach = max(mark.reach, 0.8)
    view = scene.view(mark.x, mark.y, 2.2 * reach + 4)
    slim = 1.0 if mark.shape == "round" else 0.45 + 0.5 * mark.rng.random()
    rough = mark.rough if mark.shape else 0.3 + mark.rough
    x, y = mark.x - view.left, mark.y - view.top
    inside = outline(*view.size, x, y, slim * reach, reach, mark.angle, rough, mark.rng)
    shape = soften(cover(inside, min(mark.soft, 0.8 * reach + 0.6)), 0.5 * scene.blur)
    dark = view.light.mean() > 115
    rgb = ink(mark, view, *(("black", "dark", "brown", "grey") if dark else ("light", "white", "black", "grey")))
    bumps = lit(soften(shape, 0.7) + 0.1 * noise(*view.size, max(reach, 2.0), mark.rng, 2) * shape, scene.sun)
    _lay(view, shape, material(view, rgb, 0.1) + (bumps * shape * 32)[..., None], mark, scene, 0.35 * reach + 0.7)


def fiber(mark: Mark, scene: Scene) -> None:
    """A thread that curls."""
    bend = {"straight": 0.1, "curved": 0.7, "wavy": 1.2}.get(mark.shape or "", 1.1)
    path = curls(2.4 * mark.reach, mark.angle, bend, mark.rng)
    width = max(0.9 * mark.width, 0.5)
    lines = [(path, np.full(len(path), width), np.ones(len(path)))]
    if mark.shape == "branched":
        twig = curls(mark.reach, mark.angle + 0.9, 0.5, mark.rng, points=17)
        lines.append((twig - twig[0] + path[len(path) // 2], np.full(17, 0.8 * width), np.ones(17)))
    _thread(mark, scene, lines, width, ("blue", "white", "red", "dark", "light"))


def hair(mark: Mark, scene: Scene) -> None:
    """Long, thin and smooth, dark as a rule."""
    bend = {"straight": 0.05, "curved": 0.45, "wavy": 0.6}.get(mark.shape or "", 0.35)
    path = curls(2 * mark.reach, mark.angle, bend, mark.rng)
    width = max(0.6 * mark.width, 0.42)
    lines = [(path, width * np.linspace(1.1, 0.6, len(path)), np.ones(len(path)))]
    if mark.shape == "branched":
        lines.append((path[::-1] * np.array([1, 0.7], np.float32), lines[0][1], np.ones(len(path))))
    _thread(mark, scene, lines, width, ("black", "dark", "brown"))


def _thread(mark: Mark, scene: Scene, lines: list[Stroke], width: float, colors: tuple[str, ...]) -> None:
    view, line = window(mark, scene, lines, 5 + 2 * width)
    line = soften(line, 0.6 * scene.blur)
    rgb = ink(mark, view, *colors)
    if mark.color is None and abs(float(rgb.mean()) - float(view.light.mean())) < 35:  # else nobody would see it
        rgb = np.full(3, 225 if view.light.mean() < 110 else 35, np.float32)
    round_ = lit(soften(line, max(0.5, 0.4 * width)), scene.sun) * line * 26
    _lay(view, line, material(view, rgb, 0.0) + round_[..., None], mark, scene, 0.5 * width + 0.8)


def _lay(view: View, shape: Field, body: np.ndarray, mark: Mark, scene: Scene, height: float) -> None:
    """Put a body on the photo, above its shadow."""
    shadow = cast(shape, scene, height) * np.float32(0.15 + 0.35 * mark.strength)
    ground = view.picture * (1 - shadow)[..., None]
    new = mixed(ground, body, np.clip(shape * np.float32(0.3 + 0.68 * mark.strength), 0, 1))
    view.put(new, np.maximum(np.minimum(1, 1.4 * shape), shadow), mark.strength, beyond=True)
