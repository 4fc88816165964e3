"""ReContrast's settings."""


from kka.errors import UserError
from kka.settings import settings

STRIDES = (4, 8, 16)
DEEPEST = 32


@settings()
class ReContrastSettings:
    """How ReContrast is trained and scores. The defaults are the published ones; what concerns anomalies is ours."""

    size: int = 256
    """Pixels a side; a multiple of 32."""
    iterations: int = 2000
    batch_size: int = 16
    learning_rate: float = 2e-3
    """Of bottleneck and decoder."""
    encoder_learning_rate: float | None = None
    """None: 1e-5 as published, or 1e-3 without pre-training: a rate for fine-tuning would leave it random."""
    weight_decay: float = 1e-5
    encoder_batchnorm: str = "auto"
    """eval: the trainable encoder keeps its statistics; train: those of each batch, as published. auto: train beside
    anomalies, eval without them: normals of one class alone make for unstable statistics."""
    pooling: str = "max"
    """From the map to the image's score: max (a defect somewhere) or mean (another thing altogether)."""
    sigma: float = 4.0
    """Of the Gaussian that smooths the map, in pixels at `size`."""
    anomalies_per_batch: int = 8
    """Anomalies beside the normals of a batch."""
    margin: float = 1.0
    """The discrepancy, from 0 to 2, that an anomaly should have at least."""
    anomaly_weight: float = 1.0
    anomaly_top: float = 1.0
    """Share of the positions, the most distant, that make up an anomaly's discrepancy; 1: the whole map."""
    anomaly_encoder: bool = True
    """Whether the anomalies' term also changes the trainable encoder."""
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("size", "iterations", "batch_size", "anomalies_per_batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1; got {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "sigma", "margin", "anomaly_weight"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}: expected at least 0; got {getattr(self, name)}")
        if self.size % DEEPEST:
            raise UserError(f"size: expected a multiple of {DEEPEST}; got {self.size}")
        for name, known in (("encoder_batchnorm", ("auto", "eval", "train")), ("pooling", ("max", "mean"))):
            if getattr(self, name) not in known:
                raise UserError(f"{name}: expected {' or '.join(known)}; got {getattr(self, name)!r}")
        if not 0 < self.anomaly_top <= 1:
            raise UserError(f"anomaly_top: expected a share above 0, up to 1; got {self.anomaly_top}")
