"""Wing 3: detectors, by name."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kka.errors import UserError, unknown
from kka.protocols import Detector, Images
from kka.settings import parsed

if TYPE_CHECKING:
    from kka.detectors.backbones import BackboneOptions

_CLASSES = {
    "sad": ("kka.detectors.sad", "SAD"),
    "ssd": ("kka.detectors.contrastive.ssd", "SSD"),
    "cmda": ("kka.detectors.contrastive.cmda", "CMDA"),
    "simplenet": ("kka.detectors.simplenet.detector", "SimpleNet"),
    "recontrast": ("kka.detectors.recontrast.detector", "ReContrast"),
}
"""Name -> the module, imported when first used, and the class in it."""


def _class(name: str) -> Any:
    module, kind = _CLASSES[name]
    return getattr(import_module(module), kind)


def _lazy(name: str) -> Callable[..., Detector]:
    def build(**options: Any) -> Detector:
        built: Detector = _class(name)(**options)
        return built

    return build


DETECTORS: dict[str, Callable[..., Detector]] = {name: _lazy(name) for name in _CLASSES}


def build_detector(name: str, **options: Any) -> Detector:
    """The detector called `name`, untrained; `options` go to its constructor.

    Raises:
        UserError: unknown name.
    """
    if name not in DETECTORS:
        raise unknown("detector", name, DETECTORS)
    return DETECTORS[name](**options)


def configure_detector(
    name: str,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    backbone: "BackboneOptions | None" = None,
    base: Any = None,
    **options: Any,
) -> Detector:
    """The detector called `name` as the command line describes it.

    Args:
        preset: One of the detector's `PRESETS`; None: `base`, or the detector's default.
        overrides: "setting=value", each a field of the detector's settings.
        backbone: For the detectors that have one.
        base: Settings in the place of a preset.

    Raises:
        UserError: an unknown detector, preset or setting; a value that does not fit; a backbone for a detector
            without one.
    """
    if name not in _CLASSES:  # one of the caller's own, in DETECTORS: it has its own options alone
        if preset or overrides or backbone:
            raise UserError(f"detector {name}: it has no presets, settings or backbone of kka's; leave them out")
        return build_detector(name, **options)
    kind = _class(name)
    if preset is not None and preset not in kind.PRESETS:
        raise unknown(f"preset of {name}", preset, kind.PRESETS)
    settings = kind.PRESETS[preset] if preset is not None else base if base is not None else kind.SETTINGS()
    if overrides:
        settings = dataclasses.replace(settings, **parsed(type(settings), overrides, of=name))
    if "backbone" in inspect.signature(kind).parameters:
        options["backbone"] = backbone
    elif backbone is not None:
        raise UserError(f"backbone: {name} has none of its own choice; leave --backbone out")
    return build_detector(name, settings=settings, **options)


def fit_detector(
    detector: Detector,
    normals: Images,
    anomalies: Images | None = None,
    *,
    captions: Sequence[str] | None = None,
    hard: np.ndarray | None = None,
) -> Detector:
    """`detector.fit`, with what else is known where the detector says (in `takes`) that it wants it.

    Args:
        captions: Of the normals.
        hard: (m,) bool, for each anomaly (Eq. 6).
    """
    known = {"captions": captions, "hard": hard}
    wanted = {name: known[name] for name in getattr(detector, "takes", ())}
    return detector.fit(normals, anomalies, **wanted)


def load_detector(path: Path) -> Detector:
    """A detector that its `save` wrote into the folder `path`.

    Raises:
        UserError: no detector there, a damaged one, or one of an unknown kind.
    """
    from safetensors import SafetensorError

    from kka.detectors.saving import read_card

    name = read_card(path).get("detector")
    if name not in _CLASSES:
        raise unknown("detector", str(name), _CLASSES)
    try:
        loaded: Detector = _class(name).load(path)
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise UserError(
            f"detector: the files in {path} are damaged, missing or of another version of kka "
            f"({type(error).__name__}: {error}); copy or train the detector anew"
        ) from error
    return loaded
