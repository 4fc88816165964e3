"""Whole photos in files, as tiles are cut from them: see `kka.protocols.Photos`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from kka.common.masks import read_mask
from kka.common.opened import ImageError, read_whole
from kka.common.pixels import WHITE
from kka.common.tiles import MAP_SIDE, OVERLAP
from kka.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PhotoFiles:
    """Photos by their files."""

    files: tuple[Path, ...]
    side: int
    white: int = WHITE
    """Of 16-bit grey."""
    overlap: float = OVERLAP
    digests: tuple[str, ...] = ()
    masks: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    """File -> those of its masks."""

    def __len__(self) -> int:
        return len(self.files)

    def only(self, positions: Sequence[int]) -> "PhotoFiles":
        """Those at these positions, in this order."""
        digests = tuple(self.digests[i] for i in positions) if self.digests else ()
        return replace(self, files=tuple(self.files[i] for i in positions), digests=digests)

    def read(self, position: int) -> Image.Image:
        """The photo, RGB, the right way up. Raises UserError where it can no longer be read."""
        try:
            return read_whole(self.files[position], self.white).image
        except ImageError as error:
            raise UserError(f"{self.files[position]} could be read before, and now cannot: {error}") from error

    def mask(self, position: int) -> Bool[np.ndarray, "h w"] | None:
        """What its masks mark, at the size of its map; None where there are none that can be read."""
        files = self.masks.get(self.files[position], ())
        return read_mask(files, self.files[position], MAP_SIDE, "tile") if files else None
