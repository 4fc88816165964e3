"""Eq. 3 with any server that speaks OpenAI's chat-completions protocol (OpenAI, vLLM, Ollama, llama.cpp, …).

Nothing to tune here, so Eq. 7 is left out and the loop only samples.
"""

import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from kka.algorithm.answers import whole_part
from kka.common.openai import RefusedError, Server, in_parallel
from kka.errors import UserError
from kka.language.batches import FILTERED, LEAST, SHARE, Batches
from kka.language.chat import shown_before
from kka.seeding import derive_seed
from kka.settings import refuse_unknown
from kka.settings.language import OF_SERVERS, LanguageSettings

ANSWERS_A_CALL = 8
CAPTIONS_AN_ANSWER = 10
"""Where nothing else is set: each request pays for its prompt, and within a list models repeat themselves less."""
LIST = (
    "\n\nGive {count} answers at once, each unlike the others: a numbered list from 1 to {count}, one on each line, "
    "and nothing else."
)
"""What is put behind a prompt; captions are kept under the prompt without it."""
EMPTY_REPLIES = 3
"""So many replies in a row without any text end the sampling: each is paid for."""
MORE_TOKENS, MOST_TOKENS = 4, 8192
"""The limit of tokens, where it is the default one, is raised by that factor, up to that number, if no answer fits."""
SETTINGS = ("temperature", "top_p", "max_new_tokens", *OF_SERVERS)
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
    share: float = 1.0
    """Of the usual price."""

    @property
    def empty(self) -> bool:
        return not any(self.texts)


class OpenAILanguageModel:
    """Writes captions through an HTTP endpoint. A seed is sent along; whether it is kept is the server's affair.

    The first request goes alone: what the server refuses, and whether it answers, shows before many are paid for.

    Args:
        model: The model's name on the server.
        settings: Those of `SETTINGS` alone; none = left to the server.
        base_url, api_key, retries, timeout: See `kka.common.openai.Server`; no timeout: that of `settings`.
        worked: Prompts with an answer each, which are shown before the prompt where an answer is one caption.
        progress: Called with ("captions", requests done, requests).

    Attributes:
        tokens_written: Completion tokens so far, as the server counts them.
        tokens_read: Prompt tokens so far.
        cost: What they cost so far; None without prices.
        captions_an_answer: As many as an answer is asked for.
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
        retries: int = 5,
        timeout: float | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.settings = settings or LanguageSettings()
        refuse_unknown(self.settings, SETTINGS, of=f"openai:{model}", group="language")
        self.model, self.progress = model, progress
        limit = timeout or self.settings.timeout
        self.server = Server(model, base_url=base_url, api_key=api_key, retries=retries, timeout=limit)
        self.tokens_written = self.tokens_read = 0
        self.cost = None if self.settings.price_in is None else 0.0
        self.captions_an_answer = self.settings.captions_an_answer or CAPTIONS_AN_ANSWER
        self._batches = Batches(self.server) if self.settings.batch else None
        self.identity = f"openai:{model}@{self.server.url}"
        self._before = shown_before(worked) if self.captions_an_answer == 1 else []
        each = self.settings.max_new_tokens
        self._limit = None if each is None else each * self.captions_an_answer
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
        if self._batches is not None:  # so that a process that takes up the run asks alike
            self._answered, self._at_a_time = False, ANSWERS_A_CALL
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
                    self._count(reply)
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

    def _count(self, reply: _Reply) -> None:
        self.tokens_written += reply.written
        self.tokens_read += reply.read
        if self.cost is not None:
            read, written = self.settings.price_in or 0.0, self.settings.price_out or 0.0
            self.cost += reply.share * (reply.read * read + reply.written * written) / 1e6

    def _replies(self, prompts: Sequence[str], jobs: list[_Job]) -> Generator[tuple[_Job, _Reply], None, None]:
        """In the order of `jobs`; one at a time until the server has answered once."""

        def ask(job: _Job) -> tuple[_Job, _Reply]:
            if prompts[job.prompt] in self._filtered:  # it would be paid for again
                return job, _refused(job)
            return job, self._ask(prompts[job.prompt], job)

        waiting = deque(jobs)
        while waiting and not self._answered:
            yield ask(waiting.popleft())
        if self._batches is not None and len(waiting) >= LEAST:
            yield from self._by_the_batch(self._batches, prompts, waiting)
        else:
            yield from in_parallel(ask, waiting, self.settings.parallel)

    def _by_the_batch(
        self, batches: Batches, prompts: Sequence[str], jobs: Iterable[_Job]
    ) -> Iterator[tuple[_Job, _Reply]]:
        """The replies that came; what has none is asked again."""
        keys: dict[_Job, str] = {}
        requests: dict[str, dict[str, Any]] = {}
        for job in jobs:
            if prompts[job.prompt] in self._filtered:
                yield job, _refused(job)
                continue
            needed, wished = self._request(prompts[job.prompt], job)
            keys[job] = batches.key(needed, wished)
            requests[keys[job]] = {**needed, **self.server.renamed(wished)}

        def told(done: int, total: int) -> None:
            if self.progress is not None:
                self.progress("captions", done, total)

        found = batches.replies(requests, told=told)
        replies = []
        for job, key in keys.items():
            if key not in found:
                continue
            read = _refused(job) if found[key] == FILTERED else self._reply(found[key])
            replies.append((job, replace(read, share=SHARE)))
        if all(reply.empty for _, reply in replies):
            batches.forget(requests)
        yield from replies

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

    def _request(self, prompt: str, job: _Job) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a request for up to `job.count` answers needs, and what a server may refuse of it."""
        wished = {
            "n": job.count,
            "seed": job.seed,
            "temperature": self.settings.temperature,
            "top_p": self.settings.top_p,
            "max_tokens": self._limit,
        }
        several = self.captions_an_answer > 1
        content = prompt + LIST.format(count=self.captions_an_answer) if several else prompt
        return {"model": self.model, "messages": [*self._before, {"role": "user", "content": content}]}, wished

    def _ask(self, prompt: str, job: _Job) -> _Reply:
        """One request by itself."""
        needed, wished = self._request(prompt, job)
        key = ""
        if self._batches is not None:
            key = self._batches.key(needed, wished)
            if (kept := self._batches.kept(key)) is not None:
                return self._reply(kept)
        try:
            reply = self.server.ask(
                lambda client: client.chat.completions.with_streaming_response.create,
                needed, wished, text=needed["messages"][-1]["content"],
            )  # fmt: skip
        except RefusedError as error:
            if error.filtered:  # this prompt; others may pass
                return _refused(job)
            raise
        told = self._reply(reply)
        if self._batches is not None and not told.empty:
            self._batches.keep(key, reply)
        return told

    def _reply(self, reply: Any) -> _Reply:
        """What came of a request, from its JSON."""
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


def _refused(job: _Job) -> _Reply:
    """The server's filter holds the answers back."""
    return _Reply([""] * job.count, [FILTERED] * job.count, filtered=True)


def _message(choice: Any) -> Any:
    return choice.get("message") if isinstance(choice, dict) else None


def _count(usage: Any, name: str) -> int:
    number = usage.get(name) if isinstance(usage, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 0
