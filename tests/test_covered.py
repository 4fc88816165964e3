"""From the mask of a picture to the share of each cell of a detector's grid."""

import numpy as np
import torch

from kka.detectors.graph import Preprocess, covered


def test_a_cell_is_covered_as_its_pixels_are() -> None:
    """Rows and columns confused, or the crop forgotten, and the wrong patches are negatives."""
    masks = torch.zeros(1, 16, 16, dtype=torch.uint8)
    masks[0, 2:6, 8:12] = 255
    whole = covered(masks, Preprocess(16), (4, 4))[0].numpy()
    expected = np.zeros((4, 4))
    expected[0:2, 2] = 0.5
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    cropped = covered(masks, Preprocess(16, crop=8), (4, 4))[0].numpy()  # rows and columns 4 to 11
    expected = np.zeros((4, 4))
    expected[0, 2:] = 1
    np.testing.assert_allclose(cropped, expected, atol=1e-6)


def test_other_sizes_keep_the_area() -> None:
    """A mask is scaled with its picture."""
    masks = torch.zeros(1, 64, 48, dtype=torch.uint8)
    masks[0, 10:30, 12:36] = 255
    share = float((masks > 0).float().mean())
    for size, grid in ((16, (4, 4)), (96, (7, 7)), (33, (5, 5))):
        assert abs(float(covered(masks, Preprocess(size), grid).mean()) - share) < 0.02
