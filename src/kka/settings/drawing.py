"""How an image model draws (Eq. 4)."""

from typing import Annotated, Literal

from annotated_types import Gt, Le

from kka.settings import Few, NonNegative, Number, Side, Text, Width, settings

Economy = Literal["offload", "vae-slicing", "vae-tiling", "8bit", "4bit", "compile"]
"""offload: each part lies on the GPU only while it works. vae-slicing: the autoencoder takes one picture at a time.
vae-tiling: and each in tiles. 8bit, 4bit: the large parts are quantised as they are loaded, by bitsandbytes. compile:
the repeated blocks are compiled, which takes minutes once."""


@settings("drawing")
class DrawingSettings:
    """How the image model draws (Eq. 4). What is not set is left to the model; what it does not know is refused."""

    steps: Few | None = None
    """diffusers, inpaint, img2img, edit: denoising steps. Default: what the model's own files say it is made for."""
    guidance: Number | None = None
    """diffusers, inpaint, img2img, edit: classifier-free guidance. Default: as steps."""
    true_cfg_scale: NonNegative | None = None
    """diffusers, inpaint, img2img, edit: guidance by a second pass with the negative prompt, of pipelines whose \
guidance is distilled into the model (Flux)."""
    image_guidance_scale: NonNegative | None = None
    """edit: how much the picture stays the photo, of pipelines that have it (InstructPix2Pix)."""
    strength: Annotated[float, Gt(0), Le(1)] | None = None
    """inpaint, img2img: how far from the photo, 1 being all the way; steps × strength steps are run. Default: the \
pipeline's own."""
    size: Side | tuple[Side, Side] | None = None
    """diffusers, openai, inpaint, img2img, edit: side, or height and width, in pixels at which it draws. \
bank:<folder>: side at which its pictures are kept."""
    batch_size: Width | None = None
    """diffusers, inpaint, img2img: pictures at once."""
    negative_prompt: str | None = None
    """diffusers, inpaint, img2img, edit: what the pictures should not show. It has an effect at a guidance above 1."""
    economy: tuple[Economy, ...] = ()
    """diffusers, inpaint, img2img, edit: what a large model does for a small GPU: offload, vae-slicing, vae-tiling, \
8bit, 4bit, compile."""
    embedding: Text | None = None
    """bank: hf:<sentence encoder> in the place of TF-IDF."""
    set: tuple[str, ...] = ()
    """Of your own image model: arguments of its constructor, as name=value."""

    @property
    def height_width(self) -> tuple[int, int] | None:
        """`size` as two numbers."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size
