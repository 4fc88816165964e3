"""Serves a page to this machine alone: on the loopback address, under a random token, with nothing from outside.

The page, its scripts and its style are files of this package; a browser is told to load nothing else. Whoever does not
know the token, another page in the same browser among them, gets 404 for everything.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kka.errors import UserError

TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
}  # fmt: skip
"""Of the package's own files, by their suffix."""
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
PAGE = 60
"""Pictures in one answer, at most 200."""
LONGEST = 10_000
"""Bytes of a decision."""
Query = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is served, by what stands after the token."""

    page: str
    """The HTML file, a file of this package."""
    files: tuple[str, ...]
    """What the page loads of this package, by name."""
    data: Mapping[str, Callable[[Query], Any]]
    """Answered in JSON."""
    pictures: Mapping[str, Callable[[str], bytes | None]]
    """The PNG or JPEG of a picture by its name; None: there is none."""
    say: Callable[[dict[str, Any]], Any]
    """Keep what a person says, on disk first, and answer in JSON."""


class Server(ThreadingHTTPServer):
    """One page. `with Server(site) as server: server.serve_forever()`."""

    daemon_threads = True

    def __init__(self, site: Site, *, port: int = 0) -> None:
        """
        Args:
            port: 0: one that is free.

        Raises:
            UserError: the port is taken.
        """
        self.site, self.token, self.lock = site, secrets.token_urlsafe(24), Lock()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UserError(f"review: port {port} cannot be had: {error.strerror}. Leave --port out.") from error

    @property
    def address(self) -> str:
        """What a person opens."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self._below_token()
        if asked is None:
            return self._send(404, "text/plain", b"not found")
        path, query = asked
        site = self.server.site
        if not path or path in site.files:
            file = Path(__file__).parent / (path or site.page)
            return self._send(200, TYPES[file.suffix], file.read_bytes())
        what, _, name = path.partition("/")
        if what in site.data and not name:
            return self._answer(partial(site.data[what], query))
        if what in site.pictures and (found := site.pictures[what](name)) is not None:
            return self._send(200, "image/png" if found.startswith(b"\x89PNG") else "image/jpeg", found, keep=True)
        return self._send(404, "text/plain", b"not found")

    def do_POST(self) -> None:
        asked, length = self._below_token(), self.headers.get("Content-Length") or ""
        body = self.rfile.read(int(length)) if _fits(length) else b""
        if asked is None or asked[0] != "say":
            return self._send(404, "text/plain", b"not found")
        return self._answer(partial(self._say, body))

    def _say(self, body: bytes) -> Any:
        row = json.loads(body)
        if not isinstance(row, dict):
            raise UserError(f"review: expected an object; got {type(row).__name__}")
        with self.server.lock:  # of two tabs
            return self.server.site.say(row)

    def _below_token(self) -> tuple[str, Query] | None:
        """What stands after the token, and the query; None for whoever does not know it, or came by another name than
        the loopback address, as a page elsewhere would through a name server of its own."""
        try:
            host = urlsplit(f"//{self.headers.get('Host') or ''}").hostname
            parts = urlsplit(self.path)
        except ValueError:
            return None
        token, slash, rest = parts.path.removeprefix("/").partition("/")
        known = slash and secrets.compare_digest(token.encode(), self.server.token.encode())
        if not known or host not in ("127.0.0.1", "localhost"):
            return None
        return rest, {name: values[-1] for name, values in parse_qs(parts.query).items()}

    def _answer(self, work: Callable[[], Any]) -> None:
        try:
            status, said = 200, work()
        except (UserError, ValueError, TypeError, KeyError) as error:
            status, said = 400, {"error": str(error)}
        except OSError as error:  # a full disk
            status, said = 500, {"error": f"not kept: {error.strerror or error}"}
        self._send(status, "application/json", json.dumps(said).encode("utf-8"))

    def _send(self, status: int, kind: str, content: bytes, *, keep: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")  # the token stands in the address
        self.send_header("Cache-Control", "private, max-age=3600" if keep else "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: an address holds the token."""


def _fits(length: str) -> bool:
    """Whether so many bytes are read at all."""
    return length.isdecimal() and len(length) < 9 and int(length) <= LONGEST
