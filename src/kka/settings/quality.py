"""How the quality of an image model is measured."""

from typing import Annotated

from annotated_types import Ge, Le

from kka.settings import Seed, Text, settings


@settings()
class QualitySettings:
    """How many pictures are drawn and compared, and by which seed."""

    pictures: Annotated[int, Ge(20), Le(100_000)] = 500
    """Drawn, one for each of as many held-out captions; as many held-out real pictures stand beside them, and as many \
again to compare both with. Fewer where fewer are held out."""
    seed: Seed = 0
    """Of the choice of held-out pictures and captions, and of what is drawn."""
    device: Text = "auto"
    """Of the backbone."""
