"""The captioned pictures of a Parquet folder of some classes: to learn from, and held out to measure by."""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from kka.common.cache import pixel_hash
from kka.common.images import decode_all, decode_in_own_range, white_of
from kka.data.parquet import choose_classes, read_tables, split_of
from kka.errors import UserError
from kka.seeding import derive_seed
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
    return train.knowledge(part.images[kept], places), tuple(aside)


def load_held_out(
    folder: Path, kinds: Collection[str], *, size: int, most: int, seed: int
) -> tuple[Knowledge, tuple[SetAside, ...]]:
    """Test pictures of the classes `kinds`, with their captions: at most `most`, drawn by the seed, in random order.

    To measure an image model, and for nothing else: nothing may be chosen by what comes of it. Of the test set's labels
    only those are used that say which picture is of these classes.

    Raises:
        UserError: no test.parquet; no such picture.
    """
    tables, names = read_tables(folder)
    if "test" not in tables:
        raise UserError(f"expected {folder / 'test.parquet'}: an image model is measured on pictures that are held out")
    test = split_of(tables["test"], names)
    rows = [i for i, kind in enumerate(test.kinds) if kind in kinds]
    if not rows:
        raise UserError(f"{test.where}: expected pictures of {', '.join(sorted(kinds)[:5])}; got none")
    order = np.random.default_rng(derive_seed(seed, "held-out")).permutation(len(rows))[:most]
    chosen = [rows[i] for i in sorted(order.tolist())]
    part = decode_in_own_range(partial(test.read, chosen), len(chosen), size, where=test.where)
    shuffled = np.random.default_rng(derive_seed(seed, "held-out-order")).permutation(len(part.kept)).tolist()
    places = [chosen[part.kept[j]] for j in shuffled]
    return test.knowledge(part.images[shuffled], places), tuple(part.set_aside)
