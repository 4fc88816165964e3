"""What a server of OpenAI's protocol says where it does not do what it was asked."""

import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from email.utils import mktime_tz, parsedate_tz
from typing import Any

FILTERED = (
    "content_policy",
    "content policy",
    "content_filter",
    "content management policy",
    "contentfilter",
    "moderation_blocked",
    "responsibleaipolicyviolation",
    "safety system",
    "safety_system",
    "safety filter",
)
"""Words by which servers say that their filter refused a text."""
ECHO = 8
"""Characters of a text that an error may echo."""
SHOWN = 300
"""Characters of a reply that a message shows."""


def shown(text: str, most: int = SHOWN) -> str:
    """The beginning of a reply on one line, without what a terminal would take for a command; "nothing" if empty."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 20 * most]).split())
    return (line[:most] + " …" if len(line) > most else line) or "nothing"


def error_words(body: str) -> list[str]:
    """What an error's JSON says in so many words: its codes, types, parameters and messages; of other texts all.

    The names of fields, and texts of the request that are echoed in others, are left out.
    """
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        return [body]
    return list(_words(error, inside=isinstance(error, str)))


def _own(body: str, asked: str) -> list[str]:
    """An error's words without an echo of the text `asked`, if that is long enough to be told from single words."""
    return [word.replace(asked, "") if len(asked) >= ECHO else word for word in error_words(body)]


_TOLD = ("code", "type", "param", "message", "msg", "detail", "reason", "error", "title", "loc")
_NESTED = ("error", "errors", "detail", "details", "inner_error", "innererror", "loc")


def _words(value: Any, *, inside: bool, depth: int = 0) -> Iterator[str]:
    if depth > 6:
        return
    if isinstance(value, str) and inside:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _words(item, inside=inside, depth=depth + 1)
    elif isinstance(value, dict):
        for name, part in value.items():
            if str(name).lower() in (_NESTED if isinstance(part, dict | list) else _TOLD):
                yield from _words(part, inside=True, depth=depth + 1)


def says_filtered(body: str, asked: str) -> bool:
    """Whether an error says that a filter refused the text `asked`: in its own words, not in an echo of `asked`."""
    return any(word in text.lower() for text in _own(body, asked) for word in FILTERED)


def refused_parameter(body: str, asked: str, sent: Collection[str]) -> str | None:
    """Which of the parameters `sent` an error is about; None where it names none.

    By the field "param" (OpenAI) or "loc" (FastAPI) if there is one, else by a name in the message.
    """
    for word in error_words(body):
        if word in sent:
            return word
    for word in _own(body, asked):
        # Before other names: a message may go on with what to send instead.
        found = [(match.start(), name) for name in sent if (match := _mention(name).search(word))]
        if found:
            return min(found)[1]
    return None


def _mention(name: str) -> re.Pattern[str]:
    quoted = rf"['\"`‘“]{re.escape(name)}['\"`’”]"
    if len(name) > 1:
        return re.compile(rf"{quoted}|(?<![\w.]){re.escape(name)}(?!\w)")
    said = rf"(?:parameter|argument|field|value of)s?:?\s+{name}\b|(?<![\w'’]){name}\s*(?:[=<>≤≥]|must|should|is|not|>)"
    return re.compile(rf"{quoted}|{said}")


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait (Retry-After, in seconds or as a date); None where it does not say."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name) or "nan") * scale
        except ValueError:
            continue
        if seconds > 0:  # false for nan too
            return seconds
    try:
        date = parsedate_tz(headers.get("retry-after") or "")
        seconds = mktime_tz(date) - time.time() if date else 0.0
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None
