"""`kka train --detector auto`: which detector, from what the data is and what is known of anomalies."""

import dataclasses
from pathlib import Path

from kka.config import AUTO, DetectorOptions
from kka.data import is_photos


def choose_detector(
    name: str, data: str, options: DetectorOptions, *, anomalies: bool = False, masked: bool = False
) -> tuple[str, DetectorOptions]:
    """`name` and `options`, or what they mean where the name is auto.

    Photos: DFM; but where there are `anomalies` as whole pictures, which are not `masked`, SimpleNet, which learns
    more from them. All else: sad. A preset that was asked for stays. Measured: docs/detectors.md.
    """
    if name != AUTO:
        return name, options
    if data == "garden" or not is_photos(Path(data)):
        return "sad", options
    chosen = "simplenet" if anomalies and not masked else "dfm"
    return chosen, options if options.preset is not None else dataclasses.replace(options, preset="cpu")
