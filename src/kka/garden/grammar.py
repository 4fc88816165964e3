"""The grammar of garden captions: `describe` puts a flower into words (`kka.garden.reading.parse` reads it).

A caption names most attributes and leaves some out, as people do.
"""

import math
from collections.abc import Callable

import numpy as np

from kka.garden.reading import parse
from kka.garden.vocabulary import ATTRIBUTES, PHRASES, Flower

_SAID = {
    "number": 0.9,
    "shape": 0.85,
    "color": 0.97,
    "texture": 0.7,
    "rows": 0.4,
    "pattern": 0.9,
    "second": 0.95,
    "center_size": 0.55,
    "center_color": 0.9,
    "center_kind": 0.8,
    "arrangement": 0.5,
    "leaves": 0.5,
    "background": 0.75,
    "light": 0.5,
}
"""How often a caption names each attribute."""

__all__ = ["compose", "count_sentences", "describe", "parse"]

Said = frozenset[str]


def describe(flower: Flower, rng: np.random.Generator) -> str:
    """A caption of `flower`, in the manner of the human captions of Oxford-102; some attributes are left out."""
    return compose(flower, rng)[0]


def compose(flower: Flower, rng: np.random.Generator, *, everything: bool = False) -> tuple[str, Said]:
    """A caption, and the attributes that it names (all of them if `everything`)."""
    said = {a for a in ATTRIBUTES if rng.random() < _SAID[a] or everything}
    if flower.pattern == "plain":
        said.discard("second")
        if rng.random() < 0.8 and not everything:
            said.discard("pattern")
    elif "second" not in said:  # tips and edges are spoken of by their color
        said.discard("pattern")
    if ("second" in said and "pattern" not in said) or not said & {"number", "shape", "texture", "color"}:
        said.add("color")  # "pink and white petals" needs both; and a caption says something of the petals
    frame = _FRAMES[int(rng.integers(len(_FRAMES)))]
    words = {a: _phrase(flower, a, rng) for a in ATTRIBUTES if a in said}
    return frame(words, flower, rng) + _surroundings(words, rng), frozenset(said)


def _phrase(flower: Flower, attribute: str, rng: np.random.Generator) -> str:
    phrases = PHRASES[attribute][getattr(flower, attribute)]
    if not phrases or rng.random() < 0.7:
        return phrases[0] if phrases else ""
    return phrases[int(rng.integers(len(phrases)))]


def _petals(w: dict[str, str], flower: Flower, rng: np.random.Generator, without: str = "") -> str:
    order = ("number", "texture", "color", "shape") if rng.random() < 0.5 else ("number", "shape", "texture", "color")
    parts = [w[a] for a in order if a in w and a != without]
    if "second" in w and "pattern" not in w and "color" in w and without != "color":
        parts[parts.index(w["color"])] = f"{w['color']} and {w['second']}"
    return " ".join([*parts, "petals"]) + _after_petals(w, flower)


def _after_petals(w: dict[str, str], flower: Flower) -> str:
    text = f" {w['rows']}" if "rows" in w else ""
    if flower.pattern == "plain":
        return text + (f" {w['pattern']}" if "pattern" in w else "")
    if "pattern" not in w:
        return text
    article = "a " if flower.pattern == "base" else ""
    return f"{text} with {article}{w['second']} {w['pattern']}"


def _center(w: dict[str, str]) -> str:
    kind = w.get("center_kind", "center")
    words = " ".join([*(w[a] for a in ("center_size", "center_color") if a in w), kind])
    if words == "center":
        return ""
    if kind == "stamens":
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _plain_frame(start: str, join: str, end: str = "") -> Callable[[dict[str, str], Flower, np.random.Generator], str]:
    def frame(w: dict[str, str], flower: Flower, rng: np.random.Generator) -> str:
        center = _center(w)
        tail = _grows(w) if end != "arrangement" else ""
        head = f"{w.get('arrangement', 'a flower')} with" if end == "arrangement" else start
        return f"{head} {_petals(w, flower, rng)}" + (f" {join} {center}" if center else "") + tail

    return frame


def _of_color(w: dict[str, str], flower: Flower, rng: np.random.Generator) -> str:
    """ "this pink flower has five rounded petals together with …"."""
    color = w.get("color", "")
    if "second" in w and "pattern" not in w and color:
        color = f"{color} and {w['second']}"
    center = _center(w)
    text = f"this {color} flower has" if color else "this flower has"
    return (
        f"{text} {_petals(w, flower, rng, without='color')}"
        + (f" together with {center}" if center else "")
        + _grows(w)
    )


def _predicate(w: dict[str, str], flower: Flower, rng: np.random.Generator) -> str:
    """ "the petals of this flower are five, rounded and pink, and it has …": adjectives after their noun."""
    color = w.get("color", "")
    if "second" in w and "pattern" not in w and color:
        color = f"{color} and {w['second']}"
    adjectives = [x for x in (w.get("shape"), w.get("texture"), color) if x]
    number = f"{w['number']} " if "number" in w else ""
    are = f" are {' and '.join(adjectives)}" if adjectives else " are seen"
    center = _center(w)
    return (
        f"the {number}petals of this flower{are}{_after_petals(w, flower)}"
        + (f", and it has {center}" if center else "")
        + _grows(w)
    )


def _grows(w: dict[str, str]) -> str:
    return f", growing as {w['arrangement']}" if "arrangement" in w else ""


_FRAMES = (
    _plain_frame("this flower has", "with"),
    _plain_frame("this flower has", "and"),
    _plain_frame("", "and", "arrangement"),
    _plain_frame("a close view of a flower showing", "and"),
    _plain_frame("what stands out about this flower is its", "along with"),
    _plain_frame("you can see", "with"),
    _plain_frame("a pretty flower with", "and"),
    _of_color,
    _predicate,
)


def _surroundings(w: dict[str, str], rng: np.random.Generator) -> str:
    text = ""
    if "leaves" in w:
        text += f", {'with' if rng.random() < 0.6 else 'and it has'} {w['leaves']}"
    if "background" in w:
        text += f"{(', against', ', set against', ', in front of')[int(rng.integers(3))]} {w['background']}"
    if "light" in w:
        text += f"{' in' if rng.random() < 0.6 else ', seen in'} {w['light']}"
    return text


def count_sentences() -> int:
    """How many different sentences one frame alone can say: the product of the phrases of its parts.

    A lower bound of the grammar: it counts captions that name every attribute of a one-colored flower, in one order,
    with the usual phrase of each value. `parse` recovers every attribute of them, so all are different.
    """
    free = [a for a in ATTRIBUTES if a not in ("pattern", "second")]
    return math.prod(len(PHRASES[a]) for a in free)
