"""A person's own language model or image model, built from the settings that a run has for ours.

Its constructor takes what it wants of them by name: `settings` is all of them; a single one, such as `size`, comes as
it is set; `set` holds arguments of its own, as texts name=value.
"""

import dataclasses
from typing import Any

from kka.common.own import Family, built, from_texts, own_class, parameters, require_arguments
from kka.errors import UserError


def build_own(path: str, family: Family, *, settings: Any, group: str, **offered: Any) -> Any:
    """The model whose class is at `path`.

    Args:
        group: The name of the settings, as errors say them: "drawing".
        offered: What else its constructor gets, where it takes it.

    Raises:
        UserError: a class that cannot be had, or lacks methods; a setting that it does not take.
    """
    kind = own_class(path, family)
    given, more = _arguments(kind, path, settings, group)
    return built(kind, path, what=family.what, given=given, offered={**offered, **more})


def check_own(path: str, family: Family, *, settings: Any, group: str, offered: tuple[str, ...] = ()) -> None:
    """What `build_own` would raise, and nothing is built: a constructor may load what is large."""
    kind = own_class(path, family)
    given, more = _arguments(kind, path, settings, group)
    require_arguments(kind, path, what=family.what, given=given, offered=[*offered, *more])


def _arguments(kind: Any, path: str, settings: Any, group: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the constructor must take, and what it gets where it takes it."""
    given = from_texts(kind, settings.set, of=path)
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    usual = dataclasses.asdict(type(settings)())
    takes = [p.name for p in parameters(kind)]
    changed = {k: v for k, v in values.items() if k != "set" and v != usual[k]}
    if "settings" in takes:
        return given, {"settings": settings} | {k: v for k, v in changed.items() if k in takes}
    for name, value in changed.items():
        if name not in takes and not any(p.kind is p.VAR_KEYWORD for p in parameters(kind)):
            known = ", ".join(takes) or "nothing"
            raise UserError(f"{group}.{name}: the constructor of {path} takes {known}; got {value!r}. Leave it out.")
    return {**changed, **given}, {}
