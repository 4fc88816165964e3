"""The object of a caption as a blank: a small language model writes "THING has a crack", whatever the photos show.

So it never has to spell a word that it was not trained on, and what it is taught by captions of one object is nothing
about that object's name.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from kka.algorithm.prompts import TEMPLATES
from kka.defects.grammar import SUBJECT
from kka.defects.reading import thing

PHOTO, THING = "PHOTO", "THING"
"""In the place of "a grey photo of a magnetic tile", and of "a magnetic tile"."""
_BLANK = re.compile(rf"\b(?:{PHOTO}|{THING})\b")
_SENTENCE = re.compile(r"\b(?:is|are|was|has|have|shows?|there|lies|stands)\b", re.IGNORECASE)
_NO_NAME = "the object"
"""For "a crack on …", where the photos are described by sentences."""


@dataclass(frozen=True)
class Blanks:
    """What the blanks stand for, by a description of the photos.

    Attributes:
        photo: The description.
        thing: What they show. Of a description without "a photo of" that is the same, and `THING` is the one blank.
    """

    photo: str
    thing: str

    @classmethod
    def of(cls, description: str) -> "Blanks":
        """As the description is, in whatever language; an object where there is none."""
        photo = plain(description) or SUBJECT
        name = thing(photo) or photo
        return cls(photo, _NO_NAME if _SENTENCE.search(name) else name)

    @property
    def prompt(self) -> str:
        """What the model is asked: which of the blanks there is."""
        return THING if self.photo == self.thing else PHOTO

    def fill(self, text: str) -> str:
        """A caption of the object, of one with blanks."""
        return _BLANK.sub(lambda blank: self.photo if blank[0] == PHOTO else self.thing, text)

    def empty(self, caption: str) -> str:
        """What `fill` filled; a caption of something else stays as it is."""
        if self.prompt == PHOTO and (found := _place(self.photo, caption)):
            return found[0] + PHOTO + found[1]
        if found := _place(self.thing, caption):
            return found[0] + THING + found[1]
        return caption


def _place(words: str, caption: str) -> tuple[str, str] | None:
    """What stands before and after `words`: of several places at the beginning, else at the end, else the first. An
    object may have the name of a defect ("a hair"), and in the grammar's sentences it stands first or last."""
    found = list(re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", caption))
    if not found:
        return None
    last = found[-1]
    match = last if last.end() == len(caption) and found[0].start() else found[0]
    return caption[: match.start()], caption[match.end() :]


def plain(description: str) -> str:
    """As captions come out of `kka.algorithm.answers`: one line, without quotes around it or a full stop."""
    text = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", description))
    return re.sub(r"\s+([.,;:!?])", r"\1", text).strip("\"'“”‘’ ").rstrip(".。 ")


_FIELDS = re.compile(r"\\\{(caption|domain|idea)\\\}")
_PROMPTS = tuple(
    re.compile(_FIELDS.sub(lambda field: f"(?P<{field[1]}>.+?)", re.escape(text)) + r"\Z", re.DOTALL)
    for text in TEMPLATES.values()
)
"""The templates that have a name, read backwards."""


def subject_in(prompt: str, subjects: Sequence[str]) -> str:
    """Which description a prompt is about: that of `subjects` whose words it holds, the longest, or what it shows.

    Args:
        subjects: Of the photos. One alone is always the one; none: what stands at the caption's place in a prompt of a
            template that has a name, else an object.
    """
    if len(subjects) == 1:
        return subjects[0]
    if subjects:
        text = " ".join(prompt.split())
        for words in (plain, lambda subject: Blanks.of(subject).thing):
            held = [subject for subject in subjects if words(subject) and words(subject) in text]
            if held:
                return max(held, key=len)
        return subjects[0]
    found = next((match for pattern in _PROMPTS if (match := pattern.match(prompt))), None)
    return found["caption"] if found else SUBJECT
