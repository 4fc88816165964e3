"""The detector that a run keeps for use: as `kka train` makes one, with a threshold and figures by kind of defect."""

import warnings
from collections.abc import Callable
from pathlib import Path

from kka.algorithm.folder import DETECTOR, kept_stage
from kka.common.ledger import Counts
from kka.common.store import Store
from kka.deploy.anomalies import Anomalies
from kka.deploy.calibrate import TOO_FEW
from kka.deploy.defects import Defects
from kka.deploy.train import hold_out, train_detector
from kka.errors import UserError
from kka.protocols import Detector
from kka.settings.threshold import FPR, HELD_OUT
from kka.task import Task


def keep_detector(
    task: Task,
    anomalies: Callable[[], Anomalies | None],
    *,
    arm: str,
    source: str,
    build: Callable[[], Detector],
    store: Store,
    defects: Defects | None = None,
    train_on_defects: bool = False,
) -> None:
    """Train once more with the last pool, on the normals but for those that set the threshold.

    The arms are compared on all normals, and have none. Nothing is done where too few normals would be left.

    Args:
        anomalies: Of the arm `arm`, whose pool is of the stage `source`.
        defects: That the person has at hand. This detector alone may be trained with them: the arms compare what was
            imagined.
    """
    if not store.done(kept_stage(arm)):
        try:
            hold_out(task.normals, HELD_OUT, seed=0, photo_of=task.photo_of)
        except UserError:  # too few would be left, or too few different ones
            return

    def compute(folder: Path) -> Counts:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", TOO_FEW)  # what so few normals can promise stands in the card
                given = anomalies()
                facts = train_detector(
                    build(), task, given, folder / DETECTOR, held_out=HELD_OUT, fpr=FPR, seed=0, defects=defects,
                    train_on_defects=train_on_defects,
                )  # fmt: skip
        except UserError as error:
            if isinstance(error.__cause__, OSError):  # of a full disk a run says how to go on
                raise error.__cause__ from None
            raise
        return {"anomalies": facts.anomalies}

    store.stage(kept_stage(arm), compute, after=[source])
