"""Eq. 3 with any server that speaks OpenAI's chat-completions protocol (OpenAI, vLLM, Ollama, llama.cpp, …).

Nothing to tune here, so Eq. 7 is left out and the loop only samples.
"""

import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from kka.algorithm.answers import whole_part
from kka.common.openai import RefusedError, Server, in_parallel
from kka.errors import UserError
from kka.language.chat import shown_before
from kka.seeding import derive_seed
from kka.settings import refuse_unknown
from kka.settings.language import LanguageSettings

ANSWERS_A_CALL = 8
FILTERED = "content_filter"
"""The finish_reason of an answer that the server's filter holds back."""
EMPTY_REPLIES = 3
"""So many replies in a row without any text end the sampling: each is paid for."""
MORE_TOKENS, MOST_TOKENS = 4, 8192
"""The limit of tokens, where it is the default one, is raised by that factor, up to that number, if no answer fits."""
SETTINGS = ("temperature", "top_p", "max_new_tokens")
"""What a remote model knows of `LanguageSettings`: it is neither tuned nor loaded here."""


@dataclass(frozen=True)
class _Job:
    """One request: for `count` answers to prompt number `prompt`."""

    prompt: int
    count: int
    seed: int


@dataclass(frozen=True)
class _Reply:
    """What came of a request."""

    texts: list[str]
    reasons: list[str]
    """Of each answer without text: why it has none, as the server says (finish_reason)."""
    written: int = 0
    read: int = 0
    """Tokens, as the server counts them."""
    filtered: bool = False
    """The server refuses this prompt."""

    @property
    def empty(self) -> bool:
        return not any(self.texts)


