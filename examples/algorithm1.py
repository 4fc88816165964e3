"""Algorithm 1 of Key Knowledge Augmentation in one file, from top to bottom, for learners.

Every equation is written out here, as short as it can be; only the two models that write and draw come from kka (the
garden's: no download, no GPU). kka itself does each step with more care: held-out judgements, pretraining, caches,
resume (see docs/deviations.md). Takes a minute: `python examples/algorithm1.py [rounds]`.
"""

import sys

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import nn

import kka
from kka.algorithm.prompts import build_prompt
from kka.protocols import PreferencePair
from kka.settings.language import LanguageSettings

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
GENERATED, EPOCHS, K = 80, 25, 4
rng = np.random.default_rng(0)
torch.manual_seed(0)


# --- a small network phi: images (n, h, w, 3) -> vectors (n, 64) --------------------------------------------------
def make_network() -> nn.Module:
    """No biases: with them phi could map everything onto the centre (Ruff et al. 2018)."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 5, padding=2, bias=False), nn.BatchNorm2d(outputs, affine=False),
                   nn.LeakyReLU(), nn.MaxPool2d(2)]  # fmt: skip
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 8 * 8, 64, bias=False))


def pixels(images: np.ndarray) -> torch.Tensor:
    """(n, 3, 32, 32), around 0."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return nn.functional.interpolate(x, size=(32, 32), mode="bilinear", antialias=True)


@torch.no_grad()
def embed(network: nn.Module, images: np.ndarray) -> np.ndarray:
    return network.eval()(pixels(images)).numpy()


# --- Eq. 1 and 2: representative normals ------------------------------------------------------------------------
def representatives(features: np.ndarray, k: int) -> list[int]:
    """In each of k clusters, the normal with the least Mahalanobis distance: M(x) = (f - mu)^T Sigma^-1 (f - mu)."""
    labels = KMeans(k, n_init=4, random_state=0).fit(features).labels_
    chosen = []
    for cluster in range(k):
        members = np.flatnonzero(labels == cluster)
        centred = features[members] - features[members].mean(axis=0)
        sigma = centred.T @ centred / len(members) + 0.1 * np.eye(features.shape[1])
        distance = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(sigma), centred)
        chosen.append(int(members[distance.argmin()]))
    return chosen


# --- Eq. 5: Deep SAD ----------------------------------------------------------------------------------------------
def train_deep_sad(normals: np.ndarray, anomalies: np.ndarray) -> tuple[nn.Module, torch.Tensor]:
    """Normals to the centre c, anomalies away from it: mean of d for normals and of 1/d for anomalies."""
    network = make_network()
    x = torch.cat([pixels(normals), pixels(anomalies)])
    is_anomaly = torch.arange(len(x)) >= len(normals)
    centre = torch.from_numpy(embed(network, normals)).mean(dim=0)
    centre = torch.where(centre.abs() < 0.1, 0.1 * centre.sign(), centre)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=5e-7)
    network.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(32):
            distance = (network(x[batch]) - centre).square().sum(dim=1)
            loss = torch.where(is_anomaly[batch], 1 / (distance + 1e-6), distance).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network, centre


def score(network: nn.Module, centre: torch.Tensor, images: np.ndarray) -> np.ndarray:
    """D(x) = ||phi(x) - c||^2: higher = more anomalous."""
    return np.square(embed(network, images) - centre.numpy()).sum(axis=1)


# --- Eq. 6: hard or easy ------------------------------------------------------------------------------------------
def relative_distance(normals: np.ndarray, anomalies: np.ndarray, more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """D(x_a) over the 0.8-quantile of the normals' D, below 1 = hard; of the anomalies, and of `more` that none saw.

    The paper's evaluator judges what it was trained on, and then hardly anything is hard. Here one of two networks
    judges what the other was trained on.
    """
    own, other = np.empty(len(anomalies)), np.zeros(len(more))
    for fold in (0, 1):
        mine, theirs = np.arange(len(normals)) % 2 == fold, np.arange(len(anomalies)) % 2 == fold
        network, centre = train_deep_sad(normals[~mine], anomalies[~theirs])
        usual = np.quantile(score(network, centre, normals[mine]), 0.8)
        own[theirs] = score(network, centre, anomalies[theirs]) / usual
        other += np.log(score(network, centre, more) / usual) / 2
    return own, np.exp(other)


# --- the loop -------------------------------------------------------------------------------------------------------
def generate(seed: int) -> tuple[list[str], list[str], np.ndarray]:
    """Eq. 3 and 4: captions under each prompt in turn, and their pictures."""
    answers = writer.sample(prompts, GENERATED // len(prompts), seed=seed)
    under = [prompt for prompt, texts in zip(prompts, answers, strict=True) for _ in texts]
    captions = [text.splitlines()[0] if text else "" for texts in answers for text in texts]
    return captions, under, painter.draw(captions, seeds=range(1000 * seed, 1000 * seed + len(captions)))


task = kka.open_task("garden")
assert task.test is not None
writer = kka.build_language_model("garden", settings=LanguageSettings(dpo_steps=30))
painter = kka.build_image_model("garden")

chosen = representatives(embed(make_network(), task.normals), K)  # line 2
prompts = [build_prompt(task.captions[i], domain=task.domain) for i in chosen]
captions, under, images = generate(seed=1)  # lines 3 and 4: the first set of anomalies

for number in range(ROUNDS + 1):
    network, centre = train_deep_sad(task.normals, images)  # lines 10 and 11: the detector of this set
    figures = kka.evaluate(score(network, centre, task.test.images), task.test.is_anomaly)
    print(f"round {number}: {len(images)} anomalies, AUROC {figures['auroc']:.3f}", end="")
    if number == ROUNDS:
        print()
        break
    hard = relative_distance(task.normals, images, images[:0])[0] < 1  # lines 6 and 7
    print(f", {hard.mean():.0%} of them hard")
    pairs = [  # line 8, Eq. 7: a hard caption before an easy one under the same prompt
        PreferencePair(prompt=under[h], hard=captions[h], easy=captions[e])
        for h in np.flatnonzero(hard)
        for e in rng.permutation(np.flatnonzero(~hard))[:12]
        if under[h] == under[e] and captions[h] != captions[e]
    ]
    if pairs:
        writer.tune(pairs, [], seed=number)  # type: ignore[attr-defined]  # DPO with LoRA against the first model
    more, more_under, more_images = generate(seed=number + 2)
    new_hard = relative_distance(task.normals, images, more_images)[1] < 1
    leaving, joining = np.flatnonzero(~hard), np.flatnonzero(new_hard)  # line 9, Eq. 8: easy ones give way to hard ones
    count = min(len(leaving), len(joining), GENERATED // 4)
    for out, new in zip(rng.permutation(leaving)[:count], rng.permutation(joining)[:count], strict=True):
        captions[out], under[out], images[out] = more[new], more_under[new], more_images[new]
