"""What a server of OpenAI's protocol may do to a run: scripted replies of a real HTTP server on the loopback device.

Whatever comes, the end is an answer or one `UserError`, and neither the key nor a token of the address is in it.
"""

import asyncio
import base64
import io
import json
import logging
import re
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kka.common.openai as openai_module
from kka.algorithm.pictures import draw_pictures
from kka.common.images import fitted
from kka.common.secrets import Scrubber, read_address, read_key
from kka.errors import UserError
from kka.imaging.openai import OpenAIImageModel
from kka.language.openai import OpenAILanguageModel
from kka.settings.drawing import DrawingSettings
from kka.settings.language import LanguageSettings

KEY = "sk-Secret-Key-12345"
TOKEN = "tok-In-The-Path"
ANSWER = "a red flower with five petals"


class Reply:
    """What the server does: answers with a state, headers and content; drips or drops the line if asked to."""

    def __init__(
        self, content: Any = b"", state: int = 200, *, drip: float = 0, length: bool = True, **headers: str
    ) -> None:
        self.content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.state, self.drip, self.length = state, drip, length
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def chat(*texts: Any, reason: str | None = "stop", **message: Any) -> Reply:
    """A chat completion."""
    choices = [{"message": {"content": text, **message}, "finish_reason": reason} for text in texts]
    return Reply({"choices": choices, "usage": {"completion_tokens": 3 * len(texts), "prompt_tokens": 2}})


def picture(size: tuple[int, int] = (24, 16), **more: Any) -> tuple[Reply, Image.Image]:
    """A drawn picture, and the reply that holds it."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    coded = base64.b64encode(buffer.getvalue()).decode()
    return Reply({"data": [{"b64_json": coded, **more}]}), Image.fromarray(pixels)


def error(message: str, state: int = 400, **more: Any) -> Reply:
    """An error as OpenAI writes it."""
    return Reply({"error": {"message": message, **more}}, state)


class Server(ThreadingHTTPServer):
    """Answers by the next of `script`, or by `otherwise` of the request's body when that is at its end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Reply | Callable[[dict[str, Any]], Reply]] = []
        self.otherwise: Callable[[dict[str, Any]], Reply] = lambda body: chat(*[ANSWER] * body.get("n", 1))
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.paths.append(self.path)
        self.server.keys.append(self.headers["Authorization"])
        reply = self.server.script.pop(0) if self.server.script else self.server.otherwise
        if not isinstance(reply, Reply):
            reply = reply(body)
        self.send_response(reply.state)
        usual = {"Content-Type": "application/json", "retry-after-ms": "1"}
        if reply.length:
            usual["Content-Length"] = str(len(reply.content))
        for name, value in {**usual, **reply.headers}.items():
            self.send_header(name, value)
        with suppress(OSError):  # the other side has gone
            self.end_headers()
            if not reply.drip:
                self.wfile.write(reply.content)
            for position in range(len(reply.content) if reply.drip else 0):
                self.wfile.write(reply.content[position : position + 1])
                self.wfile.flush()
                time.sleep(reply.drip)
        self.close_connection = True

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        self.send_response(500)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(openai_module, "FIRST_WAIT", 0.001)
    yield from running()


@pytest.fixture
def other() -> Iterator[Server]:
    yield from running()


def writer(server: Server, **more: Any) -> OpenAILanguageModel:
    """Asks for a caption an answer."""
    settings = LanguageSettings(captions_an_answer=1, **more.pop("of", {}))
    options = {"base_url": server.url, "api_key": KEY, "retries": 1, "timeout": 5.0, "settings": settings, **more}
    return OpenAILanguageModel("m", **options)


def painter(server: Server, **more: Any) -> OpenAIImageModel:
    options = {"base_url": server.url, "api_key": KEY, "retries": 1, "timeout": 5.0, **more}
    return OpenAIImageModel("m", settings=DrawingSettings(size=(16, 24)), **options)


