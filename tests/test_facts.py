"""A round's figures, stored and read again."""

import json

from kka.algorithm.facts import Tuning
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
