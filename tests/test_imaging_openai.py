"""The images protocol, against a real server on this machine."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imaging_fakes import ImageServer, picture
from kka.algorithm.pictures import draw_pictures
from kka.common.cache import ImageCache
from kka.errors import UserError
from kka.imaging import build_image_model
from kka.imaging.openai import OpenAIImageModel
from kka.settings.drawing import DrawingSettings


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageServer]:
    """A server that OPENAI_BASE_URL names."""
    with ImageServer.running() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", "a key")
        yield running


@pytest.fixture
def model(server: ImageServer) -> OpenAIImageModel:
    """Draws 24 x 16 pictures, and asks three times more where the server fails."""
    built = build_image_model("openai:any", settings=DrawingSettings(size=(16, 24)), retries=3)
    assert isinstance(built, OpenAIImageModel)
    return built


def test_pictures_come_in_the_order_of_the_captions(server: ImageServer, model: OpenAIImageModel) -> None:
    """Requests run side by side: answers would be filed under each other's captions."""
    captions = [f"flower {i} 花" for i in range(9)]
    drawn = model.draw(captions, seeds=range(9))
    np.testing.assert_array_equal(drawn, [picture(caption, "24x16") for caption in captions])
    assert server.keys == ["Bearer a key"] * 9
    assert sorted(server.requests, key=lambda body: body["prompt"])[0] == {
        "model": "any",
        "prompt": "flower 0 花",
        "n": 1,
        "size": "24x16",
        "response_format": "b64_json",
    }


def test_fields_follow_the_server(server: ImageServer) -> None:
    """A server refuses fields that it does not know, or draws with other settings than those asked for."""
    OpenAIImageModel("gpt-image-1", settings=DrawingSettings(size=8), extra={"quality": "low"}).draw(["a"], seeds=[3])
    assert server.requests[0] == {
        "model": "gpt-image-1",
        "prompt": "a",
        "n": 1,
        "size": "8x8",
        "quality": "low",
    }
    seeded = OpenAIImageModel("local", settings=DrawingSettings(size=8), send_seed=True)
    np.testing.assert_array_equal(seeded.draw(["a"], seeds=[3])[0], picture("a", "8x8", 3))
    others = (OpenAIImageModel("local", settings=DrawingSettings(size=size)) for size in (None, 8))
    assert len({seeded.identity, *(model.identity for model in others)}) == 3


def test_a_refused_caption_costs_that_picture_alone(
    server: ImageServer, model: OpenAIImageModel, tmp_path: Any
) -> None:
    """One caption that a content filter refuses would end the run."""
    cache = ImageCache(tmp_path)
    for _ in range(2):
        drawn = draw_pictures(model, ["a", "a forbidden one", "b"], seeds=[1, 2, 3], cache=cache)
        assert drawn.kept == (0, 2)
        assert drawn.set_aside == ((1, "black: refused by a safety filter, or not finite"),)
    assert len(server.requests) == 3  # it is not asked again either


def test_passing_faults_are_waited_out(server: ImageServer, model: OpenAIImageModel) -> None:
    """A busy server, or a dropped line, would end the run."""
    server.faults = [(429, {}, "slow down"), None, (503, {}, "overloaded")]
    np.testing.assert_array_equal(model.draw(["a"], seeds=[0])[0], picture("a", "24x16"))
    assert len(server.requests) == 4


def test_a_server_that_stays_down_is_named(server: ImageServer, model: OpenAIImageModel) -> None:
    """The run would go on asking for ever."""
    server.faults = [(503, {}, "overloaded")] * 4
    with pytest.raises(UserError, match=r"no answer from http.* after 4 tries; check OPENAI_BASE_URL.*503: overloaded"):
        model.draw(["a"], seeds=[0])
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((401, {}, "no such key"), "refused the request for model 'any': HTTP 401: no such key"),
        ((200, {"Content-Type": "text/html"}, "<html>no JSON"), "expected JSON from .*<html>"),
        ((400, {}, "no such prompt"), "HTTP 400: no such prompt"),
        ((200, {}, '{"data": [{"url": "http://x"}]}'), r"expected a picture in base64"),
        ((200, {}, '{"data": [{"b64_json": "bm90IGFuIGltYWdl"}]}'), r"expected a picture in base64"),
        ((200, {}, '{"data": [{"b64_json": "*"}]}'), r"expected a picture in base64"),
        ((200, {}, "[]"), r"expected a picture in base64"),
    ],
)
def test_what_does_not_pass_is_an_error_at_once(
    server: ImageServer, model: OpenAIImageModel, fault: tuple[int, dict[str, str], str], message: str
) -> None:
    """A wrong key would be tried for minutes; an answer without a picture would end in a traceback."""
    server.faults = [fault]
    with pytest.raises(UserError, match=message):
        model.draw(["a"], seeds=[0])
    assert len(server.requests) == 1


def test_one_number_is_a_side(server: ImageServer) -> None:
    """`--drawing.size 512` gives one number: it ended a run after its captions were written."""
    model = OpenAIImageModel("any", base_url=server.url, api_key="a key", settings=DrawingSettings(size=32))
    drawn = model.draw(["a flower"], seeds=[0])
    np.testing.assert_array_equal(drawn, [picture("a flower", "32x32")])


def test_pictures_of_another_size_are_resized(server: ImageServer, model: OpenAIImageModel) -> None:
    """A server with sizes of its own would give a batch that cannot be stacked."""
    buffer = io.BytesIO()
    Image.fromarray(picture("x", "50x40")).save(buffer, format="PNG")
    coded = base64.b64encode(buffer.getvalue()).decode()
    server.faults = [(200, {}, json.dumps({"data": [{"b64_json": coded}]}))]
    assert model.draw(["a", "b"], seeds=[0, 1]).shape == (2, 16, 24, 3)


def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person without a key would see the server's answer only after the first round."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY; it is not set"):
        OpenAIImageModel("gpt-image-1")
    with pytest.raises(UserError, match="expected an address with http"):
        OpenAIImageModel("any", base_url="localhost:8000")
