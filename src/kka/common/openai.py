"""A server of OpenAI's HTTP protocol, by the package `openai`, whose errors become ours.

The package knows the protocol: addresses, headers, proxies. What a server can do to a run is bounded here: how long a
request takes from its first to its last byte, how large a reply may be, how long a server may have us wait, and where
the key goes. Problems are values until the end, so that no exception chain holds what a server or a library wrote.
"""

import asyncio
import os
import random
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from json import loads
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from kka.common.replies import refused_parameter, says_filtered, shown, wait_asked_for
from kka.common.secrets import Scrubber, read_address, read_key
from kka.errors import UserError

DEFAULT_URL = "https://api.openai.com/v1"
PASSING = (408, 409, 429)
"""HTTP states that may pass, beside those of a server's own error: the request is sent again."""
NAMES_PARAMETERS = (400, 404, 422)
"""HTTP states of a request with a parameter that the server does not take."""
MAX_WAIT = 60.0
"""Seconds that a server may have us wait before a further try; one that asks for more ends the run."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the further tries where the server does not say: doubled each time, up to the second."""
LARGEST = 128 * 2**20
"""Bytes of a reply that are read: a picture of 4096 x 4096 pixels in base64 has about half of that."""
LARGEST_ERROR = 2**16
INSTEAD = {"max_tokens": "max_completion_tokens"}
"""What some servers call a parameter that they refuse under its usual name."""
J = TypeVar("J")
T = TypeVar("T")
Create = Callable[[Any], Callable[..., Any]]
"""From the package's `AsyncOpenAI` to its method that asks: ``client.images.with_streaming_response.generate``."""


