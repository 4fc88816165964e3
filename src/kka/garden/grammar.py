"""The grammar of garden captions: `describe` puts a flower into words, `parse` reads words back as attributes.

A caption names most attributes and leaves some out, as people do. Parsing is by phrases and heads: words such as
"pink" or "small" wait until a head ("petals", "center", "tips") tells what they belong to, so captions of a language
model that order things in their own way are read too. Words outside the grammar are skipped and counted.
"""

import math
import re
from collections.abc import Callable
from functools import cache

import numpy as np

from kka.garden.vocabulary import ATTRIBUTES, PHRASES, Flower, Partial, fill

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

_HEADS = {
    "petals": "petal",
    "petal": "petal",
    "flower": "petal",
    "flowers": "petal",
    "bloom": "petal",
    "blooms": "petal",
    "center": "center",
    "centre": "center",
    "stamens": "center",
    "throat": "center",
    "cone": "center",
    "button": "center",
    "tips": "second",
    "edges": "second",
    "rims": "second",
    "base": "second",
}
_MODIFIES = {
    "petal": ("number", "shape", "texture", "color", "second"),
    "center": ("center_size", "center_color", "center_kind"),
    "second": ("second",),
}
_WHOLE = ("rows", "arrangement", "leaves", "background", "light")
"""Attributes whose phrases are read wherever they stand."""

_BOUNDARIES = frozenset(["a", "an", "the", "its", "has", "have", "with", "on", "in", "against", "and,", ",", ".", "are", "is", "showing", "shows", "of", "that"])
"""Words at which waiting adjectives without a head of their own go to the last head: "petals that are pink, …"."""

_FRAME_WORDS = frozenset(
    ["a", "an", "the", "this", "its", "it", "has", "have", "with", "on", "in", "against", "and", "are", "is", "showing", "shows", "of", "that", "flower", "flowers", "bloom", "blooms", "petals", "petal", "center", "centre", "you", "can", "see", "what", "stands", "out", "about", "along", "together", "growing", "grows", "as", "close", "view", "photo", "behind", "pretty", "set", "stamens", "cluster", "seen", "at", "front", "together"]
)

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


@cache
def _lexicon() -> tuple[dict[tuple[str, ...], list[tuple[str, str]]], int]:
    """Phrase (as words, without its article) -> the attributes and values it may mean, and the longest phrase."""
    table: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for attribute, values in PHRASES.items():
        for value, phrases in values.items():
            for phrase in phrases:
                words = phrase.split()
                words = words[1:] if words[0] in ("a", "an") and len(words) > 2 else words
                table.setdefault(tuple(words), []).append((attribute, value))
    return table, max(map(len, table))


def parse(caption: str) -> tuple[Partial, int]:
    """The attributes that `caption` names, and the number of its words that the grammar does not know.

    What is said twice counts as first said. Two colors of the petals are the main and the second one.
    """
    reader = _Reader()
    words = re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*|[,.;]", caption.lower().replace("colour", "color"))
    table, longest = _lexicon()
    at = 0
    while at < len(words):
        for length in range(min(longest, len(words) - at), 0, -1):
            meanings = table.get(tuple(words[at : at + length]))
            if meanings:
                reader.take(words[at + length - 1], meanings)
                at += length
                break
        else:
            reader.skip(words[at])
            at += 1
    reader.settle()
    return reader.found, reader.ignored


class _Reader:
    """The state of one reading: what was found, which adjectives wait, and the head they may fall back to."""

    def __init__(self) -> None:
        self.found: Partial = {}
        self.ignored = 0
        self._waiting: list[list[tuple[str, str]]] = []
        self._head = "petal"

    def take(self, last_word: str, meanings: list[tuple[str, str]]) -> None:
        """A phrase of the lexicon."""
        attribute, value = meanings[0]
        if attribute in _WHOLE or value == "plain":
            self.settle()
            self.found.setdefault(attribute, value)
            return
        if last_word in _HEADS:  # "round center", "tips"
            if attribute == "pattern":
                self._attach("second")
                if "second" in self.found:
                    self.found.setdefault("pattern", value)
            else:
                self._waiting.append(meanings)
                self._attach("center")
            self._head = "petal" if attribute == "pattern" else "center"
            return
        self._waiting.append(meanings)

    def skip(self, word: str) -> None:
        """A word outside the lexicon: a head, a boundary, a word of the sentences' frames, or unknown."""
        if word in _HEADS:
            self._head = _HEADS[word]
            self._attach(self._head)
        elif word in _BOUNDARIES or word in ",.;":
            self.settle()
        if word not in _FRAME_WORDS and word not in _HEADS and word not in ",.;":
            self.ignored += 1

    def settle(self) -> None:
        self._attach(self._head)

    def _attach(self, head: str) -> None:
        for meanings in self._waiting:
            allowed = dict(meanings)
            free = [a for a in _MODIFIES[head] if a in allowed and a not in self.found]
            if free and not (free[0] == "second" and allowed["second"] == self.found.get("color")):
                self.found[free[0]] = allowed[free[0]]
        self._waiting = []


def count_sentences() -> int:
    """How many different sentences one frame alone can say: the product of the phrases of its parts.

    A lower bound of the grammar: it counts captions that name every attribute of a one-colored flower, in one order,
    with the usual phrase of each value. `parse` recovers every attribute of them, so all are different.
    """
    free = [a for a in ATTRIBUTES if a not in ("pattern", "second")]
    return math.prod(len(PHRASES[a]) for a in free)


def corpus(n: int, seed: int, *, near_share: float = 0.2) -> list[tuple[str, str]]:
    """`n` captions for training a language model, as (group, caption): a group is one species, named by a number.

    Species are drawn over the whole garden; a `near_share` of them is a normal kind of `kka.garden.tasks` with one to
    four attributes changed. Each species keeps its petals and center, and varies in what surrounds it.
    """
    from kka.garden.tasks import NORMALS, SURROUNDINGS, vary

    rng = np.random.default_rng([seed, 11])
    names = list(NORMALS)
    pairs: list[tuple[str, str]] = []
    species = 0
    while len(pairs) < n:
        flower = fill({}, rng)
        if rng.random() < near_share:
            flower = NORMALS[names[int(rng.integers(len(names)))]].draw(rng)
            flower = vary(flower, int(rng.integers(1, 5)), rng)
        fixed = {a: getattr(flower, a) for a in ATTRIBUTES if a not in SURROUNDINGS}
        for _ in range(min(4, n - len(pairs))):
            pairs.append((f"species-{species:06d}", describe(fill(fixed, rng), rng)))
        species += 1
    return pairs
