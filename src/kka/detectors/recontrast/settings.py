"""ReContrast's settings."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from kka.errors import UserError
from kka.settings import MAX_SIDE, Count, NonNegative, Side, Text, Width, settings

STRIDES = (4, 8, 16)
DEEPEST = 32


@settings()
class ReContrastSettings:
    """How ReContrast is trained and scores. The defaults are the published ones; what concerns anomalies is ours."""

    size: Side = 256
    """Pixels a side; a multiple of 32."""
    iterations: Count = 2000
    batch_size: Width = 16
    learning_rate: NonNegative = 2e-3
    """Of bottleneck and decoder."""
    encoder_learning_rate: NonNegative | None = None
    """None: 1e-5 as published, or 1e-3 without pre-training: a rate for fine-tuning would leave it random."""
    weight_decay: NonNegative = 1e-5
    encoder_batchnorm: Literal["auto", "eval", "train"] = "auto"
    """eval: the trainable encoder keeps its statistics; train: those of each batch, as published. auto: train beside
    anomalies, eval without them: normals of one class alone make for unstable statistics."""
    pooling: Literal["max", "mean"] = "max"
    """From the map to the image's score: max (a defect somewhere) or mean (another thing altogether)."""
    sigma: Annotated[float, Ge(0), Le(MAX_SIDE)] = 4.0
    """Of the Gaussian that smooths the map, in pixels at `size`."""
    anomalies_per_batch: Width = 8
    """Anomalies beside the normals of a batch."""
    margin: NonNegative = 1.0
    """The discrepancy, from 0 to 2, that an anomaly should have at least."""
    anomaly_weight: NonNegative = 1.0
    anomaly_top: Annotated[float, Gt(0), Le(1)] = 1.0
    """Share of the positions, the most distant, that make up an anomaly's discrepancy; 1: the whole map."""
    mask_from: Annotated[float, Ge(0), Le(1)] = 0.1
    """Share of a position that a mask must cover for it to count. An anomaly's discrepancy is that of the positions \
that count, where its mask is known."""
    anomaly_encoder: bool = True
    """Whether the anomalies' term also changes the trainable encoder."""
    device: Text = "auto"

    def __post_init__(self) -> None:
        if self.size % DEEPEST:
            raise UserError(f"size: expected a multiple of {DEEPEST}; got {self.size}")
