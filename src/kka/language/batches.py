"""Requests by the batch, for half the price and within a day: /files and /batches of OpenAI's protocol.

Which batch holds which requests is kept in the cache, with the replies: a run that was killed waits for the batch that
it left, and no request is paid for twice.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kka.common.caches import cache_folder
from kka.common.files import read_json, write_atomically
from kka.common.openai import RefusedError, Server
from kka.common.replies import says_filtered
from kka.errors import UserError

ENDPOINT, WINDOW = "/v1/chat/completions", "24h"
LEAST = 4
"""Fewer requests are not worth the wait."""
SHARE = 0.5
"""Of the price of a request by itself."""
FIRST_WAIT, LONGEST_WAIT = 5.0, 60.0
"""Seconds from one look at a batch to the next: doubled each time, up to the second."""
OPEN, ENDED = ("validating", "in_progress", "finalizing", "cancelling"), ("completed", "expired", "cancelled")
"""States of a batch; one more is failed."""
FILTERED = "content_filter"
"""In the place of a reply: the server's filter refused the request."""


@dataclass(frozen=True)
class _Record:
    """A batch that was made, in a file of its own."""

    file: Path
    batch: str
    keys: tuple[str, ...]
    """Of its requests."""

    @property
    def results(self) -> Path:
        """The server's lines, once it is done."""
        return self.file.with_suffix(".results")

    def forget(self) -> None:
        self.results.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


