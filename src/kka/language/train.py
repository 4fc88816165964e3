"""Trains a small language model from captions: prompted with one caption, it writes one of another kind.

A byte-level BPE tokenizer and a Llama of about two million parameters, saved in Hugging Face format, so that the
model goes through the same code as any other. The examples are (prompt of a caption, caption of another kind that
shares words with it); the loss is on the answer alone, so the model learns how such captions are spread given one.
"""

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kka.common.numbers import DIVERGED, require_finite
from kka.errors import UserError
from kka.language.examples import Pairs, collate, train_tokenizer
from kka.language.loading import no_progress_bars
from kka.language.measures import PROMPTS
from kka.language.rng import own_randomness
from kka.seeding import derive_seed

LARGEST_LOSS = 700.0
"""Nats a token, beyond which a perplexity is no number."""

LEEWAY = 0.05
"""Share of the training by which the time may run ahead of the steps before it counts: a machine that pauses for a
moment trains the same model."""


@dataclass(frozen=True, kw_only=True)
class LMTrainingReport:
    """What a training did. `complete`: all steps were done before the time was up."""

    parameters: int
    vocabulary: int
    captions: int
    kinds: int
    steps: int
    seconds: float
    complete: bool
    train_loss: float
    """Nats a token, over the last tenth of the steps."""
    validation_perplexity: float
    """Of a token, on captions that were not trained on."""
    prompts: tuple[str, ...]
    """Of different captions, held-out ones first: what the model may be asked to see how much it hears of them."""