class OpenAILanguageModel:
    """Writes captions through an HTTP endpoint. A seed is sent along; whether it is kept is the server's affair.

    The first request goes alone: what the server refuses, and whether it answers, shows before many are paid for.

    Args:
        model: The model's name on the server.
        settings: Those of `SETTINGS` alone; none = left to the server.
        base_url, api_key, retries, timeout: See `kka.common.openai.Server`.
        worked: Prompts with an answer each, which are shown before the prompt.
        parallel: Requests in flight at once.
        progress: Called with ("captions", requests done, requests).

    Attributes:
        tokens_written: Completion tokens so far, as the server counts them.
        tokens_read: Prompt tokens so far.
        identity: Names the model and its server.

    Raises:
        UserError: a setting that a remote model does not have, no address, no key.
    """

    def __init__(
        self,
        model: str,
        *,
        settings: LanguageSettings | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        worked: Sequence[tuple[str, str]] = (),
        parallel: int = 4,
        retries: int = 5,
        timeout: float = 120.0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.settings = settings or LanguageSettings()
        refuse_unknown(self.settings, SETTINGS, of=f"openai:{model}", group="language")
        self.model, self.parallel, self.progress = model, parallel, progress
        self.server = Server(model, base_url=base_url, api_key=api_key, retries=retries, timeout=timeout)
        self.tokens_written = self.tokens_read = 0
        self.identity = f"openai:{model}@{self.server.url}"
        self._before = shown_before(worked)
        self._limit = self.settings.max_new_tokens
        self._at_a_time = ANSWERS_A_CALL
        self._answered = False
        self._empty: list[_Reply] = []  # the last ones, if they had no text
        self._filtered: set[str] = set()  # prompts that the server refuses

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        """`n` raw answers to each prompt, prompt by prompt.

        Raises:
            UserError: the server refuses, cannot be reached, answers in another format, or not at all.
        """
        answers: list[list[str]] = [[] for _ in prompts]
        attempt = 0
        while any(len(got) < n for got in answers):
            # Servers may give fewer answers a call than asked for: ask again for what is missing.
            step = self._at_a_time
            jobs = [
                _Job(i, min(step, n - start), derive_seed(seed, "openai", i, start))
                for i, got in enumerate(answers)
                for start in range(len(got), n, step)
            ]
            with closing(self._replies(prompts, jobs)) as replies:
                for done, (job, reply) in enumerate(replies, 1):
                    self.tokens_written += reply.written
                    self.tokens_read += reply.read
                    if reply.filtered:
                        self._filtered.add(prompts[job.prompt])
                    if self._counts(reply, prompts):
                        answers[job.prompt].extend(reply.texts)
                        if 0 < len(reply.texts) < job.count:
                            self._at_a_time = min(self._at_a_time, len(reply.texts))
                    if self.progress is not None:
                        self.progress("captions", done, len(jobs))
            attempt += 1
            if attempt > 2 * ANSWERS_A_CALL:
                url = self.server.url
                raise UserError(f"openai: {url} gave fewer than the {n} answers asked for, again and again")
        return [got[:n] for got in answers]

    def _replies(self, prompts: Sequence[str], jobs: list[_Job]) -> Generator[tuple[_Job, _Reply], None, None]:
        """In the order of `jobs`; one at a time until the server has answered once."""

        def ask(job: _Job) -> tuple[_Job, _Reply]:
            if prompts[job.prompt] in self._filtered:  # it would be paid for again
                return job, _Reply([""] * job.count, [FILTERED] * job.count, filtered=True)
            return job, self._ask(prompts[job.prompt], job)

        waiting = deque(jobs)
        while waiting and not self._answered:
            yield ask(waiting.popleft())
        yield from in_parallel(ask, waiting, self.parallel)

    def _counts(self, reply: _Reply, prompts: Sequence[str]) -> bool:
        """Whether the answers of `reply` count as such. Ends the sampling after several empty replies in a row, and
        where the server's filter refuses each of the prompts."""
        if not reply.empty:
            self._answered, self._empty = True, []
            return True
        if reply.filtered:
            if {*prompts} - self._filtered:
                return True
            raise UserError(
                f"openai: model {self.model!r} on {self.server.url} refuses every prompt. "
                f"{self._advice(Counter(reply.reasons))}"
            )
        self._empty.append(reply)
        if self._raised_limit(reply):
            return False
        if len(self._empty) < EMPTY_REPLIES:
            return True
        reasons = Counter(reason for each in self._empty for reason in each.reasons or ["no choices"])
        told = ", ".join(f"{reason} ({count} times)" for reason, count in reasons.most_common(4))
        raise UserError(
            f"openai: model {self.model!r} on {self.server.url} gave {len(self._empty)} replies in a row without text; "
            f"finish_reason: {told}. {self._advice(reasons)}"
        )

    def _raised_limit(self, reply: _Reply) -> bool:
        """Raise the limit of tokens where it is too small for one line; not one that the user has chosen."""
        limit, default = self._limit, LanguageSettings().max_new_tokens
        if set(reply.reasons) != {"length"} or self.settings.max_new_tokens != default or limit is None:
            return False
        if limit * MORE_TOKENS > MOST_TOKENS:
            return False
        self._limit = limit * MORE_TOKENS
        warnings.warn(
            f"openai: model {self.model!r} wrote no whole line within {limit} tokens (max_tokens; a model that thinks "
            f"spends them on that): it goes on with {self._limit}",
            stacklevel=3,
        )
        return True

    def _advice(self, reasons: Counter[str]) -> str:
        if "length" in reasons:
            return (
                f"The limit of {self._limit} tokens (max_tokens) is spent before a line is whole: raise "
                "--language.max-new-tokens, or set it to none; or have the model think less."
            )
        if FILTERED in reasons:
            return "Its content filter holds the answers back: take another model, prompt template or description."
        return "Check the model's name, its chat template and what the server logs."

    def _ask(self, prompt: str, job: _Job) -> _Reply:
        """One request for up to `job.count` answers."""
        wished = {
            "n": job.count,
            "seed": job.seed,
            "temperature": self.settings.temperature,
            "top_p": self.settings.top_p,
            "max_tokens": self._limit,
        }
        needed = {"model": self.model, "messages": [*self._before, {"role": "user", "content": prompt}]}
        try:
            reply = self.server.ask(
                lambda client: client.chat.completions.with_streaming_response.create, needed, wished, text=prompt
            )
        except RefusedError as error:
            if error.filtered:  # this prompt; others may pass
                return _Reply([""] * job.count, [FILTERED] * job.count, filtered=True)
            raise
        choices = reply.get("choices") if isinstance(reply, dict) else None
        if not isinstance(choices, list) or not all(isinstance(_message(choice), dict) for choice in choices):
            raise UserError(f"openai: expected a chat completion from {self.server.url}; got {self.server.says(reply)}")
        texts, reasons = [], []
        for choice in choices:
            text, reason = self._text(choice)
            texts.append(text)
            if not text:
                reasons.append(reason)
        usage = reply.get("usage")
        return _Reply(texts, reasons, _count(usage, "completion_tokens"), _count(usage, "prompt_tokens"))

    def _text(self, choice: Any) -> tuple[str, str]:
        """One answer as far as it is whole, and the reason for its end."""
        content, refusal = _message(choice).get("content"), _message(choice).get("refusal")
        if isinstance(content, list):  # in parts
            content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
        text = content if isinstance(content, str) else ""
        text = self.server.scrub(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        reason = str(choice.get("finish_reason") or "none given")
        if reason == "length":
            text = whole_part(text)
        if not text.strip() and isinstance(refusal, str) and refusal:
            reason = f"refusal: {self.server.says(refusal)[:100]}"
        return text.strip(), reason


def _message(choice: Any) -> Any:
    return choice.get("message") if isinstance(choice, dict) else None


def _count(usage: Any, name: str) -> int:
    number = usage.get(name) if isinstance(usage, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 0
