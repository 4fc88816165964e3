"""Eq. 4 by a server: any endpoint that speaks OpenAI's images protocol (POST /images/generations).

The protocol knows no seed, so a server need not draw the same picture twice. The image cache keeps what was drawn:
a resumed run sees the same pictures.
"""

import base64
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from kka.common.cache import Picture
from kka.common.images import fitted
from kka.common.openai import RefusedError, Server
from kka.errors import UserError
from kka.protocols import Images
from kka.settings import refuse_unknown
from kka.settings.drawing import DrawingSettings

REFUSED = ("content_policy_violation", "moderation_blocked", "content_filter", "safety system")
"""Words by which servers say that their filter refused a caption."""
SETTINGS = ("size",)
"""What a remote model knows of `DrawingSettings`."""
SIDE = 1024


class OpenAIImageModel:
    """An `ImageModel` by HTTP.

    Args:
        model: The model's name on the server.
        settings: `size` alone, one that the model offers; what comes in another size is resized to it. Default: 1024.
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
        with ThreadPoolExecutor(self.batch_size) as pool:
            try:
                pictures = list(pool.map(self._draw_one, captions, seeds))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return np.stack(pictures) if pictures else np.zeros((0, *self.size, 3), np.uint8)

    def _draw_one(self, caption: str, seed: int) -> Picture:
        height, width = self.size
        fields, send_seed = self._extra
        body: dict[str, Any] = {"model": self.model, "prompt": caption, "n": 1, "size": f"{width}x{height}"}
        if not self.model.startswith("gpt-image"):  # those always answer in base64, and refuse the field
            body["response_format"] = "b64_json"
        more = {"seed": seed, **fields} if send_seed else fields
        try:
            answer = self.server.ask(lambda client: client.images.generate(**body, extra_body=more))
        except RefusedError as error:
            if any(word in str(error).lower() for word in REFUSED):
                return np.zeros((height, width, 3), np.uint8)
            raise
        try:
            coded: Any = answer.data
            content = base64.b64decode(coded[0].b64_json, validate=True)
            with Image.open(io.BytesIO(content)) as picture:
                rgb = picture.convert("RGB")
        except (AttributeError, IndexError, TypeError, ValueError, SyntaxError, OSError) as error:
            got = f"{str(answer)[:200]} ({error!r})"
            raise UserError(
                f"{self.server.url}: expected a picture in base64 (data[0].b64_json); got {got}"
            ) from error
        return np.asarray(fitted(rgb, height, width))
