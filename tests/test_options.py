"""Every option of every command, by introspection: what no run could use is refused before there is one."""

import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

from kka.cli import _COMMANDS, main, parse
from kka.cli.data import Describe, Prepare
from kka.cli.experiment import Compute, ListExperiments, PlotFigures, ShowTables
from kka.cli.images import MeasureImages, TrainImages
from kka.cli.pool import Pool
from kka.detectors import DETECTORS, detector_class
from kka.errors import UserError
from kka.settings import MAX_NUMBER, bounds, parsed

NEEDED: dict[str, Any] = {
    "folder": Path("x"), "out": Path("x"), "action": "train", "detector_dir": Path("x"), "images": (Path("x"),),
    "name": "cifar100", "model": "garden", "run": Path("x"), "to": "coco", "paths": (Path("x"),),
}  # fmt: skip
"""Values for options that have no default."""
BAD = [float("nan"), float("inf"), -float("inf"), 0, 0.0, -1, -1.0, 1e30, 10**12, 10**30]


def kinds() -> Iterator[type]:
    """Each class of options: of a command, of a part of it, of a detector (--set)."""
    subcommands = {
        "Data": (Prepare, Describe), "Images": (TrainImages, MeasureImages),
        "Experiments": (ListExperiments, ShowTables, PlotFigures, Compute),
    }  # fmt: skip
    for command in _COMMANDS:
        yield from subcommands.get(command.__name__, (command,))
    yield from (detector_class(name).SETTINGS for name in DETECTORS)


def leaves(kind: type) -> Iterator[tuple[type, str, Any]]:
    """(class, field, type) of each option of a class and of the classes in it."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name not in {field.name for field in dataclasses.fields(kind)}:  # type: ignore[arg-type]
            continue
        plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if dataclasses.is_dataclass(plain):
            yield from leaves(plain)  # type: ignore[arg-type]
        else:
            yield kind, name, hint


LEAVES = list(dict.fromkeys((kind, name, str(hint)) for top in kinds() for kind, name, hint in leaves(top)))
NUMBERS = [
    pytest.param(kind, name, id=f"{kind.__name__}.{name}")
    for kind, name, _ in LEAVES
    if bounds(get_type_hints(kind, include_extras=True)[name]) is not None
]


def made(kind: type, name: str, value: Any) -> Any:
    """An object of a class of options with one value, all others as they are unasked."""
    required = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory]  # type: ignore[arg-type]
    needed = NEEDED | ({"action": "export"} if kind is Pool else {})
    return kind(**{field: needed[field] for field in required} | {name: value})


def test_the_loop_sees_every_option() -> None:
    """A loop over nothing passes."""
    assert len(LEAVES) > 150 and len(NUMBERS) > 90
    seen = {kind.__name__ for kind, _, _ in LEAVES}
    assert {"Run", "Train", "LM", "Prepare", "Compute", "LanguageSettings", "DrawingSettings", "DeepSADSettings",
            "BackboneSettings", "CMDASettings", "SimpleNetSettings", "ReContrastSettings"} <= seen  # fmt: skip
    ruled = {param.values for param in NUMBERS}
    number = re.compile(r"\b(int|float)\b")
    assert [name for kind, name, hint in LEAVES if number.search(hint) and (kind, name) not in ruled] == []


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_no_number_is_without_bounds(kind: type, name: str) -> None:
    """A number that is no number ends as a verdict "normal"; one that is absurd as a full memory or a run for ever."""
    hint = get_type_hints(kind, include_extras=True)[name]
    found = bounds(hint)
    assert found is not None
    number, lower, upper = found
    assert lower is not None and upper is not None
    least, largest = (next(iter(dataclasses.asdict(rule).values())) for rule in (lower, upper))
    assert largest <= (2**63 if "seed" in name else MAX_NUMBER) and least >= -(2**63)
    for value in BAD:
        if number is int and isinstance(value, float) and value.is_integer():
            continue  # 0.0 is the whole number 0
        given = (value,) if "tuple" in str(hint) and "Side" not in str(hint) and name != "size" else value
        try:
            got = made(kind, name, given)
        except UserError as error:
            told = str(error)
            assert "expected" in told and name in told and "got" in told and "Traceback" not in told, told
            ranged = "number" in told and ("from" in told or "above" in told)
            assert ranged or not _outside(value, least, largest), told
        else:
            assert math.isfinite(value) and not _outside(value, least, largest), f"{value!r} passes for {name}"
            assert getattr(got, name) == given


def _outside(value: float, least: Any, largest: Any) -> bool:
    return not least <= value <= largest


@pytest.mark.parametrize("name", DETECTORS)
def test_set_has_the_same_rules(name: str) -> None:
    """`--set epochs=nan` reaches the settings by another way than the other options."""
    settings = detector_class(name).SETTINGS
    count = 0
    for kind, field, hint in leaves(settings):
        if bounds(hint) is None:
            continue
        for value in ("nan", "inf", "-inf", "1e30", str(10**12)):
            with pytest.raises(UserError, match=rf"expected {field} to be a .*number.*; got '{value}'"):
                parsed(kind, [f"{field}={value}"], of=name)
            count += 1
    assert count >= 25


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--folds", "1000"], "expected folds to be a whole number from 1 to 100; got folds = 1000"),
        (["run", "--drawing.size", "20000"], "expected drawing.size to be a whole number from 8 to 4,096"),
        (["run", "--backbone.std", "0"], "backbone.std to be a number above 0"),
        (["train", "--size", "20000"], "expected size to be a whole number from 8 to 4,096; got size = 20000"),
        (["train", "--fpr", "nan"], "expected fpr to be a number above 0 and below 1; got fpr = nan"),
        (["lm", "train", "--out", "x", "--unseen", "1"], "unseen to be a number from 0 to below 1; got unseen = 1.0"),
        (["experiment", "table3", "--jobs", "-1"], "expected jobs to be a whole number from 1 to 256; got jobs = -1"),
        (["data", "prepare", "cifar100", "--out", "x", "--size", "1"], "from 8 to 4,096; got size = 1"),
    ],
)
def test_the_command_line_says_it_in_one_message(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser has a frame of its own for errors, with names of its own in it."""
    assert main(arguments) == 2
    out = capsys.readouterr()
    assert told in out.err and out.err.startswith("kka: ") and out.err.count("\n") == 1 and "tyro" not in out.err
    assert out.out == ""


