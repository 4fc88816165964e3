"""Image files as people have them -> square RGB pictures of one working size.

How one file becomes pixels stands in `kka.common.pixels`; here is what surrounds it: what is refused and named, many
files in threads, and the range of 16-bit grey. Only a few pictures are in memory at full size at any moment.
"""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from kka.common.mapped import empty
from kka.common.opened import ImageError, read_whole, stream_of, whole_hash
from kka.common.pixels import WHITE, square
from kka.errors import UserError
from kka.protocols import Images
from kka.settings.fit import Fit
from kka.task import SetAside

Source = tuple[str, bytes | Path]
"""The name of a picture, as errors say it, and its file or the content of that."""

SUFFIXES = frozenset(
    f".{name}"
    for name in "jpg jpeg jpe jfif png bmp gif tif tiff webp avif ppm pgm pnm heic heif".split()  # noqa: SIM905
)
"""A file with one of these is meant to be an image: it is named when it cannot be read. Others are ignored."""
RAW = frozenset(f".{name}" for name in "cr2 cr3 nef nrw arw srf sr2 dng raf orf rw2 pef srw".split())  # noqa: SIM905
"""Of cameras' sensors: what they show depends on how they are developed."""
DEFAULT_SIZE = 64
"""Side of the working pictures where the data does not suggest one, in pixels."""
MAX_BAD_SHARE = 0.1
"""With a larger share of unreadable pictures than this, something is wrong with the data as a whole."""
LARGEST_SIZE = 4096
"""Largest side of working pictures, in pixels: what is beyond it is a slip, and would fill the memory."""
RANGES = (8, 10, 12, 14, 16)
"""Bits that a camera may use of the 16 of a grey file."""
CHUNK = 32
"""Pictures that a thread decodes in one go."""


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
    white: int = WHITE
    """The value of 16-bit grey that was read as white."""
    largest: int = 0
    """The largest value of the 16-bit grey files; 0 where there is none."""
    clipped: tuple[str, ...] = ()
    """The 16-bit grey files with values beyond `white`, which show white."""
    digests: tuple[str, ...] = ()
    """Of each picture: equal ones show the same."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One file as it was read."""

    pixels: np.ndarray
    """uint8 (h, w, 3), not to be written to."""
    digest: str
    """Of what it shows; where it is to be cut into tiles, of all of the photo, of which `pixels` are a small view."""
    fits: bool
    """Whether it was of the working size as it came."""
    largest: int
    """Its largest value, of 16-bit grey; 0 for all others."""


def decode(
    source: bytes | Path, size: int | None = None, white: int = WHITE, fit: Fit = "crop"
) -> UInt8[np.ndarray, "h w 3"]:
    """One picture as RGB; with `size`, brought to a square by `fit` (`kka.common.pixels.square`): (size, size, 3).

    `white`: the value of 16-bit grey that is white; see `white_of`.

    Raises ImageError with the reason: not an image, truncated, corrupt, too large (a decompression bomb),
    unreadable, or pixels without a defined range (floating point; integers beyond 16 bits).
    """
    return read_picture(source, size, white, fit).pixels.copy()


def white_of(largest: int) -> int:
    """The white of 16-bit grey files whose largest value is this: 12-bit cameras write 0 to 4095, for example."""
    return next(2**bits - 1 for bits in RANGES if largest < 2**bits) if largest else WHITE


def range_note(decoded: Decoded, where: str) -> str | None:
    """What to tell of files that use a part of their 16 bits; None where none does."""
    if decoded.white == WHITE:
        return None
    return (
        f"16-bit grey files in {where} have values up to {decoded.largest:,}: they are read as "
        f"{decoded.white.bit_length()}-bit, 0 black and {decoded.white:,} white"
    )


def clipped_reason(white: int) -> str:
    """What to tell of a file with values beyond the range."""
    return f"16-bit values beyond {white:,}, the white of the normals; they show white"


