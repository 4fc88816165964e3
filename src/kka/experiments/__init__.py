"""The paper's experiments and ours: one file each, with an `EXPERIMENT`, found by its name."""

from importlib import import_module
from typing import TYPE_CHECKING

from kka.errors import unknown

if TYPE_CHECKING:
    from kka.experiments.engine.experiment import Experiment

EXPERIMENTS = {
    "table2": "Table II: five detectors, alone, with noise, with KKA",
    "table3": "Table III: SAD + KKA (rep), round by round",
    "table4": "Table IV: CIFAR-100, one class against 99",
    "figure3": "Figure 3: generated anomalies by iteration",
    "figure4": "Figure 4: number of anomalies against hard anomalies, Oxford-102",
    "figure5": "Figure 5: latent space by t-SNE, SSD and SAD + KKA",
    "figure6": "Figure 6: convergence of ReContrast with and without KKA",
    "hardness": "What a hard anomaly is worth: by share, number, distance and origin",
    "leading": "How the language model is led, at equal cost",
    "ablation": "Ablation: what lets later rounds help, on tuning tasks",
}
"""Name -> what it shows."""


def experiment(name: str) -> "Experiment":
    """The experiment of that name.

    Raises:
        UserError: unknown name.
    """
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    found: Experiment = import_module(f"kka.experiments.{name}").EXPERIMENT
    return found
