"""Eq. 3 with any server that speaks OpenAI's chat-completions protocol (OpenAI, vLLM, Ollama, llama.cpp, …).

Nothing to tune here, so Eq. 7 is left out and the loop only samples.
"""

import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kka.errors import UserError
from kka.seeding import derive_seed

DEFAULT_URL = "https://api.openai.com/v1"
_RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})
ANSWERS_A_CALL = 8


class OpenAILanguageModel:
    """Writes captions through an HTTP endpoint. A seed is sent along; whether it is kept is the server's affair.

    Args:
        model: The model's name on the server.
        base_url: None: the environment's ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: None: the environment's ``OPENAI_API_KEY``; a local server may need none.
        temperature, top_p: None: the server's own (some models take no other).
        max_new_tokens: An answer cut off there loses its last, unfinished line. None: the server's limit.
        parallel: Requests in flight at once.
        retries: Further tries, with growing waits, after a network failure, a rate limit or a server error.
        timeout: Seconds a request may take.
        progress: Called with ("captions", requests done, requests).

    Attributes:
        tokens_written: Completion tokens so far, as the server counts them.
        tokens_read: Prompt tokens so far.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | None = 1.0,
        top_p: float | None = None,
        max_new_tokens: int | None = None,
        parallel: int = 4,
        retries: int = 5,
        timeout: float = 120.0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.model = model
        self.base_url = (base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            raise UserError(f"OPENAI_BASE_URL: expected http://… or https://…; got {self.base_url!r}")
        self._key = api_key or os.environ.get("OPENAI_API_KEY")
        if self._key is None and self.base_url == DEFAULT_URL:
            raise UserError("openai: expected a key in the environment variable OPENAI_API_KEY; it is not set")
        self.temperature, self.top_p, self.max_new_tokens = temperature, top_p, max_new_tokens
        self.parallel, self.retries, self.timeout = parallel, retries, timeout
        self.progress = progress
        self.tokens_written = self.tokens_read = 0
        self.identity = f"openai:{model}@{self.base_url}"

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
                for done, ((i, _, _), (texts, usage)) in enumerate(zip(jobs, replies, strict=True), 1):
                    answers[i].extend(texts)
                    self.tokens_written += int(usage.get("completion_tokens") or 0)
                    self.tokens_read += int(usage.get("prompt_tokens") or 0)
                    if self.progress is not None:
                        self.progress("captions", done, len(jobs))
            attempt += 1
            if attempt > 2 * ANSWERS_A_CALL:
                raise UserError(f"openai: {self.base_url} gave fewer than the {n} answers asked for, again and again")
        return [got[:n] for got in answers]

    def _ask(self, prompt: str, n: int, seed: int) -> tuple[list[str], dict[str, Any]]:
        """One request for up to `n` answers; also the tokens that the server counted."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "n": n,
            "seed": seed,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_new_tokens,
        }
        reply = self._post({key: value for key, value in body.items() if value is not None}, seed)
        try:
            choices = [(str(c["message"]["content"] or ""), c.get("finish_reason")) for c in reply["choices"]]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"openai: expected a chat completion from {self.base_url}; got {json.dumps(reply)[:300]}"
            ) from error
        texts = [text.rpartition("\n")[0] if reason == "length" else text for text, reason in choices]
        return texts, reply.get("usage") or {}

    def _post(self, body: dict[str, Any], seed: int) -> Any:
        headers = {"Content-Type": "application/json", "User-Agent": "kka"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self.base_url}/chat/completions"
        wait = random.Random(seed)
        for attempt in range(self.retries + 1):
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code}: {error.read(500).decode(errors='replace')}"
                after = error.headers.get("Retry-After")
                if error.code not in _RETRIED:
                    raise UserError(f"openai: {url} refused the request for model {self.model!r}: {problem}") from error
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                problem, after = str(error), None
            except json.JSONDecodeError as error:
                raise UserError(f"openai: expected JSON from {url}; got something else ({error})") from error
            if attempt < self.retries:
                asked = float(after) if after and after.isdigit() else 0.0
                time.sleep(max(asked, self.backoff * 2**attempt * (0.5 + wait.random())))
        raise UserError(
            f"openai: no answer from {url} after {self.retries + 1} tries; check OPENAI_BASE_URL and the network. "
            f"The last problem: {problem}"
        )

    backoff = 0.5
    """Seconds of the first wait; it doubles from try to try."""