class RefusedError(UserError):
    """The server refused one request; another may pass."""

    filtered = False
    """Whether it said that a content filter refused the text."""


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Why a request failed."""

    text: str
    """For a message; without secrets."""
    passing: bool = False
    """Another try may succeed."""
    refused: str | None = None
    """The body of the reply that refused this very request."""
    state: int = 0
    """Of HTTP, if there was a reply."""
    wait: float | None = None
    """Seconds that the server asked for."""


class _FailedError(Exception):
    """Carries a problem out of the libraries' hands."""

    def __init__(self, problem: _Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


class Server:
    """`model` on the server at `url`. It may be asked from several threads.

    Attributes:
        url: The server's address as it may be shown and stored: see `kka.common.secrets.Address`.
    """

    def __init__(
        self, model: str, *, base_url: str | None, api_key: str | None, retries: int, timeout: float
    ) -> None:
        """
        Args:
            base_url: None: the environment's ``OPENAI_BASE_URL``, else OpenAI's own.
            api_key: None: the environment's ``OPENAI_API_KEY``; a server of one's own may need none.
            retries: Further tries, with growing waits, after a network failure, a rate limit or a server's error.
            timeout: Seconds that a request may take, from its first to its last byte.

        Raises:
            UserError: no package, no address, a key that is none, or no key for OpenAI's own server.
        """
        try:
            import openai  # noqa: F401  # found missing here, not after the first stages
        except ImportError as error:
            raise UserError(f"openai:{model} needs the package openai: pip install 'kka[openai]'") from error
        self.model, self.retries, self.timeout = model, retries, timeout
        self._address = read_address(
            base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_URL,
            name="base_url" if base_url else "OPENAI_BASE_URL",
        )
        self.url = self._address.shown
        self._key = read_key(api_key, name="api_key") or read_key(
            os.environ.get("OPENAI_API_KEY"), name="OPENAI_API_KEY"
        )
        if self._key is None and self._address.base == DEFAULT_URL:
            raise UserError(
                f"openai:{model}: expected a key in the environment variable OPENAI_API_KEY; it is not set. (For "
                "another server set OPENAI_BASE_URL.)"
            )
        self.scrub = Scrubber([*self._address.secrets, *filter(None, [self._key]), *_values_of_headers()])
        self._instead: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def ask(
        self,
        create: Create,
        needed: Mapping[str, Any],
        wished: Mapping[str, Any],
        *,
        text: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON of the reply to one request.

        Args: see `fetch`.

        Raises:
            RefusedError: the server refuses this request.
            UserError: it still fails after all tries, or answers in another format.
        """
        reply = self.fetch(create, needed, wished, text=text, extra=extra)
        try:
            return loads(reply)
        except (ValueError, RecursionError):
            got = self.scrub(reply.decode(errors="replace"))
        raise UserError(f"openai: expected JSON from {self.url}; got something else ({shown(got)})")

    def fetch(
        self,
        create: Create,
        needed: Mapping[str, Any],
        wished: Mapping[str, Any],
        *,
        text: str,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The body of the reply to one request.

        A parameter that the server refuses is left out from then on, with a warning.

        Args:
            needed: Parameters without which there is no request.
            wished: Parameters that the server may refuse.
            text: What the request is about: an echo of it in an error is no word of the server's own.
            extra: Fields that the user asked for: a server that refuses one refuses the request.

        Raises:
            RefusedError: the server refuses this request.
            UserError: it still fails after all tries.
        """
        extra = extra or {}
        wished = {name: value for name, value in wished.items() if name not in extra}
        refused: dict[str, str] = {}  # for the first time, in this request
        while True:
            fields = self.renamed(wished, refused)
            reply = self._patiently(create, needed, fields | {**extra})
            if not isinstance(reply, _Problem):
                break
            body = reply.refused or ""
            filtered = says_filtered(body, text)
            name = None
            if reply.state in NAMES_PARAMETERS and not filtered:
                name = refused_parameter(body, text, fields)
            if name is None:
                error = RefusedError(
                    f"openai: {self.url} refused the request for model {self.model!r}: {reply.text}"
                )
                error.filtered = filtered
                raise error
            refused[name] = reply.text
        self._remember(refused)
        return reply

    def says(self, value: object) -> str:
        """A reply, or a part of it, as a message may show it."""
        return shown(self.scrub(repr(value)))

    def renamed(self, wished: Mapping[str, Any], refused: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
        """`wished` without the parameters that the server refuses, or with their other names."""
        fields = {}
        for wish, value in wished.items():
            name: str | None = wish
            while name is not None and (name in refused or name in self._instead):
                name = INSTEAD.get(name)
            if name is not None and value is not None:
                fields[name] = value
        return fields

    def _remember(self, refused: Mapping[str, str]) -> None:
        with self._lock:
            new = {name: why for name, why in refused.items() if name not in self._instead}
            self._instead |= {name: INSTEAD.get(name) for name in new}
        for name, why in new.items():
            instead = INSTEAD.get(name)
            way = f"with {instead} in its place" if instead and instead not in refused else "without it"
            warnings.warn(
                f"openai: {self.url} refuses the parameter {name} of model {self.model!r}: it goes on {way} ({why})",
                stacklevel=4,
            )

    def _patiently(self, create: Create, needed: Mapping[str, Any], more: Mapping[str, Any]) -> bytes | _Problem:
        """The body of the reply, after as many tries as it takes; or why the server refuses the request."""
        last = ""
        for left in range(self.retries, -1, -1):
            reply = _run(self._once(create, needed, more))
            if not isinstance(reply, _Problem) or reply.refused is not None:
                return reply
            if not reply.passing:
                raise UserError(f"openai: {self.url} {reply.text}")
            if reply.wait is not None and reply.wait > MAX_WAIT:
                raise UserError(
                    f"openai: {self.url} asks to wait {reply.wait:.0f} seconds; expected at most {MAX_WAIT:.0f}. Start "
                    f"again later: a run goes on with --resume. Its words: {reply.text}"
                )
            last = reply.text
            if left:
                doubled = min(FIRST_WAIT * 2 ** (self.retries - left), LONGEST_WAIT)
                time.sleep(doubled * random.uniform(0.75, 1) if reply.wait is None else reply.wait)
        raise UserError(
            f"openai: no answer from {self.url} after {self.retries + 1} tries; check OPENAI_BASE_URL and the network. "
            f"The last problem: {last}"
        )

    async def _once(self, create: Create, needed: Mapping[str, Any], more: Mapping[str, Any]) -> bytes | _Problem:
        import httpx2
        from openai import APITimeoutError, AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError

        hooks: Any = {"response": [self._check]}
        late = _Problem(text=f"no whole answer within {self.timeout:g} seconds", passing=True)
        try:
            # The package's own limits hold for each byte: a server that drips would never reach them.
            async with asyncio.timeout(self.timeout):
                http = DefaultAsyncHttpxClient(timeout=self.timeout, event_hooks=hooks, verify=_certificates())
                asking = AsyncOpenAI(
                    base_url=self._address.base,
                    default_query=self._address.query,
                    api_key=self._key or "none",
                    max_retries=0,
                    timeout=self.timeout,
                    http_client=http,
                )
                async with asking as client, create(client)(**needed, extra_body=dict(more)) as reply:
                    body, whole = await _read(reply.iter_bytes(), LARGEST)
        except _FailedError as failed:
            return failed.problem
        except (TimeoutError, APITimeoutError, httpx2.TimeoutException):
            return late
        except (OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
            cause = error.__cause__ or error
            ours = isinstance(cause, httpx2.LocalProtocolError | httpx2.InvalidURL | ValueError)
            reason = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
            text = shown(self.scrub(reason))
            return _Problem(text=f"cannot be asked ({text})" if ours else text, passing=not ours)
        if not whole:
            return _Problem(text=f"sent more than the {LARGEST / 2**20:g} MiB that a reply may have")
        return body

    async def _check(self, response: Any) -> None:
        """Before the package sees a reply: end what is no success, and what would send the key elsewhere."""
        if response.is_success:
            return
        location = response.headers.get("location")
        if 300 <= response.status_code < 400 and location:
            self._check_redirect(response.status_code, str(response.request.url), location)
            return
        content, _ = await _read(response.aiter_bytes(), LARGEST_ERROR)
        body = self.scrub(content.decode(errors="replace"))
        text = f"HTTP {response.status_code}: {shown(body, 500)}"
        state, may_pass = response.status_code, response.headers.get("x-should-retry")
        passing = (state in PASSING or state >= 500) and "insufficient_quota" not in body
        passing = may_pass == "true" or (passing and may_pass != "false")
        wait = wait_asked_for(response.headers)
        refused = None if passing else body
        raise _FailedError(_Problem(text=text, passing=passing, refused=refused, state=state, wait=wait))

    def _check_redirect(self, state: int, source: str, location: str) -> None:
        """A redirect within the host may be followed as it is asked (307, 308); no other: the key would go along."""
        target = urljoin(source, location)
        old, new = urlsplit(source), urlsplit(target)
        if old[:2] == new[:2] and state in (307, 308):
            return
        try:
            to = read_address(target, name="redirect").shown
        except UserError:
            to = "something that is no address"
        raise _FailedError(
            _Problem(
                text=f"redirects to {self.scrub(to)} (HTTP {state}), which was not asked: the key goes to no place "
                "that you have not named. If it is right, set OPENAI_BASE_URL to it"
            )
        )


@cache
def _certificates() -> Any:
    """Loaded once: each client would load them anew."""
    import httpx2

    return httpx2.create_ssl_context()


async def _read(chunks: AsyncIterator[bytes], most: int) -> tuple[bytes, bool]:
    """What comes, up to `most` bytes, and whether that is all."""
    parts, size = [], 0
    async for chunk in chunks:
        parts.append(chunk[: most - size])
        size += len(chunk)
        if size > most:
            return b"".join(parts), False
    return b"".join(parts), True


def _values_of_headers() -> list[str]:
    """Of the headers that the package adds to each request, if the environment says so."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    return [value for line in lines for value in line.partition(":")[2].split()]


def in_parallel(call: Callable[[J], T], jobs: Iterable[J], workers: int) -> Iterator[T]:
    """The results of `call`, in the order of `jobs`. After an error, or when nobody asks on, no new job starts."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(call, jobs)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, also where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
