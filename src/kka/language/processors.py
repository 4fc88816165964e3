"""What is done to the logits of a token before it is drawn."""

from collections.abc import Callable

import torch
from transformers import LogitsProcessor, TopPLogitsWarper

from kka.errors import UserError


class FiniteLogits(LogitsProcessor):
    """Lets logits through as they are; UserError where a row has none to sample from: NaN, or an infinite one."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if not bool(scores.amax(dim=1).isfinite().all()):  # top-p has put -inf in the place of what it leaves out
            raise UserError(
                f"language model {self.source!r}: expected finite logits; got NaN or infinity. Its weights are "
                "damaged, or its tuning diverged: copy it anew, or choose a lower --language.dpo-learning-rate."
            )
        return scores


class Nucleus(LogitsProcessor):
    """Temperature and top-p of a large vocabulary without sorting it whole, which takes a fifth of a small model's
    time: the nucleus is looked for among the likeliest `LIKELIEST`, and beyond them only where it is larger."""

    LIKELIEST = 512

    def __init__(self, temperature: float, top_p: float) -> None:
        self.temperature, self.top_p = temperature, top_p
        self.whole = TopPLogitsWarper(top_p)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        scores = scores / self.temperature  # type: ignore[assignment]
        if self.top_p == 1:
            return scores
        found, index = scores.topk(self.LIKELIEST, dim=1)  # falling
        shares = (found - scores.logsumexp(dim=1, keepdim=True)).exp().cumsum(dim=1)
        if bool((shares[:, -1] < self.top_p).any()):
            return self.whole(input_ids, scores)
        found[:, 1:].masked_fill_(shares[:, :-1] >= self.top_p, -torch.inf)  # what is likelier makes up top-p alone
        return torch.full_like(scores, -torch.inf).scatter_(1, index, found)  # type: ignore[return-value]


class Told(LogitsProcessor):
    """Leaves logits alone, and tells of each token that is written."""

    def __init__(self, tell: Callable[[int, int], None], most: int) -> None:
        self.tell, self.done, self.most = tell, 0, most

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.done += 1
        self.tell(self.done, self.most)
        return scores
