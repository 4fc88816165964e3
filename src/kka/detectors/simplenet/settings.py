"""SimpleNet's settings."""

from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from kka.settings import MAX_SIDE, Epochs, NonNegative, Share, Side, Text, Width, settings
from kka.settings.patches import require_fitting


@settings()
class SimpleNetSettings:
    """How SimpleNet prepares images and is trained. The defaults are the published ones."""

    size: Side = 329
    """Pixels a side after resizing."""
    crop: Side = 288
    """Pixels a side of the centre that the backbone sees."""
    strides: Annotated[tuple[Annotated[int, Ge(1), Le(MAX_SIDE)], ...], MinLen(1)] = (8, 16)
    """Of the backbone's maps, ascending; the first is the grid of the patches. Published: layers 2 and 3."""
    dimension: Width = 1536
    """Of a patch's feature; a multiple of the number of strides."""
    standardise: bool = False
    """Subtract the normals' mean and divide by their deviation, one number for all dimensions, so that `noise` means \
the same under any backbone."""
    hidden: Width = 1024
    """Units of the discriminator."""
    noise: NonNegative = 0.015
    """Deviation of the Gaussian noise that turns an adapted normal patch into a negative."""
    noise_weight: NonNegative = 1.0
    """Weight of those negatives' loss."""
    margin: NonNegative = 0.5
    anomaly_loss: Literal["patches", "top", "head"] = "patches"
    """What an anomaly's label says. patches: all its patches are negatives; top: its most anomalous ones are; head: \
an image-level head learns it from pooled features, and its answer is added to the score."""
    anomaly_top: Share = 0.1
    """Share of an anomaly's patches that "top" trains on; at least one."""
    mask_weight: NonNegative = 0.1
    """Of the loss of anomalies whose masks are known: the patches that they cover are negatives, and the others teach \
nothing."""
    mask_from: Share = 0.1
    """Share of a patch that a mask must cover for the patch to be a negative."""
    mask_most: Share = 0.25
    """Anomalies whose masks cover more than this share of them are left out: what changes a photo as a whole looks \
like how normal ones differ, patch by patch."""
    score_top: Share = 0.0
    """The score is the mean over this share of the patches, the most anomalous; 0: the maximum, as published."""
    epochs: Epochs = 160
    """Passes over the normals. Published: 40 times 4."""
    batch_size: Width = 8
    """Normals in a batch; as many anomalies are beside them."""
    learning_rate: NonNegative = 2e-4
    """Of the discriminator (Adam, weight decay 1e-5); the adaptor's (AdamW) is half of it."""
    device: Text = "auto"

    def __post_init__(self) -> None:
        require_fitting(self)
