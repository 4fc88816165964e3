"""Serves the page to this machine alone: on the loopback address, under a random token, with nothing from outside.

The page, its script and its style are files of this package; a browser is told to load nothing else. Whoever does not
know the token, another page in the same browser among them, gets 404 for everything.
"""

import json
import secrets
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kka.algorithm.reviews import REASONS, Choice, Decision
from kka.errors import UserError
from kka.review.album import KINDS, Album

FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
}
"""What stands after the token -> the file, and its type."""
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
PAGE = 60
"""Pictures in one answer, at most 200."""
LONGEST = 10_000
"""Bytes of a decision."""


class Server(ThreadingHTTPServer):
    """The page of one album. `with Server(album) as server: server.serve_forever()`."""

    daemon_threads = True

    def __init__(self, album: Album, *, port: int = 0) -> None:
        """
        Args:
            port: 0: one that is free.

        Raises:
            UserError: the port is taken.
        """
        self.album, self.token, self.lock = album, secrets.token_urlsafe(24), Lock()
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
        if path in FILES:
            name, kind = FILES[path]
            return self._send(200, kind, (Path(__file__).parent / name).read_bytes())
        what, _, name = path.partition("/")
        if what in _DATA and not name:
            return self._answer(partial(_DATA[what], self.server.album, query))
        if what in _PICTURES and (found := _PICTURES[what](self.server.album, name)) is not None:
            return self._send(200, "image/png", found, keep=True)
        return self._send(404, "text/plain", b"not found")

    def do_POST(self) -> None:
        asked, length = self._below_token(), int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if 0 <= length <= LONGEST else b""
        if asked is None or asked[0] != "say":
            return self._send(404, "text/plain", b"not found")
        return self._answer(partial(self._say, body))

    def _say(self, body: bytes) -> dict[str, Any]:
        row = json.loads(body)
        said = Decision(**row) if "id" in row else Choice(**row)
        with self.server.lock:  # of two tabs
            self.server.album.say(said)
            return {"counts": self.server.album.reviews.counts()}

    def _below_token(self) -> tuple[str, dict[str, str]] | None:
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


def _about(album: Album, _: dict[str, str]) -> dict[str, Any]:
    return {"run": album.root.resolve().name, "rounds": album.rounds, "kinds": KINDS, "reasons": REASONS,
            "pictures": len(album.shown), "counts": album.reviews.counts(), "page": PAGE}  # fmt: skip


def _pictures(album: Album, query: dict[str, str]) -> dict[str, Any]:
    number = int(query["round"]) if query.get("round") else None
    kind, words, start = query.get("kind", "all"), query.get("words", ""), max(0, int(query.get("start", 0)))
    if kind not in KINDS:
        raise UserError(f"review: expected a kind among {', '.join(KINDS)}; got {kind!r}")
    if kind == "set aside":
        rows = album.set_aside(number=number, words=words)
        return {"total": len(rows), "aside": rows[start : start + PAGE], "pictures": []}
    found = album.find(number=number, kind=kind, words=words)
    return {"total": len(found), "aside": [], "pictures": [album.told(one) for one in found[start : start + PAGE]]}


def _pair(album: Album, query: dict[str, str]) -> dict[str, Any]:
    skipped = [frozenset(text.split("|")) for text in query.get("skipped", "").split(",") if text]
    found = album.pair(skipped)
    return {"pair": None if found is None else [album.told(one) for one in found]}


_PICTURES: dict[str, Callable[[Album, str], bytes | None]] = {
    "image": partial(Album.image, small=False), "thumbnail": partial(Album.image, small=True),
    "normal": Album.normal, "outline": Album.outline,
}  # fmt: skip
_DATA: dict[str, Callable[[Album, dict[str, str]], dict[str, Any]]] = {
    "about": _about, "pictures": _pictures, "pair": _pair,
}  # fmt: skip