def told(call: Callable[[], Any]) -> str:
    """The message of the `UserError` that `call` ends in: one, and without any secret in its chain."""
    with pytest.raises(UserError) as caught:
        call()
    whole = "".join(traceback.format_exception(caught.value, chain=True))
    at: BaseException | None = caught.value
    while at is not None:
        whole += repr(at) + repr(vars(at))
        assert at is caught.value or isinstance(at, UserError), f"{at!r} is in the chain"
        at = at.__cause__ or at.__context__
    for secret in (KEY, TOKEN):
        assert secret.lower() not in whole.lower()
    assert "\n" not in str(caught.value)
    return str(caught.value)


BOTH = [
    pytest.param(lambda server, **more: writer(server, **more).sample(["p"], 1, seed=0), id="chat"),
    pytest.param(lambda server, **more: painter(server, **more).draw(["a flower"], seeds=[0]), id="images"),
]
ODD_BODIES = {
    "empty": (b"", "expected JSON from .* \\(nothing\\)"),
    "html": (b"<html><b>welcome</b></html>", "expected JSON from .*<html>"),
    "cut": (b'{"choices": [{"mess', "expected JSON from"),
    "not text": (b"\xff\xfe\x00\xd8\x00", "expected JSON from"),
    "deep": (b"[" * 200_000, "expected JSON from"),
    "null": (None, "expected a .*; got .*None"),
    "list": ([], "expected a .*; got"),
    "number": (3, "expected a .*; got"),
    "text": ("fine", "expected a .*; got"),
    "no fields": ({}, "expected a .*; got"),
    "null fields": ({"choices": None, "data": None}, "expected a .*; got"),
    "wrong types": ({"choices": {"0": 1}, "data": "x"}, "expected a .*; got"),
    "wrong items": ({"choices": [None], "data": [None]}, "expected a .*; got"),
    "lists in lists": ({"choices": [[1]], "data": [[1]]}, "expected a .*; got"),
    "error in a success": ({"error": {"message": f"bad key {KEY}"}}, "expected a .*bad key \\*\\*\\*"),
    "escapes": (b"\x1b[2J\x1b[31mred", "expected JSON from .*\\[31mred"),
}


@pytest.mark.parametrize("ask", BOTH)
@pytest.mark.parametrize("name", ODD_BODIES)
def test_odd_bodies_are_named(server: Server, ask: Callable[..., Any], name: str) -> None:
    """Some other service, or a broken one: it ended in a traceback of this or that library."""
    content, message = ODD_BODIES[name]
    server.script = [Reply(content)]
    text = told(lambda: ask(server))
    assert re.search(message, text), text
    assert "\x1b" not in text and len(text) < 800
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"b64_json": "not*base64"}, "no base64"),
        ({"b64_json": base64.b64encode(b"a text").decode()}, "base64 of something else .*not an image"),
        ({"b64_json": base64.b64encode(b"\x89PNG\r\n\x1a\n cut").decode()}, "base64 of something else"),
        ({"b64_json": ""}, "got none"),
        ({"b64_json": None}, "got none"),
        ({"b64_json": 7}, "got none"),
        ({"url": "https://elsewhere/x.png"}, "an address, which is not fetched"),
    ],
)
def test_what_is_no_picture_is_named(server: Server, entry: dict[str, Any], message: str) -> None:
    """It says what came in the place of a picture; `null` is no refusal by a filter."""
    server.script = [Reply({"data": [entry]})]
    text = told(lambda: painter(server).draw(["a flower"], seeds=[0]))
    assert re.search(f"expected a picture in base64.*{message}", text), text


def test_pictures_in_other_wrappings(server: Server) -> None:
    """Line ends within base64, and data: addresses, are pictures all the same."""
    reply, drawn = picture()
    coded = json.loads(reply.content)["data"][0]["b64_json"]
    entries = [{"b64_json": coded[:40] + "\n" + coded[40:]}, {"url": f"data:image/png;base64,{coded}"}]
    server.script = [Reply({"data": [entry]}) for entry in entries]
    model = painter(server)
    for _ in entries:
        np.testing.assert_array_equal(model.draw(["a flower"], seeds=[0])[0], np.asarray(drawn))


