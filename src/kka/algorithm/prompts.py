"""The prompt of Eq. 3: pure functions, so that sampling and preference tuning (Eq. 7) see the same string.

The paper words it, for flowers: "Generate descriptions of different flowers. The sentences should follow the
exact structure and style of the example below: …".
"""

import re
from dataclasses import dataclass

import numpy as np

from kka.errors import UserError

STYLE = (
    "Generate descriptions of different {domain}, one sentence per answer. "
    "The sentences should follow the exact structure and style of the example below: {caption}"
)
"""The paper's prompt: other kinds of the same domain, in the style of a caption of a normal."""

DEFECT = (
    "Normal photo of {domain}: {caption}\n"
    "Write the caption of a photo of the same thing with {idea}, in one sentence."
)
"""For a person's own parts, whose captions name one object: what could be wrong with it."""

LIKE_HARD = (
    "Photo of {domain} with a defect that is easily overlooked: {caption}\n"
    "Write the caption of another photo of the same thing with {idea}, as hard to see, in one sentence."
)
"""`DEFECT` where `caption` describes an anomaly that was hard, in later rounds without preference tuning. (`STYLE`
needs no other words: its example may be any caption.)"""

TEMPLATES = {"style": STYLE, "defect": DEFECT}
"""The templates that have a name."""

IDEAS_EACH = 3
"""Ideas that each normal's caption is prompted with, where the template has a place for one."""

_KINDS = (
    "scratch", "crack", "hole", "dent", "stain", "chipped edge", "missing part", "discoloration", "foreign object",
    "deformation", "worn spot", "break",
)  # fmt: skip
_SIZES = ("tiny", "small", "large", "long", "narrow", "wide")
_STRENGTHS = ("hardly visible", "faint", "clearly visible", "severe")
_PLACES = ("at the edge", "in a corner", "in the middle", "on the left", "on the right", "at the top", "at the bottom")

_FIELD = re.compile(r"\{(caption|domain|idea)\}")


@dataclass(frozen=True, kw_only=True)
class _Example:
    """A prompt about another object, and an answer to it."""

    domain: str
    caption: str
    idea: str = ""
    answer: str


_WORKED = {
    "style": (
        _Example(
            domain="chairs", caption="a red wooden chair with four legs stands on a grey floor",
            answer="a white plastic chair with a round back stands on green grass",
        ),
        _Example(
            domain="dogs", caption="a small brown dog with long ears lies on a sofa",
            answer="a large black dog with a short tail runs along a beach",
        ),
    ),
    "defect": (
        _Example(
            domain="chairs", caption="a photo of a wooden chair", idea="a large crack on the left",
            answer="a photo of a wooden chair with a long crack across the left of its seat",
        ),
        _Example(
            domain="bottles", caption="a close-up of a glass bottle", idea="a faint stain",
            answer="a close-up of a glass bottle with a faint brown stain just below its rim",
        ),
    ),
}  # fmt: skip


def resolve_template(template: str | None) -> str:
    """The text of a template that is given by name, by its own text, or not at all (the paper's).

    Raises:
        UserError: the text is no known name and holds no ``{caption}``.
    """
    text = TEMPLATES.get(template or "style", template or STYLE)
    if "{caption}" not in text:
        raise UserError(
            f"prompt template: expected one of {', '.join(sorted(TEMPLATES))}, or a text that contains {{caption}} "
            f"where the caption of a normal image goes ({{domain}} and {{idea}} if wanted); got {template!r}"
        )
    return text


def build_prompt(caption: str, *, domain: str, template: str | None = None, idea: str = "a defect") -> str:
    """The prompt for one representative normal (Eq. 2) whose caption is `caption`.

    Args:
        caption: Describes the normal image; its white space is made single spaces.
        domain: What the pictures show, in the plural: "flowers".
        template: A name of `TEMPLATES`, or a text with ``{caption}`` and perhaps ``{domain}`` and ``{idea}``. None: the
            paper's.
        idea: What could be wrong: see `draw_ideas`.

    Raises:
        UserError: no caption, or a template without ``{caption}``.
    """
    values = {"caption": " ".join(caption.split()), "domain": " ".join(domain.split()), "idea": idea}
    if not values["caption"]:
        raise UserError("prompt: expected the caption of a normal image; got an empty text")
    # One pass, so that braces inside a caption stay as they are.
    return _FIELD.sub(lambda field: values[field[1]], resolve_template(template))


def prompts_for(caption: str, *, domain: str, template: str | None, seed: int) -> list[str]:
    """The prompts for one representative: one; with `IDEAS_EACH` ideas where the template has a place for them."""
    if "{idea}" not in resolve_template(template):
        return [build_prompt(caption, domain=domain, template=template)]
    return [
        build_prompt(caption, domain=domain, template=template, idea=idea) for idea in draw_ideas(IDEAS_EACH, seed)
    ]


def draw_ideas(n: int, seed: int) -> list[str]:
    """`n` different things that could be wrong with an object, "a small scratch at the edge"; of thousands, fewer.

    Each names the kind of defect, or leaves it to the model, and at most two of size, strength and place: captions
    written to one idea are then still free to differ.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    for _ in range(20 * n):
        if len(found) == n:
            break
        kind = str(rng.choice(_KINDS)) if rng.random() < 0.75 else "defect"
        size, strength, place = (
            str(rng.choice(words)) if rng.random() < share else ""
            for words, share in ((_SIZES, 0.3), (_STRENGTHS, 0.3), (_PLACES, 0.4))
        )
        found[" ".join(filter(None, ["a", size or strength, kind, place]))] = None
    return list(found)


def worked_examples(template: str | None) -> list[tuple[str, str]]:
    """(prompt, answer) about two other objects, for chat models; of a template of one's own there are none."""
    name = template or "style"
    return [
        (build_prompt(each.caption, domain=each.domain, template=name, idea=each.idea), each.answer)
        for each in _WORKED.get(name, ())
    ]


def instruction(template: str | None) -> str:
    """The words of a template apart from what is filled in: a caption has none of its phrases."""
    return _FIELD.sub("\n", resolve_template(template))
