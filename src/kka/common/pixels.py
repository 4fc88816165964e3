"""The one way from a picture file to pixels. `examples/device.py`, which runs without kka, holds it word for word.

The EXIF rotation is applied, 16-bit grey is scaled (not clipped) to 8 bits, CMYK, grey and palette become RGB, and what
is transparent shows white, as on a page. Colour profiles are not applied. Of an animation, the first frame counts. A
JPEG is decoded at its full size: what a decoder gives at a reduced one differs from library to library.
"""

import numpy as np
from PIL import Image, ImageOps

WHITE = 65535
"""Of 16-bit grey, where the data uses the full range."""


def pixels(image: Image.Image, size: int | None, white: int) -> np.ndarray:
    """An opened file as RGB: its largest central square, uint8 (size, size, 3). `white`: that of 16-bit grey."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow itself would clip at 255
        grey = np.asarray(image).astype(np.int64).clip(0, white)
        image = Image.fromarray(((grey * 255 + white // 2) // white).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    elif image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(page, image.convert("RGBA"))
    if image.mode != "RGB":
        image = image.convert("RGB")
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)
