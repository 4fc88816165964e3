"""Eq. 3, x_a^t ~ LLM(prompt(x_n)): sample until there are enough captions of imagined anomalies, and tell them apart.

Pure but for the language model that is passed in.
"""

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from kka.algorithm.answers import clean, normalise, parse_answer
from kka.algorithm.refusals import REASONS, WHY, reason_against
from kka.errors import UserError
from kka.protocols import CountsTokens, LanguageModel, Metered, WritesLists
from kka.seeding import derive_seed

BARREN = 64
"""So many answers without one usable caption end the sampling."""
DUPLICATE_SIMILARITY = 0.85
"""Captions whose word pairs overlap by at least this much (Jaccard) count as the same.

In a caption of twenty words, one colour put for another gives about 0.8 and is a caption of its own; an article
more or less, another order of two clauses' punctuation, or a repeated word is not.
"""


class NearDuplicates:
    """Finds texts whose sets of adjacent word pairs have a Jaccard similarity ≥ `similarity` with an earlier text.

    An inverted index, word pair -> numbers of the texts that hold it, gives the overlap with all of them at once.
    """

    def __init__(self, texts: Iterable[str] = (), *, similarity: float = DUPLICATE_SIMILARITY) -> None:
        self.similarity = similarity
        self._holders: dict[str, array[int]] = defaultdict(lambda: array("i"))
        self._sizes = array("i")
        self._exact: set[frozenset[str]] = set()
        for text in texts:
            self.add(text)

    @staticmethod
    def _pairs(text: str) -> frozenset[str]:
        words = ["^", *normalise(text).split(), "$"]
        return frozenset(f"{a} {b}" for a, b in pairwise(words))

    def find(self, text: str) -> bool:
        """Whether `text` is a near-duplicate of a text added before."""
        pairs = self._pairs(text)
        if pairs in self._exact:
            return True
        holders = [np.frombuffer(self._holders[pair], np.int32) for pair in pairs if pair in self._holders]
        if not holders:
            return False
        common = np.bincount(np.concatenate(holders))
        union = len(pairs) + np.frombuffer(self._sizes, np.int32)[: len(common)] - common
        return bool((common >= self.similarity * union - 1e-9).any())

    def add(self, text: str) -> None:
        pairs = self._pairs(text)
        if pairs in self._exact:
            return
        self._exact.add(pairs)
        for pair in pairs:
            self._holders[pair].append(len(self._sizes))
        self._sizes.append(len(pairs))


def repeats_by_kind(captions: Mapping[str, Sequence[str]], wanted: int) -> dict[str, int]:
    """Normalised text -> how many pictures it may have, for the kinds whose captions are too few for their share.

    Where pictures are captioned by their class's name, or by one stock sentence, writing each text once would leave
    the kind out. A kind's share is an even one of `wanted`; its texts may take four times that, as a language model
    draws unevenly.

    Args:
        captions: Kind -> its captions.
        wanted: Images to be generated in all.
    """
    share = wanted / max(1, len(captions))
    found: dict[str, int] = {}
    for texts in captions.values():
        unlike, seen = 0, NearDuplicates()
        for text in dict.fromkeys(texts):
            if unlike >= share:
                break
            if not seen.find(text):
                seen.add(text)
                unlike += 1
        if unlike < share:
            for text in map(normalise, texts):
                found[text] = max(found.get(text, 1), math.ceil(4 * share / unlike))
    return found


def once(text: str) -> int:
    """No text is kept twice."""
    return 1


@dataclass(frozen=True, kw_only=True)
class CaptionBatch:
    """New captions with the prompt of each, and what it took to get them."""

    captions: tuple[str, ...]
    prompts: tuple[str, ...]
    """The prompt under which each caption was written."""
    prompt_index: tuple[int, ...]
    asked: int
    """How many captions were wanted."""
    answers: int
    """Raw answers sampled from the model."""
    unusable: int
    """Answers without any caption, and texts that cannot serve as one: those of `refused` too."""
    refused: Mapping[str, int]
    """Texts that describe no picture, by reason: `kka.algorithm.refusals.REASONS`."""
    duplicates: int
    copies_of_normals: int
    tokens: int | None
    """Tokens the model wrote; None when it does not count them."""
    tokens_read: int | None = None
    """None when it does not count them."""
    cost: float | None = None
    """In the currency of the model's prices; None where it has none."""

    @property
    def short(self) -> bool:
        """Fewer captions than were asked for."""
        return len(self.captions) < self.asked


