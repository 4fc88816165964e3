"""`kka data`: what a data set holds, on the terminal and as a page; and the command line of both commands."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import kka.data.prepare as preparing
from kka.cli import main
from kka.data.describe import describe
from kka.data.prepare.ucm_caption import UCM_CAPTION
from kka.errors import UserError
from kka.report.description import print_description, write_page
from prepare_fakes import pixels, small, write_sentences, write_ucm
from test_data_parquet import row, rows, write


def printed(folder: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_description(describe(folder), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_parquet_folder(tmp_path: Path) -> None:
    """Counts, sizes, captions and every pair of equal pictures, within a part and across."""
    train, test = rows()
    twin = {**row(1, 3), "image": {**row(1, 3)["image"], "path": "twin.png"}}  # type: ignore[dict-item]
    leak = {**row(2, 1001), "captions": ["x"]}
    broken = {**row(0, 0), "image": {"bytes": b"no picture", "path": "bad.png"}}
    folder = write(tmp_path / "plants", [*train, twin, leak, broken, row(4, 77, size=(10, 14))], test)
    facts = describe(folder)
    assert facts.parts["train"].images == 53 and facts.parts["test"].images == 20
    assert facts.parts["train"].classes["oak_tree"] == 11 and facts.parts["train"].captions == {3: 52, 1: 1}
    assert facts.parts["train"].sizes == {(12, 12): 52, (14, 10): 1} and facts.parts["train"].shortest == "x"
    assert set(facts.duplicates) == {
        ("train/train_3.png", "train/twin.png"), ("train/train_1001.png", "test/test_1001.png"),
    }  # fmt: skip
    assert facts.across == 1
    assert [(item.path, item.reason[:12]) for item in facts.set_aside] == [("train/bad.png", "not an image")]
    told = printed(folder)
    for words in ("10 to 11", "12 × 12 (52), 14 × 10 (1)", "1 to 3", "more than one part: 1.", "read: train/bad.png"):
        assert words in told


def test_folders_of_images(tmp_path: Path) -> None:
    """Photos as people have them, flat and in MVTec's layout."""
    for name in ("train/good/a.png", "train/good/b.png", "test/good/c.png", "test/scratch/d.png"):
        file = tmp_path / "mvtec" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(ord(file.stem))).save(file)
    (tmp_path / "mvtec/train/good/metadata.jsonl").write_text('{"file_name": "a.png", "text": "a <b>bold</b> nut"}\n')
    facts = describe(tmp_path / "mvtec")
    assert {name: dict(part.classes) for name, part in facts.parts.items()} == {
        "test": {"good": 1, "scratch": 1}, "train": {"good": 2},
    }  # fmt: skip
    assert facts.parts["train"].captions == {1: 1, 0: 1}
    page = write_page(facts, tmp_path / "out/page.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;bold" in page and "<b>bold" not in page
    flat = describe(tmp_path / "mvtec/train/good")
    assert set(flat.parts) == {"photos"} and flat.parts["photos"].images == 2
    for nothing in (tmp_path / "out", tmp_path / "not there"):
        with pytest.raises(UserError, match=r"describe: expected|no images in"):
            describe(nothing)


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    """A page that loads files or scripts cannot be sent on; every shown picture must be the right one."""
    folder = write(tmp_path / "plants", *rows())
    page = write_page(describe(folder), tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|(src|href)=\"(?!data:|#)", page)
    import base64

    shown = {
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGB")).tobytes()
        for uri in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    }
    assert len(shown) == 30 and shown <= {pixels(i, 12, 12).tobytes() for i in [*range(50), *range(1000, 1020)]}


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """kka data prepare and kka data describe, as people type them; a changed file is noticed."""
    monkeypatch.setattr(preparing, "preparers", lambda: {"ucm_caption": small(UCM_CAPTION, 6)})
    write_sentences(write_ucm(tmp_path / "raw") / "dataset.json")
    out = tmp_path / "ucm_caption"
    command = ["data", "prepare", "ucm_caption", "--from", str(tmp_path / "raw"), "--out", str(out), "--size", "32"]
    assert main(command) == 2
    assert "expected 126 images; got 105" in capsys.readouterr().err
    assert main([*command, "--allow-partial"]) == 0
    told = capsys.readouterr().out
    assert "PARTIAL: not the whole, official ucm_caption" in told and "got 105" in told
    assert "63 training and 42 test images of 21 classes, 32 pixels a side, official split" in told
    assert main(["data", "describe", str(out), "--html", str(tmp_path / "page.html")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Partial: not the whole, official ucm_caption" in told and "No longer" not in told
    card = json.loads((out / "dataset.json").read_text())
    assert card["sha256"]["train.parquet"] in (tmp_path / "page.html").read_text(encoding="utf-8")
    (out / "test.parquet").write_bytes((out / "train.parquet").read_bytes())
    assert describe(out).changed == ("test.parquet",)
    assert main(["data", "describe", str(tmp_path / "nowhere")]) == 2
    with pytest.raises(SystemExit):
        main(["data", "prepare", "imagenet", "--out", str(out)])
