"""The rules of the house, read from the imports: what may import what."""

import ast
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
FILES = sorted((SOURCE / "kka").rglob("*.py"))
ROOMS = (
    "errors", "seeding", "settings", "protocols", "task", "config", "common", "algorithm", "garden", "defects",
    "language", "data", "imaging", "detectors", "deploy", "exchange", "report", "review", "tracking",
    "run", "experiments", "cli",
)  # fmt: skip
"""From the ground up: a room imports those before it. (`kka/__init__.py` names its public parts lazily.)"""
AT_HOME = {
    "transformers": "language", "peft": "language", "trl": "language", "tokenizers": "language",
    "cv2": "imaging", "diffusers": "imaging", "timm": "detectors", "anomalib": "detectors", "lightning": "detectors",
    "gradio": "cli", "tyro": "cli",
    "mlflow": "tracking", "wandb": "tracking", "tensorboard": "tracking",
}  # fmt: skip
"""A library -> the one room that imports it."""


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports anywhere, inside functions and for types alone included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: imports are absolute"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in MODULES else node.module


def room_of(module: str) -> str | None:
    """The room of a module of kka; None for `kka` itself."""
    return module.split(".")[1] if "." in module else None


def test_imports_go_down_only() -> None:
    """A room that imports one above it makes a circle, and nothing can be read on its own any more."""
    assert len(FILES) > 100
    assert {room_of(module) for module in MODULES} == {None, *ROOMS}
    upwards = [
        f"{module} -> {target}"
        for module, file in MODULES.items()
        if (room := room_of(module)) is not None
        for target in imports(file)
        if target.startswith("kka.") and ROOMS.index(room_of(target) or "") > ROOMS.index(room)
    ]
    assert upwards == []


def test_no_two_files_import_each_other() -> None:
    """Two files in a circle are one file in two places."""
    graph = {
        module: {target for target in imports(file) if target in MODULES and target not in ("kka", module)}
        for module, file in MODULES.items()
        if module != "kka"
    }
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_the_algorithm_knows_protocols_alone() -> None:
    """Algorithm 1 that imports a language model, an image model or a detector would work with that one only."""
    own = [file for module, file in MODULES.items() if room_of(module) == "algorithm"]
    assert len(own) > 10
    known = {room_of(target) for file in own for target in imports(file) if target.startswith("kka.")}
    assert known <= {"algorithm", "common", "protocols", "task", "config", "errors", "seeding", "settings"}


def test_a_library_is_imported_in_one_room() -> None:
    """A library that many rooms import cannot be exchanged."""
    found = [
        f"{module}: {target}"
        for module, file in MODULES.items()
        for target in imports(file)
        if (home := AT_HOME.get(target.partition(".")[0])) is not None and room_of(module) != home
    ]
    assert found == []
    importers = [m for m, file in MODULES.items() if any(t.partition(".")[0] == "ray" for t in imports(file))]
    assert importers == ["kka.common.cluster"]


def test_members_are_chosen_in_one_file() -> None:
    """A second place that turns a spec into a model would know other names and other options."""
    choosers = {
        module
        for module, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and {name.name for name in node.names} & {"build_language_model", "build_image_model"}
    }
    assert choosers == {"kka.run.models"}


def test_what_the_code_reads_is_in_the_wheel() -> None:
    """A page or a model that setuptools does not pack is there in a checkout, and missing where people install."""
    packed = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["kka"]
    found = [
        file.relative_to(SOURCE / "kka").as_posix() for file in (SOURCE / "kka").rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    ]  # fmt: skip
    assert len(found) > 15
    assert [name for name in found if not any(fnmatch(name, pattern) for pattern in packed)] == []