@dataclass
class _Harvest:
    """What the answers so far gave, prompt by prompt."""

    seen: NearDuplicates
    normals: NearDuplicates
    by_prompt: list[list[str]]
    repeats: Callable[[str], int]
    counts: Counter[str]
    """How often each text, normalised, has been kept so far."""
    instruction: str = ""
    normal_words: frozenset[str] = frozenset()
    """Where captions tell of a normal with something more: the words that say nothing more."""
    refused: Counter[str] = field(default_factory=Counter)
    answers: int = 0
    unusable: int = 0
    duplicates: int = 0
    copies: int = 0
    samples: list[str] = field(default_factory=list)
    """A few raw answers, for the error messages."""

    def take(self, index: int, answer: str) -> None:
        self.answers += 1
        if len(self.samples) < 5:
            self.samples.append(answer)
        texts = parse_answer(answer)
        self.unusable += not texts
        for text in texts:
            caption = clean(text)
            if caption is None:
                self.unusable += 1
            elif (reason := reason_against(caption, self.instruction)) is not None:
                self.unusable += 1
                self.refused[reason] += 1
            elif self.normals.find(caption) or self._says_nothing_more(caption):
                self.copies += 1
            elif self.seen.find(caption) and not 0 < self.counts[same := normalise(caption)] < self.repeats(same):
                self.duplicates += 1
            else:
                self.seen.add(caption)
                self.counts[normalise(caption)] += 1
                self.by_prompt[index].append(caption)

    def _says_nothing_more(self, caption: str) -> bool:
        return bool(self.normal_words) and self.normal_words >= {*normalise(caption).split()}

    @property
    def total(self) -> int:
        return sum(map(len, self.by_prompt))


