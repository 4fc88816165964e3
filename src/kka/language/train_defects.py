"""Trains the shipped language model of defects, from sentences that `kka.defects.grammar` makes as it learns.

No sentence is seen twice but by chance. The object is a blank (`kka.defects.blanks`), of photos or of a thing alone,
and the prompt says which.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM

from kka.defects.blanks import PHOTO, THING
from kka.defects.grammar import SUBJECT, describe
from kka.defects.reading import read
from kka.defects.vocabulary import FAMILIES
from kka.language.examples import collate, train_tokenizer
from kka.language.rng import own_randomness
from kka.language.train import LMTrainingReport, answers_loss, check_folder, fit, llama, write_model
from kka.seeding import derive_seed

STEPS, BATCH = 1600, 128
"""Two hundred thousand sentences."""
SPELLING, HELD_OUT = 20_000, 2_000
"""Sentences from which the tokenizer learns, each of their words a token, and by which the model is judged."""
ROOM = 64
"""Tokens of a prompt and an answer, for which the model's positions are made; sentences have 35 at most."""
ASKED = 1000
"""Captions of its own by which a person judges the model."""
_A_PHOTO = f"a photo of {THING}"


def blank_caption(rng: np.random.Generator) -> tuple[str, str]:
    """(prompt, answer): which blanks there are, and a sentence with one of them."""
    if rng.random() < 0.5:
        return THING, describe(rng, THING)
    return PHOTO, describe(rng, _A_PHOTO).replace(_A_PHOTO, PHOTO)


def train_defects_model(
    out: Path,
    *,
    layers: int = 4,
    hidden: int = 128,
    heads: int = 4,
    steps: int = STEPS,
    batch: int = BATCH,
    spelling: int = SPELLING,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> LMTrainingReport:
    """Train it and write the model folder `out`, as shipped in `kka/defects/lm`; an older model there is replaced.

    Equal arguments give equal weights on one machine.

    Args:
        spelling: Sentences from which the tokenizer learns.
        progress: Called with (steps done, steps, loss) after each step.

    Raises:
        UserError: `out` is something else than a model folder; a training that diverged.
    """
    check_folder(out)
    rng = np.random.default_rng(derive_seed(seed, "spelling"))
    sentences = [blank_caption(rng)[1] for _ in range(spelling)]
    tokenizer = train_tokenizer(sentences, str, vocabulary=2048)
    with own_randomness(derive_seed(seed, "weights"), torch.device("cpu")):
        model = LlamaForCausalLM(llama(tokenizer, layers, hidden, heads, heads // 2, ROOM))
    losses, seconds = fit(model, _batches(tokenizer, batch, seed), steps, 4e-3, progress=progress)
    loss = answers_loss(model, _rows(tokenizer, HELD_OUT, derive_seed(seed, "held out")), tokenizer.pad_token_id, batch)
    report = LMTrainingReport(
        parameters=sum(p.numel() for p in model.parameters()),
        vocabulary=len(tokenizer),
        captions=steps * batch,
        kinds=len(FAMILIES),
        steps=len(losses),
        seconds=seconds,
        complete=True,
        train_loss=float(np.mean(losses[-max(1, len(losses) // 10) :])),
        validation_perplexity=math.exp(loss),
        prompts=(),  # of which there are two alone
    )
    write_model(model, tokenizer, out, half=True)
    return report


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What `ASKED` captions of a model are: how many name a defect that paint knows, how many are different, how many
    of the known families come up."""

    named: int
    different: int
    families: int
    known: int


def figures_of(folder: Path, *, seed: int) -> Figures:
    """Of a stored model, half of its captions of photos and half of a thing."""
    from kka.language.defects import DefectsLanguageModel

    captions: list[str] = []
    for subject in (f"a photo of {SUBJECT}", SUBJECT):
        model = DefectsLanguageModel(folder, subjects=(subject,), device="cpu")
        captions += model.sample([subject], ASKED // 2, seed=derive_seed(seed, "figures", subject))[0]
    found = [read(caption, SUBJECT).defects for caption in captions]
    return Figures(
        named=sum(map(bool, found)),
        different=len(set(captions)),
        families=len({defect.family for defects in found for defect in defects}),
        known=len(FAMILIES),
    )


def _rows(tokenizer: Any, n: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Tokens of (prompt, answer), of `n` new sentences."""
    rng = np.random.default_rng(seed)
    drawn = [blank_caption(rng) for _ in range(n)]
    before = {
        prompt: tokenizer.apply_chat_template([{"role": "user", "content": prompt}], return_dict=False)
        for prompt in (PHOTO, THING)
    }
    answers = tokenizer([answer for _, answer in drawn], add_special_tokens=False)["input_ids"]
    return [
        (before[prompt], [*answer, tokenizer.eos_token_id])
        for (prompt, _), answer in zip(drawn, answers, strict=True)
    ]


def _batches(tokenizer: Any, size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of new sentences. Lengths are alike within a batch."""
    chunk = 0
    while True:
        chunk += 1
        own = derive_seed(seed, "sentences", chunk)
        rows = _rows(tokenizer, 16 * size, own)
        rows.sort(key=lambda row: len(row[1]))
        for k in np.random.default_rng(derive_seed(own, "order")).permutation(16):
            yield collate(rows[k * size : (k + 1) * size], tokenizer.pad_token_id)