class Batches:
    """The batches of one server, and the replies to requests by themselves that came before them.

    Args:
        folder: Default: `batches` in the cache.
    """

    def __init__(self, server: Server, folder: Path | None = None) -> None:
        self.server = server
        self.folder = folder if folder is not None else cache_folder() / "batches"

    def key(self, *parts: object) -> str:
        """The name of a request by all that it asks for."""
        named = json.dumps([self.server.url, self.server.model, *parts], sort_keys=True)
        return hashlib.blake2b(named.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def kept(self, key: str) -> Any:
        """The reply to a request that was asked by itself; None: there is none."""
        file = self.folder / f"{key}.reply"
        return read_json(file) if file.is_file() else None

    def keep(self, key: str, reply: Any) -> None:
        """Store the reply to a request that was asked by itself."""
        self._write(self.folder / f"{key}.reply", reply)

    def replies(
        self, requests: Mapping[str, Mapping[str, Any]], *, told: Callable[[int, int], None] = lambda done, of: None
    ) -> dict[str, Any]:
        """Key -> the reply to it, or `FILTERED`, of those that have one; of batches that hold them already, or of a
        new one. It may take a day.

        Args:
            requests: Key -> the fields of a chat completion.
            told: Called with (requests done, requests).

        Raises:
            UserError: the server has no batches, refuses this one, or answers none of its requests.
        """
        found: dict[str, Any] = {}
        for record in self._records(requests):
            found |= self._finished(record, requests, told)
        missing = {key: request for key, request in requests.items() if key not in found}
        if len(missing) >= LEAST:
            found |= self._finished(self._submitted(missing), requests, told)
        return {key: found[key] for key in requests if key in found}

    def forget(self, keys: Iterable[str]) -> None:
        """The batches that hold any of these requests are not asked for again."""
        for record in self._records(keys):
            record.forget()

    def _records(self, keys: Iterable[str]) -> Iterator[_Record]:
        wanted = {*keys}
        for file in sorted(self.folder.glob("*.batch")):
            stored = read_json(file)
            if wanted.intersection(stored["keys"]):
                yield _Record(file, stored["batch"], tuple(stored["keys"]))

    def _submitted(self, requests: Mapping[str, Mapping[str, Any]]) -> _Record:
        lines = [
            json.dumps({"custom_id": key, "method": "POST", "url": ENDPOINT, "body": request})
            for key, request in requests.items()
        ]
        file = ("requests.jsonl", "\n".join(lines).encode(), "application/jsonl")
        try:
            sent = self.server.ask(
                lambda client: client.files.with_streaming_response.create,
                {"file": file, "purpose": "batch"}, {}, text="",
            )  # fmt: skip
            fields = {"input_file_id": self._id(sent), "endpoint": ENDPOINT, "completion_window": WINDOW}
            made = self.server.ask(lambda client: client.batches.with_streaming_response.create, fields, {}, text="")
        except RefusedError as error:
            raise UserError(f"language.batch: the server takes no batch of requests; leave it out. {error}") from None
        record = _Record(self.folder / f"{self.key(*requests)}.batch", self._id(made), tuple(requests))
        self._write(record.file, {"batch": record.batch, "server": self.server.url, "keys": record.keys})
        return record

    def _finished(
        self, record: _Record, requests: Mapping[str, Mapping[str, Any]], told: Callable[[int, int], None]
    ) -> dict[str, Any]:
        """Key -> the reply, of a batch that is waited for."""
        if not record.results.is_file():
            try:
                lines = self._awaited(record, told)
            except RefusedError as error:
                record.forget()
                warnings.warn(f"openai: batch {record.batch} is no longer there: {error}", stacklevel=2)
                return {}
            self._write(record.results, {"lines": lines})
        found: dict[str, Any] = {}
        said = ""
        for line in read_json(record.results)["lines"]:
            key, reply = line.get("custom_id"), line.get("response")
            body = reply.get("body") if isinstance(reply, dict) else None
            if isinstance(reply, dict) and reply.get("status_code") == 200 and isinstance(body, dict):
                found[key] = body
                continue
            wrong = body or line.get("error") or line
            if says_filtered(json.dumps(wrong), _text(requests.get(key))):
                found[key] = FILTERED
            said = said or self.server.says(wrong)
        if not found:
            record.forget()
            raise UserError(
                f"openai: batch {record.batch} on {self.server.url} answered none of its {len(record.keys)} requests"
                + (f"; of the first it says {said}" if said else "")
            )
        return found

    def _awaited(self, record: _Record, told: Callable[[int, int], None]) -> list[dict[str, Any]]:
        """The server's lines on each request, when the batch has ended."""
        wait = FIRST_WAIT
        while True:
            batch = self.server.ask(
                lambda client: client.batches.with_streaming_response.retrieve, {"batch_id": record.batch}, {}, text=""
            )
            state = batch.get("status") if isinstance(batch, dict) else None
            if state not in OPEN:
                break
            counts = batch.get("request_counts")
            told(counts.get("completed") or 0 if isinstance(counts, dict) else 0, len(record.keys))
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        if state not in ENDED:
            record.forget()
            why = (batch.get("errors") if isinstance(batch, dict) else None) or batch
            raise UserError(
                f"openai: batch {record.batch} on {self.server.url}: expected it to be completed; got "
                f"{self.server.says(state)}: {self.server.says(why)}"
            )
        lines = [line for name in ("output_file_id", "error_file_id") for line in self._lines(batch.get(name))]
        if state != "completed":
            warnings.warn(
                f"openai: batch {record.batch} on {self.server.url} is {state}; the requests that it left unanswered "
                "are asked again",
                stacklevel=3,
            )
        return lines

    def _lines(self, file: Any) -> list[dict[str, Any]]:
        if not isinstance(file, str) or not file:
            return []
        content = self.server.fetch(
            lambda client: client.files.with_streaming_response.content, {"file_id": file}, {}, text=""
        ).decode(errors="replace")
        try:
            lines = [json.loads(line) for line in content.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            lines = [None]
        if not all(isinstance(line, dict) for line in lines):
            raise UserError(
                f"openai: expected the results of a batch, as JSON lines, from {self.server.url}; got "
                f"{self.server.says(content)}"
            )
        return lines

    def _id(self, reply: Any) -> str:
        found = reply.get("id") if isinstance(reply, dict) else None
        if not isinstance(found, str) or not found:
            raise UserError(f"openai: expected an id from {self.server.url}; got {self.server.says(reply)}")
        return found

    def _write(self, file: Path, value: Any) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, self.server.scrub(json.dumps(value)))
        except OSError as error:
            raise UserError(
                f"the cache of batches {self.folder} cannot be written: {error}. Make room or set KKA_CACHE to a "
                "folder that can be written."
            ) from error


def _text(request: Mapping[str, Any] | None) -> str:
    return "" if request is None else str(request["messages"][-1]["content"])