def write_captions(
    model: LanguageModel,
    prompts: Sequence[str],
    n: int,
    *,
    seed: int,
    known: Iterable[str] = (),
    normals: Iterable[str] = (),
    repeats: Callable[[str], int] = once,
    instruction: str = "",
    of_normals: bool = False,
    at_least: float = 0.5,
    max_attempts: int = 8,
) -> CaptionBatch:
    """`n` usable captions, none like another, like one of `known` or like one of `normals`, spread evenly.

    Each attempt samples with a seed of its own, from the prompts that still lack captions; where a prompt gives
    out, the others fill in. Fewer than `n` but at least the share `at_least` of it: the batch says so (`short`).

    Args:
        known: Captions that the run already holds.
        normals: Captions of normal images: a copy of one describes no anomaly.
        repeats: How often a text, normalised, may be kept, `known` included; near-duplicates of it still count as
            the same.
        instruction: The prompts' own words: see `kka.algorithm.prompts.instruction`.
        of_normals: Captions tell of a normal with something more: one in words of `normals` alone is a copy.
        max_attempts: Bound on the rounds of sampling.

    Raises:
        UserError: no prompts; nothing usable, or fewer than `at_least` of `n`, after all attempts (shows raw answers).
    """
    if not prompts or n < 1:
        raise UserError(f"captions: expected at least one prompt and n ≥ 1; got {len(prompts)} prompts, n = {n}")
    before = _Spent.by(model)
    at_once = model.captions_an_answer if isinstance(model, WritesLists) else 1
    known = list(known)
    counts = Counter(map(normalise, known))
    normals = list(dict.fromkeys(normals))
    said = frozenset(word for text in normals for word in normalise(text).split()) if of_normals else frozenset()
    harvest = _Harvest(
        NearDuplicates(known), NearDuplicates(normals), [[] for _ in prompts], repeats, counts, instruction, said
    )
    quotas = [n // len(prompts) + (i < n % len(prompts)) for i in range(len(prompts))]
    for attempt in range(max_attempts):
        lacking = [q - len(got) for q, got in zip(quotas, harvest.by_prompt, strict=True)]
        if not harvest.total and harvest.answers * at_once >= BARREN:
            break  # more answers of that kind would be paid for in vain
        if harvest.total >= n and attempt > 1:
            break  # two tries for an even spread; after that the others may fill in
        open_prompts = [i for i, lack in enumerate(lacking) if lack > 0]
        if not open_prompts:
            break
        most = max(lacking[i] for i in open_prompts)
        per_prompt = -(-most // at_once)
        if harvest.answers:  # ask for as many as the yield so far makes necessary
            per_prompt = -(-most * harvest.answers // max(harvest.total, harvest.answers * at_once // 4, 1))
        asked = [prompts[i] for i in open_prompts]
        for i, answers in zip(
            open_prompts, model.sample(asked, per_prompt, seed=derive_seed(seed, "captions", attempt)), strict=True
        ):
            for answer in answers:
                harvest.take(i, answer)
    _require_enough(harvest, n, at_least)
    return _even_batch(harvest, prompts, n, _Spent.by(model).since(before))


@dataclass(frozen=True)
class _Spent:
    """What a model has used so far; None: it does not count that."""

    tokens: int | None
    read: int | None
    cost: float | None

    @classmethod
    def by(cls, model: LanguageModel) -> "_Spent":
        tokens = model.tokens_written if isinstance(model, CountsTokens) else None
        read, cost = (model.tokens_read, model.cost) if isinstance(model, Metered) else (None, None)
        return cls(tokens, read, cost)

    def since(self, before: "_Spent") -> "_Spent":
        return _Spent(
            None if self.tokens is None else self.tokens - (before.tokens or 0),
            None if self.read is None else self.read - (before.read or 0),
            None if self.cost is None else round(self.cost - (before.cost or 0), 9),
        )


def _even_batch(harvest: _Harvest, prompts: Sequence[str], n: int, spent: _Spent) -> CaptionBatch:
    """The first captions of each prompt in turn, until there are `n`; given back in the order of the prompts."""
    longest = max(map(len, harvest.by_prompt))
    turns = [(k, i) for k in range(longest) for i, got in enumerate(harvest.by_prompt) if k < len(got)]
    chosen = sorted((i, k) for k, i in turns[:n])
    return CaptionBatch(
        captions=tuple(harvest.by_prompt[i][k] for i, k in chosen),
        prompts=tuple(prompts[i] for i, _ in chosen),
        prompt_index=tuple(i for i, _ in chosen),
        asked=n,
        answers=harvest.answers,
        unusable=harvest.unusable,
        refused={reason: harvest.refused[reason] for reason in REASONS},
        duplicates=harvest.duplicates,
        copies_of_normals=harvest.copies,
        tokens=spent.tokens,
        tokens_read=spent.read,
        cost=spent.cost,
    )


def _require_enough(harvest: _Harvest, n: int, at_least: float) -> None:
    if harvest.total and harvest.total >= at_least * n:
        return
    shown = "\n".join(f"  {sample[:200]!r}" for sample in harvest.samples)
    raise UserError(
        f"the language model wrote {harvest.total or 'no'} usable captions where {n} were wanted: of "
        f"{harvest.answers} answers, {harvest.unusable} texts were unusable{_by_reason(harvest)}, "
        f"{harvest.duplicates} were like earlier captions and {harvest.copies} like those of normal images. Raise its "
        "temperature, give it a larger token limit, or take another model or prompt template. Some of its raw answers:"
        f"\n{shown}"
    )


def _by_reason(harvest: _Harvest) -> str:
    told = ", ".join(f"{count} {WHY[reason]}" for reason, count in harvest.refused.most_common())
    return f" ({told})" if told else ""
