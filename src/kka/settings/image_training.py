"""How a small image model is trained on captioned pictures."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from kka.errors import UserError
from kka.settings import Count, Few, PartialShare, Seed, Share, Text, Width, settings


@settings()
class ImageTrainingSettings:
    """The small drawing model: an autoencoder, a text encoder and a UNet, trained from nothing by flow matching."""

    size: Literal[32, 64] = 32
    """Side in pixels of the pictures that it learns from and draws."""
    steps: Count = 2500
    """Of text encoder and UNet: the default takes about an hour of one CPU core at 32 pixels a side."""
    autoencoder_steps: Count = 6000
    """Of the autoencoder, which is trained first, with an eighth of the pictures a step: many small steps serve it."""
    batch_size: Width = 64
    """Pictures a step."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    """Reached after a warm-up; it falls over the second half of the steps."""
    width: Annotated[int, Ge(16), Le(512)] = 64
    """A multiple of 16: channels of the UNet on 8 x 8 places; half as many on 16 x 16, twice as many on 4 x 4 and in
    the text encoder."""
    caption_dropout: PartialShare = 0.1
    """Share of the pictures shown without their caption: classifier-free guidance needs both."""
    ema: Annotated[float, Gt(0), Lt(1)] = 0.999
    """Decay a step of the mean of the weights, which is what is kept."""
    vocabulary: Annotated[int, Ge(512), Le(100_000)] = 2048
    """Most tokens that the tokenizer may have beyond single letters."""
    drawing_steps: Few = 20
    """Denoising steps, and `guidance`: how the model draws where drawing.steps and drawing.guidance do not say."""
    guidance: Annotated[float, Ge(1), Le(100)] = 2.0
    flips: Share = 0.5
    """Share of the pictures that are shown mirrored."""
    save_every: Count = 250
    """Steps from one checkpoint to the next: what a kill may cost."""
    sample_every: Count = 500
    """Steps from one sheet of samples to the next."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """fp32, bf16 (autocast; weights stay fp32), or auto: bf16 on CUDA, fp32 elsewhere."""
    device: Text = "auto"
    seed: Seed = 0
    """Of weights, order, noise: equal seeds give equal models on one machine with one thread count."""

    def __post_init__(self) -> None:
        if self.width % 16:
            raise UserError(f"configuration: expected width to be a multiple of 16; got width = {self.width}")
