"""Eq. 7 on a Hugging Face model: DPO with LoRA through TRL.

The policy is the base model with the adapter on, the reference the same weights with the adapter off. From round
to round the adapter goes on, and the reference stays the base model.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from peft import PeftModel

from kka.algorithm.preferences import dpo_loss, reward_margins
from kka.common.numbers import require_finite, require_finite_tensors
from kka.errors import UserError
from kka.language.chat import Chat
from kka.language.logps import shared_logps
from kka.language.measures import completion_logps
from kka.language.memory import free_bytes
from kka.language.trainer import Progress, Tokens, as_it_was, make_trainer, plan_for, settle
from kka.protocols import PreferencePair
from kka.settings.language import LanguageSettings


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What one tuning did: the validation figures are NaN where there are no validation pairs."""

    steps: int
    train_loss: float
    validation_loss: float
    margin: float
    accuracy: float
    kl_to_base: float
    step: float
    """Share of the way that was kept."""


LOWER = "The tuning diverged: choose a lower --language.dpo-learning-rate"


def tune_adapter(
    policy: PeftModel,
    chat: Chat,
    pairs: Sequence[PreferencePair],
    validation: Sequence[PreferencePair],
    settings: LanguageSettings,
    *,
    seed: int,
    device: torch.device,
    distance: Callable[[], float],
    bound: float,
    shared: bool = False,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Tuned:
    """Train the adapter of `policy` in place. The global random state is the caller's to keep.

    Args:
        chat: How prompts and answers become tokens: as in sampling.
        distance: KL(policy ‖ base) as the policy stands, in nats a caption.
        bound: The largest that it may be.
        shared: Read each prompt once (`kka.language.logps`), and compute the reference once.
        say: Told, in a line of text, how the batches are computed and how long it will take.

    Raises:
        UserError: the training diverged, and the adapter is as it was before; not one pair fits into memory.
    """
    rows, held_out = (tokenised(side, chat) for side in (pairs, validation))
    free = free_bytes(device, settings.memory)
    plan = plan_for(policy, [*rows, *held_out], settings, device=device, free=free, shared=shared)
    pad = chat.tokenizer.pad_token_id
    if shared:
        for side in (rows, held_out):
            add_references(policy, side)
    before = {name: weight.detach().clone() for name, weight in policy.named_parameters() if weight.requires_grad}
    with tempfile.TemporaryDirectory(prefix="kka-dpo-") as scratch:
        with as_it_was(policy):
            trainer = make_trainer(
                policy, chat.tokenizer, rows, settings, seed=seed, device=device, folder=scratch, plan=plan
            )
            if progress is not None:
                trainer.add_callback(Progress(progress))
            if shared:
                settle(trainer, plan, free, say)
            try:
                result = trainer.train()
                rate = f"DPO at a learning rate of {trainer.args.learning_rate:g}"
                require_finite(float(result.training_loss), f"{rate}: the training loss", LOWER)
                require_finite_tensors(dict(policy.named_parameters()), f"{rate}: the adapter's weights", LOWER)
            except UserError:
                with torch.no_grad():
                    for name, weight in policy.named_parameters():
                        if name in before:
                            weight.copy_(before[name])
                raise
        trainer.accelerator.free_memory()
    step, kl = _shortened(policy, before, distance, bound)
    figures = _validation_figures(policy, held_out, settings, pad, shared=shared)
    return Tuned(steps=result.global_step, train_loss=float(result.training_loss), kl_to_base=kl, step=step, **figures)


SHORTEST = 1 / 64
"""A step that would have to be shorter is not taken."""


@torch.no_grad()
def _shortened(
    policy: PeftModel, before: dict[str, torch.Tensor], distance: Callable[[], float], bound: float
) -> tuple[float, float]:
    """Halve the step from `before` until the policy is within `bound` of the base model; the share left, and its KL.

    A backtracking line search, as TRPO's (Schulman et al. 2015, arXiv:1502.05477). DPO's own bound is on the pairs
    alone: on short captions that have most words in common it can drive both of a pair from the model.
    """
    after = {name: weight.detach().clone() for name, weight in policy.named_parameters() if name in before}
    step, kl = 1.0, distance()
    while not kl <= bound and step > 0:  # a KL that is no number is too far as well
        step = step / 2 if step > SHORTEST else 0.0
        for name, weight in policy.named_parameters():
            if name in before:
                weight.copy_(before[name])
                if step:  # 0 x no number is no number
                    weight.add_(step * (after[name] - before[name]))
        kl = distance()
    return step, kl


def tokenised(pairs: Sequence[PreferencePair], chat: Chat) -> list[Tokens]:
    """The pairs in tokens."""
    return [
        {
            "prompt_ids": chat.prompt_ids(pair.prompt),
            "chosen_ids": chat.answer_ids(pair.prompt, pair.hard),
            "rejected_ids": chat.answer_ids(pair.prompt, pair.easy),
        }
        for pair in pairs
    ]


def add_references(policy: PeftModel, rows: Sequence[Tokens]) -> None:
    """The base model's log-probabilities, into `rows`; each answer is scored once, in however many pairs it stands."""
    sides = ("chosen", "rejected")
    asked = dict.fromkeys((tuple(row["prompt_ids"]), tuple(row[f"{side}_ids"])) for row in rows for side in sides)
    prompts, answers = [list(prompt) for prompt, _ in asked], [list(answer) for _, answer in asked]
    with policy.disable_adapter():
        found = dict(zip(asked, shared_logps(policy, prompts, answers).tolist(), strict=True))
    for row in rows:
        for side in sides:
            row[f"ref_{side}_logps"] = found[tuple(row["prompt_ids"]), tuple(row[f"{side}_ids"])]


def _validation_figures(
    policy: PeftModel, rows: list[Tokens], settings: LanguageSettings, pad: int, *, shared: bool
) -> dict[str, float]:
    if not rows:
        return dict.fromkeys(("validation_loss", "margin", "accuracy"), float("nan"))
    prompts = [row["prompt_ids"] for row in rows]

    def both(side: str) -> tuple[np.ndarray, np.ndarray]:
        answers = [row[f"{side}_ids"] for row in rows]
        if shared:
            return shared_logps(policy, prompts, answers), np.array([row[f"ref_{side}_logps"] for row in rows])
        batch = settings.dpo_batch
        return (
            completion_logps(policy, prompts, answers, pad, batch=batch),
            base_logps(policy, prompts, answers, pad, batch=batch),
        )

    (policy_hard, ref_hard), (policy_easy, ref_easy) = both("chosen"), both("rejected")
    margins = reward_margins(policy_hard, policy_easy, ref_hard, ref_easy, settings.dpo_beta)
    losses = dpo_loss(policy_hard, policy_easy, ref_hard, ref_easy, settings.dpo_beta)
    return {
        "validation_loss": require_finite(float(losses.mean()), "DPO: the validation loss", LOWER),
        "margin": float(margins.mean()),
        "accuracy": float((margins > 0).mean()),
    }


def base_logps(
    policy: PeftModel, prompts: Sequence[list[int]], answers: Sequence[list[int]], pad: int, *, batch: int
) -> np.ndarray:
    """As `completion_logps`, of the base model: the adapter is off."""
    with policy.disable_adapter():
        return completion_logps(policy, prompts, answers, pad, batch=batch)
