"""One picture of strips of pictures with captions, and of text: what a person looks at before the wait."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kka.common.files import replacing

WIDTH, GAP, CELL, COLUMNS = 1180, 12, 128, 8
"""Of the sheet, between its parts, of a picture; pictures in a row. In screen pixels, but for the last."""
SIZE, LINE = 12, 16
TITLE_SIZE, TITLE_LINE = 16, 26
LINES = 6
"""Of a caption below its picture."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Pictures one below the other, and what is written below them."""

    pictures: Sequence[np.ndarray]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of the sheet: a title, cells beside each other, lines of text."""

    title: str
    cells: Sequence[Cell] = ()
    lines: Sequence[str] = ()


def write_sheet_of(path: Path, title: str, blocks: Sequence[Block]) -> None:
    """A PNG of the blocks, from top to bottom. It is whole or not there."""
    small, large = _font(SIZE), _font(TITLE_SIZE)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    across = (WIDTH - GAP) // COLUMNS - GAP

    def wrapped(text: str, width: int) -> list[str]:
        letters = max(4, int(width / (measure.textlength("abcdefghijklmnopqrstuvwxyz ", font=small) / 27)))
        return [line for part in text.split("\n") for line in textwrap.wrap(part, letters) or [""]]

    drawn: list[tuple[int, int, str, bool] | tuple[int, int, Image.Image]] = [(GAP, GAP, title, True)]
    top = GAP + TITLE_LINE + 4
    for block in blocks:
        drawn.append((GAP, top, block.title, True))
        top += TITLE_LINE
        for start in range(0, len(block.cells), COLUMNS):
            bottom = top
            for column, cell in enumerate(block.cells[start : start + COLUMNS]):
                left, at = GAP + column * (across + GAP), top
                for picture in cell.pictures:
                    drawn.append((left, at, _scaled(picture)))
                    at += CELL + 4
                for line in wrapped(cell.caption, across)[:LINES] if cell.caption else ():
                    drawn.append((left, at, line, False))
                    at += LINE
                bottom = max(bottom, at)
            top = bottom + GAP
        for text in block.lines:
            for line in wrapped(text, WIDTH - 2 * GAP):
                drawn.append((GAP, top, line, False))
                top += LINE
        top += GAP
    sheet = Image.new("RGB", (WIDTH, top), "white")
    pen = ImageDraw.Draw(sheet)
    for item in drawn:
        if len(item) == 3:
            sheet.paste(item[2], item[:2])
        else:
            pen.text(item[:2], item[2], "black", large if item[3] else small)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, sync=False) as part:
        sheet.save(part)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """One with Greek and Cyrillic letters, and signs such as ×, which Pillow's own has not."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _scaled(picture: np.ndarray) -> Image.Image:
    """To a cell, as it is: small ones in visible pixels."""
    how = Image.Resampling.NEAREST if max(picture.shape[:2]) <= CELL else Image.Resampling.LANCZOS
    return Image.fromarray(np.ascontiguousarray(picture)).resize((CELL, CELL), how)
