"""Eq. 7 on a Hugging Face model: DPO with LoRA through TRL.

The policy is the base model with the adapter on, the reference the same weights with the adapter off. From round
to round the adapter goes on, and the reference stays the base model.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import datasets
import numpy as np
import torch
from peft import LoraConfig, PeftModel
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from kka.algorithm.preferences import dpo_loss, reward_margins
from kka.common.device import has_bf16
from kka.common.numbers import require_finite, require_finite_tensors
from kka.errors import UserError
from kka.language.chat import Chat
from kka.language.measures import completion_logps
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

SMALL_MODEL = 100_000_000
"""A model of fewer parameters counts as small when a learning rate is chosen for it."""


def steps_for(settings: LanguageSettings, pairs: int) -> int:
    """Steps of a tuning on so many pairs: each is seen `dpo_max_epochs` times at most."""
    return max(1, min(settings.dpo_steps, -(-settings.dpo_max_epochs * pairs // settings.dpo_batch)))


def rate_for(settings: LanguageSettings, model: torch.nn.Module) -> float:
    """The learning rate: as set; else the published one, or a small model's."""
    if settings.dpo_learning_rate is not None:
        return settings.dpo_learning_rate
    return 1e-3 if sum(p.numel() for p in model.parameters()) < SMALL_MODEL else 5e-5


def lora_config(settings: LanguageSettings) -> LoraConfig:
    """The adapter."""
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=settings.lora_targets,
        task_type="CAUSAL_LM",
    )


class _Trainer(DPOTrainer):
    def _send_telemetry(self) -> None:
        """Nothing is reported to anybody."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """It is tokens already: TRL's own cuts the prompt where a template renders it otherwise beside an answer."""
        return dataset


class _Progress(TrainerCallback):
    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self.tell = tell

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tell(state.global_step, state.max_steps)


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
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Train the adapter of `policy` in place. The global random state is the caller's to keep.

    Args:
        chat: How prompts and answers become tokens: as in sampling.
        distance: KL(policy ‖ base) as the policy stands, in nats a caption.
        bound: The largest that it may be.

    Raises:
        UserError: the training diverged; the adapter is then as it was before.
    """
    before = {name: weight.detach().clone() for name, weight in policy.named_parameters() if weight.requires_grad}
    with tempfile.TemporaryDirectory(prefix="kka-dpo-") as scratch:
        with as_it_was(policy):
            trainer = make_trainer(
                policy, chat, pairs, validation, settings, seed=seed, device=device, folder=scratch
            )
            if progress is not None:
                trainer.add_callback(_Progress(progress))
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
        rows: list[Any] = [] if trainer.eval_dataset is None else list(cast(datasets.Dataset, trainer.eval_dataset))
        trainer.accelerator.free_memory()
    step, kl = _shortened(policy, before, distance, bound)
    figures = _validation_figures(policy, rows, settings, chat.tokenizer.pad_token_id)
    return Tuned(steps=result.global_step, train_loss=float(result.training_loss), kl_to_base=kl, step=step, **figures)


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextmanager
def as_it_was(model: PeftModel) -> Iterator[None]:
    """Whatever a trainer hangs on the model's modules comes off again, or it would pile up round by round: TRL's fused
    head and accelerate's autocast over `forward`, and the hooks of gradient checkpointing. Weights stay."""
    before = {
        module: ("forward" in vars(module), {name: dict(getattr(module, name) or {}) for name in HOOKS})
        for module in model.modules()
    }
    base: Any = model.get_base_model()
    cached = getattr(base.config, "use_cache", None)
    try:
        yield
    finally:
        base.disable_input_require_grads()
        if base.is_gradient_checkpointing:
            base.gradient_checkpointing_disable()
        if cached is not None:
            base.config.use_cache = cached
        for module, (had_forward, hooks) in before.items():
            if not had_forward:
                vars(module).pop("forward", None)
            for name, kept in hooks.items():
                now = getattr(module, name)
                for key in [key for key in now or () if key not in kept]:
                    del now[key]
        model.eval()


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


def make_trainer(
    policy: PeftModel,
    chat: Chat,
    pairs: Sequence[PreferencePair],
    validation: Sequence[PreferencePair],
    settings: LanguageSettings,
    *,
    seed: int,
    device: torch.device,
    folder: str,
) -> DPOTrainer:
    """TRL's trainer with the base model as reference: silent, without checkpoints or reports."""
    gpu = device.type == "cuda"
    micro = settings.dpo_micro_batch or settings.dpo_batch
    steps = steps_for(settings, len(pairs))
    config = DPOConfig(
        output_dir=folder,
        beta=settings.dpo_beta,
        learning_rate=rate_for(settings, policy),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.dpo_batch // micro,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.dpo_warmup * steps),
        disable_dropout=False,  # TRL's own default would switch LoRA's dropout off
        gradient_checkpointing=gpu,
        bf16=gpu and has_bf16(),
        fp16=gpu and not has_bf16(),
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=gpu,
        max_length=None,
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,  # which would leave a loss that is no number out of the mean
        report_to="none",
        disable_tqdm=True,
    )
    if gpu:
        config._n_gpu = 1  # several GPUs in sight would make the Trainer ask for a launcher
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        trainer = _Trainer(
            model=policy,
            args=config,
            train_dataset=_as_dataset(pairs, chat),
            eval_dataset=_as_dataset(validation, chat) if validation else None,
            processing_class=chat.tokenizer,
        )
    finally:
        if bars:
            datasets.enable_progress_bars()
    trainer.remove_callback(PrinterCallback)
    # TRL copies an adapter that exists already into a second one, "ref", as the reference. Ours is the base model,
    # which is what TRL falls back to, by switching the adapter off, when there is no "ref".
    if "ref" in policy.peft_config:
        policy.delete_adapter("ref")
    return trainer


def _as_dataset(pairs: Sequence[PreferencePair], chat: Chat) -> datasets.Dataset:
    rows = [
        {
            "prompt_ids": chat.prompt_ids(pair.prompt),
            "chosen_ids": chat.answer_ids(pair.prompt, pair.hard),
            "rejected_ids": chat.answer_ids(pair.prompt, pair.easy),
        }
        for pair in pairs
    ]
    return datasets.Dataset.from_list(rows)


def _validation_figures(
    policy: PeftModel, rows: list[dict[str, Any]], settings: LanguageSettings, pad: int
) -> dict[str, float]:
    if not rows:
        return dict.fromkeys(("validation_loss", "margin", "accuracy"), float("nan"))
    prompts = [row["prompt_ids"] for row in rows]
    logps = [
        (
            completion_logps(policy, prompts, [row[side] for row in rows], pad, batch=settings.dpo_batch),
            base_logps(policy, prompts, [row[side] for row in rows], pad, batch=settings.dpo_batch),
        )
        for side in ("chosen_ids", "rejected_ids")
    ]
    (policy_hard, ref_hard), (policy_easy, ref_easy) = logps
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
