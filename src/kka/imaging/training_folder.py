"""The folder in which an image model is trained, beside the model to come: who holds it, and what was begun there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kka.common.begun import require_same, write_config
from kka.common.disk import refusal
from kka.common.files import write_atomically
from kka.common.hold import Hold
from kka.errors import UserError

CONFIG = "training.yaml"
VERSION = 1
"""Of the training: raised when it changes, so that a begun one is not gone on with by another, and an old model not
taken for a new one."""


def work_folder(out: Path) -> Path:
    """Where the training of the model `out` keeps checkpoints and sheets, until the model is there."""
    out = out if out.name not in ("", "..") else out.resolve()
    return out.with_name(f"{out.name}.training")


def is_begun(out: Path) -> bool:
    """Whether there is a training of the model `out` to go on with."""
    return (work_folder(out) / CONFIG).is_file()


def begun(out: Path) -> dict[str, Any]:
    """The configuration of the training to go on with.

    Raises:
        UserError: there is none.
    """
    file = work_folder(out) / CONFIG
    if not file.is_file():
        finished = f"; {out} is a finished model" if (out / "model_index.json").is_file() else ""
        raise UserError(
            f"nothing to resume: expected {file}, which a training of {out} writes; got none{finished}. "
            "Leave out --resume."
        )
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {error}. Remove {file.parent} to begin anew.") from error
    if not isinstance(stored, dict):
        raise UserError(f"{file}: expected the settings of a training; got {stored!r}. Remove {file.parent}.")
    return stored


def require_free(out: Path, *, resume: bool) -> None:
    """Nothing is written over.

    Raises:
        UserError: a model, other files or a begun training in the way of the model `out`.
    """
    if (out / "model_index.json").is_file():
        raise UserError(f"images train: {out} holds a model already. Choose another --out, or remove it.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"images train: expected --out to be a new or an empty folder; got {out}, which holds files")
    work = work_folder(out)
    # The folder goes when the model is done.
    shown = [path.name for path in work.iterdir() if not path.name.startswith(".")] if work.is_dir() else []
    if (work.exists() and not work.is_dir()) or (shown and CONFIG not in shown):
        raise UserError(f"images train: {work} holds files of something else. Choose another --out, or move it.")
    if not resume and shown:
        raise UserError(
            f"images train: a training of {out} was begun already. Go on with it: kka images train --out {out} "
            f"--resume; or remove {work}."
        )


@contextlib.contextmanager
def training_folder(out: Path, config: dict[str, Any], *, resume: bool) -> Iterator[Path]:
    """The work folder of the model `out`, held by this process alone.

    Raises:
        UserError: as `require_free`; held by another process; another configuration than it was begun with; no
            permission to write; a full disk.
    """
    work = work_folder(out)
    try:
        work.mkdir(parents=True, exist_ok=True)
        hold = Hold(work / ".lock", out)
    except OSError as error:
        raise UserError(f"cannot write to {work}: {error.strerror}. Choose another --out.") from error
    try:
        require_free(out, resume=resume)
        if resume:
            require_same({"version": 1} | begun(out), config, work)  # the first did not say it
        else:
            write_atomically(work / CONFIG, write_config(config))
        yield work
    except Exception as error:
        again = f"go on: kka images train --out {out} --resume" if is_begun(out) else "give the command again"
        if told := refusal(error, again=again):
            raise UserError(told) from error
        raise
    finally:
        hold.release()
