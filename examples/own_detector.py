"""A detector of one's own needs `fit`, `score` and `save`. This one compares mean colours."""

import json
from pathlib import Path
from typing import Self

import numpy as np

import kka
from kka.detectors import DETECTORS


class MeanColour:
    """Distance of an image's mean colour to the normals', less its likeness to the anomalies'."""

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, normals: np.ndarray, anomalies: np.ndarray | None = None) -> Self:
        """Remember mean colours; there is nothing random in it."""
        self.normal_ = normals.mean(axis=(0, 1, 2))
        self.anomalies_ = None if anomalies is None else anomalies.mean(axis=(0, 1, 2))
        return self

    def score(self, images: np.ndarray) -> np.ndarray:
        """(n,): higher = more anomalous."""
        colours = images.mean(axis=(1, 2))
        far = np.linalg.norm(colours - self.normal_, axis=1)
        return far if self.anomalies_ is None else far - np.linalg.norm(colours - self.anomalies_, axis=1)

    def save(self, path: Path) -> None:
        """Everything that `score` needs."""
        path.mkdir(parents=True, exist_ok=True)
        anomalies = None if self.anomalies_ is None else self.anomalies_.tolist()
        (path / "detector.json").write_text(json.dumps({"normal": self.normal_.tolist(), "anomalies": anomalies}))


DETECTORS["mean-colour"] = MeanColour  # from here on `RunConfig(detector="mean-colour")` knows it

if __name__ == "__main__":
    task = kka.open_task("garden")
    detector = kka.build_detector("mean-colour").fit(task.normals, task.knowledge.images)
    print(kka.evaluate(detector.score(task.test.images), task.test.is_anomaly))
