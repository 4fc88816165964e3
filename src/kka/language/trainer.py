"""TRL's trainer for Eq. 7, within the machine's memory: how many pairs at once, how many steps, how long it takes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import datasets
import numpy as np
import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from kka.common.device import has_bf16
from kka.common.memory import PeakMemory
from kka.language.logps import share_prompts
from kka.language.memory import Plan, make_plan
from kka.settings.language import LanguageSettings

Tokens = dict[str, Any]
"""A pair as TRL reads it: prompt_ids, chosen_ids, rejected_ids, and perhaps ref_chosen_logps and ref_rejected_logps."""


SMALL_MODEL = 100_000_000
"""A model of fewer parameters counts as small: it has a learning rate of its own, and is tuned and measured the plain
way, whose figures are stored. A larger one reads its prompts once, and is measured on fewer answers."""


EPOCHS, STEPS_OF_SLOW = 10, 12
"""How often a pair is seen at most, and how many steps a large model on a CPU takes at most, where nothing is set."""


def steps_for(settings: LanguageSettings, pairs: int, *, slow: bool = False) -> int:
    """Steps of a tuning on so many pairs: each is seen `dpo_max_epochs` times at most."""
    epochs, steps = settings.dpo_max_epochs, settings.dpo_steps
    if epochs is None:
        epochs, steps = EPOCHS, min(steps, STEPS_OF_SLOW) if slow else steps
    return max(1, min(steps, -(-epochs * pairs // settings.dpo_batch)))


def is_small(model: torch.nn.Module) -> bool:
    """Whether a model counts as small."""
    return sum(p.numel() for p in model.parameters()) < SMALL_MODEL


def rate_for(settings: LanguageSettings, model: torch.nn.Module) -> float:
    """The learning rate: as set; else the published one, or a small model's."""
    if settings.dpo_learning_rate is not None:
        return settings.dpo_learning_rate
    return 1e-3 if is_small(model) else 5e-5


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
    """TRL's, which takes a step's batch part by part where it is told to: whole batches come from the Trainer, so what
    a step sees does not depend on how many pairs fit into memory."""

    at_once: int
    """Pairs."""
    share = 1.0
    """Of the step's pairs that are computed now."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """A step's loss and gradient. Out of memory, it begins anew with half as many pairs at once."""
        pairs = len(inputs["input_ids"]) // 2
        while True:
            try:
                loss: Any = 0.0
                parts = [inputs] if self.at_once >= pairs else parts_of(inputs, self.at_once)
                for part in parts:
                    self.share = len(part["input_ids"]) / (2 * pairs)
                    loss = loss + super().training_step(model, part, num_items_in_batch)
                return cast(torch.Tensor, loss)
            except torch.OutOfMemoryError:
                if self.at_once == 1:
                    raise
            model.zero_grad()  # what the parts before have left
            self.at_once = max(1, min(self.at_once, pairs) // 2)
            torch.cuda.empty_cache()

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The mean over the pairs of a part, weighted so that the parts add up to the mean over the batch."""
        loss = super().compute_loss(*args, **kwargs)
        return loss if self.share == 1 else self.share * loss

    def _send_telemetry(self) -> None:
        """Nothing is reported to anybody."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """It is tokens already: TRL's own cuts the prompt where a template renders it otherwise beside an answer."""
        return dataset


def parts_of(inputs: dict[str, torch.Tensor], at_once: int) -> list[dict[str, torch.Tensor]]:
    """A batch of TRL's, its preferred answers before the others, in parts of at most so many pairs; pairs of one prompt
    come together."""
    half = len(inputs["input_ids"]) // 2
    order = sorted(range(half), key=lambda i: inputs["input_ids"][i].tolist())
    parts = []
    for chosen in np.array_split(order, -(-half // at_once)):
        rows = torch.from_numpy(np.concatenate([chosen, chosen + half])).to(inputs["input_ids"].device)
        length = int(inputs["attention_mask"][rows].sum(1).max())
        parts.append(
            {
                name: values[chosen] if name.startswith("ref_") else values[rows][:, :length]
                for name, values in inputs.items()
            }
        )
    return parts


class Progress(TrainerCallback):
    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self.tell = tell

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tell(state.global_step, state.max_steps)


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


def plan_for(
    policy: PeftModel, rows: Sequence[Tokens], settings: LanguageSettings, *, device: torch.device, free: int,
    shared: bool,
) -> Plan:  # fmt: skip
    """How the batches of such pairs are computed in so many bytes."""
    prompt, hard, easy = (max(len(row[name]) for row in rows) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    batch, checkpointing = settings.dpo_micro_batch or settings.dpo_batch, device.type == "cuda" and not shared
    try:
        return make_plan(
            policy, prompt, (hard, easy), batch=batch, free=free, shared=shared, checkpointing=checkpointing,
        )  # fmt: skip
    except (NotImplementedError, RuntimeError):  # a model with code of its own that needs numbers
        small = is_small(policy)
        return Plan(pairs=batch if small else 1, checkpointing=checkpointing or not small, shared=shared, parts=None)


def settle(trainer: _Trainer, plan: Plan, free: int, say: Callable[[str], None] | None) -> None:
    """Try what was planned: a pair that takes much more memory than expected means fewer at once, and how long a part
    takes, how long the tuning will. What is computed is thrown away."""
    grown, _ = _trial(trainer, 1)
    if plan.parts is not None and grown > SURPRISE * plan.parts.pair:
        trainer.at_once = max(1, min(trainer.at_once, (free - plan.parts.adapter) // grown))
    if say is None:
        return
    args, pairs = trainer.args, min(trainer.at_once, len(cast(datasets.Dataset, trainer.train_dataset)))
    _, seconds = _trial(trainer, pairs)
    batch = args.per_device_train_batch_size
    checkpointing = ", with gradient checkpointing" if args.gradient_checkpointing else ""
    say(
        f"The language model is tuned in {args.max_steps} steps of {batch} pairs, {pairs} at once{checkpointing}: "
        f"about {_minutes(args.max_steps * batch * seconds / pairs)} on this machine as busy as it is"
    )


SURPRISE = 1.5
"""Measured over expected memory of a pair up to which the plan holds: measured, it is never the same twice."""


def _trial(trainer: _Trainer, pairs: int) -> tuple[int, float]:
    """Bytes and seconds of the loss and the gradient of the first pairs."""
    rows = [cast(datasets.Dataset, trainer.train_dataset)[i] for i in range(pairs)]
    model, device = cast(PeftModel, trainer.model), trainer.args.device
    inputs = {name: values.to(device) for name, values in trainer.data_collator(rows).items()}
    gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if gpu else 0
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    model.train()
    with torch.random.fork_rng(devices=[device] if gpu else []), PeakMemory() as memory:
        started = time.perf_counter()
        with trainer.accelerator.autocast():
            loss = trainer.compute_loss(model, inputs)
        loss.backward()
        if gpu:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    model.zero_grad()
    trainer._metrics["train"].clear()
    return torch.cuda.max_memory_allocated(device) - before if gpu else memory.grown, seconds


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def make_trainer(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Tokens],
    settings: LanguageSettings,
    *,
    seed: int,
    device: torch.device,
    folder: str,
    plan: Plan,
) -> _Trainer:
    """TRL's trainer with the base model as reference: silent, without checkpoints or reports."""
    gpu = device.type == "cuda"
    half = gpu and settings.precision != "fp32"
    steps = steps_for(settings, len(rows), slow=device.type == "cpu" and not is_small(policy))
    config = DPOConfig(
        output_dir=folder,
        beta=settings.dpo_beta,
        learning_rate=rate_for(settings, policy),
        max_steps=steps,
        per_device_train_batch_size=settings.dpo_batch,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.dpo_warmup * steps),
        disable_dropout=False,  # TRL's own default would switch LoRA's dropout off
        gradient_checkpointing=plan.checkpointing,
        bf16=half and has_bf16(device),
        fp16=half and not has_bf16(device),
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
            train_dataset=datasets.Dataset.from_list(list(rows)),
            processing_class=tokenizer,
        )
    finally:
        if bars:
            datasets.enable_progress_bars()
    trainer.remove_callback(PrinterCallback)
    # TRL copies an adapter that exists already into a second one, "ref", as the reference. Ours is the base model,
    # which is what TRL falls back to, by switching the adapter off, when there is no "ref".
    if "ref" in policy.peft_config:
        policy.delete_adapter("ref")
    trainer.at_once = plan.pairs
    if plan.shared:
        share_prompts(policy.get_base_model())
        # TRL's own way of computing them beforehand asks its "ref", which is the adapter of the round before.
        trainer.precompute_ref_logps = True
    return trainer
