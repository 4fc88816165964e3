"""Photos of which a person said what they are, as normals and anomalies to train with: `kka train --reviews FILE`.

A photo is found by its content, where it lay when it was marked, else in the folders around those places and in the
data. None that the test set holds, by its pixels, is trained with.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from kka.common.cache import pixel_hash
from kka.common.files import sha256
from kka.common.images import decode_all
from kka.common.mapped import joined, taken
from kka.common.photos import PhotoFiles
from kka.common.tiles import tile
from kka.common.walk import is_image, printable, walk
from kka.data.tiled import counts_of, with_photos
from kka.deploy.anomalies import Anomalies
from kka.deploy.marks import ANOMALOUS, NO_OPINION, NORMAL, Mark, read_marks
from kka.errors import UserError
from kka.protocols import Images
from kka.task import SetAside, Task

TESTED = "marked, and a photo of the test set, which no detector is trained with"
UNMARKED = "called anomalous, and larger than a tile: without a mask nothing says which of its tiles are anomalous"


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """What a person's marks add to a training, and what they take away."""

    normals: int
    """Photos called normal that the data did not have."""
    anomalies: int
    """Photos called anomalous that were not among the anomalies."""
    no_normals: int
    """Normals of the data that were called anomalous, and are none any more."""
    no_anomalies: int
    """Anomalies that were called normal, and are none any more."""


def read_verdicts(file: Path) -> dict[str, Mark]:
    """SHA-256 -> the last word on each photo that was called normal or anomalous.

    Raises:
        UserError: no file, or none with marks of photos in it.
    """
    if not file.is_file():
        raise UserError(f"reviews: expected the file that kka review --detector-dir wrote; {file} is none")
    marks = read_marks(file)
    if not marks and file.stat().st_size:
        raise UserError(
            f"reviews: expected marks of photos, as kka review --detector-dir writes them; {file} has none. What is "
            "said of the pictures of a run counts with --anomalies RUN"
        )
    return {content: mark for content, mark in marks.items() if mark.said != NO_OPINION}


def with_reviews(
    task: Task, anomalies: Anomalies | None, marks: Mapping[str, Mark], *, folder: Path | None, caption: str | None
) -> tuple[Task, Anomalies | None, Reviewed, list[SetAside]]:
    """The task and the anomalies as a person's marks have them; and the photos that could not be taken up.

    Args:
        folder: Of the data, where a photo that was moved is looked for too.
        caption: Of normals that are added; None: that of most others.

    Raises:
        UserError: too few normals are left.
    """
    files, aside = found_files(marks, folder)
    names = [printable(str(file)) for file in files.values()]
    sources = zip(names, files.values(), strict=True)
    size, where = task.normals.shape[1], "the reviews"
    decoded = decode_all(sources, len(files), size, where=where, white=task.white, fit=task.fit)
    aside += decoded.set_aside
    tested: set[str] = set()
    if task.test is not None:
        photos = task.test.photos
        tested = {pixel_hash(image) for image in task.test.images} if photos is None else {*photos.digests}
    said: dict[str, tuple[int, Mark]] = {}  # by pixels: two files may show one picture, of which the last word counts
    for place, position in enumerate(decoded.kept):
        mark = marks[list(files)[position]]
        key = decoded.digests[place]
        if key in tested:
            aside.append(SetAside(path=names[position], reason=TESTED))
        else:
            said[key] = place, mark
    bad = {key: own for key, own in said.items() if own[1].said == ANOMALOUS}
    hashes = [pixel_hash(image) for image in task.normals]
    if task.photos is not None and task.photo_of is not None:
        hashes = [task.photos.digests[i] for i in task.photo_of]
    own, stays = {*hashes}, np.array([key not in bad for key in hashes], bool)
    new = [place for key, (place, mark) in said.items() if mark.said == NORMAL and key not in own]
    usual = caption or Counter(task.captions).most_common(1)[0][0]
    whole = PhotoFiles(
        files=tuple(list(files.values())[i] for i in decoded.kept), side=size, white=task.white, digests=decoded.digests
    )
    if task.photos is not None:
        updated = with_photos(task, stays, whole.only(new), usual)
    else:
        captions = [text for text, kept in zip(task.captions, stays, strict=True) if kept] + [usual] * len(new)
        normals = joined(taken(task.normals, stays), decoded.images[new])
        updated = replace(task, normals=normals, captions=tuple(captions))
    known: Sequence[str] = []
    if anomalies is not None:
        known = anomalies.digests or [pixel_hash(image) for image in anomalies.images]
    fine = np.array([key in said and key not in bad for key in known], bool)
    others = None if anomalies is None or fine.all() else anomalies.only(~fine)
    added = {key: one for key, one in bad.items() if key not in known}
    images = decoded.images[[place for place, _ in added.values()]]
    if task.photos is not None:
        large = {key for key, (place, _) in added.items() if counts_of(whole.only([place])) != [1]}
        aside += [SetAside(path=names[decoded.kept[place]], reason=UNMARKED) for key, (place, _) in added.items()
                  if key in large]  # fmt: skip
        added = {key: one for key, one in added.items() if key not in large}
        tiles = [tile(whole.read(place), 0, 0, size) for place, _ in added.values()]
        images = np.stack(tiles) if tiles else images[:0]
    gone = [key for key, kept in zip(hashes, stays, strict=True) if not kept]
    found = Reviewed(
        normals=len(new), anomalies=len(added), no_normals=len(gone if task.photos is None else {*gone}),
        no_anomalies=int(fine.sum()),
    )  # fmt: skip
    digests = (*(key for key, left in zip(known, ~fine, strict=True) if left), *added)
    return updated, _joined(others, images, [mark for _, mark in added.values()], digests), found, aside


