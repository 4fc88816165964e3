"""Captions of photos by an image-to-text model, each written once and kept in the cache."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from kka.common.caches import cache_folder
from kka.common.files import sha256, write_atomically
from kka.common.images import ImageError, decode
from kka.common.progress import Progress
from kka.language.captioner import BATCH, Captioner

SIDE = 512
"""Larger photos are reduced to this before the model sees them, in pixels: it takes 224 to 384 itself."""
VERSION = 1
"""Raised when photos are shown to the model otherwise."""


Model = Callable[[Sequence[bytes]], list[str]]


class PhotoCaptions:
    """From photo files to a caption each; "" where the model says nothing or the photo cannot be read.

    The model is loaded when a photo has no stored caption. They are stored under the model's name and the photo's
    content: a run that goes on, and the next one, have the same.
    """

    def __init__(
        self, spec: str, progress: Progress | None = None, *, load: Callable[[str], Model] = Captioner
    ) -> None:
        name = hashlib.blake2b(f"{VERSION} {spec}".encode(), digest_size=10).hexdigest()
        self.spec, self.progress, self.load = spec, progress, load
        self.store = cache_folder() / "captions" / f"{name}.json"

    def __call__(self, files: Sequence[Path]) -> list[str]:
        """Raises UserError where the model cannot be loaded."""
        kept = self._kept()
        keys = [_content(file) for file in files]
        missing = list({key: file for key, file in zip(keys, files, strict=True) if key and key not in kept}.items())
        model = self.load(self.spec) if missing else None
        for start in range(0, len(missing), BATCH):
            part = [(key, shown) for key, file in missing[start : start + BATCH] if (shown := _shown(file))]
            if part and model is not None:
                texts = model([shown for _, shown in part])
                kept |= {key: text for (key, _), text in zip(part, texts, strict=True)}
                self._keep(kept)
            if self.progress is not None:
                self.progress(min(start + BATCH, len(missing)), len(missing))
        return [kept.get(key, "") for key in keys]

    def _kept(self) -> dict[str, str]:
        """What is stored; a damaged file counts as none."""
        with suppress(OSError, ValueError):
            stored = json.loads(self.store.read_text(encoding="utf-8"))
            if isinstance(stored, dict):
                return {str(key): str(text) for key, text in stored.items()}
        return {}

    def _keep(self, captions: dict[str, str]) -> None:
        """With what another process has stored meanwhile."""
        with suppress(OSError):  # they are written again
            self.store.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.store, json.dumps(self._kept() | captions, ensure_ascii=False))


def _content(file: Path) -> str:
    try:
        return sha256(file)
    except OSError:
        return ""  # decoding names it


def _shown(file: Path) -> bytes | None:
    """The photo as it is seen, upright and in eight bits."""
    try:
        image = Image.fromarray(decode(file))
    except ImageError:
        return None
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
