"""What a tuning takes of memory, and the pairs at once that follow from it."""

from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

from kka.errors import UserError
from kka.language import memory
from kka.language.memory import GB, Parts, free_bytes, make_plan, measure_parts
from kka.language.trainer import lora_config
from kka.settings.language import LanguageSettings

CPU = torch.device("cpu")


def _policy(config: Any, dtype: torch.dtype, device: str) -> Any:
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).requires_grad_(False)
        return get_peft_model(model, lora_config(LanguageSettings()))


def _tiny(device: str = "cpu") -> Any:
    config = LlamaConfig(
        vocab_size=500, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    return _policy(config, torch.float32, device)


def test_activations_are_what_autograd_keeps() -> None:
    """Against a real forward pass, whose kept tensors are counted by their storages."""
    policy = _tiny()
    parts = measure_parts(policy, 20, (6, 7), checkpointing=False)
    weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    row = memory.row_of([[1] * 20] * 2, [[2] * 6, [3] * 7], "cpu")
    policy.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = torch.nn.functional.cross_entropy(memory.row_logits(policy, row), row.targets)
    real = sum(size for storage, size in kept.items() if storage not in weights)
    counted = parts.activations + parts.logits - 2 * 13 * 500 * 4  # without the logits' gradients
    assert 0.7 * real < counted < 1.6 * real  # kernels for attention differ from device to device
    assert float(loss.detach()) > 0 and all(p.grad is None for p in policy.parameters())
    assert not policy.get_base_model().is_gradient_checkpointing


def test_parts_of_a_tuning_of_four_billion_parameters() -> None:
    """The sizes of Qwen3-4B, on the meta device: 8 GB of weights in bf16; a pair of 110 + 2 x 30 tokens keeps some
    hundred MB with checkpointing (36 layers x 170 tokens x 2560 x 2 bytes = 31 MB, and the logits of 60 tokens of a
    vocabulary of 152 k), a few GB without. So a GPU of 24 GB takes several pairs at once without checkpointing, one of
    10 GB needs it, and one of 8 GB cannot."""
    config = Qwen3Config(
        vocab_size=151_936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    )  # fmt: skip
    policy = _policy(config, torch.bfloat16, "meta")
    less, more = (measure_parts(policy, 110, (30, 30), checkpointing=c) for c in (True, False))
    assert less.weights == pytest.approx(8.04 * GB, rel=0.01)
    assert less.activations == 36 * 170 * 2560 * 2
    assert less.logits == more.logits >= 60 * 151_936 * 4 * 2
    assert less.pair < 0.35 * GB < 1 * GB < more.pair < 3 * GB

    def plan(gb: float) -> Any:
        free = int(0.9 * gb * GB) - less.weights
        return make_plan(policy, 110, (30, 30), batch=16, free=free, shared=True, checkpointing=False)

    assert plan(24).pairs >= 4 and not plan(24).checkpointing
    assert plan(10).pairs >= 1 and plan(10).checkpointing
    with pytest.raises(UserError, match=r"its tuning takes .* GB beside the model, one pair at a time; got"):
        plan(8.9)


def test_pairs_at_once_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit into what the adapter leaves; never more than the batch, nor longer rows than may be."""
    parts = Parts(weights=1000, adapter=60, activations=70, passing=10, logits=20)
    assert parts.total(3) == 1360
    small = Parts(weights=1000, adapter=60, activations=5, passing=10, logits=20)
    monkeypatch.setattr(memory, "measure_parts", lambda *_, checkpointing, **__: small if checkpointing else parts)

    def plan(free: int, prompt: int = 10, **options: Any) -> tuple[int, bool]:
        chosen = {"batch": 16, "shared": True, "checkpointing": False} | options
        made = make_plan(None, prompt, (5, 5), free=free, **chosen)
        return made.pairs, made.checkpointing

    assert plan(359) == (2, False) and plan(360) == (3, False) and plan(10_000) == (16, False)
    assert plan(159) == (2, True) and plan(10_000, checkpointing=True) == (16, True)
    assert plan(10_000, prompt=290) == (3, False) and plan(10_000, prompt=290, shared=False) == (16, False)
    with pytest.raises(UserError, match="raise --language"):
        plan(94)


def test_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit counts as the machine's; a limit given by hand is that of the whole process."""
    machine = psutil.virtual_memory().available
    assert 0 < free_bytes(CPU, None) <= 0.55 * machine
    taken = psutil.Process().memory_info().rss
    assert free_bytes(CPU, taken / GB + 0.1) == pytest.approx(0.1 * GB, abs=0.05 * GB)
    assert memory._left_of_cgroup(tmp_path) == float("inf")
    for limit, used in memory.CGROUPS[::-1]:
        (tmp_path / limit).parent.mkdir(exist_ok=True)
        (tmp_path / limit).write_text("5000\n")
        (tmp_path / used).write_text("2000\n")
        assert memory._left_of_cgroup(tmp_path) == 3000
    (tmp_path / memory.CGROUPS[0][0]).write_text("max\n")
    assert memory._left_of_cgroup(tmp_path) == 3000  # the other version's
    monkeypatch.setattr(memory, "_left_of_cgroup", lambda: 1e6)
    assert free_bytes(CPU, None) == 500_000
