"""The training of one detector of a comparison, in this process or in one of its own.

How many threads a detector is trained with follows from the machine and the number of detectors alone, not from how
many are trained at once: equal seeds give equal figures, side by side or one after the other, resumed or not.
"""

import dataclasses
import pickle
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kka.algorithm.folder import ARM_SCORES, DETECTOR, LATENT
from kka.common.device import choose_device
from kka.common.packed import pack
from kka.deploy.anomalies import Anomalies, fit_anomalies
from kka.deploy.train import annotate, write_losses
from kka.deploy.whole import scores_of
from kka.protocols import Detector, Embeds, Images, Photos, Pictures, Pretrains, Scores

MEMORY_EACH = 2 * 2**30
"""Bytes of memory that must be free for each process that trains detectors."""


@dataclass(frozen=True)
class Division:
    """How the machine is divided among the detectors of a comparison."""

    processes: int
    """1: one after the other, in the process that compares."""
    threads: int
    """Of each."""

    @classmethod
    def of(cls, model: Detector, *, detectors: int, left: int) -> "Division":
        """For `left` of `detectors` that are set up as `model` is.

        One process where PyTorch has one thread (one core, or OMP_NUM_THREADS=1), where another process could not be
        given the detector, and where there is a GPU: it is one, and its memory is not to be divided by guess.
        """
        budget = torch.get_num_threads()
        if choose_device("auto").type != "cpu" or not can_travel(model):
            return cls(1, budget)
        import psutil

        threads = max(1, budget // detectors)
        room = psutil.virtual_memory().available // MEMORY_EACH
        return cls(max(1, min(budget // threads, left, room)), threads)


def can_travel(model: Detector) -> bool:
    """Whether another process can be given the untrained detector. A class of a script is known to that script."""
    if type(model).__module__ == "__main__":
        return False
    try:
        pickle.dumps(model)
    except Exception:  # pickle has no one error for what it cannot do
        return False
    return True


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch has so many threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a detector is trained with, and what it scores then: test images, but none of their labels."""

    normals: Images
    captions: Sequence[str]
    test: Pictures | None
    way: Mapping[str, Any]
    """How a file becomes what the detector sees: of its card's facts."""
    anomalies: Anomalies | None = None


def pretrained(model: Detector, material: Material) -> Any:
    """What the detectors of one seed start from; None of those that start from nothing."""
    return model.pretrain(material.normals) if isinstance(model, Pretrains) else None


def train(model: Detector, material: Material, start: Any, folder: Path, *, keep: bool, latent: bool) -> Scores | None:
    """Train `model` to the last epoch, write into the folder what it gives, and return its scores of the test images.

    Args:
        start: What `pretrained` gave.
        keep: The detector itself.
        latent: Where the test images lie in its latent space, if it has one: the report's t-SNE.
    """
    if isinstance(model, Pretrains):
        model = model.pretrained(start)
    model = fit_anomalies(model, material.normals, material.anomalies, captions=material.captions)
    scores = None if material.test is None else scores_of(model, material.test)
    if scores is not None:
        np.save(folder / ARM_SCORES, np.asarray(scores, dtype=np.float32))
    write_losses(folder, model)
    if keep:
        model.save(folder / DETECTOR)
        annotate(folder / DETECTOR, material.normals, of=model, **material.way)
    if latent and isinstance(material.test, np.ndarray) and isinstance(model, Embeds):  # a whole photo has no place
        np.save(folder / LATENT, model.embed(material.test).astype(np.float16))
    return scores


# --- for processes that share no memory ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A `Material` as files, which processes that read them have in memory once."""

    folder: Path
    arm: str
    captions: Sequence[str]
    way: Mapping[str, Any]
    photos: Photos | None = None
    """The test's, where it is of whole photos: they lie in files as it is."""

    def write(self, material: Material) -> None:
        """What does not lie there yet."""
        for name, array in self._arrays(material).items():
            file = self.folder / f"{name}.npy"
            if array is not None and not file.is_file():
                np.save(file, array)

    def read(self) -> Material:
        """Mapped into memory, not read; what is written to an array stays in this process."""

        def mapped(name: str) -> Any:
            file = self.folder / f"{name}.npy"
            return np.asarray(np.load(file, mmap_mode="c")) if file.is_file() else None

        images, hard, masks = (mapped(f"{self.arm}-{name}") for name in ("anomalies", "hard", "masks"))
        return Material(
            normals=mapped("normals"), test=self.photos or mapped("test"), captions=self.captions, way=self.way,
            anomalies=None if images is None else Anomalies(images=images, hard=hard, masks=masks),
        )  # fmt: skip

    def _arrays(self, material: Material) -> dict[str, np.ndarray | None]:
        given = material.anomalies
        of_arm = {} if given is None else {"anomalies": given.images, "hard": given.hard, "masks": given.masks}
        return {
            "normals": material.normals, "test": material.test if isinstance(material.test, np.ndarray) else None,
            **{f"{self.arm}-{name}": array for name, array in of_arm.items()},
        }  # fmt: skip


def pretrained_stored(model: Detector, stored: Stored) -> Any:
    """`pretrained`, in a process of its own."""
    return pretrained(model, stored.read())


def train_stored(
    model: Detector, stored: Stored, start: Any, folder: Path, wanted: Mapping[str, bool]
) -> Scores | None:
    """`train`, in a process of its own. `wanted`: keep, latent."""
    return train(model, stored.read(), start, folder, **wanted)


# --- for machines that share no disk ---------------------------------------------------------------------------------


def train_packed(
    model: Detector, material: Material, anomalies: Anomalies | None, start: Any, wanted: Mapping[str, bool]
) -> tuple[Scores | None, bytes]:
    """`train`, on another machine: the scores, and what it wrote. `wanted`: keep, latent."""
    # Ray's arrays are not to be written to, of which PyTorch warns; no detector writes to what it is given.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    given = dataclasses.replace(material, anomalies=anomalies)
    with tempfile.TemporaryDirectory(prefix="kka-") as name:
        folder = Path(name)
        scores = train(model, given, start, folder, **wanted)
        return scores, pack(folder, [path.name for path in sorted(folder.iterdir())])
