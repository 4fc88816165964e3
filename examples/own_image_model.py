"""An image model of one's own needs `identity` and `draw`. This one paints the colour that a caption names.

From the folder that this file lies in:

    kka run --images own_image_model:Discs --drawing.size 48 --drawing.set blur=1 --out runs/discs
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import kka

COLOURS = {"red": (200, 40, 40), "white": (235, 235, 230), "yellow": (230, 200, 40), "purple": (130, 60, 150)}


class Discs:
    """A disc on green. Picture i depends on caption i and seed i alone."""

    def __init__(self, *, size: int = 64, blur: float = 0.0) -> None:
        """What --drawing.size says comes as `size`, where it is taken; what --drawing.set says by its own name."""
        self.size, self.blur = size, blur
        self.identity = f"discs-1-{size}-{blur}"  # of the cache's key: as the pictures change, so must it

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> np.ndarray:
        """(n, h, w, 3), uint8, RGB, of one size. kka brings them to the size of the normals."""
        images = np.empty((len(captions), self.size, self.size, 3), dtype=np.uint8)
        y, x = np.mgrid[: self.size, : self.size] / self.size
        for i, (caption, seed) in enumerate(zip(captions, seeds, strict=True)):
            rng = np.random.default_rng(seed)
            images[i] = np.array([70, 120, 60]) + rng.integers(-20, 20, (self.size, self.size, 3))
            cx, cy, radius = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6), rng.uniform(0.2, 0.35)
            colour = next((rgb for name, rgb in COLOURS.items() if name in caption), (220, 120, 170))
            images[i][(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = colour
            if self.blur:
                images[i] = np.asarray(Image.fromarray(images[i]).filter(ImageFilter.GaussianBlur(self.blur)))
        return images


if __name__ == "__main__":
    config = kka.RunConfig(rounds=0, initial=40)
    task, language_model = kka.open_task("garden"), kka.build_language_model("garden")
    with tempfile.TemporaryDirectory() as folder, kka.Store(Path(folder) / "run", config.as_dict()) as store:
        for r in kka.rounds(task, language_model, Discs(), config=config, store=store):
            for entry in r.pool.entries[:5]:
                print(entry.id, entry.caption)