def found_files(marks: Mapping[str, Mark], folder: Path | None) -> tuple[dict[str, Path], list[SetAside]]:
    """SHA-256 -> a file of this content; and those of which there is none any more."""
    files = {content: Path(mark.path) for content, mark in marks.items() if _is(Path(mark.path), mark)}
    missing = {content: mark for content, mark in marks.items() if content not in files}
    sizes = {mark.bytes for mark in missing.values()}
    for file in _around(missing.values(), folder) if missing else ():
        with suppress(OSError):  # a link to nothing
            if file.stat().st_size in sizes and (content := sha256(file)) in missing:
                files.setdefault(content, file)
    reason = "marked, and not found: neither where it lay, nor in the folders around, nor in the data"
    aside = [SetAside(path=printable(mark.path), reason=reason) for content, mark in missing.items()
             if content not in files]  # fmt: skip
    return {content: files[content] for content in marks if content in files}, aside


def _is(file: Path, mark: Mark) -> bool:
    try:
        return file.stat().st_size == mark.bytes and sha256(file) == mark.sha256
    except OSError:
        return False


def _around(marks: Iterable[Mark], data: Path | None) -> Iterator[Path]:
    """The images near to where the marked photos lay, as people sort them into folders, and all images of the data."""
    for parent in sorted({Path(mark.path).parent for mark in marks}):
        for folder, pattern in product((parent, parent.parent), ("*", "*/*")):
            yield from (file for file in sorted(folder.glob(pattern)) if file.is_file() and is_image(file))
    yield from (file for file in (walk(data).files if data is not None else ()) if is_image(file))


def _joined(
    anomalies: Anomalies | None, images: Images, marks: Sequence[Mark], digests: tuple[str, ...]
) -> Anomalies | None:
    """The anomalies and a person's. Those are hard where the detector took them for normal, and where each is
    anomalous nobody said: where others have masks, theirs cover all."""
    if anomalies is None or not len(images):
        return anomalies if not len(images) else Anomalies(images=images, digests=digests)
    hard, masks = anomalies.hard, anomalies.masks
    if masks is not None:
        warnings.warn(
            f"{len(images)} photos that were marked anomalous have no mask, as the other anomalies have: they count as "
            "anomalous all over, and a detector that learns from patches may leave them out",
            stacklevel=3,
        )
    return replace(
        anomalies,
        images=joined(anomalies.images, images),
        hard=None if hard is None else np.concatenate([hard, [mark.missed for mark in marks]]),
        masks=None if masks is None else joined(masks, np.full(images.shape[:3], 255, np.uint8)),
        digests=digests,
    )
