"""Reads a caption as defects: `read`.

Reading is by phrases and heads, as of garden captions: words such as "dark" or "near the left edge" wait until the name
of a defect tells what they belong to; what follows a name belongs to it. What is denied is not there: "no rust". Words
of no meaning here are skipped, and counted where they are not of the kind that every sentence has.
"""

import re
from dataclasses import dataclass
from functools import cache

from kka.defects.vocabulary import ADVERBS, DENIALS, FAMILIES, FRAME_WORDS, PHRASES, READ_TOO, plural, spelled

_ARTICLES = frozenset({"a", "an", "the"})
_CLAUSE = frozenset("with of on in at near along that which is are has have where".split())  # noqa: SIM905
"""Words that end a noun phrase, with what waits in it."""
_JOINS = frozenset({",", ";", ".", ":", "and", "plus", "or"})
"""They end one too, but for one that an article or a number has opened: "a long, thin crack"."""
_AFFIRMS = frozenset("with but that which where is are has have showing shows . ; :".split())  # noqa: SIM905
"""Words that end a denial. After a comma or "and" an article or a number does so too: "no rust, but a crack", "no rust
and a crack"; not in "no rust, dents and cracks", and not after "or"."""
_PHOTO_OF = re.compile(r"^.*?\b(?:photo(?:graph)?|picture|image|view|close-?up|shot|scan) of ", re.IGNORECASE)
_NOUN = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*|[,.;:]")


@dataclass(frozen=True, kw_only=True)
class Described:
    """One defect as a caption tells it. Equal words make equal ones."""

    family: str
    said: tuple[tuple[str, str], ...]
    """(attribute, value), by the name of the attribute."""

    @property
    def attributes(self) -> dict[str, str]:
        return dict(self.said)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a caption says of defects."""

    defects: tuple[Described, ...]
    """In the order of the caption; none where it names none."""
    said: tuple[tuple[str, str], ...]
    """Attributes of a caption that names no defect: "something dark at the top"."""
    ignored: int
    """Words outside the vocabulary."""


@cache
def _lexicon() -> tuple[dict[tuple[str, ...], tuple[str, str]], int]:
    """Phrase, as words without articles -> (attribute, value), and the longest phrase.

    A family is an attribute too: of a phrase for "one" or "several" of its defects, or "some" that nobody counts.
    """
    table: dict[tuple[str, ...], tuple[str, str]] = {}

    def enter(phrase: str, meaning: tuple[str, str]) -> None:
        words = tuple(w for w in phrase.split() if w not in _ARTICLES)
        if table.setdefault(words, meaning) != meaning:
            raise AssertionError(f"{phrase!r} means both {table[words]} and {meaning}")

    for name, family in FAMILIES.items():
        for phrase in (*family.masses, *family.states):
            enter(phrase, ("some", name))
        for noun in family.nouns:
            enter(noun, ("one", name))
            enter(plural(noun), ("several", name))
    for phrase in DENIALS:
        enter(phrase, ("denied", ""))
    for words in (PHRASES, READ_TOO, {"strength": ADVERBS}):
        for attribute, values in words.items():
            for value, phrases in values.items():
                for phrase in phrases:
                    enter(phrase, (attribute, value))
    return table, max(map(len, table))


def read(caption: str, subject: str = "") -> Reading:
    """The defects that `caption` names, and the number of its words that the vocabulary does not hold.

    Args:
        subject: What the photos show ("a hair comb"): these words, where they stand together, are the object and no
            defect, and they count as known.
    """
    reader = _Reader()
    words = _words(caption)
    names = [[word for word, _ in _words(name)] for name in (subject, thing(subject)) if name]
    table, longest = _lexicon()
    at = 0
    while at < len(words):
        ahead = [word for word, _ in words[at : at + max(longest, *map(len, names), 0)]]
        if named := next((name for name in names if name and ahead[: len(name)] == name), None):
            reader.name_object()
            at += len(named)
            continue
        for length in range(min(longest, len(ahead)), 0, -1):
            if meaning := table.get(tuple(ahead[:length])):
                reader.take(*meaning, article=words[at][1])
                at += length
                break
        else:
            reader.skip(*words[at], known=any(words[at][0] in name for name in names))
            at += 1
    return reader.finish()


def thing(subject: str) -> str:
    """What a photo shows, of its description: "a magnetic tile" of "a grey photo of a magnetic tile"."""
    return _PHOTO_OF.sub("", subject.strip())


def _words(text: str) -> list[tuple[str, str]]:
    """(word, the article before it: "a", "the" or "")."""
    found, article = [], ""
    for word in _NOUN.findall(spelled(text.lower())):
        if word in _ARTICLES:
            article = "the" if word == "the" else "a"
        else:
            found.append((word, article))
            article = ""
    return found


class _Reader:
    """The state of one reading: what was found, and which words wait for a name."""

    def __init__(self) -> None:
        self._found: list[tuple[str, dict[str, str]]] = []
        self._before: dict[str, str] = {}
        self._waiting: dict[str, str] = {}
        self._open = ""
        """What opened the present noun phrase: "a", "the", or nothing."""
        self._denied = False
        self._next = False
        """Whether what comes is the next in a list of what is denied, or else something that is there."""
        self._ignored = 0

    def take(self, attribute: str, value: str, *, article: str) -> None:
        """A phrase of the lexicon."""
        if attribute == "denied":
            self._settle()
            self._denied, self._next = True, False
            return
        if self._is_denied(new=article == "a" or attribute == "number"):
            self._next, self._open = False, ""
            return
        self._open = article or self._open
        if attribute in ("one", "several", "some"):
            if attribute == "several" or (attribute == "one" and self._open == "a"):
                self._waiting.setdefault("number", attribute)
            early = {k: v for k, v in self._before.items() if k == "place"}
            self._found.append((value, early | self._waiting))
            self._waiting, self._before, self._open = {}, {}, ""
            return
        if attribute == "number":
            self._open = "a"
        self._waiting.setdefault(attribute, value)

    def skip(self, word: str, article: str, *, known: bool) -> None:
        """A word outside the lexicon: of a sentence's frame, or unknown."""
        self._denied = self._is_denied(new=article == "a") and word not in _AFFIRMS
        if word in _JOINS:
            self._next = word not in ("or", ":")
        self._open = article or self._open
        if word in _CLAUSE or (word in _JOINS and self._open != "a"):
            self._settle()
        elif word not in _JOINS and self._open == "the":  # "the grey surface" says nothing of a defect
            self.name_object()
        if not known and word not in FRAME_WORDS and word not in _JOINS:
            self._ignored += 1

    def _is_denied(self, *, new: bool) -> bool:
        """Whether a word is still part of what is denied. `new`: it opens a noun phrase of its own."""
        self._denied = self._denied and not (new and self._next)
        return self._denied

    def name_object(self) -> None:
        """What waits belongs to the object, but for a place."""
        self._waiting = {k: v for k, v in self._waiting.items() if k == "place"}
        self._open = ""

    def _settle(self) -> None:
        """What waits belongs to the defect before it, if there is one."""
        target = self._found[-1][1] if self._found else self._before
        for attribute, value in self._waiting.items():
            target.setdefault(attribute, value)
        self._waiting, self._open = {}, ""

    def finish(self) -> Reading:
        self._settle()
        return Reading(
            defects=tuple(Described(family=f, said=tuple(sorted(said.items()))) for f, said in self._found),
            said=tuple(sorted(self._before.items())),
            ignored=self._ignored,
        )
