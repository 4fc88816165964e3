"""What a drawing model may know, and its training: `kka images train`, and `--images trained` before a run."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kka.algorithm.pictures import fit_pictures
from kka.common.caches import cache_folder
from kka.common.hold import held
from kka.common.progress import StageProgress
from kka.data import is_photos, open_task
from kka.errors import UserError
from kka.imaging.diffusers import DRAW, KINDS, trained_facts
from kka.imaging.pipeline_files import INDEX
from kka.imaging.pipelines import check_settings
from kka.imaging.training_folder import VERSION, begun, is_begun, require_free
from kka.settings.drawing import DrawingSettings
from kka.settings.image_training import ImageTrainingSettings
from kka.task import Knowledge, SetAside, Task

if TYPE_CHECKING:
    from kka.imaging.train import ImageTrainingReport


TRAINED = "trained"
"""The spec of an image model that a run trains on what its task may know."""


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


@dataclass(frozen=True, kw_only=True)
class TaskClasses:
    """The classes of a task's data, by what a model may know of them."""

    normal: frozenset[str]
    known: frozenset[str]
    """Other classes that models may know."""
    withheld: frozenset[str]

    @classmethod
    def of(cls, task: Task) -> "TaskClasses | None":
        """None: photos without classes; the garden, whose kinds have one name under several normals."""
        found = task.details.get("classes")
        if not isinstance(found, dict) or not (found["known"] or found["withheld"]):
            return None
        return cls(**{name: frozenset(found[name]) for name in ("normal", "known", "withheld")})


def require_ignorant(spec: str, classes: TaskClasses) -> str | None:
    """A note on what the image model `spec` knows of the classes, or None where there is nothing to say.

    Only a model that kka trained says which classes it knows. Classes are compared by name, whatever folder they were
    read from.

    Raises:
        UserError: it knows the normal class, or one that is withheld: its pictures would give the test away.
    """
    if spec.partition(":")[0] not in KINDS:
        return None
    facts = trained_facts(spec)
    learned = frozenset(map(str, facts.get("classes", ()))) if facts else frozenset()
    if not learned:
        return f"{spec} does not say which classes it learned from: that it knows no withheld one is not checked"
    for what, names in (("normal", classes.normal), ("withheld", classes.withheld)):
        if both := sorted(learned & names):
            raise UserError(
                f"image model {spec}: expected one that does not know the {what} class"
                f"{'es' if len(both) > 1 else ''} of this task; got one that learned from {_listed(both)}. Train one "
                "on what this task may know, with the same --normal, --unseen and --split-seed: kka images train; or "
                "let the run do so: --images trained."
            )
    if missing := sorted(classes.known - learned):
        return (
            f"{spec} knows {len(classes.known & learned)} of the {len(classes.known)} classes that it may; it does not "
            f"know {_listed(missing)}"
        )
    return None


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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

    require_free(out, resume=resume)
    knowledge, aside = allowed_pictures(allowed, settings.size)
    kinds = sorted({*knowledge.kinds} - {""})
    if say is not None:
        captions = sum(map(len, knowledge.captions))
        say(f"{len(knowledge.images):,} pictures of {len(kinds)} classes, {captions:,} captions")
        _name(aside, say)
    return train_image_model(
        knowledge, out, settings=settings, origin=_origin(allowed, knowledge), resume=resume, progress=progress, say=say
    )


def without_knowledge() -> UserError:
    """The error of `TRAINED` where there is nothing to learn from."""
    return UserError(
        f"image model: '{TRAINED}' is trained on captioned pictures of other classes, which this data does not have. "
        "Name a model: --images diffusers:<hub id or folder>, openai:<model>."
    )


def check_trained(settings: DrawingSettings) -> None:
    """Raises UserError for settings that a trained model does not draw with, or where diffusers is not installed."""
    check_settings(DRAW, TRAINED, settings)
    if find_spec("diffusers") is None:
        raise UserError("image model trained: it needs the package diffusers: pip install 'kka[diffusers]'")


NOT_OF_THE_MODEL = ("device", "save_every", "sample_every")
"""Settings of a training that its model does not depend on."""


def trained_model(
    task: Task,
    allowed: Allowed,
    *,
    settings: ImageTrainingSettings | None = None,
    progress: StageProgress | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """The folder of a small drawing model trained on the task's knowledge, from the cache if it is there.

    A training that was killed is gone on with. Other pictures, captions or settings are another model.

    Args:
        allowed: The words in which a person would ask for that knowledge, kept with the model.
        settings: Default: those of `kka images train`, at the size next to the task's pictures.

    Raises:
        UserError: a task without knowledge; as `kka.imaging.train.train_image_model`.
    """
    if task.knowledge is None:
        raise without_knowledge()
    settings = settings or ImageTrainingSettings(size=64 if task.knowledge.images.shape[1] >= 64 else 32)
    side = (settings.size, settings.size)
    knowledge = dataclasses.replace(task.knowledge, images=fit_pictures(task.knowledge.images, side))
    made_from = {k: v for k, v in dataclasses.asdict(settings).items() if k not in NOT_OF_THE_MODEL}
    key = hashlib.blake2b(repr((VERSION, sorted(made_from.items()), knowledge.digest)).encode(), digest_size=10)
    folder = cache_folder() / "drawing" / key.hexdigest()
    if not (folder / INDEX).is_file():
        with held(folder, wait=True):
            if not (folder / INDEX).is_file():  # another run may have trained it meanwhile
                _train_cached(knowledge, allowed, folder, settings, progress, say)
    return folder


def _train_cached(
    knowledge: Knowledge, allowed: Allowed, folder: Path, settings: ImageTrainingSettings,
    progress: StageProgress | None, say: Callable[[str], None] | None,
) -> None:  # fmt: skip
    from kka.imaging.train import train_image_model

    origin = _origin(allowed, knowledge)
    if resume := is_begun(folder):  # the same pictures and settings, though perhaps asked for in other words
        stored = begun(folder)
        origin = {name: stored.get(name) for name in origin}
        settings = dataclasses.replace(settings, **{name: stored[name] for name in NOT_OF_THE_MODEL if name in stored})
    if say is not None:
        say(
            f"The drawing model is trained first{', from where it was stopped' * resume}, on {len(knowledge.images):,} "
            "pictures, and kept for later runs"
        )
    train_image_model(knowledge, folder, settings=settings, origin=origin, resume=resume, progress=progress, say=say)


def _origin(allowed: Allowed, knowledge: Knowledge) -> dict[str, Any]:
    """What is kept with a model of where its pictures came from."""
    return {
        "data": allowed.data, "normal": list(allowed.normal), "unseen": allowed.unseen,
        "split_seed": allowed.split_seed, "known": list(allowed.known),
        "classes": sorted({*knowledge.kinds} - {""}),
    }  # fmt: skip


def _name(aside: Sequence[SetAside], say: Callable[[str], None], most: int = 10) -> None:
    for item in aside[:most]:
        say(f"  set aside: {item.path}: {item.reason}")
    if len(aside) > most:
        say(f"  and {len(aside) - most} more")
