"""Which pictures a drawing model may learn from, and its training: what `kka images train` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kka.common.progress import StageProgress
from kka.data import is_photos, open_task
from kka.errors import UserError
from kka.settings.image_training import ImageTrainingSettings
from kka.task import Knowledge, SetAside

if TYPE_CHECKING:
    from kka.imaging.train import ImageTrainingReport


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What a drawing model may know of a data set, as a person says it."""

    data: str
    normal: tuple[str, ...] = ()
    unseen: float = 0.0
    split_seed: int = 0
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.known and self.unseen:
            raise UserError("known: it names all classes that the model may know, so leave out --unseen")
        if self.unseen and not self.normal and self.data != "garden":
            raise UserError("unseen: a share of the classes other than the normal: expected --normal as well")


def allowed_pictures(allowed: Allowed, size: int) -> tuple[Knowledge, tuple[SetAside, ...]]:
    """The captioned training pictures, `size` pixels a side, and what was set aside.

    With `normal`, those of the task's knowledge, as the language model of that task knows them: neither normal nor
    withheld nor test pictures. With `known`, those of these classes. With neither, all training pictures.

    Raises:
        UserError: data or classes that are not there; no captioned pictures of other classes.
    """
    folder = Path(allowed.data).expanduser()
    if allowed.known or not (allowed.normal or allowed.data == "garden"):
        if (folder / "train.parquet").is_file():
            from kka.data.known import load_known

            return load_known(folder, allowed.known, normal=allowed.normal, size=size)
        if is_photos(folder) and not allowed.known:
            from kka.imaging.library import read_library

            return read_library(allowed.data, size=size), ()
        if allowed.known:
            raise UserError(f"known: expected a folder with train.parquet, which names classes; got {allowed.data}")
    side = None if allowed.data == "garden" else size
    task = open_task(allowed.data, normal=allowed.normal, unseen=allowed.unseen, seed=allowed.split_seed, size=side)
    if task.knowledge is None:
        raise UserError(
            "images train: it learns from captioned training pictures of other classes, which this data does not have. "
            "Use a model of the hub: --images diffusers:<hub id>."
        )
    if task.knowledge.images.shape[1] != size:
        drawn = task.knowledge.images.shape[1]
        raise UserError(f"images train: the pictures of {allowed.data} have {drawn} pixels a side; got --size {size}")
    return task.knowledge, task.set_aside


def train_drawing_model(
    allowed: Allowed,
    out: Path,
    *,
    settings: ImageTrainingSettings,
    resume: bool = False,
    progress: StageProgress | None = None,
    say: Callable[[str], None] | None = None,
) -> "ImageTrainingReport":
    """Train a text-to-image model on what is allowed into the folder `out`: see `kka.imaging.train`.

    Raises:
        UserError: as `allowed_pictures` and `kka.imaging.train.train_image_model`.
    """
    from kka.imaging.train import train_image_model
    from kka.imaging.training_folder import require_free

    require_free(out, resume=resume)
    knowledge, aside = allowed_pictures(allowed, settings.size)
    kinds = sorted({*knowledge.kinds} - {""})
    if say is not None:
        captions = sum(map(len, knowledge.captions))
        say(f"{len(knowledge.images):,} pictures of {len(kinds)} classes, {captions:,} captions")
        _name(aside, say)
    origin: dict[str, Any] = {
        "data": allowed.data, "normal": list(allowed.normal), "unseen": allowed.unseen,
        "split_seed": allowed.split_seed, "known": list(allowed.known), "classes": kinds,
    }  # fmt: skip
    return train_image_model(
        knowledge, out, settings=settings, origin=origin, resume=resume, progress=progress, say=say
    )


def _name(aside: Sequence[SetAside], say: Callable[[str], None], most: int = 10) -> None:
    for item in aside[:most]:
        say(f"  set aside: {item.path}: {item.reason}")
    if len(aside) > most:
        say(f"  and {len(aside) - most} more")
