"""The documentation is true: its files, names, commands and code exist, and are what the sources say."""

import re
import shlex
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from kka.cli import parse

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("script", ["make_map.py", "make_options.py"])
def test_generated_pages_are_up_to_date(script: str) -> None:
    """A newcomer would look for a file or an option that is gone, or miss one that is there."""
    done = subprocess.run([sys.executable, ROOT / "docs" / script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_is_a_page() -> None:
    """It was 402 lines, and hid what it said."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    """A page that is not listed in mkdocs.yml fails `make site`, and is found by nobody."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r": ([\w-]+\.md)$", text, re.MULTILINE)
    made = {"index.md", "limits.md"}  # from the README, by docs/site_pages.py
    assert sorted(listed) == sorted(made | {page.name for page in (ROOT / "docs").glob("*.md")})


def test_paths_and_links_exist() -> None:
    """The way from an equation to its code and its test would end nowhere."""
    seen = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:src|tests|docs|benchmarks|examples)/[\w/.*]+)`", text):
            seen += 1
            assert list(ROOT.glob(path)), f"{page.name}: {path}"
        for link in re.findall(r"\]\(([\w./-]+)\)", text):
            seen += 1
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    assert seen > 60


def resolved(name: str) -> Any:
    """What a dotted name of Python means."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name}: no such module")


def test_names_of_the_code_resolve() -> None:
    """A renamed function would be looked for in vain."""
    names = {name for page in PAGES for name in re.findall(r"`(kka(?:\.\w+)+)`", page.read_text(encoding="utf-8"))}
    assert len(names) > 25
    for name in names - {"kka.pool"}:  # of old, in the log
        assert resolved(name) is not None


def commands(page: Path) -> list[list[str]]:
    """The `kka` commands in a page's code, without those that leave something open ("…", "<…>")."""
    text = page.read_text(encoding="utf-8")
    blocks = [block.replace("\\\n", " ") for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [" ".join(inline.split()) for inline in re.findall(r"`(kka [^`]+)`", text)]
    found = []
    for line in lines:
        named = re.match(r"(?:\.venv/bin/)?kka (.+)", line.strip())
        if named and not re.search("…|<", line):
            found.append(shlex.split(named[1], comments=True))
    return found


def test_every_command_is_taken_by_the_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who copies a command gets an error, and loses faith."""
    (tmp_path / "text_c10").mkdir()  # captions, which are looked for at once
    monkeypatch.chdir(tmp_path)
    seen = 0
    for page in PAGES:
        for command in commands(page):
            bare = all(word.isalpha() for word in command) and command[0] != "experiment"
            if bare or command == ["experiment"]:  # a command's name in a sentence
                continue
            seen += 1
            try:
                parse(command)
            except SystemExit as error:
                assert error.code == 0 and "--help" in command, f"{page.name}: kka {' '.join(command)}"
    assert seen > 12


def printed(code: str, smaller: dict[str, str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that a script prints, at smaller sizes: what it says -> what is run in its place."""
    for stated, less in smaller.items():
        assert code.count(stated) == 1, stated
        code = code.replace(stated, less)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        exec(compile(code, "script", "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten lines that do not run are worse than none."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 12
    smaller = {"epochs=15": "epochs=6", "initial=60, fresh=60": "initial=40, fresh=16, autoencoder_epochs=2"}
    rounds = [line.split() for line in printed(code, smaller, capsys)]
    assert [number for number, _ in rounds] == ["0", "1"]
    assert all(0.5 < float(auroc) < 1 for _, auroc in rounds)


@pytest.mark.slow
def test_the_algorithm_in_one_file_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What learners read must be what runs."""
    script = ROOT / "examples" / "algorithm1.py"
    monkeypatch.setattr(sys, "argv", [str(script), "1"])
    said = printed(script.read_text(encoding="utf-8"), {"dpo_steps=30": "dpo_steps=8"}, capsys)
    first, last = [line for line in said if line.startswith("round")]
    assert "80 anomalies" in first and "of them hard" in first and float(last.rpartition(" ")[2]) > 0.6
