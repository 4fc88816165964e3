"""A photo of a normal with what is known of it, and the picture that is painted on it, window by window."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kka.imaging.paint.foreground import foreground
from kka.imaging.paint.shapes import Field, soften

Colors = Float[np.ndarray, "h w 3"]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
COLORLESS = 4
"""A photo whose channels differ by at most this many levels is of a grey camera: what is painted on it is grey too."""
MIDDLE = 160
"""Of a larger photo, how sharp it is is measured in the middle so many pixels."""
VISIBLE = 9.0
"""Grey levels by which a defect of full strength differs from its normal in the mean, at least: what a person sees."""


@dataclass(kw_only=True)
class View:
    """A window of the scene. Arrays are views of the whole ones: (h, w) or (h, w, 3), 0..255."""

    left: int
    top: int
    picture: Colors
    """As painted so far."""
    object: Field
    light: Field
    """Luminance without the fine detail."""
    scene: "Scene"

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.shape[0], self.picture.shape[1]

    def put(self, new: Colors, shown: Field, strength: float, *, beyond: bool = False) -> None:
        """Paint `new`, where `shown` (0..1, the mask) is above nothing. What cannot be seen is drawn apart a little.

        Args:
            beyond: Also where there is no object.
        """
        shown = np.clip(shown, 0, 1)
        if not beyond:
            shown = shown * self.object
        shown = np.where(shown < 0.02, np.float32(0), shown)
        total = float(shown.sum())
        if total < 1e-3:
            return
        if self.scene.grey:
            new = np.repeat((new @ LUMA)[..., None], 3, axis=2)
        new = np.clip(new, 0, 255)
        change = float((np.abs(new - self.picture).mean(2) * shown).sum()) / total
        least = VISIBLE * (0.35 + 0.65 * strength)
        if change < least:
            middle = float((self.light * shown).sum()) / total
            more = np.float32(least - change if middle < 110 else change - least)
            new = np.clip(new + more * shown[..., None], 0, 255)
        np.copyto(self.picture, new, where=(shown > 0)[..., None])
        mask = self.scene.mask[self.top : self.top + shown.shape[0], self.left : self.left + shown.shape[1]]
        np.maximum(mask, shown, out=mask)


@dataclass(kw_only=True)
class Scene:
    """What painting on one photo needs to know."""

    photo: Colors
    picture: Colors
    mask: Field
    object: Field
    whole: bool
    """No background is told from the object: it is everywhere."""
    light: Field
    grey: bool
    blur: float
    """How unsharp the photo is: the spread of its edges, in pixels."""
    unit: float
    """What sizes are relative to, in pixels: the side of a square as large as the object."""
    sun: tuple[float, float]
    """Where the light comes from, (x, y) of length 1."""
    other: Float[np.ndarray, "other_h other_w 3"] | None = None
    """Another normal, to take texture from."""

    def view(self, x: float, y: float, reach: float) -> View:
        """The square window about a point, cut at the photo's border, of 2 pixels a side at least if there are any."""
        h, w = self.light.shape
        left, right = _span(x, reach, w)
        top, bottom = _span(y, reach, h)
        rows, columns = slice(top, bottom), slice(left, right)
        return View(
            left=left, top=top, picture=self.picture[rows, columns], object=self.object[rows, columns],
            light=self.light[rows, columns], scene=self,
        )  # fmt: skip

    def finish(self) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        """The picture and the mask; outside of the mask the photo to the last bit."""
        mask = np.round(self.mask * 255).astype(np.uint8)
        out = np.round(np.clip(self.picture, 0, 255)).astype(np.uint8)
        np.copyto(out, self.photo.astype(np.uint8), where=(mask == 0)[..., None])
        return out, mask


def _span(at: float, reach: float, side: int) -> tuple[int, int]:
    low = int(np.clip(np.floor(at - reach), 0, max(0, side - 2)))
    return low, int(np.clip(np.ceil(at + reach) + 1, min(low + 2, side), side))


def open_scene(
    normal: UInt8[np.ndarray, "h w 3"], sun: float, other: UInt8[np.ndarray, "h2 w2 3"] | None = None
) -> Scene:
    """Measure a photo. `sun`: the angle from which light comes, in radians; `other`: another normal."""
    photo = normal.astype(np.float32)
    h, w = photo.shape[:2]
    grey = cv2.cvtColor(normal, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inside = foreground(normal)
    area = h * w if inside is None else float(inside.sum())
    spread = np.ptp(cv2.resize(normal, (min(w, 48), min(h, 48)), interpolation=cv2.INTER_AREA).astype(np.int16), axis=2)
    return Scene(
        photo=photo,
        picture=photo.copy(),
        mask=np.zeros((h, w), np.float32),
        object=np.ones((h, w), np.float32) if inside is None else inside,
        whole=inside is None,
        light=soften(grey, max(h, w) / 24),
        grey=bool(np.percentile(spread, 98) <= COLORLESS),
        blur=_unsharpness(grey),
        unit=float(np.sqrt(area)),
        sun=(float(np.cos(sun)), float(np.sin(sun))),
        other=None if other is None else other.astype(np.float32),
    )


def _unsharpness(grey: Field) -> float:
    """The spread of the photo's sharpest edges, by how much a further blur takes from them (Zhuo and Sim, 2011)."""
    if min(grey.shape) < 8:
        return 0.4
    top, left = (max(0, (side - MIDDLE) // 2) for side in grey.shape)
    grey = grey[top : top + MIDDLE, left : left + MIDDLE]
    again = cv2.GaussianBlur(grey, (0, 0), 1.0)
    before, after = (
        np.hypot(cv2.Scharr(image, cv2.CV_32F, 1, 0), cv2.Scharr(image, cv2.CV_32F, 0, 1)) for image in (grey, again)
    )
    least = np.partition(before.ravel(), -max(1, before.size // 50))[-max(1, before.size // 50)]
    edges = before >= max(float(least), 32.0)
    if not edges.any():
        return 0.5
    ratio = float(np.median(before[edges] / np.maximum(after[edges], 1e-3)))
    return float(np.clip(1 / np.sqrt(max(ratio * ratio - 1, 0.1)), 0.3, 1.6))
