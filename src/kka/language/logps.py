"""log p(answer | prompt), with each prompt read once and logits only where an answer stands.

All answers lie in one row behind the prompts that they answer, without padding:

    prompt 1 | answer | answer | prompt 2 | answer ...

A token attends to its own prompt and answer alone, by a mask, and its position is the one it has behind that prompt. So
n answers of a tokens to one prompt of p tokens cost p + n a tokens instead of n (p + a), in training (the gradient
flows through the shared prompt) as in scoring; and the vocabulary is spread out at the answers' tokens alone, by the
`logits_to_keep` of transformers. TRL 1.16 has neither: `padding_free` is out of use in its DPO, a pair's prompt is read
twice, and on a CPU its fused head makes logits of every token.
"""

import functools
import inspect
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TOKENS = 1024
"""In a row at most, as its mask grows with the square; one prompt with its answer may be longer."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Answers behind their prompts, for one forward pass, and where in it an answer's tokens are foretold."""

    ids: Int[Tensor, "1 t"]
    positions: Int[Tensor, "1 t"]
    allowed: Bool[Tensor, "1 1 t t"]
    keep: Int[Tensor, "m"]
    """Where the m tokens of all answers are foretold: at the token before."""
    targets: Int[Tensor, "m"]
    """Those tokens."""
    owners: Int[Tensor, "m"]
    """The number of each one's answer."""
    places: Int[Tensor, "m"]
    """Its place in that answer."""


def row_of(prompts: Sequence[list[int]], answers: Sequence[list[int]], device: torch.device | str) -> Row:
    """The row of `answers[i]` to `prompts[i]`; equal prompts stand in it once."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, tokens_before in enumerate(prompts):
        groups.setdefault(tuple(tokens_before), []).append(i)
    tokens: list[tuple[int, int, int, int]] = []  # id, position, number of its prompt and of its answer (-1: none)
    foretold: list[tuple[int, int, int, int]] = []  # as `keep`, `targets`, `owners` and `places`
    for group, (prompt, mine) in enumerate(groups.items()):
        tokens += [(token, place, group, -1) for place, token in enumerate(prompt)]
        end = len(tokens) - 1
        for i in mine:
            before = [end, *range(len(tokens), len(tokens) + len(answers[i]) - 1)]
            for place, token in enumerate(answers[i]):
                foretold.append((before[place], token, i, place))
                tokens.append((token, len(prompt) + place, group, i))
    ids, positions, prompt_of, answer_of = _columns(tokens, device)
    keep, targets, owners, places = _columns(foretold, device)
    own_prompt, own_answer = prompt_of[:, None] == prompt_of, answer_of[:, None] == answer_of
    earlier = torch.ones(len(tokens), len(tokens), dtype=torch.bool, device=device).tril()
    allowed = own_prompt & (own_answer | (answer_of == -1)) & earlier
    return Row(
        ids=ids[None], positions=positions[None], allowed=allowed[None, None],
        keep=keep, targets=targets, owners=owners, places=places,
    )  # fmt: skip


def _columns(rows: list[tuple[int, int, int, int]], device: torch.device | str) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(rows, dtype=torch.long).reshape(-1, 4).T.contiguous().to(device))


def can_share(model: Any) -> bool:
    """Whether a model may take rows: transformers' own attention, which heeds a mask of four dimensions, position_ids
    and logits_to_keep. Whether it reads them rightly, `shares` tries."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes = inspect.signature(type(base).forward).parameters
    attention = getattr(base.config.get_text_config(), "_attn_implementation", None)
    return attention in ("sdpa", "eager") and {"position_ids", "logits_to_keep"} <= takes.keys()


