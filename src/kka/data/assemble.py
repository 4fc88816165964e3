"""From lists of named, classed, captioned pictures to a `Task`: what Parquet files and image folders share.

Here the wall stands between training and test: what nothing may know is never decoded, and training pictures that
are pixel for pixel a test picture are removed. The test set itself is never touched.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from kka.common.cache import pixel_hash
from kka.common.images import (
    DEFAULT_SIZE,
    Decoded,
    ImageError,
    Source,
    clipped_reason,
    decode,
    decode_all,
    decode_in_own_range,
    first_few,
    range_note,
)
from kka.common.masks import look_at, read_mask
from kka.data.layout import GOOD
from kka.data.split import choose_caption, seen_mask, withhold
from kka.errors import UserError
from kka.protocols import Images
from kka.seeding import derive_seed
from kka.settings.fit import Fit
from kka.task import MIN_NORMALS, Knowledge, SetAside, Task, TestSet

TEST_SHARE = 0.2
"""Of the normals, held out for a test set that has anomalies alone."""
MAX_NATIVE_SIZE = 256
"""Pictures of one size are kept at that size up to this side, in pixels."""
DOMAINS = {
    "oxford102": "flowers",
    "ucm_caption": "aerial views of land",
    "cifar100": "photos of objects",
}
"""What well-known data sets show, by the name of their folder."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for: the arguments of `kka.data.open_task`."""

    source: str
    normal: tuple[str, ...] = ()
    unseen: float = 0.0
    describe: str | None = None
    domain: str | None = None
    size: int | None = None
    fit: Fit | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Split:
    """The pictures of one side, training or test, not yet decoded."""

    where: str
    """As errors name it."""
    paths: tuple[str, ...]
    kinds: tuple[str, ...]
    """The class of each picture."""
    captions: tuple[tuple[str, ...], ...]
    """The captions of each picture, at least one. Of the test pictures: none, they are never read."""
    read: Callable[[Sequence[int]], Iterable[Source]]
    """Names and files (or content) of the pictures at these ascending positions, read as they are asked for."""
    masks: Mapping[str, tuple[Path, tuple[Path, ...]]] = field(default_factory=dict)
    """Path -> the file of the picture and those of its masks, where it has any."""


def template(kind: str) -> str:
    """The caption of a picture of which only the class is known."""
    return f"a photo of a {kind}"


def assemble(
    request: Request,
    folder: Path,
    train: Split,
    test: Split | None,
    *,
    normal: set[str],
    native_size: bool,
    set_aside: Sequence[SetAside] = (),
    layout: str = "",
    shapes: str = "",
    notes: Sequence[str] = (),
) -> Task:
    """Split by class, decode, remove what the test holds from the training side, and build the task.

    `native_size`: without a size in the request, keep the size that the pictures have, if it is one. `layout`: what was
    taken as what, in one line; `shapes`: how the pictures became squares. A test set of anomalies alone takes a share
    of the normals, which train nothing.
    """
    notes = list(notes)
    train, test = _hold_out(train, test, normal, request.seed, notes)
    if request.unseen and not {*train.kinds} - normal:
        raise UserError(
            f"unseen: {request.source} has no training images of classes other than the normal, so none can be "
            f"withheld; got {request.unseen}. Leave it out."
        )
    classes_by_side = sides_of({*train.kinds}, {*(test.kinds if test else ())}, normal, request.unseen, request.seed)
    known = classes_by_side["known"]
    _refuse_one_sided(test, normal)
    rows = {
        "normals": [i for i, kind in enumerate(train.kinds) if kind in normal],
        "knowledge": [i for i, kind in enumerate(train.kinds) if kind in set(known)],
    }
    fit = request.fit or "crop"
    parts = _decode_parts(request.size, fit, native_size, train, test, rows)
    removed = _remove_duplicates(parts, train, test, rows)
    kept = {side: [rows[side][j] for j in part.kept] for side, part in parts.items() if side in rows}
    aside = (*set_aside, *(s for part in parts.values() for s in part.set_aside), *removed)
    ours = {train.paths[i] for i in rows["normals"]}
    lost = [*set_aside, *parts["normals"].set_aside, *(s for s in removed if s.path in ours)]
    _refuse_too_few(len(kept["normals"]), lost, request.source)
    normals = parts["normals"].images
    _refuse_copies_of_one(normals, request.source, notes)
    tested = _test_set(parts["test"], test, normal, known, request.unseen, fit, notes) if test else None
    name = folder.resolve().name
    classes = "" if normal == {GOOD} else f": {_list_briefly(sorted(normal))}"
    details: dict[str, object] = {
        "classes": classes_by_side,
        "images": {
            "normals": len(normals),
            "knowledge": len(kept["knowledge"]),
            "test_normal": int((~tested.is_anomaly).sum()) if tested else 0,
            "test_anomalies": int(tested.is_anomaly.sum()) if tested else 0,
            "set_aside": len(aside),
        },
        "size": normals.shape[1],
        "duplicates_removed": len(removed),
        **({"layout": layout} if layout else {}),
        **({"shapes": shapes} if shapes else {}),
        "notes": [*notes, *_range_notes(parts, request.source)],
    }
    return Task(
        name=name + classes,
        normals=normals,
        captions=tuple(choose_caption(train.captions[i], request.seed, train.paths[i]) for i in kept["normals"]),
        domain=request.domain or DOMAINS.get(name.lower(), "images"),
        test=tested,
        knowledge=_knowledge(parts["knowledge"].images, train, kept["knowledge"]) if kept["knowledge"] else None,
        set_aside=aside,
        source=request.source,
        details=details,
        white=parts["normals"].white,
        fit=fit,
    )


