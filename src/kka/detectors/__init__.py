"""Wing 3: detectors, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kka.errors import UserError, unknown
from kka.protocols import Detector


def _sad(**options: Any) -> Detector:
    from kka.detectors.sad import SAD

    return SAD(**options)


def _load_sad(path: Path) -> Detector:
    from kka.detectors.sad import SAD

    return SAD.load(path)


DETECTORS: dict[str, Callable[..., Detector]] = {"sad": _sad}
_LOADERS: dict[str, Callable[[Path], Detector]] = {"sad": _load_sad}


def build_detector(name: str, **options: Any) -> Detector:
    """The detector called `name`, untrained; `options` go to its constructor.

    Raises:
        UserError: unknown name.
    """
    if name not in DETECTORS:
        raise unknown("detector", name, DETECTORS)
    return DETECTORS[name](**options)


def load_detector(path: Path) -> Detector:
    """A detector that its `save` wrote into the folder `path`.

    Raises:
        UserError: no detector there, or one of an unknown kind.
    """
    import json

    card = path / "detector.json"
    if not card.is_file():
        raise UserError(f"detector: expected {card}, as a detector's save writes it; found none")
    name = json.loads(card.read_text())["detector"]
    if name not in _LOADERS:
        raise unknown("detector", name, _LOADERS)
    return _LOADERS[name](path)
