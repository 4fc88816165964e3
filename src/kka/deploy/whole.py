"""What a detector says of pictures: of squares at once, of whole photos tile by tile.

Tiles are cut, scored and let go in batches: a photo, its map and one batch are in memory, whatever its size.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from PIL import Image

from kka.common.mapped import taken
from kka.common.tiles import PhotoMap, corners, photo_score, tile
from kka.protocols import Detector, Images, Localises, Photos, Pictures, Scores

BATCH = 32
"""Tiles in memory at a time."""


def scores_of(detector: Detector, pictures: Pictures) -> Scores:
    """(n,): higher = more anomalous."""
    if isinstance(pictures, np.ndarray):
        return detector.score(pictures)
    return np.array([photo_score_of(detector, pictures.read(i), pictures) for i in range(len(pictures))], np.float32)


def maps_of(detector: Localises, pictures: Pictures) -> Iterator[Float[np.ndarray, "_h _w"]]:
    """One after the other: of squares at their size, of photos as `kka.common.tiles.map_size` says."""
    if isinstance(pictures, np.ndarray):
        yield from detector.score_map(pictures)
    else:
        for i in range(len(pictures)):
            yield photo_map_of(detector, pictures.read(i), pictures)


def some_of(pictures: Pictures, positions: np.ndarray) -> Pictures:
    """Those at these positions."""
    return taken(pictures, positions) if isinstance(pictures, np.ndarray) else pictures.only(positions.tolist())


def photo_score_of(detector: Detector, photo: Image.Image, cut: Photos) -> float:
    """That of its most anomalous tile. `cut`: what says how large tiles are, and how they overlap."""
    scores = [np.asarray(detector.score(tiles), np.float32) for _, tiles in tiles_of(photo, cut)]
    return photo_score(np.concatenate(scores))


def photo_map_of(detector: Localises, photo: Image.Image, cut: Photos) -> Float[np.ndarray, "h w"]:
    """Those of its tiles, put together without seams. `cut`: as in `photo_score_of`."""
    whole = PhotoMap(photo.size, cut.side, cut.overlap)
    for places, tiles in tiles_of(photo, cut):
        for place, heat in zip(places, detector.score_map(tiles), strict=True):
            whole.add(*place, heat)
    return whole.found


def tiles_of(photo: Image.Image, cut: Photos) -> Iterator[tuple[list[tuple[int, int]], Images]]:
    """Batches of tiles (b, side, side, 3), with their corners."""
    places = corners(photo.size, cut.side, cut.overlap)
    for start in range(0, len(places), BATCH):
        some = places[start : start + BATCH]
        yield some, np.stack([tile(photo, *place, cut.side) for place in some])
