"""A detector on the device: image files to scores by an exported model, with Pillow, numpy and onnxruntime alone.

    pip install pillow numpy onnxruntime
    python device.py model.onnx photo.jpg more.png

`pixels` is the way from a file to the model's input, word for word as kka trains and scores (docs/pixels.md): another
decoder or another resizing shifts the scores. Size, fit, white and threshold stand in the model's metadata.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def pixels(image: Image.Image, size: int | None, white: int, fit: str = "crop") -> np.ndarray:
    """An opened file as RGB, uint8 (size, size, 3). `white`: that of 16-bit grey. `fit`: as `square` makes it one."""
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
    return np.asarray(image if size is None else square(image, size, fit))


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


class Model:
    """An exported model: `model(file)` is the score, higher = more anomalous, and the verdict (None: no threshold)."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        facts = self.session.get_modelmeta().custom_metadata_map
        self.size, self.white = int(facts["image_size"].partition("x")[0]), int(facts.get("white", 65535))
        self.fit = facts.get("fit", "crop")

    def __call__(self, file: str) -> tuple[float, bool | None]:
        with Image.open(file) as image:
            batch = pixels(image, self.size, self.white, self.fit)[None]
        score, *verdict = self.session.run(None, {"pixels": batch})
        return float(score[0]), bool(verdict[0][0]) if verdict else None


if __name__ == "__main__":
    model = Model(sys.argv[1])
    for name in sys.argv[2:]:
        found, anomalous = model(name)
        print(name, f"{found:.6g}", "" if anomalous is None else "anomalous" if anomalous else "normal", sep="\t")
