"""Eq. 3 by copies of a language model on several machines.

Captions are sampled in batches, each with a seed of its own: a batch comes out the same whichever copy samples it, and
all of them as on one machine.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kka.common.packed import pack, unpack
from kka.common.progress import StageProgress
from kka.common.workers import Copies
from kka.seeding import derive_seed


@runtime_checkable
class SamplesInBatches(Protocol):
    """`kka.language.hf.HFLanguageModel`, as far as it is asked here."""

    progress: StageProgress | None
    tokens_written: int
    tunings: int

    def answer(self, prompts: Sequence[str], rows: Sequence[int], *, seed: int) -> list[str]: ...

    def save(self, path: Path) -> None: ...

    def restore(self, path: Path) -> None: ...


def sampled_by(
    copies: Copies, model: SamplesInBatches, prompts: Sequence[str], jobs: Sequence[int], *, size: int, seed: int
) -> list[list[str]]:
    """Answers to each prompt, one for each time that its number stands in `jobs`, in their order, `size` at a time."""
    adapter = _adapter(copies, model)
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    items = (
        (list(prompts), batch, derive_seed(seed, "sample", number), model.tunings, adapter)
        for number, batch in enumerate(batches)
    )
    texts: dict[int, list[str]] = {}
    done = 0
    for number, (found, tokens) in copies.each(answer_batch, items, most=len(batches)):
        texts[number] = found
        model.tokens_written += tokens
        done += len(found)
        if model.progress is not None:
            model.progress("captions", done, len(jobs))
    answers: list[list[str]] = [[] for _ in prompts]
    for number, batch in enumerate(batches):
        for prompt, text in zip(batch, texts[number], strict=True):
            answers[prompt].append(text)
    return answers


def _adapter(copies: Copies, model: SamplesInBatches) -> Any:
    """What a copy needs to be the model as it is tuned now; None: nothing."""
    if not model.tunings:
        return None
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        return copies.share(pack(Path(folder), [path.name for path in sorted(Path(folder).iterdir())]))


def answer_batch(
    model: SamplesInBatches,
    prompts: Sequence[str],
    rows: Sequence[int],
    seed: int,
    tunings: int,
    adapter: bytes | None,
) -> tuple[list[str], int]:
    """On another machine: an answer for each of `rows`, and the tokens that were written."""
    if adapter is not None and model.tunings != tunings:
        with tempfile.TemporaryDirectory() as folder:
            unpack(adapter, Path(folder))
            model.restore(Path(folder))
        model.tunings = tunings
    before = model.tokens_written
    texts = model.answer(prompts, rows, seed=seed)
    return texts, model.tokens_written - before
