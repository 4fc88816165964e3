"""A task whose photos are cut into tiles: what is learnt from are tiles, what is split and measured are photos."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from kka.common.images import Decoded, sizes_of
from kka.common.mapped import empty, joined, taken
from kka.common.photos import PhotoFiles
from kka.common.tiles import corners, tile
from kka.data.request import Split
from kka.errors import UserError
from kka.protocols import Images
from kka.seeding import derive_seed
from kka.task import Task

MOST_BYTES = 2**29
"""Of the tiles that are learnt from; of each photo at least one."""
READERS = 4
"""Photos in memory at full size at a time, at most."""


def photos_of(split: Split, part: Decoded, positions: Sequence[int], *, side: int, white: int) -> PhotoFiles:
    """The photos of a split, of a folder, at these positions, of which `part` holds small views."""
    files = tuple(source for _, source in split.read(positions) if isinstance(source, Path))
    return PhotoFiles(
        files=files, side=side, white=white,
        digests=part.digests, masks=dict(split.masks.values()),
    )  # fmt: skip


def with_tiles(task: Task, normals: PhotoFiles, tested: PhotoFiles | None) -> Task:
    """The task of the photos, whose pictures are small views of them, with tiles to learn from and photos to score.

    Known anomalies are left out: of a photo with a defect nothing says which tiles show it.
    """
    tiles, photo_of, total = sample(normals)
    told = f"{len(normals)} photos of the normal are {total:,} tiles of {normals.side} pixels"
    if len(tiles) < total:
        told += f"; {len(tiles):,} of them, spread evenly over the photos, are learnt from"
    notes = [told]
    scored = 0 if tested is None else sum(counts_of(tested))
    read = {"normals": len(tiles), "test": scored}
    whole = task.details.get("whole")
    if isinstance(whole, dict):  # of photos, where not all were read
        most = max(whole["normals"], MOST_BYTES // tiles[0].nbytes)
        test = 0 if tested is None else round(scored * whole["test"] / max(1, len(tested)))
        whole = {"normals": min(most, round(total * whole["normals"] / len(normals))), "test": test}
    if task.knowledge is not None:
        notes.append(
            f"{len(task.knowledge.images)} known anomalies are not used: nothing says which of their tiles show a "
            "defect. kka train --anomalies FOLDER takes such photos, with masks"
        )
    before = task.details.get("notes", ())
    return replace(
        task, normals=tiles, captions=tuple(task.captions[i] for i in photo_of), photos=normals, photo_of=photo_of,
        knowledge=None, test=None if task.test is None else replace(task.test, photos=tested),
        details={
            **task.details, "notes": [*(before if isinstance(before, list) else []), *notes], "tiles": read,
            **({"whole": whole} if whole else {}),
        },
    )  # fmt: skip


def sample(photos: PhotoFiles) -> tuple[Images, Int[np.ndarray, "n"], int]:
    """Tiles of the photos (n, side, side, 3), of which photo each is (of copies, the first), and how many there are.

    As many of each photo, where it has so many, as together fit `MOST_BYTES`. Which ones depends on the photo's digest
    and on how many are taken alone: a run and a training on the same photos learn from the same tiles.
    """
    side = photos.side
    counts = np.array(counts_of(photos))
    each, most = int(counts.max()), max(len(photos), MOST_BYTES // (3 * side**2))
    while np.minimum(counts, each).sum() > most:
        each -= 1

    def cut(i: int) -> list[np.ndarray]:
        image = photos.read(i)
        places = corners(image.size, side, photos.overlap)
        rng = np.random.default_rng(derive_seed(0, "tiles", photos.digests[i]))
        some = np.sort(rng.permutation(len(places))[:each])
        return [tile(image, x, y, side) for x, y in (places[k] for k in some)]

    tiles = empty((int(np.minimum(counts, each).sum()), side, side, 3))
    photo_of = np.empty(len(tiles), int)
    first: dict[str, int] = {}
    done = 0
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        for i, found in enumerate(pool.map(cut, range(len(photos)))):
            tiles[done : done + len(found)] = found
            photo_of[done : done + len(found)] = first.setdefault(photos.digests[i], i)
            done += len(found)
    return tiles, photo_of, int(counts.sum())


def counts_of(photos: PhotoFiles) -> list[int]:
    """How many tiles each photo has."""
    found = [len(corners(size, photos.side, photos.overlap)) for size in sizes_of(photos.files)]
    if len(found) < len(photos):
        gone = len(photos) - len(found)
        raise UserError(f"{gone} photos could be read before, and now cannot. Are they being moved? Try again")
    return found


def with_photos(task: Task, stays: np.ndarray, more: PhotoFiles, caption: str) -> Task:
    """The task of photos with the normals where `stays` (n,) is true, and with tiles of `more` photos."""
    assert isinstance(task.photos, PhotoFiles) and task.photo_of is not None
    captions = tuple(text for text, kept in zip(task.captions, stays, strict=True) if kept)
    if not len(more):
        return replace(task, normals=taken(task.normals, stays), captions=captions, photo_of=task.photo_of[stays])
    tiles, photo_of, _ = sample(more)
    photos = replace(
        task.photos, files=task.photos.files + more.files, digests=task.photos.digests + more.digests
    )  # fmt: skip
    return replace(
        task, normals=joined(taken(task.normals, stays), tiles), captions=captions + (caption,) * len(tiles),
        photos=photos, photo_of=np.concatenate([task.photo_of[stays], photo_of + len(task.photos)]),
    )  # fmt: skip
