"""The detector that a run keeps for use: as `kka train` makes one, with a threshold and figures by kind of defect.

It is trained twice, with the last pool and without, and what was imagined is weighed by pictures that neither has seen
(`kka.deploy.worth`): where it did harm, the detector that is kept is the one without.
"""

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kka.algorithm.folder import DETECTOR, TRACED, WORTH, RunFolder, kept_stage
from kka.algorithm.pool import AnomalyPool
from kka.algorithm.reviews import REVIEWS, read_reviews
from kka.common.ledger import Counts
from kka.common.mapped import taken
from kka.common.store import Store
from kka.deploy.anomalies import Anomalies, altered_copies
from kka.deploy.calibrate import TOO_FEW
from kka.deploy.defects import Defects
from kka.deploy.traced import judge_traces
from kka.deploy.train import TrainingFacts, hold_out, train_detector
from kka.deploy.worth import LEAST, weigh
from kka.errors import UserError
from kka.protocols import Detector, Images
from kka.run.traced import parted, untrained
from kka.settings.threshold import FPR, HELD_OUT
from kka.task import Task

WITHOUT = "without"
"""The folder of the detector that trained on normals alone, while both are there."""


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
    match_traces: bool = False,
) -> None:
    """Train once more with the last pool, on the normals but for those that set the threshold.

    The arms are compared on all normals, and have none. Nothing is done where too few normals would be left.

    Args:
        anomalies: Of the arm `arm`, whose pool is of the stage `source`.
        defects: That the person has at hand. This detector alone may be trained with them: the arms compare what was
            imagined.
        match_traces: It is trained with the image model's traces too, as normals.
    """
    held = np.zeros(0, int)
    if not store.done(kept_stage(arm)):
        try:
            _, held = hold_out(task.normals, HELD_OUT, seed=0, photo_of=task.photo_of)
        except UserError:  # too few would be left, or too few different ones
            return

    def trained(given: Anomalies | None, folder: Path, traces: AnomalyPool | None = None) -> TrainingFacts:
        """Of the detector that then lies in `folder`."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", TOO_FEW)  # what so few normals can promise stands in the card
                return train_detector(
                    build(), task, given, folder, held_out=HELD_OUT, fpr=FPR, seed=0, defects=defects,
                    train_on_defects=train_on_defects, traces=traces,
                )  # fmt: skip
        except UserError as error:
            if isinstance(error.__cause__, OSError):  # of a full disk a run says how to go on
                raise error.__cause__ from None
            raise

    def compute(folder: Path) -> Counts:
        made, normals = RunFolder(store.root), taken(task.normals, held)
        traces = made.traces() if made.has_traces else None
        learned, judged = None, None if traces is None else untrained(traces, held)
        if match_traces and traces is not None:
            learned, judged = parted(traces, held)
        facts = trained(anomalies(), folder / DETECTOR, learned)
        number = facts.anomalies
        if judged is not None and len(held) and task.photo_of is None:  # its threshold is one of whole photos
            _judge_traces(judged, facts, folder)
        unseen = unseen_anomalies(made, held, normals)
        if min(len(held), len(unseen)) < LEAST:
            return {"anomalies": number}
        # As they were trained, and not as they lie there: one of a person's own need not be there to be read.
        with_them = facts.detector.score(normals), facts.detector.score(unseen.images)
        facts = trained(None, folder / WITHOUT)
        without = facts.detector.score(normals), facts.detector.score(unseen.images)
        worth = weigh(without, with_them, photos=_photos_of(task, held, unseen))
        if worth.harm:
            shutil.rmtree(folder / DETECTOR)
            (folder / WITHOUT).rename(folder / DETECTOR)
            (folder / TRACED).unlink(missing_ok=True)  # it was of the other
            number = facts.anomalies
        else:
            shutil.rmtree(folder / WITHOUT)
        (folder / WORTH).write_text(json.dumps(dataclasses.asdict(worth), indent=1))
        return {"anomalies": number}

    store.stage(kept_stage(arm), compute, after=[source])


def _judge_traces(traces: AnomalyPool, facts: TrainingFacts, folder: Path) -> None:
    """What the detector makes of them, beside it; nothing where it has no threshold."""
    if facts.calibration is not None and len(traces):
        found = judge_traces(facts.detector.score(traces.images), facts.calibration, matched=facts.traces)
        (folder / TRACED).write_text(json.dumps(dataclasses.asdict(found), indent=1))


def _photos_of(task: Task, held: np.ndarray, unseen: AnomalyPool) -> tuple[np.ndarray, np.ndarray] | None:
    """Which photo each held-out normal and each anomaly is of, where normals are tiles; an anomaly that was drawn from
    nothing is one of its own."""
    if task.photo_of is None:
        return None
    own = -1 - np.arange(len(unseen))
    of = [own[i] if e.normal is None else task.photo_of[e.normal] for i, e in enumerate(unseen.entries)]
    return task.photo_of[held], np.array(of, int)


def unseen_anomalies(made: RunFolder, held: np.ndarray, normals: Images) -> AnomalyPool:
    """What the run made that the kept detector does not train with: of altered photos those of the held-out normals,
    of others those that are not in the last pool; without what a person vetoed.

    Of the pool itself only what `train_detector` knows by its pixels to be one of these `normals`: an image model of a
    person's own may change more than its mask says.
    """
    everything = read_reviews(made.root / REVIEWS).without_vetoed(made.everything())
    pooled = {entry.key for entry in made.lineage(made.last_round)}
    numbers = {*held.tolist()}

    def is_unseen(at: int) -> bool:
        entry = everything.entries[at]
        return entry.normal in numbers if entry.normal is not None else entry.key not in pooled

    found = everything.take([i for i in range(len(everything)) if is_unseen(i)])
    left_out = altered_copies(Anomalies.of_pool(found, None), normals)
    return found.take([i for i, e in enumerate(found.entries) if e.key not in pooled or left_out[i]])
