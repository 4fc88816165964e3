"""`kka train --detector auto`: which detector, from what the data is and how many photos of the normal there are."""

import dataclasses
from pathlib import Path

from kka.config import AUTO, DetectorOptions
from kka.data import is_photos
from kka.data.layout import read_layout
from kka.data.sides import choose_sides

MANY = 3000
"""Photos from which on PatchCore sees 128 in the place of 256 pixels a side. So many take about three minutes of a core
with MobileNetV2."""


def choose_detector(
    name: str, data: str, options: DetectorOptions, *, normal: tuple[str, ...] = (), anomalies: bool = False
) -> tuple[str, DetectorOptions]:
    """`name` and `options`, or what they mean where the name is auto.

    Photos alone: PatchCore, at 256 pixels where they are fewer than `MANY`, else at 128. Photos and anomalies:
    SimpleNet, which learns from them. All else: sad. A preset that was asked for stays.

    Raises:
        UserError: a folder that does not say what is normal.
    """
    if name != AUTO:
        return name, options
    if data == "garden" or not is_photos(Path(data)):
        return "sad", options
    if anomalies:
        return "simplenet", _preset(options, "cpu")
    layout = read_layout(Path(data).expanduser(), source=data, normal=normal)
    photos = len(choose_sides(layout, normal, source=data).train)
    return "patchcore", _preset(options, "small" if photos >= MANY else "cpu")


def _preset(options: DetectorOptions, name: str) -> DetectorOptions:
    return options if options.preset is not None else dataclasses.replace(options, preset=name)
