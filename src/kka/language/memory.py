"""What a tuning takes of memory, part by part, and how many pairs at once a machine can therefore take.

On a CPU too much memory is no error but the end of the process, so the bound is found beforehand: a forward pass of the
model's twin on the meta device, which has shapes but no numbers, tells every tensor that autograd keeps of a pair.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from kka.errors import UserError
from kka.language.logps import TOKENS, Row, row_logits, row_of

FREE = {"cuda": 0.9}
FREE_ELSEWHERE = 0.5
"""Share of the free memory that a tuning may take, by kind of device: a CPU's others use as well."""
GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Bytes of a tuning, by part; those of a pair for each that is computed at once."""

    weights: int
    adapter: int
    """With its gradients, Adam's two moments, and the copies before and after of the step that may be shortened."""
    activations: int
    """Of a pair: what autograd keeps."""
    passing: int
    """Of a pair: what one layer makes meanwhile, in the backward pass."""
    logits: int
    """Of a pair: logits of the answers, what the loss keeps of them, and their gradients."""

    @property
    def pair(self) -> int:
        return self.activations + self.passing + self.logits

    def total(self, pairs: int) -> int:
        """With so many pairs at once."""
        return self.weights + self.adapter + pairs * self.pair


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a tuning computes its batches; the adapter that comes out is the same up to rounding and dropout's draws."""

    pairs: int
    """At once."""
    checkpointing: bool
    """The layers' insides are computed again in the backward pass: about a third more work for less memory."""
    shared: bool
    """Prompts are read once (`kka.language.logps`), and the reference is computed once a tuning."""
    parts: Parts | None
    """None where they cannot be known beforehand."""


def make_plan(
    policy: Any, prompt: int, answers: tuple[int, int], *, batch: int, free: int, shared: bool, checkpointing: bool
) -> Plan:
    """As many pairs at once as fit: the whole batch, else fewer, else one with checkpointing.

    Args:
        prompt: Tokens of the longest.
        answers: Those of the longest preferred and of the longest other answer.
        batch: Pairs of a step, or as many as may be at once.
        free: Bytes beside the weights, which are there.
        checkpointing: Wanted in any case.

    Raises:
        UserError: not even one pair fits.
    """
    fit = 0
    for checkpoints in (True,) if checkpointing else (False, True):
        parts = measure_parts(policy, prompt, answers, checkpointing=checkpoints, shared=shared)
        fit = (free - parts.adapter) // parts.pair
        if fit >= 1:
            break
    if fit < 1:
        raise UserError(
            f"language model: its tuning takes {(parts.adapter + parts.pair) / GB:.1f} GB beside the model, one pair "
            f"at a time; got {max(0, free) / GB:.1f} GB. Free memory, raise --language.memory, or take a smaller model."
        )
    most = max(1, TOKENS // (prompt + sum(answers))) if shared else batch
    return Plan(pairs=min(fit, batch, most), checkpointing=checkpoints, shared=shared, parts=parts)


def free_bytes(device: torch.device, limit: float | None) -> int:
    """What a tuning may take beside what is taken.

    Args:
        limit: GB that this process may take in all (on a GPU: there); None: a share of what is free.
    """
    if device.type == "cuda":
        taken = torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - taken
    else:
        import psutil

        taken = psutil.Process().memory_info().rss
        free = min(psutil.virtual_memory().available, _left_of_cgroup())
    if limit is not None:
        return int(min(limit * GB - taken, free))
    return int(FREE.get(device.type, FREE_ELSEWHERE) * free)


CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Limit and use of a container, of either version of Linux's control groups."""


def _left_of_cgroup(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes; infinite where nothing limits them."""
    for limit, used in CGROUPS:
        try:
            return float((root / limit).read_text()) - float((root / used).read_text())
        except (OSError, ValueError):  # not here, or "max"
            continue
    return float("inf")


def measure_parts(
    policy: Any, prompt: int, answers: tuple[int, int], *, checkpointing: bool, shared: bool = True
) -> Parts:
    """The parts for a pair of a prompt and two answers of so many tokens.

    The policy computes nothing: its twin on the meta device does. It may lie there itself.

    Args:
        shared: The prompt is read once, and logits are made of the answers alone; else as TRL does it.
    """
    twin = _unquantised(policy)
    base = twin.get_base_model()
    config = base.config.get_text_config()
    row = row_of([[0] * prompt, [0 if shared else 1] * prompt], [[0] * n for n in answers], "meta")
    out, kept = _kept(twin, row)
    of_logits = sum(size for shape, size in kept if shape[-1:] == (config.vocab_size,))
    rest, tokens = sum(size for _, size in kept) - of_logits, row.ids.shape[1]
    logits = of_logits + 2 * out.numel() * out.element_size()  # and their gradients, in float32 and as they came
    if not shared:
        logits = logits * tokens // len(row.targets)
    inputs = tokens * config.hidden_size * base.dtype.itemsize  # of a layer
    layers = config.num_hidden_layers
    trained = sum(p.nbytes for p in policy.parameters() if p.requires_grad)
    return Parts(
        weights=sum(p.nbytes for p in policy.parameters()) - trained,
        adapter=6 * trained,
        activations=layers * inputs if checkpointing else rest,
        passing=rest // layers,
        logits=logits,
    )


def _kept(policy: Any, row: Row) -> tuple[torch.Tensor, list[tuple[tuple[int, ...], int]]]:
    """The logits of a row in training, and shape and bytes of each tensor that autograd keeps beside the weights."""
    meta = {
        name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad)
        for name, tensor in (*policy.named_parameters(), *policy.named_buffers())
    }
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    was_training = policy.training
    policy.train()
    try:
        with torch.random.fork_rng(devices=[]), saved_tensors_hooks(keep, lambda tensor: tensor):
            module = _Logits(policy)
            out = functional_call(module, {f"policy.{name}": tensor for name, tensor in meta.items()}, (row,))
            loss = torch.nn.functional.cross_entropy(out, row.targets)  # whose graph holds what is kept
    finally:
        policy.train(was_training)
    weights = {tensor.untyped_storage()._cdata for tensor in meta.values()}
    sizes = [
        (tuple(tensor.shape), tensor.untyped_storage().nbytes())
        for storage, tensor in kept.items()
        if storage not in weights
    ]
    del loss
    return out, sizes


class _Logits(torch.nn.Module):
    """`row_logits` as the module that `functional_call` asks for."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, row: Row) -> torch.Tensor:
        return row_logits(self.policy, row)


def _unquantised(policy: Any) -> Any:
    """The policy; of one in 4 bits, whose kernels know no meta device, one of the same shapes in 16."""
    base = policy.get_base_model()
    if getattr(base.config, "quantization_config", None) is None:
        return policy
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(base.config)
    del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).requires_grad_(False)
        return get_peft_model(model, policy.peft_config["default"])
