"""What a round made, in figures: an entry of summary.json."""

import dataclasses
from dataclasses import dataclass
from typing import Any


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
    dpo: dict[str, Any] | None = None
    """What the tuning did, or why there was none; round 0 has no tuning."""

    def as_dict(self) -> dict[str, Any]:
        """As summary.json holds it: round 0 without what it cannot have."""
        facts = dataclasses.asdict(self)
        if self.round == 0:
            for name in ("hard_share_before", "entered", "dpo"):
                del facts[name]
        return facts
