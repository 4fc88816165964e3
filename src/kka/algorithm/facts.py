"""What a round made, in figures: an entry of summary.json."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from kka.algorithm.hardness import is_hard
from kka.algorithm.pool import LATER_SHARE, Lineage, exceeds
from kka.algorithm.selection import BAND, PER_KIND, in_band
from kka.config import RunConfig
from kka.protocols import DPOReport


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What Eq. 7 did in a round, or why it did nothing."""

    report: DPOReport | None = None
    why: str | None = None
    """Where there is no report."""

    def as_dict(self) -> dict[str, Any]:
        """As it is stored. JSON knows no NaN, which stands where there were no validation pairs: None."""
        if self.report is None:
            return {"tuned": False, "why": self.why}
        figures = dataclasses.asdict(self.report)
        return {"tuned": True, **{k: None if v is None or math.isnan(v) else v for k, v in figures.items()}}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Tuning":
        """Read what `as_dict` gave."""
        if not stored["tuned"]:
            return cls(why=stored["why"])
        unmeasured = {field.name for field in dataclasses.fields(DPOReport) if field.default is None}
        figures: dict[str, Any] = {
            name: math.nan if value is None and name not in unmeasured else value
            for name, value in stored.items()
            if name != "tuned"
        }
        return cls(report=DPOReport(**figures))


@dataclass(frozen=True, kw_only=True)
class RoundFacts:
    """The figures of one round. Shares are None where nothing judged the pictures."""

    round: int
    captions: int
    captions_asked: int
    generated: int
    """Usable pictures."""
    set_aside: int
    """Pictures that could not be used."""
    pool_size: int
    """At the end of the round."""
    hard_share_before: float | None = None
    """Of the pool at the beginning of the round, by its evaluator; round 0 has none."""
    hard_share_fresh: float | None = None
    """Of what was generated, at its first judgement."""
    hard_share_pool: float | None = None
    """Of the pool at the end of the round, each picture by its last judgement."""
    entered: int | None = None
    """Pictures of this round in the pool at its end; round 0 has no count."""
    dpo: Tuning | None = None
    """What the tuning did, or why there was none; round 0 has no tuning."""
    closed: str | None = None
    """Why no picture of this round entered the pool; None where some did, and in round 0."""
    too_typical: int = 0
    """Altered normals of this round that lie among the most typical normals, and were kept out of the pool."""

    def as_dict(self) -> dict[str, Any]:
        """As summary.json holds it: round 0 without what it cannot have."""
        facts = dataclasses.asdict(self)
        if self.dpo is not None:
            facts["dpo"] = self.dpo.as_dict()
        if self.round == 0:
            for name in ("hard_share_before", "entered", "dpo", "closed", "too_typical"):
                del facts[name]
        return facts

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "RoundFacts":
        """Read an entry of summary.json, which has the round's AUROC besides."""
        names = {field.name for field in dataclasses.fields(cls)}
        facts = {name: value for name, value in stored.items() if name in names}
        if facts.get("dpo") is not None:
            facts["dpo"] = Tuning.from_dict(facts["dpo"])
        return cls(**facts)


def why_closed(
    pool: Sequence[Lineage],
    before: Float[np.ndarray, "n"],
    fresh: Float[np.ndarray, "m"],
    *,
    not_drawn: int,
    typical: int,
    config: RunConfig,
) -> str:
    """Why no picture of a round entered the pool, as a clause: "none of its 200 pictures was hard".

    Args:
        pool: What the pool holds, which the round left as it was.
        before: Its relative distances by the round's evaluator.
        fresh: Those of the round's pictures.
        not_drawn: Captions that a drained library had no picture for.
        typical: Of the round's pictures, the nearest, which lie among the most typical normals.
    """
    may_enter = np.sort(fresh)[typical:]
    near = {"random": is_hard, "nearest": lambda r: r >= 0, "band": in_band}[config.choose]
    hard, size, later = is_hard(before), len(pool), sum(entry.round > 0 for entry in pool)
    grown = size + 1 if config.mode == "add" else size
    if not config.per_round:
        return "per_round is 0"
    if not len(fresh):
        return "the image library is drained" if not_drawn else "none of its pictures could be used"
    if not len(may_enter):
        return f"all its {len(fresh)} pictures lie among the most typical normals"
    if not near(may_enter).any():
        wanted = "was hard" if config.choose == "random" else f"lay in the band, {BAND[0]} to {BAND[1]}"
        but = f" but for {typical} that lie among the most typical normals" if typical else ""
        return f"none of its {len(fresh)} pictures {wanted}{but}"
    if config.choose != "random" and exceeds(later + 1, grown, LATER_SHARE):
        most = f"no more than {100 * LATER_SHARE:g} % may be"
        return f"{later} of the pool's {size} pictures are of later rounds already, and {most}"
    if exceeds(int(hard.sum()) + 1, grown, config.max_hard_share):
        return (
            f"{int(hard.sum())} of the pool's {size} pictures were hard already, and no more than "
            f"{100 * config.max_hard_share:g} % may be (max_hard_share)"
        )
    generic = np.array([config.choose == "random" or entry.round == 0 for entry in pool], dtype=bool)
    if config.mode == "rep" and not (~hard & generic).any():
        return "the pool holds no easy picture that could give way"
    return f"the pool holds {PER_KIND} pictures already of every kind of caption in the band"
