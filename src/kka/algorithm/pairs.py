"""Eq. 7: the pairs of a round, of what people told of pictures and of what its evaluator judged."""

from pathlib import Path

import numpy as np

from kka.algorithm.compared import Pairs, pairs_of_pool, pairs_of_thirds
from kka.algorithm.evaluator import ConfusionEvaluator
from kka.algorithm.folder import RunFolder
from kka.algorithm.judged import write_judgements
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.algorithm.reviews import REVIEWS, read_reviews
from kka.algorithm.told import pairs_told, put_first
from kka.config import RunConfig
from kka.protocols import PreferencePair


def pairs_of_round(
    folder: RunFolder, number: int, pool: AnomalyPool, evaluator: ConfusionEvaluator, *, config: RunConfig, seed: int,
    into: Path,
) -> tuple[list[PreferencePair], Pairs]:  # fmt: skip
    """What people told before round `number`, and all that is compared, which begins with it; of pictures that were
    judged anew for it, the judgements go into the folder `into`."""
    reviews = read_reviews(folder.file(number, "reviews", REVIEWS))
    if config.pairs == "pool":
        own = pairs_of_pool(pool.entries, least=config.min_preferred, seed=seed)
        told = pairs_told(judged_so_far(folder, number, pool, evaluator), reviews) if reviews else []
        return told, put_first(told, own)
    judged = judged_so_far(folder, number, pool, evaluator)
    write_judgements(into, judged, np.array([entry.relative for entry in judged]))
    told = pairs_told(judged, reviews) if reviews else []
    own = pairs_of_thirds([entry for entry in judged if entry.id not in reviews.vetoed], seed=seed)
    return told, put_first(told, own)


def judged_so_far(
    folder: RunFolder, number: int, pool: AnomalyPool, evaluator: ConfusionEvaluator
) -> list[Lineage]:
    """All pictures before round `number`, in the pool or not, judged by its evaluator; round by round, as the memory
    holds one round's."""
    in_pool = {entry.id: entry for entry in pool.entries}
    judged: list[Lineage] = []
    for r in range(number):
        made = folder.fresh(r)
        rest = made.take([i for i, entry in enumerate(made.entries) if entry.id not in in_pool])
        relative = evaluator.judge(rest.images, rest.normal_of).tolist()
        now = {entry.id: entry for entry in rest.judged(number, relative).entries}
        judged += [now.get(entry.id) or in_pool[entry.id] for entry in made.entries]
    return judged
