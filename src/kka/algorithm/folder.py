"""A run's folder: the only file that knows its paths and what lies in them.

It stands here and not above, as the stages of Algorithm 1 and the report both need it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from kka.algorithm.facts import RoundFacts, Tuning, why_closed
from kka.algorithm.hardness import is_hard
from kka.algorithm.pool import AnomalyPool, Lineage, read_lineage
from kka.algorithm.records import Judgement, Representative, UnusablePicture, WrittenCaption
from kka.common.begun import completed, is_begun, read_config
from kka.common.disk import CONFIG_FILE, STAGE_FILE, reading
from kka.common.files import read_array, read_json, read_records
from kka.common.ledger import NOTHING, SPENT, Entry
from kka.common.manifest import read_entry
from kka.config import RunConfig

CONFIG, SUMMARY, LEDGER, REPORT, POOL = CONFIG_FILE, "summary.json", "ledger.json", "report.html", "pool.parquet"
"""At the top of the folder; the pool of a round has the same name."""
TRACKING = "tracking.json"
"""At the top as well: what experiment trackers were shown."""
SAMPLES = "samples.png"
"""At the top as well, where the run's image model was trained by kka: what it draws, beside real pictures."""
REPRESENTATIVES, CLUSTERS, CAPTIONS, IMAGES, NORMALS, SET_ASIDE = (
    "representatives.jsonl", "clusters.npy", "captions.jsonl", "images.parquet", "normals.npz", "set_aside.jsonl",
)  # fmt: skip
SCORES, PAIRS, TUNING, ADAPTER = "scores.jsonl", "pairs.jsonl", "dpo.json", "adapter"
"""In the folders of a round's stages."""
ARM_SCORES, METRICS, LOSSES, LATENT, DETECTOR = "scores.npy", "metrics.json", "losses.json", "latent.npy", "detector"
"""In the folder of one detector of an arm; the losses also beside the card of a detector for use."""
WORTH, TRACED = "worth.json", "traced.json"
"""Beside the detector for use: what the imagined anomalies were worth to it, by pictures that it has not seen; and what
it makes of traces of the image model."""
SHARED = ".detectors.part"
"""The folder with what the processes that train detectors share, while they do."""
TASK, TASK_ARRAYS = "task", "task.npz"
"""The stage, and the file in it, with what the report needs of the task."""
TRACES = "traces"
"""The stage with pictures that an image model drew without an anomaly; see `kka.algorithm.traces`."""
STAGES = ("evaluator", "dpo", "captions", "images", "scores", "pool")
"""Of a round from 1 on, in their order. Round 0 has representatives, captions and images."""


def stage_name(number: int, stage: str) -> str:
    """The name in the store of a stage of round `number`."""
    return f"rounds/{number}/{stage}"


def pool_stage(number: int) -> str:
    """The stage with the pool after round `number`; after round 0 it is what was generated."""
    return stage_name(number, "images" if number == 0 else "pool")


def arm_name(number: int) -> str:
    """The arm that trains with the pool after round `number`."""
    return f"kka-{number}"


def arm_stage(arm: str, k: int) -> str:
    """The name in the store of the k-th detector of an arm."""
    return f"arms/{arm}/seed-{k}"


def kept_stage(arm: str) -> str:
    """The name in the store of the detector for use, trained with the anomalies of an arm."""
    return f"kept/{arm}"