def test_a_narrow_picture_is_cut_not_squashed(server: Server) -> None:
    """17 x 931: squashed to the wanted size, what it shows would be no longer what was drawn."""
    reply, drawn = picture((17, 931))
    server.script = [reply]
    made = painter(server).draw(["a flower"], seeds=[0])[0]
    np.testing.assert_array_equal(made, np.asarray(fitted(drawn, 16, 24)))
    middle = drawn.crop((0, 460, 17, 471)).resize((24, 16), Image.Resampling.BICUBIC)
    assert np.abs(made.astype(int) - np.asarray(middle).astype(int)).mean() < 20


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("ask", BOTH)
def test_a_huge_reply_is_not_read(
    server: Server, ask: Callable[..., Any], length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fill the memory."""
    monkeypatch.setattr(openai_module, "LARGEST", 2**20)
    server.script = [Reply(b" " * (3 * 2**20), length=length)]
    assert "sent more than the 1 MiB" in told(lambda: ask(server))


@pytest.mark.parametrize("ask", BOTH)
def test_a_dripping_server_runs_into_the_time_limit(server: Server, ask: Callable[..., Any]) -> None:
    """A byte now and then resets a limit for each byte: such a server held a run for hours."""
    server.script = [Reply(b" " * 400, drip=0.02)] * 2
    start = time.monotonic()
    assert "no whole answer within 0.3 seconds" in told(lambda: ask(server, timeout=0.3))
    assert time.monotonic() - start < 5
    assert len(server.bodies) == 2


def test_a_dripping_error_runs_into_the_time_limit(server: Server) -> None:
    """Errors have bodies too."""
    server.script = [Reply(b" " * 400, 400, drip=0.02)]
    text = told(lambda: writer(server, timeout=0.3, retries=0).sample(["p"], 1, seed=0))
    assert "no whole answer within 0.3 seconds" in text


@pytest.mark.parametrize("wait", ["100000", "1e999", "Fri, 01 Jan 2100 00:00:00 GMT"])
@pytest.mark.parametrize("state", [429, 503])
def test_a_server_that_has_us_wait_for_days(server: Server, state: int, wait: str) -> None:
    """It was obeyed: the run slept for a day."""
    server.script = [Reply({}, state, retry_after=wait, retry_after_ms="no")]
    text = told(lambda: writer(server).sample(["p"], 1, seed=0))
    assert "asks to wait" in text and "at most 60" in text and "--resume" in text
    assert len(server.bodies) == 1


@pytest.mark.parametrize("wait", ["0.01", "-5", "nan", "soon", "", "Fri, 01 Jan 1999 00:00:00 GMT"])
def test_other_waits_are_short(server: Server, wait: str) -> None:
    """What is no time to wait must end neither in a traceback nor in a long sleep."""
    server.script = [Reply({}, 429, retry_after=wait, retry_after_ms="")]
    start = time.monotonic()
    assert writer(server).sample(["p"], 1, seed=0) == [[ANSWER]]
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("ask", BOTH)
@pytest.mark.parametrize("state", [301, 302, 303, 307, 308])
def test_the_key_follows_no_redirect(server: Server, other: Server, ask: Callable[..., Any], state: int) -> None:
    """Whoever can answer for a host once would have the key, and the prompts."""
    server.script = [Reply(b"", state, Location=other.url.replace("/v1", f"/{TOKEN}/v1"))]
    text = told(lambda: ask(server))
    assert f"redirects to http://127.0.0.1:{other.server_port}/~" in text and "OPENAI_BASE_URL" in text
    assert other.keys == [] and len(server.keys) == 1


def test_a_redirect_within_the_host_is_followed(server: Server) -> None:
    """A server that moves its paths works on; one that turns in circles ends."""
    server.script = [Reply(b"", 307, Location="/v2/chat/completions")]
    assert writer(server).sample(["p"], 1, seed=0) == [[ANSWER]]
    assert server.paths == ["/v1/chat/completions", "/v2/chat/completions"]
    server.otherwise = lambda body: Reply(b"", 308, Location="/v1/chat/completions")
    assert "redirects" in told(lambda: writer(server, retries=0).sample(["p"], 1, seed=0)).lower()


@pytest.mark.parametrize("ask", BOTH)
@pytest.mark.parametrize(
    "echo",
    [
        f"Incorrect API key provided: {KEY}",
        f'{{"error": {{"message": "Bearer {KEY.upper()} is unknown"}}}}',
        f"no such path /{TOKEN}/v1 for {KEY}",
        "x" * 490 + KEY,
    ],
)
def test_a_key_in_an_error_is_hidden(server: Server, ask: Callable[..., Any], echo: str) -> None:
    """A server that echoes what it refuses would put the key on the screen and into logs."""
    server.script = [Reply(echo.encode(), 401)]
    base = server.url.replace("/v1", f"/{TOKEN}/v1")
    text = told(lambda: ask(server, base_url=base))
    assert "HTTP 401" in text and "refused the request for model 'm'" in text


@pytest.mark.parametrize(
    "address", ["http://{host}/" + TOKEN + "/v1", "http://{host}/v1?key=" + TOKEN, "http://me:" + TOKEN + "@{host}/v1"]
)
def test_a_token_in_the_address_stays_there(
    server: Server, address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models' names are stored in pool.parquet and shown in the report; libraries log addresses."""
    monkeypatch.setenv("OPENAI_BASE_URL", address.format(host=f"127.0.0.1:{server.server_port}"))
    caplog.set_level(logging.DEBUG)
    model, drawing = OpenAILanguageModel("m", api_key=KEY), OpenAIImageModel("m", api_key=KEY)
    assert model.sample(["p"], 1, seed=0) == [[ANSWER]]
    path = server.paths[0]
    assert path.startswith((f"/{TOKEN}/v1/chat/completions", "/v1/chat/completions"))
    assert ("?" in address) == (path == f"/v1/chat/completions?key={TOKEN}")
    stored = model.identity + drawing.identity + caplog.text
    assert TOKEN not in stored and KEY not in stored and f"127.0.0.1:{server.server_port}" in model.identity
    plain = OpenAILanguageModel("m", base_url=server.url)
    assert plain.identity == f"openai:m@{server.url}"
    assert ("@{" in address) == (model.identity == plain.identity)


def test_keys_are_read_as_people_have_them(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line end from a file was sent as it was, and the library's error printed the key."""
    monkeypatch.setenv("OPENAI_API_KEY", f"  {KEY}\r\n")
    assert writer(server, api_key=None).sample(["p"], 1, seed=0) == [[ANSWER]]
    assert server.keys == [f"Bearer {KEY}"]
    for bad in (f"{KEY}\n{KEY}", f"{KEY}\0", f"{KEY}\x7fx", f"“{KEY}”"):
        text = told(lambda bad=bad: writer(server, api_key=bad))  # type: ignore[misc]
        assert "api_key: expected a key of printable ASCII" in text
        monkeypatch.setenv("OPENAI_API_KEY", bad.replace("\0", "\x01"))
        assert "OPENAI_API_KEY: expected" in told(lambda: writer(server, api_key=None))
    assert read_key(" \n", name="x") is None


@pytest.mark.parametrize(
    "address",
    [f"{at}/{TOKEN}" for at in ("localhost:1", "ftp://h", "http://", "http://h:99999", "http://[::1", "http://h\n")]
    + [f"me:{TOKEN}@host/v1"],
)
def test_wrong_addresses(address: str) -> None:
    """The error must not show the token that makes the address a secret."""
    assert "expected an address with http" in told(lambda: read_address(address, name="OPENAI_BASE_URL"))


def test_secrets_are_found_as_they_are_written() -> None:
    """In JSON, in an address, in HTML and in capitals a key looks otherwise."""
    scrub = Scrubber(['a/b"c<d>'])
    for written in ('a/b"c<d>', 'a/b\\"c<d>', "a%2Fb%22c%3Cd%3E", "a/b&quot;c&lt;d&gt;", 'A/B"C<D>'):
        assert scrub(f"({written})") == "(***)"
    assert Scrubber(["v1", ""])("v1") == "v1"


REFUSED = [
    ("seed", "Unrecognized request argument supplied: seed", {}),
    ("n", "n must be 1", {}),
    ("n", "Unsupported value: 'n' does not support 8 with this model.", {"param": "n"}),
    ("temperature", "Unsupported value: only the default (1) is supported", {"param": "temperature"}),
    ("top_p", "`top_p` is deprecated for this model.", {}),
    ("max_tokens", "Unknown parameter: 'max_tokens'.", {"param": "max_tokens"}),
]


@pytest.mark.parametrize(("name", "message", "more"), REFUSED)
def test_a_refused_parameter_is_left_out(server: Server, name: str, message: str, more: dict[str, Any]) -> None:
    """It ended the run; said once, the run goes on without."""
    server.otherwise = lambda body: error(message, **more) if name in body else chat(*[ANSWER] * body.get("n", 1))
    model = writer(server, of={"temperature": 0.5})
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert model.sample(["p", "q"], 9, seed=0) == [[ANSWER] * 9] * 2
        model.sample(["p"], 1, seed=0)
    texts = [str(each.message) for each in heard]
    assert len(texts) == 1 and f"refuses the parameter {name} of model 'm'" in texts[0] and message in texts[0]
    assert sum(name in body for body in server.bodies) == 1
    if name == "max_tokens":
        assert all("max_completion_tokens" in body for body in server.bodies[1:])


def test_all_of_them_are_left_out_one_by_one(server: Server) -> None:
    """A model that takes a prompt and nothing else; n answers by n requests. Here as FastAPI says it."""

    def strict(body: dict[str, Any]) -> Reply:
        extra = sorted(body.keys() - {"model", "messages"})
        return Reply({"detail": [{"loc": ["body", extra[0]], "msg": "not permitted"}]}, 422) if extra else chat(ANSWER)

    server.otherwise = strict
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert writer(server).sample(["p"], 5, seed=0) == [[ANSWER] * 5]
    assert len(heard) == 5 and all("refuses the parameter" in str(each.message) for each in heard)
    assert len(server.bodies) == 5 + 5  # four, one of them under both of its names


def test_image_parameters_are_left_out(server: Server) -> None:
    """Size, n, seed and response_format, which some servers do not know."""
    reply, drawn = picture()
    server.otherwise = lambda body: next(
        (error(f"Unknown parameter: '{name}'.", param=name) for name in body if name not in ("model", "prompt")), reply
    )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        made = painter(server, send_seed=True).draw(["a flower", "b"], seeds=[0, 1])
    np.testing.assert_array_equal(made[0], np.asarray(drawn))
    assert {*server.bodies[-1]} == {"model", "prompt"}
    assert len(heard) == 4
    server.otherwise = lambda body: error("Unknown parameter: 'quality'.", param="quality")
    assert "quality" in told(lambda: painter(server, extra={"quality": "low"}).draw(["a"], seeds=[0]))


def test_what_is_no_fault_of_a_parameter_is_not_taken_for_one(server: Server) -> None:
    """A name that stands in a message by chance: nothing is left out from then on."""
    server.otherwise = lambda body: error("the prompt is longer than the size of the context")
    reply, _ = picture()
    model = painter(server)
    assert "size of the context" in told(lambda: model.draw(["a flower"], seeds=[0]))
    server.otherwise = lambda body: reply
    model.draw(["a flower"], seeds=[0])
    assert "size" in server.bodies[-1]


@pytest.mark.parametrize(
    ("reply", "filtered"),
    [
        (error("no", code="content_policy_violation"), True),
        (error("rejected by our safety system"), True),
        (error("no", code="moderation_blocked"), True),
        (error("no", inner_error={"code": "ResponsibleAIPolicyViolation"}), True),
        (error("bad value", content_filter_result=None), False),
        (error("cannot draw: a safety system sign"), False),
        (Reply(None, 400), False),
        (Reply(b"", 400), False),
        (Reply({"error": None}, 400), False),
    ],
)
def test_only_a_filter_makes_a_black_picture(server: Server, reply: Reply, filtered: bool) -> None:
    """An error taken for a refusal sets all pictures aside, one by one, each paid for."""
    server.script = [reply]
    model, captions = painter(server), ["a safety system sign"]
    if filtered:
        assert draw_pictures(model, captions, seeds=[0]).set_aside[0][1].startswith("black: refused by a safety filter")
    else:
        assert "refused the request" in told(lambda: model.draw(captions, seeds=[0]))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda body: chat(*[""] * body["n"]), r"finish_reason: stop \(24 times\)"),
        (lambda body: chat(*[None] * body["n"], reason=None), "none given"),
        (lambda body: chat("", reason="content_filter"), "content filter holds the answers back"),
        (lambda body: chat(None, refusal="I must not."), "refusal: .*I must not"),
        (lambda body: chat("half a li", reason="length"), r"limit of 50 tokens.*--language\.max-new-tokens"),
        (lambda body: chat("<think>so, the user", reason="length"), r"limit of 50 tokens"),
        (lambda body: Reply({"choices": []}), "no choices"),
    ],
)
def test_empty_answers_end_soon(server: Server, reply: Callable[[dict[str, Any]], Reply], message: str) -> None:
    """580 of them were paid for, and the error did not say why they were empty."""
    server.otherwise = reply
    model = writer(server, of={"max_new_tokens": 50})
    text = told(lambda: model.sample(["p"] * 20, 40, seed=0))
    assert re.search(f"3 replies in a row without text.*{message}", text), text
    assert len(server.bodies) == 3


