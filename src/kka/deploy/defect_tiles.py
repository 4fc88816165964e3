"""Photos of defects with masks, as tiles to learn from: those that show what is marked."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kka.common.images import clipped_reason, first_few
from kka.common.masks import read_mask
from kka.common.opened import ImageError, read_whole, whole_hash
from kka.common.photos import PhotoFiles
from kka.common.tiles import corners, inner, tile
from kka.common.walk import printable
from kka.data.layout import read_layout
from kka.protocols import Images, Masks
from kka.task import SetAside


@dataclass(frozen=True, kw_only=True)
class DefectTiles:
    """Tiles (m, side, side, 3), where each is anomalous, and the digest of the photo that it was cut from."""

    images: Images
    masks: Masks | None
    """None: no photo has a mask."""
    digests: tuple[str, ...]
    set_aside: tuple[SetAside, ...]


def tiles_of_defects(source: Path, side: int, white: int) -> DefectTiles:
    """Of the photos in a folder the tiles that show what their masks mark.

    A tile shows it where a mask touches its inner part (`kka.common.tiles.inner`): each marked pixel lies in that of
    some tile, and no tile enters for a sliver at its edge. The other tiles are dropped: they are normal only if all
    that is wrong with a photo was marked, and of normals there is enough. A photo that is one tile needs no mask; a
    larger one without is left out, and a warning counts them.

    Raises:
        UserError: a folder without photos.
    """
    layout = read_layout(source)
    files = layout.photos
    return tiles_of_photos(
        PhotoFiles(
            files=tuple(files.values()), side=side, white=white,
            masks={file: layout.mask_files(path) for path, file in files.items()},
        ),
        where=str(source),
    )  # fmt: skip


def tiles_of_photos(photos: PhotoFiles, *, where: str) -> DefectTiles:
    """As `tiles_of_defects`, of these photos; `where`: as warnings call them."""
    tiles: list[np.ndarray] = []
    marks: list[np.ndarray | None] = []
    digests: list[str] = []
    bad: list[SetAside] = []
    clipped: list[SetAside] = []
    unmarked = 0
    for file in photos.files:
        name = printable(str(file))
        try:
            whole = read_whole(file, photos.white)
        except ImageError as error:
            bad.append(SetAside(path=name, reason=str(error)))
            continue
        if whole.largest > photos.white:
            clipped.append(SetAside(path=name, reason=clipped_reason(photos.white)))
        found = _showing(whole.image, file, photos.masks.get(file, ()), photos)
        unmarked += not found
        tiles += [image for image, _ in found]
        marks += [mask for _, mask in found]
        digests += [whole_hash(whole.image)] * len(found)
    side = photos.side
    if unmarked:
        warnings.warn(
            f"anomalies: {unmarked} of {len(photos)} photos in {where} are larger than a tile of {side} pixels "
            "and have no mask that marks something, so that nothing says where they are anomalous; they were left out",
            stacklevel=3,
        )
    if clipped:
        warnings.warn(f"anomalies: {first_few(clipped)}", stacklevel=3)
    everywhere = np.full((side, side), 255, np.uint8)
    known = [everywhere if mask is None else mask for mask in marks]
    return DefectTiles(
        images=np.stack(tiles) if tiles else np.zeros((0, side, side, 3), np.uint8),
        masks=np.stack(known) if any(mask is not None for mask in marks) else None,
        digests=tuple(digests), set_aside=tuple(bad),
    )  # fmt: skip


def _showing(
    photo: Image.Image, file: Path, masks: tuple[Path, ...], cut: PhotoFiles
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """The tiles of a photo that show something, each with what is marked of it, 0 or 255; None: there is no mask."""
    side, overlap = cut.side, cut.overlap
    places = corners(photo.size, side, overlap)
    mask = read_mask(masks, file, max(photo.size), "tile") if masks else None
    if mask is None:
        return [(tile(photo, 0, 0, side), None)] if len(places) == 1 else []
    drawn = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    found: list[tuple[np.ndarray, np.ndarray | None]] = []
    for place in places:
        marked = tile(drawn, *place, side)
        columns, rows = (inner(start, length, side, overlap) for start, length in zip(place, photo.size, strict=True))
        if marked[rows, columns].any():
            found.append((tile(photo, *place, side), marked))
    return found
