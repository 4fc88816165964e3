"""Eq. 4 by a diffusion model: any text-to-image pipeline of the diffusers library, from the hub or from a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kka.common.files import read_json
from kka.imaging.pipeline_call import call
from kka.imaging.pipeline_class import Job
from kka.imaging.pipelines import open_pipeline
from kka.imaging.published import RECOMMENDED
from kka.protocols import Images
from kka.settings.drawing import DrawingSettings

COMMON = ("steps", "guidance", "true_cfg_scale", "size", "negative_prompt", "economy")
"""Settings that every job of a pipeline has."""
DRAW = Job(
    name="diffusers", what="a text-to-image pipeline", mapping="AUTO_TEXT2IMAGE_PIPELINES_MAPPING", suffix="",
    takes=("prompt",), settings=(*COMMON, "batch_size"),
)  # fmt: skip
KINDS = ("diffusers", "inpaint", "img2img", "edit")
"""Image models whose weights are a pipeline of diffusers."""
BATCH = 4
"""Pictures drawn together, unasked."""
SAMPLES = "samples.png"
"""In the folder of a model that kka trained: samples, beside the real pictures of their captions."""


class DiffusersModel:
    """An `ImageModel` by the text-to-image pipeline that `AutoPipelineForText2Image` of diffusers would choose.

    `settings`: `steps`, `guidance` and `size` at None are the defaults of the model (see `kka.imaging.published`);
    memory bounds `batch_size`. `dtype`, `variant`: as `kka.imaging.pipelines.open_pipeline`. Captions are cut where
    the text encoder ends, for CLIP after 77 tokens. What the model's safety checker refuses, or what comes out
    non-finite, is of one colour: see `kka.imaging.pipeline_call.call`.
    """

    def __init__(
        self,
        path: str,
        *,
        settings: DrawingSettings | None = None,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        variant: str | None = None,
    ) -> None:
        settings = settings or DrawingSettings()
        self._loaded = open_pipeline(
            DRAW, path, settings, device=device, dtype=dtype, revision=revision, variant=variant
        )
        self.path, self.identity = path, self._loaded.identity
        self.steps, self.guidance, self.size = self._loaded.steps, self._loaded.guidance, settings.height_width
        self.batch_size = settings.batch_size or BATCH

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        """(n, h, w, 3). For no captions: (0, h, w, 3) of `size`, or (0, 0, 0, 3) where that is not given."""
        images = [np.zeros((0, *(self.size or (0, 0)), 3), np.uint8)] if not captions else []
        for start in range(0, len(captions), self.batch_size):
            batch = slice(start, start + self.batch_size)
            images.append(call(self._loaded, captions[batch], seeds=seeds[batch]))
        return np.concatenate(images)


def trained_facts(spec: str) -> dict[str, Any] | None:
    """What an image model that kka trained says of its training: data, classes, settings. None for other models.

    Raises:
        UserError: the file that says it is damaged.
    """
    kind, _, path = spec.partition(":")
    file = Path(path).expanduser() / RECOMMENDED
    if kind not in KINDS or not path or not file.is_file():
        return None
    facts = read_json(file).get("trained")
    return facts if isinstance(facts, dict) else None
