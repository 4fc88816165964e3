"""SimpleNet's settings."""


from kka.errors import UserError
from kka.settings import settings

ANOMALY_LOSSES = ("patches", "top", "head")


@settings()
class SimpleNetSettings:
    """How SimpleNet prepares images and is trained. The defaults are the published ones."""

    size: int = 329
    """Pixels a side after resizing."""
    crop: int = 288
    """Pixels a side of the centre that the backbone sees."""
    strides: tuple[int, ...] = (8, 16)
    """Of the backbone's maps, ascending; the first is the grid of the patches. Published: layers 2 and 3."""
    dimension: int = 1536
    """Of a patch's feature; a multiple of the number of strides."""
    standardise: bool = False
    """Subtract the normals' mean and divide by their deviation, one number for all dimensions, so that `noise` means \
the same under any backbone."""
    hidden: int = 1024
    """Units of the discriminator."""
    noise: float = 0.015
    """Deviation of the Gaussian noise that turns an adapted normal patch into a negative."""
    noise_weight: float = 1.0
    """Weight of those negatives' loss."""
    margin: float = 0.5
    anomaly_loss: str = "patches"
    """What an anomaly's label says. patches: all its patches are negatives; top: its most anomalous ones are; head: \
an image-level head learns it from pooled features, and its answer is added to the score."""
    anomaly_top: float = 0.1
    """Share of an anomaly's patches that "top" trains on; at least one."""
    score_top: float = 0.0
    """The score is the mean over this share of the patches, the most anomalous; 0: the maximum, as published."""
    epochs: int = 160
    """Passes over the normals. Published: 40 times 4."""
    batch_size: int = 8
    """Normals in a batch; as many anomalies are beside them."""
    learning_rate: float = 2e-4
    """Of the discriminator (Adam, weight decay 1e-5); the adaptor's (AdamW) is half of it."""
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("size", "crop", "dimension", "hidden", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1; got {getattr(self, name)}")
        if self.crop > self.size:
            raise UserError(f"crop: expected at most size, {self.size}; got {self.crop}")
        if not self.strides or list(self.strides) != sorted(set(self.strides)):
            raise UserError(f"strides: expected ascending numbers; got {self.strides}")
        if self.dimension % len(self.strides):
            raise UserError(
                f"dimension: expected a multiple of the number of strides, {len(self.strides)}; got {self.dimension}"
            )
        if self.anomaly_loss not in ANOMALY_LOSSES:
            raise UserError(f"anomaly_loss: expected one of {', '.join(ANOMALY_LOSSES)}; got {self.anomaly_loss!r}")
        for name in ("noise", "noise_weight", "margin", "learning_rate"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}: expected at least 0; got {getattr(self, name)}")
        for name in ("anomaly_top", "score_top"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}: expected a share, 0 to 1; got {getattr(self, name)}")
