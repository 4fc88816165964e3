"""The confusion evaluator theta_C: Deep SADs (Eq. 5) that judge which anomalies are hard (Eq. 6).

By default it is cross-fitted: normals and anomalies are dealt into folds, and each is judged by the network that did
not train on its fold. A normal that was altered is judged by the network that did not train on this normal: another
would know all of it but the defect. `folds=1` is the paper's: one network judges what it has trained on.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from kka.algorithm.deep_sad import DeepSAD, pretrain, train_deep_sad
from kka.algorithm.hardness import fold_of, relative_distance
from kka.common.disk import reading
from kka.common.files import read_array
from kka.common.mapped import taken
from kka.common.packed import pack, unpack
from kka.common.progress import Progress
from kka.common.workers import Crew
from kka.errors import UserError
from kka.protocols import Images
from kka.seeding import derive_seed
from kka.settings.deep_sad import DeepSADSettings

NORMAL_FOLD = "normal_fold.npy"


@dataclass(frozen=True, kw_only=True)
class ConfusionEvaluator:
    """One network a fold, and the distances of the normals it may be asked about."""

    networks: tuple[DeepSAD, ...]
    normal_distances: tuple[Float[np.ndarray, " _n"], ...]
    """Of each fold: D of its held-out normals (with one fold: of the training normals)."""
    quantile: float
    normal_fold: Int[np.ndarray, " _n"] | None = None
    """Of each normal, the fold whose network did not train on it. None: with one fold."""

    def judge(self, images: Images, normal_of: Int[np.ndarray, "m"] | None = None) -> Float[np.ndarray, "m"]:
        """The relative distance of images that no network trained on: the geometric mean over networks; < 1 = hard.

        `normal_of`: of images that are altered normals, which normal; -1 of others. Those are judged by one network.
        """
        if not len(images):
            return np.zeros(0)
        logs = np.array([
            np.log(np.maximum(relative_distance(network.score(images), normals, self.quantile), 1e-30))
            for network, normals in zip(self.networks, self.normal_distances, strict=True)
        ])  # fmt: skip
        found = np.exp(np.mean(logs, axis=0))
        if normal_of is None or self.normal_fold is None:
            return found
        altered = np.flatnonzero(normal_of >= 0)
        found[altered] = np.exp(logs[self.normal_fold[normal_of[altered]], altered])
        return found

    def embed(self, images: Images) -> Float[np.ndarray, "m d"]:
        """phi of images, the networks side by side, each less its centre and in units in which the squared length of
        a network's part is its relative distance."""
        parts = []
        for network, normals in zip(self.networks, self.normal_distances, strict=True):
            offset = network.embed(images).astype(np.float64) - network.centre.cpu().numpy()
            parts.append(offset * np.sqrt(relative_distance(np.ones(1), normals, self.quantile)))
        return np.concatenate(parts, axis=1)

    def save(self, path: Path) -> None:
        """Each network into `path/fold-<f>`, with the distances of its normals."""
        for fold, (network, normals) in enumerate(zip(self.networks, self.normal_distances, strict=True)):
            network.save(path / f"fold-{fold}")
            np.save(path / f"fold-{fold}" / "normal_distances.npy", normals)
        if self.normal_fold is not None:
            np.save(path / NORMAL_FOLD, self.normal_fold)

    @classmethod
    def load(cls, path: Path, *, quantile: float, device: str = "auto") -> "ConfusionEvaluator":
        """Read what `save` wrote."""
        folders = sorted(path.glob("fold-*"))
        networks = []
        for folder in folders:
            with reading(folder / "deep_sad.safetensors"):
                networks.append(DeepSAD.load(folder, device=device))
        return cls(
            networks=tuple(networks),
            normal_distances=tuple(read_array(f / "normal_distances.npy") for f in folders),
            quantile=quantile,
            normal_fold=read_array(path / NORMAL_FOLD) if (path / NORMAL_FOLD).is_file() else None,
        )


