"""A round's figures, stored and read again."""

import json

import numpy as np
import pytest

from kka.algorithm.facts import Tuning, why_closed
from kka.algorithm.pool import Lineage
from kka.config import RunConfig
from kka.protocols import DPOReport

REPORT = DPOReport(
    steps=3, train_pairs=2, validation_pairs=1, train_loss=0.6, validation_loss=0.7, margin=0.1, accuracy=1.0,
    kl_to_base=2.0, step=0.5, base_entropy=30.0, different_before=98, different_after=71,
)  # fmt: skip


def test_a_tuning_is_read_as_it_was_stored() -> None:
    """Summary and report are written from the stored figures."""
    assert Tuning.from_dict(json.loads(json.dumps(Tuning(report=REPORT).as_dict()))).report == REPORT


def test_a_tuning_of_an_older_run_is_read() -> None:
    """Entropy and different captions were not always measured."""
    stored = Tuning(report=REPORT).as_dict()
    for name in ("step", "base_entropy", "different_before", "different_after"):
        del stored[name]
    read = Tuning.from_dict(stored)
    assert read.report is not None and (read.report.step, read.report.base_entropy) == (1.0, None)
    again = Tuning.from_dict(json.loads(json.dumps(read.as_dict()))).report
    assert again is not None and again.different_after is None


def _pool(*relative: float, later: int = 0) -> list[Lineage]:
    texts = dict.fromkeys(("prompt", "caption", "language_model", "image_model", "key"), "x")
    return [
        Lineage(id=str(i), round=int(i < later), seed=i, history=((1, r),), **texts) for i, r in enumerate(relative)
    ]


@pytest.mark.parametrize(
    ("config", "pool", "fresh", "not_drawn", "why"),
    [
        (RunConfig(per_round=0), _pool(2.0), [0.5], 0, "per_round is 0"),
        (RunConfig(), _pool(2.0), [], 3, "the image library is drained"),
        (RunConfig(), _pool(2.0), [], 0, "none of its pictures could be used"),
        (RunConfig(), _pool(2.0), [1.5, 3.0], 0, "none of its 2 pictures was hard"),
        (RunConfig(choose="band"), _pool(2.0), [0.1, 9.0], 0, "none of its 2 pictures lay in the band, 0.7 to 1.5"),
        (RunConfig(), _pool(0.5, 2.0), [0.5], 0, "1 of the pool's 2 pictures were hard already"),
        (RunConfig(choose="nearest"), _pool(2.0, 2.0, later=1), [0.5], 0, "1 of the pool's 2 pictures are of later"),
        (RunConfig(max_hard_share=1.0), _pool(0.5), [0.5], 0, "1 of the pool's 1 pictures were hard already"),
        (RunConfig(choose="band", mode="add"), _pool(*[2.0] * 9, later=3), [1.2], 0,
         "the pool holds 3 pictures already of every kind of caption in the band"),
    ],
)  # fmt: skip
def test_a_closed_round_says_why(
    config: RunConfig, pool: list[Lineage], fresh: list[float], not_drawn: int, why: str
) -> None:
    """A wrong reason sends people to a setting that changes nothing."""
    before = np.array([entry.relative for entry in pool])
    assert why_closed(pool, before, np.array(fresh), not_drawn=not_drawn, typical=0, config=config).startswith(why)


def test_a_round_whose_hard_ones_look_normal_says_so() -> None:
    """ "None was hard" would be a lie: the hardest are those that look like the most typical normals."""
    pool, before = _pool(1.5, 2.0), np.array([1.5, 2.0])
    fresh = np.array([0.9, 0.1, 1.4, 0.2])
    told = why_closed(pool, before, fresh, not_drawn=0, typical=3, config=RunConfig())
    assert told == "none of its 4 pictures was hard but for 3 that lie among the most typical normals"
    easy = why_closed(pool, before, fresh, not_drawn=0, typical=2, config=RunConfig(max_hard_share=0.1))
    assert easy.startswith("0 of the pool's 2 pictures were hard already")