def decode_in_own_range(
    read: Callable[[], Iterable[Source]], total: int, size: int, *, where: str, fit: Fit = "crop"
) -> Decoded:
    """As `decode_all`, with the white of 16-bit grey that fits the pictures themselves.

    `read` gives the sources anew at each call: files that use a part of their 16 bits are decoded twice.
    """
    found = decode_all(read(), total, size, where=where, fit=fit)
    white = white_of(found.largest)
    return found if white == found.white else decode_all(read(), total, size, where=where, white=white, fit=fit)


def decode_all(
    sources: Iterable[Source], total: int, size: int, *, where: str, white: int = WHITE, fit: Fit = "crop"
) -> Decoded:
    """Decode up to `total` pictures to (n, size, size, 3), in threads, reading `sources` only as fast as needed.

    What cannot be read is set aside with its name and the reason. Raises UserError when that is more than a tenth, and
    where the disk has no room for what does not lie in memory (`kka.common.mapped`);
    `where` names the whole of the sources in that error.
    """
    images = empty((total, size, size, 3))
    kept: list[int] = []
    set_aside: list[SetAside] = []
    clipped: list[str] = []
    digests: list[str] = []
    one_size = True
    position = largest = 0
    with warnings.catch_warnings():
        # Pillow only warns up to twice its limit; the threads share this filter.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, result in _in_threads(sources, size, white, fit):
            if isinstance(result, ImageError):
                set_aside.append(SetAside(path=name, reason=str(result)))
            else:
                images[len(kept)] = result.pixels
                kept.append(position)
                digests.append(result.digest)
                one_size &= result.fits
                largest = max(largest, result.largest)
                if result.largest > white:
                    clipped.append(name)
            position += 1
    refuse_if_many_are_bad(set_aside, position, where=where)
    return Decoded(
        images=images[: len(kept)], kept=np.array(kept, int), set_aside=tuple(set_aside), one_size=one_size,
        white=white, largest=largest, clipped=tuple(clipped), digests=tuple(digests),
    )  # fmt: skip


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


_Result = Picture | ImageError


def _in_threads(sources: Iterable[Source], size: int, white: int, fit: Fit) -> Iterator[tuple[str, _Result]]:
    """Decode chunk by chunk, in order, with at most two chunks a thread under way or waiting."""
    workers = min(8, os.cpu_count() or 1)
    waiting: deque[Future[list[tuple[str, _Result]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for chunk in _chunks(sources):
                waiting.append(pool.submit(_decode_chunk, chunk, size, white, fit))
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


def _decode_chunk(chunk: list[Source], size: int, white: int, fit: Fit) -> list[tuple[str, _Result]]:
    results: list[tuple[str, _Result]] = []
    for name, source in chunk:
        try:
            results.append((name, read_picture(source, size, white, fit)))
        except ImageError as error:
            results.append((name, error))
    return results


def sizes_of(files: Iterable[Path]) -> Iterator[tuple[int, int]]:
    """Width and height of each file that can be opened, by its header alone."""
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with stream_of(file) as opened, Image.open(opened) as image:
                    yield image.size
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # decoding names it


def read_picture(source: bytes | Path, size: int | None, white: int = WHITE, fit: Fit = "crop") -> Picture:
    """As `decode`, with what is known of the file; ImageError as there. Of a photo for tiles, a squashed view."""
    whole = read_whole(source, white)
    image = whole.image
    if size is not None:
        image = square(image, size, "squash" if fit == "tile" else fit)
    found = np.asarray(image)
    digest = whole_hash(whole.image if fit == "tile" else image)
    return Picture(pixels=found, fits=whole.stored == (size, size), largest=whole.largest, digest=digest)


def view(file: Path, side: int, white: int = WHITE) -> Image.Image:
    """To look at, not to judge: the whole picture, at most `side` pixels a side, a JPEG decoded at a reduced size.
    ImageError as `decode`."""
    shown = read_whole(file, white, drafted=side).image
    shown.thumbnail((side, side))
    return shown
