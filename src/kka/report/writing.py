"""What the language model wrote and read in each round, what was usable of it, and what it cost. Pure."""

from collections.abc import Mapping
from typing import Any

from kka.algorithm.folder import stage_name
from kka.common.ledger import Counts, Ledger

COLUMNS = {
    "captions": "captions", "answers": "answers", "unusable": "unusable", "duplicates": "like earlier ones",
    "copies_of_normals": "like normals'", "tokens_read": "tokens read", "tokens": "tokens written", "cost": "cost",
}  # fmt: skip
"""A count in the ledger -> as people read it."""


def writing(ledger: Ledger, rounds: int) -> dict[str, Any] | None:
    """A row for each round and one for all, without what nothing counts; None for a run that counted no answers."""
    entries = [ledger.stages.get(stage_name(number, "captions")) for number in range(rounds)]
    counts: list[Counts] = [{} if entry is None else entry.counts for entry in entries]
    shown = [name for name in COLUMNS if any(found.get(name) is not None for found in counts)]
    if "answers" not in shown:
        return None
    total = {name: sum(found.get(name) or 0 for found in counts) for name in shown}
    rows = [(str(number), found) for number, found in enumerate(counts)]
    return {
        "columns": [COLUMNS[name] for name in shown],
        "rows": [(label, [as_text(name, found) for name in shown]) for label, found in [*rows, ("all", total)]],
    }


def as_text(name: str, counts: Mapping[str, int | float | None]) -> str:
    """A count, or money to four digits; a dash where nothing counts it."""
    value = counts.get(name)
    if value is None:
        return "–"
    return f"{value:.4f}" if name == "cost" else f"{value:,.0f}"
