"""The test side of a task: what is held out for it, its labels, its masks."""

from collections.abc import Iterator, Sequence

import numpy as np

from kka.common.images import Decoded, Source
from kka.common.masks import look_at, read_mask
from kka.data.request import Split
from kka.data.split import seen_mask
from kka.errors import UserError
from kka.seeding import derive_seed
from kka.settings.fit import Fit
from kka.task import MIN_NORMALS, TestSet

TEST_SHARE = 0.2
"""Of the normals, held out for a test set that has anomalies alone."""


def hold_out(
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
        train.only(kept),
        Split(
            where=test.where,
            paths=(*test.paths, *(train.paths[i] for i in held)),
            kinds=(*test.kinds, *(train.kinds[i] for i in held)),
            captions=(*test.captions, *(() for _ in held)),
            read=read,
            files=(*test.files, *(train.files[i] for i in held)) if test.files and train.files else (),
            masks=test.masks,
        ),
    )


def refuse_one_sided(test: Split | None, normal: set[str]) -> None:
    """Raises UserError for a test set in which nothing is anomalous."""
    if test is None:
        return
    good = sum(kind in normal for kind in test.kinds)
    if good == len(test.kinds):
        raise UserError(
            f"{test.where}: expected normal and anomalous test images, to measure how they are told apart; "
            f"got {good} normal and {len(test.kinds) - good} anomalous. Add the missing side, "
            "choose other normal classes, or leave the test images out."
        )


def test_set(
    part: Decoded, test: Split, normal: set[str], known: list[str], unseen: float, fit: Fit, notes: list[str]
) -> TestSet:
    """What was decoded of the test pictures, with their labels and masks; `notes` gets what is to be told."""
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
    fit = "squash" if fit == "tile" else fit  # of the small views
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
