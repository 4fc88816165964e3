"""The image files that a person names: files as they are, folders with all that is in them."""

from collections.abc import Sequence
from pathlib import Path

from kka.common.images import SUFFIXES
from kka.errors import UserError


def image_files(named: Sequence[Path]) -> list[Path]:
    """Each named file, and the image files in each named folder, sorted; nothing hidden, nothing twice.

    Raises:
        UserError: a name that does not exist.
    """
    found: dict[Path, None] = {}
    for path in named:
        if path.is_dir():
            inner = (file for file in sorted(path.rglob("*")) if _shown(file.relative_to(path)) and file.is_file())
            found |= dict.fromkeys(file for file in inner if file.suffix.lower() in SUFFIXES)
        elif path.is_file():
            found[path] = None
        else:
            raise UserError(f"images: expected image files or folders; {path} does not exist")
    return list(found)


def _shown(path: Path) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in path.parts)
