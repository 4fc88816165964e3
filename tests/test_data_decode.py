"""Reading images: what a person sees in a file is what the array holds, and what cannot be read is refused by name."""

import gc
import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kka.common.images import decode, decode_all, decode_in_own_range, range_note, white_of
from kka.common.opened import ImageError
from kka.errors import UserError


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_rgb_arrives_unchanged() -> None:
    """A lossless RGB image that has the working size already must not be resampled or reordered (BGR)."""
    pixels = noise(16, 16)
    assert np.array_equal(decode(encoded(Image.fromarray(pixels)), 16), pixels)
    assert np.array_equal(decode(encoded(Image.fromarray(noise(5, 9)))), noise(5, 9))


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)), (5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))],
)
def test_exif_rotation_is_applied(orientation: int, corner: tuple[int, int]) -> None:
    """A phone photo held upright must not lie on its side: the stored top-left pixel goes where EXIF says."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = decode(encoded(Image.fromarray(pixels), exif=exif))
    assert result.shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
    assert result[corner].tolist() == [255, 0, 0]
    assert (result.sum(axis=2) > 0).sum() == 1


def test_exif_rotation_of_a_large_jpeg() -> None:
    """A photo is turned before its middle is cut out."""
    pixels = np.zeros((400, 800, 3), np.uint8)
    pixels[:, :400] = (250, 10, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: the stored left becomes the top
    result = decode(encoded(Image.fromarray(pixels), "JPEG", exif=exif), 16)
    assert result.shape == (16, 16, 3)
    assert result[2, :, 0].min() > 200 and result[-3, :, 0].max() < 50


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    """Pillow clips 16-bit grey at 255, which turns every real picture white; ours keeps the greys."""
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    result = decode(encoded(Image.fromarray(values)))
    assert result[0].tolist() == [[0, 0, 0], [1, 1, 1], [128, 128, 128], [255, 255, 255]]
    assert np.array_equal(decode(encoded(Image.fromarray(values), "TIFF")), result)


def test_grey_and_bilevel_become_rgb() -> None:
    """An 8-bit grey and a black-and-white image have three equal channels."""
    grey = np.array([[0, 100, 255]], np.uint8)
    assert decode(encoded(Image.fromarray(grey)))[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]
    assert decode(encoded(Image.fromarray(grey > 50)))[0].tolist() == [[0] * 3, [255] * 3, [255] * 3]


def test_transparency_shows_white() -> None:
    """What lies under a transparent pixel is arbitrary and must not be seen; half transparent is half white."""
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 127]]], np.uint8)
    result = decode(encoded(Image.fromarray(pixels)))
    assert result[0, 0].tolist() == [255, 0, 0]
    assert result[0, 1].tolist() == [255, 255, 255]
    assert result[0, 2].tolist() == [128, 128, 128]


def test_palette_with_and_without_transparency() -> None:
    """Palette indexes must become their colours, and a transparent entry white."""
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0])
    image.putdata([0, 1, 2])
    assert decode(encoded(image))[0].tolist() == [[10, 20, 30], [200, 100, 50], [0, 255, 0]]
    expected = [[10, 20, 30], [255, 255, 255], [0, 255, 0]]
    assert decode(encoded(image, transparency=1))[0].tolist() == expected
    assert decode(encoded(image, "GIF", transparency=1))[0].tolist() == expected
    assert decode(encoded(image, transparency=bytes([255, 0, 255])))[0].tolist() == expected


def test_cmyk_jpeg_has_its_colours() -> None:
    """CMYK from a print shop must not come out inverted."""
    cmyk = Image.new("CMYK", (32, 32), (0, 255, 255, 0))  # magenta and yellow: red
    assert np.abs(decode(encoded(cmyk, "JPEG", quality=95), 8).astype(int) - [255, 0, 0]).max() <= 3


def test_centre_crop_then_resize() -> None:
    """A wide image keeps its middle square, undistorted, and shrinking averages (antialiasing) instead of skipping."""
    pixels = np.full((40, 120, 3), 255, np.uint8)
    pixels[:, 40:80] = 0
    pixels[::2, 40:80] = 100
    result = decode(encoded(Image.fromarray(pixels)), 10).astype(int)
    assert result.shape == (10, 10, 3)
    assert np.abs(result[2:-2, 2:-2] - 50).max() < 15


def test_a_large_jpeg_is_decoded_whole() -> None:
    """At a reduced size it would have other pixels than the same picture as PNG, and than a device's frame."""
    data = encoded(Image.fromarray(noise(512, 512)), "JPEG", quality=95)
    full = encoded(Image.open(BytesIO(data)))
    assert np.array_equal(decode(data, 32), decode(full, 32))


