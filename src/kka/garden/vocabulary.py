"""The attributes of a garden flower, their values, the words for each value, and how often each occurs.

A flower is one point of this space. Values are plain strings; the first phrase of a value is its usual name, the
others are synonyms that `kka.garden.grammar.parse` reads as the same value.
"""

from bisect import bisect_right
from dataclasses import dataclass, fields
from functools import cache
from itertools import accumulate

import numpy as np

PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "number": {
        "three": ("three",),
        "four": ("four",),
        "five": ("five",),
        "six": ("six",),
        "seven": ("seven",),
        "eight": ("eight",),
        "nine": ("nine",),
        "ten": ("ten",),
        "twelve": ("twelve",),
        "many": ("many", "numerous"),
    },
    "shape": {
        "rounded": ("rounded",),
        "oval": ("oval", "egg-shaped"),
        "pointed": ("pointed", "sharp"),
        "narrow": ("narrow", "slender"),
        "heart": ("heart-shaped", "notched"),
        "spoon": ("spoon-shaped",),
        "fan": ("fan-shaped", "broad"),
        "fringed": ("fringed", "ragged"),
    },
    "color": {
        "white": ("white", "pure white"),
        "cream": ("cream", "off-white"),
        "yellow": ("yellow", "bright yellow"),
        "gold": ("golden", "deep yellow"),
        "orange": ("orange", "vivid orange"),
        "peach": ("peach", "pale orange"),
        "coral": ("coral", "salmon"),
        "red": ("red", "bright red"),
        "maroon": ("maroon", "dark red"),
        "pink": ("pink", "light pink"),
        "magenta": ("magenta", "hot pink"),
        "lavender": ("lavender", "pale purple", "lilac"),
        "purple": ("purple", "violet"),
        "blue": ("blue", "bright blue"),
    },
    "texture": {
        "smooth": ("smooth", "even"),
        "veined": ("veined", "finely lined"),
        "spotted": ("spotted", "speckled"),
        "ruffled": ("ruffled", "wavy"),
        "striped": ("striped",),
        "velvety": ("velvety",),
        "glossy": ("glossy", "shiny"),
    },
    "rows": {
        "single": ("in one row",),
        "double": ("in two layers", "in overlapping layers"),
    },
    "pattern": {
        "plain": ("of one color",),
        "tips": ("tips",),
        "edges": ("edges", "rims"),
        "base": ("base",),
    },
    "center_size": {
        "small": ("small", "tiny"),
        "medium": ("medium-sized",),
        "large": ("large", "big"),
    },
    "center_color": {
        "yellow": ("yellow", "bright yellow", "golden"),
        "orange": ("orange",),
        "white": ("white",),
        "green": ("green", "greenish"),
        "brown": ("brown",),
        "dark": ("dark", "black"),
        "red": ("red",),
        "purple": ("purple",),
    },
    "center_kind": {
        "disc": ("round center", "button"),
        "cone": ("cone", "domed center"),
        "stamens": ("stamens",),
        "throat": ("throat",),
        "star": ("star-shaped center",),
        "ring": ("ringed center",),
    },
    "arrangement": {
        "single": ("a single bloom", "one large bloom"),
        "pair": ("a pair of blooms", "two blooms"),
        "trio": ("a cluster of three blooms", "three blooms together"),
        "ring": ("a ring of small blooms",),
        "spike": ("a tall spike of small blooms",),
    },
    "leaves": {
        "none": ("no leaves", "a bare stem"),
        "narrow": ("narrow green leaves", "grassy leaves"),
        "round": ("round green leaves",),
        "heart": ("heart-shaped green leaves",),
        "serrated": ("serrated green leaves",),
        "dark": ("dark glossy leaves",),
    },
    "background": {
        "leafy": ("a green leafy background", "a blurry green background"),
        "dark": ("a dark background", "a nearly black background"),
        "sky": ("a pale blue sky",),
        "soil": ("brown soil",),
        "grass": ("a grassy background",),
        "stone": ("a grey stone wall",),
        "meadow": ("a colorful blurry meadow",),
        "water": ("dark still water",),
    },
    "light": {
        "soft": ("soft light", "soft daylight"),
        "sunny": ("bright sunlight",),
        "golden": ("warm evening light",),
        "shade": ("cool shade",),
        "backlit": ("light from behind",),
    },
}
"""attribute -> value -> phrases. `second` (the petals' other color) has the phrases of `color`, or is "none"."""