def test_a_filtered_prompt_is_asked_once_and_others_pass(server: Server) -> None:
    """One of eight prompts ended every run of usual size; each refused request would be paid for."""
    server.otherwise = lambda body: (
        error("prompt was filtered", code="content_filter")
        if body["messages"][0]["content"] == "bad"
        else chat(*[ANSWER] * body["n"])
    )
    model = writer(server)
    answers = model.sample(["good", "bad", "good too"], 200, seed=0)
    assert [sum(map(bool, each)) for each in answers] == [200, 0, 200]  # in 25 requests each
    assert [body["messages"][0]["content"] for body in server.bodies].count("bad") <= 2 * model.settings.parallel
    assert [sum(map(bool, each)) for each in model.sample(["bad", "another"], 40, seed=1)] == [0, 40]  # a later round
    server.bodies.clear()
    assert "refuses every prompt" in told(lambda: writer(server).sample(["bad"] * 3, 40, seed=0))
    assert len(server.bodies) == 1


def test_a_running_event_loop_is_no_hindrance(server: Server) -> None:
    """As in a notebook."""

    async def cell() -> list[list[str]]:
        return writer(server).sample(["p"], 1, seed=0)

    assert len(asyncio.run(cell())) == 1


def test_the_limit_of_tokens_grows_where_it_is_the_default(server: Server) -> None:
    """Models that think spend 96 tokens before their first word."""
    server.otherwise = lambda body: (
        chat(*[ANSWER] * body["n"]) if body["max_tokens"] > 1000 else chat("", reason="length")
    )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert writer(server).sample(["p"], 3, seed=0) == [[ANSWER] * 3]
    assert [body["max_tokens"] for body in server.bodies] == [96, 384, 1536]
    assert "no whole line within 96 tokens" in str(heard[0].message) and len(heard) == 2
    server.otherwise = lambda body: chat("", reason="length")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert "limit of 6144 tokens" in told(lambda: writer(server).sample(["p"], 3, seed=0))
    assert len(server.bodies) == 3 + 4


