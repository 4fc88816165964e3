"""The grammar of defect captions: `describe` writes one, for any object (`kka.defects.reading.read` reads it).

A caption names one defect or two, some of the attributes of each, and leaves the others out, as people do.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from kka.defects.reading import Described, thing
from kka.defects.vocabulary import ADVERBS, FAMILIES, LINE_SHAPES, PHRASES, STROKES, plural

SUBJECT = "an object"
"""What captions speak of where nothing is said of the photos."""
_SAID = {
    "number": 0.5,
    "strength": 0.6,
    "size": 0.6,
    "width": 0.4,
    "edge": 0.2,
    "color": 0.35,
    "shape": 0.3,
    "direction": 0.35,
    "spread": 0.4,
    "place": 0.6,
}
"""How often a caption names each attribute that its family has, in the order of a noun phrase."""
_AFTER = ("running", "from", "spread", "close", "in", "lined")
"""First words of phrases that follow their noun."""
_TWO_DEFECTS = 0.25
_STATE = 0.15
"""How often the object "is cracked", rather than "has a crack"."""

T = TypeVar("T")
Saying = tuple[str, Described, bool]
"""A phrase, what it says, and whether it takes "are"."""


def describe(rng: np.random.Generator, subject: str = SUBJECT) -> str:
    """A caption of `subject`, a description of the photos such as "a grey photo of a magnetic tile", with a defect."""
    return compose(rng, subject)[0]


def compose(rng: np.random.Generator, subject: str = SUBJECT) -> tuple[str, tuple[Described, ...]]:
    """A caption, and what it says."""
    subject = subject.strip() or SUBJECT
    if rng.random() < _STATE:
        words, said = _state(rng)
        state_frame = _one(_STATE_FRAMES, rng)
        return state_frame(subject, thing(subject), words), (said,)
    sayings = [_noun_phrase(rng) for _ in range(1 + (rng.random() < _TWO_DEFECTS))]
    words = " and ".join(phrase for phrase, *_ in sayings)
    frame = _one(_FRAMES, rng)
    text = frame(subject, thing(subject), words, "are" if sayings[0][2] else "is")
    return text, tuple(said for _, said, _ in sayings)


def values(name: str, attribute: str) -> tuple[str, ...]:
    """Those of an attribute that a caption of this family may name."""
    if attribute == "shape":
        return tuple(v for v in PHRASES["shape"] if (v in LINE_SHAPES) == (name in STROKES))
    return tuple(PHRASES[attribute])


def _noun_phrase(rng: np.random.Generator) -> Saying:
    name = _one(tuple(FAMILIES), rng)
    family = FAMILIES[name]
    nouns = (*family.nouns, *family.masses)
    noun = nouns[int(rng.integers(len(nouns)))]
    said = {a: _one(values(name, a), rng) for a in _SAID if a in family.attributes and rng.random() < _SAID[a]}
    if noun in family.masses:
        said.pop("number", None)
    several = said.get("number", "one") != "one"
    if not several:
        said.pop("spread", None)
    words = {a: _one(PHRASES[a][v], rng) for a, v in said.items()}
    after = [a for a in words if a == "place" or words[a].split()[0] in _AFTER]
    before = [words[a] for a in words if a not in after and a != "number"]
    head = [*before, plural(noun) if several else noun]
    if "number" in words:
        head = [words["number"], *head]
    elif noun in family.nouns:
        head = ["an" if head[0][0] in "aeiou" else "a", *head]
    text = " ".join([*head, *(words[a] for a in after)])
    if noun in family.nouns:
        said.setdefault("number", "one")
    return text, Described(family=name, said=tuple(sorted(said.items()))), several


def _state(rng: np.random.Generator) -> tuple[str, Described]:
    """ "badly cracked near the left edge"."""
    name = _one(tuple(n for n, family in FAMILIES.items() if family.states), rng)
    said, words = {}, _one(FAMILIES[name].states, rng)
    if rng.random() < _SAID["strength"]:
        said["strength"] = _one(tuple(ADVERBS), rng)
        words = f"{_one(ADVERBS[said['strength']], rng)} {words}"
    if rng.random() < _SAID["place"]:
        said["place"] = _one(tuple(PHRASES["place"]), rng)
        words = f"{words} {_one(PHRASES['place'][said['place']], rng)}"
    return words, Described(family=name, said=tuple(sorted(said.items())))


def _one(of: Sequence[T], rng: np.random.Generator) -> T:
    return of[int(rng.integers(len(of)))]


_FRAMES: tuple[Callable[[str, str, str, str], str], ...] = (
    lambda subject, thing, defects, are: f"{subject} with {defects}",
    lambda subject, thing, defects, are: f"{subject}, showing {defects}",
    lambda subject, thing, defects, are: f"{thing} that has {defects}",
    lambda subject, thing, defects, are: f"{thing} has {defects}",
    lambda subject, thing, defects, are: f"there {are} {defects} on {thing}",
    lambda subject, thing, defects, are: f"{defects} on {thing}",
    lambda subject, thing, defects, are: f"a close view of {thing} with {defects}",
)
_STATE_FRAMES: tuple[Callable[[str, str, str], str], ...] = (
    lambda subject, thing, state: f"{thing} is {state}",
    lambda subject, thing, state: f"{subject} that is {state}",
    lambda subject, thing, state: f"{thing} which looks {state}",
)