def shares(model: Any, prompt: list[int], answers: Sequence[list[int]]) -> bool:
    """Whether `model` gives two or more answers in one row the log-probabilities that it gives each alone. One with a
    recurrent state would hear the first answer in the second."""
    if not can_share(model):
        return False
    model.eval()
    with torch.no_grad():
        together = answer_logps(model, [prompt] * len(answers), answers)
        alone = torch.cat([answer_logps(model, [prompt], [answer]) for answer in answers])
    lengths = torch.tensor([len(answer) for answer in answers], device=alone.device)
    rounding = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.1
    return bool(((together - alone).abs() <= rounding * lengths).all())


def row_logits(model: Any, row: Row) -> Float[Tensor, "m v"]:
    """The logits of the answers' tokens, in float32."""
    config, allowed = model.config.get_text_config(), row.allowed
    mask: Tensor = allowed
    if config._attn_implementation == "eager":  # which adds the mask
        dtype = next(model.parameters()).dtype
        mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        mask = mask.masked_fill(~allowed, torch.finfo(dtype).min)
    out = model(
        input_ids=row.ids, position_ids=row.positions, attention_mask=mask, use_cache=False, logits_to_keep=row.keep
    )
    logits: Tensor = out.logits[0].float()
    return logits


def token_logps(model: Any, row: Row) -> Float[Tensor, "m"]:
    """log p of each token of the answers."""
    return -torch.nn.functional.cross_entropy(row_logits(model, row), row.targets, reduction="none")


def answer_logps(model: Any, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Float[Tensor, "n"]:
    """log p of each answer in nats, the sum over its tokens; all in one row."""
    row = row_of(prompts, answers, next(model.parameters()).device)
    logps = token_logps(model, row)
    return torch.zeros(len(answers), dtype=logps.dtype, device=logps.device).index_add(0, row.owners, logps)


def rows_of(prompts: Sequence[list[int]], answers: Sequence[list[int]], *, tokens: int = TOKENS) -> Iterator[list[int]]:
    """Which answers go into one row of at most so many tokens, those of a prompt together."""
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i], len(answers[i]), i))
    part: list[int] = []
    length = 0
    for i in order:
        new = not part or prompts[i] != prompts[part[-1]]
        cost = len(answers[i]) + new * len(prompts[i])
        if part and length + cost > tokens:
            yield part
            part, length, cost = [], 0, len(answers[i]) + len(prompts[i])
        part.append(i)
        length += cost
    if part:
        yield part


@torch.no_grad()
def shared_logps(model: Any, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Float[np.ndarray, "n"]:
    """As `kka.language.measures.completion_logps`, by rows."""
    model.eval()
    out = np.zeros(len(prompts))
    for part in rows_of(prompts, answers):
        found = answer_logps(model, [prompts[i] for i in part], [answers[i] for i in part])
        out[part] = found.cpu().numpy()  # which NumPy makes doubles of: a GPU by MPS has none
    return out


def share_prompts(base: Any) -> None:
    """Replace the head that TRL's `add_fused_lm_head` has put on `base`: what its loss asks for, `labels` (-100 where
    no answer stands) of padded sequences, is computed by one row. TRL's diagnostics beside log_probs are zero."""
    from trl.trainer.utils import FusedCausalLMOutput

    plain = base.forward

    @functools.wraps(type(base).forward)  # `generate` reads the signature
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return plain(*args, **kwargs)
        ids, labels = kwargs["input_ids"], kwargs["labels"]
        prompts, answers = [], []
        for tokens, answered in zip(ids.tolist(), (labels != -100).tolist(), strict=True):
            prompts.append(tokens[: answered.index(True)])
            answers.append([token for token, is_answer in zip(tokens, answered, strict=True) if is_answer])
        row = row_of(prompts, answers, ids.device)
        first = torch.tensor([len(prompt) for prompt in prompts], device=ids.device)
        logps = token_logps(self, row)
        found = logps.new_zeros(ids.shape[0], ids.shape[1] - 1)
        found = found.index_put((row.owners, first[row.owners] - 1 + row.places), logps)
        nothing = torch.zeros_like(found)
        return FusedCausalLMOutput(log_probs=found, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())

    base.forward = types.MethodType(forward, base)
