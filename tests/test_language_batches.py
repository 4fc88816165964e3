"""Requests by the batch against a real HTTP server on the loopback device that implements /files and /batches."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kka.common.caches import cache_folder
from kka.errors import UserError
from kka.language import batches
from kka.language.openai import OpenAILanguageModel
from kka.settings.language import LanguageSettings

KEY = "sk-Secret-Key-12345"
PROMPTS = [f"prompt {i}" for i in range(6)]


class Server(ThreadingHTTPServer):
    """Its batches are done at the second look; `states` says otherwise, one look each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.direct: list[dict[str, Any]] = []
        self.batches: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, str] = {}
        self.states: list[str] = []
        self.lines: dict[str, Any] = {}
        """A prompt -> what the results say of it in the place of an answer; None: nothing."""
        self.looks = 0

    def answered(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt, seed = body["messages"][0]["content"], body.get("seed")
        choices = [
            {"message": {"content": f"a flower of {prompt}, {seed} and {k}"}, "finish_reason": "stop"}
            for k in range(body["n"])
        ]
        return {"choices": choices, "usage": {"completion_tokens": 10 * body["n"], "prompt_tokens": 5}}

    def line(self, request: dict[str, Any]) -> dict[str, Any] | None:
        prompt = request["body"]["messages"][0]["content"]
        reply = self.lines.get(prompt, {"status_code": 200, "body": self.answered(request["body"])})
        return None if reply is None else {"custom_id": request["custom_id"], "response": reply, "error": None}

    def batch(self, name: str) -> dict[str, Any]:
        self.looks += 1
        state = self.states.pop(0) if self.states else "completed"
        made: dict[str, Any] = {"id": name, "status": state, "request_counts": {"completed": 1, "total": 5}}
        if state in ("completed", "expired"):
            lines = [line for request in self.batches[name] if (line := self.line(request)) is not None]
            good = [line for line in lines if line["response"]["status_code"] == 200]
            for kind, some in (("output", good), ("error", [line for line in lines if line not in good])):
                self.files[f"{kind}-{name}"] = "\n".join(map(json.dumps, some))
                made[f"{kind}_file_id"] = f"{kind}-{name}" if some else None
        if state == "failed":
            made["errors"] = {"data": [{"message": f"no model for {KEY}"}]}
        return made


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/files":
            assert b'name="purpose"\r\n\r\nbatch' in content
            self.server.files["file-1"] = content.partition(b"jsonl\r\n\r\n")[2].partition(b"\r\n--")[0].decode()
            self.reply({"id": "file-1"})
        elif self.path == "/v1/batches":
            asked = json.loads(content)
            assert asked == {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            name = f"batch-{len(self.server.batches)}"
            self.server.batches[name] = list(map(json.loads, self.server.files["file-1"].splitlines()))
            self.reply({"id": name, "status": "validating"})
        else:
            self.server.direct.append(json.loads(content))
            self.reply(self.server.answered(self.server.direct[-1]))

    def do_GET(self) -> None:
        kind, _, name = self.path.removeprefix("/v1/").partition("/")
        if kind == "batches" and name in self.server.batches:
            self.reply(self.server.batch(name))
        elif kind == "files" and (name := name.removesuffix("/content")) in self.server.files:
            self.reply(self.server.files[name])
        else:
            self.reply({"error": {"message": "there is none"}}, 404)

    def reply(self, content: Any, state: int = 200) -> None:
        assert self.headers["Authorization"] == f"Bearer {KEY}"
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(state)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("KKA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(batches, "FIRST_WAIT", 0.001)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def model(server: Server, **given: Any) -> OpenAILanguageModel:
    settings = LanguageSettings(**{"batch": True, "captions_an_answer": 1, "price_in": 4, "price_out": 2} | given)
    return OpenAILanguageModel("m", settings=settings, base_url=server.url, api_key=KEY, retries=0)


def test_one_request_by_itself_and_the_rest_as_a_batch(server: Server) -> None:
    """The same answers, prompt by prompt, as without; of a batch half the price is counted."""
    writer = model(server)
    answers = writer.sample(PROMPTS, 2, seed=3)
    for prompt, texts in zip(PROMPTS, answers, strict=True):
        assert len(texts) == 2 and all(text.startswith(f"a flower of {prompt},") for text in texts)
    assert [len(server.direct), *map(len, server.batches.values())] == [1, 5]
    (requests,) = server.batches.values()
    assert {(r["method"], r["url"], r["body"]["model"], r["body"]["n"]) for r in requests} == {
        ("POST", "/v1/chat/completions", "m", 2)
    }
    assert len({r["custom_id"] for r in requests}) == 5
    assert (writer.tokens_read, writer.tokens_written) == (6 * 5, 6 * 20)
    assert writer.cost == pytest.approx((1 + 5 / 2) * (5 * 4 + 20 * 2) / 1e6)
    plain = model(server, batch=False)
    assert plain.sample(PROMPTS, 2, seed=3) == answers and len(server.batches) == 1
    assert plain.cost == pytest.approx(6 * (5 * 4 + 20 * 2) / 1e6)


def test_a_killed_run_takes_up_its_batch(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it waited: the batch that is open is paid for, and so is what was asked before it."""

    def killed(seconds: float) -> None:
        raise KeyboardInterrupt

    server.states = ["validating", "in_progress", "finalizing"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batches.time, "sleep", killed)
        model(server).sample(PROMPTS, 2, seed=3)
    told: list[tuple[str, int, int]] = []
    writer = model(server)
    writer.progress = lambda *said: told.append(said)
    answers = writer.sample(PROMPTS, 2, seed=3)
    assert (len(server.direct), len(server.batches)) == (1, 1)
    assert told[:3] == [("captions", 1, 6), ("captions", 1, 5), ("captions", 1, 5)]
    looks = server.looks
    assert model(server).sample(PROMPTS, 2, seed=3) == answers  # killed later: the results are here
    assert (len(server.direct), len(server.batches), server.looks) == (1, 1, looks)
    model(server).sample(PROMPTS, 2, seed=4)
    assert (len(server.direct), len(server.batches)) == (2, 2)


def test_what_a_batch_leaves_unanswered_is_asked_again(server: Server) -> None:
    """An expired batch keeps what it has; few requests are sent by themselves."""
    server.states = ["expired"]
    server.lines = {"prompt 2": None, "prompt 4": {"status_code": 500, "body": {"error": {"message": "busy"}}}}
    with pytest.warns(UserWarning, match="is expired"):
        answers = model(server).sample(PROMPTS, 2, seed=3)
    assert [len(texts) for texts in answers] == [2] * 6
    assert len(server.batches) == 1 and len(server.direct) == 1 + 2


def test_a_filtered_request_gives_no_answer(server: Server) -> None:
    """It would be refused, and paid for, again and again."""
    refused = {"status_code": 400, "body": {"error": {"code": "content_filter", "message": "our content policy"}}}
    server.lines = {"prompt 3": refused}
    writer = model(server)
    answers = writer.sample(PROMPTS, 2, seed=3)
    assert answers[3] == ["", ""]
    assert all(all(texts) for texts in answers[:3] + answers[4:])
    assert (len(server.direct), len(server.batches)) == (1, 1)
    writer.sample(PROMPTS, 2, seed=4)
    assert [len(requests) for requests in server.batches.values()] == [5, 4]


def test_failures_are_told_and_begun_anew(server: Server) -> None:
    """Without the key, and the next start does not wait for a batch that failed."""
    server.states = ["failed"]
    with pytest.raises(UserError, match=r"batch batch-0 on http.* got 'failed': .*no model for \*\*\*") as error:
        model(server).sample(PROMPTS, 2, seed=3)
    assert KEY not in str(error.value)
    wrong = {"status_code": 400, "body": {"error": {"message": "n is not known"}}}
    server.lines = dict.fromkeys(PROMPTS, wrong)
    with pytest.raises(UserError, match=r"answered none of its 5 requests; of the first it says .*n is not known"):
        model(server).sample(PROMPTS, 2, seed=3)
    server.lines = {}
    assert len(model(server).sample(PROMPTS, 2, seed=3)) == 6
    assert (len(server.direct), len(server.batches)) == (1, 3)


def test_a_batch_that_the_server_has_forgotten(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for anew, with a warning, and not an end of the run."""
    test_a_killed_run_takes_up_its_batch(server, monkeypatch)
    for file in cache_folder().glob("batches/*.results"):
        file.unlink()
    server.batches = {f"gone {name}": requests for name, requests in server.batches.items()}
    with pytest.warns(UserWarning, match="batch batch-0 is no longer there"):
        model(server).sample(PROMPTS, 2, seed=3)
    assert len(server.batches) == 3


def test_servers_without_batches(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama and llama.cpp have none: what to leave out is said."""
    monkeypatch.setattr(Handler, "do_POST", lambda self: _chat_alone(self))
    with pytest.raises(UserError, match=r"language.batch: the server takes no batch of requests; leave it out.*404"):
        model(server).sample(PROMPTS, 2, seed=3)


def _chat_alone(self: Handler) -> None:
    content = self.rfile.read(int(self.headers["Content-Length"]))
    if self.path.endswith("/chat/completions"):
        self.reply(self.server.answered(json.loads(content)))
    else:
        self.reply({"error": {"message": "there is none"}}, 404)
