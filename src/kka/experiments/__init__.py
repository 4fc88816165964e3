"""The paper's experiments: one file each, found by name."""

from importlib import import_module
from typing import Any

from kka.errors import unknown

EXPERIMENTS = {
    "table2": "Table II: five detectors, alone, with noise, with KKA",
    "table3": "Table III: SAD + KKA (rep), round by round",
    "table4": "Table IV: CIFAR-100, one class against 99",
}
"""Name -> what it shows. Each is the module of that name, with `cells(plan)` and `table(rows, dataset)`."""


def experiment(name: str) -> Any:
    """The module of an experiment.

    Raises:
        UserError: unknown name.
    """
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    return import_module(f"kka.experiments.{name}")
