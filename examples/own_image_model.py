"""An image model of one's own needs `identity` and `draw`. This one paints the colour that a caption names."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import kka

COLOURS = {"red": (200, 40, 40), "white": (235, 235, 230), "yellow": (230, 200, 40), "purple": (130, 60, 150)}


class Discs:
    """A disc on green. Picture i depends on caption i and seed i alone."""

    identity = "discs-1"  # change it whenever the pictures would change: it is part of the cache's key

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> np.ndarray:
        """(n, 64, 64, 3) uint8."""
        images = np.empty((len(captions), 64, 64, 3), dtype=np.uint8)
        y, x = np.mgrid[:64, :64]
        for image, caption, seed in zip(images, captions, seeds, strict=True):
            rng = np.random.default_rng(seed)
            image[:] = (70, 120, 60, *rng.integers(-20, 20, (64, 64, 3)))
            cx, cy, radius = rng.uniform(24, 40), rng.uniform(24, 40), rng.uniform(12, 22)
            colour = next((rgb for name, rgb in COLOURS.items() if name in caption), (220, 120, 170))
            image[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = colour
        return images


if __name__ == "__main__":
    config = kka.RunConfig(rounds=0, initial=40)
    task, language_model = kka.open_task("garden"), kka.build_language_model("garden")
    with tempfile.TemporaryDirectory() as folder, kka.Store(Path(folder) / "run", config.as_dict()) as store:
        for r in kka.rounds(task, language_model, Discs(), config=config, store=store):
            for entry in r.pool.entries[:5]:
                print(entry.id, entry.caption)
