"""Eq. 4 on a photo, by an inpainting pipeline of diffusers: where `paint` would paint, the model draws the caption."""

from collections.abc import Sequence

import numpy as np

from kka.imaging.canvas import canvas_for, put_in, require_each
from kka.imaging.changed import Mask, Photo, feathered
from kka.imaging.diffusers import BATCH, COMMON
from kka.imaging.paint.painter import Paint
from kka.imaging.pipeline_call import call
from kka.imaging.pipeline_class import Job
from kka.imaging.pipelines import open_pipeline
from kka.imaging.round_trip import empty_alteration
from kka.protocols import Altered, Images, Masks
from kka.settings.drawing import DrawingSettings

INPAINT = Job(
    name="inpaint", what="an inpainting pipeline", mapping="AUTO_INPAINT_PIPELINES_MAPPING", suffix="Inpaint",
    takes=("prompt", "image", "mask_image"), settings=(*COMMON, "strength", "batch_size"),
)  # fmt: skip
VERSION = 1
"""Raise it whenever the pictures would change: it is part of the key under which they are kept."""
COVERED = 64
"""Of 255: what `paint` covers less of is no part of the shape; a shadow's end would make the mask much too large."""
ROOM = 1.5
"""Cells of the latent space around the shape in which the model may draw, so that a hairline has a place there."""


class Inpaint:
    """Draws the caption of each normal where `paint` would paint it, and gives the feathered mask of that place.

    Picture i depends on caption i, seed i and normal i alone, but for rounding: on one device a batch of another size
    changes what is drawn by a grey level or so; the masks do not change. Outside of its mask it is the normal.

    Args:
        path: A hub id or a folder. Models made for inpainting and others both do; those keep to the edges better.
        subject: What the photos show, as `--describe` says it, for `Paint`.
        settings: `steps`, `guidance`, `strength` at None are the model's own; `size`: at which it draws, as many
            pixels as the model draws unasked where None.

    Example:
        >>> Inpaint("stable-diffusion-v1-5/stable-diffusion-inpainting").alter(normals, captions, seeds=seeds).masks
    """

    def __init__(
        self,
        path: str,
        *,
        settings: DrawingSettings | None = None,
        subject: str = "",
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        variant: str | None = None,
    ) -> None:
        settings = settings or DrawingSettings()
        self._loaded = open_pipeline(
            INPAINT, path, settings, device=device, dtype=dtype, revision=revision, variant=variant
        )
        self._geometry, self._size = Paint(subject=subject), settings.height_width
        self.identity = self._loaded.identity_with(VERSION, self._size, self._geometry.identity)
        self.batch_size = settings.batch_size or BATCH

    def alter(self, normals: Images, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
        """The normals (n, h, w, 3) with what the captions say, and the masks (n, h, w)."""
        require_each("inpaint", normals, captions, seeds)
        images, masks = np.empty_like(normals), np.empty(normals.shape[:3], np.uint8)
        for start in range(0, len(captions), self.batch_size):
            batch = slice(start, start + self.batch_size)
            images[batch], masks[batch] = self._alter_batch(normals[batch], captions[batch], seeds[batch])
        return Altered(images=images, masks=masks)

    def traces(self, normals: Images, masks: Masks) -> Images:
        """The normals as the model's autoencoder gives them back, where the masks are; else as they are."""
        return empty_alteration(self._loaded, normals, masks, self._size)

    def _alter_batch(
        self, normals: Images, captions: Sequence[str], seeds: Sequence[int]
    ) -> tuple[list[Photo], list[Mask]]:
        canvas = canvas_for(self._loaded, normals.shape[1:3], self._size)
        painted = self._geometry.alter(normals, captions, seeds=seeds).masks
        masks = [feathered(_shape(mask), round(ROOM * canvas.cell)) for mask in painted]
        drawn = call(
            self._loaded, captions, seeds=seeds, image=[canvas.enlarged(normal) for normal in normals],
            mask_image=[canvas.enlarged(np.where(mask > 0, 255, 0).astype(np.uint8)) for mask in masks],
            **canvas.call_size(self._loaded.takes),
        )  # fmt: skip
        made = [put_in(*each) for each in zip(normals, drawn, masks, strict=True)]
        return [image for image, _ in made], [mask for _, mask in made]


def _shape(painted: Mask) -> np.ndarray:
    """Which pixels belong to a defect; of one that covers none of them well, all that it touches."""
    return painted >= COVERED if (painted >= COVERED).any() else painted > 0
