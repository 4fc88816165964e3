"""What a language model's own answers tell of it: how much they hear of their prompt, how far a tuning has led, and
how many of them differ. All by fresh answers, drawn as the probabilities are, unless said otherwise; in nats an answer.

A small model is measured by the mean of log-probabilities over `SAMPLES` answers. Of a large one `FEW` answers are
drawn, and over their tokens is summed what is known of each in full: the entropy, or the KL, of the distribution over
the vocabulary. By the chain rule the expectation is the same: both estimators are unbiased, for answers cut off at
`max_new_tokens`. The variance is smaller (Rao and Blackwell; Amini et al. 2025, arXiv:2504.10637). The bound on KL is
compared with one such estimate, whose error can decide where the KL is near the bound.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kka.algorithm.answers import normalise, parse_answer
from kka.errors import UserError
from kka.language.logps import row_logits, row_of, rows_of, shared_logps

SAMPLES, FEW = 64, 24
"""Fresh answers for KL and entropy, of a small and of a large model."""
HUNDRED, SOME = 100, 32
"""Answers among which the different captions are counted, of a small and of a large model."""
PROMPTS, ANSWERS_EACH = 48, 2
"""For the mutual information, which the estimate cannot find above log 48 = 3.9 nats."""


@runtime_checkable
class Measurable(Protocol):
    """What is asked of a language model here, as `kka.language.hf` has it: prompts and answers as tokens."""

    tokenizer: Any
    settings: Any
    shared: bool
    """Whether it is large, and reads prompts once (`kka.language.logps`)."""

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
    """KL(policy ‖ base): mean of log π_θ − log π_0; of a large model, of its tokens' KL. Infinite where the policy
    gives no probabilities any more."""
    rows = _spread(prompts, FEW if model.shared else SAMPLES)
    try:
        answers = model.draw(prompts, rows, seed=seed)
    except UserError:
        return float("inf")
    given = [prompts[i] for i in rows]
    if model.shared:
        return _by_tokens(model, given, answers, _kl)
    policy = _logps(model, given, answers)
    with model.as_base():
        return float((policy - _logps(model, given, answers)).mean())


def base_entropy(model: Measurable, prompts: Sequence[str], *, seed: int) -> float:
    """Entropy of the base model: mean of −log π_0 over answers of its own; of a large model, of its tokens' entropy."""
    rows = _spread(prompts, FEW if model.shared else SAMPLES)
    with model.as_base():
        answers = model.draw(prompts, rows, seed=seed)
        if model.shared:
            return _by_tokens(model, [prompts[i] for i in rows], answers, _entropy)
        return float(-_logps(model, [prompts[i] for i in rows], answers).mean())


def different_captions(model: Measurable, prompts: Sequence[str], *, seed: int) -> int:
    """Different captions among `HUNDRED` answers to `prompts`, `SOME` of a large model, drawn as a run draws them."""
    answers = model.draw(prompts, _spread(prompts, SOME if model.shared else HUNDRED), seed=seed, as_set=True)
    return len({normalise(caption) for answer in answers for caption in parse_answer(model.decode(answer))})


Figure = Callable[[Float[Tensor, "m v"], Float[Tensor, "m v"]], Float[Tensor, "m"]]
"""Of each token's distribution, by log-probabilities of the model as it stands and of the base model."""


def _entropy(logp: Float[Tensor, "m v"], _: Float[Tensor, "m v"]) -> Float[Tensor, "m"]:
    """H(p) = −Σ p log p."""
    return -(logp.exp() * logp).sum(-1)


def _kl(logp: Float[Tensor, "m v"], base: Float[Tensor, "m v"]) -> Float[Tensor, "m"]:
    """KL(p ‖ q) = Σ p (log p − log q)."""
    return (logp.exp() * (logp - base)).sum(-1)


@torch.no_grad()
def _by_tokens(model: Measurable, prompts: Sequence[str], answers: Sequence[list[int]], figure: Figure) -> float:
    """The mean over answers of the sum of a figure over the answer's tokens."""
    encoded = {prompt: model.encode(prompt) for prompt in set(prompts)}
    given = [encoded[prompt] for prompt in prompts]
    model.policy.eval()
    total = 0.0
    for part in rows_of(given, answers, tokens=VOCABULARIES):
        row = row_of([given[i] for i in part], [answers[i] for i in part], next(model.policy.parameters()).device)
        logp = row_logits(model.policy, row).log_softmax(-1)
        base = logp
        if figure is _kl:
            with model.as_base():
                base = row_logits(model.policy, row).log_softmax(-1)
        total += float(figure(logp, base).sum())
    return total / len(answers)


VOCABULARIES = 384
"""Tokens of a row of which the whole distribution is held."""


def _spread(prompts: Sequence[str], n: int) -> list[int]:
    """`n` indexes of prompts, each as often as the others."""
    return sorted(i % len(prompts) for i in range(n))


def _logps(model: Measurable, prompts: Sequence[str], answers: Sequence[list[int]]) -> Float[np.ndarray, "n"]:
    """log π(answer | prompt) of the model as it stands."""
    encoded = {prompt: model.encode(prompt) for prompt in set(prompts)}
    given, pad = [encoded[prompt] for prompt in prompts], model.tokenizer.pad_token_id
    if model.shared:
        return shared_logps(model.policy, given, answers)
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