def train_language_model(
    corpus: Sequence[tuple[str, str]],
    prompt_of: Callable[[str], str],
    out: Path,
    *,
    layers: int = 4,
    hidden: int = 192,
    heads: int = 6,
    kv_heads: int = 2,
    vocabulary: int = 2048,
    steps: int = 1500,
    batch: int = 64,
    learning_rate: float = 3e-3,
    max_seconds: float = 540.0,
    seed: int = 0,
    half: bool = True,
    progress: Callable[[int, int, float], None] | None = None,
) -> LMTrainingReport:
    """Train on `corpus` and write the model folder `out` at once when done (an older model there is replaced).

    Equal arguments give equal weights on one machine, as long as the time suffices for all steps.

    Args:
        corpus: (kind, caption), of two kinds at least.
        prompt_of: The prompt for a caption: `kka.algorithm.prompts.build_prompt` with the domain filled in.
        vocabulary: Most tokens the tokenizer may have.
        max_seconds: The learning rate falls with the steps or with the time, whichever runs out first.
        half: Store the weights in half precision; they are computed with in full precision on a CPU.
        progress: Called with (steps done, steps, loss) after each step.

    Raises:
        UserError: fewer than two kinds or ten captions; `out` is something else than a model folder; a training that
            diverged.
    """
    _check(corpus)
    check_folder(out)
    captions = [" ".join(caption.split()) for _, caption in corpus]
    kinds = [kind for kind, _ in corpus]
    tokenizer = train_tokenizer(captions, prompt_of, vocabulary)
    data = Pairs(captions, kinds, prompt_of, tokenizer, seed)
    device = torch.device("cpu")
    with own_randomness(derive_seed(seed, "weights"), device):
        model = LlamaForCausalLM(llama(tokenizer, layers, hidden, heads, kv_heads, data.longest))
    losses, seconds = fit(
        model, data.batches(batch, seed), steps, learning_rate, max_seconds=max_seconds, progress=progress
    )
    places = [*data.validation, *data.train]
    report = LMTrainingReport(
        parameters=sum(p.numel() for p in model.parameters()),
        vocabulary=len(tokenizer),
        captions=len(corpus),
        kinds=len(set(kinds)),
        steps=len(losses),
        seconds=seconds,
        complete=len(losses) == steps,
        train_loss=float(np.mean(losses[-max(1, len(losses) // 10) :])),
        validation_perplexity=math.exp(min(_validation_loss(model, data, batch, seed), LARGEST_LOSS)),
        prompts=tuple(map(prompt_of, list(dict.fromkeys(captions[int(i)] for i in places))[:PROMPTS])),
    )
    write_model(model, tokenizer, out, half)
    return report


def train_garden_model(
    out: Path, *, seed: int = 0, captions: int = 30_000, progress: Callable[[int, int, float], None] | None = None
) -> LMTrainingReport:
    """The model of the embedded world, as shipped in `kka/garden/lm`: some three minutes on two free cores."""
    from kka.algorithm.prompts import build_prompt
    from kka.garden.corpus import corpus

    return train_language_model(
        corpus(captions, derive_seed(seed, "garden corpus")),
        lambda caption: build_prompt(caption, domain="flowers"),
        out,
        hidden=128,
        heads=4,
        vocabulary=1024,
        steps=450,
        learning_rate=4e-3,
        max_seconds=float("inf"),  # as of every model that is kept
        seed=seed,
        progress=progress,
    )


def _check(corpus: Sequence[tuple[str, str]]) -> None:
    kinds = {kind for kind, _ in corpus}
    if len(kinds) < 2 or len(corpus) < 10:
        raise UserError(
            f"language model: expected at least 10 captions of at least 2 kinds to learn from; got {len(corpus)} "
            f"captions of {len(kinds)} kinds"
        )


def check_folder(out: Path) -> None:
    """Raises UserError where a model cannot be put without something else being lost."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "config.json").is_file())):
        raise UserError(f"language model: expected a new folder, or one with a model to replace; got {out}")


def llama(tokenizer: Any, layers: int, hidden: int, heads: int, kv_heads: int, longest: int) -> LlamaConfig:
    """The shape of a small language model, for examples of `longest` tokens at most."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=max(512, 2 * longest),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def answer_loss(model: LlamaForCausalLM, ids: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """Mean −log p of the answers' tokens, in nats. Padding stands on the right, so causality alone hides it."""
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    wanted = answer[:, 1:]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]), ids[:, 1:][wanted])


def fit(
    model: LlamaForCausalLM,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    steps: int,
    learning_rate: float,
    *,
    max_seconds: float = float("inf"),
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[list[float], float]:
    """AdamW with warm-up and cosine; the loss of each step, and the seconds."""
    model.train()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.95),
    )
    losses: list[float] = []
    start = time.monotonic()
    for step, (ids, answer) in zip(range(steps), batches, strict=False):
        done, late = step / steps, (time.monotonic() - start) / max_seconds
        if late > done + LEEWAY:
            done = late
        if done >= 1:
            break
        rate = learning_rate * min(1.0, (step + 1) / (0.03 * steps + 1)) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = answer_loss(model, ids, answer)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(require_finite(float(loss.detach()), f"language model: the loss of step {step + 1}", DIVERGED))
        if progress is not None:
            progress(step + 1, steps, losses[-1])
    return losses, time.monotonic() - start


def _validation_loss(model: LlamaForCausalLM, data: Pairs, batch: int, seed: int) -> float:
    """Of the held-out captions, each under the prompt of a training caption."""
    rng = np.random.default_rng(derive_seed(seed, "validation pairs"))
    rows = [(data.prompts[data.partner(int(i), rng)], data.answers[int(i)]) for i in data.validation]
    return answers_loss(model, rows, data.pad, batch)


@torch.no_grad()
def answers_loss(
    model: LlamaForCausalLM, rows: Sequence[tuple[list[int], list[int]]], pad: int, batch: int
) -> float:
    """Nats a token of the answers, of (prompt, answer) in tokens."""
    model.eval()
    total = tokens = 0.0
    for start in range(0, len(rows), batch):
        ids, answer = collate(rows[start : start + batch], pad)
        count = int(answer.sum())
        total += float(answer_loss(model, ids, answer)) * count
        tokens += count
    return float(require_finite(total / tokens, "language model: the validation loss", DIVERGED))


def write_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, half: bool) -> None:
    """The folder appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        new = scratch / "new"
        with no_progress_bars():
            (model.half() if half else model).save_pretrained(new)
        tokenizer.save_pretrained(new)
        for file in new.iterdir():
            file.chmod(0o644)  # safetensors makes its files private; an installed package is read by all
        if out.exists():
            out.rename(scratch / "old")
        new.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