def train_evaluator(
    normals: Images,
    anomalies: Images,
    *,
    settings: DeepSADSettings,
    folds: int = 2,
    quantile: float,
    seed: int,
    fold_seed: int,
    photo_of: np.ndarray | None = None,
    normal_of: Int[np.ndarray, "m"] | None = None,
    progress: Progress | None = None,
    crew: Crew | None = None,
) -> tuple[ConfusionEvaluator, Float[np.ndarray, "m"]]:
    """Train the evaluator; returns it with the relative distance of every anomaly (< 1 = hard).

    `fold_seed` deals the normals; kept equal from round to round, so that rounds are judged by the same normals.
    `photo_of`: (n,), where the normals are tiles, which photo each is of; the tiles of one go into one fold.
    `normal_of`: of anomalies that are altered normals, which normal, into whose fold they go; -1 of others.
    `crew`: trains the folds on other machines, side by side, with as many threads as this process has.
    """
    if not 1 <= folds <= len(normals):
        raise UserError(f"folds: expected 1 to {len(normals)} (the number of normals); got {folds}")
    if folds == 1:
        network = train_deep_sad(normals, anomalies, settings=settings, seed=seed, progress=progress)
        own = network.score(normals)
        evaluator = ConfusionEvaluator(networks=(network,), normal_distances=(own,), quantile=quantile)
        return evaluator, relative_distance(network.score(anomalies), own, quantile)
    photos, member = np.unique(np.arange(len(normals)) if photo_of is None else photo_of, return_inverse=True)
    if folds > len(photos):
        raise UserError(f"folds: expected 1 to {len(photos)} (the number of photos); got {folds}")
    normal_fold = fold_of(len(photos), folds, seed=derive_seed(fold_seed, "normals"))[member]
    anomaly_fold = fold_of(len(anomalies), folds, seed=derive_seed(seed, "anomalies"))
    if normal_of is not None:
        anomaly_fold = np.where(normal_of >= 0, normal_fold[normal_of], anomaly_fold)
    parts = [
        _Fold(
            held_out=normal_fold == fold, judged=anomaly_fold == fold, settings=settings, quantile=quantile,
            start_seed=derive_seed(fold_seed, "start", fold), seed=derive_seed(seed, "fold", fold),
        )
        for fold in range(folds)
    ]  # fmt: skip
    networks, distances, relative = [], [], np.empty(len(anomalies))
    tell = progress or (lambda done, total: None)
    for fold, (network, held_out, found) in enumerate(_folds(parts, normals, anomalies, tell, crew)):
        relative[parts[fold].judged] = found
        networks.append(network)
        distances.append(held_out)
    return (
        ConfusionEvaluator(
            networks=tuple(networks), normal_distances=tuple(distances), quantile=quantile, normal_fold=normal_fold
        ),
        relative,
    )


@dataclass(frozen=True, kw_only=True)
class _Fold:
    """What a fold's network does not train on, and how it is trained."""

    held_out: Bool[np.ndarray, "n"]
    judged: Bool[np.ndarray, "m"]
    settings: DeepSADSettings
    quantile: float
    start_seed: int
    seed: int


_Judged = tuple[Any, np.ndarray, np.ndarray]
"""A fold's network, the distances of its normals, and the relative distances of what it judged."""


def _folds(
    parts: Sequence[_Fold], normals: Images, anomalies: Images, tell: Progress, crew: Crew | None
) -> Iterator[_Judged]:
    """One after the other in this process, or side by side by the crew."""
    if crew is None:
        for number, part in enumerate(parts):
            yield _judge(normals, anomalies, part, _part(tell, number, len(parts)))
        return
    given = crew.share(normals), crew.share(anomalies)
    pieces = [
        crew.submit(judge_there, *given, part, threads=torch.get_num_threads(), name=f"fold {number} of the evaluator")
        for number, part in enumerate(parts)
    ]
    for number, piece in enumerate(pieces, start=1):
        packed, held_out, found = crew.result(piece)
        with tempfile.TemporaryDirectory() as folder:
            unpack(packed, Path(folder))
            network = DeepSAD.load(Path(folder))
        tell(number, len(pieces))
        yield network, held_out, found


def _judge(normals: Images, anomalies: Images, part: _Fold, tell: Progress) -> _Judged:
    mine = taken(normals, ~part.held_out)
    start = pretrain(mine, settings=part.settings, seed=part.start_seed)
    network = train_deep_sad(
        mine, taken(anomalies, ~part.judged), settings=part.settings, seed=part.seed, start=start, progress=tell
    )
    held_out = network.score(taken(normals, part.held_out))
    found = relative_distance(network.score(taken(anomalies, part.judged)), held_out, part.quantile)
    return network, held_out, found


def judge_there(normals: Images, anomalies: Images, part: _Fold) -> tuple[bytes, np.ndarray, np.ndarray]:
    """On another machine: the network is packed, as that may have another device."""
    network, held_out, found = _judge(normals, anomalies, part, lambda done, total: None)
    with tempfile.TemporaryDirectory() as folder:
        network.save(Path(folder))
        return pack(Path(folder), ["deep_sad.safetensors"]), held_out, found


def _part(progress: Progress, part: int, parts: int) -> Progress:
    return lambda done, total: progress(part * total + done, parts * total)