PHRASES["second"] = {"none": (), **PHRASES["color"]}

PETALS = dict(three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10, twelve=12, many=16)
"""The number of petals that each word of `number` draws, in one row."""

_UNEVEN = {
    "rows": {"single": 0.75, "double": 0.25},
    "pattern": {"plain": 0.64, "tips": 0.12, "edges": 0.12, "base": 0.12},
    "arrangement": {"single": 0.5, "pair": 0.16, "trio": 0.14, "ring": 0.1, "spike": 0.1},
    "texture": dict(smooth=0.28, veined=0.12, spotted=0.12, ruffled=0.12, striped=0.12, velvety=0.12, glossy=0.12),
    "number": dict(
        three=0.06, four=0.1, five=0.24, six=0.16, seven=0.07, eight=0.14, nine=0.03, ten=0.07, twelve=0.07, many=0.06
    ),
    "leaves": dict(none=0.2, narrow=0.2, round=0.18, heart=0.14, serrated=0.16, dark=0.12),
    "background": dict(leafy=0.24, dark=0.14, sky=0.1, soil=0.1, grass=0.14, stone=0.08, meadow=0.12, water=0.08),
}


@dataclass(frozen=True, kw_only=True)
class Flower:
    """All attributes of one flower. Every value is a key of `PHRASES[attribute]`."""

    number: str
    shape: str
    color: str
    texture: str
    rows: str
    pattern: str
    second: str
    center_size: str
    center_color: str
    center_kind: str
    arrangement: str
    leaves: str
    background: str
    light: str

    def __post_init__(self) -> None:
        for name in ATTRIBUTES:
            if getattr(self, name) not in PHRASES[name]:
                raise ValueError(f"{name}: expected one of {', '.join(PHRASES[name])}; got {getattr(self, name)!r}")
        if (self.pattern == "plain") != (self.second == "none"):
            raise ValueError(
                f"pattern 'plain' goes with second 'none' and only with it; got {self.pattern!r}, {self.second!r}"
            )
        if self.second == self.color:
            raise ValueError(f"second: expected another color than the petals' main one, {self.color!r}; got the same")


ATTRIBUTES: tuple[str, ...] = tuple(f.name for f in fields(Flower))

Partial = dict[str, str]
"""Some attributes of a flower: what a caption says, or what a kind fixes."""


def choose(attribute: str, rng: np.random.Generator, exclude: tuple[str, ...] = ()) -> str:
    """One value of `attribute`, as often as it occurs in the garden at large, but none of `exclude`."""
    values, upto = _table(attribute, exclude)
    return values[bisect_right(upto, rng.random() * upto[-1])]


@cache
def _table(attribute: str, exclude: tuple[str, ...]) -> tuple[list[str], list[float]]:
    """The values left, and their weights added up."""
    weights = _UNEVEN.get(attribute) or dict.fromkeys(PHRASES[attribute], 1.0)
    values = [v for v in weights if v not in exclude]
    return values, list(accumulate(weights[v] for v in values))


def fill(partial: Partial, rng: np.random.Generator) -> Flower:
    """The flower of a partial description: what is not said is drawn from `rng`.

    A second color and its pattern are kept consistent: each asks for the other, and "plain" has no second color.
    The same number of draws is made whatever is given, so that equal seeds vary the unsaid parts alike.
    """
    drawn = {name: choose(name, rng) for name in ATTRIBUTES if name != "second"}
    if "second" in partial and partial["second"] == partial.get("color"):  # one color, named twice, makes no pattern
        partial = {**partial, "second": "none", "pattern": "plain"}
    flower = {**drawn, **partial}
    pattern = choose("pattern", rng, exclude=("plain",))
    second = choose("color", rng, exclude=(flower["color"],))
    if "color" not in partial and flower["color"] == partial.get("second"):
        flower["color"] = second  # drawn to be another one
    if "second" in partial and "pattern" not in partial:
        flower["pattern"] = "plain" if partial["second"] == "none" else pattern
    if flower["pattern"] == "plain":
        flower["second"] = "none"
    elif partial.get("second", "none") == "none":
        flower["second"] = second
    return Flower(**flower)
