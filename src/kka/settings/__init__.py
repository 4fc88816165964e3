"""Settings: frozen classes, checked where they are made. Nothing heavy is imported: `kka --help` reads them.

A class under `@settings(...)` is a keyword-only dataclass whose annotations are its rules (by pydantic). No number that
is NaN or infinite passes, and no name that is no field.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

import pydantic.dataclasses
from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict, TypeAdapter, ValidationError

from kka.errors import UserError, unknown

Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)
_SAYS = "Input should be "
T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def settings(name: str = "") -> Any:
    """A decorator for classes of settings. `name`: what errors put before a field, as the command line does."""

    def decorate(cls: type[T]) -> type[T]:
        made: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls)
        checked = made.__init__

        def check(self: Any, **values: Any) -> None:
            try:
                checked(self, **values)
            except ValidationError as error:
                raise _in_words(error, made, name) from None

        made.__init__ = check
        return made

    return decorate


def _in_words(error: ValidationError, cls: Any, name: str) -> UserError:
    """The first fault in words: the field, what was expected, what was got."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):  # of a rule over several fields
        return cause
    place = [name] if name else []
    place += [part for part in first["loc"] if isinstance(part, str)]
    path = ".".join(place)
    if first["type"] == "unexpected_keyword_argument":
        for part in first["loc"][:-1]:
            cls = get_type_hints(cls)[str(part)]
        names = sorted(field.name for field in dataclasses.fields(cls))
        known = ", ".join(".".join([*place[:-1], field]) for field in names)
        return UserError(f"configuration: expected only {known}; got {path}")
    expected = first["msg"].removeprefix(_SAYS)
    return UserError(f"configuration: expected {path} to be {expected}; got {path} = {first['input']!r}")


def refuse_unknown(given: Any, known: Collection[str], *, of: str, group: str) -> None:
    """Refuse what would silently be left aside.

    Args:
        given: Settings of a class that several members share.
        known: The fields that this member knows.
        of: The member, and `group`: the class, as errors say them.

    Raises:
        UserError: a field that is not at its default and not known.
    """
    for field in dataclasses.fields(given):
        usual = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value = getattr(given, field.name)
        if field.name not in known and value != usual:
            has = ", ".join(f"{group}.{name}" for name in sorted(known)) or "no such settings"
            raise UserError(f"{group}.{field.name}: {of} has only {has}; got {value!r}. Leave it out.")


def parsed(kind: type[Any], overrides: Sequence[str], *, of: str) -> dict[str, Any]:
    """Field -> value, from texts "setting=value": "none" where None may stand, and tuples as "1,2".

    Args:
        of: Whose settings they are, as errors say it.

    Raises:
        UserError: a text of another form, a name that is no field, a value of another type.
    """
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"settings of {of}: expected setting=value; got {text!r}")
        if key not in fields:
            raise unknown(f"setting of {of}", key, fields)
        try:
            values[key] = _value(hints[key], value)
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix(_SAYS)
            raise UserError(f"settings of {of}: expected {key} to be {said}; got {value!r}") from error
    return values


def _value(hint: Any, text: str) -> Any:
    given: Any = text
    if text.lower() == "none" and type(None) in _alternatives(hint):
        given = None
    elif any(get_origin(kind) is tuple for kind in _alternatives(hint)):
        given = [part for part in text.split(",") if part]
    return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False)).validate_python(given)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, each without its rules."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    kinds = get_args(hint) if get_origin(hint) is not tuple and type(None) in get_args(hint) else (hint,)
    return tuple(get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds)
