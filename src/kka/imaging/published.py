"""How many steps and how much guidance a model is made for, as its own files say; by its name where they do not."""

import json
from pathlib import Path

from kka.errors import UserError
from kka.imaging.pipeline_files import Files

RECOMMENDED = "drawing.json"
"""In the folder of a model that kka trained: the steps and the guidance that it draws with unasked, and what it was
trained on."""
OWN: tuple[None, None] = (None, None)
"""The pipeline's own defaults, mostly 50 steps and a guidance of 7.5."""
FEW_STEPS: dict[str, tuple[int, float]] = {
    "turbo": (4, 0.0),
    "schnell": (4, 0.0),
    "lightning": (4, 0.0),
    "lcm": (4, 8.0),
}
"""Word in a model's name -> (steps, guidance) as published for models distilled to few steps, where nothing in their
files tells them from the models that they come from. Turbo models do with one step as well, four times as fast."""


def made_for(files: Files) -> tuple[int | None, float | None]:
    """(steps, guidance); None: the pipeline's own.

    Raises:
        UserError: `RECOMMENDED` is damaged.
    """
    if (told := _recommended(files.path)) is not None:
        return told
    name, word = files.class_name, _word(files.path)
    if name.startswith("Flux2") and files.index.get("is_distilled"):  # FLUX.2-klein; -base says false
        return 4, 1.0
    if name.startswith("Flux2"):
        return OWN
    if name.startswith("Flux") and (guided := files.part("transformer/config.json").get("guidance_embeds")) is not None:
        return OWN if guided else (4, 0.0)  # only FLUX.1-schnell takes no guidance
    if name.startswith("ZImage"):  # its files tell Z-Image-Turbo by the scheduler's shift alone
        return (8, 0.0) if word == "turbo" else OWN
    if "LatentConsistency" in name or "LCMScheduler" in (files.index.get("scheduler") or ()):
        return FEW_STEPS["lcm"]
    return FEW_STEPS.get(word, OWN)


def _word(path: str) -> str:
    name = Path(path).name.lower()
    return next((word for word in FEW_STEPS if word in name), "")


def _recommended(path: str) -> tuple[int, float] | None:
    file = Path(path).expanduser() / RECOMMENDED
    if not file.is_file():
        return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return int(told["steps"]), float(told["guidance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: expected JSON with steps and guidance; got {type(error).__name__}: {error}. Mend it, or "
            "remove it and give drawing.steps and drawing.guidance."
        ) from error
