"""The image cache: nothing is drawn twice. A drawn picture is stored under the content that made it.

One lossless PNG for each picture, in folders by the first two digits of its key. A file is written under a
temporary name and then moved into place: several processes can share a cache, and a killed one leaves no half file.
"""

import hashlib
import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kka.common.caches import cache_folder
from kka.common.files import replacing
from kka.errors import UserError

Picture = UInt8[np.ndarray, "h w 3"]

_DIGEST = 16  # bytes: at 128 bits, a chance collision needs some 2**64 pictures
_CHECK = "kka-pixels"  # the PNG text field that holds the hash of the pixels


def pixel_hash(image: Picture) -> str:
    """A key for what a picture shows: the same for equal pixels, whatever file or format they came from."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=_DIGEST)
    digest.update(image.tobytes())
    return digest.hexdigest()


def picture_key(identity: str, caption: str, seed: int, *more: str) -> str:
    """The cache key of the picture that the model `identity` draws for `caption` and `seed`, and of what more it
    depends on."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in (identity, caption, str(seed), *more):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)  # the length tells ("ab", "c") from ("a", "bc")
    return digest.hexdigest()


class ImageCache:
    """Pictures on disk by key. `folder` defaults to `images` in `cache_folder()`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else cache_folder() / "images"

    def path(self, key: str) -> Path:
        """The file of `key`, whether it exists or not."""
        return self.folder / key[:2] / f"{key[2:]}.png"

    def get(self, key: str) -> Picture | None:
        """The picture, or None if there is none. A damaged file counts as none, with a warning."""
        path = self.path(key)
        try:
            return _decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except Exception as error:  # Pillow raises many kinds for damaged bytes: each means the same here
            warnings.warn(f"cached picture {path} cannot be used ({error}): it is drawn anew", stacklevel=2)
            return None

    def put(self, key: str, image: Picture) -> None:
        """Store `image` under `key`, in place of what was there. UserError when the disk refuses."""
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, sync=False) as part:  # what a power cut spoils is found by its hash, and drawn anew
                part.write_bytes(_encode(image))
        except OSError as error:
            raise UserError(
                f"the image cache {self.folder} cannot be written: {error}. "
                "Make room or set KKA_CACHE to a folder that can be written."
            ) from error


def _encode(image: Picture) -> bytes:
    """PNG bytes that carry the hash of their own pixels."""
    check = PngInfo()
    check.add_text(_CHECK, pixel_hash(image))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", pnginfo=check, compress_level=1)
    return buffer.getvalue()


def _decode(content: bytes) -> Picture:
    """The pixels of `_encode`'s bytes; ValueError if they are not those that were stored."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        pixels = np.array(picture)
        stored = picture.info.get(_CHECK)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixel_hash(pixels) != stored:
        raise ValueError("its pixels are not those that were stored")
    return pixels
