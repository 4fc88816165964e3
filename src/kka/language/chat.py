"""How a prompt becomes a model's input: the same for sampling (Eq. 3) and tuning (Eq. 7)."""

from transformers import PreTrainedTokenizerBase

CHAT_OPTIONS = {"enable_thinking": False}
"""Passed to every chat template, in sampling and in tuning; templates that know no thinking ignore it."""


def as_conversation(prompt: str, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, str]] | str:
    """One user message where the tokenizer has a chat template, else the text and a line break."""
    return [{"role": "user", "content": prompt}] if tokenizer.chat_template else prompt + "\n"
