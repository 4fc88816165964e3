"""From lists of named, classed, captioned pictures to a `Task`: what Parquet files and image folders share.

Here the wall stands between training and test: what nothing may know is never decoded, and training pictures that
are pixel for pixel a test picture are removed. The test set itself is never touched.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kka.common.caches import cache_folder
from kka.common.decoded import kept as kept_decoded
from kka.common.folder_words import GOOD
from kka.common.images import (
    DEFAULT_SIZE,
    Decoded,
    clipped_reason,
    decode,
    decode_all,
    decode_in_own_range,
    first_few,
    range_note,
)
from kka.common.mapped import taken
from kka.common.opened import LASTING, ImageError
from kka.data.domain import domain_of
from kka.data.request import Request, Split
from kka.data.split import choose_caption, withhold
from kka.data.tested import hold_out, refuse_one_sided, test_set
from kka.data.tiled import photos_of, with_tiles
from kka.errors import UserError
from kka.settings.fit import Fit
from kka.task import MIN_NORMALS, SetAside, Task, TestSet

MAX_NATIVE_SIZE = 256
"""Pictures of one size are kept at that size up to this side, in pixels."""
DOMAINS = {
    "oxford102": "flowers",
    "ucm_caption": "aerial views of land",
    "cifar100": "photos of objects",
}
"""What well-known data sets show, by the name of their folder."""


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
    train, test = hold_out(train, test, normal, request.seed, notes)
    whole = {"normals": sum(kind in normal for kind in train.kinds), "test": len(test.paths) if test else 0}
    if request.most is not None:
        train, test = _some(train, test, normal, request.most)
    if request.unseen and not {*train.kinds} - normal:
        raise UserError(
            f"unseen: {request.source} has no training images of classes other than the normal, so none can be "
            f"withheld; got {request.unseen}. Leave it out."
        )
    classes_by_side = sides_of({*train.kinds}, {*(test.kinds if test else ())}, normal, request.unseen, request.seed)
    known = classes_by_side["known"]
    refuse_one_sided(test, normal)
    rows = {
        "normals": [i for i, kind in enumerate(train.kinds) if kind in normal],
        "knowledge": [i for i, kind in enumerate(train.kinds) if kind in set(known)],
    }
    fit = request.fit or "crop"
    if fit == "tile" and native_size:
        raise UserError(
            f"fit: expected squash, pad or crop for the pictures in {request.source}; got tile, which is for folders "
            "of photos"
        )
    parts = _decode_parts(request.size, fit, native_size, train, test, rows)
    removed = _remove_duplicates(parts, train, test, rows)
    kept = {side: [rows[side][j] for j in part.kept] for side, part in parts.items() if side in rows}
    aside = (*set_aside, *(s for part in parts.values() for s in part.set_aside), *removed)
    ours = {train.paths[i] for i in rows["normals"]}
    lost = [*set_aside, *parts["normals"].set_aside, *(s for s in removed if s.path in ours)]
    _refuse_too_few(len(kept["normals"]), lost, request.source)
    normals = parts["normals"].images
    _refuse_copies_of_one(parts["normals"].digests, request.source, notes)
    tested = test_set(parts["test"], test, normal, known, request.unseen, fit, notes) if test else None
    name = folder.resolve().name
    classes = "" if normal == {GOOD} else f": {_list_briefly(sorted(normal))}"
    task = Task(
        name=name + classes,
        normals=normals,
        captions=tuple(choose_caption(train.captions[i], request.seed, train.paths[i]) for i in kept["normals"]),
        domain=request.domain or DOMAINS.get(name.lower()) or domain_of(request.describe or "") or "images",
        test=tested,
        knowledge=train.knowledge(parts["knowledge"].images, kept["knowledge"]) if kept["knowledge"] else None,
        set_aside=aside,
        source=request.source,
        details={
            "classes": classes_by_side,
            "images": _counts(len(normals), len(kept["knowledge"]), tested, len(aside)),
            "size": normals.shape[1],
            "duplicates_removed": len(removed),
            **({} if request.most is None else {"whole": whole}),
            **{name: told for name, told in (("layout", layout), ("shapes", shapes)) if told},
            "notes": [*notes, *_range_notes(parts, request.source)],
        },
        white=parts["normals"].white,
        fit=fit,
    )
    if fit != "tile":
        return task
    how = {"side": normals.shape[1], "white": task.white}
    photos = photos_of(train, parts["normals"], kept["normals"], **how)
    tests = photos_of(test, parts["test"], parts["test"].kept.tolist(), **how) if test else None
    return with_tiles(task, photos, tests)


def _some(train: Split, test: Split | None, normal: set[str], most: int) -> tuple[Split, Split | None]:
    """Both sides with no more than so many normals and test pictures, spread evenly; other classes stay whole."""

    def evenly(rows: list[int]) -> list[int]:
        return [rows[i] for i in np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int).tolist()]

    normals = evenly([i for i, kind in enumerate(train.kinds) if kind in normal])
    others = [i for i, kind in enumerate(train.kinds) if kind not in normal]
    return train.only(sorted(normals + others)), test and test.only(evenly(list(range(len(test.paths)))))


def _counts(normals: int, knowledge: int, tested: TestSet | None, aside: int) -> dict[str, int]:
    return {
        "normals": normals,
        "knowledge": knowledge,
        "test_normal": int((~tested.is_anomaly).sum()) if tested else 0,
        "test_anomalies": int(tested.is_anomaly.sum()) if tested else 0,
        "set_aside": aside,
    }


def sides_of(
    train: Collection[str], test: Collection[str], normal: Collection[str], unseen: float, seed: int
) -> dict[str, list[str]]:
    """The classes by what a model may know of them: normal, known (of training pictures) and withheld; each sorted."""
    withheld = withhold(({*train} | {*test}) - {*normal}, unseen, seed)
    known = sorted({*train} - {*normal} - {*withheld})
    return {"normal": sorted(normal), "known": known, "withheld": list(withheld)}


def _range_notes(parts: dict[str, Decoded], source: str) -> list[str]:
    """What to tell of 16-bit files: the range, and those beyond it."""
    note, white = range_note(parts["normals"], source), parts["normals"].white
    clipped = [name for part in parts.values() for name in part.clipped]
    return ([note] if note else []) + [f"{name}: {clipped_reason(white)}" for name in clipped]


def _list_briefly(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
            parts[side] = _decoded(split, positions, wanted, fit, None)
        else:
            parts[side] = _decoded(split, positions, wanted, fit, parts["normals"].white)
        if size is None and wanted != DEFAULT_SIZE and not parts[side].one_size:
            return _decode_parts(DEFAULT_SIZE, fit, native_size, train, test, rows)  # the sizes differ after all
    return parts


def _decoded(split: Split, positions: Sequence[int], size: int, fit: Fit, white: int | None) -> Decoded:
    """The pictures at these places; many files are decoded once, and kept (`kka.common.decoded`).

    `white`: of 16-bit grey; None: by their own range.
    """
    found: list[Decoded] = []

    def decode_now() -> tuple[np.ndarray, dict[str, Any]]:
        number = len(positions)
        if white is None:
            now = decode_in_own_range(partial(split.read, positions), number, size, where=split.where, fit=fit)
        else:
            now = decode_all(split.read(positions), number, size, where=split.where, white=white, fit=fit)
        found.append(now)
        facts = {f.name: getattr(now, f.name) for f in fields(now) if f.name not in ("images", "kept", "set_aside")}
        return now.images, facts | {"kept": now.kept.tolist(), "set_aside": [asdict(item) for item in now.set_aside]}

    if not split.files:
        decode_now()
        return found[0]

    def lasting(told: dict[str, Any]) -> bool:
        return all(item["reason"].startswith(LASTING) for item in told["set_aside"])

    named = {"names": split.paths_digest(positions), "size": size, "fit": fit, "white": white}
    files = [split.files[i] for i in positions]
    images, told = kept_decoded(cache_folder() / "decoded", files, decode_now, keep=lasting, **named)
    if found:
        return found[0]
    rest: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in told.items()}
    aside = tuple(SetAside(**item) for item in told["set_aside"])
    return Decoded(**{**rest, "images": images, "kept": np.array(told["kept"], int), "set_aside": aside})


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
        for j, digest in zip(parts["test"].kept, parts["test"].digests, strict=True):
            found.setdefault(digest, f"the same picture as {test.paths[j]} in the test set")
    removed: list[SetAside] = []
    for side in rows:
        part, keep = parts[side], []
        digests = part.digests
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
            digests = tuple(digests[k] for k in keep)
            parts[side] = replace(part, images=taken(part.images, keep), kept=part.kept[keep], digests=digests)
    return removed


def _refuse_too_few(n: int, lost: Sequence[SetAside], source: str) -> None:
    if n < MIN_NORMALS:
        why = f" {len(lost)} could not be used: {first_few(lost)}." if lost else ""
        raise UserError(
            f"a task needs at least {MIN_NORMALS} normal images to learn from; got {n} usable from {source}.{why} "
            "Add more photos of the normal."
        )


def _refuse_copies_of_one(normals: Sequence[str], source: str, notes: list[str]) -> None:
    different = len(set(normals))
    if different == 1:
        raise UserError(
            f"a task needs different normal images to learn from; the {len(normals)} usable from {source} are one and "
            "the same picture. Check how they were exported or copied."
        )
    if different < len(normals):
        notes.append(f"the {len(normals)} normals are {different} different pictures: the others are copies of them")
