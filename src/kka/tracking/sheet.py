"""One picture of a round's pictures, with captions: altered normals beside the normal, outlined where they differ."""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kka.algorithm.hardness import is_hard
from kka.report.read import Picture, RoundRecord

MOST = 12
"""Pictures on a sheet, spread evenly from the nearest to the normals to the farthest."""
CELL, GAP, LETTERS, LINES = 128, 8, 11, 3
"""Screen pixels of a picture, between cells, of letters; lines of a caption."""
WIDTH = 800
"""Screen pixels of a sheet, about."""
HARD, EASY = (200, 30, 30), (110, 110, 110)


def round_sheet(record: RoundRecord) -> np.ndarray | None:
    """(h, w, 3), bytes. None: the round made no picture."""
    if not record.pictures:
        return None
    ordered = sorted(record.pictures, key=lambda p: (p.relative is None, p.relative or 0.0, p.row))
    chosen = [ordered[i] for i in np.unique(np.linspace(0, len(ordered) - 1, MOST).round().astype(int))]
    shown = record.views(chosen)
    wide, high = len(shown[0]) * (CELL + 2) + GAP, CELL + (LINES + 1) * (LETTERS + 3) + GAP
    columns = max(1, WIDTH // wide)
    sheet = Image.new("RGB", (columns * wide + GAP, -(-len(chosen) // columns) * high + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    for i, (picture, views) in enumerate(zip(chosen, shown, strict=True)):
        left, top = GAP + i % columns * wide, GAP + i // columns * high
        for k, view in enumerate(views):
            how = Image.Resampling.NEAREST if view.width < CELL else Image.Resampling.LANCZOS
            sheet.paste(view.resize((CELL, CELL), how), (left + k * (CELL + 2), top))
        verdict, colour = _judged(picture)
        draw.text((left, top + CELL + 2), verdict, colour, font)
        letters = max(12, wide // 6)
        text = "\n".join(textwrap.wrap(picture.caption, letters)[:LINES])
        draw.text((left, top + CELL + LETTERS + 5), text, "black", font, spacing=2)
    return np.asarray(sheet)


def _judged(picture: Picture) -> tuple[str, tuple[int, int, int]]:
    if picture.relative is None:
        return "not judged yet", EASY
    hard = bool(is_hard(np.array([picture.relative]))[0])
    return f"{'hard' if hard else 'easy'}, distance {picture.relative:.2f}", HARD if hard else EASY
