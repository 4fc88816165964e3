"""The parts of a run, from its configuration: language model, image model (`auto` chooses by the data), detector."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kka.algorithm.prompts import build_prompt, resolve_template, worked_examples
from kka.common.cache import pixel_hash
from kka.common.caches import cache_folder
from kka.common.hold import held
from kka.common.progress import StageProgress
from kka.config import AUTO, DetectorOptions, RunConfig
from kka.data import is_photos
from kka.data.other import check_other
from kka.defects.grammar import SUBJECT
from kka.detectors import build_detector
from kka.errors import UserError
from kka.imaging import build_image_model, check_image_model
from kka.imaging.diffusers import KINDS
from kka.language import build_language_model, check_language_model, check_local
from kka.protocols import Alters, ChecksWeights, Detector, ImageModel, LanguageModel, LimitsInput, MayIgnoreAnomalies
from kka.run.drawing import (
    TRAINED,
    Allowed,
    TaskClasses,
    check_trained,
    require_ignorant,
    trained_model,
    without_knowledge,
)
from kka.settings.drawing import DrawingSettings
from kka.task import Knowledge, Task

if TYPE_CHECKING:
    from kka.language.train import LMTrainingReport

GARDEN, OF_CLASSES, OF_PHOTOS = ("garden", "garden"), ("corpus", "bank:train"), ("defects", "paint")
"""What auto means for the garden, for data with classes that may be known, and for photos."""
LM_STEPS = 800
LM_VERSION = 4
"""Part of the cache key: raised when training changes, so that old models are not taken for new ones."""


def resolve(config: RunConfig, task: Task) -> tuple[str, str]:
    """The specs that `config.lm` and `config.images` mean for this task; "corpus" = train on the known captions."""
    if task.source == "garden":
        return _chosen(config, GARDEN)
    return _chosen(config, OF_PHOTOS if task.knowledge is None else OF_CLASSES)


def _chosen(config: RunConfig, automatic: tuple[str, str]) -> tuple[str, str]:
    """(language model, image model): as asked for, else the automatic ones."""
    language, images = automatic
    return (language if config.lm == AUTO else config.lm, images if config.images == AUTO else config.images)


def check_config(config: RunConfig) -> Detector:
    """What can be wrong before the data is read: prompt, a folder, detector, models, weights. Returns the detector.

    Raises:
        UserError: the first of these; of both models at once.
    """
    resolve_template(config.prompt)
    if config.other is not None:
        check_other(config.other)
    detector = run_detector(config, config.seed)
    require_use_of_anomalies(detector, config.detector)
    automatic = (AUTO, AUTO)  # of classes, whether any are known is not known yet
    if config.data == "garden":
        automatic = GARDEN
    elif is_photos(Path(config.data)):
        automatic = OF_PHOTOS
    specs = _chosen(config, automatic)
    check_models(specs, config)
    check_classes(specs[1], Path(config.data), config.normal, config.unseen, config.split_seed)
    check_weights(detector)
    return detector


def require_use_of_anomalies(detector: Detector, name: str) -> None:
    """Raises UserError for a detector that learns from normals alone: all arms of a run would be the same."""
    if isinstance(detector, MayIgnoreAnomalies) and not detector.uses_anomalies:
        raise UserError(
            f"detector: a run compares detectors that learn from its pictures; {name} learns from normals alone, so "
            f"that nothing would differ. Train it by itself, kka train --detector {name}, or choose one that uses "
            "anomalies: sad, simplenet, recontrast, patchcore, anomalib:supersimplenet"
        )


def check_classes(images: str, data: Path, normal: Sequence[str], unseen: float, split_seed: int) -> str | None:
    """A note on what the image model knows of a Parquet data set's classes, or None: see `require_ignorant`.

    Raises:
        UserError: it knows the normal class or withheld ones, or there is no such class.
    """
    folder = data.expanduser()
    if images.partition(":")[0] not in KINDS or not (folder / "train.parquet").is_file():
        return None
    from kka.data.parquet import class_sides

    sides = class_sides(folder, normal, unseen, split_seed)
    return require_ignorant(images, TaskClasses(**{side: frozenset(names) for side, names in sides.items()}))


def check_models(specs: tuple[str, str], config: RunConfig) -> None:
    """Look for both models before either is loaded.

    Raises:
        UserError: what is wrong with either, in one message.
    """

    def language() -> None:
        if specs[0] == "corpus":
            check_local(config.language)
        elif specs[0] != AUTO:
            check_language_model(specs[0], settings=config.language)

    def images() -> None:
        if specs[1] == TRAINED:
            check_trained(config.drawing)
        elif specs[1] != AUTO:
            check_image_model(specs[1], settings=config.drawing)

    problems = []
    for look in (language, images):
        try:
            look()
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))


def check_counts(config: RunConfig, task: Task) -> None:
    """Raises UserError for settings that ask for more normals or pictures than there are."""
    normals = len(task.normals)
    if config.rounds and config.folds > min(normals, config.initial):
        raise UserError(
            f"folds: expected 1 to {min(normals, config.initial)}, as there are {normals} normals and {config.initial} "
            f"images in round 0; got {config.folds}"
        )
    if config.representatives is not None and config.representatives > normals:
        raise UserError(f"representatives: expected 1 to {normals}, the normals; got {config.representatives}")
    if task.knowledge is None and config.lm == "corpus":
        corpus(task)  # which says what to do
    if task.knowledge is None and config.images == TRAINED:
        raise without_knowledge()


def undescribed(config: RunConfig) -> str | None:
    """What photos show of which nothing is said: "an object", where the language model writes of any."""
    return SUBJECT if config.lm in ("defects", AUTO) else None


def caption_writer(
    config: RunConfig, progress: StageProgress | None = None
) -> Callable[[Sequence[Path]], Sequence[str]] | None:
    """What writes the captions of photos that have none; None: nothing does.

    Raises:
        UserError: data that is no folder of photos.
    """
    if config.caption_model is None:
        return None
    if config.data == "garden" or not is_photos(Path(config.data)):
        raise UserError(f"caption_model: expected a folder of photos, whose captions it writes; got {config.data}. "
                        "Data sets have captions of their own (kka data prepare --caption-model).")  # fmt: skip
    from kka.data.captioned import PhotoCaptions

    tell = None if progress is None else (lambda done, total: progress("captioning", done, total))
    return PhotoCaptions(config.caption_model, tell)


def build_language(spec: str, config: RunConfig, task: Task, progress: StageProgress | None = None) -> LanguageModel:
    """The language model of a run; "corpus" trains one, or takes it from the cache."""
    if spec == "corpus":
        spec = f"hf:{corpus_model(task, progress)}"
    # A model of captions is shown no examples; that of defects has to know which words are the object's.
    told: dict[str, Any] = {"worked": worked_examples(config.template)}
    if spec == "defects":
        told = {"subjects": tuple(dict.fromkeys(task.captions))}
    return build_language_model(spec, settings=config.language, progress=progress, **told)


def build_images(
    spec: str,
    config: RunConfig,
    task: Task,
    progress: StageProgress | None = None,
    say: Callable[[str], None] | None = None,
) -> ImageModel | Alters:
    """The image model of a run; "trained" trains one, or takes it from the cache. No picture of the test set can come
    out of a bank.

    Args:
        say: Told, in a line of text, what takes long.

    Raises:
        UserError: as `kka.imaging.build_image_model` and `require_ignorant`.
    """
    if spec == TRAINED:
        allowed = Allowed(
            data=config.data, normal=config.normal, unseen=config.unseen, split_seed=config.split_seed
        )
        spec = f"diffusers:{trained_model(task, allowed, progress=progress, say=say)}"
    if (classes := TaskClasses.of(task)) is not None:
        require_ignorant(spec, classes)
    forbidden: frozenset[str] = frozenset()
    drawing = config.drawing
    if spec.startswith("bank") and task.test is not None:
        forbidden = frozenset(pixel_hash(image) for image in task.test.images)
        if spec not in ("bank", "bank:train"):  # at another size a test picture would not be known again
            side = task.normals.shape[1]
            if drawing.size not in (None, side):
                raise UserError(
                    f"drawing.size: expected {side}, the size of the test images, so that they are known again in "
                    f"{spec}; got {drawing.size}. Leave it out."
                )
            drawing = dataclasses.replace(drawing, size=side)
    return build_image_model(
        spec, settings=drawing, knowledge=task.knowledge, forbidden_hashes=forbidden, fit=task.fit,
        subject=config.describe or _one_caption(task), normals=task.normals,
    )  # fmt: skip


def _one_caption(task: Task) -> str:
    """The caption of the normals, where all have one."""
    captions = set(task.captions)
    return captions.pop() if len(captions) == 1 else ""


def build_drawing(spec: str, drawing: DrawingSettings, knowledge: Knowledge) -> ImageModel:
    """An image model apart from any task; a bank has the pictures of `knowledge`.

    Raises:
        UserError: as `kka.imaging.build_image_model`; a model that draws nothing by itself.
    """
    model = build_image_model(spec, settings=drawing, knowledge=knowledge)
    if isinstance(model, Alters):
        raise UserError(f"image model: expected one that draws from words alone; got {spec}, which alters normals")
    return model


def detector_of(name: str, options: DetectorOptions, **rest: Any) -> Detector:
    """The detector `name` as `options` describe it, untrained; `rest` goes to `kka.detectors.build_detector`."""
    return build_detector(name, preset=options.preset, overrides=options.set, backbone=options.backbone, **rest)


def run_detector(config: RunConfig, seed: int) -> Detector:
    """The detector of a run, untrained. SAD is set up as the evaluator is, where nothing else is said."""
    settings = config.sad if config.detector == "sad" else None
    return detector_of(config.detector, config.detector_options, settings=settings, seed=seed)


def check_weights(detector: Detector) -> None:
    """What is wrong with weights from elsewhere shows before hours of work.

    Raises:
        UserError: weights that cannot be had or do not fit.
    """
    if isinstance(detector, ChecksWeights):
        detector.check_weights()


MIN_SIZE, MAX_SIZE = 64, 256
"""Photos are worked with at no fewer and, unasked, no more pixels a side."""


def working_size(data: str, size: int | None, detector: Detector) -> int | None:
    """Side in pixels at which `kka.data.open_task` keeps the pictures; None: their own.

    Photos come down to what the detector makes use of, so that a backbone gets more than a thumbnail.
    """
    if size is not None or data == "garden" or not is_photos(Path(data)):
        return size
    useful = detector.input_size if isinstance(detector, LimitsInput) else MIN_SIZE
    return min(max(MIN_SIZE, useful), MAX_SIZE)


def corpus_model(task: Task, progress: StageProgress | None = None) -> Path:
    """A small language model trained on the captions of the task's known classes, from the cache if it is there."""
    folder = cache_folder() / "lm" / corpus_digest(task, LM_STEPS)
    if not (folder / "config.json").is_file():
        tell = None if progress is None else (lambda done, total, loss: progress("lm train", done, total))
        with held(folder, wait=True):
            if not (folder / "config.json").is_file():  # another run may have trained it meanwhile
                train_corpus_model(task, folder, seed=0, progress=tell)
    return folder


