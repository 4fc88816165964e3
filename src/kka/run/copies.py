"""Copies of a run's models on the machines of a cluster: of which models there are any, and what makes them there."""

import dataclasses
from pathlib import Path

from kka.common.caches import cache_folder
from kka.common.cluster import Cluster
from kka.common.packed import pack, unpack_once
from kka.common.workers import Copies
from kka.config import RunConfig
from kka.errors import UserError
from kka.imaging.diffusers import DiffusersModel
from kka.language.defects import DefectsLanguageModel
from kka.language.hf import HFLanguageModel
from kka.protocols import Alters, ImageLibrary, ImageModel, LanguageModel
from kka.run.drawing import TRAINED
from kka.run.models import build_images, build_language
from kka.task import Task

SERVER = "openai:"
"""Models that draw and write elsewhere as it is."""


def image_copies(
    cluster: Cluster, spec: str, config: RunConfig, task: Task, model: ImageModel | Alters
) -> Copies | None:
    """Of the image model; None: a library is asked in one place, and a server by one process."""
    if isinstance(model, ImageLibrary) or spec.startswith(SERVER):
        return None
    made = Path(model.path).expanduser() if spec == TRAINED and isinstance(model, DiffusersModel) else None
    return cluster.copies(images_there, spec, config, cluster.share(_known(task)), _packed(made))


def give_copies(cluster: Cluster, spec: str, config: RunConfig, task: Task, model: LanguageModel) -> None:
    """The language model samples by copies from now on, if it is one that runs here in batches."""
    writer = model.written if isinstance(model, DefectsLanguageModel) else model
    if isinstance(writer, HFLanguageModel):
        made = Path(writer.source) if spec == "corpus" else None
        writer.copies = cluster.copies(language_there, spec, config, cluster.share(_known(task)), _packed(made))


def require_photos(data: str) -> None:
    """On another machine: raises UserError where there is no such folder."""
    if not Path(data).expanduser().exists():
        raise UserError(f"expected the photos at {Path(data).absolute()}, as on the machine that asks, since detectors "
                        f"read whole photos; found none. Copy them there.")  # fmt: skip


def _known(task: Task) -> Task:
    """What models may see of the task."""
    return dataclasses.replace(task, test=None)


def _packed(folder: Path | None) -> bytes | None:
    return None if folder is None else pack(folder, [path.name for path in sorted(folder.iterdir())])


# --- on the machine ---------------------------------------------------------------------------------------------------


def images_there(spec: str, config: RunConfig, task: Task, packed: bytes | None) -> ImageModel | Alters:
    """The image model; `packed`: one that the run trained."""
    return build_images(spec if packed is None else f"diffusers:{_unpacked(packed)}", config, task)


def language_there(spec: str, config: RunConfig, task: Task, packed: bytes | None) -> LanguageModel:
    """What samples in the language model; `packed`: one that the run trained."""
    model = build_language(spec if packed is None else f"hf:{_unpacked(packed)}", config, task)
    return model.written if isinstance(model, DefectsLanguageModel) else model


def _unpacked(packed: bytes) -> Path:
    """The folder of a model that was sent, kept in the cache of this machine."""
    return unpack_once(packed, cache_folder() / "sent")
