"""A server of OpenAI's HTTP protocol, by the package `openai`, whose errors become ours."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from kka.errors import UserError

if TYPE_CHECKING:
    from openai import OpenAI

DEFAULT_URL = "https://api.openai.com/v1"
PASSING = (408, 409, 429)
"""HTTP states that may pass, beside those of a server's own error: the package sends the request again."""
T = TypeVar("T")


class RefusedError(UserError):
    """The server refused one request; another may pass."""


class Server:
    """`model` on the server at `url`. It may be asked from several threads."""

    def __init__(
        self, model: str, *, base_url: str | None, api_key: str | None, retries: int, timeout: float
    ) -> None:
        """
        Args:
            base_url: None: the environment's ``OPENAI_BASE_URL``, else OpenAI's own.
            api_key: None: the environment's ``OPENAI_API_KEY``; a server of one's own may need none.
            retries: Further tries, with growing waits, after a network failure, a rate limit or a server's error.
            timeout: Seconds that a request may take.

        Raises:
            UserError: no package, no address, or no key for OpenAI's own server.
        """
        try:
            from openai import OpenAI
        except ImportError as error:
            raise UserError(f"openai:{model} needs the package openai: pip install 'kka[openai]'") from error
        self.model, self.retries = model, retries
        self.url = (base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"OPENAI_BASE_URL: expected an address with http:// or https://; got {self.url!r}")
        key = api_key or os.environ.get("OPENAI_API_KEY")
        if key is None and self.url == DEFAULT_URL:
            raise UserError(
                f"openai:{model}: expected a key in the environment variable OPENAI_API_KEY; it is not set. (For "
                "another server set OPENAI_BASE_URL.)"
            )
        self._client = OpenAI(base_url=self.url, api_key=key or "none", max_retries=retries, timeout=timeout)

    def ask(self, call: "Callable[[OpenAI], T]") -> T:
        """What `call` gets from the client.

        Raises:
            RefusedError: the server refuses this request.
            UserError: it still fails after all tries, or answers in another format.
        """
        from openai import APIConnectionError, APIResponseValidationError, APIStatusError

        tries = (
            f"openai: no answer from {self.url} after {self.retries + 1} tries; check OPENAI_BASE_URL and the network"
        )
        try:
            reply = call(self._client)
        except APIStatusError as error:
            problem = f"HTTP {error.status_code}: {error.response.text[:500]}"
            if (error.status_code in PASSING or error.status_code >= 500) and "insufficient_quota" not in problem:
                raise UserError(f"{tries}. The last problem: {problem}") from error
            raise RefusedError(
                f"openai: {self.url} refused the request for model {self.model!r}: {problem}"
            ) from error
        except APIConnectionError as error:
            cause: Any = error.__cause__ or error
            raise UserError(f"{tries}. The last problem: {cause}") from error
        except (APIResponseValidationError, ValueError) as error:
            raise UserError(f"openai: expected JSON from {self.url}; got something else ({error})") from error
        if isinstance(reply, str):  # the package gives what is no JSON as it came
            raise UserError(f"openai: expected JSON from {self.url}; got something else ({reply[:200]})")
        return reply
