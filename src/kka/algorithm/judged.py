"""What an evaluator says of pictures (Eq. 6), in the folder of a stage and back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from kka.algorithm.folder import SCORES
from kka.algorithm.hardness import is_hard
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.algorithm.records import Judgement
from kka.common.disk import reading
from kka.common.files import read_records, write_records


def write_judgements(folder: Path, entries: Sequence[Lineage], relative: Float[np.ndarray, "n"]) -> None:
    """The relative distance of each, in their order."""
    rows = [
        Judgement(id=entry.id, relative_distance=float(r), hard=bool(hard))
        for entry, r, hard in zip(entries, relative, is_hard(relative), strict=True)
    ]
    write_records(folder / SCORES, rows)


def read_judgements(folder: Path, pool: AnomalyPool) -> list[float]:
    """The stored relative distances of the pictures of `pool`, in their order."""
    rows = read_records(folder / SCORES, Judgement)
    with reading(folder / SCORES):
        if [row.id for row in rows] != [entry.id for entry in pool.entries]:
            raise ValueError(f"expected judgements of the pool's {len(pool)} pictures; got {len(rows)}")
    return [row.relative_distance for row in rows]
