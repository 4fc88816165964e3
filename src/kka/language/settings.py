"""The settings of preference tuning (Eq. 7), apart from the code that needs TRL, so that they are checked at once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kka.errors import UserError

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch.nn import Module

SMALL_MODEL = 100_000_000
"""A model of fewer parameters counts as small when a learning rate is chosen for it."""


@dataclass(frozen=True, kw_only=True)
class DPOSettings:
    """Defaults as published, but for the learning rate of small models and the bound on epochs."""

    beta: float = 0.1
    max_kl: float = 3.0
    """Nats a token of the pairs' captions: where the tuned model's distance to the base model is larger, its step is
    halved until it is not. Chosen by what models still wrote: beyond it most answers were repetitions."""
    rank: int = 8
    alpha: int = 8
    dropout: float = 0.1
    learning_rate: float | None = None
    """None: the published 5e-5, or 1e-3 for a model of under 100 million parameters, which moves too little else."""
    steps: int = 150
    max_epochs: int = 10
    """Few pairs end the training sooner: each is seen at most so often."""
    batch: int = 16
    """Pairs a step."""
    micro_batch: int | None = None
    """Pairs at once on the device; None: the whole batch. The published runs used 4, four times a step."""
    warmup: float = 0.1
    """Share of the steps over which the learning rate rises, before its cosine falls."""
    targets: str = "all-linear"
    """The layers that get an adapter, as peft names them."""

    def __post_init__(self) -> None:
        checks = {
            "dpo_beta > 0": self.beta > 0,
            "dpo_max_kl > 0": self.max_kl > 0,
            "lora_rank ≥ 1": self.rank >= 1,
            "0 ≤ lora_dropout < 1": 0 <= self.dropout < 1,
            "dpo_learning_rate > 0": self.learning_rate is None or self.learning_rate > 0,
            "dpo_steps ≥ 1": self.steps >= 1,
            "dpo_max_epochs ≥ 1": self.max_epochs >= 1,
            "dpo_batch ≥ 1": self.batch >= 1,
            "dpo_micro_batch that divides dpo_batch": self.micro_batch is None or self.batch % self.micro_batch == 0,
            "0 ≤ dpo_warmup ≤ 1": 0 <= self.warmup <= 1,
        }
        for rule, holds in checks.items():
            if not holds:
                raise UserError(f"DPO settings: expected {rule}; got {self}")

    def steps_for(self, pairs: int) -> int:
        return max(1, min(self.steps, -(-self.max_epochs * pairs // self.batch)))

    def rate_for(self, model: "Module") -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-3 if sum(p.numel() for p in model.parameters()) < SMALL_MODEL else 5e-5

    def lora(self) -> "LoraConfig":
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.targets,
            task_type="CAUSAL_LM",
        )
