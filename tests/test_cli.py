"""The command line: mistakes are told in words, with exit code 2; and one real small run."""

import json
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kka.config
from fakes import fakes_registered, fast_arguments
from kka.algorithm.pool import AnomalyPool
from kka.cli import LM, Run, main, parse
from kka.cli.data import Describe, Prepare
from kka.cli.detector import Export, Score, Train
from kka.cli.experiment import Compute
from kka.cli.images import MeasureImages, TrainImages
from kka.cli.logged import LOG, Hushed, asks_for_quiet, heard
from kka.cli.pool import Pool
from kka.cli.progress import Console
from kka.task import SetAside, Task


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused command says on stderr, in one line of text without the display's line breaks."""
    with fakes_registered():
        try:
            code = main(arguments)
        except SystemExit as stopped:  # how the parser refuses
            code = stopped.code
    text = " ".join(capsys.readouterr().err.split())
    assert code == 2, text
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--detector", "sda"], "unknown detector: expected one of anomalib:<model>, cmda, dfm, patchcore"),
        (["--data", "gardn"], "expected 'garden' (the embedded world)"),
        (["--preset", "gpu"], "unknown preset of sad: expected one of cpu, published, small; got 'gpu'"),
        (["--set", "epoch=3"], "unknown setting of sad"),
        (["--backbone", "resnet18"], "sad has none of its own choice"),
        (["--lm", "hg:./x"], "unknown language model: expected one of defects"),
        (["--images", "difusers:x"], "expected one of bank, diffusers, edit, fake, garden, img2img, inpaint, openai"),
    ],
)
def test_unknown_names_list_the_known(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt name is refused before any work, and the same --out takes the corrected command."""
    out = tmp_path / "out"
    arguments = ["run", "--out", str(out), "--data", "fake", "--lm", "fake", "--images", "fake", *options]
    assert told in refused(arguments, capsys)
    assert not (out / "config.yaml").exists() and not list(out.rglob("stage.json"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--rounds", "-1"], "rounds"),
        (["--seeds", "0"], "seeds = 0"),
        (["--sad.epochs", "0"], "sad.epochs = 0"),
        (["--unseen", "1"], "unseen"),
        (["--mode", "replace"], "rep"),
        (["--rouns", "3"], "rouns"),
        (["--resume"], "--out"),
        (["--resume", "--out", "nowhere/to/be/found"], "nothing to resume"),
        (["--out", "/dev/null/run"], "cannot write to"),
    ],
)
def test_bad_values(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each says which option is wrong."""
    assert told in refused(["run", "--data", "fake", "--lm", "fake", "--images", "fake", *options], capsys)


def test_no_report_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`kka report` on a wrong folder."""
    assert "summary.json" in refused(["report", str(tmp_path)], capsys)


def test_a_run_and_its_resumption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole command: exit code 0, a table, and config.yaml as asked; --resume needs no other option."""
    out = tmp_path / "run"
    with fakes_registered():
        assert main([*fast_arguments(out), "--rounds", "0"]) == 0
        told = capsys.readouterr().out
        assert "no anomalies" in told and "noise" in told and "KKA (0)" in told and str(out / "report.html") in told
        before = (out / "pool.parquet").read_bytes()
        assert main(["run", "--out", str(out), "--resume"]) == 0
        assert main(["run", f"--out={out}", "--resume"]) == 0
    assert (out / "pool.parquet").read_bytes() == before
    from kka.common.begun import read_config

    config = kka.config.RunConfig.from_dict(read_config(out))
    assert (config.rounds, config.initial, config.sad.epochs, config.data) == (0, 24, 1, "fake")
    told = refused(["run", "--out", str(out), "--resume", "--folds", "1", "--sad.epochs", "2"], capsys)
    assert "folds: started with 2, got 1" in told and "sad.epochs: started with 1, got 2" in told
    assert "holds a run already" in refused(fast_arguments(out), capsys)


def test_the_installed_command_has_no_traceback(tmp_path: Path) -> None:
    """The console script itself."""
    script = Path(sys.executable).with_name("kka")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "kka.cli"]
    done = subprocess.run(
        [*command, "run", "--data", "no such folder", "--out", str(tmp_path / "run")], capture_output=True, text=True
    )
    assert done.returncode == 2 and "no such folder does not exist" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.slow