@pytest.mark.parametrize(("largest", "white"), [
    (0, 65535), (1, 255), (255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4095, 4095), (4096, 16383),
    (16383, 16383), (16384, 65535), (65535, 65535),
])  # fmt: skip
def test_the_white_of_16_bit_files(largest: int, white: int) -> None:
    """Cameras write 8, 10, 12, 14 or 16 bits into files of 16; the least range that holds all values is theirs."""
    assert white_of(largest) == white


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_12_bit_grey_is_read_by_its_range(form: str, order: str) -> None:
    """12 of 16 bits come out nearly black (15 of 255) otherwise; what is beyond the range is clipped and named."""
    values = np.array([[0, 1000, 2048, 4095]], order)
    data, beyond = encoded(Image.fromarray(values), form), encoded(Image.fromarray(values * 2), form)
    assert decode(data)[0, :, 0].tolist() == [0, 4, 8, 16]
    assert decode(data, white=4095)[0, :, 0].tolist() == [0, 62, 128, 255]
    assert decode(beyond, white=4095)[0, :, 0].tolist() == [0, 125, 255, 255]
    sources = [("a", data), ("b", beyond), ("c", encoded(Image.fromarray(noise(1, 4))))]
    found = decode_all(sources, 3, 1, where="here", white=4095)
    assert (found.clipped, found.largest) == (("b",), 8190)
    own = decode_in_own_range(lambda: sources[::2], 2, 1, where="here")
    assert (own.white, own.largest, own.clipped) == (4095, 4095, ())
    assert np.array_equal(own.images[0], decode(data, 1, 4095))
    assert range_note(own, "here") == (
        "16-bit grey files in here have values up to 4,095: they are read as 12-bit, 0 black and 4,095 white"
    )
    assert decode_in_own_range(lambda: sources[2:], 1, 1, where="here").white == 65535


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"this is no image at all", "not an image"),
        (b"", "empty"),
        (encoded(Image.fromarray(noise(64, 64)), "JPEG")[:-1500], "truncated"),
        (encoded(Image.fromarray(noise(64, 64)))[:5000], "truncated"),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point"),
        (encoded(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"), "beyond 16 bits"),
        (png_header(30_000, 30_000), "too large"),
        (png_header(10_000, 10_000), "too large"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    """Every damaged, truncated or giant image raises one error, with the reason, never a decoder's own."""
    with pytest.raises(ImageError, match=reason):
        decode(data, 16)


def test_a_bomb_between_pillows_limits_is_refused_without_the_warning_filter() -> None:
    """Pillow only warns up to twice its limit; a program that ignores warnings must be protected too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageError, match="10000 x 10000"):
            decode(png_header(10_000, 10_000), 16)


def test_random_damage_is_always_an_image_error() -> None:
    """Whatever a flipped byte does to a decoder, it must end in a picture or in ImageError."""
    generator = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        good = encoded(Image.fromarray(noise(24, 24)), form)
        for _ in range(60):
            data = bytearray(good)
            for at in generator.integers(0, len(data), 8):
                data[at] = generator.integers(0, 256)
            try:
                assert decode(bytes(data[: generator.integers(1, len(data))]), 8).shape == (8, 8, 3)
            except ImageError as error:
                assert str(error)


def test_files_are_closed(tmp_path: Path) -> None:
    """A handle left open for each photo would exhaust the process's files; ResourceWarning is an error here."""
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(encoded(Image.fromarray(noise(8, 8))))
    bad.write_bytes(good.read_bytes()[:60])
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(5):
        decode(good, 8)
        with pytest.raises(ImageError):
            decode(bad, 8)
    gc.collect()
    after = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    assert after == before


def test_a_path_that_is_gone_is_named() -> None:
    """A dangling link is a bad image with the system's reason, not a crash."""
    with pytest.raises(ImageError, match="No such file"):
        decode(Path("nowhere.png"), 8)


def test_decode_all_keeps_order_and_names_the_bad() -> None:
    """With threads, picture i must still be picture i, and a bad one leaves no hole and no shift."""
    pictures = [np.full((8, 8, 3), i, np.uint8) for i in range(200)]
    sources = [(f"{i}.png", encoded(Image.fromarray(p))) for i, p in enumerate(pictures)]
    sources[70] = ("70.png", b"broken")
    result = decode_all(iter(sources), 200, 8, where="here")
    assert result.kept.tolist() == [i for i in range(200) if i != 70]
    assert result.images[:, 0, 0, 0].tolist() == result.kept.tolist()
    assert [(s.path, "not an image" in s.reason) for s in result.set_aside] == [("70.png", True)]
    assert result.one_size


def test_decode_all_reads_only_as_fast_as_it_decodes() -> None:
    """Sources are read ahead by a bounded number, so that a huge data set never sits in memory."""
    data = encoded(Image.fromarray(noise(8, 8)))
    ahead: list[int] = []
    alive = 0

    class Content(bytes):
        def __new__(cls) -> "Content":
            nonlocal alive
            alive += 1
            return super().__new__(cls, data)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def sources() -> Iterator[tuple[str, bytes]]:
        for i in range(3000):
            ahead.append(alive)
            yield f"{i}", Content()

    assert len(decode_all(sources(), 3000, 8, where="here").images) == 3000
    assert max(ahead) <= 32 * 2 * 8 + 64


def test_more_than_a_tenth_bad_is_an_error() -> None:
    """One bad in ten is set aside; two in ten mean that the data is broken, and the first are named."""
    good = encoded(Image.fromarray(noise(8, 8)))
    sources = [(f"{i}.png", good) for i in range(18)]
    assert len(decode_all([*sources, ("x.png", b"?"), ("y.png", b"?")], 20, 8, where="here").set_aside) == 2
    with pytest.raises(UserError, match=r"3 of the 21 images in here .* x\.png: not an image") as caught:
        decode_all([*sources, *((f"{n}.png", b"?") for n in "xyz")], 21, 8, where="here")
    assert "z.png" in str(caught.value)
