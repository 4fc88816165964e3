"""Reads a caption back as attributes: `parse`.

Parsing is by phrases and heads: words such as "pink" or "small" wait until a head ("petals", "center", "tips") tells
what they belong to, so captions of a language model that order things in their own way are read too. Words outside
the grammar are skipped and counted.
"""

import re
from functools import cache

from kka.garden.vocabulary import PHRASES, Partial

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

_BOUNDARIES = frozenset(
    "a an the its has have with on in against are is showing shows of that".split()  # noqa: SIM905
)
"""Words at which waiting adjectives without a head of their own go to the last head: "petals that are pink, …"."""

_FRAME_WORDS = frozenset(
    """a an the this its it has have with on in against and are is showing shows of that you can see what stands out
    about along together growing grows as close view photo behind pretty set cluster seen at front""".split()  # noqa: SIM905
)
"""Words of the sentences' frames: known, and without a meaning of their own."""


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
            if attribute == "arrangement":  # it names the bloom: what follows is about the petals
                self._head = "petal"
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