def texts() -> list[tuple[str, ...]]:
    """A command line for each option that takes a text or a path."""
    return [
        ("run", "--out"), ("run", "--data"), ("run", "--lm"), ("run", "--images"), ("run", "--prompt"),
        ("run", "--set"), ("run", "--normal"), ("train", "--out"), ("train", "--anomalies"),
        ("score", "--detector-dir"), ("score",), ("export", "--out"), ("lm", "train", "--out"), ("data", "describe"),
        ("report",),
        ("data", "prepare", "cifar100", "--out"), ("experiment", "table3", "--results"),
        ("experiment", "table3", "--work"),
    ]  # fmt: skip


@pytest.mark.parametrize("words", texts(), ids=" ".join)
def test_an_empty_text_is_no_path(words: tuple[str, ...]) -> None:
    """`--out "$RUN"` with the variable not set would write into the folder one is in."""
    ways = [[*words, ""], [*words, " "]] + ([[*words[:-1], f"{words[-1]}="]] if words[-1].startswith("--") else [])
    for way in ways:
        with pytest.raises(UserError, match="expected a value; got an empty text"):
            parse(way)


def test_one_number_stands_for_three_colours_on_the_command_line() -> None:
    """`--backbone.mean 0.5`, as the page of options says."""
    assert parse(["run", "--backbone.mean", "0.5"]).config.detector_options.backbone.mean == (0.5,)
    assert parse(["train", "--backbone.std", "0.2", "0.3", "0.4"]).options.backbone.std == (0.2, 0.3, 0.4)
