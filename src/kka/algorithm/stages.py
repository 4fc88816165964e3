"""The stages of Algorithm 1, each committed to the store under its name, whole or not at all.

What a stage made is read back from the store, so that a run that was killed and resumed goes the same way as one that
was not.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kka.algorithm.altering import members_of_prompts
from kka.algorithm.captions import CaptionBatch, repeats_by_kind, write_captions
from kka.algorithm.compared import by_text
from kka.algorithm.deep_sad import embed_with, pretrain
from kka.algorithm.evaluator import ConfusionEvaluator, train_evaluator
from kka.algorithm.facts import Tuning
from kka.algorithm.fitness import REASONS, too_typical
from kka.algorithm.folder import (
    ADAPTER,
    CAPTIONS,
    CLUSTERS,
    IMAGES,
    PAIRS,
    POOL,
    REPRESENTATIVES,
    SET_ASIDE,
    TUNING,
    RunFolder,
    pool_stage,
    stage_name,
)
from kka.algorithm.hardness import is_hard, preferred
from kka.algorithm.judged import read_judgements, write_judgements
from kka.algorithm.making import Making
from kka.algorithm.pairs import pairs_of_round
from kka.algorithm.pool import AnomalyPool
from kka.algorithm.prompts import (
    LIKE_HARD,
    build_prompt,
    draw_ideas,
    instruction,
    prompts_for,
    resolve_template,
)
from kka.algorithm.records import Representative, UnusablePicture, WrittenCaption
from kka.algorithm.representatives import clustered
from kka.algorithm.reviews import REVIEWS, read_reviews
from kka.algorithm.selection import banded, kinds_of, nearest
from kka.common.cache import ImageCache
from kka.common.disk import reading
from kka.common.files import write_jsonl, write_records
from kka.common.ledger import Counts
from kka.common.progress import StageProgress
from kka.common.store import Store
from kka.common.workers import Copies, Crew
from kka.config import RunConfig
from kka.errors import UserError
from kka.protocols import (
    Alters,
    ImageModel,
    LanguageModel,
    PreferencePair,
    TunableLanguageModel,
    identity_of,
)
from kka.seeding import derive_seed
from kka.task import Task

LEAST_LATER = 0.05
"""Share of a later round's captions without which the run stops. Tuning may narrow the language model until most of
what it writes has been written before: the round is then a small one, not the end of a run that has its pool."""


@dataclass
class Stages:
    """The stages of one run. Each does nothing where its result is stored, and gives back what is stored."""

    task: Task
    language_model: LanguageModel
    image_model: ImageModel | Alters
    config: RunConfig
    store: Store
    cache: ImageCache | None
    tell: StageProgress
    crew: Crew | None = None
    """Trains the folds of the evaluator on other machines."""
    copies: Copies | None = None
    """Of the image model on other machines."""

    @property
    def folder(self) -> RunFolder:
        """What is stored so far."""
        return RunFolder(self.store.root)

    def seed(self, *path: str | int) -> int:
        return derive_seed(self.config.seed, *path)

    def prompts(self) -> list[str]:
        """Eq. 1-2: the prompts made from the captions of the most typical normals, without repetition."""

        def compute(folder: Path) -> Counts:
            self.tell("representatives", 0, 1)
            settings = dataclasses.replace(self.config.sad, pretrain_epochs=self.config.autoencoder_epochs)
            start = pretrain(self.task.normals, settings=settings, seed=self.seed("representatives"))
            chosen, clusters = clustered(
                embed_with(start, self.task.normals), self.config.representatives, seed=self.seed("clusters")
            )
            template, domain = self.config.template, self.task.domain
            rows = [
                Representative(normal=index, caption=self.task.captions[index], prompt=prompt)
                for turn, index in enumerate(chosen)
                for prompt in prompts_for(
                    self.task.captions[index], domain=domain, template=template, seed=self.seed("ideas", turn)
                )
            ]
            write_records(folder / REPRESENTATIVES, rows)
            np.save(folder / CLUSTERS, clusters)
            self.tell("representatives", 1, 1)
            return {"representatives": len(chosen), "prompts": len(rows)}

        self.store.stage(stage_name(0, "representatives"), compute)
        return list(dict.fromkeys(row.prompt for row in self.folder.representatives()))

    def steered(self, number: int, pool: AnomalyPool, prompts: list[str]) -> list[str]:
        """As many prompts that show captions of hard anomalies in the place of normals'; none hard: `prompts`."""
        _, captions, relative = by_text((entry, (entry.prompt,)) for entry in pool.entries)
        hard = sorted({captions[i] for i in np.flatnonzero(preferred(relative, self.config.min_preferred))})
        chosen = np.random.default_rng(self.seed("examples", number)).permutation(hard)[: len(prompts)]
        template = LIKE_HARD if self.config.template == "defect" else self.config.template
        ideas = draw_ideas(max(1, len(chosen)), self.seed("examples", "ideas", number))
        shown = [
            build_prompt(str(caption), domain=self.task.domain, template=template, idea=idea)
            for caption, idea in zip(chosen, ideas, strict=False)
        ]
        return shown or prompts

    def write(self, number: int, prompts: list[str], count: int, *, known: list[str]) -> list[WrittenCaption]:
        """Eq. 3 (round 0) and Eq. 8: new captions, unlike each other, unlike earlier ones and unlike the normals'."""

        def compute(folder: Path) -> Counts:
            self.tell("captions", 0, count)
            batch: CaptionBatch = write_captions(
                self.language_model,
                prompts,
                count,
                seed=self.seed("captions", number),
                known=known,
                normals=self.task.captions,
                repeats=self.repeats(),
                instruction=instruction(self.config.template),
                of_normals="{idea}" in resolve_template(self.config.template),
                at_least=0.5 if number == 0 else LEAST_LATER,
            )
            rows = [
                WrittenCaption(caption=caption, prompt=prompt, seed=self.seed("image", number, index))
                for index, (caption, prompt) in enumerate(zip(batch.captions, batch.prompts, strict=True))
            ]
            write_records(folder / CAPTIONS, rows)
            self.tell("captions", count, count)
            return {
                "captions": len(rows),
                "asked": batch.asked,
                "answers": batch.answers,
                "unusable": batch.unusable,
                **{f"refused_{reason}": count for reason, count in batch.refused.items() if count},
                "duplicates": batch.duplicates,
                "copies_of_normals": batch.copies_of_normals,
                "tokens": batch.tokens,
                "tokens_read": batch.tokens_read,
                "cost": batch.cost,
            }

        self.store.stage(
            stage_name(number, "captions"), compute,
            after=[stage_name(0, "representatives") if number == 0 else stage_name(number, "dpo")],
        )  # fmt: skip
        return self.folder.captions(number)

    def repeats(self) -> Callable[[str], int]:
        """How many pictures a caption may have: as many as is set, or by how many captions its kind has."""
        fixed, knowledge = self.config.repeats, self.task.knowledge
        if fixed is not None or knowledge is None:
            return lambda text: fixed or 1
        wanted = self.config.initial + self.config.rounds * self.config.fresh * self.config.best_of
        by_kind: dict[str, list[str]] = {}
        for kind, captions in zip(knowledge.kinds, knowledge.captions, strict=True):
            by_kind.setdefault(kind, []).extend(captions)
        allowed = repeats_by_kind(by_kind, wanted)
        return lambda text: allowed.get(text, 1)

    def draw(self, number: int, captions: list[WrittenCaption], *, taken: Iterable[str]) -> AnomalyPool:
        """Eq. 4: the pictures of the captions, with their lineage. A library that is drained in a later round gives
        what it has left."""
        model = self.image_model

        def progress(done: int, total: int) -> None:
            self.tell("images", done, total)

        def compute(folder: Path) -> Counts:
            making = Making(
                model=model, number=number, language_model=identity_of(self.language_model), cache=self.cache,
                progress=progress, copies=self.copies,
            )  # fmt: skip
            if not isinstance(model, Alters):
                return making.draw(captions, frozenset(taken), self.task.normals.shape[1:3], folder)
            members = members_of_prompts(self.folder.representatives(), self.folder.clusters())
            return making.alter(captions, self.task.normals, members, self.config.filters, folder)

        folder = self.store.stage(stage_name(number, "images"), compute, after=[stage_name(number, "captions")])
        return AnomalyPool.load(folder / IMAGES)

    def reviewed(self, number: int, pool: AnomalyPool) -> AnomalyPool:
        """The pool without the pictures that a person vetoed, by the reviews that there are as the round begins.

        They are kept with the round, so that it ends as it began, whatever is said meanwhile. A round that began
        without any has none.

        Raises:
            UserError: too few would stay.
        """
        name = stage_name(number, "reviews")
        begun = self.store.done(stage_name(number, "evaluator"))
        if not self.store.done(name) and (begun or not (self.folder.root / REVIEWS).is_file()):
            return pool

        def compute(folder: Path) -> Counts:
            shutil.copyfile(self.folder.root / REVIEWS, folder / REVIEWS)
            reviews, least = read_reviews(folder / REVIEWS), max(2, self.config.folds)
            kept = len(reviews.without_vetoed(pool))
            if kept < least:
                raise UserError(f"reviews: expected at least {least} of the pool's {len(pool)} pictures to stay; got "
                                f"{kept}, the others are vetoed. Take some vetoes back: kka review.")  # fmt: skip
            return {**reviews.counts(), "left": len(pool) - kept}

        folder = self.store.stage(name, compute, after=[pool_stage(number - 1)])
        return read_reviews(folder / REVIEWS).without_vetoed(pool)

    def evaluate(self, number: int, pool: AnomalyPool) -> tuple[ConfusionEvaluator, AnomalyPool]:
        """Eq. 5-6: train the evaluator on normals and pool, and judge the pool by it."""

        def compute(folder: Path) -> Counts:
            evaluator, relative = train_evaluator(
                self.task.normals,
                pool.images,
                settings=self.config.sad,
                folds=self.config.folds,
                quantile=self.config.quantile,
                seed=self.seed("evaluator", number),
                fold_seed=self.seed("folds"),
                photo_of=self.task.photo_of,
                normal_of=pool.normal_of,
                progress=lambda done, total: self.tell("evaluator", done, total),
                crew=self.crew,
            )
            evaluator.save(folder)
            write_judgements(folder, pool.entries, relative)
            return {"hard": int(is_hard(relative).sum()), "judged": len(pool)}

        before = [pool_stage(number - 1), stage_name(number, "reviews")]
        folder = self.store.stage(stage_name(number, "evaluator"), compute, after=before)
        relative = read_judgements(folder, pool)
        evaluator = ConfusionEvaluator.load(folder, quantile=self.config.quantile)
        return evaluator, pool.judged(number, relative)

    def tune(self, number: int, pool: AnomalyPool, evaluator: ConfusionEvaluator) -> None:
        """Eq. 7: prefer the captions of hard images to those of easy ones. Says so where there is nothing to tune."""

        def compute(folder: Path) -> Counts:
            why = self._why_not_tuned()
            told, (train, validation) = ([], ([], [])) if why else pairs_of_round(
                self.folder, number, pool, evaluator, config=self.config, seed=self.seed("pairs", number), into=folder
            )
            rows = [{"split": "train", **dataclasses.asdict(pair)} for pair in train]
            for row in rows[: len(told)]:
                row["told"] = True  # by a person
            rows += [{"split": "validation", **dataclasses.asdict(pair)} for pair in validation]
            write_jsonl(folder / PAIRS, rows)
            tuning = Tuning(why=why) if why else self._tuned(number, train, validation, folder)
            (folder / TUNING).write_text(json.dumps(tuning.as_dict(), indent=1))
            by_people = {"told": len(told)} if told else {}
            return {"pairs": len(train), **by_people, "dpo_steps": tuning.report.steps if tuning.report else 0}

        tuned_now = not self.store.done(stage_name(number, "dpo"))
        made = [stage_name(r, "images") for r in range(number)] if self.config.pairs == "judged" else []
        folder = self.store.stage(stage_name(number, "dpo"), compute, after=[stage_name(number, "evaluator"), *made])
        if tuned_now or not isinstance(self.language_model, TunableLanguageModel):
            return
        if self.folder.tuning(number).report is not None:
            with reading(folder / ADAPTER):
                self.language_model.restore(folder / ADAPTER)

    def _why_not_tuned(self) -> str | None:
        """What keeps every tuning of this run from being one; None: nothing does."""
        if self.config.steer != "dpo":
            return f"steer is {self.config.steer}"
        if not isinstance(self.language_model, TunableLanguageModel):
            return "this language model cannot be tuned; it samples on as it is"
        return None

    def _tuned(
        self, number: int, train: list[PreferencePair], validation: list[PreferencePair], folder: Path
    ) -> Tuning:
        assert isinstance(self.language_model, TunableLanguageModel)
        if not train:
            judged = "no prompt has anomalies that are unlike enough to compare"
            pooled = "no prompt has both hard and easy anomalies to compare"
            return Tuning(why=judged if self.config.pairs == "judged" else pooled)
        self.tell("dpo", 0, self.config.language.dpo_steps)
        report = self.language_model.tune(train, validation, seed=self.seed("dpo", number))
        self.language_model.save(folder / ADAPTER)
        return Tuning(report=report)

    def judge(self, number: int, evaluator: ConfusionEvaluator, fresh: AnomalyPool) -> AnomalyPool:
        """Eq. 6 on images that the evaluator has never seen."""

        def compute(folder: Path) -> Counts:
            relative = evaluator.judge(fresh.images, fresh.normal_of)
            write_judgements(folder, fresh.entries, relative)
            return {"hard": int(is_hard(relative).sum()), "judged": len(fresh)}

        before = [stage_name(number, stage) for stage in ("evaluator", "images")]
        folder = self.store.stage(stage_name(number, "scores"), compute, after=before)
        return fresh.judged(number, read_judgements(folder, fresh))

    def update(
        self, number: int, pool: AnomalyPool, fresh: AnomalyPool, evaluator: ConfusionEvaluator
    ) -> AnomalyPool:
        """Eq. 8: add or replace."""

        def compute(folder: Path) -> Counts:
            change = pool.with_added if self.config.mode == "add" else pool.with_replaced
            share, seed = self.config.max_hard_share, self.seed("pool", number)
            may_enter = self._may_enter(fresh, evaluator, folder)
            order = self._order(pool, may_enter, evaluator)
            change(may_enter, self.config.per_round, max_hard_share=share, seed=seed, order=order).save(folder / POOL)
            return {"too_typical": len(fresh) - len(may_enter)}

        before = [pool_stage(number - 1), *(stage_name(number, stage) for stage in ("evaluator", "scores"))]
        return AnomalyPool.load(self.store.stage(stage_name(number, "pool"), compute, after=before) / POOL)

    def _may_enter(self, fresh: AnomalyPool, evaluator: ConfusionEvaluator, folder: Path) -> AnomalyPool:
        """`fresh` without altered normals that look normal; which they are is written into `folder`."""
        if fresh.masks is None or "typical" not in self.config.filters:
            return fresh
        typical = too_typical(evaluator, fresh.relative)
        rows = [
            UnusablePicture(caption=fresh.entries[i].caption, reason=REASONS["typical"])
            for i in np.flatnonzero(typical)
        ]
        write_records(folder / SET_ASIDE, rows)
        return fresh.take(np.flatnonzero(~typical).tolist())

    def _order(self, pool: AnomalyPool, fresh: AnomalyPool, evaluator: ConfusionEvaluator) -> list[int] | None:
        """Which of `fresh` are to enter, best first; None: hard ones at random."""
        if self.config.choose == "random":
            return None
        if self.config.choose == "nearest":
            return nearest(fresh.relative)
        later = [entry.caption for entry in pool.entries if entry.round > 0]
        kinds = kinds_of([*later, *(entry.caption for entry in fresh.entries)])
        z, centres = evaluator.embed(fresh.images), evaluator.embed(pool.images)
        return banded(fresh.relative, z, kinds[len(later) :], centres=centres, taken=kinds[: len(later)])
