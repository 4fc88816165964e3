"""How a prompt and its answer become a model's input: the same for sampling (Eq. 3) and tuning (Eq. 7).

Chat templates differ: some want a system's message first, some refuse one, some render a conversation with its answer
otherwise than the prompt alone (Qwen's and DeepSeek's drop or add an empty `<think>`). What the model is tuned on is
the prompt as it is sampled from, to the last token, and then the answer with what the template puts behind an answer.
"""

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedTokenizerBase

from kka.errors import UserError

CHAT_OPTIONS = {"enable_thinking": False}
"""Passed to every chat template, in sampling and in tuning; templates that know no thinking ignore it."""
SYSTEM = "You are a helpful assistant."
"""For templates that want a system's message."""
PROBE = "A probe of the template."

Messages = list[dict[str, Any]]


def _user(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def _with_system(text: str) -> Messages:
    return [{"role": "system", "content": SYSTEM}, *_user(text)]


def _in_parts(text: str) -> Messages:
    return [{"role": "user", "content": [{"type": "text", "text": text}]}]


class Chat:
    """The way of one tokenizer: with its chat template, or plain text where it has none.

    Raises:
        UserError: a template that takes no message of a user.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer: Any = tokenizer
        self._messages: Callable[[str], Messages] | None = None
        if tokenizer.chat_template:
            self._messages = self._layout()

    def _layout(self) -> Callable[[str], Messages]:
        """The first layout of a message that the template shows."""
        said = ""
        for layout in (_user, _with_system, _in_parts):
            try:
                if PROBE in self._rendered(layout(PROBE), add_generation_prompt=True):
                    return layout
            except Exception as error:  # jinja's own, what a template raises, and what its code runs into
                said = said or (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"language model: its chat template takes no user's message, with or without a system's one "
            f"({said or 'it leaves the text out'}). Take another model, or mend chat_template.jinja in a copy of it."
        )

    def _rendered(self, messages: Messages, **options: Any) -> str:
        text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, **options, **CHAT_OPTIONS)
        return text

    def prompt_ids(self, prompt: str) -> list[int]:
        """What the model is given to sample an answer to `prompt`."""
        if self._messages is not None:
            return self._ids(self._rendered(self._messages(prompt), add_generation_prompt=True))
        ids: list[int] = list(self.tokenizer(prompt + "\n")["input_ids"])
        while len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:  # some tokenizers end every text
            ids.pop()
        return ids

    def answer_ids(self, prompt: str, answer: str) -> list[int]:
        """What the model should write after `prompt_ids(prompt)`: the answer, and its end."""
        before = self.prompt_ids(prompt)
        if self._messages is None:
            ids = list(self.tokenizer(f"{prompt}\n{answer}")["input_ids"])
            while len(ids) > len(before) and ids[-1] == self.tokenizer.eos_token_id:
                ids.pop()
            ids.append(self.tokenizer.eos_token_id)
            rest = answer
        else:
            rest = answer + self._after(prompt, answer)
            ids = self._ids(self._rendered(self._messages(prompt), add_generation_prompt=True) + rest)
        if ids[: len(before)] != before:  # a token over the border: the model that samples cannot write one
            ids = before + self._ids(rest)
            if self._messages is None:
                ids.append(self.tokenizer.eos_token_id)
        return ids[len(before) :]

    def _after(self, prompt: str, answer: str) -> str:
        """What the template puts behind an answer: the end of the turn; at least the end of the sequence."""
        assert self._messages is not None
        end = str(self.tokenizer.eos_token)
        try:
            whole = self._rendered([*self._messages(prompt), {"role": "assistant", "content": answer}])
        except Exception:  # a template for prompts alone
            return end
        _, found, after = whole.rpartition(answer.strip())
        return after if found and any(token in after for token in self.tokenizer.all_special_tokens) else end

    def _ids(self, text: str) -> list[int]:
        """Of a text with its special tokens in it."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
