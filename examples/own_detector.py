"""A detector of one's own needs `fit`, `score`, `save` and `load`. This one compares mean colours.

From the folder that this file lies in:

    kka run --data ./photos --describe "a photo of a flower" --detector own_detector:MeanColour --out runs/x
    kka train --data ./photos --detector own_detector:MeanColour --set likeness=0.5 --anomalies runs/x --out mine
    kka score --detector-dir mine ./photos
    kka export --detector-dir mine

What more a detector may do, each as `kka.protocols` has it: `graph` (export), `score_map` (heat maps), `takes`
(captions, which anomalies are hard), `embed` (the report's map), `input_size`, `losses_`, `check_weights`, `pretrain`.
"""

import json
from pathlib import Path
from typing import Any, Self

import numpy as np

import kka


class MeanColour:
    """Distance of an image's mean colour to the normals', less its likeness to the anomalies'."""

    def __init__(self, *, seed: int = 0, likeness: float = 1.0) -> None:
        """`seed` and `progress` come from kka, where they are taken; `--set likeness=0.5` gives the rest."""
        self.seed, self.likeness = seed, likeness

    def fit(self, normals: np.ndarray, anomalies: np.ndarray | None = None) -> Self:
        """Of images (n, h, w, 3), uint8, RGB, remember mean colours. Any size must do, and None for the anomalies.
        What is random the seed decides."""
        self.normal_ = normals.mean(axis=(0, 1, 2))
        self.anomaly_ = None if anomalies is None or not len(anomalies) else anomalies.mean(axis=(0, 1, 2))
        return self

    def score(self, images: np.ndarray) -> np.ndarray:
        """(n,): higher = more anomalous. An image's score depends on no other image."""
        colours = images.mean(axis=(1, 2))
        far = np.linalg.norm(colours - self.normal_, axis=1)
        if self.anomaly_ is not None:
            far -= self.likeness * np.linalg.norm(colours - self.anomaly_, axis=1)
        return far

    def save(self, path: Path) -> None:
        """Everything that `score` needs, into files of any names. kka adds detector.json: class, size, threshold."""
        path.mkdir(parents=True, exist_ok=True)
        anomaly = None if self.anomaly_ is None else self.anomaly_.tolist()
        kept = {"likeness": self.likeness, "normal": self.normal_.tolist(), "anomaly": anomaly}
        (path / "colours.json").write_text(json.dumps(kept))

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote."""
        kept = json.loads((path / "colours.json").read_text())
        detector = cls(likeness=kept["likeness"])
        detector.normal_ = np.array(kept["normal"])
        detector.anomaly_ = None if kept["anomaly"] is None else np.array(kept["anomaly"])
        return detector

    def graph(self) -> Any:
        """For `kka export` alone: a torch module from pixels (n, h, w, 3), uint8, to scores (n,)."""
        import torch

        normal, anomaly = self.normal_, self.anomaly_
        likeness = self.likeness

        class Graph(torch.nn.Module):
            def forward(self, pixels: torch.Tensor) -> torch.Tensor:
                colours = pixels.float().mean(dim=(1, 2))
                far = (colours - torch.tensor(normal, dtype=torch.float32)).square().sum(dim=1).sqrt()
                if anomaly is None:
                    return far
                near = (colours - torch.tensor(anomaly, dtype=torch.float32)).square().sum(dim=1).sqrt()
                return far - likeness * near

        return Graph()


if __name__ == "__main__":
    task = kka.open_task("garden")
    detector = MeanColour().fit(task.normals, task.knowledge.images)
    print(kka.evaluate(detector.score(task.test.images), task.test.is_anomaly))