def corpus_digest(task: Task, steps: int) -> str:
    """Of all that a model of `train_corpus_model` depends on: another digest, another model."""
    made_from = repr((LM_VERSION, steps, task.domain, corpus(task)))
    return hashlib.blake2b(made_from.encode(), digest_size=10).hexdigest()


def corpus(task: Task) -> list[tuple[str, str]]:
    """(class, caption) of every training image of the known classes.

    Raises:
        UserError: the task has no known classes.
    """
    if task.knowledge is None:
        raise UserError(
            "language model: 'corpus' is trained on captions of other classes, which this data does not have. "
            "Name a model: --lm hf:<hub id or folder>, openai:<model>."
        )
    return [
        (kind, caption)
        for kind, captions in zip(task.knowledge.kinds, task.knowledge.captions, strict=True)
        for caption in captions
    ]


def train_corpus_model(
    task: Task,
    out: Path,
    *,
    seed: int,
    steps: int = LM_STEPS,
    progress: Callable[[int, int, float], None] | None = None,
) -> "LMTrainingReport":
    """Train a small language model on the captions of the task's known classes into the folder `out`."""
    from kka.language.train import train_language_model

    def prompt_of(caption: str) -> str:
        return build_prompt(caption, domain=task.domain)

    # No bound on the time: a model that a busy machine cut short would be taken for a whole one from then on.
    return train_language_model(
        corpus(task), prompt_of, out, steps=steps, max_seconds=float("inf"), seed=seed, progress=progress
    )
