"""The size at which a pipeline draws on a photo, and the way there and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kka.algorithm.pictures import unusable
from kka.errors import UserError
from kka.imaging.changed import Mask, Photo, composite
from kka.imaging.pipelines import SIDE, LoadedPipeline
from kka.protocols import Images

Drawn = UInt8[np.ndarray, "_h _w 3"]
"""At the size of the canvas."""
USUAL_SIDE = 1024
"""Where a pipeline does not say at what size it draws: that of most with a transformer."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Pixels at which photos of one size are drawn on."""

    height: int
    width: int
    cell: int
    """Of the photo, in pixels: what one place of the model's latent space covers, rounded up."""

    def enlarged(self, photo: np.ndarray) -> Image.Image:
        """A photo, or a mask of bytes, at the canvas' size."""
        image = Image.fromarray(np.ascontiguousarray(photo))
        way = Image.Resampling.LANCZOS if photo.ndim == 3 else Image.Resampling.NEAREST
        return image.resize((self.width, self.height), way)

    def call_size(self, has: Any) -> dict[str, int]:
        """The arguments for it, of those that a pipeline has (Flux Kontext changes sizes unless it is told not to)."""
        wanted = {"height": self.height, "width": self.width, "max_area": self.height * self.width}
        wanted |= {"_auto_resize": False}
        return {name: value for name, value in wanted.items() if name in has}


def canvas_for(loaded: LoadedPipeline, photo: tuple[int, ...], size: tuple[int, int] | None) -> Canvas:
    """For photos of `photo` = (height, width) pixels.

    Args:
        size: As asked for; None: as many pixels as the pipeline draws unasked, in the photo's proportions.
    """
    pipeline = loaded.pipeline
    scale = int(getattr(pipeline, "vae_scale_factor", 1))
    if size is None:
        side, grid = _own_side(pipeline, scale), max(SIDE, 2 * scale)  # transformers take latents two by two
        stretch = sqrt(photo[0] / photo[1])
        size = tuple(max(grid, round(s / grid) * grid) for s in (side * stretch, side / stretch))  # type: ignore[assignment]
    assert size is not None
    cell = ceil(max(scale * p / s for p, s in zip(photo, size, strict=True)))
    return Canvas(height=size[0], width=size[1], cell=max(1, cell))


def put_in(normal: Photo, drawn: Drawn, mask: Mask) -> tuple[Photo, Mask]:
    """(picture, mask) of what was drawn at another size. What shows nothing, as a refused picture, stays so: its one
    colour says why, and covers everything."""
    if unusable(drawn):
        return np.broadcast_to(drawn[0, 0], normal.shape).copy(), np.full(mask.shape, 255, np.uint8)
    return composite(normal, fitted_to(normal, drawn), mask), mask


def fitted_to(normal: Photo, drawn: Drawn) -> Photo:
    """What was drawn, at the normal's size, with antialiasing."""
    height, width = normal.shape[:2]
    return np.asarray(Image.fromarray(drawn).resize((width, height), Image.Resampling.LANCZOS))


def require_each(name: str, normals: Images, captions: Sequence[str], seeds: Sequence[int]) -> None:
    """Raises UserError where there is not a caption and a seed for each normal."""
    if not len(normals) == len(captions) == len(seeds):
        raise UserError(
            f"{name}: expected a normal, a caption and a seed for each picture; "
            f"got {len(normals)}, {len(captions)} and {len(seeds)}"
        )


def _own_side(pipeline: Any, scale: int) -> int:
    """Pixels a side that a pipeline draws unasked."""
    config = getattr(getattr(pipeline, "unet", None), "config", None)
    cells = getattr(config, "sample_size", None) or getattr(pipeline, "default_sample_size", None)
    if cells is None:
        return USUAL_SIDE
    return round(sqrt(cells[0] * cells[1]) if isinstance(cells, list | tuple) else cells) * scale
