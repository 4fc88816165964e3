"""One picture file, opened: RGB at its own size, or the reason why it cannot be read."""

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from kka.common.pixels import WHITE, rgb

HEIC = (".heic", ".heif")
"""Of a telephone's camera; Pillow alone does not read it."""
STRIP = 256
"""Rows of a photo that are hashed at a time."""


class ImageError(ValueError):
    """A picture that cannot be read. The text is the reason alone, without the picture's name."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """One file at its own size."""

    image: Image.Image
    """RGB, the right way up. Pillow has it in memory, four bytes a pixel."""
    stored: tuple[int, int]
    """Width and height in the file."""
    largest: int
    """Its largest value, of 16-bit grey; 0 for all others."""


def read_whole(source: bytes | Path, white: int = WHITE, *, drafted: int | None = None) -> Whole:
    """One picture as RGB at its own size; a JPEG, to look at alone, at a reduced one with sides of at least `drafted`
    pixels. Raises ImageError as `kka.common.images.decode`."""
    try:
        with stream_of(source) as file, Image.open(file) as image:
            _refuse_a_bomb(image.size)
            if drafted is not None:
                image.draft(None, (drafted, drafted))
            stored, largest = image.size, _largest_grey(image)
            found = rgb(image, white)
            found.load()
            return Whole(image=found, stored=stored, largest=largest)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders fail in many ways on damaged files: all mean that it cannot be read
        raise ImageError(_reason(error, source)) from error


def whole_hash(image: Image.Image) -> str:
    """As `kka.common.cache.pixel_hash`, strip by strip: no copy of a large photo."""
    digest = hashlib.blake2b(repr((image.height, image.width, 3)).encode(), digest_size=16)
    for y in range(0, image.height, STRIP):
        digest.update(image.crop((0, y, image.width, min(y + STRIP, image.height))).tobytes())
    return digest.hexdigest()


@cache
def _reads_heic() -> bool:
    """Whether Pillow can read HEIC: from the first call on, where pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False)
    return True


def stream_of(source: bytes | Path) -> AbstractContextManager[BinaryIO]:
    """The file, or its content, to read; HEIC is known from then on."""
    if isinstance(source, Path) and source.suffix.lower() in HEIC:
        _reads_heic()
    return source.open("rb") if isinstance(source, Path) else BytesIO(source)


def _refuse_a_bomb(size: tuple[int, int]) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and size[0] * size[1] > limit:
        raise ImageError(
            f"too large: {size[0]} x {size[1]} pixels, more than the {limit:,} that are decoded "
            "(it may be a decompression bomb); make it smaller"
        )


def _largest_grey(image: Image.Image) -> int:
    """The largest value of 16-bit grey, 0 for all others; ImageError for pixels without a defined range."""
    if image.mode == "F":
        raise ImageError("floating-point pixels have no defined range; save the image with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return 0
    values = np.asarray(image)
    if values.min() < 0 or values.max() > WHITE:
        raise ImageError("integer pixels beyond 16 bits have no defined range; save it with 8 or 16 bits")
    return int(values.max())


LASTING = ("too large to decode", "the file is empty", "not an image", "damaged")
"""How reasons begin that a file itself gives: with others it may be readable the next time."""


def _reason(error: Exception, source: bytes | Path) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too large to decode: {error}"
    if isinstance(error, UnidentifiedImageError):
        if isinstance(source, Path) and source.suffix.lower() in HEIC and not _reads_heic():
            return "HEIC is read where pillow-heif is installed (pip install 'kka[heic]'); or convert it to JPEG"
        if (isinstance(source, Path) and source.stat().st_size == 0) or source == b"":
            return "the file is empty"
        return "not an image, or its beginning is damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"damaged: {error}" if str(error) else f"damaged ({type(error).__name__})"
