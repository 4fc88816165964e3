"""A photo that a model drew anew as a whole: what of it was changed, put into the photo."""

import numpy as np

from kka.imaging.canvas import Canvas, fitted_to, put_in
from kka.imaging.changed import Mask, Photo, changed, cleaned, feathered
from kka.imaging.pipelines import LoadedPipeline
from kka.imaging.round_trip import reconstruction
from kka.protocols import Images

VERSION = 1
"""Raise it whenever the masks would change: it is part of the key under which the pictures are kept."""
ROOM = 1
"""Cells of the latent space over which a change falls off into the photo."""


def put_back(
    loaded: LoadedPipeline, normals: Images, drawn: Images, canvas: Canvas
) -> tuple[list[Photo], list[Mask]]:
    """(pictures, masks): what changed by more than the model's own reconstruction of the normal does, and the normal
    to the last bit elsewhere. A spot of less than a cell of the latent space is no change."""
    images, masks = [], []
    for normal, whole in zip(normals, drawn, strict=True):
        own = reconstruction(loaded, normal, canvas)
        region = cleaned(changed(normal, fitted_to(normal, whole), own, canvas.cell), max(4, canvas.cell**2))
        image, mask = put_in(normal, whole, feathered(region, ROOM * canvas.cell))
        images.append(image)
        masks.append(np.asarray(mask))
    return images, masks
