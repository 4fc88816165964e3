"""How an image model draws (Eq. 4)."""

from kka.settings import Few, Number, Side, Text, Width, settings


@settings("drawing")
class DrawingSettings:
    """How the image model draws (Eq. 4). What is not set is left to the model; what it does not know is refused."""

    steps: Few | None = None
    """diffusers: denoising steps."""
    guidance: Number | None = None
    """diffusers: classifier-free guidance."""
    size: Side | tuple[Side, Side] | None = None
    """diffusers, openai: side, or height and width, in pixels at which it draws. bank:<folder>: side at which its \
pictures are kept."""
    batch_size: Width | None = None
    """diffusers: pictures at once."""
    negative_prompt: str | None = None
    """diffusers: what the pictures should not show."""
    embedding: Text | None = None
    """bank: hf:<sentence encoder> in the place of TF-IDF."""
    set: tuple[str, ...] = ()
    """Of your own image model: arguments of its constructor, as name=value."""

    @property
    def height_width(self) -> tuple[int, int] | None:
        """`size` as two numbers."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size
