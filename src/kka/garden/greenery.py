"""Stems and leaves, drawn behind the blooms."""

import numpy as np

from kka.garden.backdrop import SIZE, stem
from kka.garden.bloom import apart
from kka.garden.geometry import MAX_PETALS, Blooms, Field, plane
from kka.garden.palette import LEAF_RGB, LEAF_SHAPE, jittered, shape_numbers
from kka.garden.vocabulary import Flower

DRAWS = 8 + 3 * MAX_PETALS + 3 + 3
"""Random numbers that the greenery of one image needs."""
_WIDEST = 0.44
"""Leaves do not overlap: the half width of one, as a share of the angle to the next."""


def greenery(canvas: Field, flowers: list[Flower], places: Field, light: Field, u: Field) -> None:
    """Stems and leaves on the canvas (3, b, 64, 64), in place, from uniform numbers `u` (b, DRAWS).

    `places` is (b, slots, 3): x, y and radius of each bloom; `light` is (b, 3).
    """
    pose, hue, foot = u[:, :8], u[:, 8:11], u[:, 11:14]
    greens = jittered(np.array([LEAF_RGB[f.leaves] for f in flowers], np.float32), hue, 0.05)
    foot_x = np.float32(18) + np.float32(28) * foot[:, 0]
    bend = np.float32(-14) + np.float32(28) * foot[:, 1]
    width = np.float32(0.9) + np.float32(0.6) * foot[:, 2]
    stems = np.array([1 if f.arrangement == "spike" else 3 for f in flowers])
    for slot in range(3):
        rows = np.flatnonzero((places[:, slot, 2] > 0) & (slot < stems))
        if len(rows):
            part = canvas[:, rows]
            x, y, green = places[rows, slot, 0], places[rows, slot, 1], greens[rows] * np.float32(0.92)
            stem(part, x, y, foot_x[rows], bend[rows], width[rows], green)
            canvas[:, rows] = part
    rows = np.flatnonzero([f.leaves != "none" for f in flowers])
    if len(rows):
        each = u[rows, 14:].reshape(-1, 3, MAX_PETALS) * np.float32(2) - 1
        leaves = _leaves([flowers[i] for i in rows], places[rows, 0, :2], light[rows], greens[rows], pose[rows], each)
        rgb, cover = apart(leaves, *plane(leaves, SIZE))
        part = canvas[:, rows]
        canvas[:, rows] = part + cover * (rgb - part)


def _leaves(flowers: list[Flower], bloom: Field, light: Field, greens: Field, pose: Field, each: Field) -> Blooms:
    """A rosette of leaves, some missing, as petals around a middle below the bloom."""
    number = np.array([7.0 if f.leaves == "narrow" else 5.0 for f in flowers], np.float32)
    crowd = np.array([f.arrangement != "single" for f in flowers])
    shape = shape_numbers([LEAF_SHAPE[f.leaves] for f in flowers], number)
    none = np.zeros(len(flowers), np.float32)
    veins, gloss = none + np.float32(0.45), np.array([0.6 if f.leaves == "dark" else 0 for f in flowers], np.float32)
    middle = bloom * np.float32(0.5) + np.float32(16)
    return Blooms(
        petals=number,
        profile=shape["profile"],
        width=np.minimum(shape["width"], np.float32(_WIDEST)),
        notch=none,
        fringe=np.array([0.10 if f.leaves == "serrated" else 0 for f in flowers], np.float32),
        radius=np.float32(27) + np.float32(9) * pose[:, 0],
        turn=pose[:, 1] * np.float32(2 * np.pi),
        tilt=np.stack([np.float32(0.35) * pose[:, 2], none + np.float32(np.pi / 2)], axis=1),
        mirror=none + 1,
        x=middle[:, 0] + np.float32(4) * pose[:, 3] - 2,
        y=middle[:, 1] + np.where(crowd, np.float32(12), np.float32(4)),
        lengths=np.where(each[:, 0] > 0.35, np.float32(0.05), np.float32(0.95) + np.float32(0.16) * each[:, 1]),
        bends=each[:, 2] * np.float32(0.05),
        shades=np.float32(0.9) + np.float32(0.16) * each[:, 1],
        color=greens,
        second=greens,
        pattern=np.zeros((len(flowers), 3), np.float32),
        texture=np.stack([none, none, none, veins, none, gloss], axis=1),
        light=light,
        phase=pose[:, 6],
        center_color=greens,
        center_radius=none,
        center_kind=none,
    )
