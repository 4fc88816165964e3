"""Key Knowledge Augmentation: anomalies that a language model imagines, for sharper visual anomaly detectors."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AnomalyPool": "kka.algorithm.pool",
    "DeepSADSettings": "kka.settings.deep_sad",
    "RunConfig": "kka.config",
    "SAD": "kka.detectors.sad",
    "Store": "kka.common.store",
    "Task": "kka.task",
    "UserError": "kka.errors",
    "build_detector": "kka.detectors",
    "build_image_model": "kka.imaging",
    "build_language_model": "kka.language",
    "evaluate": "kka.common.metrics",
    "load_detector": "kka.detectors",
    "open_task": "kka.data",
    "rounds": "kka.algorithm.loop",
}
"""Public name -> the module that holds it. (`kka.run.execute` is the module of whole runs: `kka.run.execute.run`.)"""

__all__ = [
    "SAD",
    "AnomalyPool",
    "DeepSADSettings",
    "RunConfig",
    "Store",
    "Task",
    "UserError",
    "__version__",
    "build_detector",
    "build_image_model",
    "build_language_model",
    "evaluate",
    "load_detector",
    "open_task",
    "rounds",
]


def __getattr__(name: str) -> Any:  # keeps `import kka` fast: a part is imported when first used
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'kka' has no attribute {name!r}")
