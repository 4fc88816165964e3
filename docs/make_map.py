"""Writes docs/map.md from the first sentence of each docstring: `python docs/make_map.py`; `--check` compares."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/map.md"
HEAD = """# The map

One line a file, made from the docstrings by `python docs/make_map.py` (`make check` says when it is out of date).
Rooms stand in the order in which they may import each other: each uses those below it.
"""
ROOMS = {
    "": "The package itself",
    "cli": "The command line",
    "experiments": "The paper's tables and figures",
    "run": "A whole run",
    "tracking": "Experiment trackers",
    "review": "Looking through pictures",
    "report": "Pages",
    "exchange": "For other tools",
    "deploy": "A detector for use",
    "detectors": "Detectors",
    "imaging": "Image models",
    "data": "Data",
    "language": "Language models",
    "garden": "The embedded world",
    "defects": "The words of defects",
    "algorithm": "Algorithm 1 and its equations",
    "common": "What everything stands on",
    "settings": "Settings",
}
_END = re.compile(r"(?<!\bal)(?<!\bEq)(?<!\bFig)(?<!\bcf)(?<!\be\.g)(?<!\bi\.e)[.](?=\s|$)|:?\n\n")
"""Where a sentence ends: not after "et al.", "Eq." and their like."""


def first_sentence(docstring: str) -> str:
    """The first sentence, on one line, without its full stop."""
    return " ".join(_END.split(docstring.strip(), maxsplit=1)[0].split())


def described(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(f"{file}: a file needs a docstring that says what it is")
    return first_sentence(docstring).replace("|", "\\|")


def page() -> str:
    """The whole page."""
    source = ROOT / "src/kka"
    rooms: dict[str, list[Path]] = {room: [] for room in ROOMS}
    for file in sorted(source.rglob("*.py")):
        parts = file.relative_to(source).parts
        rooms[parts[0] if len(parts) > 1 else ""].append(file)
    lines = [HEAD]
    for room, files in rooms.items():
        lines += [f"## {ROOMS[room]}", "", f"| `src/kka/{room + '/' if room else ''}` | |", "|---|---|"]
        for file in files:
            name = file.relative_to(source / room).as_posix()
            lines.append(f"| `{name}` | {described(file)} |")
        lines.append("")
    lines += ["## Beside the package", ""]
    for folder in ("examples", "benchmarks", "docs", "tests/reference"):
        lines += [f"| `{folder}/` | |", "|---|---|"]
        lines += [f"| `{file.name}` | {described(file)} |" for file in sorted((ROOT / folder).glob("*.py"))]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    made = page()
    if "--check" not in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != made:
        raise SystemExit("docs/map.md is not what the docstrings say: python docs/make_map.py")
