"""Which pictures train and which test: the data set's own split, or a seeded one within each class."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kka.data.prepare.options import PrepareOptions
from kka.data.prepare.records import DataSet, Record
from kka.errors import UserError
from kka.seeding import derive_seed
from kka.task import SetAside


def split(
    dataset: DataSet, records: Sequence[Record], options: PrepareOptions
) -> tuple[list[Record], dict[str, object], list[SetAside]]:
    """The records, each with its side; the rule for dataset.json; and those that the official split leaves out.

    Raises UserError for a split that the data set does not have, or whose files are not there.
    """
    rule = options.split or dataset.splits[0]
    if rule not in dataset.splits:
        raise UserError(f"split: {dataset.name} has {' and '.join(dataset.splits)}; got {rule}")
    known = any(record.side is not None for record in records)
    if rule == "official" and not known:
        if options.split == "official" or "random" not in dataset.splits:
            raise UserError(f"split: nothing in the source says which images train and which test. {dataset.where}")
        rule = "random"
    if rule == "official":
        left_out = [SetAside(path=r.name, reason="on no side of the official split") for r in records if r.side is None]
        return [r for r in records if r.side is not None], {"rule": "official"}, left_out
    facts: dict[str, object] = {"rule": "random", "train_share": dataset.train_share, "seed": options.seed}
    return split_at_random(records, dataset.train_share, options.seed), facts, []


def split_at_random(records: Sequence[Record], share: float, seed: int) -> list[Record]:
    """`share` of each class trains, rounded half up; pictures with identical content are on one side.

    Which ones depends on names and seed alone. Pictures that are identical train only where all of them find room.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        groups[_digest(record)].append(i)
    names = [min(records[i].name for i in group) for group in groups.values()]
    ranked = sorted(zip(names, groups.values(), strict=True), key=lambda g: (derive_seed(seed, "split", g[0]), g[0]))
    sizes = Counter(record.label for record in records)
    target = {label: math.floor(share * n + 0.5) for label, n in sizes.items()}
    trained: Counter[int] = Counter()
    sides: dict[int, bool] = {}
    for _, group in ranked:
        labels = Counter(records[i].label for i in group)
        trains = all(trained[label] + n <= target[label] for label, n in labels.items())
        if trains:
            trained += labels
        sides.update(dict.fromkeys(group, trains))
    return [replace(record, side="train" if sides[i] else "test") for i, record in enumerate(records)]


def _digest(record: Record) -> bytes:
    content = record.load()
    try:
        raw = content.read_bytes() if isinstance(content, Path) else content
    except OSError:
        raw = record.name.encode()  # it is named and set aside when it is to be stored
    data = raw if isinstance(raw, bytes) else raw.tobytes()
    return hashlib.blake2b(data, digest_size=16).digest()
