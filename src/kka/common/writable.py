"""Whether a result can be written where it is wanted, asked before the work and not after it."""

import tempfile
from pathlib import Path

from kka.errors import UserError


def require_writable(path: Path, option: str, *, folder: bool = False) -> None:
    """Nothing is left behind.

    Args:
        path: A file that will be written, or with `folder` a folder that will be filled; neither need be there.
        option: As errors name it: "--out".

    Raises:
        UserError: a folder where a file is wanted or the reverse, or a place that nothing can be written to.
    """
    try:
        if is_stream(path):
            return
        if path.exists() and path.is_dir() != folder:
            wanted, got = ("a folder", "a file") if folder else ("a file", "a folder")
            raise UserError(f"{option}: expected {wanted}; {path} is {got}")
        near = path if folder and path.exists() else path.absolute().parent
        while not near.exists():
            near = near.parent
        with tempfile.TemporaryFile(dir=near) as file:
            file.write(b"x")
        if not folder and path.exists():
            path.open("r+b").close()
    except OSError as error:
        raise UserError(
            f"{option}: cannot write to {path}: {error.strerror or error}. Choose a place that you may write to."
        ) from error


def is_stream(path: Path) -> bool:
    """Whether it is there and neither file nor folder, as a pipe or /dev/stdout: such are written to in place."""
    return path.exists() and not path.is_file() and not path.is_dir()
