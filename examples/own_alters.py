"""A painter of one's own needs `identity` and `alter`. This one lays tape in the colour that a caption names."""

from collections.abc import Sequence

import numpy as np

import kka
from kka.protocols import Altered

COLOURS = {"red": (200, 40, 40), "blue": (40, 70, 180), "black": (20, 20, 20)}


class Tape:
    """Tape on a photo. Picture i depends on normal i, caption i and seed i alone."""

    identity = "tape-1"  # change it whenever the pictures would change: it is part of the cache's key

    def alter(self, normals: np.ndarray, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
        """The normals (n, h, w, 3) with tape, and masks (n, h, w): 255 where it lies, 0 elsewhere."""
        images, masks = normals.copy(), np.zeros(normals.shape[:3], np.uint8)
        for image, mask, caption, seed in zip(images, masks, captions, seeds, strict=True):
            rng, (h, w) = np.random.default_rng(seed), mask.shape
            top, left = rng.integers(0, max(1, h - h // 8)), rng.integers(0, max(1, w // 2))
            strip = np.s_[top : top + max(1, h // 8), left : left + max(1, w // 2)]
            image[strip] = next((rgb for name, rgb in COLOURS.items() if name in caption), (220, 200, 140))
            mask[strip] = 255
        return Altered(images=images, masks=masks)


if __name__ == "__main__":
    normals = kka.open_task("garden").normals[:3]
    altered = Tape().alter(normals, ["a flower with red tape", "black tape", "tape"], seeds=[1, 2, 3])
    for image, normal, mask in zip(altered.images, normals, altered.masks, strict=True):
        print(f"{(mask > 0).mean():.0%} covered; outside of it as before: {(image == normal)[mask == 0].all()}")
