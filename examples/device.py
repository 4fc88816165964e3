"""A detector on the device: image files to scores by an exported model, with Pillow, numpy and onnxruntime alone.

    pip install pillow numpy onnxruntime
    python device.py model.onnx photo.jpg more.png

`pixels` and `tile` are the way from a file to the model's input, word for word as kka trains and scores
(docs/pixels.md): another decoder or another resizing shifts the scores. Size, fit, overlap, white and threshold stand
in the model's metadata.
"""

import sys
from collections.abc import Iterator

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


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


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where the tiles of `side` pixels begin along a photo's side of `length`."""
    step = max(1, int(side * (1 - overlap)))
    number = 1 + max(0, -((side - length) // step))
    return [i * max(0, length - side) // max(1, number - 1) for i in range(number)]


def tile(image: Image.Image, x: int, y: int, side: int) -> np.ndarray:
    """uint8 (side, side, …): what lies right of x and below y, continued by its mirror image beyond the photo."""
    part = np.asarray(image.crop((x, y, min(x + side, image.width), min(y + side, image.height))))
    beyond = [(0, side - part.shape[0]), (0, side - part.shape[1])] + [(0, 0)] * (part.ndim - 2)
    return np.pad(part, beyond, mode="symmetric")


class Model:
    """An exported model: `model(file)` is the score, higher = more anomalous, and the verdict (None: no threshold)."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        facts = self.session.get_modelmeta().custom_metadata_map
        self.size, self.white = int(facts["image_size"].partition("x")[0]), int(facts.get("white", 65535))
        self.fit, self.overlap = facts.get("fit", "crop"), float(facts.get("overlap", 0))

    def __call__(self, file: str) -> tuple[float, bool | None]:
        with Image.open(file) as image:
            said = [self.session.run(None, {"pixels": square[None]}) for square in self.squares(image)]
        scores, *verdicts = (np.concatenate(outputs) for outputs in zip(*said, strict=True))
        return float(scores.max()), bool(verdicts[0].any()) if verdicts else None

    def squares(self, image: Image.Image) -> Iterator[np.ndarray]:
        """What the model scores of a photo, one after the other: one square, or its tiles, of which the highest score
        counts."""
        if self.fit != "tile":
            yield pixels(image, self.size, self.white, self.fit)
            return
        photo = rgb(image, self.white)
        for y in starts(photo.height, self.size, self.overlap):
            for x in starts(photo.width, self.size, self.overlap):
                yield tile(photo, x, y, self.size)


if __name__ == "__main__":
    model = Model(sys.argv[1])
    for name in sys.argv[2:]:
        found, anomalous = model(name)
        print(name, f"{found:.6g}", "" if anomalous is None else "anomalous" if anomalous else "normal", sep="\t")
