"""The garden as an image model (Eq. 4): reads a caption, fills in what it leaves open, and draws it."""

from collections.abc import Sequence

import numpy as np

from kka.garden.grammar import parse
from kka.garden.renderer import VERSION, render
from kka.garden.vocabulary import fill
from kka.protocols import Images


class GardenModel:
    """Draws captions at 64x64. Image i depends on caption i and seed i alone."""

    identity = f"garden/{VERSION}"

    def __init__(self) -> None:
        self.ignored_words = 0
        """Words outside the grammar in all captions drawn so far."""

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        """Pictures (n, 64, 64, 3) of `captions`; what a caption does not say is drawn from its seed."""
        if len(captions) != len(seeds):
            raise ValueError(f"seeds: expected one for each of the {len(captions)} captions; got {len(seeds)}")
        flowers = []
        for caption, seed in zip(captions, seeds, strict=True):
            partial, ignored = parse(caption)
            self.ignored_words += ignored
            flowers.append(fill(partial, np.random.default_rng([seed, 3])))
        return render(flowers, seeds)
