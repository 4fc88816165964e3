"""How a language model samples and is tuned (Eq. 3, 7)."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from kka.errors import UserError
from kka.settings import Epochs, Few, NonNegative, PartialShare, Positive, Share, Text, Width, refuse_unknown, settings


@settings("language")
class LanguageSettings:
    """How the language model samples and is tuned (Eq. 3, 7). Tuning is as published, but for the learning rate of
    small models, the number of steps and the bounds on epochs and on the way."""

    temperature: Positive | None = None
    """none: left to the server; of a local model 1, or 0.7 of one of 100 million to a billion parameters, which at 1 \
writes of volcanoes and sofas."""
    top_p: Annotated[float, Gt(0), Le(1)] | None = 0.95
    """Nucleus sampling; top-k is off. none: left to the server; of a local model 1."""
    max_new_tokens: Width | None = 96
    """An answer cut off there loses its last, unfinished line. none: the server's limit."""
    batch_size: Width | None = None
    """Answers sampled at once. It shapes the draws: equal seeds need equal batch sizes. None: 256, or 64 of a model \
of 100 million parameters and more, whose every answer takes megabytes while it is written."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of a local model. auto: 16 bits on a GPU, fp32 on every CPU: some have bf16 and some have not, and one command \
must give one result on both. On a CPU with AMX bf16 takes a quarter less, and rounds \
as much as a short tuning changes."""
    load_in_4bit: bool = False
    """bitsandbytes NF4 (CUDA only)."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    dpo_beta: Positive = 0.1
    dpo_max_kl: Positive = 0.3
    """Share of the entropy of the untuned model's answers: a tuned model whose KL to the untuned one is larger goes \
back half of its way, until it is not. Beyond that models repeat themselves."""
    dpo_steps: Epochs = 40
    dpo_max_epochs: Epochs | None = None
    """Few pairs end the training sooner: each is seen at most so often. None: 10, and \
no more than 12 steps of a model of 100 million parameters and more on a CPU, where 40 take a quarter of an hour."""
    dpo_batch: Width = 16
    """Pairs a step."""
    dpo_micro_batch: Width | None = None
    """Pairs at once on the device, at most; None: as many as fit, up to the whole batch. The published runs used 4, \
four times a step."""
    memory: Positive | None = None
    """GB that the process may take in a tuning, on a GPU of its memory; None: half of a machine's free memory, or \
nine tenths of a GPU's. Less means fewer pairs at once; the result is the same but for rounding and dropout's draws."""
    dpo_learning_rate: Positive | None = None
    """None: the published 5e-5, or 1e-3 for a model of under 100 million parameters, which moves too little else, and \
3e-3 for defects."""
    dpo_warmup: Share = 0.1
    """Share of the steps over which the learning rate rises, before its cosine falls."""
    lora_rank: Width = 8
    lora_alpha: Width = 8
    lora_dropout: PartialShare = 0.1
    lora_targets: Text = "all-linear"
    """The layers that get an adapter, as peft names them."""
    captions_an_answer: Annotated[int, Ge(1), Le(100)] | None = None
    """openai: captions that one answer is asked for, as a numbered list; `max_new_tokens` is then for each. None: 10. \
A model that runs here writes one."""
    parallel: Few = 4
    """openai: requests at a time."""
    timeout: Positive = 120.0
    """openai: seconds that a request may take. Raise it for a slow server: one that is given up may work on."""
    batch: bool = False
    """openai: requests go as a batch (POST /batches), for half the price and within a day. A killed run finds the \
batch again, and pays for no request twice."""
    price_in: NonNegative | None = None
    """openai: of a million tokens read, in any currency; with `price_out` the ledger has the money."""
    price_out: NonNegative | None = None
    """openai: of a million tokens written. Requests of a batch count half."""
    set: tuple[str, ...] = ()
    """Of your own language model: arguments of its constructor, as name=value."""

    def __post_init__(self) -> None:
        if self.load_in_4bit and self.precision != "auto":
            raise UserError(
                f"configuration: expected language.precision auto beside language.load_in_4bit; got {self.precision}"
            )
        if self.dpo_micro_batch is not None and self.dpo_batch % self.dpo_micro_batch:
            raise UserError(
                f"configuration: expected language.dpo_micro_batch to divide language.dpo_batch, {self.dpo_batch}; got "
                f"language.dpo_micro_batch = {self.dpo_micro_batch}"
            )
        if (self.price_in is None) != (self.price_out is None):
            raise UserError(
                f"configuration: expected language.price_in and language.price_out both, or neither; got "
                f"{self.price_in} and {self.price_out}"
            )


OF_THE_WORK = ("parallel", "timeout", "batch", "price_in", "price_out")
"""How captions are asked for and what they cost: the captions are no others."""
OF_SERVERS = ("captions_an_answer", *OF_THE_WORK)
"""What a model that runs here has no use for."""


def refuse_of_servers(given: LanguageSettings) -> None:
    """Raises UserError for settings that models on a server alone have."""
    known = [field.name for field in dataclasses.fields(given) if field.name not in OF_SERVERS]
    refuse_unknown(given, known, of="a model that runs here", group="language")
