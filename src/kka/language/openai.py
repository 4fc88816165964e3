"""Eq. 3 with any server that speaks OpenAI's chat-completions protocol (OpenAI, vLLM, Ollama, llama.cpp, …).

Nothing to tune here, so Eq. 7 is left out and the loop only samples.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kka.common.openai import Server
from kka.errors import UserError
from kka.seeding import derive_seed
from kka.settings import refuse_unknown
from kka.settings.language import LanguageSettings

ANSWERS_A_CALL = 8
SETTINGS = ("temperature", "top_p", "max_new_tokens")
"""What a remote model knows of `LanguageSettings`: it is neither tuned nor loaded here."""


class OpenAILanguageModel:
    """Writes captions through an HTTP endpoint. A seed is sent along; whether it is kept is the server's affair.

    Args:
        model: The model's name on the server.
        settings: Those of `SETTINGS` alone; none = left to the server.
        base_url, api_key, retries, timeout: See `kka.common.openai.Server`.
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

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        """`n` raw answers to each prompt, prompt by prompt.

        Raises:
            UserError: the server refuses, cannot be reached, or answers in another format.
        """
        answers: list[list[str]] = [[] for _ in prompts]
        attempt = 0
        while any(len(got) < n for got in answers):
            # Servers may give fewer answers a call than asked for: ask again for what is missing.
            jobs = [
                (i, min(ANSWERS_A_CALL, n - start), derive_seed(seed, "openai", i, start))
                for i, got in enumerate(answers)
                for start in range(len(got), n, ANSWERS_A_CALL)
            ]
            with ThreadPoolExecutor(self.parallel) as pool:
                replies = pool.map(lambda job: self._ask(prompts[job[0]], job[1], job[2]), jobs)
                for done, ((i, _, _), (texts, written, read)) in enumerate(zip(jobs, replies, strict=True), 1):
                    answers[i].extend(texts)
                    self.tokens_written += written
                    self.tokens_read += read
                    if self.progress is not None:
                        self.progress("captions", done, len(jobs))
            attempt += 1
            if attempt > 2 * ANSWERS_A_CALL:
                url = self.server.url
                raise UserError(f"openai: {url} gave fewer than the {n} answers asked for, again and again")
        return [got[:n] for got in answers]

    def _ask(self, prompt: str, n: int, seed: int) -> tuple[list[str], int, int]:
        """One request for up to `n` answers; also the tokens written and read that the server counted."""
        wanted = {
            "temperature": self.settings.temperature,
            "top_p": self.settings.top_p,
            "max_tokens": self.settings.max_new_tokens,
        }
        body: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
        messages: Any = [{"role": "user", "content": prompt}]
        reply = self.server.ask(
            lambda client: client.chat.completions.create(model=self.model, messages=messages, n=n, seed=seed, **body)
        )
        try:
            choices = [(str(choice.message.content or ""), choice.finish_reason) for choice in reply.choices]
        except (AttributeError, TypeError) as error:
            raise UserError(
                f"openai: expected a chat completion from {self.server.url}; got {str(reply)[:300]}"
            ) from error
        texts = [text.rpartition("\n")[0] if reason == "length" else text for text, reason in choices]
        usage = reply.usage
        return texts, (usage.completion_tokens or 0) if usage else 0, (usage.prompt_tokens or 0) if usage else 0
