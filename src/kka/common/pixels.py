"""The one way from a picture file to pixels. `examples/device.py`, which runs without kka, holds it word for word.

The EXIF rotation is applied, 16-bit grey is scaled (not clipped) to 8 bits, CMYK, grey and palette become RGB, and what
is transparent shows white, as on a page. Colour profiles are not applied. Of an animation, the first frame counts. A
JPEG is decoded at its full size: what a decoder gives at a reduced one differs from library to library.
"""

import numpy as np
from PIL import Image, ImageOps

WHITE = 65535
"""Of 16-bit grey, where the data uses the full range."""


def rgb(image: Image.Image, white: int) -> Image.Image:
    """An opened file as RGB at its own size, the right way up. `white`: that of 16-bit grey."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow itself would clip at 255
        grey = np.asarray(image).astype(np.int32).clip(0, white)
        image = Image.fromarray(((grey * 255 + white // 2) // white).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    elif image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(page, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def pixels(image: Image.Image, size: int | None, white: int, fit: str = "crop") -> np.ndarray:
    """An opened file as RGB, uint8 (size, size, 3). `fit`: as `square` makes it one."""
    found = rgb(image, white)
    return np.asarray(found if size is None else square(found, size, fit))


def square(image: Image.Image, size: int, fit: str, resample: int = Image.Resampling.BICUBIC) -> Image.Image:
    """squash: each side scaled as it needs; pad: scaled as a whole, grey beside it; crop: the largest central square.
    A mask (L) has black beside it."""
    if image.size == (size, size):
        return image
    if fit == "squash":
        return image.resize((size, size), resample)
    if fit == "crop":
        return ImageOps.fit(image, (size, size), resample)
    if fit != "pad":
        raise ValueError(f"fit: expected squash, pad or crop; got {fit}")
    w, h = (max(1, round(side * size / max(image.size))) for side in image.size)
    page = Image.new(image.mode, (size, size), (124, 116, 104) if image.mode == "RGB" else 0)  # ImageNet's mean
    page.paste(image.resize((w, h), resample), ((size - w) // 2, (size - h) // 2))
    return page
