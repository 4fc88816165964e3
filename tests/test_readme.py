"""The README names every file of the package, and only files that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_map_is_true() -> None:
    """A newcomer would look for a file that is gone, or miss one that is there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([\w/]+\.py)` \|", text, flags=re.MULTILINE))
    there = {str(path.relative_to(ROOT / "src/kka")) for path in (ROOT / "src/kka").rglob("*.py")}
    assert named == there


def test_paper_to_code_names_files_that_exist() -> None:
    """The way from an equation to its code and its test would end nowhere."""
    text = (ROOT / "docs/paper-to-code.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:src|tests|docs|benchmarks)/[\w/.*]+)`", text)
    assert len(paths) > 20
    missing = [path for path in paths if not list(ROOT.glob(path))]
    assert not missing
