"""What every detector checks before it trains."""

import warnings

import numpy as np

from kka.common.cache import pixel_hash
from kka.common.mapped import taken
from kka.errors import UserError
from kka.protocols import Images, Masks


def checked(
    normals: Images, anomalies: Images | None, *, hard: np.ndarray | None = None
) -> tuple[Images, Images | None, np.ndarray | None]:
    """The normals, the anomalies that contradict none of them (None if there are none), and their `hard` flags.

    See `checked_with_masks` for detectors that take masks.

    An anomaly that is pixel for pixel a normal says that one picture is both; it is left out, with a warning that
    names how many were.

    Raises:
        UserError: arrays that are no RGB images, no normals, or another number of flags than anomalies.
    """
    keep = _kept(normals, anomalies)
    if anomalies is None or keep is None:
        return normals, None, None
    if hard is not None and len(hard) != len(anomalies):
        raise UserError(f"hard: expected a flag for each of the {len(anomalies)} anomalies; got {len(hard)}")
    return normals, taken(anomalies, keep), None if hard is None else hard[keep]


def checked_with_masks(
    normals: Images, anomalies: Images | None, masks: Masks | None
) -> tuple[Images, Images | None, Masks | None]:
    """As `checked`, with the masks of the anomalies in the place of flags.

    Raises:
        UserError: as `checked`; masks that are not uint8 of the shape of the anomalies.
    """
    keep = _kept(normals, anomalies)
    if anomalies is None or keep is None:
        return normals, None, None
    if masks is not None and (masks.dtype != np.uint8 or masks.shape != anomalies.shape[:3]):
        raise UserError(
            f"masks: expected uint8 of shape {anomalies.shape[:3]}, as the anomalies; "
            f"got {masks.dtype} of shape {masks.shape}"
        )
    return normals, taken(anomalies, keep), None if masks is None else taken(masks, keep)


def small_ones(anomalies: Images, masks: Masks, most: float) -> tuple[Images | None, Masks | None]:
    """The anomalies whose masks cover at most the share `most` of them; None where there are none."""
    keep = np.array([(mask > 0).mean() for mask in masks]) <= most
    if not keep.all():
        warnings.warn(
            f"{int((~keep).sum())} of {len(keep)} anomalies are masked over more than {100 * most:g} % of the picture; "
            f"this detector, which learns from patches, leaves them out",
            stacklevel=3,
        )
    return (taken(anomalies, keep), taken(masks, keep)) if keep.any() else (None, None)


def _kept(normals: Images, anomalies: Images | None) -> np.ndarray | None:
    """(m,) bool: the anomalies that are no normals; None where none is left or given."""
    for name, images in (("normals", normals), ("anomalies", anomalies)):
        if images is not None and (images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8):
            raise UserError(
                f"{name}: expected RGB images as an array of uint8 of shape (n, h, w, 3); "
                f"got {images.dtype} of shape {images.shape}"
            )
    if not len(normals):
        raise UserError("normals: expected at least one image to learn from; got none")
    if anomalies is None or not len(anomalies):
        return None
    own = {pixel_hash(image) for image in normals}
    keep = np.array([pixel_hash(image) not in own for image in anomalies])
    if not keep.all():
        warnings.warn(
            f"{int((~keep).sum())} of {len(anomalies)} anomalies are copies of normals, pixel for pixel; "
            f"they were left out",
            stacklevel=4,
        )
    return keep if keep.any() else None
