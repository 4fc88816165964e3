"""Which pretrained network a detector looks through, as timm names it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from kka.errors import UserError
from kka.settings import Number, Positive, Text, settings

HUB, RANDOM = "hub", "random"


def _channels(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) else value


Means = Annotated[tuple[Number, ...], BeforeValidator(_channels)]
Deviations = Annotated[tuple[Positive, ...], BeforeValidator(_channels)]
"""One number, or three of RGB."""


@settings("backbone")
class BackboneSettings:
    """Of simplenet, recontrast and patchcore: which backbone, with which weights, and how its input is prepared."""

    name: Text = "wide_resnet50_2.tv_in1k"
    """A timm architecture, with the tag of its weights if they come from the hub."""
    weights: Text = HUB
    """hub (downloaded by timm), a .safetensors file of the whole model, or random."""
    padding: Literal["same"] | None = None
    """same: TensorFlow's padding, for weights that were trained with it. none: the architecture's own."""
    mean: Means | None = None
    """Of the input in 0 to 1; one number or three. none: the architecture's, by timm."""
    std: Deviations | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            if value is not None and len(value) not in (1, 3):
                raise UserError(f"backbone.{name}: expected one number or three, of RGB; got {len(value)}")
