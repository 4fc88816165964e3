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
