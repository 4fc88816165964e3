"""An API key, and the address it is sent to: checked, and kept out of all that is shown, logged or stored.

A key may also stand in the address itself (``https://host/<token>/v1``, ``https://user:word@host``, ``?key=…``). So of
an address only its scheme, its host and well-known words of paths are shown; the rest is a digest, which still tells
two addresses apart.
"""

import base64
import hashlib
import html
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from kka.errors import UserError

HIDDEN = "***"
"""Stands where a secret was."""
SHORTEST = 4
"""A shorter text is no key: hiding it would only garble messages."""
WORDS = frozenset(
    {"api", "chat", "compatible-mode", "completions", "deployments", "engines", "generations", "hf-inference", "images"}
    | {"inference", "models", "openai", "openapi", "paas", "serving-endpoints"}
)
"""Parts of the paths of known servers. Any other part may be a token."""
_VERSION = re.compile(r"v\d{1,2}(?:(?:alpha|beta)\d?)?")
LOGGERS = ("httpx", "httpx2", "openai", "openai._base_client", "httpcore2.connection", "httpcore2.http11")
"""Of the libraries that log where a request goes."""


def read_key(given: str | None, *, name: str) -> str | None:
    """The key without the white space around it, such as the line end of a file; None where there is none.

    Raises:
        UserError: it holds what cannot be sent in a header. The message names `name` and never shows the key.
    """
    key = (given or "").strip()
    for position, character in enumerate(key, 1):
        if not " " <= character <= "~":
            raise UserError(
                f"{name}: expected a key of printable ASCII characters on one line; character {position} of "
                f"{len(key)} is U+{ord(character):04X}. Set it anew. (The key is not shown.)"
            )
    return key or None


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server is."""

    base: str
    """Scheme, host and path, as requests need them. Not for any eyes."""
    query: dict[str, str]
    """What stood after the question mark; goes with every request."""
    shown: str
    """The address as it may be shown and stored."""
    secrets: tuple[str, ...]
    """The parts of it that `shown` leaves out."""


def read_address(given: str, *, name: str) -> Address:
    """Take an address apart.

    Raises:
        UserError: it is none of http:// or https://. The message names `name`, and shows no more than the host.
    """
    text = given.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        known = known and parts.port != 0 and all("!" <= character <= "~" for character in text)
    except ValueError:  # a port that is no number, half a bracket
        known = False
    if not known:
        host = re.sub(r"^\w+://", "", text).split("/")[0].split("?")[0].rpartition("@")[2]
        raise UserError(f"{name}: expected an address with http:// or https:// and a host; got {host[:80]!r}")
    account, _, host = parts.netloc.rpartition("@")
    base = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    segments = [segment for segment in parts.path.split("/") if segment]
    hidden = [segment for segment in segments if not _harmless(segment)]
    path = "".join(f"/{segment if _harmless(segment) else _digest(segment)}" for segment in segments)
    secrets = [*hidden, *query.values(), *account.split(":"), parts.fragment]
    if account:
        secrets.append(base64.b64encode(unquote(account).encode()).decode())  # as the header has it
    return Address(
        base=base,
        query=query,
        shown=f"{parts.scheme}://{host}{path}" + (f"?{_digest(parts.query)}" if parts.query else ""),
        secrets=tuple(secret for secret in secrets if secret),
    )


def _harmless(segment: str) -> bool:
    return segment.lower() in WORDS or bool(_VERSION.fullmatch(segment))


def _digest(secret: str) -> str:
    return "~" + hashlib.blake2b(secret.encode(), digest_size=4).hexdigest()


class Scrubber:
    """Takes secrets out of texts, in each of the ways in which a server or a library may write them.

    Libraries log addresses: from here on their records are scrubbed too, before any handler sees them.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        written = set()
        for secret in secrets:
            if len(secret) >= SHORTEST:
                plain = unquote(secret)
                written |= {secret, plain, quote(plain, safe=""), json.dumps(plain)[1:-1], html.escape(plain)}
        longest_first = sorted(written, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if written else None
        if self._pattern is not None:
            _LOGGED.add(self._pattern)
            for name in LOGGERS:
                logging.getLogger(name).addFilter(_hide)

    def __call__(self, text: str) -> str:
        """`text` with `HIDDEN` in the place of each secret."""
        return self._pattern.sub(HIDDEN, text) if self._pattern else text


_LOGGED: set[re.Pattern[str]] = set()
"""The secrets of all servers of this process."""


def _hide(record: logging.LogRecord) -> bool:
    text = scrubbed = record.getMessage()
    for pattern in _LOGGED:
        scrubbed = pattern.sub(HIDDEN, scrubbed)
    if scrubbed != text:
        record.msg, record.args = scrubbed, ()
    return True
