"""Detectors, by name. Each scores through the graph that it exports; see `kka.protocols.Detector`.

To add one of kka's: write a class with `fit`, `score`, `save` and `load`, and a line in `DETECTORS`. A person's own has
no line there: its name is its path, as in `build_detector("package.module:Class")` (`kka.common.own`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from kka.common.members import build_member
from kka.common.own import HOW, Family, built, from_texts, is_class_path, is_own, own_class
from kka.errors import UserError, unknown
from kka.protocols import Detector, HasSettings, Images, Masks, TakesMore
from kka.settings import parsed
from kka.settings.backbone import BackboneSettings

DETECTORS: dict[str, str | Callable[..., Detector]] = {
    "sad": "kka.detectors.sad:SAD",
    "ssd": "kka.detectors.contrastive.ssd:SSD",
    "cmda": "kka.detectors.contrastive.cmda:CMDA",
    "simplenet": "kka.detectors.simplenet.detector:SimpleNet",
    "patchcore": "kka.detectors.patchcore.detector:PatchCore",
    "dfm": "kka.detectors.dfm.detector:DFM",
    "recontrast": "kka.detectors.recontrast.detector:ReContrast",
}
"""Name -> the class, or where it is (module:class): it is imported when it is first used."""
FAMILIES: dict[str, str] = {"anomalib": "kka.detectors.anomalib.detector:Anomalib"}
"""Name before a colon -> the class, whose constructor gets what stands after it as `model`."""
OWN = Family(
    what="detector", members=[*DETECTORS, "anomalib:<model>"], needs=("fit", "score", "save", "load"),
    example="examples/own_detector.py",
)  # fmt: skip
"""What a class named by its path must have."""
OFFERED = ("seed", "progress")
"""Options that an own detector gets where its constructor takes them."""


def is_own_detector(name: str) -> bool:
    """Whether `name` is the path of a person's own class."""
    return name not in DETECTORS and is_class_path(name, FAMILIES)


def is_of_family(name: str) -> bool:
    """Whether `name` is a model of one of `FAMILIES`: "anomalib:padim"."""
    return name.partition(":")[0] in FAMILIES


def learns_from_anomalies(name: str) -> bool:
    """Whether a detector of this name, with its default settings, learns from anomalies; nothing is built.

    Raises:
        UserError: no such model of a family.
    """
    if not is_of_family(name):
        return True
    from kka.detectors.anomalib.models import model_named

    return model_named(name.partition(":")[2]).anomalies


def detector_class(name: str, *, named: bool = True) -> Any:
    """The class of the detector called `name`, or at the path `name`.

    Args:
        named: A person names it; else a file does, which may come from anywhere: see `kka.common.own`.

    Raises:
        UserError: unknown name; a class that cannot be had, or lacks methods.
    """
    if is_own_detector(name):
        return own_class(name, OWN, named=named)
    if name not in DETECTORS and not is_of_family(name):
        raise unknown("detector", name, OWN.members, also=HOW)
    found = DETECTORS[name] if name in DETECTORS else FAMILIES[name.partition(":")[0]]
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
        name: One of `DETECTORS`, a model of one of `FAMILIES` (anomalib:padim), or the path of a person's own class.
        preset: One of the detector's `PRESETS`; None: `settings`, or the detector's default.
        overrides: "setting=value", each a field of the detector's settings; of a person's own class without such
            settings, an argument of its constructor.
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
    elif preset or settings is not None or (overrides and not isinstance(kind, type)):
        raise UserError(f"detector {name}: it has no presets or settings of kka's; leave them out")
    else:
        options |= from_texts(kind, overrides, of=name)
    if "backbone" in signature(kind).parameters:
        options["backbone"] = backbone
    elif backbone not in (None, BackboneSettings()):
        raise UserError(f"backbone: {name} has none of its own choice; leave --backbone out")
    if is_of_family(name):
        options["model"] = name.partition(":")[2]
    detector: Detector
    if isinstance(kind, type) and not is_own(kind):
        detector = build_member(kind, f"detector {name}", options)
    else:
        offered = {key: options.pop(key) for key in OFFERED if key in options}
        detector = built(kind, name, what="detector", given=options, offered=offered)
    return detector


def fit_detector(
    detector: Detector,
    normals: Images,
    anomalies: Images | None = None,
    *,
    captions: Sequence[str] | None = None,
    hard: np.ndarray | None = None,
    masks: Masks | None = None,
) -> Detector:
    """`detector.fit`, with what else is known where the detector says (in `takes`) that it wants it.

    Args:
        captions: Of the normals.
        hard: (m,) bool, for each anomaly (Eq. 6).
        masks: (m, h, w), of the anomalies.
    """
    known = {"captions": captions, "hard": hard, "masks": masks}
    takes = detector.takes if isinstance(detector, TakesMore) else ()
    for name in takes:
        if name not in known:
            raise unknown(f"name in takes of {type(detector).__name__}", name, known)
    wanted = {name: known[name] for name in takes}
    fitted = detector.fit(normals, anomalies, **wanted)
    if is_own(type(detector)):
        _require_contract(fitted, normals[:2])
    return fitted


def _require_contract(fitted: Any, images: Images) -> None:
    """Raises UserError where an own detector does not keep it: at once, and not where its scores are used."""
    if not isinstance(fitted, Detector):
        raise UserError(f"detector: expected fit to return the detector itself; got {type(fitted).__name__}")
    scores = np.asarray(fitted.score(images))
    if scores.shape != (len(images),) or scores.dtype.kind not in "fiu":
        raise UserError(
            f"detector {type(fitted).__qualname__}: expected score to give {len(images)} numbers for {len(images)} "
            f"images, an array of shape ({len(images)},); got {scores.dtype} of shape {scores.shape}"
        )


def load_detector(path: Path) -> Detector:
    """A detector that its `save` wrote into the folder `path`.

    Raises:
        UserError: no detector there, a damaged one, one with weights that are no numbers, or of an unknown kind; a
            person's own class that is not to be had, or that nobody has named on this machine (`kka.common.own`).
    """
    from safetensors import SafetensorError

    from kka.detectors.saving import read_card

    kind = detector_class(str(read_card(path).get("detector")), named=False)
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
