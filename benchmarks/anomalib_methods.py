"""anomalib's methods as `detector_row.py` runs them: its Lightning modules, trained by its Engine, with defaults.

What differs from a user's first script: the backbone (the very network that kka's detectors get), the input size and
its normalisation, images in memory instead of files, and nothing that costs time without changing a score: no
checkpoints, logs, progress bars (`barebones`), metrics, pictures, or normalised scores.
"""

import logging
import tempfile
import warnings
from typing import Any
from unittest import mock

import numpy as np
import torch
from detector_row import BATCH, Fit, Score
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import Compose, Normalize, Resize

from kka.detectors.backbones import load_backbone
from kka.settings.backbone import BackboneSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import anomalib
    from anomalib.data import ImageBatch, ImageItem
    from anomalib.engine import Engine
    from anomalib.models import Patchcore, ReverseDistillation, Supersimplenet
    from anomalib.pre_processing import PreProcessor

KINDS = {"supersimplenet": Supersimplenet, "patchcore": Patchcore, "reverse_distillation": ReverseDistillation}
TRAIN_BATCH = 32
"""anomalib's default."""


class InMemory(Dataset):
    """Normal images as anomalib's own data sets yield them."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> ImageItem:
        return ImageItem(image=pixels(self.images[i : i + 1])[0], gt_label=torch.tensor(False))


def pixels(images: np.ndarray) -> torch.Tensor:
    """(n, h, w, 3) of uint8 -> (n, 3, h, w) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def deviation(model: Any, normals: np.ndarray) -> float:
    """Of the normals' features, the mean over channels: the noise of kka's preset, 1 after standardising."""
    extract = model.model.feature_extractor
    parts = [extract(model.pre_processor(pixels(normals[i : i + BATCH]))) for i in range(0, len(normals), BATCH)]
    return float(torch.cat(parts).std(dim=(0, 2, 3)).mean())


def method(name: str, row: dict[str, Any], backbone: BackboneSettings, epochs: int) -> tuple[Fit, dict[str, Any]]:
    """The fit of anomalib's method of that name, and what is to be known of its settings."""
    warnings.filterwarnings("ignore")
    for logger in ("lightning", "lightning.pytorch", "anomalib"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    strides, side = row["strides"], (row["size"], row["size"])

    def build() -> Any:
        network = load_backbone(backbone, strides=strides, seed=row["seed"])
        transform = Compose([Resize(side, antialias=True), Normalize(mean=network.mean, std=network.std)])
        # anomalib makes its backbone with timm by name and cannot be told of a file or a padding: it gets this one.
        with mock.patch("timm.create_model", return_value=network.network):
            torch.manual_seed(row["seed"])
            return KINDS[name](
                backbone=backbone.name, layers=list(range(len(strides))),
                pre_processor=PreProcessor(transform=transform), post_processor=False, evaluator=False,
                visualizer=False,
            )  # fmt: skip

    def fit(normals: np.ndarray, anomalies: np.ndarray | None, count: int | None) -> Score:
        model = build()
        if row["noise"] == "features":
            model.model.anomaly_generator.noise_std = deviation(model, normals)
        data = DataLoader(
            InMemory(normals), batch_size=TRAIN_BATCH, shuffle=True, num_workers=0, collate_fn=ImageBatch.collate
        )
        engine = Engine(
            max_epochs=count or epochs, accelerator="cpu", barebones=True,
            default_root_dir=tempfile.mkdtemp(dir=row["scratch"]),
        )  # fmt: skip
        engine.fit(model, train_dataloaders=data)
        model.eval()

        @torch.no_grad()
        def score(images: np.ndarray) -> np.ndarray:
            parts = [model(pixels(images[i : i + BATCH])).pred_score for i in range(0, len(images), BATCH)]
            return torch.cat([part.flatten() for part in parts]).numpy()

        return score

    settings = {"anomalib": anomalib.__version__, "batch_size": TRAIN_BATCH, "strides": strides, "epochs": epochs}
    settings |= {"noise": row["noise"]} if row["noise"] else {}
    return fit, settings
