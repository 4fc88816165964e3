"""Language models for tests: a scripted one, and a tiny Llama with random weights on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path


class ScriptedModel:
    """Answers by a function of (prompt, k-th answer to it so far); remembers what it was asked."""

    def __init__(self, answer: Callable[[str, int], str]) -> None:
        self.answer = answer
        self.count: dict[str, int] = {}
        self.calls: list[tuple[list[str], int, int]] = []
        self.tokens_written = 0

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        self.calls.append((list(prompts), n, seed))
        out = []
        for prompt in prompts:
            texts = []
            for _ in range(n):
                k = self.count[prompt] = self.count.get(prompt, 0) + 1
                texts.append(self.answer(prompt, k))
            self.tokens_written += sum(len(text.split()) for text in texts)
            out.append(texts)
        return out


COLORS = ("red", "blue", "white", "pink", "yellow", "purple")
CAPTIONS = [
    f"this flower has {number} {color} petals with a {size} center"
    for number in ("three", "five", "eight", "many")
    for color in COLORS
    for size in ("small", "large")
]


def save_tiny_model(path: Path, *, chat: bool = True, seed: int = 0, spread: float = 0.3) -> Path:
    """A Llama of two layers of 32 with random weights, and a tokenizer of its own, in the folder `path`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from kka.language.examples import train_tokenizer
    from kka.language.loading import no_progress_bars
    from kka.language.rng import own_randomness

    tokenizer = train_tokenizer(CAPTIONS, lambda caption: f"Another flower: {caption}", 400)
    if not chat:
        tokenizer.chat_template = None
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=spread,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with own_randomness(seed, torch.device("cpu")), no_progress_bars():
        model = LlamaForCausalLM(config)
        # A twelfth of the tokens end an answer, so that random weights write short ones.
        model.generation_config.eos_token_id = list(range(tokenizer.eos_token_id, len(tokenizer), 12))
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def save_gguf(folder: Path, path: Path) -> Path:
    """The tiny Llama of `folder` as a GGUF file, its matrices in eight bits, as llama.cpp's converter lays it out."""
    import json

    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    heads, pairs = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(pairs)
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    tokens = sorted(vocabulary["model"]["vocab"].items(), key=lambda item: item[1])
    names = [name for name, _ in tokens]
    special = {token["content"] for token in vocabulary["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(names)
    writer.add_token_types([3 if name in special else 1 for name in names])
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in vocabulary["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    template = folder / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text())
    weights = load_file(folder / "model.safetensors")
    mapping = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, weight in weights.items():
        for part, count in (("q_proj", heads), ("k_proj", pairs)):
            if part in name:  # llama.cpp turns pairs of numbers where transformers turns halves
                half = weight.shape[0] // count // 2
                weight = weight.reshape(count, 2, half, -1).swapaxes(1, 2).reshape(weight.shape)
        kind = gguf.GGMLQuantizationType.F32 if weight.ndim == 1 else gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(
            mapping.get_name(name, try_suffixes=(".weight",)),
            gguf.quants.quantize(np.ascontiguousarray(weight, np.float32), kind),
            raw_dtype=kind,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
