"""How a prompt and its answer become a model's input: the same for sampling (Eq. 3) and tuning (Eq. 7).

Chat templates differ: some want a system's message first, some refuse one, some render a conversation with its answer
otherwise than the prompt alone (Qwen's and DeepSeek's drop or add an empty `<think>`). What the model is tuned on is
the prompt as it is sampled from, to the last token, and then the answer with what the template puts behind an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kka.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT_OPTIONS = {"enable_thinking": False}
"""Passed to every chat template, in sampling and in tuning; templates that know no thinking ignore it."""
SYSTEM = "You write captions of photos. You answer with one caption and nothing else."
"""Before worked examples, where the template takes a system's message; else where it wants one."""
PROBE = "A probe of the template."
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class _Layout:
    """The messages around a prompt."""

    system: bool
    worked: Sequence[tuple[str, str]]
    in_parts: bool = False

    def messages(self, prompt: str) -> Messages:
        said = [("system", SYSTEM)] if self.system else []
        for asked, answered in self.worked:
            said += [("user", asked), ("assistant", answered)]
        return [{"role": role, "content": self._content(text)} for role, text in [*said, ("user", prompt)]]

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.in_parts else text

    @property
    def texts(self) -> list[str]:
        """What has to be in the whole, beside the prompt."""
        return [SYSTEM] * self.system + [text for pair in self.worked for text in pair]


class Chat:
    """The way of one tokenizer: with its chat template, or plain text where it has none.

    Args:
        worked: Prompts with an answer each, shown before the prompt; where there is no chat template they are not.

    Raises:
        UserError: a template that takes no message of a user.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", worked: Sequence[tuple[str, str]] = ()) -> None:
        self.tokenizer: Any = tokenizer
        self._layout = self._first_that_fits(worked) if tokenizer.chat_template else None

    def _first_that_fits(self, worked: Sequence[tuple[str, str]]) -> _Layout:
        """The fullest layout that the template shows: some take no system's message, or want one; some no answers."""
        said = ""
        fullest = (_Layout(True, worked), _Layout(False, worked), _Layout(False, worked, in_parts=True))
        bare = (_Layout(False, ()), _Layout(True, ()), _Layout(False, (), in_parts=True))
        for layout in (*(fullest if worked else ()), *bare):
            try:
                text = self._rendered(layout.messages(PROBE), add_generation_prompt=True)
                if all(part in text for part in (PROBE, *layout.texts)):
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
        if self._layout is not None:
            return self._ids(self._rendered(self._layout.messages(prompt), add_generation_prompt=True))
        ids: list[int] = list(self.tokenizer(prompt + "\n")["input_ids"])
        while len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:  # some tokenizers end every text
            ids.pop()
        return ids

    def answer_ids(self, prompt: str, answer: str) -> list[int]:
        """What the model should write after `prompt_ids(prompt)`: the answer, and its end."""
        before = self.prompt_ids(prompt)
        if self._layout is None:
            ids = list(self.tokenizer(f"{prompt}\n{answer}")["input_ids"])
            while len(ids) > len(before) and ids[-1] == self.tokenizer.eos_token_id:
                ids.pop()
            ids.append(self.tokenizer.eos_token_id)
            rest = answer
        else:
            rest = answer + self._after(prompt, answer)
            ids = self._ids(self._rendered(self._layout.messages(prompt), add_generation_prompt=True) + rest)
        if ids[: len(before)] != before:  # a token over the border: the model that samples cannot write one
            ids = before + self._ids(rest)
            if self._layout is None:
                ids.append(self.tokenizer.eos_token_id)
        return ids[len(before) :]

    def _after(self, prompt: str, answer: str) -> str:
        """What the template puts behind an answer: the end of the turn; at least the end of the sequence."""
        assert self._layout is not None
        end = str(self.tokenizer.eos_token)
        try:
            whole = self._rendered([*self._layout.messages(prompt), {"role": "assistant", "content": answer}])
        except Exception:  # a template for prompts alone
            return end
        _, found, after = whole.rpartition(answer.strip())
        return after if found and any(token in after for token in self.tokenizer.all_special_tokens) else end

    def _ids(self, text: str) -> list[int]:
        """Of a text with its special tokens in it."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def shown_before(worked: Sequence[tuple[str, str]]) -> Messages:
    """The messages before a prompt, for a server that knows its model's template; none without worked examples."""
    return _Layout(bool(worked), worked).messages("")[:-1]
