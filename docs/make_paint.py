"""Writes the sheets of docs/paint.md, each family of `paint` on three kinds of photos: `python docs/make_paint.py`."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from kka.defects.vocabulary import FAMILIES
from kka.garden.renderer import render
from kka.garden.tasks import NORMALS
from kka.imaging.paint.painter import Paint
from kka.imaging.paint.shapes import noise, streaks

FIGURES = Path(__file__).parent / "figures"
SIDE, GAP, LABEL = 112, 2, 84
STRENGTHS = ("faint", "clear", "obvious")
SHEETS = {
    "lines": ("crack", "scratch", "fiber", "hair", "speck"),
    "relief": ("hole", "pit", "dent", "bubble", "deformation"),
    "surface": ("stain", "spill", "rust", "discoloration", "fading", "light", "coating"),
    "parts": ("chip", "burr", "missing", "doubled", "shifted", "turned", "blur", "misprint", "texture"),
}
"""Sheet -> its rows."""


def metal(seed: int) -> np.ndarray:
    """A brushed plate: fine streaks along it, wide bands of light."""
    rng = np.random.default_rng(seed)
    brushed = 9 * streaks(SIDE, SIDE, 3, np.pi / 2, rng) + 5 * noise(SIDE, SIDE, 4, rng, 2)
    light = 14 * streaks(SIDE, SIDE, 50, np.pi / 2, rng) + 12 * noise(SIDE, SIDE, 90, rng, 1)
    grey = 118 + brushed + light + rng.normal(0, 2.5, (SIDE, SIDE))
    return np.clip(np.repeat(grey[..., None], 3, axis=2), 0, 255).astype(np.uint8)


def stone(seed: int) -> np.ndarray:
    """A tile of grained stone with a printed line."""
    rng = np.random.default_rng(seed)
    grain = 16 * noise(SIDE, SIDE, 10, rng, 4) + 10 * noise(SIDE, SIDE, 45, rng, 2) + rng.normal(0, 5, (SIDE, SIDE))
    color = np.array([172, 158, 138]) + grain[..., None] * np.array([1.0, 0.95, 0.85])
    image = np.clip(color, 0, 255).astype(np.uint8)
    cv2.rectangle(image, (SIDE // 7, SIDE // 7), (SIDE - SIDE // 7, SIDE - SIDE // 7), (92, 96, 112), 2, cv2.LINE_AA)
    cv2.circle(image, (SIDE // 2, SIDE // 2), SIDE // 7, (92, 96, 112), 2, cv2.LINE_AA)
    return image


def flower(seed: int) -> np.ndarray:
    """A flower of the garden, as photos of objects on a background are."""
    drawn = render([NORMALS["windflower"].draw(np.random.default_rng([4, seed]))], [seed])[0]
    return cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def row(name: str, number: int) -> Image.Image:
    """One family at three strengths on three photos, with its name."""
    noun = (FAMILIES[name].nouns or FAMILIES[name].masses)[0]
    strip = Image.new("RGB", (LABEL + 9 * (SIDE + GAP), SIDE + GAP), "white")
    ImageDraw.Draw(strip).multiline_text((4, SIDE // 2 - 12), noun.replace(" ", "\n"), fill="black")
    for k, photo in enumerate((metal(number), stone(number), flower(number + 3))):
        for i, strength in enumerate(STRENGTHS):
            altered = Paint().alter(photo[None], [f"a {strength} large {noun}"], seeds=[10 * number + k])
            strip.paste(Image.fromarray(altered.images[0]), (LABEL + (3 * k + i) * (SIDE + GAP), 0))
    return strip


def main() -> None:
    """Write the sheets, in 256 colours each."""
    assert sorted(sum(SHEETS.values(), ())) == sorted(FAMILIES)
    number = 0
    for sheet, names in SHEETS.items():
        rows = []
        for name in names:
            number += 1
            rows.append(row(name, number))
        whole = Image.new("RGB", (rows[0].width, len(rows) * rows[0].height), "white")
        for i, strip in enumerate(rows):
            whole.paste(strip, (0, i * strip.height))
        whole.quantize(256, dither=Image.Dither.NONE).save(FIGURES / f"paint-{sheet}.png", optimize=True)


if __name__ == "__main__":
    main()
