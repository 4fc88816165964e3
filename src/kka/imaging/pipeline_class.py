"""Which class of diffusers does a job with the weights of a pipeline: drawing, inpainting, redrawing, editing."""

from dataclasses import dataclass
from typing import Any

from kka.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a pipeline is wanted for."""

    name: str
    """As specs begin: diffusers, inpaint, img2img, edit."""
    what: str
    """The pipeline, as errors say it."""
    mapping: str | None
    """The dictionary of `diffusers.pipelines.auto_pipeline` with the classes for it; None: the model's own class."""
    suffix: str
    """Of a class for it that stands in no dictionary, as in Flux2KleinInpaintPipeline."""
    takes: tuple[str, ...]
    """What a call must take beside the prompt."""
    settings: tuple[str, ...]
    """What it knows of `DrawingSettings`."""


def pipeline_class(job: Job, path: str, name: str) -> Any:
    """The class for a job with weights that were published for the pipeline `name`.

    It is what AutoPipelineFor… of diffusers chooses; where that knows none, the class that is named alike, else the
    published one itself, as DiffusionPipeline would load.

    Raises:
        UserError: a class that this diffusers does not have.
    """
    import diffusers
    from diffusers.pipelines import auto_pipeline

    if job.mapping is not None:
        families: list[Any] = auto_pipeline.SUPPORTED_TASKS_MAPPINGS
        of_family = getattr(auto_pipeline, job.mapping)
        for family in [key for known in families for key, kind in known.items() if kind.__name__ == name]:
            if family in of_family:
                return of_family[family]
        if alike := getattr(diffusers, name.removesuffix("Pipeline") + job.suffix + "Pipeline", None):
            return alike
    found = getattr(diffusers, name, None) if name.endswith("Pipeline") else None
    if found is None:
        raise UserError(
            f"{job.name}:{path}: expected {job.what} of diffusers {diffusers.__version__}; got a model of the class "
            f"{name or 'that its index does not name'}. Take another model, or a diffusers that has it."
        )
    return found
