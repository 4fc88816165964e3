"""What every detector checks before it trains."""

import warnings

import numpy as np

from kka.common.cache import pixel_hash
from kka.errors import UserError
from kka.protocols import Images


def checked(
    normals: Images, anomalies: Images | None, *, hard: np.ndarray | None = None
) -> tuple[Images, Images | None, np.ndarray | None]:
    """The normals, the anomalies that contradict none of them (None if there are none), and their `hard` flags.

    An anomaly that is pixel for pixel a normal says that one picture is both; it is left out, with a warning that
    names how many were.

    Raises:
        UserError: arrays that are no RGB images, no normals, or another number of flags than anomalies.
    """
    for name, images in (("normals", normals), ("anomalies", anomalies)):
        if images is not None and (images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8):
            raise UserError(
                f"{name}: expected RGB images as an array of uint8 of shape (n, h, w, 3); "
                f"got {images.dtype} of shape {images.shape}"
            )
    if not len(normals):
        raise UserError("normals: expected at least one image to learn from; got none")
    if anomalies is None or not len(anomalies):
        return normals, None, None
    if hard is not None and len(hard) != len(anomalies):
        raise UserError(f"hard: expected a flag for each of the {len(anomalies)} anomalies; got {len(hard)}")
    own = {pixel_hash(image) for image in normals}
    keep = np.array([pixel_hash(image) not in own for image in anomalies])
    if not keep.all():
        warnings.warn(
            f"{int((~keep).sum())} of {len(anomalies)} anomalies are copies of normals, pixel for pixel; "
            f"they were left out",
            stacklevel=3,
        )
    if not keep.any():
        return normals, None, None
    return normals, anomalies[keep], None if hard is None else hard[keep]
