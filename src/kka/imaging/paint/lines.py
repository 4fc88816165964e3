"""Lines in the surface: cracks and scratches."""

import numpy as np

from kka.imaging.paint.colors import ink, material, mixed
from kka.imaging.paint.plan import Mark
from kka.imaging.paint.scene import Scene, View
from kka.imaging.paint.shapes import Path, lit, noise, soften, strokes, wander

Stroke = tuple[Path, np.ndarray, np.ndarray]


def window(mark: Mark, scene: Scene, lines: list[Stroke], margin: float) -> tuple[View, np.ndarray]:
    """The window around lines that run about the mark's point, and their coverage in it."""
    everything = np.concatenate([path for path, *_ in lines])
    low, high = everything.min(axis=0), everything.max(axis=0)
    x, y = mark.x + float(low[0] + high[0]) / 2, mark.y + float(low[1] + high[1]) / 2
    view = scene.view(x, y, float((high - low).max()) / 2 + margin)
    offset = np.array([mark.x - view.left, mark.y - view.top], np.float32)
    return view, strokes(*view.size, [(path + offset, widths, dense) for path, widths, dense in lines])


def crack(mark: Mark, scene: Scene) -> None:
    """A jagged dark line that forks and runs out, with a lit lip."""
    rng = mark.rng
    curl = {"straight": 0.1, "curved": 1.6, "wavy": 1.0}.get(mark.shape or "", 0.5)
    rough = {"straight": 0.012, "wavy": 0.06}.get(mark.shape or "", 0.035)
    main = wander(2 * mark.reach, mark.angle, rough, curl, rng)
    width = max(mark.width * (0.7 + 0.6 * mark.strength), 0.45)
    lines = [_jagged(main, width, mark, rng)]
    branches = 3 + int(rng.random() * 3) if mark.shape == "branched" else int(rng.random() ** 1.6 * 4)
    for _ in range(branches):
        start = int(rng.integers(6, len(main) - 6))
        ahead = main[start + 2] - main[start - 2]
        side = (1 if rng.random() < 0.5 else -1) * (0.4 + 0.7 * rng.random())
        turn = float(np.arctan2(ahead[1], ahead[0])) + side
        twig = wander(mark.reach * (0.25 + 0.5 * rng.random()), turn, 0.04, 0.6, rng, points=13)
        lines.append(_jagged(twig - twig[0] + main[start], 0.6 * width, mark, rng))
    view, line = window(mark, scene, lines, 4 + 2 * width)
    line = soften(line, 0.6 * scene.blur)
    lip = lit(-soften(line, max(0.6, 0.4 * width)), scene.sun)
    depth = np.float32(0.15 + 0.8 * mark.strength) * line
    new = mixed(view.picture, material(view, ink(mark, view, "dark", "black") * 0.5, 0.0), np.clip(depth, 0, 0.96))
    new = new + (lip * np.float32(10 + 26 * mark.strength) * np.minimum(1, soften(line, 1.0) * 3))[..., None]
    view.put(new, np.minimum(1, soften(line, 0.5) * 1.6), mark.strength)


def _jagged(path: Path, width: float, mark: Mark, rng: np.random.Generator) -> Stroke:
    """Wide at its start and thin at its end, uneven in between."""
    n = len(path)
    taper = np.linspace(1.15, 0.35, n) * np.minimum(1, np.linspace(0.3, 6, n))
    uneven = 0.65 + 0.7 * rng.random(n) if mark.rough > 0.1 else np.ones(n)
    return path, width * taper * uneven, np.clip(np.linspace(1.3, 0.55, n), 0, 1)


def scratch(mark: Mark, scene: Scene) -> None:
    """A smooth narrow groove, bright or dark, with a fainter one beside it at times."""
    rng = mark.rng
    curl = {"straight": 0.0, "curved": 1.2, "wavy": 0.5}.get(mark.shape or "", 0.25 * rng.random())
    width = max(0.8 * mark.width, 0.4)
    main = wander(2 * mark.reach, mark.angle, 0.02 if mark.shape == "wavy" else 0.002, curl, rng, points=49)
    lines = [_groove(main, width, rng)]
    across = np.array([-np.sin(mark.angle), np.cos(mark.angle)], np.float32)
    along = np.array([np.cos(mark.angle), np.sin(mark.angle)], np.float32)
    for _ in range(int(rng.random() * 2.6)):
        off = across * ((rng.random() - 0.5) * 6 * max(width, 0.8)) + along * (rng.random() - 0.5) * 0.5 * mark.reach
        lines.append(_groove(main * (0.35 + 0.6 * rng.random()) + off.astype(np.float32), 0.6 * width, rng))
    view, line = window(mark, scene, lines, 4 + 3 * width)
    line = soften(line, 0.5 * scene.blur)
    bright = mark.color == "light" or (mark.color is None and rng.random() < (0.75 if view.light.mean() < 150 else 0.3))
    rgb = ink(mark, view, "light" if bright else "dark")
    edge = lit(-soften(line, max(0.6, 0.5 * width)), scene.sun)
    grain = np.clip(1 + 0.35 * noise(*view.size, 3.0, rng, 2), 0.3, 1.5)
    share = np.clip((0.12 + 0.75 * mark.strength) * line * grain, 0, 0.95)
    new = mixed(view.picture, material(view, rgb, 0.4), share.astype(np.float32))
    shade = edge * np.float32(6 + 22 * mark.strength) * np.minimum(1, soften(line, 0.9) * 3)
    view.put(new + shade[..., None], np.minimum(1, soften(line, 0.5) * 1.6), mark.strength)


def _groove(path: Path, width: float, rng: np.random.Generator) -> Stroke:
    n = len(path)
    at = np.linspace(0, 1, n)
    press = np.interp(at, np.linspace(0, 1, 7), 0.45 + 0.55 * rng.random(7))
    ends = np.minimum(1, np.minimum(at, 1 - at) * 6 + 0.08)
    return path, width * (0.6 + 0.5 * press) * np.sqrt(ends), press * ends
