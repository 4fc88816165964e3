"""The outline of what is round or has lobes: the window that it lies in, and how far each pixel is within it."""

from kka.imaging.paint.plan import Mark
from kka.imaging.paint.scene import Scene, View
from kka.imaging.paint.shapes import Field, outline


def patch(mark: Mark, scene: Scene, stray: float, *, slim: float, margin: float) -> tuple[View, Field]:
    """A window about the mark, with so many pixels more a side as `margin` says, and the signed distance to an outline.

    Args:
        stray: How far it strays from an oval, as a share of its size.
        slim: Its least width, as a share of its length, where the caption does not say.
    """
    width = {"round": 1.0, "oval": 0.5}.get(mark.shape or "", slim + (1 - slim) * mark.rng.random())
    view = scene.view(mark.x, mark.y, mark.reach * (1 + 1.5 * stray) + margin)
    x, y = mark.x - view.left, mark.y - view.top
    return view, outline(*view.size, x, y, mark.reach * width, mark.reach, mark.angle, stray, mark.rng)
