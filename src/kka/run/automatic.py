"""`--detector auto`: which detector, from what the data is and what is known of anomalies."""

import dataclasses
from pathlib import Path

from kka.config import AUTO, DetectorOptions, RunConfig
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


MASKED = (AUTO, "paint", "inpaint", "img2img", "edit")
"""Image models that alter photos, and say where."""
HINT = (
    "sad, a small network that is trained from nothing, finds little on photos of parts; --detector auto takes one "
    "with a pretrained backbone"
)


def settled(config: RunConfig) -> RunConfig:
    """The configuration of a run with the detector that auto means: its anomalies are masked where photos are altered,
    and those of an own image model's class are taken to be whole pictures."""
    masked = config.images.partition(":")[0] in MASKED
    name, options = choose_detector(
        config.detector, config.data, config.detector_options, anomalies=True, masked=masked
    )
    return dataclasses.replace(config, detector=name, detector_options=options)


def hint(config: RunConfig) -> str | None:
    """What to tell of the detector; None where there is nothing."""
    return HINT if config.detector == "sad" and config.data != "garden" and is_photos(Path(config.data)) else None
