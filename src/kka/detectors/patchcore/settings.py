"""PatchCore's settings."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, MinLen

from kka.settings import MAX_SIDE, Count, Natural, NonNegative, Share, Side, Text, Width, settings
from kka.settings.patches import require_fitting


@settings()
class PatchCoreSettings:
    """How PatchCore prepares images and what it remembers of the normals. The defaults are the published ones."""

    size: Side = 256
    """Pixels a side after resizing."""
    crop: Side = 224
    """Pixels a side of the centre that the backbone sees."""
    strides: Annotated[tuple[Annotated[int, Ge(1), Le(MAX_SIDE)], ...], MinLen(1)] = (8, 16)
    """Of the backbone's maps, ascending; the first is the grid of the patches. Published: layers 2 and 3."""
    dimension: Width = 1024
    """Of a patch's feature; a multiple of the number of strides."""
    standardise: bool = False
    """Subtract the normals' mean and divide each stride's part by its deviation, one number for each part, so that \
all strides count alike."""
    share: Annotated[float, Gt(0), Le(1)] = 0.1
    """Of the normals' patches that the bank keeps. Published: 0.25, 0.1 and 0.01."""
    most: Count = 1_000_000
    """Patches that the bank keeps at most."""
    candidates: Count = 1_000_000
    """Patches, as many of each normal, that those of the bank are chosen from: memory for one number of single \
precision for each of them and of `dimension`."""
    projection: Width = 128
    """Dimensions in which patches are compared while the bank is chosen (a random projection)."""
    neighbours: Natural = 9
    """b of the published score: a patch's distance counts less the more the nearest patch of the bank and its own b \
nearest there are alike far from it. 0: distances as they are."""
    score_top: Share = 0.0
    """The score is the mean over this share of the patches, the most anomalous; 0: the maximum, as published."""
    anomaly_weight: NonNegative = 1.0
    """How much nearness to patches of anomalies adds: see `kka.detectors.patchcore.network`."""
    mask_from: Share = 0.1
    """Share of a patch that the mask of an anomaly must cover for the patch to be remembered, where masks are known."""
    device: Text = "auto"

    def __post_init__(self) -> None:
        require_fitting(self)
