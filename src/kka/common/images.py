"""Image files as people have them -> square RGB pictures of one working size.

What a decoder gives is made what a person sees: the EXIF rotation is applied, 16-bit grey is scaled (not clipped) to
8 bits, CMYK, grey and palette become RGB, and what is transparent shows white, as on a page. Colour profiles are not
applied. Of an animation, the first frame counts. Only a few pictures are in memory at full size at any moment.
"""

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from kka.common.room import require_room
from kka.errors import UserError
from kka.protocols import Images
from kka.task import SetAside

Source = tuple[str, bytes | Path]
"""The name of a picture, as errors say it, and its file or the content of that."""

SUFFIXES = frozenset(
    f".{name}"
    for name in "jpg jpeg jpe jfif png bmp gif tif tiff webp avif ppm pgm pnm heic heif".split()  # noqa: SIM905
)
"""A file with one of these is meant to be an image: it is named when it cannot be read. Others are ignored."""
DEFAULT_SIZE = 64
"""Side of the working pictures where the data does not suggest one, in pixels."""
MAX_BAD_SHARE = 0.1
"""With a larger share of unreadable pictures than this, something is wrong with the data as a whole."""
CHUNK = 32
"""Pictures that a thread decodes in one go."""


class ImageError(ValueError):
    """A picture that cannot be read. The text is the reason alone, without the picture's name."""


def fitted(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The largest part around the centre that has the wanted aspect, resized with antialiasing."""
    if picture.size == (width, height):
        return picture
    return ImageOps.fit(picture, (width, height), method=Image.Resampling.BICUBIC)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The pictures that could be read, in the order of their sources, and those that could not."""

    images: Images
    kept: np.ndarray
    """(n,) int: the position of each picture among the sources, ascending."""
    set_aside: tuple[SetAside, ...]
    one_size: bool
    """Whether all pictures had the working size already, so that none was cut or resized."""


def decode(source: bytes | Path, size: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """One picture as RGB; with `size`, the largest central square, resized with antialiasing to (size, size, 3).

    Raises ImageError with the reason: not an image, truncated, corrupt, too large (a decompression bomb),
    unreadable, or pixels without a defined range (floating point; integers beyond 16 bits).
    """
    return _decode(source, size)[0].copy()


def decode_all(sources: Iterable[Source], total: int, size: int, *, where: str) -> Decoded:
    """Decode up to `total` pictures to (n, size, size, 3), in threads, reading `sources` only as fast as needed.

    What cannot be read is set aside with its name and the reason. Raises UserError when that is more than a tenth;
    `where` names the whole of the sources in that error.
    """
    require_room(total, size)
    images = np.empty((total, size, size, 3), np.uint8)
    kept: list[int] = []
    set_aside: list[SetAside] = []
    one_size = True
    position = 0
    with warnings.catch_warnings():
        # Pillow only warns up to twice its limit; the threads share this filter.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, result in _in_threads(sources, size):
            if isinstance(result, ImageError):
                set_aside.append(SetAside(path=name, reason=str(result)))
            else:
                picture, fits = result
                images[len(kept)] = picture
                kept.append(position)
                one_size &= fits
            position += 1
    refuse_if_many_are_bad(set_aside, position, where=where)
    return Decoded(images=images[: len(kept)], kept=np.array(kept, int), set_aside=tuple(set_aside), one_size=one_size)


def refuse_if_many_are_bad(bad: Sequence[SetAside], total: int, *, where: str) -> None:
    """Raise UserError when more than a tenth of `total` pictures are in `bad`."""
    if len(bad) > MAX_BAD_SHARE * total:
        raise UserError(
            f"{len(bad)} of the {total} images in {where} cannot be read; at most a tenth may be bad. "
            f"The first: {first_few(bad)}. Repair or remove them."
        )


def first_few(bad: Sequence[SetAside], most: int = 3) -> str:
    """The first of `bad` with their reasons, for an error's text."""
    rest = f"; and {len(bad) - most} more" if len(bad) > most else ""
    return "; ".join(f"{b.path}: {b.reason}" for b in bad[:most]) + rest


_Result = tuple[np.ndarray, bool] | ImageError


def _in_threads(sources: Iterable[Source], size: int) -> Iterator[tuple[str, _Result]]:
    """Decode chunk by chunk, in order, with at most two chunks a thread under way or waiting."""
    workers = min(8, os.cpu_count() or 1)
    waiting: deque[Future[list[tuple[str, _Result]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for chunk in _chunks(sources):
                waiting.append(pool.submit(_decode_chunk, chunk, size))
                if len(waiting) >= 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:  # after an error or Ctrl-C, do not decode what nobody waits for
            pool.shutdown(wait=True, cancel_futures=True)


def _chunks(sources: Iterable[Source]) -> Iterator[list[Source]]:
    chunk: list[Source] = []
    for source in sources:
        chunk.append(source)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _decode_chunk(chunk: list[Source], size: int) -> list[tuple[str, _Result]]:
    results: list[tuple[str, _Result]] = []
    for name, source in chunk:
        try:
            results.append((name, _decode(source, size)))
        except ImageError as error:
            results.append((name, error))
    return results


def _decode(source: bytes | Path, size: int | None) -> tuple[np.ndarray, bool]:
    """The picture, and whether it was of the working size as it came."""
    try:
        with _open(source) as file, Image.open(file) as image:
            _refuse_a_bomb(image.size)
            fits = image.size == (size, size)
            if size is not None and not fits:
                # JPEG only: decode at 1/2, 1/4 or 1/8, still at least twice the size that is wanted
                image.draft(None, (2 * size, 2 * size))
            rgb = _to_rgb(ImageOps.exif_transpose(image))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders fail in many ways on damaged files: all mean that it cannot be read
        raise ImageError(_reason(error, source)) from error
    if size is not None and not fits:
        rgb = fitted(rgb, size, size)
    return np.asarray(rgb), fits


def _open(source: bytes | Path) -> AbstractContextManager[BinaryIO]:
    return source.open("rb") if isinstance(source, Path) else BytesIO(source)


def _refuse_a_bomb(size: tuple[int, int]) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and size[0] * size[1] > limit:
        raise ImageError(
            f"too large: {size[0]} x {size[1]} pixels, more than the {limit:,} that are decoded "
            "(it may be a decompression bomb); make it smaller"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise ImageError("floating-point pixels have no defined range; save the image with 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")  # returns a loaded copy where the mode is RGB already


def _from_16_bits(image: Image.Image) -> Image.Image:
    """0 … 65535 -> 0 … 255, rounded. Pillow's own conversion clips at 255 and gives white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("integer pixels beyond 16 bits have no defined range; save it with 8 or 16 bits")
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _reason(error: Exception, source: bytes | Path) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too large to decode: {error}"
    if isinstance(error, UnidentifiedImageError):
        if isinstance(source, Path) and source.suffix.lower() in (".heic", ".heif"):
            return "HEIC images are not supported; convert it to JPEG"
        if (isinstance(source, Path) and source.stat().st_size == 0) or source == b"":
            return "the file is empty"
        return "not an image, or its beginning is damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"damaged: {error}" if str(error) else f"damaged ({type(error).__name__})"
