"""Experiment trackers, by name: TensorBoard, MLflow, Weights & Biases.

A tracker is shown what a run has written into its folder; it never takes part in the run.
"""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

from kka.errors import UserError, unknown
from kka.tracking.news import Place, Tracker

TRACKERS: dict[str, tuple[str, str]] = {
    "tensorboard": ("tensorboard", "TensorBoard"),
    "mlflow": ("mlflow", "MLflow"),
    "wandb": ("wandb", "WandB"),
}
"""Name on the command line, which is that of the package and of the extra too -> module here, class in it."""
_ACCOUNT = re.compile(r"://[^/@\s]+@")


def check_trackers(specs: Sequence[str]) -> None:
    """Raises UserError for a name that is none, a package that is missing, an address with a password in it."""
    for spec in specs:
        name, _, argument = spec.partition(":")
        if name not in TRACKERS:
            raise unknown("track", name, TRACKERS)
        if ":" in spec and not argument.strip():
            raise UserError(f"track: expected something after {name}:, or {name} alone; got {spec!r}")
        if _ACCOUNT.search(argument):
            raise UserError(
                f"track: expected an address without user and password, as it is written to disk; got {name} with one. "
                "MLflow reads MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; or give the whole address as "
                "MLFLOW_TRACKING_URI, and --track mlflow."
            )
        if find_spec(name) is None:
            raise UserError(f"track: {name} needs the package {name}: pip install 'kka[{name}]'")
        ready: Callable[[], None] | None = getattr(_class(name), "check", None)
        if ready is not None:
            ready()


def open_tracker(spec: str, place: Place) -> Tracker:
    """The tracker that `spec` names: ``tensorboard[:folder]``, ``mlflow[:address]``, ``wandb[:project]``.

    Raises:
        Exception: whatever the tracker's library raises where it cannot begin.
    """
    name, _, argument = spec.partition(":")
    tracker: Tracker = _class(name)(argument or None, place)
    return tracker


def _class(name: str) -> type:
    module, kind = TRACKERS[name]
    found: type = getattr(import_module(f"{__name__}.{module}"), kind)
    return found
