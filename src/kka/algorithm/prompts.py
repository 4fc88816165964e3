"""The prompt of Eq. 3: pure functions, so that sampling and preference tuning (Eq. 7) see the same string.

The paper words it, for flowers: "Generate descriptions of different flowers. The sentences should follow the
exact structure and style of the example below: …".
"""

import re

from kka.errors import UserError

STYLE = (
    "Generate descriptions of different {domain}, one sentence per answer. "
    "The sentences should follow the exact structure and style of the example below: {caption}"
)
"""The paper's prompt: other kinds of the same domain, in the style of a caption of a normal."""

DEFECT = (
    "Imagine a photo of {domain} with a defect, damage or an unusual variation. Describe what is different "
    "in one sentence, in the style of this description of a normal one: {caption}"
)
"""For a person's own parts, whose captions name one object: what could be wrong with it."""

LIKE_HARD = (
    "Imagine a photo of {domain} with a defect, damage or an unusual variation that is easily overlooked. Describe "
    "what is different in one sentence. This one was hard to tell from a normal one; write another as hard: {caption}"
)
"""`DEFECT` where `caption` describes an anomaly that was hard, in later rounds without preference tuning. (`STYLE`
needs no other words: its example may be any caption.)"""

TEMPLATES = {"style": STYLE, "defect": DEFECT}
"""The templates that have a name."""

_FIELD = re.compile(r"\{(caption|domain)\}")


def resolve_template(template: str | None) -> str:
    """The text of a template that is given by name, by its own text, or not at all (the paper's).

    Raises:
        UserError: the text is no known name and holds no ``{caption}``.
    """
    text = TEMPLATES.get(template or "style", template or STYLE)
    if "{caption}" not in text:
        raise UserError(
            f"prompt template: expected one of {', '.join(sorted(TEMPLATES))}, or a text that contains {{caption}} "
            f"where the caption of a normal image goes (and {{domain}} if wanted); got {template!r}"
        )
    return text


def build_prompt(caption: str, *, domain: str, template: str | None = None) -> str:
    """The prompt for one representative normal (Eq. 2) whose caption is `caption`.

    Args:
        caption: Describes the normal image; its white space is made single spaces.
        domain: What the pictures show, in the plural: "flowers".
        template: A name of `TEMPLATES`, or a text with ``{caption}`` and perhaps ``{domain}``. None: the paper's.

    Raises:
        UserError: no caption, or a template without ``{caption}``.
    """
    values = {"caption": " ".join(caption.split()), "domain": " ".join(domain.split())}
    if not values["caption"]:
        raise UserError("prompt: expected the caption of a normal image; got an empty text")
    # One pass, so that braces inside a caption stay as they are.
    return _FIELD.sub(lambda field: values[field[1]], resolve_template(template))
