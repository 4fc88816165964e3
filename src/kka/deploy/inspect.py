"""A detector's figures on the test set of a task."""

from kka.common.inspection import Row, inspect
from kka.common.pixel_metrics import PixelCounts, count_pixels
from kka.deploy.whole import maps_of, some_of
from kka.protocols import Detector, Localises, Scores
from kka.task import TestSet


def count_test_pixels(detector: Detector, test: TestSet) -> PixelCounts | None:
    """Of the maps of a test set with masks, by a detector that localises; else None. Of whole photos at the size of
    their maps."""
    masks, photos = test.masks, test.photos
    if masks is None or not isinstance(detector, Localises):
        return None
    localises = detector
    return count_pixels(
        len(masks),
        lambda rows: maps_of(localises, some_of(test.pictures, rows)),
        masks.__getitem__ if photos is None else lambda rows: (photos.mask(int(i)) for i in rows),
    )


def inspect_test(detector: Detector, test: TestSet, scores: Scores, threshold: float | None) -> list[Row]:
    """The figures of a test set by kind of defect."""
    pixels = count_test_pixels(detector, test)
    return inspect(scores, test.is_anomaly, test.kinds, threshold=threshold, pixels=pixels, known=test.masked)
