"""A person's own class, by its path: `package.module:Class`. Where it is looked for, and how it is set up.

It is imported as any module is, and from the working folder too, which then stands last in `sys.path`: no file there
takes the place of an installed module. To name a class is to have its code run. Files name classes as well, a
detector's card and a run's configuration, and files travel: a class in the working folder that only a file names is
imported if somebody has named it on this machine before.
"""

import ast
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, invalidate_caches
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_type_hints

from kka.common.caches import cache_folder
from kka.errors import UserError, unknown
from kka.settings import parse_value

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
HOW = "your own class as package.module:Class"
"""What errors that list names add to them."""
NAMED = "own-classes.txt"
"""In the cache folder: the files in working folders whose classes somebody has named, one a line."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a class must be able to do to stand where ours do."""

    what: str
    """As errors say it: "detector"."""
    members: Collection[str]
    """The names of ours."""
    needs: tuple[str, ...]
    """The methods that it must have; "one or other" where either will do."""
    example: str
    """The file that shows them."""


def is_class_path(text: str, members: Iterable[str] = ()) -> bool:
    """Whether `text` has the form package.module:Class. `members`: names before a colon that mean something else."""
    return _PATH.fullmatch(text) is not None and text.partition(":")[0] not in members


def class_path(member: object) -> str | None:
    """The path by which the class of `member` is found again; None for one of a script or within a function."""
    kind = type(member)
    path = f"{kind.__module__}:{kind.__qualname__}"
    return path if kind.__module__ != "__main__" and is_class_path(path) else None


def is_own(kind: type) -> bool:
    """Whether a class is none of kka's."""
    return kind.__module__.partition(".")[0] != "kka"


def own_class(path: str, family: Family, *, named: bool = True) -> Any:
    """The class at `path`, imported.

    Args:
        named: The person names it; else a file does, which may come from anywhere.

    Raises:
        UserError: no such module, or one that cannot be imported; no such class; methods that are missing; a class in
            the working folder that only a file names.
    """
    module, _, name = path.partition(":")
    what, needs = family.what, family.needs
    _require_reachable(path, family, named=named)
    try:
        found: Any = import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise _no_module(family, path, error.name) from error
        raise UserError(f"{what}: importing {module} for {path} failed: {_told(error)}") from error
    file = getattr(found, "__file__", None) or "a folder without __init__.py"
    for part in name.split("."):
        holder, found = found, getattr(found, part, None)
        if found is None:
            has = sorted(k for k, v in vars(holder).items() if isinstance(v, type) and v.__module__ == module)
            raise UserError(
                f"{what}: expected a class {name} in {module} ({file}); it has {', '.join(has) or 'no class'}. "
                f"Name one of them, as {module}:{has[0] if has else 'Class'}."
            )
    if not isinstance(found, type):
        raise UserError(f"{what}: expected {path} to be a class; got {type(found).__name__} ({file})")
    if missing := [of for of in needs if not any(callable(getattr(found, one, None)) for one in of.split(" or "))]:
        raise UserError(f"{what}: expected {path} to have the methods {', '.join(needs)}; it lacks "
                        f"{', '.join(missing)}. {family.example} shows them all.")  # fmt: skip
    return found


def built(
    kind: Callable[..., Any], path: str, *, what: str, given: Mapping[str, Any], offered: Mapping[str, Any]
) -> Any:
    """`kind` with the arguments that were `given`, and those of `offered` that it takes.

    Raises:
        UserError: as `require_arguments`.
    """
    require_arguments(kind, path, what=what, given=given, offered=offered)
    names = {p.name for p in parameters(kind)}
    any_name = any(p.kind is Parameter.VAR_KEYWORD for p in parameters(kind))
    return kind(**{k: v for k, v in offered.items() if k in names or any_name} | dict(given))


