"""How Deep SAD is trained (Eq. 5), as evaluator and as detector."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Gt, Lt

from kka.settings import Epochs, NonNegative, Passes, Positive, Text, Width, settings


@settings("sad")
class DeepSADSettings:
    """Deep SAD, as evaluator and as detector (Eq. 5)."""

    epochs: Epochs = 40
    """Passes over normals and anomalies. Published: 150 to 300, at a learning rate of 1e-4."""
    learning_rate: Positive = 3e-4
    """Published: 1e-4, which needs more epochs. At 1e-3 the anomalies' term makes AUROC swing by ten points between \
epochs, and the more so the more anomalies there are."""
    milestones: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.75,)
    """Shares of the epochs at which the learning rate falls to a tenth."""
    batch_size: Width = 32
    weight_decay: NonNegative = 5e-7
    """lambda of Eq. 5."""
    eta: NonNegative = 1.0
    """Weight of the anomalies' term."""
    hard_weight: NonNegative = 1.0
    """Weight of a hard anomaly beside an easy one's 1, where it is known which are hard (Eq. 6)."""
    max_anomaly_ratio: Positive | None = None
    """Guard for few normals: an epoch takes at most so many anomalies for each normal, drawn anew each time. None: \
all of them, every epoch."""
    pretrain_epochs: Passes = 0
    """Passes of the autoencoder that gives the first weights; 0: random ones, which measured better."""
    pretrain_learning_rate: Positive = 1e-3
    pretrain_weight_decay: NonNegative = 5e-4
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """fp32, bf16 (autocast; weights stay fp32), or auto: bf16 on CUDA, fp32 elsewhere. Scores are fp32."""
    device: Text = "auto"

    @property
    def falls(self) -> tuple[int, ...]:
        """The epochs at which the learning rate falls."""
        return tuple(math.floor(share * self.epochs + 1e-9) for share in self.milestones)


def with_shares(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings in which milestones may be epochs, as before they were shares: with shares."""
    if "milestones" not in stored:
        return dict(stored)
    epochs = stored.get("epochs", 40)
    return {**stored, "milestones": [m / epochs if m >= 1 else m for m in stored["milestones"] if m < epochs]}
