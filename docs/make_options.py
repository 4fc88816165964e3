"""Writes docs/options.md from the settings classes: `python docs/make_options.py`; `--check` compares."""

import ast
import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Any

from kka.config import DetectorOptions, RunConfig
from kka.settings.backbone import BackboneSettings
from kka.settings.deep_sad import DeepSADSettings
from kka.settings.drawing import DrawingSettings
from kka.settings.language import LanguageSettings

PAGE = Path(__file__).parent / "options.md"
HEAD = """# The settings of a run

Made from the settings classes by `python docs/make_options.py`. On the command line `--fresh 100`, in a configuration
file and in Python `fresh=100`; `--resume` takes them from the run. `none` stands for no value.
"""
PARTS: dict[str, tuple[str, Any]] = {
    "The run": ("", RunConfig),
    "The language model": ("language.", LanguageSettings),
    "The image model": ("drawing.", DrawingSettings),
    "The evaluator, and SAD": ("sad.", DeepSADSettings),
    "The detector": ("", DetectorOptions),
    "Its backbone": ("backbone.", BackboneSettings),
}


def meanings(kind: Any) -> dict[str, str]:
    """Field -> the text below it."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found, last = {}, None
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
        elif last and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[last] = " ".join(str(node.value.value).split())
            last = None
    return found


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for title, (prefix, kind) in PARTS.items():
        lines += [f"## {title}", "", "| option | default | |", "|---|---|---|"]
        told = meanings(kind)
        for field in dataclasses.fields(kind):
            usual = field.default
            if usual is dataclasses.MISSING:  # a part of its own, below
                continue
            shown = " ".join(map(str, usual)) if isinstance(usual, tuple) else "none" if usual is None else str(usual)
            option = f"--{prefix}{field.name.replace('_', '-')}"
            meaning = told.get(field.name, "").replace("|", "\\|").replace("<", "&lt;")
            lines.append(f"| `{option}` | {shown or '–'} | {meaning} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page, or compare it."""
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != page():
            raise SystemExit("docs/options.md is out of date: python docs/make_options.py writes it anew")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