def sides_of(
    train: Collection[str], test: Collection[str], normal: Collection[str], unseen: float, seed: int
) -> dict[str, list[str]]:
    """The classes by what a model may know of them: normal, known (of training pictures) and withheld; each sorted."""
    withheld = withhold(({*train} | {*test}) - {*normal}, unseen, seed)
    known = sorted({*train} - {*normal} - {*withheld})
    return {"normal": sorted(normal), "known": known, "withheld": list(withheld)}


def _hold_out(
    train: Split, test: Split | None, normal: set[str], seed: int, notes: list[str]
) -> tuple[Split, Split | None]:
    """Both sides; where the test has anomalies alone, with a share of the normals moved there, chosen by path and seed.

    Without a test set where too few normals would be left to train with.
    """
    if test is None or any(kind in normal for kind in test.kinds):
        return train, test
    normals = [i for i, kind in enumerate(train.kinds) if kind in normal]
    share = min(max(1, round(TEST_SHARE * len(normals))), len(normals) - MIN_NORMALS)
    if share < 1:
        notes.append(
            f"no test set after all: it has {len(test.paths)} anomalies and no normals, and of the {len(normals)} to "
            f"learn from none can be spared. Add photos of the normal, for {MIN_NORMALS + 1} or more"
        )
        return train, None
    ranked = sorted(normals, key=lambda i: (derive_seed(seed, "test-normals", train.paths[i]), train.paths[i]))
    held = sorted(ranked[:share])
    kept = sorted({*range(len(train.paths))} - {*held})
    notes.append(
        f"the test set has anomalies alone; held out for it, so that nothing is trained with them: {len(held)} of the "
        f"{len(normals)} normals"
    )
    own, read_train, read_test = len(test.paths), train.read, test.read

    def read(positions: Sequence[int]) -> Iterator[Source]:
        yield from read_test([i for i in positions if i < own])
        yield from read_train([held[i - own] for i in positions if i >= own])

    return (
        Split(
            where=train.where,
            paths=tuple(train.paths[i] for i in kept),
            kinds=tuple(train.kinds[i] for i in kept),
            captions=tuple(train.captions[i] for i in kept),
            read=lambda positions: read_train([kept[i] for i in positions]),
        ),
        Split(
            where=test.where,
            paths=(*test.paths, *(train.paths[i] for i in held)),
            kinds=(*test.kinds, *(train.kinds[i] for i in held)),
            captions=(*test.captions, *(() for _ in held)),
            read=read,
            masks=test.masks,
        ),
    )


def _range_notes(parts: dict[str, Decoded], source: str) -> list[str]:
    """What to tell of 16-bit files: the range, and those beyond it."""
    note, white = range_note(parts["normals"], source), parts["normals"].white
    clipped = [name for part in parts.values() for name in part.clipped]
    return ([note] if note else []) + [f"{name}: {clipped_reason(white)}" for name in clipped]