def up_to_date(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration with the settings that there were none of when it was written."""
    return RunConfig.from_dict(stored).as_dict()


@dataclass(frozen=True)
class RunFolder:
    """What a run has stored so far in the folder `root`."""

    root: Path

    @property
    def finished(self) -> bool:
        """Whether the run came to its summary."""
        return (self.root / SUMMARY).is_file()

    @property
    def begun(self) -> bool:
        """Whether there is a run at all."""
        return is_begun(self.root)

    def config(self) -> RunConfig:
        """The configuration of the run.

        Raises:
            UserError: it cannot be read.
        """
        return RunConfig.from_dict(completed(self.root, read_config(self.root), up_to_date))

    @property
    def last_round(self) -> int:
        """The last round whose pictures are judged and whose pool stands; 0 before any."""
        number = 0
        while self._done(number + 1, "pool"):
            number += 1
        return number

    def drawn(self, number: int) -> bool:
        """Whether the pictures of round `number` are there."""
        return self._done(number, "images")

    def file(self, number: int, stage: str, name: str) -> Path:
        """A file of a stage of round `number`."""
        return self.root / stage_name(number, stage) / name

    def representatives(self) -> list[Representative]:
        """The normals whose captions are in the prompts (Eq. 2)."""
        return read_records(self.file(0, "representatives", REPRESENTATIVES), Representative)

    def clusters(self) -> Int[np.ndarray, "n"]:
        """The number of each normal's cluster (Eq. 2); of the representatives each stands for one."""
        return read_array(self.root / stage_name(0, "representatives") / CLUSTERS)

    def altered_normals(self, number: int) -> dict[int, np.ndarray]:
        """Index among the task's normals -> (h, w, 3), of those that round `number` altered; empty where its image
        model draws from nothing."""
        file = self.file(number, "images", NORMALS)
        if not file.is_file():
            return {}
        with reading(file), file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            return dict(zip(stored["index"].tolist(), stored["images"], strict=True))

    def captions(self, number: int) -> list[WrittenCaption]:
        """What round `number` wrote."""
        return read_records(self.file(number, "captions", CAPTIONS), WrittenCaption)

    def set_aside(self, number: int) -> list[UnusablePicture]:
        """The pictures of round `number` that cannot be used, and those that look too normal to enter the pool."""
        found = read_records(self.file(number, "images", SET_ASIDE), UnusablePicture)
        typical = self.file(number, "pool", SET_ASIDE)
        return found + (read_records(typical, UnusablePicture) if typical.is_file() else [])

    def images_made(self, number: int) -> int:
        """How many usable pictures round `number` made, whether they entered the pool or not."""
        return self._count(number, "images", "images")

    def generated(self, last: int) -> int:
        """Images made up to and in round `last`, whether they entered the pool or not."""
        return sum(self.images_made(number) for number in range(last + 1))

    def spent(self, last: int) -> dict[str, Any]:
        """What the language model read, wrote and cost up to and in round `last`; without what nothing counts."""
        entries = [read_entry(self.root, stage_name(number, "captions")) for number in range(last + 1)]
        counts = reduce(Entry.plus, entries, NOTHING).counts
        return {name: counts[count] for name, count in SPENT.items() if counts.get(count) is not None}

    def fresh(self, number: int) -> AnomalyPool:
        """What round `number` generated, whether it entered the pool or not, unjudged."""
        return AnomalyPool.load(self.file(number, "images", IMAGES))

    def judgements(self, number: int) -> dict[str, float] | None:
        """Id -> relative distance of what round `number` generated, at its first judgement; None: not judged yet.

        Round 0 has no evaluator: its pictures are first judged by round 1's, before the pool changes.
        """
        file = self.file(1, "evaluator", SCORES) if number == 0 else self.file(number, "scores", SCORES)
        if not file.is_file():
            return None
        return {row.id: row.relative_distance for row in read_records(file, Judgement)}

    def fresh_hard(self, number: int) -> Bool[np.ndarray, "n"] | None:
        """Which of `fresh(number)` are hard (Eq. 6); None where nothing judged them."""
        return self.hard_of(number, read_lineage(self.file(number, "images", IMAGES)))

    def hard_of(self, number: int, entries: Sequence[Lineage]) -> Bool[np.ndarray, "n"] | None:
        """Which of these pictures of round `number` are hard by their first judgement; None where nothing judged any.
        Of round 0, those that a person vetoed were never judged, and count as easy."""
        judged = self.judgements(number)
        if judged is None:
            return None
        return is_hard(np.array([judged.get(entry.id, np.inf) for entry in entries], dtype=np.float64))

    def pool(self, number: int) -> AnomalyPool:
        """The pool after round `number`; after round 0 it is what was generated."""
        return self.fresh(0) if number == 0 else AnomalyPool.load(self.file(number, "pool", POOL))

    def hard(self, number: int) -> Bool[np.ndarray, "n"] | None:
        """Which of `pool(number)` are hard by the last judgement; None where nothing judged them."""
        return self.fresh_hard(0) if number == 0 else self.pool(number).hard

    def last_judgements(self, until: int) -> dict[str, tuple[int, float]]:
        """Id -> (round, relative distance) of the last judgement of each picture in the rounds to `until`."""
        last: dict[str, tuple[int, float]] = {}
        for number in range(until + 1):  # the pool is judged before the round, and what the round made after it
            pool = read_records(self.file(number, "evaluator", SCORES), Judgement) if number else ()
            last |= {row.id: (number, row.relative_distance) for row in pool}
            last |= {name: (max(number, 1), relative) for name, relative in (self.judgements(number) or {}).items()}
        return last

    def lineage(self, number: int) -> tuple[Lineage, ...]:
        """Of `pool(number)`, without its pictures."""
        return read_lineage(self.file(number, "images", IMAGES) if number == 0 else self.file(number, "pool", POOL))

    def everything(self) -> AnomalyPool:
        """What all rounds generated, whether it entered the pool or not, with the last judgement of each picture."""
        rounds = range(self.last_round + 1)
        last = self.last_judgements(self.last_round)
        parts = [self.fresh(number) for number in rounds]
        entries = [entry for part in parts for entry in part.entries]
        judged = tuple(replace(entry, history=(last[entry.id],) if entry.id in last else ()) for entry in entries)
        whole = reduce(AnomalyPool.joined, parts)
        return AnomalyPool(judged, whole.images, whole.masks)

    @property
    def has_traces(self) -> bool:
        """Whether `traces` are there."""
        return (self.root / TRACES / STAGE_FILE).is_file()

    def traces(self) -> AnomalyPool:
        """The pictures of the normals' own captions; see `kka.algorithm.traces`."""
        return AnomalyPool.load(self.root / TRACES / IMAGES)

    def facts(self, number: int) -> RoundFacts:
        """The figures of round `number`, from what is stored by now: round 0 is judged in round 1."""
        lineage = self.lineage(number)
        fresh = _share_hard((self.judgements(number) or {}).values())
        counts: dict[str, Any] = {
            "captions": self._count(number, "captions", "captions"), "pool_size": len(lineage),
            "captions_asked": self._count(number, "captions", "asked"),
            "generated": self.images_made(number), "set_aside": self._count(number, "images", "set_aside"),
        }  # fmt: skip
        if number == 0:
            return RoundFacts(round=0, **counts, hard_share_fresh=fresh, hard_share_pool=fresh)
        typical = int(read_entry(self.root, stage_name(number, "pool")).counts.get("too_typical") or 0)
        before = [row.relative_distance for row in read_records(self.file(number, "evaluator", SCORES), Judgement)]
        entered, closed = sum(entry.round == number for entry in lineage), None
        if not entered:
            judged = np.array(list((self.judgements(number) or {}).values()), dtype=np.float64)
            not_drawn = int(read_entry(self.root, stage_name(number, "images")).counts.get("not_drawn") or 0)
            closed = why_closed(
                lineage, np.array(before), judged, not_drawn=not_drawn, typical=typical, config=self.config()
            )
        return RoundFacts(
            round=number, **counts, hard_share_before=_share_hard(before), hard_share_fresh=fresh,
            hard_share_pool=_share_hard(entry.relative for entry in lineage),
            entered=entered, dpo=self.tuning(number), closed=closed, too_typical=typical,
        )  # fmt: skip

    def tuning(self, number: int) -> Tuning:
        """What Eq. 7 did in round `number`, from 1 on."""
        file = self.file(number, "dpo", TUNING)
        stored = read_json(file)
        with reading(file):
            return Tuning.from_dict(stored)

    def detector(self, arm: str, k: int = 0) -> Path:
        """Where a detector of an arm lies."""
        return self.root / arm_stage(arm, k) / DETECTOR

    def kept(self, arm: str) -> Path:
        """Where the detector for use lies; where there is none, as in runs of before, the arm's first."""
        folder = self.root / kept_stage(arm) / DETECTOR
        return folder if folder.is_dir() else self.detector(arm)

    def _count(self, number: int, stage: str, name: str) -> int:
        """A count in the ledger's entry of a stage of round `number`."""
        entry = read_entry(self.root, stage_name(number, stage))
        with reading(self.file(number, stage, STAGE_FILE)):
            return int(entry.counts[name] or 0)

    def _done(self, number: int, stage: str) -> bool:
        return self.file(number, stage, STAGE_FILE).is_file()


def _share_hard(relative: Iterable[float]) -> float | None:
    """The share of relative distances that are hard (Eq. 6); None of none."""
    values = np.fromiter(relative, dtype=np.float64)
    return float(is_hard(values).mean()) if len(values) else None
