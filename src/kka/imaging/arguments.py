"""What a pipeline is called with, from the settings, checked against the signature of its class."""

import inspect
from collections.abc import Mapping
from typing import Any

from kka.errors import UserError
from kka.imaging.pipeline_class import Job
from kka.settings.drawing import DrawingSettings

EMPTY = " "
"""The negative prompt that Qwen-Image is published with: without one its guidance is left out."""


def call_arguments(
    job: Job, path: str, kind: Any, settings: DrawingSettings, *, steps: int | None, guidance: float | None
) -> tuple[dict[str, Any], str | None]:
    """(arguments, negative prompt) of each call of a pipeline of the class `kind`.

    Args:
        steps: From the settings or the model's files; None, as `guidance`: the pipeline's own.

    Raises:
        UserError: a setting that the pipeline does not have, or that does nothing; a strength that leaves no step.
    """
    has = {n: p.default for n, p in inspect.signature(kind.__call__).parameters.items() if p.kind != p.VAR_KEYWORD}
    for needed in job.takes:
        if needed not in has:
            raise UserError(
                f"{job.name}:{path}: expected {job.what}; got a {kind.__name__}, which takes no {needed}."
                + _elsewhere(job, has)
            )
    by_cfg = "true_cfg_scale" in has and has.get("guidance_scale") is None  # Qwen-Image: the one guidance it has
    height, width = settings.height_width or (None, None)
    wanted: dict[str, tuple[str, Any]] = {
        "num_inference_steps": ("steps", steps),
        "true_cfg_scale" if by_cfg else "guidance_scale": ("guidance", guidance),
        "image_guidance_scale": ("image_guidance_scale", settings.image_guidance_scale),
        "strength": ("strength", settings.strength),
    }
    if settings.true_cfg_scale is not None:
        if by_cfg and settings.guidance is not None:
            raise UserError(f"drawing.guidance: for a {kind.__name__} it is true_cfg_scale: expected one; got both")
        wanted["true_cfg_scale"] = ("true_cfg_scale", settings.true_cfg_scale)
    if "image" not in job.takes:  # others are given pictures of that size
        wanted |= {"height": ("size", height), "width": ("size", width)}
    given = {name: (setting, value) for name, (setting, value) in wanted.items() if value is not None}
    negative = settings.negative_prompt
    refused = {setting for name, (setting, _) in given.items() if name not in has}
    refused |= {"negative_prompt"} if negative is not None and "negative_prompt" not in has else set()
    if refused:
        known = {setting for name, (setting, _) in wanted.items() if name in has} | {"negative_prompt"} & {*has}
        raise UserError(
            f"{job.name}:{path}: expected options that {kind.__name__} has ({', '.join(sorted(known))}); got "
            f"{', '.join(sorted(refused))}"
        )
    arguments = {name: value for name, (_, value) in given.items()}
    _check_steps(arguments, has)
    scale = arguments.get(name := "true_cfg_scale" if "true_cfg_scale" in has else "guidance_scale", has.get(name))
    if negative is not None and scale is not None and scale <= 1:
        setting = "guidance" if by_cfg or name == "guidance_scale" else name
        raise UserError(
            f"drawing.negative_prompt: it does nothing at a guidance of 1 or less: expected drawing.{setting} above "
            f"1; got {scale:g}. Leave it out, or raise the guidance where the model is made for that."
        )
    if negative is None and by_cfg and scale is not None and scale > 1 and "negative_prompt" in has:
        negative = EMPTY
    return arguments, negative


def _check_steps(arguments: Mapping[str, Any], has: Mapping[str, Any]) -> None:
    """Raises UserError where a strength leaves not one of the steps."""
    strength, steps = (arguments.get(name, has.get(name)) for name in ("strength", "num_inference_steps"))
    if strength is not None and steps is not None and int(steps * strength) < 1:
        raise UserError(
            f"drawing.strength: expected at least 1 of the steps to be run, which are steps × strength, rounded down; "
            f"got {steps} × {strength:g} = {steps * strength:g}. Raise drawing.strength or drawing.steps."
        )


def _elsewhere(job: Job, has: Mapping[str, Any]) -> str:
    """What else the pipeline could be used for."""
    if "mask_image" in has:
        return " Use inpaint: with it."
    if "image" in has:
        return f" Use {'img2img' if 'strength' in has else 'edit'}: with it."
    return " Use diffusers: with it." if job.name != "diffusers" else ""
