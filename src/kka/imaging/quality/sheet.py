"""A sheet to look at: drawn pictures with their captions, a real picture of the same caption, the nearest known one."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kka.common.files import replacing
from kka.protocols import Images

COLUMNS, CELL, GAP, LINES, WIDTH = 4, 96, 8, 4, 52
"""Cells a row; screen pixels of a picture and between two; lines of a caption, and letters in one."""
TITLES = ("drawn", "real, same caption", "nearest known")
SIZE = 10
"""Of the letters, in screen pixels."""


def write_quality_sheet(path: Path, drawn: Images, real: Images, known: Images, captions: Sequence[str]) -> None:
    """A PNG. In each cell three pictures of (n, h, w, 3), in the order of TITLES, and the caption below them."""
    wide, high = 3 * (CELL + 2) + 2 * GAP, CELL + LINES * (SIZE + 3) + GAP
    rows = -(-len(captions) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * wide + GAP, rows * high + SIZE + 2 * GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(SIZE)
    for column in range(COLUMNS):
        for k, title in enumerate(TITLES):
            draw.text((GAP + column * wide + k * (CELL + 2), 3), title, "black", font)
    for i, caption in enumerate(captions):
        left, top = GAP + i % COLUMNS * wide, SIZE + GAP + i // COLUMNS * high
        for k, pictures in enumerate((drawn, real, known)):
            how = Image.Resampling.NEAREST if pictures.shape[1] < CELL else Image.Resampling.LANCZOS
            sheet.paste(
                Image.fromarray(np.ascontiguousarray(pictures[i])).resize((CELL, CELL), how),
                (left + k * (CELL + 2), top),
            )
        text = "\n".join(textwrap.wrap(caption, WIDTH)[:LINES])
        draw.text((left, top + CELL + 2), text, "black", font, spacing=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, sync=False) as part:
        sheet.save(part)