def _list_briefly(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _refuse_one_sided(test: Split | None, normal: set[str]) -> None:
    if test is None:
        return
    good = sum(kind in normal for kind in test.kinds)
    if good == len(test.kinds):
        raise UserError(
            f"{test.where}: expected normal and anomalous test images, to measure how they are told apart; "
            f"got {good} normal and {len(test.kinds) - good} anomalous. Add the missing side, "
            "choose other normal classes, or leave the test images out."
        )


def _decode_parts(
    size: int | None, fit: Fit, native_size: bool, train: Split, test: Split | None, rows: dict[str, list[int]]
) -> dict[str, Decoded]:
    wanted = size or (_native_size(train, rows["normals"]) if native_size else None) or DEFAULT_SIZE
    parts: dict[str, Decoded] = {}
    jobs = [(side, train, rows[side]) for side in rows]
    if test is not None:
        jobs.append(("test", test, list(range(len(test.paths)))))
    for side, split, positions in jobs:
        if side == "normals":  # the first: 16-bit files are read by the range of the normals
            parts[side] = decode_in_own_range(
                partial(split.read, positions), len(positions), wanted, where=split.where, fit=fit
            )
        else:
            white = parts["normals"].white
            parts[side] = decode_all(
                split.read(positions), len(positions), wanted, where=split.where, white=white, fit=fit
            )
        if size is None and wanted != DEFAULT_SIZE and not parts[side].one_size:
            return _decode_parts(DEFAULT_SIZE, fit, native_size, train, test, rows)  # the sizes differ after all
    return parts


def _native_size(train: Split, rows: list[int]) -> int | None:
    """The side of the first readable picture, if it is square and of moderate size."""
    for _, source in train.read(rows):
        try:
            height, width, _ = decode(source).shape
        except ImageError:
            continue
        return height if height == width and 8 <= height <= MAX_NATIVE_SIZE else None
    return None


def _remove_duplicates(
    parts: dict[str, Decoded], train: Split, test: Split | None, rows: dict[str, list[int]]
) -> list[SetAside]:
    """Take out of `parts` the training pictures that the test holds too, and knowledge that shows a normal."""
    found: dict[str, str] = {}
    if test is not None:
        for j, digest in zip(parts["test"].kept, map(pixel_hash, parts["test"].images), strict=True):
            found.setdefault(digest, f"the same picture as {test.paths[j]} in the test set")
    removed: list[SetAside] = []
    for side in rows:
        part, keep = parts[side], []
        digests = list(map(pixel_hash, part.images))
        for k, digest in enumerate(digests):
            path = train.paths[rows[side][part.kept[k]]]
            if digest in found:
                removed.append(SetAside(path=path, reason=f"{found[digest]}; removed from the {side}"))
            else:
                keep.append(k)
        if side == "normals":
            for k in keep:
                path = train.paths[rows[side][part.kept[k]]]
                found.setdefault(digests[k], f"the same picture as the normal {path}")
        if len(keep) < len(digests):
            parts[side] = replace(part, images=part.images[keep], kept=part.kept[keep])
    return removed


def _refuse_too_few(n: int, lost: Sequence[SetAside], source: str) -> None:
    if n < MIN_NORMALS:
        why = f" {len(lost)} could not be used: {first_few(lost)}." if lost else ""
        raise UserError(
            f"a task needs at least {MIN_NORMALS} normal images to learn from; got {n} usable from {source}.{why} "
            "Add more photos of the normal."
        )


def _refuse_copies_of_one(normals: Images, source: str, notes: list[str]) -> None:
    different = len({pixel_hash(image) for image in normals})
    if different == 1:
        raise UserError(
            f"a task needs different normal images to learn from; the {len(normals)} usable from {source} are one and "
            "the same picture. Check how they were exported or copied."
        )
    if different < len(normals):
        notes.append(f"the {len(normals)} normals are {different} different pictures: the others are copies of them")


def _test_set(
    part: Decoded, test: Split, normal: set[str], known: list[str], unseen: float, fit: Fit, notes: list[str]
) -> TestSet:
    kinds = tuple(test.kinds[i] for i in part.kept)
    is_anomaly = np.array([kind not in normal for kind in kinds], bool)
    paths = [test.paths[i] for i in part.kept]
    masks = masked = None
    if any(path in test.masks for path, bad in zip(paths, is_anomaly, strict=True) if bad):
        masks, masked = _masks(test, paths, is_anomaly, part.images.shape[1], fit, notes)
    return TestSet(
        images=part.images,
        is_anomaly=is_anomaly,
        kinds=kinds,
        seen=seen_mask(kinds, normal, known) if unseen else None,
        masks=masks,
        masked=masked,
    )


def _masks(
    test: Split, paths: Sequence[str], is_anomaly: np.ndarray, size: int, fit: Fit, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The masks of the test pictures, and of which they are known; notes say which are not, and what a crop lost."""
    masks, known, lost = np.zeros((len(paths), size, size), bool), ~is_anomaly, 0
    for i, path in enumerate(paths):
        if path in test.masks:
            photo, files = test.masks[path]
            found = read_mask(files, photo, size, fit)
            known[i] = found is not None
            if found is not None:
                masks[i] = found
                lost += not found.any() and any(look is not None and not look.plain for look in map(look_at, files))
    total = int(is_anomaly.sum())
    if without := int((is_anomaly & ~known).sum()):
        notes.append(f"{without} of {total} anomalies have no mask of their shape that can be read: the figures of "
                     "pixels leave them out")  # fmt: skip
    if lost:
        notes.append(f"of {lost} of {total} anomalies nothing that their masks mark is left: it was cut away")
    return masks, known


def _knowledge(images: Images, train: Split, rows: list[int]) -> Knowledge:
    return Knowledge(
        images=images,
        captions=tuple(train.captions[i] for i in rows),
        kinds=tuple(train.kinds[i] for i in rows),
    )
