"""Settings: frozen classes, checked where they are made. Nothing heavy is imported: `kka --help` reads them.

A class under `@settings(...)` is a keyword-only dataclass whose annotations are its rules (by pydantic). No number
that is NaN or infinite passes, and no name that is no field. Every number has a least and a largest value: the largest
is one that nobody means, so that a slip of the finger ends in an error and not in a full memory.
"""

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

import pydantic.dataclasses
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from kka.errors import UserError, unknown


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value


MAX_COUNT, MAX_SIDE, MAX_NUMBER = 1_000_000, 4096, 1e9
Count = Annotated[int, Ge(1), Le(MAX_COUNT)]
Natural = Annotated[int, Ge(0), Le(MAX_COUNT)]
Few = Annotated[int, Ge(1), Le(1000)]
"""Of what each costs a training: seeds, rounds, clusters."""
Epochs = Annotated[int, Ge(1), Le(100_000)]
Passes = Annotated[int, Ge(0), Le(100_000)]
Side = Annotated[int, Ge(8), Le(MAX_SIDE)]
"""Of a square picture, in pixels."""
Width = Annotated[int, Ge(1), Le(65_536)]
"""Of a batch or a layer."""
Seed = Annotated[int, Ge(-(2**63)), Lt(2**63)]
Positive = Annotated[float, Gt(0), Le(MAX_NUMBER)]
NonNegative = Annotated[float, Ge(0), Le(MAX_NUMBER)]
Number = Annotated[float, Ge(-MAX_NUMBER), Le(MAX_NUMBER)]
Share = Annotated[float, Ge(0), Le(1)]
PartialShare = Annotated[float, Ge(0), Lt(1)]
Text = Annotated[str, AfterValidator(_text)]
"""Not empty."""

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)
_SAYS = "Input should be "
T = TypeVar("T")


class _RefusalError(Exception):
    """An error on its way through a library that takes every ValueError for its own."""


_passing: ContextVar[bool] = ContextVar("passing", default=False)


@contextmanager
def errors_of_settings() -> Iterator[None]:
    """The errors of settings that are made in the block come out of it as they are, whatever is around them."""
    before = _passing.set(True)
    try:
        yield
    except _RefusalError as refusal:
        raise refusal.args[0] from None
    finally:
        _passing.reset(before)


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
                told = _in_words(error, made, name)
                raise (_RefusalError(told) if _passing.get() else told) from None

        made.__init__ = check
        return made

    return decorate


def _in_words(error: ValidationError, cls: Any, name: str) -> UserError:
    """The first fault in words: the field, what was expected, what was got."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):  # of a rule over several fields
        return cause
    place, hint = [name] if name else [], cls
    for part in first["loc"]:
        inner = get_type_hints(hint, include_extras=True) if dataclasses.is_dataclass(hint) else {}
        if first["type"] == "unexpected_keyword_argument" and part not in inner:
            known = ", ".join(".".join([*place, field]) for field in sorted(inner))
            return UserError(f"configuration: expected only {known}; got {'.'.join([*place, str(part)])}")
        if part in inner:  # other parts name a place in a tuple, or one of several types
            place.append(str(part))
            hint = inner[str(part)]
    path = ".".join(place)
    return UserError(
        f"configuration: expected {path} to be {_expected(hint, first)}; got {path} = {first['input']!r}"
    )


def _expected(hint: Any, fault: Any) -> str:
    """What would do in the place of a fault: of numbers all of the range, else what pydantic says."""
    if fault["type"].startswith(("greater_than", "less_than", "finite", "int_", "float_")) and (found := _range(hint)):
        return found
    said: str = fault["msg"]
    return said.removeprefix(_SAYS).removeprefix("Value error, ")


def bounds(hint: Any) -> tuple[type, Any, Any] | None:
    """The kind of number that stands in a type first, with its lower and its upper rule; None where there is none."""
    if get_origin(hint) is not Annotated:
        return next((found for inner in get_args(hint) if (found := bounds(inner)) is not None), None)
    kind, *rules = get_args(hint)
    if kind not in (int, float):
        return bounds(kind)
    lower = next((rule for rule in rules if isinstance(rule, Ge | Gt)), None)
    upper = next((rule for rule in rules if isinstance(rule, Le | Lt)), None)
    return kind, lower, upper


def _range(hint: Any) -> str:
    found = bounds(hint)
    if found is None:
        return ""
    kind, lower, upper = found
    words = ["a whole number" if kind is int else "a number"]
    if lower is not None:
        words.append(f"from {_shown(lower.ge)}" if isinstance(lower, Ge) else f"above {_shown(lower.gt)}")
    if upper is not None and isinstance(lower, Ge):
        words.append(f"to {_shown(upper.le)}" if isinstance(upper, Le) else f"to below {_shown(upper.lt)}")
    elif upper is not None:
        words.append(f"and at most {_shown(upper.le)}" if isinstance(upper, Le) else f"and below {_shown(upper.lt)}")
    return " ".join(words)


def _shown(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


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


def refuse_own(given: Any, *, of: str, group: str) -> None:
    """Raises UserError where `set` has arguments, which are for a class of one's own; `of` is one of kka's models."""
    if given is not None and given.set:
        raise UserError(f"{group}.set: {of} has only the settings that kka names; set is for a class of your own, as "
                        f"package.module:Class. Leave it out.")  # fmt: skip


def parsed(kind: type[Any], overrides: Sequence[str], *, of: str) -> dict[str, Any]:
    """Field -> value, from texts "setting=value": "none" where None may stand, and tuples as "1,2".

    A class may name a field in `REST`, which then takes all texts of names that are no fields.

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
        if key not in fields and hasattr(kind, "REST"):
            values[kind.REST] = (*values.get(kind.REST, ()), text)
            continue
        if key not in fields:
            raise unknown(f"setting of {of}", key, fields)
        values[key] = parse_value(hints[key], value, what=f"settings of {of}", name=key)
    return values


def parse_value(hint: Any, text: str, *, what: str, name: str) -> Any:
    """What a text means where a value of the type `hint` is wanted; the text itself where pydantic knows no such type.

    Raises:
        UserError: a value of another type.
    """
    given: Any = text
    if text.lower() == "none" and type(None) in _alternatives(hint):
        given = None
    elif any((get_origin(kind) or kind) in (tuple, list, Sequence) for kind in _alternatives(hint)):
        given = [part for part in text.split(",") if part]
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))
    except PydanticSchemaGenerationError:
        return text
    try:
        return adapter.validate_python(given)
    except ValidationError as error:
        said = _expected(hint, error.errors()[0])
        raise UserError(f"{what}: expected {name} to be {said}; got {text!r}") from error


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, each without its rules."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    kinds = get_args(hint) if get_origin(hint) is not tuple and type(None) in get_args(hint) else (hint,)
    return tuple(get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds)
