"""Eq. 4 on a photo, by an image-to-image pipeline of diffusers: noise is laid on the photo, and taken away by the
caption."""

from collections.abc import Sequence

import numpy as np

from kka.imaging.canvas import canvas_for, require_each
from kka.imaging.diffusers import BATCH, COMMON
from kka.imaging.pipeline_call import call
from kka.imaging.pipeline_class import Job
from kka.imaging.pipelines import open_pipeline
from kka.imaging.redrawn import VERSION, put_back
from kka.imaging.round_trip import empty_alteration
from kka.protocols import Altered, Images, Masks
from kka.settings.drawing import DrawingSettings

REDRAW = Job(
    name="img2img", what="an image-to-image pipeline with a strength", mapping="AUTO_IMAGE2IMAGE_PIPELINES_MAPPING",
    suffix="Img2Img", takes=("prompt", "image", "strength"), settings=(*COMMON, "strength", "batch_size"),
)  # fmt: skip


class Img2Img:
    """Draws each normal anew by its caption, and keeps of that what changed: see `kka.imaging.redrawn.put_back`.

    Picture i depends on caption i, seed i and normal i alone, but for rounding: on one device a batch of another size
    changes what is drawn by a grey level or so, and the mask where a pixel lies at the limit of what counts as
    changed. Outside of its mask it is the normal.

    Args:
        path: A hub id or a folder.
        settings: `strength` decides how far it goes; None, as with `steps` and `guidance`: the model's own. `size`:
            at which it draws, as many pixels as the model draws unasked where None.

    Example:
        >>> redraw = Img2Img("stabilityai/sd-turbo", settings=DrawingSettings(strength=0.5))
        >>> redraw.alter(normals, captions, seeds=seeds).masks
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
            REDRAW, path, settings, device=device, dtype=dtype, revision=revision, variant=variant
        )
        self._size = settings.height_width
        self.identity = self._loaded.identity_with(VERSION, self._size)
        self.batch_size = settings.batch_size or BATCH

    def alter(self, normals: Images, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
        """The normals (n, h, w, 3) with what the captions say, and the masks (n, h, w)."""
        require_each("img2img", normals, captions, seeds)
        images, masks = np.empty_like(normals), np.empty(normals.shape[:3], np.uint8)
        canvas = canvas_for(self._loaded, normals.shape[1:3], self._size)
        for start in range(0, len(captions), self.batch_size):
            batch = slice(start, start + self.batch_size)
            photos = [canvas.enlarged(normal) for normal in normals[batch]]
            more = canvas.call_size(self._loaded.takes)
            drawn = call(self._loaded, captions[batch], seeds=seeds[batch], image=photos, **more)
            images[batch], masks[batch] = put_back(self._loaded, normals[batch], drawn, canvas)
        return Altered(images=images, masks=masks)

    def traces(self, normals: Images, masks: Masks) -> Images:
        """The normals as the model's autoencoder gives them back, where the masks are; else as they are."""
        return empty_alteration(self._loaded, normals, masks, self._size)
