"""The SAD detector: Eq. 5, trained on the normals and whatever anomalies there are."""

import dataclasses
import json
from pathlib import Path

from torch import Tensor

from kka.deep_sad import DeepSAD, DeepSADSettings, pretrain, train_deep_sad
from kka.protocols import Images, Scores


class SAD:
    """Deep SAD with LeNet at 32 x 32. Score: squared distance to the centre, higher = more anomalous.

    `fit` sets `model_`.
    """

    def __init__(self, *, settings: DeepSADSettings | None = None, seed: int = 0) -> None:
        self.settings = settings or DeepSADSettings()
        self.seed = seed
        self._start: dict[str, Tensor] | None = None

    def pretrained(self, start: dict[str, Tensor]) -> "SAD":
        """Start from these weights (`kka.deep_sad.pretrain`) instead of pretraining at `fit`."""
        self._start = start
        return self

    def pretrain(self, normals: Images) -> dict[str, Tensor]:
        """The start that `fit` would make from these normals; give it to several detectors of one seed."""
        return pretrain(normals, settings=self.settings, seed=self.seed)

    def fit(self, normals: Images, anomalies: Images | None = None) -> "SAD":
        """Train to the last epoch."""
        self.model_ = train_deep_sad(normals, anomalies, settings=self.settings, seed=self.seed, start=self._start)
        return self

    def score(self, images: Images) -> Scores:
        """(n,): higher = more anomalous."""
        return self.model_.score(images)

    def save(self, path: Path) -> None:
        """Weights and centre (safetensors) and `detector.json` into the folder `path`."""
        self.model_.save(path)
        card = {"detector": "sad", "seed": self.seed, "settings": dataclasses.asdict(self.settings)}
        (path / "detector.json").write_text(json.dumps(card, indent=1))

    @classmethod
    def load(cls, path: Path) -> "SAD":
        """Read what `save` wrote."""
        card = json.loads((path / "detector.json").read_text())
        settings = card["settings"] | {"milestones": tuple(card["settings"]["milestones"])}
        detector = cls(settings=DeepSADSettings(**settings), seed=card["seed"])
        detector.model_ = DeepSAD.load(path, device=detector.settings.device)
        return detector
