"""Key Knowledge Augmentation: anomalies that a language model imagines, for sharper visual anomaly detectors."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC: dict[str, str] = {}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:  # keeps `import kka` fast: a part is imported when first used
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'kka' has no attribute {name!r}")
