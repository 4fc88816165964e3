"""Which part of a photo is the object: what differs in colour from the photo's border.

A cheap estimate: how far each pixel is in colour from the nearest piece of the border, and Otsu's threshold (1979) on
that. Where the two sides do not come well apart, as with a surface that fills the photo, everything is the object.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

SIDE = 64
"""The estimate is made at this size at most, in pixels."""
BAND = 0.06
"""Width of the border, of the shorter side."""
PIECES = 3
"""Of the border, along each side."""
GRAIN, FAR = 4.0, 12.0
"""Levels of spread that even an even border is taken to have, and the greatest distance told apart."""
AREA = (0.08, 0.88)
"""Share of the photo that an object has."""
APART = 2.2
"""The object is farther from the border's colours than the background is, at least so many times."""
OUTSIDE = 0.75
"""Share of the border that is background, at least."""


def foreground(photo: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"] | None:
    """How much each pixel belongs to the object, 0..1; None where there is no background to be told from it."""
    h, w = photo.shape[:2]
    if min(h, w) < 12:
        return None
    scale = min(1.0, SIDE / max(h, w))
    size = (max(12, round(w * scale)), max(12, round(h * scale)))
    small = cv2.GaussianBlur(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    band = max(1, round(BAND * min(size)))
    far = _distance(lab, [cv2.meanStdDev(piece) for piece in _pieces(lab, band)])
    _, inside = cv2.threshold((far * 20).astype(np.uint8), 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    whole = _solid(inside)
    border = np.ones(far.shape, bool)
    border[band:-band, band:-band] = False
    area = float(whole.mean())
    if not AREA[0] <= area <= AREA[1] or float(1 - whole[border].mean()) < OUTSIDE:
        return None
    if far[whole].mean() < APART * max(0.8, float(far[~whole].mean())):
        return None
    large = cv2.resize(cv2.GaussianBlur(whole.astype(np.float32), (0, 0), 0.8), (w, h), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip((large - 0.5) * max(1.5, 1.5 / scale) + 0.5, 0, 1), dtype=np.float32)


def _distance(lab: np.ndarray, pieces: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(h, w): how far each colour is from that of the nearest piece (mean, spread), in spreads, up to `FAR`."""
    means = np.stack([mean[:, 0] for mean, _ in pieces]).astype(np.float32)
    weights = (1 / np.square(np.stack([spread[:, 0] for _, spread in pieces]) + GRAIN)).astype(np.float32)
    flat = lab.reshape(-1, 3)
    terms = np.concatenate([flat * flat, flat, np.ones((len(flat), 1), np.float32)], axis=1)  # of the square of a sum
    factors = np.concatenate([weights, -2 * means * weights, (means * means * weights).sum(1, keepdims=True)], axis=1)
    nearest = (terms @ factors.T).min(axis=1).reshape(lab.shape[:2])
    return np.asarray(np.sqrt(np.clip(nearest, 0, FAR * FAR)))


def _pieces(lab: np.ndarray, band: int) -> list[np.ndarray]:
    """The border in pieces, (rows, columns, 3) each."""
    along = [np.array_split(side, PIECES, axis=1) for side in (lab[:band], lab[-band:])]
    down = [np.array_split(side, PIECES, axis=0) for side in (lab[:, :band], lab[:, -band:])]
    return [np.ascontiguousarray(piece) for pieces in (*along, *down) for piece in pieces]


def _solid(inside: np.ndarray) -> np.ndarray:
    """The large pieces of a mask, their holes filled."""
    smooth = cv2.medianBlur(inside, 3)
    outlines, _ = cv2.findContours(smooth, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [outline for outline in outlines if cv2.contourArea(outline) >= 0.01 * inside.size]
    return cv2.drawContours(np.zeros_like(inside), large, -1, (1,), cv2.FILLED).astype(bool)
