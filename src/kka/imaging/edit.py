"""Eq. 4 on a photo, by a pipeline of diffusers that follows instructions: the caption is what it is told to add."""

from collections.abc import Sequence

import numpy as np

from kka.imaging.canvas import canvas_for, require_each
from kka.imaging.diffusers import COMMON
from kka.imaging.pipeline_call import call
from kka.imaging.pipeline_class import Job
from kka.imaging.pipelines import open_pipeline
from kka.imaging.redrawn import VERSION, put_back
from kka.imaging.round_trip import empty_alteration
from kka.protocols import Altered, Images, Masks
from kka.settings.drawing import DrawingSettings

EDIT = Job(
    name="edit", what="a pipeline that edits a photo by an instruction", mapping=None, suffix="",
    takes=("prompt", "image"), settings=(*COMMON, "image_guidance_scale"),
)  # fmt: skip
VERBS = ("add", "make", "give", "put", "change", "turn", "draw", "paint", "remove", "replace", "show", "edit")
"""A caption that begins with one is an instruction already."""


class Edit:
    """Tells the model to make of each normal what its caption says, and keeps of that what changed.

    One photo at a time, as some pipelines take several photos for one picture: picture i depends on caption i, seed i
    and normal i alone, to the last bit on one machine. Outside of its mask it is the normal: see
    `kka.imaging.redrawn.put_back`.

    Args:
        path: A hub id or a folder, of a FluxKontextPipeline, QwenImageEditPipeline, Flux2KleinPipeline,
            StableDiffusionInstructPix2PixPipeline or one that is called alike.
        settings: `steps`, `guidance` at None are the model's own. `size`: at which it draws, as many pixels as the
            model draws unasked where None.

    Example:
        >>> Edit("black-forest-labs/FLUX.2-klein-4B").alter(normals, ["a tile with a thin scratch"], seeds=[1])
    """

    batch_size = 1

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
            EDIT, path, settings, device=device, dtype=dtype, revision=revision, variant=variant
        )
        self._size = settings.height_width
        self.identity = self._loaded.identity_with(VERSION, self._size, instruction("x"))

    def alter(self, normals: Images, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
        """The normals (n, h, w, 3) with what the captions say, and the masks (n, h, w)."""
        require_each("edit", normals, captions, seeds)
        images, masks = np.empty_like(normals), np.empty(normals.shape[:3], np.uint8)
        canvas = canvas_for(self._loaded, normals.shape[1:3], self._size)
        more = canvas.call_size(self._loaded.takes)
        for i, (normal, caption) in enumerate(zip(normals, captions, strict=True)):
            photo = canvas.enlarged(normal)
            drawn = call(self._loaded, [instruction(caption)], seeds=seeds[i : i + 1], image=photo, **more)
            one = slice(i, i + 1)
            images[one], masks[one] = put_back(self._loaded, normals[one], drawn, canvas)
        return Altered(images=images, masks=masks)

    def traces(self, normals: Images, masks: Masks) -> Images:
        """The normals as the model's autoencoder gives them back, where the masks are; else as they are."""
        return empty_alteration(self._loaded, normals, masks, self._size)


def instruction(caption: str) -> str:
    """What an editor is told, so that the photo shows what the caption says and stays itself elsewhere."""
    caption = caption.strip().rstrip(".")
    if caption.partition(" ")[0].lower() in VERBS:
        return f"{caption}. Change nothing else."
    return f"Add to this photo what makes it {caption}. Change nothing else."