def require_arguments(
    kind: Callable[..., Any], path: str, *, what: str, given: Iterable[str], offered: Iterable[str]
) -> None:
    """Raises UserError for an argument that the constructor does not take, or one that it needs and does not get."""
    own = [p for p in parameters(kind) if p.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters(kind)):
        for name in given:
            if name not in [p.name for p in own]:
                raise unknown(f"setting of {path}", name, [p.name for p in own] or ["(its constructor takes none)"])
    left = [p.name for p in own if p.default is Parameter.empty and p.name not in {*given, *offered}]
    if left:
        raise UserError(f"{what} {path}: its constructor needs {', '.join(left)}; give them as name=value, or defaults")


def from_texts(kind: Callable[..., Any], texts: Sequence[str], *, of: str) -> dict[str, Any]:
    """Keyword arguments for a constructor from texts "name=value": as its annotations say, else as its defaults are,
    else a number, a tuple and the like where Python reads it as one.

    Raises:
        UserError: a text without "=", a value that does not fit.
    """
    hints: dict[str, Any] = {}
    with suppress(Exception):  # annotations that name what is not there
        hints = get_type_hints(kind.__init__ if isinstance(kind, type) else kind)  # type: ignore[misc]
    usual = {p.name: p.default for p in parameters(kind) if p.default not in (Parameter.empty, None)}
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"settings of {of}: expected name=value; got {text!r}")
        hint = hints.get(name, type(usual[name]) if name in usual else None)
        values[name] = _literal(value) if hint is None else parse_value(
            hint, value, what=f"settings of {of}", name=name
        )
    return values


def require_named_before(path: str, family: Family, *, how: str) -> None:
    """For a class that a file names: UserError where it lies in the working folder and nobody has named it before.

    Args:
        how: What a person types to name it.
    """
    _require_reachable(path, family, named=False, how=how)


def _require_reachable(path: str, family: Family, *, named: bool, how: str = "") -> None:
    """See to it that the module can be imported, from the working folder if from nowhere else."""
    top = path.partition(":")[0].partition(".")[0]
    invalidate_caches()  # the file may be a second old
    if top in sys.modules or find_spec(top) is not None:
        return
    here = str(Path.cwd())
    spec = PathFinder.find_spec(top, [here])
    if spec is None:
        raise _no_module(family, path, top)
    file = _file_of(spec)
    if named:
        _remember(file)
    elif file not in _named_before():
        raise UserError(
            f"{family.what}: {path} is named by a file alone, and would be imported from {file}, whose code would run. "
            f"If it is yours, say so: {how or f'--detector {path}'} (once), or put the folder on PYTHONPATH."
        )
    if here not in sys.path:
        sys.path.append(here)


def _file_of(spec: ModuleSpec) -> str:
    folders = list(spec.submodule_search_locations or [""])
    return os.path.realpath(spec.origin or folders[0])


def _named_before() -> set[str]:
    with suppress(OSError):
        return set(_list_of_named().read_text(encoding="utf-8").splitlines())
    return set()


def _list_of_named() -> Path:
    return cache_folder() / NAMED


def _remember(file: str) -> None:
    """One line, appended whole; where that cannot be, the person is asked again."""
    if file in _named_before() or "\n" in file:
        return
    with suppress(OSError):
        _list_of_named().parent.mkdir(parents=True, exist_ok=True)
        with _list_of_named().open("a", encoding="utf-8") as lines:
            lines.write(file + "\n")


def _no_module(family: Family, path: str, module: str) -> UserError:
    listed = unknown(family.what, path, family.members, also=HOW)
    return UserError(
        f"{listed}, and there is no module {module!r}, neither installed, nor on PYTHONPATH, nor in {Path.cwd()}. Go "
        f"to the folder with {module.partition('.')[0]}.py, or install its package."
    )


def _told(error: Exception) -> str:
    """The error and the line that it comes from."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def parameters(kind: Callable[..., Any]) -> list[Parameter]:
    """Of a constructor."""
    return list(signature(kind).parameters.values())


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)
