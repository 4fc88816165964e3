"""A sheet of samples: what a drawing model draws, beside real pictures with the same captions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kka.common.files import replacing
from kka.protocols import Images

SCALE = 3
"""Screen pixels to a pixel: 32 of them are a thumbnail."""


def write_sheet(path: Path, real: Images, drawn: Sequence[Images]) -> None:
    """A PNG with a row for each caption: the real picture (of `real`), a gap, then the drawn ones.

    `real`: (r, h, w, 3); `drawn`: r times (k, h, w, 3).
    """
    gap = np.full((real.shape[1], 2, 3), 255, np.uint8)
    rows = [np.concatenate([one, gap, *row], axis=1) for one, row in zip(real, drawn, strict=True)]
    sheet = Image.fromarray(np.concatenate(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, sync=False) as part:
        sheet.resize((SCALE * sheet.width, SCALE * sheet.height), Image.Resampling.NEAREST).save(part)
