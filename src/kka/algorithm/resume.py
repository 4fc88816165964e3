"""What may change when a run is resumed: what does not change its results, and more of the same."""

from pathlib import Path
from typing import Any

from kka.algorithm.folder import IMAGES, stage_name
from kka.algorithm.identity import changes, task_digests
from kka.algorithm.pool import read_lineage
from kka.common.disk import STAGE_FILE
from kka.common.store import Store
from kka.config import AUTO
from kka.errors import UserError
from kka.settings.language import OF_THE_WORK
from kka.task import Task

SAME_RESULTS = (
    "language.dpo_micro_batch", "language.memory", "drawing.batch_size", "sad.device",
    *(f"language.{name}" for name in OF_THE_WORK),
)  # fmt: skip
"""Settings that say how the work is cut and where it is done. (With LoRA's dropout, as usual, another micro-batch draws
other masks; another device rounds otherwise.)"""
_DEVICE = "device="


def may_change(root: Path, name: str, old: Any, new: Any) -> bool:
    """Whether a setting of the run in `root` may go from `old` to `new`. Rounds and detectors may become more: what is
    there stays, and the rest is made."""
    if name == "rounds":
        return isinstance(new, int) and new >= rounds_begun(root)
    if name == "seeds":
        return isinstance(old, int) and isinstance(new, int) and new >= old
    if name == "detector_options.set":
        return [text for text in old or () if not text.startswith(_DEVICE)] == [
            text for text in new or () if not text.startswith(_DEVICE)
        ]
    if name in ("lm", "images") and old == AUTO:
        return True  # what it meant then, when versions differ: what it means is compared
    return name in SAME_RESULTS


def rounds_begun(root: Path) -> int:
    """The last round of which there is a finished stage."""
    numbers = [folder.name for folder in (root / "rounds").glob("*") if any(folder.glob(f"[!.]*/{STAGE_FILE}"))]
    return max((int(name) for name in numbers if name.isdigit()), default=0)


def require_same_task(store: Store, task: Task, language_model: str) -> None:
    """Remember what the run works on, or compare it with what it was begun with.

    Args:
        language_model: What names it.

    Raises:
        UserError: other data, or another model; it says which part.
    """
    data = task_digests(task)
    begun = store.record.get("data")
    if begun is not None and (lines := changes(begun, data)):
        raise UserError(
            f"--resume: the data of {store.root} is not what the run was begun with:\n{lines}\n"
            f"Put the data back to go on, or choose another --out for a new run."
        )
    wrote = store.record.get("language_model", language_model)
    if _without_server(wrote) != _without_server(language_model):
        raise UserError(
            f"--resume: {store.root} was begun with the language model {wrote}; got {language_model}. Name that with "
            f"--lm to go on, or choose another --out for a new run."
        )
    if begun is None or "language_model" not in store.record:
        store.remember(data=data, language_model=language_model)


def require_same_image_model(root: Path, identity: str) -> None:
    """Raises UserError where the pictures of the run in `root` are of another kind of image model."""
    file = root / stage_name(0, "images") / IMAGES
    if not file.is_file():
        return
    drawn = {entry.image_model for entry in read_lineage(file)}
    if drawn and _kind(identity) not in {_kind(one) for one in drawn}:
        raise UserError(
            f"--resume: the pictures of {root} are by the image model {min(drawn)}; got {identity}. Name that with "
            f"--images to go on, or choose another --out for a new run."
        )


def _kind(identity: str) -> str:
    """The member that an identity is of: what stands before the first colon or slash."""
    return identity.partition(":")[0].partition("/")[0]


def _without_server(language_model: str) -> str:
    """A model on a server is the same at another address."""
    return language_model.partition("@")[0] if language_model.startswith("openai:") else language_model
