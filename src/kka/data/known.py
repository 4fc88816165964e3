"""The captioned training pictures of a Parquet folder that a model may know, by class; and never a test picture."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kka.common.cache import pixel_hash
from kka.common.images import decode_all, decode_in_own_range, white_of
from kka.data.parquet import choose_classes, read_tables, split_of
from kka.errors import UserError
from kka.task import Knowledge, SetAside


def load_known(
    folder: Path, known: Sequence[str], *, normal: Sequence[str] = (), size: int
) -> tuple[Knowledge, tuple[SetAside, ...]]:
    """The training pictures of the classes `known` (none named: of all), `size` pixels a side; and what was left out.

    Classes are named as normal ones are: by number, name or superclass. Pictures that are pixel for pixel a test
    picture, or a training picture of a class that is not known, are left out.

    Raises:
        UserError: files, columns or classes that are not as expected; a class both known and normal; no picture.
    """
    tables, names = read_tables(folder)
    train = split_of(tables["train"], names)
    kinds = choose_classes(known, tables, names, of="known") if known else {*train.kinds}
    both = sorted(kinds & choose_classes(normal, tables, names, of="normal")) if normal else []
    if both:
        raise UserError(f"known: expected none of the normal classes; got {', '.join(both)}")
    rows = [i for i, kind in enumerate(train.kinds) if kind in kinds]
    others = [i for i, kind in enumerate(train.kinds) if kind not in kinds]
    sealed: dict[str, str] = {}
    part = decode_in_own_range(partial(train.read, rows), len(rows), size, where=train.where)
    white = white_of(part.largest)
    jobs = [(train, others, "of a class that is not known")]
    if "test" in tables:
        test = split_of(tables["test"], names)
        jobs.append((test, list(range(len(test.paths))), "in the test set"))
    for split, positions, why in jobs:
        decoded = decode_all(split.read(positions), len(positions), size, where=split.where, white=white)
        for j, image in zip(decoded.kept, decoded.images, strict=True):
            sealed[pixel_hash(image)] = f"the same picture as {split.paths[positions[j]]}, {why}"
    aside = [*tables["train"].unlabelled, *part.set_aside]
    kept = []
    for j, image in enumerate(part.images):
        if (reason := sealed.get(pixel_hash(image))) is None:
            kept.append(j)
        else:
            aside.append(SetAside(path=train.paths[rows[part.kept[j]]], reason=reason))
    if not kept:
        raise UserError(f"{train.where}: expected training pictures of the known classes; got none that may be used")
    places = [rows[part.kept[j]] for j in kept]
    knowledge = Knowledge(
        images=part.images[kept],
        captions=tuple(train.captions[i] for i in places),
        kinds=tuple(train.kinds[i] for i in places),
    )
    return knowledge, tuple(aside)
