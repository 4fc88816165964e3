"""Algorithm 1, one round at a time.

`rounds` is a generator; its stages (`kka.algorithm.stages`) are each committed before the next begins.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from kka.algorithm.facts import RoundFacts
from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool
from kka.algorithm.stages import Stages
from kka.common.cache import ImageCache
from kka.common.progress import StageProgress
from kka.common.store import Store
from kka.common.workers import Copies, Crew
from kka.config import RunConfig
from kka.errors import UserError
from kka.protocols import Alters, ImageModel, LanguageModel
from kka.task import Task


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round made: round 0 is the first generation, before any tuning."""

    number: int
    pool: AnomalyPool
    """The pool at the end of the round, as the detector gets it."""
    fresh: AnomalyPool
    """The images generated in this round, judged (but for round 0, which the next round's evaluator judges)."""
    facts: RoundFacts
    """Its figures, as far as they are known: round 0 is judged in round 1."""


def rounds(
    task: Task,
    language_model: LanguageModel,
    image_model: ImageModel | Alters,
    *,
    config: RunConfig,
    store: Store,
    cache: ImageCache | None = None,
    progress: StageProgress | None = None,
    crew: Crew | None = None,
    copies: Copies | None = None,
) -> Iterator[Round]:
    """Yield round 0 and then `config.rounds` rounds of Algorithm 1. The numbers below are the paper's lines.

    Args:
        crew: Trains the folds of the evaluator on other machines.
        copies: Of the image model on other machines, which draw in its place.

    Raises:
        UserError: the language model writes nothing usable, the image library is exhausted, the disk is full.
    """
    tell = progress or (lambda stage, done, total: None)
    run = Stages(task, language_model, image_model, config, store, cache, tell, crew, copies)
    # 1: Input: the normal images and their captions, `task`.
    # 2: Select representative normals by Eq. 2, and put their captions into prompts.
    prompts = run.prompts()
    # 3: Generate captions of anomalies by Eq. 3, and their images by Eq. 4.
    captions = run.write(0, prompts, config.initial, known=[])
    # 4: They are the first set of anomalies.
    pool = fresh = run.draw(0, captions, taken=())
    if not len(pool):
        raise UserError(
            f"image model {image_model.identity}: all {len(captions)} pictures of round 0 were set aside "
            f"({_reasons(run.folder)}); there is nothing to train on. Take another image model or prompt."
        )
    known, taken = _words_and_keys(fresh)  # of all rounds; their images are not kept
    yield Round(number=0, pool=pool, fresh=fresh, facts=run.folder.facts(0))
    # 5: For each round:
    for number in range(1, config.rounds + 1):
        # (What a person reviewed counts from here on.)
        pool = run.reviewed(number, pool)
        # 6: Train the confusion evaluator by Eq. 5.  7: Select the hard anomalies by Eq. 6.
        evaluator, pool = run.evaluate(number, pool)
        # 8: Tune the language model by Eq. 7.
        run.tune(number, pool, evaluator)
        # 3, again: new captions by the tuned model, and their images.
        shown = run.steered(number, pool, prompts) if config.steer == "examples" else prompts
        captions = run.write(number, shown, config.fresh * config.best_of, known=known)
        fresh = run.judge(number, evaluator, run.draw(number, captions, taken=taken))
        # 9: Update the set of anomalies by Eq. 8.
        pool = run.update(number, pool, fresh, evaluator)
        more_words, more_keys = _words_and_keys(fresh)
        known, taken = known + more_words, taken + more_keys
        yield Round(number=number, pool=pool, fresh=fresh, facts=run.folder.facts(number))
    # 10, 11: The caller has the set of anomalies after each round.


def _reasons(folder: RunFolder) -> str:
    """Why the pictures of round 0 were set aside, the most frequent reason first."""
    found = Counter(row.reason for row in folder.set_aside(0)).most_common()
    return "; ".join(f"{count}: {reason}" for reason, count in found)


def _words_and_keys(fresh: AnomalyPool) -> tuple[list[str], list[str]]:
    """The captions, and the keys of the pictures, of one round."""
    return [entry.caption for entry in fresh.entries], [entry.key for entry in fresh.entries]
