"""Algorithm 1, one round at a time.

`rounds` is a generator; its stages (`kka.algorithm.stages`) are each committed before the next begins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kka.algorithm.pool import AnomalyPool
from kka.algorithm.stages import Progress, Stages
from kka.common.cache import ImageCache
from kka.common.store import Store
from kka.config import RunConfig
from kka.errors import UserError
from kka.protocols import ImageModel, LanguageModel
from kka.task import Task


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round made: round 0 is the first generation, before any tuning."""

    number: int
    pool: AnomalyPool
    """The pool at the end of the round, as the detector gets it."""
    fresh: AnomalyPool
    """The images generated in this round, judged (but for round 0, which the next round's evaluator judges)."""
    facts: dict[str, Any]
    """The round's entry in summary.json."""


def rounds(
    task: Task,
    language_model: LanguageModel,
    image_model: ImageModel,
    *,
    config: RunConfig,
    store: Store,
    cache: ImageCache | None = None,
    progress: Progress | None = None,
) -> Iterator[Round]:
    """Yield round 0 and then `config.rounds` rounds of Algorithm 1 (lines 2 to 10).

    Raises:
        UserError: the language model writes nothing usable, the image library is exhausted, the disk is full.
    """
    tell = progress or (lambda stage, done, total: None)
    run = Stages(task, language_model, image_model, config, store, cache, tell)
    prompts = run.prompts()

    captions = run.write(0, prompts, config.initial, known=[])
    pool = fresh = run.draw(0, captions, taken=())
    if not len(pool):
        raise UserError(
            f"image model {image_model.identity}: all {len(captions)} pictures of round 0 were black or constant and "
            f"were set aside; there is nothing to train on. Take another image model or prompt."
        )
    facts = {"round": 0, "generated": len(fresh), "pool_size": len(pool), **run.caption_facts(0)}
    yield Round(number=0, pool=pool, fresh=fresh, facts=facts)

    generated = [fresh]
    for number in range(1, config.rounds + 1):
        evaluator, pool = run.evaluate(number, pool)
        before = float(pool.hard.mean())
        dpo = run.tune(number, pool)
        known = [entry.caption for past in generated for entry in past.entries]
        taken = [entry.key for past in generated for entry in past.entries]
        steered = run.steered(number, pool, prompts) if config.steer == "examples" else prompts
        captions = run.write(number, steered, config.fresh, known=known)
        fresh = run.judge(number, evaluator, run.draw(number, captions, taken=taken))
        pool = run.update(number, pool, fresh)
        generated.append(fresh)
        facts = {
            "round": number,
            "generated": len(fresh),
            "pool_size": len(pool),
            "hard_share_before": before,
            "hard_share_fresh": float(fresh.hard.mean()) if len(fresh) else None,
            "hard_share_pool": float(pool.hard.mean()),
            "entered": sum(entry.round == number for entry in pool.entries),
            "dpo": dpo,
            **run.caption_facts(number),
        }
        yield Round(number=number, pool=pool, fresh=fresh, facts=facts)
