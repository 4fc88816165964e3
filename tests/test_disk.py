"""Full disks, two processes at one place, and how a command ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kka.data.prepare as preparing
from kka.cli import ending, main
from kka.common.disk import DamagedError, reading
from kka.common.hold import held
from kka.deploy.score import Row, write_csv, write_maps
from kka.errors import UserError

FULL = OSError(28, "No space left on device")


def full(*_: object, **__: object) -> None:
    raise FULL


def test_two_at_one_place(tmp_path: Path) -> None:
    """The second is refused at its start; after the first, nothing is left of the lock, nor of folders for nothing."""
    out = tmp_path / "new" / "detector"
    with held(out):
        with pytest.raises(UserError, match=rf"in use by another process \(pid {os.getpid()}\)"), held(out):
            pass
        out.mkdir()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["detector"]
    with held(tmp_path / "none" / "detector"):
        pass
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--out"],
        ["lm", "train", "--out"],
        ["data", "prepare", "ucm_caption", "--from", ".", "--out"],
    ],
)
def test_every_command_that_writes_a_folder_holds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Two at once lost the work of one at its end, or mixed both."""
    with held(tmp_path / "out"):
        assert main([*command, str(tmp_path / "out")]) == 2
    assert "in use by another process" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_prepare_left_is_removed(tmp_path: Path) -> None:
    """Gigabytes of unpacked pictures, which nobody would ever find."""
    (tmp_path / "data/.preparing-x/sub").mkdir(parents=True)
    (tmp_path / "data/.train.parquet.part").write_text("half")
    with preparing._own(tmp_path / "data"):
        assert list((tmp_path / "data").iterdir()) == []
    with preparing._own(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_a_full_disk_cuts_no_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the scores under the final name pass for all of them."""
    rows = [Row(file=Path("a.png"), score=1.0, anomalous=True)]
    write_csv(rows, tmp_path / "scores.csv")
    before = (tmp_path / "scores.csv").read_bytes()
    monkeypatch.setattr("kka.common.files.sync", full)
    with pytest.raises(OSError, match="No space"):
        write_csv(rows * 9, tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_bytes() == before
    monkeypatch.setattr("PIL.Image.Image.save", full)
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(OSError, match="No space"):
        write_maps([tmp_path / "maps/a.png"], picture, np.zeros((1, 8, 8)), (0.0, 1.0))
    assert list((tmp_path / "maps").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (FULL, 2, "kka: the disk is full"),
        (PermissionError(13, "Permission denied", "/x"), 2, "kka: cannot read or write /x: Permission denied"),
        (OSError(5, "Input/output error", "/x"), 2, "kka: /x: Input/output error"),
        (UserError("told"), 2, "kka: told"),
        (KeyboardInterrupt(), 130, "kka: stopped."),
        (ending.Terminated(), 143, "kka: stopped."),
    ],
)
def test_how_a_command_ends(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str
) -> None:
    """One message and the status that shells expect; nothing of the disk's is a traceback."""

    def work() -> int:
        raise error

    assert ending.ended(work) == status
    told = capsys.readouterr().err.strip()
    assert told.startswith(said) and "\n" not in told


def test_a_damaged_parquet_that_nobody_foresaw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The formats' own errors are of files, not of the program; a bug keeps its traceback."""
    import pyarrow.parquet as pq

    (tmp_path / "x.parquet").write_bytes(b"no parquet at all")
    assert ending.ended(lambda: pq.read_table(tmp_path / "x.parquet").num_rows) == 2
    assert "damaged" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        ending.ended(lambda: 1 // 0)


def test_reading_names_the_file(tmp_path: Path) -> None:
    """Whatever a format throws."""
    with pytest.raises(DamagedError, match=r"x\.json cannot be read: .*KeyError"), reading(tmp_path / "x.json"):
        {}["a"]
    with pytest.raises(DamagedError, match=r"y is missing"), reading(tmp_path / "y"):
        (tmp_path / "y").read_text()


def test_sigterm(tmp_path: Path) -> None:
    """A scheduler's SIGTERM: what is in work is cleared away, and it is said that it was stopped."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom kka.cli.ending import ended\n"
        "from kka.common.hold import held\n"
        "def work():\n with held(Path(sys.argv[1])):\n  print('at it', flush=True)\n  time.sleep(60)\n"
        "sys.exit(ended(work))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "at it\n"
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and told.strip() == "kka: stopped." and list(tmp_path.iterdir()) == []


def test_export_keeps_model_and_facts_apart(tmp_path: Path) -> None:
    """--out m.json wrote the facts over the model."""
    pytest.importorskip("torch")
    from kka.deploy.export import require_model_file

    with pytest.raises(UserError, match=r"m\.onnx for --out; .*m\.json is the name of the facts"):
        require_model_file(tmp_path / "m.json")
    with pytest.raises(UserError, match="is a folder"):
        require_model_file(tmp_path)
    require_model_file(tmp_path / "m.onnx")
