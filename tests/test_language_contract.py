"""The contract of a language model (Eq. 3, 7), over every member of the family."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import kka.language
from kka.algorithm.prompts import build_prompt
from kka.errors import UserError
from kka.language import LANGUAGE_MODELS, build_language_model, check_language_model
from kka.protocols import CountsTokens, LanguageModel, PreferencePair, TunableLanguageModel, identity_of
from kka.settings.language import LanguageSettings
from language_fakes import save_gguf, save_tiny_model

Builder = Callable[[], LanguageModel]
NAMES = ("hf", "gguf", "smollm2", "garden", "defects", "openai")
SETTINGS = LanguageSettings(dpo_steps=2, dpo_batch=4, max_new_tokens=60)
CAPTIONS = ("a photo of a grey bracket", "une photo d'une pièce, 青い花 🌷")
PROMPTS = [build_prompt(text, domain="parts", template="defect", idea="a faint crack") for text in CAPTIONS]


def test_every_member_is_tested() -> None:
    """A new member would not be held to the contract."""
    assert {*NAMES} == {*LANGUAGE_MODELS}
    assert len(NAMES) == 6


class Echo(BaseHTTPRequestHandler):
    """A server of OpenAI's protocol that gives the seed and the number of the answer back."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = [f"a bracket with crack {body['seed']} {k}" for k in range(body.get("n", 1))]
        choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
        data = json.dumps({"choices": choices, "usage": {"completion_tokens": 7, "prompt_tokens": 5}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, dict[str, Any]]]]:
    """How a small one of each member is built: its spec, and options."""
    folder = save_tiny_model(tmp_path_factory.mktemp("contract") / "tiny", spread=0.1)
    file = save_gguf(folder, folder.with_name("tiny.gguf"))
    here = {"settings": SETTINGS, "device": "cpu"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server, pytest.MonkeyPatch.context() as patched:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        patched.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1/")
        patched.setenv("OPENAI_API_KEY", "a-test-key")
        patched.setitem(kka.language.SHIPPED, "smollm2", lambda: file)  # 93 MB, in a package of its own
        yield {
            "hf": (f"hf:{folder}", here),
            "gguf": (f"gguf:{file}", here),
            "smollm2": ("smollm2", here),
            "garden": ("garden", here),
            "defects": ("defects", here),
            "openai": ("openai:any", {"settings": LanguageSettings(captions_an_answer=1)}),
        }
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", params=NAMES)
def build(request: pytest.FixtureRequest, specs: dict[str, tuple[str, dict[str, Any]]]) -> Builder:
    """One member's builder."""
    spec, options = specs[request.param]
    check_language_model(spec, settings=options["settings"])
    return lambda: build_language_model(spec, **options)


def test_answers_prompt_by_prompt(build: Builder) -> None:
    """As many as were asked for, under the prompt that they belong to; nothing for no prompt."""
    model = build()
    assert isinstance(model, LanguageModel)
    answers = model.sample(PROMPTS, 3, seed=1)
    assert [len(texts) for texts in answers] == [3, 3]
    assert all(isinstance(text, str) for texts in answers for text in texts)
    assert model.sample([], 3, seed=1) == []


def test_equal_seeds_give_equal_answers(build: Builder) -> None:
    """A resumed run goes on with the captions that it would have had; the next attempt needs others."""
    first, again = build(), build()
    assert first.sample(PROMPTS, 3, seed=1) == again.sample(PROMPTS, 3, seed=1) == first.sample(PROMPTS, 3, seed=1)
    assert first.sample(PROMPTS, 3, seed=2) != first.sample(PROMPTS, 3, seed=1)
    assert identity_of(first) == identity_of(again)


def test_what_it_writes_is_counted(build: Builder) -> None:
    """The ledger has the tokens of each round."""
    model = build()
    assert isinstance(model, CountsTokens) and model.tokens_written == 0
    model.sample(PROMPTS, 2, seed=0)
    assert model.tokens_written > 0


def test_a_tuning_is_kept_and_taken_up(build: Builder, tmp_path: Path) -> None:
    """A run that is killed after a tuning goes on from it, and not from the base model."""
    model = build()
    if not isinstance(model, TunableLanguageModel):
        pytest.skip("it is not tuned")
    with pytest.raises(UserError, match="at least one preference pair"):
        model.tune([], [], seed=0)
    hard, easy = ("a grey bracket with a faint crack", "a grey bracket with a huge hole")
    pairs = [PreferencePair(prompt=prompt, hard=hard, easy=easy) for prompt in PROMPTS for _ in range(4)]
    report = model.tune(pairs, pairs[:1], seed=0)
    assert report.steps == 2 and report.train_pairs == 8 and report.kl_to_base < float("inf")
    model.save(tmp_path / "adapter")
    again = build()
    assert isinstance(again, TunableLanguageModel)
    again.restore(tmp_path / "adapter")
    assert again.sample(PROMPTS, 2, seed=5) == model.sample(PROMPTS, 2, seed=5)
    with pytest.raises(UserError, match="expected a folder with a saved adapter"):
        again.restore(tmp_path / "nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_it_does_not_have_are_refused(
    name: str, specs: dict[str, tuple[str, dict[str, Any]]]
) -> None:
    """An option that is silently left aside is taken to have worked."""
    wrong = LanguageSettings(dpo_steps=3) if name == "openai" else LanguageSettings(parallel=2)
    with pytest.raises(UserError, match=r"language\."):
        check_language_model(specs[name][0], settings=wrong)