def test_an_error_ends_the_requests_that_wait(server: Server) -> None:
    """All those that had been lined up were still sent, and paid for, after the one that failed."""
    server.script = [chat(ANSWER)]
    server.otherwise = lambda body: error("no such model", 404)
    assert "no such model" in told(lambda: writer(server, of={"parallel": 2}).sample(["p"] * 60, 1, seed=0))
    assert len(server.bodies) < 20


def test_odd_contents_are_answers(server: Server) -> None:
    """Parts, a key within the text, half a surrogate, a wrong count of tokens: none ends a run."""
    parts = [{"type": "text", "text": "a red "}, {"type": "text", "text": "flower"}, None]
    server.script = [chat(parts), chat(f"a flower named {KEY}"), chat("a red \ud800 flower")]
    server.script += [Reply({"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": "many"}})]
    model = writer(server)
    answers = [model.sample(["p"], 1, seed=0)[0][0] for _ in range(4)]
    assert answers == ["a red flower", "a flower named ***", "a red \ufffd flower", "x"]


def test_a_server_that_stays_away_is_named() -> None:
    """Nobody listens, in the words of the last try."""
    model = OpenAILanguageModel("m", base_url=f"http://127.0.0.1:9/{TOKEN}", api_key=KEY, retries=0)
    assert "after 1 tries; check OPENAI_BASE_URL and the network" in told(lambda: model.sample(["p"], 1, seed=0))
