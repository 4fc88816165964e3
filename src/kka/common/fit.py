"""Which way into a square suits photos, by their shapes, and what is said of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from kka.settings.fit import Fit

SQUASHED = 3.0
"""Photos with sides of up to this ratio (the median) are squashed unless told otherwise, longer ones padded."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What the sizes of photos say of how to make squares of them."""

    typical: tuple[int, int]
    """Width and height: the medians."""
    ratio: float
    """The longer side by the shorter: the median."""
    lost: float
    """The share of a photo that its central square leaves out: the median."""
    most_lost: float
    """The largest such share."""

    @classmethod
    def of(cls, sizes: Iterable[tuple[int, int]]) -> "Shapes":
        """Of (width, height) of each photo, at least one."""
        every = list(sizes)
        lost = [1 - min(size) / max(size) for size in every]
        return cls(
            typical=(round(median(w for w, _ in every)), round(median(h for _, h in every))),
            ratio=median(max(size) / min(size) for size in every),
            lost=median(lost),
            most_lost=max(lost),
        )

    @property
    def fit(self) -> Fit:
        """The one that loses nothing and suits them."""
        return "squash" if self.ratio <= SQUASHED else "pad"


def fit_note(shapes: Shapes, fit: Fit, *, asked: bool) -> str | None:
    """What to tell of the photos' way into squares; None where they are squares."""
    if not shapes.most_lost:
        return None
    width, height = shapes.typical
    lost = f"{100 * shapes.lost:.0f} % of a photo by the median and {100 * shapes.most_lost:.0f} % at the most"
    done = {
        "squash": "are squashed into squares, so that nothing is cut away",
        "pad": "are padded with grey into squares, so that nothing is cut away",
        "crop": f"are cut to their central squares, which loses {lost}",
        "tile": "are cut into overlapping tiles, at their own resolution",
    }
    would = "" if fit in ("crop", "tile") else f"; a crop would lose {lost}"
    names = [name for name in done if name != fit]
    other = "" if asked else f" (--fit {', '.join(names[:-1])} or {names[-1]} does otherwise)"
    return f"photos of {width} × {height} pixels by the median {done[fit]}{would}{other}"
