"""The pool of a run for other tools: Hugging Face's ImageFolder and datasets, anomalib's Folder, COCO."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from kka.common.progress import Progress
from kka.exchange.source import Exported

FORMATS: dict[str, str] = {
    "imagefolder": "kka.exchange.imagefolder:write",
    "anomalib": "kka.exchange.anomalib:write",
    "huggingface": "kka.exchange.huggingface:write",
    "coco": "kka.exchange.coco:write",
}
"""Name -> where its writer is, called with what is exported, an empty folder and a progress; it gives the facts that
are told of it. To add one, write a module with a `write`, and a line here."""
Writer = Callable[[Exported, Path, Progress], dict[str, Any]]


def writer(name: str) -> Writer:
    """The writer of a format."""
    module, _, function = FORMATS[name].partition(":")
    found: Writer = getattr(import_module(module), function)
    return found
