"""Deep SAD training, augmentation included: images/s against the floor and against the plain way.

Floor: the multiply-adds of LeNet's forward and backward pass over the machine's matrix rate, measured in the same
run in the same precision. Plain way: torchvision transforms on PIL images in a DataLoader, contiguous fp32, the
test set scored after every epoch, as the published code does.

A whole fit is given for 40 epochs, the default, from the measured seconds an epoch: the plain way scores the test set
in each, kka once at the end.

    python benchmarks/training.py --out benchmarks/results/training.json
    python benchmarks/training.py --data ../shared/data/oxford102 --normal 77 --out …/training_oxford.json
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kka.algorithm.deep_sad import deep_sad_loss, pretrain, train_deep_sad
from kka.common.device import autocast_dtype, choose_device
from kka.common.machine import matrix_rate
from kka.data import open_task
from kka.settings.deep_sad import DeepSADSettings

EPOCHS = 6
WHOLE_FIT = 40
FLOPS = 3 * 2 * (75 * 32 * 32**2 + 800 * 64 * 16**2 + 1600 * 128 * 8**2 + 2048 * 128)
"""Of one image: forward, and twice that backward (the first layer's input gradient, not needed, is 3 %)."""


class PILImages(Dataset):
    """Images as PIL, each transformed alone."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: object) -> None:
        self.images = [Image.fromarray(image) for image in images]
        self.labels, self.transform = labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, bool]:
        return self.transform(self.images[i]), bool(self.labels[i])  # type: ignore[operator]


def plain_network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(a, b, 5, padding=2, bias=False), nn.BatchNorm2d(b, eps=1e-4, affine=False)]
        layers += [nn.LeakyReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 128, bias=False))


def plain_fit(
    normals: np.ndarray, anomalies: np.ndarray, test: np.ndarray, workers: int, device: torch.device
) -> tuple[float, float]:
    """Seconds of training and of scoring, over EPOCHS epochs."""
    norm = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    augment = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.ToTensor(),
            norm,
        ]
    )
    plain = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor(), norm])
    images = np.concatenate([normals, anomalies])
    labels = np.arange(len(images)) >= len(normals)
    keep = {"num_workers": workers, "persistent_workers": workers > 0}
    train = DataLoader(PILImages(images, labels, augment), batch_size=32, shuffle=True, **keep)
    scored = DataLoader(PILImages(test, np.zeros(len(test), bool), plain), batch_size=32, **keep)
    network = plain_network().to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-7)
    centre = torch.full((128,), 0.1, device=device)
    for _ in train:  # the workers' start is not counted
        pass
    for _ in scored:
        pass
    training = scoring = 0.0
    for _ in range(EPOCHS):
        start = time.perf_counter()
        network.train()
        for x, is_anomaly in train:
            distance = (network(x.to(device)) - centre).square().sum(1)
            loss = deep_sad_loss(distance, is_anomaly.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        training += time.perf_counter() - start
        start = time.perf_counter()
        network.eval()
        with torch.no_grad():
            for x, _ in scored:
                (network(x.to(device)) - centre).square().sum(1).cpu()
        scoring += time.perf_counter() - start
    return training, scoring


def own_fit(
    normals: np.ndarray, anomalies: np.ndarray, test: np.ndarray, precision: str
) -> tuple[float, float]:
    """Seconds of training over EPOCHS epochs, and of scoring once, at the end."""
    settings = DeepSADSettings(epochs=EPOCHS, pretrain_epochs=0, precision=precision)
    start_weights = pretrain(normals, settings=settings, seed=0)
    start = time.perf_counter()
    model = train_deep_sad(normals, anomalies, settings=settings, seed=0, start=start_weights)
    trained = time.perf_counter()
    model.score(test)
    return trained - start, time.perf_counter() - trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", default="garden")
    parser.add_argument("--normal", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    device = choose_device("auto")
    task = open_task(arguments.data, normal=arguments.normal)
    assert task.test is not None and task.knowledge is not None
    normals, anomalies, test = task.normals, task.knowledge.images[:200], task.test.images
    images = EPOCHS * (len(normals) + len(anomalies))

    own_fit(normals, anomalies, test, "auto")  # warm-up
    plain = [plain_fit(normals, anomalies, test, w, device) for w in (0, 2) for _ in range(arguments.repeats)]
    plain_training = min(seconds for seconds, _ in plain)
    plain_whole = WHOLE_FIT / EPOCHS * min(sum(pair) for pair in plain)
    result: dict[str, object] = {
        "machine": {"device": str(device), "cores": os.cpu_count(), "processor": platform.machine()},
        "images_per_epoch": images // EPOCHS,
        "test_images": len(test),
        "plain": {"images_per_s": images / plain_training, "fit_seconds": plain_whole},
    }
    for precision in ("fp32", "bf16"):
        if precision == "bf16" and autocast_dtype("auto", device) is None:
            continue
        own = [own_fit(normals, anomalies, test, precision) for _ in range(arguments.repeats)]
        rate = matrix_rate(device, torch.float32 if precision == "fp32" else torch.bfloat16)
        training, scoring = (min(seconds) for seconds in zip(*own, strict=True))
        speed, whole = images / training, WHOLE_FIT / EPOCHS * training + scoring
        result[precision] = {
            "matrix_gflops": rate / 1e9,
            "floor_images_per_s": rate / FLOPS,
            "images_per_s": speed,
            "share_of_floor": speed / (rate / FLOPS),
            "training_ratio": speed / (images / plain_training),
            "fit_seconds": whole,
            "fit_ratio": plain_whole / whole,
        }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
