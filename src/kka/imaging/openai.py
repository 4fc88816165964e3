"""Eq. 4 by a server: any endpoint that speaks OpenAI's images protocol (POST /images/generations).

The protocol knows no seed, so a server need not draw the same picture twice. The image cache keeps what was drawn:
a resumed run sees the same pictures.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from kka.common.cache import Picture
from kka.common.images import decode, fitted
from kka.common.openai import RefusedError, Server, in_parallel
from kka.common.opened import ImageError
from kka.errors import UserError
from kka.protocols import Images
from kka.settings import refuse_unknown
from kka.settings.drawing import DrawingSettings

SETTINGS = ("size",)
"""What a remote model knows of `DrawingSettings`."""
SIDE = 1024


class OpenAIImageModel:
    """An `ImageModel` by HTTP.

    Args:
        model: The model's name on the server.
        settings: `size` alone, one that the model offers; of what comes in another size, the largest part around the
            centre that has its aspect is resized to it. Default: 1024.
        base_url, api_key, retries, timeout: See `kka.common.openai.Server`.
        workers: Requests under way at a time.
        send_seed: Send each picture's seed along, for servers that take one (OpenAI's own refuses it).
        extra: Further fields of every request.

    A caption that the server's content filter refuses gives a black picture.

    Raises:
        UserError: a setting that a remote model does not have, no address, no key.
    """

    def __init__(
        self,
        model: str,
        *,
        settings: DrawingSettings | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        workers: int = 4,
        retries: int = 5,
        timeout: float = 180.0,
        send_seed: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> None:
        settings = settings or DrawingSettings()
        refuse_unknown(settings, SETTINGS, of=f"openai:{model}", group="drawing")
        self.server = Server(model, base_url=base_url, api_key=api_key, retries=retries, timeout=timeout)
        self.size = settings.height_width or (SIDE, SIDE)
        self.model, self.batch_size = model, workers
        self._extra = (extra or {}, send_seed)
        shaping = json.dumps([self.size, send_seed, extra or {}], sort_keys=True)
        self.identity = f"openai:{model}:{self.server.url}:{shaping}"

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        """(n, *size, 3), one request for each picture. UserError when the server does not give what was asked."""
        jobs = list(zip(captions, seeds, strict=True))
        pictures = list(in_parallel(lambda job: self._draw_one(*job), jobs, self.batch_size))
        return np.stack(pictures) if pictures else np.zeros((0, *self.size, 3), np.uint8)

    def _draw_one(self, caption: str, seed: int) -> Picture:
        height, width = self.size
        extra, send_seed = self._extra
        wished: dict[str, Any] = {"n": 1, "size": f"{width}x{height}"}
        if not self.model.startswith("gpt-image"):  # those always answer in base64, and refuse the field
            wished["response_format"] = "b64_json"
        if send_seed:
            wished["seed"] = seed
        try:
            reply = self.server.ask(
                lambda client: client.images.with_streaming_response.generate,
                needed={"model": self.model, "prompt": caption},
                wished=wished,
                text=caption,
                extra=extra,
            )
        except RefusedError as error:
            if error.filtered:
                return np.zeros((height, width, 3), np.uint8)
            raise
        pixels = self._decoded(_first_picture(reply), reply)
        return np.asarray(fitted(Image.fromarray(pixels), height, width))

    def _decoded(self, coded: bytes | str, reply: object) -> Picture:
        """The pixels of a picture in base64."""
        if isinstance(coded, bytes):
            try:
                return decode(base64.b64decode(coded, validate=True))
            except ImageError as error:
                problem = f"base64 of something else ({error})"
            except ValueError as error:
                problem = f"no base64 ({error})"
        else:
            problem = f"{coded}: {self.server.says(reply)}"
        raise UserError(
            f"openai: {self.server.url}: expected a picture in base64 (data[0].b64_json) from model {self.model!r}; "
            f"got {problem}"
        )


def _first_picture(reply: Any) -> bytes | str:
    """The base64 of the picture in a reply, without line ends; else what there is in its place."""
    data = reply.get("data") if isinstance(reply, dict) else None
    first = data[0] if isinstance(data, list) and data else None
    if not isinstance(first, dict):
        return "a reply without data[0]"
    coded, url = first.get("b64_json"), first.get("url")
    if not isinstance(coded, str) or not coded.strip():
        if not isinstance(url, str) or not url.startswith("data:"):
            return "an address, which is not fetched" if url else "none"
        coded = url
    if coded.startswith("data:"):
        coded = coded.partition(",")[2]
    return "".join(coded.split()).encode()
