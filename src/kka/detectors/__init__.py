"""Detectors, by name. Each scores through the graph that it exports; see `kka.protocols.Detector`.

To add one: write a class with `fit`, `score` and `save`, and a line in `DETECTORS`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from kka.common.members import build_member
from kka.errors import UserError, unknown
from kka.protocols import Detector, HasSettings, Images, TakesMore
from kka.settings import parsed
from kka.settings.backbone import BackboneSettings

DETECTORS: dict[str, str | Callable[..., Detector]] = {
    "sad": "kka.detectors.sad:SAD",
    "ssd": "kka.detectors.contrastive.ssd:SSD",
    "cmda": "kka.detectors.contrastive.cmda:CMDA",
    "simplenet": "kka.detectors.simplenet.detector:SimpleNet",
    "patchcore": "kka.detectors.patchcore.detector:PatchCore",
    "recontrast": "kka.detectors.recontrast.detector:ReContrast",
}
"""Name -> the class, or where it is (module:class): it is imported when it is first used."""


def detector_class(name: str) -> Any:
    """The class of the detector called `name`.

    Raises:
        UserError: unknown name.
    """
    if name not in DETECTORS:
        raise unknown("detector", name, DETECTORS)
    found = DETECTORS[name]
    if not isinstance(found, str):
        return found
    module, _, kind = found.partition(":")
    return getattr(import_module(module), kind)


def build_detector(
    name: str,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    backbone: BackboneSettings | None = None,
    settings: Any = None,
    **options: Any,
) -> Detector:
    """The detector called `name`, untrained.

    Args:
        preset: One of the detector's `PRESETS`; None: `settings`, or the detector's default.
        overrides: "setting=value", each a field of the detector's settings.
        backbone: For the detectors that have one; None or the default: theirs.
        settings: In the place of a preset.
        options: Of its constructor: `seed`, `progress`, and more.

    Raises:
        UserError: an unknown detector, preset, setting or option; a value that does not fit; a backbone for a
            detector without one.
    """
    kind = detector_class(name)
    if isinstance(kind, HasSettings):
        if preset is not None and preset not in kind.PRESETS:
            raise unknown(f"preset of {name}", preset, kind.PRESETS)
        chosen = kind.PRESETS[preset] if preset is not None else kind.SETTINGS() if settings is None else settings
        if overrides:
            chosen = dataclasses.replace(chosen, **parsed(type(chosen), overrides, of=name))
        options["settings"] = chosen
    elif preset or overrides or settings is not None:
        raise UserError(f"detector {name}: it has no presets or settings of kka's; leave them out")
    if "backbone" in signature(kind).parameters:
        options["backbone"] = backbone
    elif backbone not in (None, BackboneSettings()):
        raise UserError(f"backbone: {name} has none of its own choice; leave --backbone out")
    detector: Detector = build_member(kind, f"detector {name}", options)
    return detector


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
    wanted = {name: known[name] for name in detector.takes} if isinstance(detector, TakesMore) else {}
    return detector.fit(normals, anomalies, **wanted)


def load_detector(path: Path) -> Detector:
    """A detector that its `save` wrote into the folder `path`.

    Raises:
        UserError: no detector there, a damaged one, one with weights that are no numbers, or of an unknown kind.
    """
    from safetensors import SafetensorError

    from kka.detectors.saving import read_card

    kind = detector_class(str(read_card(path).get("detector")))
    try:
        loaded: Detector = kind.load(path)
    except UserError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"detector: the files in {path} are damaged, missing or of another version of kka "
            f"({type(error).__name__}: {error}); copy or train the detector anew"
        ) from error
    return loaded
