"""SimpleNet on features that are computed once, beside features that are computed anew at every epoch.

    python benchmarks/feature_cache.py --data ../shared/data/oxford102 --normal 77 --backbone mobilenetv2_100 \\
        --weights ../shared/weights/mobilenetv2_100_in1k.safetensors --padding same --mean 0.5 --std 0.5

Same images, same steps, same loss. The floor of an epoch on cached features: the bytes read over the memory's
bandwidth, and the multiply-adds of adaptor and discriminator, forward and backward, over the machine's matrix rate,
both measured in the same run. Target: training at least ten times faster, the one computation of the features
included. Writes results/feature_cache.json.
"""

import argparse
import dataclasses
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import matrix_rate

from kka.common.device import choose_device
from kka.data import open_task
from kka.detectors.backbones import load_backbone
from kka.detectors.features import Features, cached_features
from kka.detectors.patches import build_extractor
from kka.detectors.simplenet.detector import SimpleNet
from kka.detectors.simplenet.settings import SimpleNetSettings
from kka.detectors.simplenet.training import train_heads
from kka.settings.backbone import BackboneSettings

OUT = Path(__file__).parent / "results" / "feature_cache.json"
RECOMPUTED = 1
"""Epochs of the slow way that are timed before the fast one, and again after it; its fit is that many times over."""


class Recomputed(Features):
    """Stands in for features on disk: every read runs the backbone on the images asked for."""

    def __init__(self, images: np.ndarray, extract: torch.nn.Module, shape: tuple[int, ...]) -> None:
        self.images, self.extract, self.shape = images, extract, shape

    @torch.no_grad()
    def _rows(self, index: torch.Tensor | np.ndarray) -> torch.Tensor:
        device = next(self.extract.parameters()).device
        return self.extract(torch.from_numpy(self.images[np.asarray(index)]).to(device)).float().cpu()


def bandwidth() -> float:
    """Bytes/s of a copy in memory, read and written."""
    a, best = np.ones(2**26, np.uint8), 0.0
    b = np.empty_like(a)
    for _ in range(8):
        start = time.perf_counter()
        np.copyto(b, a)
        best = max(best, 2 * len(a) / (time.perf_counter() - start))
    return best


def floor(settings: SimpleNetSettings, normals: Features, device: torch.device) -> dict[str, float]:
    """Seconds an epoch takes at the least."""
    n, p, d = normals.shape
    read = 2 * n * p * d * 2  # as many anomalies as normals, in half precision
    adaptor, judge = d * d, d * settings.hidden + settings.hidden
    adds = n * p * (2 * adaptor + 3 * judge)  # normals, their noisy copies (judged alone), and anomalies
    rate, bytes_per_s = matrix_rate(device, torch.float32), bandwidth()
    return {
        "bytes_per_epoch": read, "bandwidth_gb_s": bytes_per_s / 1e9, "read_s": read / bytes_per_s,
        "multiply_adds_per_epoch": 3 * adds, "matrix_gflops": rate / 1e9, "arithmetic_s": 2 * 3 * adds / rate,
        "epoch_s": read / bytes_per_s + 2 * 3 * adds / rate,
    }  # fmt: skip


def measure(task: tuple[np.ndarray, np.ndarray], backbone: BackboneSettings, preset: str) -> dict[str, object]:
    settings = SimpleNet.PRESETS[preset]
    device = choose_device(settings.device)
    network = load_backbone(backbone, strides=settings.strides)
    extract = build_extractor(network, settings).to(device)
    extract = extract.to(memory_format=torch.channels_last).eval()
    normals, anomalies = task

    def seconds(n: Features, a: Features, epochs: int) -> float:
        start = time.perf_counter()
        train_heads(n, a, settings=dataclasses.replace(settings, epochs=epochs), seed=0, device=device)
        return time.perf_counter() - start

    with torch.no_grad():  # warm-up
        extract(torch.from_numpy(normals[:64]).to(device))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        files = [
            cached_features(images, extract, device, identity=str(i), folder=Path(folder))
            for i, images in enumerate((normals, anomalies))
        ]
        once = time.perf_counter() - start
        with files[0] as n, files[1] as a:
            slow = [Recomputed(x, extract, f.shape) for x, f in zip((normals, anomalies), (n, a), strict=True)]
            seconds(n, a, 1)  # warm-up
            # Side by side: half of the slow way before the fast one and half after it.
            slow_epochs = seconds(slow[0], slow[1], RECOMPUTED)
            trained = seconds(n, a, settings.epochs)
            slow_epochs = (slow_epochs + seconds(slow[0], slow[1], RECOMPUTED)) / 2
            least = floor(settings, n, device)
    epoch, slow_epoch = trained / settings.epochs, slow_epochs / RECOMPUTED
    return {
        "machine": {"device": str(device), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
                    "processor": platform.machine()},
        "preset": preset, "epochs": settings.epochs, "batch_size": settings.batch_size,
        "normals": len(normals), "anomalies": len(anomalies),
        "floor": least,
        "cached": {"features_once_s": once, "epoch_s": epoch, "fit_s": once + trained},
        "recomputed": {"epoch_s": slow_epoch, "fit_s": slow_epoch * settings.epochs},
        "epoch_ratio": slow_epoch / epoch,
        "fit_ratio": slow_epoch * settings.epochs / (once + trained),
        "share_of_floor": least["epoch_s"] / epoch,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--normal", nargs="*", default=["77"])
    parser.add_argument("--preset", default="cpu", choices=sorted(SimpleNet.PRESETS))
    parser.add_argument("--backbone", default=BackboneSettings.name)
    parser.add_argument("--weights", default=BackboneSettings.weights)
    parser.add_argument("--padding")
    parser.add_argument("--mean", type=float, nargs="*")
    parser.add_argument("--std", type=float, nargs="*")
    a = parser.parse_args()
    task = open_task(a.data, normal=tuple(a.normal), unseen=0.5)
    assert task.knowledge is not None
    chosen = np.random.default_rng(0).choice(len(task.knowledge.images), 200, replace=False)
    mean, std = (tuple(v) if v else None for v in (a.mean, a.std))
    backbone = BackboneSettings(name=a.backbone, weights=a.weights, padding=a.padding, mean=mean, std=std)
    result = measure((task.normals, task.knowledge.images[chosen]), backbone, a.preset)
    text = json.dumps({"data": Path(a.data).name, "normal": a.normal, "backbone": a.backbone, **result}, indent=1)
    OUT.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
