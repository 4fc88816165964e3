"""The center of a bloom: six kinds, each drawn in the plane of the flower over its petals."""

import numpy as np

from kka.garden.geometry import CENTER_KINDS, Blooms, Field, column, smooth_step

Paint = tuple[Field, Field]
"""Brightness and coverage, each (m, tile, tile)."""


def paint_center(b: Blooms, r: Field, angle: Field, rgb: Field, cover: Field) -> None:
    """Draw the centers of `b` onto `rgb` (3, m, tile, tile) and `cover` (m, tile, tile), in place."""
    for index, kind in enumerate(CENTER_KINDS):
        rows = np.flatnonzero(b.center_kind == index)
        if not len(rows):
            continue
        few, q, a = b.pick(rows), r[rows] / column(b.center_radius[rows]), angle[rows]
        ring = 1 - np.float32(0.35) * (1 - smooth_step(0.9, 1.7, q))  # the center's shadow on the petals
        value, over = _KINDS[kind](few, q, a)
        for i in range(3):
            tone = column(few.center_color[:, i])
            glow = np.clip(value - 1, 0, 1)
            shaded = tone * np.minimum(value, 1) + glow * (1 - tone)
            rgb[i, rows] = rgb[i, rows] * (ring if kind != "throat" else 1) * (1 - over) + shaded * over
        cover[rows] = np.maximum(cover[rows], over * (q < np.float32(3)))


def _outline(b: Blooms, q: Field) -> Field:
    """Coverage of the disc q < 1."""
    return np.clip((1 - q) * column(b.center_radius) + np.float32(0.5), 0, 1)


def _toward_light(b: Blooms, q: Field, a: Field) -> Field:
    return q * np.cos(a - column(b.light[:, 0])) * column(b.light[:, 1])


def _seeds(b: Blooms, q: Field, a: Field, rings: float) -> Field:
    """A pattern of florets, -1..1: spiral rows crossing."""
    turn = a * np.float32(9) + column(b.phase) * np.float32(6)
    return np.cos(q * np.float32(rings) + turn) * np.cos(q * np.float32(rings) - turn)


def _disc(b: Blooms, q: Field, a: Field) -> Paint:
    dome = np.sqrt(np.clip(1 - q * q, 0, 1))
    value = np.float32(0.70) + np.float32(0.28) * dome + np.float32(0.16) * _toward_light(b, q, a)
    return value + np.float32(0.10) * _seeds(b, q, a, 9.0), _outline(b, q)


def _cone(b: Blooms, q: Field, a: Field) -> Paint:
    q = q / np.float32(1.18)
    dome = np.sqrt(np.clip(1 - q * q, 0, 1))
    value = np.float32(0.30) + np.float32(0.62) * dome + np.float32(0.42) * _toward_light(b, q, a)
    bristles = _seeds(b, q, a, 14.0)
    return value + np.float32(0.26) * bristles, _outline(b, q + np.float32(0.05) * bristles)


def _stamens(b: Blooms, q: Field, a: Field) -> Paint:
    """A crown of anthers on thin filaments around a small core."""
    number = np.float32(11)
    steps = (a + column(b.phase) * 6) * (number * np.float32(0.5 / np.pi))
    index = np.floor(steps)
    across = (steps - index - np.float32(0.5)) * (np.float32(2 * np.pi) / number) * q
    reach = np.float32(1.12) + np.float32(0.16) * np.sin(index * np.float32(2.4) + column(b.phase) * 9)
    scale = column(b.center_radius)
    anther = np.clip((np.float32(0.24) - np.sqrt(across**2 + (q - reach) ** 2)) * scale + np.float32(0.5), 0, 1)
    thread = np.clip(np.float32(0.6) - np.abs(across) * scale, 0, 1) * (q < reach) * np.float32(0.55)
    core = np.clip((np.float32(0.42) - q) * scale + np.float32(0.5), 0, 1)
    over = np.maximum(np.maximum(anther, thread), core)
    value = (
        np.float32(0.86)
        + np.float32(0.22) * anther
        + np.float32(0.16) * _toward_light(b, q, a)
        - np.float32(0.25) * core
    )
    return value, over


def _throat(b: Blooms, q: Field, a: Field) -> Paint:
    """Color that runs out along the petals, into a dark depth."""
    rays = np.cos((a * column(b.mirror) + column(b.turn)) * column(b.petals))
    over = (1 - smooth_step(0.5, 1.75, q - np.float32(0.28) * rays)) * np.float32(0.95)
    return np.float32(0.98) - np.float32(0.75) * (1 - smooth_step(0.05, 0.62, q)), over


def _star(b: Blooms, q: Field, a: Field) -> Paint:
    points = np.float32(0.5) + np.float32(0.5) * np.cos((a * column(b.mirror) + column(b.turn)) * column(b.petals))
    edge = q / (np.float32(0.55) + np.float32(1.0) * points * points)
    value = np.float32(0.82) + np.float32(0.22) * points + np.float32(0.1) * _toward_light(b, q, a)
    return value - np.float32(0.4) * (1 - smooth_step(0.0, 0.35, q)), np.clip(
        (1 - edge) * column(b.center_radius) + np.float32(0.5), 0, 1
    )


def _ring(b: Blooms, q: Field, a: Field) -> Paint:
    """A colored ring around a pale eye."""
    eye = 1 - smooth_step(0.42, 0.62, q)
    value = np.float32(0.82) + np.float32(0.1) * _toward_light(b, q, a) + np.float32(0.9) * eye
    return value + np.float32(0.1) * np.cos(a * np.float32(16)) * (1 - eye), _outline(b, q / np.float32(1.1))


_KINDS = {"disc": _disc, "cone": _cone, "stamens": _stamens, "throat": _throat, "star": _star, "ring": _ring}
