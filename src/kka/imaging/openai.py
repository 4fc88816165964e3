"""Eq. 4 by a server: any endpoint that speaks OpenAI's images protocol (POST /images/generations).

The protocol knows no seed, so a server need not draw the same picture twice. The image cache keeps what was drawn:
a resumed run sees the same pictures.
"""

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from http.client import HTTPException
from typing import Any

import numpy as np
from PIL import Image

from kka.common.cache import Picture
from kka.errors import UserError
from kka.protocols import Images

REFUSED = ("content_policy_violation", "moderation_blocked", "content_filter", "safety system")
"""Words by which servers say that their filter refused a caption."""
PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
"""HTTP states that may pass: the request is sent again."""


class OpenAIImageModel:
    """An `ImageModel` by HTTP. `base_url` and `api_key` default to $OPENAI_BASE_URL and $OPENAI_API_KEY.

    `size`: side, or (height, width), in pixels, one that the model offers; what comes in another size is resized to it.
    `workers`: requests under way at a time. `attempts`: how often one is sent when the server is busy or fails; the
    pauses between are 1, 2, 4, … seconds, or as long as the server asks. `send_seed`: send each picture's seed along,
    for servers that take one (OpenAI's own refuses it). `extra`: further fields of every request. A caption that the
    server's content filter refuses gives a black picture.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        size: int | tuple[int, int] = (1024, 1024),
        workers: int = 4,
        attempts: int = 6,
        timeout: float = 180.0,
        send_seed: bool = False,
        extra: dict[str, Any] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.url = (base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"OPENAI_BASE_URL: expected an address with http:// or https://; got {self.url!r}")
        self._key = api_key or os.environ.get("OPENAI_API_KEY")
        if self._key is None and self.url.startswith("https://api.openai.com"):
            raise UserError(f"openai:{model} needs a key: set OPENAI_API_KEY, or OPENAI_BASE_URL for another server")
        self.size = (size, size) if isinstance(size, int) else size
        self.model, self.batch_size, self.attempts = model, workers, attempts
        self._timeout, self._send_seed, self._extra, self._sleep = timeout, send_seed, extra or {}, sleep
        settings = json.dumps([self.size, send_seed, self._extra], sort_keys=True)
        self.identity = f"openai:{model}:{self.url}:{settings}"

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        """(n, *size, 3), one request for each picture. UserError when the server does not give what was asked."""
        with ThreadPoolExecutor(self.batch_size) as pool:
            try:
                pictures = list(pool.map(self._draw_one, captions, seeds))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return np.stack(pictures) if pictures else np.zeros((0, *self.size, 3), np.uint8)

    def _draw_one(self, caption: str, seed: int) -> Picture:
        height, width = self.size
        body = {"model": self.model, "prompt": caption, "n": 1, "size": f"{width}x{height}"}
        if not self.model.startswith("gpt-image"):  # those always answer in base64, and refuse the field
            body["response_format"] = "b64_json"
        if self._send_seed:
            body["seed"] = seed
        answer = self._ask(json.dumps(body | self._extra).encode())
        if answer is None:
            return np.zeros((height, width, 3), np.uint8)
        try:
            content = base64.b64decode(answer["data"][0]["b64_json"], validate=True)
            with Image.open(io.BytesIO(content)) as picture:
                rgb = picture.convert("RGB")
        except (KeyError, IndexError, TypeError, ValueError, SyntaxError, OSError) as error:
            raise UserError(
                f"{self.url}: expected a picture in base64 (data[0].b64_json); got {str(answer)[:200]} ({error!r})"
            ) from error
        return np.asarray(rgb if rgb.size == (width, height) else rgb.resize((width, height)))

    def _ask(self, body: bytes) -> Any:
        """The server's answer; None if its filter refused. What may pass is asked again."""
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(f"{self.url}/images/generations", data=body, headers=headers)
        for attempt in range(1, self.attempts + 1):
            pause = 2.0 ** (attempt - 1)
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                told = error.read().decode(errors="replace")[:500]
                problem = f"HTTP {error.code}: {told}"
                if error.code in (400, 403, 422) and any(word in told.lower() for word in REFUSED):
                    return None
                if error.code not in PASSING or "insufficient_quota" in told:
                    raise UserError(f"{request.full_url} refused the request: {problem}") from error
                pause = _asked_pause(error.headers, pause)
            except (
                OSError,
                HTTPException,
                ValueError,
            ) as error:  # no connection, a broken one, or an answer that is not JSON
                problem = str(error)
            if attempt < self.attempts:
                self._sleep(pause)
        raise UserError(
            f"{request.full_url}: expected an answer within {self.attempts} attempts; got {problem}. "
            "Check the server and OPENAI_BASE_URL; what was drawn before is cached."
        )


def _asked_pause(headers: Message, otherwise: float) -> float:
    """The Retry-After header in seconds, at most a minute."""
    asked = headers.get("Retry-After", "")
    return min(float(asked), 60.0) if asked.isdigit() else otherwise
