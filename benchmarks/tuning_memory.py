"""What a tuning takes of a GPU's memory, part by part, for a chat model of four billion parameters; nothing is run.

    python benchmarks/tuning_memory.py

The sizes are those of Qwen3-4B on the meta device, a pair is a prompt of 150 tokens with two answers of 40. The same
function (`kka.language.memory.measure_parts`) chooses pairs at once and checkpointing in every tuning.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, Qwen3Config

from kka.errors import UserError
from kka.language.memory import FREE, GB, Parts, make_plan, measure_parts
from kka.language.trainer import lora_config
from kka.settings.language import LanguageSettings

OUT = Path(__file__).parent / "results" / "tuning_memory.md"
PROMPT, ANSWERS, BATCH = 150, (40, 40), 16
NF4 = 0.5 + 0.5 / 64 + 1 / 8192 / 16
"""Bytes a weight: four bits, an 8-bit scale for each 64 of them, and the scales' own."""
GPUS = (8, 12, 16, 24)


def qwen3_4b() -> Any:
    """Its sizes with an adapter, without its numbers."""
    config = Qwen3Config(
        vocab_size=151_936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).requires_grad_(False)
        return get_peft_model(model, lora_config(LanguageSettings()))


def weights(policy: Any, kind: str) -> float:
    """Bytes of the frozen ones; of NF4, embeddings and norms stay as they are."""
    frozen = [(name, p) for name, p in policy.named_parameters() if not p.requires_grad]
    packed = sum(p.numel() for name, p in frozen if "proj" in name) if kind == "NF4" else 0
    return 2 * (sum(p.numel() for _, p in frozen) - packed) + NF4 * packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    policy = qwen3_4b()
    found: dict[tuple[bool, bool], Parts] = {
        (shared, checkpoints): measure_parts(policy, PROMPT, ANSWERS, checkpointing=checkpoints, shared=shared)
        for shared in (True, False) for checkpoints in (True, False)
    }  # fmt: skip
    lines = ["| part | GB |", "|---|---:|"]
    adapter = found[True, True].adapter
    rows = [(f"weights, {kind}", weights(policy, kind)) for kind in ("bf16", "NF4")]
    rows += [("adapter, gradients, Adam, two copies", adapter)]
    for shared, way in ((True, "prompt read once"), (False, "as TRL pads it")):
        for checkpoints, how in ((False, ""), (True, ", checkpointing")):
            parts = found[shared, checkpoints]
            rows.append((f"a pair's activations, {way}{how}", parts.activations + parts.passing))
        rows.append((f"a pair's logits, {way}", found[shared, True].logits))
    lines += [f"| {name} | {value / GB:.2f} |" for name, value in rows]
    lines += ["", "| GPU | weights | pairs at once | checkpointing | taken, GB |", "|---:|---|---:|---|---:|"]
    for gb in GPUS:
        for kind in ("bf16", "NF4"):
            own = weights(policy, kind)
            try:
                plan = make_plan(
                    policy, PROMPT, ANSWERS, batch=BATCH, free=int(FREE["cuda"] * (gb * GB - own)), shared=True,
                    checkpointing=False,
                )  # fmt: skip
            except UserError:
                lines.append(f"| {gb} | {kind} | does not fit | | |")
                continue
            assert plan.parts is not None
            taken = own + adapter + plan.pairs * plan.parts.pair
            checkpoints = "yes" if plan.checkpointing else "no"
            lines.append(f"| {gb} | {kind} | {plan.pairs} | {checkpoints} | {taken / GB:.1f} |")
    text = "\n".join(lines) + "\n"
    OUT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
