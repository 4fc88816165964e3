"""What photos show, in the plural, out of a caption of one of them: "magnetic tiles" of "a grey photo of a magnetic
tile". By rule; English alone."""

import re
from typing import Any
from unittest import mock

_PHOTO = re.compile(
    r"^.{0,60}?\b(?:photos?|photographs?|pictures?|images?|close-?ups?|views?|scans?|shots?|micrographs?|x-?rays?)"
    r"(?: (?:photo|picture|image|view|shot))? of\s+",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:an?|the|one|some|this|that)\s+", re.IGNORECASE)
_REST = re.compile(
    r"\s*(?:[,;:.(]|\b(?:with|without|in|on|at|under|from|that|which|who|whose|before|after|against|near|and its|taken"
    r"|seen|lying|standing|made|is|are|has|as)\b).*$",
    re.IGNORECASE | re.DOTALL,
)
_WORDS = re.compile(r"^[A-Za-z]+(?:[ -][A-Za-z]+)*$")
_LONGEST, _LONGEST_ALONE = 5, 3
"""Words that a name may have, after "a photo of" and without; more are a description, or another language."""


def _english() -> Any:
    """The engine of inflect, whose classes are not instrumented for checks of types: that takes two seconds of CPU."""
    with mock.patch("typeguard.typechecked", lambda checked: checked):
        import inflect
    return inflect.engine()


def domain_of(caption: str) -> str | None:
    """The thing that `caption` is about, in the plural; None where no short name of one is found in it.

    >>> domain_of("a grey photo of a magnetic tile")
    'magnetic tiles'
    """
    text = " ".join(caption.split()).rstrip(".")
    of_a_photo = _PHOTO.sub("", text)
    thing = _ARTICLE.sub("", _REST.sub("", of_a_photo)).strip()
    longest = _LONGEST_ALONE if of_a_photo == text else _LONGEST
    if not 1 <= len(thing.split()) <= longest or not _WORDS.match(thing):
        return None
    head, of, rest = thing.partition(" of ")
    *before, noun = head.split()
    speech = _english()
    plural = noun if speech.singular_noun(noun) else speech.plural_noun(noun)
    return " ".join([*before, str(plural)]) + of + rest
