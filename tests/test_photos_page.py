"""The page for the person with a folder of photos: its commands, in their order, on a small folder."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kka.cli import main

ROOT = Path(__file__).parent.parent
SMALLER = {
    "run": "--rounds 1 --initial 12 --fresh 6 --seeds 1 --autoencoder-epochs 1 --sad.epochs 1 --sad.pretrain-epochs 1",
    "train": "--backbone.name mobilenetv2_035 --backbone.weights random --set epochs=2 size=64 crop=64",
}
"""What is added to a command, so that it ends within seconds."""
SKIPPED = ("review",)
"""Serves a page until it is stopped: see `test_review_page`."""


def smaller(words: list[str]) -> str:
    found = SMALLER.get(words[1], "")
    return found.replace("epochs=2 ", "") if {"patchcore", "auto"} & {*words} else found  # which train nothing


def commands() -> list[list[str]]:
    text = (ROOT / "docs" / "photos.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.startswith(("kka", "python"))]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*held-out normals:UserWarning", "ignore:.*masked over more than:UserWarning")
def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person follows the page from top to bottom; a file of one command has another name in the next."""
    for folder, number in (("photos", 16), ("new", 2), ("defects", 5)):
        (tmp_path / folder).mkdir()
        for i in range(number):
            grain = np.random.default_rng([number, i]).normal(120, 10, (70, 64, 1)).repeat(3, axis=2)
            Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "new" / "0.png").rename(tmp_path / "new" / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    done = []
    for words in commands():
        if words[0] == "python":
            script = [sys.executable, str(ROOT / words[1]), *words[2:]]
            told = subprocess.run(script, capture_output=True, text=True, check=True).stdout
            assert "photo.jpg" in told
        elif words[1] not in SKIPPED:
            assert main([*words[1:], *shlex.split(smaller(words))]) == 0, words
        done.append(words[1])
    assert done == [
        "data", "run", "run", "review", "train", "train", "score", "score", "export", "examples/device.py", "train",
    ]  # fmt: skip
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 3
    assert (tmp_path / "photos.html").is_file() and (tmp_path / "runs/plates.preview.png").is_file()
    assert (tmp_path / "runs/plates/report.html").is_file()
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 2
