"""What a round made, in figures: an entry of summary.json."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

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

    def as_dict(self) -> dict[str, Any]:
        """As summary.json holds it: round 0 without what it cannot have."""
        facts = dataclasses.asdict(self)
        if self.dpo is not None:
            facts["dpo"] = self.dpo.as_dict()
        if self.round == 0:
            for name in ("hard_share_before", "entered", "dpo"):
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