@pytest.mark.skipif(
    not (Path(str(files("kka"))) / "garden/lm/config.json").is_file(), reason="the garden's language model is not built"
)
def test_the_garden_for_real(tmp_path: Path) -> None:
    """Real language model, real DPO, real renderer, report and all, by the command line; interrupted once."""
    from test_resume import interrupted

    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "kka.cli", "run", "--out", str(out), "--initial", "24", "--fresh", "16",
        "--per-round", "6",
        "--rounds", "1", "--seeds", "1", "--language.dpo-steps", "2", "--sad.epochs", "1", "--sad.pretrain-epochs", "0",
        "--autoencoder-epochs", "1",
    ]  # fmt: skip
    stopped = interrupted(command, out, "rounds/1/dpo")
    assert stopped.returncode == 130 and f"kka run --out {out} --resume" in stopped.stderr, stopped.stderr
    assert main(["run", "--out", str(out), "--resume"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["rounds"][1]["generated"] == 16 and summary["models"]["language"] == "garden"
    dpo = summary["rounds"][1]["dpo"]
    assert not dpo["tuned"] or (dpo["steps"] == 2 and (out / "rounds/1/dpo/adapter").is_dir())
    assert len(AnomalyPool.load(out / "pool.parquet")) == 24
    for name in ("config.yaml", "summary.json", "ledger.json", "pool.parquet", "report.html"):
        assert (out / name).stat().st_size > 0
    for name in ("captions", "images", "scores", "dpo", "evaluator", "pool"):
        assert (out / "rounds/1" / name / "stage.json").is_file()


def test_what_a_loader_says_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Notes that stay in a file are read when it is too late; names with brackets and colons must stay as they are."""
    pictures = np.zeros((8, 4, 4, 3), np.uint8)
    aside = tuple(SetAside(path=f"[/]{i}:x:.png", reason="damaged") for i in range(12))
    details: dict[str, object] = {"layout": "8 normals in [b]good/", "notes": ["3 images are not used: :x:/"]}
    task = Task(name="a[bold]", normals=pictures, captions=("x",) * 8, domain="x", set_aside=aside, details=details)
    Console().task(task)
    told = capsys.readouterr().err
    for text in ("a[bold]: 8 normals, no test images", "in [b]good/", "not used: :x:/", "[/]11:x:.png: damaged"):
        assert text in told
    assert "more" not in told
    Console().task(task, kept_in="summary.json")
    assert "and 2 more, named in summary.json" in capsys.readouterr().err


def test_a_log_shows_that_it_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal nothing moves: a line every half a minute says where a stage is."""
    LOG.begin()
    console = Console()
    console.progress("images", 1, 1200)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("kka.cli.logged.EVERY", 0.0)
    console.progress("images", 2, 1200)
    console.progress("images", 3, 1200)
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["Drawing pictures (Eq. 4): 2 of 1,200", "Drawing pictures (Eq. 4): 3 of 1,200"]


def test_a_log_goes_on_while_nothing_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that is silent for minutes, as an export or the beginning of a tuning, looks like one that hangs."""
    monkeypatch.setattr("kka.cli.logged.EVERY", 0.0)
    monkeypatch.setattr("kka.cli.logged.TICK", 0.01)

    def until(text: str) -> bool:
        told = ""
        for _ in range(1000):
            told += capsys.readouterr().err
            if text in told:
                return True
            time.sleep(0.01)
        return False

    with heard(quiet=False):
        assert until("At work")
        Console().progress("export", 3, 7)
        assert until("Writing pictures: 3 of 7\n") and until("Writing pictures: 3 of 7\n")
    capsys.readouterr()
    with heard(quiet=True):
        Console().progress("export", 3, 7)
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_quiet_prints_the_result_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script that calls kka wants what it asked for, and what went wrong."""
    out = tmp_path / "run"
    with fakes_registered():
        assert main([*fast_arguments(out), "--rounds", "0", "--initial", "8", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and "KKA (0)" in said.out and "report.html" in said.out
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        grain = np.random.default_rng(number).integers(0, 255, (12, 12, 3), np.uint8)
        Image.fromarray(grain).save(photos / f"{number}.png")
    (photos / "broken.png").write_bytes(b"no picture")
    trained = ["--data", str(photos), "--out", str(tmp_path / "d"), "--set", "epochs=1", "--preset", "cpu"]
    assert main(["train", *trained, "--fpr", "0.5", "--quiet"]) == 0
    said = capsys.readouterr()
    assert [line.strip() for line in said.err.splitlines()] == [
        "set aside: broken.png: not an image, or its beginning is damaged"
    ]
    assert "normals trained with" in said.out
    assert main(["score", "--detector-dir", str(tmp_path / "d"), str(photos / "1.png"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["data", "describe", str(photos), "--quiet"]) == 0
    assert "12" in capsys.readouterr().out


def test_every_command_that_goes_on_can_be_quiet() -> None:
    """One of them that is forgotten would not know the option."""
    for kind in (Run, Train, Score, Export, LM, TrainImages, MeasureImages, Prepare, Describe, Pool, Compute):
        assert issubclass(kind, Hushed), kind
    for words in (
        "run", "train", "score --detector-dir x y", "export --detector-dir x", "lm train --out x",
        "images train --out x", "images measure x", "data prepare cifar100 --out x", "data describe x",
        "pool export x --to coco --out y", "experiment table3",
    ):  # fmt: skip
        assert asks_for_quiet(parse([*words.split(), "--quiet"])), words
        assert not asks_for_quiet(parse(words.split())), words
