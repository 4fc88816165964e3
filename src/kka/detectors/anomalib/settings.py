"""How a model of anomalib is prepared for and trained: what kka says of it, beside the model's own arguments."""

from typing import ClassVar

from kka.errors import UserError
from kka.settings import Epochs, Side, Text, Width, settings


@settings()
class AnomalibSettings:
    """What is said here holds for every model of anomalib; `options` are the model's own."""

    REST: ClassVar[str] = "options"
    """The field that takes what is none of these: see `kka.settings.parsed`."""

    size: Side | None = None
    """Pixels a side that photos are resized to. none: as anomalib does by default for the model, mostly 256."""
    epochs: Epochs | None = None
    """Passes over the normals. none: as in `kka.detectors.anomalib.models`; of models that fill a bank, their own."""
    batch_size: Width | None = None
    """none: 32, as anomalib does by default; 1 for efficient_ad."""
    device: Text = "auto"
    options: tuple[str, ...] = ()
    """Arguments of the model's constructor, as name=value."""

    def __post_init__(self) -> None:
        for text in self.options:
            if "=" not in text:
                raise UserError(f"options: expected name=value, as in num_neighbors=5; got {text!r}")
