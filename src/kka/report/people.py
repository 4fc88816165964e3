"""What people's reviews changed, round by round, in words. Pure."""

from kka.algorithm.folder import stage_name
from kka.algorithm.reviews import REASONS
from kka.common.ledger import Counts, Ledger


def review_notes(ledger: Ledger, rounds: int) -> list[str]:
    """A sentence for each round that began with reviews."""
    notes = []
    for number in range(rounds):
        entry = ledger.stages.get(stage_name(number, "reviews"))
        if entry is not None:
            tuning = ledger.stages.get(stage_name(number, "dpo"))
            told = 0 if tuning is None else int(tuning.counts.get("told") or 0)
            notes.append(f"Round {number} {_in_words(entry.counts, told)}")
    return notes


def _in_words(counts: Counts, told: int) -> str:
    vetoes = {reason: int(counts.get(reason) or 0) for reason in REASONS}
    vetoed = f"{sum(vetoes.values())} vetoed"
    if reasons := ", ".join(f"{count} {reason}" for reason, count in vetoes.items() if count):
        vetoed += f" ({reasons})"
    said = [f"{int(counts.get(name) or 0)} {words}" for name, words in
            (("keep", "kept"), ("harder", "harder than judged"), ("easier", "easier than judged"),
             ("choices", "choices between two"))]  # fmt: skip
    left = int(counts.get("left") or 0)
    pairs = f"{told or 'no'} preference {'pair' if told == 1 else 'pairs'} of the tuning came of it"
    return (
        f"began with what people said of the pictures before it: {vetoed}, {', '.join(said)}. "
        f"{left} {'picture' if left == 1 else 'pictures'} left the pool; {pairs}."
    )
