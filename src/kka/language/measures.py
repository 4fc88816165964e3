"""What a language model's own answers tell of it: how much they hear of their prompt, how far a tuning has led, and
how many of them differ. All by fresh answers, drawn as the probabilities are, unless said otherwise; in nats an answer.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int

from kka.algorithm.answers import normalise, parse_answer
from kka.errors import UserError

SAMPLES = 64
"""Fresh answers for KL and entropy."""
HUNDRED = 100
"""Answers among which the different captions are counted."""
PROMPTS, ANSWERS_EACH = 48, 2
"""For the mutual information, which the estimate cannot find above log 48 = 3.9 nats."""


@runtime_checkable
class Measurable(Protocol):
    """What is asked of a language model here, as `kka.language.hf` has it: prompts and answers as tokens."""

    tokenizer: Any
    settings: Any

    @property
    def policy(self) -> Any:
        """The network as it is tuned so far."""

    def as_base(self) -> AbstractContextManager[None]:
        """Inside, the network is the untuned one."""

    def draw(self, prompts: Sequence[str], rows: Sequence[int], *, seed: int, as_set: bool = False) -> list[list[int]]:
        """One answer for each of `rows`, the numbers of its prompts."""

    def encode(self, prompt: str) -> list[int]:
        """The tokens that stand before an answer."""

    def decode(self, tokens: list[int]) -> str:
        """The text of an answer."""


def information(logps: Float[np.ndarray, "n p"], own: Int[np.ndarray, "n"]) -> float:
    """I(prompt; answer): the mean of log π(x|p) − log mean_p' π(x|p'), where answer x was given to prompt p = `own`.

    `logps[i, j]` = log π(answer i | prompt j). 0 where answers do not depend on the prompt; at most log of the prompts.
    """
    means = np.logaddexp.reduce(logps, axis=1) - np.log(logps.shape[1])
    return float((logps[np.arange(len(logps)), own] - means).mean())


def prompt_information(model: Measurable, prompts: Sequence[str], *, seed: int) -> float:
    """`information` of a model's answers to the first `PROMPTS` of `prompts`."""
    asked = list(dict.fromkeys(prompts))[:PROMPTS]
    own = np.repeat(np.arange(len(asked)), ANSWERS_EACH)
    answers = model.draw(asked, own.tolist(), seed=seed)
    columns = [_logps(model, [prompt] * len(answers), answers) for prompt in asked]
    return information(np.stack(columns, axis=1), own)


def kl_to_base(model: Measurable, prompts: Sequence[str], *, seed: int) -> float:
    """KL(policy ‖ base): mean of log π_θ − log π_0. Infinite where the policy gives no probabilities any more."""
    rows = _spread(prompts, SAMPLES)
    try:
        answers = model.draw(prompts, rows, seed=seed)
    except UserError:
        return float("inf")
    given = [prompts[i] for i in rows]
    policy = _logps(model, given, answers)
    with model.as_base():
        return float((policy - _logps(model, given, answers)).mean())


def base_entropy(model: Measurable, prompts: Sequence[str], *, seed: int) -> float:
    """Entropy of the base model: mean of −log π_0 over answers of its own."""
    rows = _spread(prompts, SAMPLES)
    with model.as_base():
        answers = model.draw(prompts, rows, seed=seed)
        return float(-_logps(model, [prompts[i] for i in rows], answers).mean())


def different_captions(model: Measurable, prompts: Sequence[str], *, seed: int) -> int:
    """Different captions among `HUNDRED` answers to `prompts`, drawn as a run draws them."""
    answers = model.draw(prompts, _spread(prompts, HUNDRED), seed=seed, as_set=True)
    return len({normalise(caption) for answer in answers for caption in parse_answer(model.decode(answer))})


def _spread(prompts: Sequence[str], n: int) -> list[int]:
    """`n` indexes of prompts, each as often as the others."""
    return sorted(i % len(prompts) for i in range(n))


def _logps(model: Measurable, prompts: Sequence[str], answers: Sequence[list[int]]) -> Float[np.ndarray, "n"]:
    """log π(answer | prompt) of the model as it stands."""
    encoded = {prompt: model.encode(prompt) for prompt in set(prompts)}
    given, pad = [encoded[prompt] for prompt in prompts], model.tokenizer.pad_token_id
    batch = model.settings.dpo_micro_batch or model.settings.dpo_batch
    return completion_logps(model.policy, given, answers, pad, batch=batch)


@torch.no_grad()
def completion_logps(
    model: torch.nn.Module, prompts: Sequence[list[int]], answers: Sequence[list[int]], pad: int, *, batch: int
) -> np.ndarray:
    """log p(answer | prompt) of each pair of token lists, summed over the answer's tokens, in nats: (n,) float64."""
    model.eval()
    device = next(model.parameters()).device
    out = []
    for start in range(0, len(prompts), batch):
        rows = [torch.tensor(p + a) for p, a in zip(prompts[start : start + batch], answers[start:], strict=False)]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        first = torch.tensor([len(p) for p in prompts[start : start + batch]], device=device)
        position = torch.arange(ids.shape[1], device=device)
        attend = position < lengths[:, None]
        answer = attend & (position >= first[:, None])
        logits = model(input_ids=ids, attention_mask=attend.long(), use_cache=False).logits[:, :-1].float()
        token_logps = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        # In NumPy: a GPU by MPS has no numbers of 64 bits.
        out.append((token_logps.cpu().numpy().astype(np.float64) * answer[:, 1:].cpu().numpy()).sum(1))
    return np.concatenate(out) if out else np.zeros(0)
