"""`kka run --preview 8` and `kka train --preview`: a few of all that a command would make, and what it will take.

Photos, prompts, captions and pictures are made by the stages that a run has, in a folder that is gone afterwards. What
the rest will take is measured by doing a little of it (`kka.run.foresee`).
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from kka.algorithm.stages import Stages
from kka.common.ledger import Entry
from kka.common.mapped import in_memory
from kka.common.memory import PeakMemory
from kka.common.progress import Progress, StageProgress
from kka.common.store import Store
from kka.config import RunConfig
from kka.deploy.anomalies import Anomalies
from kka.protocols import Detector, LanguageModel, TellsMore, WritesLists
from kka.run.automatic import settled
from kka.run.estimate import MOST, Estimate, Part, detector_cost, folder_size, read_of, whole_of
from kka.run.execute import prepare
from kka.run.foresee import Listen, Seen, foresee
from kka.task import Task

SHOWN = 8
"""Photos on the sheet, and anomalies of a training."""
SECONDS = 6.0
"""In which a detector's training is measured, where there is nothing else to measure."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture of the sheet."""

    image: np.ndarray
    caption: str = ""
    normal: np.ndarray | None = None
    """What it was made of, where an image model altered a photo."""
    mask: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What is shown before the wait."""

    title: str
    photos: tuple[Shown, ...]
    how: str
    """What was made of the photos: side, fit."""
    prompt: str | None
    """The first one; None where nothing is written."""
    pictures: tuple[Shown, ...]
    """Made of captions, or the anomalies that a detector will train with."""
    told: tuple[str, ...]
    """Of captions and pictures."""
    notes: tuple[str, ...]
    """What the loader says."""
    estimate: Estimate


def preview_run(
    config: RunConfig, number: int = SHOWN, *, progress: StageProgress | None = None,
    say: Callable[[str], None] | None = None,
) -> Preview:  # fmt: skip
    """What `kka.run.execute.run` would begin with, and what it will take. Nothing stays of it.

    Args:
        number: Photos and pictures.
        say: Told, in a line of text, what takes long.

    Raises:
        UserError: as a run that cannot begin.
    """
    config = settled(config)
    process, listen = psutil.Process(), Listen()

    def told(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(stage, done, total)
        listen(stage, done, total)

    imported = process.memory_info().rss
    with tempfile.TemporaryDirectory(prefix="kka-preview-") as scratch, PeakMemory() as memory:
        if say is not None:
            say(f"Loading what the run loads: data {config.data}, language model {config.lm}, images {config.images}")
        began, read_by = time.time(), []
        task, specs, images, language = prepare(config, told, lambda _: read_by.append(time.time()), say, most=MOST)
        if isinstance(language, TellsMore):
            language.say = None  # how long a tuning takes is told below
        loading = time.time() - process.create_time()
        small = dataclasses.replace(
            config, initial=number, fresh=number, autoencoder_epochs=min(1, config.autoencoder_epochs)
        )
        with Store(Path(scratch) / "run", small.as_dict()) as store:
            stages = Stages(task, language, images, small, store, None, told)
            prompts = stages.prompts()
            asked = _few(prompts, language, number)
            written = stages.write(0, list(asked), number, known=[])
            pool = stages.draw(0, written, taken=())
            aside = [f"set aside: {row.caption}: {row.reason}" for row in stages.folder.set_aside(0)]
            counts = {stage: store.entry(f"rounds/0/{stage}") for stage in ("representatives", "captions", "images")}
            stored = folder_size(store.root / "rounds/0/images")
        seen = Seen(
            task=task, specs=specs, language=language, images=images, prompts=prompts, asked=len(asked),
            written=written, pool=pool, counts=counts, loading=loading, reading=read_by[0] - began, stored=stored,
            process=imported,
        )  # fmt: skip
        estimate = foresee(config, seen, memory, listen)
    pictures = tuple(
        Shown(
            image=pool.images[i], caption=entry.caption, mask=None if pool.masks is None else pool.masks[i],
            normal=None if entry.normal is None else task.normals[entry.normal],
        )
        for i, entry in enumerate(pool.entries)
    )  # fmt: skip
    return Preview(
        title=f"kka run: {task.name}", photos=_photos(task, number), how=_how(task), prompt=asked[0],
        pictures=pictures, told=(*_told(specs, counts), *aside), notes=_notes(task), estimate=estimate,
    )  # fmt: skip


def _few(prompts: Sequence[str], language: LanguageModel, number: int) -> Sequence[str]:
    """As many of the prompts as it takes: an answer with several captions is paid for as one."""
    at_once = language.captions_an_answer if isinstance(language, WritesLists) else 1
    return prompts if at_once == 1 else prompts[: -(-number // at_once)]


def preview_training(
    build: Callable[[Progress | None], Detector], task: Task, anomalies: Anomalies | None, *, name: str,
    held_out: float, reading: float,
) -> Preview:  # fmt: skip
    """What `kka train` would begin with, of a task of which no more than `MOST` were read, and what it will take.

    `reading`: seconds that the task took.
    """
    import torch

    loading = time.time() - psutil.Process().create_time()
    normals, tested = whole_of(task)
    read = sum(read_of(task))
    given = 0 if anomalies is None else len(anomalies.images)
    with PeakMemory() as memory:
        cost = detector_cost(
            build, task, anomalies, normals=normals, all_of=given, seconds=SECONDS, use=torch.get_num_threads()
        )
    scored, more = round(held_out * normals) + tested, (normals + tested) / read
    parts = (
        Part(stage="loading", seconds=loading + reading * max(0.0, more - 1), how=f"{read:,} photos, as here"),
        Part(stage="detectors", seconds=cost.kept(held_out, 0), how=cost.how),
        Part(stage="scoring", seconds=scored * cost.picture, how=f"a few photos, of {scored:,}"),
    )
    more = in_memory((normals + tested - read) * int(np.prod(task.normals.shape[1:])))
    return Preview(
        title=f"kka train --detector {name}: {task.name}", photos=_photos(task, SHOWN), how=_how(task), prompt=None,
        pictures=_some(anomalies), told=_of_anomalies(anomalies), notes=_notes(task),
        estimate=Estimate(parts=parts, memory=int(memory.peak_mb * 2**20) + more, disk=cost.disk),
    )  # fmt: skip


def _photos(task: Task, number: int) -> tuple[Shown, ...]:
    rows = np.linspace(0, len(task.normals) - 1, min(number, len(task.normals))).round().astype(int)
    return tuple(Shown(image=task.normals[i]) for i in rows)


def _how(task: Task) -> str:
    side, (normals, tested) = task.normals.shape[1], whole_of(task)
    some = "" if normals == len(task.normals) else f", of which {len(task.normals):,} were read for this"
    of = "" if task.photos is None else "tiles of "
    test = f"{tested:,} {of}test pictures" if tested else "no test pictures"
    return f"{normals:,} {of}normals{some}; {test}; {side} x {side} pixels each, by {task.fit}"


def _notes(task: Task) -> tuple[str, ...]:
    said = [str(task.details[name]) for name in ("layout", "shapes") if name in task.details]
    notes = task.details.get("notes", ())
    said += [str(note) for note in notes] if isinstance(notes, list | tuple) else []
    return (*said, *(f"set aside: {item.path}: {item.reason}" for item in task.set_aside))


def _told(specs: tuple[str, str], counts: Mapping[str, Entry]) -> tuple[str, ...]:
    captions, pictures = counts["captions"].counts, counts["images"].counts
    names = {"unusable": "unusable", "duplicates": "like others", "copies_of_normals": "like those of normals"}
    lost = ", ".join(f"{captions[name]} {what}" for name, what in names.items() if captions.get(name))
    said = [
        f"Language model {specs[0]}: {captions.get('answers')} answers gave {captions.get('captions')} captions"
        + (f" ({lost})" if lost else ""),
        f"Image model {specs[1]}: {pictures.get('images')} pictures",
    ]
    if unread := pictures.get("unread_captions"):
        said.append(f"{unread} captions name no defect that the image model knows: it chooses one itself")
    return tuple(said)


def _some(anomalies: Anomalies | None) -> tuple[Shown, ...]:
    if anomalies is None:
        return ()
    rows = np.linspace(0, len(anomalies.images) - 1, min(SHOWN, len(anomalies.images))).round().astype(int)
    masks = anomalies.masks
    return tuple(Shown(image=anomalies.images[i], mask=None if masks is None else masks[i]) for i in rows)


def _of_anomalies(anomalies: Anomalies | None) -> tuple[str, ...]:
    if anomalies is None:
        return ("None: the detector trains with normals alone.",)
    said = f"{len(anomalies.images):,} in all, {'without' if anomalies.masks is None else 'with'} masks"
    return (said, *(f"set aside: {item.path}: {item.reason}" for item in anomalies.set_aside))
