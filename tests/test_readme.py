"""The documentation names every file of the package, and only files that exist."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_map_is_true() -> None:
    """A newcomer would look for a file that is gone, or miss one that is there."""
    done = subprocess.run([sys.executable, ROOT / "docs/make_map.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_paper_to_code_names_files_that_exist() -> None:
    """The way from an equation to its code and its test would end nowhere."""
    text = (ROOT / "docs/paper-to-code.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:src|tests|docs|benchmarks)/[\w/.*]+)`", text)
    assert len(paths) > 20
    missing = [path for path in paths if not list(ROOT.glob(path))]
    assert not missing
