"""The detector that a run or `kka train` asks for, untrained, and the size of the pictures that it wants."""

from pathlib import Path
from typing import Any

from kka.config import DetectorOptions
from kka.data import is_photos
from kka.detectors import configure_detector
from kka.errors import UserError
from kka.protocols import Detector

MIN_SIZE, MAX_SIZE = 64, 256
"""Photos are worked with at no fewer and, unasked, no more pixels a side."""


def build_detector(name: str, options: DetectorOptions, *, base: Any = None, **rest: Any) -> Detector:
    """The detector `name` as `options` describe it; `rest` goes to its constructor.

    Args:
        base: Settings in the place of the default preset.

    Raises:
        UserError: an unknown detector, preset or setting, a value that does not fit, a backbone where there is none.
    """
    backbone = None
    if options.names_backbone:
        from kka.detectors.backbones import BackboneOptions

        named = {} if options.backbone is None else {"name": options.backbone}
        backbone = BackboneOptions(
            weights=options.backbone_weights, padding=options.backbone_padding, mean=options.backbone_mean,
            std=options.backbone_std, **named,
        )  # fmt: skip
    try:
        return configure_detector(
            name, preset=options.preset, overrides=options.set, backbone=backbone, base=base, **rest
        )
    except UserError:
        raise
    except ValueError as error:  # of a settings class
        raise UserError(f"settings of {name}: {error}") from error


def try_detector(detector: Detector) -> None:
    """Load its backbone, if it has one, and let it go: what is wrong with the weights shows before hours of work.

    Raises:
        UserError: weights that cannot be had or do not fit.
    """
    backbone = getattr(detector, "backbone", None)
    if backbone is None:
        return
    from kka.detectors.backbones import load_backbone

    settings: Any = getattr(detector, "settings", None)
    load_backbone(backbone, strides=getattr(settings, "strides", (4, 8, 16)))


def working_size(data: str, size: int | None, detector: Detector) -> int | None:
    """Side in pixels at which `kka.data.open_task` keeps the pictures; None: their own.

    Photos come down to what the detector makes use of, so that a backbone gets more than a thumbnail.
    """
    if size is not None or data == "garden" or not is_photos(Path(data)):
        return size
    return min(max(MIN_SIZE, int(getattr(detector, "input_size", MIN_SIZE))), MAX_SIZE)
