"""Why a text of a caption's length is no caption all the same: it describes no picture.

Small chat models speak of the task, give the prompt back, go round in circles, or list words. Pure functions, made so
that of real captions none is refused.
"""

import re
from collections import Counter

from kka.algorithm.answers import normalise

WHY = {
    "talk": "spoke of the task", "echo": "gave the prompt back", "repetition": "went round in circles",
    "no_thing": "were lists of words",
}  # fmt: skip
"""Reason -> what its texts did, in words."""
REASONS = tuple(WHY)

_TALK = re.compile(
    r"\b(?:captions?|sentences?|prompts?|descriptions?|paraphras\w+|the above|the following|the example|the original"
    r"|in the style of|normal (?:one|photo|image|picture|version)|(?:is|was) (?:described|captioned|labell?ed)"
    r"|describ(?:es|ing) (?:a|the) (?:photo|image|picture|normal)|this (?:phrase|statement|example|item)"
    r"|would (?:be|look) like|(?:photo|image|picture) (?:is|was) (?:taken|created|generated|used) (?:to|for|by|with|as)"
    r"|dataset|as (?:an?|the) (?:ai|assistant)|(?:my|your) answer)\b|^(?:write|imagine|describe)\b",
    re.IGNORECASE,
)
_NAME_OF_FILE = re.compile(r"\w_\w|\.(?:jpe?g|png|gif|webp|tiff?)\b|#\w|\S+@\S+", re.IGNORECASE)
_LABEL = re.compile(r"^\w+(?: \w+)?\s*:")
"""As in "Categories: weather and climate"."""
_JOINS = re.compile(
    r"\b(?:an?|the|this|that|these|those|its?|of|with|without|in|on|at|by|from|into|near|under|over|around|across|through"
    r"|between|beside|behind|below|above|to|for|is|are|was|has|have|and|or|some|many|several|few|no|one|two|three|four"
    r"|five|six|seven|eight|nine|ten|there)\b",
    re.IGNORECASE,
)
"""Words that join a thing to what is said of it: a list of words has none."""
_LATIN = re.compile(r"^[\x00-\x7f]*$")
ECHOED = 5
"""Words in a row that a caption may not share with the instruction."""
TIMES = 3
"""How often three words in a row make going round in circles."""
FEW = 0.5
"""Share of a text's words that are different, up to which it does."""


def reason_against(caption: str, instruction: str = "") -> str | None:
    """One of `REASONS`, or None: it may describe a picture.

    Args:
        instruction: The prompt's own words: `kka.algorithm.prompts.instruction`.
    """
    words = normalise(caption).split()
    if _TALK.search(caption) or _NAME_OF_FILE.search(caption) or _LABEL.match(caption):
        return "talk"
    if any(_echoed(words, line) for line in instruction.splitlines()):
        return "echo"
    if _circles(words if _LATIN.match(caption) else caption.split()):  # of other scripts `words` may be letters
        return "repetition"
    if "," in caption and _LATIN.match(caption) and not _JOINS.search(caption):
        return "no_thing"
    return None


def _echoed(words: list[str], line: str) -> bool:
    said = f" {normalise(line)} "
    runs = (words[i : i + ECHOED] for i in range(len(words) - ECHOED + 1))
    return any(f" {' '.join(run)} " in said for run in runs)


def _circles(words: list[str]) -> bool:
    threes = Counter(zip(words, words[1:], words[2:], strict=False))
    stuck = any(a == b == c for a, b, c in zip(words, words[1:], words[2:], strict=False))
    return stuck or max(threes.values(), default=0) >= TIMES or len(set(words)) <= len(words) * FEW
