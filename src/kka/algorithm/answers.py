"""From the raw answer of a language model to captions: lists, JSON, marks and quotes; talk and refusals left out.

Small models write a caption and nothing else, and such an answer stays as it is. Chat models greet, number, quote,
think, explain and decline, in the language of the caption that they were shown: `kka.algorithm.talk` knows how.
"""

import ast
import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from kka.algorithm.talk import MARK, UNUSABLE, without_talk

MIN_WORDS, MAX_WORDS = 3, 80
LONGEST = 20_000
"""Characters of an answer that are read, thinking left out."""
MOST_VALUES = 64
"""JSON values of an answer that are read."""
DEEPEST = 8
"""Brackets within brackets."""
CHARACTERS_A_WORD = 1.6
"""Of scripts that put no space between words (and of Korean, whose words are few and long)."""

_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
"""Thinking whose opening stands in the prompt, as some chat templates have it."""
_FENCE = re.compile(r"^\s*```[\w-]*\s*$", re.MULTILINE)
_TAGGED = re.compile(r"<(caption|description|answer|sentence|output)\b[^<>]*>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_JSON = re.compile(r"(?:\A|\n|[.:!?。：！？])\s*(?=[\[{]\s*[\[{\"'\]}])")
"""Where JSON may begin: at a line's beginning or after a sentence."""
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff"  # Thai, Lao, Burmese, Korean letters, Khmer
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"  # Japanese, Chinese, Korean
)
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+(?:['’-][^\W_{_SPACELESS}]+)*")
_CHARACTER = re.compile(f"[{_SPACELESS}]")
_INVISIBLE = re.compile("[\u0000-\u0008\u000e-\u001b\u007f\u200b\u2060\ufeff]")
_QUOTES = "\"'“”‘’«»„‚「」『』《》`*_ \t"
_ARTICLES = frozenset({"a", "an", "the"})


def parse_answer(text: str) -> list[str]:
    """The captions in one raw answer: the items of a list or of JSON, else its lines; talk and thinking left out."""
    text = _without_thinking(text)
    text = _FENCE.sub("", text[:LONGEST]).strip()
    if "</" in text and (tagged := [found[2].strip() for found in _TAGGED.finditer(text)]):
        return [_unquoted(item) for item in tagged if item]
    items = _from_json(text)
    return _from_lines(text) if items is None else items


def whole_part(text: str) -> str:
    """Of an answer that a limit of tokens cut off, what is whole: all lines but the last; of one, its sentences."""
    text = _without_thinking(text)
    if _JSON.search(text):
        return text  # whose whole items are told from the last
    lines, _, last = text.rpartition("\n")
    if lines.strip():
        return lines
    ends = [end.end() for end in re.finditer(r"[.!?](?=\s+\w)|[。！？]", last)]
    return last[: ends[-1]] if ends else ""


def _without_thinking(text: str) -> str:
    return _THOUGHT.sub("", _THINKING.sub("", text)).strip()


# --- JSON --------------------------------------------------------------------------------------------------------

_KEY = re.compile(
    r"(?:\w+[_ ])?(?:caption|description|sentence|text|answer|example|variant|variation|item|anomal(?:y|ie)|defect|"
    r"content|response|output|result|légende|beschreibung|descripci[oó]n|descripcione|描述|标题|說明|说明|句子|説明|설명)"
    r"s?[_ ]?\d*",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"(?:id|index|number|error|message|refusal|reason|reasoning|thoughts?|thinking|explanation|notes?|comment|role|"
    r"type|status|title|original|normal|prompt|style|instruction|language|input|example_caption)s?",
    re.IGNORECASE,
)


_BEFORE, _AFTER = re.compile(r"[\[{,:]\s*\Z"), re.compile(r"\s{0,9}(?:[,:\]}]|\Z)")
"""What stands around a text of Python's, in whose midst an apostrophe may stand."""


def _from_json(text: str) -> list[str] | None:
    """The captions in the JSON within `text`; None where there is none."""
    found: list[str] | None = None
    position = 0
    for _ in range(MOST_VALUES):
        if (match := _JSON.search(text, position)) is None:
            break
        value, position = _value_at(text, match.end())
        if value is not None:
            found = (found or []) + [item.strip() for item in _captions_in(value, 0) if item.strip()]
    return found


def _value_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value (or that of Python) at `start` and its end; of one that was cut off, what is whole of it."""
    with suppress(ValueError, RecursionError):  # it was cut off, or is Python's
        return json.JSONDecoder(strict=False).raw_decode(text, start)
    cuts, end = _cuts(text, start)
    for cut, closing in reversed(cuts[-64:]):
        written = text[start:cut].rstrip().rstrip(",") + closing
        for read in (json.loads, ast.literal_eval):
            try:
                return read(written), end
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return ([] if end == len(text) and text[-1] not in "]}" else None), start + 1


def _cuts(text: str, start: int) -> tuple[list[tuple[int, str]], int]:
    """Where the value at `start` may be cut, each with the brackets that are then open; and where the value ends."""
    cuts: list[tuple[int, str]] = []
    open_brackets: list[str] = []
    quote = ""
    position = start
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote and (quote == '"' or _AFTER.match(text, position + 1)):
                quote = ""
                cuts.append((position + 1, "".join(reversed(open_brackets))))
        elif character == '"' or (character == "'" and _BEFORE.search(text[max(0, position - 9) : position])):
            quote = character
        elif character in "[{":
            open_brackets.append("]" if character == "[" else "}")
            if len(open_brackets) > DEEPEST:
                break
        elif character in "]}":
            if not open_brackets or open_brackets.pop() != character:
                break
            cuts.append((position + 1, "".join(reversed(open_brackets))))
            if not open_brackets:
                return cuts, position + 1
        elif character == ",":
            cuts.append((position, "".join(reversed(open_brackets))))
        position += 1
    return cuts, len(text)


def _captions_in(value: Any, depth: int) -> Iterator[str]:
    """The texts of a JSON value that are captions, by the names that they have."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < DEEPEST:
        for item in value:
            yield from _captions_in(item, depth + 1)
    elif isinstance(value, dict) and depth < DEEPEST:
        named = [part for key, part in value.items() if _KEY.fullmatch(str(key)) and not _ASIDE.fullmatch(str(key))]
        for part in named or [part for key, part in value.items() if not _ASIDE.fullmatch(str(key))]:
            yield from _captions_in(part, depth + 1)


# --- lines -------------------------------------------------------------------------------------------------------


def _from_lines(text: str) -> list[str]:
    marked: list[str] = []
    plain: list[str] = []
    open_item = False  # the line above is an item that may go on
    refused = False
    for line in text.splitlines():
        bare = line.strip()
        if not bare or bare.startswith("#") or set(bare) <= set("-=*_ "):
            open_item = False
            continue
        mark = MARK.match(line)
        told = without_talk(line[mark.end() :] if mark else bare)
        refused = told.refused or (refused and not told.announced)
        body = told.text
        if mark and body:
            marked.append(body)
            open_item = True
        elif open_item and bare[0].islower():
            marked[-1] += " " + bare
        elif body and not refused:
            open_item = False
            plain.append(body)
    return [_unquoted(item) for item in (marked or plain)]


def _unquoted(text: str) -> str:
    text = re.sub(r"\*\*(.+?)\*\*:?", r"\1", text)
    return text.strip(_QUOTES).strip()


def clean(text: str) -> str | None:
    """One caption on one line, without quotes or a closing full stop; None when it cannot serve as a caption."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([.,;:!?])", r"\1", text).strip(_QUOTES).rstrip(".。").strip(_QUOTES)
    if not MIN_WORDS <= length(text) <= MAX_WORDS:
        return None
    broken = "�" in text or "{" in text or "<|" in text or "http" in text
    return None if broken or UNUSABLE.search(text) or not without_talk(text).text else text


def length(text: str) -> float:
    """Words; of scripts without spaces, as many as their characters make."""
    characters = len(_CHARACTER.findall(text))
    return len(_WORD.findall(text)) - characters + characters / CHARACTERS_A_WORD


def normalise(text: str) -> str:
    """Lower-case words without punctuation and articles: equal for texts that say the same in the same words.

    Of scripts without spaces, each character is a word.
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower().replace("’", "'"))
    return " ".join(word for word in words if word not in _ARTICLES)
