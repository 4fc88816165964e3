"""Builds a member of a family from its spec's parts, with errors that list what there is."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from kka.errors import unknown


def build_member(kind: Callable[..., Any], what: str, options: Mapping[str, Any], /, *fixed: Any) -> Any:
    """`kind(*fixed, **options)`.

    Args:
        what: The member, as errors say it: "language model openai".

    Raises:
        UserError: an option that `kind` does not take.
    """
    parameters = signature(kind).parameters.values()
    known = [p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
    if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        for option in options:
            if option not in known:
                raise unknown(f"option of {what}", option, known or ["(it has none)"])
    return kind(*fixed, **options)
