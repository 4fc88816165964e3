"""The language model behind OpenAI's protocol against a real HTTP server on the loopback device."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kka.algorithm.captions import write_captions
from kka.errors import UserError
from kka.language import check_language_model
from kka.language.openai import OpenAILanguageModel
from kka.protocols import LanguageModel, TunableLanguageModel
from kka.settings.language import LanguageSettings


class Server(ThreadingHTTPServer):
    """Answers each request by the next of `script` (a status, or a reply), then by echoes of the prompt."""

    script: list[Any]
    requests: list[tuple[dict[str, Any], dict[str, str]]]
    most_answers = 99

    def next_reply(self, body: dict[str, Any]) -> Any:
        if self.script:
            return self.script.pop(0)
        count = min(body["n"], self.most_answers)
        choices = [
            {"message": {"content": f"{body['messages'][0]['content']} {body['seed']} {k}"}, "finish_reason": "stop"}
            for k in range(count)
        ]
        return {"choices": choices, "usage": {"completion_tokens": 7 * count, "prompt_tokens": 5}}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((body, {"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}))
        reply = self.server.next_reply(body)
        status = reply if isinstance(reply, int) else 200
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "text/html" if isinstance(reply, bytes) else "application/json")
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.script, server.requests = [], []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1/")
        monkeypatch.setenv("OPENAI_API_KEY", "a-test-key")
        yield server
        server.shutdown()
        thread.join()


def test_answers_prompt_by_prompt(server: Server) -> None:
    """n answers to each prompt in order, through the documented endpoint with the key; tokens are counted."""
    settings = LanguageSettings(temperature=0.7, top_p=None, max_new_tokens=50, captions_an_answer=1)
    model = OpenAILanguageModel("some-model", settings=settings)
    answers = model.sample(["first", "second"], 11, seed=3)
    assert [len(a) for a in answers] == [11, 11]
    assert all(text.startswith(p) for p, texts in zip(["first", "second"], answers, strict=True) for text in texts)
    assert len({text for texts in answers for text in texts}) == 22
    body, headers = server.requests[0]
    assert headers["path"] == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer a-test-key"
    assert (body["model"], body["temperature"]) == ("some-model", 0.7)
    assert "top_p" not in body
    assert body["max_tokens"] == 50
    assert model.tokens_written == 22 * 7
    assert model.tokens_read == 5 * len(server.requests)
    assert model.sample(["first", "second"], 11, seed=3) == answers


def test_is_a_language_model_that_cannot_be_tuned() -> None:
    """The loop asks by protocol: with a `tune` it would try Eq. 7 on a remote model."""
    model = OpenAILanguageModel("m", base_url="http://127.0.0.1:1")
    assert isinstance(model, LanguageModel)
    assert not isinstance(model, TunableLanguageModel)


def test_servers_that_give_one_answer_a_call(server: Server) -> None:
    """Many servers ignore n: the missing answers are asked for again."""
    server.most_answers = 1
    assert len(OpenAILanguageModel("m").sample(["p"], 5, seed=0)[0]) == 5


def test_busy_servers_are_asked_again(server: Server) -> None:
    """Rate limits and server errors pass; a run must not die of one."""
    server.script = [429, 503]
    assert len(OpenAILanguageModel("m").sample(["p"], 2, seed=0)[0]) == 2
    assert len(server.requests) == 3


def test_tries_are_bounded(server: Server) -> None:
    """A server that stays broken ends in an error that names it and its last word."""
    server.script = [500] * 9
    with pytest.raises(UserError, match=r"no answer from http://127.* after 3 tries.*HTTP 500"):
        OpenAILanguageModel("m", retries=2).sample(["p"], 1, seed=0)
    assert len(server.requests) == 3


def test_refusals_are_final(server: Server) -> None:
    """A wrong key or model name does not mend by asking again."""
    server.script = [401]
    with pytest.raises(UserError, match=r"refused the request for model 'm': HTTP 401"):
        OpenAILanguageModel("m").sample(["p"], 1, seed=0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("reply", [{"error": "what?"}, b"<html>", {"choices": [{}]}])
def test_other_formats_are_named(server: Server, reply: Any) -> None:
    """A base URL that points to some other service."""
    server.script = [reply]
    with pytest.raises(UserError, match=r"openai: expected (a chat completion|JSON) from"):
        OpenAILanguageModel("m").sample(["p"], 1, seed=0)


def test_cut_off_answers_lose_their_last_line(server: Server) -> None:
    """finish_reason "length": the last line is not whole."""
    choice = {"message": {"content": "1. a red flower\n2. a bl"}, "finish_reason": "length"}
    server.script = [{"choices": [choice]}]
    assert OpenAILanguageModel("m").sample(["p"], 1, seed=0) == [["1. a red flower"]]


def test_unreachable_server() -> None:
    """Nobody listens: an error with what to check."""
    with pytest.raises(UserError, match="check OPENAI_BASE_URL and the network"):
        OpenAILanguageModel("m", base_url="http://127.0.0.1:9/v1", retries=0).sample(["p"], 1, seed=0)


def test_missing_key_and_wrong_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said when the model is built, not after the first stages have run."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY; it is not set"):
        OpenAILanguageModel("m")
    with pytest.raises(UserError, match="expected an address with http"):
        OpenAILanguageModel("m", base_url="localhost:8000")


def test_several_captions_an_answer(server: Server) -> None:
    """One request brings ten captions; they are kept under the prompt of Eq. 3, which says nothing of a list."""
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

    def listed(seed: str) -> dict[str, Any]:
        lines = "\n".join(f"{i}. A flower with {n} {seed} petals" for i, n in enumerate(numbers, 1))
        choice = {"message": {"content": lines}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"completion_tokens": 80, "prompt_tokens": 40}}

    server.script = [listed("red"), listed("blue")]
    model = OpenAILanguageModel("m", settings=LanguageSettings(price_in=0.5, price_out=2, parallel=1))
    batch = write_captions(model, ["Describe a rose.", "Describe a daisy."], 20, seed=0)
    assert [body["messages"][0]["content"] for body, _ in server.requests] == [
        f"Describe a {name}.\n\nGive 10 answers at once, each unlike the others: a numbered list from 1 to 10, one on "
        "each line, and nothing else."
        for name in ("rose", "daisy")
    ]
    assert [(body["n"], body["max_tokens"]) for body, _ in server.requests] == [(1, 10 * 96)] * 2
    assert batch.prompts == ("Describe a rose.",) * 10 + ("Describe a daisy.",) * 10
    assert (batch.answers, batch.unusable, batch.duplicates) == (2, 0, 0)
    assert (batch.tokens, batch.tokens_read) == (160, 80)
    assert batch.cost == pytest.approx((80 * 0.5 + 160 * 2) / 1e6)


def test_prices_come_together() -> None:
    """One price alone would give a cost that looks whole."""
    with pytest.raises(UserError, match=r"language.price_in and language.price_out both, or neither; got 1.0 and None"):
        LanguageSettings(price_in=1)


def test_models_that_run_here_have_no_settings_of_servers() -> None:
    """A batch, or prices, that nothing heeds."""
    for given in ({"batch": True}, {"captions_an_answer": 10}, {"price_in": 1, "price_out": 1}):
        with pytest.raises(UserError, match=f"language.{next(iter(given))}: a model that runs here has only"):
            check_language_model("garden", settings=LanguageSettings(**given))
