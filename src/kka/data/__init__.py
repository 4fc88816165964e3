"""Sources of tasks: the embedded garden, Parquet folders, and folders of images."""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from kka.errors import UserError
from kka.settings.fit import Fit
from kka.task import Task

EXPECTED = "expected 'garden' (the embedded world), a folder with train.parquet and test.parquet, or a folder of images"


def open_task(
    data: str,
    *,
    normal: Sequence[str] = (),
    unseen: float = 0.0,
    describe: str | None = None,
    undescribed: str | None = None,
    domain: str | None = None,
    size: int | None = None,
    fit: Fit | None = None,
    seed: int = 0,
    captions: Callable[[Sequence[Path]], Sequence[str]] | None = None,
    most: int | None = None,
) -> Task:
    """The task that `data` names: "garden", a folder with train.parquet and test.parquet, or a folder of images.

    `normal`: the normal classes, by number, by name, or (CIFAR-100) by superclass: "coarse:trees"; of images, the
    sub-folders that are normal, or a pattern such as "*".
    `unseen`: share of the anomaly classes, chosen by `seed`, that neither language model nor image library may know.
    `describe`: the caption of normal images that have none. `undescribed`: that of photos where nothing at all is said
    of them; None: they are refused. `domain`: what the pictures show, in the plural.
    `size`: side of the square working pictures in pixels. Default: 64; of Parquet data, the pictures' own size when
    they all have one. `fit`: how pictures become squares. Default: photos lose nothing (squash or pad, by their
    shapes); Parquet pictures are cropped. `seed` also chooses among several captions of a normal image.
    `captions`: writes those of photos that have none; `describe` stands in where it says nothing.
    `most`: normals, and test pictures, of which no more are read; `details["whole"]` says how many there are.
    Raises UserError for data that is not there, holds nothing usable, or does not fit the other arguments.
    """
    names = (normal,) if isinstance(normal, str) else tuple(str(name) for name in normal)
    if size is not None and size < 8:
        raise UserError(f"size: expected 8 pixels or more; got {size}")
    if not 0 <= unseen <= 1:
        raise UserError(f"unseen: expected a share of the anomaly classes from 0 to 1; got {unseen}")
    if describe is not None and not describe.strip():
        raise UserError("describe: expected a caption such as 'a photo of a machined bracket'; got an empty text")
    if data == "garden":
        return _open_garden(names, unseen, describe, domain, size, seed)
    folder = _existing_folder(data)
    from kka.data.request import Request

    request = Request(
        source=data, normal=names, unseen=unseen, describe=describe, undescribed=undescribed, domain=domain, size=size,
        fit=fit, seed=seed, captions=captions, most=most,
    )  # fmt: skip
    if not is_photos(folder):
        from kka.data.parquet import load_parquet

        return load_parquet(folder, request)
    from kka.data.folder import load_folder

    return load_folder(folder, request)


def is_photos(data: Path) -> bool:
    """Whether it is a folder, and one of image files."""
    folder = data.expanduser()
    return folder.is_dir() and not any((folder / name).is_file() for name in ("train.parquet", "test.parquet"))


def _open_garden(
    names: tuple[str, ...], unseen: float, describe: str | None, domain: str | None, size: int | None, seed: int
) -> Task:
    if len(names) > 1:
        raise UserError(f"normal: the garden has one normal kind; got {len(names)}: {', '.join(names)}")
    if describe is not None:
        raise UserError("describe: the garden's images have captions of their own; leave it out")
    from kka.data.garden import load_garden

    task = load_garden(names[0] if names else None, unseen, seed)
    if size is not None and task.normals.shape[1:3] != (size, size):
        raise UserError(f"size: the garden draws {task.normals.shape[1]} pixels a side; got {size}; leave it out")
    return task if domain is None else dataclasses.replace(task, domain=domain)


def _existing_folder(data: str) -> Path:
    """The folder, or a UserError that says what is there instead."""
    if not data.strip():
        raise UserError(f"data: {EXPECTED}; got an empty name")
    try:
        folder = Path(data).expanduser()
        if folder.is_dir():
            return folder
        if folder.exists():
            raise UserError(f"data: {EXPECTED}; got the file {data}. Give the folder that holds it.")
        parent = folder.parent
        beside = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"data: cannot open {data}: {error}") from error
    near = difflib.get_close_matches(folder.name, [*beside, "garden"], n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"data: {EXPECTED}; {data} does not exist.{hint}")
